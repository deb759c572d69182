//! The home directory: every path in it, every mode, and the only code that writes files.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use clauderon_core::session::SessionId;
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

    /// Creates the directories that are missing and closes those that are open to others.
    pub fn create(self) -> Result<Self, HomeError> {
        for dir in [self.root.clone(), self.secrets_dir(), self.sessions_dir(), self.worktrees_dir(), self.logs_dir()] {
            private_dir(&dir).map_err(|source| HomeError::NotWritable { path: dir, source })?;
        }
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

    /// All sessions' copies of repositories.
    pub fn worktrees_dir(&self) -> PathBuf {
        self.root.join("worktrees")
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
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let mode = std::fs::metadata(dir)?.mode() & 0o7777;
    if mode & 0o077 == 0 { Ok(()) } else { std::fs::set_permissions(dir, Permissions::from_mode(0o700)) }
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
