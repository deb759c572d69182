//! The start: what a killed daemon left behind is put in order before the first request.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use clauderon_core::audit::{AuditLine, Head, seal};

use super::journal::{Journal, Slot};
use super::read::{MAX_LINE_BYTES, rotated};
use super::{AuditError, AuditOptions};

/// Where the chain continues, and the slots whose lines the log lacks.
pub(super) struct Recovered {
    pub(super) head: Head,
    pub(super) owed: Vec<Slot>,
}

/// Cuts off a torn last line, finds the head, and sorts out which slots' lines never arrived.
pub(super) fn recover(options: &AuditOptions, journal: &Journal) -> Result<Recovered, AuditError> {
    let logged = match last_head(&options.path)? {
        None => last_head(&rotated(&options.path, 1))?,
        head => head,
    };
    let head = agree(&options.path, journal.head(), logged);
    let owed =
        journal.leftovers().into_iter().filter(|(slot, seq)| is_owed(journal, *slot, *seq, head)).map(|(slot, _)| slot);
    let owed: Vec<Slot> = owed.collect();
    if !owed.is_empty() {
        tracing::warn!(requests = owed.len(), "the daemon was ended amid requests; they are recorded now");
    }
    // In this order: a death in between must not make a number of the last run look like one of this run.
    owed.iter().for_each(|slot| journal.assign(*slot, 0));
    journal.set_head(head);
    Ok(Recovered { head, owed })
}

fn is_owed(journal: &Journal, slot: Slot, seq: u64, head: Head) -> bool {
    let mut body = Vec::new();
    journal.read(slot, &mut body);
    let arrived = seq != 0 && seq <= head.seq;
    let readable = reads_back(&body);
    if !arrived && !readable {
        tracing::warn!("the audit journal held a damaged entry; it is dropped");
    }
    if arrived || !readable {
        journal.clear(slot);
    }
    !arrived && readable
}

fn reads_back(body: &[u8]) -> bool {
    let mut line = Vec::new();
    seal(body, 0, &Head::GENESIS.chain, &mut line);
    AuditLine::parse(&line).is_ok()
}

/// The head to continue from: the log's own end, unless the journal knows of more.
fn agree(path: &Path, noted: Head, logged: Option<Head>) -> Head {
    let path = path.display();
    match logged {
        Some(logged) if logged.seq > noted.seq => logged,
        Some(logged) if logged.seq < noted.seq => {
            tracing::warn!(%path, last = logged.seq, expected = noted.seq, "the audit log has lost its last lines");
            noted
        }
        // The journal's link stands even if the last line says otherwise: an edit must not become the chain's new root.
        _ => noted,
    }
}

/// The last line of the file at `path`, after cutting off a torn one; `None` if it is missing, empty or no regular file.
fn last_head(path: &Path) -> Result<Option<Head>, AuditError> {
    let failed = |source| AuditError::Log { path: path.into(), source };
    let there = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        there => there.map_err(failed)?,
    };
    if !there.is_file() || there.len() == 0 {
        return Ok(None);
    }
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(failed)?;
    let (begin, tail) = read_tail(&file, there.len()).map_err(failed)?;
    let whole = memchr::memrchr(b'\n', &tail).map_or(0, |at| at + 1);
    let (lines, torn) = tail.split_at(whole);
    let head = lines.rsplit(|b| *b == b'\n').find_map(|line| AuditLine::parse(line).ok()).map(|line| line.head());
    // Only what is surely ours is cut: the setting may name some other file by mistake.
    let ours = head.is_some() || (begin == 0 && whole == 0 && begins_like_ours(torn));
    if !ours {
        return Err(AuditError::Foreign { path: path.into() });
    }
    if !torn.is_empty() {
        tracing::warn!(path = %path.display(), bytes = torn.len(), "the audit log's last line was torn; it is cut off");
        file.set_len(begin + whole as u64).map_err(failed)?;
    }
    Ok(head)
}

fn read_tail(file: &File, len: u64) -> io::Result<(u64, Vec<u8>)> {
    let begin = len.saturating_sub(MAX_LINE_BYTES as u64);
    let mut tail = vec![0; usize::try_from(len - begin).unwrap_or_default()];
    file.read_exact_at(&mut tail, begin)?;
    Ok((begin, tail))
}

fn begins_like_ours(torn: &[u8]) -> bool {
    torn.iter().zip(LINE_BEGIN).all(|(a, b)| a == b)
}

const LINE_BEGIN: &[u8] = b"{\"timestamp\":\"";
