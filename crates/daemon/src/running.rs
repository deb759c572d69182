//! A daemon from its first check to its last audit line.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clauderon_api::DaemonInfo;
use clauderon_core::config::Settings;
use clauderon_proxy::audit::{AuditLog, AuditOptions};
use clauderon_proxy::drain::{self, Drain};
use clauderon_proxy::gateway::Gateway;
use clauderon_proxy::tls::bundle::bundle_pem;
use clauderon_proxy::tls::ca::Issuer;
use clauderon_proxy::tls::client::{UpstreamTls, load_roots};
use clauderon_proxy::tls::truststore::java_truststore;
use clauderon_proxy::{Proxy, ProxyParts, tls};
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::task::AbortOnDropHandle;

use crate::book::Book;
use crate::control::{self, Control};
use crate::gateway::Contexts;
use crate::gateway::talos::TalosContexts;
use crate::home::{Home, HomeLock, write_private};
use crate::sessions::{Gateways, Supervisor, SupervisorParts, Way};
use crate::settings::Loader;
use crate::sources::env::Environment;
use crate::watch::{Change, watch};
use crate::web::{ApiToken, Web};
use crate::{RunError, RunOptions, listen};

/// A daemon that takes requests.
pub struct Daemon {
    home: Home,
    control: Arc<Control>,
    audit: AuditLog,
    signal: drain::Signal,
    _watching: AbortOnDropHandle<()>,
    _lock: HomeLock,
}

/// How a daemon ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// Everything under way finished.
    Drained,
    /// Some requests were cut off.
    Cut,
}

impl Daemon {
    /// Checks everything, then opens the ports. Must be called inside a runtime.
    pub async fn start(options: RunOptions, env: Arc<Environment>) -> Result<Self, RunError> {
        tls::install_crypto_provider();
        let home = options.home.create()?;
        let lock = home.lock()?;
        let loader = Arc::new(Loader::new(home.clone(), options.overrides, Arc::clone(&env)));
        let prepared = Prepared::check(&home, &loader, env)?;
        let audit = open_audit(&home, &prepared.settings)?;
        let listeners = Listeners::bind(&home, &prepared.settings).await?;
        let (signal, drain) = drain::channel();
        let control = Arc::new(Control {
            home: home.clone(),
            started: Instant::now(),
            proxy: listeners.address,
            kubernetes: listeners.kubernetes.address,
            talos: listeners.talos.address,
            contexts: Arc::clone(&prepared.contexts),
            talos_contexts: Arc::clone(&prepared.talos),
            supervisor: prepared.supervisor.clone(),
            book: Arc::clone(&prepared.book),
            audit: audit.clone(),
        });
        // Before anybody can see that the daemon is up: what they change from then on is noticed.
        let watching = keep_current(loader, &prepared);
        prepared.serve(listeners, &control, &audit, drain)?;
        tracing::info!(
            "clauderon {} listens on {}, for Kubernetes on {}, for Talos on {}",
            env!("CARGO_PKG_VERSION"),
            control.proxy,
            control.kubernetes,
            control.talos
        );
        Ok(Self { home, control, audit, signal, _watching: watching, _lock: lock })
    }

    /// Where it runs.
    pub fn info(&self) -> DaemonInfo {
        self.control.info()
    }

    /// Runs until SIGTERM or SIGINT, then stops; a second signal ends the waiting.
    pub(crate) async fn until_told(self, mut signals: Signals) {
        signals.next().await;
        tracing::info!("stopping: requests under way may finish");
        self.stop_unless(signals.next()).await;
    }

    /// Takes no more requests, lets those under way finish for a while, and completes the audit log.
    pub async fn stop(self) -> Stopped {
        self.stop_unless(std::future::pending()).await
    }

    /// As [`Daemon::stop`]; `hurry` ends the waiting.
    async fn stop_unless(self, hurry: impl Future<Output = ()>) -> Stopped {
        let drained = tokio::select! {
            drained = self.signal.drain(DRAIN_LIMIT) => drained,
            () = hurry => false,
        };
        if !drained {
            tracing::warn!("requests under way are cut off");
            self.control.supervisor.cut();
            // Their lines are in the log before it is closed.
            self.signal.drain(CUT_LIMIT).await;
        }
        self.control.supervisor.close();
        if let Err(error) = self.audit.close().await {
            tracing::error!("{error}");
        }
        let _gone = fs::remove_file(self.home.control_socket());
        if drained { Stopped::Drained } else { Stopped::Cut }
    }
}

/// Everything that is checked before a port is opened.
struct Prepared {
    home: Home,
    settings: Arc<Settings>,
    issuer: Arc<Issuer>,
    book: Arc<Book>,
    contexts: Arc<Contexts>,
    talos: Arc<TalosContexts>,
    supervisor: Supervisor,
    token: Arc<ApiToken>,
}

impl Prepared {
    fn check(home: &Home, loader: &Loader, env: Arc<Environment>) -> Result<Self, RunError> {
        let settings = Arc::new(loader.load()?);
        let issuer = Arc::new(Issuer::load_or_create(&home.ca_cert(), &home.ca_key())?);
        let upstream_tls = trust(home, &issuer, &settings)?;
        let book = Arc::new(Book::open(Arc::clone(&env), &settings));
        let token = Arc::new(ApiToken::load_or_create(&home.api_token())?);
        let contexts =
            Arc::new(Contexts::new(Arc::clone(&env), home.user_home(), Arc::clone(&book), Arc::clone(&settings)));
        let talos =
            Arc::new(TalosContexts::new(Arc::clone(&env), home.user_home(), Arc::clone(&book), Arc::clone(&settings)));
        let supervisor = Supervisor::open(SupervisorParts {
            home: home.clone(),
            env,
            book: Arc::clone(&book),
            contexts: Arc::clone(&contexts),
            talos: Arc::clone(&talos),
            issuer: Arc::clone(&issuer),
            settings: Arc::clone(&settings),
            upstream_tls,
        })?;
        Ok(Self { home: home.clone(), settings, issuer, book, contexts, talos, supervisor, token })
    }

    fn serve(
        &self,
        listeners: Listeners,
        control: &Arc<Control>,
        audit: &AuditLog,
        drain: Drain,
    ) -> Result<(), RunError> {
        let address = listeners.address;
        let (kubernetes, talos) = (listeners.kubernetes, listeners.talos);
        let (contexts, talos_contexts) = (Arc::clone(&self.contexts), Arc::clone(&self.talos));
        let secrets: Arc<Book> = Arc::clone(&self.book);
        let proxy = Proxy::new(ProxyParts {
            issuer: Arc::clone(&self.issuer),
            snapshot: self.supervisor.snapshot(),
            secrets,
            audit: audit.clone(),
            kubernetes: contexts,
            talos: talos_contexts,
            local: Arc::new(Web::new(Arc::clone(control), Arc::clone(&self.token))),
            own_listeners: vec![address, kubernetes.address, talos.address],
        })?;
        self.book.logins().through(&proxy);
        let gateways = Gateways { kubernetes: kubernetes.address, talos: talos.address };
        self.supervisor.serve(Way { proxy: Arc::clone(&proxy), address, gateways, drain: drain.clone() });
        tokio::spawn(control::serve(listeners.control, Arc::clone(control), drain.clone()));
        for (gateway, bound) in [(Gateway::Kubernetes, kubernetes), (Gateway::Talos, talos)] {
            let (proxy, ending) = (Arc::clone(&proxy), drain.clone());
            tokio::spawn(async move { proxy.serve_gateway_tcp(gateway, bound.listener, ending).await });
        }
        tokio::spawn(async move { proxy.serve_tcp(listeners.tcp, drain).await });
        Ok(())
    }
}

struct Listeners {
    tcp: TcpListener,
    address: SocketAddr,
    kubernetes: Bound,
    talos: Bound,
    control: UnixListener,
}

/// A gateway's listener.
struct Bound {
    listener: TcpListener,
    address: SocketAddr,
}

impl Bound {
    async fn to(settings: &Settings, port: u16, setting: &'static str) -> Result<Self, RunError> {
        let listener = listen::tcp(settings.bind, port, setting).await?;
        let address = listener.local_addr().map_err(RunError::Runtime)?;
        Ok(Self { listener, address })
    }
}

impl Listeners {
    async fn bind(home: &Home, settings: &Settings) -> Result<Self, RunError> {
        let tcp = listen::tcp(settings.bind, settings.http_port, "--http-port").await?;
        let address = tcp.local_addr().map_err(RunError::Runtime)?;
        let kubernetes = Bound::to(settings, settings.kubectl_proxy_port, "kubectl_proxy_port in proxy.toml").await?;
        let talos = Bound::to(settings, settings.talos_gateway_port, "talos_gateway_port in proxy.toml").await?;
        if !address.ip().is_loopback() {
            tracing::warn!("listening beyond this machine: only callers with a session's token are served");
        }
        let control = listen::control(&home.control_socket())?;
        Ok(Self { tcp, address, kubernetes, talos, control })
    }
}

/// The two signals that mean stop; caught from `listen` on.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(crate) fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// How origins are verified under `settings`; also brings the bundle file up to date.
fn trust(home: &Home, issuer: &Issuer, settings: &Settings) -> Result<Arc<UpstreamTls>, RunError> {
    let roots = load_roots(&settings.upstream.ca_files)?;
    let upstream_tls = UpstreamTls::new(&roots)?;
    let files = [
        (home.bundle(), bundle_pem(issuer, &roots).into_bytes()),
        (home.truststore(), java_truststore(issuer, &roots)),
    ];
    for (path, roots) in files {
        // Sessions may have it open or mounted, so it is only replaced when it differs.
        if fs::read(&path).ok().as_ref() != Some(&roots) {
            write_private(&path, &roots, 0o644).map_err(|source| RunError::File { path, source })?;
        }
    }
    Ok(Arc::new(upstream_tls))
}

fn open_audit(home: &Home, settings: &Settings) -> Result<AuditLog, RunError> {
    if !settings.audit.enabled {
        tracing::warn!("audit_enabled is false: requests are not recorded");
        return Ok(AuditLog::disabled());
    }
    Ok(AuditLog::open(AuditOptions {
        path: settings.audit.path.clone(),
        journal: home.audit_journal(),
        rotate_bytes: settings.audit.rotate_bytes,
        keep: settings.audit.keep,
    })?)
}

/// Brings changed files into force.
fn keep_current(loader: Arc<Loader>, prepared: &Prepared) -> AbortOnDropHandle<()> {
    let (home, issuer) = (prepared.home.clone(), Arc::clone(&prepared.issuer));
    let (book, supervisor) = (Arc::clone(&prepared.book), prepared.supervisor.clone());
    let (contexts, talos) = (Arc::clone(&prepared.contexts), Arc::clone(&prepared.talos));
    let started_with = Arc::clone(&prepared.settings);
    watch(loader, Arc::clone(&prepared.settings), move |change| match change {
        Change::Secrets => book.refresh(),
        Change::Settings(settings) => match trust(&home, &issuer, &settings) {
            Ok(upstream_tls) => {
                name_what_waits(&started_with, &settings);
                book.reload(&settings);
                contexts.reload(Arc::clone(&settings));
                talos.reload(Arc::clone(&settings));
                supervisor.reconfigure(settings, upstream_tls);
            }
            Err(error) => tracing::error!("the new settings are not in force: {error}"),
        },
    })
}

/// Listeners and the audit log are opened once.
fn name_what_waits(started_with: &Settings, new: &Settings) {
    let waits = [
        ("http_port", started_with.http_port != new.http_port),
        ("kubectl_proxy_port", started_with.kubectl_proxy_port != new.kubectl_proxy_port),
        ("talos_gateway_port", started_with.talos_gateway_port != new.talos_gateway_port),
        ("bind", started_with.bind != new.bind),
        ("audit", started_with.audit != new.audit),
    ];
    for (key, _) in waits.iter().filter(|(_, changed)| *changed) {
        tracing::warn!("`{key}` has changed and takes effect when the daemon is started again");
    }
}

/// Long enough for an answer, short enough for a service manager.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);
/// What is cut off has nothing to wait for; a busy machine may need a moment.
const CUT_LIMIT: Duration = Duration::from_secs(2);
