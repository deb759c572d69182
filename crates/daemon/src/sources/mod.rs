//! Where secrets come from. Each source reads one value and says what it found; which source wins is the book's business.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clauderon_core::config::OpReference;
use clauderon_core::secret::Secret;
use zeroize::Zeroizing;

pub mod env;
pub mod file;
pub mod login;
pub mod onepassword;
mod op;

/// What a source holds for a credential.
pub enum Reading {
    /// A value.
    Literal(Arc<Secret>),
    /// A 1Password reference, to be resolved on first use.
    Reference(OpReference),
    /// A login that its keeper's file holds, renewed when it ends.
    Login(Keeper),
    /// Something that cannot be used, and what to do about it; never the value.
    Broken(String),
}

/// Sorts a raw value: nothing, a reference, a secret, or something no header could carry.
pub fn read(raw: &str) -> Option<Reading> {
    if OpReference::is_meant(raw) {
        return Some(OpReference::parse(raw).map_or_else(|bad| Reading::Broken(bad.to_string()), Reading::Reference));
    }
    match Secret::parse(raw) {
        Ok(None) => None,
        Ok(Some(secret)) => Some(Reading::Literal(Arc::new(secret))),
        Err(bad) => Some(Reading::Broken(bad.to_string())),
    }
}

/// As [`read`] for what may be a whole document, of several lines: it is kept in base64.
pub fn read_document(raw: &str) -> Option<Reading> {
    match raw.trim() {
        text if text.contains('\n') => read(&Zeroizing::new(STANDARD.encode(text))),
        text => read(text),
    }
}

use login::Keeper;
pub use op::Failure;
