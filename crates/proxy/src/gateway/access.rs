//! What the user's clusters have in common, whatever is spoken to them: how they are verified and reached, and as whom.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use clauderon_core::credential::CredentialKind;
use clauderon_core::host::{Host, HostPattern, Origin};
use clauderon_core::path::PathPattern;
use clauderon_core::rule::{InjectPolicy, Rule, RuleSet, Shape};
use clauderon_core::secret::Secret;

use super::talos::sidero::Signer;
use crate::tls::client::UpstreamTls;
pub use crate::upstream::dial::Named;

/// How a cluster is reached, and as whom it is asked.
pub struct Access {
    /// The context's name.
    pub context: String,
    pub(crate) tls: UpstreamTls,
    pub(crate) named: Arc<Named>,
    pub(crate) rules: RuleSet,
    pub(crate) identity: Identity,
    /// Connections made as this are used for nothing else.
    pub(crate) serial: u64,
}

/// As whom a cluster is asked.
#[derive(Clone)]
pub enum Identity {
    /// As nobody in particular.
    Anonymous,
    /// By the certificate that is shown in the handshake.
    Certificate,
    /// By a token.
    Bearer(Arc<Secret>),
    /// By a user name and a password.
    Basic(String, Arc<Secret>),
    /// By a signature on every call.
    Signed(Arc<Signer>),
}

/// A cluster, or why it cannot be had (for people, without a secret).
pub type Asked<'a, T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send + 'a>>;

/// Where clusters come from; a gateway asks once a request.
pub trait Clusters<C>: Send + Sync + 'static {
    /// The cluster of the context with this key (see [`crate::tls::session::context_key`]), or of the current one.
    fn cluster<'a>(&'a self, context: Option<&'a str>) -> Asked<'a, Arc<C>>;
    /// The same cluster with a fresh identity after it refused the one it was asked as; `None` where there is no other.
    fn renew<'a>(&'a self, stale: &'a C) -> Asked<'a, Option<Arc<C>>>;
    /// Notes that an identity was used.
    fn used(&self, cluster: &C);
}

impl Access {
    /// The access to servers at `origins`.
    pub fn new(
        (kind, context): (CredentialKind, String),
        origins: &[Origin],
        tls: UpstreamTls,
        named: Arc<Named>,
        identity: Identity,
    ) -> Self {
        static SERIAL: AtomicU64 = AtomicU64::new(1);
        let rules = rules(kind, origins, &identity);
        Self { context, tls, named, rules, identity, serial: SERIAL.fetch_add(1, Ordering::Relaxed) }
    }

    /// The secret that goes into requests.
    pub(crate) fn secret(&self) -> Option<&Arc<Secret>> {
        match &self.identity {
            Identity::Bearer(secret) | Identity::Basic(_, secret) => Some(secret),
            Identity::Anonymous | Identity::Certificate | Identity::Signed(_) => None,
        }
    }

    /// Whether requests show who asks although no secret is put into them.
    pub(crate) fn shows_itself(&self) -> bool {
        matches!(self.identity, Identity::Certificate | Identity::Signed(_))
    }
}

/// What the identity puts into requests; nothing over clear text.
fn rules(kind: CredentialKind, origins: &[Origin], identity: &Identity) -> RuleSet {
    let shape = match identity {
        Identity::Anonymous | Identity::Certificate | Identity::Signed(_) => return RuleSet::default(),
        Identity::Bearer(_) => Shape::Bearer,
        Identity::Basic(user, _) => Shape::Basic { user: user.as_str().into() },
    };
    let rule = |host| Rule {
        service: kind.names().name.into(),
        credential: kind.credential(),
        host,
        path: PathPattern::Any,
        shape: shape.clone(),
        inject: InjectPolicy::Always,
        extra: Arc::default(),
        label: OnceLock::new(),
    };
    RuleSet::new(origins.iter().filter_map(pattern).map(rule))
}

fn pattern(origin: &Origin) -> Option<HostPattern> {
    let host = match &origin.host {
        Host::Ip(ip) if ip.is_ipv6() => format!("[{ip}]:{}", origin.port),
        host => format!("{host}:{}", origin.port),
    };
    HostPattern::parse(&host).ok()
}
