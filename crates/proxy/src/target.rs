//! Where a request goes: the one origin on which all its forms of authority agree (RFC 9112 § 3.2, RFC 9113 § 8.3.1).

use std::borrow::Cow;
use std::sync::Arc;

use clauderon_core::audit::{AuditRecord, shown_path};
use clauderon_core::denial::{Denial, DenialCode};
use clauderon_core::facts::Facts;
use clauderon_core::host::{Authority, Origin, Scheme};
use clauderon_core::rule::RuleSet;
use http::header::HOST;
use http::request::Parts;
use http::{Uri, Version};

use crate::http1::head::malformed;
use crate::upstream::pool::Bucket;

/// What the connection itself says about the destination.
pub(crate) enum Target<'a> {
    /// The tunnel's origin, fixed by its CONNECT and SNI.
    Tunnel(&'a TunnelOrigin),
    /// Nothing: each request names its own, in absolute form.
    Absolute,
}

/// The origin of an accepted tunnel.
pub(crate) struct TunnelOrigin {
    pub(crate) origin: Origin,
    /// As a `Host` field usually spells it; equal bytes need no parsing.
    pub(crate) authority: String,
    /// As audit records spell it.
    pub(crate) host: Arc<str>,
    pub(crate) bucket: Arc<Bucket>,
}

impl Target<'_> {
    /// The request's origin, if everything that names one agrees.
    pub(crate) fn agree(&self, parts: &Parts) -> Result<Cow<'_, Origin>, Denial> {
        match self {
            Self::Tunnel(tunnel) => {
                let scheme = tunnel.origin.scheme.as_str();
                if let Some(other) = parts.uri.scheme_str().filter(|named| !named.eq_ignore_ascii_case(scheme)) {
                    return Err(mismatch(&format!("{scheme}://{}", tunnel.authority), &format!("{other}://")));
                }
                for text in named(parts)? {
                    if !text.eq_ignore_ascii_case(&tunnel.authority) {
                        tunnel.check(text)?;
                    }
                }
                Ok(Cow::Borrowed(&tunnel.origin))
            }
            Self::Absolute => absolute(parts).map(Cow::Owned),
        }
    }
}

impl TunnelOrigin {
    fn check(&self, text: &str) -> Result<(), Denial> {
        let named = parse_authority(text)?.origin(self.origin.scheme);
        if named == self.origin { Ok(()) } else { Err(mismatch(&self.authority, text)) }
    }
}

/// Every authority in a request head: the target's and the `Host` field's.
fn named(parts: &Parts) -> Result<impl Iterator<Item = &str>, Denial> {
    let target = parts.uri.authority().map(http::uri::Authority::as_str);
    if let (Version::HTTP_2, None) = (parts.version, target) {
        return Err(malformed("no :authority"));
    }
    let mut hosts = parts.headers.get_all(HOST).iter();
    let host = hosts.next().map(|host| host.to_str().map_err(|_| malformed("a Host that is no text"))).transpose()?;
    if hosts.next().is_some() {
        return Err(malformed("more than one Host field"));
    }
    Ok(target.into_iter().chain(host))
}

fn absolute(parts: &Parts) -> Result<Origin, Denial> {
    let authority = absolute_authority(&parts.uri)?;
    if parts.uri.scheme_str() != Some(Scheme::Http.as_str()) {
        let denial = malformed("only http:// may be asked for in absolute form");
        return Err(denial.hint("for https:// the client must open a tunnel with CONNECT"));
    }
    let origin = authority.origin(Scheme::Http);
    for text in named(parts)? {
        let named = parse_authority(text)?.origin(Scheme::Http);
        if named != origin {
            return Err(mismatch(&origin.authority(), text));
        }
    }
    Ok(origin)
}

fn absolute_authority(uri: &Uri) -> Result<Authority, Denial> {
    parse_authority(uri.authority().map(http::uri::Authority::as_str).unwrap_or_default())
}

fn parse_authority(text: &str) -> Result<Authority, Denial> {
    Authority::parse(text).map_err(|_| malformed("an authority that is no host"))
}

/// Two forms of authority disagree: what would be checked is not what would be reached.
pub(crate) fn mismatch(expected: &str, found: &str) -> Denial {
    // The text is the agent's: show no more than a name's worth of it.
    let found: String = found.chars().filter(|c| !c.is_control()).take(255).collect();
    let message = format!("the request names `{found}` on a connection to `{expected}`");
    Denial::new(DenialCode::AuthorityMismatch, message)
}

/// Notes what a head says, before anything is decided, so that refusals are recorded as fully as the rest.
pub(crate) fn describe(record: &mut AuditRecord, parts: &Parts, target: &Target<'_>) {
    record.method = parts.method.as_str().into();
    record.path = shown_path(parts.uri.path());
    record.protocol = if parts.version == Version::HTTP_2 { "HTTP/2" } else { "HTTP/1.1" };
    match target {
        Target::Tunnel(tunnel) => {
            record.host = tunnel.host.clone();
            record.service = tunnel.host.clone();
            record.port = tunnel.origin.port;
        }
        Target::Absolute => {
            if let Ok(authority) = absolute_authority(&parts.uri) {
                at_origin(record, &authority.origin(Scheme::Http));
            }
        }
    }
}

/// Notes the destination.
pub(crate) fn at_origin(record: &mut AuditRecord, origin: &Origin) {
    record.host = origin.host.to_string().into();
    record.service = record.host.clone();
    record.port = origin.port;
}

/// Notes the service that the rules know the origin by.
pub(crate) fn name(record: &mut AuditRecord, facts: &Facts<'_>, rules: &RuleSet) {
    if let Some(service) = rules.service_of(facts.origin) {
        record.service = service.clone();
    }
    if let Some(masked) = rules.masked(facts.origin, facts.raw_path) {
        record.path = masked;
    }
    if facts.upgrade {
        record.protocol = "websocket";
    }
}
