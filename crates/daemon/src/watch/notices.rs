//! The kernel's notices about directories.
//!
//! Linux' inotify is used directly because it lets us ask for finished changes only. A watcher that also hears of
//! every write would be woken by each line of the audit log, which lies in a directory that must be watched.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use tokio::io::unix::AsyncFd;

/// Directories under watch.
pub(super) struct Notices {
    kernel: Option<AsyncFd<OwnedFd>>,
    watched: HashMap<i32, PathBuf>,
}

impl Notices {
    /// Watches `directories` from now on.
    pub(super) fn new<'a>(directories: impl Iterator<Item = &'a Path>) -> Self {
        let kernel = open().map_err(|error| {
            tracing::warn!(%error, "changed files are noticed late: the system gives no notices");
        });
        let mut notices = Self { kernel: kernel.ok(), watched: HashMap::new() };
        notices.watch(directories);
        notices
    }

    /// Watches these directories instead; in place of one that does not exist, the nearest above it that does.
    pub(super) fn watch<'a>(&mut self, directories: impl Iterator<Item = &'a Path>) {
        let Some(kernel) = &self.kernel else { return };
        let mut watched = HashMap::new();
        for directory in directories {
            for existing in directory.ancestors() {
                // Adding the same directory again gives the same number.
                if let Ok(number) = inotify::add_watch(kernel.get_ref(), existing, FINISHED) {
                    watched.insert(number, existing.to_owned());
                    break;
                }
            }
        }
        for number in self.watched.keys().filter(|number| !watched.contains_key(number)) {
            // A directory that is gone has lost its watch already.
            let _ = inotify::remove_watch(kernel.get_ref(), *number);
        }
        self.watched = watched;
    }

    /// Waits until something has changed, and says what.
    pub(super) async fn next(&mut self) -> Vec<PathBuf> {
        loop {
            let Some(kernel) = &self.kernel else {
                tokio::time::sleep(BLIND_INTERVAL).await;
                return vec![PathBuf::from("/")];
            };
            match kernel.readable().await {
                Ok(mut ready) => ready.clear_ready(),
                Err(_) => self.kernel = None,
            }
            let paths = self.pending();
            if !paths.is_empty() {
                return paths;
            }
        }
    }

    /// What has changed since it was last asked.
    pub(super) fn pending(&mut self) -> Vec<PathBuf> {
        let Some(kernel) = &self.kernel else { return Vec::new() };
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(kernel.get_ref(), &mut buffer);
        let mut paths = Vec::new();
        while let Ok(event) = reader.next() {
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                // What was lost may have been anything.
                paths.push(PathBuf::from("/"));
            }
            if let Some(directory) = self.watched.get(&event.wd()) {
                paths.push(
                    event
                        .file_name()
                        .map_or_else(|| directory.clone(), |name| directory.join(OsStr::from_bytes(name.to_bytes()))),
                );
            }
        }
        paths
    }
}

#[expect(deprecated, reason = "its successor is unsafe for types that may lie about their descriptor; OwnedFd cannot")]
fn open() -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?)
}

/// Finished changes: closed after writing, moved, deleted, linked, other mode. Not: written to.
const FINISHED: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// Without notices everything is read again this often.
const BLIND_INTERVAL: Duration = Duration::from_secs(5);
