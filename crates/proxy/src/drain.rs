//! Graceful stop: what is under way finishes, nothing new begins.

use std::time::Duration;

use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};
use tokio_util::task::TaskTracker;

/// Tells everyone to stop, and waits for them.
#[derive(Debug)]
pub struct Signal(Drain);

/// What a task watches to learn that it should stop; cheap to clone.
#[derive(Debug, Clone)]
pub struct Drain {
    stopping: CancellationToken,
    tasks: TaskTracker,
}

/// A signal and what it drains.
pub fn channel() -> (Signal, Drain) {
    let drain = Drain { stopping: CancellationToken::new(), tasks: TaskTracker::new() };
    (Signal(drain.clone()), drain)
}

impl Signal {
    /// Stops everyone, waiting at most `limit`; returns whether all had finished. Can be waited for again.
    pub async fn drain(&self, limit: Duration) -> bool {
        self.0.stopping.cancel();
        self.0.tasks.close();
        tokio::time::timeout(limit, self.0.tasks.wait()).await.is_ok()
    }
}

impl Drain {
    /// Whether the stop has begun.
    pub fn is_draining(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// Ends when the stop begins.
    pub fn begun(&self) -> WaitForCancellationFuture<'_> {
        self.stopping.cancelled()
    }

    /// Runs `task` so that [`Signal::drain`] waits for it.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(self.tasks.spawn(task));
    }
}
