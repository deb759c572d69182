//! The TLS parameters toward sessions, and where each comes from.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, NoClientAuth, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::provider;

/// What every host's configuration shares; it has no certificate yet.
pub(super) fn base_config() -> Result<ServerConfig, rustls::Error> {
    // The session is known by its socket or proxy credentials; client certificates would add nothing.
    asking(Arc::new(NoClientAuth))
}

/// The same, with what is asked of clients.
pub(super) fn asking(clients: Arc<dyn ClientCertVerifier>) -> Result<ServerConfig, rustls::Error> {
    // TLS 1.2 and 1.3: older clients in sessions (Java 8, OpenSSL 1.0) still offer 1.2 at best.
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::new(NoCertificate));
    // h2 first: gRPC has no other way, and one connection then carries all of an agent's requests.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Stateless tickets (RFC 5077 § 4, 12 hours, keys rotated every 6) cost no memory per client, and one ticketer
    // for all hosts keeps them valid when a leaf is re-minted. rustls resumes only under the same SNI.
    config.ticketer = Ticketer::new()?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    // One is enough for clients that open connections one after another; each more is a record per handshake.
    config.send_tls13_tickets = 1;
    // Early data can be replayed (RFC 8446 § 8), and what is sent here may be a write.
    config.max_early_data_size = 0;
    Ok(config)
}

/// `base` for the one host of `key`; what is not the certificate is shared with it.
pub(super) fn config_with(base: &ServerConfig, key: CertifiedKey) -> ServerConfig {
    let mut config = base.clone();
    config.cert_resolver = Arc::new(SingleCertAndKey::from(key));
    config
}

/// The base configuration is a template: a handshake with it must fail.
#[derive(Debug)]
struct NoCertificate;

impl ResolvesServerCert for NoCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}
