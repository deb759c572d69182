//! `audit stats`: requests by session and service.

use std::collections::BTreeMap;

use clauderon_core::audit::AuditLine;
use serde::Serialize;

use super::{Log, is_alarm};
use crate::cli::AuditStats;
use crate::error::{OK, Result};
use crate::output::{self, Table, Tone};

pub(super) fn run(log: &Log, args: &AuditStats) -> Result<u8> {
    let since = |line: &AuditLine| args.since.is_none_or(|since| super::filter::is_after(line, since));
    let rows = count(log.lines()?.map(|line| line.record).filter(since));
    if args.format.json {
        output::json(&rows)?;
    } else if !rows.is_empty() {
        output::table(&table(&rows))?;
    }
    Ok(OK)
}

/// What became of the requests of one session to one service.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Row {
    session: String,
    service: String,
    requests: u64,
    injected: u64,
    denied: u64,
    alarms: u64,
    /// Answered with 5xx, or not at all, although allowed.
    failed: u64,
    request_bytes: u64,
    response_bytes: u64,
}

fn count(lines: impl Iterator<Item = AuditLine>) -> Vec<Row> {
    let mut rows: BTreeMap<(String, String), Row> = BTreeMap::new();
    for line in lines {
        let session = line.session.clone().or_else(|| line.session_id.clone()).unwrap_or_else(|| "-".into());
        let row = rows.entry((session, line.service.clone())).or_default();
        row.add(&line);
    }
    let named = rows.into_iter().map(|((session, service), row)| Row { session, service, ..row });
    named.collect()
}

impl Row {
    fn add(&mut self, line: &AuditLine) {
        self.requests += 1;
        self.injected += u64::from(line.auth_injected);
        self.denied += u64::from(!line.allowed);
        self.alarms += u64::from(is_alarm(line));
        self.failed += u64::from(line.allowed && line.response_code.is_none_or(|code| code >= 500));
        self.request_bytes += line.request_bytes;
        self.response_bytes += line.response_bytes;
    }
}

fn table(rows: &[Row]) -> Table {
    let mut table =
        Table::new(["session", "service", "requests", "injected", "denied", "alarms", "failed", "sent", "received"]);
    for row in rows {
        let tone = if row.alarms > 0 { Tone::Bad } else { Tone::Plain };
        let counts = [row.requests, row.injected, row.denied, row.alarms, row.failed].map(|n| n.to_string());
        let volumes = [row.request_bytes, row.response_bytes].map(volume);
        table.row(tone, [row.session.clone(), row.service.clone()].into_iter().chain(counts).chain(volumes));
    }
    table
}

/// Bytes in the unit that keeps the number short.
fn volume(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = units.into_iter().find(|(size, _)| bytes >= *size);
    unit.map_or_else(
        || format!("{bytes} B"),
        |(size, name)| format!("{}.{} {name}", bytes / size, bytes % size * 10 / size),
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn rows_add_up() {
        let denied = AuditLine { allowed: false, auth_injected: false, response_code: Some(403), ..sample() };
        let failed = AuditLine { service: "npm".into(), response_code: Some(502), ..sample() };
        let rows = count([sample(), denied, sample(), failed].into_iter());
        let github = Row {
            session: "review".into(),
            service: "github".into(),
            requests: 3,
            injected: 2,
            denied: 1,
            response_bytes: 30,
            ..Row::default()
        };
        assert_eq!(rows.first(), Some(&github));
        assert_eq!(rows.get(1).map(|row| (row.requests, row.failed)), Some((1, 1)));
    }

    #[test]
    fn volumes_are_short() {
        assert_eq!([0, 1023, 1536, 5 << 20].map(volume), ["0 B", "1023 B", "1.5 KiB", "5.0 MiB"]);
    }
}
