//! Waiting for the sandbox from outside, with the signals that are meant for the agent passed on.

use std::io::IsTerminal as _;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use rustix::process::{Pid, Signal};
use tokio::signal::unix::{self, SignalKind};

use crate::error::{SandboxError, Step as _};
use crate::terminal::Terminal;

/// The first process inside, as its launcher has it.
pub(crate) struct Child {
    pub(crate) process: std::process::Child,
    /// Held open: the sandbox ends when the last holder is gone, killed or not.
    pub(crate) lifeline: OwnedFd,
    /// The agent's terminal, if it is not the launcher's own.
    pub(crate) terminal: Option<Terminal>,
}

impl Child {
    /// Ends what has started, for `error`.
    pub(crate) fn give_up(self, error: SandboxError) -> SandboxError {
        let Self { mut process, lifeline, .. } = self;
        drop(lifeline);
        let _ended = process.wait();
        error
    }

    /// Makes sure that it did not end without a word.
    pub(crate) fn armed(mut self) -> Result<Self, SandboxError> {
        // A command that is done already leaves a code; the stages themselves end with a report.
        match self.process.try_wait().step("asking for the first process inside")? {
            Some(status) if status.signal().is_some() => {
                Err(SandboxError::arming("the first process inside", format_args!("it ended with {status}")))
            }
            _ => Ok(self),
        }
    }
}

/// Waits for the sandbox and gives its exit code.
pub(crate) fn until_end(mut child: Child) -> Result<u8, SandboxError> {
    let pid = i32::try_from(child.process.id()).ok().and_then(Pid::from_raw);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().step("waiting for the sandbox")?;
    runtime.block_on(async {
        let mut signals = Signals::listen().step("waiting for the sandbox")?;
        let is_detached = child.terminal.is_some();
        let served = child.terminal.take().map(Terminal::serve).transpose().step("serving the terminal")?;
        loop {
            if let Some(status) = child.process.try_wait().step("waiting for the sandbox")? {
                if let Some(served) = served {
                    served.close().await;
                }
                return Ok(exit_code(status));
            }
            let Some(signal) = signals.next().await else { continue };
            if let Some(pid) = pid.filter(|_| is_detached || !is_typed(signal)) {
                let _gone = rustix::process::kill_process(pid, signal);
            }
        }
    })
}

/// As shells report it.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|n| 128 + n)).unwrap_or(255);
    u8::try_from(code).unwrap_or(u8::MAX)
}

/// Whether a signal came from the terminal: then everything in its foreground group got it already.
pub(crate) fn is_typed(signal: Signal) -> bool {
    matches!(signal, Signal::INT | Signal::QUIT) && std::io::stdin().is_terminal()
}

/// The signals that are passed on, and the news of a child's end.
pub(crate) struct Signals {
    passed_on: [(unix::Signal, Signal); 6],
    child: unix::Signal,
}

impl Signals {
    pub(crate) fn listen() -> std::io::Result<Self> {
        let on = |kind, signal| Ok::<_, std::io::Error>((unix::signal(kind)?, signal));
        Ok(Self {
            passed_on: [
                on(SignalKind::terminate(), Signal::TERM)?,
                on(SignalKind::interrupt(), Signal::INT)?,
                on(SignalKind::quit(), Signal::QUIT)?,
                on(SignalKind::hangup(), Signal::HUP)?,
                on(SignalKind::user_defined1(), Signal::USR1)?,
                on(SignalKind::user_defined2(), Signal::USR2)?,
            ],
            child: unix::signal(SignalKind::child())?,
        })
    }

    /// A signal to pass on, or `None` when a child has ended.
    pub(crate) async fn next(&mut self) -> Option<Signal> {
        let [a, b, c, d, e, f] = &mut self.passed_on;
        tokio::select! {
            _ = self.child.recv() => None,
            _ = a.0.recv() => Some(a.1),
            _ = b.0.recv() => Some(b.1),
            _ = c.0.recv() => Some(c.1),
            _ = d.0.recv() => Some(d.1),
            _ = e.0.recv() => Some(e.1),
            _ = f.0.recv() => Some(f.1),
        }
    }
}
