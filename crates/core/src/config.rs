//! Typed settings of `proxy.toml`. Every default is a const with its reason.

use std::time::Duration;

use crate::access::ReadException;
use crate::host::HostPattern;

/// Limits on what one client may make the proxy hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Until a request head is complete.
    pub header_timeout: Duration,
    /// Until a TLS handshake is complete.
    pub handshake_timeout: Duration,
    /// Until an idle connection is closed.
    pub idle_timeout: Duration,
    /// Bytes of a request head.
    pub max_head_bytes: usize,
    /// Header fields of a request.
    pub max_fields: usize,
    /// Bytes of a request target.
    pub max_target_bytes: usize,
    /// Open downstream connections.
    pub max_connections: usize,
    /// Open downstream connections of one session.
    pub max_connections_per_session: usize,
}

/// What policy needs beyond rules and sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicySettings {
    /// The exceptions that read-only permits.
    pub read_only_allow: Vec<ReadException>,
    /// Minting operations that are open, by name (`github.runner`).
    pub allow_minting: Vec<String>,
    /// The only hosts anyone may reach; `None` means all.
    pub allow_hosts: Option<Vec<HostPattern>>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(300),
            max_head_bytes: 64 * 1024,
            max_fields: 128,
            max_target_bytes: 16 * 1024,
            max_connections: 4096,
            max_connections_per_session: 512,
        }
    }
}

impl Default for PolicySettings {
    fn default() -> Self {
        Self { read_only_allow: ReadException::ALL.to_vec(), allow_minting: Vec::new(), allow_hosts: None }
    }
}
