//! What requests and the writer thread share: the slots, the finished lines, and whether the log can be written.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::Instant;

use arc_swap::ArcSwapOption;
use tokio::sync::oneshot;

use super::AuditUnavailable;
use super::journal::{Content, Journal, Slot};

/// Bounded by the journal's slots: no slot, no request.
pub(super) struct Queue {
    path: PathBuf,
    journal: Journal,
    state: Mutex<State>,
    fault: ArcSwapOption<AuditUnavailable>,
    /// The writer's thread, and whether it must be woken.
    writer: OnceLock<Thread>,
    parked: AtomicBool,
    begun: Instant,
    next_look_ms: AtomicU64,
}

/// Held for a push or a pop only, hence a plain mutex.
struct State {
    /// Last freed, first used: few pages of the journal are ever touched.
    free: Vec<Slot>,
    /// Slots from here on were never used.
    fresh: u32,
    orders: Orders,
    /// The writer has taken its last orders.
    ended: bool,
}

/// What the writer has to do.
#[derive(Default)]
pub(super) struct Orders {
    pub(super) finished: Vec<Finished>,
    pub(super) syncs: Vec<oneshot::Sender<Result<(), AuditUnavailable>>>,
    pub(super) closing: bool,
}

/// A line to be written: the slot's content, or a body too long for it.
pub(super) struct Finished {
    pub(super) slot: Slot,
    pub(super) oversize: Option<Box<[u8]>>,
}

impl Queue {
    /// A queue over `journal`; the slots in `owed` are finished already.
    pub(super) fn new(path: PathBuf, journal: Journal, owed: Vec<Slot>) -> Self {
        // Leftovers are few: everything up to the last one goes onto the free list, the rest counts as fresh.
        let fresh = owed.iter().map(|slot| slot.number() + 1).max().unwrap_or(0);
        let unused = |slot: &Slot| journal.content(*slot) == Content::Free;
        let free = (0..fresh).filter_map(Slot::nth).filter(unused).collect();
        let finished = owed.into_iter().map(|slot| Finished { slot, oversize: None }).collect();
        Self {
            path,
            journal,
            state: Mutex::new(State { free, fresh, orders: Orders { finished, ..Orders::default() }, ended: false }),
            fault: ArcSwapOption::empty(),
            writer: OnceLock::new(),
            parked: AtomicBool::new(false),
            begun: Instant::now(),
            next_look_ms: AtomicU64::new(0),
        }
    }

    /// Whether a record made `now` will find its way into the log.
    pub(super) fn check(&self, now: Instant) -> Result<(), AuditUnavailable> {
        match self.fault.load().as_deref() {
            Some(fault) => Err(fault.clone()),
            None => self.look_at_space(now),
        }
    }

    /// A slot for a request.
    pub(super) fn slot(&self) -> Result<Slot, AuditUnavailable> {
        let mut state = self.lock();
        if let Some(slot) = state.free.pop() {
            return Ok(slot);
        }
        let slot = Slot::nth(state.fresh).ok_or_else(|| AuditUnavailable("too many requests at once".into()))?;
        state.fresh += 1;
        Ok(slot)
    }

    /// Gives slots back.
    pub(super) fn release(&self, slots: Vec<Slot>) {
        slots.iter().for_each(|slot| self.journal.clear(*slot));
        self.lock().free.extend(slots);
    }

    /// Hands a finished line to the writer.
    pub(super) fn push(&self, finished: Finished) {
        let mut state = self.lock();
        state.orders.finished.push(finished);
        let full = state.orders.finished.len() == FULL_BATCH;
        drop(state);
        if full {
            return self.wake();
        }
        if self.parked.load(Ordering::SeqCst) && self.parked.swap(false, Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Asks the writer to answer once everything pushed so far is written; a writer that has ended gives no answer.
    pub(super) fn order_sync(&self, closing: bool) -> oneshot::Receiver<Result<(), AuditUnavailable>> {
        let (answer, written) = oneshot::channel();
        let mut state = self.lock();
        if !state.ended {
            state.orders.syncs.push(answer);
            state.orders.closing |= closing;
        }
        drop(state);
        self.wake();
        written
    }

    /// Everything there is to do. Orders to close are the last ones.
    pub(super) fn take(&self) -> Orders {
        let mut state = self.lock();
        state.ended |= state.orders.closing;
        std::mem::take(&mut state.orders)
    }

    /// Sleeps until something is pushed or ordered.
    pub(super) fn park_until_needed(&self) {
        self.parked.store(true, Ordering::SeqCst);
        // Whoever pushed before the flag was up did not see it: look once more.
        if self.lock().orders.is_empty() {
            thread::park();
        }
        self.parked.store(false, Ordering::SeqCst);
    }

    /// Names the thread to wake.
    pub(super) fn set_writer(&self, thread: Thread) {
        let _first = self.writer.set(thread);
    }

    /// Says that the log cannot be written, or that it can again.
    pub(super) fn set_fault(&self, fault: Option<AuditUnavailable>) {
        match (self.has_fault(), &fault) {
            (false, Some(fault)) => tracing::error!(error = %fault, "requests are refused"),
            (true, None) => tracing::info!("the audit log can be written again"),
            (false, None) => return,
            (true, Some(_)) => {}
        }
        self.fault.store(fault.map(Into::into));
    }

    /// Refuses from now on: there is no writer any more.
    pub(super) fn end(&self) {
        self.lock().ended = true;
        self.fault.store(Some(AuditUnavailable("the daemon is stopping".into()).into()));
    }

    /// Whether the log could not be written when last tried.
    pub(super) fn has_fault(&self) -> bool {
        self.fault.load().is_some()
    }

    /// The slots.
    pub(super) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The log's path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Refuses while the disk is full, which a quiet log would otherwise learn only after the next request has gone out.
    fn look_at_space(&self, now: Instant) -> Result<(), AuditUnavailable> {
        let now = u64::try_from(now.duration_since(self.begun).as_millis()).unwrap_or(u64::MAX);
        if now < self.next_look_ms.load(Ordering::Relaxed) {
            return Ok(());
        }
        // Whatever else is wrong with the file system shows when the writer writes.
        let Ok(disk) = rustix::fs::statvfs(&self.path) else { return Ok(()) };
        let blocks = if rustix::process::geteuid().is_root() { disk.f_bfree } else { disk.f_bavail };
        if disk.f_blocks > 0 && blocks.saturating_mul(disk.f_frsize) < LEAST_SPACE_BYTES {
            return Err(AuditUnavailable(format!("`{}`: no space left on the device", self.path.display())));
        }
        self.next_look_ms.store(now + LOOK_EVERY_MS, Ordering::Relaxed);
        Ok(())
    }

    fn wake(&self) {
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Orders {
    fn is_empty(&self) -> bool {
        self.finished.is_empty() && self.syncs.is_empty() && !self.closing
    }
}

/// Lines that are worth waking the writer for. More would cost more: their slots would no longer be in the caches when used again.
const FULL_BATCH: usize = 128;
/// One system call a second at most, whatever the load.
const LOOK_EVERY_MS: u64 = 1000;
/// A few lines' worth.
const LEAST_SPACE_BYTES: u64 = 8192;
