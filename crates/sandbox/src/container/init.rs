//! The first process of a container: looks at the walls, carries the agent's traffic to the session's socket, and reaps.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::{CWD, MemfdFlags, Mode, OFlags};
use rustix::io::FdFlags;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{DumpableBehavior, Pid, Signal};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::AsyncWriteExt as _;

use super::{Asked, LAUNCH_DIR, LAUNCH_SOCKET, Order, Passed, Size, Told, channel, walls};
use crate::error::{SandboxError, Step as _};
use crate::init::{KILLED, SESSION_CHECK, is_deleted, reap};
use crate::supervise::Signals;
use crate::{relay, syscalls};

/// Runs the container's first process to its end; gives the exit code of the agent.
pub fn init() -> Result<u8, SandboxError> {
    let stage = own_command()?;
    // The agent is the same user: it must not read this process.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).step("closing its memory")?;
    syscalls::close_on_exec().step("closing descriptors")?;
    let launcher = UnixStream::connect(Path::new(LAUNCH_DIR).join(LAUNCH_SOCKET)).step("reaching the launcher")?;
    let (asked, handed): (Asked, _) = channel::receive(&launcher).step("taking the order")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().step("starting the relay")?;
    runtime.block_on(async {
        match begin(&stage, asked, handed, &launcher).await {
            Ok(agent) => agent.until_end(launcher).await,
            Err(error) => {
                let code = error.code;
                channel::send(&launcher, &Told::Failed(error), &[]).step("telling the launcher")?;
                Ok(code)
            }
        }
    })
}

/// The command line of this process up to its name for this stage; the loader in front of a program is a part of it.
fn own_command() -> Result<Vec<OsString>, SandboxError> {
    use std::os::unix::ffi::OsStringExt as _;
    let line = std::fs::read("/proc/self/cmdline").step("looking at its command line")?;
    let words = line.split(|byte| *byte == 0).map(|word| OsString::from_vec(word.to_vec()));
    let mut words: Vec<OsString> = words.collect();
    let name = words.iter().position(|word| word == STAGE_NAME);
    words.truncate(name.map_or(0, |at| at + 1));
    if words.is_empty() { Err(SandboxError::container("its command line", "it is not known")) } else { Ok(words) }
}

async fn begin(
    stage: &[OsString],
    asked: Asked,
    handed: Vec<OwnedFd>,
    launcher: &UnixStream,
) -> Result<Agent, SandboxError> {
    let Asked { order, terminal } = asked;
    walls::check(&order.walls)?;
    let way = rustix::fs::openat(CWD, &order.way, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    way.and_then(|way| rustix::process::fchdir(&way)).step("finding the session's socket")?;
    // Before there is a child: the news of its end must not be missed.
    let signals = Signals::listen().step("listening for signals")?;
    relay::start(&order.forwards).await?;
    let (stdio, master) = match terminal {
        Some(size) => own_terminal(size)?,
        None => (callers(handed)?, None),
    };
    let child = start(stage, &order, stdio, terminal.is_some())?;
    let master = master.as_ref().map(|master| master.as_fd());
    channel::send(launcher, &Told::Armed, master.as_slice()).step("telling the launcher")?;
    Ok(Agent { pid: child, signals })
}

/// Both ends of a new terminal of the container: three times the agent's, and the one that goes out.
fn own_terminal(size: Size) -> Result<([OwnedFd; 3], Option<OwnedFd>), SandboxError> {
    let open = || {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags)?;
        // Of the description, which the launcher will share.
        rustix::io::ioctl_fionbio(&master, true)?;
        unlockpt(&master)?;
        tcsetwinsize(&master, Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 })?;
        let agent = ioctl_tiocgptpeer(&master, flags)?;
        Ok::<_, rustix::io::Errno>(([agent.try_clone(), agent.try_clone(), Ok(agent)], master))
    };
    let ([a, b, c], master) = open().step("making a terminal")?;
    let shared = |end: std::io::Result<OwnedFd>| end.step("sharing the terminal");
    Ok(([shared(a)?, shared(b)?, shared(c)?], Some(master)))
}

fn callers(handed: Vec<OwnedFd>) -> Result<[OwnedFd; 3], SandboxError> {
    handed.try_into().map_err(|_| SandboxError::container("its input and outputs", "they did not come along"))
}

/// Starts the agent's stage; returns once it has become its command.
fn start(stage: &[OsString], order: &Order, stdio: [OwnedFd; 3], has_terminal: bool) -> Result<Pid, SandboxError> {
    let memory = rustix::fs::memfd_create("order", MemfdFlags::CLOEXEC).step("keeping the order")?;
    let mut memory = File::from(memory);
    memory.write_all(&serde_json::to_vec(order).step("keeping the order")?).step("keeping the order")?;
    let (told, tell) = pipe_with(PipeFlags::CLOEXEC).step("making a pipe")?;
    let memory = OwnedFd::from(memory);
    let (program, arguments) = stage.split_first().ok_or_else(|| SandboxError::container("its stage", "none"))?;
    let mut next = Command::new(program);
    next.args(arguments).args(["--stage", "agent"]).args(has_terminal.then_some("--terminal")).env_clear();
    for (name, fd) in [("--plan-fd", &memory), ("--status-fd", &tell)] {
        // This process has one thread, so nothing else is started while the descriptor can be inherited.
        rustix::io::fcntl_setfd(fd, FdFlags::empty()).step("handing on a descriptor")?;
        next.arg(name).arg(fd.as_raw_fd().to_string());
    }
    let [input, output, error] = stdio.map(Stdio::from);
    next.stdin(input).stdout(output).stderr(error);
    // With a terminal it leads a session, and so a group, as soon as it has taken that over.
    if !has_terminal {
        next.process_group(0);
    }
    let child = next.spawn().step("starting the agent")?;
    drop((memory, tell, next));
    let mut failure = String::new();
    File::from(told).take(MAX_STATUS).read_to_string(&mut failure).step("waiting for the agent")?;
    if !failure.is_empty() {
        return Err(serde_json::from_str(&failure).step("reading the agent's report")?);
    }
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    pid.ok_or_else(|| SandboxError::container("the agent", "it has no process number"))
}

struct Agent {
    pid: Pid,
    signals: Signals,
}

impl Agent {
    /// Waits for its end, that of the launcher, or that of the session. This process ends next, and with it the kernel ends
    /// all that is left inside.
    async fn until_end(mut self, launcher: UnixStream) -> Result<u8, SandboxError> {
        launcher.set_nonblocking(true).step("listening to the launcher")?;
        let launcher = tokio::net::UnixStream::from_std(launcher).step("listening to the launcher")?;
        let (told, mut tell) = launcher.into_split();
        let mut passed = channel::frames::<Passed>(told);
        let mut tick = tokio::time::interval(SESSION_CHECK);
        let code = loop {
            tokio::select! {
                signal = passed.recv() => match signal {
                    Some(Passed(number)) => self.pass_on(Signal::from_named_raw(number)),
                    None => return Ok(KILLED),
                },
                _ = tick.tick() => if is_deleted() { break KILLED },
                signal = self.signals.next() => match signal {
                    // Of the engine: somebody stops the container with its own tools.
                    Some(signal) => self.pass_on(Some(signal)),
                    None => if let Some(code) = reap(self.pid) { break code },
                },
            }
        };
        // A launcher that is gone has taken the container with it.
        let _gone = tell.write_all(&channel::frame(&Told::Ended(code)).step("telling the launcher")?).await;
        Ok(code)
    }

    fn pass_on(&self, signal: Option<Signal>) {
        let Some(signal) = signal else { return };
        let _gone = rustix::process::kill_process_group(self.pid, signal)
            .or_else(|_| rustix::process::kill_process(self.pid, signal));
    }
}

/// This program's name for the stages of a container.
const STAGE_NAME: &str = "container-init";
/// More than any error says.
const MAX_STATUS: u64 = 64 * 1024;
