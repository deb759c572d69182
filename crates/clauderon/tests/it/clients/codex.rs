//! Codex in exec mode, against a stand-in for OpenAI's API.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clauderon_testkit::body::{Body, channel};
use clauderon_testkit::bytes::Wire;
use clauderon_testkit::origin::{Call, Origin, OriginBuilder, status, with_field};
use clauderon_testkit::rig::Rig;
use clauderon_testkit::run::Finished;
use clauderon_testkit::websocket::{self, Frame};
use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::installed;
use crate::rig;

pub(super) const KEY: &str = "sk-proj-TheRealKeyNobodyMaySee0123456789";

pub(super) async fn model() -> Origin {
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

/// The same over a WebSocket, one message an event.
async fn converse(mut wire: Wire) {
    while let Some((head, _)) = wire.request().await {
        let credential = head.field("authorization").unwrap_or_default().to_owned();
        if head.field("upgrade") != Some("websocket") || credential != format!("Bearer {KEY}") {
            wire.send("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await;
            continue;
        }
        let accept = websocket::accept(head.field("sec-websocket-key").unwrap());
        let switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
        wire.send(format!("{switching}Sec-WebSocket-Accept: {accept}\r\n\r\n")).await;
        while let Some(frame) = websocket::receive(&mut wire).await {
            answer(&mut wire, &frame, &credential).await;
        }
    }
}

async fn answer(wire: &mut Wire, frame: &Frame, credential: &str) {
    if frame.opcode != 1 {
        return;
    }
    let asked: Value = serde_json::from_slice(&frame.payload).unwrap();
    assert_eq!(asked["type"], "response.create");
    // A warm-up wants no answer but its end.
    let skipped = if asked["generate"] == false { "response.output_item.done" } else { "" };
    for event in events(credential).iter().filter(|event| event["type"] != skipped) {
        let payload = event.to_string().into_bytes();
        websocket::send(wire, &Frame { fin: true, opcode: 1, payload }, false).await;
    }
}

async fn ask(rig: &Rig, session: &str) -> Finished {
    let script = installed::script("@openai/codex/bin/codex.js").display().to_string();
    let dir = rig.work_dir("project");
    let codex = rig.tool("node", session, &dir).await;
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

#[tokio::test]
async fn thinks_over_a_web_socket_in_both_modes() {
    let origin = Origin::https("api.openai.com").h1_only().script(converse).start().await;
    let chatgpt = Origin::https("chatgpt.com").reply("/nothing", "").start().await;
    let rig = rig().secret("openai_api_key", KEY).origin(&origin).origin(&chatgpt).start().await;
    for mode in ["read-only", "read-write"] {
        rig.create(mode, &["--access-mode", mode, "--allow-host", "api.openai.com", "--allow-host", "chatgpt.com"])
            .await;
        let said = ask(&rig, mode).await;
        assert!(
            said.code == 0 && said.stdout.contains("four: ") && said.stdout.contains("placeholder"),
            "{}",
            said.all()
        );
        let socket =
            |line: &clauderon_testkit::rig::AuditLine| line.get("response_code") == 101 && line.text("session") == mode;
        assert_eq!(rig.audit_line("the WebSocket", socket).await.get("auth_injected"), &Value::from(true));
    }
}

#[tokio::test]
async fn thinks_with_a_personal_access_token() {
    let token = "at-TheRealPersonalTokenNobodyMaySee0123";
    let bearer = format!("Bearer {token}");
    let account = json!({ "email": "ann@example.com", "chatgpt_user_id": "user-1", "chatgpt_account_id": "acc-1",
        "chatgpt_plan_type": "pro", "chatgpt_account_is_fedramp": false });
    let auth = Origin::https("auth.openai.com").require("authorization", &bearer);
    let auth = auth.route("/api/accounts/v1/user-auth-credential/whoami", move |call| {
        let account = account.to_string();
        async move {
            call.collect().await;
            with_field(clauderon_testkit::origin::ok(account), "content-type", "application/json")
        }
    });
    let (auth, chatgpt) = (auth.start().await, account_of(&bearer).start().await);
    let rig = rig().env("CHATGPT_ACCESS_TOKEN", token).guards(token).origin(&auth).origin(&chatgpt).start().await;
    for mode in ["read-only", "read-write"] {
        let hosts = ["--allow-host", "chatgpt.com", "--allow-host", "auth.openai.com"];
        rig.create(mode, &[&["--access-mode", mode], &hosts[..]].concat()).await;
        let said = ask(&rig, mode).await;
        let audit: Vec<_> = rig.audit().into_iter().map(|line| line.raw).collect();
        assert!(said.code == 0 && said.stdout.contains("four: "), "{}\n{audit:#?}", said.all());
    }
    assert!(auth.log().count() >= 2 && chatgpt.log().count() >= 2);
    rig.assert_no_secret();
}

/// ChatGPT, for whoever has this credential.
fn account_of(bearer: &str) -> OriginBuilder {
    Origin::https("chatgpt.com")
        .require("authorization", bearer)
        .route("/backend-api/codex/responses", |call| async move { respond(call).await })
        .route("/backend-api/wham/accounts/check", |call| async move {
            call.collect().await;
            // Where this account's workspace is served; Codex asks before it thinks.
            let account = json!({ "id": "acc-1", "plan_type": "pro", "account_routing_override": "NO_CONSTRAINT",
                "workspace_backend_origin": "https://chatgpt.com" });
            let answer = json!({ "accounts": [account], "account_ordering": ["acc-1"], "default_account_id": "acc-1" });
            with_field(clauderon_testkit::origin::ok(answer.to_string()), "content-type", "application/json")
        })
}

#[tokio::test]
async fn thinks_with_the_users_chatgpt_login() {
    let access = "eyJhbGciOiJSUzI1NiJ9.eyJleHAiOjQxMDI0NDQ4MDB9.TheRealSignatureNobodyMaySee";
    let claims = json!({ "https://api.openai.com/auth": {
        "chatgpt_account_id": "acc-1", "chatgpt_plan_type": "pro", "chatgpt_user_id": "user-1" } });
    let id = format!("eyJhbGciOiJSUzI1NiJ9.{}.TheRealIdSignature", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let tokens = json!({ "id_token": id, "access_token": access, "refresh_token": "rt_TheRealRefreshNobodyMaySee",
        "account_id": "acc-1" });
    let chatgpt = account_of(&format!("Bearer {access}")).start().await;
    let rig = rig().guards(access).guards("TheRealIdSignature").guards("rt_TheRealRefreshNobodyMaySee");
    installed::login(&rig, ".codex/auth.json", &json!({ "auth_mode": "chatgpt", "tokens": tokens }));
    let rig = rig.origin(&chatgpt).start().await;
    for mode in ["read-only", "read-write"] {
        rig.create(mode, &["--access-mode", mode, "--allow-host", "chatgpt.com"]).await;
        let said = ask(&rig, mode).await;
        let audit: Vec<_> = rig.audit().into_iter().map(|line| line.raw).collect();
        assert!(said.code == 0 && said.stdout.contains("four: "), "{}\n{audit:#?}", said.all());
    }
    let asked = chatgpt.log().requests().into_iter().filter(|seen| seen.method == Method::POST);
    assert!(asked.filter(|seen| seen.field("chatgpt-account-id") == Some("acc-1")).count() >= 2);
}
