//! The control API: what the CLI and the dashboard ask of the daemon. Over the control socket without a token.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::routing::{get, post, put};
use clauderon_api::{DaemonInfo, Health};
use clauderon_proxy::audit::AuditLog;
use clauderon_proxy::drain::Drain;
use http::StatusCode;
use tokio::net::UnixListener;

use crate::book::Book;
use crate::gateway::Contexts;
use crate::gateway::talos::TalosContexts;
use crate::home::Home;
use crate::sessions::Supervisor;

mod credentials;
mod failure;
mod logs;
mod peer;
mod sessions;

pub use credentials::config_entries;
pub(crate) use failure::{Failure, not_found};
use peer::OwnUserOnly;

/// What the API works on.
pub struct Control {
    pub(crate) home: Home,
    pub(crate) started: Instant,
    pub(crate) proxy: SocketAddr,
    pub(crate) kubernetes: SocketAddr,
    pub(crate) talos: SocketAddr,
    pub(crate) contexts: Arc<Contexts>,
    pub(crate) talos_contexts: Arc<TalosContexts>,
    pub(crate) supervisor: Supervisor,
    pub(crate) book: Arc<Book>,
    pub(crate) audit: AuditLog,
}

/// Answers callers of the daemon's own user on the control socket until the stop begins.
pub(crate) async fn serve(listener: UnixListener, control: Arc<Control>, drain: Drain) {
    let routes = routes(control).fallback(not_found);
    let serving = axum::serve(OwnUserOnly(listener), routes);
    // Not waited for: somebody who follows a session's output would hold up the stop.
    tokio::select! {
        ended = serving => if let Err(error) = ended { tracing::error!("the control socket failed: {error}") },
        () = drain.begun() => {}
    }
}

/// Every route of the API, and `/health`.
pub(crate) fn routes(control: Arc<Control>) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/v1/daemon", get(daemon))
        .route("/v1/sessions", get(sessions::list).post(sessions::create))
        .route("/v1/sessions/{name}", get(sessions::show).delete(sessions::delete))
        .route("/v1/sessions/{name}/env", get(sessions::environment))
        .route("/v1/sessions/{name}/launch", post(sessions::launch))
        .route("/v1/sessions/{name}/access-mode", put(sessions::set_access_mode))
        .route("/v1/sessions/{name}/stop", post(sessions::stop))
        .route("/v1/sessions/{name}/logs", get(logs::output))
        .route("/v1/credentials", get(credentials::list))
        .route("/v1/unlock", post(credentials::unlock))
        .route("/v1/config", get(credentials::config))
        .route("/v1/explain", post(credentials::explain))
        .method_not_allowed_fallback(failure::method_not_allowed)
        .with_state(control)
}

impl Control {
    /// Where the daemon runs.
    pub(crate) fn info(&self) -> DaemonInfo {
        DaemonInfo {
            pid: std::process::id(),
            version: VERSION.to_owned(),
            home: self.home.root().display().to_string(),
            proxy: self.proxy.to_string(),
            kubernetes: self.kubernetes.to_string(),
            talos: self.talos.to_string(),
            audit_log: self.supervisor.snapshot().load().settings.audit.path.display().to_string(),
            uptime_s: self.started.elapsed().as_secs(),
        }
    }

    /// Whether every part does its work.
    pub(crate) fn health(&self) -> Health {
        let missing = |what: &str, there: bool| match there {
            true => UP.to_owned(),
            false => format!("{what} was removed: start the daemon again"),
        };
        let parts = [
            ("ca", missing("its certificate", self.home.ca_cert().exists() && self.home.bundle().exists())),
            ("audit", self.audit.check().map_or_else(|error| error.to_string(), |()| UP.to_owned())),
            ("proxy", UP.to_owned()),
            ("kubernetes", UP.to_owned()),
            ("talos", UP.to_owned()),
            ("control", missing("its socket", self.home.control_socket().exists())),
        ];
        let all_up = parts.iter().all(|(_, state)| state == UP);
        Health {
            status: if all_up { "ok" } else { "degraded" }.to_owned(),
            version: VERSION.to_owned(),
            uptime_s: self.started.elapsed().as_secs(),
            sessions: self.supervisor.snapshot().load().sessions.len(),
            listeners: parts.into_iter().map(|(part, state)| (part.to_owned(), state)).collect(),
        }
    }
}

async fn health(State(control): State<Arc<Control>>) -> (StatusCode, Json<Health>) {
    let health = control.health();
    let status = if health.status == "ok" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(health))
}

async fn daemon(State(control): State<Arc<Control>>) -> Json<DaemonInfo> {
    Json(control.info())
}

const UP: &str = "up";

const VERSION: &str = env!("CARGO_PKG_VERSION");

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests;
