//! `completions`: a completion script from the command line's own definition.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::error::{OK, Result};
use crate::output;

pub(crate) fn run(shell: Shell) -> Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "clauderon", &mut script);
    output::Raw::new().write(&script)?;
    Ok(OK)
}
