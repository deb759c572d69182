//! The writer thread: the only one that touches the log file. It numbers, chains and appends what requests leave in their
//! slots, a batch at a time, so that a request itself costs no system call.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use clauderon_core::audit::{Head, seal};

use super::file::LogFile;
use super::journal::Slot;
use super::queue::{Finished, Orders, Queue};
use super::{AuditError, AuditOptions, AuditUnavailable};

/// Owns the file, the numbers and the chain.
pub(super) struct Writer {
    queue: Arc<Queue>,
    file: LogFile,
    /// The last line made, written or not.
    head: Head,
    waiting: VecDeque<Finished>,
    batch: Batch,
    /// A batch no larger than a whole log file, so that rotation keeps to its size.
    batch_bytes: usize,
}

/// Lines that are numbered and on their way; they stay as they are until the file has taken them.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    lines: VecDeque<Line>,
    body: Vec<u8>,
}

struct Line {
    slot: Slot,
    len: usize,
    head: Head,
}

impl Writer {
    /// Opens the file; a log that merely cannot take lines just now is no error, but leaves the queue refusing.
    pub(super) fn new(options: AuditOptions, queue: Arc<Queue>, head: Head) -> Result<Self, AuditError> {
        let path = options.path.clone();
        let batch_bytes = usize::try_from(options.rotate_bytes).unwrap_or(usize::MAX).min(BATCH_BYTES);
        let mut file = LogFile::new(options);
        if let Err(source) = file.settle(0, head) {
            match source.kind() {
                io::ErrorKind::InvalidInput | io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    queue.set_fault(Some(unavailable(&path, &source)));
                }
                _ => return Err(AuditError::Log { path, source }),
            }
        }
        Ok(Self { queue, file, head, waiting: VecDeque::new(), batch: Batch::default(), batch_bytes })
    }

    /// Writes until the queue closes.
    pub(super) fn run(mut self) {
        let mut idle_rounds = 0;
        loop {
            let Orders { finished, syncs, closing } = self.queue.take();
            let busy = !finished.is_empty() || !self.batch.lines.is_empty();
            self.waiting.extend(finished);
            let mut outcome = self.write_all();
            self.queue.set_fault(outcome.clone().err());
            if closing {
                outcome = self.finish(outcome);
                // Before the answer: whoever has seen the log close must find it closed.
                self.queue.end();
            }
            for sync in syncs {
                // A waiter that has gone away needs no answer.
                let _gone = sync.send(outcome.clone());
            }
            if closing {
                return;
            }
            idle_rounds = if busy { 0 } else { idle_rounds + 1 };
            match outcome {
                Err(_) => thread::park_timeout(RETRY_PAUSE),
                Ok(()) if idle_rounds < IDLE_ROUNDS => thread::park_timeout(BATCH_PAUSE),
                Ok(()) => self.queue.park_until_needed(),
            }
        }
    }

    fn write_all(&mut self) -> Result<(), AuditUnavailable> {
        let written = self.try_write_all();
        written.map_err(|error| unavailable(self.queue.path(), &error))
    }

    fn try_write_all(&mut self) -> io::Result<()> {
        // With a fault standing, an empty queue proves nothing: only a file that opens does.
        if self.queue.has_fault() {
            self.file.settle(0, self.written_head())?;
        }
        while !(self.waiting.is_empty() && self.batch.lines.is_empty()) {
            self.fill();
            self.file.settle(self.batch.bytes.len(), self.written_head())?;
            let taken = self.file.append(&self.batch.bytes)?;
            self.settle_lines(taken);
        }
        Ok(())
    }

    /// Numbers waiting lines until the batch is full.
    fn fill(&mut self) {
        while self.batch.bytes.len() < self.batch_bytes {
            let Some(Finished { slot, oversize }) = self.waiting.pop_front() else { return };
            let seq = self.head.seq + 1;
            self.queue.journal().assign(slot, seq);
            let batch = &mut self.batch;
            batch.body.clear();
            match &oversize {
                Some(body) => batch.body.extend_from_slice(body),
                None => self.queue.journal().read(slot, &mut batch.body),
            }
            let begin = batch.bytes.len();
            let chain = seal(&batch.body, seq, &self.head.chain, &mut batch.bytes);
            self.head = Head { seq, chain };
            batch.lines.push_back(Line { slot, len: batch.bytes.len() - begin, head: self.head });
        }
    }

    /// Frees the slots of the lines that arrived.
    fn settle_lines(&mut self, taken: usize) {
        let mut left = taken;
        let mut freed = Vec::with_capacity(self.batch.lines.len());
        let mut head = None;
        while let Some(line) = self.batch.lines.pop_front_if(|line| line.len <= left) {
            left -= line.len;
            head = Some(line.head);
            freed.push(line.slot);
        }
        self.batch.bytes.drain(..taken);
        // The head before the slots: a slot that is still in use is then known to have arrived.
        if let Some(head) = head {
            self.queue.journal().set_head(head);
        }
        self.queue.release(freed);
    }

    /// Where the file itself stands.
    fn written_head(&self) -> Head {
        self.queue.journal().head()
    }

    /// Everything is written, or the journal keeps it.
    fn finish(&self, outcome: Result<(), AuditUnavailable>) -> Result<(), AuditUnavailable> {
        let synced = outcome.and_then(|()| self.file.sync().map_err(|error| unavailable(self.queue.path(), &error)));
        if let Err(error) = &synced {
            let owed = self.waiting.len() + self.batch.lines.len();
            tracing::error!(%error, owed, "the audit log is not complete; the journal keeps what it lacks");
        }
        synced
    }
}

impl Drop for Writer {
    /// Also when the thread panics: nothing must be accepted that nobody writes.
    fn drop(&mut self) {
        self.queue.end();
    }
}

fn unavailable(path: &std::path::Path, error: &io::Error) -> AuditUnavailable {
    AuditUnavailable(format!("`{}`: {error}", path.display()))
}

/// Every awakening takes a core from a request, so under load the thread is called when a batch is full; the pause only
/// bounds how long a quiet log's reader waits.
const BATCH_PAUSE: Duration = Duration::from_millis(50);
/// After a tenth of a second without work the thread sleeps until it is woken.
const IDLE_ROUNDS: u32 = 2;
const RETRY_PAUSE: Duration = Duration::from_millis(250);
const BATCH_BYTES: usize = 128 * 1024;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::audit::AuditLog;
    use crate::audit::journal::Journal;
    use crate::audit::recover::{Recovered, recover};
    use crate::audit::tests::{assert_whole, ids, leave_behind, options};

    /// A writer on the log in `dir` that owes what is left behind there, as far as `owes` says.
    fn writer(dir: &TempDir, owes: usize) -> Writer {
        let options = options(dir.path());
        let journal = Journal::open(&options.journal).unwrap();
        let Recovered { head, mut owed } = recover(&options, &journal).unwrap();
        owed.truncate(owes);
        let queue = Arc::new(Queue::new(options.path.clone(), journal, owed));
        let mut writer = Writer::new(options, queue, head).unwrap();
        writer.waiting.extend(writer.queue.take().finished);
        writer
    }

    #[test]
    fn a_death_between_the_write_and_its_notes_doubles_nothing() {
        let dir = TempDir::new().unwrap();
        leave_behind(dir.path(), &[("a", true, 0), ("b", false, 0), ("c", true, 0)]);
        let mut dying = writer(&dir, 3);
        dying.fill();
        let whole = dying.batch.lines.iter().take(2).map(|line| line.len).sum::<usize>();
        dying.file.append(&dying.batch.bytes[..whole]).unwrap();
        drop(dying);
        drop(AuditLog::open(options(dir.path())).unwrap());
        assert_eq!(ids(dir.path()), ["a", "b", "c"]);
        assert_whole(dir.path());
    }

    #[test]
    fn a_number_of_an_earlier_run_proves_nothing() {
        let dir = TempDir::new().unwrap();
        leave_behind(dir.path(), &[("a", true, 2), ("b", true, 1)]);
        let mut dying = writer(&dir, 1);
        dying.write_all().unwrap();
        drop(dying);
        assert_eq!(ids(dir.path()), ["a"]);
        drop(AuditLog::open(options(dir.path())).unwrap());
        assert_eq!(ids(dir.path()), ["a", "b"]);
        assert_whole(dir.path());
    }
}
