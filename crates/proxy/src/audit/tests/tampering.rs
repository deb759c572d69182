//! What verify must find, each on a log that is whole but for one change.

use super::*;

/// A whole log of ten lines, changed by `tamper`; what verify says then.
fn after(tamper: impl FnOnce(&mut Vec<String>)) -> Vec<(u64, Fault)> {
    let dir = TempDir::new().unwrap();
    let log = AuditLog::open(options(dir.path())).unwrap();
    (0..10).for_each(|n| pass(&log, &n.to_string()));
    drop(log);
    assert_whole(dir.path());
    let path = options(dir.path()).path;
    let mut lines: Vec<String> = fs::read_to_string(&path).unwrap().lines().map(|line| format!("{line}\n")).collect();
    tamper(&mut lines);
    fs::write(&path, lines.concat()).unwrap();
    check(dir.path()).problems.into_iter().map(|problem| (problem.line, problem.fault)).collect()
}

/// The line, changed, with a link that fits the change.
fn rechained(lines: &[String], index: usize) -> String {
    let before = AuditLine::parse(lines[index - 1].as_bytes()).unwrap();
    let forged = AuditRecord { allowed: false, ..record("forged") };
    String::from_utf8(line(&forged, before.seq + 1, &before.chain).0).unwrap()
}

#[test]
fn an_edited_line_is_found() {
    let edit = |lines: &mut Vec<String>| lines[3] = lines[3].replace("\"GET\"", "\"PUT\"");
    assert_eq!(after(edit), [(4, Fault::Edited { seq: 4 })]);
}

#[test]
fn an_edited_line_with_a_new_link_is_found_by_the_next() {
    assert_eq!(after(|lines| lines[3] = rechained(lines, 3)), [(5, Fault::Edited { seq: 5 })]);
}

#[test]
fn an_edited_last_line_with_a_new_link_is_found_by_the_journal() {
    assert_eq!(after(|lines| lines[9] = rechained(lines, 9)), [(10, Fault::Edited { seq: 10 })]);
}

#[test]
fn a_removed_line_is_found() {
    assert_eq!(after(|lines| drop(lines.remove(3))), [(4, Fault::Missing { from: 4, to: 4 })]);
}

#[test]
fn swapped_lines_are_found() {
    let faults = after(|lines| lines.swap(3, 4));
    assert_eq!(faults, [(4, Fault::Missing { from: 4, to: 4 }), (5, Fault::Reordered { seq: 4 })]);
}

#[test]
fn a_doubled_line_is_found() {
    assert_eq!(after(|lines| lines.insert(4, lines[3].clone())), [(5, Fault::Reordered { seq: 4 })]);
}

#[test]
fn removed_last_lines_are_found() {
    assert_eq!(after(|lines| lines.truncate(7)), [(7, Fault::Truncated { last: 7, written: 10 })]);
    assert_eq!(after(Vec::clear), [(0, Fault::Truncated { last: 0, written: 10 })]);
}

#[test]
fn removed_first_lines_are_found() {
    assert_eq!(after(|lines| drop(lines.drain(..3))), [(1, Fault::Unanchored { seq: 4 })]);
}

#[test]
fn a_foreign_line_is_found() {
    assert_eq!(after(|lines| lines.insert(5, "hello\n".into())).first(), Some(&(6, Fault::Malformed)));
    assert_eq!(after(|lines| lines[5] = "\n".into()), [(6, Fault::Malformed)]);
    assert_eq!(after(|lines| lines[5] = "x".repeat(200_000) + "\n"), [(6, Fault::Malformed)]);
}

#[test]
fn a_line_respelled_is_found() {
    let respell = |lines: &mut Vec<String>| lines[3] = lines[3].replace(",\"chain\":", ", \"chain\": ");
    assert_eq!(after(respell), [(4, Fault::Malformed)]);
}

#[test]
fn problems_are_bounded_and_say_where_they_are() {
    let dir = TempDir::new().unwrap();
    let path = options(dir.path()).path;
    fs::write(&path, "x\n".repeat(250)).unwrap();
    let report = check(dir.path());
    assert_eq!((report.problems.len(), report.further_problems, report.lines), (100, 150, 250));
    assert_eq!(report.problems[6].to_string(), format!("{}:7: not an audit line", path.display()));
}

#[test]
fn lines_removed_before_a_restart_stay_missed() {
    let dir = TempDir::new().unwrap();
    let path = options(dir.path()).path;
    let log = AuditLog::open(options(dir.path())).unwrap();
    (0..10).for_each(|n| pass(&log, &n.to_string()));
    drop(log);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.lines().take(7).map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    let log = AuditLog::open(options(dir.path())).unwrap();
    pass(&log, "next");
    drop(log);
    let faults: Vec<_> = check(dir.path()).problems.into_iter().map(|problem| problem.fault).collect();
    assert_eq!(faults, [Fault::Missing { from: 8, to: 10 }]);
}
