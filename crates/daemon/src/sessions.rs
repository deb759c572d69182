//! The supervisor: sole owner of the sessions. Every change is in the snapshot before it is answered.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::{ArcSwap, ArcSwapOption};
use clauderon_api::{CreateSession, SessionEnv, SessionInfo};
use clauderon_core::access::AccessMode;
use clauderon_core::config::Settings;
use clauderon_core::credential::{CredentialKind, CredentialName};
use clauderon_core::digest;
use clauderon_core::placeholder::{self, TokenKind};
use clauderon_core::session::{Session, SessionId, SessionName};
use clauderon_proxy::snapshot::{Known, SecretBook, Snapshot};
use clauderon_proxy::tls::ca::Issuer;
use clauderon_proxy::tls::client::UpstreamTls;
use clauderon_proxy::{Proxy, SessionCounters, drain::Drain};
use clauderon_sandbox::plan::{KUBERNETES_PORT, TALOS_PORT};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::book::Book;
use crate::environment::homes::Profiles;
use crate::environment::{self, Grounds};
use crate::gateway::Contexts;
use crate::gateway::talos::TalosContexts;
use crate::home::{Home, private_dir, remove_dir};
use crate::npmrc;
use crate::process::ProcessId;
use crate::sources::env::Environment;
use crate::store::{Status, Store, StoredSession};

mod backend;
mod contained;
mod error;
mod lifecycle;
mod naming;
pub(crate) mod output;
mod plan;
mod repository;
mod sandboxed;
mod view;

pub use error::SessionError;
use plan::{Naming, Plan};
use view::Configuration;

/// Creates, changes and ends sessions; cheap to clone.
#[derive(Clone)]
pub struct Supervisor(Arc<Inner>);

/// What a supervisor works with.
pub struct SupervisorParts {
    /// The home.
    pub home: Home,
    /// The daemon's environment.
    pub env: Arc<Environment>,
    /// The credentials.
    pub book: Arc<Book>,
    /// The clusters that sessions reach through the Kubernetes gateway.
    pub contexts: Arc<Contexts>,
    /// Those that they reach through the Talos gateway.
    pub talos: Arc<TalosContexts>,
    /// Signs the certificates by which the gateway knows sessions.
    pub issuer: Arc<Issuer>,
    /// The settings in force.
    pub settings: Arc<Settings>,
    /// How origins are verified under them.
    pub upstream_tls: Arc<UpstreamTls>,
}

struct Inner {
    home: Home,
    env: Arc<Environment>,
    book: Arc<Book>,
    contexts: Arc<Contexts>,
    talos: Arc<TalosContexts>,
    issuer: Arc<Issuer>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    /// There while the proxy runs.
    way: ArcSwapOption<Way>,
    state: Mutex<State>,
}

/// The proxy that carries the sessions' requests.
pub struct Way {
    /// The proxy.
    pub proxy: Arc<Proxy>,
    /// Where it listens on TCP.
    pub address: SocketAddr,
    /// Where its gateways listen on TCP.
    pub gateways: Gateways,
    /// Ends its listeners.
    pub drain: Drain,
}

struct State {
    store: Store,
    configuration: Configuration,
    entries: BTreeMap<SessionName, Entry>,
}

struct Entry {
    kept: StoredSession,
    session: Arc<Session>,
    tokens: Vec<[u8; 32]>,
    /// Serves the session's socket, and waits for its owner; both end with the entry.
    tasks: Vec<AbortOnDropHandle<()>>,
    /// Closed once the session's process has ended; `None` when none was started.
    process_end: Option<watch::Receiver<()>>,
    /// Whether its process was told to end.
    stopping: bool,
}

/// Where tools reach the gateways.
#[derive(Debug, Clone, Copy)]
pub struct Gateways {
    /// That to Kubernetes API servers.
    pub kubernetes: SocketAddr,
    /// That to Talos nodes.
    pub talos: SocketAddr,
}

impl Supervisor {
    /// Reads the sessions that are kept, drops those whose owner is gone, and makes `default` at the first start.
    pub fn open(parts: SupervisorParts) -> Result<Self, SessionError> {
        let store = Store::open(&parts.home.db())?;
        let configuration = Configuration { settings: parts.settings, upstream_tls: parts.upstream_tls };
        let mut state = State { store, configuration, entries: BTreeMap::new() };
        state.load()?;
        state.ensure_default()?;
        let inner = Inner {
            snapshot: Arc::new(ArcSwap::from_pointee(state.snapshot(&parts.book))),
            home: parts.home,
            env: parts.env,
            book: parts.book,
            contexts: parts.contexts,
            talos: parts.talos,
            issuer: parts.issuer,
            way: ArcSwapOption::empty(),
            state: Mutex::new(state),
        };
        inner.sweep()?;
        Ok(Self(Arc::new(inner)))
    }

    /// What the proxy decides on; swapped whole at every change.
    pub fn snapshot(&self) -> Arc<ArcSwap<Snapshot>> {
        Arc::clone(&self.0.snapshot)
    }

    /// Puts new settings in force.
    pub fn reconfigure(&self, settings: Arc<Settings>, upstream_tls: Arc<UpstreamTls>) {
        let mut state = self.0.state();
        state.configuration = Configuration { settings, upstream_tls };
        self.0.publish(&state);
    }

    /// Every session, by name.
    pub fn list(&self) -> Vec<SessionInfo> {
        let counters = self.0.counters();
        let info = |entry: &Entry| self.info(&entry.kept, counters(&entry.kept.id));
        self.0.state().entries.values().map(info).collect()
    }

    /// One session.
    pub fn get(&self, name: &str) -> Result<SessionInfo, SessionError> {
        let counters = self.0.counters();
        self.0.state().entry(name).map(|entry| self.info(&entry.kept, counters(&entry.kept.id)))
    }

    fn info(&self, kept: &StoredSession, counters: SessionCounters) -> SessionInfo {
        view::info(kept, self.base(kept), self.image(kept), counters)
    }

    /// Makes a session and starts its process, if it has one.
    pub fn create(&self, request: CreateSession) -> Result<SessionInfo, SessionError> {
        let plan = Plan::check(request, &self.0.env, &self.0.book.names())?;
        self.refuse_own_ports(&plan.forwards)?;
        let allow_dirty = plan.allow_dirty;
        let container = plan.container.as_ref().map(|wanted| self.find_container(wanted)).transpose()?;
        let kept = self.admit(plan)?;
        let keep = || container.as_ref().map_or(Ok(()), |found| self.keep_container(&kept, found));
        if let Err(error) = keep().and_then(|()| self.furnish(&kept, allow_dirty)).and_then(|()| self.start(&kept)) {
            self.forget(&kept.id)?;
            self.0.remove_files(&kept)?;
            return Err(error);
        }
        self.get(kept.name.as_str())
    }

    /// The daemon's own listeners would let a session in where only its user may be.
    fn refuse_own_ports(&self, forwards: &[u16]) -> Result<(), SessionError> {
        let Some(way) = self.0.way.load_full() else { return Ok(()) };
        match [way.address, way.gateways.kubernetes, way.gateways.talos]
            .iter()
            .find(|own| forwards.contains(&own.port()))
        {
            None => Ok(()),
            Some(own) => Err(SessionError::bad_request(format!("port {} is the daemon's own", own.port()))
                .with_hint("a session reaches the daemon by its proxy variables alone")),
        }
    }

    /// What a child of the session gets, with a fresh token.
    pub fn environment(&self, name: &str) -> Result<SessionEnv, SessionError> {
        let proxy = self.0.way.load().as_ref().map(|way| way.address).ok_or(SessionError::NotYetUp)?;
        let token = digest::hex(&random::<32>()?);
        let (kept, session, settings) = {
            let mut state = self.0.state();
            let (kept, session) = state.add_token(name, &token)?;
            self.0.publish(&state);
            (kept, session, Arc::clone(&state.configuration.settings))
        };
        self.prepare_environment(&kept, &session, &settings, &environment::proxy_url(&kept.name, &token, proxy))
    }

    /// Switches what the session may do, from its next request on.
    pub fn set_mode(&self, name: &str, mode: AccessMode) -> Result<SessionInfo, SessionError> {
        let mut state = self.0.state();
        let id = state.entry(name)?.kept.id.clone();
        state.store.set_mode(&id, mode)?;
        let entry = state.entry_mut(name)?;
        entry.kept.mode = mode;
        entry.session = Arc::new(view::session(&entry.kept)?);
        self.0.publish(&state);
        drop(state);
        self.get(name)
    }

    /// Where the output of the session's process lies; the file may not exist.
    pub fn output(&self, name: &str) -> Result<PathBuf, SessionError> {
        let id = self.0.state().entry(name)?.kept.id.clone();
        Ok(self.0.output(&id))
    }

    /// Writes the files of the session's tools, and gives the environment that leads to them and to `proxy_url`.
    fn prepare_environment(
        &self,
        kept: &StoredSession,
        session: &Session,
        settings: &Settings,
        proxy_url: &str,
    ) -> Result<SessionEnv, SessionError> {
        let grounds = Grounds {
            session: kept,
            proxy_url,
            gateways: self.gateways_of(kept)?,
            clusters: self.0.contexts.offered(),
            talos: self.0.talos.offered(),
            issuer: &self.0.issuer,
            home: &self.0.home,
            npmrc: &npmrc::user_config(self.0.home.user_home(), &self.0.env),
            settings,
            placeholders: self.0.placeholders(session),
            profiles: self.0.profiles(session),
        };
        let dir = self.0.home.session_files(&kept.id);
        let failed = |source| SessionError::File { path: dir.clone(), source };
        private_dir(&dir).map_err(failed)?;
        environment::files::write(&grounds).map_err(failed)?;
        let homes = environment::homes::write(&grounds).map_err(failed)?;
        if backend::isolates(&kept.backend) {
            sandboxed::give_files(&dir, &kept.id).map_err(failed)?;
            sandboxed::give(&homes, &kept.id).map_err(failed)?;
        }
        Ok(environment::environment(&grounds))
    }

    /// Where the session's tools reach the gateways: in a sandbox or container at the relays to its sockets.
    fn gateways_of(&self, kept: &StoredSession) -> Result<Gateways, SessionError> {
        if backend::isolates(&kept.backend) {
            let inside = |port| (Ipv4Addr::LOCALHOST, port).into();
            return Ok(Gateways { kubernetes: inside(KUBERNETES_PORT), talos: inside(TALOS_PORT) });
        }
        self.0.way.load().as_ref().map(|way| way.gateways).ok_or(SessionError::NotYetUp)
    }

    /// Adds the session that `plan` describes, ready to carry requests.
    fn admit(&self, plan: Plan) -> Result<StoredSession, SessionError> {
        let mut state = self.0.state();
        let kept = state.plan_to_kept(plan)?;
        let dir = self.0.home.session_dir(&kept.id);
        private_dir(&dir).map_err(|source| SessionError::File { path: dir, source })?;
        state.store.insert(&kept)?;
        state.insert(kept.clone(), Vec::new())?;
        self.0.publish(&state);
        drop(state);
        self.attend(&kept.name);
        Ok(kept)
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere left the last whole change behind; going on beats refusing every session.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, state: &State) {
        self.snapshot.store(Arc::new(state.snapshot(&self.book)));
    }

    fn counters(&self) -> impl Fn(&SessionId) -> SessionCounters + use<> {
        let counters = self.way.load().as_ref().map(|way| way.proxy.counters()).unwrap_or_default();
        move |id| counters.get(id).copied().unwrap_or_default()
    }

    fn output(&self, id: &SessionId) -> PathBuf {
        self.home.session_dir(id).join("output.log")
    }

    /// The placeholder of every credential the session may use and that can be injected.
    fn placeholders(&self, session: &Session) -> Vec<(CredentialName, String)> {
        let kind = |name: &CredentialName| match self.book.peek(name) {
            Known::Ready(secret) => Some(TokenKind::of(Some(&secret))),
            Known::Unresolved => Some(TokenKind::default()),
            Known::Absent => None,
        };
        let minted = |name: CredentialName| {
            let placeholder = placeholder::mint(&session.id, &name, &kind(&name)?);
            Some((name, placeholder))
        };
        self.book.names().into_iter().filter(|name| session.may_use(name)).filter_map(minted).collect()
    }

    /// What the session may know of the logins behind its placeholders.
    fn profiles(&self, session: &Session) -> Profiles {
        let profile = |kind: CredentialKind| {
            let keeper = self.book.login_of(&kind.credential()).filter(|_| session.may_use(&kind.credential()))?;
            self.book.logins().profile(keeper)
        };
        Profiles { claude: profile(CredentialKind::Anthropic), codex: profile(CredentialKind::Chatgpt) }
    }

    fn remove_files(&self, kept: &StoredSession) -> Result<(), SessionError> {
        for dir in [self.home.session_dir(&kept.id), self.home.worktree(&kept.name)] {
            remove_dir(&dir).map_err(|source| SessionError::File { path: dir, source })?;
        }
        Ok(())
    }

    /// Removes what sessions left behind that ended while no daemon could clean up.
    fn sweep(&self) -> Result<(), SessionError> {
        let dir = self.home.sessions_dir();
        let failed = |source| SessionError::File { path: dir.clone(), source };
        let state = self.state();
        for left in std::fs::read_dir(&dir).map_err(failed)? {
            let left = left.map_err(failed)?;
            let id = left.file_name().to_str().and_then(|name| SessionId::parse(name).ok());
            if id.is_some_and(|id| state.entries.values().all(|entry| entry.kept.id != id)) {
                remove_dir(&left.path()).map_err(failed)?;
            }
        }
        Ok(())
    }
}

impl State {
    fn load(&mut self) -> Result<(), SessionError> {
        for mut kept in self.store.sessions()? {
            if kept.owner.is_some_and(|owner| !owner.is_alive()) {
                self.store.delete(&kept.id)?;
                continue;
            }
            if kept.status == Status::Running && !kept.process.is_some_and(ProcessId::is_alive) {
                kept.status = Status::Exited;
                self.store.set_process(&kept)?;
            }
            let tokens = self.store.tokens(&kept.id)?;
            self.insert(kept, tokens)?;
        }
        Ok(())
    }

    fn ensure_default(&mut self) -> Result<(), SessionError> {
        if self.entry(SessionName::DEFAULT).is_ok() {
            return Ok(());
        }
        let name = SessionName::parse(SessionName::DEFAULT).expect("`default` is a session name");
        let kept = self.plan_to_kept(Plan::bare(name))?;
        self.store.insert(&kept)?;
        self.insert(kept, Vec::new())
    }

    fn snapshot(&self, book: &Book) -> Snapshot {
        let all = self.entries.values().map(|entry| (&entry.session, entry.tokens.as_slice()));
        view::snapshot(&self.configuration, &book.names(), all)
    }

    fn entry(&self, name: &str) -> Result<&Entry, SessionError> {
        let parsed = SessionName::parse(name).ok();
        let entry = parsed.and_then(|parsed| self.entries.get(&parsed));
        entry.ok_or_else(|| SessionError::NoSuchSession(name.to_owned()))
    }

    fn entry_mut(&mut self, name: &str) -> Result<&mut Entry, SessionError> {
        let parsed = SessionName::parse(name).ok();
        let entry = parsed.and_then(|parsed| self.entries.get_mut(&parsed));
        entry.ok_or_else(|| SessionError::NoSuchSession(name.to_owned()))
    }

    fn by_id(&mut self, id: &SessionId) -> Option<&mut Entry> {
        self.entries.values_mut().find(|entry| entry.kept.id == *id)
    }

    fn insert(&mut self, kept: StoredSession, tokens: Vec<[u8; 32]>) -> Result<(), SessionError> {
        let session = Arc::new(view::session(&kept)?);
        let entry = Entry { session, tokens, tasks: Vec::new(), process_end: None, stopping: false, kept };
        self.entries.insert(entry.kept.name.clone(), entry);
        Ok(())
    }

    fn add_token(&mut self, name: &str, token: &str) -> Result<(StoredSession, Arc<Session>), SessionError> {
        let hash = digest::sha256(&[token.as_bytes()]);
        let id = self.entry(name)?.kept.id.clone();
        self.store.add_token(&id, &hash, now_ms(), MAX_TOKENS)?;
        let entry = self.entry_mut(name)?;
        let spare = (entry.tokens.len() + 1).saturating_sub(MAX_TOKENS);
        entry.tokens.drain(..spare);
        entry.tokens.push(hash);
        Ok((entry.kept.clone(), Arc::clone(&entry.session)))
    }

    fn plan_to_kept(&self, plan: Plan) -> Result<StoredSession, SessionError> {
        let is_taken = |name: &SessionName| self.entries.contains_key(name);
        let name = match plan.name {
            Naming::Given(name) if is_taken(&name) => return Err(SessionError::Exists(name)),
            Naming::Given(name) => name,
            Naming::Made(base) => naming::free_name(&base, is_taken),
        };
        Ok(StoredSession {
            id: self.free_id()?,
            name,
            mode: plan.mode,
            backend: plan.backend.to_owned(),
            agent: plan.agent,
            repo: plan.repo,
            prompt: plan.prompt,
            command: plan.command,
            created_ms: now_ms(),
            status: Status::Ready,
            process: None,
            exit_code: None,
            credentials: plan.credentials,
            allow_hosts: plan.allow_hosts,
            forwards: plan.forwards,
            owner: plan.owner,
        })
    }

    fn free_id(&self) -> Result<SessionId, SessionError> {
        loop {
            let id = SessionId::from_bytes(random()?);
            if self.entries.values().all(|entry| entry.kept.id != id) {
                return Ok(id);
            }
        }
    }
}

/// Random bytes nobody can guess.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], SessionError> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| SessionError::NoRandomness)?;
    Ok(bytes)
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Each `env` and `exec` mints one; a session that lives for months must not grow without bound.
const MAX_TOKENS: usize = 1024;
