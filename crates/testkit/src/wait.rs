//! Bounded waiting: the only places where the kit sleeps.

use std::future::Future;
use std::time::{Duration, Instant};

/// No test waits longer than this for any one thing.
pub const LIMIT: Duration = Duration::from_secs(30);

/// What `future` gives; panics with `what` after [`LIMIT`].
pub async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(LIMIT, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited {LIMIT:?} for {what}"),
    }
}

/// Polls `probe` until it gives a value; panics with `what` after [`LIMIT`].
pub async fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(began.elapsed() < LIMIT, "waited {LIMIT:?} for {what}");
        tokio::time::sleep(STEP).await;
    }
}

const STEP: Duration = Duration::from_millis(10);
