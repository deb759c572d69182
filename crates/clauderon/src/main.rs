//! The credential proxy for AI coding agents.

use std::process::ExitCode;

use clap::Parser;

mod child;
mod cli;
mod commands;
mod copy;
#[cfg(test)]
mod documented;
mod error;
mod examples;
mod output;
mod quote;
mod reach;
mod sandbox;
mod since;
mod status;

fn main() -> ExitCode {
    let command = match cli::Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(usage) => return explain_usage(&usage),
    };
    match commands::run(command) {
        Ok(code) => ExitCode::from(code),
        Err(error) if error.is_closed_output() => ExitCode::from(error::OK),
        Err(error) => {
            output::error(&error);
            ExitCode::from(error.code())
        }
    }
}

/// Help and version are answers, everything else is wrong usage.
fn explain_usage(usage: &clap::Error) -> ExitCode {
    // Nobody is left to tell when this cannot be printed.
    let _ = usage.print();
    ExitCode::from(if usage.use_stderr() { error::USAGE } else { error::OK })
}
