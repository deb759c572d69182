//! How origins are verified.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls_pki_types::CertificateDer;

/// The two client configurations toward origins; certificates are always verified.
pub struct UpstreamTls {
    /// Offers only `http/1.1`.
    pub http1: Arc<rustls::ClientConfig>,
    /// Offers `h2` and `http/1.1`.
    pub http2: Arc<rustls::ClientConfig>,
}

/// Why origins cannot be verified.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// to do
    #[error("{0} to do")]
    Todo(PathBuf),
}

impl UpstreamTls {
    /// Trusts the system's roots and `extra_roots`.
    pub fn new(_extra_roots: &[CertificateDer<'_>]) -> Result<Self, RootsError> {
        unimplemented!()
    }
}

/// The certificates in PEM files (`upstream.ca_file`); a file without one is an error.
pub fn load_roots(_files: &[impl AsRef<Path>]) -> Result<Vec<CertificateDer<'static>>, RootsError> {
    unimplemented!()
}
