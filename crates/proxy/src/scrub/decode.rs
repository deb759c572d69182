//! Taking content codings off, a bounded piece at a time (RFC 1950-1952, 7932, 8878).

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use bytes::{Buf, Bytes};
use flate2::{Decompress, FlushDecompress, Status};
use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

use super::codings::Coding;

/// Takes a message's codings off. Feed it, then step until it is hungry.
pub(crate) struct Decoder {
    /// In the order they are taken off: the last applied first.
    stages: Vec<Stage>,
    buffer: Vec<u8>,
    fed: u64,
    given: u64,
}

/// What one step led to.
#[derive(Debug)]
pub(crate) enum Step {
    /// Decoded bytes.
    Data(Bytes),
    /// None yet; there is more to do.
    Working,
    /// Everything fed so far is decoded.
    Hungry,
}

/// Why a body cannot be decoded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Undecodable {
    #[error("its body is not in the content coding it names ({0:?})")]
    Corrupt(Coding),
    #[error("its encoded body ends early ({0:?})")]
    Truncated(Coding),
    #[error("its body would grow beyond {MAX_RATIO} times its encoded size")]
    Bomb,
}

impl Decoder {
    /// A decoder for `codings` in the order they were applied.
    pub(crate) fn new(codings: &[Coding]) -> Self {
        let stages = codings.iter().rev().map(|coding| Stage::new(*coding)).collect();
        Self { stages, buffer: vec![0; OUTPUT], fed: 0, given: 0 }
    }

    /// Takes encoded bytes; only when hungry.
    pub(crate) fn feed(&mut self, data: Bytes) {
        self.fed += data.len() as u64;
        if let Some(first) = self.stages.first_mut() {
            first.input = data;
        }
    }

    /// Decodes a little further.
    pub(crate) fn step(&mut self) -> Result<Step, Undecodable> {
        let step = pull(&mut self.stages, &mut self.buffer)?;
        if let Step::Data(data) = &step {
            self.given += data.len() as u64;
            if self.given > FREE_OUTPUT && self.given / MAX_RATIO > self.fed {
                return Err(Undecodable::Bomb);
            }
        }
        Ok(step)
    }

    /// Whether the body is complete; a body without any bytes is.
    pub(crate) fn finish(&self) -> Result<(), Undecodable> {
        match self.stages.iter().find(|stage| !stage.at_end) {
            Some(open) if self.fed > 0 => Err(Undecodable::Truncated(open.coding)),
            _ => Ok(()),
        }
    }
}

/// One step of the last stage that has something to do.
fn pull(stages: &mut [Stage], buffer: &mut [u8]) -> Result<Step, Undecodable> {
    let Some((last, before)) = stages.split_last_mut() else { return Ok(Step::Hungry) };
    if last.input.is_empty() && !last.has_work {
        match pull(before, buffer)? {
            Step::Data(data) => last.input = data,
            idle => return Ok(idle),
        }
    }
    Ok(match last.step(buffer)? {
        // Whether the stages before it are done, only they know.
        Step::Hungry if !before.is_empty() => Step::Working,
        step => step,
    })
}

/// One coding being taken off.
struct Stage {
    coding: Coding,
    codec: Codec,
    input: Bytes,
    /// The output was full: there may be more without more input.
    has_work: bool,
    /// The encoded stream may end here.
    at_end: bool,
}

enum Codec {
    Zlib(Decompress),
    /// RFC 9110 § 8.4.1.2: meant is the zlib format, but some send bare deflate data; the first bytes tell.
    Undetermined(Vec<u8>),
    Brotli(Box<BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>>),
    Zstd(DCtx<'static>),
    /// The stream has ended; whatever follows belongs to nothing.
    Ended,
}

/// What one call of a codec did.
struct Done {
    used: usize,
    written: usize,
    ended: bool,
}

impl Stage {
    fn new(coding: Coding) -> Self {
        Self { coding, codec: Codec::new(coding), input: Bytes::new(), has_work: false, at_end: false }
    }

    fn step(&mut self, buffer: &mut [u8]) -> Result<Step, Undecodable> {
        self.resume();
        let Done { used, written, ended } =
            self.codec.run(&self.input, buffer).ok_or(Undecodable::Corrupt(self.coding))?;
        let stuck = used == 0 && written == 0 && !ended && !self.input.is_empty();
        if stuck && !self.has_work {
            return Err(Undecodable::Corrupt(self.coding));
        }
        self.input.advance(used);
        self.has_work = written == buffer.len() && !ended;
        if used > 0 || written > 0 || ended {
            self.at_end = ended;
        }
        Ok(match written {
            0 if self.input.is_empty() => Step::Hungry,
            0 => Step::Working,
            n => Step::Data(Bytes::copy_from_slice(buffer.get(..n).unwrap_or_default())),
        })
    }

    /// After the end of a gzip member another may begin (RFC 1952 § 2.2); zstd sees to its frames itself.
    fn resume(&mut self) {
        if !self.at_end || self.input.is_empty() {
            return;
        }
        match self.coding {
            Coding::Gzip if self.input.first() == Some(&0x1f) => self.codec = Codec::new(Coding::Gzip),
            Coding::Zstd => {}
            Coding::Gzip | Coding::Deflate | Coding::Brotli => self.codec = Codec::Ended,
        }
    }
}

impl Codec {
    fn new(coding: Coding) -> Self {
        match coding {
            Coding::Gzip => Self::Zlib(Decompress::new_gzip(15)),
            Coding::Deflate => Self::Undetermined(Vec::new()),
            Coding::Brotli => {
                let alloc = StandardAlloc::default;
                Self::Brotli(Box::new(BrotliState::new_strict(alloc(), alloc(), alloc())))
            }
            Coding::Zstd => {
                let mut context = DCtx::create();
                // RFC 9659: more may not be asked of a recipient over HTTP.
                let bounded = context.set_parameter(DParameter::WindowLogMax(23));
                bounded.map_or(Self::Ended, |_| Self::Zstd(context))
            }
        }
    }

    /// Decodes some of `input` into `output`; `None` when it is not what it says.
    fn run(&mut self, input: &[u8], output: &mut [u8]) -> Option<Done> {
        match self {
            Self::Zlib(inflate) => run_inflate(inflate, input, output),
            Self::Undetermined(begun) => {
                let (missing, rest) = input.split_at(input.len().min(2 - begun.len().min(2)));
                begun.extend_from_slice(missing);
                let [first, second] = begun[..] else {
                    return Some(Done { used: input.len() - rest.len(), written: 0, ended: false });
                };
                let is_zlib = first & 0xf == 8 && u16::from_be_bytes([first, second]) % 31 == 0;
                let mut inflate = Decompress::new(is_zlib);
                let done = run_inflate(&mut inflate, &[first, second], output)?;
                *self = Self::Zlib(inflate);
                Some(Done { used: missing.len(), ..done })
            }
            Self::Brotli(state) => run_brotli(state, input, output),
            Self::Zstd(context) => run_zstd(context, input, output),
            Self::Ended => Some(Done { used: input.len(), written: 0, ended: true }),
        }
    }
}

fn run_inflate(inflate: &mut Decompress, input: &[u8], output: &mut [u8]) -> Option<Done> {
    let (used, written) = (inflate.total_in(), inflate.total_out());
    let status = inflate.decompress(input, output, FlushDecompress::Sync).ok()?;
    let used = usize::try_from(inflate.total_in() - used).ok()?;
    let written = usize::try_from(inflate.total_out() - written).ok()?;
    Some(Done { used, written, ended: status == Status::StreamEnd })
}

fn run_brotli(
    state: &mut BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>,
    input: &[u8],
    output: &mut [u8],
) -> Option<Done> {
    let (mut left, mut used, mut room, mut written, mut total) = (input.len(), 0, output.len(), 0, 0);
    let result =
        BrotliDecompressStream(&mut left, &mut used, input, &mut room, &mut written, output, &mut total, state);
    let ended = match result {
        BrotliResult::ResultFailure => return None,
        BrotliResult::ResultSuccess => true,
        BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => false,
    };
    Some(Done { used, written, ended })
}

fn run_zstd(context: &mut DCtx<'static>, input: &[u8], output: &mut [u8]) -> Option<Done> {
    let mut from = InBuffer::around(input);
    let mut to = OutBuffer::around(output);
    let more = context.decompress_stream(&mut to, &mut from).ok()?;
    Some(Done { used: from.pos(), written: to.pos(), ended: more == 0 })
}

/// One step's output: what a stage holds besides its window.
const OUTPUT: usize = 16 * 1024;

/// Text shrinks to a tenth, the dullest logs to a hundredth; beyond this it is not meant to be read.
const MAX_RATIO: u64 = 256;
/// Until then nobody is hurt.
const FREE_OUTPUT: u64 = 16 * 1024 * 1024;
