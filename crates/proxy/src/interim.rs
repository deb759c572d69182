//! Informational responses (1xx, RFC 9110 § 15.2) on their way from an origin to the agent.

use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderMap, StatusCode};

/// A queue of 1xx answers of one request; cheap to clone. Whoever awaits the final answer also empties it.
#[derive(Clone, Default)]
pub(crate) struct Interim(Arc<Mutex<Vec<(StatusCode, HeaderMap)>>>);

impl Interim {
    /// Queues an informational answer; beyond a handful the origin is not helping anybody.
    pub(crate) fn push(&self, status: StatusCode, headers: HeaderMap) {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.len() < MAX_QUEUED && status != StatusCode::SWITCHING_PROTOCOLS {
            queue.push((status, headers));
        }
    }

    /// Takes what is queued.
    pub(crate) fn take(&self) -> Vec<(StatusCode, HeaderMap)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

const MAX_QUEUED: usize = 16;
