//! Access modes: what read-only refuses, what it lets pass, and when a switch takes effect.

use clauderon_testkit::agent::Client;
use clauderon_testkit::origin::Origin;
use clauderon_testkit::rig::Rig;
use clauderon_testkit::websocket;
use http::Method;

use crate::{GITHUB, github, github_rig, rig};

const OAUTH: &str = "sk-ant-oat01-TheRealTokenNobodyMaySee0123456789";
const OPENAI: &str = "sk-proj-TheRealKeyNobodyMaySee0123456789";

async fn review() -> (Origin, Rig) {
    let origin = github().reply("/*", "x").start().await;
    let rig = github_rig(&origin).start().await;
    rig.create("review", &["--access-mode", "read-only"]).await;
    (origin, rig)
}

async fn clients(rig: &Rig, name: &str, host: &str) -> [Client; 2] {
    let agent = rig.agent(name).await;
    [agent.h1(host).await, agent.h2(host).await]
}

#[tokio::test]
async fn a_write_gets_exactly_the_documented_answer() {
    let (origin, rig) = review().await;
    for mut client in clients(&rig, "review", "api.github.com").await {
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            let refused = client.send(method.clone(), "/repos/o/r/issues", "{}").await;
            assert_eq!(refused.status, 403);
            assert_eq!(refused.field("content-type"), Some("application/json"));
            assert_eq!(refused.field("x-clauderon-error"), Some("read_only"));
            let documented = format!(
                "{{\"error\":\"Write operations are blocked in read-only mode\",\"method\":\"{method}\",\
                 \"host\":\"api.github.com\",\"session\":\"review\",\
                 \"hint\":\"clauderon set-access-mode review read-write\"}}"
            );
            assert_eq!(refused.text().trim_end(), documented);
        }
    }
    assert_eq!(origin.log().count(), 0, "a refused write reached the origin");
    let line = rig.audit_line("a refusal", |line| line.text("method") == "DELETE").await;
    assert_eq!((line.get("allowed"), line.text("reason")), (&false.into(), "read_only"));
    assert_eq!((line.text("access_mode"), line.get("auth_injected")), ("read-only", &false.into()));
}

#[tokio::test]
async fn reads_pass() {
    let (origin, rig) = review().await;
    for mut client in clients(&rig, "review", "api.github.com").await {
        for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
            assert_eq!(client.send(method, "/repos/o/r", "").await.status, 200);
        }
    }
    assert_eq!(origin.log().count(), 6);
}

#[tokio::test]
async fn unknown_methods_are_writes() {
    let (origin, rig) = review().await;
    let mut client = rig.agent("review").await.h1("api.github.com").await;
    for method in ["PURGE", "PROPFIND", "get"] {
        let answered = client.send(method.parse().unwrap(), "/", "").await;
        assert_eq!(answered.status, 403, "{method}");
    }
    assert_eq!(origin.log().count(), 0);
}

#[tokio::test]
async fn method_overrides_do_not_slip_through() {
    let (origin, rig) = review().await;
    let mut client = rig.agent("review").await.h1("api.github.com").await;
    for field in ["x-http-method-override", "x-method-override", "x-http-method"] {
        let request = http::Request::get("/").header(field, "DELETE").body(clauderon_testkit::body::empty()).unwrap();
        assert!([400, 403].contains(&client.fetch(request).await.status.as_u16()), "{field}");
    }
    assert_eq!(origin.log().count(), 0);
}

#[tokio::test]
async fn a_switch_takes_effect_inside_open_connections() {
    let (origin, rig) = review().await;
    let mut open = clients(&rig, "review", "api.github.com").await;
    for (mode, status) in [("read-only", 403), ("read-write", 200), ("read-only", 403), ("read-write", 200)] {
        rig.cli(["set-access-mode", "review", mode]).succeed().await;
        for client in &mut open {
            assert_eq!(client.send(Method::POST, "/write", "{}").await.status, status, "{mode}");
        }
    }
    assert_eq!(origin.log().count(), 4);
}

#[tokio::test]
async fn two_sessions_at_once_never_mix() {
    let (origin, rig) = review().await;
    rig.create("build", &["--access-mode", "read-write"]).await;
    let mut running = tokio::task::JoinSet::new();
    for (name, status) in [("review", 403), ("build", 200)] {
        for mut client in clients(&rig, name, "api.github.com").await {
            running.spawn(async move {
                for index in 0..60 {
                    let path = format!("/{name}/{index}");
                    assert_eq!(client.send(Method::POST, &path, "{}").await.status, status, "{path}");
                    assert_eq!(client.get(&format!("/get{path}")).await.status, 200);
                }
            });
        }
    }
    while let Some(finished) = running.join_next().await {
        finished.unwrap();
    }
    let requests = origin.log().requests();
    assert!(requests.iter().all(|seen| seen.method == "GET" || seen.target.starts_with("/build/")));
    assert_eq!(requests.len(), 2 * 60 + 4 * 60);
    let lines = rig.audit_lines(480).await;
    for line in lines {
        let (path, session) = (line.text("path").to_owned(), line.text("session").to_owned());
        assert!(path.contains(&session), "{}", line.raw);
        let mode = if session == "build" { "read-write" } else { "read-only" };
        assert_eq!(line.text("access_mode"), mode);
    }
}

#[tokio::test]
async fn the_agents_own_model_calls_pass() {
    let origin = Origin::https("api.anthropic.com").also("api.openai.com").reply("/*", "thought").start().await;
    let rig =
        rig().secret("anthropic_oauth_token", OAUTH).secret("openai_api_key", OPENAI).origin(&origin).start().await;
    rig.create("review", &["--access-mode", "read-only"]).await;
    for mut client in clients(&rig, "review", "api.anthropic.com").await {
        assert_eq!(client.send(Method::POST, "/v1/messages?beta=true", "{}").await.text(), "thought");
        assert_eq!(client.send(Method::POST, "/v1/messages/batches", "{}").await.status, 403);
        assert_eq!(client.send(Method::DELETE, "/v1/messages", "").await.status, 403);
        assert_eq!(client.send(Method::POST, "/v1/messages/../files", "{}").await.status.as_u16() / 100, 4);
    }
    for mut client in clients(&rig, "review", "api.openai.com").await {
        assert_eq!(client.send(Method::POST, "/v1/responses", "{}").await.text(), "thought");
        assert_eq!(client.send(Method::POST, "/v1/files", "{}").await.status, 403);
    }
    let line = rig.audit_line("an exception", |line| line.text("path") == "/v1/responses").await;
    assert!(format!("{}{}", line.text("reason"), line.text("rule")).contains("model-inference"), "{}", line.raw);
    rig.assert_no_secret();
}

#[tokio::test]
async fn without_exceptions_only_the_method_counts() {
    let origin = Origin::https("api.anthropic.com").reply("/*", "thought").start().await;
    let rig = rig().secret("anthropic_oauth_token", OAUTH).origin(&origin);
    let rig = rig.table("[read_only]\nallow = []").start().await;
    rig.create("review", &["--access-mode", "read-only"]).await;
    let mut client = rig.agent("review").await.h1("api.anthropic.com").await;
    assert_eq!(client.send(Method::POST, "/v1/messages", "{}").await.status, 403);
    assert_eq!(client.get("/v1/models").await.status, 200);
}

#[tokio::test]
async fn git_may_fetch_and_not_discover_a_push() {
    let origin = Origin::https("github.com").reply("/*", "x").start().await;
    let rig = github_rig(&origin).start().await;
    rig.create("review", &["--access-mode", "read-only"]).await;
    let mut client = rig.agent("review").await.h1("github.com").await;
    assert_eq!(client.get("/o/r.git/info/refs?service=git-upload-pack").await.status, 200);
    let fetch = |content_type: &'static str| {
        let request = http::Request::post("/o/r.git/git-upload-pack").header("content-type", content_type);
        request.body(clauderon_testkit::body::full("0000")).unwrap()
    };
    assert_eq!(client.fetch(fetch("application/x-git-upload-pack-request")).await.status, 200);
    assert_eq!(client.fetch(fetch("application/json")).await.status, 403);
    let before = origin.log().count();
    for target in [
        "/o/r.git/info/refs?service=git-receive-pack",
        "/o/r/info/refs?service=git-receive-pack",
        "/o/r/info/refs?service=git-upload-pack&service=git-receive-pack",
        "/o/r/info/refs?service=git%2dreceive-pack",
    ] {
        assert_eq!(client.get(target).await.status, 403, "{target}");
    }
    assert_eq!(client.send(Method::POST, "/o/r.git/git-receive-pack", "0000").await.status, 403);
    assert_eq!(origin.log().count(), before);
}

#[tokio::test]
async fn upgrades_are_refused_but_for_a_models_own() {
    let script = |wire| websocket::echo(wire, format!("Bearer {OPENAI}"));
    let openai = Origin::https("api.openai.com").h1_only().script(script).start().await;
    let other = github().h1_only().script(|wire| websocket::echo(wire, format!("Bearer {GITHUB}"))).start().await;
    let rig = github_rig(&other).secret("openai_api_key", OPENAI).origin(&openai).start().await;
    rig.create("review", &["--access-mode", "read-only"]).await;
    let agent = rig.agent("review").await;
    let mut wire = agent.tunnel("api.openai.com").await;
    wire.send(websocket::request("/v1/responses", "api.openai.com", "")).await;
    assert_eq!(wire.head().await.unwrap().status(), 101);
    let mut wire = agent.tunnel("api.github.com").await;
    let refused = wire.exchange(websocket::request("/socket", "api.github.com", "")).await.unwrap();
    assert_eq!(refused.status(), 403);
    assert_eq!(other.log().bytes(), 0);
}
