//! The PEM bundle for tools that want every root in one file.

use rustls_pki_types::CertificateDer;

use super::ca::Issuer;

/// System roots, `extra_roots` and our CA as PEM text.
pub fn bundle_pem(_issuer: &Issuer, _extra_roots: &[CertificateDer<'_>]) -> String {
    unimplemented!()
}
