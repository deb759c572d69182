//! Access modes and operation classes: what each mode permits.

use serde::{Deserialize, Serialize};

use crate::local::LocalAnswer;

/// What a session may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AccessMode {
    /// GET, HEAD, OPTIONS and the named exceptions.
    ReadOnly,
    /// Every method.
    #[default]
    ReadWrite,
}

/// What a request does, as far as policy cares. Whatever cannot be told apart is a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OperationClass {
    /// Changes nothing at the origin.
    Read,
    /// Not a GET, yet harmless in the named way; read-only permits it while the exception is listed.
    Excepted(ReadException),
    /// May change something at the origin.
    Write,
    /// Creates a new credential; denied in both modes unless opened by `allow_minting`.
    Mint,
    /// Answered by the proxy itself, in both modes; the origin never hears of it.
    Local(LocalAnswer),
}

/// The named exceptions of `read_only.allow`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadException {
    /// The agent's own model calls; without them a read-only agent cannot think.
    ModelInference,
    /// `git fetch` and `git clone` over smart HTTP, with the downloads of Git LFS.
    GitFetch,
    /// Queries sent by POST: GraphQL documents that hold nothing else, and the query endpoints of Grafana, PagerDuty and GitHub.
    GraphqlQuery,
    /// Token requests of the OCI registry protocol, for pulling.
    RegistryToken,
    /// npm's audit queries.
    NpmAudit,
    /// Kubernetes self-reviews.
    K8sReview,
}

impl ReadException {
    /// Every exception; also the default of `read_only.allow`.
    pub const ALL: [Self; 6] = [
        Self::ModelInference,
        Self::GitFetch,
        Self::GraphqlQuery,
        Self::RegistryToken,
        Self::NpmAudit,
        Self::K8sReview,
    ];

    /// The name used in `proxy.toml` and in audit records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ModelInference => "model-inference",
            Self::GitFetch => "git-fetch",
            Self::GraphqlQuery => "graphql-query",
            Self::RegistryToken => "registry-token",
            Self::NpmAudit => "npm-audit",
            Self::K8sReview => "k8s-review",
        }
    }
}

impl AccessMode {
    /// The name used on the command line, in the API and in audit records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReadOnly => "read-only",
            Self::ReadWrite => "read-write",
        }
    }
}

impl std::str::FromStr for AccessMode {
    type Err = UnknownAccessMode;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "read-only" => Ok(Self::ReadOnly),
            "read-write" => Ok(Self::ReadWrite),
            _ => Err(UnknownAccessMode),
        }
    }
}

impl std::fmt::Display for AccessMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no access mode.
#[derive(Debug, thiserror::Error)]
#[error("an access mode is `read-only` or `read-write`")]
pub struct UnknownAccessMode;
