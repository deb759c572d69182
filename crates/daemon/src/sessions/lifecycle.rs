//! The processes and sockets of sessions: started, waited for, ended.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clauderon_api::SessionInfo;
use clauderon_core::session::{SessionId, SessionName};
use clauderon_proxy::Door;
use clauderon_proxy::gateway::Gateway;
use clauderon_sandbox::plan::{KUBERNETES_SOCKET, SOCKET, TALOS_SOCKET, forward_socket};
use rustix::process::Signal;
use tokio::net::UnixListener;
use tokio::process::Child;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::contained::SETTLED;
use super::{SessionError, Supervisor, Way, backend, output};
use crate::environment;
use crate::listen;
use crate::process::{Launch, ProcessId, exit_code};
use crate::store::{Status, StoredSession};

impl Supervisor {
    /// Opens every session's socket, and waits for the processes and owners that outlived an earlier daemon.
    pub fn serve(&self, way: Way) {
        self.0.way.store(Some(Arc::new(way)));
        // Of a daemon that was killed, or a machine that went down.
        self.remove_left_containers(Duration::ZERO);
        let kept: Vec<_> = self.0.state().entries.values().map(|entry| entry.kept.clone()).collect();
        for kept in kept {
            self.attend(&kept.name);
            if let Some(process) = kept.process.filter(|_| kept.status == Status::Running) {
                // It is no child of this daemon, so its exit code will never be known.
                self.await_process(&kept.id, async move { process.ended().await.ok().and(None) });
            }
        }
    }

    /// Ends all traffic at once; processes go on.
    pub fn cut(&self) {
        if let Some(way) = self.0.way.load_full() {
            way.proxy.cut();
        }
    }

    /// Closes every session's socket and lets go of the proxy; processes go on.
    pub fn close(&self) {
        self.0.way.store(None);
        self.0.state().entries.values_mut().for_each(|entry| entry.tasks.clear());
    }

    /// Ends the session's process; answers once it is gone. A session without one is left as it is.
    pub async fn stop(&self, name: &str) -> Result<SessionInfo, SessionError> {
        let (process, end) = {
            let mut state = self.0.state();
            let entry = state.entry_mut(name)?;
            let running = entry.running();
            entry.stopping = running.is_some();
            (running, entry.process_end.clone())
        };
        terminate(process, end).await;
        self.get(name)
    }

    /// Ends a session: first its identity and connections, then its process, then its files.
    pub async fn delete(&self, name: &str) -> Result<(), SessionError> {
        if name == SessionName::DEFAULT {
            let error = SessionError::bad_request("the session `default` always exists");
            return Err(error.with_hint("`anonymous = \"reject\"` in proxy.toml closes it to callers without a token"));
        }
        let id = self.0.state().entry(name)?.kept.id.clone();
        self.remove(&id).await
    }

    /// Opens the session's socket, and waits for its owner.
    pub(super) fn attend(&self, name: &SessionName) {
        let Some(way) = self.0.way.load_full() else { return };
        let mut state = self.0.state();
        let Ok(entry) = state.entry_mut(name.as_str()) else { return };
        let id = entry.kept.id.clone();
        let (own, way_in) = (self.0.home.session_dir(&id), self.0.home.session_way(&id));
        let mut sockets = Vec::new();
        for port in &entry.kept.forwards {
            let socket = forward_socket(*port);
            sockets.push((Door::Forwarded(*port), open_socket(&way_in, &socket, 0o755, 0o666)));
        }
        for (socket, door) in DOORS {
            sockets.push((door, open_socket(&own, socket, 0o700, 0o600)));
            if backend::isolates(&entry.kept.backend) {
                // The directory around it is private; inside a sandbox of root's it is another user who connects.
                sockets.push((door, open_socket(&way_in, socket, 0o755, 0o666)));
            }
        }
        for (door, socket) in sockets {
            match socket {
                Ok(listener) => {
                    let (proxy, drain, id) = (Arc::clone(&way.proxy), way.drain.clone(), id.clone());
                    let serving = async move { proxy.serve_unix(listener, id, door, drain).await };
                    entry.tasks.push(AbortOnDropHandle::new(tokio::spawn(serving)));
                }
                Err(error) => tracing::warn!(session = %name, "the session has no socket: {error}"),
            }
        }
        if let Some(owner) = entry.kept.owner {
            entry.tasks.push(AbortOnDropHandle::new(tokio::spawn(self.clone().end_with(owner, id))));
        }
    }

    /// Starts the session's process, if it has one.
    pub(super) fn start(&self, kept: &StoredSession) -> Result<(), SessionError> {
        if kept.command.is_empty() {
            return Ok(());
        }
        let child = self.launch(kept)?;
        let process = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(ProcessId::of);
        let mut running = kept.clone();
        running.status = Status::Running;
        running.process = process;
        {
            let mut state = self.0.state();
            state.store.set_process(&running)?;
            if let Some(entry) = state.by_id(&kept.id) {
                entry.kept = running;
            }
        }
        self.await_process(&kept.id, wait_for_child(child));
        Ok(())
    }

    /// Drops the session from the snapshot, the database and the proxy.
    pub(super) fn forget(&self, id: &SessionId) -> Result<Option<super::Entry>, SessionError> {
        let mut state = self.0.state();
        let Some(name) = state.by_id(id).map(|entry| entry.kept.name.clone()) else { return Ok(None) };
        state.store.delete(id)?;
        let entry = state.entries.remove(&name);
        self.0.publish(&state);
        drop(state);
        if let Some(way) = self.0.way.load_full() {
            way.proxy.evict(id);
        }
        Ok(entry)
    }

    async fn remove(&self, id: &SessionId) -> Result<(), SessionError> {
        let forgotten = match self.forget(id) {
            Err(SessionError::Store(error)) if error.is_full() => {
                self.make_room(id).await?;
                self.forget(id)
            }
            forgotten => forgotten,
        };
        let Some(entry) = forgotten? else { return Ok(()) };
        terminate(entry.running(), entry.process_end).await;
        if backend::engine(&entry.kept.backend).is_some() {
            self.remove_left_containers(SETTLED);
        }
        self.0.remove_files(&entry.kept)
    }

    /// Ends a session's process and removes what it wrote: that may be what has filled the disk, so that it could not even be
    /// forgotten.
    async fn make_room(&self, id: &SessionId) -> Result<(), SessionError> {
        let (kept, running, end) = {
            let mut state = self.0.state();
            let Some(entry) = state.by_id(id) else { return Ok(()) };
            (entry.kept.clone(), entry.running(), entry.process_end.clone())
        };
        if let Some(way) = self.0.way.load_full() {
            way.proxy.evict(id);
        }
        terminate(running, end).await;
        self.0.remove_files(&kept)
    }

    async fn end_with(self, owner: ProcessId, id: SessionId) {
        if let Err(error) = owner.ended().await {
            return tracing::warn!("the owner of session {id} cannot be watched: {error}");
        }
        // On its own: removing the session ends this very task.
        tokio::spawn(async move {
            if let Err(error) = self.remove(&id).await {
                tracing::warn!("session {id}, whose owner has ended: {error}");
            }
        });
    }

    fn launch(&self, kept: &StoredSession) -> Result<Child, SessionError> {
        if backend::isolates(&kept.backend) {
            return self.launch_isolated(kept);
        }
        let session_env = self.environment(kept.name.as_str())?;
        let text = |text: &std::ffi::OsStr| text.to_str().map(str::to_owned);
        let plain = self.0.env.filter(environment::is_plain);
        let inherited = plain.filter_map(|(name, value)| Some((text(name)?, text(value)?)));
        let directory = kept.repo.as_deref().map_or_else(|| self.0.home.user_home().to_owned(), PathBuf::from);
        let launch = Launch {
            command: &kept.command,
            directory: &directory,
            environment: session_env.over(inherited),
            output: &self.0.output(&kept.id),
        };
        let program = kept.command.first().map_or("", String::as_str);
        launch.start().map_err(|error| SessionError::Backend {
            what: format!("`{program}` cannot be started in {}: {error}", directory.display()),
            hint: Some("check that it is installed and on the daemon's PATH".to_owned()),
        })
    }

    /// Records the end of a process; `end` gives its exit code, if that can be known.
    fn await_process(&self, id: &SessionId, end: impl Future<Output = Option<i32>> + Send + 'static) {
        let (ended, process_end) = watch::channel(());
        if let Some(entry) = self.0.state().by_id(id) {
            entry.process_end = Some(process_end);
        }
        let (supervisor, id, log) = (self.clone(), id.clone(), self.0.output(id));
        tokio::spawn(async move {
            let code = tokio::select! {
                code = end => code,
                never = output::keep_short(log) => match never {},
            };
            supervisor.record_end(&id, code);
            drop(ended);
        });
    }

    fn record_end(&self, id: &SessionId, code: Option<i32>) {
        let mut state = self.0.state();
        let Some(entry) = state.by_id(id) else { return };
        entry.kept.status = if entry.stopping { Status::Stopped } else { Status::Exited };
        entry.kept.exit_code = code;
        let kept = entry.kept.clone();
        if let Err(error) = state.store.set_process(&kept) {
            tracing::warn!(session = %kept.name, "the end of its process is not kept: {error}");
        }
    }
}

impl super::Entry {
    /// The session's process, while it runs.
    fn running(&self) -> Option<ProcessId> {
        self.kept.process.filter(|_| self.kept.status == Status::Running)
    }
}

async fn wait_for_child(mut child: Child) -> Option<i32> {
    child.wait().await.ok().and_then(exit_code)
}

/// Asks a process and its group to end, then makes them.
async fn terminate(process: Option<ProcessId>, end: Option<watch::Receiver<()>>) {
    let Some(process) = process else { return };
    process.signal_group(Signal::TERM);
    let obeyed = timeout(STOP_GRACE, gone(process, end.clone())).await.is_ok();
    // Also what the process started and left behind.
    process.signal_group(Signal::KILL);
    if !obeyed {
        let _still_there = timeout(KILL_GRACE, gone(process, end)).await;
    }
}

/// Waits until a process has ended, and its end is recorded if somebody does that.
async fn gone(process: ProcessId, end: Option<watch::Receiver<()>>) {
    match end {
        Some(mut end) => drop(end.changed().await),
        None => drop(process.ended().await),
    }
}

#[expect(clippy::disallowed_methods, reason = "the directory was private until here")]
fn open_socket(dir: &Path, name: &str, dir_mode: u32, mode: u32) -> io::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt;
    crate::home::private_dir(dir)?;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(dir_mode))?;
    listen::unix(dir, Path::new(name), mode)
}

/// What agents get to save their work.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// A killed process that is still there hangs in the kernel; nobody can wait for that.
const KILL_GRACE: Duration = Duration::from_secs(2);

/// A session's sockets, and what is behind each.
const DOORS: [(&str, Door); 3] = [
    (SOCKET, Door::Proxy),
    (KUBERNETES_SOCKET, Door::Gateway(Gateway::Kubernetes)),
    (TALOS_SOCKET, Door::Gateway(Gateway::Talos)),
];
