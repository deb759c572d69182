//! Canonical paths: the only form policy may match.

/// A path as policy may match it: begins with `/`, has no dot segments, `//`, backslash or encoded separators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CanonicalPath<'a>(&'a str);

/// Which paths a rule covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathPattern {
    /// All of the host.
    Any,
}

impl PathPattern {
    /// Whether `path` (with its undecoded `query`) is covered.
    pub fn matches(&self, _path: CanonicalPath<'_>, _query: Option<&str>) -> bool {
        true
    }
}
