//! A container's terminal, shown in the one that the launcher was started from.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::terminal::keys;

/// A terminal that is shown, until it is closed.
pub(super) struct Foreground {
    before: Termios,
    showing: JoinHandle<()>,
}

impl Foreground {
    /// Shows `master`; the caller's terminal hands on every key from here on.
    pub(super) fn show(master: OwnedFd) -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        #[expect(deprecated, reason = "its successor is unsafe; an owned descriptor cannot change under it")]
        let master = Arc::new(AsyncFd::new(master)?);
        fit(&master)?;
        let mut resized = signal(SignalKind::window_change())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        tokio::spawn(type_in(keys(), Arc::clone(&master)));
        let screen = Arc::clone(&master);
        tokio::spawn(async move {
            while resized.recv().await.is_some() {
                let _gone = fit(&screen);
            }
        });
        Ok(Self { before, showing: tokio::spawn(show(master)) })
    }

    /// Shows what is left, once the agent has ended, and gives the terminal back as it was.
    pub(super) async fn close(self) {
        // It ends by itself with the last process that has the terminal open.
        let _ended = timeout(LAST_LOOK, self.showing).await;
        let _gone = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Gives the terminal the size of the caller's.
fn fit(master: &AsyncFd<OwnedFd>) -> io::Result<()> {
    let size = tcgetwinsize(io::stdout())?;
    Ok(tcsetwinsize(master.get_ref().as_fd(), size)?)
}

async fn show(master: Arc<AsyncFd<OwnedFd>>) {
    let mut piece = vec![0; PIECE];
    loop {
        let Ok(mut ready) = master.readable().await else { return };
        match ready.try_io(|master| Ok(rustix::io::read(master.get_ref(), &mut piece)?)) {
            Ok(Ok(length @ 1..)) => put(piece.get(..length).unwrap_or_default()),
            // No process has it open any more.
            Ok(_) => return,
            Err(_not_yet) => {}
        }
    }
}

/// Writes to the caller's terminal; one that is gone is nobody to show anything.
fn put(mut text: &[u8]) {
    while let Ok(written @ 1..) = rustix::io::write(io::stdout(), text) {
        text = text.get(written..).unwrap_or_default();
    }
}

async fn type_in(mut keys: mpsc::Receiver<Vec<u8>>, master: Arc<AsyncFd<OwnedFd>>) {
    while let Some(text) = keys.recv().await {
        let mut left = text.as_slice();
        while !left.is_empty() {
            let Ok(mut ready) = master.writable().await else { return };
            match ready.try_io(|master| Ok(rustix::io::write(master.get_ref(), left)?)) {
                Ok(Ok(written)) => left = left.get(written..).unwrap_or_default(),
                Ok(Err(_)) => return,
                Err(_not_yet) => {}
            }
        }
    }
}

const PIECE: usize = 16 * 1024;
/// For programs that show what came last.
const LAST_LOOK: Duration = Duration::from_secs(1);
