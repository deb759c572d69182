//! The control contract between the daemon and everything that talks to it: types, and a client for the Unix socket.
//!
//! Every path is under `/v1`; bodies are JSON. Errors are [`ApiError`] with a status that tells whose fault it is.

use serde::{Deserialize, Serialize};

pub mod client;

pub use client::{Client, ClientError, LogStream};

/// `POST /v1/sessions`: what a new session shall be.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CreateSession {
    /// The name; made from the prompt or the command when absent.
    pub name: Option<String>,
    /// `read-only` or `read-write`; absent means read-write.
    pub access_mode: Option<String>,
    /// `sandbox`, which absent means too, `docker`, `podman` or `local`.
    pub backend: Option<String>,
    /// What a container shall be, for `docker` and `podman`.
    pub container: Option<ContainerRequest>,
    /// `claude`, `codex`, `gemini` or `none`; absent with a command means `custom`.
    pub agent: Option<String>,
    /// Absolute path of the repository.
    pub repo: Option<String>,
    /// Whether a copy may leave out what is not committed in the repository.
    pub allow_dirty: bool,
    /// What the agent shall do.
    pub prompt: Option<String>,
    /// The command run by the daemon, if any. Empty: no process of its own.
    pub command: Vec<String>,
    /// The only credentials the session may use; absent means all.
    pub credentials: Option<Vec<String>>,
    /// The only hosts the session may reach; absent means all.
    pub allow_hosts: Option<Vec<String>>,
    /// Ports of the machine's loopback that the session shall reach at the same port of its own.
    pub forwards: Vec<u16>,
    /// Whether the session ends when its creator's connection or process does (`run`).
    pub ephemeral: bool,
    /// The creator's process, for `ephemeral`.
    pub owner_pid: Option<u32>,
}

/// The container that a session's commands run in.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ContainerRequest {
    /// The image.
    pub image: String,
    /// `missing`, `always` or `never`; absent means `missing`.
    pub pull_policy: Option<String>,
    /// Processors at most.
    pub cpus: Option<f64>,
    /// Bytes of memory at most.
    pub memory: Option<u64>,
    /// Where the engine listens, as `DOCKER_HOST` or `CONTAINER_HOST` of the caller says; absent means where it usually does.
    pub engine: Option<String>,
}

/// A session as listings show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionInfo {
    /// Eight hexadecimal digits.
    pub id: String,
    /// The name.
    pub name: String,
    /// `running`, `exited`, `stopped` or `ready` (no process of its own).
    pub status: String,
    /// `read-only` or `read-write`.
    pub access_mode: String,
    /// `sandbox`, `docker`, `podman` or `local`.
    pub backend: String,
    /// The image of its containers, if it has some.
    pub image: Option<String>,
    /// `claude`, `codex`, `gemini`, `custom`, `none`.
    pub agent: String,
    /// RFC 3339, UTC.
    pub created_at: String,
    /// The repository, if any.
    pub repo: Option<String>,
    /// The commit that the session's own copy of the repository began at, if it has one.
    pub base: Option<String>,
    /// The exit code of the session's process, once known.
    pub exit_code: Option<i32>,
    /// The only credentials it may use; absent means all.
    pub credentials: Option<Vec<String>>,
    /// The only hosts it may reach; absent means all.
    pub allow_hosts: Option<Vec<String>>,
    /// Ports of the machine's loopback that it reaches.
    #[serde(default)]
    pub forwards: Vec<u16>,
    /// Requests since the daemon started.
    pub requests: u64,
    /// Denials since the daemon started.
    pub denials: u64,
    /// Placeholder sightings since the daemon started.
    pub alarms: u64,
}

/// `GET /v1/sessions/{name}/env`: everything a child of the session gets, in order. Holds a fresh session token in the proxy URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionEnv {
    /// Variables to set, after the removals below.
    pub set: Vec<(String, String)>,
    /// Variables to remove from an inherited environment. Names are compared without regard to case, here and below.
    pub unset: Vec<String>,
    /// Beginnings of names to remove likewise.
    pub unset_prefixes: Vec<String>,
    /// Ends of names to remove likewise.
    pub unset_suffixes: Vec<String>,
}

impl SessionEnv {
    /// Whether an inherited variable of this name must not reach a child of the session.
    pub fn removes(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        self.unset.iter().any(|exact| exact.eq_ignore_ascii_case(&name))
            || self.unset_prefixes.iter().any(|prefix| name.starts_with(&prefix.to_ascii_lowercase()))
            || self.unset_suffixes.iter().any(|suffix| name.ends_with(&suffix.to_ascii_lowercase()))
    }

    /// The whole environment of a child: what may stay of `inherited`, then the session's own variables.
    pub fn over(&self, inherited: impl IntoIterator<Item = (String, String)>) -> Vec<(String, String)> {
        let own = |name: &str| self.set.iter().any(|(set, _)| set == name);
        let kept = inherited.into_iter().filter(|(name, _)| !own(name) && !self.removes(name));
        kept.chain(self.set.iter().cloned()).collect()
    }
}

/// `POST /v1/sessions/{name}/launch`: where and with what a command shall start in the session's sandbox or container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LaunchRequest {
    /// Absolute path of the directory to start in and to show; absent means the session's own home.
    pub directory: Option<String>,
    /// Whether the command may change it.
    pub writable: bool,
    /// The caller's environment; only what is known to be plain is taken over.
    pub inherited: Vec<(String, String)>,
}

/// The answer: what the hidden command `sandbox-init` or `container-launch` is started with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchPlan {
    /// The file that describes the sandbox; it serves one launch.
    pub plan: String,
    /// Why the directory is not shown, if it is not.
    pub hidden: Option<String>,
}

/// `PUT /v1/sessions/{name}/access-mode`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetAccessMode {
    /// `read-only` or `read-write`.
    pub access_mode: String,
}

/// One row of `GET /v1/credentials` and of `config credentials --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialInfo {
    /// Short name.
    pub name: String,
    /// Name for people.
    pub title: String,
    /// Whether it can be injected (a 1Password reference that nobody asked for yet counts).
    pub available: bool,
    /// The source that won: `env GITHUB_TOKEN`, `1password op://…` (without field value), `file …`.
    pub source: Option<String>,
    /// Sources that also define it, lower in priority.
    pub shadowed: Vec<String>,
    /// Where it may go.
    pub hosts: Vec<String>,
    /// Four hexadecimal digits of its hash, when the value is known.
    pub fingerprint: Option<String>,
    /// Last injection, RFC 3339.
    pub last_used: Option<String>,
    /// What is wrong, and what to do.
    pub problem: Option<String>,
}

/// `POST /v1/unlock`: which 1Password references to resolve now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Unlock {
    /// Only these credentials; empty means all that come from 1Password.
    pub credentials: Vec<String>,
    /// Whether values that are held already are read again.
    pub again: bool,
}

/// What became of one credential of an [`Unlock`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnlockedCredential {
    /// Its short name.
    pub name: String,
    /// `read`, `held` (there already, or not from 1Password) or `failed`.
    pub outcome: String,
    /// The source that won.
    pub source: Option<String>,
    /// Why it failed, and what to do.
    pub problem: Option<String>,
}

/// One row of `GET /v1/config`: an effective setting and where it came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigEntry {
    /// The key as `proxy.toml` writes it.
    pub key: String,
    /// The value in force.
    pub value: serde_json::Value,
    /// `default`, `npm`, `proxy.toml`, `env` or `flag`.
    pub origin: String,
}

/// `POST /v1/explain`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// The method.
    pub method: String,
    /// An absolute URL.
    pub url: String,
    /// The session's name; absent means `default`.
    pub session: Option<String>,
    /// Header fields of the request.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// Its body, if it has one.
    #[serde(default)]
    pub body: Option<String>,
}

/// The decision a request would meet, without sending it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// Whether it would be forwarded.
    pub allowed: bool,
    /// The denial's code, or why it is allowed.
    pub reason: String,
    /// Where it would go: scheme, host and port.
    pub origin: String,
    /// The rule or exception that decided.
    pub rule: Option<String>,
    /// The service the origin belongs to.
    pub service: Option<String>,
    /// The credential the rule names.
    pub credential: Option<String>,
    /// Where its secret would come from.
    pub source: Option<String>,
    /// Where in the request the credential stands, and in what form.
    pub surface: Option<String>,
    /// Whether the secret would go out.
    pub auth_injected: bool,
    /// Why it would, or why not.
    pub injection: String,
    /// What becomes of the tokens in the answer, if it may hold some.
    pub answer: Option<String>,
    /// `read`, `write`, `mint` or the exception's name.
    pub class: String,
    /// The session asked about.
    pub session: String,
    /// Its mode.
    pub access_mode: String,
    /// The sentence of the denial.
    pub error: Option<String>,
    /// The whole denial as the agent would see it.
    pub denial: Option<serde_json::Value>,
}

/// `GET /health` (no auth). 200 only when everything is up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// `ok` or `degraded`.
    pub status: String,
    /// The daemon's version.
    pub version: String,
    /// Seconds since start.
    pub uptime_s: u64,
    /// How many sessions exist, `default` included.
    pub sessions: usize,
    /// Per part (`ca`, `audit`, `proxy`, `control`): `up`, or what is wrong.
    pub listeners: std::collections::BTreeMap<String, String>,
}

/// `GET /v1/daemon`: where the running daemon lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonInfo {
    /// Its process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// The home directory it owns.
    pub home: String,
    /// The proxy's `ip:port`.
    pub proxy: String,
    /// The Kubernetes gateway's `ip:port`.
    pub kubernetes: String,
    /// The Talos gateway's `ip:port`.
    pub talos: String,
    /// The audit log.
    pub audit_log: String,
    /// Seconds since start.
    pub uptime_s: u64,
}

/// Any error answer of the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{error}")]
pub struct ApiError {
    /// What happened, where.
    pub error: String,
    /// Stable: `no_such_session`, `session_exists`, `bad_request`, `backend`, `unauthorized`, `forbidden`, `not_found`, `internal`.
    pub code: String,
    /// What to do next.
    pub hint: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_inherits_nothing_that_looks_secret() {
        let env = SessionEnv {
            set: vec![("GITHUB_TOKEN".into(), "placeholder".into())],
            unset: vec!["SSL_CERT_DIR".into()],
            unset_prefixes: vec!["AWS_".into()],
            unset_suffixes: vec!["_TOKEN".into()],
        };
        let pair = |name: &str| (name.to_owned(), "inherited".to_owned());
        let inherited = ["PATH", "GITHUB_TOKEN", "my_token", "ssl_cert_dir", "AWS_REGION", "TOKENS"].map(pair);
        let child = env.over(inherited);
        assert_eq!(child, [pair("PATH"), pair("TOKENS"), ("GITHUB_TOKEN".into(), "placeholder".into())]);
    }
}
