//! The proxy alone, in this process: one session on its socket, a fixed secret, a real audit log.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use arc_swap::ArcSwap;
use clauderon_core::access::AccessMode;
use clauderon_core::config::Settings;
use clauderon_core::credential::CredentialName;
use clauderon_core::digest;
use clauderon_core::host::Authority;
use clauderon_core::placeholder::PlaceholderTable;
use clauderon_core::rule::RuleSet;
use clauderon_core::secret::Secret;
use clauderon_core::session::{Session, SessionId, SessionName};
use clauderon_proxy::audit::{AuditLog, AuditOptions};
use clauderon_proxy::gateway::access::{Asked, Clusters};
use clauderon_proxy::snapshot::{Known, Renewed, Resolved, SecretBook, Sessions, Snapshot};
use clauderon_proxy::tls::ca::Issuer;
use clauderon_proxy::tls::client::{UpstreamTls, load_roots};
use clauderon_proxy::{Door, LocalBody, LocalService, Proxy, ProxyParts, drain, tls};
use clauderon_testkit::agent::Agent;
use clauderon_testkit::bytes::Wire;
use clauderon_testkit::ca::TestCa;
use clauderon_testkit::origin::Origin;
use clauderon_testkit::sightings::Sightings;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::{TcpListener, UnixListener};

/// What every origin of GitHub's must get, and no agent may see.
pub(crate) const SECRET: &str = "ghp_0123456789abcdefREAL";

const TOKEN: &str = "a session's token";

/// These tests are about the proxy.
struct NoClusters;

impl<C: Send + Sync + 'static> Clusters<C> for NoClusters {
    fn cluster<'a>(&'a self, _context: Option<&'a str>) -> Asked<'a, Arc<C>> {
        Box::pin(std::future::ready(Err("no cluster".into())))
    }

    fn renew<'a>(&'a self, _stale: &'a C) -> Asked<'a, Option<Arc<C>>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn used(&self, _cluster: &C) {}
}

/// A running proxy.
pub(crate) struct Rig {
    pub(crate) agent: Agent,
    pub(crate) proxy: Arc<Proxy>,
    pub(crate) session: SessionId,
    log: AuditLog,
    home: TempDir,
    signal: Option<drain::Signal>,
    drain: drain::Drain,
}

impl Drop for Rig {
    /// No test passes that let the secret through, whatever it was about.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.agent.sightings().assert_free_of(&[SECRET.to_owned()]);
        }
    }
}

impl Rig {
    /// With every default.
    pub(crate) async fn new(origins: &[&Origin]) -> Self {
        Self::with(origins, AccessMode::ReadWrite, |_| {}).await
    }

    /// With changed settings.
    pub(crate) async fn with(origins: &[&Origin], mode: AccessMode, change: impl FnOnce(&mut Settings)) -> Self {
        tls::install_crypto_provider();
        let home = tempfile::tempdir().unwrap();
        let mut settings = Settings::defaults(home.path());
        for (name, addr) in origins.iter().flat_map(|origin| origin.mappings()) {
            let Authority { host, port } = Authority::parse(&name).unwrap();
            settings.upstream.resolve.insert((host, port.unwrap()), addr);
        }
        change(&mut settings);
        let session = SessionId::parse("7f3a9c21").unwrap();
        let issuer =
            Arc::new(Issuer::load_or_create(&home.path().join("ca.pem"), &home.path().join("ca.key")).unwrap());
        let log = AuditLog::open(audit_options(home.path())).unwrap();
        let proxy = Proxy::new(ProxyParts {
            issuer: issuer.clone(),
            snapshot: Arc::new(ArcSwap::from_pointee(snapshot(settings, &session, mode, home.path()))),
            secrets: Arc::new(Book(Arc::new(Secret::parse(SECRET).unwrap().unwrap()))),
            audit: log.clone(),
            kubernetes: Arc::new(NoClusters),
            talos: Arc::new(NoClusters),
            local: Arc::new(Local),
            own_listeners: vec![],
        })
        .unwrap();
        let socket = home.path().join("proxy.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let (signal, drain) = drain::channel();
        let (served, id, drained) = (proxy.clone(), session.clone(), drain.clone());
        tokio::spawn(async move { served.serve_unix(listener, id, Door::Proxy, drained).await });
        let nowhere = "127.0.0.1:9".parse().unwrap();
        let agent = Agent::proxy(nowhere, issuer.certificate_pem(), &Sightings::default()).through_socket(socket);
        Self { agent, proxy, session, log, home, signal: Some(signal), drain }
    }

    /// A connection to a TCP listener.
    pub(crate) async fn tcp(&self) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (proxy, drain) = (self.proxy.clone(), self.drain.clone());
        tokio::spawn(async move { proxy.serve_tcp(listener, drain).await });
        Wire::connect(address).await
    }

    /// What the session sends to be known on TCP.
    pub(crate) fn authorization(&self) -> String {
        self.agent.clone().authorized("attack", TOKEN).proxy_authorization()
    }

    /// Stops the proxy; whether everything had ended within `limit`.
    pub(crate) async fn drain(&mut self, limit: std::time::Duration) -> bool {
        self.signal.take().unwrap().drain(limit).await
    }

    /// All audit records so far.
    pub(crate) async fn records(&self) -> Vec<Value> {
        self.log.sync().await.unwrap();
        let text = std::fs::read_to_string(self.home.path().join("audit.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Waits for `count` audit records.
    pub(crate) async fn recorded(&self, count: usize) -> Vec<Value> {
        for _ in 0..3000 {
            let records = self.records().await;
            if records.len() >= count {
                return records;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("no {count} records came: {:#?}", self.records().await);
    }
}

fn audit_options(home: &Path) -> AuditOptions {
    AuditOptions { path: home.join("audit.jsonl"), journal: home.join("journal"), rotate_bytes: 1 << 30, keep: 1 }
}

fn snapshot(settings: Settings, id: &SessionId, mode: AccessMode, home: &Path) -> Snapshot {
    let roots = home.join("roots.pem");
    std::fs::write(&roots, TestCa::shared().pem()).unwrap();
    let name = SessionName::parse("attack").unwrap();
    let session = Session { id: id.clone(), name, mode, credentials: None, allow_hosts: None };
    let mut sessions = Sessions::default();
    sessions.insert(Arc::new(session), [digest::sha256(&[TOKEN.as_bytes()])]);
    let mut placeholders = PlaceholderTable::default();
    placeholders.insert_all(id, &CredentialName::parse("github").unwrap());
    Snapshot {
        sessions,
        rules: RuleSet::new(clauderon_core::service::rules(&settings)),
        placeholders,
        settings: Arc::new(settings),
        upstream_tls: Arc::new(UpstreamTls::new(&load_roots(&[roots]).unwrap()).unwrap()),
    }
}

struct Book(Arc<Secret>);

impl SecretBook for Book {
    fn peek(&self, name: &CredentialName) -> Known {
        if name.as_str() == "github" { Known::Ready(self.0.clone()) } else { Known::Absent }
    }

    fn used(&self, _: &CredentialName) {}

    fn resolve<'a>(&'a self, _: &'a CredentialName) -> Pin<Box<dyn Future<Output = Resolved> + Send + 'a>> {
        Box::pin(async { Err("not configured".into()) })
    }

    fn is_renewable(&self, _: &CredentialName) -> bool {
        false
    }

    fn renew<'a>(&'a self, _: &'a CredentialName, _: &'a Secret) -> Pin<Box<dyn Future<Output = Renewed> + Send + 'a>> {
        Box::pin(async { Renewed::NotAsked })
    }
}

struct Local;

impl LocalService for Local {
    fn call(&self, _: Request<LocalBody>) -> Pin<Box<dyn Future<Output = Response<LocalBody>> + Send + '_>> {
        Box::pin(async {
            let body = http_body_util::Empty::new().map_err(|never| match never {});
            Response::new(body.boxed_unsync())
        })
    }
}
