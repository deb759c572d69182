//! Errors as the API answers them: one table from cause to status and code.

use axum::Json;
use axum::response::{IntoResponse, Response};
use clauderon_api::ApiError;
use http::{Method, StatusCode, Uri, header};

use crate::sessions::SessionError;

/// An error answer.
#[derive(Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    error: ApiError,
}

impl Failure {
    /// An error of the given cause.
    pub(crate) fn new(status: StatusCode, code: &str, error: impl Into<String>) -> Self {
        Self { status, error: ApiError { error: error.into(), code: code.to_owned(), hint: None } }
    }

    /// A request that cannot be meant.
    pub(crate) fn bad_request(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", error)
    }

    /// A fault of the daemon's own.
    pub(crate) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "a fault of the daemon's own; see its log")
    }

    /// Adds what to do next.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.error.hint = Some(hint.into());
        self
    }
}

/// There is no such path.
pub(crate) async fn not_found(uri: Uri) -> Failure {
    Failure::new(StatusCode::NOT_FOUND, "not_found", format!("there is nothing at {}", uri.path()))
}

/// The path is there, the method is not.
pub(crate) async fn method_not_allowed(method: Method, uri: Uri) -> Failure {
    let error = format!("{} cannot be called with {method}", uri.path());
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, "bad_request", error)
}

impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Self {
        let (status, code) = match &error {
            SessionError::NoSuchSession(_) => (StatusCode::NOT_FOUND, "no_such_session"),
            SessionError::Exists(_) => (StatusCode::CONFLICT, "session_exists"),
            SessionError::BadRequest { .. } => (StatusCode::BAD_REQUEST, "bad_request"),
            SessionError::Backend { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "backend"),
            SessionError::Store(_) | SessionError::File { .. } | SessionError::NoRandomness => {
                tracing::error!("{error}");
                (StatusCode::INTERNAL_SERVER_ERROR, "internal")
            }
            SessionError::NotYetUp => (StatusCode::SERVICE_UNAVAILABLE, "internal"),
        };
        let hint = error.hint();
        Self { status, error: ApiError { error: error.to_string(), code: code.to_owned(), hint } }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.error)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = header::HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}
