//! The side toward the agent: bytes in, requests out, replies back.

pub mod body1;
pub mod head;
pub(crate) mod http1;
pub(crate) mod http2;
pub(crate) mod reply1;
pub(crate) mod stream;
