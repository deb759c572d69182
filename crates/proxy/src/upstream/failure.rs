//! Why an origin could not be reached, told so that the agent's user knows what to do; never with a secret.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use clauderon_core::denial::{Denial, DenialCode};
use rustls::{AlertDescription, CertificateError, InvalidMessage};
use rustls_pki_types::UnixTime;
use time::OffsetDateTime;

use super::guard::{Forbidden, Kind};

/// Why an origin could not be reached. `target` is the `host:port` that the agent asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// The name has no address.
    #[error("{target} does not resolve: {fault}")]
    Dns { target: String, fault: String },
    /// No address of the name may be dialled.
    #[error("{target} may not be dialled: {forbidden}")]
    Forbidden { target: String, forbidden: Forbidden },
    /// The address is the daemon's own.
    #[error("{target} is clauderon itself, which sessions cannot reach")]
    OwnListener { target: String },
    /// No address accepts a connection.
    #[error("{target} cannot be connected to ({address}): {source}")]
    Refused { target: String, address: SocketAddr, source: io::Error },
    /// The time for connecting was over.
    #[error("{target} did not answer within {after:?} ({phase})")]
    Timeout { target: String, phase: Phase, after: Duration },
    /// The certificate does not verify.
    #[error("the certificate of {target} does not verify: {fault}")]
    Certificate { target: String, fault: CertificateFault },
    /// The TLS handshake failed otherwise.
    #[error("TLS with {target} failed: {fault}")]
    Tls { target: String, fault: String },
    /// The corporate proxy is unreachable, or does not open the tunnel.
    #[error("the corporate proxy {proxy} did not open a tunnel to {target}: {fault}")]
    Proxy { target: String, proxy: String, fault: ProxyFault },
}

/// What went wrong on a connection, in the library's words and never the peer's: those may hold anything, a secret included.
///
/// The innermost cause says what happened; the outer ones only where in the library.
pub(crate) fn in_short(error: &(dyn std::error::Error + 'static)) -> String {
    let cause = causes(error).last().unwrap_or(error);
    match cause.downcast_ref::<h2::Error>().and_then(h2::Error::reason) {
        Some(reason) => reason.description().to_owned(),
        None => cause.to_string(),
    }
}

/// An error and what caused it, outermost first.
pub(crate) fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

/// What the time ran out in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Asking for the name's addresses.
    Resolve,
    /// The TCP handshake.
    Connect,
    /// The corporate proxy's answer.
    Tunnel,
    /// The TLS handshake.
    Tls,
}

/// What is wrong with a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CertificateFault {
    /// Its time is over; when, if known.
    Expired(Option<String>),
    /// Its time has not begun; when it will, if known.
    NotYetValid(Option<String>),
    /// It is for other names; some of them.
    WrongName(Vec<String>),
    /// No trusted root issued it.
    UnknownIssuer,
    /// A trusted root has its issuer's name, but another key: usually a CA that was made anew.
    WrongIssuerKey,
    /// It was withdrawn.
    Revoked,
    /// Anything else, in rustls's words.
    Other(String),
}

/// What the corporate proxy did wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyFault {
    /// Its name has no address.
    #[error("its name does not resolve")]
    Dns,
    /// It accepts no connection, or breaks off.
    #[error("{0}")]
    Io(io::Error),
    /// It wants (other) credentials.
    #[error("it wants other credentials (407)")]
    Credentials,
    /// It answered the CONNECT with another status.
    #[error("it answered {0}")]
    Status(u16),
    /// Its answer is not HTTP, too long, or followed by bytes nobody asked for.
    #[error("its answer is not a valid response to CONNECT")]
    Malformed,
}

impl DialError {
    fn code(&self) -> DenialCode {
        match self {
            Self::Dns { .. } => DenialCode::UpstreamDns,
            Self::Forbidden { .. } => DenialCode::AddressNotAllowed,
            Self::OwnListener { .. } => DenialCode::OwnListener,
            Self::Refused { .. } => DenialCode::UpstreamRefused,
            Self::Timeout { .. } => DenialCode::UpstreamTimeout,
            Self::Certificate { .. } => DenialCode::UpstreamCertificate,
            Self::Tls { .. } => DenialCode::UpstreamTls,
            Self::Proxy { .. } => DenialCode::UpstreamProxy,
        }
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Dns { .. } => Some("names are resolved on the machine that runs clauderon; check the spelling"),
            Self::Forbidden { forbidden: Forbidden { kind: Kind::Metadata, .. }, .. } => {
                Some("cloud metadata services cannot be allowed")
            }
            Self::Forbidden { .. } => {
                Some("to permit it, add its address block to `network.allow_private` in proxy.toml")
            }
            Self::Timeout { .. } => Some("`upstream.connect_timeout` in proxy.toml sets the time"),
            Self::Certificate { fault, .. } => fault.hint(),
            Self::Proxy { fault: ProxyFault::Credentials, .. } => {
                Some("put the user name and password into `upstream.proxy` in proxy.toml")
            }
            Self::Proxy { .. } => Some("check `upstream.proxy` and `upstream.no_proxy` in proxy.toml"),
            Self::OwnListener { .. } | Self::Refused { .. } | Self::Tls { .. } => None,
        }
    }

    /// Reads a failed handshake.
    pub(crate) fn handshake(target: String, fault: &io::Error) -> Self {
        match fault.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(fault)) => Self::Certificate { target, fault: fault.into() },
            Some(fault) => Self::Tls { target, fault: tls_fault(fault) },
            None => Self::Tls { target, fault: broken_off(fault) },
        }
    }
}

impl From<DialError> for Denial {
    fn from(error: DialError) -> Self {
        let denial = Self::new(error.code(), error.to_string());
        match error.hint() {
            Some(hint) => denial.hint(hint),
            None => denial,
        }
    }
}

impl CertificateFault {
    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::UnknownIssuer => {
                Some("if the issuer is your organisation's, add its root to `upstream.ca_file` in proxy.toml")
            }
            Self::WrongIssuerKey => Some("if the issuer's CA was made anew, replace its root in `upstream.ca_file`"),
            Self::NotYetValid(_) | Self::Expired(_) => Some("check the clock of the machine that runs clauderon"),
            Self::WrongName(_) | Self::Revoked | Self::Other(_) => None,
        }
    }
}

impl From<&CertificateError> for CertificateFault {
    fn from(error: &CertificateError) -> Self {
        match error {
            CertificateError::Expired => Self::Expired(None),
            CertificateError::ExpiredContext { not_after, .. } => Self::Expired(date(*not_after)),
            CertificateError::NotValidYet => Self::NotYetValid(None),
            CertificateError::NotValidYetContext { not_before, .. } => Self::NotYetValid(date(*not_before)),
            CertificateError::NotValidForName => Self::WrongName(Vec::new()),
            CertificateError::NotValidForNameContext { presented, .. } => {
                Self::WrongName(presented.iter().take(NAMES_SHOWN).map(|name| shown_name(name)).collect())
            }
            CertificateError::UnknownIssuer => Self::UnknownIssuer,
            CertificateError::BadSignature => Self::WrongIssuerKey,
            CertificateError::Revoked => Self::Revoked,
            // What `openssl req -x509` makes: its own issuer, and a CA.
            CertificateError::Other(fault) if fault.to_string().contains("CaUsedAsEndEntity") => Self::UnknownIssuer,
            other => Self::Other(other.to_string()),
        }
    }
}

impl fmt::Display for CertificateFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired(Some(when)) => write!(f, "it expired on {when}"),
            Self::Expired(None) => f.write_str("it has expired"),
            Self::NotYetValid(Some(when)) => write!(f, "it is not valid before {when}"),
            Self::NotYetValid(None) => f.write_str("it is not valid yet"),
            Self::WrongName(names) if names.is_empty() => f.write_str("it is for another name"),
            Self::WrongName(names) => write!(f, "it is for {}", names.join(", ")),
            Self::UnknownIssuer => f.write_str("it is self-signed, or its issuer is unknown"),
            Self::WrongIssuerKey => f.write_str("its issuer's key is not the trusted root's of that name"),
            Self::Revoked => f.write_str("it was revoked"),
            Self::Other(fault) => f.write_str(fault),
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve => "resolving its name",
            Self::Connect => "connecting",
            Self::Tunnel => "waiting for the corporate proxy",
            Self::Tls => "TLS handshake",
        })
    }
}

fn tls_fault(fault: &rustls::Error) -> String {
    match fault {
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion) => {
            "it does not speak TLS on this port".to_owned()
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "it asks for a client certificate".to_owned()
        }
        rustls::Error::PeerIncompatible(_) | rustls::Error::AlertReceived(AlertDescription::ProtocolVersion) => {
            "it offers no TLS version or cipher that is still safe".to_owned()
        }
        other => other.to_string(),
    }
}

fn broken_off(fault: &io::Error) -> String {
    match fault.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            "it closed the connection during the handshake".to_owned()
        }
        _ => fault.to_string(),
    }
}

fn date(moment: UnixTime) -> Option<String> {
    let seconds = i64::try_from(moment.as_secs()).ok()?;
    OffsetDateTime::from_unix_timestamp(seconds).ok().map(|moment| moment.date().to_string())
}

/// A name from the origin's certificate, without webpki's `DnsName("…")` around it, fit to be shown.
fn shown_name(raw: &str) -> String {
    let inner = raw.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(raw);
    let printable = |c: &char| c.is_ascii_graphic() && *c != '"';
    inner.chars().filter(printable).take(NAME_SHOWN_MAX).collect()
}

/// A certificate can have thousands.
const NAMES_SHOWN: usize = 3;

const NAME_SHOWN_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use clauderon_core::denial::DenialCode;

    use super::*;

    #[test]
    fn names_in_hostile_certificates_are_cut_and_cleaned() {
        assert_eq!(shown_name("DnsName(\"example.com\")"), "example.com");
        assert_eq!(shown_name("IpAddress(127.0.0.1)"), "127.0.0.1");
        assert_eq!(shown_name("DnsName(\"a\r\n\u{1b}[2Jb\")"), "a[2Jb");
        assert_eq!(shown_name(&format!("DnsName(\"{}\")", "x".repeat(5000))).len(), NAME_SHOWN_MAX);
        let presented = vec!["DnsName(\"a\")".to_owned(); 100];
        let expected = rustls_pki_types::ServerName::try_from("b").map(|name| name.to_owned());
        let expected = expected.unwrap_or_else(|_| unreachable!("`b` is a name"));
        let fault = CertificateFault::from(&CertificateError::NotValidForNameContext { expected, presented });
        assert_eq!(fault.to_string(), "it is for a, a, a");
    }

    #[test]
    fn each_failure_has_its_code_and_its_advice() {
        let target = || "api.example.com:443".to_owned();
        let address = SocketAddr::from(([192, 0, 2, 1], 443));
        let forbidden =
            |kind| DialError::Forbidden { target: target(), forbidden: Forbidden { address: address.ip(), kind } };
        let proxy = |fault| DialError::Proxy { target: target(), proxy: "proxy.corp:3128".to_owned(), fault };
        let certificate = |fault| DialError::Certificate { target: target(), fault };
        let after = Duration::from_secs(5);
        let cases = [
            (DialError::Dns { target: target(), fault: String::new() }, DenialCode::UpstreamDns, "spelling"),
            (forbidden(Kind::Private), DenialCode::AddressNotAllowed, "network.allow_private"),
            (forbidden(Kind::Metadata), DenialCode::AddressNotAllowed, "cannot be allowed"),
            (DialError::OwnListener { target: target() }, DenialCode::OwnListener, ""),
            (
                DialError::Refused { target: target(), address, source: io::ErrorKind::ConnectionRefused.into() },
                DenialCode::UpstreamRefused,
                "",
            ),
            (
                DialError::Timeout { target: target(), phase: Phase::Tls, after },
                DenialCode::UpstreamTimeout,
                "upstream.connect_timeout",
            ),
            (certificate(CertificateFault::UnknownIssuer), DenialCode::UpstreamCertificate, "upstream.ca_file"),
            (certificate(CertificateFault::Expired(None)), DenialCode::UpstreamCertificate, "clock"),
            (DialError::Tls { target: target(), fault: String::new() }, DenialCode::UpstreamTls, ""),
            (proxy(ProxyFault::Credentials), DenialCode::UpstreamProxy, "upstream.proxy"),
            (proxy(ProxyFault::Malformed), DenialCode::UpstreamProxy, "upstream.no_proxy"),
        ];
        for (error, code, advice) in cases {
            let denial = Denial::from(error);
            assert_eq!(denial.code, code);
            assert!(denial.message.contains("api.example.com:443"), "{}", denial.message);
            assert!(denial.hint.as_deref().unwrap_or_default().contains(advice), "{:?}", denial.hint);
        }
        let timeout = DialError::Timeout { target: target(), phase: Phase::Tls, after };
        assert_eq!(timeout.to_string(), "api.example.com:443 did not answer within 5s (TLS handshake)");
    }
}
