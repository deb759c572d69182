//! Logins of Claude Code, Codex and npm: what would use up or end the user's own is answered by the proxy.

use clauderon_testkit::agent::{Agent, Answered};
use clauderon_testkit::body;
use clauderon_testkit::origin::Origin;
use clauderon_testkit::rig::Rig;
use http::Request;

use crate::rig;

const SETUP_TOKEN: &str = "sk-ant-oat01-TheRealTokenNobodyMaySee0123456789";
const NPM: &str = "npm_TheRealTokenNobodyMaySee0123456789ab";

async fn post(agent: &Agent, host: &str, path: &str, kind: &str, text: String) -> Answered {
    let request = Request::post(path).header("content-type", kind).body(body::full(text)).unwrap();
    agent.h1(host).await.fetch(request).await
}

async fn post_json(agent: &Agent, host: &str, path: &str, json: &serde_json::Value) -> Answered {
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
        let asked =
            serde_json::json!({"grant_type": "refresh_token", "refresh_token": refresh, "scope": "user:inference"});
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
        let revoke = serde_json::json!({"token": access, "token_type_hint": "access_token"});
        assert_eq!(post_json(&agent, "console.anthropic.com", "/v1/oauth/revoke", &revoke).await.status, 200);
    }
    assert_eq!((claude.log().count(), console.log().count()), (0, 0));
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
    let asked = serde_json::json!({"grant_type": "refresh_token", "refresh_token": others});
    let answered = post_json(&one, "platform.claude.com", "/v1/oauth/token", &asked).await;
    assert_eq!((answered.status.as_u16(), answered.field("x-clauderon-error")), (403, Some("placeholder_misdirected")));
    assert!(!answered.text().contains(&others), "{}", answered.text());
    for asked in [
        serde_json::json!({"grant_type": "authorization_code", "code": "c", "client_id": "x"}),
        serde_json::json!({"grant_type": "refresh_token", "refresh_token": "sk-ant-ort01-somebodys"}),
        serde_json::json!({"grant_type": "refresh_token"}),
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
