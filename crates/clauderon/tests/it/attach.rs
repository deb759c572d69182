//! Leaving and coming back to a session's terminal.

use clauderon_testkit::rig::Rig;
use clauderon_testkit::run::Run;
use clauderon_testkit::wait;
use rustix::process::Signal;

use crate::rig;

const ECHO: &str = "echo ready; while read line; do echo \"got $line\"; done";

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

async fn create(rig: &Rig, words: &[&str]) {
    let create = ["create", "--backend", "sandbox", "--name", "box", "--"];
    rig.cli(create.iter().chain(words).copied()).succeed().await;
}

#[tokio::test]
async fn a_session_is_left_and_found_again_also_after_a_restart_of_the_daemon() {
    let mut rig = rig().start().await;
    create(&rig, &["sh", "-c", ECHO]).await;
    logged(&rig, "ready\n").await;
    let left = rig.cli(["attach", "box"]).input(b"hello\n\x10\x11").succeed().await;
    assert!(left.stderr.contains("left session `box` running"), "{}", left.all());
    logged(&rig, "got hello\n").await;
    rig.signal(Signal::KILL);
    rig.ended().await;
    rig.start().await;
    let ended = rig.cli(["attach", "box"]).input(b"again\n\x04").succeed().await;
    assert!(ended.stdout.contains("got hello\r\n"), "what was shown before: {}", ended.all());
    assert!(ended.stdout.contains("got again\r\n"), "{}", ended.all());
    assert!(ended.stderr.contains("session `box` has ended"), "{}", ended.all());
    logged(&rig, "got again\n").await;
    let gone = rig.cli(["attach", "box"]).finish().await;
    assert_eq!(gone.code, 4, "{}", gone.all());
    assert!(gone.stderr.contains("logs box"), "{}", gone.stderr);
}

#[tokio::test]
async fn two_can_be_attached_and_a_flood_ends_nobody_else() {
    let rig = rig().start().await;
    create(&rig, &["sh", "-c", ECHO]).await;
    logged(&rig, "ready\n").await;
    let first = rig.cli(["attach", "box"]).input(b"one\n").finish();
    let second = async {
        logged(&rig, "got one\n").await;
        rig.cli(["attach", "box"]).input(b"seq 100000; two\n\x04").finish().await
    };
    let (first, second) = tokio::join!(first, second);
    assert!(first.stdout.contains("got seq 100000; two"), "{}", first.all());
    assert!(second.stdout.contains("got one") && second.stdout.contains("two"), "{}", second.all());
}

#[tokio::test]
async fn a_terminal_has_its_size_and_is_given_back_as_it_was() {
    let rig = rig().start().await;
    create(&rig, &["sh"]).await;
    let attach = [env!("CARGO_BIN_EXE_clauderon"), "attach", "box"].join("\n");
    let python = Run::new("/usr/bin/python3").args(["-c", TERMINAL, &attach]).dir(rig.outside());
    let told = python.env("CLAUDERON_HOME", rig.home().display().to_string()).succeed().await;
    assert_eq!(told.stdout, "size 33 101\ntty /dev/pts/0\ncode 0\nas before True\n", "{}", told.all());
}

#[tokio::test]
async fn only_what_has_a_terminal_is_attached_to() {
    let rig = rig().start().await;
    rig.create("box", &["--backend", "sandbox"]).await;
    rig.create("plain", &[]).await;
    for name in ["box", "plain"] {
        let refused = rig.cli(["attach", name]).finish().await;
        assert_eq!(refused.code, 2, "{}", refused.all());
        assert!(refused.stderr.contains("has no terminal"), "{}", refused.stderr);
    }
    assert_eq!(rig.cli(["attach", "nobody"]).finish().await.code, 3);
}

/// Attaches from a terminal of its own, asks for its size, and leaves.
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
os.write(master, b"\x10")
os.write(master, b"\x11")
expect(rb"left session")
print("code", child.wait(10))
print("as before", termios.tcgetattr(slave) == before)
"#;
