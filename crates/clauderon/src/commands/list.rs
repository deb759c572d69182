//! `list`: every session.

use clauderon_api::SessionInfo;

use crate::cli::Format;
use crate::error::{OK, Result};
use crate::output::{self, Table, Tone};
use crate::reach;

pub(crate) async fn run(format: Format) -> Result<u8> {
    let sessions = reach::daemon().await?.sessions().await.map_err(reach::failed)?;
    if format.json {
        output::json(&sessions)?;
        return Ok(OK);
    }
    if sessions.is_empty() {
        output::note("no sessions");
        output::hint("`clauderon create --help` shows how to make one");
        return Ok(OK);
    }
    output::table(&table(&sessions))?;
    Ok(OK)
}

fn table(sessions: &[SessionInfo]) -> Table {
    let mut table =
        Table::new(["name", "status", "mode", "backend", "agent", "created", "requests", "denied", "alarms"]);
    for session in sessions {
        let counts = [session.requests, session.denials, session.alarms].map(|n| n.to_string());
        let words = [
            session.name.clone(),
            status(session),
            session.access_mode.clone(),
            session.backend.clone(),
            session.agent.clone(),
            session.created_at.clone(),
        ];
        table.row(tone(session), words.into_iter().chain(counts));
    }
    table
}

fn status(session: &SessionInfo) -> String {
    match session.exit_code {
        Some(code) => format!("{} ({code})", session.status),
        None => session.status.clone(),
    }
}

fn tone(session: &SessionInfo) -> Tone {
    match session.status.as_str() {
        _ if session.alarms > 0 => Tone::Bad,
        "running" | "ready" => Tone::Plain,
        _ => Tone::Dim,
    }
}
