//! The terminal of an agent that nobody started from one: owned by the launcher, outside, so that people can come and go.
//!
//! Everything it shows goes to a log and to all who are attached; all of them can type. An attached program sends frames: a
//! byte for the kind (0 typed text, 1 window size), two for the length, and that many more. It is sent the terminal's output
//! as it is, what came last first.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixListener as StdListener;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::{Mode, OFlags, openat};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::OwnedReadHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};
use tokio::time::sleep;

use crate::error::{SandboxError, Step as _};

/// Where a terminal's output goes; opened by the one who may write there.
pub(crate) struct Outlet {
    log: File,
    listener: StdListener,
}

impl Outlet {
    /// The log, and beside it the socket to attach to.
    pub(crate) fn open(log: &Path) -> Result<Self, SandboxError> {
        let open = || {
            let file = File::options().append(true).create(true).mode(0o600).open(log)?;
            let dir = File::open(log.parent().ok_or(io::ErrorKind::NotFound)?)?;
            // A socket's path holds 107 bytes; this one is short wherever the directory is.
            let socket = format!("/proc/self/fd/{}/{ATTACH_SOCKET}", dir.as_raw_fd());
            let _of_an_earlier_process = std::fs::remove_file(&socket);
            let listener = StdListener::bind(&socket)?;
            listener.set_nonblocking(true)?;
            Ok::<_, io::Error>(Self { log: file, listener })
        };
        open().step(format_args!("writing {}", log.display()))
    }

    /// A terminal of the sandbox whose root is `root`, and its other end, for the agent.
    pub(crate) fn terminal(self, root: BorrowedFd<'_>) -> Result<(Terminal, OwnedFd), SandboxError> {
        let open = || {
            let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK;
            let master = openat(root, "dev/pts/ptmx", flags, Mode::empty())?;
            unlockpt(&master)?;
            let agent = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
            tcsetwinsize(&master, FIRST_SIZE)?;
            Ok::<_, rustix::io::Errno>((master, agent))
        };
        let (master, agent) = open().step("making a terminal")?;
        Ok((self.with(master), agent))
    }

    /// The terminal whose outer end this is; reading it must not block.
    pub(crate) fn with(self, master: OwnedFd) -> Terminal {
        Terminal { master, outlet: self }
    }
}

/// A terminal that is not served yet.
pub(crate) struct Terminal {
    master: OwnedFd,
    outlet: Outlet,
}

/// A terminal that is served, until it is closed.
pub(crate) struct Served(Arc<Screen>);

struct Screen {
    master: AsyncFd<OwnedFd>,
    shown: Mutex<Shown>,
    pieces: broadcast::Sender<Arc<[u8]>>,
}

struct Shown {
    log: File,
    /// Bytes that the log may still grow by.
    room: usize,
    /// Whether the last byte was half of a line end.
    holds_return: bool,
    recent: VecDeque<u8>,
}

impl Terminal {
    /// Serves it beside whatever else this runtime does.
    pub(crate) fn serve(self) -> io::Result<Served> {
        let written = usize::try_from(self.outlet.log.metadata()?.len()).unwrap_or(usize::MAX);
        let room = MAX_LOG.saturating_sub(written);
        let shown = Shown { log: self.outlet.log, room, holds_return: false, recent: VecDeque::new() };
        #[expect(deprecated, reason = "its successor is unsafe; an owned descriptor cannot change under it")]
        let master = AsyncFd::new(self.master)?;
        let screen = Arc::new(Screen { master, shown: Mutex::new(shown), pieces: broadcast::channel(MAX_BEHIND).0 });
        let listener = UnixListener::from_std(self.outlet.listener)?;
        tokio::spawn(show(Arc::clone(&screen)));
        tokio::spawn(accept(listener, Arc::clone(&screen)));
        Ok(Served(screen))
    }
}

impl Served {
    /// Takes in what the terminal still holds, once nobody inside can write any more, and lets those who are attached see it.
    pub(crate) async fn close(self) {
        let mut piece = [0; PIECE];
        while let Ok(length @ 1..) = rustix::io::read(self.0.master.get_ref(), &mut piece) {
            self.0.take_in(piece.get(..length).unwrap_or_default());
        }
        let _nobody = self.0.pieces.send(END.as_slice().into());
        for _ in 0..LAST_LOOKS {
            if self.0.pieces.receiver_count() == 0 {
                return;
            }
            sleep(LAST_LOOK).await;
        }
    }
}

impl Screen {
    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_in(&self, piece: &[u8]) {
        let mut shown = self.shown();
        shown.keep(piece);
        // Under the lock, so that who attaches now gets each byte once. Nobody there is nobody to tell.
        let _nobody = self.pieces.send(piece.into());
    }

    async fn type_in(&self, mut text: &[u8]) -> io::Result<()> {
        while !text.is_empty() {
            let mut ready = self.master.writable().await?;
            let written = ready.try_io(|master| Ok(rustix::io::write(master.get_ref(), text)?));
            if let Ok(written) = written {
                text = text.get(written?..).unwrap_or_default();
            }
        }
        Ok(())
    }
}

impl Shown {
    fn keep(&mut self, piece: &[u8]) {
        // A terminal ends lines with two bytes, a log with one.
        let mut text = Vec::with_capacity(piece.len() + 1);
        for byte in piece {
            if std::mem::take(&mut self.holds_return) && *byte != b'\n' {
                text.push(b'\r');
            }
            match byte {
                b'\r' => self.holds_return = true,
                byte => text.push(*byte),
            }
        }
        self.write(&text);
        self.recent.extend(piece);
        let surplus = self.recent.len().saturating_sub(RECENT);
        self.recent.drain(..surplus);
    }
}

impl Shown {
    /// Adds to the log, until there is too much of it. A full disk must not stop the agent's terminal.
    fn write(&mut self, text: &[u8]) {
        let fits = text.get(..self.room).unwrap_or(text);
        let _lost = self.log.write_all(fits);
        self.room -= fits.len();
        if fits.len() < text.len() {
            self.room = 0;
        }
        if self.room == 0 && !fits.is_empty() {
            let _lost = self.log.write_all(LOG_END);
        }
    }
}

/// Reads until nobody inside holds the terminal any more.
async fn show(screen: Arc<Screen>) {
    let mut piece = [0; PIECE];
    loop {
        let Ok(mut ready) = screen.master.readable().await else { return };
        match ready.try_io(|master| Ok(rustix::io::read(master.get_ref(), &mut piece)?)) {
            Ok(Ok(0) | Err(_)) => return,
            Ok(Ok(length)) => screen.take_in(piece.get(..length).unwrap_or_default()),
            Err(_not_yet) => {}
        }
    }
}

async fn accept(listener: UnixListener, screen: Arc<Screen>) {
    while let Ok((stream, _)) = listener.accept().await {
        if screen.pieces.receiver_count() < MAX_ATTACHED {
            tokio::spawn(attach(stream, Arc::clone(&screen)));
        }
    }
}

async fn attach(stream: UnixStream, screen: Arc<Screen>) {
    let (recent, mut pieces) = {
        let shown = screen.shown();
        (shown.recent.iter().copied().collect::<Vec<u8>>(), screen.pieces.subscribe())
    };
    let (typed, mut seen) = stream.into_split();
    let mut typing = tokio::spawn(take_typed(typed, Arc::clone(&screen)));
    let mut open = seen.write_all(&recent).await.is_ok();
    while open {
        open = tokio::select! {
            _ = &mut typing => return,
            piece = pieces.recv() => match piece {
                Ok(piece) => !piece.is_empty() && seen.write_all(&piece).await.is_ok(),
                // Too slow to be shown everything: attaching again shows where things stand.
                Err(RecvError::Lagged(_) | RecvError::Closed) => false,
            },
        };
    }
    // Who left at once after typing is gone, but what was typed is here.
    drop((seen, pieces));
    let _typed = typing.await;
}

/// Reads frames until there are no more, or one that is none.
async fn take_typed(mut typed: OwnedReadHalf, screen: Arc<Screen>) -> io::Result<()> {
    loop {
        let kind = typed.read_u8().await?;
        let mut text = vec![0; usize::from(typed.read_u16().await?)];
        typed.read_exact(&mut text).await?;
        match (kind, text.as_slice()) {
            (TYPED, text) => screen.type_in(text).await?,
            (SIZE, [a, b, c, d]) => {
                let (columns, rows) = (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
                let size = Winsize { ws_col: columns.max(1), ws_row: rows.max(1), ws_xpixel: 0, ws_ypixel: 0 };
                tcsetwinsize(screen.master.get_ref().as_fd(), size)?;
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// What is typed at this process's terminal. In a thread of its own, which nothing has to wait for: reading a terminal cannot be given up.
pub fn keys() -> mpsc::Receiver<Vec<u8>> {
    let (send, receive) = mpsc::channel(KEYS_AHEAD);
    std::thread::spawn(move || {
        let (mut input, mut piece) = (io::stdin().lock(), [0; 4096]);
        while let Ok(length @ 1..) = input.read(&mut piece) {
            if send.blocking_send(piece.get(..length).unwrap_or_default().to_vec()).is_err() {
                return;
            }
        }
    });
    receive
}

/// An empty piece is the last.
const END: [u8; 0] = [];
/// Up to a second, for programs that show what came last.
const LAST_LOOKS: u32 = 200;
const LAST_LOOK: Duration = Duration::from_millis(5);

/// The socket to attach to, beside the log.
pub const ATTACH_SOCKET: &str = "attach.sock";

/// The kind of a frame with typed text.
pub const TYPED: u8 = 0;
/// The kind of a frame with a window size: columns, then rows, two bytes each.
pub const SIZE: u8 = 1;

/// Before anybody is attached; wide enough for what programs print.
pub(crate) const FIRST_SIZE: Winsize = Winsize { ws_row: 40, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
const PIECE: usize = 16 * 1024;
/// A few full screens.
const RECENT: usize = 64 * 1024;
/// An agent that writes for ever must not fill the disk.
const MAX_LOG: usize = 64 * 1024 * 1024;
const LOG_END: &[u8] = b"\n[clauderon: the log ends here, at 64 MiB]\n";
/// Pieces that an attached program may be behind.
const MAX_BEHIND: usize = 256;
const MAX_ATTACHED: usize = 16;
/// Pieces typed (or pasted) that nobody has taken yet.
const KEYS_AHEAD: usize = 16;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use super::*;

    fn kept(room: usize, pieces: &[&[u8]]) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        let log = file.reopen().unwrap();
        let mut shown = Shown { log, room, holds_return: false, recent: VecDeque::new() };
        pieces.iter().for_each(|piece| shown.keep(piece));
        std::fs::read_to_string(file.path()).unwrap()
    }

    #[test]
    fn a_log_has_a_files_line_ends_however_the_output_is_cut() {
        for pieces in [&[b"a\r\nb\rc\n".as_slice()][..], &[b"a\r", b"\nb\r", b"c\n"]] {
            assert_eq!(kept(99, pieces), "a\nb\rc\n");
        }
    }

    #[test]
    fn a_log_ends_where_it_would_grow_for_ever() {
        let ended = |text: &str| format!("{text}{}", String::from_utf8_lossy(LOG_END));
        assert_eq!(kept(5, &[b"123", b"4567", b"8"]), ended("12345"));
        assert_eq!(kept(5, &[b"12345", b"6"]), ended("12345"));
        assert_eq!(kept(6, &[b"12345"]), "12345");
    }
}
