//! A look at the walls from inside: what the engine was asked for must be so, whatever it answered.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, StatVfsMountFlags, access, stat, statvfs};

use super::{Mounted, Walls};
use crate::error::{SandboxError, Step as _};

/// Refuses to go on unless all of `walls` stand.
pub(super) fn check(walls: &Walls) -> Result<(), SandboxError> {
    user(walls)?;
    privileges()?;
    network()?;
    files(walls)?;
    limits(walls)
}

fn user(walls: &Walls) -> Result<(), SandboxError> {
    let own = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    must(own == (walls.uid, walls.gid), "its user", || format!("it is {}:{}", own.0, own.1))?;
    must(rustix::process::getpid().is_init(), "its processes", || "they are not apart".to_owned())
}

fn privileges() -> Result<(), SandboxError> {
    let status = std::fs::read_to_string("/proc/self/status").step("looking at its privileges")?;
    for line in status.lines().filter(|line| line.starts_with("Cap")) {
        let is_none = line.split_ascii_whitespace().nth(1).is_some_and(|set| set.bytes().all(|digit| digit == b'0'));
        must(is_none, "its capabilities", || line.replace('\t', " "))?;
    }
    let may_gain = !rustix::thread::no_new_privs().step("looking at its privileges")?;
    must(!may_gain, "its privileges", || "it may gain new ones".to_owned())
}

fn network() -> Result<(), SandboxError> {
    let table = std::fs::read_to_string("/proc/net/dev").step("looking at its network")?;
    let names: BTreeSet<&str> = table.lines().filter_map(|line| Some(line.split_once(':')?.0.trim())).collect();
    must(names.iter().all(|name| *name == "lo"), "its network", || format!("it has {names:?}"))
}

fn files(walls: &Walls) -> Result<(), SandboxError> {
    let root = statvfs("/").step("looking at its root")?;
    must(root.f_flag.contains(StatVfsMountFlags::RDONLY), "its root", || "it can be written".to_owned())?;
    walls.mounts.iter().try_for_each(mounted)?;
    nothing_below(&walls.mounts)?;
    for place in &walls.writable {
        access(place, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| {
            let hint = "the image has this directory closed to other users than its own: open it there (mode 1777)";
            SandboxError::arming(format_args!("writing to {}", place.display()), error).hint(hint)
        })?;
    }
    Ok(())
}

fn mounted(mount: &Mounted) -> Result<(), SandboxError> {
    let what = format!("{}, which the engine shows", mount.target.display());
    let there = stat(&mount.target).step(&what)?;
    must((there.st_dev, there.st_ino) == (mount.device, mount.inode), &what, || {
        "it is not what was meant: it was exchanged meanwhile, or the engine runs on another machine".to_owned()
    })?;
    let flags = statvfs(&mount.target).step(&what)?.f_flag;
    must(mount.writable || flags.contains(StatVfsMountFlags::RDONLY), &what, || "it can be written".to_owned())
}

/// What is mounted below a directory of the host is not made read-only along with it by every engine.
fn nothing_below(shown: &[Mounted]) -> Result<(), SandboxError> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").step("looking at its mounts")?;
    let places = table.lines().filter_map(|line| line.split(' ').nth(4)).map(|place| PathBuf::from(unescaped(place)));
    for place in places.filter(|place| shown.iter().all(|mount| mount.target != *place)) {
        let above = shown.iter().find(|mount| place.starts_with(&mount.target));
        must(above.is_none(), format_args!("{}", place.display()), || {
            "another file system is mounted there, below what is shown of this machine".to_owned()
        })?;
    }
    Ok(())
}

/// The table writes white space and backslashes as a backslash and three octal digits.
fn unescaped(place: &str) -> String {
    let mut pieces = place.split('\\');
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let digits = piece.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        text.extend(digits.map(char::from));
        text.push_str(piece.get(3..).unwrap_or_default());
    }
    text
}

fn limits(walls: &Walls) -> Result<(), SandboxError> {
    let processes = first(&["pids.max", "pids/pids.max"]).and_then(|text| number(&text));
    bounded("processes", processes, Some(walls.processes))?;
    let memory = first(&["memory.max", "memory/memory.limit_in_bytes"]).and_then(|text| number(&text));
    bounded("memory", memory, walls.memory)?;
    bounded("processors (thousandths)", processors(), walls.cpus.map(thousandths))
}

/// Limits are the engine's to set and the kernel's to keep; one that is not in force is none.
fn bounded(what: &str, found: Option<u64>, wanted: Option<u64>) -> Result<(), SandboxError> {
    let Some(wanted) = wanted else { return Ok(()) };
    let found_text = found.map_or_else(|| "none is in force".to_owned(), |found| format!("{found} is in force"));
    must(found.is_some_and(|found| found <= wanted), format_args!("its limit of {wanted} {what}"), || found_text)
        .map_err(|error| {
            error.hint("the engine's user needs the control groups for that: cgroup v2, delegated (rootless engines)")
        })
}

fn processors() -> Option<u64> {
    let ratio = |quota: &str, period: &str| Some(number(quota)?.saturating_mul(1000) / number(period)?.max(1));
    if let Some(text) = first(&["cpu.max"]) {
        let (quota, period) = text.split_once(' ')?;
        return ratio(quota, period);
    }
    ratio(&first(&["cpu/cpu.cfs_quota_us"])?, &first(&["cpu/cpu.cfs_period_us"])?)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small positive number")]
fn thousandths(cpus: f64) -> u64 {
    (cpus * 1000.0).round() as u64
}

/// The first of these files of the container's own control group that there is: version 2, then 1.
fn first(names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| std::fs::read_to_string(Path::new("/sys/fs/cgroup").join(name)).ok())
}

/// `max` and -1 are no numbers: no limit.
fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

fn must(holds: bool, what: impl Display, why: impl FnOnce() -> String) -> Result<(), SandboxError> {
    if holds { Ok(()) } else { Err(SandboxError::container(what, why())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_both_versions_write_them() {
        assert_eq!((number("max\n"), number("-1\n"), number("67108864\n")), (None, None, Some(67_108_864)));
        assert_eq!((thousandths(1.5), thousandths(0.01)), (1500, 10));
    }

    #[test]
    fn a_mount_points_name_is_what_it_was() {
        assert_eq!(unescaped(r"/a\040b\134c"), r"/a b\c");
        assert_eq!(unescaped("/plain"), "/plain");
    }
}
