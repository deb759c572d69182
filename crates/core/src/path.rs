//! Canonical paths: the only form policy may match.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use percent_encoding::percent_decode_str;

/// A path as policy may match it: begins with `/`, has no dot segments, `//`, backslash, control or non-ASCII bytes, and only
/// valid percent escapes. `%2F` is data of its segment (scoped npm names, branch names), never a separator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CanonicalPath<'a>(&'a str);

/// Which paths a rule covers. Segments are compared as written: a needlessly escaped spelling is not covered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathPattern {
    /// All of the host.
    Any,
    /// This path and everything below it, by whole segments; no trailing slash.
    Prefix(Arc<str>),
    /// This path only.
    Exact(Arc<str>),
    /// Git's smart HTTP and LFS endpoints of a repository whose name has this many segments.
    GitSmartHttp {
        /// The fewest segments of a repository's name.
        min: usize,
        /// The most.
        max: usize,
    },
    /// Paths that begin with segments like these.
    Segments(Arc<[Segment]>),
}

/// What one segment of a path must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// This text.
    Is(Arc<str>),
    /// Anything.
    Any,
    /// A secret.
    Token(TokenSegment),
}

/// Where in a path a secret stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenSegment {
    /// In the how-manieth segment, from 0.
    pub nth: usize,
    /// What stands before it in its segment.
    pub before: Arc<str>,
    /// What stands after it there.
    pub after: Arc<str>,
}

impl<'a> CanonicalPath<'a> {
    /// Takes a path without query; an error means that two readers could take it for two different paths.
    pub fn parse(text: &'a str) -> Result<Self, BadPath> {
        let rest = text.strip_prefix('/').ok_or(BadPath)?;
        if !text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'\\' | b'?' | b'#')) {
            return Err(BadPath);
        }
        let empty_inside = rest.split('/').rev().skip(1).any(str::is_empty);
        (!empty_inside && escapes_are_plain(text)).then_some(Self(text)).ok_or(BadPath)
    }

    /// The path as the agent wrote it.
    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// The segments between the slashes, undecoded; a trailing slash gives an empty last one.
    pub fn segments(self) -> impl DoubleEndedIterator<Item = &'a str> {
        self.0.strip_prefix('/').unwrap_or_default().split('/')
    }

    /// Whether this is `prefix` or lies below it; `prefix` has no trailing slash.
    pub fn is_under(self, prefix: &str) -> bool {
        self.0.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl PathPattern {
    /// `prefix` and everything below; an empty one, or `/`, is the whole host.
    pub fn under(prefix: &str) -> Self {
        match prefix.trim_end_matches('/') {
            "" => Self::Any,
            prefix => Self::Prefix(prefix.into()),
        }
    }

    /// What begins like `template` and everything below: `*` is any one segment, and `{token}`, once, a secret in a segment.
    /// `None` if that is no plain path.
    pub fn like(template: &str) -> Option<Self> {
        CanonicalPath::parse(template).ok().filter(|_| !template.contains('%'))?;
        if !template.contains(['*', '{', '}']) {
            return Some(Self::under(template));
        }
        let bare = template.strip_suffix('/').unwrap_or(template).split('/').skip(1);
        let segments: Option<Arc<[_]>> = bare.enumerate().map(|(nth, text)| Segment::parse(nth, text)).collect();
        let tokens = template.matches(TOKEN).count();
        segments.filter(|_| tokens <= 1).map(Self::Segments)
    }

    /// Where a secret stands in the paths that are covered.
    pub fn token(&self) -> Option<&TokenSegment> {
        let Self::Segments(segments) = self else { return None };
        segments.iter().find_map(|segment| if let Segment::Token(token) = segment { Some(token) } else { None })
    }

    /// Whether `path` is covered.
    pub fn matches(&self, path: CanonicalPath<'_>) -> bool {
        match self {
            Self::Any => true,
            Self::Prefix(prefix) => path.is_under(prefix),
            Self::Exact(exact) => path.as_str() == exact.as_ref(),
            Self::GitSmartHttp { min, max } => git_repository_depth(path).is_some_and(|n| (*min..=*max).contains(&n)),
            Self::Segments(segments) => {
                let mut sent = path.segments();
                segments.iter().all(|segment| sent.next().is_some_and(|text| segment.is(text)))
            }
        }
    }
}

impl Segment {
    fn parse(nth: usize, text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Any);
        }
        let token = text.split_once(TOKEN);
        let (before, after) = token.unwrap_or((text, ""));
        let plain = ![before, after].iter().any(|text| text.contains(['*', '{', '}']));
        let token = token.map(|_| Self::Token(TokenSegment { nth, before: before.into(), after: after.into() }));
        plain.then(|| token.unwrap_or_else(|| Self::Is(text.into())))
    }

    fn is(&self, text: &str) -> bool {
        match self {
            Self::Is(wanted) => **wanted == *text,
            Self::Any => !text.is_empty(),
            Self::Token(token) => token.inside(text).is_some(),
        }
    }
}

impl TokenSegment {
    /// Where what may be a secret stands in `path`.
    pub fn range(&self, path: &str) -> Option<Range<usize>> {
        let segment = path.split('/').nth(self.nth + 1)?;
        let start = segment.as_ptr().addr() - path.as_ptr().addr();
        let inside = self.inside(segment)?;
        Some(start + inside.start..start + inside.end)
    }

    fn inside(&self, segment: &str) -> Option<Range<usize>> {
        let inside = segment.strip_prefix(&*self.before)?.strip_suffix(&*self.after)?;
        (!inside.is_empty()).then_some(self.before.len()..self.before.len() + inside.len())
    }
}

impl std::fmt::Display for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Is(text) => f.write_str(text),
            Self::Any => f.write_str("*"),
            Self::Token(token) => token.fmt(f),
        }
    }
}

impl std::fmt::Display for TokenSegment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{TOKEN}{}", self.before, self.after)
    }
}

impl std::fmt::Display for PathPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Any => f.write_str("/*"),
            Self::Prefix(prefix) => write!(f, "{prefix}/*"),
            Self::Exact(path) => f.write_str(path),
            Self::GitSmartHttp { .. } => f.write_str(" (git)"),
            Self::Segments(segments) => {
                segments.iter().try_for_each(|segment| write!(f, "/{segment}"))?;
                f.write_str("/*")
            }
        }
    }
}

/// A path that is not canonical.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the path can be read in more than one way")]
pub struct BadPath;

/// `text` with its percent escapes undone (RFC 3986 § 2.1); what is no UTF-8 then is replaced.
pub(crate) fn unescaped(text: &str) -> Cow<'_, str> {
    // Most texts have none, which one look tells.
    if text.contains('%') { percent_decode_str(text).decode_utf8_lossy() } else { Cow::Borrowed(text) }
}

/// Valid escapes, none of a backslash or control character, and no segment that some origin would take for `.` or `..`:
/// origins that decode `%2F` before they normalise see more segments than we do, so it separates here.
fn escapes_are_plain(path: &str) -> bool {
    let dots = |piece: &[u8]| matches!(piece, b"." | b"..");
    if !path.contains('%') {
        return !path.as_bytes().split(|b| *b == b'/').any(dots);
    }
    let Some(decoded) = decode_strictly(path) else { return false };
    !decoded.iter().any(|b| b.is_ascii_control() || *b == b'\\') && !decoded.split(|b| *b == b'/').any(dots)
}

/// What stands for the secret in templates.
const TOKEN: &str = "{token}";

fn decode_strictly(text: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(if byte == b'%' { hex_digit(bytes.next()?)? << 4 | hex_digit(bytes.next()?)? } else { byte });
    }
    Some(decoded)
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// How many segments stand before a git endpoint, or `None` where there is none.
fn git_repository_depth(path: CanonicalPath<'_>) -> Option<usize> {
    let text = path.as_str();
    let repository =
        ["/info/refs", "/git-upload-pack", "/git-receive-pack"].iter().find_map(|end| text.strip_suffix(end));
    let repository = repository.or_else(|| text.split_once("/info/lfs/").map(|(repository, _)| repository))?;
    Some(repository.split('/').skip(1).count())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ambiguous_paths_are_refused() {
        let bad = [
            "",
            "*",
            "a",
            "//",
            "/a//b",
            "/.",
            "/..",
            "/a/../b",
            "/a/./b",
            "/%2e",
            "/%2E%2e/x",
            "/a/.%2e",
            "/a\\b",
            "/a%5cb",
            "/a%5C",
            "/%",
            "/%4",
            "/%zz",
            "/a b",
            "/a\u{1}",
            "/é",
            "/a%00b",
            "/a%0d%0ab",
            "/a%2f..%2fb",
            "/..%2Fx",
            "/a?b",
            "/a#b",
        ];
        for path in bad {
            assert_eq!(CanonicalPath::parse(path), Err(BadPath), "{path}");
        }
    }

    #[test]
    fn ordinary_paths_are_kept() {
        for path in [
            "/",
            "/a",
            "/a/",
            "/@scope%2fname",
            "/o/r/tree/feature%2Fx",
            "/a/..b/...",
            "/%7Euser",
            "/a;b=c/(d)",
            "/%E2%82%AC",
        ] {
            assert_eq!(CanonicalPath::parse(path).unwrap().as_str(), path);
        }
    }

    #[test]
    fn prefixes_end_at_segments() {
        let rule = PathPattern::under("/api/0/");
        let hit = |path| rule.matches(CanonicalPath::parse(path).unwrap());
        assert!(hit("/api/0") && hit("/api/0/") && hit("/api/0/x"));
        assert!(!hit("/api/01") && !hit("/api") && !hit("/%61pi/0/x"));
        assert_eq!(PathPattern::under("/"), PathPattern::Any);
    }

    #[test]
    fn templates_say_where_a_secret_stands() {
        let hit = |template, path| PathPattern::like(template).unwrap().matches(CanonicalPath::parse(path).unwrap());
        assert!(hit("/bot{token}", "/botX/getMe") && hit("/bot{token}", "/botX") && hit("/bot{token}/", "/botX/"));
        assert!(!hit("/bot{token}", "/bot/getMe") && !hit("/bot{token}", "/x/botX") && !hit("/bot{token}", "/Bot1"));
        assert!(hit("/hooks/*/{token}.json", "/hooks/7/S.json/x") && !hit("/hooks/*/{token}.json", "/hooks/7/.json"));
        assert!(!hit("/hooks/*/{token}", "/hooks/7") && !hit("/hooks/*", "/hooks/") && hit("/hooks/*", "/hooks/7/8"));
        assert_eq!(PathPattern::like("/a/b/"), Some(PathPattern::under("/a/b")));
        for bad in ["", "a", "/a/{token}/{token}", "/a*", "/{tok}", "/{token}x{token}", "/a/%7e", "/..", "/a//{token}"]
        {
            assert_eq!(PathPattern::like(bad), None, "{bad}");
        }
        let pattern = PathPattern::like("/hooks/*/k{token}.json").unwrap();
        assert_eq!(pattern.to_string(), "/hooks/*/k{token}.json/*");
        let path = "/hooks/7/kSECRET.json/x";
        assert_eq!(pattern.token().unwrap().range(path).and_then(|range| path.get(range)), Some("SECRET"));
    }

    #[test]
    fn git_endpoints_need_a_repository() {
        let rule = PathPattern::GitSmartHttp { min: 2, max: 2 };
        let hit = |path| rule.matches(CanonicalPath::parse(path).unwrap());
        for path in [
            "/o/r/info/refs",
            "/o/r.git/info/refs",
            "/o/r.git/git-upload-pack",
            "/o/r/git-receive-pack",
            "/o/r.git/info/lfs/objects/batch",
        ] {
            assert!(hit(path), "{path}");
        }
        for path in [
            "/info/refs",
            "/o/info/refs",
            "/o/r/releases/info/refs",
            "/o/r",
            "/login",
            "/o/r/info/refs/x",
            "/o/r/info%2Frefs",
            "/o/r/info/lfs",
        ] {
            assert!(!hit(path), "{path}");
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_has_no_second_reading(path in "/[a-z./%2eEfF5cC\\\\]{0,24}") {
            if let Ok(path) = CanonicalPath::parse(&path) {
                let decoded = percent_decode_str(path.as_str()).decode_utf8_lossy().replace('\\', "/");
                prop_assert!(!decoded.split('/').any(|piece| piece == "." || piece == ".."));
                prop_assert!(!path.as_str().contains("//"));
            }
        }
    }
}
