//! `run`: a command in the foreground, in a session that ends with it.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clauderon_api::{Client, CreateSession, SessionInfo};
use clauderon_core::agent::Agent;

use super::create;
use crate::cli::{PlaceArgs, RunArgs, typed};
use crate::error::{CliError, NOT_FOUND, Result};
use crate::{child, output, reach, sandbox};

pub(crate) async fn run(args: RunArgs) -> Result<u8> {
    let command = command(&args)?;
    let wanted = wanted(&args, &command)?;
    let client = reach::daemon_started().await?;
    create::warn_if_not_isolated(args.session.backend);
    create::warn_of_forwards(&args.session);
    let session = create::create(&client, &wanted).await?;
    let outcome = in_session(&client, &session, args.place, &command).await;
    // The daemon would notice the end of this process by itself; asking ends the session's tokens at once.
    if let Err(error) = client.delete_session(&session.name).await {
        output::warning(format_args!("session `{}` was not deleted: {error}", session.name));
    }
    outcome
}

async fn in_session(client: &Client, session: &SessionInfo, place: PlaceArgs, words: &[OsString]) -> Result<u8> {
    if sandbox::isolates(&session.backend) {
        let command = sandbox::command(client, session, place, words, Some(std::process::id())).await?;
        let code = child::foreground(command).await?;
        // Root's sandboxes are another user's, who could not write there anyway.
        if code != 0 && !place.writable && !rustix::process::geteuid().is_root() {
            output::note("the current directory could only be read: `--writable` lets a command change it");
        }
        return Ok(code);
    }
    let env = client.session_env(&session.name).await.map_err(reach::failed)?;
    child::foreground(child::command(words, &env)).await
}

/// The command that was given, or the agent's.
fn command(args: &RunArgs) -> Result<Vec<OsString>> {
    let Some(agent) = args.agent.and_then(|agent| Agent::parse(&typed(&agent))) else {
        return Ok(args.command.clone());
    };
    let name = agent.name();
    // What an image has, only its containers know.
    if args.session.container.image.is_none() && !is_on_path(name) {
        let error = CliError::new(NOT_FOUND, format!("`{name}` is not on your PATH"));
        return Err(error.hint(format!("install {name}, or give any other command after `--`")));
    }
    let arguments = agent.arguments(args.prompt.as_deref(), args.session.backend.isolates());
    Ok(std::iter::once(name.to_owned()).chain(arguments).map(OsString::from).collect())
}

fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

fn wanted(args: &RunArgs, command: &[OsString]) -> Result<CreateSession> {
    let described = create::described(&args.session)?;
    let program = command.first().map(|word| name_for(word));
    Ok(CreateSession {
        name: described.name.clone().or(program),
        agent: args.agent.map(|agent| typed(&agent)),
        ephemeral: true,
        owner_pid: Some(std::process::id()),
        ..described
    })
}

/// The program's name with our process id, which no other living session of this kind has.
fn name_for(program: &OsStr) -> String {
    let file = Path::new(program).file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let plain = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
    let kept: String = file.chars().filter(plain).skip_while(|c| !c.is_ascii_alphanumeric()).take(40).collect();
    let name = if kept.is_empty() { "run" } else { &kept };
    format!("{name}-{}", std::process::id())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use super::*;
    use clauderon_core::session::SessionName;

    #[test]
    fn every_program_gives_a_session_name() {
        for program in ["curl", "/usr/bin/Python3.12", "./-x.sh", "日本", "", "..", &"x".repeat(200)] {
            let name = name_for(OsStr::new(program));
            SessionName::parse(&name).unwrap();
        }
        assert!(name_for(OsStr::new("/bin/curl")).starts_with("curl-"));
    }
}
