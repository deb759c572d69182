//! The part of a session's container that is ours: its first process, and the launcher outside that it answers to.
//!
//! The engine puts up the walls; nothing here trusts that it did. The first process looks at each of them from inside, and at
//! what is mounted, before there is an agent; then it adds the system call filter, which no engine's own is as strict as.
//! Launcher and first process share a socket: the order and the caller's descriptors go in, the agent's terminal and exit
//! code come out, and when either end is gone, so is the container.

use std::ffi::OsString;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::SandboxError;

mod agent;
mod channel;
mod foreground;
mod init;
mod outside;
mod walls;

pub use agent::agent;
pub use init::init;
pub use outside::{Admitted, Armed, Front, Outside};

/// What the launcher wants of the first process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// The agent's program and its arguments.
    pub command: Vec<OsString>,
    /// Where the agent starts.
    pub directory: PathBuf,
    /// All of the agent's environment.
    pub environment: Vec<(String, String)>,
    /// The directory that holds the session's socket.
    pub way: PathBuf,
    /// Ports of the machine's loopback that the session reaches at the same port of its own.
    pub forwards: Vec<u16>,
    /// What must hold before there is an agent.
    pub walls: Walls,
}

/// What the engine was asked for, as it must look from inside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Walls {
    /// The user everything inside runs as.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// What of the host is mounted.
    pub mounts: Vec<Mounted>,
    /// Directories the agent must be able to write to.
    pub writable: Vec<PathBuf>,
    /// Processes at most.
    pub processes: u64,
    /// Bytes of memory at most.
    pub memory: Option<u64>,
    /// Processors at most.
    pub cpus: Option<f64>,
}

/// A file or directory of the host: the very one, not what lies at its path by the time the engine looks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mounted {
    /// Where it is inside.
    pub target: PathBuf,
    /// Its device.
    pub device: u64,
    /// Its number on that device.
    pub inode: u64,
    /// Whether it may be changed inside.
    pub writable: bool,
}

/// What the first process tells.
#[derive(Debug, Serialize, Deserialize)]
enum Told {
    /// The agent runs; with a terminal, its other end comes along.
    Armed,
    /// There is no agent.
    Failed(SandboxError),
    /// The agent has ended.
    Ended(u8),
}

/// What the first process is told, once: the order, and how large a terminal the agent gets. Without one the caller's three
/// descriptors come along.
#[derive(Debug, Serialize, Deserialize)]
struct Asked {
    order: Order,
    terminal: Option<Size>,
}

/// Of a terminal.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Size {
    columns: u16,
    rows: u16,
}

/// A signal for the agent.
#[derive(Debug, Serialize, Deserialize)]
struct Passed(i32);

/// Where our own things are inside.
pub const OWN: &str = "/.clauderon";
/// Where the launcher's directory is inside.
pub const LAUNCH_DIR: &str = "/.clauderon/launch";
/// The launcher's socket in that.
const LAUNCH_SOCKET: &str = "socket";
