//! Hosts, authorities and origins: one constructor each, so that equality is safe to decide on.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// A host in its one canonical form: lower-case, IDNA-processed, no trailing dot; IP literals parsed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// A DNS name.
    Name(Arc<str>),
    /// An IP literal; IPv6 is written in brackets.
    Ip(IpAddr),
}

/// `host[:port]` as written in a CONNECT target, `:authority` or `Host`; not trusted until all forms agree.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Authority {
    /// The host.
    pub host: Host,
    /// The port, when written.
    pub port: Option<u16>,
}

/// The two schemes that are proxied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Clear text; never carries a secret.
    Http,
    /// TLS.
    Https,
}

/// Scheme, host and port that own a resource: the thing rules match and pools are keyed by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The scheme.
    pub scheme: Scheme,
    /// The host.
    pub host: Host,
    /// The port, always explicit.
    pub port: u16,
}

/// A host rule: exact, or one label under a suffix (`*.example.com`), optionally on one port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPattern {
    name: PatternName,
    /// The only port matched; `None` leaves the port to the caller's default.
    pub port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum PatternName {
    Exact(Host),
    /// The suffix, beginning with its dot.
    OneLabel(Arc<str>),
}

impl Host {
    /// Parses a host without port. Refuses what two resolvers could read differently: empty labels, zone ids,
    /// percent signs, user parts, and names whose last label is numeric without being an IPv4 address (WHATWG URL § 3.5).
    pub fn parse(text: &str) -> Result<Self, BadHost> {
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(BadHost)?;
            return inner.parse::<Ipv6Addr>().map(|ip| Self::Ip(ip.into())).map_err(|_| BadHost);
        }
        let name = canonical_name(text)?;
        let last = name.rsplit('.').next().unwrap_or_default();
        if is_number(last) {
            return name.parse::<Ipv4Addr>().map(|ip| Self::Ip(ip.into())).map_err(|_| BadHost);
        }
        Ok(Self::Name(name.into()))
    }

    /// The IP address, if this is a literal.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Name(_) => None,
            Self::Ip(ip) => Some(*ip),
        }
    }

    /// The DNS name, if this is one.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Name(name) => Some(name),
            Self::Ip(_) => None,
        }
    }
}

impl Authority {
    /// Parses `host[:port]` (RFC 3986 § 3.2 without userinfo, which is refused).
    pub fn parse(text: &str) -> Result<Self, BadHost> {
        let (host, port) = split_port(text)?;
        Ok(Self { host: Host::parse(host)?, port })
    }

    /// The origin this authority names under `scheme`.
    pub fn origin(self, scheme: Scheme) -> Origin {
        Origin { scheme, host: self.host, port: self.port.unwrap_or_else(|| scheme.default_port()) }
    }
}

impl Scheme {
    /// 80 or 443.
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    /// As written in a URL.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

impl Origin {
    /// `host`, with `:port` unless it is the scheme's default: what goes into `Host` and `:authority`.
    pub fn authority(&self) -> String {
        if self.port == self.scheme.default_port() {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl HostPattern {
    /// The host of an origin, and its port where that is not the scheme's own.
    pub fn of(origin: &Origin) -> Self {
        let port = (origin.port != origin.scheme.default_port()).then_some(origin.port);
        Self { name: PatternName::Exact(origin.host.clone()), port }
    }

    /// Parses `host`, `host:port`, `*.suffix` or `*.suffix:port`; a wildcard stands for exactly one label.
    pub fn parse(text: &str) -> Result<Self, BadHost> {
        let Some(rest) = text.strip_prefix("*.") else {
            let Authority { host, port } = Authority::parse(text)?;
            return Ok(Self { name: PatternName::Exact(host), port });
        };
        let Authority { host, port } = Authority::parse(rest)?;
        let suffix = host.name().filter(|name| name.contains('.')).ok_or(BadHost)?;
        Ok(Self { name: PatternName::OneLabel(format!(".{suffix}").into()), port })
    }

    /// Whether `host` on `port` is meant; a pattern without a port means `default_port`.
    pub fn matches(&self, host: &Host, port: u16, default_port: u16) -> bool {
        port == self.port.unwrap_or(default_port) && self.matches_host(host)
    }

    /// Whether `host` is meant, on any port.
    pub fn matches_host(&self, host: &Host) -> bool {
        match (&self.name, host) {
            (PatternName::Exact(exact), host) => exact == host,
            (PatternName::OneLabel(suffix), Host::Name(name)) => {
                name.strip_suffix(suffix.as_ref()).is_some_and(|label| !label.is_empty() && !label.contains('.'))
            }
            (PatternName::OneLabel(_), Host::Ip(_)) => false,
        }
    }

    /// What a wildcard stands in front of, beginning with its dot.
    pub fn suffix(&self) -> Option<&str> {
        match &self.name {
            PatternName::Exact(_) => None,
            PatternName::OneLabel(suffix) => Some(suffix),
        }
    }

    /// The one host this pattern means, unless it is a wildcard.
    pub fn exact(&self) -> Option<&Host> {
        match &self.name {
            PatternName::Exact(host) => Some(host),
            PatternName::OneLabel(_) => None,
        }
    }
}

fn canonical_name(text: &str) -> Result<String, BadHost> {
    let text = text.strip_suffix('.').unwrap_or(text);
    // The common case needs no IDNA: already canonical ASCII without a punycode label.
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    let name = if text.bytes().all(plain) && !text.to_ascii_lowercase().contains("xn--") {
        text.to_ascii_lowercase()
    } else {
        let ascii = idna::domain_to_ascii_strict(text).map_err(|_| BadHost)?;
        // A punycode label must be the spelling IDNA itself gives (RUSTSEC-2024-0421: two spellings of one name).
        let (unicode, valid) = idna::domain_to_unicode(&ascii);
        let again = idna::domain_to_ascii_strict(&unicode).map_err(|_| BadHost)?;
        if valid.is_err() || again != ascii {
            return Err(BadHost);
        }
        ascii
    };
    let label = |label: &str| (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-');
    (name.len() <= 253 && name.split('.').all(label)).then_some(name).ok_or(BadHost)
}

fn is_number(label: &str) -> bool {
    let hex = label.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_hexdigit()));
    hex || label.bytes().all(|b| b.is_ascii_digit())
}

fn split_port(text: &str) -> Result<(&str, Option<u16>), BadHost> {
    let after_bracket = text.rfind(']').map_or(0, |at| at + 1);
    let Some(colon) = text.get(after_bracket..).ok_or(BadHost)?.find(':') else {
        return Ok((text, None));
    };
    let (host, port) = text.split_at(after_bracket + colon);
    let digits = port.strip_prefix(':').filter(|d| (1..=5).contains(&d.len()) && d.bytes().all(|b| b.is_ascii_digit()));
    match digits.ok_or(BadHost)?.parse() {
        Ok(0) | Err(_) => Err(BadHost),
        Ok(port) => Ok((host, Some(port))),
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(IpAddr::V4(ip)) => ip.fmt(f),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme.as_str(), self.host, self.port)
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            PatternName::Exact(host) => host.fmt(f)?,
            PatternName::OneLabel(suffix) => write!(f, "*{suffix}")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// A text that is no host, authority or host rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a valid host name or address")]
pub struct BadHost;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use super::*;

    #[test]
    fn one_name_has_one_form() {
        for spelling in ["API.GitHub.com", "api.github.com.", "api.github.com", "ａpi.github.com"] {
            assert_eq!(Host::parse(spelling).unwrap().to_string(), "api.github.com", "{spelling}");
        }
    }

    #[test]
    fn ambiguous_hosts_are_refused() {
        for bad in [
            "",
            ".",
            "a..b",
            "a%2fb",
            "u@h",
            "1.2.3",
            "0x7f.1",
            "2130706433",
            "127.1",
            "fe80::1",
            "[fe80::1%eth0]",
            "-a.b",
            "a b",
        ] {
            assert!(Host::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ports_are_digits_in_range() {
        assert_eq!(Authority::parse("[::1]:8443").unwrap().port, Some(8443));
        for bad in ["h:", "h:0", "h:65536", "h:+1", "h:1:2", "[::1]x:1"] {
            assert!(Authority::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_wildcard_is_one_label() {
        let rule = HostPattern::parse("*.example.com").unwrap();
        let hit = |host: &str| rule.matches(&Host::parse(host).unwrap(), 443, 443);
        assert!(hit("a.example.com"));
        assert!(!hit("example.com") && !hit("a.b.example.com") && !hit("aexample.com"));
        assert!(HostPattern::parse("*.com").is_err());
    }
}
