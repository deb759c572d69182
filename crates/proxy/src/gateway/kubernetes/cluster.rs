//! An API server behind the gateway: where it is, and as whom it is asked.

use clauderon_core::credential::CredentialKind;
use clauderon_core::host::Origin;
use http::{HeaderName, HeaderValue};

use crate::gateway::access::{Access, Identity, Named};
use crate::tls::client::UpstreamTls;

/// One cluster as one user, as of one moment.
pub struct Cluster {
    /// How it is reached, and as whom.
    pub access: Access,
    pub(crate) origin: Origin,
    /// The path of the server's URL, without a trailing slash.
    pub(crate) prefix: String,
    /// Whom the user's configuration says to act as.
    pub(crate) impersonate: Vec<(HeaderName, HeaderValue)>,
}

/// What a cluster is made of.
pub struct ClusterParts {
    /// The context's name.
    pub context: String,
    /// Where the API server is.
    pub origin: Origin,
    /// The path of its URL.
    pub prefix: String,
    /// How it is verified, and the certificate it is shown.
    pub tls: UpstreamTls,
    /// How it is reached.
    pub named: Named,
    /// As whom.
    pub identity: Identity,
    /// Fields that say whom to act as.
    pub impersonate: Vec<(HeaderName, HeaderValue)>,
}

impl Cluster {
    /// A cluster as described.
    pub fn new(parts: ClusterParts) -> Self {
        let ClusterParts { context, origin, prefix, tls, named, identity, impersonate } = parts;
        let of = (CredentialKind::Kubernetes, context);
        Self {
            access: Access::new(of, std::slice::from_ref(&origin), tls, named.into(), identity),
            origin,
            prefix: prefix.trim_end_matches('/').to_owned(),
            impersonate,
        }
    }
}
