//! 1Password secret references: checked and shown here, passed on verbatim.

use std::fmt;
use std::sync::Arc;

/// `op://vault/item[/section]/field[?query]`, exactly as the user wrote it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OpReference(Arc<str>);

impl OpReference {
    /// Whether a value is meant as a reference: then it is resolved or refused, and never sent as it is.
    pub fn is_meant(text: &str) -> bool {
        text.trim_start().get(..SCHEME.len()).is_some_and(|start| start.eq_ignore_ascii_case(SCHEME))
    }

    /// Parses a reference; surrounding white space is cut.
    pub fn parse(text: &str) -> Result<Self, BadReference> {
        let text = text.trim();
        if !Self::is_meant(text) {
            return Err(BadReference::Scheme);
        }
        let rest = text.get(SCHEME.len()..).unwrap_or_default();
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let segments: Vec<&str> = path.split('/').collect();
        if !(3..=4).contains(&segments.len()) || segments.iter().any(|segment| segment.trim().is_empty()) {
            return Err(BadReference::Segments);
        }
        let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ' ');
        let queried = |c: char| named(c) || matches!(c, '=' | '&');
        if !segments.iter().all(|segment| segment.chars().all(named)) || !query.chars().all(queried) {
            return Err(BadReference::Character);
        }
        Ok(Self(text.into()))
    }

    /// Whether something is asked of the field (`?attribute=otp`) beside its value.
    pub fn has_query(&self) -> bool {
        self.without_query().len() < self.0.len()
    }

    /// The reference up to its query.
    pub fn without_query(&self) -> &str {
        self.0.split_once('?').map_or(&*self.0, |(path, _)| path)
    }

    /// The reference as `op` gets it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Shows the vault and the item; the field stays out of logs and listings.
impl fmt::Display for OpReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut segments = self.0.get(SCHEME.len()..).unwrap_or_default().split('/');
        let (vault, item) = (segments.next().unwrap_or_default(), segments.next().unwrap_or_default());
        write!(f, "{SCHEME}{vault}/{item}/…")
    }
}

impl fmt::Debug for OpReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is no secret reference. Names the fault, never the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadReference {
    /// Does not begin with `op://`.
    #[error("a 1Password reference begins with `op://`")]
    Scheme,
    /// Too few, too many or empty segments.
    #[error("a 1Password reference is `op://vault/item/field` or `op://vault/item/section/field`")]
    Segments,
    /// A character that `op` refuses.
    #[error("a 1Password reference holds letters, digits, `-`, `_`, `.` and spaces; for any other name use its id")]
    Character,
}

const SCHEME: &str = "op://";

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_kept_verbatim_and_shown_without_its_field() {
        for text in ["op://Private/GitHub/token", " OP://v/i/section/one-time password?attribute=otp\n"] {
            let reference = OpReference::parse(text).unwrap();
            assert_eq!(reference.as_str(), text.trim());
            assert!(!format!("{reference} {reference:?}").contains("token"));
            assert!(!format!("{reference}").contains("one-time"));
        }
    }

    #[test]
    fn what_op_would_refuse_is_refused_with_the_reason() {
        let cases = [
            ("ghp_x", BadReference::Scheme),
            ("op://vault/item", BadReference::Segments),
            ("op://a/b/c/d/e", BadReference::Segments),
            ("op://a//c", BadReference::Segments),
            ("op://a/b/", BadReference::Segments),
            ("op://Ann's/b/c", BadReference::Character),
            ("op://a/b/c\nd", BadReference::Character),
        ];
        for (text, fault) in cases {
            assert_eq!(OpReference::parse(text), Err(fault), "{text}");
        }
        assert!(OpReference::is_meant("  Op://") && !OpReference::is_meant("o") && !OpReference::is_meant("öp://"));
    }
}
