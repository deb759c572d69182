//! Sessions in real containers of Docker and Podman: what works, and that nothing gets out.

use std::path::{Path, PathBuf};

use clauderon_testkit::engine::{Engine, Kind};
use clauderon_testkit::git_origin::{GitOrigin, commit_all, git};
use clauderon_testkit::origin::Origin;
use clauderon_testkit::rig::{Rig, RigBuilder};
use clauderon_testkit::run::Run;
use clauderon_testkit::wait;
use rustix::process::{Pid, Signal};
use serde_json::Value;

use crate::sandbox::{DaemonOf, ESCAPE, Sinks, USER, assert_closed, assert_sinks_work, give};
use crate::{GITHUB, github, rig};

/// Each of these, as a test of its own, with each engine; what follows a semicolon with Docker's alone.
macro_rules! with_each_engine {
    ($($name:ident)*; $($of_docker:ident)*) => {
        mod docker {
            $(#[tokio::test] async fn $name() { super::$name(super::Kind::Docker).await; })*
            $(#[tokio::test] async fn $of_docker() { super::$of_docker(super::Kind::Docker).await; })*
        }
        mod podman { $(#[tokio::test] async fn $name() { super::$name(super::Kind::Podman).await; })* }
    };
}

with_each_engine! {
    tools_get_out_by_the_proxy_alone
    nothing_gets_out
    an_image_needs_nothing_of_its_own
    a_session_is_left_stopped_and_found_again
    an_agent_works_on_a_copy_of_a_repository
    what_is_wrong_is_said_and_nothing_is_left;
    // Root's own Podman is not for others: theirs runs as themselves.
    a_users_session_is_that_user
}

/// A started engine with both images.
async fn engine(kind: Kind) -> Engine {
    let engine = Engine::start(kind).await;
    let images = images().await;
    engine.import(&images.join("tools.tar"), TOOLS).await;
    engine.import(&images.join("bare.tar"), BARE).await;
    engine
}

/// The directory with the images' archives; made once for all tests.
async fn images() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let made = target.join(format!("images-{:08x}", fingerprint(&[IMAGE, BARE_SOURCE].concat())));
    if !made.exists() {
        let dir = new_dir(target);
        let run = Run::new("bash").args(["-c", IMAGE, "image.sh", &dir.display().to_string()]);
        run.env("BARE_SOURCE", BARE_SOURCE).succeed().await;
        // Another test may have been first, with the same.
        if std::fs::rename(&dir, &made).is_err() {
            std::fs::remove_dir_all(&dir).unwrap();
        }
    }
    made
}

fn new_dir(target: &Path) -> PathBuf {
    let dir = target.join(format!("images-being-made-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// Tells one version of the images from the next.
fn fingerprint(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// A rig whose daemon and commands find `engine`.
fn rig_of(engine: &Engine) -> RigBuilder {
    let (name, value) = engine.variable();
    rig().env(name, value)
}

/// A command in a container of its own, in a project directory.
fn contained<'a>(rig: &Rig, engine: &Engine, options: &[&'a str], words: &[&'a str]) -> Run {
    let args = ["run", "--backend", engine.kind().name(), "--image", TOOLS];
    let args = args.iter().chain(options).chain(&["--"]).chain(words).map(ToString::to_string);
    rig.cli(args).dir(&rig.work_dir("project"))
}

async fn tools_get_out_by_the_proxy_alone(kind: Kind) {
    let engine = engine(kind).await;
    let host = GitOrigin::start("github.com", GITHUB).await;
    host.repository("owner/repo").await;
    let origin = github().reply("/*", "octocat").start().await;
    let plain = Origin::http("plain.example.test").reply("/", "in clear").start().await;
    let rig = rig_of(&engine).secret("github_token", GITHUB).origin(&origin).origin(&host.origin).origin(&plain);
    let rig = rig.start().await;
    let script = "curl -sSf -H \"Authorization: Bearer $GITHUB_TOKEN\" https://api.github.com/user; echo; \
                  curl -sSf --noproxy '*' https://api.github.com/user; echo; \
                  curl -sSf --noproxy '*' http://plain.example.test/; echo; \
                  python3 -c \"import urllib.request as u; print(u.urlopen('https://api.github.com/user').read().decode())\"; \
                  cd && git clone -q https://github.com/owner/repo copy && cd copy && echo x > new && git add new && \
                  git -c user.name=a -c user.email=a@example.test commit -qm change && git push -q origin main && \
                  git rev-parse HEAD; id -un; pwd; env";
    let finished = contained(&rig, &engine, &[], &["sh", "-ec", script]).succeed().await;
    let lines: Vec<&str> = finished.stdout.lines().collect();
    assert_eq!(&lines[..4], ["octocat", "octocat", "in clear", "octocat"], "{}", finished.all());
    assert_eq!(host.head("owner/repo").await, lines[4]);
    assert_eq!(&lines[5..7], ["agent", "/.clauderon/home/copy"]);
    assert!(finished.stdout.contains("clauderon_placeholder") && !finished.stderr.contains("does not isolate"));
    assert_eq!(origin.log().count(), 3);
    let post = ["curl", "-sS", "--noproxy", "*", "-d", "x", "https://api.github.com/user/repos"];
    let refused = contained(&rig, &engine, &["--access-mode", "read-only"], &post).finish().await;
    assert!(refused.stdout.contains("Write operations are blocked"), "{}", refused.all());
    assert_eq!(origin.log().count(), 3);
    let service = Origin::http("localhost").reply("/", "served").start().await;
    let port = service.addr().port().to_string();
    let served = ["curl", "-sS", &format!("http://127.0.0.1:{port}/")];
    assert_eq!(contained(&rig, &engine, &["--forward", &port], &served).succeed().await.stdout, "served");
    rig.assert_no_secret();
    stands_between_its_caller_and_the_command(&rig, &engine).await;
    gone(&engine).await;
    assert_eq!(records(&rig).len(), 0);
}

/// Input, outputs, codes and signals are those of a command outside.
async fn stands_between_its_caller_and_the_command(rig: &Rig, engine: &Engine) {
    let piped = contained(rig, engine, &[], &["sh", "-c", "tr a-z A-Z; echo said >&2; exit 7"]).input(b"typed\n");
    let piped = piped.finish().await;
    assert_eq!((piped.code, piped.stdout.as_str()), (7, "TYPED\n"), "{}", piped.all());
    assert!(piped.stderr.contains("said"), "{}", piped.stderr);
    for (words, code) in
        [(vec!["sh", "-c", "kill -KILL $$"], 137), (vec!["no-such-command-here"], 127), (vec!["/etc/passwd"], 126)]
    {
        let finished = contained(rig, engine, &[], &words).finish().await;
        assert_eq!(finished.code, code, "{words:?}: {}", finished.all());
    }
}

async fn nothing_gets_out(kind: Kind) {
    let engine = engine(kind).await;
    let mut rig = rig_of(&engine).env("HTTP_PROXY", "http://corporate:login@192.0.2.9:3128").build();
    rig.secret("github_token", GITHUB);
    rig.start().await;
    rig.create("other", &[]).await;
    let sinks = Sinks::open(rig.outside()).await;
    let project = rig.work_dir("project");
    std::fs::write(project.join("escape.py"), ESCAPE).unwrap();
    let id = "$CLAUDERON_SESSION_ID";
    let facts = sinks.facts(&rig.home(), rig.outside(), rig.addr().port(), id);
    let script = format!(
        "exec /usr/bin/python3 escape.py \"$(printf '%s' '{facts}' | sed s/.CLAUDERON_SESSION_ID/$CLAUDERON_SESSION_ID/)\""
    );
    let limits = ["--cpus", "1.5", "--memory", "512m"];
    let inside = contained(&rig, &engine, &limits, &["sh", "-c", &script]).finish().await;
    assert_closed(&inside, &sinks);
    assert_sinks_work(&sinks, &project, &rig.home(), rig.outside()).await;
    // What an image's programs could try besides.
    let script = "cat /proc/1/environ; ls /.clauderon/launch; touch /new /usr/new /etc/new /.clauderon/new; \
                  echo x > /sys/fs/cgroup/memory/memory.limit_in_bytes; echo x > escape.py; \
                  grep -h ^Cap /proc/self/status; ls /proc/1/fd";
    let tried = contained(&rig, &engine, &[], &["sh", "-c", script]).finish().await;
    let said: Vec<&str> = tried.stdout.lines().collect();
    assert!(said.iter().all(|line| line.starts_with("Cap") && line.ends_with("0000000000000000")), "{}", tried.all());
    assert!(!tried.all().contains("corporate"), "{}", tried.all());
    assert_eq!(std::fs::read_to_string(project.join("escape.py")).unwrap(), ESCAPE);
    // A link leads nowhere, be it made by an agent; and a memory limit holds.
    std::os::unix::fs::symlink(rig.home(), project.join(".vscode")).unwrap();
    let read = contained(&rig, &engine, &[], &["sh", "-c", "cat .vscode/api-token"]).finish().await;
    assert!(read.code != 0 && read.stdout.is_empty(), "{}", read.all());
    let eats = "python3 -c 'b = bytearray(300 << 20); print(len(b))'";
    let ate = contained(&rig, &engine, &["--memory", "100m"], &["sh", "-c", eats]).finish().await;
    assert!(ate.code != 0 && ate.stdout.is_empty(), "{}", ate.all());
    rig.assert_no_secret();
}

async fn an_image_needs_nothing_of_its_own(kind: Kind) {
    let engine = engine(kind).await;
    let origin = Origin::http("plain.example.test").reply("/path", "reached").start().await;
    let rig = rig_of(&engine).origin(&origin).start().await;
    let args = ["run", "--backend", kind.name(), "--image", BARE, "--", "/bare", "plain.example.test", "/path"];
    let finished = rig.cli(args).succeed().await;
    assert!(finished.stdout.starts_with("HTTP/1.1 200") && finished.stdout.ends_with("reached"), "{}", finished.all());
    assert_eq!(rig.audit_path("/path").await.text("host"), "plain.example.test");
}

async fn a_session_is_left_stopped_and_found_again(kind: Kind) {
    let engine = engine(kind).await;
    let origin = github().reply("/*", "octocat").start().await;
    let mut rig = rig_of(&engine).secret("github_token", GITHUB).origin(&origin).start().await;
    let echo = "stty size; trap 'echo asked; exit 3' TERM; echo ready; \
                while read line; do echo \"got $line\"; done; while :; do sleep 0.1; done";
    create(&rig, kind, &["--name", "box", "--", "sh", "-c", echo]).await;
    assert!(logged(&rig, "ready\n").await.starts_with("40 120\n"));
    let left = rig.cli(["attach", "box"]).input(b"hello\n\x10\x11").succeed().await;
    assert!(left.stderr.contains("left session `box` running"), "{}", left.all());
    logged(&rig, "got hello\n").await;
    rig.signal(Signal::KILL);
    rig.ended().await;
    rig.start().await;
    rig.cli(["attach", "box"]).input(b"again\n\x10\x11").succeed().await;
    logged(&rig, "got again\n").await;
    has_more_commands(&rig, &engine).await;
    rig.cli(["stop", "box"]).succeed().await;
    assert!(logged(&rig, "asked\n").await.contains("again"));
    assert_eq!(listed(&rig).await["status"], "stopped");
    has_a_shell_in_the_callers_terminal(&rig).await;
    rig.cli(["delete", "box"]).succeed().await;
    gone(&engine).await;
    rig.assert_no_secret();
}

/// Beside the session's own process, each in a container of its own with the session's home.
async fn has_more_commands(rig: &Rig, engine: &Engine) {
    let exec = ["exec", "box", "--", "sh", "-c", "echo kept > ~/note; curl -sSf https://api.github.com/user"];
    assert_eq!(rig.cli(exec).succeed().await.stdout, "octocat");
    assert_eq!(rig.cli(["exec", "box", "--", "cat", "/.clauderon/home/note"]).succeed().await.stdout, "kept\n");
    let session = listed(rig).await;
    let (backend, image) = (session["backend"].as_str(), session["image"].as_str());
    assert_eq!((backend, image), (Some(engine.kind().name()), Some(TOOLS)));
    let running = left(engine, 1).await;
    assert!(running[0].starts_with("clauderon-box-"), "{running:?}");
    let env = rig.cli(["env", "box"]).succeed().await;
    assert!(env.stderr.contains("is not in the container"), "{}", env.stderr);
}

async fn has_a_shell_in_the_callers_terminal(rig: &Rig) {
    let shell = [env!("CARGO_BIN_EXE_clauderon"), "exec", "box", "--", "bash", "--norc"].join("\n");
    let python = Run::new("/usr/bin/python3").args(["-c", TERMINAL, &shell]).dir(rig.outside());
    let told = python.env("CLAUDERON_HOME", rig.home().display().to_string()).succeed().await;
    assert_eq!(told.stdout, "size 33 101\ntty /dev/pts/0\njob control\ncode 5\nas before True\n", "{}", told.all());
}

async fn an_agent_works_on_a_copy_of_a_repository(kind: Kind) {
    let engine = engine(kind).await;
    let rig = rig_of(&engine).start().await;
    let repo = rig.work_dir("project");
    git(&repo, &["init", "--quiet", "--initial-branch", "main"]).await;
    std::fs::write(repo.join("README"), "first\n").unwrap();
    commit_all(&repo, "first").await;
    let mark = rig.outside().join("escaped");
    let script = format!(
        "test \"$(git branch --show-current)\" = clauderon/box; git log --oneline > /dev/null; echo second >> README; \
         git config user.name a; git config user.email a@example.test; git commit -qam second; echo third >> README; \
         git config core.fsmonitor 'touch {0}; false'; git config uploadpack.packObjectsHook 'touch {0}'",
        mark.display()
    );
    let repo_path = repo.display().to_string();
    create(&rig, kind, &["--name", "box", "--repo", &repo_path, "--print", "--", "sh", "-ec", &script]).await;
    assert_eq!(std::fs::read_to_string(repo.join("README")).unwrap(), "first\n");
    let diff = rig.cli(["diff", "box"]).succeed().await;
    assert!(diff.stdout.contains("+second") && diff.stdout.contains("+third"), "{}", diff.all());
    assert_eq!(rig.cli(["fetch", "box"]).succeed().await.stdout, "clauderon/box\n");
    assert_eq!(git(&repo, &["log", "--format=%s", "clauderon/box"]).await, "second\nfirst\n");
    assert!(!mark.exists(), "a program of the agent's ran on the host");
    rig.cli(["delete", "box"]).succeed().await;
    assert!(!rig.home().join("worktrees/box").exists());
    gone(&engine).await;
}

async fn what_is_wrong_is_said_and_nothing_is_left(kind: Kind) {
    let engine = engine(kind).await;
    let mut rig = rig_of(&engine).start().await;
    says_what_is_wrong(&rig, &engine).await;
    goes_with_its_launcher(&rig, &engine).await;
    // What was only just made, when the machine went down, is still there: the next daemon removes it by its record.
    let name = records(&rig).remove(0).file_stem().unwrap().to_str().unwrap().to_owned();
    engine.tool(["create", "--name", &name, "--entrypoint", "/bin/sh", TOOLS]).await;
    rig.signal(Signal::TERM);
    rig.ended().await;
    rig.start().await;
    gone(&engine).await;
    wait::until("the record's end", || records(&rig).is_empty().then_some(())).await;
    let doctor = rig.cli(["doctor", "--json"]).finish().await.json();
    let name = format!("{} engine", kind.name());
    let check = doctor.as_array().unwrap().iter().find(|check| check["check"] == name.as_str()).unwrap().clone();
    assert_eq!(check["result"], "ok", "{check}");
}

async fn says_what_is_wrong(rig: &Rig, engine: &Engine) {
    let kind = engine.kind();
    let run = |options: &[&str]| {
        rig.cli(["run", "--backend", kind.name()].iter().chain(options).chain(&["--", "true"]).map(ToString::to_string))
    };
    for (options, code, words) in [
        (&[][..], 2, "needs an image"),
        (&["--image", "nowhere.invalid/none:1", "--pull-policy", "never"], 4, "has no image `nowhere.invalid/none:1`"),
        (&["--image", "nowhere.invalid/none:1"], 4, "cannot pull `nowhere.invalid/none:1`"),
        (&["--image", TOOLS, "--memory", "1k"], 2, "too few"),
        (&["--image", TOOLS, "--cpus", "0"], 2, "no number of processors"),
    ] {
        let refused = run(options).finish().await;
        assert_eq!(refused.code, code, "{options:?}: {}", refused.all());
        assert!(refused.stderr.contains(words) && refused.stderr.contains("hint"), "{}", refused.stderr);
    }
    let no_engine = run(&["--image", TOOLS]).env(engine.variable().0, "unix:///nowhere/engine.sock").finish().await;
    assert_eq!(no_engine.code, 4, "{}", no_engine.all());
    assert!(no_engine.stderr.contains("does not answer"), "{}", no_engine.stderr);
    let create = ["create", "--backend", kind.name(), "--image", TOOLS, "--", "no-such-command-here"];
    let missing = rig.cli(create).finish().await;
    assert!(missing.code == 4 && missing.stderr.contains("no-such-command-here"), "{}", missing.all());
    assert_eq!(listed_all(rig).await.len(), 1, "only the default session");
}

/// A launcher that is killed takes its container along, though that is the engine's child.
async fn goes_with_its_launcher(rig: &Rig, engine: &Engine) {
    create(rig, engine.kind(), &["--name", "box", "--", "sh", "-c", "echo ready; sleep 600"]).await;
    logged(rig, "ready\n").await;
    left(engine, 1).await;
    for launcher in processes("container-launch", &rig.home()) {
        rustix::process::kill_process(launcher, Signal::KILL).unwrap();
    }
    gone(engine).await;
    wait::until("its session's end", || records(rig).len().eq(&1).then_some(())).await;
}

async fn a_users_session_is_that_user(kind: Kind) {
    let engine = engine(kind).await;
    let dir = tempfile::Builder::new().prefix("clauderon-user-").tempdir().unwrap();
    let (home, project, binary) =
        (dir.path().join(".clauderon"), dir.path().join("project"), dir.path().join("clauderon"));
    std::fs::copy(env!("CARGO_BIN_EXE_clauderon"), &binary).unwrap();
    std::fs::create_dir_all(&home).unwrap();
    std::fs::create_dir_all(project.join(".git")).unwrap();
    std::fs::write(home.join("proxy.toml"), "http_port = 0\nkubectl_proxy_port = 0\ntalos_gateway_port = 0\n").unwrap();
    give(dir.path());
    let run = |words: &[&str]| {
        let user = ["--reuid", USER, "--regid", USER, "--clear-groups"].map(String::from);
        let run = Run::new("setpriv").args(user).args([binary.display().to_string()]);
        let run = run.args(["run", "--backend", kind.name(), "--image", TOOLS]).args(words.iter().copied());
        run.env("HOME", dir.path().display().to_string())
            .env("CLAUDERON_HOME", home.display().to_string())
            .env(engine.variable().0, engine.variable().1)
            .dir(&project)
    };
    let daemon = DaemonOf(home.clone());
    let script = "id -u; echo mine > new; touch .git/config 2>&1; mv .git .git2 2>&1; echo x > ~/kept; true";
    let written = run(&["--writable", "--", "sh", "-c", script]).succeed().await;
    assert!(written.stdout.starts_with(&format!("{USER}\n")), "{}", written.all());
    assert_eq!(std::fs::read_to_string(project.join("new")).unwrap(), "mine\n");
    assert!(!project.join(".git/config").exists() && !project.join(".git2").exists(), "{}", written.all());
    std::os::unix::fs::symlink("/etc", project.join(".vscode")).unwrap();
    let refused = run(&["--writable", "--", "true"]).finish().await;
    assert!(refused.code == 4 && refused.stderr.contains("symbolic link"), "{}", refused.all());
    let left = std::fs::read_dir(home.join("sessions")).unwrap().count();
    assert_eq!(left, 1, "nothing an engine made as root keeps a session from being deleted");
    drop(daemon);
    gone(&engine).await;
}

async fn create(rig: &Rig, kind: Kind, more: &[&str]) {
    let args = ["create", "--backend", kind.name(), "--image", TOOLS];
    rig.cli(args.iter().chain(more).map(ToString::to_string)).succeed().await;
}

async fn logged(rig: &Rig, text: &str) -> String {
    let until = std::time::Instant::now() + wait::LIMIT;
    loop {
        let logs = rig.cli(["logs", "box"]).succeed().await.stdout;
        if logs.contains(text) {
            return logs;
        }
        assert!(std::time::Instant::now() < until, "never {text:?}: {logs}");
    }
}

async fn listed_all(rig: &Rig) -> Vec<Value> {
    rig.cli(["list", "--json"]).succeed().await.json().as_array().unwrap().clone()
}

async fn listed(rig: &Rig) -> Value {
    listed_all(rig).await.into_iter().find(|session| session["name"] == "box").unwrap()
}

/// Waits until the engine has no container.
async fn gone(engine: &Engine) {
    left(engine, 0).await;
}

/// Waits until the engine has so many containers; it removes those that have ended in its own time.
async fn left(engine: &Engine, count: usize) -> Vec<String> {
    let until = std::time::Instant::now() + wait::LIMIT;
    loop {
        let left = engine.containers().await;
        if left.len() == count {
            return left;
        }
        assert!(std::time::Instant::now() < until, "still there: {left:?}");
    }
}

fn records(rig: &Rig) -> Vec<PathBuf> {
    std::fs::read_dir(rig.home().join("containers")).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// The processes with `word` in their command line, and a path below `home`.
fn processes(word: &str, home: &Path) -> Vec<Pid> {
    let home = home.display().to_string();
    let pids = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let has = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        line.contains(word) && line.contains(&home)
    };
    pids.filter(has).filter_map(Pid::from_raw).collect()
}

/// Runs a shell in a container from a terminal of its own.
const TERMINAL: &str = r#"
import fcntl, os, re, select, struct, subprocess, sys, termios, time
master, slave = os.openpty()
fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 101, 0, 0))
before = termios.tcgetattr(slave)
child = subprocess.Popen(sys.argv[1].split("\n"), stdin=slave, stdout=slave, stderr=slave)
seen, until = b"", time.time() + 20
def expect(pattern):
    global seen
    while time.time() < until:
        found = re.search(pattern, seen)
        if found:
            return found
        if select.select([master], [], [], 0.1)[0]:
            seen += os.read(master, 65536)
    raise SystemExit(f"never {pattern!r} in {seen!r}")
os.write(master, b"echo si''ze $(stty size)\n")
print(expect(rb"(size \d+ \d+)").group(1).decode())
os.write(master, b"echo tt''y $(tty)\n")
print(expect(rb"(tty /\S+)").group(1).decode())
os.write(master, b"sh -c 'echo wait\"\"ing; exec sleep 100'\n")
expect(rb"waiting")
os.write(master, b"\x03echo bac''k\n")
expect(rb"back")
print("job control")
os.write(master, b"exit 5\n")
print("code", child.wait(10))
print("as before", termios.tcgetattr(slave) == before)
"#;

const IMAGE: &str = include_str!("containers/image.sh");
const BARE_SOURCE: &str = include_str!("containers/bare.c");
const TOOLS: &str = "tools:1";
const BARE: &str = "bare:1";
