#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is the test's failure")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use http::Request;
use proptest::prelude::*;

use super::*;
use crate::classify::classify;
use crate::config::{PolicySettings, Reach, ServiceSettings, Settings, UserCredential};
use crate::credential::CredentialKind;
use crate::derived::DerivedTable;
use crate::facts::Facts;
use crate::host::{HostPattern, Scheme};
use crate::placeholder::{PlaceholderTable, variants};
use crate::policy::decide;
use crate::rule::{RuleSet, Shape};
use crate::session::{SessionId, SessionName};
use crate::{access::AccessMode, host::Authority};

/// Two sessions that hold every credential, and the rules of a well-filled `proxy.toml`.
struct Bench {
    rules: RuleSet,
    table: PlaceholderTable,
    session: Session,
    other: SessionId,
}

type Sent<'a> = &'a [(&'static str, &'a str)];

impl Bench {
    fn new() -> Self {
        Self::with(&settings())
    }

    fn with(settings: &Settings) -> Self {
        let rules = RuleSet::new(crate::service::rules(settings));
        let session = Session {
            id: SessionId::parse("7f3a9c21").unwrap(),
            name: SessionName::parse("review").unwrap(),
            mode: AccessMode::ReadWrite,
            credentials: None,
            allow_hosts: None,
        };
        let other = SessionId::parse("00c1a0de").unwrap();
        let mut table = PlaceholderTable::default();
        let own = settings.credentials.iter().map(|credential| credential.name.clone());
        for name in CredentialKind::ALL.map(CredentialKind::credential).into_iter().chain(own) {
            table.insert_all(&session.id, &name);
            table.insert_all(&other, &name);
        }
        Self { rules, table, session, other }
    }

    /// As most clients send it.
    fn bearer(&self, credential: &str) -> String {
        format!("Bearer {}", self.placeholder(credential))
    }

    /// What `PLACE` in a test stands for.
    fn placeholder(&self, credential: &str) -> String {
        variants(&self.session.id, &name(credential)).remove(0)
    }

    fn plan(&self, url: &str, sent: Sent<'_>) -> (Parts, Result<Plan, Denial>) {
        let (scheme, rest) = url.split_once("://").unwrap();
        let (authority, target) = rest.split_at(rest.find('/').unwrap());
        let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
        let origin = Authority::parse(authority).unwrap().origin(scheme);
        let request = sent.iter().fold(Request::get(target), |request, (name, value)| request.header(*name, *value));
        let parts = request.body(()).unwrap().into_parts().0;
        let facts = Facts::of(&parts, &origin, false);
        let permit = decide(
            &facts,
            classify(&facts, &self.rules).without_body(),
            &self.session,
            &self.rules,
            &PolicySettings::default(),
        );
        let none = DerivedTable::new(0);
        let in_force = InForce { credentials: &self.table, derived: &none, now: Instant::now() };
        let plan = plan(permit.unwrap(), &parts, None, &self.session, in_force);
        (parts, plan)
    }

    fn run(&self, url: &str, sent: Sent<'_>, real: &str) -> Result<Injected, Denial> {
        let (parts, plan) = self.plan(url, sent);
        plan?.apply(parts, None, [Some(&secret(real))])
    }

    fn header(&self, url: &str, sent: Sent<'_>, real: &str, name: &str) -> String {
        let injected = self.run(url, sent, real).unwrap();
        let value = injected.into_parts().headers.get(name).cloned();
        value.map_or_else(String::new, |value| value.to_str().unwrap().to_owned())
    }

    fn denial(&self, url: &str, sent: Sent<'_>) -> Denial {
        self.run(url, sent, "real").err().unwrap()
    }
}

fn settings() -> Settings {
    let mut settings = Settings::defaults(Path::new("/home/u/.clauderon"));
    let hosts = |hosts: &[&str]| ServiceSettings {
        hosts: hosts.iter().map(|host| HostPattern::parse(host).unwrap()).collect(),
        ..ServiceSettings::default()
    };
    settings.services = BTreeMap::from([
        ("github".into(), hosts(&["ghes.example.com", "acme.ghe.com"])),
        ("sentry".into(), hosts(&["sentry.example.com:8443"])),
        (
            "grafana".into(),
            ServiceSettings { url: Some("https://graf.example.com:3000/g/".into()), ..ServiceSettings::default() },
        ),
        (
            "npm".into(),
            ServiceSettings {
                registries: ["https://reg.example.com/npm/", "//other.example.com/", "http://127.0.0.1:4873/"]
                    .map(str::to_owned)
                    .into(),
                ..ServiceSettings::default()
            },
        ),
    ]);
    settings.credentials = vec![
        user("linear", "api.linear.example", field("authorization", "", "")),
        user("keyed", "q.example", Shape::Query { key: "key".into() }),
        user("baked", "c.example:8443", Shape::Cookie { name: "sid".into() }),
        user("basic", "*.b.example", Shape::Basic { user: "me".into() }),
        user("named", "n.example", field("x-token", "k=", ";")),
    ];
    settings
}

fn user(named: &str, host: &str, shape: Shape) -> UserCredential {
    UserCredential {
        name: name(named),
        env: None,
        file: None,
        op: None,
        hosts: vec![HostPattern::parse(host).unwrap()],
        shape,
        inject: InjectPolicy::Auto,
        session_env: None,
        reach: Reach::default(),
    }
}

fn field(name: &'static str, prefix: &str, suffix: &str) -> Shape {
    Shape::Header { name: http::HeaderName::from_static(name), prefix: prefix.into(), suffix: suffix.into() }
}

fn name(text: &str) -> CredentialName {
    CredentialName::parse(text).unwrap()
}

fn secret(text: &str) -> Secret {
    Secret::parse(text).unwrap().unwrap()
}

fn b64(text: &str) -> String {
    BASE64_STANDARD.encode(text)
}

#[test]
fn a_request_without_credential_gets_one_where_the_rule_adds() {
    let bench = Bench::new();
    let git = format!("Basic {}", b64("x-access-token:S"));
    let rows: &[(&str, &str)] = &[
        ("https://api.github.com/user", "Bearer S"),
        ("https://uploads.github.com/repos/o/r/releases/1/assets", "Bearer S"),
        ("https://github.com/o/r.git/info/refs?service=git-upload-pack", &git),
        ("https://github.com/o/r/info/lfs/objects/batch", &git),
        ("https://gist.github.com/abc.git/info/refs?service=git-upload-pack", &git),
        ("https://ghcr.io/token?scope=repository:o/r:pull", &git),
        ("https://npm.pkg.github.com/@o%2fp", "Bearer S"),
        ("https://maven.pkg.github.com/o/r/x.pom", &git),
        ("https://ghes.example.com/api/v3/user", "Bearer S"),
        ("https://ghes.example.com/o/r.git/info/refs?service=git-upload-pack", &git),
        ("https://api.acme.ghe.com/user", "Bearer S"),
        ("https://acme.ghe.com/o/r/info/refs?service=git-upload-pack", &git),
        ("https://api.openai.com/v1/models", "Bearer S"),
        ("https://api.pagerduty.com/users", "Token token=S"),
        ("https://sentry.io/api/0/projects/", "Bearer S"),
        ("https://de.sentry.io/api/0/projects/", "Bearer S"),
        ("https://sentry.example.com:8443/api/0/projects/", "Bearer S"),
        ("https://graf.example.com:3000/g/api/org", "Bearer S"),
        ("https://graf.example.com:3000/g/apis/dashboard", "Bearer S"),
        ("https://api.linear.example/graphql", "S"),
        ("https://x.b.example/", &format!("Basic {}", b64("me:S"))),
        // Everywhere else, nothing.
        ("https://github.com/login", ""),
        ("https://github.com/o/r/releases/download/v1/x", ""),
        ("https://api.github.com:8443/user", ""),
        ("http://api.github.com/user", ""),
        ("https://raw.githubusercontent.com/o/r/main/x", ""),
        ("https://codeload.github.com/o/r/tar.gz/main", ""),
        ("https://ghcr.io/v2/o/r/manifests/1", ""),
        ("https://api.githubcopilot.com/mcp/", ""),
        ("https://chatgpt.com/backend-api/codex/responses", ""),
        ("https://api.openai.com/other", ""),
        ("https://events.pagerduty.com/v2/enqueue", ""),
        ("https://sentry.io/api/1/envelope/", ""),
        ("https://o1.ingest.sentry.io/api/0/x", ""),
        ("https://sentry.example.com/api/0/projects/", ""),
        ("https://graf.example.com/g/api/org", ""),
        ("https://graf.example.com:3000/api/org", ""),
        ("https://reg.example.com/npm/@s%2fp", ""),
        ("https://auth.docker.io/token?service=x", ""),
        ("https://registry-1.docker.io/v2/", ""),
        ("https://b.example/", ""),
        ("https://y.x.b.example/", ""),
    ];
    for (url, expected) in rows {
        assert_eq!(bench.header(url, &[], "S", "authorization"), *expected, "{url}");
    }
}

#[test]
fn a_placeholder_is_swapped_in_the_clients_own_form() {
    let bench = Bench::new();
    let rows: &[(&str, &str, &str, &str, &str)] = &[
        ("github", "https://api.github.com/user", "token PLACE", "S", "token S"),
        ("github", "https://api.github.com/user", "Bearer PLACE", "S", "Bearer S"),
        ("github", "https://api.github.com/user", "PLACE", "S", "Bearer S"),
        ("github", "https://api.github.com/user", "Basic b64(u:PLACE)", "S", "Basic b64(u:S)"),
        ("github", "https://api.github.com/user", "Basic b64(PLACE:x-oauth-basic)", "S", "Basic b64(S:x-oauth-basic)"),
        ("github", "https://raw.githubusercontent.com/o/r/main/x", "token PLACE", "S", "token S"),
        (
            "github",
            "https://github.com/o/r/info/refs?service=git-upload-pack",
            "Basic b64(me:PLACE)",
            "S",
            "Basic b64(me:S)",
        ),
        (
            "github",
            "https://github.com/o/r/info/refs?service=git-upload-pack",
            "basic b64(:PLACE)",
            "S",
            "Basic b64(x-access-token:S)",
        ),
        (
            "github",
            "https://github.com/o/r/info/refs?service=git-upload-pack",
            "Bearer PLACE",
            "S",
            "Basic b64(x-access-token:S)",
        ),
        ("github", "https://ghcr.io/v2/o/r/manifests/1", "Bearer b64(PLACE)", "S", "Bearer b64(S)"),
        ("openai", "https://api.openai.com/v1/models", "Bearer PLACE", "S", "Bearer S"),
        ("pagerduty", "https://api.pagerduty.com/users", "Token token=PLACE", "S", "Token token=S"),
        (
            "pagerduty",
            "https://api.pagerduty.com/users",
            "Bearer PLACE",
            "u+abcdefghijklmnopqr",
            "Token token=u+abcdefghijklmnopqr",
        ),
        (
            "pagerduty",
            "https://api.pagerduty.com/users",
            "Bearer PLACE",
            "pdus+abcdefghijklmnopqrstuvwxyz",
            "Bearer pdus+abcdefghijklmnopqrstuvwxyz",
        ),
        ("sentry", "https://us.sentry.io/api/0/projects/", "Bearer PLACE", "S", "Bearer S"),
        ("grafana", "https://graf.example.com:3000/g/api/org", "Bearer PLACE", "S", "Bearer S"),
        ("npm", "https://reg.example.com/npm/@s%2fp", "Bearer PLACE", "S", "Bearer S"),
        ("npm", "https://other.example.com/p", "Basic b64(u:PLACE)", "S", "Basic b64(u:S)"),
        ("docker", "https://auth.docker.io/token?service=x", "Basic b64(me:PLACE)", "S", "Basic b64(me:S)"),
        ("docker", "https://auth.docker.io/token?service=x", "Basic b64(me:PLACE)", "acct:S", "Basic b64(me:S)"),
        (
            "docker",
            "https://auth.docker.io/token?service=x",
            "Basic b64(clauderon:PLACE)",
            "acct:S",
            "Basic b64(acct:S)",
        ),
        ("linear", "https://api.linear.example/graphql", "PLACE", "S", "S"),
        ("linear", "https://api.linear.example/graphql", "Bearer PLACE", "S", "Bearer S"),
        ("basic", "https://x.b.example/", "Basic b64(you:PLACE)", "S", "Basic b64(you:S)"),
    ];
    for (credential, url, sent, real, expected) in rows {
        let sent = encode_marked(&sent.replace("PLACE", &bench.placeholder(credential)));
        let got = bench.header(url, &[("authorization", &sent)], real, "authorization");
        assert_eq!(got, encode_marked(expected), "{url} {sent}");
    }
}

/// Writes `b64(…)` as Base64.
fn encode_marked(text: &str) -> String {
    match text.split_once("b64(") {
        Some((before, rest)) => format!("{before}{}", b64(rest.trim_end_matches(')'))),
        None => text.to_owned(),
    }
}

#[test]
fn every_variant_of_a_placeholder_is_swapped() {
    let bench = Bench::new();
    for placeholder in variants(&bench.session.id, &name("github")) {
        let sent = format!("token {placeholder}");
        assert_eq!(
            bench.header("https://api.github.com/", &[("authorization", &sent)], "S", "authorization"),
            "token S"
        );
    }
}

#[test]
fn a_docker_secret_can_bring_its_user() {
    let bench = Bench::new();
    let url = "https://auth.docker.io/token?service=x";
    assert_eq!(bench.header(url, &[], "acct:S", "authorization"), format!("Basic {}", b64("acct:S")));
    let sent = format!("Basic {}", b64(&format!(":{}", bench.placeholder("docker"))));
    let denial = bench.run(url, &[("authorization", &sent)], "S").err().unwrap();
    assert_eq!(denial.code, DenialCode::CredentialUnavailable);
    assert!(denial.hint.unwrap().contains("[services.docker]"));
}

#[test]
fn anthropic_takes_the_header_of_the_real_token() {
    let bench = Bench::new();
    let place = bench.placeholder("anthropic");
    let url = "https://api.anthropic.com/v1/messages";
    let bearer = format!("Bearer {place}");
    for sent in [&[("x-api-key", place.as_str())][..], &[("authorization", &bearer)], &[]] {
        let oauth = bench.run(url, sent, "sk-ant-oat01-S").unwrap().into_parts().headers;
        assert_eq!(oauth["authorization"], "Bearer sk-ant-oat01-S");
        assert_eq!(oauth["anthropic-beta"], "oauth-2025-04-20");
        assert!(!oauth.contains_key("x-api-key"));
        let key = bench.run(url, sent, "sk-ant-api03-S").unwrap().into_parts().headers;
        assert_eq!(key["x-api-key"], "sk-ant-api03-S");
        assert!(!key.contains_key("authorization") && !key.contains_key("anthropic-beta"));
    }
    let betas = &[("anthropic-beta", "a-1, b-2"), ("anthropic-beta", "c-3")];
    assert_eq!(bench.header(url, betas, "sk-ant-oat01-S", "anthropic-beta"), "a-1, b-2,c-3,oauth-2025-04-20");
    let already = &[("anthropic-beta", "a-1, oauth-2025-04-20")];
    assert_eq!(bench.header(url, already, "sk-ant-oat01-S", "anthropic-beta"), "a-1, oauth-2025-04-20");
    assert!(!bench.run("https://api.anthropic.com/api/hello", &[], "sk-ant-api03-S").unwrap().auth_injected());
}

#[test]
fn user_defined_shapes() {
    let bench = Bench::new();
    let target = |url: &str, real: &str| bench.run(url, &[], real).unwrap().into_parts().uri.to_string();
    assert_eq!(target("https://q.example/a%2Fb?x=1", "a b&$%"), "/a%2Fb?x=1&key=a%20b%26%24%25");
    let place = bench.placeholder("keyed");
    assert_eq!(target(&format!("https://q.example/?k=1&key={place}&z=%20"), "S"), "/?k=1&key=S&z=%20");
    assert_eq!(target("https://q.example/?key=mine", "S"), "/?key=mine");
    assert_eq!(bench.header("https://c.example:8443/", &[("cookie", "a=1; b=2")], "S", "cookie"), "a=1; b=2; sid=S");
    let sent = format!("a=1; sid={}; b=2", bench.placeholder("baked"));
    assert_eq!(bench.header("https://c.example:8443/", &[("cookie", &sent)], "S", "cookie"), "a=1; sid=S; b=2");
    assert_eq!(bench.header("https://n.example/", &[], "S", "x-token"), "k=S;");
    let sent = format!("k={};", bench.placeholder("named"));
    assert_eq!(bench.header("https://n.example/", &[("x-token", &sent)], "S", "x-token"), "k=S;");
}

#[test]
fn browsers_keys_for_realtime_are_swapped() {
    let bench = Bench::new();
    let sent = format!("realtime, openai-insecure-api-key.{}", bench.placeholder("openai"));
    let url = "https://api.openai.com/v1/realtime?model=x";
    let injected = bench.run(url, &[("sec-websocket-protocol", &sent)], "S").unwrap().into_parts().headers;
    assert_eq!(injected["sec-websocket-protocol"], "realtime, openai-insecure-api-key.S");
    assert!(!injected.contains_key("authorization"));
}

#[test]
fn the_clients_own_credential_is_left() {
    let bench = Bench::new();
    for sent in ["Bearer ghp_real", "AWS4-HMAC-SHA256 Credential=x", "Basic dTpw"] {
        let got = bench.run("https://api.github.com/user", &[("authorization", sent)], "S").unwrap();
        assert!(!got.auth_injected());
        assert_eq!(got.into_parts().headers["authorization"], sent);
    }
    for blank in ["", "Bearer ", "token"] {
        assert_eq!(
            bench.header("https://api.github.com/user", &[("authorization", blank)], "S", "authorization"),
            "Bearer S"
        );
    }
}

#[test]
fn always_replaces_what_the_client_sent() {
    let mut settings = settings();
    settings.credentials[0].inject = InjectPolicy::Always;
    let bench = Bench::with(&settings);
    let url = "https://api.linear.example/";
    assert_eq!(bench.header(url, &[("authorization", "mine"), ("authorization", "two")], "S", "authorization"), "S");
}

#[test]
fn placeholders_that_stray_are_refused_and_not_repeated() {
    let bench = Bench::new();
    let (github, openai) = (bench.placeholder("github"), bench.placeholder("openai"));
    let foreign = variants(&bench.other, &name("github")).remove(0);
    let basic = format!("Basic {}", b64(&format!("u:{foreign}")));
    let escaped = github.replace('c', "%63");
    let cases: &[(String, Vec<(&'static str, String)>)] = &[
        ("https://example.com/".into(), vec![("authorization", format!("Bearer {github}"))]),
        ("http://api.github.com/".into(), vec![("authorization", format!("Bearer {github}"))]),
        ("https://api.github.com:8443/".into(), vec![("authorization", format!("Bearer {github}"))]),
        ("https://github.com/login".into(), vec![("authorization", format!("Bearer {github}"))]),
        ("https://api.github.com/".into(), vec![("authorization", format!("Bearer {openai}"))]),
        ("https://api.github.com/".into(), vec![("authorization", format!("Bearer x{github}"))]),
        ("https://api.github.com/".into(), vec![("x-note", github.clone())]),
        ("https://api.github.com/".into(), vec![("cookie", format!("a={github}"))]),
        (
            "https://api.github.com/".into(),
            vec![("authorization", format!("Bearer {github}")), ("x-note", github.clone())],
        ),
        (format!("https://api.github.com/search?q={github}"), vec![]),
        (format!("https://api.github.com/search?q={escaped}"), vec![]),
        (format!("https://api.github.com/x/{escaped}"), vec![]),
        (format!("https://reg.example.com/npm/-/user/token/{}", bench.placeholder("npm")), vec![]),
        ("https://api.github.com/".into(), vec![("authorization", format!("token {foreign}"))]),
        ("https://github.com/o/r/info/refs?service=git-upload-pack".into(), vec![("authorization", basic)]),
        ("https://sentry.io/api/0/x".into(), vec![("authorization", bench.placeholder("sentry") + "\u{20}x")]),
        ("https://api.github.com/".into(), vec![("authorization", format!("{github} {github}"))]),
        (
            "https://github.com/o/r/info/refs?service=git-upload-pack".into(),
            vec![("authorization", format!("Basic {}", b64(&format!("{github}:{github}"))))],
        ),
        (
            "https://github.com/o/r/info/refs?service=git-upload-pack".into(),
            vec![("authorization", format!("Basic {}", b64(&format!("u{github}:{github}"))))],
        ),
        (format!("https://q.example/?other={}", bench.placeholder("keyed")), vec![]),
        ("https://c.example:8443/".into(), vec![("cookie", format!("other={}", bench.placeholder("baked")))]),
    ];
    for (url, sent) in cases {
        let sent: Vec<_> = sent.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let denial = bench.denial(url, &sent);
        assert_eq!(denial.code, DenialCode::PlaceholderMisdirected, "{url} {sent:?}");
        let body = denial.body();
        for secret_looking in
            [&github, &openai, &foreign, "clauderon_placeholder", "clauderon-placeholder"].map(|text: &str| text)
        {
            assert!(!body.contains(secret_looking), "{body}");
        }
        assert!(body.contains("\"hint\""), "{body}");
    }
}

#[test]
fn a_doubled_field_gets_no_secret() {
    let bench = Bench::new();
    let sent = bench.bearer("github");
    let denial = bench.denial("https://api.github.com/", &[("authorization", &sent), ("authorization", "Bearer x")]);
    assert_eq!(denial.code, DenialCode::MalformedRequest);
}

#[test]
fn a_session_gets_only_its_credentials() {
    let mut bench = Bench::new();
    bench.session.credentials = Some(vec![name("npm")]);
    assert!(!bench.run("https://api.github.com/", &[], "S").unwrap().auth_injected());
    let sent = bench.bearer("github");
    let denial = bench.denial("https://api.github.com/", &[("authorization", &sent)]);
    assert_eq!(denial.code, DenialCode::PlaceholderMisdirected);
    assert!(denial.message.contains("may not use"));
}

#[test]
fn the_rule_whose_placeholder_came_wins() {
    let mut settings = settings();
    settings.credentials.push(user("work", "api.github.com", Shape::Bearer));
    let bench = Bench::with(&settings);
    let credential =
        |sent: Sent<'_>| bench.run("https://api.github.com/", sent, "S").unwrap().credentials().next().cloned();
    assert_eq!(credential(&[]), Some(name("work")));
    for wanted in ["work", "github"] {
        let sent = bench.bearer(wanted);
        assert_eq!(credential(&[("authorization", &sent)]), Some(name(wanted)));
    }
}

#[test]
fn one_request_carries_several_credentials() {
    let mut settings = settings();
    settings.credentials.extend([
        user("api", "two.example", field("x-api", "", "")),
        user("api-again", "two.example", field("x-api", "", "")),
        user("app", "two.example", field("x-app", "", "")),
        user("seen", "two.example", Shape::Query { key: "seen".into() }),
    ]);
    let bench = Bench::with(&settings);
    let go = |url: &str, sent: Sent<'_>, secrets: [&str; 3]| {
        let (parts, plan) = bench.plan(url, sent);
        let secrets = secrets.map(secret);
        plan?.apply(parts, None, secrets.iter().map(Some))
    };
    let fields = |injected: Injected| {
        let names: Vec<String> = injected.credentials().map(ToString::to_string).collect();
        let parts = injected.into_parts();
        let sent = |name: &str| parts.headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
        (sent("x-api"), sent("x-app"), parts.uri.to_string(), names.join(" "))
    };
    let added = fields(go("https://two.example/", &[], ["1", "2", "3"]).unwrap());
    assert_eq!(added, ("1".into(), "2".into(), "/?seen=3".into(), "api app seen".into()));
    let (again, app) = (bench.placeholder("api-again"), bench.placeholder("app"));
    let both: Sent<'_> = &[("x-app", &app), ("x-api", &again)];
    let swapped = fields(go("https://two.example/", both, ["2", "1", "3"]).unwrap());
    assert_eq!(swapped, ("1".into(), "2".into(), "/".into(), "app api-again".into()));
    for crossed in [[("x-app", &*again), ("x-api", &*app)], [("x-api", &again), ("x-other", &app)]] {
        let denial = go("https://two.example/", &crossed, ["1", "2", "3"]).err().unwrap();
        assert_eq!(denial.code, DenialCode::PlaceholderMisdirected, "{crossed:?}");
    }
    let (parts, plan) = bench.plan("https://two.example/", both);
    let denial = plan.unwrap().apply(parts, None, [Some(&secret("2")), None]).err().unwrap();
    assert!(denial.message.contains("`api-again`"), "{}", denial.message);
}

#[test]
fn without_a_secret_only_a_swap_fails() {
    let bench = Bench::new();
    let (parts, plan) = bench.plan("https://api.github.com/", &[]);
    let denial = plan.as_ref().unwrap().changes()[0].unavailable(Some("1Password is locked"));
    assert_eq!(denial.code, DenialCode::CredentialUnavailable);
    assert!(denial.message.contains("1Password is locked"));
    assert!(!plan.unwrap().apply(parts, None, [None]).unwrap().auth_injected());
    let sent = bench.bearer("github");
    let (parts, plan) = bench.plan("https://api.github.com/", &[("authorization", &sent)]);
    let denial = plan.unwrap().apply(parts, None, []).err().unwrap();
    assert_eq!(denial.code, DenialCode::CredentialUnavailable);
    let (parts, plan) = bench.plan("https://example.com/", &[]);
    assert!(!plan.unwrap().apply(parts, None, [None]).unwrap().auth_injected());
}

#[test]
fn injected_values_are_sensitive() {
    let bench = Bench::new();
    let place = bench.placeholder("named");
    let rows: [(&str, &'static str, String); 4] = [
        ("https://api.github.com/", "authorization", String::new()),
        ("https://api.github.com/", "authorization", format!("token {}", bench.placeholder("github"))),
        ("https://n.example/", "x-token", place),
        ("https://c.example:8443/", "cookie", "a=b".into()),
    ];
    for (url, field, sent) in rows {
        let injected = bench.run(url, &[(field, &sent)], "S").unwrap();
        assert!(injected.auth_injected());
        assert!(injected.into_parts().headers[field].is_sensitive(), "{url}");
    }
}

proptest! {
    #[test]
    fn secrets_are_never_interpreted(real in "[!-~]{1,40}", user in "[a-z$%\\\\]{0,8}") {
        let bench = Bench::new();
        let place = bench.placeholder("github");
        let token = format!("token {place}");
        prop_assert_eq!(bench.header("https://api.github.com/", &[("authorization", &token)], &real, "authorization"), format!("token {real}"));
        let basic = format!("Basic {}", b64(&format!("{user}:{place}")));
        let got = bench.header("https://api.github.com/", &[("authorization", &basic)], &real, "authorization");
        prop_assert_eq!(got, format!("Basic {}", b64(&format!("{user}:{real}"))));
        let key = bench.placeholder("keyed");
        let uri = bench.run(&format!("https://q.example/?key={key}"), &[], &real).unwrap().into_parts().uri;
        let value = uri.query().unwrap().strip_prefix("key=").unwrap();
        prop_assert_eq!(percent_encoding::percent_decode_str(value).decode_utf8().unwrap(), real.as_str());
    }

    #[test]
    fn a_secret_stays_in_its_segment(real in "[ -~]{1,40}", before in "[a-z]{0,5}", after in "(/[a-z0-9.]{1,4}){0,3}") {
        let mut settings = settings();
        let template = format!("/a/*/{before}{{token}}.json");
        let path = crate::path::PathPattern::like(&template).unwrap();
        let shape = Shape::Path(path.token().cloned().unwrap());
        let reach = Reach { paths: vec![path], ..Reach::default() };
        settings.credentials.push(UserCredential { reach, inject: InjectPolicy::Placeholder, ..user("hook", "p.example", shape) });
        let bench = Bench::with(&settings);
        let url = format!("https://p.example/a/b/{before}{}.json{after}?q=1", bench.placeholder("hook"));
        prop_assume!(!real.trim().is_empty() && CanonicalPath::parse(&after).is_ok() | after.is_empty());
        let Ok(injected) = bench.run(&url, &[], &real) else {
            prop_assert!(real.contains(['\\', '/']), "a secret that no other reader could mistake was refused");
            return Ok(());
        };
        let uri = injected.into_parts().uri;
        let segments: Vec<&str> = uri.path().split('/').collect();
        let value = segments[3].strip_prefix(before.as_str()).and_then(|rest| rest.strip_suffix(".json")).unwrap();
        let value = percent_encoding::percent_decode_str(value).decode_utf8().unwrap();
        prop_assert_eq!(value, real.trim());
        prop_assert_eq!((segments.len(), uri.query()), (4 + after.matches('/').count(), Some("q=1")));
        prop_assert!(uri.path().ends_with(&after));
    }

    #[test]
    fn a_swap_changes_its_slot_only(
        before in "[a-z%0-9=;, ]{0,20}", after in "[a-z%0-9=;, ]{0,20}", path in "(/[a-z0-9]{1,5}){1,4}", query in "[a-z=&0-9]{0,20}"
    ) {
        let bench = Bench::new();
        let sent = format!("token {}", bench.placeholder("github"));
        let url = format!("https://api.github.com{path}?{query}");
        let fields = [("x-before", before.as_str()), ("authorization", &sent), ("x-after", &after)];
        let (parts, _) = bench.plan(&url, &fields);
        let mut injected = bench.run(&url, &fields, "S").unwrap().into_parts();
        prop_assert_eq!(injected.headers.insert("authorization", sent.parse().unwrap()).unwrap(), "token S");
        prop_assert_eq!(&injected.headers, &parts.headers);
        prop_assert_eq!(&injected.uri, &parts.uri);
        prop_assert_eq!(&injected.method, &parts.method);
    }
}

/// Every credential of another session, on every surface of every host, bare or with something around it.
#[test]
fn no_other_sessions_placeholder_ever_goes_out_or_is_replaced() {
    let bench = Bench::new();
    let own = settings().credentials.into_iter().map(|credential| credential.name);
    let credentials = CredentialKind::ALL.map(CredentialKind::credential).into_iter().chain(own);
    let foreign: Vec<String> = credentials.flat_map(|name| variants(&bench.other, &name)).collect();
    let hosts = [
        "api.github.com",
        "api.anthropic.com",
        "api.openai.com",
        "api.pagerduty.com",
        "graf.example.com:3000",
        "reg.example.com",
        "q.example",
        "c.example:8443",
        "n.example",
        "x.b.example",
        "example.com",
    ];
    for (text, host) in foreign.iter().flat_map(|text| hosts.map(|host| (text, host))) {
        for (path, around) in [("/v1/x", ""), ("/g/api/x", "x ")] {
            let url = format!("https://{host}{path}");
            let text = format!("{around}{text}");
            let fields: [(&'static str, String); 6] = [
                ("authorization", text.clone()),
                ("authorization", format!("Bearer {text}")),
                ("authorization", format!("Basic {}", b64(&format!("u:{text}")))),
                ("x-api-key", text.clone()),
                ("x-token", text.clone()),
                ("cookie", format!("sid={text}")),
            ];
            for (field, value) in &fields {
                let denial = bench.denial(&url, &[(*field, value)]);
                assert_eq!(denial.code, DenialCode::PlaceholderMisdirected, "{url} {field}: {value}");
                assert!(denial.message.contains("another session"), "{}", denial.message);
            }
            let query = bench.denial(&format!("{url}?key={}", text.replace(' ', "+")), &[]);
            assert_eq!(query.code, DenialCode::PlaceholderMisdirected, "{url} {text}");
        }
    }
}

#[test]
fn googles_key_never_stays_in_the_url() {
    let bench = Bench::new();
    let own = bench.placeholder("gemini");
    let base = "https://generativelanguage.googleapis.com/v1beta/models";
    for (query, left) in [("key=OWN", ""), ("alt=sse&key=OWN", "?alt=sse"), ("%6Bey=OWN&pageSize=2", "?pageSize=2")] {
        let url = format!("{base}?{}", query.replace("OWN", &own));
        let parts = bench.run(&url, &[], "AIzaReal").unwrap().into_parts();
        assert_eq!(parts.uri.to_string(), format!("/v1beta/models{left}"));
        assert_eq!(parts.headers["x-goog-api-key"], "AIzaReal");
    }
    assert_eq!(bench.header(base, &[("x-goog-api-key", &own)], "AIzaReal", "x-goog-api-key"), "AIzaReal");
    assert_eq!(bench.header(base, &[], "AIzaReal", "x-goog-api-key"), "AIzaReal");
    let bearer = format!("Bearer {own}");
    let openai = "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions";
    assert_eq!(bench.header(openai, &[("authorization", &bearer)], "AIzaReal", "authorization"), "Bearer AIzaReal");
    assert_eq!(bench.header(&format!("{base}?key=theirs"), &[], "AIzaReal", "x-goog-api-key"), "");
    assert_eq!(bench.denial(&format!("{base}?token={own}"), &[]).code, DenialCode::PlaceholderMisdirected);
}

#[test]
fn a_chatgpt_token_and_an_api_key_are_kept_apart() {
    let bench = Bench::new();
    let (chatgpt, openai) = (bench.placeholder("chatgpt"), bench.placeholder("openai"));
    let sent = |token: &str| format!("Bearer {token}");
    let backend = "https://chatgpt.com/backend-api/codex/responses";
    assert_eq!(
        bench.header(backend, &[("authorization", &sent(&chatgpt))], "eyJ.real.jwt", "authorization"),
        "Bearer eyJ.real.jwt"
    );
    assert_eq!(bench.header(backend, &[], "eyJ.real.jwt", "authorization"), "", "only swapped");
    for (url, token) in
        [(backend, &openai), ("https://api.openai.com/v1/responses", &chatgpt), ("https://chatgpt.com/", &chatgpt)]
    {
        let code = bench.denial(url, &[("authorization", &sent(token))]).code;
        assert_eq!(code, DenialCode::PlaceholderMisdirected, "{url}");
    }
}
