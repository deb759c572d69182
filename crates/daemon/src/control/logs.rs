//! `/v1/sessions/{name}/logs`: the output of a session's process, as it is and as it grows.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http::header;
use serde::Deserialize;

use super::{Control, Failure};
use crate::sessions::output::Output;

#[derive(Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    follow: bool,
}

pub(super) async fn output(
    State(control): State<Arc<Control>>,
    Path(name): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Failure> {
    let path = control.supervisor.output(&name)?;
    let body = match Output::open(&path) {
        Ok(output) => {
            let tail = Tail { output, control, name, follow: wanted.follow };
            Body::from_stream(stream::try_unfold(tail, Tail::next))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Body::empty(),
        Err(error) => {
            tracing::error!("{}: {error}", path.display());
            return Err(Failure::internal());
        }
    };
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response())
}

struct Tail {
    output: Output,
    control: Arc<Control>,
    name: String,
    follow: bool,
}

impl Tail {
    async fn next(mut self) -> io::Result<Option<(Bytes, Self)>> {
        loop {
            // Asked before reading, so that what the process wrote last is still read.
            let grows = self.follow && self.is_running();
            let read = tokio::task::spawn_blocking(move || (self.output.read(), self));
            let (piece, tail) = read.await.map_err(io::Error::other)?;
            self = tail;
            match piece? {
                piece if !piece.is_empty() => return Ok(Some((piece.into(), self))),
                _ if !grows => return Ok(None),
                _ => tokio::time::sleep(POLL).await,
            }
        }
    }

    fn is_running(&self) -> bool {
        self.control.supervisor.get(&self.name).is_ok_and(|info| info.status == "running")
    }
}

/// Below what a reader notices; a watch per follower would cost more than looking.
const POLL: Duration = Duration::from_millis(150);
