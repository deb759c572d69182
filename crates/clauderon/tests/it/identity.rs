//! Who is calling: tokens, session sockets, and callers nobody vouches for.

use std::path::PathBuf;

use clauderon_testkit::bytes::Reply;
use clauderon_testkit::rig::Rig;

use crate::{GITHUB, github, github_rig};

async fn id_of(rig: &Rig, name: &str) -> String {
    let listed = rig.cli(["list", "--json"]).succeed().await.json();
    let session = listed.as_array().unwrap().iter().find(|session| session["name"] == name).unwrap().clone();
    session["id"].as_str().unwrap().to_owned()
}

async fn socket_of(rig: &Rig, name: &str) -> PathBuf {
    rig.home().join("sessions").join(id_of(rig, name).await).join("proxy.sock")
}

fn assert_407(reply: &Reply) {
    assert_eq!(reply.status(), 407, "{}", reply.text());
    assert!(reply.head.field("proxy-authenticate").unwrap().starts_with("Basic"), "{:?}", reply.head);
    assert_eq!(reply.head.field("x-clauderon-error"), Some("proxy_auth_required"));
    assert!(reply.json()["error"].is_string());
}

#[tokio::test]
async fn a_token_names_its_session() {
    let origin = github().reply("/*", "x").start().await;
    let rig = github_rig(&origin).start().await;
    rig.create("one", &[]).await;
    rig.create("two", &[]).await;
    for name in ["one", "two"] {
        let agent = rig.agent(name).await;
        assert_eq!(agent.get(&format!("https://api.github.com/{name}")).await.status, 200);
        let line = rig.audit_path(&format!("/{name}")).await;
        assert_eq!((line.text("session"), line.text("session_id")), (name, id_of(&rig, name).await.as_str()));
    }
}

#[tokio::test]
async fn wrong_and_unknown_credentials_get_407() {
    let origin = github().reply("/", "x").start().await;
    let rig = github_rig(&origin).start().await;
    rig.create("one", &[]).await;
    rig.create("two", &[]).await;
    let env = rig.session_env("one").await;
    let (_, token) = clauderon_testkit::rig::proxy_credentials(&env["HTTPS_PROXY"]);
    let wrong = [("one", "wrong"), ("nobody", "wrong"), ("two", token.as_str()), ("one", ""), ("", token.as_str())];
    for (name, token) in wrong {
        let agent = rig.anonymous().authorized(name, token);
        assert_407(&agent.connect("api.github.com:443").await.err().unwrap());
        let plain = agent.get("http://api.github.com/").await;
        assert_eq!(plain.status, 407, "{name}");
    }
    for header in ["Basic !!!", "Bearer x", "Basic", "Basic b25l"] {
        let mut wire = rig.anonymous().wire().await;
        let request = format!(
            "CONNECT api.github.com:443 HTTP/1.1\r\nHost: api.github.com:443\r\nProxy-Authorization: {header}\r\n\r\n"
        );
        assert_407(&wire.exchange(request).await.unwrap());
    }
    assert_eq!(origin.log().count(), 0);
    let line = rig.audit_line("the refusal", |line| line.get("response_code") == 407).await;
    assert_eq!((line.get("allowed"), line.text("reason")), (&false.into(), "proxy_auth_required"));
    assert!(!rig.output().contains(&token));
}

#[tokio::test]
async fn a_407_leaves_the_connection_usable_or_closed() {
    let origin = github().reply("/", "x").start().await;
    let rig = github_rig(&origin).line("anonymous = \"reject\"").start().await;
    rig.create("one", &[]).await;
    let agent = rig.agent("one").await;
    let mut wire = rig.anonymous().wire().await;
    let target = "CONNECT api.github.com:443 HTTP/1.1\r\nHost: api.github.com:443\r\n";
    assert_407(&wire.exchange(format!("{target}\r\n")).await.unwrap());
    let again = wire.exchange(format!("{target}{}\r\n", agent.proxy_authorization()));
    // Closed is fine too: then nothing answers.
    if let Some(head) = tokio::time::timeout(clauderon_testkit::wait::LIMIT, again).await.ok().flatten() {
        assert_eq!(head.status(), 200);
    }
}

#[tokio::test]
async fn our_own_processes_may_call_anonymously() {
    let origin = github().reply("/anonymous", "x").start().await;
    let rig = github_rig(&origin).start().await;
    assert_eq!(rig.anonymous().get("https://api.github.com/anonymous").await.status, 200);
    assert_eq!(rig.audit_path("/anonymous").await.text("session"), "default");
}

#[tokio::test]
async fn processes_of_another_user_may_not() {
    assert!(rustix::process::geteuid().is_root(), "this test becomes another user, which takes root");
    let origin = github().reply("/", "x").start().await;
    let rig = github_rig(&origin).start().await;
    let proxy = format!("http://{}", rig.addr());
    let curl = [
        "--reuid=65534",
        "--clear-groups",
        "curl",
        "-sS",
        "-x",
        &proxy,
        "http://api.github.com/",
        "-w",
        "%{http_code}",
    ];
    let finished = clauderon_testkit::run::Run::new("setpriv").args(curl).env("HOME", "/").finish().await;
    assert!(finished.stdout.ends_with("407"), "{}", finished.all());
    assert_eq!(origin.log().count(), 0);
}

#[tokio::test]
async fn nobody_may_when_anonymous_is_reject() {
    let origin = github().reply("/", "x").start().await;
    let rig = github_rig(&origin).line("anonymous = \"reject\"").start().await;
    assert_407(&rig.anonymous().connect("api.github.com:443").await.err().unwrap());
    rig.create("one", &[]).await;
    assert_eq!(rig.agent("one").await.get("https://api.github.com/").await.status, 200);
}

#[tokio::test]
async fn a_session_socket_is_its_session() {
    let origin = github().reply("/by-socket", "x").start().await;
    let rig = github_rig(&origin).line("anonymous = \"reject\"").start().await;
    rig.create("one", &[]).await;
    rig.create("two", &[]).await;
    let agent = rig.anonymous().through_socket(socket_of(&rig, "one").await);
    assert_eq!(agent.get("https://api.github.com/by-socket").await.status, 200);
    assert_eq!(rig.audit_path("/by-socket").await.text("session"), "one");
    rig.assert_no_secret();
}

#[tokio::test]
async fn a_session_socket_speaks_proxy_only() {
    let origin = github().reply("/", "x").start().await;
    let rig = github_rig(&origin).start().await;
    rig.create("one", &[]).await;
    let agent = rig.anonymous().through_socket(socket_of(&rig, "one").await);
    for path in ["/health", "/", "/v1/sessions", "/v1/credentials"] {
        let mut wire = agent.wire().await;
        let reply = wire.exchange(format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")).await.unwrap();
        assert!((400..500).contains(&reply.status()), "{path}: {}", reply.head.start);
        assert!(reply.json()["error"].is_string());
    }
}

#[tokio::test]
async fn deleting_a_session_ends_its_token_and_socket() {
    let origin = github().reply("/", "x").start().await;
    let rig = github_rig(&origin).start().await;
    rig.create("one", &[]).await;
    let agent = rig.agent("one").await;
    let socket = socket_of(&rig, "one").await;
    assert_eq!(agent.get("https://api.github.com/").await.status, 200);
    rig.cli(["delete", "one"]).succeed().await;
    assert_407(&agent.connect("api.github.com:443").await.err().unwrap());
    assert!(tokio::net::UnixStream::connect(&socket).await.is_err());
}

#[tokio::test]
async fn an_open_connection_of_a_deleted_session_is_refused_too() {
    let origin = github().reply("/", "x").start().await;
    let rig = github_rig(&origin).start().await;
    rig.create("one", &[]).await;
    let mut client = rig.agent("one").await.h2("api.github.com").await;
    assert_eq!(client.get("/").await.status, 200);
    rig.cli(["delete", "one"]).succeed().await;
    let before = origin.log().count();
    let request = http::Request::get("/").body(clauderon_testkit::body::empty()).unwrap();
    // The connection may be closed instead.
    if let Ok(response) = client.start(request).await {
        assert!([403, 407].contains(&response.status().as_u16()), "{}", response.status());
    }
    assert_eq!(origin.log().count(), before);
}

#[tokio::test]
async fn a_session_limited_to_credentials_gets_only_those() {
    let origin = github().reply("/", "x").start().await;
    let rig = github_rig(&origin).secret("openai_api_key", "sk-proj-AnotherRealKeyNobodyMaySee").start().await;
    rig.create("narrow", &["--credential", "openai"]).await;
    let env = rig.session_env("narrow").await;
    assert!(env.contains_key("OPENAI_API_KEY") && !env.contains_key("GITHUB_TOKEN"), "{env:?}");
    let answered = rig.agent("narrow").await.get("https://api.github.com/").await;
    // No credential goes out, so the origin itself refuses.
    assert_eq!(answered.status, 401);
    assert_eq!(origin.log().only().field("authorization"), None);
}

#[tokio::test]
async fn a_session_limited_to_hosts_reaches_only_those() {
    let origin = github().also("example.test").reply("/", "x").start().await;
    let rig = github_rig(&origin).start().await;
    rig.create("narrow", &["--allow-host", "api.github.com"]).await;
    let agent = rig.agent("narrow").await;
    assert_eq!(agent.get("https://api.github.com/").await.status, 200);
    let status = match agent.connect("example.test:443").await {
        Err(refusal) => refusal.status(),
        Ok(_) => agent.get("https://example.test/").await.status.as_u16(),
    };
    assert_eq!(status, 403);
    let line = rig.audit_line("the refusal", |line| line.text("reason") == "host_not_allowed").await;
    assert_eq!(line.text("session"), "narrow");
    assert_eq!(origin.log().count(), 1);
}

#[tokio::test]
async fn the_api_is_closed_without_its_token_and_to_foreign_hosts() {
    let rig = crate::rig().start().await;
    let token = std::fs::read_to_string(rig.home().join("api-token")).unwrap().trim().to_owned();
    let mut wire = rig.anonymous().wire().await;
    let addr = rig.addr();
    let ask = |host: &str, more: &str| format!("GET /v1/sessions HTTP/1.1\r\nHost: {host}\r\n{more}\r\n");
    let bearer = format!("Authorization: Bearer {token}\r\n");
    assert_eq!(wire.exchange(ask(&addr.to_string(), "")).await.unwrap().status(), 401);
    let mut wire = rig.anonymous().wire().await;
    assert_eq!(wire.exchange(ask(&addr.to_string(), "Authorization: Bearer wrong\r\n")).await.unwrap().status(), 401);
    let mut wire = rig.anonymous().wire().await;
    let refused = wire.exchange(ask("rebound.example.test", &bearer)).await.unwrap();
    assert!([400, 403, 421].contains(&refused.status()), "{}", refused.head.start);
    let mut wire = rig.anonymous().wire().await;
    let foreign =
        wire.exchange(ask(&addr.to_string(), &format!("{bearer}Origin: https://evil.example.test\r\n"))).await;
    assert_eq!(foreign.unwrap().status(), 403);
    let mut wire = rig.anonymous().wire().await;
    let allowed = wire.exchange(ask(&addr.to_string(), &bearer)).await.unwrap();
    assert_eq!(allowed.status(), 200);
    assert_eq!(allowed.head.field("access-control-allow-origin"), None);
    assert!(!rig.output().contains(GITHUB));
}
