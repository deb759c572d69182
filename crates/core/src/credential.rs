//! The names under which credentials are configured.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::Settings;

/// A credential's short name (`github`, or the name of a `[[credential]]`): 1 to 63 of `a-z 0-9 - _`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CredentialName(Arc<str>);

impl CredentialName {
    /// Parses a name; it may stand in a placeholder, a file name and a table unescaped.
    pub fn parse(text: &str) -> Result<Self, BadCredentialName> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
        ((1..=63).contains(&text.len()) && text.bytes().all(plain)).then(|| Self(text.into())).ok_or(BadCredentialName)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name, shared.
    pub fn shared(&self) -> Arc<str> {
        self.0.clone()
    }
}

/// One of the built-in credentials: the ten, and the extras.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CredentialKind {
    /// GitHub.
    Github,
    /// Anthropic, OAuth token or API key.
    Anthropic,
    /// OpenAI.
    Openai,
    /// PagerDuty.
    Pagerduty,
    /// Sentry.
    Sentry,
    /// Grafana.
    Grafana,
    /// npm.
    Npm,
    /// Docker Hub.
    Docker,
    /// Kubernetes.
    Kubernetes,
    /// Talos.
    Talos,
    /// ChatGPT, as Codex uses it after a login.
    Chatgpt,
    /// Google's Gemini API.
    Gemini,
}

/// A built-in credential's names everywhere a user meets it.
#[derive(Debug, Clone, Copy)]
pub struct KindNames {
    /// Short name: audit log, `--credential`, rules.
    pub name: &'static str,
    /// Name for people.
    pub title: &'static str,
    /// The environment variable of the daemon that holds it.
    pub env: &'static str,
    /// Secret file name, and key under `[onepassword.credentials]`.
    pub key: &'static str,
    /// Variables a session gets its placeholder in.
    pub session_env: &'static [&'static str],
}

impl CredentialKind {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 12] = [
        Self::Github,
        Self::Anthropic,
        Self::Openai,
        Self::Pagerduty,
        Self::Sentry,
        Self::Grafana,
        Self::Npm,
        Self::Docker,
        Self::Kubernetes,
        Self::Talos,
        Self::Chatgpt,
        Self::Gemini,
    ];

    /// The table every listing derives from.
    pub const fn names(self) -> KindNames {
        match self {
            Self::Github => names("github", "GitHub", "GITHUB_TOKEN", "github_token", &["GITHUB_TOKEN", "GH_TOKEN"]),
            Self::Anthropic => names(
                "anthropic",
                "Anthropic",
                "CLAUDE_CODE_OAUTH_TOKEN",
                "anthropic_oauth_token",
                &["CLAUDE_CODE_OAUTH_TOKEN"],
            ),
            Self::Openai => names(
                "openai",
                "OpenAI/Codex",
                "OPENAI_API_KEY",
                "openai_api_key",
                &["OPENAI_API_KEY", "CODEX_API_KEY"],
            ),
            Self::Pagerduty => names(
                "pagerduty",
                "PagerDuty",
                "PAGERDUTY_TOKEN",
                "pagerduty_token",
                &["PAGERDUTY_TOKEN", "PAGERDUTY_API_KEY", "PAGERDUTY_USER_API_KEY"],
            ),
            Self::Sentry => names(
                "sentry",
                "Sentry",
                "SENTRY_AUTH_TOKEN",
                "sentry_auth_token",
                &["SENTRY_AUTH_TOKEN", "SENTRY_ACCESS_TOKEN"],
            ),
            Self::Grafana => names(
                "grafana",
                "Grafana",
                "GRAFANA_API_KEY",
                "grafana_api_key",
                &["GRAFANA_API_KEY", "GRAFANA_SERVICE_ACCOUNT_TOKEN"],
            ),
            Self::Npm => names("npm", "npm", "NPM_TOKEN", "npm_token", &["NPM_TOKEN"]),
            Self::Docker => names("docker", "Docker Hub", "DOCKER_TOKEN", "docker_token", &["DOCKER_TOKEN"]),
            Self::Kubernetes => names("kubernetes", "Kubernetes", "K8S_TOKEN", "k8s_token", &["K8S_TOKEN"]),
            Self::Chatgpt => names("chatgpt", "ChatGPT (Codex)", "CHATGPT_ACCESS_TOKEN", "chatgpt_access_token", &[]),
            Self::Gemini => {
                names("gemini", "Gemini", "GEMINI_API_KEY", "gemini_api_key", &["GEMINI_API_KEY", "GOOGLE_API_KEY"])
            }
            Self::Talos => names("talos", "Talos", "TALOS_TOKEN", "talos_token", &["TALOS_TOKEN"]),
        }
    }

    /// Whether a `[[credential]]` may have its name and variables, and then takes its place.
    pub const fn is_extra(self) -> bool {
        matches!(self, Self::Chatgpt | Self::Gemini)
    }

    /// Whether it is there under `settings`: an extra makes way for the user's own credential of its name.
    pub fn is_in_force(self, settings: &Settings) -> bool {
        let name = self.names().name;
        !self.is_extra() || settings.credentials.iter().all(|own| own.name.as_str() != name)
    }

    /// The short name as a [`CredentialName`].
    pub fn credential(self) -> CredentialName {
        CredentialName(self.names().name.into())
    }
}

const fn names(
    name: &'static str,
    title: &'static str,
    env: &'static str,
    key: &'static str,
    session_env: &'static [&'static str],
) -> KindNames {
    KindNames { name, title, env, key, session_env }
}

impl fmt::Display for CredentialName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for CredentialName {
    type Error = BadCredentialName;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<CredentialName> for String {
    fn from(name: CredentialName) -> Self {
        name.0.as_ref().into()
    }
}

/// A text that names no credential.
#[derive(Debug, thiserror::Error)]
#[error("a credential name is 1 to 63 of `a-z`, `0-9`, `-` and `_`")]
pub struct BadCredentialName;
