//! 1Password through a stand-in for its CLI that answers as the real one does.

use clauderon_testkit::agent::Answered;
use clauderon_testkit::origin::Origin;
use clauderon_testkit::rig::{Rig, RigBuilder};

use crate::{GITHUB, rig};

/// An `op` that runs `script` (POSIX shell), and logs its arguments in the file `$calls`.
pub(crate) fn with_op(script: &str) -> RigBuilder {
    with_op_and(script, "")
}

/// The same with more lines in `[onepassword]`.
fn with_op_and(script: &str, lines: &str) -> RigBuilder {
    let builder = rig().guards(GITHUB);
    let (op, calls) = (builder.outside().join("op"), builder.outside().join("op-calls"));
    let text = format!("#!/bin/sh\ncalls='{}'\nprintf '%s\\n' \"$*\" >> \"$calls\"\n{script}\n", calls.display());
    std::fs::write(&op, text).unwrap();
    std::fs::set_permissions(&op, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    builder.table(&format!(
        "[onepassword]\nenabled = true\nop_path = \"{}\"\n{lines}\n[onepassword.credentials]\n\
         github_token = \"op://Private/GitHub/token\"",
        op.display()
    ))
}

/// `op inject` as the real one does it, where the value of a reference is its last segment.
const INJECT: &str = "[ \"$1\" = inject ] && exec sed 's,{{ op://[^}]*/\\([^/}]*\\) }},\\1,g'";

/// What `clauderon unlock` came to: name and outcome of each credential, and the exit code.
async fn unlock(rig: &Rig, args: &[&str]) -> (Vec<(String, String)>, i32) {
    let finished = rig.cli(["unlock", "--json"].into_iter().chain(args.iter().copied())).finish().await;
    let rows = finished.json();
    let text = |row: &serde_json::Value, member: &str| row[member].as_str().unwrap().to_owned();
    let outcomes = rows.as_array().unwrap().iter().map(|row| (text(row, "name"), text(row, "outcome")));
    (outcomes.collect(), finished.code)
}

fn outcomes<const N: usize>(pairs: [(&str, &str); N]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, outcome)| ((*name).to_owned(), (*outcome).to_owned())).collect()
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

#[tokio::test]
async fn unlocking_asks_once_for_everything() {
    let origin = origin().await;
    let builder = with_op(&format!("{INJECT}; exit 1")).origin(&origin);
    let table = format!("github_token = \"op://Private/GitHub/{GITHUB}\"\nnpm = \"op://Private/npm/npm_TheRealOne\"");
    let rig = builder.guards("npm_TheRealOne").env("SENTRY_AUTH_TOKEN", "op://Private/Sentry/sntryu_TheRealOne");
    let mut rig = rig.guards("sntryu_TheRealOne").build();
    let toml = std::fs::read_to_string(rig.home().join("proxy.toml")).unwrap();
    rig.write("proxy.toml", 0o644, &toml.replace("github_token = \"op://Private/GitHub/token\"", &table));
    rig.start().await;
    let all = |outcome| outcomes([("github", outcome), ("sentry", outcome), ("npm", outcome)]);
    assert_eq!(unlock(&rig, &[]).await, (all("read"), 0));
    assert_eq!(calls(&rig), ["inject"]);
    assert_eq!(ask(&rig).await.status, 200);
    assert_eq!(unlock(&rig, &[]).await, (all("held"), 0));
    assert_eq!(calls(&rig), ["inject"], "what is held is not asked for");
    assert_eq!(unlock(&rig, &["--again"]).await, (all("read"), 0));
    assert_eq!(calls(&rig), ["inject", "inject"]);
    let shown = rig.cli(["unlock"]).succeed().await;
    assert!(shown.stdout.contains("1password op://Private/GitHub/…"), "{}", shown.stdout);
    rig.assert_no_secret();
}

#[tokio::test]
async fn a_bad_reference_fails_alone() {
    let bad = "echo '[ERROR] 2026/01/01 00:00:00 \"npm\" isn'\"'\"'t an item in the \"Private\" vault' >&2; exit 1";
    let script = format!("case \"$*\" in inject|*npm*) {bad};; *) printf {GITHUB};; esac");
    let rig = with_op(&script).env("NPM_TOKEN", "op://Private/npm/token").start().await;
    assert_eq!(unlock(&rig, &[]).await, (outcomes([("github", "read"), ("npm", "failed")]), 1));
    assert_eq!(calls(&rig).len(), 3, "together, then one after another: {:?}", calls(&rig));
    assert_eq!(unlock(&rig, &["github"]).await, (outcomes([("github", "held")]), 0));
    let listed = rig.cli(["config", "credentials", "--json"]).succeed().await.json();
    let npm = listed.as_array().unwrap().iter().find(|row| row["name"] == "npm").unwrap();
    assert!(npm["available"] == false && npm["problem"].as_str().unwrap().contains("no such item"), "{npm}");
    rig.assert_no_secret();
}

#[tokio::test]
async fn every_failure_says_what_to_do() {
    let cases = [
        ("[ERROR] 2026/01/01 00:00:00 authorization prompt dismissed, please try again", "approve"),
        ("[ERROR] 2026/01/01 00:00:00 authorization timeout", "approve"),
        ("[ERROR] 2026/01/01 00:00:00 You are not currently signed in. Please run `op signin --help`", "op signin"),
        ("[ERROR] 2026/01/01 00:00:00 account is not signed in", "op signin"),
        ("No accounts configured for use with 1Password CLI.", "op account add"),
        ("[ERROR] 2026/01/01 00:00:00 connecting to desktop app: read: connection reset", "unlock it"),
        ("[ERROR] 2026/01/01 00:00:00 RequestDelegatedSession: cannot setup session", "unlock it"),
        ("[ERROR] 2026/01/01 00:00:00 \"GitHub\" isn't an item in the \"Private\" vault", "op item list"),
        ("[ERROR] 2026/01/01 00:00:00 \"Private\" isn't a vault in this account", "op vault list"),
        ("[ERROR] 2026/01/01 00:00:00 invalid secret reference 'op://Private/GitHub/token'", "ids of vault and item"),
        ("[ERROR] 2026/01/01 00:00:00 (401) Unauthorized: You aren't authorized", "OP_SERVICE_ACCOUNT_TOKEN"),
        ("[ERROR] 2026/01/01 00:00:00 failed to DecodeSACredentials", "OP_SERVICE_ACCOUNT_TOKEN"),
        ("[ERROR] 2026/01/01 00:00:00 (429) Too Many Requests: rate limit exceeded", "wait"),
        ("[ERROR] 2026/01/01 00:00:00 context deadline exceeded", "network"),
        ("[ERROR] 2026/01/01 00:00:00 op://Private/GitHub/token broke", "op://Private/GitHub/… broke"),
    ];
    let rig = with_op("cat \"$calls-says\" >&2; exit 1").start().await;
    for (says, advice) in cases {
        std::fs::write(rig.outside().join("op-calls-says"), says).unwrap();
        let failed = rig.cli(["unlock"]).finish().await;
        assert!(failed.code == 1 && failed.stdout.contains(advice), "{says}: {}", failed.all());
        assert!(!failed.all().contains("/GitHub/token"), "the field is not shown: {}", failed.all());
    }
    assert_eq!(calls(&rig).len(), cases.len(), "whoever asks by hand is not held up by cool-downs");
}

#[tokio::test]
async fn a_dismissed_prompt_comes_back_only_when_asked_for() {
    let origin = origin().await;
    let dismissed = "echo '[ERROR] 2026/01/01 00:00:00 authorization prompt dismissed' >&2; exit 1";
    let script = format!("[ $(wc -l < \"$calls\") = 1 ] && {{ {dismissed}; }}; printf {GITHUB}");
    let rig = with_op(&script).origin(&origin).start().await;
    for _ in 0..3 {
        assert_eq!(ask(&rig).await.status, 503);
    }
    assert_eq!(calls(&rig).len(), 1);
    assert_eq!(unlock(&rig, &[]).await, (outcomes([("github", "read")]), 0));
    assert_eq!(ask(&rig).await.status, 200);
    rig.assert_no_secret();
}

#[tokio::test]
async fn an_op_that_hangs_is_ended_and_holds_up_nobody_else() {
    let origin = origin().await;
    let rig = with_op_and("exec sleep 600", "timeout = \"300ms\"").origin(&origin).start().await;
    let answered = ask(&rig).await;
    assert!(answered.status == 503 && answered.text().contains("did not answer within 0.3s"), "{}", answered.text());
    assert_eq!(unlock(&rig, &[]).await, (outcomes([("github", "failed")]), 1));
}

#[tokio::test]
async fn the_next_source_counts_only_where_that_is_wanted() {
    let origin = origin().await;
    for (line, status) in [("fallback = false", 503), ("fallback = true", 200)] {
        let script = "echo 'account is not signed in' >&2; exit 1";
        let rig = with_op_and(script, line).secret("github_token", GITHUB).origin(&origin).start().await;
        assert_eq!(ask(&rig).await.status, status, "{line}");
        let shown = rig.cli(["config", "credentials"]).succeed().await.stdout;
        assert_eq!(shown.contains("is used instead"), status == 200, "{shown}");
        rig.assert_no_secret();
    }
}

#[tokio::test]
async fn a_reference_in_a_secret_file_is_resolved() {
    let origin = origin().await;
    let rig = rig().guards(GITHUB).origin(&origin);
    let op = rig.outside().join("op");
    std::fs::write(&op, format!("#!/bin/sh\n[ \"$3\" = 'op://Work/Hub/token' ] && printf {GITHUB}\n")).unwrap();
    std::fs::set_permissions(&op, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let table = format!("[onepassword]\nop_path = \"{}\"", op.display());
    let mut rig = rig.table(&table).build();
    std::fs::DirBuilder::new().create(rig.home().join("secrets")).unwrap();
    std::fs::set_permissions(rig.home().join("secrets"), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    rig.write("secrets/github_token", 0o600, " op://Work/Hub/token\n");
    rig.start().await;
    assert_eq!(ask(&rig).await.status, 200);
    rig.assert_no_secret();
}

#[tokio::test]
async fn op_has_its_own_variables_and_a_session_has_none_of_them() {
    let origin = origin().await;
    let rig = with_op(&format!("env > \"$calls-env\"; printf {GITHUB}")).origin(&origin);
    let rig = rig.env("OP_SERVICE_ACCOUNT_TOKEN", "ops_TheRealOne").guards("ops_TheRealOne");
    let rig = rig.env("OP_CONNECT_HOST", "http://connect.example").env("OP_CONNECT_TOKEN", "connect-TheRealOne");
    let rig = rig.guards("connect-TheRealOne").env("OP_FORMAT", "json").start().await;
    assert_eq!(ask(&rig).await.status, 200);
    let env = std::fs::read_to_string(rig.outside().join("op-calls-env")).unwrap();
    let mut own: Vec<&str> = env.lines().filter(|line| line.starts_with("OP_")).collect();
    own.sort_unstable();
    assert_eq!(own, ["OP_CONNECT_HOST=http://connect.example", "OP_CONNECT_TOKEN=connect-TheRealOne"], "Connect alone");
    let session = rig.cli(["exec", "default", "--", "env"]).succeed().await.stdout;
    assert!(session.contains("GITHUB_TOKEN=") && !session.contains("\nOP_"), "{session}");
    rig.assert_no_secret();
}

#[tokio::test]
async fn a_test_really_asks_and_a_listing_does_not() {
    let mut rig = with_op(&format!("printf {GITHUB}")).build();
    let list = async |rig: &Rig, test: &[&str]| {
        let args = ["config", "credentials", "--json"].into_iter().chain(test.iter().copied());
        let listed = rig.cli(args).succeed().await.json();
        listed.as_array().unwrap().iter().find(|row| row["name"] == "github").unwrap()["fingerprint"].is_string()
    };
    assert!(!list(&rig, &[]).await && calls(&rig).is_empty());
    assert!(list(&rig, &["--test"]).await && calls(&rig).len() == 1, "without a daemon too");
    assert_eq!(rig.cli(["unlock"]).finish().await.code, 5);
    rig.start().await;
    assert!(!list(&rig, &[]).await && calls(&rig).len() == 1);
    assert!(list(&rig, &["--test"]).await && calls(&rig).len() == 2);
    let unknown = rig.cli(["unlock", "gitub"]).finish().await;
    assert!(unknown.code == 2 && unknown.all().contains("github"), "{}", unknown.all());
    rig.assert_no_secret();
}

#[tokio::test]
async fn other_settings_do_not_make_it_ask_again() {
    let origin = origin().await;
    let rig = with_op(&format!("printf {GITHUB}")).origin(&origin).start().await;
    assert_eq!(ask(&rig).await.status, 200);
    std::fs::write(rig.outside().join(".npmrc"), "registry=https://npm.example.com/\n").unwrap();
    let read_again = || rig.output().contains("configuration read again").then_some(());
    clauderon_testkit::wait::until("the new configuration", read_again).await;
    assert_eq!(ask(&rig).await.status, 200);
    assert_eq!(calls(&rig).len(), 1);
}
