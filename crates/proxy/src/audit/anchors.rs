//! The anchors: where the chain stood when each file began, so that the first line that survives rotation can be checked.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clauderon_core::audit::{Chain, Head};

use super::AuditOptions;

/// Notes that a file begins after `head`.
pub(super) fn push(options: &AuditOptions, head: Head) -> io::Result<()> {
    let path = path(&options.journal);
    let kept = read(&path)?;
    let line = format!("{} {}\n", head.seq, head.chain);
    if kept.len() < MAX_ANCHORS.max(2 * options.keep) {
        // A line end first: a torn line before must not swallow this one.
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        return file.write_all(format!("\n{line}").as_bytes());
    }
    let newest = kept.len() - MAX_ANCHORS.max(2 * options.keep) / 2;
    let kept = kept.iter().skip(newest).map(|head| format!("{} {}\n", head.seq, head.chain));
    replace(&path, &kept.chain([line]).collect::<String>())
}

/// All anchors of the log whose journal this is, oldest first.
pub(super) fn of_journal(journal: &Path) -> io::Result<Vec<Head>> {
    read(&path(journal))
}

fn path(journal: &Path) -> PathBuf {
    journal.with_extension("anchors")
}

fn read(path: &Path) -> io::Result<Vec<Head>> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        text => Ok(text?.lines().filter_map(parse).collect()),
    }
}

fn parse(line: &str) -> Option<Head> {
    let (seq, chain) = line.split_once(' ')?;
    Some(Head { seq: seq.parse().ok()?, chain: Chain::parse(chain).ok()? })
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("anchors.new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    fs::rename(new, path)
}

/// Beyond this the older half goes; years of daily rotation.
const MAX_ANCHORS: usize = 1000;
