//! Sessions in a sandbox: who they are, what they see, and how their processes are started.

use std::io::{self, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use clauderon_api::{LaunchPlan, LaunchRequest, SessionEnv};
use clauderon_core::config::Settings;
use clauderon_core::digest;
use clauderon_core::session::SessionId;
use clauderon_sandbox::Report;
use clauderon_sandbox::identity;
use clauderon_sandbox::plan::{Plan, RELAY_PORT};
use rustix::event::{PollFd, PollFlags, Timespec};
use tokio::process::Child;

use super::repository::Repository;
use super::{SessionError, Supervisor, backend, random};
use crate::environment;
use crate::home::{private_dir, write_private};
use crate::store::StoredSession;

pub(super) mod scene;

use scene::{Scene, Shown};

impl Supervisor {
    /// Prepares the launch of a command of the caller's in the session's sandbox.
    pub fn plan_launch(&self, name: &str, wanted: &LaunchRequest) -> Result<LaunchPlan, SessionError> {
        let kept = self.0.state().entry(name)?.kept.clone();
        if !backend::isolates(&kept.backend) {
            let error =
                SessionError::bad_request(format!("session `{}` has the backend `{}`", kept.name, kept.backend));
            return Err(error.with_hint("its commands run without a sandbox"));
        }
        let shown = match &wanted.directory {
            // A session with a copy of a repository works there, wherever its caller stands.
            _ if kept.repo.is_some() => self.copy_of(&kept)?,
            Some(directory) => scene::shown(Path::new(directory), wanted.writable, &self.0.home)?,
            None => Shown::Nothing,
        };
        let hidden = match &shown {
            Shown::Hidden(why) => Some(why.clone()),
            _ => None,
        };
        let plan = self.write_plan(&kept, &shown, &wanted.inherited, None)?;
        Ok(LaunchPlan { plan: plan.display().to_string(), hidden })
    }

    /// Starts the session's process in its sandbox or container; answers once that is armed.
    pub(super) fn launch_isolated(&self, kept: &StoredSession) -> Result<Child, SessionError> {
        let text = |text: &std::ffi::OsStr| text.to_str().map(str::to_owned);
        let inherited: Vec<_> =
            self.0.env.filter(|_| true).filter_map(|(name, value)| Some((text(name)?, text(value)?))).collect();
        let shown = if kept.repo.is_some() { self.copy_of(kept)? } else { Shown::Nothing };
        let plan = self.write_plan(kept, &shown, &inherited, Some(self.0.output(&kept.id)))?;
        // The program that runs now, whatever lies at its path by the time.
        let mut command = std::process::Command::new("/proc/self/exe");
        let (stage, what, limit) = match backend::engine(&kept.backend) {
            Some(_) => ("container-launch", "container", CONTAINER_LIMIT),
            None => ("sandbox-init", "sandbox", ARM_LIMIT),
        };
        command.arg0("clauderon").args([stage, "--report", "--plan"]).arg(&plan).arg("--").args(&kept.command);
        command.env_clear().current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        command.process_group(0);
        let failed = |why: &dyn std::fmt::Display| SessionError::Backend {
            what: format!("the {what} cannot be started: {why}"),
            hint: Some(NOT_ARMED.to_owned()),
        };
        let mut child = tokio::process::Command::from(command).spawn().map_err(|error| failed(&error))?;
        let out = child.stdout.take().ok_or_else(|| failed(&"it has no output"))?;
        let out = out.into_owned_fd().map_err(|error| failed(&error))?;
        match read_report(out.into(), limit).map_err(|error| failed(&error))? {
            Ok(()) => Ok(child),
            Err(error) => {
                let is_armed = error.is_of_command();
                let hint = error.hint.into_iter().chain((!is_armed).then(|| NOT_ARMED.to_owned()));
                Err(SessionError::Backend {
                    what: error.what,
                    hint: hint.reduce(|first, more| format!("{first}; {more}")),
                })
            }
        }
    }

    /// Makes what a session has besides its identity: of its repository a copy, so that nothing the agent writes lies where
    /// the user's git would act on it.
    pub(super) fn furnish(&self, kept: &StoredSession, allow_dirty: bool) -> Result<(), SessionError> {
        let Some(repo) = kept.repo.as_deref().filter(|_| backend::isolates(&kept.backend)) else { return Ok(()) };
        let copy = self.0.home.worktree(&kept.name);
        let base = Repository::open(Path::new(repo))?.copy_to(&copy, kept.name.as_str(), allow_dirty)?;
        let path = self.base_file(kept);
        let failed = |source| SessionError::File { path: path.clone(), source };
        write_private(&path, base.as_bytes(), 0o600).map_err(failed)?;
        give_files(&copy, &kept.id).map_err(|source| SessionError::File { path: copy.clone(), source })
    }

    /// The commit that the session's copy began at.
    pub(super) fn base(&self, kept: &StoredSession) -> Option<String> {
        kept.repo.as_ref().and_then(|_| std::fs::read_to_string(self.base_file(kept)).ok())
    }

    fn base_file(&self, kept: &StoredSession) -> PathBuf {
        self.0.home.session_dir(&kept.id).join("base")
    }

    fn copy_of(&self, kept: &StoredSession) -> Result<Shown, SessionError> {
        let repo = kept.repo.as_deref().unwrap_or_default();
        let objects = Repository::open(Path::new(repo))?.object_stores();
        let path = self.0.home.worktree(&kept.name);
        let real = path.canonicalize().map_err(|source| SessionError::File { path, source })?;
        Ok(Shown::Copy { path: real, objects })
    }

    fn write_plan(
        &self,
        kept: &StoredSession,
        shown: &Shown,
        inherited: &[(String, String)],
        output: Option<PathBuf>,
    ) -> Result<PathBuf, SessionError> {
        if backend::engine(&kept.backend).is_some() {
            return self.write_container_plan(kept, shown, inherited, output);
        }
        let plan = self.sandbox_plan(kept, shown, inherited, output)?;
        let name = format!("launch-{}.json", digest::hex(&random::<8>()?));
        let path = self.0.home.session_dir(&kept.id).join(name);
        let text = serde_json::to_vec(&plan).expect("a plan is JSON");
        write_private(&path, &text, 0o600).map_err(|source| SessionError::File { path: path.clone(), source })?;
        Ok(path)
    }

    fn sandbox_plan(
        &self,
        kept: &StoredSession,
        shown: &Shown,
        inherited: &[(String, String)],
        output: Option<PathBuf>,
    ) -> Result<Plan, SessionError> {
        let home = self.0.home.session_home(&kept.id);
        let failed = |source| SessionError::File { path: home.clone(), source };
        private_dir(&home).map_err(failed)?;
        let (uid, gid) = identity(&kept.id);
        // Only the directory: what is in it belongs to the session already.
        std::os::unix::fs::lchown(&home, Some(uid), Some(gid)).map_err(failed)?;
        let (environment, settings) = self.isolated_environment(kept)?;
        let plain = inherited.iter().filter(|(name, _)| environment::is_plain(name)).cloned();
        let mut environment = environment.over(plain);
        if output.is_some() {
            // Its terminal is our own, whatever the daemon was started from.
            environment.retain(|(name, _)| name != "TERM");
            environment.push(("TERM".to_owned(), "xterm-256color".to_owned()));
        }
        let (home, limits) = (&self.0.home, &settings.limits);
        let scene = Scene { home, id: &kept.id, uid, gid, shown, forwards: &kept.forwards, limits };
        Ok(scene.plan(environment, output))
    }

    /// The environment of a process whose way out is the relay, and the settings that it follows.
    pub(super) fn isolated_environment(
        &self,
        kept: &StoredSession,
    ) -> Result<(SessionEnv, Arc<Settings>), SessionError> {
        let (session, settings) = {
            let state = self.0.state();
            let entry = state.entry(kept.name.as_str())?;
            (Arc::clone(&entry.session), Arc::clone(&state.configuration.settings))
        };
        let url = format!("http://127.0.0.1:{RELAY_PORT}");
        let environment = self.prepare_environment(kept, &session, &settings, &url)?;
        Ok((environment, settings))
    }
}

/// Who the processes of a session are. Root's own would own the machine's files, so for root it is nobody it knows.
pub(super) fn identity(id: &SessionId) -> (u32, u32) {
    let own = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let taken = accounts();
    identity::of_session(own.0, own.1, seed(id), |uid| taken.contains(&uid))
}

/// Gives generated files to the session's user, who has to read them; only root has to.
pub(super) fn give_files(path: &Path, id: &SessionId) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let (uid, gid) = identity(id);
    give_all(path, uid, gid)
}

/// Gives just these to the session's user. Nothing below them is looked at: that is the agent's, which may move it meanwhile.
pub(super) fn give(paths: &[PathBuf], id: &SessionId) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let (uid, gid) = identity(id);
    paths.iter().try_for_each(|path| std::os::unix::fs::lchown(path, Some(uid), Some(gid)))
}

fn give_all(path: &Path, uid: u32, gid: u32) -> io::Result<()> {
    std::os::unix::fs::lchown(path, Some(uid), Some(gid))?;
    if std::fs::symlink_metadata(path)?.is_dir() {
        for entry in std::fs::read_dir(path)? {
            give_all(&entry?.path(), uid, gid)?;
        }
    }
    Ok(())
}

/// The number that tells sessions' users apart.
fn seed(id: &SessionId) -> u32 {
    u32::from_str_radix(id.as_str(), 16).unwrap_or_default()
}

/// The users that this machine knows.
fn accounts() -> Vec<u32> {
    let text = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    text.lines().filter_map(|line| line.split(':').nth(2)?.parse().ok()).collect()
}

/// The launcher's word on whether the sandbox stands.
fn read_report(out: std::fs::File, limit: Duration) -> io::Result<Report> {
    let limit = Timespec::try_from(limit).map_err(io::Error::other)?;
    if rustix::event::poll(&mut [PollFd::new(&out, PollFlags::IN)], Some(&limit))? == 0 {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let mut line = String::new();
    // One line in one write; whoever holds the other end writes nothing more.
    io::BufRead::read_line(&mut io::BufReader::new(out.take(MAX_REPORT)), &mut line)?;
    match line.as_str() {
        "" => Err(io::Error::other("it ended without a word")),
        line => serde_json::from_str(line).map_err(io::Error::other),
    }
}

/// Nobody is given less than they asked for; who wants less can say so.
const NOT_ARMED: &str =
    "`clauderon doctor` says what this machine lacks; `--backend local` runs it without any isolation";

/// Arming takes milliseconds; what takes this long hangs in the kernel or on a dead file server.
const ARM_LIMIT: Duration = Duration::from_secs(10);
/// An engine makes file systems and control groups first, and may be busy.
const CONTAINER_LIMIT: Duration = Duration::from_secs(180);
const MAX_REPORT: u64 = 64 * 1024;
