//! Rules: where a credential may go, on which surface and in what shape.

use std::sync::{Arc, OnceLock};

use http::header::{Entry, FROM};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method};
use serde::{Deserialize, Serialize};

use crate::credential::CredentialName;
use crate::facts::Facts;
use crate::host::{Host, HostPattern, Origin, Scheme};
use crate::map::TrustedMap;
use crate::path::{CanonicalPath, PathPattern, TokenSegment};

/// One row: this credential, to this origin and path, in this shape.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The short service name for audit records (`github`, or the user-defined credential's name).
    pub service: Arc<str>,
    /// The credential that is injected.
    pub credential: CredentialName,
    /// The host; its port defaults to 443.
    pub host: HostPattern,
    /// Which paths of the host.
    pub path: PathPattern,
    /// How the secret is rendered.
    pub shape: Shape,
    /// When it is injected.
    pub inject: InjectPolicy,
    /// Fields that go along with it, where the client did not send them.
    pub extra: Arc<[(HeaderName, HeaderValue)]>,
    /// The rule's text for people, made at its first use.
    pub label: OnceLock<Arc<str>>,
}

impl Rule {
    /// The rule for people, as audit records and `explain` show it.
    pub fn label(&self) -> Arc<str> {
        self.label.get_or_init(|| self.to_string().into()).clone()
    }

    /// Adds the fields that go along with the credential. `From` says who changes something, and is for writing methods only.
    pub fn add_extra(&self, parts: &mut Parts) {
        let reads = [Method::GET, Method::HEAD, Method::OPTIONS].contains(&parts.method);
        for (name, value) in self.extra.iter().filter(|(name, _)| !(reads && name == FROM)) {
            if let Entry::Vacant(place) = parts.headers.entry(name) {
                place.insert(value.clone());
            }
        }
    }

    /// Whether the secret is put into a request that carries no credential at all.
    pub fn adds(&self) -> bool {
        match self.inject {
            InjectPolicy::Auto | InjectPolicy::Always => true,
            InjectPolicy::Placeholder => false,
        }
    }
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}{}", self.service, self.host, self.path)
    }
}

/// How a secret is put into a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// `Authorization: Bearer S`; a client's `token` or `Bearer` scheme is kept when its placeholder is swapped.
    Bearer,
    /// As [`Shape::Bearer`], and `openai-insecure-api-key.S` among `Sec-WebSocket-Protocol`, which browsers must use.
    Openai,
    /// `Authorization: Token token=S` (PagerDuty REST keys); other tokens keep the `Bearer` the client chose.
    PagerdutyToken,
    /// `Authorization: Basic base64(user:S)`; a user name sent by the client is kept.
    Basic {
        /// The user name when the client gave none.
        user: Arc<str>,
    },
    /// As [`Shape::Basic`] for registries whose secret may bring its user along as `user:token`.
    RegistryBasic {
        /// The configured user name; it is used where the client gave none, or `clauderon`.
        user: Option<Arc<str>>,
    },
    /// Anthropic: an OAuth token (`sk-ant-oat…`) goes into `Authorization: Bearer` with the `oauth-2025-04-20` beta flag,
    /// any other key into `x-api-key`; the header of the other kind is removed.
    Anthropic,
    /// Google: `x-goog-api-key: S`, where a key in the query goes too; `Authorization: Bearer S` where a client wrote it so.
    GoogleKey,
    /// `name: prefix S suffix`.
    Header {
        /// The field.
        name: HeaderName,
        /// Before the secret.
        prefix: Arc<str>,
        /// After the secret.
        suffix: Arc<str>,
    },
    /// A query parameter.
    Query {
        /// The parameter's name.
        key: Arc<str>,
    },
    /// A cookie.
    Cookie {
        /// The cookie's name.
        name: Arc<str>,
    },
    /// A segment of the path, or a part of one. Only ever swapped.
    Path(TokenSegment),
    /// A member of a JSON object, or a pair of a form, in the body. Only ever swapped.
    Body {
        /// The member's or pair's name.
        field: Arc<str>,
        /// Where its user stands, for secrets that go with one.
        user: Option<BodyUser>,
    },
}

/// The field beside a secret that names its user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyUser {
    /// The member's or pair's name.
    pub field: Arc<str>,
    /// The configured user; it is used where the client gave none, or `clauderon`.
    pub name: Option<Arc<str>>,
}

impl Shape {
    /// Whether the secret may bring its user along as `user:token`.
    pub const fn splits_user(&self) -> bool {
        matches!(self, Self::RegistryBasic { .. } | Self::Body { user: Some(_), .. })
    }

    /// Whether the secret is only ever put in the place of a placeholder.
    pub const fn is_only_swapped(&self) -> bool {
        matches!(self, Self::Path(_) | Self::Body { .. })
    }

    /// The field of the body that the secret goes into, and where its user stands.
    pub fn body_field(&self) -> Option<(&str, Option<&BodyUser>)> {
        if let Self::Body { field, user } = self { Some((field, user.as_ref())) } else { None }
    }
}

impl std::fmt::Display for Shape {
    /// The surface, as `explain` shows it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bearer => f.write_str("authorization: Bearer"),
            Self::Openai => f.write_str("authorization: Bearer, or an entry of sec-websocket-protocol"),
            Self::PagerdutyToken => f.write_str("authorization: Token token="),
            Self::Basic { user } => write!(f, "authorization: Basic, user {user} unless the client names one"),
            Self::RegistryBasic { user: Some(user) } => write!(f, "authorization: Basic, user {user}"),
            Self::RegistryBasic { user: None } => {
                f.write_str("authorization: Basic, user from the client or the secret")
            }
            Self::Anthropic => f.write_str("authorization: Bearer for an OAuth token, x-api-key for an API key"),
            Self::GoogleKey => f.write_str("x-goog-api-key, or authorization: Bearer as the client wrote it"),
            Self::Header { name, prefix, suffix } => write!(f, "{name}: {prefix}{{token}}{suffix}"),
            Self::Query { key } => write!(f, "query parameter {key}"),
            Self::Cookie { name } => write!(f, "cookie {name}"),
            Self::Path(token) => write!(f, "segment {} of the path: {token}", token.nth + 1),
            Self::Body { field, .. } => write!(f, "field {field} of the body"),
        }
    }
}

/// When a credential is injected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InjectPolicy {
    /// Absent: add. Own placeholder: swap. Anything else: leave.
    #[default]
    Auto,
    /// Swap the own placeholder; never add.
    Placeholder,
    /// Replace whatever the client sent.
    Always,
}

/// All rules in force, found by host.
#[derive(Debug, Default)]
pub struct RuleSet {
    exact: TrustedMap<Host, Vec<Arc<Rule>>>,
    wildcard: Vec<Arc<Rule>>,
    /// Whether there is a secret in a path at all.
    in_paths: bool,
}

impl RuleSet {
    /// Indexes `rules`; of several that match one request the first wins, exact hosts before wildcards.
    pub fn new(rules: impl IntoIterator<Item = Rule>) -> Self {
        let mut set = Self::default();
        for rule in rules.into_iter().map(Arc::new) {
            set.in_paths |= rule.path.token().is_some();
            match rule.host.exact() {
                Some(host) => set.exact.entry(host.clone()).or_default().push(rule),
                None => set.wildcard.push(rule),
            }
        }
        set
    }

    /// The first rule for a request: TLS, exact host, port and path, or none.
    pub fn find(&self, facts: &Facts<'_>) -> Option<&Arc<Rule>> {
        self.matching(facts).next()
    }

    /// Every rule for a request. A path that is not canonical has none.
    pub fn matching<'a, 'o>(&'a self, facts: &Facts<'o>) -> impl Iterator<Item = &'a Arc<Rule>> + use<'a, 'o> {
        let path = facts.path;
        self.of_origin(facts.origin).filter(move |rule| path.is_some_and(|path| rule.path.matches(path)))
    }

    /// Whether any rule is for this origin, on whatever path.
    pub fn knows(&self, origin: &Origin) -> bool {
        self.of_origin(origin).next().is_some()
    }

    /// All rules of an origin. Plain http has none.
    pub fn of_origin<'a, 'o>(&'a self, origin: &'o Origin) -> impl Iterator<Item = &'a Arc<Rule>> + use<'a, 'o> {
        let exact = self.exact.get(&origin.host).into_iter().flatten();
        exact.chain(&self.wildcard).filter(|rule| {
            origin.scheme == Scheme::Https && rule.host.matches(&origin.host, origin.port, Scheme::Https.default_port())
        })
    }

    /// The service name audit records give this origin, if any rule knows it.
    pub fn service_of(&self, origin: &Origin) -> Option<&Arc<str>> {
        self.of_origin(origin).next().map(|rule| &rule.service)
    }

    /// The path as records show it where a rule says that a secret may stand in it.
    pub fn masked(&self, origin: &Origin, path: &str) -> Option<String> {
        if !self.in_paths {
            return None;
        }
        let canonical = CanonicalPath::parse(path).ok()?;
        let mut rules = self.of_origin(origin).filter(|rule| rule.path.matches(canonical));
        let token = rules.find_map(|rule| rule.path.token())?;
        let mut masked = path.to_owned();
        masked.replace_range(token.range(path)?, "***");
        Some(masked)
    }

    /// Every rule, for listings.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Rule>> {
        self.exact.values().flatten().chain(&self.wildcard)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Says what a pattern means in the plainest way, label by label over the text.
    fn slow_match(pattern: &str, host: &str, port: u16) -> bool {
        let (pattern, wanted) =
            pattern.split_once(':').map_or((pattern, 443), |(name, port)| (name, port.parse().unwrap()));
        let host = host.to_ascii_lowercase();
        let host: Vec<&str> = host.strip_suffix('.').unwrap_or(&host).split('.').collect();
        let pattern = pattern.to_ascii_lowercase();
        let pattern: Vec<&str> = pattern.strip_suffix('.').unwrap_or(&pattern).split('.').collect();
        let label = |(wanted, label): (&&str, &&str)| *wanted == "*" || wanted == label;
        port == wanted && host.len() == pattern.len() && pattern.iter().zip(&host).all(label)
    }

    fn rule(nth: usize, host: &str) -> Rule {
        Rule {
            service: nth.to_string().into(),
            credential: CredentialName::parse("x").unwrap(),
            host: HostPattern::parse(host).unwrap(),
            path: PathPattern::Any,
            shape: Shape::Bearer,
            inject: InjectPolicy::Auto,
            extra: Arc::default(),
            label: OnceLock::new(),
        }
    }

    proptest! {
        #[test]
        fn hosts_match_as_the_slow_reference_says(
            patterns in proptest::collection::vec("(\\*\\.)?[abB]{1,2}\\.[ab]{1,2}\\.?(:(443|844))?", 1..6),
            host in "([aAb]{1,2}\\.){1,3}[ab]{1,2}\\.?", port in prop_oneof![Just(443_u16), Just(844), Just(80)]
        ) {
            let set = RuleSet::new(patterns.iter().enumerate().map(|(nth, pattern)| rule(nth, pattern)));
            let origin = |scheme| Origin { scheme, host: Host::parse(&host).unwrap(), port };
            let mut found: Vec<usize> = set.of_origin(&origin(Scheme::Https)).map(|rule| rule.service.parse().unwrap()).collect();
            found.sort_unstable();
            let hit = |nth: &usize| slow_match(&patterns[*nth], &host, port);
            prop_assert_eq!(found, (0..patterns.len()).filter(hit).collect::<Vec<_>>());
            prop_assert_eq!(set.of_origin(&origin(Scheme::Http)).count(), 0);
        }
    }
}
