//! The clusters that sessions reach through the Talos gateway: found as talosctl finds them, called as the user.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use clauderon_core::config::Settings;
use clauderon_core::credential::{CredentialKind, CredentialName};
use clauderon_core::host::Origin;
use clauderon_core::secret::Secret;
use clauderon_proxy::gateway::access::{Asked, Clusters};
use clauderon_proxy::gateway::talos::cluster::TalosCluster;
use clauderon_proxy::gateway::talos::sidero::Signer;
use clauderon_proxy::snapshot::{Known, SecretBook};
use clauderon_proxy::tls::session::context_key;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::NOWHERE;
use super::files::{Files, Stamp, unchanged};
use crate::book::Book;
use crate::settings::read_small;
use crate::sources::env::Environment;
use config::{Context, Talosconfig};
use identity::{Made, Maker};
use token::Token;

mod config;
pub(crate) mod explain;
mod identity;
mod token;

/// All contexts of the user's, and the clusters behind them as they were last made.
pub struct TalosContexts {
    env: Arc<Environment>,
    user_home: PathBuf,
    book: Arc<Book>,
    settings: ArcSwap<Settings>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    loaded: Option<Arc<Loaded>>,
    made: HashMap<String, Made>,
}

/// What the file and the token said when they were last read.
struct Loaded {
    files: Files,
    token: Option<Arc<Secret>>,
    said: Result<Said, String>,
}

struct Said {
    config: Talosconfig,
    account: Option<Arc<Signer>>,
}

/// A context as a session gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offered {
    pub(crate) name: String,
    pub(crate) nodes: Vec<String>,
    pub(crate) cluster: Option<String>,
}

impl TalosContexts {
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
        let loaded = self.loaded(self.known_token());
        let said = loaded.said()?;
        let current = self.name_of(&said.config, None)?;
        let offered = said.config.contexts().filter(|(name, _)| self.offers(name)).map(|(name, context)| Offered {
            name: name.to_owned(),
            nodes: context.nodes.clone().unwrap_or_default(),
            cluster: context.cluster.clone(),
        });
        Ok((offered.collect(), current))
    }

    /// Where the clusters of the offered contexts can be asked, for people.
    pub(crate) fn servers(&self) -> Result<Vec<String>, String> {
        let loaded = self.loaded(self.known_token());
        let said = loaded.said()?;
        self.name_of(&said.config, None)?;
        let offered = said.config.contexts().filter(|(name, _)| self.offers(name));
        let mut servers: Vec<String> =
            offered.flat_map(|(_, context)| context.endpoints()).map(str::to_owned).collect();
        servers.sort_unstable();
        servers.dedup();
        Ok(servers)
    }

    /// The current context and where its cluster is asked first.
    pub(crate) fn current(&self) -> Result<(String, Origin), String> {
        let loaded = self.loaded(self.known_token());
        let said = loaded.said()?;
        let name = self.name_of(&said.config, None)?;
        let first = context(&said.config, &name)?.endpoints().next();
        let first = first.ok_or_else(|| format!("the context {name:?} has no endpoints"))?;
        identity::endpoint(first).map(|origin| (name, origin))
    }

    async fn find(&self, key: Option<&str>) -> Result<Arc<TalosCluster>, String> {
        let loaded = self.loaded(self.token().await?);
        let said = loaded.said()?;
        let name = self.name_of(&said.config, key)?;
        let context = context(&said.config, &name)?;
        let mut state = self.state();
        if let Some(made) = state.made.get(&name).filter(|made| made.holds()) {
            return Ok(Arc::clone(&made.cluster));
        }
        let settings = self.settings.load_full();
        let account = said.account.as_ref();
        let maker = Maker { settings: &settings, env: &self.env, user_home: &self.user_home, account };
        let made = maker.make(&name, context)?;
        let cluster = Arc::clone(&made.cluster);
        state.made.insert(name, made);
        Ok(cluster)
    }

    /// The credential that the environment, 1Password or a secret file holds.
    async fn token(&self) -> Result<Option<Arc<Secret>>, String> {
        match self.book.peek(&credential()) {
            Known::Ready(secret) => Ok(Some(secret)),
            Known::Absent => match self.book.fault(&credential()) {
                Some(fault) => Err(format!("the credential `talos` cannot be had: {fault}")),
                None => Ok(None),
            },
            Known::Unresolved => {
                let resolved = self.book.resolve(&credential()).await;
                resolved.map(Some).map_err(|why| format!("the credential `talos` cannot be had: {why}"))
            }
        }
    }

    /// The same, without asking anybody for it.
    fn known_token(&self) -> Option<Arc<Secret>> {
        match self.book.peek(&credential()) {
            Known::Ready(secret) => Some(secret),
            Known::Absent | Known::Unresolved => None,
        }
    }

    /// The context with this key, or the current one.
    fn name_of(&self, config: &Talosconfig, key: Option<&str>) -> Result<String, String> {
        let mut offered = config.contexts().map(|(name, _)| name).filter(|name| self.offers(name));
        let current = config.context.as_deref().filter(|name| !name.is_empty());
        // A session that began without a cluster gets the one that has come since.
        match (key.filter(|key| *key != context_key(NOWHERE)), current) {
            (Some(key), _) => offered
                .find(|name| context_key(name) == key)
                .map(str::to_owned)
                .ok_or_else(|| "the context of this certificate is not in the talosconfig any more".to_owned()),
            (None, Some(current)) if offered.any(|name| name == current) => Ok(current.to_owned()),
            (None, _) => {
                let mut offered = config.contexts().map(|(name, _)| name).filter(|name| self.offers(name));
                match (offered.next(), offered.next()) {
                    (Some(only), None) => Ok(only.to_owned()),
                    (None, _) => Err(NO_CLUSTER.to_owned()),
                    _ => Err("the talosconfig has no current context: run `talosctl config context NAME`".to_owned()),
                }
            }
        }
    }

    fn offers(&self, name: &str) -> bool {
        let settings = self.settings.load();
        settings.talos.contexts.as_ref().is_none_or(|only| only.iter().any(|offered| offered == name))
    }

    /// What the file and the token say now; read again when one of them has changed.
    fn loaded(&self, token: Option<Arc<Secret>>) -> Arc<Loaded> {
        let mut state = self.state();
        if let Some(loaded) = state.loaded.as_ref().filter(|loaded| loaded.holds(token.as_ref())) {
            return Arc::clone(loaded);
        }
        let loaded = Arc::new(self.load(token));
        *state = State { loaded: Some(Arc::clone(&loaded)), made: HashMap::new() };
        loaded
    }

    fn load(&self, token: Option<Arc<Secret>>) -> Loaded {
        let file = config::file(&self.env, &self.user_home);
        // Before it is read: a change in between is found the next time.
        let files = vec![(file.clone(), Stamp::of(&file))];
        let given = token.as_ref().map(|token| Token::read(token.expose())).transpose();
        let said =
            given.map_err(|why| format!("the credential `talos` cannot be used: {why}")).and_then(
                |given| match given {
                    Some(Token::Config(config)) => Ok(Said { config, account: None }),
                    Some(Token::Account(account)) => Ok(Said { config: read(&file)?, account: Some(account) }),
                    None => Ok(Said { config: read(&file)?, account: None }),
                },
            );
        Loaded { files, token, said }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is a single replacement, so a panic elsewhere leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clusters<TalosCluster> for TalosContexts {
    fn cluster<'a>(&'a self, context: Option<&'a str>) -> Asked<'a, Arc<TalosCluster>> {
        Box::pin(self.find(context))
    }

    fn renew<'a>(&'a self, _stale: &'a TalosCluster) -> Asked<'a, Option<Arc<TalosCluster>>> {
        // Whatever it was made from is looked at before each call.
        Box::pin(std::future::ready(Ok(None)))
    }

    fn used(&self, _cluster: &TalosCluster) {
        self.book.used(&credential());
    }
}

impl Loaded {
    fn said(&self) -> Result<&Said, String> {
        self.said.as_ref().map_err(Clone::clone)
    }

    fn holds(&self, token: Option<&Arc<Secret>>) -> bool {
        let same_token = match (&self.token, token) {
            (Some(mine), Some(given)) => Arc::ptr_eq(mine, given),
            (mine, given) => mine.is_none() && given.is_none(),
        };
        same_token && unchanged(&self.files)
    }
}

impl Made {
    fn holds(&self) -> bool {
        self.until.is_none_or(|until| OffsetDateTime::now_utc() < until) && unchanged(&self.files)
    }
}

fn read(file: &Path) -> Result<Talosconfig, String> {
    match read_small(file) {
        Ok(Some(text)) => Talosconfig::parse(&Zeroizing::new(text)).map_err(|why| {
            format!("the talosconfig {} {why}: `talosctl config info` shows what is wrong", file.display())
        }),
        Ok(None) => Ok(Talosconfig::default()),
        Err(error) => Err(format!("the talosconfig {} cannot be read: {error}", file.display())),
    }
}

fn context<'a>(config: &'a Talosconfig, name: &str) -> Result<&'a Context, String> {
    let mut contexts = config.contexts();
    contexts.find(|(found, _)| *found == name).map(|(_, context)| context).ok_or_else(|| NO_CLUSTER.to_owned())
}

fn credential() -> CredentialName {
    CredentialKind::Talos.credential()
}

const NO_CLUSTER: &str = "no cluster is configured: set TALOSCONFIG where the daemon runs, put a talosconfig at ~/.talos/config, \
                          or give one as TALOS_TOKEN";
