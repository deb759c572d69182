//! A Linux sandbox for an agent, made without privileges: it sees what its plan lists, and reaches nothing but one socket.
//!
//! The walls, each of which holds alone: an empty network namespace; a mount view that is a list of what is there; user,
//! pid, ipc, uts and cgroup namespaces; no capability in a second user namespace; Landlock; a system call filter. What
//! cannot be armed is an error: nothing weaker is ever started.

mod agent;
pub mod container;
mod dns;
mod error;
pub mod identity;
mod init;
mod landlock;
mod launch;
mod namespaces;
mod network;
pub mod plan;
pub mod probe;
mod relay;
mod seccomp;
mod supervise;
mod syscalls;
pub mod terminal;
mod view;

pub use agent::agent;
pub use error::SandboxError;
pub use init::init;
pub use launch::{Handed, Launch, Report, die_with, launch, report};
