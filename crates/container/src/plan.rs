//! What a launch in a container shall be: plain data, made by the daemon, read by the launcher.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::engine::Connected;

/// Everything a launch needs to know. It holds placeholders at most, never a secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The engine.
    pub engine: Connected,
    /// The image, by its id.
    pub image: String,
    /// The container's name.
    pub name: String,
    /// What says whose it is.
    pub labels: BTreeMap<String, String>,
    /// The user and group everything inside runs as.
    pub uid: u32,
    /// See `uid`.
    pub gid: u32,
    /// What of the host is shown.
    pub binds: Vec<Bind>,
    /// File systems in memory.
    pub memory: Vec<Memory>,
    /// Shared memory in MiB at most.
    pub shared_mib: u32,
    /// Processes and threads that may be inside at once.
    pub processes: u64,
    /// What else it may use of the machine.
    pub limits: Limits,
    /// Where the agent starts.
    pub directory: PathBuf,
    /// All of the agent's environment.
    pub environment: Vec<(String, String)>,
    /// The directory, inside and outside, that holds the session's socket.
    pub way: PathBuf,
    /// Ports of the machine's loopback that the session reaches at the same port of its own.
    pub forwards: Vec<u16>,
    /// The launcher's directory, outside; it is removed.
    pub launch_dir: PathBuf,
    /// The record of this launch; see [`crate::Record`].
    pub record: PathBuf,
    /// Where the output of the agent's terminal goes; absent means that it has the launcher's input and outputs.
    pub output: Option<PathBuf>,
}

/// A file or directory of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bind {
    /// Where it is on the host.
    pub source: PathBuf,
    /// Where it is inside.
    pub target: PathBuf,
    /// Whether it may be changed.
    pub writable: bool,
}

/// A file system in memory that the agent may write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// Where it is.
    pub target: PathBuf,
    /// Its size in MiB at most.
    pub mib: u32,
}

/// What a container may use of the machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Processors.
    pub cpus: Option<f64>,
    /// Bytes of memory; there is no swap besides.
    pub memory: Option<u64>,
}

impl Bind {
    /// One that keeps its path.
    pub fn same(path: impl Into<PathBuf>, writable: bool) -> Self {
        let path = path.into();
        Self { source: path.clone(), target: path, writable }
    }

    /// One that is only read.
    pub fn read(source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Self { source: source.into(), target: target.into(), writable: false }
    }
}
