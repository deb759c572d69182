//! Gemini CLI with a prompt, against a stand-in for Google's API.

use clauderon_testkit::body::{Body, channel};
use clauderon_testkit::origin::{Call, Origin, with_field};
use clauderon_testkit::rig::Rig;
use clauderon_testkit::run::Finished;
use http::Response;
use serde_json::json;

use super::installed;
use crate::rig;

pub(super) const KEY: &str = "AIzaTheRealKeyNobodyMaySee0123456789abc";

/// One streamed answer that repeats the key it was asked with.
async fn generate(call: Call) -> Response<Body> {
    let key = call.field("x-goog-api-key").unwrap_or_default().to_owned();
    call.collect().await;
    let (feed, body) = channel();
    tokio::spawn(async move {
        let part = |text: &str| json!({ "content": { "role": "model", "parts": [{ "text": text }] }, "index": 0 });
        let usage = json!({ "promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2 });
        let mut last = part(&key);
        last["finishReason"] = "STOP".into();
        for candidate in [part("four: "), last] {
            let event = json!({ "candidates": [candidate], "usageMetadata": usage });
            feed.data(format!("data: {event}\r\n\r\n")).await;
        }
    });
    with_field(Response::new(body), "content-type", "text/event-stream")
}

pub(super) async fn model() -> Origin {
    let origin = Origin::https("generativelanguage.googleapis.com").require("x-goog-api-key", KEY);
    origin.route("/v1beta/models/*", |call| async move { generate(call).await }).start().await
}

async fn ask(rig: &Rig, session: &str) -> Finished {
    let script = installed::script("@google/gemini-cli/bundle/gemini.js").display().to_string();
    let dir = rig.work_dir("project");
    // No statistics, no update; the key, not a Google login.
    let settings = json!({
        "privacy": { "usageStatisticsEnabled": false }, "general": { "enableAutoUpdate": false },
        "security": { "auth": { "selectedType": "gemini-api-key" } },
    });
    std::fs::create_dir_all(dir.join(".gemini")).unwrap();
    std::fs::write(dir.join(".gemini/settings.json"), settings.to_string()).unwrap();
    let gemini = rig.tool("node", session, &dir).await.env("GEMINI_CLI_TRUST_WORKSPACE", "true");
    gemini.args([&script, "--model", "gemini-2.5-flash", "--prompt", "What is two and two?"]).finish().await
}

#[tokio::test]
async fn thinks_with_an_api_key_in_both_modes() {
    let origin = model().await;
    let rig = rig().secret("gemini_api_key", KEY).origin(&origin).start().await;
    for mode in ["read-only", "read-write"] {
        rig.create(mode, &["--access-mode", mode, "--allow-host", "generativelanguage.googleapis.com"]).await;
        let said = ask(&rig, mode).await;
        assert_eq!(said.code, 0, "{}\n{:#?}", said.all(), rig.audit());
        assert!(said.stdout.contains("four: ") && said.stdout.contains("placeholder"), "{}", said.all());
    }
    assert!(origin.log().requests().iter().all(|seen| seen.field("x-goog-api-key") == Some(KEY)));
}
