//! A command in the foreground: it has the terminal, gets our signals, and its exit code becomes ours.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use clauderon_api::SessionEnv;
use rustix::process::{Pid, Signal};
use tokio::process::{Child, Command};
use tokio::signal::unix::{self, SignalKind};

use crate::error::{CliError, NOT_EXECUTABLE, NOT_FOUND, Result};

/// The command with a session's environment: what we inherited, without what could hold a secret, plus what the session sets.
pub(crate) fn command(words: &[OsString], env: &SessionEnv) -> std::process::Command {
    let (program, arguments) = words.split_first().expect("the command line demands a command");
    let mut command = std::process::Command::new(program);
    command.args(arguments);
    // A name that is no text cannot be compared, so it cannot be trusted either.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_none_or(|name| env.removes(name))) {
        command.env_remove(name);
    }
    command.envs(env.set.iter().map(|(name, value)| (name, value)));
    command
}

/// Runs `command` until it ends; its exit code, or 128 + n when signal n ended it.
pub(crate) async fn foreground(command: std::process::Command) -> Result<u8> {
    let program = command.get_program().to_owned();
    let mut signals = Signals::listen()?;
    let mut child = Command::from(command).spawn().map_err(|e| not_started(&program, e))?;
    loop {
        tokio::select! {
            status = child.wait() => return Ok(exit_code(status?)),
            signal = signals.next() => pass_on(&child, signal),
        }
    }
}

/// Why a command did not start, with the code shells use.
pub(crate) fn not_started(program: &std::ffi::OsStr, error: io::Error) -> CliError {
    let code = if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE };
    CliError::caused(code, error).context(format_args!("cannot run `{}`", program.display()))
}

/// As shells report it.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|n| 128 + n)).unwrap_or(255);
    u8::try_from(code).unwrap_or(u8::MAX)
}

/// The signals that people and supervisors send to a foreground command.
struct Signals {
    interrupt: unix::Signal,
    quit: unix::Signal,
    terminate: unix::Signal,
    hang_up: unix::Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: unix::signal(SignalKind::interrupt())?,
            quit: unix::signal(SignalKind::quit())?,
            terminate: unix::signal(SignalKind::terminate())?,
            hang_up: unix::signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.quit.recv() => Signal::QUIT,
            _ = self.terminate.recv() => Signal::TERM,
            _ = self.hang_up.recv() => Signal::HUP,
        }
    }
}

/// A signal typed at the terminal reached the child already; a second one would end tools that ask "really quit?".
fn pass_on(child: &Child, signal: Signal) {
    let typed = matches!(signal, Signal::INT | Signal::QUIT) && is_foreground();
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let (false, Some(pid)) = (typed, pid) {
        // It may have ended in between; its exit status comes next either way.
        let _ = rustix::process::kill_process(pid, signal);
    }
}

fn is_foreground() -> bool {
    rustix::termios::tcgetpgrp(io::stdin()).is_ok_and(|group| group == rustix::process::getpgrp())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use super::*;

    fn env(set: &[(&str, &str)], unset: &[&str]) -> SessionEnv {
        SessionEnv {
            set: set.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            unset: unset.iter().map(|name| (*name).into()).collect(),
            unset_prefixes: Vec::new(),
            unset_suffixes: Vec::new(),
        }
    }

    fn sh(script: &str, env: &SessionEnv) -> std::process::Command {
        command(&["sh".into(), "-c".into(), script.into()], env)
    }

    #[tokio::test]
    async fn exit_codes_and_signals_pass_through() {
        let plain = env(&[], &[]);
        assert_eq!(foreground(sh("exit 7", &plain)).await.unwrap(), 7);
        assert_eq!(foreground(sh("exit 0", &plain)).await.unwrap(), 0);
        assert_eq!(foreground(sh("kill -TERM $$", &plain)).await.unwrap(), 143);
    }

    #[tokio::test]
    async fn a_missing_command_says_so_as_shells_do() {
        let error = foreground(command(&["no-such-command-here".into()], &env(&[], &[]))).await.unwrap_err();
        assert_eq!(error.code(), NOT_FOUND);
        assert!(error.messages()[0].contains("no-such-command-here"));
        let error = foreground(command(&["/".into()], &env(&[], &[]))).await.unwrap_err();
        assert_eq!(error.code(), NOT_EXECUTABLE);
    }

    #[tokio::test]
    async fn the_environment_is_the_sessions() {
        let env = env(&[("SET_FOR_SESSION", "x")], &["PATH"]);
        // PATH stands for any inherited variable; the shell itself is named by its path.
        let mut words = command(&["/bin/sh".into(), "-c".into(), "test \"$SET_FOR_SESSION\" = x".into()], &env);
        assert!(words.get_envs().any(|(name, value)| name == "PATH" && value.is_none()));
        assert!(words.status().unwrap().success());
    }
}
