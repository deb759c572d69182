//! Certificates for the hosts that sessions call, made in memory and cached.

use std::sync::Arc;

use clauderon_core::host::Host;
use rustls::ServerConfig;

use super::ca::Issuer;

/// Server configurations by host, each with a leaf for exactly that host.
pub struct LeafCache {}

/// Why no leaf could be made.
#[derive(Debug, thiserror::Error)]
pub enum LeafError {
    /// to do
    #[error("to do")]
    Todo,
}

impl LeafCache {
    /// An empty cache with a fresh leaf key.
    pub fn new(_issuer: Arc<Issuer>) -> Result<Self, LeafError> {
        unimplemented!()
    }

    /// The configuration that proves to be `host`.
    pub fn config_for(&self, _host: &Host) -> Result<Arc<ServerConfig>, LeafError> {
        unimplemented!()
    }
}
