//! `unlock`: the daemon resolves 1Password references now.

use clauderon_api::{Unlock, UnlockedCredential};

use crate::cli::UnlockArgs;
use crate::error::{FAILURE, OK, Result};
use crate::output::{self, Table, Tone};
use crate::reach;

pub(crate) async fn run(args: UnlockArgs) -> Result<u8> {
    let client = reach::daemon().await?;
    note();
    let wanted = Unlock { credentials: args.credentials, again: args.again };
    let unlocked = client.unlock(&wanted).await.map_err(reach::failed)?;
    if args.format.json {
        output::json(&unlocked)?;
    } else if unlocked.is_empty() {
        output::note("no credential comes from 1Password");
    } else {
        output::table(&table(&unlocked))?;
        tell_problems(&unlocked)?;
    }
    Ok(code(&unlocked))
}

/// Says whom to wait for.
pub(super) fn note() {
    output::note("asking 1Password: approve the prompt if there is one");
}

/// The exit code that tells scripts whether everything could be read.
pub(super) fn code(unlocked: &[UnlockedCredential]) -> u8 {
    if unlocked.iter().any(|credential| credential.outcome == "failed") { FAILURE } else { OK }
}

fn table(unlocked: &[UnlockedCredential]) -> Table {
    let mut table = Table::new(["name", "outcome", "source"]);
    for credential in unlocked {
        let source = credential.source.clone().unwrap_or_else(|| "-".into());
        table.row(tone(credential), [credential.name.clone(), credential.outcome.clone(), source]);
    }
    table
}

fn tone(credential: &UnlockedCredential) -> Tone {
    match credential.outcome.as_str() {
        "read" => Tone::Good,
        "failed" => Tone::Bad,
        _ => Tone::Plain,
    }
}

fn tell_problems(unlocked: &[UnlockedCredential]) -> Result {
    for credential in unlocked {
        if let Some(problem) = &credential.problem {
            let text = output::plain(&format!("{}: {problem}", credential.name));
            output::line(output::toned(Tone::Bad, &text))?;
        }
    }
    Ok(())
}
