//! Calls of Talos' API.

pub(crate) mod call;
pub mod cluster;
mod endpoints;
mod openpgp;
mod reader;
pub mod sidero;
