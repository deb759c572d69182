//! A Talos cluster behind the gateway: where its endpoints are, and as whom they are asked.

use std::sync::Arc;

use clauderon_core::credential::CredentialKind;
use clauderon_core::host::Origin;
use rustls_pki_types::CertificateDer;

use super::endpoints::Endpoints;
use super::reader::Reader;
use crate::gateway::access::{Access, Identity, Named};
use crate::tls::client::{ClientIdentity, RootsError, UpstreamTls};

/// One cluster as one user, as of one moment.
pub struct TalosCluster {
    /// How it is reached, and as whom.
    pub access: Arc<Access>,
    pub(crate) endpoints: Endpoints,
    pub(crate) origins: Vec<Origin>,
    /// Whom to ask as where nothing is to be changed; `None` where the cluster cannot be asked for it.
    pub(crate) reader: Option<Reader>,
    trust: Trust,
}

/// What a cluster is made of.
pub struct TalosClusterParts {
    /// The context's name.
    pub context: String,
    /// Where its endpoints are; at least one.
    pub endpoints: Vec<Origin>,
    /// How they are verified.
    pub trust: Trust,
    /// The certificate they are shown.
    pub certificate: Option<ClientIdentity>,
    /// As whom, where it is not the certificate that says it.
    pub identity: Option<Identity>,
    /// How they are reached.
    pub named: Named,
}

/// Which certificates are believed.
#[derive(Clone)]
pub struct Trust {
    /// The roots that count alone; `None` means the system's and `extra`.
    pub roots: Option<Vec<CertificateDer<'static>>>,
    /// Roots of the user's, beside the system's.
    pub extra: Vec<CertificateDer<'static>>,
}

impl TalosCluster {
    /// A cluster as described.
    pub fn new(parts: TalosClusterParts) -> Result<Self, RootsError> {
        let TalosClusterParts { context, endpoints, trust, certificate, identity, named } = parts;
        let administers = certificate.as_ref().is_some_and(|certificate| certificate.belongs_to(ADMINISTRATOR));
        let shown = certificate.as_ref().map_or(Identity::Anonymous, |_| Identity::Certificate);
        let tls = trust.tls(certificate)?;
        let of = (CredentialKind::Talos, context);
        let access = Access::new(of, &endpoints, tls, named.into(), identity.unwrap_or(shown));
        Ok(Self {
            access: Arc::new(access),
            endpoints: Endpoints::new(endpoints.clone()),
            origins: endpoints,
            reader: administers.then(Reader::default),
            trust,
        })
    }

    /// The same cluster as whoever holds `certificate`.
    pub(crate) fn access_as(&self, certificate: ClientIdentity) -> Result<Access, RootsError> {
        let named = Arc::clone(&self.access.named);
        let of = (CredentialKind::Talos, self.access.context.clone());
        Ok(Access::new(of, &self.origins, self.trust.tls(Some(certificate))?, named, Identity::Certificate))
    }
}

impl Trust {
    fn tls(&self, certificate: Option<ClientIdentity>) -> Result<UpstreamTls, RootsError> {
        UpstreamTls::for_server(self.roots.clone(), &self.extra, certificate)
    }
}

/// The role that may ask for certificates; Talos finds roles in the certificate's organizations.
const ADMINISTRATOR: &str = "os:admin";
