//! `diff`: what a session changed in its copy of the repository.

use std::process::Stdio;

use tokio::io::AsyncReadExt as _;

use crate::cli::OfSession;
use crate::copy::Copy;
use crate::error::{CliError, FAILURE, OK, Result};
use crate::output;

pub(crate) async fn run(args: OfSession) -> Result<u8> {
    let copy = Copy::of(&args.name).await?;
    let command = copy.git(&["--no-pager", "diff", "--no-color", "--no-ext-diff", "--no-textconv", &copy.base]).await?;
    let mut child = tokio::process::Command::from(command).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut text = child.stdout.take().ok_or_else(|| CliError::new(FAILURE, "git has no output"))?;
    // What the agent wrote may hold escape sequences; a terminal gets none of them.
    let (mut out, mut piece) = (output::Raw::new(), vec![0; 64 * 1024]);
    loop {
        match text.read(&mut piece).await? {
            0 => break,
            length => out.write(piece.get(..length).unwrap_or_default())?,
        }
    }
    match child.wait().await?.success() {
        true => Ok(OK),
        false => Err(CliError::new(FAILURE, "git failed in the session's copy")),
    }
}
