//! Processes of sessions: starting one, telling it from a later one with its number, and ending it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::{Pid, PidfdFlags, Signal};
use tokio::io::unix::AsyncFd;
use tokio::process::{Child, Command};

use crate::sources::env::Environment;

/// A process that cannot be taken for another: its number and when it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProcessId {
    /// The process's number, also that of the group it leads.
    pub pid: i32,
    /// Clock ticks from boot to its start.
    pub start: i64,
}

/// What is started for a session.
pub(crate) struct Launch<'a> {
    /// The program and its arguments.
    pub(crate) command: &'a [String],
    /// Where it starts.
    pub(crate) directory: &'a Path,
    /// All of its environment.
    pub(crate) environment: Vec<(String, String)>,
    /// Where its output goes.
    pub(crate) output: &'a Path,
}

impl ProcessId {
    /// The live process with this number.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The program's name stands in parentheses and may hold anything, so count from its end.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let state = fields.next()?;
        let start = fields.nth(START_AFTER_STATE)?.parse().ok()?;
        (!matches!(state, "Z" | "X")).then_some(Self { pid, start })
    }

    /// Whether it still runs.
    pub fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Waits until it has ended, child of ours or not.
    pub async fn ended(self) -> io::Result<()> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(()) };
        let Ok(handle) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { return Ok(()) };
        // The handle is on whoever has the number now; from here on it cannot change hands.
        if self.is_alive() {
            #[expect(deprecated, reason = "its successor is unsafe; an owned descriptor cannot change under it")]
            let handle = AsyncFd::new(handle)?;
            let _ended = handle.readable().await?;
        }
        Ok(())
    }

    /// Signals the whole process group it leads; one that is gone is none to signal.
    pub(crate) fn signal_group(self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.pid) {
            let _gone = rustix::process::kill_process_group(pid, signal);
        }
    }
}

impl Launch<'_> {
    /// Starts it in a process group of its own, without input.
    pub(crate) fn start(self) -> io::Result<Child> {
        let (program, arguments) = self.command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let output = output_file(self.output)?;
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.directory).env_clear().envs(self.environment);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        command.process_group(0).spawn()
    }
}

/// The executable file `program` on the search path of `env`.
pub(crate) fn find_program(env: &Environment, program: &str) -> Option<PathBuf> {
    std::env::split_paths(env.get("PATH")?).map(|dir| dir.join(program)).find(|path| is_executable(path))
}

/// The code a shell would give for an exit.
pub(crate) fn exit_code(status: std::process::ExitStatus) -> Option<i32> {
    use std::os::unix::process::ExitStatusExt;
    status.code().or_else(|| status.signal().map(|signal| 128 + signal))
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

fn output_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// In `/proc/PID/stat` the start time is field 22, the state field 3: eighteen lie between.
const START_AFTER_STATE: usize = 18;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_number_and_start() {
        let own = ProcessId::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(own.is_alive());
        assert!(!ProcessId { start: own.start - 1, ..own }.is_alive(), "an earlier process of this number is gone");
    }

    #[tokio::test]
    async fn the_end_of_a_foreign_process_is_noticed() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let id = ProcessId::of(i32::try_from(child.id()).unwrap()).unwrap();
        let waiting = tokio::spawn(id.ended());
        child.kill().unwrap();
        waiting.await.unwrap().unwrap();
        assert!(!id.is_alive(), "a zombie does not run");
        child.wait().unwrap();
        id.ended().await.unwrap();
    }
}
