//! Derived tokens: what a service makes of a credential stays in the daemon, and the session works with a placeholder.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use clauderon_testkit::agent::{Answered, Client};
use clauderon_testkit::body::{self, Body, channel, full};
use clauderon_testkit::bytes::Wire;
use clauderon_testkit::origin::{Call, Origin, OriginBuilder, ok, with_field};
use clauderon_testkit::rig::Rig;
use http::{Request, Response, StatusCode};

use crate::{GITHUB, rig};

const PAT: &str = "dckr_pat_TheRealTokenNobodyMaySee01";
const JWT: &str = "eyJhbGciOiJSUzI1NiJ9.eyJhY2Nlc3MiOlsicmVhbCJdfQ.VGhlUmVhbFNpZ25hdHVyZU5vYm9keU1heVNlZQ";
const REFRESH: &str = "the-real-refresh-token-nobody-may-see";
const USER: &str = "[services.docker]\nusername = \"me\"";

/// Docker's token endpoint, which fails unless the real credential arrives exactly.
fn auth() -> OriginBuilder {
    Origin::https("auth.docker.io").require("authorization", &format!("Basic {}", STANDARD.encode(format!("me:{PAT}"))))
}

fn token() -> String {
    format!("{{\"token\":\"{JWT}\",\"access_token\":\"{JWT}\",\"expires_in\":300}}")
}

/// The registry: a challenge, or with the real token what was asked for, the token echoed in it.
fn registry() -> OriginBuilder {
    Origin::https("registry-1.docker.io").route("/v2/*", |call| async move {
        if call.field("authorization") != Some(&format!("Bearer {JWT}")) {
            let realm = "Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\",scope=\"repository:o/r:pull\"";
            let mut challenge = with_field(ok("{\"errors\":[]}"), "www-authenticate", realm);
            *challenge.status_mut() = StatusCode::UNAUTHORIZED;
            return challenge;
        }
        with_field(ok(format!("{{\"manifest\":1,\"you\":\"{JWT}\"}}")), "x-you", &format!("Bearer {JWT}"))
    })
}

/// A rig with Docker's credential, and sessions `one` and `two`.
async fn docker_rig(origins: &[&Origin]) -> Rig {
    let rig = origins.iter().fold(rig(), |rig, origin| rig.origin(origin)).secret("docker_token", PAT);
    let rig = rig.guards(JWT).guards(REFRESH).table(USER).start().await;
    rig.create("one", &[]).await;
    rig.create("two", &[]).await;
    rig
}

async fn client(rig: &Rig, session: &str, host: &str, h2: bool) -> Client {
    let agent = rig.agent(session).await;
    if h2 { agent.h2(host).await } else { agent.h1(host).await }
}

async fn with(client: &mut Client, path: &str, authorization: &str) -> Answered {
    client.fetch(Request::get(path).header("authorization", authorization).body(body::empty()).unwrap()).await
}

async fn post(client: &mut Client, path: &str, kind: &str, sent: &str) -> Answered {
    client.fetch(Request::post(path).header("content-type", kind).body(full(sent.to_owned())).unwrap()).await
}

fn held(answered: &Answered, member: &str) -> String {
    assert_eq!(answered.status, 200, "{}", answered.text());
    answered.json()[member].as_str().unwrap().to_owned()
}

fn error(answered: &Answered) -> (u16, Option<&str>) {
    (answered.status.as_u16(), answered.field("x-clauderon-error"))
}

const MISDIRECTED: (u16, Option<&str>) = (403, Some("placeholder_misdirected"));

#[tokio::test]
async fn an_image_is_pulled_by_a_client_that_never_sees_the_token() {
    let auth = auth().route("/token", |_| async { ok(token()) }).start().await;
    let registry = registry().start().await;
    let rig = docker_rig(&[&auth, &registry]).await;
    let script = r#"
import json, os, re, ssl, urllib.error, urllib.request
def get(url, headers={}):
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers))
manifest = "https://registry-1.docker.io/v2/o/r/manifests/latest"
try:
    get(manifest); raise SystemExit("no challenge")
except urllib.error.HTTPError as refused:
    realm, service, scope = re.findall('"(.*?)"', refused.headers["www-authenticate"])
import base64
user = base64.b64encode(("me:" + os.environ["DOCKER_TOKEN"]).encode()).decode()
token = json.load(get(f"{realm}?service={service}&scope={scope}", {"Authorization": "Basic " + user}))["token"]
answer = get(manifest, {"Authorization": "Bearer " + token})
print(token, answer.headers["x-you"], answer.read().decode())
"#;
    let dir = rig.work_dir("pull");
    let pulled = rig.tool("python3", "one", &dir).await.args(["-c", script]).succeed().await.all();
    let token = pulled.split(' ').next().unwrap();
    assert!(token.starts_with("e30.") && token.contains("clauderon-derived-docker-"), "{pulled}");
    assert_eq!(pulled.trim(), format!("{token} Bearer {token} {{\"manifest\":1,\"you\":\"{token}\"}}"));
    assert_eq!(auth.log().only().target, "/token?service=registry.docker.io&scope=repository:o/r:pull");
    assert_eq!(registry.log().last().field("authorization"), Some(format!("Bearer {JWT}").as_str()));
    let line = rig.audit_line("the token", |line| line.text("host") == "auth.docker.io").await;
    assert_eq!((line.text("credential"), line.get("redactions")), ("docker", &2.into()));
    let pulls = |line: &clauderon_testkit::rig::AuditLine| {
        line.text("host") == "registry-1.docker.io" && line.get("response_code") == 200
    };
    let line = rig.audit_line("the pull", pulls).await;
    assert_eq!(
        (line.text("credential"), line.text("service"), line.get("auth_injected")),
        ("docker", "docker", &true.into())
    );
    assert_eq!((line.text("rule"), line.get("redactions")), ("docker registry-1.docker.io/v2/*", &2.into()));
    rig.assert_no_secret();
}

#[tokio::test]
async fn an_answer_is_read_in_every_coding_and_framing() {
    let gzip = |text: String| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text.as_bytes()).unwrap();
        Bytes::from(encoder.finish().unwrap())
    };
    let auth = auth().route("/token", move |call: Call| async move {
        let wanted = call.uri.query().unwrap_or_default().to_owned();
        let plain: Bytes = token().into();
        let response = match wanted.as_str() {
            "gzip" => with_field(ok(gzip(token())), "content-encoding", "gzip"),
            "chunked" => {
                let (feed, body) = channel();
                tokio::spawn(async move {
                    for piece in plain.chunks(5) {
                        feed.data(piece.to_vec()).await;
                    }
                });
                Response::new(body)
            }
            _ => ok(plain),
        };
        let response = with_field(response, "set-cookie", &format!("token={JWT}; Secure"));
        let response = with_field(response, "etag", "\"1\"");
        if call.method == http::Method::HEAD {
            return response;
        }
        with_field(response, "x-token", &format!("<{JWT}> {PAT}"))
    });
    let auth = auth.start().await;
    let rig = docker_rig(&[&auth]).await;
    for h2 in [false, true] {
        let mut client = client(&rig, "one", "auth.docker.io", h2).await;
        for how in ["plain", "gzip", "chunked"] {
            let request = Request::get(format!("/token?{how}")).header("accept-encoding", "gzip");
            let answered = client.fetch(request.body(body::empty()).unwrap()).await;
            let token = held(&answered, "token");
            assert_eq!(
                (held(&answered, "access_token"), answered.json()["expires_in"].as_u64()),
                (token.clone(), Some(300))
            );
            assert_eq!(answered.field("content-length"), Some(answered.body.len().to_string().as_str()), "{how}");
            assert_eq!((answered.field("content-encoding"), answered.field("set-cookie")), (None, None), "{how}");
            let fields = answered.field("x-token").unwrap();
            assert!(fields.starts_with(&format!("<{token}> dckr_pat_clauderon_")), "{fields}");
        }
        let head = client.send(http::Method::HEAD, "/token?head", "").await;
        assert_eq!((head.status.as_u16(), head.field("set-cookie"), head.body.len()), (200, None, 0));
    }
    rig.assert_no_secret();
}

/// An answer with this status and body, in this coding.
fn odd(call: &Call) -> Response<Body> {
    let gzip = |text: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    };
    let (status, coding, bytes): (u16, &str, Vec<u8>) = match call.uri.query().unwrap_or_default() {
        "html" => (200, "", format!("<p>{JWT}</p>").into()),
        "failed" => (500, "", format!("token={JWT}").into()),
        "busy" => (429, "", "slow down".into()),
        "half" => (200, "", token().trim_end_matches('}').into()),
        "twice" => (200, "", [token(), token()].concat().into()),
        "elsewhere" => (200, "", format!("{{\"jwt\":\"{JWT}\"}}").into()),
        "empty" => (200, "", Vec::new()),
        "gzipped" => (200, "gzip", gzip(format!("<p>{JWT}</p>").as_bytes())),
        "not-gzip" => (200, "gzip", token().into()),
        "half-gzip" => (200, "gzip", gzip(token().as_bytes()).split_last().unwrap().1.to_vec()),
        "unknown" => (200, "rot13", token().into()),
        "long" => (200, "", format!("{{\"token\":\"{JWT}\",\"x\":\"{}\"}}", "x".repeat(1024 * 1024)).into()),
        "bomb" => (200, "gzip", gzip(&vec![b' '; 8 * 1024 * 1024])),
        other => panic!("nobody asks for {other}"),
    };
    let mut response = Response::new(full(bytes));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    if coding.is_empty() { response } else { with_field(response, "content-encoding", coding) }
}

#[tokio::test]
async fn what_cannot_be_read_is_withheld() {
    let auth = auth().route("/token", |call: Call| async move { odd(&call) }).start().await;
    let rig = docker_rig(&[&auth]).await;
    let all = [
        "html",
        "failed",
        "busy",
        "half",
        "twice",
        "elsewhere",
        "empty",
        "gzipped",
        "not-gzip",
        "half-gzip",
        "unknown",
        "long",
        "bomb",
    ];
    for h2 in [false, true] {
        let mut client = client(&rig, "one", "auth.docker.io", h2).await;
        for how in all {
            let answered = client.get(&format!("/token?{how}")).await;
            assert_eq!(error(&answered), (502, Some("upstream_protocol")), "{how}: {}", answered.text());
            assert!(
                answered.json()["error"].as_str().unwrap().starts_with("auth.docker.io answered "),
                "{}",
                answered.text()
            );
        }
    }
    let line = rig.audit_line("a refusal", |line| line.text("reason") == "upstream_protocol").await;
    assert_eq!(line.get("allowed"), true, "it reached the origin");
    rig.assert_no_secret();
}

#[tokio::test]
async fn a_length_that_lies_is_withheld_too() {
    let auth = Origin::https("auth.docker.io").h1_only().script(|mut wire: Wire| async move {
        let Some((head, _)) = wire.request().await else { return };
        let length = if head.start.contains("short") { 10 } else { token().len() + 10 };
        wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{}", token())).await;
    });
    let auth = auth.start().await;
    let rig = docker_rig(&[&auth]).await;
    for how in ["short", "long"] {
        let mut client = client(&rig, "one", "auth.docker.io", false).await;
        let answered = client.get(&format!("/token?{how}")).await;
        assert_eq!(error(&answered), (502, Some("upstream_protocol")), "{how}");
    }
    rig.assert_no_secret();
}

#[tokio::test]
async fn an_error_that_holds_a_token_keeps_its_status() {
    let auth = auth().route("/token", |_| async {
        let mut response = ok(format!("{{\"error\":{{\"Token\":\"{JWT}\",\"was\":\"{JWT}\"}}}}"));
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    });
    let auth = auth.start().await;
    let rig = docker_rig(&[&auth]).await;
    let answered = client(&rig, "one", "auth.docker.io", false).await.get("/token").await;
    assert_eq!((answered.status.as_u16(), answered.field("x-clauderon-error")), (500, None));
    assert_eq!(answered.json()["error"]["Token"], answered.json()["error"]["was"]);
    rig.assert_no_secret();
}

#[tokio::test]
async fn a_placeholder_works_in_its_session_and_at_its_audience_only() {
    let auth = auth().route("/token", |_| async { ok(token()) }).start().await;
    let registry = registry().also("ghcr.io").also("hub.docker.com").also("example.com").start().await;
    let rig = docker_rig(&[&auth, &registry]).await;
    let token = held(&client(&rig, "one", "auth.docker.io", false).await.get("/token").await, "token");
    let bearer = format!("Bearer {token}");
    let mut theirs = client(&rig, "two", "registry-1.docker.io", true).await;
    assert_eq!(error(&with(&mut theirs, "/v2/", &bearer).await), MISDIRECTED);
    for host in ["ghcr.io", "hub.docker.com", "example.com"] {
        let mut own = client(&rig, "one", host, false).await;
        assert_eq!(error(&with(&mut own, "/v2/", &bearer).await), MISDIRECTED, "{host}");
    }
    let mut own = client(&rig, "one", "registry-1.docker.io", true).await;
    assert_eq!(error(&own.get(&format!("/v2/?t={token}")).await), MISDIRECTED);
    assert_eq!(error(&with(&mut own, "/v2/", &format!("Digest x=\"{token}\"")).await), MISDIRECTED);
    assert_eq!(registry.log().count(), 0);
    assert_eq!(with(&mut own, "/v2/", &bearer).await.status, 200);
    rig.audit_line("the last request", |line| {
        line.text("host") == "registry-1.docker.io" && line.get("allowed") == true
    })
    .await;
    let alarms = rig.cli(["audit", "query", "--alarms"]).succeed().await.all();
    assert_eq!(alarms.lines().filter(|line| line.contains("placeholder_misdirected")).count(), 6, "{alarms}");
    rig.assert_no_secret();
}

#[tokio::test]
async fn a_session_that_is_gone_leaves_nothing_behind() {
    let auth = auth().route("/token", |_| async { ok(token()) }).start().await;
    let registry = registry().start().await;
    let rig = docker_rig(&[&auth, &registry]).await;
    let token = held(&client(&rig, "one", "auth.docker.io", false).await.get("/token").await, "token");
    rig.cli(["delete", "one"]).succeed().await;
    let mut theirs = client(&rig, "two", "registry-1.docker.io", false).await;
    assert_eq!(with(&mut theirs, "/v2/", &format!("Bearer {token}")).await.status, 401);
    assert_eq!(registry.log().only().field("authorization"), Some(format!("Bearer {token}").as_str()));
}

#[tokio::test]
async fn a_token_that_has_ended_is_refused_by_the_registry_itself() {
    let auth =
        auth().route("/token", |_| async { ok(format!("{{\"token\":\"{JWT}\",\"expires_in\":1}}")) }).start().await;
    let registry = registry().start().await;
    let rig = docker_rig(&[&auth, &registry]).await;
    let token = held(&client(&rig, "one", "auth.docker.io", false).await.get("/token").await, "token");
    let mut client = client(&rig, "one", "registry-1.docker.io", true).await;
    let bearer = format!("Bearer {token}");
    let ended = async {
        while with(&mut client, "/v2/", &bearer).await.status != 401 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    clauderon_testkit::wait::within("the token to end", ended).await;
    assert_eq!(registry.log().last().field("authorization"), Some(bearer.as_str()), "the client is told to ask anew");
}

#[tokio::test]
async fn a_session_holds_a_bounded_number_of_tokens() {
    let auth = auth().route("/token", |call: Call| async move {
        let number: u32 = call.uri.query().unwrap().parse().unwrap();
        ok(format!("{{\"token\":\"{JWT}{number}\",\"expires_in\":{}}}", 300 + number))
    });
    let auth = auth.start().await;
    let registry = registry().start().await;
    let rig = docker_rig(&[&auth, &registry]).await;
    let mut client = client(&rig, "one", "auth.docker.io", true).await;
    let mut tokens = Vec::new();
    for number in 0..130 {
        tokens.push(held(&client.get(&format!("/token?{number}")).await, "token"));
    }
    let mut client = self::client(&rig, "one", "registry-1.docker.io", true).await;
    for (number, known) in [(0, false), (1, false), (2, true), (129, true)] {
        with(&mut client, "/v2/", &format!("Bearer {}", tokens[number])).await;
        let seen = registry.log().last();
        let real = format!("Bearer {JWT}{number}");
        assert_eq!(seen.field("authorization") == Some(real.as_str()), known, "{number}");
    }
}

#[tokio::test]
async fn a_login_at_the_hub_and_what_it_gives() {
    let hub = Origin::https("hub.docker.com").route("/v2/*", |call: Call| async move {
        let (path, authorization) = (call.uri.path().to_owned(), call.field("authorization").map(str::to_owned));
        let sent = call.collect().await;
        let answer = match path.as_str() {
            "/v2/users/login" | "/v2/users/login/"
                if sent.bytes == format!("{{\"username\":\"me\",\"password\":\"{PAT}\"}}") =>
            {
                format!("{{\"token\":\"{JWT}\",\"refresh_token\":\"{REFRESH}\"}}")
            }
            "/v2/auth/token" if sent.bytes == format!("{{\"identifier\":\"you\",\"secret\":\"{PAT}\"}}") => {
                format!("{{\"access_token\":\"{JWT}\"}}")
            }
            "/v2/user/" if authorization.as_deref() == Some(&format!("JWT {JWT}")) => "{\"username\":\"me\"}".into(),
            _ => {
                let mut refused = ok("{\"detail\":\"Incorrect authentication credentials\"}");
                *refused.status_mut() = StatusCode::UNAUTHORIZED;
                return refused;
            }
        };
        ok(answer)
    });
    let hub = hub.start().await;
    let rig = docker_rig(&[&hub]).await;
    rig.cli(["set-access-mode", "two", "read-only"]).succeed().await;
    for session in ["one", "two"] {
        let placeholder = rig.session_env(session).await["DOCKER_TOKEN"].clone();
        let json = "application/json";
        let mut client = client(&rig, session, "hub.docker.com", session == "two").await;
        for path in ["/v2/users/login", "/v2/users/login/"] {
            let login = format!("{{\"username\":\"clauderon\",\"password\":\"{placeholder}\"}}");
            let answered = post(&mut client, path, json, &login).await;
            let token = held(&answered, "token");
            assert_eq!(
                hub.log().last().field("content-length"),
                Some(hub.log().last().body.len().to_string().as_str())
            );
            assert!(held(&answered, "refresh_token").starts_with("clauderon-derived-hub-"));
            assert_eq!(held(&with(&mut client, "/v2/user/", &format!("JWT {token}")).await, "username"), "me");
        }
        let secret = format!("{{\"identifier\":\"you\",\"secret\":\"{placeholder}\"}}");
        assert!(held(&post(&mut client, "/v2/auth/token", json, &secret).await, "access_token").starts_with("e30."));
        let own = "{\"username\":\"you\",\"password\":\"your own\"}";
        assert_eq!(post(&mut client, "/v2/users/login", json, own).await.status, 401);
        assert_eq!(hub.log().last().body, own);
        let before = hub.log().count();
        let misplaced = format!("{{\"username\":\"{placeholder}\",\"password\":\"x\"}}");
        assert_eq!(error(&post(&mut client, "/v2/users/login", json, &misplaced).await), MISDIRECTED);
        let twice = format!("{{\"password\":\"{placeholder}\",\"password\":\"x\"}}");
        assert_eq!(error(&post(&mut client, "/v2/users/login", json, &twice).await), (400, Some("malformed_request")));
        let long = format!("{{\"username\":\"{}\",\"password\":\"{placeholder}\"}}", "x".repeat(1024 * 1024));
        assert_eq!(error(&post(&mut client, "/v2/users/login", json, &long).await), (400, Some("malformed_request")));
        assert_eq!(hub.log().count(), before);
    }
    rig.assert_no_secret();
}

#[tokio::test]
async fn a_form_is_swapped_and_a_refresh_token_comes_back_as_itself() {
    let auth = Origin::https("auth.docker.io").route("/token", |call: Call| async move {
        assert_eq!(call.field("authorization"), None, "credentials are in the body");
        if call.collect().await.bytes.ends_with(b"password=yours") {
            return ok("{\"access_token\":\"your own token\"}");
        }
        ok(format!("{{\"access_token\":\"{JWT}\",\"refresh_token\":\"{REFRESH}\",\"expires_in\":300}}"))
    });
    let auth = auth.start().await;
    let rig = docker_rig(&[&auth]).await;
    let placeholder = rig.session_env("one").await["DOCKER_TOKEN"].clone();
    const FORM: &str = "application/x-www-form-urlencoded";
    for h2 in [false, true] {
        let mut client = client(&rig, "one", "auth.docker.io", h2).await;
        let form = format!(
            "grant_type=password&service=registry.docker.io&username=&password={placeholder}&access_type=offline"
        );
        let refresh = held(&post(&mut client, "/token", FORM, &form).await, "refresh_token");
        let sent =
            format!("grant_type=password&service=registry.docker.io&username=me&password={PAT}&access_type=offline");
        assert_eq!(auth.log().last().body, sent);
        let again = format!("grant_type=refresh_token&refresh_token={refresh}");
        assert!(held(&post(&mut client, "/token", FORM, &again).await, "access_token").starts_with("e30."));
        assert_eq!(auth.log().last().body, format!("grant_type=refresh_token&refresh_token={REFRESH}"));
        let own = "grant_type=password&username=you&password=yours";
        assert_eq!(held(&post(&mut client, "/token", FORM, own).await, "access_token"), "your own token");
        assert_eq!(auth.log().last().body, own);
    }
}

#[tokio::test]
async fn a_token_with_the_credential_in_it_shows_neither() {
    let ghcr = Origin::https("ghcr.io").route("/*", |call: Call| async move {
        let sent = call.field("authorization").unwrap_or_default().to_owned();
        let opaque = STANDARD.encode(GITHUB);
        match call.uri.path() {
            "/token" if sent == format!("Basic {}", STANDARD.encode(format!("x-access-token:{GITHUB}"))) => {
                ok(format!("{{\"token\":\"{opaque}\"}}"))
            }
            "/v2/o/r/tags/list" if sent == format!("Bearer {opaque}") => ok(format!("{opaque} {GITHUB}")),
            other => panic!("{other} {sent}"),
        }
    });
    let ghcr = ghcr.start().await;
    let rig = rig().secret("github_token", GITHUB).origin(&ghcr).start().await;
    for h2 in [false, true] {
        let mut client = if h2 { rig.anonymous().h2("ghcr.io").await } else { rig.anonymous().h1("ghcr.io").await };
        let token = held(&client.get("/token?scope=repository:o/r:pull").await, "token");
        assert!(token.starts_with("clauderon-derived-ghcr-"), "{token}");
        let listed = with(&mut client, "/v2/o/r/tags/list", &format!("Bearer {token}")).await;
        let (echoed, credential) = listed.text().split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        assert_eq!(echoed, token);
        assert!(credential.starts_with("ghp_clauderon_placeholder_"), "{credential}");
    }
    rig.assert_no_secret();
}

#[tokio::test]
async fn a_realtime_secret_opens_one_conversation() {
    const KEY: &str = "sk-proj-TheRealOpenaiKeyNobodyMaySee";
    const EPHEMERAL: &str = "ek_TheRealEphemeralKeyNobodyMaySee01";
    let openai = Origin::https("api.openai.com").route("/v1/*", |call: Call| async move {
        let key = call.field("authorization") == Some(&format!("Bearer {KEY}"));
        let protocols = call.field("sec-websocket-protocol").unwrap_or_default().to_owned();
        match call.uri.path() {
            "/v1/realtime/client_secrets" if key => {
                ok(format!("{{\"value\":\"{EPHEMERAL}\",\"expires_at\":9999999999}}"))
            }
            "/v1/realtime/sessions" if key => ok(format!(
                "{{\"id\":\"s\",\"client_secret\":{{\"value\":\"{EPHEMERAL}\",\"expires_at\":9999999999}}}}"
            )),
            "/v1/realtime/calls" if call.field("authorization") == Some(&format!("Bearer {EPHEMERAL}")) => ok("{}"),
            "/v1/realtime" if protocols == format!("realtime, openai-insecure-api-key.{EPHEMERAL}") => ok("{}"),
            _ => panic!("{:?} {}", call.headers, call.uri),
        }
    });
    let openai = openai.start().await;
    let rig = rig().secret("openai_api_key", KEY).guards(EPHEMERAL).origin(&openai).start().await;
    rig.create("look", &["--access-mode", "read-only"]).await;
    for h2 in [false, true] {
        let mut client = client(&rig, "default", "api.openai.com", h2).await;
        let answered = post(&mut client, "/v1/realtime/client_secrets", "application/json", "{}").await;
        let secret = held(&answered, "value");
        assert!(secret.starts_with("ek_clauderon-derived-openai-"), "{secret}");
        let answered = post(&mut client, "/v1/realtime/sessions", "application/json", "{}").await;
        assert!(
            answered.json()["client_secret"]["value"].as_str().unwrap().starts_with("ek_clauderon-derived-openai-")
        );
        assert_eq!(with(&mut client, "/v1/realtime/calls", &format!("Bearer {secret}")).await.status, 200);
        let protocols = format!("realtime, openai-insecure-api-key.{secret}");
        let request = Request::get("/v1/realtime").header("sec-websocket-protocol", protocols);
        assert_eq!(client.fetch(request.body(body::empty()).unwrap()).await.status, 200);
        let mut reading = self::client(&rig, "look", "api.openai.com", h2).await;
        let refused = post(&mut reading, "/v1/realtime/client_secrets", "application/json", "{}").await;
        assert_eq!(error(&refused), (403, Some("read_only")));
    }
    rig.assert_no_secret();
}

#[tokio::test]
async fn routing_keys_are_masked_wherever_pagerduty_shows_them() {
    const KEY: &str = "u+TheRealKeyNobodySee";
    const ROUTING: &str = "R0TheRealRoutingKeyNobodyMaySee0";
    let integration =
        format!("{{\"id\":\"I\",\"integration_key\":\"{ROUTING}\",\"parameters\":{{\"routing_key\":\"{ROUTING}\"}}}}");
    let (shown, masked) = (integration.clone(), integration.replace(ROUTING, "********"));
    let origin = Origin::https("api.pagerduty.com").require("authorization", &format!("Token token={KEY}"));
    let origin = origin
        .reply("/services", "{\"services\":[]}")
        .route("/*", move |_| std::future::ready(ok(shown.clone())))
        .start()
        .await;
    let rig = rig().secret("pagerduty_token", KEY).guards(ROUTING).origin(&origin).start().await;
    for h2 in [false, true] {
        let mut client = client(&rig, "default", "api.pagerduty.com", h2).await;
        for path in [
            "/services/s/integrations/I",
            "/services/s?include%5B%5D=integrations",
            "/Services/s/integrations.json",
            "/event_orchestrations/e/integrations",
        ] {
            assert_eq!(client.get(path).await.text(), masked, "{path}");
        }
        assert_eq!(client.get("/services").await.text(), "{\"services\":[]}");
    }
    rig.assert_no_secret();
}

#[tokio::test]
async fn a_named_minting_gives_a_placeholder_and_a_listing_is_masked() {
    const NPM: &str = "npm_TheRealTokenNobodyMaySee0123456789ab";
    const NEW: &str = "npm_AnotherRealTokenNobodyMaySee01234567";
    let registry = Origin::https("npm.example.test").route("/*", |call: Call| async move {
        let bearer = call.field("authorization").unwrap_or_default().to_owned();
        match (call.method.as_str(), call.uri.path()) {
            ("POST", "/-/npm/v1/tokens") if bearer == format!("Bearer {NPM}") => {
                ok(format!("{{\"token\":\"{NEW}\",\"key\":\"k\"}}"))
            }
            ("GET", "/-/npm/v1/tokens") => ok(format!("{{\"objects\":[{{\"token\":\"{NEW}\",\"key\":\"k\"}}]}}")),
            ("GET", "/-/v1/done") => ok(format!("{{\"token\":\"{NEW}\"}}")),
            ("GET", "/-/whoami") if bearer == format!("Bearer {NEW}") => ok("{\"username\":\"me\"}"),
            ("DELETE", path) if bearer == format!("Bearer {NEW}") && path == format!("/-/user/token/{NEW}") => ok("{}"),
            _ => panic!("{bearer} {} {}", call.method, call.uri),
        }
    });
    let registry = registry.start().await;
    let rig = rig().secret("npm_token", NPM).guards(NEW).origin(&registry);
    let rig = rig.line("allow_minting = [\"npm.token\", \"npm.login\"]");
    let rig = rig.table("[services.npm]\nregistries = [\"https://npm.example.test/\"]").start().await;
    let own = format!("Bearer {}", rig.session_env("default").await["NPM_TOKEN"]);
    let mut client = client(&rig, "default", "npm.example.test", false).await;
    let request = Request::post("/-/npm/v1/tokens").header("authorization", &own);
    let created = client.fetch(request.body(full("{\"password\":\"x\"}")).unwrap()).await;
    let logged_in = client.get("/-/v1/done?authId=1").await;
    for token in [held(&created, "token"), held(&logged_in, "token")] {
        assert!(token.starts_with("clauderon-derived-npm-"), "{token}");
        assert_eq!(held(&with(&mut client, "/-/whoami", &format!("Bearer {token}")).await, "username"), "me");
    }
    let listed = with(&mut client, "/-/npm/v1/tokens", &own).await;
    assert_eq!(listed.text(), "{\"objects\":[{\"token\":\"********\",\"key\":\"k\"}]}");
    // What the session was issued it may end; npm names it twice.
    let token = held(&logged_in, "token");
    let ended = async |by: &str| {
        let request = Request::delete(format!("/-/user/token/{token}")).header("authorization", format!("Bearer {by}"));
        let mut client = self::client(&rig, "default", "npm.example.test", false).await;
        client.fetch(request.body(full("")).unwrap()).await
    };
    assert_eq!(ended(&token).await.text(), "{}");
    let line = rig.audit_path("/-/user/token/***").await;
    assert_eq!((line.get("auth_injected"), line.text("credential")), (&true.into(), "npm"));
    rig.assert_no_secret();
}
