//! The audit log as tests read it.

use serde_json::Value;

use super::Rig;
use crate::wait;

/// One line of the audit log.
#[derive(Debug, Clone)]
pub struct AuditLine {
    /// The line as it stands.
    pub raw: String,
    /// The line parsed.
    pub json: Value,
}

impl AuditLine {
    /// A member as text; empty when it is none.
    pub fn text(&self, member: &str) -> &str {
        self.json.get(member).and_then(Value::as_str).unwrap_or_default()
    }

    /// A member, null when absent.
    pub fn get(&self, member: &str) -> &Value {
        self.json.get(member).unwrap_or(&Value::Null)
    }
}

impl Rig {
    /// The audit log's lines in rotation order; panics on a line that is no JSON.
    pub fn audit(&self) -> Vec<AuditLine> {
        let text = std::fs::read_to_string(self.home().join("audit.jsonl")).unwrap_or_default();
        // The last piece is empty, or a line still being written.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(parse).collect()
    }

    /// Waits for a line that `wanted` accepts.
    pub async fn audit_line(&self, what: &str, wanted: impl Fn(&AuditLine) -> bool) -> AuditLine {
        let what = format!("an audit line for {what}");
        wait::until(&what, || self.audit().into_iter().find(&wanted)).await
    }

    /// Waits for the line of the request for `path`; panics when there is more than one.
    pub async fn audit_path(&self, path: &str) -> AuditLine {
        let line = self.audit_line(path, |line| line.text("path") == path).await;
        let lines = self.audit().iter().filter(|line| line.text("path") == path).count();
        assert_eq!(lines, 1, "exactly one audit line for {path}");
        line
    }

    /// Waits until at least `count` lines stand.
    pub async fn audit_lines(&self, count: usize) -> Vec<AuditLine> {
        wait::until(&format!("{count} audit lines"), || Some(self.audit()).filter(|lines| lines.len() >= count)).await
    }
}

fn parse(line: &str) -> AuditLine {
    let json = serde_json::from_str(line).unwrap_or_else(|error| panic!("an audit line is no JSON ({error}): {line}"));
    AuditLine { raw: line.to_owned(), json }
}
