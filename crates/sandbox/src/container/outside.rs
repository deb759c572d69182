//! The launcher's side: the door through which the container's first process comes, and what goes back and forth.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::termios::tcgetwinsize;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixListener;

use super::foreground::Foreground;
use super::{Asked, LAUNCH_SOCKET, Order, Passed, Size, Told, channel};
use crate::error::{SandboxError, Step as _};
use crate::init::KILLED;
use crate::supervise::Signals;
use crate::terminal::{FIRST_SIZE, Outlet, Served};

/// Where the first process will come in.
pub struct Outside {
    listener: UnixListener,
    socket: PathBuf,
}

/// A first process that has come in.
pub struct Admitted(UnixStream);

/// A container whose agent runs.
pub struct Armed {
    launcher: UnixStream,
    shown: Shown,
}

/// Where the agent's input and output are.
pub enum Front<'a> {
    /// A terminal outside the daemon, whose output goes to this file.
    Detached(&'a Path),
    /// A terminal that shows in the caller's own.
    Interactive,
    /// The caller's own descriptors.
    Plain,
}

enum Shown {
    Detached(Served),
    Interactive(Foreground),
    Plain,
}

impl Outside {
    /// Opens the door in a directory that only this container will see. Needs a runtime.
    #[expect(clippy::disallowed_methods, reason = "bind takes no mode; the directory's parent is private")]
    pub fn open(dir: &Path) -> Result<Self, SandboxError> {
        let open = || {
            let handle = std::fs::File::open(dir)?;
            // A socket's path holds 107 bytes; this one is short wherever the directory is.
            let path = format!("/proc/self/fd/{}/{LAUNCH_SOCKET}", handle.as_raw_fd());
            let listener = UnixListener::bind(&path)?;
            // Inside it is another user who connects, where root started this.
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666))?;
            Ok::<_, io::Error>(listener)
        };
        let listener = open().step(format_args!("listening in {}", dir.display()))?;
        Ok(Self { listener, socket: dir.join(LAUNCH_SOCKET) })
    }

    /// Waits for the first process. Nobody else can come in: there is no agent yet, and then no door any more.
    pub async fn admit(self) -> Result<Admitted, SandboxError> {
        let (socket, _) = self.listener.accept().await.step("waiting for the first process inside")?;
        let _gone = std::fs::remove_file(&self.socket);
        let socket = socket.into_std().step("waiting for the first process inside")?;
        socket.set_nonblocking(false).step("waiting for the first process inside")?;
        Ok(Admitted(socket))
    }
}

impl Admitted {
    /// Gives the order; returns once the agent runs. Needs a runtime.
    pub fn arm(self, order: Order, front: &Front<'_>) -> Result<Armed, SandboxError> {
        let outlet = match front {
            Front::Detached(log) => Some(Outlet::open(log)?),
            Front::Interactive | Front::Plain => None,
        };
        let terminal = match front {
            Front::Detached(_) => Some(FIRST_SIZE),
            Front::Interactive => Some(tcgetwinsize(io::stdout()).step("asking for the terminal's size")?),
            Front::Plain => None,
        };
        let terminal = terminal.map(|size| Size { columns: size.ws_col, rows: size.ws_row });
        let (input, output, error) = (io::stdin(), io::stdout(), io::stderr());
        let own = [input.as_fd(), output.as_fd(), error.as_fd()];
        let handed = if terminal.is_some() { &[][..] } else { &own };
        channel::send(&self.0, &Asked { order, terminal }, handed).step("giving the order")?;
        self.0.set_read_timeout(Some(ARM_LIMIT)).step("waiting for the agent")?;
        let (told, mut handed): (Told, Vec<OwnedFd>) = channel::receive(&self.0).step("waiting for the agent")?;
        match told {
            Told::Armed => {}
            Told::Failed(error) => return Err(error),
            Told::Ended(_) => return Err(SandboxError::container("the first process inside", "it has ended")),
        }
        let mut master =
            || handed.pop().ok_or_else(|| SandboxError::container("its terminal", "it did not come along"));
        let shown = match (outlet, front) {
            (Some(outlet), _) => Shown::Detached(outlet.with(master()?).serve().step("serving the terminal")?),
            (None, Front::Plain) => Shown::Plain,
            (None, _) => Shown::Interactive(Foreground::show(master()?).step("showing the terminal")?),
        };
        Ok(Armed { launcher: self.0, shown })
    }
}

impl Armed {
    /// Waits for the agent's end and gives its exit code; what is meant for the agent meanwhile is passed on.
    pub async fn until_end(self) -> Result<u8, SandboxError> {
        self.launcher.set_nonblocking(true).step("waiting for the container")?;
        let socket = tokio::net::UnixStream::from_std(self.launcher).step("waiting for the container")?;
        let (told, mut tell) = socket.into_split();
        let mut told = channel::frames::<Told>(told);
        let mut signals = Signals::listen().step("waiting for the container")?;
        let code = loop {
            tokio::select! {
                told = told.recv() => match told {
                    Some(Told::Ended(code)) => break code,
                    Some(_) => {}
                    // Killed with all in it, by the engine or for want of memory.
                    None => break KILLED,
                },
                signal = signals.next() => if let Some(signal) = signal {
                    let frame = channel::frame(&Passed(signal.as_raw())).step("passing a signal on")?;
                    let _gone = tell.write_all(&frame).await;
                },
            }
        };
        match self.shown {
            Shown::Detached(served) => served.close().await,
            Shown::Interactive(foreground) => foreground.close().await,
            Shown::Plain => {}
        }
        Ok(code)
    }
}

/// The walls are looked at and a program is started: a moment, also on a busy machine.
const ARM_LIMIT: Duration = Duration::from_secs(60);
