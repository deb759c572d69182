//! A daemon that is killed, and one that runs into the end of its disk: real processes, this binary run again.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use super::*;

const DIR: &str = "CLAUDERON_TEST_AUDIT_DIR";
const ROUND: &str = "CLAUDERON_TEST_AUDIT_ROUND";

fn again(test: &str, dir: &Path, round: usize) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("audit::tests::crash::{test}"), "--ignored", "--nocapture"]);
    command.env(DIR, dir).env(ROUND, round.to_string()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

fn reached(dir: &Path) -> Vec<String> {
    let text = fs::read_to_string(dir.join("reached")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Rotates every few dozen lines, so that some kills fall into a rotation.
fn rotating(dir: &Path) -> AuditOptions {
    AuditOptions { rotate_bytes: 100_000, keep: 10_000, ..options(dir) }
}

#[test]
fn a_kill_loses_no_request_and_doubles_none() {
    let dir = TempDir::new().unwrap();
    let rounds = 10;
    for round in 0..rounds {
        let mut daemon = again("requests_until_killed", dir.path(), round);
        let enough = reached(dir.path()).len() + 450 + 37 * round;
        while reached(dir.path()).len() < enough {
            assert!(daemon.try_wait().unwrap().is_none(), "the child must run until it is killed");
            thread::sleep(Duration::from_millis(1));
        }
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }
    drop(AuditLog::open(rotating(dir.path())).unwrap());
    let (reached, counts) = (reached(dir.path()), counts(dir.path()));
    assert!(reached.len() >= 450 * rounds);
    let wrong: Vec<_> = reached.iter().filter(|id| counts.get(*id) != Some(&1)).collect();
    assert!(wrong.is_empty(), "{} of {} are missing or doubled: {:?}", wrong.len(), reached.len(), wrong.first());
    assert!(counts.values().all(|count| *count == 1));
    let cut_off = lines(dir.path()).iter().filter(|line| line.error.as_deref() == Some(TERMINATED)).count();
    assert!(cut_off >= rounds, "kills must fall amid requests: {cut_off}");
    assert_whole(dir.path());
}

#[test]
#[ignore = "the child of a_kill_loses_no_request_and_doubles_none"]
fn requests_until_killed() {
    let (Ok(dir), Ok(round)) = (std::env::var(DIR), std::env::var(ROUND)) else { return };
    let dir = Path::new(&dir);
    let log = AuditLog::open(rotating(dir)).unwrap();
    let origin = fs::OpenOptions::new().append(true).create(true).open(dir.join("reached")).unwrap();
    let origin = Arc::new(origin);
    thread::scope(|scope| {
        for thread in 0..4 {
            let (log, origin, round) = (log.clone(), Arc::clone(&origin), &round);
            scope.spawn(move || requests(&log, &origin, &format!("{round}-{thread}")));
        }
    });
}

fn requests(log: &AuditLog, mut origin: &fs::File, prefix: &str) {
    let mut slow = Vec::new();
    for n in 0_u64.. {
        let id = format!("{prefix}-{n}");
        let Ok(pending) = log.begin(&record(&id)) else { continue };
        origin.write_all(format!("{id}\n").as_bytes()).unwrap();
        match n % 7 {
            0 => slow.push((pending, id)),
            1 => drop(pending),
            _ => pending.finish(record(&id)),
        }
        if slow.len() > 5 {
            slow.drain(..3).for_each(|(pending, id)| pending.finish(record(&id)));
            thread::sleep(Duration::from_micros(n * 131 % 3000));
        }
    }
}

#[test]
fn a_full_disk_refuses_requests_and_loses_none() {
    let dir = TempDir::new().unwrap();
    drop(AuditLog::open(options(dir.path())).unwrap());
    let child = again("requests_until_full_and_then_again", dir.path(), 0);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(dir.path().join("done").exists(), "the child must have come to its end");
    let (reached, counts) = (reached(dir.path()), counts(dir.path()));
    assert!(reached.iter().all(|id| counts.get(id) == Some(&1)) && counts.len() == reached.len());
    assert!(counts.contains_key("held"));
    assert_whole(dir.path());
}

/// The limit on file sizes stands in for the disk: like a full one it first cuts a write short, then refuses it.
#[tokio::test]
#[ignore = "the child of a_full_disk_refuses_requests_and_loses_none"]
async fn requests_until_full_and_then_again() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let dir = Path::new(&dir);
    // Without a handler the signal that comes with the refusal would end the process.
    let _handled = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw())).unwrap();
    let log = AuditLog::open(options(dir)).unwrap();
    let mut origin = fs::OpenOptions::new().append(true).create(true).open(dir.join("reached")).unwrap();
    let mut reach = |id: &str| origin.write_all(format!("{id}\n").as_bytes()).unwrap();
    let held = log.begin(&record("held")).unwrap();
    reach("held");
    let unlimited = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, Rlimit { current: Some(50_001), maximum: unlimited.maximum }).unwrap();
    let mut n = 0;
    while let Ok(pending) = log.begin(&record(&n.to_string())) {
        reach(&n.to_string());
        pending.finish(record(&n.to_string()));
        n += 1;
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    held.finish(record("held"));
    assert!(log.sync().await.is_err() && log.check().is_err() && log.record(record("denied")).is_err());
    let full = fs::read(options(dir).path).unwrap();
    assert!(full.ends_with(b"\n") && full.len() <= 50_001, "a full disk must not leave half a line");
    setrlimit(Resource::Fsize, unlimited).unwrap();
    while log.check().is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    pass(&log, "afterwards");
    reach("afterwards");
    log.close().await.unwrap();
    fs::write(dir.join("done"), "").unwrap();
}
