//! The endpoints of a cluster: any of them takes any call, and one that is down is asked last.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use clauderon_core::host::Origin;
use tokio::time::Instant;

/// Endpoints in turn.
pub(crate) struct Endpoints {
    all: Vec<Endpoint>,
    turn: AtomicUsize,
}

/// One of them.
pub(crate) struct Endpoint {
    pub(crate) origin: Origin,
    failed: Mutex<Option<Instant>>,
}

impl Endpoints {
    pub(crate) fn new(origins: Vec<Origin>) -> Self {
        let endpoint = |origin| Endpoint { origin, failed: Mutex::default() };
        Self { all: origins.into_iter().map(endpoint).collect(), turn: AtomicUsize::new(0) }
    }

    /// Each once, beginning with the next in turn, those that failed of late at the end.
    pub(crate) fn in_turn(&self, now: Instant) -> Vec<&Endpoint> {
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut endpoints: Vec<&Endpoint> = self.all.iter().collect();
        endpoints.rotate_left(first.checked_rem(self.all.len()).unwrap_or(0));
        endpoints.sort_by_key(|endpoint| endpoint.failed_of_late(now));
        endpoints
    }
}

impl Endpoint {
    /// Notes whether it could be reached.
    pub(crate) fn note(&self, reached: bool, now: Instant) {
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = (!reached).then_some(now);
    }

    fn failed_of_late(&self, now: Instant) -> bool {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.is_some_and(|at| now.saturating_duration_since(at) < REST)
    }
}

/// So long an endpoint that could not be reached is asked last.
const REST: Duration = Duration::from_secs(15);

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing unwrap or index is the test's failure")]
mod tests {
    use clauderon_core::host::{Authority, Scheme};

    use super::*;

    #[test]
    fn all_have_their_turn_and_the_failed_come_last() {
        let origin = |name: &str| Authority::parse(name).unwrap().origin(Scheme::Https);
        let endpoints = Endpoints::new(["a:1", "b:1", "c:1"].map(origin).to_vec());
        let start = Instant::now();
        let order = |now| -> String { endpoints.in_turn(now).iter().map(|e| e.origin.host.to_string()).collect() };
        assert_eq!([order(start), order(start)], ["abc", "bca"]);
        endpoints.all[2].note(false, start);
        assert_eq!(order(start), "abc");
        assert_eq!([order(start + REST), order(start + REST)], ["abc", "bca"]);
    }
}
