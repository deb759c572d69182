//! The commands of the troubleshooting guide work as they are written, with `~` and the default port replaced.

use clauderon_testkit::rig::Rig;
use clauderon_testkit::run::Finished;

use crate::{github, github_rig};

/// Runs a documented command in a user's shell.
async fn shell(rig: &Rig, command: &str) -> Finished {
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_clauderon")).parent().unwrap().display().to_string();
    let path = format!("{binary}:{}", std::env::var("PATH").unwrap());
    let command = command.replace("localhost:3030", &rig.addr().to_string());
    let run = clauderon_testkit::run::Run::new("sh").args(["-c", &command]).env("PATH", path);
    run.dir(rig.outside()).watched(rig.sightings()).finish().await
}

#[tokio::test]
async fn the_daemon_answers_health() {
    let origin = github().start().await;
    let rig = github_rig(&origin).start().await;
    let health = shell(&rig, "curl -sS http://localhost:3030/health").await;
    assert_eq!((health.code, &health.json()["status"]), (0, &"ok".into()));
}

#[tokio::test]
async fn the_proxy_is_listening() {
    let origin = github().reply("/", "api root").start().await;
    let rig = github_rig(&origin).start().await;
    // As written, curl does not trust our CA: it must get as far as saying so.
    let untrusted = shell(&rig, "curl -sS -x http://localhost:3030 https://api.github.com").await;
    assert_eq!(untrusted.code, 60, "{}", untrusted.all());
    let trusted = "curl -sS --cacert ~/.clauderon/proxy-ca.pem -x http://localhost:3030 https://api.github.com";
    assert_eq!(shell(&rig, trusted).await.stdout, "api root");
    rig.assert_no_secret();
}

#[tokio::test]
async fn the_audit_log_reads_with_jq() {
    let origin = github().reply("/*", "x").start().await;
    let rig = github_rig(&origin).start().await;
    rig.create("review", &["--access-mode", "read-only"]).await;
    let mut client = rig.agent("review").await.h1("api.github.com").await;
    client.get("/read").await;
    client.send(http::Method::POST, "/write", "{}").await;
    rig.audit_lines(2).await;
    let writes = shell(&rig, "jq -c 'select(.method != \"GET\")' ~/.clauderon/audit.jsonl").await;
    assert_eq!((writes.code, writes.stdout.lines().count()), (0, 1), "{}", writes.all());
    let failed = shell(&rig, "jq -c 'select(.response_code >= 400)' ~/.clauderon/audit.jsonl").await;
    assert!(failed.stdout.lines().count() == 1 && failed.stdout.contains("/write"), "{}", failed.all());
    let tail = shell(&rig, "tail -n 2 ~/.clauderon/audit.jsonl | jq -r .path").await;
    assert_eq!(tail.stdout, "/read\n/write\n");
}

#[tokio::test]
async fn credential_files_are_verified() {
    let origin = github().start().await;
    let rig = github_rig(&origin).start().await;
    let listed = shell(&rig, "clauderon config credentials").await;
    assert!(listed.code == 0 && listed.stdout.contains("github"), "{}", listed.all());
    rig.assert_no_secret();
}

#[tokio::test]
async fn the_ca_is_made_anew() {
    let origin = github().reply("/", "x").start().await;
    let mut rig = github_rig(&origin).start().await;
    rig.terminate().await;
    let removed = shell(&rig, "rm ~/.clauderon/proxy-ca.pem ~/.clauderon/proxy-ca-key.pem").await;
    assert_eq!(removed.code, 0);
    rig.start().await;
    assert_eq!(rig.anonymous().get("https://api.github.com/").await.status, 200);
}

#[tokio::test]
async fn modes_are_changed_by_name() {
    let origin = github().reply("/", "x").start().await;
    let rig = github_rig(&origin).start().await;
    rig.create("work", &[]).await;
    for (mode, status) in [("read-only", 403), ("read-write", 200)] {
        let changed = shell(&rig, &format!("clauderon set-access-mode work {mode}")).await;
        assert_eq!(changed.code, 0, "{}", changed.all());
        let mut client = rig.agent("work").await.h1("api.github.com").await;
        assert_eq!(client.send(http::Method::POST, "/", "").await.status, status);
    }
}
