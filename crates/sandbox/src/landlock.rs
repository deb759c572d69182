//! The second layer: even if a mount were wrong, the agent writes only where the plan says.

use std::path::PathBuf;

use landlock::{
    ABI, Access as _, AccessFs, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _,
    RulesetStatus, Scope, path_beneath_rules,
};

use crate::error::{SandboxError, Step as _};

/// Puts it in force for this process and all it starts.
pub(crate) fn apply(writable: &[PathBuf]) -> Result<(), SandboxError> {
    let status = restrict(writable).step("Landlock").map_err(advise)?;
    match status {
        RulesetStatus::NotEnforced => Err(advise(SandboxError::arming("Landlock", "the kernel does not enforce it"))),
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
    }
}

fn restrict(writable: &[PathBuf]) -> Result<RulesetStatus, landlock::RulesetError> {
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(REQUIRED))?
        // What younger kernels add is taken where it is there.
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))?
        .scope(Scope::from_all(KNOWN))?;
    let restricted = ruleset
        .create()?
        .add_rules(path_beneath_rules(["/"], AccessFs::from_read(KNOWN)))?
        .add_rules(path_beneath_rules(writable, AccessFs::from_all(KNOWN)))?
        .restrict_self()?;
    Ok(restricted.ruleset)
}

fn advise(error: SandboxError) -> SandboxError {
    error.hint("the sandbox needs Landlock, in Linux 5.19 and newer: add `landlock` to the kernel's `lsm=` list")
}

/// The first version that lets files move between directories that may be written.
const REQUIRED: ABI = ABI::V2;

const KNOWN: ABI = ABI::V6;
