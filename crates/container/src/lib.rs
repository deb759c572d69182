//! Sessions in containers: the engines of Docker and Podman, and the launch of a command in a container of its own.
//!
//! An engine is asked over its socket on this machine, by the API that both speak. What it puts up is looked at from inside
//! before there is an agent (see [`clauderon_sandbox::container`]); what it does not do is an error.

mod engine;
mod error;
mod launch;
mod left;
mod plan;
mod program;
mod socket;

pub use engine::{Connected, Engine, Image, Kind, PullPolicy};
pub use error::EngineError;
pub use launch::{Launch, launch};
pub use left::{Record, remove_left};
pub use plan::{Bind, Limits, Memory, Plan};
