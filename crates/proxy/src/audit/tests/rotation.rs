//! Rotation, by ourselves and by others, and reading across it.

use super::*;

async fn pass_many(log: &AuditLog, ids: std::ops::Range<usize>) {
    for id in ids {
        pass(log, &id.to_string());
        if id % 5 == 0 {
            log.sync().await.unwrap();
        }
    }
    log.sync().await.unwrap();
}

fn in_order(dir: &Path, ids: std::ops::Range<usize>) {
    assert_eq!(super::ids(dir), ids.map(|id| id.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn rotation_by_size_keeps_the_newest_files_and_the_chain() {
    let dir = TempDir::new().unwrap();
    let small = AuditOptions { rotate_bytes: 8000, keep: 3, ..options(dir.path()) };
    let log = AuditLog::open(small.clone()).unwrap();
    pass_many(&log, 0..200).await;
    log.close().await.unwrap();
    let report = check(dir.path());
    assert_eq!((report.files, &report.problems), (4, &vec![]));
    assert_eq!(report.last_seq, Some(200));
    let first = usize::try_from(report.first_seq.unwrap()).unwrap();
    assert!(first > 100, "{first}");
    in_order(dir.path(), first - 1..200);
    for n in 1..=3 {
        let len = fs::metadata(read::rotated(&small.path, n)).unwrap().len();
        assert!((4000..=8000).contains(&len), "{len}");
    }
    drop(log);
    drop(AuditLog::open(small).unwrap());
    assert_whole(dir.path());
}

#[tokio::test]
async fn keeping_none_keeps_only_the_current_file() {
    let dir = TempDir::new().unwrap();
    let log = AuditLog::open(AuditOptions { rotate_bytes: 8000, keep: 0, ..options(dir.path()) }).unwrap();
    pass_many(&log, 0..50).await;
    assert_eq!(check(dir.path()).files, 1);
    assert_whole(dir.path());
}

#[tokio::test]
async fn a_renamed_log_is_followed() {
    let dir = TempDir::new().unwrap();
    let path = options(dir.path()).path;
    let log = AuditLog::open(options(dir.path())).unwrap();
    pass_many(&log, 0..10).await;
    fs::rename(&path, read::rotated(&path, 1)).unwrap();
    pass_many(&log, 10..20).await;
    in_order(dir.path(), 0..20);
    assert_eq!((check(dir.path()).files, mode(&path)), (2, 0o600));
    assert_whole(dir.path());
}

#[tokio::test]
async fn a_log_copied_and_emptied_is_followed() {
    let dir = TempDir::new().unwrap();
    let path = options(dir.path()).path;
    let log = AuditLog::open(options(dir.path())).unwrap();
    pass_many(&log, 0..10).await;
    fs::copy(&path, read::rotated(&path, 1)).unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
    pass_many(&log, 10..20).await;
    in_order(dir.path(), 0..20);
    assert_whole(dir.path());
    fs::remove_file(read::rotated(&path, 1)).unwrap();
    assert_whole(dir.path());
}

#[tokio::test]
async fn a_deleted_log_begins_anew_at_its_anchor() {
    let dir = TempDir::new().unwrap();
    let path = options(dir.path()).path;
    let log = AuditLog::open(options(dir.path())).unwrap();
    pass_many(&log, 0..10).await;
    fs::remove_file(&path).unwrap();
    pass_many(&log, 10..20).await;
    in_order(dir.path(), 10..20);
    assert_whole(dir.path());
    drop(log);
    fs::remove_file(&path).unwrap();
    let log = AuditLog::open(options(dir.path())).unwrap();
    pass_many(&log, 20..30).await;
    in_order(dir.path(), 20..30);
    assert_eq!(check(dir.path()).first_seq, Some(21));
    assert_whole(dir.path());
}

#[tokio::test]
async fn an_old_log_is_rotated_at_its_next_line() {
    let dir = TempDir::new().unwrap();
    let log = AuditLog::open(options(dir.path())).unwrap();
    log.record(AuditRecord { timestamp_ms: 1_705_314_600_123, ..record("of 2024") }).unwrap();
    drop(log);
    let log = AuditLog::open(options(dir.path())).unwrap();
    log.sync().await.unwrap();
    assert_eq!(check(dir.path()).files, 1);
    pass(&log, "today");
    log.close().await.unwrap();
    assert_eq!(check(dir.path()).files, 2);
    assert_whole(dir.path());
}

#[tokio::test]
async fn anchors_do_not_pile_up() {
    let dir = TempDir::new().unwrap();
    let options = options(dir.path());
    let chain = Head::GENESIS.chain;
    (0..1800).for_each(|seq| anchors::push(&options, Head { seq, chain }).unwrap());
    let kept = anchors::of_journal(&options.journal).unwrap();
    assert!((500..=1000).contains(&kept.len()), "{}", kept.len());
    assert!(kept.iter().map(|head| head.seq).eq(1800 - kept.len() as u64..1800));
}

#[tokio::test]
async fn following_survives_rotation() {
    let dir = TempDir::new().unwrap();
    let path = options(dir.path()).path;
    let log = AuditLog::open(AuditOptions { rotate_bytes: 4000, keep: 50, ..options(dir.path()) }).unwrap();
    pass_many(&log, 0..20).await;
    let mut follow = Follow::new(&path, 12).unwrap();
    let mut seen = Vec::new();
    for round in 0..10 {
        seen.extend(follow.poll().unwrap());
        pass_many(&log, 20 + round * 10..30 + round * 10).await;
    }
    seen.extend(follow.poll().unwrap());
    let seen: Vec<_> = seen.into_iter().map(|line| line.record.request_id).collect();
    assert_eq!(seen, (8..120).map(|id| id.to_string()).collect::<Vec<_>>());
    assert!(follow.poll().unwrap().is_empty());
}

#[tokio::test]
async fn following_begins_before_there_is_a_log() {
    let dir = TempDir::new().unwrap();
    let mut follow = Follow::new(&options(dir.path()).path, 5).unwrap();
    assert!(follow.poll().unwrap().is_empty());
    let log = AuditLog::open(options(dir.path())).unwrap();
    pass_many(&log, 0..3).await;
    assert_eq!(follow.poll().unwrap().len(), 3);
    fs::OpenOptions::new().write(true).open(options(dir.path()).path).unwrap().set_len(0).unwrap();
    pass_many(&log, 3..5).await;
    assert_eq!(follow.poll().unwrap().len(), 2);
}
