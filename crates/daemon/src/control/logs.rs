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
use tokio::fs::File;
use tokio::io::AsyncReadExt;

use super::{Control, Failure};

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
    let body = match File::open(&path).await {
        Ok(file) => {
            let tail = Tail { file, control, name, follow: wanted.follow };
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
    file: File,
    control: Arc<Control>,
    name: String,
    follow: bool,
}

impl Tail {
    async fn next(mut self) -> io::Result<Option<(Bytes, Self)>> {
        loop {
            // Asked before reading, so that what the process wrote last is still read.
            let grows = self.follow && self.is_running();
            let mut piece = Vec::with_capacity(PIECE_BYTES);
            (&mut self.file).take(PIECE_BYTES as u64).read_to_end(&mut piece).await?;
            if !piece.is_empty() {
                return Ok(Some((piece.into(), self)));
            }
            if !grows {
                return Ok(None);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn is_running(&self) -> bool {
        self.control.supervisor.get(&self.name).is_ok_and(|info| info.status == "running")
    }
}

const PIECE_BYTES: usize = 32 * 1024;

/// Below what a reader notices; a watch per follower would cost more than looking.
const POLL: Duration = Duration::from_millis(150);
