//! The two levels of user namespaces, and the network that leads nowhere.

use std::fs::File;
use std::io::Write as _;

use rustix::thread::UnshareFlags;

use crate::error::{SandboxError, Step as _};

/// The outer level: owns every other namespace, so that setting them up needs no privilege outside.
pub(crate) fn enter_outer(uid: u32, gid: u32) -> Result<(), SandboxError> {
    unshare(UnshareFlags::NEWUSER).step("making a user namespace").map_err(advise)?;
    map(0, uid, 0, gid).map_err(advise)?;
    let all = UnshareFlags::NEWNS
        | UnshareFlags::NEWNET
        | UnshareFlags::NEWPID
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWUTS
        | UnshareFlags::NEWCGROUP;
    unshare(all).step("making namespaces")
}

/// The inner level: the agent's own user again, who owns nothing of the outer one.
pub(crate) fn enter_inner(uid: u32, gid: u32) -> Result<(), SandboxError> {
    unshare(UnshareFlags::NEWUSER).step("making the inner user namespace")?;
    map(uid, 0, gid, 0)
}

#[expect(deprecated, reason = "its successor is unsafe for shared descriptors, which are not unshared here")]
fn unshare(flags: UnshareFlags) -> rustix::io::Result<()> {
    rustix::thread::unshare(flags)
}

fn map(inner_uid: u32, outer_uid: u32, inner_gid: u32, outer_gid: u32) -> Result<(), SandboxError> {
    write("setgroups", "deny")?;
    write("uid_map", &format!("{inner_uid} {outer_uid} 1"))?;
    write("gid_map", &format!("{inner_gid} {outer_gid} 1"))
}

/// These files take their whole content in one write.
fn write(file: &str, text: &str) -> Result<(), SandboxError> {
    let path = format!("/proc/self/{file}");
    let open = File::options().write(true).open(&path);
    open.and_then(|mut file| file.write_all(text.as_bytes())).step(format_args!("writing {path}"))
}

fn advise(error: SandboxError) -> SandboxError {
    error.hint(
        "this machine does not let users make namespaces: `clauderon doctor` says which switch forbids it \
         (kernel.apparmor_restrict_unprivileged_userns, kernel.unprivileged_userns_clone, user.max_user_namespaces, \
         or the container around)",
    )
}
