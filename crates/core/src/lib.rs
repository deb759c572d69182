//! Pure rules of clauderon: what may pass, what is put in, what is written down.
//!
//! The data path, in the order a request meets it; every step takes only the previous step's output:
//!
//! ```text
//! accept -> identify session -> route -> policy -> inject -> forward -> scrub -> audit
//! Parts -> Facts -> (Facts, OperationClass) -> Permit -> Injected -> Response -> AuditRecord
//! ```
//!
//! This crate holds the decisions and none of the mechanisms: no sockets, files, clocks or environment.
//! `clauderon explain` and the live proxy therefore run the same code.
//!
//! Words (one per thing): the *agent* is the untrusted program, its *session* the identity it acts under;
//! *downstream* is the side toward the agent, *upstream* the side toward an *origin* (scheme, host and port).
//! A *credential* is a named thing the user configured, a *secret* its value, a *placeholder* the stand-in a
//! session holds instead. A *surface* is a place in a request where a placeholder may stand; a *rule* says where
//! a credential may go and in what shape; to *inject* is to put the secret in. A *decision* is a permit or a denial.
//! A *derived token* is what an origin makes from a credential; its *audience* are the rules it may go out by.

pub mod access;
pub mod agent;
pub mod audit;
pub mod catalogue;
pub mod cidr;
pub mod classify;
pub mod config;
pub mod credential;
pub mod denial;
pub mod derived;
pub mod digest;
pub mod encodings;
pub mod facts;
pub mod host;
pub mod inject;
mod json;
pub mod kubernetes;
pub mod local;
pub mod map;
pub mod path;
pub mod placeholder;
pub mod policy;
pub mod rule;
pub mod scrub;
pub mod secret;
pub mod service;
pub mod session;
pub mod talos;
