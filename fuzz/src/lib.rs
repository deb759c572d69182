//! The proxy's HTTP/1 readers, compiled from their source: fuzzing them needs neither TLS nor a runtime.
#![allow(dead_code, missing_docs, reason = "the proxy uses what the targets do not")]

#[path = "../../crates/proxy/src/downstream/body1.rs"]
pub mod body1;
#[path = "../../crates/proxy/src/downstream/head.rs"]
pub mod head;
