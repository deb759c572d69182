//! The side toward the agent: bytes in, requests out, replies back.

pub(crate) mod http1;
pub(crate) mod http2;
pub(crate) mod inbound;
pub(crate) mod stream;
