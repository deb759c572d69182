//! Keeps secrets out of core dumps, other processes' reach and panic messages.

use rustix::process::{DumpableBehavior, Resource, Rlimit};

/// No core dump of this process, and no debugger of the same user on it.
pub(crate) fn close_memory() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let limited = rustix::process::setrlimit(Resource::Core, none);
    let closed = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    if let Err(error) = limited.and(closed) {
        tracing::warn!("core dumps cannot be turned off: {error}");
    }
}

/// Panics are logged by place only: the message may quote what was being worked on.
pub(crate) fn quiet_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        tracing::error!("a fault at {place}; the request at hand is lost, the daemon goes on");
    }));
}
