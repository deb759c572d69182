//! CPU and memory of a process, and children that end with their owner.

use std::process::Child;
use std::{fs, io};

use anyhow::{Context, Result};

/// A child process that is killed, by its id, when dropped.
pub struct Owned(pub Child);

impl Drop for Owned {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// CPU seconds of a process and its children so far, exited threads included.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let own = ticks(pid)?;
    let children: f64 = children(pid)?.into_iter().filter_map(|child| cpu_seconds(child).ok()).sum();
    Ok(own / TICKS_PER_SECOND + children)
}

/// Resident memory of a process and its children, KiB.
pub fn rss_kib(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("process {pid} is gone"))?;
    let own: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .context("no VmRSS")?;
    Ok(own + children(pid)?.into_iter().filter_map(|child| rss_kib(child).ok()).sum::<u64>())
}

fn ticks(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid} is gone"))?;
    // The command's name may hold spaces; it ends at the last bracket. utime and stime are fields 14 and 15 of proc(5).
    let fields: Vec<&str> = stat.rsplit_once(')').context("malformed stat")?.1.split_whitespace().collect();
    let field = |n: usize| fields.get(n - 3).and_then(|text| text.parse::<f64>().ok()).context("malformed stat");
    Ok(field(14)? + field(15)?)
}

fn children(pid: u32) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        match fs::read_to_string(task?.path().join("children")) {
            Ok(ids) => found.extend(ids.split_whitespace().filter_map(|id| id.parse::<u32>().ok())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

/// USER_HZ, which Linux fixes at 100 for all of proc(5).
const TICKS_PER_SECOND: f64 = 100.0;
