//! The client of the control socket.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::task::AbortHandle;

use crate::{
    ApiError, ConfigEntry, CreateSession, CredentialInfo, DaemonInfo, ExplainRequest, Explanation, Health, LaunchPlan,
    LaunchRequest, SessionEnv, SessionInfo, SetAccessMode, Unlock, UnlockedCredential,
};

/// Talks to the daemon through its control socket; one connection per call.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

/// Why a call did not give its answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens on the socket.
    #[error("no daemon listens on {}", .0.display())]
    NotRunning(PathBuf),
    /// The daemon answered with an error.
    #[error("{error}")]
    Refused {
        /// What the daemon says.
        error: ApiError,
        /// The status it said it with.
        status: StatusCode,
    },
    /// The connection failed, or the answer is none of this version.
    #[error("the daemon could not be asked: {0}")]
    Transport(String),
}

/// A session's output as it arrives; dropping it ends the call.
pub struct LogStream {
    body: Incoming,
    _connection: Connection,
}

impl Client {
    /// A client of the daemon whose control socket lies at `socket`; connects at each call.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// The socket it talks to.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// `GET /health`, whatever its status.
    pub async fn health(&self) -> Result<Health, ClientError> {
        let (response, _connection) = self.send(Method::GET, "/health", Bytes::new()).await?;
        parse(&collect(response).await?)
    }

    /// Where the running daemon lives.
    pub async fn daemon(&self) -> Result<DaemonInfo, ClientError> {
        self.get("/v1/daemon").await
    }

    /// Every session, by name.
    pub async fn sessions(&self) -> Result<Vec<SessionInfo>, ClientError> {
        self.get("/v1/sessions").await
    }

    /// Makes a session.
    pub async fn create_session(&self, wanted: &CreateSession) -> Result<SessionInfo, ClientError> {
        self.call(Method::POST, "/v1/sessions", Some(wanted)).await
    }

    /// One session.
    pub async fn session(&self, name: &str) -> Result<SessionInfo, ClientError> {
        self.get(&of_session(name, "")).await
    }

    /// Ends a session: its tokens, connections, process and files.
    pub async fn delete_session(&self, name: &str) -> Result<(), ClientError> {
        self.request(Method::DELETE, &of_session(name, ""), None::<&()>).await.map(drop)
    }

    /// The environment of a child of the session, with a fresh token.
    pub async fn session_env(&self, name: &str) -> Result<SessionEnv, ClientError> {
        self.get(&of_session(name, "/env")).await
    }

    /// Prepares the launch of a command in the session's sandbox.
    pub async fn launch(&self, name: &str, wanted: &LaunchRequest) -> Result<LaunchPlan, ClientError> {
        self.call(Method::POST, &of_session(name, "/launch"), Some(wanted)).await
    }

    /// Switches what the session may do from its next request on.
    pub async fn set_access_mode(&self, name: &str, mode: &str) -> Result<SessionInfo, ClientError> {
        let wanted = SetAccessMode { access_mode: mode.to_owned() };
        self.call(Method::PUT, &of_session(name, "/access-mode"), Some(&wanted)).await
    }

    /// Ends the session's process; answers once it is gone.
    pub async fn stop_session(&self, name: &str) -> Result<SessionInfo, ClientError> {
        self.call(Method::POST, &of_session(name, "/stop"), None::<&()>).await
    }

    /// What the session's process wrote; with `follow`, also what it will write until it ends.
    pub async fn logs(&self, name: &str, follow: bool) -> Result<LogStream, ClientError> {
        let path = of_session(name, if follow { "/logs?follow=true" } else { "/logs" });
        let (response, connection) = self.send(Method::GET, &path, Bytes::new()).await?;
        let response = accept(response).await?;
        Ok(LogStream { body: response.into_body(), _connection: connection })
    }

    /// Every credential, as the daemon sees it.
    pub async fn credentials(&self) -> Result<Vec<CredentialInfo>, ClientError> {
        self.get("/v1/credentials").await
    }

    /// Resolves 1Password references now; takes as long as a person takes to approve.
    pub async fn unlock(&self, wanted: &Unlock) -> Result<Vec<UnlockedCredential>, ClientError> {
        self.call(Method::POST, "/v1/unlock", Some(wanted)).await
    }

    /// The effective settings.
    pub async fn config(&self) -> Result<Vec<ConfigEntry>, ClientError> {
        self.get("/v1/config").await
    }

    /// What would happen to a request.
    pub async fn explain(&self, asked: &ExplainRequest) -> Result<Explanation, ClientError> {
        self.call(Method::POST, "/v1/explain", Some(asked)).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(Method::GET, path, None::<&()>).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, ClientError> {
        parse(&self.request(method, path, body).await?)
    }

    async fn request(&self, method: Method, path: &str, body: Option<&impl Serialize>) -> Result<Bytes, ClientError> {
        let body = body.map(serde_json::to_vec).transpose().map_err(transport)?.unwrap_or_default();
        let (response, _connection) = self.send(method, path, body.into()).await?;
        collect(accept(response).await?).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(Response<Incoming>, Connection), ClientError> {
        let stream = connect(&self.socket).await.map_err(|error| self.unreachable(&error))?;
        let (mut sender, driver) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(transport)?;
        let connection = Connection(tokio::spawn(driver).abort_handle());
        let mut request = Request::builder().method(method).uri(path).header(http::header::HOST, "localhost");
        if !body.is_empty() {
            request = request.header(http::header::CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(body)).map_err(transport)?;
        Ok((sender.send_request(request).await.map_err(transport)?, connection))
    }

    fn unreachable(&self, error: &io::Error) -> ClientError {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NotRunning(self.socket.clone()),
            _ => ClientError::Transport(format!("{}: {error}", self.socket.display())),
        }
    }
}

impl LogStream {
    /// The next piece, or `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        while let Some(frame) = self.body.frame().await {
            if let Ok(data) = frame.map_err(transport)?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

/// Connects to the socket at `path`, however long that is: what the kernel takes holds 107 bytes, and homes can lie deep.
pub async fn connect(path: &Path) -> io::Result<UnixStream> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return UnixStream::connect(path).await };
    let dir = File::open(dir)?;
    let short = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string());
    // Where there is no such directory, the path has to do as it is.
    if short.exists() { UnixStream::connect(short.join(name)).await } else { UnixStream::connect(path).await }
}

/// The task that drives a connection; ends with the call.
struct Connection(AbortHandle);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn of_session(name: &str, rest: &str) -> String {
    format!("/v1/sessions/{}{rest}", utf8_percent_encode(name, NON_ALPHANUMERIC))
}

async fn accept(response: Response<Incoming>) -> Result<Response<Incoming>, ClientError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let error = parse(&collect(response).await?)?;
    Err(ClientError::Refused { error, status })
}

async fn collect(response: Response<Incoming>) -> Result<Bytes, ClientError> {
    let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
    body.map(http_body_util::Collected::to_bytes).map_err(|error| ClientError::Transport(error.to_string()))
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(body)
        .map_err(|error| ClientError::Transport(format!("an answer this version does not understand ({error})")))
}

fn transport(error: impl std::error::Error) -> ClientError {
    ClientError::Transport(error.to_string())
}

/// Ten thousand sessions fit; whatever is larger is no answer of ours.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;
