//! What a sandbox shall be: plain data, made by the daemon, read by every stage of the launch.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Everything a launch needs to know. It holds placeholders at most, never a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The user and group the agent is, inside and outside; never root.
    pub uid: u32,
    /// See `uid`.
    pub gid: u32,
    /// The host's name inside.
    pub hostname: String,
    /// What is visible, in the order in which it is put in place: parents first. Nothing else is.
    pub view: Vec<Entry>,
    /// Directories the agent may write below; the second layer enforces the same.
    pub writable: Vec<PathBuf>,
    /// Processes and threads that may be inside at once.
    pub processes: u64,
    /// Where the agent starts.
    pub directory: PathBuf,
    /// All of the agent's environment.
    pub environment: Vec<(String, String)>,
    /// The directory, inside, that holds the session's socket `proxy.sock`.
    pub way: PathBuf,
    /// Ports of the user's loopback that lie at the same place inside, each behind its [`forward_socket`].
    pub forwards: Vec<u16>,
    /// Where the output of the agent's terminal goes, with the socket to attach to beside it; absent means that it has no
    /// terminal of its own, but the launcher's input and outputs.
    pub output: Option<PathBuf>,
}

/// One thing in the view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Entry {
    /// A file or directory of the host, with all that is mounted below it.
    Bind {
        /// Where it is on the host.
        source: PathBuf,
        /// Where it is inside.
        target: PathBuf,
        /// What may be done with it.
        access: Access,
        /// Whether it may be missing on the host.
        optional: bool,
    },
    /// A new file system in memory.
    Memory {
        /// Where it is.
        target: PathBuf,
        /// Its size in MiB at most.
        mib: u32,
        /// The mode of its root.
        mode: u32,
    },
    /// New pseudo-terminals.
    Terminals {
        /// Where they are.
        target: PathBuf,
    },
    /// A symbolic link.
    Link {
        /// Where it is.
        target: PathBuf,
        /// What it says.
        text: String,
    },
    /// A new file that nobody may change.
    File {
        /// Where it is.
        target: PathBuf,
        /// What it holds.
        text: String,
    },
    /// A new directory.
    Directory {
        /// Where it is.
        target: PathBuf,
    },
}

/// What may be done with a part of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Read.
    Read,
    /// Read and write.
    Write,
    /// Read and write a device node.
    Device,
}

impl Entry {
    /// Where it is inside.
    pub fn target(&self) -> &std::path::Path {
        match self {
            Self::Bind { target, .. }
            | Self::Memory { target, .. }
            | Self::Terminals { target }
            | Self::Link { target, .. }
            | Self::File { target, .. }
            | Self::Directory { target } => target,
        }
    }

    /// A part of the host that keeps its path.
    pub fn same(path: impl Into<PathBuf>, access: Access) -> Self {
        let path = path.into();
        Self::Bind { source: path.clone(), target: path, access, optional: false }
    }

    /// A part of the host that keeps its path, is only read, and may be missing.
    pub fn if_there(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self::Bind { source: path.clone(), target: path, access: Access::Read, optional: true }
    }
}

/// The session's socket in the directory [`Plan::way`].
pub const SOCKET: &str = "proxy.sock";

/// The name of the session's socket to the Kubernetes gateway, beside it.
pub const KUBERNETES_SOCKET: &str = "kubernetes.sock";

/// The name of the session's socket to the Talos gateway.
pub const TALOS_SOCKET: &str = "talos.sock";

/// The name of the session's socket to `port` of the user's loopback, beside it.
pub fn forward_socket(port: u16) -> String {
    format!("forward-{port}.sock")
}

/// Whether something of the sandbox's own listens on `port`, so that it cannot be forwarded.
pub fn is_taken(port: u16) -> bool {
    [0, RELAY_PORT, KUBERNETES_PORT, TALOS_PORT, DNS_PORT].contains(&port) || CAPTURED.contains(&port)
}

/// Where the relay to that listens inside.
pub const KUBERNETES_PORT: u16 = 18081;

/// Where the relay to that listens inside.
pub const TALOS_PORT: u16 = 18082;

/// Where the relay listens inside.
pub const RELAY_PORT: u16 = 3128;

pub(crate) const HTTP_PORT: u16 = 80;

/// The ports where a name alone tells where a connection shall go.
pub(crate) const CAPTURED: [u16; 2] = [HTTP_PORT, 443];

/// Where names are answered.
pub(crate) const DNS_PORT: u16 = 53;
