//! The certificate authority that sessions trust: loaded, checked, or made.

use std::path::Path;

/// The CA's certificate with its key, checked to belong together and to be in force.
pub struct Issuer {}

/// What `ca show` prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// The distinguished name.
    pub subject: String,
    /// First moment of validity (RFC 3339, UTC).
    pub not_before: String,
    /// Last moment of validity (RFC 3339, UTC).
    pub not_after: String,
    /// SHA-256 of the DER certificate, in colon-separated upper-case pairs as `openssl x509 -fingerprint` prints it.
    pub fingerprint: String,
}

/// Why there is no usable CA, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// to do
    #[error("to do")]
    Todo,
}

impl Issuer {
    /// Loads the pair, or makes both files when both are absent; never replaces anything.
    pub fn load_or_create(_cert_path: &Path, _key_path: &Path) -> Result<Self, CaError> {
        unimplemented!()
    }

    /// The certificate as PEM.
    pub fn certificate_pem(&self) -> &str {
        unimplemented!()
    }

    /// What a person wants to know of the CA.
    pub fn describe(&self) -> Description {
        unimplemented!()
    }
}
