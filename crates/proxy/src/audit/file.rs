//! The log file as the writer holds it: appended to, never left with half a line, rotated, followed when others move it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use clauderon_core::audit::Head;

use super::read::{self, FileId, rotated};
use super::{AuditOptions, anchors};

/// The file that lines are appended to.
pub(super) struct LogFile {
    options: AuditOptions,
    open: Option<Open>,
    /// The head that the first line of a file begun since continues; written to the anchors before any line.
    anchor: Option<Head>,
}

struct Open {
    file: File,
    id: FileId,
    /// As it was after our last write; less than that means somebody emptied the file.
    size: u64,
    /// When its first line was written, in seconds since the epoch.
    born: u64,
    /// Where the last whole line ends, if half a line follows that could not be cut off yet.
    torn_at: Option<u64>,
}

impl LogFile {
    /// Nothing is opened before [`LogFile::settle`].
    pub(super) fn new(options: AuditOptions) -> Self {
        Self { options, open: None, anchor: None }
    }

    /// Makes sure that `coming` bytes after `head` go to the right file: follows renames, rotates by size and age.
    pub(super) fn settle(&mut self, coming: usize, head: Head) -> io::Result<()> {
        if let Some(open) = &mut self.open {
            open.mend()?;
        }
        self.reopen_if_moved(head)?;
        if self.is_full(coming) {
            rotate(&self.options)?;
            self.reopen_if_moved(head)?;
        }
        if let Some(head) = self.anchor {
            anchors::push(&self.options, head)?;
            self.anchor = None;
        }
        Ok(())
    }

    /// Appends whole lines with one write and returns how many bytes of whole lines arrived; never leaves half a line.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<usize> {
        let open = self.open.as_mut().ok_or_else(|| io::Error::other("the log is not open"))?;
        open.mend()?;
        let written = loop {
            match open.file.write(lines) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                written => break written?,
            }
        };
        let whole = lines.get(..written).and_then(|part| memchr::memrchr(b'\n', part)).map_or(0, |at| at + 1);
        open.size = open.file.metadata()?.len();
        if whole < written {
            open.torn_at = Some(open.size.saturating_sub((written - whole) as u64));
            open.mend()?;
        }
        if whole == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(whole) }
    }

    /// Asks the kernel to put everything on the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.open.as_ref().map_or(Ok(()), |open| open.file.sync_data())
    }

    fn reopen_if_moved(&mut self, head: Head) -> io::Result<()> {
        let there = match fs::metadata(&self.options.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            there => Some(there?),
        };
        let same = match (&mut self.open, &there) {
            (Some(open), Some(there)) if open.id == FileId::of(there) => {
                // `copytruncate`: same file, emptied. It begins anew with our next line.
                if there.len() < open.size {
                    self.anchor = Some(head);
                    open.begin_at(there.len());
                }
                true
            }
            _ => false,
        };
        if !same {
            let open = Open::at(&self.options.path)?;
            if open.size == 0 {
                self.anchor = Some(head);
            }
            self.open = Some(open);
        }
        Ok(())
    }

    fn is_full(&self, coming: usize) -> bool {
        self.open.as_ref().is_some_and(|open| {
            let long = open.size + coming as u64 > self.options.rotate_bytes;
            let old = now().saturating_sub(open.born) > MAX_AGE_S;
            coming > 0 && open.size > 0 && (long || old)
        })
    }
}

impl Open {
    fn at(path: &Path) -> io::Result<Self> {
        if fs::metadata(path).is_ok_and(|there| !there.is_file()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        let there = file.metadata()?;
        if there.mode() & 0o077 != 0 {
            file.set_permissions(PermissionsExt::from_mode(0o600))?;
        }
        let born = read::first_timestamp(path).unwrap_or_else(now);
        Ok(Self { file, id: FileId::of(&there), size: there.len(), born, torn_at: None })
    }

    fn begin_at(&mut self, size: u64) {
        (self.size, self.born) = (size, now());
    }

    fn mend(&mut self) -> io::Result<()> {
        if let Some(len) = self.torn_at {
            // Only ever shorter: were the file emptied by others meanwhile, this would fill it with zeros.
            let size = self.file.metadata()?.len().min(len);
            self.file.set_len(size)?;
            (self.size, self.torn_at) = (size, None);
        }
        Ok(())
    }
}

/// Moves the log to `.1`, `.1` to `.2` and so on up to the first free place; the oldest beyond `keep` goes.
fn rotate(options: &AuditOptions) -> io::Result<()> {
    if options.keep == 0 {
        return fs::remove_file(&options.path);
    }
    let place = |n: usize| rotated(&options.path, n);
    let free = (1..options.keep).find(|n| !place(*n).exists()).unwrap_or(options.keep);
    for n in (1..free).rev() {
        fs::rename(place(n), place(n + 1))?;
    }
    fs::rename(&options.path, place(1))
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A quiet log still changes files once a month, so that old records can be thrown away by file.
const MAX_AGE_S: u64 = 30 * 24 * 60 * 60;
