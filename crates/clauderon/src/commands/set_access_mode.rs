//! `set-access-mode`: what a session may do, from its next request on.

use crate::cli::{SetAccessModeArgs, typed};
use crate::error::{OK, Result};
use crate::{output, reach};

pub(crate) async fn run(args: SetAccessModeArgs) -> Result<u8> {
    let client = reach::daemon().await?;
    let session = match client.set_access_mode(&args.name, &typed(&args.mode)).await {
        Ok(session) => session,
        Err(error) => return Err(reach::session_failed(&client, error).await),
    };
    match args.format.json {
        true => output::json(&session)?,
        false => output::line(format_args!("{} is {} from its next request on", session.name, session.access_mode))?,
    }
    Ok(OK)
}
