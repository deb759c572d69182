//! `/v1/sessions`.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use clauderon_api::{CreateSession, LaunchPlan, LaunchRequest, SessionEnv, SessionInfo, SetAccessMode};
use clauderon_core::access::{AccessMode, UnknownAccessMode};
use http::StatusCode;
use serde::de::DeserializeOwned;

use super::{Control, Failure};
use crate::sessions::{SessionError, Supervisor};

pub(super) async fn list(State(control): State<Arc<Control>>) -> Json<Vec<SessionInfo>> {
    Json(control.supervisor.list())
}

pub(super) async fn show(
    State(control): State<Arc<Control>>,
    Path(name): Path<String>,
) -> Result<Json<SessionInfo>, Failure> {
    Ok(Json(control.supervisor.get(&name)?))
}

pub(super) async fn create(
    State(control): State<Arc<Control>>,
    body: Bytes,
) -> Result<(StatusCode, Json<SessionInfo>), Failure> {
    let wanted: CreateSession = read(&body)?;
    let info = blocking(&control, move |supervisor| supervisor.create(wanted)).await?;
    Ok((StatusCode::CREATED, Json(info)))
}

pub(super) async fn delete(
    State(control): State<Arc<Control>>,
    Path(name): Path<String>,
) -> Result<StatusCode, Failure> {
    // On its own: a caller that gives up must not leave a session half ended.
    let supervisor = control.supervisor.clone();
    tokio::spawn(async move { supervisor.delete(&name).await }).await.map_err(|_| Failure::internal())??;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn environment(
    State(control): State<Arc<Control>>,
    Path(name): Path<String>,
) -> Result<Json<SessionEnv>, Failure> {
    Ok(Json(blocking(&control, move |supervisor| supervisor.environment(&name)).await?))
}

pub(super) async fn launch(
    State(control): State<Arc<Control>>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Json<LaunchPlan>, Failure> {
    let wanted: LaunchRequest = read(&body)?;
    Ok(Json(blocking(&control, move |supervisor| supervisor.plan_launch(&name, &wanted)).await?))
}

pub(super) async fn set_access_mode(
    State(control): State<Arc<Control>>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Json<SessionInfo>, Failure> {
    let wanted: SetAccessMode = read(&body)?;
    let mode: AccessMode =
        wanted.access_mode.parse().map_err(|error: UnknownAccessMode| Failure::bad_request(error.to_string()))?;
    Ok(Json(blocking(&control, move |supervisor| supervisor.set_mode(&name, mode)).await?))
}

pub(super) async fn stop(
    State(control): State<Arc<Control>>,
    Path(name): Path<String>,
) -> Result<Json<SessionInfo>, Failure> {
    let supervisor = control.supervisor.clone();
    let stopped = tokio::spawn(async move { supervisor.stop(&name).await }).await;
    Ok(Json(stopped.map_err(|_| Failure::internal())??))
}

/// The JSON body of a request.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body)
        .map_err(|error| Failure::bad_request(format!("the body is not what is expected here: {error}")))
}

/// Runs what waits for the disk or starts processes beside the threads that serve requests.
async fn blocking<T: Send + 'static>(
    control: &Control,
    work: impl FnOnce(&Supervisor) -> Result<T, SessionError> + Send + 'static,
) -> Result<T, Failure> {
    let supervisor = control.supervisor.clone();
    Ok(tokio::task::spawn_blocking(move || work(&supervisor)).await.map_err(|_| Failure::internal())??)
}
