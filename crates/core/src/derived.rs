//! Derived tokens: what an origin makes from a credential stays in the proxy, and the session gets a placeholder for it.
#![deny(clippy::wildcard_enum_match_arm, clippy::indexing_slicing)]

mod answer;
mod table;

use crate::host::Origin;
use crate::rule::Rule;

pub use self::answer::{Answer, Swapped, Unswappable};
pub use self::table::{DerivedTable, DerivedToken, Keep};

/// Which tokens the answers of an endpoint hold.
#[derive(Debug)]
pub struct Derivation {
    /// What tells its placeholders from those of other endpoints: lower-case letters and digits, at most 12.
    pub kind: &'static str,
    /// The tokens. Whatever else is in an answer is passed on.
    pub tokens: &'static [Token],
    /// Whether a success must hold one of them; one that does not holds it where nobody knows of.
    pub required: bool,
    /// Whether they are the user's even where no credential went out, as those of a login are.
    pub always: bool,
}

/// One token in an answer.
#[derive(Debug)]
pub struct Token {
    /// The JSON member that holds it, at any depth; letter case does not count.
    pub member: &'static str,
    /// What it begins with, where other values have the same name.
    pub prefix: &'static str,
    /// What its placeholder looks like.
    pub form: Form,
    /// For how many seconds it is kept where the answer does not say; `None` for as long as the session lives.
    pub lifetime: Option<u32>,
    /// Where it may go, in place of its placeholder.
    pub audience: fn(&Issuer<'_>) -> Vec<Rule>,
}

/// What a derived token's placeholder looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A word after the token's own prefix.
    Word,
    /// An unsigned JSON Web Token that tells when it ends (RFC 7519); some clients look.
    Jwt,
    /// There is none: nobody uses the token, it is only shown.
    Masked,
}

/// The endpoint that gave an answer.
#[derive(Debug, Clone, Copy)]
pub struct Issuer<'a> {
    /// The origin.
    pub origin: &'a Origin,
    /// The path that was asked for.
    pub path: &'a str,
}

impl Derivation {
    /// The most bytes an answer may have, decoded.
    pub const MAX_BYTES: usize = 1024 * 1024;
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing unwrap or index is the test's failure")]
mod tests;
