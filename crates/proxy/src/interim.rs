//! Informational responses (1xx, RFC 9110 § 15.2) on their way from an origin to the agent.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, StatusCode, Version};

use crate::headers;

/// A queue of 1xx answers of one request at a time; cheap to clone. Whoever awaits the final answer also empties it.
#[derive(Clone, Default)]
pub(crate) struct Interim(Arc<Mutex<Queue>>);

#[derive(Default)]
struct Queue {
    waiting: Vec<(StatusCode, HeaderMap)>,
    /// How many more will be passed on.
    left: usize,
}

impl Interim {
    /// Begins anew, for a request of this version; HTTP/1.0 knows no informational answers.
    pub(crate) fn begin(&self, version: Version) {
        let left = if version == Version::HTTP_10 { 0 } else { MAX_PASSED };
        *self.lock() = Queue { waiting: Vec::new(), left };
    }

    /// Queues an informational answer; beyond a handful the origin is not helping anybody.
    pub(crate) fn push(&self, status: StatusCode, mut headers: HeaderMap) {
        let mut queue = self.lock();
        if queue.left > 0 && status != StatusCode::SWITCHING_PROTOCOLS {
            queue.left -= 1;
            headers::strip_response(&mut headers);
            headers.remove(CONTENT_LENGTH);
            queue.waiting.push((status, headers));
        }
    }

    /// Takes what is queued.
    pub(crate) fn take(&self) -> Vec<(StatusCode, HeaderMap)> {
        std::mem::take(&mut self.lock().waiting)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// In all, not at a time: they are written ahead of whether the agent reads them.
const MAX_PASSED: usize = 16;
