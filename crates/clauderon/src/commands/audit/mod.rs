//! `audit`: read, filter, count and verify the audit log; none of it needs a daemon.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clauderon_core::audit::AuditLine;
use clauderon_core::denial::DenialCode;
use clauderon_proxy::audit::{Follow, LogLine, Report, read_lines, verify};
use serde_json::{Value, json};

use self::filter::Filter;
use crate::cli::{AuditCommand, AuditQuery, AuditTail, Format};
use crate::error::{Doing, FAILURE, OK, Result};
use crate::output::{self, Tone};
use crate::reach;

mod filter;
mod stats;

pub(crate) async fn run(command: AuditCommand) -> Result<u8> {
    let log = Log::find().await?;
    match command {
        AuditCommand::Tail(args) => tail(&log, &args).await,
        AuditCommand::Query(args) => query(&log, args),
        AuditCommand::Stats(args) => stats::run(&log, &args),
        AuditCommand::Verify(format) => check(&log, format),
    }
}

/// Where the log and its journal lie.
struct Log {
    path: PathBuf,
    journal: PathBuf,
}

impl Log {
    /// The running daemon's log, else the one that a daemon started here would write.
    async fn find() -> Result<Self> {
        let home = reach::home()?;
        let journal = home.audit_journal();
        let path = match reach::running(&home).await? {
            Some(client) => client.daemon().await.map_err(reach::failed)?.audit_log.into(),
            None => super::config::settings(&home)?.audit.path,
        };
        Ok(Self { path, journal })
    }

    fn lines(&self) -> Result<impl Iterator<Item = LogLine>> {
        if !self.path.exists() {
            output::note(format_args!("nothing is recorded yet ({} does not exist)", self.path.display()));
        }
        read_lines(&self.path).doing(|| format!("cannot read {}", self.path.display()))
    }
}

async fn tail(log: &Log, args: &AuditTail) -> Result<u8> {
    let mut end = Follow::new(&log.path, args.lines)?;
    let mut lines = end.poll()?;
    if lines.is_empty() {
        output::note(format_args!("nothing is recorded yet in {}", log.path.display()));
    }
    loop {
        lines.iter().try_for_each(|line| print(line, args.format.json))?;
        if !args.follow {
            return Ok(OK);
        }
        tokio::time::sleep(POLL).await;
        lines = end.poll()?;
    }
}

fn query(log: &Log, args: AuditQuery) -> Result<u8> {
    let json = args.json;
    let filter = Filter::from(args);
    log.lines()?.filter(|line| filter.matches(&line.record)).try_for_each(|line| print(&line, json))?;
    Ok(OK)
}

fn check(log: &Log, format: Format) -> Result<u8> {
    let report = verify(&log.path, &log.journal).doing(|| format!("cannot verify {}", log.path.display()))?;
    match format.json {
        true => output::json(&verdict_json(&report))?,
        false => tell_verdict(&report, &log.path)?,
    }
    Ok(if report.problems.is_empty() { OK } else { FAILURE })
}

fn verdict_json(report: &Report) -> Value {
    let problems: Vec<Value> = report
        .problems
        .iter()
        .map(|problem| json!({ "file": problem.file, "line": problem.line, "problem": problem.fault.to_string() }))
        .collect();
    json!({
        "ok": problems.is_empty(), "files": report.files, "lines": report.lines,
        "first_seq": report.first_seq, "last_seq": report.last_seq, "end_is_known": report.end_is_known,
        "problems": problems, "further_problems": report.further_problems,
    })
}

fn tell_verdict(report: &Report, path: &Path) -> Result {
    let shown = report.problems.iter().map(|problem| output::plain(&problem.to_string()));
    shown.map(|problem| output::toned(Tone::Bad, &problem)).try_for_each(output::line)?;
    let verdict = match report.problems.len() as u64 + report.further_problems {
        0 => output::toned(Tone::Good, "intact"),
        1 => output::toned(Tone::Bad, "1 problem"),
        n => output::toned(Tone::Bad, &format!("{n} problems")),
    };
    let files = if report.files == 1 { "file" } else { "files" };
    output::line(format_args!("{verdict}: {} lines in {} {files}, {}", report.lines, report.files, path.display()))?;
    if !report.end_is_known {
        output::warning("the journal beside the database is missing: missing last lines would go unnoticed");
    }
    Ok(())
}

fn print(line: &LogLine, json: bool) -> Result {
    match json {
        // Byte for byte what was recorded, so that nothing of it is lost on the way.
        true => output::line(&line.text),
        false => output::line(output::toned(tone(&line.record), &output::plain(&text(&line.record)))),
    }
}

/// One line for people: when, what came of it, who, what; why, where there is something to say.
fn text(line: &AuditLine) -> String {
    let status = line.response_code.map_or_else(|| "---".into(), |code| code.to_string());
    let session = line.session.as_deref().or(line.session_id.as_deref()).unwrap_or("-");
    let port = if line.port == 443 { String::new() } else { format!(":{}", line.port) };
    let notes = notes(line);
    let gap = if notes.is_empty() { "" } else { "  " };
    format!(
        "{}  {status}  {:>6} ms  {session:<12}  {:<7} {}{port}{}{gap}{}",
        line.timestamp,
        line.duration_ms,
        line.method,
        line.host,
        line.path,
        notes.join(", ")
    )
}

fn notes(line: &AuditLine) -> Vec<String> {
    let injected = line.auth_injected.then(|| format!("injected {}", line.credential.as_deref().unwrap_or("?")));
    let reason = line.reason.as_deref();
    let refused = (!line.allowed).then(|| format!("refused {}", reason.unwrap_or("")).trim_end().to_owned());
    // Of a refusal the code says it all.
    let error = line.error.as_ref().filter(|_| line.allowed).map(|error| format!("error: {error}"));
    [is_alarm(line).then(|| "ALARM".to_owned()), refused, injected, error].into_iter().flatten().collect()
}

fn tone(line: &AuditLine) -> Tone {
    match line.response_code {
        _ if is_alarm(line) => Tone::Bad,
        _ if !line.allowed => Tone::Warn,
        Some(500..) | None => Tone::Bad,
        Some(_) => Tone::Plain,
    }
}

/// A placeholder was seen where it does not belong: somebody may have taken it.
fn is_alarm(line: &AuditLine) -> bool {
    line.reason.as_deref() == Some(DenialCode::PlaceholderMisdirected.as_str())
}

/// Seldom enough to cost nothing, often enough to look immediate.
const POLL: Duration = Duration::from_millis(100);

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
pub(super) mod tests {
    use super::*;

    /// A plain, allowed read.
    pub(crate) fn sample() -> AuditLine {
        serde_json::from_value(json!({
            "timestamp": "2026-03-02T12:00:00.000Z", "session_id": "0badcafe", "service": "github", "method": "GET",
            "path": "/user", "auth_injected": true, "response_code": 200, "duration_ms": 15, "session": "review",
            "host": "api.github.com", "port": 443, "protocol": "HTTP/2", "access_mode": "read-only", "allowed": true,
            "reason": null, "rule": "github", "credential": "github", "request_bytes": 0, "response_bytes": 10,
            "redactions": 0, "error": null, "request_id": "r", "seq": 1, "chain": "0".repeat(64),
        }))
        .unwrap()
    }

    #[test]
    fn a_line_says_what_happened() {
        assert_eq!(
            text(&sample()),
            "2026-03-02T12:00:00.000Z  200      15 ms  review        GET     api.github.com/user  injected github"
        );
        let refused = AuditLine {
            allowed: false,
            auth_injected: false,
            reason: Some("placeholder_misdirected".into()),
            response_code: None,
            port: 8443,
            ..sample()
        };
        assert!(text(&refused).ends_with("api.github.com:8443/user  ALARM, refused placeholder_misdirected"));
        assert_eq!(tone(&refused), Tone::Bad);
    }
}
