//! Sessions that work on a copy of a repository.

use std::path::{Path, PathBuf};

use clauderon_testkit::git_origin::{commit_all, git};
use clauderon_testkit::rig::Rig;
use clauderon_testkit::run::Run;
use clauderon_testkit::wait;

use crate::{GITHUB, rig};

/// A repository with one commit.
async fn repository(rig: &Rig) -> PathBuf {
    let repo = rig.work_dir("project");
    git(&repo, &["init", "--quiet", "--initial-branch", "main"]).await;
    std::fs::write(repo.join("README"), "first\n").unwrap();
    commit_all(&repo, "first").await;
    repo
}

/// Starts `script` as the agent of a session `job` on `repo`, and waits for its end.
async fn work(rig: &Rig, repo: &Path, script: &str) {
    let repo = repo.display().to_string();
    let args = ["create", "--backend", "sandbox", "--name", "job", "--repo", &repo, "--", "sh", "-ec", script];
    rig.cli(args).succeed().await;
    let until = std::time::Instant::now() + wait::LIMIT;
    loop {
        let list = rig.cli(["list", "--json"]).succeed().await.json();
        let job = list.as_array().unwrap().iter().find(|session| session["name"] == "job").unwrap().clone();
        if job["status"] == "exited" {
            let said = rig.cli(["logs", "job"]).succeed().await.stdout;
            return assert_eq!(job["exit_code"], 0, "{said}");
        }
        assert!(std::time::Instant::now() < until, "the agent still works");
    }
}

const COMMIT: &str = "git config user.name a; git config user.email a@example.test; git add -A; git commit -qm";

#[tokio::test]
async fn commits_come_back_as_a_branch_and_the_repository_is_otherwise_untouched() {
    let mut rig = rig().build();
    rig.secret("github_token", GITHUB);
    rig.start().await;
    let repo = repository(&rig).await;
    git(&repo, &["remote", "add", "origin", &format!("https://u:{GITHUB}@github.com/o/r")]).await;
    let before = git(&repo, &["for-each-ref"]).await;
    let script = format!(
        "test \"$(git branch --show-current)\" = clauderon/job; git remote get-url origin; echo second >> README; \
         {COMMIT} second; echo third >> README; git gc -q"
    );
    work(&rig, &repo, &script).await;
    assert_eq!(git(&repo, &["for-each-ref"]).await, before);
    assert_eq!(std::fs::read_to_string(repo.join("README")).unwrap(), "first\n");
    let logs = rig.cli(["logs", "job"]).succeed().await.stdout;
    assert_eq!(logs.lines().next(), Some("https://github.com/o/r"));
    let diff = rig.cli(["diff", "job"]).succeed().await;
    assert!(diff.stdout.contains("+second") && diff.stdout.contains("+third"), "{}", diff.all());
    assert_eq!(rig.cli(["fetch", "job"]).succeed().await.stdout, "clauderon/job\n");
    assert_eq!(git(&repo, &["show", "clauderon/job:README"]).await, "first\nsecond\n");
    assert_eq!(git(&repo, &["log", "--format=%s", "clauderon/job"]).await, "second\nfirst\n");
    let exec = ["exec", "job", "--", "sh", "-ec", "git checkout -q . && git commit -q --allow-empty -m more"];
    rig.cli(exec).succeed().await;
    rig.cli(["fetch", "job"]).succeed().await;
    assert_eq!(git(&repo, &["log", "-1", "--format=%s", "clauderon/job"]).await, "more\n");
    rig.cli(["delete", "job"]).succeed().await;
    assert!(!rig.home().join("worktrees/job").exists());
    // What was taken over needs nothing of the copy.
    git(&repo, &["fsck", "--strict"]).await;
}

#[tokio::test]
async fn nothing_an_agent_writes_into_its_copy_runs_outside() {
    let rig = rig().start().await;
    let repo = repository(&rig).await;
    let mark = rig.outside().join("escaped");
    let script = format!(
        "m='touch {}'; {COMMIT} x --allow-empty; git config core.fsmonitor \"$m; false\"; git config diff.external \"$m\"; \
         git config core.pager \"$m\"; git config core.sshCommand \"$m\"; git config uploadpack.packObjectsHook \"$m\"; \
         git config filter.f.clean \"$m\"; git config filter.f.smudge \"$m\"; git config diff.f.textconv \"$m; cat\"; \
         echo '* filter=f diff=f' > .gitattributes; mkdir -p .git/hooks; \
         for h in post-checkout pre-push reference-transaction post-index-change; do \
           printf '#!/bin/sh\\n%s\\n' \"$m\" > .git/hooks/$h; chmod +x .git/hooks/$h; done; \
         echo changed >> README; ln -s /etc/hostname .git/objects/info/x; mkdir closed; chmod 0 closed",
        mark.display()
    );
    work(&rig, &repo, &script).await;
    for args in [vec!["diff", "job"], vec!["fetch", "job"], vec!["list"], vec!["logs", "job"]] {
        rig.cli(args).finish().await;
    }
    git(&repo, &["status"]).await;
    git(&repo, &["log", "-p", "--all"]).await;
    assert!(!mark.exists(), "a program of the agent's ran on the host");
    // It would have: git on the copy itself runs it.
    let copy = rig.home().join("worktrees/job");
    Run::new("git").args(["-c", "safe.directory=*", "status"]).dir(&copy).finish().await;
    assert!(mark.exists());
    rig.cli(["delete", "job"]).succeed().await;
    assert!(!copy.exists());
}

#[tokio::test]
async fn a_linked_worktree_and_borrowed_objects_are_followed() {
    let rig = rig().start().await;
    let lender = repository(&rig).await;
    let (project, linked) = (rig.outside().join("borrower"), rig.outside().join("linked"));
    let (from, to) = (lender.display().to_string(), project.display().to_string());
    git(rig.outside(), &["clone", "--quiet", "--shared", &from, &to]).await;
    git(&project, &["worktree", "add", "--quiet", "-b", "side", &linked.display().to_string()]).await;
    std::fs::write(linked.join("README"), "on the side\n").unwrap();
    commit_all(&linked, "side").await;
    work(&rig, &linked, &format!("grep side README; git fsck; git log -p > /dev/null; echo x > new; {COMMIT} more"))
        .await;
    rig.cli(["fetch", "job"]).succeed().await;
    assert_eq!(git(&linked, &["log", "--format=%s", "clauderon/job"]).await, "more\nside\nfirst\n");
    assert_eq!(git(&linked, &["status", "--porcelain"]).await, "");
}

#[tokio::test]
async fn a_repository_that_cannot_be_copied_is_refused_with_the_reason() {
    let rig = rig().start().await;
    let repo = repository(&rig).await;
    std::fs::write(repo.join("README"), "changed\n").unwrap();
    let (empty, bare, plain) = (rig.work_dir("empty"), rig.work_dir("bare"), rig.work_dir("plain"));
    git(&empty, &["init", "--quiet"]).await;
    git(&bare, &["init", "--quiet", "--bare"]).await;
    for (dir, words) in [
        (&repo, "changes that are not committed"),
        (&empty, "no commit yet"),
        (&bare, "no working tree"),
        (&plain, "no working tree"),
    ] {
        let dir = dir.display().to_string();
        let create = ["create", "--backend", "sandbox", "--name", "job", "--repo", &dir, "--", "cat", "README"];
        let refused = rig.cli(create).finish().await;
        assert_eq!(refused.code, 2, "{}", refused.all());
        assert!(refused.stderr.contains(words) && refused.stderr.contains("hint"), "{}", refused.stderr);
        assert!(!rig.home().join("worktrees/job").exists());
    }
    let dir = repo.display().to_string();
    let create = ["create", "--backend", "sandbox", "--name", "job", "--allow-dirty", "--repo", &dir, "--no-agent"];
    rig.cli(create).succeed().await;
    assert_eq!(rig.cli(["exec", "job", "--", "cat", "README"]).succeed().await.stdout, "first\n");
    let nothing = rig.cli(["fetch", "job"]).succeed().await;
    assert!(nothing.stderr.contains("no commit of its own yet"), "{}", nothing.all());
}
