//! System calls an agent has no business with: each refused, with its reason.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};

use crate::error::{SandboxError, Step as _};

/// Puts the filters in force for this process and all it starts; there is no way back.
pub(crate) fn apply() -> Result<(), SandboxError> {
    for program in programs().step("building the system call filter")? {
        seccompiler::apply_filter(&program).step("putting the system call filter in force")?;
    }
    Ok(())
}

/// The filters; a call must pass all of them. Processes of another architecture are killed at their first call.
fn programs() -> Result<Vec<BpfProgram>, String> {
    let refused = compile(table()?, libc::EPERM)?;
    // What libraries try first and do without: "not there" sends them to the call that is filtered by its arguments.
    let absent = compile(ABSENT.iter().map(|(call, _)| (*call, Vec::new())).collect(), libc::ENOSYS)?;
    Ok(vec![second_numbering(), absent, refused])
}

fn compile(rules: BTreeMap<i64, Vec<SeccompRule>>, error: i32) -> Result<BpfProgram, String> {
    let error = SeccompAction::Errno(u32::try_from(error).map_err(|e| e.to_string())?);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, error, ARCH).map_err(|e| e.to_string())?;
    filter.try_into().map_err(|e: seccompiler::BackendError| e.to_string())
}

fn table() -> Result<BTreeMap<i64, Vec<SeccompRule>>, String> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = REFUSED.iter().map(|(call, _)| (*call, Vec::new())).collect();
    for (call, conditions, _reason) in CONDITIONAL {
        rules.entry(*call).or_default().push(rule(conditions)?);
    }
    Ok(rules)
}

/// All conditions must hold for the call to be refused.
fn rule(conditions: &[Condition]) -> Result<SeccompRule, String> {
    let conditions = conditions.iter().map(|(argument, operator, value)| {
        // The kernel reads these arguments as 32 bits; comparing 64 would let a set upper half pass.
        SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, operator.clone(), *value)
    });
    let conditions = conditions.collect::<Result<_, _>>().map_err(|e| e.to_string())?;
    SeccompRule::new(conditions).map_err(|e| e.to_string())
}

/// Refuses the calls whose number has bit 30: on x86-64 a second numbering of the same calls (x32), which would pass a
/// list of numbers. No call of any architecture has it otherwise.
fn second_numbering() -> BpfProgram {
    let statement = |code: u32, jt, jf, k| sock_filter { code: u16::try_from(code).unwrap_or_default(), jt, jf, k };
    vec![
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 1, SECOND_NUMBERING),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs()),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

/// An argument, and what makes it refused.
type Condition = (u8, SeccompCmpOp, u64);

use SeccompCmpOp::{Eq, MaskedEq, Ne};

/// Refused whatever the arguments.
const REFUSED: &[(i64, &str)] = &[
    (libc::SYS_ptrace, "reads and steers other processes"),
    (libc::SYS_process_vm_readv, "reads other processes' memory"),
    (libc::SYS_process_vm_writev, "writes other processes' memory"),
    (libc::SYS_pidfd_getfd, "takes descriptors from other processes"),
    (libc::SYS_kcmp, "compares kernel addresses of other processes"),
    (libc::SYS_mount, "would change the view"),
    (libc::SYS_umount2, "would change the view"),
    (libc::SYS_pivot_root, "would change the view"),
    (libc::SYS_chroot, "a step of known escapes"),
    (libc::SYS_open_tree, "would change the view"),
    (libc::SYS_move_mount, "would change the view"),
    (libc::SYS_fsopen, "would change the view"),
    (libc::SYS_fsconfig, "would change the view"),
    (libc::SYS_fsmount, "would change the view"),
    (libc::SYS_fspick, "would change the view"),
    (libc::SYS_mount_setattr, "would change the view"),
    (OPEN_TREE_ATTR, "would change the view"),
    (libc::SYS_setns, "enters other namespaces"),
    (libc::SYS_open_by_handle_at, "opens files around the view"),
    (libc::SYS_name_to_handle_at, "makes the handles for that"),
    (libc::SYS_bpf, "kernel programs: large attack surface"),
    (libc::SYS_perf_event_open, "measures the kernel and others: large attack surface"),
    (libc::SYS_userfaultfd, "stops the kernel in the middle of a copy: used by exploits"),
    (libc::SYS_io_uring_setup, "does what other calls do, unseen by this filter"),
    (libc::SYS_io_uring_enter, "as io_uring_setup"),
    (libc::SYS_io_uring_register, "as io_uring_setup"),
    (libc::SYS_add_key, "kernel keys are not kept apart by namespaces"),
    (libc::SYS_request_key, "as add_key"),
    (libc::SYS_keyctl, "as add_key"),
    (libc::SYS_kexec_load, "starts another kernel"),
    (libc::SYS_init_module, "loads code into the kernel"),
    (libc::SYS_finit_module, "loads code into the kernel"),
    (libc::SYS_delete_module, "unloads code from the kernel"),
    (libc::SYS_reboot, "stops the machine"),
    (libc::SYS_swapon, "the machine's memory"),
    (libc::SYS_swapoff, "the machine's memory"),
    (libc::SYS_syslog, "the kernel's log has addresses and other users' business"),
    (libc::SYS_acct, "the machine's accounts"),
    (libc::SYS_quotactl, "the machine's accounts"),
    (libc::SYS_settimeofday, "the machine's clock"),
    (libc::SYS_clock_settime, "the machine's clock"),
    (libc::SYS_vhangup, "ends the terminal of whoever started this"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_kexec_file_load, "starts another kernel"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_iopl, "hardware ports"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_ioperm, "hardware ports"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_modify_ldt, "segments: used by exploits"),
];

/// Answered as if the kernel did not have them.
const ABSENT: &[(i64, &str)] =
    &[(libc::SYS_clone3, "its flags lie in memory, where no filter can look; libraries fall back to clone")];

/// Refused when all conditions hold.
const CONDITIONAL: &[(i64, &[Condition], &str)] = &[
    (
        libc::SYS_socket,
        &[(0, Ne, UNIX), (0, Ne, INET), (0, Ne, INET6), (0, Ne, NETLINK)],
        "other families lead around the empty network namespace (vsock), or are attack surface",
    ),
    (libc::SYS_socket, &[(0, Eq, NETLINK), (2, Ne, 0)], "of netlink only routing, which lists interfaces"),
    (libc::SYS_socket, &[(0, Eq, INET), (1, MaskedEq(TYPE_MASK), RAW)], "no packets of one's own making"),
    (libc::SYS_socket, &[(0, Eq, INET6), (1, MaskedEq(TYPE_MASK), RAW)], "no packets of one's own making"),
    (libc::SYS_socket, &[(1, MaskedEq(TYPE_MASK), PACKET)], "no packets of one's own making"),
    (
        libc::SYS_clone,
        &[(0, MaskedEq(NEW_USER), NEW_USER)],
        "a new user namespace opens kernel code that trusts its root",
    ),
    (libc::SYS_unshare, &[(0, MaskedEq(NEW_USER), NEW_USER)], "as for clone"),
    (libc::SYS_ioctl, &[(1, Eq, TIOCSTI)], "types into the terminal of whoever started this"),
    (libc::SYS_ioctl, &[(1, Eq, TIOCLINUX)], "pastes into a console"),
];

const UNIX: u64 = libc::AF_UNIX as u64;
const INET: u64 = libc::AF_INET as u64;
const INET6: u64 = libc::AF_INET6 as u64;
const NETLINK: u64 = libc::AF_NETLINK as u64;
/// The type's low bits; the rest are flags.
const TYPE_MASK: u64 = 0xf;
const RAW: u64 = libc::SOCK_RAW as u64;
const PACKET: u64 = 10;
const NEW_USER: u64 = libc::CLONE_NEWUSER as u64;
const OPEN_TREE_ATTR: i64 = 467;
/// The numbers of these requests are the same on every architecture here; their type is not in every C library.
const TIOCSTI: u64 = 0x5412;
const TIOCLINUX: u64 = 0x541c;

#[cfg(target_arch = "x86_64")]
const ARCH: TargetArch = TargetArch::x86_64;
#[cfg(target_arch = "aarch64")]
const ARCH: TargetArch = TargetArch::aarch64;
#[cfg(target_arch = "riscv64")]
const ARCH: TargetArch = TargetArch::riscv64;

/// Where the numbers of x32 begin.
const SECOND_NUMBERING: u32 = 0x4000_0000;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use super::*;

    #[test]
    fn every_filter_compiles_and_every_rule_has_its_reason() {
        assert_eq!(programs().unwrap().len(), 3);
        let reasons = REFUSED.iter().chain(ABSENT).map(|(_, reason)| *reason);
        assert!(reasons.chain(CONDITIONAL.iter().map(|(_, _, reason)| *reason)).all(|reason| !reason.is_empty()));
    }

    #[test]
    fn no_conditional_rule_weakens_an_unconditional_one() {
        // To the compiler a call with conditions is refused only under them.
        for (call, _, _) in CONDITIONAL {
            assert!(REFUSED.iter().all(|(refused, _)| refused != call), "{call}");
        }
    }
}
