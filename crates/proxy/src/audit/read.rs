//! Reading the log back, across rotated files and while it is being written.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clauderon_core::audit::AuditLine;

use super::AuditError;

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// As it stands in the file, without its line end.
    pub text: String,
    /// Its fields.
    pub record: AuditLine,
}

/// Every line of the log at `path`, oldest first, rotated files included. What cannot be read is passed over; `verify`
/// says what that is.
pub fn read_lines(path: &Path) -> Result<impl Iterator<Item = LogLine>, AuditError> {
    let files = open_all(path).map_err(|source| AuditError::Log { path: path.into(), source })?;
    Ok(files.into_iter().flat_map(|mut file| std::iter::from_fn(move || file.next_parsed())))
}

/// A log being read as it grows: `tail -f` that survives rotation.
pub struct Follow {
    path: PathBuf,
    current: Option<LogFile>,
    /// What the first poll gives.
    earlier: VecDeque<LogLine>,
}

impl Follow {
    /// Follows the log at `path`, beginning `last` lines before its end.
    pub fn new(path: &Path, last: usize) -> Result<Self, AuditError> {
        let files = open_all(path).map_err(|source| AuditError::Log { path: path.into(), source })?;
        let mut follow = Self { path: path.into(), current: None, earlier: VecDeque::new() };
        for mut file in files {
            let mut raw = VecDeque::new();
            file.keep_last(last, &mut raw);
            follow.earlier.extend(raw.iter().filter_map(|line| parse(line)));
            follow.current = Some(file);
        }
        let surplus = follow.earlier.len().saturating_sub(last);
        follow.earlier.drain(..surplus);
        Ok(follow)
    }

    /// The lines that were added since the last call.
    pub fn poll(&mut self) -> Result<Vec<LogLine>, AuditError> {
        let mut lines = Vec::from(std::mem::take(&mut self.earlier));
        self.drain(&mut lines);
        let moved_on = self.successors().map_err(|source| AuditError::Log { path: self.path.clone(), source })?;
        for file in moved_on {
            // Lines may have come between the last look at the old file and its end.
            self.drain(&mut lines);
            self.current = Some(file);
        }
        self.drain(&mut lines);
        Ok(lines)
    }

    fn drain(&mut self, lines: &mut Vec<LogLine>) {
        if let Some(current) = &mut self.current {
            lines.extend(std::iter::from_fn(|| current.next_parsed()));
        }
    }

    /// The files that follow the current one; usually none.
    fn successors(&mut self) -> io::Result<Vec<LogFile>> {
        let there = fs::metadata(&self.path).ok();
        match (&mut self.current, there) {
            (_, None) => return Ok(Vec::new()),
            (Some(current), Some(there)) if current.id == FileId::of(&there) => {
                current.restart_if_emptied(there.len())?;
                return Ok(Vec::new());
            }
            _ => {}
        }
        let mut files = open_all(&self.path)?;
        let newest = files.len().saturating_sub(1);
        let from = match &self.current {
            None => 0,
            Some(current) => files.iter().position(|file| file.id == current.id).map_or(newest, |at| at + 1),
        };
        Ok(files.split_off(from.min(files.len())))
    }
}

/// One file of the log, read line by line in bounded memory.
pub(super) struct LogFile {
    pub(super) path: PathBuf,
    id: FileId,
    reader: BufReader<File>,
    line: Vec<u8>,
}

/// What a read of one line found.
pub(super) enum Raw<'a> {
    /// A whole line, without its line end.
    Line(&'a [u8]),
    /// More bytes than any line of ours has.
    TooLong,
    /// The end, or a line that is still being written.
    End,
}

impl LogFile {
    fn open(path: PathBuf) -> io::Result<Option<Self>> {
        match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            file => {
                let file = file?;
                let id = FileId::of(&file.metadata()?);
                Ok(Some(Self { path, id, reader: BufReader::with_capacity(READ_BYTES, file), line: Vec::new() }))
            }
        }
    }

    /// The next line. After [`Raw::End`] it may be asked again: an unfinished line is kept.
    pub(super) fn next_raw(&mut self) -> io::Result<Raw<'_>> {
        if self.line.last() == Some(&b'\n') {
            self.line.clear();
        }
        let room = (MAX_LINE_BYTES + 1 - self.line.len()) as u64;
        (&mut self.reader).take(room).read_until(b'\n', &mut self.line)?;
        if self.line.len() > MAX_LINE_BYTES {
            self.line.clear();
            self.reader.skip_until(b'\n')?;
            return Ok(Raw::TooLong);
        }
        Ok(self.line.strip_suffix(b"\n").map_or(Raw::End, Raw::Line))
    }

    fn next_parsed(&mut self) -> Option<LogLine> {
        loop {
            match self.next_raw().ok()? {
                Raw::Line(line) => {
                    if let Some(line) = parse(line) {
                        return Some(line);
                    }
                }
                Raw::TooLong => {}
                Raw::End => return None,
            }
        }
    }

    fn keep_last(&mut self, last: usize, kept: &mut VecDeque<Vec<u8>>) {
        while let Ok(raw) = self.next_raw() {
            match raw {
                Raw::Line(line) => kept.push_back(line.to_vec()),
                Raw::TooLong => {}
                Raw::End => return,
            }
            if kept.len() > last {
                kept.pop_front();
            }
        }
    }

    fn restart_if_emptied(&mut self, len: u64) -> io::Result<()> {
        if len < self.reader.stream_position()? {
            self.line.clear();
            self.reader.rewind()?;
        }
        Ok(())
    }
}

/// A file, whatever it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId(u64, u64);

impl FileId {
    pub(super) fn of(there: &fs::Metadata) -> Self {
        Self(there.dev(), there.ino())
    }
}

/// Opens every file of the log, oldest first.
pub(super) fn open_all(path: &Path) -> io::Result<Vec<LogFile>> {
    // Newest first: a rotation in between then shows a file twice instead of hiding one.
    let mut files: Vec<LogFile> = LogFile::open(path.into())?.into_iter().collect();
    for n in 1.. {
        let Some(file) = LogFile::open(rotated(path, n))? else { break };
        if files.iter().all(|newer| newer.id != file.id) {
            files.push(file);
        }
    }
    files.reverse();
    Ok(files)
}

/// The `n`th rotated file of the log at `path`.
pub(super) fn rotated(path: &Path, n: usize) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{n}"));
    name.into()
}

/// When the file's first line was written, in seconds since the epoch.
pub(super) fn first_timestamp(path: &Path) -> Option<u64> {
    let line = LogFile::open(path.into()).ok()??.next_parsed()?;
    let moment = time::OffsetDateTime::parse(&line.record.timestamp, &time::format_description::well_known::Rfc3339);
    u64::try_from(moment.ok()?.unix_timestamp()).ok()
}

fn parse(line: &[u8]) -> Option<LogLine> {
    let record = AuditLine::parse(line).ok()?;
    Some(LogLine { text: String::from_utf8_lossy(line).into_owned(), record })
}

/// Several times what the longest line takes.
pub(super) const MAX_LINE_BYTES: usize = 64 * 1024;
const READ_BYTES: usize = 128 * 1024;
