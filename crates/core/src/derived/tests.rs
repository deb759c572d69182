use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::Request;
use proptest::prelude::*;

use super::*;
use crate::access::AccessMode;
use crate::classify::classify;
use crate::config::{PolicySettings, ServiceSettings, Settings};
use crate::credential::CredentialKind;
use crate::denial::{Denial, DenialCode};
use crate::facts::Facts;
use crate::host::{Authority, Scheme};
use crate::inject::{self, InForce, Injected, plan};
use crate::placeholder::{PlaceholderTable, variants};
use crate::policy::{Permit, decide};
use crate::rule::RuleSet;
use crate::secret::Secret;
use crate::service;
use crate::session::{Session, SessionId, SessionName};

const UNIX: u64 = 1_800_000_000;
const FORM: &str = "application/x-www-form-urlencoded";

/// Two sessions at the rules of a well-filled `proxy.toml`.
struct Bench {
    rules: RuleSet,
    credentials: PlaceholderTable,
    derived: DerivedTable,
    now: Instant,
}

struct Asked<'a> {
    method: &'a str,
    url: &'a str,
    fields: &'a [(&'a str, &'a str)],
    body: &'a str,
}

fn get<'a>(url: &'a str, fields: &'a [(&'a str, &'a str)]) -> Asked<'a> {
    Asked { method: "GET", url, fields, body: "" }
}

fn post<'a>(url: &'a str, kind: &'a [(&'a str, &'a str)], body: &'a str) -> Asked<'a> {
    Asked { method: "POST", url, fields: kind, body }
}

fn session(id: &str) -> Session {
    Session {
        id: SessionId::parse(id).unwrap(),
        name: SessionName::parse("review").unwrap(),
        mode: AccessMode::ReadWrite,
        credentials: None,
        allow_hosts: None,
    }
}

fn own() -> Session {
    session("7f3a9c21")
}

fn other() -> Session {
    session("00c1a0de")
}

impl Bench {
    fn new() -> Self {
        let mut settings = Settings::defaults(Path::new("/home/u/.clauderon"));
        let docker = ServiceSettings { username: Some("me".into()), ..ServiceSettings::default() };
        let registries = vec!["https://reg.example.com/npm/".into()];
        let npm = ServiceSettings { registries, ..ServiceSettings::default() };
        settings.services = BTreeMap::from([("docker".into(), docker), ("npm".into(), npm)]);
        let mut credentials = PlaceholderTable::default();
        for kind in CredentialKind::ALL {
            credentials.insert_all(&own().id, &kind.credential());
            credentials.insert_all(&other().id, &kind.credential());
        }
        let derived = DerivedTable::new(41);
        Self { rules: RuleSet::new(service::rules(&settings)), credentials, derived, now: Instant::now() }
    }

    fn permit(&self, asked: &Asked<'_>, session: &Session) -> (http::request::Parts, Permit) {
        let (authority, target) = asked.url.strip_prefix("https://").unwrap().split_once('/').unwrap();
        let origin = Authority::parse(authority).unwrap().origin(Scheme::Https);
        let request = Request::builder().method(asked.method).uri(format!("/{target}"));
        let request = asked.fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let parts = request.body(()).unwrap().into_parts().0;
        let facts = Facts::of(&parts, &origin, false);
        let open = ["npm.token", "npm.login", "pagerduty.oauth"].map(str::to_owned).to_vec();
        let policy = PolicySettings { allow_minting: open, ..PolicySettings::default() };
        let class = classify(&facts, &self.rules).without_body();
        let permit = decide(&facts, class, session, &self.rules, &policy).unwrap();
        (parts, permit)
    }

    /// What goes out, with `real` for the credential.
    fn run(&self, asked: &Asked<'_>, session: &Session, real: &str) -> Result<Sent, Denial> {
        let (parts, permit) = self.permit(asked, session);
        let body = inject::reads_body(&permit, &parts.headers).then(|| Bytes::copy_from_slice(asked.body.as_bytes()));
        let in_force = InForce { credentials: &self.credentials, derived: &self.derived, now: self.now };
        let plan = plan(permit, &parts, body.as_ref(), session, in_force)?;
        let token = plan.changes().iter().find_map(|change| change.derived().cloned());
        let credential = Secret::parse(real).unwrap();
        let put_in = token.as_ref().map(|token| &**token.secret()).or(credential.as_ref());
        let all = vec![put_in; plan.changes().len()];
        let injected = plan.apply(parts, body.as_ref(), all)?;
        Ok(Sent::of(injected, asked.body))
    }

    fn denial(&self, asked: &Asked<'_>, session: &Session) -> DenialCode {
        self.run(asked, session, "real").err().unwrap().code
    }

    /// What a session gets of an answer.
    fn answer(
        &mut self,
        asked: &Asked<'_>,
        session: &Session,
        status: u16,
        body: &str,
    ) -> Result<Swapped, Unswappable> {
        let (parts, permit) = self.permit(asked, session);
        let derivation = permit.derivation().unwrap();
        let issuer = Issuer { origin: permit.origin(), path: parts.uri.path() };
        let keep = Keep { session: &session.id, derivation, issuer, base: None, now: self.now, unix: UNIX };
        let answer = Answer::read(body.as_bytes(), (200..300).contains(&status), derivation, UNIX)?;
        Ok(answer.swap(|token, secret, lifetime| self.derived.keep(&keep, token, secret, lifetime)))
    }

    fn pull(&mut self, session: &Session, answer: &str) -> Swapped {
        self.answer(&get("https://auth.docker.io/token?service=registry.docker.io", &[]), session, 200, answer).unwrap()
    }
}

struct Sent {
    authorization: String,
    protocols: String,
    body: String,
    length: Option<String>,
}

impl Sent {
    fn of(mut injected: Injected, body: &str) -> Self {
        let body =
            injected.take_body().map_or_else(|| body.to_owned(), |body| String::from_utf8(body.to_vec()).unwrap());
        let headers = injected.into_parts().headers;
        let field = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        Self {
            authorization: field("authorization").unwrap_or_default(),
            protocols: field("sec-websocket-protocol").unwrap_or_default(),
            length: field("content-length"),
            body,
        }
    }
}

fn text(swapped: &Swapped) -> &str {
    std::str::from_utf8(&swapped.body).unwrap()
}

fn member(swapped: &Swapped, name: &str) -> String {
    let value: serde_json::Value = serde_json::from_slice(&swapped.body).unwrap();
    value[name].as_str().unwrap().to_owned()
}

#[test]
fn a_registry_token_goes_to_the_registry_and_nowhere_else() {
    let mut bench = Bench::new();
    let answer = r#"{"token":"real.jwt.sig","access_token":"real.jwt.sig","expires_in":300,"issued_at":"x"}"#;
    let swapped = bench.pull(&own(), answer);
    let held = member(&swapped, "token");
    assert_eq!((member(&swapped, "access_token"), swapped.count, swapped.tokens.len()), (held.clone(), 2, 2));
    assert!(text(&swapped).ends_with(r#","expires_in":300,"issued_at":"x"}"#), "{}", text(&swapped));
    for (scheme, sent) in [("Bearer ", "Bearer real.jwt.sig"), ("", "Bearer real.jwt.sig")] {
        let fields = [("authorization", &*format!("{scheme}{held}"))];
        for host in ["registry-1.docker.io", "index.docker.io"] {
            let asked = format!("https://{host}/v2/o/r/manifests/latest");
            assert_eq!(bench.run(&get(&asked, &fields), &own(), "").unwrap().authorization, sent);
            assert_eq!(bench.denial(&get(&asked, &fields), &other()), DenialCode::PlaceholderMisdirected);
        }
        for elsewhere in [
            "https://registry-1.docker.io/v3/",
            "https://registry-1.docker.io:8443/v2/",
            "https://auth.docker.io/token",
            "https://hub.docker.com/v2/user/",
            "https://ghcr.io/v2/",
            "https://example.com/v2/",
        ] {
            assert_eq!(
                bench.denial(&get(elsewhere, &fields), &own()),
                DenialCode::PlaceholderMisdirected,
                "{elsewhere}"
            );
        }
    }
    let misplaced = [("x-registry-auth", &*held)];
    let asked = get("https://registry-1.docker.io/v2/", &misplaced);
    assert_eq!(bench.denial(&asked, &own()), DenialCode::PlaceholderMisdirected);
    let asked = format!("https://registry-1.docker.io/v2/?token={held}");
    assert_eq!(bench.denial(&get(&asked, &[]), &own()), DenialCode::PlaceholderMisdirected);
}

#[test]
fn a_token_in_basic_and_part_of_a_placeholder_are_seen_too() {
    let mut bench = Bench::new();
    let held = member(&bench.pull(&own(), r#"{"token":"real.jwt.sig"}"#), "token");
    let basic = |text: &str| format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text));
    let fields = [("authorization", &*basic(&format!("u:{held}")))];
    let sent = bench.run(&get("https://registry-1.docker.io/v2/", &fields), &own(), "").unwrap().authorization;
    assert_eq!(sent, basic("u:real.jwt.sig"));
    let signature = held.rsplit('.').next().unwrap();
    let fields = [("authorization", &*format!("Bearer {signature}"))];
    let asked = get("https://registry-1.docker.io/v2/", &fields);
    assert_eq!(bench.denial(&asked, &own()), DenialCode::PlaceholderMisdirected);
    let both = [("authorization", &*format!("Bearer {held}")), ("x-a", &*held)];
    assert_eq!(
        bench.denial(&get("https://registry-1.docker.io/v2/", &both), &own()),
        DenialCode::PlaceholderMisdirected
    );
}

#[test]
fn a_placeholder_for_a_json_web_token_can_be_read_as_one() {
    let mut bench = Bench::new();
    let held = member(&bench.pull(&own(), r#"{"token":"real.jwt.sig","expires_in":300}"#), "token");
    let parts: Vec<Vec<u8>> = held.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap()).collect();
    assert_eq!((parts.len(), &parts[0][..]), (3, &b"{}"[..]));
    let claims: serde_json::Value = serde_json::from_slice(&parts[1]).unwrap();
    assert_eq!(claims, serde_json::json!({ "iat": UNIX, "exp": UNIX + 300 }));
    assert!(held.contains("clauderon-derived-docker-7f3a9c21-0000002a-000000"), "{held}");
}

#[test]
fn what_cannot_be_read_is_not_passed_on() {
    let mut bench = Bench::new();
    let asked = get("https://auth.docker.io/token", &[]);
    let bad = [
        (200, "<html>real</html>", Unswappable::NoJson),
        (500, "token: real", Unswappable::NoJson),
        (200, "{\"token\":\"real\"", Unswappable::NoJson),
        (200, "{\"token\":\"real\"}{}", Unswappable::NoJson),
        (200, "\u{feff}{\"token\":\"real\"}", Unswappable::NoJson),
        (200, "", Unswappable::NoToken),
        (200, "{}", Unswappable::NoToken),
        (200, "{\"token\":\"\"}", Unswappable::NoToken),
        (200, "\"real\"", Unswappable::NoToken),
        (200, "{\"jwt\":\"real\"}", Unswappable::NoToken),
        (200, "{\"token\":{\"value\":\"real\"}}", Unswappable::NoToken),
        (200, "{\"token\":\"re\\nal\"}", Unswappable::BadToken),
        (200, "{\"token\":\"re\\u0001al\"}", Unswappable::BadToken),
    ];
    for (status, body, why) in bad {
        assert_eq!(bench.answer(&asked, &own(), status, body).err(), Some(why), "{status} {body}");
    }
    let huge = format!("{{\"token\":\"{}\"}}", "x".repeat(20_000));
    assert_eq!(bench.answer(&asked, &own(), 200, &huge).err(), Some(Unswappable::BadToken));
    assert!(bench.derived.is_empty());
    for body in ["", "{\"details\":\"incorrect username or password\"}", "[]", "null"] {
        assert_eq!(text(&bench.answer(&asked, &own(), 401, body).unwrap()), body);
    }
}

#[test]
fn a_token_is_found_wherever_an_answer_holds_it() {
    let mut bench = Bench::new();
    let asked = get("https://auth.docker.io/token", &[]);
    for body in [
        r#"{"error":{"token":"real"}}"#,
        r#"{"Token":"real","token":"real"}"#,
        r#"[{"a":[{"access_token":["real"]}]}]"#,
        r#"{"\u0074oken":"re\u0061l"}"#,
    ] {
        let swapped = bench.answer(&asked, &own(), 500, body).unwrap();
        assert!(!text(&swapped).contains("real") && swapped.count > 0, "{}", text(&swapped));
        assert_eq!(swapped.tokens[0].secret().expose(), "real");
    }
}

#[test]
fn a_login_at_the_hub_takes_the_secret_in_its_body() {
    let bench = Bench::new();
    let held = variants(&own().id, &CredentialKind::Docker.credential()).remove(0);
    let json = [("content-type", "application/json; charset=utf-8"), ("content-length", "1")];
    let form = [("content-type", FORM)];
    let login = "https://hub.docker.com/v2/users/login";
    let cases = [
        (
            login,
            &json[..],
            format!(r#"{{ "username":"", "password":"{held}", "x":1.0 }}"#),
            r#"{ "username":"me", "password":"real+/", "x":1.0 }"#,
        ),
        (
            "https://hub.docker.com/v2/users/login/",
            &json,
            format!(r#"{{"username":"you","password":"{held}"}}"#),
            r#"{"username":"you","password":"real+/"}"#,
        ),
        (
            "https://hub.docker.com/v2/auth/token",
            &json,
            format!(r#"{{"identifier":"clauderon","secret":"{held}"}}"#),
            r#"{"identifier":"me","secret":"real+/"}"#,
        ),
        (
            "https://auth.docker.io/token",
            &form,
            format!("grant_type=password&username=&password={held}&scope=a%3Ab"),
            "grant_type=password&username=me&password=real%2B%2F&scope=a%3Ab",
        ),
    ];
    for (url, fields, body, expected) in cases {
        let sent = bench.run(&post(url, fields, &body), &own(), "real+/").unwrap();
        assert_eq!((sent.body.as_str(), sent.length), (expected, Some(expected.len().to_string())));
        assert_eq!(sent.authorization, "", "{url}");
        assert_eq!(bench.denial(&post(url, fields, &body), &other()), DenialCode::PlaceholderMisdirected);
    }
    let body = format!(r#"{{"username":"","password":"{held}"}}"#);
    let sent = bench.run(&post(login, &json, &body), &own(), "them:real").unwrap();
    assert_eq!(sent.body, r#"{"username":"me","password":"real"}"#);
}

#[test]
fn a_placeholder_elsewhere_in_a_body_is_misdirected() {
    let bench = Bench::new();
    let held = variants(&own().id, &CredentialKind::Docker.credential()).remove(0);
    let npm = variants(&own().id, &CredentialKind::Npm.credential()).remove(0);
    let json = [("content-type", "application/json")];
    let login = "https://hub.docker.com/v2/users/login";
    for body in [
        format!(r#"{{"username":"{held}","password":"x"}}"#),
        format!(r#"{{"username":"u","password":"x{held}"}}"#),
        format!(r#"{{"a":{{"password":"{held}"}}}}"#),
        format!(r#"{{"password":["{held}"]}}"#),
        format!(r#"{{"password":"{held}","note":"{held}"}}"#),
        format!(r#"{{"{held}":1}}"#),
        format!(r#"{{"password":"{npm}"}}"#),
        format!("password={held}"),
        format!(r#"{{"password":"{held}""#),
    ] {
        assert_eq!(bench.denial(&post(login, &json, &body), &own()), DenialCode::PlaceholderMisdirected, "{body}");
    }
    for kind in [&[][..], &[("content-type", "text/plain")], &[("content-type", FORM), ("content-type", FORM)]] {
        let body = format!("password={held}");
        assert_eq!(bench.denial(&post(login, kind, &body), &own()), DenialCode::PlaceholderMisdirected);
    }
    for body in
        [format!(r#"{{"password":"{held}","password":"x"}}"#), format!(r#"{{"password":"{held}","Password":"x"}}"#)]
    {
        assert_eq!(bench.denial(&post(login, &json, &body), &own()), DenialCode::MalformedRequest, "{body}");
    }
}

#[test]
fn foreign_credentials_stay_as_they_are() {
    let bench = Bench::new();
    let json = [("content-type", "application/json")];
    let body = r#"{"username":"you","password":"your own"}"#;
    let sent = bench.run(&post("https://hub.docker.com/v2/users/login", &json, body), &own(), "real").unwrap();
    assert_eq!((sent.body.as_str(), sent.authorization.as_str()), (body, ""));
    let form = [("content-type", FORM)];
    let body = "grant_type=password&username=you&password=yours";
    let sent = bench.run(&post("https://auth.docker.io/token", &form, body), &own(), "real").unwrap();
    assert_eq!((sent.body.as_str(), sent.authorization.as_str()), (body, ""));
}

#[test]
fn a_refresh_token_goes_back_where_it_came_from() {
    let mut bench = Bench::new();
    let held = member(&bench.pull(&own(), r#"{"token":"a.b.c","refresh_token":"real-refresh"}"#), "refresh_token");
    let form = [("content-type", FORM)];
    let body = format!("grant_type=refresh_token&refresh_token={held}");
    let asked = post("https://auth.docker.io/token", &form, &body);
    assert_eq!(bench.run(&asked, &own(), "").unwrap().body, "grant_type=refresh_token&refresh_token=real-refresh");
    assert_eq!(bench.denial(&asked, &other()), DenialCode::PlaceholderMisdirected);
    let body = format!("grant_type=password&password={held}");
    assert_eq!(
        bench.denial(&post("https://auth.docker.io/token", &form, &body), &own()),
        DenialCode::PlaceholderMisdirected
    );
}

#[test]
fn a_realtime_secret_keeps_its_prefix_and_opens_a_socket() {
    let mut bench = Bench::new();
    let answer = r#"{"value":"ek_real0123456789","expires_at":1800000060,"session":{"value":"no token"}}"#;
    let asked = post("https://api.openai.com/v1/realtime/client_secrets", &[], "{}");
    let swapped = bench.answer(&asked, &own(), 200, answer).unwrap();
    let held = member(&swapped, "value");
    assert!(held.starts_with("ek_clauderon-derived-openai-7f3a9c21-") && text(&swapped).contains("no token"), "{held}");
    let protocols = format!("realtime, openai-insecure-api-key.{held}");
    let sent =
        bench.run(&get("https://api.openai.com/v1/realtime", &[("sec-websocket-protocol", &protocols)]), &own(), "");
    assert_eq!(sent.unwrap().protocols, "realtime, openai-insecure-api-key.ek_real0123456789");
    let bearer = format!("Bearer {held}");
    let fields = [("authorization", bearer.as_str())];
    let calls = get("https://api.openai.com/v1/realtime/calls", &fields);
    assert_eq!(bench.run(&calls, &own(), "").unwrap().authorization, "Bearer ek_real0123456789");
    assert_eq!(
        bench.denial(&get("https://chatgpt.com/backend-api/x", &fields), &own()),
        DenialCode::PlaceholderMisdirected
    );
    bench.now += Duration::from_secs(61);
    assert_eq!(bench.run(&calls, &own(), "").unwrap().authorization, bearer, "the origin says that it has ended");
    let elsewhere = get("https://chatgpt.com/backend-api/x", &fields);
    for (asked, session) in [(&elsewhere, own()), (&calls, other())] {
        assert_eq!(bench.denial(asked, &session), DenialCode::PlaceholderMisdirected);
    }
    let note = [("x-note", held.as_str())];
    let noted = get("https://api.openai.com/v1/realtime/calls", &note);
    assert_eq!(bench.denial(&noted, &own()), DenialCode::PlaceholderMisdirected);
    let again = bench.answer(&asked, &own(), 200, answer).unwrap();
    assert_ne!(member(&again, "value"), held, "the same value is another token once the first has ended");
}

#[test]
fn every_spelling_of_an_endpoint_is_read() {
    let bench = Bench::new();
    for url in [
        "https://api.openai.com/v1/realtime/client_secrets",
        "https://api.openai.com/v1/realtime/client_secrets/",
        "https://api.openai.com/v1/Realtime/%73essions",
        "https://hub.docker.com/v2//users/login",
        "https://ghcr.io/token",
        "https://reg.example.com/npm/-/npm/v1/tokens",
        "https://reg.example.com/npm/-/user/org.couchdb.user:me",
        "https://identity.pagerduty.com/oauth/token",
    ] {
        let method = if url.contains("couchdb") { "PUT" } else { "POST" };
        let asked = Asked { method, ..post(url, &[("content-type", FORM)], "") };
        let parts = Request::builder().method(method).uri(url).body(()).unwrap().into_parts().0;
        let origin = Authority::parse(parts.uri.authority().unwrap().as_str()).unwrap().origin(Scheme::Https);
        assert!(
            service::derivation(&Facts::of(&parts, &origin, false), &bench.rules).is_some(),
            "{} {url}",
            asked.method
        );
    }
    let (parts, permit) = bench.permit(&post("https://api.openai.com/v1/responses", &[], "{}"), &own());
    assert!(permit.derivation().is_none() && !inject::reads_body(&permit, &parts.headers));
}

#[test]
fn a_new_npm_token_works_at_its_registry() {
    let mut bench = Bench::new();
    let asked = post("https://reg.example.com/npm/-/npm/v1/tokens", &[], "{}");
    let swapped = bench.answer(&asked, &own(), 201, r#"{"token":"npm_real","key":"abc"}"#).unwrap();
    let bearer = format!("Bearer {}", member(&swapped, "token"));
    let fields = [("authorization", bearer.as_str())];
    let sent = bench.run(&get("https://reg.example.com/npm/@s%2fp", &fields), &own(), "").unwrap();
    assert_eq!(sent.authorization, "Bearer npm_real");
    assert_eq!(
        bench.denial(&get("https://reg.example.com/other/p", &fields), &own()),
        DenialCode::PlaceholderMisdirected
    );
    let listing = r#"{"objects":[{"token":"npm_ab","key":"k"},{"token":"npm_cd"}],"urls":{}}"#;
    let swapped = bench.answer(&get("https://reg.example.com/npm/-/npm/v1/tokens", &[]), &own(), 200, listing).unwrap();
    assert_eq!(text(&swapped), r#"{"objects":[{"token":"********","key":"k"},{"token":"********"}],"urls":{}}"#);
    assert!(swapped.tokens.is_empty());
}

#[test]
fn a_session_holds_so_many_and_the_first_to_end_goes() {
    let mut bench = Bench::new();
    let lasting = member(&bench.pull(&own(), r#"{"token":"t","refresh_token":"keep me"}"#), "refresh_token");
    let others = member(&bench.pull(&other(), r#"{"token":"theirs"}"#), "token");
    let first = member(&bench.pull(&own(), r#"{"token":"first","expires_in":100}"#), "token");
    let held: Vec<String> = (0..200)
        .map(|n| member(&bench.pull(&own(), &format!(r#"{{"token":"t{n}","expires_in":{}}}"#, 1000 + n)), "token"))
        .collect();
    let known = |text: &str| bench.derived.owner(text).is_some();
    assert!(known(&lasting) && known(&others) && !known(&first));
    assert_eq!(held.iter().filter(|text| known(text)).count(), 127);
    assert!(known(&held[199]) && !known(&held[0]));
    bench.derived.end(&own().id);
    assert!(bench.derived.owner(&lasting).is_none() && bench.derived.owner(&others).is_some());
    bench.derived.sweep(bench.now + Duration::from_secs(61 + 3600));
    assert!(bench.derived.is_empty());
}

#[test]
fn the_same_token_keeps_its_placeholder_and_echoes_show_it() {
    let mut bench = Bench::new();
    let one = bench.pull(&own(), r#"{"token":"real.jwt.signature"}"#);
    let two = bench.pull(&own(), r#"{"access_token":"real.jwt.signature"}"#);
    assert!(Arc::ptr_eq(&one.tokens[0], &two.tokens[0]));
    let token = &one.tokens[0];
    let (clean, count) = token.echoes().scrub(b"<real.jwt.signature>").unwrap();
    assert_eq!((clean, count), (format!("<{}>", token.placeholder()).into(), 1));
    assert!(!format!("{token:?}").contains("real"));
}

proptest! {
    #[test]
    fn no_token_survives_an_answer(
        token in "[!#-\\[\\]-~]{8,40}", other in "[a-z]{0,8}", deep in 0_usize..6, name in prop_oneof![Just("token"), Just("access_token"), Just("TOKEN")]
    ) {
        let mut bench = Bench::new();
        let mut value = serde_json::json!({ name: token, "other": other });
        for _ in 0..deep {
            value = serde_json::json!({ "in": [value] });
        }
        let swapped = bench.pull(&own(), &value.to_string());
        prop_assert!(!text(&swapped).contains(&token));
        prop_assert_eq!(swapped.count, 1);
        let held = swapped.tokens[0].placeholder();
        let all = serde_json::to_string(&value).unwrap().replace(&serde_json::to_string(&token).unwrap(), &format!("\"{held}\""));
        prop_assert_eq!(text(&swapped), all);
        prop_assert!(bench.derived.owner(held).is_some_and(|kept| kept.secret().expose() == token));
    }

    #[test]
    fn every_derived_placeholder_is_found_wherever_it_stands(before in ".{0,40}", after in ".{0,40}", jwt: bool) {
        let mut bench = Bench::new();
        let name = if jwt { "token" } else { "refresh_token" };
        let held = member(&bench.pull(&own(), &format!(r#"{{"token":"t","{name}":"real"}}"#)), name);
        let text = format!("{before}{held}{after}");
        let found = bench.derived.sightings(text.as_bytes()).any(|(range, _)| text.get(range) == Some(&held));
        prop_assert!(found);
    }
}
