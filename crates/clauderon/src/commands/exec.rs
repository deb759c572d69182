//! `exec`: a command with the environment of an existing session.

use std::os::unix::process::CommandExt;

use clauderon_api::SessionEnv;

use super::wait;
use crate::cli::ExecArgs;
use crate::error::Result;
use crate::{child, reach};

/// Becomes the command: nothing of this program has to stay behind.
pub(crate) fn run(args: &ExecArgs) -> Result<u8> {
    let env = wait(env(&args.name))?;
    let mut command = child::command(&args.command, &env);
    let error = command.exec();
    Err(child::not_started(command.get_program(), error))
}

async fn env(name: &str) -> Result<SessionEnv> {
    let client = reach::daemon().await?;
    match client.session_env(name).await {
        Ok(env) => Ok(env),
        Err(error) => Err(reach::session_failed(&client, error).await),
    }
}
