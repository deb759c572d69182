//! `sandbox-init`: a stage of a sandbox's launch, in a process of its own.

use clauderon_sandbox::{Handed, Launch, SandboxError};

use crate::cli::{SandboxInitArgs, SandboxStage};
use crate::error::{BACKEND, CliError, Result};

pub(crate) fn run(args: &SandboxInitArgs) -> Result<u8> {
    let handed =
        Handed { plan: args.plan_fd, status: args.status_fd, lifeline: args.lifeline_fd, command: &args.command };
    match args.stage {
        Some(SandboxStage::Init) => Ok(clauderon_sandbox::init(&handed)),
        Some(SandboxStage::Agent) => Ok(clauderon_sandbox::agent(&handed)),
        None => launch(args),
    }
}

fn launch(args: &SandboxInitArgs) -> Result<u8> {
    let plan = args.plan.as_deref().unwrap_or_else(|| "".as_ref());
    let launch = Launch { plan, command: &args.command, owner: args.owner, report: args.report };
    clauderon_sandbox::launch(&launch).map_err(failed)
}

pub(super) fn failed(error: SandboxError) -> CliError {
    let hint = error.hint.clone();
    let weaker = (error.code == BACKEND).then(|| NOT_ARMED.to_owned());
    let error = CliError::caused(error.code, error);
    hint.into_iter().chain(weaker).fold(error, CliError::hint)
}

/// Nobody is given less than they asked for; who wants less can say so.
const NOT_ARMED: &str =
    "`clauderon doctor` says what this machine lacks; `--backend local` runs it without any isolation";
