//! The PEM bundle for tools that want every root in one file.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls_pki_types::CertificateDer;

use super::ca::Issuer;
use super::client::system_roots;

/// System roots, `extra_roots` and our CA as PEM text. A system without roots adds none: those that are compiled in
/// as a fall-back are keys and names, not certificates.
pub fn bundle_pem(issuer: &Issuer, extra_roots: &[CertificateDer<'_>]) -> String {
    let system = system_roots();
    let mut bundle: String = system.iter().chain(extra_roots).map(to_pem).collect();
    bundle.push_str(issuer.certificate_pem());
    bundle
}

/// One certificate as PEM (RFC 7468 § 2).
pub(super) fn to_pem(certificate: &CertificateDer<'_>) -> String {
    let text = BASE64_STANDARD.encode(certificate);
    let mut pem = String::with_capacity(text.len() + text.len() / LINE + 64);
    pem.push_str("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(LINE) {
        pem.extend(line.iter().copied().map(char::from));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

const LINE: usize = 64;
