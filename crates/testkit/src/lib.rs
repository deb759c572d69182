//! What clauderon's tests are made of: origins that record what reaches them, clients that record what comes back,
//! and a rig that runs the real binary between the two.
//!
//! Every wait is bounded by [`wait::LIMIT`]; nothing leaves loopback.

pub mod agent;
pub mod body;
pub mod bytes;
pub mod ca;
pub mod engine;
pub mod git_origin;
pub mod grpc;
pub mod kube;
pub mod npm_origin;
pub mod origin;
pub mod pip_origin;
pub mod rig;
pub mod run;
pub mod sightings;
pub mod talos;
mod tap;
pub mod wait;
pub mod websocket;

pub use h2::Reason;

/// Any failure of the kit's own plumbing.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
