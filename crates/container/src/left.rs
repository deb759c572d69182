//! What an earlier launch may have left behind: each is on record before the engine hears of its container, and the record is
//! locked for as long as the launcher lives.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::Connected;
use crate::error::EngineError;

/// A launch on record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The engine that has its container.
    pub engine: Connected,
    /// The container's name.
    pub name: String,
    /// The launcher's directory.
    pub launch_dir: PathBuf,
}

/// A record that is this process's; gone with it.
pub(crate) struct Held {
    path: PathBuf,
    _file: File,
}

impl Held {
    /// Takes the record over. One that is gone was given up by the daemon, which knew of no launcher.
    pub(crate) fn take(path: &Path) -> Result<Self, EngineError> {
        let failed = |error: std::io::Error| EngineError::new(format!("{}: {error}", path.display()));
        let file = OpenOptions::new().read(true).open(path).map_err(failed)?;
        file.lock().map_err(failed)?;
        match path.exists() {
            true => Ok(Self { path: path.to_owned(), _file: file }),
            false => Err(EngineError::new("the daemon gave this launch up").hint("start the command again")),
        }
    }

    /// Strikes it out: nothing is left of its container.
    pub(crate) fn strike(self) {
        let _gone = std::fs::remove_file(&self.path);
    }
}

/// Removes the containers whose launchers are gone, and their records in `dir`, but for records younger than `settled`:
/// their launchers may not have begun. What cannot be removed stays on record; gives the reasons.
pub async fn remove_left(dir: &Path, settled: Duration) -> Vec<EngineError> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut problems = Vec::new();
    let is_settled = |path: &Path| {
        let written = std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
        written.and_then(|written| written.elapsed().ok()).is_none_or(|age| age >= settled)
    };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| is_settled(path)) {
        if let Err(problem) = remove(&path).await {
            problems.push(problem);
        }
    }
    problems
}

async fn remove(path: &Path) -> Result<(), EngineError> {
    let failed = |error: std::io::Error| EngineError::new(format!("{}: {error}", path.display()));
    let mut file = OpenOptions::new().read(true).open(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        // Its launcher lives.
        Err(TryLockError::WouldBlock) => return Ok(()),
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(failed)?;
    let record: Record = serde_json::from_str(&text).map_err(|error| failed(error.into()))?;
    record.engine.remove(&record.name).await?;
    let _gone = std::fs::remove_dir_all(&record.launch_dir);
    std::fs::remove_file(path).map_err(failed)
}
