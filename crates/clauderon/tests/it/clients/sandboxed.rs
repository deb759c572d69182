//! Agents that users start by name, in a sandbox, on a copy of a repository.

use std::path::Path;

use clauderon_testkit::git_origin::{commit_all, git};
use clauderon_testkit::origin::Origin;
use clauderon_testkit::rig::Rig;
use clauderon_testkit::run::Run;
use clauderon_testkit::wait;

use super::{claude, codex, gemini, installed};
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

/// A rig whose user has `agent` on the PATH.
async fn rig_with(agent: &str, origin: &Origin, secret: (&str, &str), package: (&str, &str)) -> Rig {
    let builder = rig().secret(secret.0, secret.1).origin(origin);
    let home = builder.outside().to_owned();
    install(&home, package.0, agent, package.1).await;
    let path = format!("{}:{}", home.join(".npm-global/bin").display(), std::env::var("PATH").unwrap());
    builder.env("PATH", path).start().await
}

async fn thinks(agent: &str, origin: Origin, secret: (&str, &str), package: (&str, &str)) {
    let rig = rig_with(agent, &origin, secret, package).await;
    let said = answer(&rig, agent).await;
    assert!(said.contains("four: ") && said.contains("placeholder"), "{said}");
    rig.assert_no_secret();
}

/// Types a question at the terminal of `clauderon` with `words`, and waits for the answer.
async fn talks(rig: &Rig, words: &[&str]) {
    let command = [env!("CARGO_BIN_EXE_clauderon")].iter().chain(words).copied().collect::<Vec<_>>().join("\n");
    let python = Run::new("/usr/bin/python3").args(["-c", TALK, &command]).dir(&rig.work_dir("project"));
    let path = format!("{}:{}", rig.outside().join(".npm-global/bin").display(), std::env::var("PATH").unwrap());
    let home = rig.outside().display().to_string();
    let python = python.env("CLAUDERON_HOME", rig.home().display().to_string()).env("PATH", path).env("HOME", home);
    let talk = python.env("TERM", "xterm-256color").finish().await;
    assert_eq!(talk.code, 0, "{}\n{:#?}", talk.all(), rig.audit());
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

#[tokio::test]
async fn gemini_thinks_in_a_sandbox() {
    let secret = ("gemini_api_key", gemini::KEY);
    let package = ("@google", "@google/gemini-cli/bundle/gemini.js");
    thinks("gemini", gemini::model().await, secret, package).await;
}

#[tokio::test]
async fn claude_talks_in_a_sandbox() {
    let origin = claude::model("authorization", &format!("Bearer {}", claude::SETUP_TOKEN)).await;
    let secret = ("anthropic_oauth_token", claude::SETUP_TOKEN);
    let package = ("@anthropic-ai", "@anthropic-ai/claude-code-linux-x64/claude");
    let rig = rig_with("claude", &origin, secret, package).await;
    talks(&rig, &["run", "--backend", "sandbox", "--agent", "claude"]).await;
}

#[tokio::test]
async fn codex_talks_in_a_sandbox() {
    let secret = ("openai_api_key", codex::KEY);
    let origin = codex::model().await;
    let rig = rig_with("codex", &origin, secret, ("@openai", "@openai/codex/bin/codex.js")).await;
    talks(&rig, &["run", "--backend", "sandbox", "--agent", "codex"]).await;
}

#[tokio::test]
async fn gemini_talks_in_a_sandbox() {
    let package = ("@google", "@google/gemini-cli/bundle/gemini.js");
    let origin = gemini::model().await;
    let rig = rig_with("gemini", &origin, ("gemini_api_key", gemini::KEY), package).await;
    talks(&rig, &["run", "--backend", "sandbox", "--agent", "gemini"]).await;
}

/// A terminal, and somebody at it who asks until the answer is there.
const TALK: &str = r#"
import fcntl, os, re, select, struct, subprocess, sys, termios, time
master, slave = os.openpty()
fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
child = subprocess.Popen(sys.argv[1].split("\n"), stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
                         preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
seen, until, asked = b"", time.time() + 45, 0
while b"four:" not in seen and time.time() < until and child.poll() is None:
    if select.select([master], [], [], 0.2)[0]:
        seen += os.read(master, 65536)
        # A terminal that tells where its cursor is: some ask before they show anything.
        if b"\x1b[6n" in seen[-64:]:
            os.write(master, b"\x1b[1;1R")
    elif time.time() - asked > 4:
        asked = time.time()
        os.write(master, b"two and two?")
        time.sleep(0.3)
        os.write(master, b"\r")
child.kill()
print(re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b" ", seen[-6000:]).decode(errors="replace"))
raise SystemExit(0 if b"four:" in seen else 1)
"#;
