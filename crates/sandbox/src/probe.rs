//! What this machine allows, and what to do where it does not.

use std::path::Path;

use landlock::{ABI, Access as _, AccessFs, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _};

use crate::plan::{Access, Entry, Plan};

/// One thing a sandbox needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub what: &'static str,
    /// What is wrong with it; `None` when nothing is.
    pub problem: Option<String>,
    /// What to do about it.
    pub remedy: Option<&'static str>,
}

/// Looks at the kernel's switches; nothing is started.
pub fn switches() -> Vec<Finding> {
    let finding =
        |what, problem: Option<String>, remedy| Finding { what, remedy: problem.as_ref().map(|_| remedy), problem };
    vec![
        finding(
            "user namespaces",
            closed_namespaces(),
            "set the switch with `sysctl -w NAME=VALUE`, and in /etc/sysctl.d for good",
        ),
        finding("Landlock", no_landlock(), "add `landlock` to the kernel's `lsm=` list; it needs Linux 5.19 or newer"),
        finding("system call filters", no_seccomp(), "use a kernel with CONFIG_SECCOMP_FILTER"),
    ]
}

/// A sandbox that shows programs and nothing else, for a command that only has to start. `scratch` is an empty directory.
pub fn smallest_plan(scratch: &Path, uid: u32, gid: u32) -> Plan {
    let top = ["/bin", "/sbin", "/lib", "/lib64"].iter().filter_map(|path| match std::fs::read_link(path) {
        Ok(text) => Some(Entry::Link { target: path.into(), text: text.to_str()?.to_owned() }),
        Err(_) => Some(Entry::if_there(path)),
    });
    let mut view: Vec<Entry> = ["/usr", "/nix/store", "/gnu/store"].iter().map(Entry::if_there).collect();
    view.extend(top);
    view.push(Entry::Memory { target: "/tmp".into(), mib: 1, mode: 0o1777 });
    let way = Entry::Bind { source: scratch.into(), target: "/way".into(), access: Access::Read, optional: false };
    view.push(way);
    Plan {
        uid,
        gid,
        hostname: "clauderon".to_owned(),
        view,
        writable: vec!["/tmp".into()],
        processes: 64,
        directory: "/".into(),
        environment: std::env::var("PATH").map(|path| ("PATH".to_owned(), path)).into_iter().collect(),
        way: "/way".into(),
        forwards: Vec::new(),
        output: None,
    }
}

fn closed_namespaces() -> Option<String> {
    let closing = [
        ("/proc/sys/kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone = 0: set it to 1"),
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "kernel.apparmor_restrict_unprivileged_userns = 1: set it to 0, or give clauderon an AppArmor profile with `userns`",
        ),
        ("/proc/sys/user/max_user_namespaces", "0", "user.max_user_namespaces = 0: raise it"),
    ];
    let is = |path: &str, value: &str| std::fs::read_to_string(path).is_ok_and(|text| text.trim() == value);
    let found: Vec<&str> =
        closing.iter().filter(|(path, value, _)| is(path, value)).map(|(_, _, text)| *text).collect();
    (!found.is_empty()).then(|| found.join("; "))
}

fn no_landlock() -> Option<String> {
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V2))
        .and_then(Ruleset::create);
    ruleset.err().map(|error| error.to_string())
}

fn no_seccomp() -> Option<String> {
    let actions = std::fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
    let has = |action: &str| actions.split_ascii_whitespace().any(|word| word == action);
    (!has("errno") || !has("kill_process")).then(|| format!("the kernel offers only {:?}", actions.trim()))
}
