//! The clusters that sessions reach through the Kubernetes gateway: found as kubectl finds them, called as the user.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clauderon_core::config::Settings;
use clauderon_core::credential::{CredentialKind, CredentialName};
use clauderon_core::host::Origin;
use clauderon_core::secret::Secret;
use clauderon_proxy::gateway::access::{Asked, Clusters};
use clauderon_proxy::gateway::kubernetes::cluster::Cluster;
use clauderon_proxy::snapshot::{Known, Renewed, SecretBook};
use clauderon_proxy::tls::session::context_key;
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::book::Book;
use crate::sources::env::Environment;
use files::{Files, Stamp, unchanged};
use identity::{Made, Maker};
use kubeconfig::{ClusterEntry, Context, Kubeconfig, UserEntry};

mod exec;
pub(crate) mod explain;
mod files;
mod identity;
pub(crate) mod kubeconfig;
pub mod talos;

/// All contexts of the user's, and the clusters behind them as they were last made.
pub struct Contexts {
    env: Arc<Environment>,
    user_home: PathBuf,
    book: Arc<Book>,
    settings: ArcSwap<Settings>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    loaded: Option<Arc<Loaded>>,
    slots: HashMap<String, Arc<Slot>>,
}

/// What the files said when they were last read.
struct Loaded {
    stamps: Files,
    config: Result<Kubeconfig, String>,
}

/// The cluster of one context; locked while it is made, so that many who wait make it once.
type Slot = tokio::sync::Mutex<Option<Ready>>;

struct Ready {
    cluster: Arc<Cluster>,
    until: Option<OffsetDateTime>,
    files: Files,
    renewable: bool,
    token: Option<Arc<Secret>>,
    /// When it was made anew because the server refused the one before.
    renewed: Option<Instant>,
}

/// A context as a session gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offered {
    pub(crate) name: String,
    pub(crate) cluster: String,
    pub(crate) namespace: Option<String>,
}

impl Contexts {
    /// Those of the daemon's user.
    pub fn new(env: Arc<Environment>, user_home: &Path, book: Arc<Book>, settings: Arc<Settings>) -> Self {
        let (user_home, settings) = (user_home.to_owned(), ArcSwap::from(settings));
        Self { env, user_home, book, settings, state: Mutex::default() }
    }

    /// Puts new settings in force.
    pub fn reload(&self, settings: Arc<Settings>) {
        self.settings.store(settings);
        *self.state() = State::default();
    }

    /// The contexts that sessions get, and which of them is current; an error says why there is none.
    pub(crate) fn offered(&self) -> Result<(Vec<Offered>, String), String> {
        let loaded = self.loaded();
        let config = loaded.config.as_ref().map_err(Clone::clone)?;
        let current = self.name_of(config, None)?;
        let offered = config.contexts.iter().filter(|(name, _)| self.offers(name)).map(|(name, context)| Offered {
            name: name.clone(),
            cluster: context.cluster.clone(),
            namespace: context.namespace.clone().filter(|namespace| !namespace.is_empty()),
        });
        Ok((offered.collect(), current))
    }

    /// Where the API servers of the offered contexts are, for people.
    pub(crate) fn servers(&self) -> Result<Vec<String>, String> {
        let (offered, _) = self.offered()?;
        let loaded = self.loaded();
        let config = loaded.config.as_ref().map_err(Clone::clone)?;
        let server = |context: Offered| config.clusters.get(&context.cluster).map(|cluster| cluster.server.clone());
        let mut servers: Vec<String> = offered.into_iter().filter_map(server).collect();
        servers.sort_unstable();
        servers.dedup();
        Ok(servers)
    }

    /// The current context and where its API server is.
    pub(crate) fn current(&self) -> Result<(String, Origin), String> {
        let loaded = self.loaded();
        let config = loaded.config.as_ref().map_err(Clone::clone)?;
        let name = self.name_of(config, None)?;
        let cluster = config.contexts.get(&name).and_then(|context| config.clusters.get(&context.cluster));
        let cluster = cluster.ok_or_else(|| format!("the cluster of the context {name:?} is not in the kubeconfig"))?;
        identity::server(&cluster.server).map(|(origin, _)| (name, origin))
    }

    async fn find(&self, key: Option<&str>) -> Result<Arc<Cluster>, String> {
        let loaded = self.loaded();
        let config = loaded.config.as_ref().map_err(Clone::clone)?;
        let name = self.name_of(config, key)?;
        let token = self.token(config, &name).await?;
        let slot = self.slot(&name);
        let mut slot = slot.lock().await;
        if let Some(ready) = slot.as_ref().filter(|ready| ready.holds(token.as_ref())) {
            return Ok(Arc::clone(&ready.cluster));
        }
        self.fill(&mut slot, config, &name, token).await
    }

    async fn renewed(&self, stale: &Cluster) -> Result<Option<Arc<Cluster>>, String> {
        let loaded = self.loaded();
        let config = loaded.config.as_ref().map_err(Clone::clone)?;
        let slot = self.slot(&stale.access.context);
        let mut slot = slot.lock().await;
        let Some(ready) = slot.as_ref() else { return Ok(None) };
        if !std::ptr::eq(Arc::as_ptr(&ready.cluster), stale) {
            // Somebody else was first.
            return Ok(Some(Arc::clone(&ready.cluster)));
        }
        // A server that says 401 to everything must not make us start a program for every request.
        if !ready.may_be_renewed() {
            return Ok(None);
        }
        let token = match &ready.token {
            None => None,
            Some(refused) => match self.book.renew(&credential(), refused).await {
                Renewed::Changed(secret) => Some(secret),
                Renewed::Same | Renewed::NotAsked | Renewed::Failed(_) => return Ok(None),
            },
        };
        let fresh = self.fill(&mut slot, config, &stale.access.context, token).await?;
        if let Some(ready) = slot.as_mut() {
            ready.renewed = Some(Instant::now());
        }
        Ok(Some(fresh))
    }

    async fn fill(
        &self,
        slot: &mut Option<Ready>,
        config: &Kubeconfig,
        name: &str,
        token: Option<Arc<Secret>>,
    ) -> Result<Arc<Cluster>, String> {
        let settings = self.settings.load_full();
        let maker = Maker { config, settings: &settings, env: &self.env, token: token.clone() };
        let Made { cluster, until, files, renewable } = maker.make(name).await?;
        let cluster = Arc::new(cluster);
        *slot = Some(Ready { cluster: Arc::clone(&cluster), until, files, renewable, token, renewed: None });
        Ok(cluster)
    }

    /// The token of the environment, 1Password or a secret file; it is for the cluster that is current, and no other.
    async fn token(&self, config: &Kubeconfig, name: &str) -> Result<Option<Arc<Secret>>, String> {
        if self.name_of(config, None).ok().as_deref() != Some(name) {
            return Ok(None);
        }
        match self.book.peek(&credential()) {
            Known::Ready(secret) => Ok(Some(secret)),
            Known::Absent => Ok(None),
            Known::Unresolved => {
                let resolved = self.book.resolve(&credential()).await;
                resolved.map(Some).map_err(|why| format!("the credential `kubernetes` cannot be had: {why}"))
            }
        }
    }

    /// The context with this key, or the current one.
    fn name_of(&self, config: &Kubeconfig, key: Option<&str>) -> Result<String, String> {
        let mut offered = config.contexts.keys().filter(|name| self.offers(name));
        // A session that began without a cluster gets the one that has come since.
        match (key.filter(|key| *key != context_key(NOWHERE)), &config.current) {
            (Some(key), _) => offered
                .find(|name| context_key(name) == key)
                .cloned()
                .ok_or_else(|| "the context of this certificate is not in the kubeconfig any more".to_owned()),
            (None, Some(current)) if self.offers(current) && config.contexts.contains_key(current) => {
                Ok(current.clone())
            }
            (None, _) => match (offered.next(), offered.next()) {
                (Some(only), None) => Ok(only.clone()),
                (None, _) => Err(NO_CLUSTER.to_owned()),
                _ => Err("the kubeconfig has no current context: run `kubectl config use-context NAME`".to_owned()),
            },
        }
    }

    fn offers(&self, name: &str) -> bool {
        let settings = self.settings.load();
        settings.kubernetes.contexts.as_ref().is_none_or(|only| only.iter().any(|offered| offered == name))
    }

    fn slot(&self, name: &str) -> Arc<Slot> {
        Arc::clone(self.state().slots.entry(name.to_owned()).or_default())
    }

    /// What the files say now; read again when one of them has changed.
    fn loaded(&self) -> Arc<Loaded> {
        let mut state = self.state();
        if let Some(loaded) = state.loaded.as_ref().filter(|loaded| unchanged(&loaded.stamps)) {
            return Arc::clone(loaded);
        }
        let loaded = Arc::new(self.load());
        *state = State { loaded: Some(Arc::clone(&loaded)), slots: HashMap::new() };
        loaded
    }

    fn load(&self) -> Loaded {
        let settings = self.settings.load();
        if let Some(server) = &settings.kubernetes.server {
            return Loaded { stamps: Vec::new(), config: Ok(configured(server, settings.kubernetes.ca.clone())) };
        }
        let files = kubeconfig::files(&self.env, &self.user_home);
        // Before they are read: a change in between is found the next time.
        let stamps = files.iter().map(|file| (file.clone(), Stamp::of(file))).collect();
        let config = kubeconfig::load(&files).map_err(|error| error.to_string());
        let config = config.map(|config| match config.contexts.is_empty() {
            true => in_cluster(&self.env, Path::new(SERVICE_ACCOUNT)).unwrap_or(config),
            false => config,
        });
        Loaded { stamps, config }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Every change is a single replacement, so a panic elsewhere leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clusters<Cluster> for Contexts {
    fn cluster<'a>(&'a self, context: Option<&'a str>) -> Asked<'a, Arc<Cluster>> {
        Box::pin(self.find(context))
    }

    fn renew<'a>(&'a self, stale: &'a Cluster) -> Asked<'a, Option<Arc<Cluster>>> {
        Box::pin(self.renewed(stale))
    }

    fn used(&self, _cluster: &Cluster) {
        self.book.used(&credential());
    }
}

impl Ready {
    fn holds(&self, token: Option<&Arc<Secret>>) -> bool {
        let same_token = match (&self.token, token) {
            (Some(mine), Some(given)) => Arc::ptr_eq(mine, given),
            (mine, given) => mine.is_none() && given.is_none(),
        };
        same_token && self.until.is_none_or(|until| OffsetDateTime::now_utc() < until) && unchanged(&self.files)
    }

    fn may_be_renewed(&self) -> bool {
        self.renewable && self.renewed.is_none_or(|at| at.elapsed() >= RENEW_EVERY)
    }
}

/// A file as base64, for a program that wants it so.
pub(super) fn base64_file(path: &Path) -> Option<String> {
    Some(STANDARD.encode(crate::settings::read_small(path).ok()??))
}

/// `[services.kubernetes] server` takes the place of every kubeconfig.
fn configured(server: &str, ca: Option<PathBuf>) -> Kubeconfig {
    let cluster = ClusterEntry { server: server.to_owned(), certificate_authority: ca, ..ClusterEntry::default() };
    only(CONFIGURED, cluster, UserEntry::default(), None)
}

/// What every pod finds of the cluster it runs in.
fn in_cluster(env: &Environment, account: &Path) -> Option<Kubeconfig> {
    let variable = |name: &str| env.get(name).and_then(|value| value.to_str()).map(str::to_owned);
    let (host, port) = (variable("KUBERNETES_SERVICE_HOST")?, variable("KUBERNETES_SERVICE_PORT")?);
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let token = account.join("token");
    token.exists().then(|| {
        let cluster = ClusterEntry {
            server: format!("https://{host}:{port}"),
            certificate_authority: Some(account.join("ca.crt")),
            ..ClusterEntry::default()
        };
        let user = UserEntry { token_file: Some(token), ..UserEntry::default() };
        let namespace = crate::settings::read_small(&account.join("namespace")).ok().flatten();
        only(IN_CLUSTER, cluster, user, namespace.map(|text| text.trim().to_owned()))
    })
}

fn only(name: &str, cluster: ClusterEntry, user: UserEntry, namespace: Option<String>) -> Kubeconfig {
    let context = Context { cluster: name.to_owned(), user: name.to_owned(), namespace };
    Kubeconfig {
        current: Some(name.to_owned()),
        contexts: [(name.to_owned(), context)].into(),
        clusters: [(name.to_owned(), cluster)].into(),
        users: [(name.to_owned(), user)].into(),
    }
}

fn credential() -> CredentialName {
    CredentialKind::Kubernetes.credential()
}

/// The context of a server that `proxy.toml` names.
const CONFIGURED: &str = "default";

/// The context that a session gets where there is no cluster.
pub(crate) const NOWHERE: &str = "clauderon";

const IN_CLUSTER: &str = "in-cluster";

const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

const NO_CLUSTER: &str = "no cluster is configured: set KUBECONFIG where the daemon runs, put a kubeconfig at ~/.kube/config, \
                          or name a server under [services.kubernetes] in proxy.toml";

const RENEW_EVERY: Duration = Duration::from_secs(10);
