//! Kubernetes' API as its gateway reads it: which resource a request is about, what it does there, what it may not carry.
#![deny(clippy::wildcard_enum_match_arm, clippy::indexing_slicing)]

mod class;
mod fields;
mod request;
mod secrets;
mod status;
mod switches;

pub use class::{MINTING, classify, opens_a_channel};
pub use fields::strip_identity;
pub use request::{ApiRequest, NotCanonical, Resource};
pub use secrets::Shown;
pub use status::{Refusal, refusal};
pub use switches::check_switches;
