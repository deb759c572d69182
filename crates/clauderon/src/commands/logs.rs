//! `logs`: what a session's process wrote.

use crate::cli::LogsArgs;
use crate::error::{OK, Result};
use crate::{output, reach};

pub(crate) async fn run(args: LogsArgs) -> Result<u8> {
    let client = reach::daemon().await?;
    let mut stream = match client.logs(&args.name, args.follow).await {
        Ok(stream) => stream,
        Err(error) => return Err(reach::session_failed(&client, error).await),
    };
    let mut out = output::Raw::new();
    while let Some(piece) = stream.next().await.map_err(reach::failed)? {
        out.write(&piece)?;
    }
    Ok(OK)
}
