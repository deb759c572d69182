//! Talos' API as its gateway reads it: which procedure a call names, what that does, what the call may not carry.
#![deny(clippy::wildcard_enum_match_arm, clippy::indexing_slicing)]

mod class;
mod grant;
mod message;
mod metadata;
mod rpc;
mod status;
mod switches;

pub use class::{Kind, MINTING};
pub use grant::{GRANT_PATH, Granted, granted, reader_request};
pub use message::{Asked, Unreadable};
pub use metadata::{deadline, nodes, remaining, strip_identity};
pub use rpc::Rpc;
pub use status::{Refusal, refusal};
pub use switches::check_switches;
