//! Kubernetes' API as its gateway reads it: which resource a request is about, what it does there, what it may not carry.
#![deny(clippy::wildcard_enum_match_arm, clippy::indexing_slicing)]

mod class;
mod fields;
mod request;
mod secrets;
mod status;

pub use class::{classify, opens_a_channel};
pub use fields::strip_identity;
pub use request::{ApiRequest, NotCanonical, Resource};
pub use secrets::{Shown, show_metadata_only};
pub use status::status_body;
