//! A command of the caller's in a session's sandbox or container.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use clauderon_api::{Client, LaunchRequest, SessionInfo};

use crate::cli::PlaceArgs;
use crate::error::Result;
use crate::{output, reach};

/// Whether a session of this backend is kept apart, so that its commands are started here.
pub(crate) fn isolates(backend: &str) -> bool {
    backend != "local"
}

/// What starts `words` in the sandbox or container of `session`; with an `owner`, it ends when that process does.
pub(crate) async fn command(
    client: &Client,
    session: &SessionInfo,
    place: PlaceArgs,
    words: &[OsString],
    owner: Option<u32>,
) -> Result<Command> {
    let plan = client.launch(&session.name, &wanted(place)).await.map_err(reach::failed)?;
    if let Some(why) = plan.hidden {
        output::note(why);
    }
    // This very program, whatever lies at its path by now.
    let mut command = Command::new("/proc/self/exe");
    let stage = if session.image.is_some() { "container-launch" } else { "sandbox-init" };
    command.arg0("clauderon").args([stage, "--plan", &plan.plan]);
    if let Some(owner) = owner {
        command.args(["--owner", &owner.to_string()]);
    }
    command.arg("--").args(words);
    Ok(command)
}

/// The daemon knows which of the variables are plain; a name or value that is no text is none.
fn wanted(place: PlaceArgs) -> LaunchRequest {
    let inherited =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    LaunchRequest {
        directory: std::env::current_dir().ok().and_then(|path| path.into_os_string().into_string().ok()),
        writable: place.writable,
        inherited: inherited.collect(),
    }
}
