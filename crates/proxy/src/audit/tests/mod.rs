//! The log on real files: what requests leave, what recovery finds, what verify sees.
#![expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::LazyLock;

use clauderon_core::audit::{AuditLine, Head, TERMINATED, line};
use clauderon_core::session::{SessionId, SessionName};
use tempfile::TempDir;

use super::journal::{Journal, Slot};
use super::*;

mod crash;
mod rotation;
mod tampering;

pub(super) fn options(dir: &Path) -> AuditOptions {
    AuditOptions {
        path: dir.join("audit.jsonl"),
        journal: dir.join("audit.journal"),
        rotate_bytes: 100 << 20,
        keep: 10,
    }
}

/// A moment of today, lest the log be rotated; the same one whenever asked, as a request's is.
static TODAY_MS: LazyLock<i64> = LazyLock::new(|| time::OffsetDateTime::now_utc().unix_timestamp() * 1000);

fn record(id: &str) -> AuditRecord {
    AuditRecord {
        session: Some((SessionId::parse("00c0ffee").unwrap(), SessionName::parse("default").unwrap())),
        service: "github".into(),
        method: "GET".into(),
        path: "/repos/owner/repo".into(),
        auth_injected: true,
        response_code: Some(200),
        duration_ms: 150,
        host: "api.github.com".into(),
        port: 443,
        protocol: "HTTP/2",
        allowed: true,
        response_bytes: 4096,
        ..AuditRecord::begun(*TODAY_MS, id.into())
    }
}

fn pass(log: &AuditLog, id: &str) {
    log.begin(&record(id)).unwrap().finish(record(id));
}

fn lines(dir: &Path) -> Vec<AuditLine> {
    read_lines(&options(dir).path).unwrap().map(|line| line.record).collect()
}

pub(super) fn ids(dir: &Path) -> Vec<String> {
    lines(dir).into_iter().map(|line| line.request_id).collect()
}

fn check(dir: &Path) -> Report {
    verify(&options(dir).path, &options(dir).journal).unwrap()
}

#[track_caller]
pub(super) fn assert_whole(dir: &Path) {
    let report = check(dir);
    assert_eq!((report.problems, report.further_problems, report.end_is_known), (vec![], 0, true));
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn every_request_leaves_one_line() {
    let dir = TempDir::new().unwrap();
    let log = AuditLog::open(options(dir.path())).unwrap();
    pass(&log, "finished");
    drop(log.begin(&record("dropped")).unwrap());
    log.record(AuditRecord { allowed: false, response_code: Some(403), ..record("denied") }).unwrap();
    log.sync().await.unwrap();
    let lines = lines(dir.path());
    let told: Vec<_> =
        lines.iter().map(|l| (l.seq, l.request_id.as_str(), l.response_code, l.error.as_deref())).collect();
    let expected =
        [(1, "finished", Some(200), None), (2, "dropped", None, Some("aborted")), (3, "denied", Some(403), None)];
    assert_eq!(told, expected);
    assert_whole(dir.path());
    assert_eq!(mode(&options(dir.path()).path), 0o600);
    assert_eq!(mode(&options(dir.path()).journal), 0o600);
}

#[tokio::test]
async fn a_line_longer_than_a_slot_is_written_whole() {
    let dir = TempDir::new().unwrap();
    let log = AuditLog::open(options(dir.path())).unwrap();
    let long = AuditRecord { path: "/".repeat(4000), ..record("long") };
    log.begin(&long).unwrap().finish(long.clone());
    log.record(long.clone()).unwrap();
    log.sync().await.unwrap();
    assert!(lines(dir.path()).iter().all(|line| line.path == long.path && line.error.is_none()));
    assert_eq!(lines(dir.path()).len(), 2);
    assert_whole(dir.path());
}

#[tokio::test]
async fn a_disabled_log_takes_everything_and_writes_nothing() {
    let log = AuditLog::disabled();
    pass(&log, "x");
    log.record(record("y")).unwrap();
    log.check().unwrap();
    log.close().await.unwrap();
}

#[tokio::test]
async fn the_chain_goes_on_after_a_restart() {
    let dir = TempDir::new().unwrap();
    for round in 0..3 {
        let log = AuditLog::open(options(dir.path())).unwrap();
        pass(&log, &format!("r{round}"));
        log.close().await.unwrap();
        assert!(log.begin(&record("late")).is_err(), "a closed log must refuse");
        assert!(log.close().await.is_err());
    }
    assert_eq!(ids(dir.path()), ["r0", "r1", "r2"]);
    assert_whole(dir.path());
}

#[test]
fn dropping_the_last_handle_writes_everything() {
    let dir = TempDir::new().unwrap();
    let log = AuditLog::open(options(dir.path())).unwrap();
    (0..500).for_each(|n| pass(&log, &n.to_string()));
    drop(log);
    assert_eq!(lines(dir.path()).len(), 500);
    assert_whole(dir.path());
}

#[test]
fn one_log_has_one_writer() {
    let dir = TempDir::new().unwrap();
    let log = AuditLog::open(options(dir.path())).unwrap();
    assert!(matches!(AuditLog::open(options(dir.path())), Err(AuditError::InUse { .. })));
    drop(log);
    AuditLog::open(options(dir.path())).unwrap();
}

#[tokio::test]
async fn requests_beyond_the_slots_are_refused_until_one_is_free() {
    let dir = TempDir::new().unwrap();
    let log = AuditLog::open(options(dir.path())).unwrap();
    let mut pending = Vec::new();
    while let Ok(one) = log.begin(&record("waiting")) {
        pending.push(one);
    }
    assert_eq!(pending.len(), 8192);
    assert!(log.record(record("denied")).is_err());
    drop(pending.pop());
    log.sync().await.unwrap();
    pass(&log, "after");
    drop(pending);
    log.sync().await.unwrap();
    assert_eq!(lines(dir.path()).len(), 8193);
    assert_whole(dir.path());
}

/// Fills slots as a daemon that dies at a chosen moment leaves them: (id, finished?, number assigned).
pub(super) fn leave_behind(dir: &Path, slots: &[(&str, bool, u64)]) {
    let journal = Journal::open(&options(dir).journal).unwrap();
    for (index, (id, finished, seq)) in (0..).zip(slots) {
        let slot = Slot::nth(index).unwrap();
        assert!(with_intent(&record(id), |body| journal.store_intent(slot, body)).0);
        if *finished {
            let mut body = Vec::new();
            record(id).write_body(Form::Full, &mut body);
            assert!(journal.store_outcome(slot, &body));
        }
        journal.assign(slot, *seq);
    }
}

#[test]
fn a_start_completes_an_intent_by_its_tally() {
    let dir = TempDir::new().unwrap();
    leave_behind(dir.path(), &[("one", false, 0)]);
    let journal = Journal::open(&options(dir.path()).journal).unwrap();
    journal.store_tally(Slot::nth(0).unwrap(), &AuditRecord { response_code: None, ..record("one") }.tally().unwrap());
    drop(journal);
    drop(AuditLog::open(options(dir.path())).unwrap());
    let [line] = &lines(dir.path())[..] else { panic!("one line") };
    assert_eq!((line.response_code, line.duration_ms, &line.error), (None, 150, &None));
    assert_whole(dir.path());
}

#[test]
fn a_start_writes_exactly_what_the_log_lacks() {
    let dir = TempDir::new().unwrap();
    let log = AuditLog::open(options(dir.path())).unwrap();
    pass(&log, "one");
    pass(&log, "two");
    drop(log);
    leave_behind(dir.path(), &[("cut off", false, 0), ("two", true, 2), ("unwritten", true, 4), ("answered", true, 0)]);
    drop(AuditLog::open(options(dir.path())).unwrap());
    drop(AuditLog::open(options(dir.path())).unwrap());
    let told: Vec<_> =
        lines(dir.path()).into_iter().map(|line| (line.request_id, line.response_code, line.error)).collect();
    let fine = |id: &str| (id.to_owned(), Some(200), None);
    let cut_off = ("cut off".to_owned(), None, Some(TERMINATED.to_owned()));
    assert_eq!(told, [fine("one"), fine("two"), cut_off, fine("unwritten"), fine("answered")]);
    assert_whole(dir.path());
}

#[test]
fn a_torn_last_line_is_cut_off_and_written_anew() {
    let dir = TempDir::new().unwrap();
    let log = AuditLog::open(options(dir.path())).unwrap();
    pass(&log, "one");
    drop(log);
    let path = options(dir.path()).path;
    let head = lines(dir.path())[0].head();
    let (torn, _) = line(&record("two"), 2, &head.chain);
    for kept in [1, 20, torn.len() - 1] {
        leave_behind(dir.path(), &[("two", true, 2)]);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, [&whole, &torn[..kept]].concat()).unwrap();
        drop(AuditLog::open(options(dir.path())).unwrap());
        assert_eq!(ids(dir.path()), ["one", "two"]);
        assert_whole(dir.path());
        fs::write(&path, whole).unwrap();
        Journal::open(&options(dir.path()).journal).unwrap().set_head(head);
    }
}

#[test]
fn a_first_line_that_is_torn_is_cut_off() {
    let dir = TempDir::new().unwrap();
    fs::write(options(dir.path()).path, br#"{"timestamp":"2024-01"#).unwrap();
    drop(AuditLog::open(options(dir.path())).unwrap());
    assert_eq!(fs::read(options(dir.path()).path).unwrap(), b"");
}

#[test]
fn a_file_that_is_no_log_is_left_alone() {
    for content in ["my notes\nwithout an end", "{\"timestamp\":1}\n", &"x".repeat(200_000)] {
        let dir = TempDir::new().unwrap();
        let path = options(dir.path()).path;
        fs::write(&path, content).unwrap();
        let refused = AuditLog::open(options(dir.path()));
        assert!(matches!(refused, Err(AuditError::Foreign { .. })), "{content:.20}");
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
    }
}

#[test]
fn a_loose_mode_is_tightened() {
    let dir = TempDir::new().unwrap();
    let path = options(dir.path()).path;
    fs::write(&path, b"").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let _log = AuditLog::open(options(dir.path())).unwrap();
    assert_eq!(mode(&path), 0o600);
}

#[tokio::test]
async fn without_a_journal_the_log_goes_on_from_its_last_line() {
    for damage in [None, Some(&b"garbage"[..])] {
        let dir = TempDir::new().unwrap();
        let log = AuditLog::open(options(dir.path())).unwrap();
        pass(&log, "one");
        drop(log);
        fs::remove_file(options(dir.path()).journal).unwrap();
        assert!(!check(dir.path()).end_is_known);
        if let Some(damage) = damage {
            fs::write(options(dir.path()).journal, damage).unwrap();
        }
        let log = AuditLog::open(options(dir.path())).unwrap();
        pass(&log, "two");
        log.close().await.unwrap();
        assert_eq!(lines(dir.path()).iter().map(|line| line.seq).collect::<Vec<_>>(), [1, 2]);
        assert_whole(dir.path());
    }
}

#[tokio::test]
async fn a_log_that_can_hold_nothing_refuses_from_the_first_request() {
    let dir = TempDir::new().unwrap();
    let log = AuditLog::open(AuditOptions { path: "/dev/full".into(), ..options(dir.path()) }).unwrap();
    for _ in 0..3 {
        assert!(log.begin(&record("x")).is_err());
        assert!(log.record(record("x")).is_err());
        let told = log.check().unwrap_err().to_string();
        assert!(told.contains("/dev/full") && told.contains("not a regular file"), "{told}");
        assert!(log.sync().await.is_err());
    }
}

#[tokio::test]
async fn a_log_that_went_bad_and_comes_back_loses_nothing() {
    let dir = TempDir::new().unwrap();
    let options = options(dir.path());
    let log = AuditLog::open(options.clone()).unwrap();
    pass(&log, "before");
    let under_way = log.begin(&record("meanwhile")).unwrap();
    log.sync().await.unwrap();
    let aside = dir.path().join("aside");
    fs::rename(&options.path, &aside).unwrap();
    fs::create_dir(&options.path).unwrap();
    under_way.finish(record("meanwhile"));
    assert!(log.sync().await.is_err());
    assert!(log.check().is_err() && log.begin(&record("refused")).is_err() && log.record(record("refused")).is_err());
    fs::remove_dir(&options.path).unwrap();
    fs::rename(&aside, &options.path).unwrap();
    log.sync().await.unwrap();
    log.check().unwrap();
    pass(&log, "after");
    log.close().await.unwrap();
    assert_eq!(ids(dir.path()), ["before", "meanwhile", "after"]);
    assert_whole(dir.path());
}

/// How often each id stands in the log.
fn counts(dir: &Path) -> HashMap<String, usize> {
    ids(dir).into_iter().fold(HashMap::new(), |mut counts, id| {
        *counts.entry(id).or_default() += 1;
        counts
    })
}

#[test]
fn heads_survive_a_reader_without_the_lock() {
    let dir = TempDir::new().unwrap();
    let path = options(dir.path()).journal;
    assert_eq!(journal::read_head(&path).unwrap(), None);
    let journal = Journal::open(&path).unwrap();
    for seq in 0..5 {
        let head = Head { seq, chain: line(&record("x"), seq, &Head::GENESIS.chain).1 };
        journal.set_head(head);
        assert_eq!((journal.head(), journal::read_head(&path).unwrap()), (head, Some(head)));
    }
}
