//! Real clients, as users have them, against strict origins: what works in which mode, and that no client gets a secret.
//!
//! `./test` installs what these need; docs/clients.md says the versions.

mod claude;
mod codex;
mod gemini;
mod gh;
mod installed;
mod lfs;
mod npm;
mod sandboxed;
mod sentry;
mod skopeo;
