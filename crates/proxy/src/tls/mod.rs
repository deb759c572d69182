//! TLS on both sides.

pub mod client;
