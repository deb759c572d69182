//! Informational responses (1xx, RFC 9110 § 15.2) on their way from an origin to the agent.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, StatusCode, Version};

use crate::headers;
use crate::scrub::Scrub;

/// A queue of 1xx answers of one request at a time; cheap to clone. Whoever awaits the final answer also empties it.
#[derive(Clone, Default)]
pub(crate) struct Interim(Arc<Mutex<Queue>>);

#[derive(Default)]
struct Queue {
    waiting: Vec<(StatusCode, HeaderMap)>,
    /// How many more will be passed on.
    left: usize,
    /// What takes the secret out that the request carried.
    scrub: Option<Scrub>,
}

impl Interim {
    /// Begins anew, for a request of this version; HTTP/1.0 knows no informational answers.
    pub(crate) fn begin(&self, version: Version) {
        let left = if version == Version::HTTP_10 { 0 } else { MAX_PASSED };
        *self.lock() = Queue { waiting: Vec::new(), left, scrub: None };
    }

    /// Queues an informational answer; beyond a handful the origin is not helping anybody.
    pub(crate) fn push(&self, status: StatusCode, mut headers: HeaderMap) {
        let mut queue = self.lock();
        if queue.left > 0 && status != StatusCode::SWITCHING_PROTOCOLS {
            queue.left -= 1;
            headers::strip_response(&mut headers);
            headers.remove(CONTENT_LENGTH);
            if let Some(scrub) = &queue.scrub {
                scrub.fields(&mut headers);
            }
            queue.waiting.push((status, headers));
        }
    }

    /// Takes what is queued.
    pub(crate) fn take(&self) -> Vec<(StatusCode, HeaderMap)> {
        std::mem::take(&mut self.lock().waiting)
    }

    /// Has what is queued for this request from now on scrubbed.
    pub(crate) fn scrub_with(&self, scrub: &Scrub) {
        self.lock().scrub = Some(scrub.clone());
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// In all, not at a time: they are written ahead of whether the agent reads them.
const MAX_PASSED: usize = 16;
