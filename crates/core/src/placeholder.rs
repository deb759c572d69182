//! Placeholders: minted per session and credential, found by exact lookup.

mod org_token;

use std::ops::Range;

use memchr::memmem::Finder;

use crate::credential::{CredentialKind, CredentialName};
use crate::map::TrustedMap;
use crate::secret::Secret;
use crate::session::SessionId;

/// What a placeholder mirrors of the real token, because some clients choose their behaviour by it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TokenKind {
    prefix: Option<&'static str>,
    /// What an organization token of Sentry says about itself.
    claims: Option<org_token::Claims>,
}

impl TokenKind {
    /// The kind of `secret`, as far as its text tells.
    pub fn of(secret: Option<&Secret>) -> Self {
        let Some(text) = secret.map(Secret::expose) else { return Self::default() };
        // Docker Hub's token may come as `user:token`.
        let token = text.split_once(':').map_or(text, |(_, token)| token);
        let forms = CredentialKind::ALL.into_iter().flat_map(|kind| forms(kind).iter());
        let prefix = forms.map(|form| form.prefix).find(|prefix| !prefix.is_empty() && token.starts_with(prefix));
        Self { prefix, claims: org_token::Claims::of(text) }
    }
}

/// The placeholder of a session for a credential: always the same for the same three arguments.
pub fn mint(session: &SessionId, name: &CredentialName, kind: &TokenKind) -> String {
    let Some(builtin) = builtin(name) else { return user_defined(session, name) };
    if let (CredentialKind::Sentry, Some(claims)) = (builtin, &kind.claims) {
        return claims.render(session);
    }
    let forms = forms(builtin);
    let form = forms.iter().find(|form| kind.prefix == Some(form.prefix)).or_else(|| forms.first());
    form.expect("every built-in credential has a form").render(session)
}

/// The placeholder of a login's refresh token, for credentials that have one.
pub fn refresh(session: &SessionId, kind: CredentialKind) -> Option<String> {
    forms(kind).iter().find(|form| form.refreshes).map(|form| form.render(session))
}

/// Whether `text` could be a placeholder of some session; which, only a [`PlaceholderTable`] tells.
pub fn looks_like_one(text: &str) -> bool {
    text.len() >= SHORTEST && MARKERS.iter().any(|marker| text.contains(marker))
}

/// Every placeholder the session may hold for the credential, whatever the kind of the real token was when it was minted.
pub fn variants(session: &SessionId, name: &CredentialName) -> Vec<String> {
    match builtin(name) {
        Some(kind) => forms(kind).iter().map(|form| form.render(session)).collect(),
        None => vec![user_defined(session, name)],
    }
}

/// Every placeholder in force, by its exact text.
#[derive(Debug)]
pub struct PlaceholderTable {
    owners: TrustedMap<String, (SessionId, CredentialName)>,
    /// Where the marker stands in a placeholder, and how long that is; longest first. One entry per form, not per placeholder.
    spans: Vec<Span>,
    /// By their beginnings, those whose rest depends on the real token.
    beginnings: TrustedMap<String, (SessionId, CredentialName)>,
    finders: [Finder<'static>; 3],
}

/// A placeholder found in some text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting<'a> {
    /// Where it stands, in bytes.
    pub range: Range<usize>,
    /// Whose it is.
    pub session: &'a SessionId,
    /// What it stands for.
    pub credential: &'a CredentialName,
}

impl PlaceholderTable {
    /// Adds all placeholders of a session for a credential.
    pub fn insert_all(&mut self, session: &SessionId, credential: &CredentialName) {
        for placeholder in variants(session, credential) {
            self.insert(placeholder, session.clone(), credential.clone());
        }
        if builtin(credential) == Some(CredentialKind::Sentry) {
            self.beginnings.insert(org_token::prefix(session), (session.clone(), credential.clone()));
        }
    }

    /// Adds a session's placeholder for a credential. Without one of the markers it is looked up, but never found inside a text.
    pub fn insert(&mut self, placeholder: String, session: SessionId, credential: CredentialName) {
        if let Some(at) = self.finders.iter().find_map(|finder| finder.find(placeholder.as_bytes())) {
            let span = Span { len: placeholder.len(), marker: at };
            if let Err(place) = self.spans.binary_search_by(|known| span.cmp(known)) {
                self.spans.insert(place, span);
            }
        }
        self.owners.insert(placeholder, (session, credential));
    }

    /// Whose placeholder `text` is, if it is one.
    pub fn owner(&self, text: &str) -> Option<(&SessionId, &CredentialName)> {
        let exact = self.owners.get(text);
        let owner = exact.or_else(|| {
            self.begun(text.as_bytes()).filter(|(length, _)| *length == text.len()).map(|(_, owner)| owner)
        });
        owner.map(|(session, credential)| (session, credential))
    }

    /// Every placeholder in `text`, in order. Text without a marker costs one search per marker; text shorter than any
    /// placeholder costs nothing.
    pub fn sightings<'a, 't>(&'a self, text: &'t [u8]) -> impl Iterator<Item = Sighting<'a>> + use<'a, 't> {
        let mut from = 0;
        std::iter::from_fn(move || {
            loop {
                let at = self.next_marker(text, from)?;
                if let Some(sighting) = self.sighting_at(text, at) {
                    from = sighting.range.end.max(at + 1);
                    return Some(sighting);
                }
                from = at + 1;
            }
        })
    }

    fn next_marker(&self, text: &[u8], from: usize) -> Option<usize> {
        if text.len() < SHORTEST {
            return None;
        }
        let rest = text.get(from..)?;
        self.finders.iter().filter_map(|finder| finder.find(rest)).min().map(|at| from + at)
    }

    /// The placeholder that `text` begins with, if it is one that is known by its beginning: its length, and whose it is.
    fn begun(&self, text: &[u8]) -> Option<(usize, &(SessionId, CredentialName))> {
        let beginning = std::str::from_utf8(text.get(..org_token::PREFIX_LEN)?).ok()?;
        let owner = self.beginnings.get(beginning)?;
        Some((org_token::length(text)?, owner))
    }

    fn sighting_at(&self, text: &[u8], marker: usize) -> Option<Sighting<'_>> {
        self.exactly_at(text, marker).or_else(|| {
            let start = marker.checked_sub(org_token::MARKER_AT)?;
            let (length, (session, credential)) = self.begun(text.get(start..)?)?;
            Some(Sighting { range: start..start + length, session, credential })
        })
    }

    fn exactly_at(&self, text: &[u8], marker: usize) -> Option<Sighting<'_>> {
        self.spans.iter().find_map(|span| {
            let start = marker.checked_sub(span.marker)?;
            let range = start..start + span.len;
            let candidate = std::str::from_utf8(text.get(range.clone())?).ok()?;
            let (session, credential) = self.owners.get(candidate)?;
            Some(Sighting { range, session, credential })
        })
    }
}

impl Default for PlaceholderTable {
    fn default() -> Self {
        Self {
            owners: TrustedMap::default(),
            spans: Vec::new(),
            beginnings: TrustedMap::default(),
            finders: MARKERS.map(Finder::new),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Span {
    len: usize,
    marker: usize,
}

/// One shape of a built-in credential's placeholder: prefix, marker, session, tail, zeros up to `len`.
struct Form {
    prefix: &'static str,
    marker: &'static str,
    tail: &'static str,
    len: usize,
    /// Stands for a refresh token, which never goes upstream.
    refreshes: bool,
}

impl Form {
    fn render(&self, session: &SessionId) -> String {
        let text = [self.prefix, self.marker, session.as_str(), self.tail].concat();
        format!("{text:0<len$}", len = self.len)
    }
}

fn builtin(name: &CredentialName) -> Option<CredentialKind> {
    CredentialKind::ALL.into_iter().find(|kind| kind.names().name == name.as_str())
}

fn user_defined(session: &SessionId, name: &CredentialName) -> String {
    // The names that PagerDuty's and Kubernetes' placeholders are built with; no credential's name has a dot.
    let separator = if matches!(name.as_str(), "pd" | "k8s") { '.' } else { '-' };
    format!("clauderon-placeholder{separator}{name}-{session}-000000")
}

const fn forms(kind: CredentialKind) -> &'static [Form] {
    match kind {
        CredentialKind::Github => GITHUB,
        CredentialKind::Anthropic => ANTHROPIC,
        CredentialKind::Openai => OPENAI,
        CredentialKind::Pagerduty => PAGERDUTY,
        CredentialKind::Sentry => SENTRY,
        CredentialKind::Grafana => GRAFANA,
        CredentialKind::Npm => NPM,
        CredentialKind::Docker => DOCKER,
        CredentialKind::Kubernetes => KUBERNETES,
        CredentialKind::Talos => TALOS,
        CredentialKind::Chatgpt => CHATGPT,
        CredentialKind::Gemini => GEMINI,
    }
}

const fn form(prefix: &'static str, marker: &'static str, tail: &'static str) -> Form {
    padded(prefix, marker, tail, 0)
}

const fn padded(prefix: &'static str, marker: &'static str, tail: &'static str, len: usize) -> Form {
    Form { prefix, marker, tail, len, refreshes: false }
}

const fn refreshing(prefix: &'static str) -> Form {
    Form { prefix, marker: "clauderon-placeholder-", tail: "-000000", len: 0, refreshes: true }
}

// The run of zeros keeps secret scanners quiet, `_` breaks their provider patterns; prefixes and lengths are what clients check.
const GITHUB: &[Form] = &[
    form("ghp_", "clauderon_placeholder_", "000000"),
    form("gho_", "clauderon_placeholder_", "000000"),
    form("ghu_", "clauderon_placeholder_", "000000"),
    form("ghs_", "clauderon_placeholder_", "000000"),
    padded("github_pat_", "clauderon_placeholder_", "", 93),
];
const ANTHROPIC: &[Form] = &[
    form("sk-ant-oat01-", "clauderon-placeholder-", "-000000"),
    form("sk-ant-api03-", "clauderon-placeholder-", "-000000"),
    refreshing("sk-ant-ort01-"),
];
const OPENAI: &[Form] = &[form("sk-proj-", "clauderon-placeholder-", "-000000")];
const PAGERDUTY: &[Form] = &[form("", "clauderon-placeholder-pd-", "-000000")];
/// 32 bytes in hexadecimal after the prefix: sentry-cli warns otherwise.
const SENTRY: &[Form] = &[padded("sntryu_", "c1a0de", "", 7 + 64)];
const GRAFANA: &[Form] = &[form("glsa_", "clauderon_placeholder_", "_000000")];
const NPM: &[Form] = &[form("npm_", "clauderon_placeholder_", "000000")];
const DOCKER: &[Form] = &[form("dckr_pat_", "clauderon_", "_000000"), form("dckr_oat_", "clauderon_", "_000000")];
const KUBERNETES: &[Form] = &[form("", "clauderon-placeholder-k8s-", "-000000")];
const TALOS: &[Form] = &[form("", "clauderon-placeholder-talos-", "-000000")];
/// An unsigned JSON Web Token that ends in the year 2286; Codex reads its middle. `{}` for a head keeps scanners quiet.
const CHATGPT: &[Form] = &[
    form("e30.eyJleHAiOjk5OTk5OTk5OTl9.", "clauderon-placeholder-", "-000000"),
    form("at-", "clauderon-placeholder-", "-000000"),
    refreshing("rt_"),
];
/// As a user's own credential of that name has it, which takes its place.
const GEMINI: &[Form] = &[form("", "clauderon-placeholder-gemini-", "-000000")];

/// What every placeholder contains one of.
const MARKERS: [&str; 3] = ["clauderon", "c1a0de", org_token::MARKER];
/// The length of the shortest placeholder (Docker's), so that short texts need no search.
const SHORTEST: usize = 34;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sid(text: &str) -> SessionId {
        SessionId::parse(text).unwrap()
    }

    fn name(text: &str) -> CredentialName {
        CredentialName::parse(text).unwrap()
    }

    fn secret(text: &str) -> Secret {
        Secret::parse(text).unwrap().unwrap()
    }

    #[test]
    fn shapes_are_what_clients_expect() {
        let id = sid("7f3a9c21");
        let all: Vec<String> = CredentialKind::ALL.iter().flat_map(|kind| variants(&id, &kind.credential())).collect();
        assert!(all.iter().all(|text| text.len() >= SHORTEST && text.contains("7f3a9c21")), "{all:#?}");
        assert_eq!(all.first().unwrap(), "ghp_clauderon_placeholder_7f3a9c21000000");
        assert_eq!(all.iter().find(|text| text.starts_with("github_pat_")).unwrap().len(), 93);
        let sentry = all.iter().find_map(|text| text.strip_prefix("sntryu_")).unwrap();
        assert!(sentry.len() == 64 && sentry.bytes().all(|b| b.is_ascii_hexdigit()));
        assert!(all.contains(&"dckr_oat_clauderon_7f3a9c21_000000".into()));
        assert!(all.contains(&"clauderon-placeholder-pd-7f3a9c21-000000".into()));
    }

    #[test]
    fn the_prefix_mirrors_the_real_token() {
        let id = sid("7f3a9c21");
        let mint = |name_: &str, real: &str| mint(&id, &name(name_), &TokenKind::of(Some(&secret(real))));
        assert!(mint("anthropic", "sk-ant-api03-x").starts_with("sk-ant-api03-clauderon"));
        assert!(mint("github", "github_pat_x").starts_with("github_pat_clauderon"));
        assert!(mint("github", "unheard-of").starts_with("ghp_clauderon"));
        assert!(mint("docker", "me:dckr_oat_x").starts_with("dckr_oat_clauderon"));
        assert_eq!(mint("linear", "lin_api_x"), "clauderon-placeholder-linear-7f3a9c21-000000");
    }

    #[test]
    fn no_two_credentials_share_a_placeholder() {
        let id = sid("7f3a9c21");
        let names =
            CredentialKind::ALL.map(CredentialKind::credential).into_iter().chain(["pd", "k8s", "linear"].map(name));
        let mut all: Vec<String> = names.flat_map(|name| variants(&id, &name)).collect();
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn sightings_are_exact() {
        let mut table = PlaceholderTable::default();
        let (one, two) = (sid("7f3a9c21"), sid("c1a0de12"));
        for id in [&one, &two] {
            table.insert_all(id, &name("openai"));
            table.insert_all(id, &name("sentry"));
        }
        let text = "x, openai-insecure-api-key.sk-proj-clauderon-placeholder-7f3a9c21-000000,sk-proj-clauderon-placeholder-c1a0de12-000000";
        let seen: Vec<_> = table.sightings(text.as_bytes()).map(|s| (s.range.start, s.session.as_str())).collect();
        assert_eq!(seen, [(27, "7f3a9c21"), (73, "c1a0de12")]);
        let sentry = mint(&two, &name("sentry"), &TokenKind::default());
        assert_eq!(table.sightings(sentry.as_bytes()).count(), 1);
        assert_eq!(table.sightings(b"clauderon-placeholder-7f3a9c22-000000 clauderonclauderon c1a0de").count(), 0);
    }

    #[test]
    fn an_organization_token_is_known_by_its_beginning() {
        let mut table = PlaceholderTable::default();
        let (one, two) = (sid("7f3a9c21"), sid("7f3a9c22"));
        table.insert_all(&one, &name("sentry"));
        let real = "sntrys_eyJpYXQiOjE3MDUsInVybCI6Imh0dHBzOi8vc2VudHJ5LmlvIiwib3JnIjoiYWNtZSJ9_\
                    MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI";
        let kind = TokenKind::of(Some(&secret(real)));
        let (own, alien) = (mint(&one, &name("sentry"), &kind), mint(&two, &name("sentry"), &kind));
        assert!(own.starts_with("sntrys_eyJjbGF1ZGVyb24i"), "{own}");
        assert_eq!(table.owner(&own), Some((&one, &name("sentry"))));
        assert_eq!((table.owner(&alien), table.owner(real), table.owner(&format!("{own}A"))), (None, None, None));
        let text = format!("Bearer {own}, {alien} {own}");
        let seen: Vec<_> = table.sightings(text.as_bytes()).map(|seen| text.get(seen.range).unwrap()).collect();
        assert_eq!(seen, [&own, &own]);
    }

    proptest! {
        #[test]
        fn every_placeholder_is_found_wherever_it_stands(before in ".{0,40}", after in ".{0,40}", raw: [u8; 4], which in 0_usize..CredentialKind::ALL.len()) {
            let id = SessionId::from_bytes(raw);
            let credential = CredentialKind::ALL[which].credential();
            let mut table = PlaceholderTable::default();
            table.insert_all(&id, &credential);
            for placeholder in variants(&id, &credential) {
                let text = format!("{before}{placeholder}{after}");
                let found = table.sightings(text.as_bytes()).any(|s| text.get(s.range) == Some(&placeholder));
                prop_assert!(found);
            }
        }
    }
}
