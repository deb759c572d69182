//! A timer that is restarted on every request without touching the runtime's timer wheel.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// Fires when `limit` has gone by since the last restart.
pub(crate) struct Deadline {
    sleep: Pin<Box<Sleep>>,
    limit: Duration,
    since: Instant,
}

impl Deadline {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { sleep: Box::pin(tokio::time::sleep(limit)), limit, since: Instant::now() }
    }

    /// Begins anew. The sleep itself is moved only when it fires early.
    pub(crate) fn restart(&mut self) {
        self.since = Instant::now();
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            let due = self.since + self.limit;
            if due <= Instant::now() {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(due);
        }
    }
}
