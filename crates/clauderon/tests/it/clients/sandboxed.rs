//! Agents that users start by name, in a sandbox, on a copy of a repository.

use std::path::Path;

use clauderon_testkit::git_origin::{commit_all, git};
use clauderon_testkit::origin::Origin;
use clauderon_testkit::rig::Rig;
use clauderon_testkit::run::Run;
use clauderon_testkit::wait;

use super::{claude, codex, installed};
use crate::rig;

/// Puts a program where npm puts a user's own: a link in `~/.npm-global/bin`, the package beside it.
async fn install(home: &Path, scope: &str, program: &str, file: &str) {
    let source = installed::script(scope);
    let (packages, bin) = (home.join(".npm-global/lib/node_modules"), home.join(".npm-global/bin"));
    std::fs::create_dir_all(&packages).unwrap();
    std::fs::create_dir_all(&bin).unwrap();
    // They are hundreds of megabytes: links, where the file system can.
    let copy = ["cp -al \"$0\" \"$1\" 2>/dev/null || { rm -rf \"$1/$2\"; cp -a \"$0\" \"$1\"; }".to_owned()];
    let paths = [source.display().to_string(), packages.display().to_string(), scope.to_owned()];
    Run::new("sh").args(["-c".to_owned()]).args(copy).args(paths).succeed().await;
    std::os::unix::fs::symlink(Path::new("../lib/node_modules").join(file), bin.join(program)).unwrap();
}

/// Starts `agent` by its name with a prompt in a read-only session; what it wrote.
async fn answer(rig: &Rig, agent: &str) -> String {
    let repo = rig.work_dir("project");
    git(&repo, &["init", "--quiet"]).await;
    std::fs::write(repo.join("README"), "first\n").unwrap();
    commit_all(&repo, "first").await;
    let repo = repo.display().to_string();
    let create = ["create", "--backend", "sandbox", "--access-mode", "read-only", "--name", "think", "--agent", agent];
    let asked = ["--repo", &repo, "--prompt", "What is two and two?"];
    rig.cli(create.iter().chain(&asked).copied()).succeed().await;
    let until = std::time::Instant::now() + wait::LIMIT;
    loop {
        let list = rig.cli(["list", "--json"]).succeed().await.json();
        let session = list.as_array().unwrap().iter().find(|session| session["name"] == "think").unwrap().clone();
        let said = rig.cli(["logs", "think"]).succeed().await.stdout;
        if session["status"] == "exited" {
            assert_eq!(session["exit_code"], 0, "{said}\n{:#?}", rig.audit());
            return said;
        }
        assert!(std::time::Instant::now() < until, "it still thinks: {said}");
    }
}

async fn thinks(agent: &str, origin: Origin, secret: (&str, &str), package: (&str, &str)) {
    let builder = rig().secret(secret.0, secret.1).origin(&origin);
    let home = builder.outside().to_owned();
    install(&home, package.0, agent, package.1).await;
    let path = format!("{}:{}", home.join(".npm-global/bin").display(), std::env::var("PATH").unwrap());
    let rig = builder.env("PATH", path).start().await;
    let said = answer(&rig, agent).await;
    assert!(said.contains("four: ") && said.contains("placeholder"), "{said}");
    rig.assert_no_secret();
}

#[tokio::test]
async fn claude_thinks_in_a_sandbox() {
    let origin = claude::model("authorization", &format!("Bearer {}", claude::SETUP_TOKEN)).await;
    let secret = ("anthropic_oauth_token", claude::SETUP_TOKEN);
    // The program itself, as its installer would link it.
    thinks("claude", origin, secret, ("@anthropic-ai", "@anthropic-ai/claude-code-linux-x64/claude")).await;
}

#[tokio::test]
async fn codex_thinks_in_a_sandbox() {
    let secret = ("openai_api_key", codex::KEY);
    thinks("codex", codex::model().await, secret, ("@openai", "@openai/codex/bin/codex.js")).await;
}
