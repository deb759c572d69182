//! Classes that only the body tells. Every doubt about what the origin will read there makes a write.
#![deny(clippy::wildcard_enum_match_arm, clippy::indexing_slicing)]

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};

use super::login::{LoginRule, is_json};
use super::members::Members;
use super::{Classification, Classified, graphql, registry};
use crate::access::ReadException;
use crate::facts::Facts;

/// How a body is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyRule {
    /// A GraphQL request in JSON.
    Graphql,
    /// A Git LFS batch request (`git-lfs/docs/api/batch.md`).
    LfsBatch,
    /// A form for a token of the OCI registry protocol.
    RegistryToken,
    /// A JSON-RPC call of the Model Context Protocol.
    Mcp,
    /// A request to the token endpoint of a login.
    Login(LoginRule),
}

impl BodyRule {
    /// The most bytes that are read to tell a class; more make a write.
    pub const MAX_BYTES: usize = 1024 * 1024;

    /// The exception under which a body may turn out to fall; `None` where it decides in every mode.
    pub const fn exception(self) -> Option<ReadException> {
        match self {
            Self::Graphql | Self::Mcp => Some(ReadException::GraphqlQuery),
            Self::LfsBatch => Some(ReadException::GitFetch),
            Self::RegistryToken => Some(ReadException::RegistryToken),
            Self::Login(_) => None,
        }
    }

    /// What can be said without the body: a write, because the body may be anything; of a login what its clients send.
    pub const fn unread(self) -> Classified {
        match self {
            Self::Login(rule) => rule.local(),
            Self::Graphql | Self::Mcp | Self::LfsBatch | Self::RegistryToken => Classified::write("needs-body"),
        }
    }

    /// What can be said of a body that is longer than [`Self::MAX_BYTES`], or not whole.
    pub const fn too_long(self) -> Classified {
        match self {
            Self::Login(rule) => rule.other(),
            Self::Graphql | Self::Mcp | Self::LfsBatch | Self::RegistryToken => Classified::write("body-too-long"),
        }
    }

    /// The class of a request with this body.
    pub fn classify(self, facts: &Facts<'_>, body: &[u8]) -> Classified {
        if !is_in(facts, self.media_types()) {
            return self.unreadable();
        }
        match self {
            Self::Login(rule) => rule.by_body(content_type(facts).is_some_and(is_json), body),
            Self::Graphql => graphql::by_body(body),
            Self::LfsBatch => lfs_batch(body),
            Self::RegistryToken => registry::by_form(facts, body),
            Self::Mcp => mcp(body),
        }
    }

    /// Asks for the body where the head leaves no doubt of how the origin reads it. A head without `Content-Type` may be one that
    /// somebody only asks about; with a body it is refused.
    pub(crate) fn by_head(self, facts: &Facts<'_>) -> Classification {
        let long = facts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        if long.is_some_and(|length| length > Self::MAX_BYTES) {
            return self.too_long().into();
        }
        // A framework may join the query's parameters with the body's.
        let alone = facts.query.is_none() || self == Self::RegistryToken;
        let plain = facts.headers.get_all(CONTENT_ENCODING).iter().all(|coding| coding == "identity");
        let typed = !facts.headers.contains_key(CONTENT_TYPE) || is_in(facts, self.media_types());
        if alone && plain && typed { Classification::NeedsBody(self) } else { self.unreadable().into() }
    }

    const fn media_types(self) -> &'static [&'static str] {
        match self {
            Self::Graphql | Self::Mcp => &["application/json"],
            Self::LfsBatch => &["application/vnd.git-lfs+json"],
            Self::RegistryToken => &["application/x-www-form-urlencoded"],
            Self::Login(_) => &["application/json", "application/x-www-form-urlencoded"],
        }
    }

    /// What can be said of a body that somebody may read in another way.
    const fn unreadable(self) -> Classified {
        match self {
            Self::Login(rule) => rule.other(),
            Self::Graphql | Self::Mcp | Self::LfsBatch | Self::RegistryToken => Classified::write("unreadable-body"),
        }
    }
}

/// Whether there is one `Content-Type`, it is one of `types`, and its charset, if any, is UTF-8.
fn is_in(facts: &Facts<'_>, types: &[&str]) -> bool {
    let Some(value) = content_type(facts) else { return false };
    let mut parts = value.split(';').map(str::trim);
    let listed = parts.next().is_some_and(|sent| types.iter().any(|one| one.eq_ignore_ascii_case(sent)));
    listed && parts.all(|parameter| UTF_8.iter().any(|one| one.eq_ignore_ascii_case(parameter)))
}

/// The one `Content-Type`.
fn content_type<'a>(facts: &Facts<'a>) -> Option<&'a str> {
    let mut sent = facts.headers.get_all(CONTENT_TYPE).iter();
    sent.next().filter(|_| sent.next().is_none())?.to_str().ok()
}

fn lfs_batch(body: &[u8]) -> Classified {
    let Some(members) = Members::read(body) else { return Classified::write("lfs.unreadable") };
    match members.text("operation") {
        Some("download") => Classified::excepted(ReadException::GitFetch),
        _ => Classified::write("lfs.upload"),
    }
}

/// Calls that list and read; `tools/call` may do anything.
fn mcp(body: &[u8]) -> Classified {
    let Some(members) = Members::read(body) else { return Classified::write("mcp.unreadable") };
    match members.text("method") {
        Some(method) if MCP_READS.contains(&method) => Classified::excepted_by(ReadException::GraphqlQuery, "mcp.read"),
        _ => Classified::write("mcp.call"),
    }
}

const UTF_8: [&str; 3] = ["charset=utf-8", "charset=\"utf-8\"", "charset=utf8"];
const MCP_READS: [&str; 11] = [
    "initialize",
    "ping",
    "notifications/initialized",
    "notifications/cancelled",
    "tools/list",
    "prompts/list",
    "prompts/get",
    "resources/list",
    "resources/read",
    "resources/templates/list",
    "completion/complete",
];
