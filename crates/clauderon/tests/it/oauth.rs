//! Logins of Claude Code, Codex and npm: what would use up or end the user's own is answered by the proxy.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clauderon_testkit::agent::{Agent, Answered};
use clauderon_testkit::body;
use clauderon_testkit::origin::{Call, Origin, ok, status, with_field};
use clauderon_testkit::rig::{Rig, RigBuilder};
use http::{Request, StatusCode};
use serde_json::{Value, json};

use crate::rig;

const SETUP_TOKEN: &str = "sk-ant-oat01-TheRealTokenNobodyMaySee0123456789";
const NPM: &str = "npm_TheRealTokenNobodyMaySee0123456789ab";

async fn post(agent: &Agent, host: &str, path: &str, kind: &str, text: String) -> Answered {
    let request = Request::post(path).header("content-type", kind).body(body::full(text)).unwrap();
    agent.h1(host).await.fetch(request).await
}

async fn post_json(agent: &Agent, host: &str, path: &str, json: &Value) -> Answered {
    post(agent, host, path, "application/json", json.to_string()).await
}

/// The session's own refresh token, as its access token spells the session.
fn refresh_placeholder(access: &str) -> String {
    access.replace("oat01", "ort01")
}

async fn claude_session(rig: &Rig, name: &str, mode: &str) -> (Agent, String) {
    rig.create(name, &["--access-mode", mode]).await;
    let access = rig.session_env(name).await["CLAUDE_CODE_OAUTH_TOKEN"].clone();
    (rig.agent(name).await, refresh_placeholder(&access))
}

#[tokio::test]
async fn a_refresh_and_a_revocation_by_the_agent_never_leave() {
    let claude =
        Origin::https("platform.claude.com").reply("/*", "{\"access_token\":\"sk-ant-oat01-new\"}").start().await;
    let console = Origin::https("console.anthropic.com").reply("/*", "{}").start().await;
    let rig = rig().secret("anthropic_oauth_token", SETUP_TOKEN).origin(&claude).origin(&console).start().await;
    for mode in ["read-only", "read-write"] {
        let (agent, refresh) = claude_session(&rig, mode, mode).await;
        let access = refresh.replace("ort01", "oat01");
        let asked = json!({"grant_type": "refresh_token", "refresh_token": refresh, "scope": "user:inference"});
        let form = format!("grant_type=refresh_token&refresh_token={refresh}&scope=user%3Ainference");
        for answered in [
            post_json(&agent, "platform.claude.com", "/v1/oauth/token", &asked).await,
            post_json(&agent, "console.anthropic.com", "/v1/oauth/token", &asked).await,
            post_json(&agent, "api.anthropic.com", "/v1/oauth/token", &asked).await,
            post(&agent, "platform.claude.com", "/v1/oauth/token", "application/x-www-form-urlencoded", form).await,
        ] {
            assert_eq!((answered.status.as_u16(), answered.field("content-type")), (200, Some("application/json")));
            let tokens = answered.json();
            assert_eq!(
                (&tokens["access_token"], &tokens["refresh_token"]),
                (&access.clone().into(), &refresh.clone().into())
            );
            assert_eq!(tokens["scope"], "user:inference");
        }
        let revoke = json!({"token": access, "token_type_hint": "access_token"});
        assert_eq!(post_json(&agent, "console.anthropic.com", "/v1/oauth/revoke", &revoke).await.status, 200);
    }
    assert_eq!((claude.log().count(), console.log().count()), (0, 0));
    let explained =
        rig.cli(["explain", "POST", "https://platform.claude.com/v1/oauth/token", "--json"]).succeed().await.json();
    assert_eq!((&explained["class"], &explained["auth_injected"]), (&"answered-here".into(), &false.into()));
    let line = rig.audit_line("a refresh", |line| line.text("path") == "/v1/oauth/token").await;
    assert_eq!(
        (line.text("reason"), line.text("rule"), line.get("allowed")),
        ("answered-here", "anthropic.refresh", &true.into())
    );
    assert_eq!((line.text("service"), line.get("auth_injected")), ("anthropic", &false.into()));
    rig.assert_no_secret();
}

#[tokio::test]
async fn what_is_not_the_sessions_own_is_refused_and_never_leaves() {
    let claude = Origin::https("platform.claude.com").reply("/*", "{}").start().await;
    let rig = rig().secret("anthropic_oauth_token", SETUP_TOKEN).origin(&claude).start().await;
    let (one, _) = claude_session(&rig, "one", "read-write").await;
    let (_, others) = claude_session(&rig, "two", "read-write").await;
    let asked = json!({"grant_type": "refresh_token", "refresh_token": others});
    let answered = post_json(&one, "platform.claude.com", "/v1/oauth/token", &asked).await;
    assert_eq!((answered.status.as_u16(), answered.field("x-clauderon-error")), (403, Some("placeholder_misdirected")));
    assert!(!answered.text().contains(&others), "{}", answered.text());
    for asked in [
        json!({"grant_type": "authorization_code", "code": "c", "client_id": "x"}),
        json!({"grant_type": "refresh_token", "refresh_token": "sk-ant-ort01-somebodys"}),
        json!({"grant_type": "refresh_token"}),
    ] {
        let answered = post_json(&one, "platform.claude.com", "/v1/oauth/token", &asked).await;
        assert_eq!((answered.status.as_u16(), answered.field("x-clauderon-error")), (403, Some("minting")), "{asked}");
    }
    assert_eq!(claude.log().count(), 0);
}

#[tokio::test]
async fn npm_logout_ends_nothing() {
    let registry = Origin::https("registry.npm.example.com").reply("/*", "{}").start().await;
    let table = "[services.npm]\nregistries = [\"https://registry.npm.example.com/\"]";
    let rig = rig().secret("npm_token", NPM).origin(&registry).table(table).start().await;
    rig.create("one", &["--access-mode", "read-only"]).await;
    let placeholder = rig.session_env("one").await["NPM_TOKEN"].clone();
    let request = Request::delete(format!("/-/user/token/{placeholder}"));
    let request = request.header("authorization", format!("Bearer {placeholder}")).body(body::empty()).unwrap();
    let answered = rig.agent("one").await.h1("registry.npm.example.com").await.fetch(request).await;
    assert_eq!(answered.status, 200);
    let line = rig.audit_line("a logout", |line| line.text("rule") == "npm.logout").await;
    assert!(line.text("reason") == "answered-here" && !line.raw.contains(&placeholder), "{}", line.raw);
    assert_eq!(registry.log().count(), 0);
}

const OLD: &str = "sk-ant-oat01-TheOldAccessTokenNobodyMaySee";
const OLD_REFRESH: &str = "sk-ant-ort01-TheOldRefreshTokenNobodyMaySee";
const NEW: &str = "sk-ant-oat01-TheNewAccessTokenNobodyMaySee";
const NEW_REFRESH: &str = "sk-ant-ort01-TheNewRefreshTokenNobodyMaySee";
const IN_2100: i64 = 4_102_444_800_000;

/// A rig whose user is logged in with Claude Code.
fn logged_in(access: &str, refresh: &str, expires_ms: i64) -> RigBuilder {
    let rig = [OLD, OLD_REFRESH, NEW, NEW_REFRESH].into_iter().fold(rig(), RigBuilder::guards);
    write_login(rig.outside(), access, refresh, expires_ms);
    rig
}

fn write_login(home: &Path, access: &str, refresh: &str, expires_ms: i64) {
    let login = json!({
        "claudeAiOauth": {
            "accessToken": access, "refreshToken": refresh, "expiresAt": expires_ms,
            "scopes": ["user:inference", "user:profile"], "subscriptionType": "max", "somethingNew": [1],
        },
        "mcpOAuth": { "keep": "me" },
    });
    write_private(&home.join(".claude/.credentials.json"), &login.to_string());
}

fn write_private(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let aside = path.with_extension("new");
    std::fs::write(&aside, text).unwrap();
    std::fs::set_permissions(&aside, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::rename(&aside, path).unwrap();
}

fn login_file(rig: &Rig) -> Value {
    serde_json::from_slice(&std::fs::read(rig.outside().join(".claude/.credentials.json")).unwrap()).unwrap()
}

fn new_tokens() -> String {
    json!({"token_type": "Bearer", "access_token": NEW, "refresh_token": NEW_REFRESH, "expires_in": 28800}).to_string()
}

/// A token endpoint that knows the old refresh token, once.
async fn token_endpoint() -> Origin {
    Origin::https("platform.claude.com")
        .route("/v1/oauth/token", |call| async move {
            let asked: Value = serde_json::from_slice(&call.collect().await.bytes).unwrap();
            let known = asked["refresh_token"] == OLD_REFRESH && asked["grant_type"] == "refresh_token";
            assert!(asked["client_id"].is_string() && asked["scope"] == "user:inference user:profile", "{asked}");
            // Long enough for everybody else to arrive meanwhile.
            tokio::time::sleep(Duration::from_millis(200)).await;
            if known { ok(new_tokens()) } else { status(StatusCode::BAD_REQUEST, "{\"error\":\"invalid_grant\"}") }
        })
        .start()
        .await
}

/// Anthropic's API for those who have the new token.
async fn api() -> Origin {
    Origin::https("api.anthropic.com")
        .require("authorization", &format!("Bearer {NEW}"))
        .reply("/*", "{}")
        .start()
        .await
}

#[tokio::test]
async fn a_race_of_two_sessions_renews_an_ended_login_once() {
    let (tokens, api) = (token_endpoint().await, api().await);
    let rig = logged_in(OLD, OLD_REFRESH, 1_000).origin(&tokens).origin(&api).start().await;
    rig.create("one", &[]).await;
    rig.create("two", &["--access-mode", "read-only"]).await;
    let mut asking = tokio::task::JoinSet::new();
    for agent in [rig.agent("one").await, rig.agent("two").await] {
        for _ in 0..4 {
            let agent = agent.clone();
            asking.spawn(async move { agent.get("https://api.anthropic.com/v1/models").await.status.as_u16() });
        }
    }
    assert_eq!(asking.join_all().await, [200; 8]);
    assert_eq!(tokens.log().count(), 1, "single flight");
    let file = login_file(&rig);
    let login = &file["claudeAiOauth"];
    assert_eq!((&login["accessToken"], &login["refreshToken"]), (&NEW.into(), &NEW_REFRESH.into()));
    assert!(login["expiresAt"].as_i64().unwrap() > 1_700_000_000_000, "{login}");
    assert_eq!(
        (&login["somethingNew"], &file["mcpOAuth"]["keep"]),
        (&json!([1]), &json!("me")),
        "unknown members stay"
    );
    let path = rig.outside().join(".claude/.credentials.json");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
    let line = rig.audit_line("the renewal", |line| line.text("reason") == "login-renewal").await;
    assert_eq!((line.text("service"), line.text("host")), ("anthropic", "platform.claude.com"));
    assert_eq!((line.text("path"), line.get("response_code")), ("/v1/oauth/token", &200.into()));
    assert_eq!(line.get("session_id"), &Value::Null, "no session has a part in it");
    rig.cli(["audit", "verify"]).succeed().await;
    rig.assert_no_secret();
}

#[tokio::test]
async fn a_login_that_ends_soon_is_renewed_before_it_does() {
    let (tokens, api) = (token_endpoint().await, api().await);
    let soon = (time_now() + 60) * 1000;
    let rig = logged_in(OLD, OLD_REFRESH, soon).origin(&tokens).origin(&api).start().await;
    assert_eq!(rig.anonymous().get("https://api.anthropic.com/v1/models").await.status, 200);
    assert_eq!(tokens.log().count(), 1);
    rig.assert_no_secret();
}

#[tokio::test]
async fn a_refused_login_is_renewed_and_the_request_sent_again() {
    let (tokens, api) = (token_endpoint().await, api().await);
    let rig = logged_in(OLD, OLD_REFRESH, IN_2100).origin(&tokens).origin(&api).start().await;
    assert_eq!(rig.anonymous().get("https://api.anthropic.com/v1/models").await.status, 200);
    assert_eq!(tokens.log().count(), 1);
    rig.assert_no_secret();
}

#[tokio::test]
async fn what_the_users_own_program_renewed_is_taken_over() {
    let (tokens, api) = (token_endpoint().await, api().await);
    let rig = logged_in(OLD, OLD_REFRESH, 1_000).origin(&tokens).origin(&api).start().await;
    write_login(rig.outside(), NEW, NEW_REFRESH, IN_2100);
    assert_eq!(rig.anonymous().get("https://api.anthropic.com/v1/models").await.status, 200);
    assert_eq!(tokens.log().count(), 0);
    rig.assert_no_secret();
}

#[tokio::test]
async fn losing_the_race_against_the_users_own_program_is_no_failure() {
    let api = api().await;
    let rig = logged_in(OLD, OLD_REFRESH, 1_000);
    let home = rig.outside().to_owned();
    let tokens = Origin::https("platform.claude.com").route("/v1/oauth/token", move |call| {
        let home = home.clone();
        async move {
            call.collect().await;
            write_login(&home, NEW, NEW_REFRESH, IN_2100);
            status(StatusCode::BAD_REQUEST, "{\"error\":\"invalid_grant\"}")
        }
    });
    let tokens = tokens.start().await;
    let rig = rig.origin(&tokens).origin(&api).start().await;
    assert_eq!(rig.anonymous().get("https://api.anthropic.com/v1/models").await.status, 200);
    assert_eq!(login_file(&rig)["claudeAiOauth"]["accessToken"], NEW);
    rig.assert_no_secret();
}

#[tokio::test]
async fn a_token_endpoint_that_lies_is_an_error_and_its_words_reach_nobody() {
    let cases: [(u16, &str, &str); 6] = [
        (500, "{\"access_token\":\"sk-ant-oat01-TheNewAccessTokenNobodyMaySee\"}", "answered 500"),
        (200, "<html>sk-ant-oat01-TheNewAccessTokenNobodyMaySee</html>", "no JSON"),
        (200, "{\"access_token\":\"\",\"refresh_token\":\"x\"}", "no access token"),
        (200, "{\"access_token\":[\"sk-ant-oat01-TheNewAccessTokenNobodyMaySee\"]}", "no access token"),
        (400, "{\"error\":\"invalid_grant\"}", "run `claude /login`"),
        (403, "{\"error\":\"sk-ant-oat01-TheNewAccessTokenNobodyMaySee\"}", "answered 403 instead"),
    ];
    for (code, body, said) in cases {
        let answer = move |call: Call| async move {
            call.collect().await;
            status(StatusCode::from_u16(code).unwrap(), body)
        };
        let tokens = Origin::https("platform.claude.com").route("/v1/oauth/token", answer).start().await;
        let api = api().await;
        let rig = logged_in(OLD, OLD_REFRESH, 1_000).origin(&tokens).origin(&api).start().await;
        for _ in 0..3 {
            let answered = rig.anonymous().get("https://api.anthropic.com/v1/models").await;
            assert_eq!(
                (answered.status.as_u16(), answered.field("x-clauderon-error")),
                (503, Some("credential_unavailable"))
            );
            assert!(answered.text().contains(said), "{said}: {}", answered.text());
        }
        assert_eq!((tokens.log().count(), api.log().count()), (1, 0), "no hammering: {said}");
        assert_eq!(login_file(&rig)["claudeAiOauth"]["refreshToken"], OLD_REFRESH);
        let shown = rig.cli(["config", "credentials"]).succeed().await.all();
        assert!(shown.contains(said), "{shown}");
        rig.assert_no_secret();
    }
}

#[tokio::test]
async fn tokens_that_end_at_once_are_not_renewed_for_every_request() {
    let jwt = |exp: i64| {
        format!(
            "eyJhbGciOiJSUzI1NiJ9.{}.TheRealSignature{exp}",
            URL_SAFE_NO_PAD.encode(json!({"exp": exp}).to_string())
        )
    };
    for (exp, expected) in [(1_000, 503), (time_now() + 100, 200)] {
        let body = json!({"access_token": jwt(exp), "refresh_token": "rt_TheNewOneNobodyMaySee"}).to_string();
        let answer = move |call: Call| {
            let body = body.clone();
            async move {
                call.collect().await;
                ok(body)
            }
        };
        let auth = Origin::https("auth.openai.com").route("/oauth/token", answer).start().await;
        let chatgpt = Origin::https("chatgpt.com").reply("/*", "{}").start().await;
        let rig = rig().guards(&jwt(exp)).guards("rt_TheNewOneNobodyMaySee");
        let tokens = json!({"access_token": jwt(900), "refresh_token": "rt_TheOldOneNobodyMaySee"});
        write_private(&rig.outside().join(".codex/auth.json"), &json!({"tokens": tokens}).to_string());
        let rig = rig.origin(&auth).origin(&chatgpt).start().await;
        rig.create("one", &[]).await;
        let home = rig.session_env("one").await["CODEX_HOME"].clone();
        let own: Value = serde_json::from_slice(&std::fs::read(Path::new(&home).join("auth.json")).unwrap()).unwrap();
        let bearer = format!("Bearer {}", own["tokens"]["access_token"].as_str().unwrap());
        for _ in 0..3 {
            let request = Request::get("/backend-api/me").header("authorization", &bearer).body(body::empty()).unwrap();
            let answered = rig.agent("one").await.h1("chatgpt.com").await.fetch(request).await;
            assert_eq!(answered.status.as_u16(), expected, "{}", answered.text());
        }
        assert_eq!(auth.log().count(), 1);
        rig.assert_no_secret();
    }
}

#[tokio::test]
async fn a_refusal_that_no_renewal_mends_stays_the_origins() {
    let answer = |call: Call| async move {
        call.collect().await;
        status(StatusCode::INTERNAL_SERVER_ERROR, "out of order")
    };
    let tokens = Origin::https("platform.claude.com").route("/v1/oauth/token", answer).start().await;
    let api = api().await;
    let rig = logged_in(OLD, OLD_REFRESH, IN_2100).origin(&tokens).origin(&api).start().await;
    for _ in 0..3 {
        assert_eq!(rig.anonymous().get("https://api.anthropic.com/v1/models").await.status, 401);
    }
    assert_eq!(tokens.log().count(), 1);
    assert!(rig.cli(["config", "credentials"]).succeed().await.all().contains("answered 500"));
    rig.assert_no_secret();
}

#[tokio::test]
async fn new_tokens_in_gzip_are_understood() {
    let answer = |call: Call| async move {
        call.collect().await;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(new_tokens().as_bytes()).unwrap();
        with_field(ok(encoder.finish().unwrap()), "content-encoding", "gzip")
    };
    let tokens = Origin::https("platform.claude.com").route("/v1/oauth/token", answer).start().await;
    let api = api().await;
    let rig = logged_in(OLD, OLD_REFRESH, 1_000).origin(&tokens).origin(&api).start().await;
    assert_eq!(rig.anonymous().get("https://api.anthropic.com/v1/models").await.status, 200);
    assert_eq!(login_file(&rig)["claudeAiOauth"]["refreshToken"], NEW_REFRESH);
    rig.assert_no_secret();
}

#[tokio::test]
async fn every_other_source_comes_before_a_login_and_it_can_be_switched_off() {
    let api = Origin::https("api.anthropic.com").require("authorization", &format!("Bearer {SETUP_TOKEN}"));
    let api = api.reply("/*", "{}").start().await;
    let rig =
        logged_in(OLD, OLD_REFRESH, IN_2100).secret("anthropic_oauth_token", SETUP_TOKEN).origin(&api).start().await;
    assert_eq!(rig.anonymous().get("https://api.anthropic.com/v1/models").await.status, 200);
    rig.assert_no_secret();
    let rig = logged_in(OLD, OLD_REFRESH, IN_2100).table("[logins]\nenabled = false").origin(&api).start().await;
    let rows = rig.cli(["config", "credentials", "--json"]).succeed().await.json();
    let row = rows.as_array().unwrap().iter().find(|row| row["name"] == "anthropic").unwrap().clone();
    assert_eq!((&row["available"], &row["source"]), (&false.into(), &Value::Null));
}

#[tokio::test]
async fn a_codex_login_is_renewed_and_goes_to_chatgpt_alone() {
    let jwt = |name: &str, exp: i64| {
        let payload = URL_SAFE_NO_PAD.encode(
            json!({"exp": exp, "jti": name, "https://api.openai.com/auth": {
            "chatgpt_account_id": "acc-1", "chatgpt_plan_type": "pro", "chatgpt_user_id": "user-real"}})
            .to_string(),
        );
        format!("eyJhbGciOiJSUzI1NiJ9.{payload}.TheRealSignatureNobodyMaySee{name}")
    };
    let (old, new, id) = (jwt("old", 1_000), jwt("new", 4_102_444_800), jwt("id", 1_000));
    let (body, expected) =
        (json!({"access_token": new, "refresh_token": "rt_TheNewOneNobodyMaySee", "id_token": id}), new.clone());
    let answer = move |call: Call| {
        let body = body.to_string();
        async move {
            let asked: Value = serde_json::from_slice(&call.collect().await.bytes).unwrap();
            assert_eq!(asked["refresh_token"], "rt_TheOldOneNobodyMaySee");
            ok(body)
        }
    };
    let auth = Origin::https("auth.openai.com").route("/oauth/token", answer).start().await;
    let chatgpt = Origin::https("chatgpt.com").require("authorization", &format!("Bearer {expected}"));
    let chatgpt = chatgpt.reply("/*", "{}").start().await;
    let rig = [&old, &new, &id].into_iter().fold(rig(), |rig, secret| rig.guards(secret));
    let rig = rig.guards("rt_TheNewOneNobodyMaySee").guards("rt_TheOldOneNobodyMaySee");
    let file = rig.outside().join(".codex/auth.json");
    let tokens = json!({"id_token": id, "access_token": old, "refresh_token": "rt_TheOldOneNobodyMaySee", "account_id": "acc-1"});
    write_private(
        &file,
        &json!({"OPENAI_API_KEY": null, "tokens": tokens, "last_refresh": "2025-01-01T00:00:00Z", "x": 1}).to_string(),
    );
    let rig = rig.origin(&auth).origin(&chatgpt).start().await;
    rig.create("one", &[]).await;
    let home = rig.session_env("one").await["CODEX_HOME"].clone();
    let own: Value = serde_json::from_slice(&std::fs::read(Path::new(&home).join("auth.json")).unwrap()).unwrap();
    let access = own["tokens"]["access_token"].as_str().unwrap();
    let request = Request::post("/backend-api/codex/responses").header("authorization", format!("Bearer {access}"));
    let agent = rig.agent("one").await;
    let answered = agent.h1("chatgpt.com").await.fetch(request.body(body::full("{}")).unwrap()).await;
    assert_eq!(answered.status, 200, "{}", answered.text());
    let kept: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(
        (&kept["tokens"]["access_token"], &kept["tokens"]["refresh_token"]),
        (&json!(new), &json!("rt_TheNewOneNobodyMaySee"))
    );
    assert!(kept["x"] == 1 && kept["last_refresh"].as_str().unwrap() > "2026", "{kept}");
    let asked =
        json!({"client_id": "c", "grant_type": "refresh_token", "refresh_token": own["tokens"]["refresh_token"]});
    let answered = post_json(&agent, "auth.openai.com", "/oauth/token", &asked).await;
    assert_eq!((answered.status.as_u16(), &answered.json()["access_token"]), (200, &json!(access)));
    let revoke = json!({"token": own["tokens"]["refresh_token"], "token_type_hint": "refresh_token"});
    assert_eq!(post_json(&agent, "auth.openai.com", "/oauth/revoke", &revoke).await.status, 200);
    assert_eq!(auth.log().count(), 1, "only the daemon's own request");
    rig.assert_no_secret();
}

fn time_now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}
