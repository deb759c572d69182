//! TLS on both sides. Everything that knows rustls, rcgen or X.509 stays behind this module.

use std::sync::{Arc, OnceLock};

use rustls::crypto::CryptoProvider;

pub mod bundle;
pub mod ca;
pub mod client;
pub mod leaf;
mod server;
pub mod session;
pub mod truststore;

/// Makes aws-lc-rs the process's default for code that does not name a provider; calling it again does nothing.
pub fn install_crypto_provider() {
    let _already_installed = CryptoProvider::clone(&provider()).install_default();
}

/// The one cryptographic provider of the process.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider())))
}
