//! 1Password through a stand-in for its CLI that answers as the real one does.

use clauderon_testkit::agent::Answered;
use clauderon_testkit::origin::Origin;
use clauderon_testkit::rig::{Rig, RigBuilder};

use crate::{GITHUB, rig};

/// An `op` that runs `script` (POSIX shell), and logs its arguments in the file `$calls`.
pub(crate) fn with_op(script: &str) -> RigBuilder {
    let builder = rig().guards(GITHUB);
    let (op, calls) = (builder.outside().join("op"), builder.outside().join("op-calls"));
    let text = format!("#!/bin/sh\ncalls='{}'\nprintf '%s\\n' \"$*\" >> \"$calls\"\n{script}\n", calls.display());
    std::fs::write(&op, text).unwrap();
    std::fs::set_permissions(&op, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let table = "[onepassword]\nenabled = true\nop_path = \"OP\"\n[onepassword.credentials]\n\
                 github_token = \"op://Private/GitHub/token\"";
    builder.table(&table.replace("OP", &op.display().to_string()))
}

pub(crate) fn calls(rig: &Rig) -> Vec<String> {
    let text = std::fs::read_to_string(rig.outside().join("op-calls")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

async fn origin() -> Origin {
    Origin::https("api.github.com").require("authorization", &format!("Bearer {GITHUB}")).reply("/*", "x").start().await
}

async fn ask(rig: &Rig) -> Answered {
    rig.anonymous().get("https://api.github.com/user").await
}

#[tokio::test]
async fn a_reference_is_read_lazily_once_and_verbatim() {
    let origin = origin().await;
    let rig = with_op(&format!("printf %s {GITHUB}")).origin(&origin).start().await;
    assert!(calls(&rig).is_empty(), "asked before anyone needed it: {:?}", calls(&rig));
    let mut asking = tokio::task::JoinSet::new();
    for agent in std::iter::repeat_n(rig.anonymous(), 8) {
        asking.spawn(async move { agent.get("https://api.github.com/user").await.status });
    }
    assert!(asking.join_all().await.iter().all(|status| *status == 200));
    assert_eq!(ask(&rig).await.status, 200);
    let calls = calls(&rig);
    assert_eq!(calls.len(), 1, "single flight, then cached: {calls:?}");
    assert!(calls[0].starts_with("read ") && calls[0].contains("op://Private/GitHub/token"), "{calls:?}");
    rig.assert_no_secret();
}

#[tokio::test]
async fn it_stands_between_environment_and_file() {
    let origin = origin().await;
    let rig =
        with_op(&format!("printf %s {GITHUB}")).secret("github_token", "ghp_FromTheFile").origin(&origin).start().await;
    assert_eq!(ask(&rig).await.status, 200);
    drop(rig);
    let rig = with_op("printf ghp_FromOnePassword").origin(&origin).env("GITHUB_TOKEN", GITHUB).start().await;
    assert_eq!(ask(&rig).await.status, 200);
    assert!(calls(&rig).is_empty());
    rig.assert_no_secret();
}

#[tokio::test]
async fn a_reference_in_a_variable_is_resolved_never_sent() {
    let origin = origin().await;
    let rig = with_op(&format!("printf %s {GITHUB}")).origin(&origin).env("GITHUB_TOKEN", "op://Work/Other/token");
    let rig = rig.start().await;
    assert_eq!(ask(&rig).await.status, 200);
    assert!(calls(&rig)[0].contains("op://Work/Other/token"), "{:?}", calls(&rig));
}

#[tokio::test]
async fn failures_are_503_and_say_what_is_wrong() {
    let cases = [
        ("echo '[ERROR] 2026/01/01 00:00:00 You are not currently signed in' >&2; exit 1", "sign"),
        ("echo '[ERROR] 2026/01/01 00:00:00 authorization prompt dismissed' >&2; exit 1", "dismissed"),
        (
            "echo '[ERROR] 2026/01/01 00:00:00 \"GitHub\" isn'\"'\"'t an item in the \"Private\" vault' >&2; exit 1",
            "item",
        ),
        ("exit 0", "empty"),
        ("printf 'two\\nlines'", "line"),
    ];
    for (script, word) in cases {
        let origin = origin().await;
        let rig = with_op(script).origin(&origin).start().await;
        let answered = ask(&rig).await;
        assert_eq!(
            (answered.status.as_u16(), answered.field("x-clauderon-error")),
            (503, Some("credential_unavailable"))
        );
        let error = answered.text();
        assert!(error.to_lowercase().contains(word), "{script} should say {word:?}: {error}");
        assert_eq!(origin.log().count(), 0);
        assert_eq!(rig.audit_path("/user").await.get("response_code"), 503);
    }
}

#[tokio::test]
async fn a_missing_op_is_named() {
    let origin = origin().await;
    let table = "[onepassword]\nenabled = true\nop_path = \"/nowhere/op\"\n[onepassword.credentials]\n\
                 github_token = \"op://Private/GitHub/token\"";
    let rig = rig().origin(&origin).table(table).start().await;
    let answered = ask(&rig).await;
    assert_eq!(answered.status, 503);
    assert!(answered.text().contains("/nowhere/op"), "{}", answered.text());
}

#[tokio::test]
async fn start_is_not_blocked_by_a_slow_op() {
    let origin = origin().await;
    let rig = with_op("sleep 600").origin(&origin).start().await;
    let health =
        rig.anonymous().wire().await.exchange(format!("GET /health HTTP/1.1\r\nHost: {}\r\n\r\n", rig.addr())).await;
    assert_eq!(health.unwrap().status(), 200);
}
