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

    /// As [`Self::poll`], but begins anew whenever `progress` has grown since the last time: a long upload is no slow answer.
    pub(crate) fn poll_stalled(
        &mut self,
        cx: &mut Context<'_>,
        seen: &mut u64,
        progress: impl Fn() -> u64,
    ) -> Poll<()> {
        loop {
            ready!(self.poll(cx));
            let now = progress();
            if now == *seen {
                return Poll::Ready(());
            }
            *seen = now;
            self.restart();
        }
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
