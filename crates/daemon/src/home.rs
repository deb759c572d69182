//! The home directory: every path in it, every mode, and the only code that writes files.

#![allow(clippy::disallowed_methods, reason = "what is banned elsewhere is banned in favour of this module")]

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use clauderon_core::session::{SessionId, SessionName};
use rustix::fs::FlockOperation;

use crate::sources::env::Environment;

/// The directory that holds everything clauderon keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    root: PathBuf,
    user_home: PathBuf,
}

/// The lock of the one daemon a home may have; released when dropped or when the process ends.
#[derive(Debug)]
pub struct HomeLock {
    _file: File,
}

impl Home {
    /// Where the home is for this process: `CLAUDERON_HOME`, else `~/.clauderon`. Touches no file.
    pub fn locate() -> Result<Self, HomeError> {
        Self::locate_in(&Environment::of_process())
    }

    /// Where the home is under `env`. Touches no file.
    pub fn locate_in(env: &Environment) -> Result<Self, HomeError> {
        let user_home = env.user_home();
        let root = match env.get("CLAUDERON_HOME") {
            Some(given) => std::path::absolute(given).map_err(|_| HomeError::Unknown)?,
            None => user_home.as_deref().ok_or(HomeError::Unknown)?.join(".clauderon"),
        };
        let user_home = user_home.unwrap_or_else(|| root.clone());
        Ok(Self { root, user_home })
    }

    /// A home at `root` for a user whose own home is `user_home`.
    pub fn at(root: impl Into<PathBuf>, user_home: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), user_home: user_home.into() }
    }

    /// The home of this process, with its directories created and their modes set.
    pub fn open_or_create() -> Result<Self, HomeError> {
        Self::locate()?.create()
    }

    /// Creates the directories that are missing and closes those that are open to others, but for the secrets: what
    /// others could put there is refused when it is read, with the command that mends it.
    pub fn create(self) -> Result<Self, HomeError> {
        for dir in
            [self.root.clone(), self.sessions_dir(), self.worktrees_dir(), self.containers_dir(), self.logs_dir()]
        {
            private_dir(&dir).map_err(|source| HomeError::NotWritable { path: dir, source })?;
        }
        let secrets = self.secrets_dir();
        new_private_dir(&secrets).map_err(|source| HomeError::NotWritable { path: secrets, source })?;
        Ok(self)
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The user's own home directory, which `~` stands for.
    pub fn user_home(&self) -> &Path {
        &self.user_home
    }

    /// `proxy.toml`, optional.
    pub fn proxy_toml(&self) -> PathBuf {
        self.root.join("proxy.toml")
    }

    /// The CA certificate.
    pub fn ca_cert(&self) -> PathBuf {
        self.root.join("proxy-ca.pem")
    }

    /// The CA key.
    pub fn ca_key(&self) -> PathBuf {
        self.root.join("proxy-ca-key.pem")
    }

    /// The same roots for Java.
    pub fn truststore(&self) -> PathBuf {
        self.root.join("ca-trust.jks")
    }

    /// System roots, extra roots and our CA in one file.
    pub fn bundle(&self) -> PathBuf {
        self.root.join("ca-bundle.pem")
    }

    /// Where secret files lie unless `secrets_dir` says otherwise.
    pub fn secrets_dir(&self) -> PathBuf {
        self.root.join("secrets")
    }

    /// The sessions' database.
    pub fn db(&self) -> PathBuf {
        self.root.join("db.sqlite")
    }

    /// The audit log's crash journal.
    pub fn audit_journal(&self) -> PathBuf {
        self.root.join("audit.journal")
    }

    /// The control socket.
    pub fn control_socket(&self) -> PathBuf {
        self.root.join("control.sock")
    }

    /// The bearer token of the HTTP API.
    pub fn api_token(&self) -> PathBuf {
        self.root.join("api-token")
    }

    /// All sessions' directories.
    pub fn sessions_dir(&self) -> PathBuf {
        self.root.join("sessions")
    }

    /// One session's sockets, generated configurations and logs.
    pub fn session_dir(&self, id: &SessionId) -> PathBuf {
        self.sessions_dir().join(id.as_str())
    }

    /// The files generated for one session's tools; a sandbox shows the directory.
    pub fn session_files(&self, id: &SessionId) -> PathBuf {
        self.session_dir(id).join("files")
    }

    /// The directory of one session's socket that a sandbox shows; nothing else lies in it.
    pub fn session_way(&self, id: &SessionId) -> PathBuf {
        self.session_dir(id).join("way")
    }

    /// The homes of the agents in one session; a sandbox shows each of them, to be written.
    pub fn session_agents(&self, id: &SessionId) -> PathBuf {
        self.session_dir(id).join("agents")
    }

    /// One sandboxed session's own home directory.
    pub fn session_home(&self, id: &SessionId) -> PathBuf {
        self.session_dir(id).join("home")
    }

    /// All sessions' copies of repositories.
    pub fn worktrees_dir(&self) -> PathBuf {
        self.root.join("worktrees")
    }

    /// One session's copy of its repository.
    pub fn worktree(&self, name: &SessionName) -> PathBuf {
        self.worktrees_dir().join(name.as_str())
    }

    /// The records of containers that there may be.
    pub fn containers_dir(&self) -> PathBuf {
        self.root.join("containers")
    }

    /// Daemon logs.
    pub fn logs_dir(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// Takes the home for this process, or names the process that has it.
    pub fn lock(&self) -> Result<HomeLock, HomeError> {
        let path = self.root.join("daemon.lock");
        let failed = |source: io::Error| HomeError::NotWritable { path: path.clone(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(HomeError::Locked { home: self.root.clone(), pid: holder(&mut file) });
            }
            Err(errno) => return Err(failed(errno.into())),
        }
        file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(failed)?;
        Ok(HomeLock { _file: file })
    }
}

/// Creates `dir` with mode 0700, or takes the access of others away from it.
pub fn private_dir(dir: &Path) -> io::Result<()> {
    new_private_dir(dir)?;
    let mode = std::fs::metadata(dir)?.mode() & 0o7777;
    if mode & 0o077 == 0 { Ok(()) } else { std::fs::set_permissions(dir, Permissions::from_mode(0o700)) }
}

/// Removes a directory and all in it, also where an agent closed it to its owner; one that is gone is none to remove.
pub fn remove_dir(dir: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(dir)?;
            std::fs::remove_dir_all(dir)
        }
        removed => removed,
    }
}

/// Gives the owner back what is needed to remove; links are left alone.
fn open_up(dir: &Path) -> io::Result<()> {
    std::fs::set_permissions(dir, Permissions::from_mode(0o700))?;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}

fn new_private_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Replaces `path` by a file with `bytes` and `mode`, so that no reader ever sees half of it or a looser mode.
pub fn write_private(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let temporary = Temporary::create(path, mode)?;
    temporary.fill(bytes, mode)?;
    std::fs::rename(&temporary.path, path)?;
    // Without this a crash could undo the rename although the caller was told it had happened.
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

/// A file beside its destination that disappears unless it was renamed.
struct Temporary {
    path: PathBuf,
    file: File,
}

impl Temporary {
    fn create(beside: &Path, mode: u32) -> io::Result<Self> {
        let name = beside.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
        for attempt in 0..TEMPORARY_NAMES {
            let path = beside.with_file_name(format!(".{name}.{}-{attempt}", std::process::id()));
            match OpenOptions::new().write(true).create_new(true).mode(mode).open(&path) {
                Ok(file) => return Ok(Self { path, file }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    fn fill(&self, bytes: &[u8], mode: u32) -> io::Result<()> {
        // The umask may have taken bits that the mode table promises.
        self.file.set_permissions(Permissions::from_mode(mode))?;
        (&self.file).write_all(bytes)?;
        self.file.sync_all()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After the rename there is nothing under this name any more.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.take(32).read_to_string(&mut text);
    let pid = text.trim();
    if read.is_ok() && !pid.is_empty() { format!("process {pid}") } else { "another process".to_owned() }
}

/// What is wrong with the home directory, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Neither `CLAUDERON_HOME` nor a home directory.
    #[error("no home directory is known: set HOME or CLAUDERON_HOME")]
    Unknown,
    /// It cannot be created or written.
    #[error("{} cannot be written ({source}): make it writable for you, or set CLAUDERON_HOME to another directory", path.display())]
    NotWritable {
        /// The directory or file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A daemon is running already.
    #[error("a daemon already runs for {}: {pid}; stop it first, or set CLAUDERON_HOME to run a second one", home.display())]
    Locked {
        /// The home.
        home: PathBuf,
        /// `process N`, or that it is not known.
        pid: String,
    },
}

/// Names tried for a temporary file; more than one only after a crash left one behind.
const TEMPORARY_NAMES: u32 = 64;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use std::fs;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn the_home_is_where_the_environment_says() {
        let at = |pairs: &[(&str, &str)]| Home::locate_in(&pairs.iter().copied().collect()).unwrap();
        assert_eq!(at(&[("HOME", "/home/ann")]).root(), Path::new("/home/ann/.clauderon"));
        let moved = at(&[("HOME", "/home/ann"), ("CLAUDERON_HOME", "/srv/c")]);
        assert_eq!((moved.root(), moved.user_home()), (Path::new("/srv/c"), Path::new("/home/ann")));
        assert!(at(&[("HOME", "/home/ann"), ("CLAUDERON_HOME", "relative")]).root().is_absolute());
    }

    #[test]
    fn directories_are_private_and_open_ones_are_closed() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path().join("a/home"), dir.path()).create().unwrap();
        let all =
            [home.root().to_owned(), home.secrets_dir(), home.sessions_dir(), home.worktrees_dir(), home.logs_dir()];
        for path in &all {
            assert_eq!(mode(path), 0o700, "{}", path.display());
            fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
        }
        let home = home.create().unwrap();
        assert_eq!((mode(home.root()), mode(&home.logs_dir())), (0o700, 0o700));
        assert_eq!(mode(&home.secrets_dir()), 0o755, "an open secrets directory is refused, not hidden");
    }

    #[test]
    fn a_home_that_cannot_be_made_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let error = Home::at(dir.path().join("file/home"), dir.path()).create().unwrap_err().to_string();
        assert!(error.contains("file/home") && error.contains("CLAUDERON_HOME"), "{error}");
    }

    #[test]
    fn files_are_replaced_whole_with_their_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api-token");
        fs::write(dir.path().join(format!(".api-token.{}-0", std::process::id())), "left by a crash").unwrap();
        for (bytes, bits) in [(b"first".as_slice(), 0o600), (b"second", 0o644)] {
            write_private(&path, bytes, bits).unwrap();
            assert_eq!((fs::read(&path).unwrap().as_slice(), mode(&path)), (bytes, bits));
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "no temporary file stays");
        assert!(write_private(&dir.path().join("none/file"), b"", 0o600).is_err());
    }

    #[test]
    fn a_second_daemon_is_told_who_the_first_is() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path().join("home"), dir.path()).create().unwrap();
        let first = home.lock().unwrap();
        let error = home.lock().unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        home.lock().unwrap();
    }
}
