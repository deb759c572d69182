//! The kinds of values a `proxy.toml` holds. Errors say what would be right and never repeat the value.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::HeaderValue;
use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

use super::document::Parsed;
use super::suggest::suggestion;
use super::{Anonymous, Cidr, OpReference, TokenUrl, UpstreamProxy};
use crate::access::ReadException;
use crate::cidr::BadCidr;
use crate::host::{Authority, Host, HostPattern, Scheme};
use crate::path::CanonicalPath;
use crate::secret::Secret;
use crate::service::{self, SHARED_DOMAINS};

/// Where relative paths and `~` lead.
#[derive(Clone, Copy)]
pub(super) struct Places<'a> {
    pub(super) home: &'a Path,
    pub(super) user_home: &'a Path,
}

impl Places<'_> {
    /// A path: absolute, under `~`, or relative to the home directory.
    pub(super) fn path(self, text: &str) -> Parsed<PathBuf> {
        self.path_in(self.home, text)
    }

    /// A path: absolute, under `~`, or relative to `base`.
    pub(super) fn path_in(self, base: &Path, text: &str) -> Parsed<PathBuf> {
        match text.strip_prefix('~') {
            _ if text.contains('\0') => Err("a path holds no NUL".to_owned()),
            Some("") => Ok(self.user_home.to_owned()),
            Some(rest) => match rest.strip_prefix('/') {
                Some(below) => Ok(self.user_home.join(below.trim_start_matches('/'))),
                None => Err("`~` stands for your own home directory only: write `~/…` or an absolute path".to_owned()),
            },
            None => Ok(base.join(text)),
        }
    }

    /// A program: a bare name is looked up in `PATH`, anything else is a path.
    pub(super) fn program(self, text: &str) -> Parsed<PathBuf> {
        if text.contains('/') || text.starts_with('~') { self.path(text) } else { Ok(text.trim().into()) }
    }
}

/// `"5s"`, `"300ms"`, `"2m"`, `"1h"`.
pub(super) fn duration(text: &str) -> Parsed<Duration> {
    const WRONG: &str = "a duration is a whole number and a unit: \"300ms\", \"5s\", \"2m\", \"1h\"";
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| WRONG)?;
    let milliseconds = match unit {
        "ms" => Some(number),
        "s" => number.checked_mul(1000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        _ => return Err(WRONG.to_owned()),
    };
    match milliseconds.map(Duration::from_millis) {
        Some(duration) if duration.is_zero() => Err("a duration is longer than zero".to_owned()),
        Some(duration) if duration <= LONGEST => Ok(duration),
        _ => Err("a duration is at most \"720h\"".to_owned()),
    }
}

/// The text [`duration`] reads back.
pub(super) fn duration_text(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    if milliseconds.is_multiple_of(1000) { format!("{}s", milliseconds / 1000) } else { format!("{milliseconds}ms") }
}

/// An address to bind to.
pub(super) fn address(text: &str) -> Parsed<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    bare.parse().map_err(|_| "must be an IP address such as \"127.0.0.1\" (ports have keys of their own)".to_owned())
}

pub(super) fn anonymous(text: &str) -> Parsed<Anonymous> {
    match text {
        "same-user" => Ok(Anonymous::SameUser),
        "reject" => Ok(Anonymous::Reject),
        _ => Err("must be \"same-user\" or \"reject\"".to_owned()),
    }
}

pub(super) fn exception(text: &str) -> Parsed<ReadException> {
    let names = ReadException::ALL.iter().map(|exception| exception.as_str());
    let known = ReadException::ALL.into_iter().find(|exception| exception.as_str() == text);
    known.ok_or_else(|| no_such("exception", text, names))
}

/// The name of a minting operation.
pub(super) fn minting(text: &str) -> Parsed<String> {
    let known = service::minting_rules().any(|rule| rule == text);
    known.then(|| text.to_owned()).ok_or_else(|| no_such("minting operation", text, service::minting_rules()))
}

fn no_such<'a>(what: &str, text: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let names = BTreeSet::from_iter(names);
    match suggestion(text, names.iter().copied()) {
        Some(near) => format!("no such {what}; did you mean \"{near}\"?"),
        None => format!("no such {what}; there are: {}", Vec::from_iter(names).join(", ")),
    }
}

pub(super) fn host_pattern(text: &str) -> Parsed<HostPattern> {
    HostPattern::parse(text.trim()).map_err(|_| match text {
        url if url.contains("://") || url.contains('/') => "must be a host, not a URL".to_owned(),
        "*" => "must name hosts; leave the key out to mean all of them".to_owned(),
        wild if wild.contains('*') => "a wildcard is `*.` and at least two labels, and stands for one label".to_owned(),
        _ => "must be `host`, `host:port` or `*.suffix`".to_owned(),
    })
}

/// A host of a built-in service. Where many tenants have theirs, each must be named.
pub(super) fn service_host(text: &str) -> Parsed<HostPattern> {
    let pattern = host_pattern(text)?;
    let shared = |suffix: &str| {
        SHARED_DOMAINS.into_iter().find(|domain| suffix.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')))
    };
    match pattern.suffix().and_then(shared) {
        Some(domain) => Err(format!("others have hosts under `{domain}` too: name yours")),
        None => Ok(pattern),
    }
}

/// The path above a service's own: `/sub/path`, no trailing slash.
pub(super) fn path_prefix(text: &str) -> Parsed<String> {
    let path = text.trim().trim_end_matches('/');
    let canonical = path.is_empty() || CanonicalPath::parse(path).is_ok();
    canonical.then(|| path.to_owned()).ok_or_else(|| "must be a plain path such as \"/sentry\"".to_owned())
}

pub(super) fn header_value(text: &str) -> Parsed<HeaderValue> {
    text.trim().parse().map_err(|_| "holds a character that no header may carry".to_owned())
}

pub(super) fn cidr(text: &str) -> Parsed<Cidr> {
    text.trim().parse().map_err(|bad: BadCidr| bad.to_string())
}

/// The key of `upstream.resolve`.
pub(super) fn destination(text: &str) -> Parsed<(Host, u16)> {
    let authority = Authority::parse(text).ok().and_then(|authority| Some((authority.host, authority.port?)));
    authority.ok_or_else(|| "the key must be `\"host:port\"`".to_owned())
}

/// The value of `upstream.resolve`.
pub(super) fn socket_address(text: &str) -> Parsed<SocketAddr> {
    text.trim().parse().map_err(|_| "must be `\"ip:port\"`".to_owned())
}

pub(super) fn reference(text: &str) -> Parsed<OpReference> {
    OpReference::parse(text).map_err(|bad| bad.to_string())
}

/// `http://[user:password@]host[:port]`.
pub(super) fn upstream_proxy(text: &str) -> Parsed<UpstreamProxy> {
    const WRONG: &str = "must be `http://[user:password@]host:port`";
    let rest = text
        .trim()
        .strip_prefix("http://")
        .ok_or("must begin with `http://`: the proxy is reached by clear-text CONNECT")?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (userinfo, authority) = rest.rsplit_once('@').map_or((None, rest), |(user, host)| (Some(user), host));
    let Authority { host, port } = Authority::parse(authority).map_err(|_| WRONG)?;
    let credentials = userinfo.map(proxy_credentials).transpose()?;
    Ok(UpstreamProxy { host, port: port.unwrap_or(Scheme::Http.default_port()), credentials })
}

fn proxy_credentials(userinfo: &str) -> Parsed<(String, Secret)> {
    const WRONG: &str = "user and password stand as `user:password@`, with special characters percent-encoded";
    let (user, password) = userinfo.split_once(':').ok_or(WRONG)?;
    let user = percent_decode_str(user).decode_utf8().map_err(|_| WRONG)?;
    let password = Zeroizing::new(percent_decode_str(password).collect::<Vec<u8>>());
    let password = std::str::from_utf8(&password).map_err(|_| WRONG)?;
    let secret = Secret::parse(password).map_err(|bad| bad.to_string())?.ok_or(WRONG)?;
    if user.is_empty() || user.contains([':', '\r', '\n', '\0']) {
        Err(WRONG.to_owned())
    } else {
        Ok((user.into(), secret))
    }
}

/// A base URL credentials may go to, in one form: `https://host[:port]/path/`.
pub(super) fn service_url(text: &str) -> Parsed<String> {
    let text = text.trim();
    let rest =
        text.strip_prefix("https://").ok_or("must begin with `https://`: no credential goes out in clear text")?;
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let authority =
        Authority::parse(authority).map_err(|_| "must be `https://host[:port]/path/`, without a user name")?;
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '?' | '#' | '\\' | '"' | '<' | '>' | '`' | '{' | '}');
    if !path.chars().all(plain) || path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err("the path must be plain: no query, fragment, blank or dot segment".to_owned());
    }
    Ok(format!("https://{}/{}", authority.origin(Scheme::Https).authority(), with_slash(path.trim_start_matches('/'))))
}

/// A token endpoint: `https://host[:port]/path`.
pub(super) fn token_url(text: &str) -> Parsed<TokenUrl> {
    let url = service_url(text)?;
    let rest = url.strip_prefix("https://").unwrap_or_default();
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let authority = Authority::parse(authority).map_err(|_| "must be `https://host[:port]/path`")?;
    let path = if text.trim().ends_with('/') { path } else { path.trim_end_matches('/') };
    if path.is_empty() {
        return Err("must be `https://host[:port]/path`, with the endpoint's path".to_owned());
    }
    Ok(TokenUrl { origin: authority.origin(Scheme::Https), path: path.to_owned() })
}

fn with_slash(path: &str) -> String {
    if path.is_empty() || path.ends_with('/') { path.to_owned() } else { format!("{path}/") }
}

/// The regions that services have hosts of their own for.
pub(super) fn region(text: &str) -> Parsed<String> {
    let known = ["us", "eu"].contains(&text.trim());
    known.then(|| text.trim().to_owned()).ok_or_else(|| "must be \"us\" or \"eu\"".to_owned())
}

/// A user name that can stand in a Basic credential (RFC 7617 § 2: no colon, no control character).
pub(super) fn user_name(text: &str) -> Parsed<String> {
    let fits = text.len() <= 255 && !text.contains(|c: char| c == ':' || c.is_control());
    fits.then(|| text.trim().to_owned()).ok_or_else(|| "a user name holds no `:` and no control character".to_owned())
}

/// Keeps every deadline far from the clock's limits.
const LONGEST: Duration = Duration::from_secs(720 * 3600);
