//! Real git over smart HTTP, with nothing but the variables a session has.

use std::path::Path;

use clauderon_testkit::git_origin::{GitOrigin, commit_all, git};
use clauderon_testkit::rig::Rig;
use clauderon_testkit::run::Run;

use crate::{GITHUB, rig};

async fn hosted() -> (GitOrigin, Rig) {
    let host = GitOrigin::start("github.com", GITHUB).await;
    host.repository("owner/repo").await;
    let rig = rig().secret("github_token", GITHUB).origin(&host.origin).start().await;
    rig.create("dev", &[]).await;
    (host, rig)
}

async fn session_git(rig: &Rig, session: &str, dir: &Path, args: &[&str]) -> Run {
    rig.tool("git", session, dir).await.args(args.iter().copied()).env("GIT_CONFIG_NOSYSTEM", "1")
}

#[tokio::test]
async fn clones_and_pushes_with_the_suffix() {
    clone_and_push("https://github.com/owner/repo.git").await;
}

#[tokio::test]
async fn clones_and_pushes_without_the_suffix() {
    clone_and_push("https://github.com/owner/repo").await;
}

async fn clone_and_push(url: &str) {
    let (host, rig) = hosted().await;
    session_git(&rig, "dev", rig.outside(), &["clone", "--quiet", url, "copy"]).await.succeed().await;
    let copy = rig.outside().join("copy");
    assert_eq!(std::fs::read_to_string(copy.join("README")).unwrap(), "hello from the origin\n");
    std::fs::write(copy.join("new"), "small").unwrap();
    commit_all(&copy, "a small change").await;
    session_git(&rig, "dev", &copy, &["push", "--quiet", "origin", "main"]).await.succeed().await;
    assert_eq!(host.head("owner/repo").await, git(&copy, &["rev-parse", "HEAD"]).await.trim());
    rig.assert_no_secret();
}

#[tokio::test]
async fn pushes_a_pack_above_one_mebibyte() {
    let (host, rig) = hosted().await;
    let copy = rig.outside().join("copy");
    session_git(&rig, "dev", rig.outside(), &["clone", "--quiet", "https://github.com/owner/repo", "copy"])
        .await
        .succeed()
        .await;
    // Random enough not to be compressed away.
    std::fs::write(copy.join("big"), noise(3_000_000)).unwrap();
    commit_all(&copy, "a big change").await;
    session_git(&rig, "dev", &copy, &["push", "--quiet", "origin", "main"]).await.succeed().await;
    assert_eq!(host.head("owner/repo").await, git(&copy, &["rev-parse", "HEAD"]).await.trim());
    let requests = host.origin.log().requests();
    let push = requests.iter().rfind(|seen| seen.target.ends_with("/git-receive-pack")).unwrap();
    assert!(push.body_len > 1024 * 1024 && push.complete, "{} bytes", push.body_len);
    assert_eq!(push.field("content-length"), None);
    rig.assert_no_secret();
}

#[tokio::test]
async fn gives_the_placeholder_when_the_url_asks_for_it() {
    let (host, rig) = hosted().await;
    let shell = rig.direct_tool("sh", "dev", rig.outside()).await;
    let clone = "git clone --quiet https://x-access-token:$GITHUB_TOKEN@github.com/owner/repo copy";
    shell.args(["-c", clone]).succeed().await;
    assert!(host.origin.log().count() >= 2);
    rig.assert_no_secret();
}

#[tokio::test]
async fn protocol_version_2_reaches_the_origin() {
    let (host, rig) = hosted().await;
    let listing = ["ls-remote", "https://github.com/owner/repo"];
    let listed = session_git(&rig, "dev", rig.outside(), &listing).await.succeed().await.stdout;
    assert!(listed.contains("refs/heads/main"), "{listed}");
    let requests = host.origin.log().requests();
    assert!(requests.iter().all(|seen| seen.field("git-protocol") == Some("version=2")), "{requests:#?}");
    let line = rig.audit_line("git", |line| line.text("path").ends_with("/git-upload-pack")).await;
    assert_eq!((line.text("service"), line.get("auth_injected")), ("github", &true.into()));
}

#[tokio::test]
async fn a_read_only_session_fetches_and_cannot_push() {
    let (host, rig) = hosted().await;
    rig.create("review", &["--access-mode", "read-only"]).await;
    let url = "https://github.com/owner/repo.git";
    session_git(&rig, "review", rig.outside(), &["clone", "--quiet", url, "copy"]).await.succeed().await;
    let copy = rig.outside().join("copy");
    let before = host.head("owner/repo").await;
    std::fs::write(copy.join("new"), "small").unwrap();
    commit_all(&copy, "a change that must stay here").await;
    let pushed = session_git(&rig, "review", &copy, &["push", "origin", "main"]).await.finish().await;
    assert_ne!(pushed.code, 0);
    assert_eq!(host.head("owner/repo").await, before);
    assert!(!host.origin.log().requests().iter().any(|seen| seen.target.contains("receive-pack")));
    let refusal = rig.audit_line("the refused push", |line| line.get("response_code") == 403).await;
    assert_eq!((refusal.text("reason"), refusal.get("allowed")), ("read_only", &false.into()));
}

fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut step).flatten().take(len).collect()
}
