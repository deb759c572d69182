//! The first process inside: brings up the network, carries its traffic to the session's socket, and reaps.
//!
//! The agent cannot end it: the kernel lets nobody inside kill the first process of a pid namespace.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::{DumpableBehavior, Pid, Signal, WaitOptions, WaitStatus};
use tokio::net::unix::pipe;

use crate::error::{SandboxError, Step as _};
use crate::launch::{Handed, next_stage, read_handed, tell};
use crate::plan::Plan;
use crate::supervise::{Signals, is_typed};
use crate::{network, relay, syscalls, view};

/// Runs the stage to its end and gives the exit code of the agent.
pub fn init(handed: &Handed<'_>) -> u8 {
    let Ok(status) = syscalls::inherited(handed.status) else { return NOT_A_STAGE };
    match prepare(handed) {
        Ok(inside) => inside.run(status, handed.command),
        Err(error) => {
            tell(status, &error);
            error.code
        }
    }
}

/// A sandbox whose walls stand.
struct Inside {
    plan: Plan,
    plan_fd: OwnedFd,
    lifeline: OwnedFd,
}

fn prepare(handed: &Handed<'_>) -> Result<Inside, SandboxError> {
    let plan = syscalls::inherited(handed.plan).step("taking over the plan")?;
    let lifeline = handed.lifeline.ok_or_else(|| SandboxError::arming("taking over", "no lifeline"))?;
    let lifeline = syscalls::inherited(lifeline).step("taking over the lifeline")?;
    syscalls::close_on_exec().step("closing descriptors")?;
    let (plan, plan_fd): (Plan, _) = read_handed(plan)?;
    view::enter()?;
    network::bring_up_loopback()?;
    // The agent is the same user outside: without this it could read this process, were it ever to share its namespace.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).step("closing its memory")?;
    let way = rustix::fs::openat(CWD, &plan.way, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    // Held as the working directory, the socket's path is short and nothing the agent moves can come between.
    way.and_then(|way| rustix::process::fchdir(&way)).step("finding the session's socket")?;
    Ok(Inside { plan, plan_fd, lifeline })
}

impl Inside {
    fn run(self, status: OwnedFd, command: &[OsString]) -> u8 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = match runtime.step("starting the relay") {
            Ok(runtime) => runtime,
            Err(error) => return failed(status, &error),
        };
        runtime.block_on(async {
            match self.begin(&status, command).await {
                Ok(agent) => {
                    // The agent holds the last one until it has become its command.
                    drop(status);
                    agent.until_end().await
                }
                Err(error) => failed(status, &error),
            }
        })
    }

    async fn begin(self, status: &OwnedFd, command: &[OsString]) -> Result<Agent, SandboxError> {
        // Before there is a child: the news of its end must not be missed.
        let signals = Signals::listen().step("listening for signals")?;
        relay::start(&self.plan.forwards).await?;
        let mut next = next_stage("agent", &self.plan_fd, status, None, command)?;
        let is_detached = self.plan.output.is_some();
        let child = next.spawn().step("starting the agent")?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| SandboxError::arming("starting the agent", "it has no process number"))?;
        let lifeline = pipe::Receiver::from_owned_fd(self.lifeline).step("watching the launcher")?;
        Ok(Agent { pid, is_detached, signals, lifeline })
    }
}

/// The agent, from outside its own namespace.
struct Agent {
    pid: Pid,
    is_detached: bool,
    signals: Signals,
    lifeline: pipe::Receiver,
}

impl Agent {
    /// Waits for its end, that of the launcher, or that of the session. This process ends next, and with it the kernel
    /// ends all that is left inside.
    async fn until_end(mut self) -> u8 {
        let mut tick = tokio::time::interval(SESSION_CHECK);
        loop {
            tokio::select! {
                _ = self.lifeline.readable() => return KILLED,
                _ = tick.tick() => if is_deleted() { return KILLED },
                signal = self.signals.next() => match signal {
                    Some(signal) => self.pass_on(signal),
                    None => if let Some(code) = reap(self.pid) { return code },
                },
            }
        }
    }

    fn pass_on(&self, signal: Signal) {
        let _gone = match self.is_detached {
            // It leads a group, unless it has only just begun.
            true => rustix::process::kill_process_group(self.pid, signal)
                .or_else(|_| rustix::process::kill_process(self.pid, signal)),
            false if is_typed(signal) => Ok(()),
            false => rustix::process::kill_process(self.pid, signal),
        };
    }
}

/// Takes every ended process off the table; gives the exit code once the agent is among them.
pub(crate) fn reap(agent: Pid) -> Option<u8> {
    let mut code = None;
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        if pid == agent {
            code = Some(exit_code(status));
        }
    }
    code
}

/// Whether the directory of the session's socket was removed, which happens when the session is deleted.
pub(crate) fn is_deleted() -> bool {
    rustix::fs::stat(".").is_ok_and(|stat| stat.st_nlink == 0)
}

fn failed(status: OwnedFd, error: &SandboxError) -> u8 {
    tell(status, error);
    error.code
}

/// As shells report it.
fn exit_code(status: WaitStatus) -> u8 {
    let code = status.exit_status().or_else(|| status.terminating_signal().map(|n| 128 + n)).unwrap_or(255);
    u8::try_from(code).unwrap_or(u8::MAX)
}

/// How long a process may outlive its session's deletion; it has no way out meanwhile.
pub(crate) const SESSION_CHECK: Duration = Duration::from_secs(1);

/// The exit code of what was made to end.
pub(crate) const KILLED: u8 = 137;
const NOT_A_STAGE: u8 = 4;
