//! The audit log: one line for every request, also when the daemon is killed amid it.
//!
//! ```text
//! begin  -> intent into a slot of the journal (shared memory)     request's task, no system call
//! finish -> outcome beside it, slot onto the queue                request's task, no system call
//! batch  -> number, chain, one append, head, slots free again     writer thread
//! ```
//!
//! A kill leaves slots in use; the next start writes the lines the log lacks. A log that takes no more lines refuses
//! requests, keeps what it owes and goes on by itself. Against a power cut there is only what the kernel had put on the
//! disk.

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use clauderon_core::audit::{ABORTED, AuditRecord, BRIEF_BYTES, Form, abandon};

use journal::{Journal, Slot};
use queue::{Finished, Queue};
use recover::Recovered;
use writer::Writer;

pub use read::{Follow, LogLine, read_lines};
pub use verify::{Fault, Problem, Report, verify};

mod anchors;
mod file;
mod journal;
mod queue;
mod read;
mod recover;
mod verify;
mod writer;

#[cfg(test)]
mod tests;

/// Where the log lies and how it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditOptions {
    /// The log file; rotated files lie beside it as `.1`, `.2`, …
    pub path: PathBuf,
    /// The crash journal; the anchors lie beside it, under the same name with the extension `anchors`.
    pub journal: PathBuf,
    /// Bytes at which the log is rotated.
    pub rotate_bytes: u64,
    /// Rotated files that are kept.
    pub keep: usize,
}

/// The audit log's handle; cheap to clone. Dropping the last one writes out what is recorded.
#[derive(Clone)]
pub struct AuditLog {
    open: Option<Arc<Open>>,
}

/// One request under way: its intent survives the daemon's death. Dropped unfinished, it is recorded as `aborted`.
#[must_use = "a request that is not finished is recorded as aborted"]
pub struct Pending {
    /// `None` when nothing is recorded, or when the request is finished.
    held: Option<Held>,
    begun: Instant,
}

struct Held {
    queue: Arc<Queue>,
    slot: Slot,
    /// The intent was cut to fit: the whole line has more to say.
    is_brief: bool,
}

/// The log cannot be written; requests are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the audit log cannot be written: {0}")]
pub struct AuditUnavailable(pub String);

/// Why a log cannot be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The journal's lock is taken.
    #[error(
        "the audit journal `{path}` is in use by another daemon (hint: stop that one, or give this one its own home)"
    )]
    InUse {
        /// The journal.
        path: PathBuf,
    },
    /// The journal cannot be made, mapped or read.
    #[error("the audit journal `{path}` cannot be used: {source}")]
    Journal {
        /// The journal.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The log cannot be opened or read.
    #[error("the audit log `{path}` cannot be opened: {source}")]
    Log {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file holds something else.
    #[error("`{path}` is no audit log (hint: move it away, or set `audit_log_path`)")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
}

/// Ends the writer thread with the last handle.
struct Open {
    queue: Arc<Queue>,
    writer: Option<JoinHandle<()>>,
}

impl AuditLog {
    /// Opens the log, repairs what a killed daemon left, and starts the writer thread.
    pub fn open(options: AuditOptions) -> Result<Self, AuditError> {
        let journal = Journal::open(&options.journal)?;
        let Recovered { head, owed } = recover::recover(&options, &journal)?;
        let queue = Arc::new(Queue::new(options.path.clone(), journal, owed));
        let writer = Writer::new(options, Arc::clone(&queue), head)?;
        let thread = thread::Builder::new().name("audit".into()).stack_size(WRITER_STACK_BYTES);
        let path = queue.path().to_owned();
        let writer = thread.spawn(|| writer.run()).map_err(|source| AuditError::Log { path, source })?;
        queue.set_writer(writer.thread().clone());
        Ok(Self { open: Some(Arc::new(Open { queue, writer: Some(writer) })) })
    }

    /// A log that records nothing (`audit_enabled = false`).
    pub fn disabled() -> Self {
        Self { open: None }
    }

    /// Stores the intent; must be called before the first byte goes to an origin. Never blocks.
    pub fn begin(&self, record: &AuditRecord) -> Result<Pending, AuditUnavailable> {
        let begun = Instant::now();
        let Some(open) = &self.open else { return Ok(Pending { held: None, begun }) };
        open.queue.check(begun)?;
        let slot = open.queue.slot()?;
        let (stored, form) = with_intent(record, |body| open.queue.journal().store_intent(slot, body));
        if !stored {
            open.queue.release(vec![slot]);
            return Err(AuditUnavailable("the request cannot be written down".into()));
        }
        let held = Held { queue: Arc::clone(&open.queue), slot, is_brief: form == Form::BriefIntent };
        Ok(Pending { held: Some(held), begun })
    }

    /// Records a request that never went to an origin. Never blocks.
    #[expect(clippy::needless_pass_by_value, reason = "a record is written once")]
    pub fn record(&self, record: AuditRecord) -> Result<(), AuditUnavailable> {
        let Some(open) = &self.open else { return Ok(()) };
        open.queue.check(Instant::now())?;
        let slot = open.queue.slot()?;
        conclude(&open.queue, slot, &record);
        Ok(())
    }

    /// Whether the log can be written just now; for `/health`.
    pub fn check(&self) -> Result<(), AuditUnavailable> {
        self.open.as_ref().map_or(Ok(()), |open| open.queue.check(Instant::now()))
    }

    /// Waits until everything recorded so far stands in the file.
    pub async fn sync(&self) -> Result<(), AuditUnavailable> {
        self.order(false).await
    }

    /// Writes out what is recorded, also to the disk, and ends the writer thread. Later requests are refused; those still
    /// under way are recorded at the next start.
    pub async fn close(&self) -> Result<(), AuditUnavailable> {
        self.order(true).await
    }

    async fn order(&self, closing: bool) -> Result<(), AuditUnavailable> {
        let Some(open) = &self.open else { return Ok(()) };
        // No answer means that the writer has ended, and that is the fault the queue shows.
        open.queue.order_sync(closing).await.unwrap_or_else(|_| open.queue.check(Instant::now()))
    }
}

impl Pending {
    /// Completes the request's one line. Never blocks; if the log takes no lines, the journal keeps this one.
    #[expect(clippy::needless_pass_by_value, reason = "a record is written once")]
    pub fn finish(mut self, record: AuditRecord) {
        let Some(Held { queue, slot, is_brief }) = self.held.take() else { return };
        match record.tally().filter(|_| !is_brief) {
            Some(tally) => {
                queue.journal().store_tally(slot, &tally);
                debug_assert!(holds(&queue, slot, &record), "without an error only tallies change after the intent");
                queue.push(Finished { slot, oversize: None });
            }
            None => conclude(&queue, slot, &record),
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let Some(Held { queue, slot, .. }) = self.held.take() else { return };
        let mut intent = Vec::new();
        queue.journal().read(slot, &mut intent);
        let lasted = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        hand_over(&queue, slot, &abandon(&intent, ABORTED, lasted));
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        drop(self.queue.order_sync(true));
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has said so itself.
            let _panicked = writer.join();
        }
    }
}

fn with_intent<T>(record: &AuditRecord, store: impl FnOnce(&[u8]) -> T) -> (T, Form) {
    SCRATCH.with_borrow_mut(|body| {
        body.clear();
        record.write_body(Form::Intent, body);
        if body.len() <= BRIEF_BYTES {
            return (store(body), Form::Intent);
        }
        body.clear();
        record.write_body(Form::BriefIntent, body);
        (store(body), Form::BriefIntent)
    })
}

fn holds(queue: &Queue, slot: Slot, record: &AuditRecord) -> bool {
    let (mut stored, mut full) = (Vec::new(), Vec::new());
    queue.journal().read(slot, &mut stored);
    record.write_body(Form::Full, &mut full);
    stored == full
}

fn conclude(queue: &Queue, slot: Slot, record: &AuditRecord) {
    SCRATCH.with_borrow_mut(|body| {
        body.clear();
        record.write_body(Form::Full, body);
        hand_over(queue, slot, body);
    });
}

fn hand_over(queue: &Queue, slot: Slot, body: &[u8]) {
    let stored = queue.journal().store_outcome(slot, body);
    queue.push(Finished { slot, oversize: (!stored).then(|| body.into()) });
}

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(BRIEF_BYTES));
}

const WRITER_STACK_BYTES: usize = 256 * 1024;
