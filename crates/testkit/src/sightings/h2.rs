//! HTTP/2 (RFC 9113) read again from a connection's bytes: fields out of HPACK, bodies out of DATA frames.

use std::collections::BTreeMap;

use loona_hpack::Decoder;

use super::coding;
use super::transcript::Message;

/// What a client sends first.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Every message, stream by stream, of what a server sent; panics where field sections cannot be read.
pub(super) fn messages(received: &[u8]) -> Vec<Message> {
    let mut reader = Reader::default();
    let mut rest = received;
    while let Some((frame, after)) = Frame::read(rest) {
        reader.take(&frame);
        rest = after;
    }
    reader.streams.into_values().collect()
}

struct Frame<'a> {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: &'a [u8],
}

impl<'a> Frame<'a> {
    fn read(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let [a, b, c, kind, flags, stream @ ..] = bytes else { return None };
        let (stream, payload) = stream.split_first_chunk::<4>()?;
        let len = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        let (payload, after) = payload.split_at_checked(len)?;
        let stream = u32::from_be_bytes(*stream) & 0x7fff_ffff;
        Some((Self { kind: *kind, flags: *flags, stream, payload }, after))
    }

    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The payload without padding and, in HEADERS, without priority.
    fn content(&self) -> &'a [u8] {
        let (padding, content) = match self.payload.split_first() {
            Some((padding, content)) if self.has(PADDED) => (usize::from(*padding), content),
            _ => (0, self.payload),
        };
        let content = content.get(..content.len().saturating_sub(padding)).unwrap_or_default();
        let skipped = if self.kind == HEADERS && self.has(PRIORITY) { 5 } else { 0 };
        content.get(skipped..).unwrap_or_default()
    }
}

struct Reader {
    decoder: Decoder<'static>,
    block: Vec<u8>,
    streams: BTreeMap<u32, Message>,
}

impl Default for Reader {
    fn default() -> Self {
        let mut decoder = Decoder::new();
        // Clients may allow more than the default; the limit is theirs to set, not ours to enforce.
        decoder.set_max_allowed_table_size(1 << 20);
        Self { decoder, block: Vec::new(), streams: BTreeMap::new() }
    }
}

impl Reader {
    fn take(&mut self, frame: &Frame<'_>) {
        match frame.kind {
            DATA => self.streams.entry(frame.stream).or_default().body.extend_from_slice(frame.content()),
            HEADERS => self.section(frame, frame.content()),
            CONTINUATION => self.section(frame, frame.payload),
            _ => {}
        }
    }

    fn section(&mut self, frame: &Frame<'_>, piece: &[u8]) {
        self.block.extend_from_slice(piece);
        if !frame.has(END_HEADERS) {
            return;
        }
        let fields =
            self.decoder.decode(&std::mem::take(&mut self.block)).expect("the daemon's field sections are read");
        let message = self.streams.entry(frame.stream).or_default();
        for (name, value) in fields {
            if name == b"content-encoding" {
                message.codings = coding::names(&String::from_utf8_lossy(&value));
            }
            message.fields.extend([name.as_slice(), b": ", value.as_slice(), b"\n"].concat());
        }
    }
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
