//! The TLS parameters toward sessions.
