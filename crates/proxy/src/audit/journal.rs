//! The crash journal: a file mapped into memory that holds the intent of every request under way.
//!
//! Storing an intent is a copy into shared pages, not a system call, and the kernel keeps those pages when the process
//! is killed. The next start finds each slot either free, holding an intent, or holding an outcome the log may lack.
//!
//! ```text
//! page 0         magic, slots, turn, two copies of the head (the one not in turn is being written)
//! states         one u64 per slot: number << 2 | content
//! slots          intent length, outcome length, tally, intent, outcome
//! ```

use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use clauderon_core::audit::{Chain, Head, Tally, complete};
use rustix::fs::{FallocateFlags, FlockOperation};
use vm_memory::bitmap::BitmapSlice;
use vm_memory::{FileOffset, MmapRegion, VolatileMemory, VolatileSlice};

use super::AuditError;

/// The mapped journal of one log; its file stays locked as long as this lives.
pub(super) struct Journal {
    map: MmapRegion,
}

/// A slot's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot(u32);

/// What a slot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// Nothing.
    Free,
    /// The line to write if nothing more is heard of the request.
    Intent,
    /// The finished line's body.
    Outcome,
    /// The intent, and the tally that completes it.
    Tally,
}

impl Journal {
    /// Maps the journal at `path` and locks it; one that is missing or unusable is made anew.
    pub(super) fn open(path: &Path) -> Result<Self, AuditError> {
        let failed = |source| AuditError::Journal { path: path.into(), source };
        let mut file = open_locked(path)?;
        if !is_usable(&file).map_err(failed)? {
            if file.metadata().map_err(failed)?.len() != 0 {
                let path = path.display();
                tracing::warn!(%path, "the audit journal is not readable and is made anew; requests cut off before are lost");
            }
            lay_out(&mut file).map_err(failed)?;
        }
        let map = MmapRegion::from_file(FileOffset::new(file, 0), FILE_BYTES);
        Ok(Self { map: map.map_err(|error| failed(io::Error::other(error)))? })
    }

    /// Where the log stood after the last batch.
    pub(super) fn head(&self) -> Head {
        let turn = self.cell(TURN).load(Ordering::Acquire);
        let mut page = [0; HEAD_BYTES];
        self.part(head_at(turn), HEAD_BYTES).copy_to(&mut page);
        decode_head(&page).unwrap_or(Head::GENESIS)
    }

    /// Notes where the log stands; a death in between leaves the previous head in force.
    pub(super) fn set_head(&self, head: Head) {
        let turn = self.cell(TURN).load(Ordering::Relaxed).wrapping_add(1);
        self.part(head_at(turn), HEAD_BYTES).copy_from(&encode_head(head));
        self.cell(TURN).store(turn, Ordering::Release);
    }

    /// Stores an intent; `false` if it does not fit.
    pub(super) fn store_intent(&self, slot: Slot, body: &[u8]) -> bool {
        let fits = self.store(slot, 0, [body.len(), 0], body);
        if fits {
            self.state(slot).store(tag(0, Content::Intent), Ordering::Release);
        }
        fits
    }

    /// Stores a finished body beside the intent, if there is room; `false` leaves the intent in force.
    pub(super) fn store_outcome(&self, slot: Slot, body: &[u8]) -> bool {
        let intent = match self.content(slot) {
            Content::Free => 0,
            Content::Intent | Content::Outcome | Content::Tally => self.lengths(slot)[0],
        };
        let fits = self.store(slot, intent, [intent, body.len()], body);
        if fits {
            self.state(slot).store(tag(0, Content::Outcome), Ordering::Release);
        }
        fits
    }

    /// Stores what completes the slot's intent: one cache line instead of a second body.
    pub(super) fn store_tally(&self, slot: Slot, tally: &Tally) {
        let cells = encode_tally(tally).into_iter().enumerate();
        cells.for_each(|(at, cell)| self.cell(slot.at() + LENGTHS_BYTES + at * 8).store(cell, Ordering::Relaxed));
        self.state(slot).store(tag(0, Content::Tally), Ordering::Release);
    }

    /// Appends the slot's body to `out`: the outcome if there is one, else the intent.
    pub(super) fn read(&self, slot: Slot, out: &mut Vec<u8>) {
        let [intent, outcome] = self.lengths(slot);
        match self.content(slot) {
            Content::Free => {}
            Content::Intent => self.read_part(slot, 0, intent, out),
            Content::Outcome => self.read_part(slot, intent, outcome, out),
            Content::Tally => {
                let mut body = Vec::with_capacity(intent);
                self.read_part(slot, 0, intent, &mut body);
                // What no longer is an intent reads as nothing, which the start takes for damage.
                complete(&body, &self.tally(slot), out);
            }
        }
    }

    fn read_part(&self, slot: Slot, at: usize, len: usize, out: &mut Vec<u8>) {
        if at + len <= BODY_BYTES {
            let begin = out.len();
            out.resize(begin + len, 0);
            self.part(slot.at() + HEADER_BYTES + at, len).copy_to(out.get_mut(begin..).unwrap_or_default());
        }
    }

    fn tally(&self, slot: Slot) -> Tally {
        let cell = |at| self.cell(slot.at() + LENGTHS_BYTES + at * 8).load(Ordering::Relaxed);
        decode_tally(std::array::from_fn(cell))
    }

    /// Notes the number under which the slot's line is about to be written; 0 takes it back.
    pub(super) fn assign(&self, slot: Slot, seq: u64) {
        let content = self.content(slot);
        if content != Content::Free {
            self.state(slot).store(tag(seq, content), Ordering::Release);
        }
    }

    /// Frees the slot.
    pub(super) fn clear(&self, slot: Slot) {
        self.state(slot).store(tag(0, Content::Free), Ordering::Release);
    }

    /// What the slot holds.
    pub(super) fn content(&self, slot: Slot) -> Content {
        match self.state(slot).load(Ordering::Acquire) & CONTENT_MASK {
            0 => Content::Free,
            1 => Content::Intent,
            2 => Content::Outcome,
            _ => Content::Tally,
        }
    }

    /// Every slot in use, with the number assigned to it (0 if none).
    pub(super) fn leftovers(&self) -> Vec<(Slot, u64)> {
        let in_use = |slot: &Slot| self.content(*slot) != Content::Free;
        let with_seq = |slot: Slot| (slot, self.state(slot).load(Ordering::Acquire) >> CONTENT_BITS);
        (0..SLOTS).map(Slot).filter(in_use).map(with_seq).collect()
    }

    fn store(&self, slot: Slot, at: usize, lengths: [usize; 2], body: &[u8]) -> bool {
        if at + body.len() > BODY_BYTES {
            return false;
        }
        let [intent, outcome] = lengths.map(|len| u32::try_from(len).unwrap_or_default());
        self.part(slot.at() + HEADER_BYTES + at, body.len()).copy_from(body);
        let packed = u64::from(intent) | u64::from(outcome) << 32;
        self.cell(slot.at()).store(packed, Ordering::Release);
        true
    }

    fn lengths(&self, slot: Slot) -> [usize; 2] {
        let packed = self.cell(slot.at()).load(Ordering::Acquire);
        [packed & u64::from(u32::MAX), packed >> 32]
            .map(|len| usize::try_from(len).unwrap_or(usize::MAX / 4).min(BODY_BYTES))
    }

    fn state(&self, slot: Slot) -> &AtomicU64 {
        self.cell(STATES_AT + slot.index() * 8)
    }

    fn cell(&self, at: usize) -> &AtomicU64 {
        self.map.get_atomic_ref(at).expect("every cell lies aligned inside the mapping")
    }

    fn part(&self, at: usize, len: usize) -> VolatileSlice<'_, impl BitmapSlice> {
        self.map.get_slice(at, len).expect("every part lies inside the mapping")
    }
}

impl Drop for Journal {
    /// Unlocks by word: a child process just being started holds a copy of the descriptor, and with it the lock.
    fn drop(&mut self) {
        if let Some(offset) = self.map.file_offset() {
            // The lock goes with the last descriptor at the latest.
            let _unlocked = rustix::fs::flock(offset.file(), FlockOperation::Unlock);
        }
    }
}

impl Slot {
    /// The `index`th slot, if there are so many.
    pub(super) fn nth(index: u32) -> Option<Self> {
        (index < SLOTS).then_some(Self(index))
    }

    /// Counted from 0.
    pub(super) fn number(self) -> u32 {
        self.0
    }

    fn index(self) -> usize {
        self.0 as usize
    }

    fn at(self) -> usize {
        SLOTS_AT + self.index() * SLOT_BYTES
    }
}

/// The head of the journal at `path` without locking it; `None` if there is no usable journal.
pub(super) fn read_head(path: &Path) -> io::Result<Option<Head>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    if !is_usable(&file)? {
        return Ok(None);
    }
    // A daemon may be writing: the copy in turn is whole as long as the turn has not moved on meanwhile.
    for _ in 0..READ_ATTEMPTS {
        let turn = read_cell(&file, TURN as u64)?;
        let mut copy = [0; HEAD_BYTES];
        file.read_exact_at(&mut copy, head_at(turn) as u64)?;
        if read_cell(&file, TURN as u64)? == turn {
            return Ok(decode_head(&copy));
        }
    }
    Ok(None)
}

fn open_locked(path: &Path) -> Result<File, AuditError> {
    let failed = |source| AuditError::Journal { path: path.into(), source };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => return Err(AuditError::InUse { path: path.into() }),
        locked => locked.map_err(|errno| failed(errno.into()))?,
    }
    file.set_permissions(PermissionsExt::from_mode(0o600)).map_err(failed)?;
    Ok(file)
}

fn is_usable(file: &File) -> io::Result<bool> {
    let whole = file.metadata()?.len() == FILE_BYTES as u64;
    Ok(whole && read_cell(file, 0)? == MAGIC && read_cell(file, 8)? == u64::from(SLOTS))
}

fn lay_out(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    // Blocks must exist before they are mapped: storing to a page the full disk cannot back would kill the daemon.
    match rustix::fs::fallocate(&*file, FallocateFlags::empty(), 0, FILE_BYTES as u64) {
        Err(rustix::io::Errno::OPNOTSUPP) => {
            file.rewind()?;
            io::copy(&mut io::Read::take(io::repeat(0), FILE_BYTES as u64), file)?;
        }
        allocated => allocated?,
    }
    file.write_all_at(&encode_head(Head::GENESIS), head_at(0) as u64)?;
    file.write_all_at(&u64::from(SLOTS).to_ne_bytes(), 8)?;
    // Last, so that a layout cut short is not taken for one.
    file.write_all_at(&MAGIC.to_ne_bytes(), 0)
}

fn read_cell(file: &File, at: u64) -> io::Result<u64> {
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, at)?;
    Ok(u64::from_ne_bytes(bytes))
}

fn encode_head(head: Head) -> [u8; HEAD_BYTES] {
    let mut bytes = [0; HEAD_BYTES];
    let (seq, chain) = bytes.split_at_mut(8);
    seq.copy_from_slice(&head.seq.to_ne_bytes());
    chain.copy_from_slice(head.chain.as_str().as_bytes());
    bytes
}

fn decode_head(bytes: &[u8; HEAD_BYTES]) -> Option<Head> {
    let (seq, chain) = bytes.split_first_chunk::<8>()?;
    let chain = Chain::parse(str::from_utf8(chain).ok()?).ok()?;
    Some(Head { seq: u64::from_ne_bytes(*seq), chain })
}

fn encode_tally(tally: &Tally) -> [u64; TALLY_CELLS] {
    // No status is 0, so 0 stands for none.
    let code = tally.response_code.map_or(0, u64::from);
    [code, tally.duration_ms, tally.request_bytes, tally.response_bytes, tally.redactions]
}

fn decode_tally([code, duration_ms, request_bytes, response_bytes, redactions]: [u64; TALLY_CELLS]) -> Tally {
    let response_code = u16::try_from(code).ok().filter(|code| *code != 0);
    Tally { response_code, duration_ms, request_bytes, response_bytes, redactions }
}

const fn tag(seq: u64, content: Content) -> u64 {
    let content = match content {
        Content::Free => 0,
        Content::Intent => 1,
        Content::Outcome => 2,
        Content::Tally => 3,
    };
    seq << CONTENT_BITS | content
}

const fn head_at(turn: u64) -> usize {
    if turn.is_multiple_of(2) { 64 } else { 192 }
}

/// Layout 2, in the machine's own byte order: a journal never leaves its machine.
const MAGIC: u64 = u64::from_ne_bytes(*b"auditj02");
const TURN: usize = 16;
const HEAD_BYTES: usize = 72;
const READ_ATTEMPTS: usize = 1000;

/// More requests than this at once are refused; enough for every permitted connection and then some streams.
const SLOTS: u32 = 8192;
const CONTENT_BITS: u32 = 2;
const CONTENT_MASK: u64 = 3;

/// States lie apart from the slots, so that a start reads 64 KiB and not the whole file.
const STATES_AT: usize = 4096;
const SLOTS_AT: usize = STATES_AT + SLOTS as usize * 8;
/// A usual intent and its outcome fit side by side. No power of two: the slots' beginnings would share a few cache sets.
const SLOT_BYTES: usize = 2048 + 64;
const LENGTHS_BYTES: usize = 8;
const TALLY_CELLS: usize = 5;
/// The lengths and the tally: one cache line.
const HEADER_BYTES: usize = 64;
const BODY_BYTES: usize = SLOT_BYTES - HEADER_BYTES;
const FILE_BYTES: usize = SLOTS_AT + SLOTS as usize * SLOT_BYTES;
