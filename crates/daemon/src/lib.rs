//! The daemon: owns the home directory, the credentials and the sessions.

use std::sync::Arc;

use clauderon_api::DaemonInfo;
use clauderon_proxy::audit::AuditError;
use clauderon_proxy::tls::ca::CaError;
use clauderon_proxy::tls::client::RootsError;
use clauderon_proxy::tls::leaf::LeafError;

pub mod book;
pub mod control;
mod environment;
mod explain;
pub mod gateway;
mod harden;
pub mod home;
pub mod listen;
pub mod npmrc;
pub mod process;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod rig;
mod running;
pub mod sessions;
pub mod settings;
pub mod sources;
pub mod store;
pub mod telemetry;
pub mod watch;
pub mod web;

use running::Signals;
pub use running::{Daemon, Stopped};

use home::{Home, HomeError};
use listen::ListenError;
use sessions::SessionError;
use settings::{Overrides, SettingsError};
use sources::env::Environment;
use telemetry::TelemetryError;

/// What a daemon is started with.
pub struct RunOptions {
    /// The home it owns; created if it is missing.
    pub home: Home,
    /// What the command line overrides.
    pub overrides: Overrides,
}

/// Runs the daemon until SIGTERM or SIGINT; `on_ready` is called once it takes requests.
pub fn run(options: RunOptions, env: Environment, on_ready: impl FnOnce(&DaemonInfo)) -> Result<(), RunError> {
    let home = options.home.clone().create()?;
    telemetry::start(&home, &env)?;
    harden::close_memory();
    harden::quiet_panics();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build();
    let runtime = runtime.map_err(RunError::Runtime)?;
    let result = runtime.block_on(async {
        let daemon = Daemon::start(options, Arc::new(env)).await?;
        let signals = Signals::listen().map_err(RunError::Runtime)?;
        on_ready(&daemon.info());
        daemon.until_told(signals).await;
        Ok(())
    });
    // A thread that still waits for a name server must not hold the process back.
    runtime.shutdown_background();
    result
}

/// Why the daemon does not run; each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The home.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// `proxy.toml`, flags or environment.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The certificate authority.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// The key of the leaves.
    #[error(transparent)]
    Leaf(#[from] LeafError),
    /// The trust roots for origins.
    #[error(transparent)]
    Roots(#[from] RootsError),
    /// The audit log.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The sessions or their database.
    #[error(transparent)]
    Sessions(#[from] SessionError),
    /// A listener.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Diagnostics.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// A file in the home cannot be written.
    #[error("{} cannot be written: {source}", path.display())]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The system gives no threads, timers or signals.
    #[error("the system gives what a daemon needs not: {0}")]
    Runtime(std::io::Error),
}

impl RunError {
    /// Whether the user's configuration is at fault, as against the machine.
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::Settings(_) | Self::Ca(_) | Self::Roots(_) | Self::Telemetry(TelemetryError::Levels(_)))
    }
}

/// Two keep a slow handshake from holding up the rest; more only cost memory beside the work that matters.
const WORKERS: usize = 2;
