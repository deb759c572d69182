//! Requests to Kubernetes API servers.

pub(crate) mod call;
pub mod cluster;
pub(crate) mod members;
