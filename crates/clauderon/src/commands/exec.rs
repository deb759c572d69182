//! `exec`: a command with the environment of an existing session, in its sandbox if it has one.

use std::os::unix::process::CommandExt;
use std::process::Command;

use super::wait;
use crate::cli::ExecArgs;
use crate::error::Result;
use crate::{child, reach, sandbox};

/// Becomes the command: nothing of this program has to stay behind but what a sandbox needs.
pub(crate) fn run(args: &ExecArgs) -> Result<u8> {
    let mut command = wait(command(args))?;
    let error = command.exec();
    Err(child::not_started(command.get_program(), error))
}

async fn command(args: &ExecArgs) -> Result<Command> {
    let client = reach::daemon().await?;
    let session = match client.session(&args.name).await {
        Ok(session) => session,
        Err(error) => return Err(reach::session_failed(&client, error).await),
    };
    if sandbox::isolates(&session.backend) {
        return sandbox::command(&client, &session, args.place, &args.command, None).await;
    }
    let env = client.session_env(&args.name).await.map_err(reach::failed)?;
    Ok(child::command(&args.command, &env))
}
