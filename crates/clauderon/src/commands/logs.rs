//! `logs`: what a session's process wrote.

use super::create;
use crate::cli::LogsArgs;
use crate::error::{OK, Result};
use crate::{output, reach};

pub(crate) async fn run(args: LogsArgs) -> Result<u8> {
    let client = reach::daemon().await?;
    let mut stream = match client.logs(&args.name, args.follow).await {
        Ok(stream) => stream,
        Err(error) => return Err(reach::session_failed(&client, error).await),
    };
    let (mut out, mut was_silent) = (output::Raw::new(), true);
    while let Some(piece) = stream.next().await.map_err(reach::failed)? {
        was_silent = false;
        out.write(&piece)?;
    }
    if was_silent {
        create::warn_of_silence(&client.session(&args.name).await.map_err(reach::failed)?);
    }
    Ok(OK)
}
