//! What the bench's processes share: the job format, TLS settings and readings of `/proc`.

pub mod job;
pub mod process;
pub mod stats;
pub mod tls;
