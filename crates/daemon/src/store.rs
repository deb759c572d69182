//! The sessions' database: what survives the daemon. The supervisor is its only user.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clauderon_core::access::AccessMode;
use clauderon_core::session::{SessionId, SessionName};
use rusqlite::types::Type;
use rusqlite::{Connection, Row, named_params, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::process::ProcessId;

/// The open database.
pub struct Store {
    connection: Connection,
}

/// A session as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSession {
    /// The stable identity.
    pub id: SessionId,
    /// The name, unique.
    pub name: SessionName,
    /// What it may do.
    pub mode: AccessMode,
    /// `local`.
    pub backend: String,
    /// `claude`, `codex`, `gemini`, `custom` or `none`.
    pub agent: String,
    /// The repository.
    pub repo: Option<String>,
    /// What the agent was asked to do.
    pub prompt: Option<String>,
    /// The command of its process; empty when it has none.
    pub command: Vec<String>,
    /// Milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// Where its process is in its life.
    pub status: Status,
    /// Its process, once started.
    pub process: Option<ProcessId>,
    /// The exit code of its process, once known.
    pub exit_code: Option<i32>,
    /// The only credentials it may use; `None` means all.
    pub credentials: Option<Vec<String>>,
    /// The only hosts it may reach; `None` means all.
    pub allow_hosts: Option<Vec<String>>,
    /// Ports of the machine's loopback that it reaches.
    pub forwards: Vec<u16>,
    /// The process whose end is also the session's.
    pub owner: Option<ProcessId>,
}

/// Where a session's process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// There is none.
    Ready,
    /// It runs.
    Running,
    /// It ended by itself.
    Exited,
    /// It was stopped.
    Stopped,
}

impl Store {
    /// Opens the database, makes it when it is missing, and brings it to this version's schema.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        private_file(path).map_err(|source| StoreError::File { path: path.into(), source })?;
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        // Negative means KiB; the default of 2 MiB is more than all sessions together.
        connection.pragma_update(None, "cache_size", -256)?;
        migrate(&mut connection, path)?;
        Ok(Self { connection })
    }

    /// Every session, by name.
    pub fn sessions(&self) -> Result<Vec<StoredSession>, StoreError> {
        let mut query = self.connection.prepare_cached("SELECT * FROM sessions ORDER BY name")?;
        let rows = query.query_map([], read_session)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Adds a session.
    pub fn insert(&self, session: &StoredSession) -> Result<(), StoreError> {
        self.connection.prepare_cached(INSERT_SESSION)?.execute(named_params! {
            ":id": session.id.as_str(),
            ":name": session.name.as_str(),
            ":mode": session.mode.as_str(),
            ":backend": session.backend,
            ":agent": session.agent,
            ":repo": session.repo,
            ":prompt": session.prompt,
            ":command": to_json(&session.command),
            ":created_ms": session.created_ms,
            ":status": session.status.as_str(),
            ":pid": session.process.map(|process| process.pid),
            ":pid_start": session.process.map(|process| process.start),
            ":exit_code": session.exit_code,
            ":credentials": session.credentials.as_ref().map(to_json),
            ":allow_hosts": session.allow_hosts.as_ref().map(to_json),
            ":ephemeral": session.owner.is_some(),
            ":owner_pid": session.owner.map(|owner| owner.pid),
            ":owner_start": session.owner.map(|owner| owner.start),
            ":forwards": to_json(&session.forwards),
        })?;
        Ok(())
    }

    /// Removes a session and its tokens.
    pub fn delete(&self, id: &SessionId) -> Result<(), StoreError> {
        self.connection.execute("DELETE FROM sessions WHERE id = ?1", [id.as_str()])?;
        Ok(())
    }

    /// Switches what a session may do.
    pub fn set_mode(&self, id: &SessionId, mode: AccessMode) -> Result<(), StoreError> {
        self.connection.execute("UPDATE sessions SET mode = ?2 WHERE id = ?1", [id.as_str(), mode.as_str()])?;
        Ok(())
    }

    /// Records what became of a session's process.
    pub fn set_process(&self, session: &StoredSession) -> Result<(), StoreError> {
        let sql = "UPDATE sessions SET status = ?2, pid = ?3, pid_start = ?4, exit_code = ?5 WHERE id = ?1";
        let (pid, start) = session.process.map(|process| (process.pid, process.start)).unzip();
        self.connection
            .execute(sql, params![session.id.as_str(), session.status.as_str(), pid, start, session.exit_code])?;
        Ok(())
    }

    /// The token hashes of a session, oldest first.
    pub fn tokens(&self, id: &SessionId) -> Result<Vec<[u8; 32]>, StoreError> {
        let sql = "SELECT hash FROM session_tokens WHERE session_id = ?1 ORDER BY created_ms";
        let mut query = self.connection.prepare_cached(sql)?;
        let rows = query.query_map([id.as_str()], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Adds a token's hash and forgets the oldest beyond `keep`.
    pub fn add_token(&mut self, id: &SessionId, hash: &[u8; 32], now_ms: i64, keep: usize) -> Result<(), StoreError> {
        let change = self.connection.transaction()?;
        change.execute(
            "INSERT INTO session_tokens (hash, session_id, created_ms) VALUES (?1, ?2, ?3)",
            params![hash, id.as_str(), now_ms],
        )?;
        change.execute(
            "DELETE FROM session_tokens WHERE session_id = ?1 AND hash NOT IN
             (SELECT hash FROM session_tokens WHERE session_id = ?1 ORDER BY created_ms DESC, hash = ?2 DESC LIMIT ?3)",
            params![id.as_str(), hash, i64::try_from(keep).unwrap_or(i64::MAX)],
        )?;
        Ok(change.commit()?)
    }
}

impl Status {
    /// The word in the database and the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Exited => "exited",
            Self::Stopped => "stopped",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Ready, Self::Running, Self::Exited, Self::Stopped].into_iter().find(|status| status.as_str() == text)
    }
}

/// Why the sessions' database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be made or read.
    #[error("{} cannot be opened: {source}", path.display())]
    File {
        /// The database.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A later clauderon wrote it.
    #[error("{} was written by a newer clauderon (schema {found}, this one knows {SCHEMA_VERSION}): use the newer one, or set CLAUDERON_HOME to another directory", path.display())]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its schema.
        found: u32,
    },
    /// SQLite failed.
    #[error("the sessions' database failed: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

impl StoreError {
    /// Whether there is no room left to write.
    pub fn is_full(&self) -> bool {
        let Self::Sqlite(error) = self else { return false };
        error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
    }
}

/// SQLite gives its journals the mode of the database, so making that 0600 first closes all three.
fn private_file(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let found: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if found > SCHEMA_VERSION {
        return Err(StoreError::Newer { path: path.into(), found });
    }
    for (version, sql) in (1_u32..).zip(MIGRATIONS).filter(|(version, _)| *version > found) {
        let change = connection.transaction()?;
        change.execute_batch(sql)?;
        change.pragma_update(None, "user_version", version)?;
        change.commit()?;
    }
    Ok(())
}

fn read_session(row: &Row<'_>) -> rusqlite::Result<StoredSession> {
    Ok(StoredSession {
        id: read(row, "id", |text| SessionId::parse(text).ok())?,
        name: read(row, "name", |text| SessionName::parse(text).ok())?,
        mode: read(row, "mode", |text| text.parse().ok())?,
        backend: row.get("backend")?,
        agent: row.get("agent")?,
        repo: row.get("repo")?,
        prompt: row.get("prompt")?,
        command: read(row, "command", |text| serde_json::from_str(text).ok())?,
        created_ms: row.get("created_ms")?,
        status: read(row, "status", Status::parse)?,
        process: read_process(row, "pid", "pid_start")?,
        exit_code: row.get("exit_code")?,
        credentials: read_list(row, "credentials")?,
        allow_hosts: read_list(row, "allow_hosts")?,
        forwards: read(row, "forwards", |text| serde_json::from_str(text).ok())?,
        owner: read_process(row, "owner_pid", "owner_start")?,
    })
}

fn read<T>(row: &Row<'_>, column: &str, parse: impl FnOnce(&str) -> Option<T>) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    parse(&text).ok_or_else(|| bad_column(column))
}

/// A list that cannot be read must not turn into "all".
fn read_list<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<Vec<T>>> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| serde_json::from_str(&text).map_err(|_| bad_column(column))).transpose()
}

fn read_process(row: &Row<'_>, pid: &str, start: &str) -> rusqlite::Result<Option<ProcessId>> {
    let pid: Option<i32> = row.get(pid)?;
    let start: Option<i64> = row.get(start)?;
    Ok(pid.zip(start).map(|(pid, start)| ProcessId { pid, start }))
}

fn bad_column(column: &str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, Type::Text, format!("unreadable `{column}`").into())
}

fn to_json(list: &impl Serialize) -> String {
    serde_json::to_string(list).expect("a list is JSON")
}

/// Long enough for a backup tool that reads the database, short enough to be an error and not a hang.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// One step per schema version; a step that was released is never edited.
const MIGRATIONS: [&str; SCHEMA_VERSION as usize] =
    [include_str!("schema/0001_sessions.sql"), include_str!("schema/0002_forwards.sql")];

const SCHEMA_VERSION: u32 = 2;

const INSERT_SESSION: &str = "INSERT INTO sessions VALUES (:id, :name, :mode, :backend, :agent, :repo, :prompt, :command,
    :created_ms, :status, :pid, :pid_start, :exit_code, :credentials, :allow_hosts, :ephemeral, :owner_pid, :owner_start,
    :forwards)";

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn session(name: &str) -> StoredSession {
        StoredSession {
            id: SessionId::from_bytes([1, 2, 3, 4]),
            name: SessionName::parse(name).unwrap(),
            mode: AccessMode::ReadOnly,
            backend: "local".into(),
            agent: "custom".into(),
            repo: Some("/srv/code".into()),
            prompt: None,
            command: vec!["make".into(), "a\nb\"c".into()],
            created_ms: 1_700_000_000_000,
            status: Status::Running,
            process: Some(ProcessId { pid: 77, start: 12 }),
            exit_code: None,
            credentials: Some(vec![]),
            allow_hosts: None,
            forwards: vec![5432],
            owner: Some(ProcessId { pid: 78, start: 13 }),
        }
    }

    #[test]
    fn what_was_kept_is_read_back_by_the_next_daemon() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db.sqlite");
        let kept = session("review");
        let mut store = Store::open(&path).unwrap();
        store.insert(&kept).unwrap();
        store.add_token(&kept.id, &[7; 32], 1, 8).unwrap();
        drop(store);
        let store = Store::open(&path).unwrap();
        assert_eq!(store.sessions().unwrap(), std::slice::from_ref(&kept));
        assert_eq!(store.tokens(&kept.id).unwrap(), [[7; 32]]);
    }

    #[test]
    fn a_deleted_session_leaves_no_token() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&dir.path().join("db.sqlite")).unwrap();
        let kept = session("review");
        store.insert(&kept).unwrap();
        store.add_token(&kept.id, &[7; 32], 1, 8).unwrap();
        store.delete(&kept.id).unwrap();
        assert_eq!(store.sessions().unwrap(), []);
        assert_eq!(store.tokens(&kept.id).unwrap(), [[0u8; 32]; 0]);
    }

    #[test]
    fn only_the_newest_tokens_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&dir.path().join("db.sqlite")).unwrap();
        let kept = session("review");
        store.insert(&kept).unwrap();
        for (token, at) in [(9, 1), (8, 2), (7, 2), (6, 2)] {
            store.add_token(&kept.id, &[token; 32], at, 2).unwrap();
        }
        let left = store.tokens(&kept.id).unwrap();
        assert_eq!(left.len(), 2);
        assert!(left.contains(&[6; 32]), "the one just made must work");
    }

    #[test]
    fn a_newer_database_is_refused_and_untouched() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db.sqlite");
        let store = Store::open(&path).unwrap();
        store.connection.pragma_update(None, "user_version", 99).unwrap();
        drop(store);
        let error = Store::open(&path).err().unwrap().to_string();
        assert!(error.contains("newer clauderon") && error.contains("99") && error.contains("db.sqlite"), "{error}");
        let version: u32 =
            Connection::open(&path).unwrap().query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        assert_eq!(version, 99);
    }

    #[test]
    fn an_empty_database_of_version_zero_is_brought_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db.sqlite");
        Connection::open(&path).unwrap().execute_batch("VACUUM").unwrap();
        assert!(Store::open(&path).unwrap().sessions().unwrap().is_empty());
        assert!(Store::open(&path).unwrap().sessions().unwrap().is_empty());
    }

    #[test]
    fn names_are_unique_and_nobody_else_may_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db.sqlite");
        std::fs::write(&path, "").unwrap();
        let store = Store::open(&path).unwrap();
        store.insert(&session("review")).unwrap();
        let twin = StoredSession { id: SessionId::from_bytes([9; 4]), ..session("review") };
        assert!(store.insert(&twin).is_err());
        for file in std::fs::read_dir(dir.path()).unwrap() {
            let file = file.unwrap();
            let mode = file.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{}", file.path().display());
        }
    }

    #[test]
    fn a_damaged_list_does_not_widen_a_session() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("db.sqlite")).unwrap();
        store.insert(&session("review")).unwrap();
        store.connection.execute("UPDATE sessions SET credentials = 'x'", []).unwrap();
        assert!(store.sessions().is_err());
    }
}
