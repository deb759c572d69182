//! Injection: a request that passes carries the secret exactly where its rule says and no placeholder at all; everything
//! else is as the agent sent it; a request with a stray placeholder does not pass.
//!
//! Input: lines. The first is method, host and target, the others are fields. In them `\x01` stands for the session's own
//! GitHub placeholder, `\x02` for another session's, `\x03` for the own npm one, `\x04` for Basic credentials with the own one.
#![no_main]

use std::path::Path;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clauderon_core::access::AccessMode;
use clauderon_core::classify::classify;
use clauderon_core::config::{PolicySettings, Settings};
use clauderon_core::credential::CredentialKind;
use clauderon_core::derived::DerivedTable;
use clauderon_core::facts::Facts;
use clauderon_core::host::{Authority, Scheme};
use clauderon_core::inject::{self, InForce};
use clauderon_core::placeholder::{self, PlaceholderTable, TokenKind};
use clauderon_core::policy::decide;
use clauderon_core::rule::RuleSet;
use clauderon_core::secret::Secret;
use clauderon_core::service;
use clauderon_core::session::{Session, SessionId, SessionName};
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Request};
use libfuzzer_sys::fuzz_target;

/// Every byte a template language would act on.
const SECRET: &str = "ghp_$1\\1%s{{x}}&&${HOME}";

fuzz_target!(|input: &str| {
    let world = World::new();
    let Some((host, parts)) = world.request(input) else { return };
    let Ok(origin) = Authority::parse(host).map(|authority| authority.origin(Scheme::Https)) else { return };
    let before = parts.clone();
    let facts = Facts::of(&parts, &origin, false);
    let classified = classify(&facts, &world.rules).without_body();
    let Ok(permit) = decide(&facts, classified, &world.session, &world.rules, &PolicySettings::default()) else {
        return;
    };
    let Ok(plan) = inject::plan(permit, &parts, None, &world.session, world.in_force()) else { return };
    let secret = Secret::parse(SECRET).expect("a secret").expect("not empty");
    let asked = plan.changes().len();
    let Ok(injected) = plan.apply(parts, None, std::iter::repeat(Some(&secret))) else { return };
    assert!(!injected.auth_injected() || asked > 0);
    let in_it = injected.auth_injected();
    world.check(&before, &injected.into_parts(), in_it);
});

struct World {
    session: Session,
    table: PlaceholderTable,
    derived: DerivedTable,
    rules: RuleSet,
    own: String,
    others: String,
    npm: String,
}

impl World {
    fn new() -> Self {
        let (own, other) = (SessionId::from_bytes([1; 4]), SessionId::from_bytes([2; 4]));
        let (github, npm) = (CredentialKind::Github.credential(), CredentialKind::Npm.credential());
        let mut table = PlaceholderTable::default();
        for (session, name) in [(&own, &github), (&other, &github), (&own, &npm), (&other, &npm)] {
            table.insert_all(session, name);
        }
        Self {
            table,
            derived: DerivedTable::new(0),
            rules: RuleSet::new(service::rules(&Settings::defaults(Path::new("/home")))),
            own: placeholder::mint(&own, &github, &TokenKind::default()),
            others: placeholder::mint(&other, &github, &TokenKind::default()),
            npm: placeholder::mint(&own, &npm, &TokenKind::default()),
            session: Session {
                id: own,
                name: SessionName::parse("own").expect("a name"),
                mode: AccessMode::ReadWrite,
                credentials: None,
                allow_hosts: None,
            },
        }
    }

    fn in_force(&self) -> InForce<'_> {
        InForce { credentials: &self.table, derived: &self.derived, now: Instant::now() }
    }

    fn fill(&self, text: &str) -> String {
        let basic = STANDARD.encode(format!("x-access-token:{}", self.own));
        let text = text.replace('\u{1}', &self.own).replace('\u{2}', &self.others);
        text.replace('\u{3}', &self.npm).replace('\u{4}', &basic)
    }

    fn request<'a>(&self, input: &'a str) -> Option<(&'a str, Parts)> {
        let mut lines = input.split('\n');
        let mut words = lines.next()?.splitn(3, ' ');
        let (method, host, target) = (words.next()?, words.next()?, words.next()?);
        let request = Request::builder().method(method).uri(self.fill(target)).body(()).ok()?;
        let mut parts = request.into_parts().0;
        // The proxy takes the authority off a target before it looks at the rest.
        if parts.uri.authority().is_some() || !parts.uri.path().starts_with('/') {
            return None;
        }
        for line in lines {
            let (name, value) = line.split_once(": ")?;
            let value = HeaderValue::from_str(&self.fill(value)).ok()?;
            parts.headers.append(HeaderName::from_bytes(name.as_bytes()).ok()?, value);
        }
        let all = format!("{parts:?}");
        (!all.contains(SECRET)).then_some((host, parts))
    }

    fn check(&self, before: &Parts, after: &Parts, in_it: bool) {
        assert_eq!(
            (&before.method, &before.uri),
            (&after.method, &after.uri),
            "GitHub's and npm's rules leave the target alone"
        );
        assert!(self.table.sightings(after.uri.to_string().as_bytes()).next().is_none(), "a placeholder in the target");
        for (name, value) in &after.headers {
            assert!(self.table.sightings(value.as_bytes()).next().is_none(), "a placeholder in `{name}`");
            let decoded = value.to_str().ok().and_then(|text| STANDARD.decode(text.strip_prefix("Basic ")?).ok());
            let hidden = decoded.as_deref().unwrap_or_default();
            let stray = self.table.sightings(hidden).next().is_some();
            assert!(!stray || name != AUTHORIZATION, "a placeholder inside Basic");
            let shown = holds(value.as_bytes()) || decoded.as_deref().is_some_and(holds);
            assert!(!shown || (in_it && name == AUTHORIZATION), "the secret stands in `{name}`");
        }
        let surfaces = after.headers.get_all(AUTHORIZATION).iter().count();
        assert!(!in_it || surfaces == 1, "{surfaces} Authorization fields");
        let rest = |parts: &Parts| {
            let mut headers = parts.headers.clone();
            headers.remove(AUTHORIZATION);
            headers
        };
        assert_eq!(rest(before), rest(after), "another field changed");
        if !in_it {
            assert_eq!(before.headers, after.headers, "changed although nothing was injected");
        }
    }
}

fn holds(text: &[u8]) -> bool {
    text.windows(SECRET.len()).any(|window| window == SECRET.as_bytes())
}
