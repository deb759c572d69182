//! Claude Code in print mode, against a stand-in for Anthropic's API.

use clauderon_testkit::body::{Body, channel};
use clauderon_testkit::origin::{Call, Origin, status, with_field};
use clauderon_testkit::rig::{Rig, RigBuilder};
use clauderon_testkit::run::Finished;
use http::{Response, StatusCode};

use super::installed;
use crate::rig;

pub(super) const SETUP_TOKEN: &str = "sk-ant-oat01-TheRealTokenNobodyMaySee0123456789";
const API_KEY: &str = "sk-ant-api03-TheRealKeyNobodyMaySee0123456789";

pub(super) async fn model(field: &str, value: &str) -> Origin {
    Origin::https("api.anthropic.com")
        .require(field, value)
        .route("/v1/messages", |call| async move { message(call).await })
        .route("/*", |call| async move {
            call.collect().await;
            with_field(status(StatusCode::NOT_FOUND, "{}"), "content-type", "application/json")
        })
        .start()
        .await
}

/// One streamed message that repeats the credential it was asked with, as a model told to might.
async fn message(call: Call) -> Response<Body> {
    let credential = call.field("authorization").or_else(|| call.field("x-api-key")).unwrap_or_default().to_owned();
    call.collect().await;
    let (feed, body) = channel();
    tokio::spawn(async move {
        for (event, data) in events(&credential) {
            feed.data(format!("event: {event}\ndata: {data}\n\n")).await;
        }
    });
    with_field(Response::new(body), "content-type", "text/event-stream")
}

fn events(credential: &str) -> Vec<(&'static str, String)> {
    let delta = |text: &str| {
        let delta = serde_json::json!({ "type": "text_delta", "text": text });
        serde_json::json!({ "type": "content_block_delta", "index": 0, "delta": delta }).to_string()
    };
    let start = r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"stand-in",
        "content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":1}}}"#;
    let block = r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#;
    let end = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":9}}"#;
    vec![
        ("message_start", start.replace('\n', "")),
        ("content_block_start", block.into()),
        ("content_block_delta", delta("four: ")),
        ("content_block_delta", delta(credential)),
        ("content_block_stop", r#"{"type":"content_block_stop","index":0}"#.into()),
        ("message_delta", end.into()),
        ("message_stop", r#"{"type":"message_stop"}"#.into()),
    ]
}

async fn ask(rig: &Rig, session: &str) -> Finished {
    let wrapper = installed::script("@anthropic-ai/claude-code/cli-wrapper.cjs").display().to_string();
    let claude = rig.tool("node", session, &rig.work_dir("project")).await;
    let claude = claude.args([&wrapper, "--print", "What is two and two?"]);
    // Nothing else is asked of the network: no telemetry, no update, no marketplace.
    let quiet = ["CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "DISABLE_AUTOUPDATER", "DISABLE_TELEMETRY"];
    quiet.into_iter().fold(claude, |claude, name| claude.env(name, "1")).finish().await
}

async fn thinks_in_both_modes(rig: RigBuilder, origin: Origin) {
    let rig = rig.origin(&origin).start().await;
    for mode in ["read-only", "read-write"] {
        rig.create(mode, &["--access-mode", mode, "--allow-host", "api.anthropic.com"]).await;
        let before = origin.log().count();
        let said = ask(&rig, mode).await;
        assert_eq!(said.code, 0, "{}\n{:#?}", said.all(), rig.audit());
        assert!(said.stdout.starts_with("four: ") && said.stdout.contains("placeholder"), "{}", said.all());
        assert!(origin.log().count() > before);
    }
    let model = |line: &clauderon_testkit::rig::AuditLine| line.text("path") == "/v1/messages";
    let line = rig.audit_line("a message", model).await;
    assert_eq!((line.text("service"), line.get("auth_injected")), ("anthropic", &true.into()));
}

#[tokio::test]
async fn thinks_with_a_setup_token() {
    let origin = model("authorization", &format!("Bearer {SETUP_TOKEN}")).await;
    thinks_in_both_modes(rig().secret("anthropic_oauth_token", SETUP_TOKEN), origin).await;
}

#[tokio::test]
async fn thinks_with_an_api_key() {
    let origin = model("x-api-key", API_KEY).await;
    thinks_in_both_modes(rig().secret("anthropic_oauth_token", API_KEY), origin).await;
}

#[tokio::test]
async fn thinks_with_the_users_own_login() {
    let (access, refresh) = ("sk-ant-oat01-TheRealLoginNobodyMaySee", "sk-ant-ort01-TheRealRefreshNobodyMaySee");
    let login = serde_json::json!({ "claudeAiOauth": {
        "accessToken": access, "refreshToken": refresh, "expiresAt": 4_102_444_800_000_i64,
        "scopes": ["user:inference", "user:profile"], "subscriptionType": "max" } });
    let origin = model("authorization", &format!("Bearer {access}")).await;
    let rig = rig().guards(access).guards(refresh);
    installed::login(&rig, ".claude/.credentials.json", &login);
    thinks_in_both_modes(rig, origin).await;
}
