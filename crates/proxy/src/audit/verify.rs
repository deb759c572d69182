//! `audit verify`: whether the log is whole.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use clauderon_core::audit::{AuditLine, Chain, Head, LineFault, verify_line};

use super::read::{LogFile, Raw, open_all};
use super::{AuditError, anchors, journal};

/// What [`verify`] found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Files read.
    pub files: usize,
    /// Lines read.
    pub lines: u64,
    /// The first surviving line's number.
    pub first_seq: Option<u64>,
    /// The last line's number.
    pub last_seq: Option<u64>,
    /// What is wrong, in the order of the log: the first hundred.
    pub problems: Vec<Problem>,
    /// How many more there are.
    pub further_problems: u64,
    /// Whether the journal was there to tell where the log must end; without it, missing last lines go unnoticed.
    pub end_is_known: bool,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// The line in it, beginning with 1.
    pub line: u64,
    /// What is wrong there.
    pub fault: Fault,
}

/// The ways a log can be wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No audit line.
    #[error("not an audit line")]
    Malformed,
    /// The link does not follow.
    #[error("line number {seq} or the one before it was edited")]
    Edited {
        /// The line's number.
        seq: u64,
    },
    /// Numbers are left out.
    #[error("line numbers {from} to {to} are missing before this one")]
    Missing {
        /// The first that is missing.
        from: u64,
        /// The last that is missing.
        to: u64,
    },
    /// A number that was passed already.
    #[error("line number {seq} is out of order or doubled")]
    Reordered {
        /// The line's number.
        seq: u64,
    },
    /// The log begins amid the chain, at no place where a file began.
    #[error("the log begins with line number {seq}, where no file began: earlier lines were removed")]
    Unanchored {
        /// The line's number.
        seq: u64,
    },
    /// The log ends too early.
    #[error("the log ends with line number {last}, but number {written} was written: its last lines were removed")]
    Truncated {
        /// The last line's number.
        last: u64,
        /// The number of the last line that was written.
        written: u64,
    },
}

/// Checks every line of the log at `path` against its predecessor, and its end against `journal`; also while a daemon
/// writes. Fails only if a file cannot be read.
pub fn verify(path: &Path, journal: &Path) -> Result<Report, AuditError> {
    let unread = |source| AuditError::Journal { path: journal.into(), source };
    // The head first: lines that come meanwhile only make the log longer than it must be.
    let written = journal::read_head(journal).map_err(unread)?;
    let anchors = anchors::of_journal(journal).map_err(unread)?;
    let files = open_all(path).map_err(|source| AuditError::Log { path: path.into(), source })?;
    let mut walk = Walk { anchors, place: (path.into(), 0), report: Report::default(), before: None };
    for file in files {
        let name = file.path.clone();
        walk.file(file).map_err(|source| AuditError::Log { path: name, source })?;
    }
    walk.end(written);
    Ok(walk.report)
}

/// The state between two lines.
struct Walk {
    anchors: Vec<Head>,
    place: (PathBuf, u64),
    report: Report,
    before: Option<Before>,
}

/// The line before: its number, and its link unless it could not be read.
#[derive(Clone, Copy)]
struct Before {
    seq: u64,
    chain: Option<Chain>,
}

impl Walk {
    fn file(&mut self, mut file: LogFile) -> io::Result<()> {
        self.place = (file.path.clone(), 0);
        self.report.files += 1;
        loop {
            match file.next_raw()? {
                Raw::Line(line) => self.line(line),
                Raw::TooLong => self.line(b""),
                Raw::End => return Ok(()),
            }
        }
    }

    fn line(&mut self, line: &[u8]) {
        self.place.1 += 1;
        self.report.lines += 1;
        match AuditLine::parse(line) {
            Ok(parsed) => self.parsed(line, parsed.head()),
            Err(_) => self.unreadable(),
        }
    }

    fn unreadable(&mut self) {
        self.problem(Fault::Malformed);
        // Taken for the line that belongs here, so that one damaged line is one problem.
        self.before = self.before.map(|before| Before { seq: before.seq + 1, chain: None });
    }

    fn parsed(&mut self, line: &[u8], head: Head) {
        let before = self.before.unwrap_or_else(|| self.beginning(head.seq));
        if head.seq <= before.seq {
            return self.problem(Fault::Reordered { seq: head.seq });
        }
        let chain = if head.seq == before.seq + 1 {
            before.chain
        } else {
            self.problem(Fault::Missing { from: before.seq + 1, to: head.seq - 1 });
            self.anchor(head.seq - 1)
        };
        match verify_line(line, chain.as_ref()) {
            Ok(_) => {}
            Err(LineFault::Edited) => self.problem(Fault::Edited { seq: head.seq }),
            Err(LineFault::Malformed) => self.problem(Fault::Malformed),
        }
        self.report.first_seq.get_or_insert(head.seq);
        self.report.last_seq = Some(head.seq);
        self.before = Some(Before { seq: head.seq, chain: Some(head.chain) });
    }

    /// What stood before the first surviving line.
    fn beginning(&mut self, seq: u64) -> Before {
        let before = seq.saturating_sub(1);
        let chain = self.anchor(before);
        if chain.is_none() {
            self.problem(Fault::Unanchored { seq });
        }
        Before { seq: before, chain }
    }

    fn anchor(&self, seq: u64) -> Option<Chain> {
        if seq == 0 {
            return Some(Head::GENESIS.chain);
        }
        self.anchors.iter().rev().find(|anchor| anchor.seq == seq).map(|anchor| anchor.chain)
    }

    fn end(&mut self, written: Option<Head>) {
        self.report.end_is_known = written.is_some();
        let last = self.report.last_seq.unwrap_or_default();
        let Some(written) = written else { return };
        if last < written.seq {
            self.problem(Fault::Truncated { last, written: written.seq });
        } else if last == written.seq
            && self.before.is_some_and(|before| before.chain.is_some_and(|c| c != written.chain))
        {
            self.problem(Fault::Edited { seq: last });
        }
    }

    fn problem(&mut self, fault: Fault) {
        if self.report.problems.len() < MAX_PROBLEMS {
            let (file, line) = self.place.clone();
            self.report.problems.push(Problem { file, line, fault });
        } else {
            self.report.further_problems += 1;
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.fault)
    }
}

const MAX_PROBLEMS: usize = 100;
