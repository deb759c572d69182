//! The clusters behind the gateway: where each is, and as whom it is asked.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use clauderon_core::credential::CredentialKind;
use clauderon_core::host::{Host, HostPattern, Origin};
use clauderon_core::path::PathPattern;
use clauderon_core::rule::{InjectPolicy, Rule, RuleSet, Shape};
use clauderon_core::secret::Secret;
use http::{HeaderName, HeaderValue};

use crate::tls::client::UpstreamTls;
pub use crate::upstream::dial::Named;

/// One cluster as one user, as of one moment.
pub struct Cluster {
    /// The context's name.
    pub context: String,
    pub(crate) origin: Origin,
    /// The path of the server's URL, without a trailing slash.
    pub(crate) prefix: String,
    pub(crate) tls: Arc<UpstreamTls>,
    pub(crate) named: Named,
    pub(crate) rules: RuleSet,
    pub(crate) identity: Identity,
    /// Whom the user's configuration says to act as.
    pub(crate) impersonate: Vec<(HeaderName, HeaderValue)>,
    /// Connections made as this are used for nothing else.
    pub(crate) serial: u64,
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

/// As whom an API server is asked.
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
}

/// A cluster, or why it cannot be had (for people, without a secret).
pub type Asked<'a, T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send + 'a>>;

/// Where clusters come from; the gateway asks once a request.
pub trait Clusters: Send + Sync + 'static {
    /// The cluster of the context with this key (see [`crate::tls::session::context_key`]), or of the current one.
    fn cluster<'a>(&'a self, context: Option<&'a str>) -> Asked<'a, Arc<Cluster>>;
    /// The same cluster with a fresh identity after it answered 401; `None` where there is no other.
    fn renew<'a>(&'a self, stale: &'a Cluster) -> Asked<'a, Option<Arc<Cluster>>>;
    /// Notes that an identity was used.
    fn used(&self, cluster: &Cluster);
}

impl Cluster {
    /// A cluster as described.
    pub fn new(parts: ClusterParts) -> Self {
        let ClusterParts { context, origin, prefix, tls, named, identity, impersonate } = parts;
        static SERIAL: AtomicU64 = AtomicU64::new(1);
        Self {
            context,
            rules: rules(&origin, &identity),
            origin,
            prefix: prefix.trim_end_matches('/').to_owned(),
            tls: Arc::new(tls),
            named,
            identity,
            impersonate,
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// Where the API server is.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// What the identity puts into requests; nothing over clear text.
    pub fn rules(&self) -> &RuleSet {
        &self.rules
    }

    /// The secret that goes into requests.
    pub(crate) fn secret(&self) -> Option<&Arc<Secret>> {
        match &self.identity {
            Identity::Bearer(secret) | Identity::Basic(_, secret) => Some(secret),
            Identity::Anonymous | Identity::Certificate => None,
        }
    }
}

fn rules(origin: &Origin, identity: &Identity) -> RuleSet {
    let shape = match identity {
        Identity::Anonymous | Identity::Certificate => return RuleSet::default(),
        Identity::Bearer(_) => Shape::Bearer,
        Identity::Basic(user, _) => Shape::Basic { user: user.as_str().into() },
    };
    let kind = CredentialKind::Kubernetes;
    let host = match &origin.host {
        Host::Ip(ip) if ip.is_ipv6() => format!("[{ip}]:{}", origin.port),
        host => format!("{host}:{}", origin.port),
    };
    let host = HostPattern::parse(&host);
    let rule = |host| Rule {
        service: kind.names().name.into(),
        credential: kind.credential(),
        host,
        path: PathPattern::Any,
        shape,
        inject: InjectPolicy::Always,
        extra: Arc::default(),
        label: OnceLock::new(),
    };
    RuleSet::new(host.ok().map(rule))
}
