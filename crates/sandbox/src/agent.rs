//! The last stage: everything the agent may not have is given up, in an order in which each step is still allowed; then
//! this process becomes the command.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::fs::{Access, CWD, Mode, OFlags, access, openat};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::error::{SandboxError, Step as _};
use crate::launch::{Handed, read_handed, tell};
use crate::plan::Plan;
use crate::{landlock, namespaces, seccomp, syscalls};

/// Becomes the command; returns the exit code only when it cannot.
pub fn agent(handed: &Handed<'_>) -> u8 {
    let Ok(status) = syscalls::inherited(handed.status) else { return NOT_A_STAGE };
    let error = match confine(handed) {
        Ok(plan) => become_command(&plan.environment, handed.command),
        Err(error) => error,
    };
    tell(status, &error);
    error.code
}

fn confine(handed: &Handed<'_>) -> Result<Plan, SandboxError> {
    let plan = syscalls::inherited(handed.plan).step("taking over the plan")?;
    let (plan, plan_fd): (Plan, _) = read_handed(plan)?;
    drop(plan_fd);
    rustix::process::chdir(&plan.directory).step(format_args!("entering {}", plan.directory.display()))?;
    if plan.output.is_some() {
        take_over_terminal()?;
    }
    limit(Resource::Core, 0)?;
    syscalls::join_new_keyring().step("leaving the user's keyring")?;
    namespaces::enter_inner(plan.uid, plan.gid)?;
    // Counted per user namespace: what runs outside as the same user does not count.
    limit(Resource::Nproc, plan.processes)?;
    drop_capabilities()?;
    rustix::thread::set_no_new_privs(true).step("forbidding new privileges")?;
    landlock::apply(&plan.writable)?;
    check_writable(&plan)?;
    syscalls::close_on_exec().step("closing descriptors")?;
    seccomp::apply()?;
    Ok(plan)
}

/// Agents have been seen to hang, and then to end as if all were well, where they cannot write to their home or `/tmp`.
fn check_writable(plan: &Plan) -> Result<(), SandboxError> {
    let home = plan.environment.iter().find(|(name, _)| name == "HOME").map(|(_, home)| home.as_str());
    for directory in home.into_iter().chain(["/tmp"]) {
        // A file without a name: nothing is left of it.
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        match openat(CWD, directory, flags, Mode::RUSR | Mode::WUSR) {
            Err(Errno::OPNOTSUPP | Errno::ISDIR) => access(directory, Access::WRITE_OK),
            written => written.map(drop),
        }
        .step(format_args!("writing to {directory}"))?;
    }
    Ok(())
}

/// Makes standard input the terminal that this process controls.
pub(crate) fn take_over_terminal() -> Result<(), SandboxError> {
    rustix::process::setsid().step("leading a session")?;
    rustix::process::ioctl_tiocsctty(std::io::stdin()).step("taking over the terminal")
}

/// Lowers a limit; one that is lower already stays.
pub(crate) fn limit(what: Resource, most: u64) -> Result<(), SandboxError> {
    let now = rustix::process::getrlimit(what);
    let lower = |limit: Option<u64>| Some(limit.map_or(most, |limit| limit.min(most)));
    let limits = Rlimit { current: lower(now.current), maximum: lower(now.maximum) };
    rustix::process::setrlimit(what, limits).step("setting a limit")
}

fn drop_capabilities() -> Result<(), SandboxError> {
    rustix::thread::clear_ambient_capability_set().step("dropping capabilities")?;
    for number in 0..u64::BITS {
        match rustix::thread::remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)) {
            Ok(()) => {}
            // Beyond the last one the kernel knows.
            Err(Errno::INVAL) => break,
            Err(error) => return Err(SandboxError::arming("dropping capabilities", error)),
        }
    }
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, sets).step("dropping capabilities")
}

/// Becomes `command` with just this environment; returns only when it cannot.
pub(crate) fn become_command(environment: &[(String, String)], command: &[OsString]) -> SandboxError {
    let Some((program, arguments)) = command.split_first() else {
        return SandboxError::arming("starting", "there is no command");
    };
    let mut next = Command::new(program);
    next.args(arguments).env_clear().envs(environment.iter().map(|(name, value)| (name, value)));
    SandboxError::starting(program.display(), &next.exec())
}

const NOT_A_STAGE: u8 = 4;
