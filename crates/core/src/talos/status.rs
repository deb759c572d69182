//! Refusals in the shape every gRPC client prints well: an answer that is trailers only.

use std::fmt::Write as _;

use crate::denial::{Denial, DenialCode};

/// A refusal as a gRPC client gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The value of `grpc-status`.
    pub code: u8,
    /// The value of `grpc-message`.
    pub message: String,
}

/// A denial as a gRPC status.
pub fn refusal(denial: &Denial) -> Refusal {
    let session = denial.details.iter().find(|(name, _)| *name == "session");
    let session = session.map_or_else(String::new, |(_, name)| format!(" (session {name})"));
    let hint = denial.next_step().map_or_else(String::new, |hint| format!("; hint: {hint}"));
    let message = escaped(&format!("clauderon: {}{session}{hint}", denial.message));
    Refusal { code: code(denial.code), message }
}

/// The numbers are those of gRPC's status codes. What is worth another try is `UNAVAILABLE`, and nothing else is.
const fn code(code: DenialCode) -> u8 {
    const INVALID_ARGUMENT: u8 = 3;
    const DEADLINE_EXCEEDED: u8 = 4;
    const PERMISSION_DENIED: u8 = 7;
    const RESOURCE_EXHAUSTED: u8 = 8;
    const FAILED_PRECONDITION: u8 = 9;
    const INTERNAL: u8 = 13;
    const UNAVAILABLE: u8 = 14;
    const UNAUTHENTICATED: u8 = 16;
    match code {
        DenialCode::MalformedRequest
        | DenialCode::HeadTooLarge
        | DenialCode::TargetTooLong
        | DenialCode::AuthorityMismatch => INVALID_ARGUMENT,
        DenialCode::RequestTimeout | DenialCode::UpstreamTimeout => DEADLINE_EXCEEDED,
        DenialCode::ReadOnly
        | DenialCode::Minting
        | DenialCode::PlaceholderMisdirected
        | DenialCode::HostNotAllowed
        | DenialCode::AddressNotAllowed
        | DenialCode::OwnListener
        | DenialCode::UpgradeNotAllowed
        | DenialCode::SwitchedOff => PERMISSION_DENIED,
        DenialCode::ProxyAuthRequired => UNAUTHENTICATED,
        DenialCode::TooBusy => RESOURCE_EXHAUSTED,
        DenialCode::CredentialUnavailable | DenialCode::UpstreamCertificate | DenialCode::UpstreamTls => {
            FAILED_PRECONDITION
        }
        DenialCode::AuditUnavailable
        | DenialCode::Draining
        | DenialCode::UpstreamDns
        | DenialCode::UpstreamRefused
        | DenialCode::UpstreamProtocol
        | DenialCode::UpstreamProxy => UNAVAILABLE,
        DenialCode::Internal => INTERNAL,
    }
}

/// gRPC over HTTP/2, "Status-Message": everything but visible ASCII is percent-encoded.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => escaped.push(byte.into()),
            _ => drop(write!(escaped, "%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_names_its_session_and_what_to_do() {
        let denial = Denial::new(DenialCode::ReadOnly, "nö, 100 %").detail("session", "review").hint("switch");
        let told = refusal(&denial);
        assert_eq!(told.code, 7);
        assert_eq!(told.message, "clauderon: n%C3%B6, 100 %25 (session review); hint: switch");
    }
}
