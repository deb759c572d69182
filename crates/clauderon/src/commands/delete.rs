//! `delete`: ends sessions with their tokens and placeholders.

use crate::cli::Names;
use crate::error::{OK, Result};
use crate::{output, reach};

/// Goes on after a failure; the exit code is that of the last one.
pub(crate) async fn run(args: Names) -> Result<u8> {
    let client = reach::daemon().await?;
    let mut code = OK;
    for name in &args.names {
        match client.delete_session(name).await {
            Ok(()) => output::line(name)?,
            Err(error) => {
                let error = reach::session_failed(&client, error).await;
                output::error(&error);
                code = error.code();
            }
        }
    }
    Ok(code)
}
