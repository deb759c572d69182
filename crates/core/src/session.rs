//! Who is calling: session identities, each with one parser.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::access::AccessMode;
use crate::credential::CredentialName;
use crate::host::HostPattern;

/// What the proxy must know of a session to decide about its requests.
#[derive(Debug, Clone)]
pub struct Session {
    /// The stable identity; placeholders and audit records carry it.
    pub id: SessionId,
    /// The name the user types.
    pub name: SessionName,
    /// What the session may do; a switch replaces the whole value.
    pub mode: AccessMode,
    /// The only credentials the session may use; `None` means all.
    pub credentials: Option<Vec<CredentialName>>,
    /// The only hosts the session may reach; `None` means all, an empty list means none.
    pub allow_hosts: Option<Vec<HostPattern>>,
}

impl Session {
    /// Whether this session may use the credential `name`.
    pub fn may_use(&self, name: &CredentialName) -> bool {
        self.credentials.as_ref().is_none_or(|only| only.contains(name))
    }
}

/// A session's identity: eight lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SessionId(Arc<str>);

impl SessionId {
    /// Parses eight lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Result<Self, BadSessionId> {
        let hex = |b: &u8| b.is_ascii_digit() || (b'a'..=b'f').contains(b);
        (text.len() == 8 && text.as_bytes().iter().all(hex)).then(|| Self(text.into())).ok_or(BadSessionId)
    }

    /// The identity made of four random bytes.
    pub fn from_bytes(bytes: [u8; 4]) -> Self {
        Self(format!("{:08x}", u32::from_be_bytes(bytes)).into())
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A session's name: 1 to 63 of `a-z 0-9 - _ .`, beginning with a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SessionName(Arc<str>);

impl SessionName {
    /// The session of anonymous callers that run as the daemon's own user.
    pub const DEFAULT: &str = "default";

    /// Parses a name; it may stand in a URL's user part and in a path unescaped.
    pub fn parse(text: &str) -> Result<Self, BadSessionName> {
        let bytes = text.as_bytes();
        let plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
        let begins_well = bytes.first().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        (begins_well && bytes.len() <= 63 && bytes.iter().all(plain)).then(|| Self(text.into())).ok_or(BadSessionName)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A text that is no session id.
#[derive(Debug, thiserror::Error)]
#[error("a session id is eight lower-case hexadecimal digits")]
pub struct BadSessionId;

/// A text that is no session name.
#[derive(Debug, thiserror::Error)]
#[error("a session name is 1 to 63 of `a-z`, `0-9`, `-`, `_`, `.` and begins with a letter or digit")]
pub struct BadSessionName;

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for SessionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for SessionId {
    type Error = BadSessionId;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<SessionId> for String {
    fn from(id: SessionId) -> Self {
        id.0.as_ref().into()
    }
}

impl TryFrom<String> for SessionName {
    type Error = BadSessionName;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<SessionName> for String {
    fn from(name: SessionName) -> Self {
        name.0.as_ref().into()
    }
}
