//! How origins are verified.

use std::sync::Arc;

/// The two client configurations toward origins; certificates are always verified.
pub struct UpstreamTls {
    /// Offers only `http/1.1`.
    pub http1: Arc<rustls::ClientConfig>,
    /// Offers `h2` and `http/1.1`.
    pub http2: Arc<rustls::ClientConfig>,
}
