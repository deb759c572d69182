//! `fetch`: the commits of a session's copy, as a branch of the user's repository.

use std::io::Seek as _;
use std::process::{Command, Stdio};

use crate::cli::OfSession;
use crate::copy::Copy;
use crate::error::{CliError, Doing, FAILURE, OK, Result};
use crate::output;

pub(crate) async fn run(args: OfSession) -> Result<u8> {
    let copy = Copy::of(&args.name).await?;
    let bundle = bundle(&copy).await?;
    let Some(bundle) = bundle else {
        output::note(format_args!("session `{}` has no commit of its own yet", copy.name));
        output::hint(format_args!("`clauderon diff {}` shows what is not committed", copy.name));
        return Ok(OK);
    };
    let branch = format!("clauderon/{}", copy.name);
    take_over(&copy.repo, &bundle, &branch)?;
    output::line(&branch)?;
    output::hint(format_args!("look at it: git log -p ..{branch}"));
    Ok(OK)
}

/// What the copy has beyond its base, packed by git inside the sandbox: its configuration is the agent's, and may name
/// programs. `None` when there is nothing.
async fn bundle(copy: &Copy) -> Result<Option<tempfile::NamedTempFile>> {
    let head = tokio::process::Command::from(copy.git(&["rev-parse", "--verify", "HEAD"]).await?);
    let head = { head }.stdin(Stdio::null()).output().await?;
    if String::from_utf8_lossy(&head.stdout).trim() == copy.base {
        return Ok(None);
    }
    let mut file = tempfile::NamedTempFile::new()?;
    let command = copy.git(&["bundle", "create", "--quiet", "-", "HEAD", &format!("^{}", copy.base)]).await?;
    let mut packing = tokio::process::Command::from(command);
    let status = packing.stdin(Stdio::null()).stdout(file.reopen()?).status().await?;
    if !status.success() {
        return Err(CliError::new(FAILURE, "git could not pack the session's commits"));
    }
    file.rewind()?;
    Ok(Some(file))
}

/// Reads the bundle with the user's own git, in the user's own repository. Every object is checked before it is taken.
fn take_over(repo: &str, bundle: &tempfile::NamedTempFile, branch: &str) -> Result {
    let mut git = Command::new("git");
    git.args(["-C", repo, "-c", "core.hooksPath=/dev/null", "-c", "fetch.fsckObjects=true", "-c", "gc.auto=0"]);
    git.args(["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--recurse-submodules=no"]);
    git.arg("--").arg(bundle.path()).arg(format!("+HEAD:refs/heads/{branch}"));
    let status = git.stdin(Stdio::null()).status().doing(|| "cannot run git")?;
    match status.success() {
        true => Ok(()),
        false => Err(CliError::new(FAILURE, format_args!("git did not take the commits over into {repo}"))
            .hint(format!("is `{branch}` checked out there? Switch to another branch first"))),
    }
}
