//! Typed settings of `proxy.toml`. Every default is a const with its reason.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::access::ReadException;
pub use crate::cidr::Cidr;
use crate::credential::CredentialName;
use crate::host::{Host, HostPattern};
use crate::rule::InjectPolicy;
use crate::secret::Secret;

/// The whole of `proxy.toml`, checked: whatever holds one of these need not validate again.
#[derive(Debug)]
pub struct Settings {
    /// The proxy's TCP port; 0 picks a free one.
    pub http_port: u16,
    /// The address all TCP listeners bind to.
    pub bind: IpAddr,
    /// Who may call without proxy credentials.
    pub anonymous: Anonymous,
    /// Where secret files lie.
    pub secrets_dir: PathBuf,
    /// The audit log.
    pub audit: AuditSettings,
    /// The Talos gateway's port.
    pub talos_gateway_port: u16,
    /// The Kubernetes gateway's port.
    pub kubectl_proxy_port: u16,
    /// 1Password.
    pub onepassword: OnePasswordSettings,
    /// How origins are reached.
    pub upstream: UpstreamSettings,
    /// Which addresses may be dialled although private.
    pub allow_private: Vec<Cidr>,
    /// What modes and lists permit.
    pub policy: PolicySettings,
    /// Limits on downstream.
    pub limits: Limits,
    /// `[services.<name>]`.
    pub services: BTreeMap<String, ServiceSettings>,
    /// `[[credential]]`, in the order of the file.
    pub credentials: Vec<UserCredential>,
}

/// Who may call without proxy credentials on a loopback listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anonymous {
    /// Processes of the daemon's own user, as session `default`.
    SameUser,
    /// Nobody.
    Reject,
}

/// `audit_enabled`, `audit_log_path`, `[audit]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditSettings {
    /// Whether requests are recorded.
    pub enabled: bool,
    /// The log file.
    pub path: PathBuf,
    /// Bytes at which the log is rotated.
    pub rotate_bytes: u64,
    /// Rotated files that are kept.
    pub keep: usize,
}

/// `[onepassword]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnePasswordSettings {
    /// Whether the references below are used.
    pub enabled: bool,
    /// The 1Password CLI.
    pub op_path: PathBuf,
    /// Secret-file key (`github_token`) or credential name to reference, verbatim.
    pub credentials: BTreeMap<String, String>,
}

/// `[upstream]`.
#[derive(Debug)]
pub struct UpstreamSettings {
    /// Names that are dialled at a fixed address; exempt from the address guard.
    pub resolve: HashMap<(Host, u16), SocketAddr>,
    /// PEM files with more trust roots.
    pub ca_files: Vec<PathBuf>,
    /// The corporate proxy.
    pub proxy: Option<UpstreamProxy>,
    /// Hosts reached without it.
    pub no_proxy: Vec<HostPattern>,
    /// Until connected, TLS included.
    pub connect_timeout: Duration,
    /// Until the response head.
    pub response_timeout: Duration,
}

/// A corporate HTTP proxy, reached by clear-text CONNECT.
pub struct UpstreamProxy {
    /// Its host.
    pub host: Host,
    /// Its port.
    pub port: u16,
    /// User name and password, if the URL had them.
    pub credentials: Option<(String, Secret)>,
}

/// `[services.<name>]`; which keys a service reads is its own business.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceSettings {
    /// More hosts of the service (GHES, regions, self-hosted).
    pub hosts: Vec<HostPattern>,
    /// npm: registry URLs (`https://host[:port]/path/`).
    pub registries: Vec<String>,
    /// The service's base URL, where it has no fixed host (Grafana).
    pub url: Option<String>,
    /// Docker Hub: the user name that goes with the token.
    pub username: Option<String>,
    /// PagerDuty, OpenAI: the region.
    pub region: Option<String>,
}

/// One `[[credential]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserCredential {
    /// Its name.
    pub name: CredentialName,
    /// The environment variable that holds it.
    pub env: Option<String>,
    /// The file that holds it.
    pub file: Option<PathBuf>,
    /// The 1Password reference.
    pub op: Option<String>,
    /// Where it may go; ports default to 443.
    pub hosts: Vec<HostPattern>,
    /// Where in the request, and how.
    pub shape: crate::rule::Shape,
    /// When.
    pub inject: InjectPolicy,
    /// The variable that holds the placeholder inside sessions.
    pub session_env: Option<String>,
}

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

impl Settings {
    /// What holds without a `proxy.toml`, for a home at `home`.
    pub fn defaults(home: &std::path::Path) -> Self {
        Self {
            http_port: 3030,
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            anonymous: Anonymous::SameUser,
            secrets_dir: home.join("secrets"),
            audit: AuditSettings {
                enabled: true,
                path: home.join("audit.jsonl"),
                rotate_bytes: 100 * 1024 * 1024,
                keep: 10,
            },
            talos_gateway_port: 18082,
            kubectl_proxy_port: 18081,
            onepassword: OnePasswordSettings { enabled: false, op_path: "op".into(), credentials: BTreeMap::new() },
            upstream: UpstreamSettings::default(),
            allow_private: Vec::new(),
            policy: PolicySettings::default(),
            limits: Limits::default(),
            services: BTreeMap::new(),
            credentials: Vec::new(),
        }
    }
}

impl Default for UpstreamSettings {
    fn default() -> Self {
        Self {
            resolve: HashMap::new(),
            ca_files: Vec::new(),
            proxy: None,
            no_proxy: Vec::new(),
            connect_timeout: Duration::from_secs(5),
            // Long: a model may think for minutes before its first byte.
            response_timeout: Duration::from_secs(300),
        }
    }
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

impl std::fmt::Debug for UpstreamProxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UpstreamProxy({}:{})", self.host, self.port)
    }
}
