//! Diagnostics: to the terminal for people, to `logs/daemon.log` for later. Nothing here may hold a secret.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::home::Home;
use crate::sources::env::Environment;

/// Why diagnostics cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `CLAUDERON_LOG` cannot be understood.
    #[error("CLAUDERON_LOG is no list of levels ({0}): write one such as `info` or `warn,clauderon_proxy=debug`")]
    Levels(#[from] ParseError),
    /// The log file cannot be opened.
    #[error("{} cannot be written: {source}", path.display())]
    File {
        /// The log file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Sends diagnostics to stderr and the log file from here on. The first call in a process wins.
pub(crate) fn start(home: &Home, env: &Environment) -> Result<(), TelemetryError> {
    let levels = levels(env)?;
    let path = home.logs_dir().join("daemon.log");
    let file = LogFile::open(path.clone()).map_err(|source| TelemetryError::File { path, source })?;
    let colour = io::stderr().is_terminal() && env.get("NO_COLOR").is_none();
    let to_terminal = fmt::layer().with_writer(io::stderr).with_ansi(colour).with_target(false);
    let to_file = fmt::layer().with_writer(file).with_ansi(false);
    let subscriber = tracing_subscriber::registry();
    let both = to_terminal.with_filter(levels.clone()).and_then(to_file.with_filter(levels));
    let _already_started = subscriber.with(both).try_init();
    Ok(())
}

fn levels(env: &Environment) -> Result<Targets, TelemetryError> {
    let text = env.get("CLAUDERON_LOG").and_then(|value| value.to_str()).unwrap_or(DEFAULT_LEVELS);
    Ok(text.parse()?)
}

/// The log file; moved aside when it has grown, so that a daemon left alone for a year fills no disk.
struct LogFile {
    path: PathBuf,
    open: Mutex<Open>,
}

struct Open {
    file: File,
    bytes: u64,
}

struct Line<'a>(&'a LogFile);

impl LogFile {
    fn open(path: PathBuf) -> io::Result<Self> {
        let open = Mutex::new(Open::at(&path)?);
        Ok(Self { path, open })
    }

    fn append(&self, line: &[u8]) -> io::Result<()> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.bytes >= MAX_BYTES {
            rotate(&self.path)?;
            *open = Open::at(&self.path)?;
        }
        open.bytes += line.len() as u64;
        open.file.write_all(line)
    }
}

impl Open {
    fn at(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { file, bytes })
    }
}

impl<'a> MakeWriter<'a> for LogFile {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        Line(self)
    }
}

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.append(line).map(|()| line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `daemon.log` becomes `daemon.log.1`, that `daemon.log.2`, and the oldest goes.
#[expect(clippy::disallowed_methods, reason = "moves old logs along; replaces nothing that is kept")]
fn rotate(path: &Path) -> io::Result<()> {
    let numbered = |number: usize| match number {
        0 => path.to_owned(),
        _ => PathBuf::from(format!("{}.{number}", path.display())),
    };
    for number in (0..KEPT_FILES).rev() {
        match std::fs::rename(numbered(number), numbered(number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Our own parts tell what they do; libraries only what goes wrong.
const DEFAULT_LEVELS: &str = "warn,clauderon=info,clauderon_daemon=info,clauderon_proxy=info";

/// Weeks of ordinary diagnostics.
const MAX_BYTES: u64 = 8 * 1024 * 1024;

const KEPT_FILES: usize = 5;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_grown_log_is_moved_aside_and_few_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.log");
        let log = LogFile::open(path.clone()).unwrap();
        for number in 0..KEPT_FILES + 3 {
            log.append(format!("{number}\n").as_bytes()).unwrap();
            log.open.lock().unwrap().bytes = MAX_BYTES;
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), KEPT_FILES + 1);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n", KEPT_FILES + 2));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn levels_come_from_the_environment_and_mistakes_are_named() {
        assert!(levels(&Environment::default()).is_ok());
        assert!(levels(&Environment::from_iter([("CLAUDERON_LOG", "debug")])).is_ok());
        let error = levels(&Environment::from_iter([("CLAUDERON_LOG", "clauderon=loud")])).unwrap_err().to_string();
        assert!(error.starts_with("CLAUDERON_LOG"), "{error}");
    }
}
