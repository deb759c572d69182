//! Codex in exec mode, against a stand-in for OpenAI's API.

use clauderon_testkit::body::{Body, channel};
use clauderon_testkit::origin::{Call, Origin, status, with_field};
use clauderon_testkit::rig::Rig;
use clauderon_testkit::run::Finished;
use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::installed;
use crate::rig;

const KEY: &str = "sk-proj-TheRealKeyNobodyMaySee0123456789";

async fn model() -> Origin {
    Origin::https("api.openai.com")
        .require("authorization", &format!("Bearer {KEY}"))
        .route("/v1/responses", |call| async move { respond(call).await })
        .route("/v1/models", |call| async move {
            call.collect().await;
            with_field(clauderon_testkit::origin::ok("{\"models\":[],\"data\":[]}"), "content-type", "application/json")
        })
        .start()
        .await
}

/// One streamed response that repeats the credential it was asked with; no WebSocket.
async fn respond(call: Call) -> Response<Body> {
    let credential = call.field("authorization").unwrap_or_default().to_owned();
    let method = call.method.clone();
    call.collect().await;
    if method != Method::POST {
        return status(StatusCode::UPGRADE_REQUIRED, "no WebSocket here");
    }
    let (feed, body) = channel();
    tokio::spawn(async move {
        for event in events(&credential) {
            feed.data(format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap())).await;
        }
    });
    with_field(Response::new(body), "content-type", "text/event-stream")
}

fn events(credential: &str) -> [Value; 3] {
    let text = json!({ "type": "output_text", "text": format!("four: {credential}"), "annotations": [] });
    let item =
        json!({ "type": "message", "role": "assistant", "id": "msg_1", "status": "completed", "content": [text] });
    let usage = json!({ "input_tokens": 1, "input_tokens_details": null, "output_tokens": 1, "output_tokens_details": null, "total_tokens": 2 });
    [
        json!({ "type": "response.created", "response": { "id": "resp_1" } }),
        json!({ "type": "response.output_item.done", "output_index": 0, "item": item }),
        json!({ "type": "response.completed", "response": { "id": "resp_1", "usage": usage } }),
    ]
}

async fn ask(rig: &Rig, session: &str) -> Finished {
    let script = installed::script("@openai/codex/bin/codex.js").display().to_string();
    let dir = rig.work_dir("project");
    let home = rig.work_dir(&format!("codex-{session}"));
    let codex = rig.tool("node", session, &dir).await.env("CODEX_HOME", home.display().to_string());
    let args =
        [&script, "exec", "--skip-git-repo-check", "--sandbox", "read-only", "-c", "check_for_update_on_startup=false"];
    codex.args(args).args(["-c", "analytics.enabled=false", "What is two and two?"]).finish().await
}

#[tokio::test]
async fn thinks_with_an_api_key_in_both_modes() {
    let origin = model().await;
    // Asked for lists of plugins, over and over while it cannot be reached; another audience than the key's.
    let chatgpt = Origin::https("chatgpt.com").reply("/nothing", "").start().await;
    let rig = rig().secret("openai_api_key", KEY).origin(&origin).origin(&chatgpt).start().await;
    for mode in ["read-only", "read-write"] {
        rig.create(mode, &["--access-mode", mode, "--allow-host", "api.openai.com", "--allow-host", "chatgpt.com"])
            .await;
        let said = ask(&rig, mode).await;
        assert_eq!(
            said.code,
            0,
            "{}\n{:#?}",
            said.all(),
            rig.audit().iter().map(|line| line.raw.clone()).collect::<Vec<_>>()
        );
        assert!(said.stdout.contains("four: ") && said.stdout.contains("placeholder"), "{}", said.all());
    }
    let asked = origin.log().requests();
    let keyed = |seen: &clauderon_testkit::origin::Seen| format!("{seen:?}").contains(KEY);
    assert!(asked.iter().all(keyed) && !chatgpt.log().requests().iter().any(keyed));
    assert!(asked.iter().filter(|seen| seen.method == Method::POST && seen.target == "/v1/responses").count() >= 2);
}
