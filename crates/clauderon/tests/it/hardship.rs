//! Sandboxes on bad days: hostile agents, full disks, strange places, and sudden ends.

use std::collections::BTreeSet;
use std::path::Path;

use clauderon_testkit::git_origin::{commit_all, git};
use clauderon_testkit::rig::Rig;
use clauderon_testkit::run::Run;
use clauderon_testkit::wait;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::rig;

async fn repository(dir: &Path) {
    git(dir, &["init", "--quiet"]).await;
    std::fs::write(dir.join("README"), "first\n").unwrap();
    commit_all(dir, "first").await;
}

async fn session(rig: &Rig, name: &str) -> Value {
    let list = rig.cli(["list", "--json"]).succeed().await.json();
    list.as_array().unwrap().iter().find(|session| session["name"] == name).unwrap().clone()
}

/// The processes of this machine with `marker` in their command line.
fn processes(marker: &str) -> Vec<(i32, String)> {
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let numbered = entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())));
    let lines = numbered.filter_map(|(pid, dir)| {
        let line = std::fs::read(dir.join("cmdline")).ok()?;
        Some((pid, String::from_utf8_lossy(&line).replace('\0', " ")))
    });
    lines.filter(|(_, line)| line.contains(marker)).collect()
}

async fn all_gone(marker: &str) {
    wait::until("the end of all that ran inside", || processes(marker).is_empty().then_some(())).await;
}

#[tokio::test]
async fn repositories_lie_anywhere_or_nowhere() {
    let rig = rig().start().await;
    let elsewhere = tempfile::Builder::new().prefix("clauderon-repo-").tempdir_in("/dev/shm").unwrap();
    repository(elsewhere.path()).await;
    let repo = elsewhere.path().display().to_string();
    let create = |repo: &str| {
        let commit = "echo more >> README; git -c user.name=a -c user.email=a@example.test commit -qam more";
        rig.cli(["create", "--name", "job", "--repo", repo, "--print", "--", "sh", "-ec", commit]).finish()
    };
    let missing = create("/nowhere/at/all").await;
    assert_eq!(missing.code, 2, "{}", missing.all());
    assert!(
        missing.stderr.contains("/nowhere/at/all") && missing.stderr.contains("No such file"),
        "{}",
        missing.stderr
    );
    let done = create(&repo).await;
    assert_eq!(done.code, 0, "{}", done.all());
    rig.cli(["fetch", "job"]).succeed().await;
    assert_eq!(git(elsewhere.path(), &["show", "clauderon/job:README"]).await, "first\nmore\n");
}

#[tokio::test]
async fn a_home_may_lie_deeper_than_a_sockets_path_is_long() {
    let rig = rig().build();
    let home = rig.outside().join("deep".repeat(25)).join("deeper".repeat(10)).join(".clauderon");
    std::fs::create_dir_all(&home).unwrap();
    std::fs::copy(rig.home().join("proxy.toml"), home.join("proxy.toml")).unwrap();
    let config = std::fs::read_to_string(home.join("proxy.toml")).unwrap();
    std::fs::write(home.join("proxy.toml"), format!("http_port = 0\n{config}")).unwrap();
    assert!(home.as_os_str().len() > 107);
    let cli = |words: &[&str]| rig.cli(words.iter().copied()).env("CLAUDERON_HOME", home.display().to_string());
    let first = cli(&["run", "--", "echo", "inside"]).finish().await;
    let daemon = std::fs::read_to_string(home.join("daemon.lock")).unwrap_or_default();
    let attached = async {
        cli(&["create", "--name", "box", "--", "sh", "-c", "read line; echo \"got $line\""]).succeed().await;
        cli(&["attach", "box"]).input(b"it\n").finish().await
    };
    let attached = attached.await;
    let stop = daemon.trim().parse().ok().and_then(Pid::from_raw).map(|pid| kill_process(pid, Signal::TERM));
    assert_eq!(first.stdout, "inside\n", "{}", first.all());
    assert!(attached.stdout.contains("got it"), "{}", attached.all());
    assert_eq!(stop, Some(Ok(())));
}

#[tokio::test]
async fn a_sandbox_that_is_killed_from_outside_is_told_and_leaves_nothing() {
    let rig = rig().start().await;
    let marker = format!("marked {}", rig.outside().display());
    let script = format!(": {marker}; (setsid sleep 600 &) ; while :; do sleep 1; done");
    rig.cli(["create", "--name", "job", "--", "sh", "-c", &script]).succeed().await;
    let launcher = processes(&marker).into_iter().find(|(_, line)| line.contains("--report")).unwrap().0;
    kill_process(Pid::from_raw(launcher).unwrap(), Signal::KILL).unwrap();
    all_gone(&marker).await;
    let until = std::time::Instant::now() + wait::LIMIT;
    let job = loop {
        let job = session(&rig, "job").await;
        if job["status"] != "running" {
            break job;
        }
        assert!(std::time::Instant::now() < until);
    };
    assert_eq!((&job["status"], &job["exit_code"]), (&json!("exited"), &json!(137)));
    assert_eq!(rig.cli(["exec", "job", "--", "echo", "again"]).succeed().await.stdout, "again\n");
}

#[tokio::test]
async fn an_agent_that_will_not_end_is_ended_with_all_it_started() {
    let rig = rig().start().await;
    let marker = format!("marked {}", rig.outside().display());
    let stubborn = format!("trap '' TERM HUP INT; : {marker}; while :; do sleep 1; done");
    let script = format!("trap '' TERM HUP INT; (setsid sh -c \"{stubborn}\" &); (sh -c \"{stubborn}\" &); {stubborn}");
    rig.cli(["create", "--name", "job", "--", "sh", "-c", &script]).succeed().await;
    wait::until("all of it", || (processes(&marker).len() >= 5).then_some(())).await;
    rig.cli(["stop", "job"]).succeed().await;
    all_gone(&marker).await;
    assert_eq!(session(&rig, "job").await["status"], "stopped");
}

#[tokio::test]
async fn what_an_agent_may_fill_and_start_has_its_limits() {
    let limits = "[limits]\nsession_tmp_bytes = 1048576\nsession_processes = 64";
    let rig = rig().table(limits).start().await;
    let fill = "for d in /tmp /var/tmp /dev/shm; do head -c 3000000 /dev/zero > $d/big; wc -c < $d/big; done";
    let filled = rig.cli(["run", "--", "sh", "-c", fill]).finish().await;
    assert_eq!(filled.stdout, "1048576\n1048576\n1048576\n", "{}", filled.all());
    assert_eq!(filled.stderr.matches("No space left").count(), 3, "{}", filled.stderr);
    let fork = "import os, time\nn = 0\ntry:\n  while n < 500:\n    if os.fork() == 0: time.sleep(60)\n    n += 1\n\
                except BlockingIOError: print('refused after', n)";
    let forked = rig.cli(["run", "--", "/usr/bin/python3", "-c", fork]).finish().await;
    let count: usize =
        forked.stdout.trim().rsplit(' ').next().unwrap().parse().unwrap_or_else(|_| panic!("{}", forked.all()));
    assert!((16..64).contains(&count), "{}", forked.all());
}

#[tokio::test]
async fn a_terminal_of_one_cell_is_one() {
    let rig = rig().start().await;
    let script = "while [ \"$(stty size)\" != '1 1' ]; do sleep 0.1; done; echo small";
    rig.cli(["create", "--name", "box", "--", "sh", "-c", script]).succeed().await;
    let python =
        Run::new("/usr/bin/python3").args(["-c", ONE_CELL, env!("CARGO_BIN_EXE_clauderon")]).dir(rig.outside());
    let told = python.env("CLAUDERON_HOME", rig.home().display().to_string()).succeed().await;
    assert!(told.stdout.contains("small"), "{}", told.all());
}

const ONE_CELL: &str = r#"
import fcntl, os, struct, subprocess, sys, termios
master, slave = os.openpty()
fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 1, 1, 0, 0))
child = subprocess.Popen([sys.argv[1], "attach", "box"], stdin=slave, stdout=slave, stderr=slave)
child.wait(20)
print(os.read(master, 65536).decode())
"#;

#[tokio::test]
async fn nothing_is_left_after_delete() {
    let rig = rig().start().await;
    let repo = rig.work_dir("project");
    repository(&repo).await;
    let (mounts, files, held) = (mounts(&rig), files(&rig.home()), descriptors(&rig));
    let marker = format!("marked {}", rig.outside().display());
    let (repo, script) = (repo.display().to_string(), format!(": {marker}; mkdir -m 0 closed; sleep 600"));
    let create = ["create", "--name", "job", "--forward", "5432", "--repo", &repo, "--", "sh", "-c", &script];
    rig.cli(create).succeed().await;
    assert!(descriptors(&rig) > held, "the session has sockets of its own");
    let exec =
        rig.cli(["exec", "job", "--", "sh", "-c", &format!(": {marker}; echo run; chmod 0 ~; sleep 600")]).finish();
    let delete = async {
        wait::until("the second command", || {
            processes(&marker)
                .iter()
                .any(|(_, line)| line.starts_with("sh -c") && line.contains("echo run"))
                .then_some(())
        })
        .await;
        rig.cli(["delete", "job"]).succeed().await;
    };
    let (exec, ()) = tokio::join!(exec, delete);
    assert_eq!(exec.code, 137, "{}", exec.all());
    all_gone(&marker).await;
    wait::until("the end of its sockets", || (descriptors(&rig) <= held).then_some(())).await;
    assert_eq!(self::mounts(&rig), mounts);
    assert_eq!(self::files(&rig.home()), files);
}

/// How many places of the rig's are mounted somewhere, as this machine sees it.
fn mounts(rig: &Rig) -> usize {
    let place = rig.outside().display().to_string();
    std::fs::read_to_string("/proc/self/mountinfo").unwrap().lines().filter(|line| line.contains(&place)).count()
}

/// How many files and sockets the daemon has open.
fn descriptors(rig: &Rig) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", rig.pid())).unwrap().count()
}

/// Everything below the home but what grows by itself.
fn files(dir: &Path) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        let name = path.display().to_string();
        if !["/db.sqlite", "/audit", "/logs"].iter().any(|own| name.contains(own)) {
            all.insert(name);
            all.extend(path.is_dir().then(|| files(&path)).into_iter().flatten());
        }
    }
    all
}

/// On a small disk of its own, which a user's own namespaces allow.
#[tokio::test]
async fn a_full_disk_is_the_agents_error_and_delete_makes_room() {
    let rig = rig().build();
    let (repo, home) = (rig.work_dir("project"), rig.work_dir("small"));
    repository(&repo).await;
    let unshare = ["--user", "--map-user=65000", "--map-group=65000", "--mount", "--keep-caps", "sh", "-c", FULL_DISK];
    let run = Run::new("unshare").args(unshare).args([env!("CARGO_BIN_EXE_clauderon")]).dir(&repo);
    let run = run.env("HOME", rig.outside().display().to_string());
    let told = run.env("CLAUDERON_HOME", home.display().to_string()).succeed().await;
    let lines: Vec<&str> = told.stdout.lines().collect();
    assert_eq!(lines, ["agent 1", "full 100%", "job", "delete 0", "fine", "run 0"], "{}", told.all());
    assert!(told.stderr.contains("No space left") || told.stderr.contains("disk is full"), "{}", told.stderr);
}

/// The agent's words are lost with the log, so it tells by its exit code.
const FULL_DISK: &str = r#"
mount -t tmpfs -o size=64m,mode=700 tmpfs "$CLAUDERON_HOME" || exit 1
git config --global --add safe.directory '*'
printf 'http_port = 0\nkubectl_proxy_port = 0\ntalos_gateway_port = 0\n' > "$CLAUDERON_HOME/proxy.toml"
"$0" create --repo . --name job --print -- sh -c 'dd if=/dev/zero of=big bs=64k'
echo "agent $?"
"$0" run -- true
df "$CLAUDERON_HOME" | awk 'END { print "full", $5 }'
"$0" delete job
echo "delete $?"
"$0" run -- echo fine
echo "run $?"
kill $(cat "$CLAUDERON_HOME/daemon.lock")
"#;
