//! `doctor`: what does not work on this machine, and what to do about it.

use serde::Serialize;

use crate::cli::Format;
use crate::error::{FAILURE, OK, Result};
use crate::output::{self, Table, Tone};

mod engines;
mod machine;
mod tools;

/// What came of one look.
#[derive(Debug, Serialize)]
struct Check {
    /// What was looked at.
    check: String,
    result: Outcome,
    /// What was found.
    found: String,
    /// What to do, where something is to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Ok,
    /// Neither good nor bad: a tool that is not installed, a daemon that does not run.
    Absent,
    Failed,
}

pub(crate) async fn run(format: Format) -> Result<u8> {
    clauderon_proxy::tls::install_crypto_provider();
    let mut checks = machine::checks().await;
    checks.extend(engines::checks().await);
    checks.extend(tools::checks().await);
    match format.json {
        true => output::json(&checks)?,
        false => tell(&checks)?,
    }
    let has_failed = checks.iter().any(|check| check.result == Outcome::Failed);
    Ok(if has_failed { FAILURE } else { OK })
}

fn tell(checks: &[Check]) -> Result {
    let mut table = Table::new(["check", "result", "found"]);
    for check in checks {
        let (tone, word) = match check.result {
            Outcome::Ok => (Tone::Good, "ok"),
            Outcome::Absent => (Tone::Dim, "absent"),
            Outcome::Failed => (Tone::Bad, "failed"),
        };
        table.row(tone, [check.check.clone(), word.to_owned(), check.found.clone()]);
    }
    output::table(&table)?;
    for check in checks {
        if let Some(remedy) = &check.remedy {
            output::hint(format_args!("{}: {remedy}", check.check));
        }
    }
    Ok(())
}

impl Check {
    fn ok(check: &str, found: impl Into<String>) -> Self {
        Self { check: check.to_owned(), result: Outcome::Ok, found: found.into(), remedy: None }
    }

    fn absent(check: &str, found: impl Into<String>) -> Self {
        Self { result: Outcome::Absent, ..Self::ok(check, found) }
    }

    fn failed(check: &str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { result: Outcome::Failed, remedy: Some(remedy.into()), ..Self::ok(check, found) }
    }
}
