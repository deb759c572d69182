//! WebSocket frames from an origin (RFC 6455 § 5.2), scrubbed without putting messages together.
//!
//! A frame of up to [`PIECE`] bytes stays one frame; a longer one becomes fragments, as § 5.4 allows where no extension is in
//! use. A secret is found also where fragments cut it.

use std::io;

use bytes::{Bytes, BytesMut};
use clauderon_core::scrub::Scrubber;

use super::Scrub;

/// Scrubs all that an origin sends after its 101.
pub(crate) struct FrameScrubber {
    scrub: Scrub,
    /// Of the message under way.
    scrubber: Scrubber,
    buffer: BytesMut,
    frame: Option<Frame>,
    /// The message under way has further frames to come.
    unfinished: bool,
    /// What the next frame of the message under way is passed on as: its kind, or a continuation.
    next_opcode: u8,
}

/// What of a frame is still to come.
#[derive(Clone, Copy)]
struct Frame {
    last: bool,
    opcode: u8,
    left: u64,
}

/// Something no origin may send; the connection cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadFrame {
    #[error("the origin sent a masked WebSocket frame")]
    Masked,
    #[error("the origin sent a WebSocket frame of an extension that was not agreed on")]
    Extension,
    #[error("the origin sent a WebSocket frame with a bad length")]
    Length,
    #[error("the origin sent WebSocket frames out of order")]
    Order,
}

impl FrameScrubber {
    pub(crate) fn new(scrub: &Scrub) -> Self {
        Self {
            scrub: scrub.clone(),
            scrubber: scrub.scrubber(),
            buffer: BytesMut::new(),
            frame: None,
            unfinished: false,
            next_opcode: CONTINUATION,
        }
    }

    /// Takes bytes as they arrive and returns the frames they complete.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Vec<u8>, BadFrame> {
        self.buffer.extend_from_slice(bytes);
        let mut out = Vec::with_capacity(self.buffer.len());
        loop {
            let Some(frame) = self.frame else {
                self.frame = match take_head(&mut self.buffer)? {
                    Some(head) => Some(self.admit(head)?),
                    None => return Ok(out),
                };
                continue;
            };
            let piece = usize::try_from(frame.left).unwrap_or(PIECE).min(PIECE);
            if self.buffer.len() < piece {
                return Ok(out);
            }
            let payload = self.buffer.split_to(piece).freeze();
            let left = frame.left - piece as u64;
            self.frame = (left > 0).then_some(Frame { left, ..frame });
            match is_control(frame.opcode) {
                true => self.control(frame.opcode, &payload, &mut out),
                false => self.data(&payload, frame.last && left == 0, &mut out),
            }
        }
    }

    /// Checks that a frame may stand here (RFC 6455 §§ 5.4, 5.5).
    fn admit(&mut self, frame: Frame) -> Result<Frame, BadFrame> {
        match frame.opcode {
            CLOSE..=PONG if frame.last && frame.left <= MAX_CONTROL as u64 => return Ok(frame),
            CLOSE..=PONG => return Err(BadFrame::Length),
            CONTINUATION if self.unfinished => {}
            TEXT | BINARY if !self.unfinished => self.next_opcode = frame.opcode,
            CONTINUATION..=BINARY => return Err(BadFrame::Order),
            _ => return Err(BadFrame::Extension),
        }
        self.unfinished = !frame.last;
        Ok(frame)
    }

    fn data(&mut self, payload: &Bytes, ends_message: bool, out: &mut Vec<u8>) {
        let clean = if ends_message { self.scrubber.finish(payload) } else { self.scrubber.push(payload) };
        self.scrub.count(self.scrubber.take_redactions());
        if clean.is_empty() && !ends_message {
            return;
        }
        write_frame(out, ends_message, self.next_opcode, &clean);
        self.next_opcode = CONTINUATION;
    }

    /// A control frame stands for itself, and is never longer than 125 bytes.
    fn control(&self, opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
        match self.scrub.text(payload) {
            Some(clean) => write_frame(out, true, opcode, cut_to_control(&clean)),
            None => write_frame(out, true, opcode, payload),
        }
    }
}

/// Takes a frame's head off the buffer once it is whole.
fn take_head(buffer: &mut BytesMut) -> Result<Option<Frame>, BadFrame> {
    let [first, second, ..] = buffer[..] else { return Ok(None) };
    if first & 0x70 != 0 {
        return Err(BadFrame::Extension);
    }
    if second & 0x80 != 0 {
        return Err(BadFrame::Masked);
    }
    let (size, least) = match second {
        126 => (2, 126),
        127 => (8, 1 << 16),
        _ => (0, 0),
    };
    let Some(digits) = buffer.get(2..2 + size) else { return Ok(None) };
    let long = digits.iter().fold(0_u64, |length, byte| length << 8 | u64::from(*byte));
    let left = if size == 0 { second.into() } else { long };
    // One length has one spelling, and the highest bit is never set.
    if left < least || left >> 63 != 0 {
        return Err(BadFrame::Length);
    }
    let _ = buffer.split_to(2 + size);
    Ok(Some(Frame { last: first & FIN != 0, opcode: first & 0xf, left }))
}

fn write_frame(out: &mut Vec<u8>, last: bool, opcode: u8, payload: &[u8]) {
    out.push(if last { FIN | opcode } else { opcode });
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short @ ..126), _) => out.push(short),
        (_, Ok(long)) => {
            out.push(126);
            out.extend_from_slice(&long.to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}

/// Cuts a payload that grew; the text after a close code stays UTF-8 (§ 5.5.1).
fn cut_to_control(payload: &[u8]) -> &[u8] {
    let Some(cut) = payload.get(..MAX_CONTROL).filter(|cut| cut.len() < payload.len()) else { return payload };
    let whole = match cut.get(2..).map(std::str::from_utf8) {
        Some(Err(error)) if error.error_len().is_none() => 2 + error.valid_up_to(),
        _ => MAX_CONTROL,
    };
    cut.get(..whole).unwrap_or(cut)
}

fn is_control(opcode: u8) -> bool {
    opcode & 8 != 0
}

impl From<BadFrame> for io::Error {
    fn from(bad: BadFrame) -> Self {
        Self::new(io::ErrorKind::InvalidData, bad)
    }
}

const FIN: u8 = 0x80;
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PONG: u8 = 10;
const MAX_CONTROL: usize = 125;

/// What is put together of a frame at most: memory a connection may take.
const PIECE: usize = 64 * 1024;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use std::sync::Arc;

    use clauderon_core::scrub::Echoes;
    use proptest::prelude::*;

    use super::*;

    const SECRET: &str = "s3cr/t+0123456789";
    const PLACEHOLDER: &str = "placeholder-7f3a9c21-000000";

    fn frames() -> FrameScrubber {
        FrameScrubber::new(&Scrub::new(Arc::new(Echoes::new(SECRET, PLACEHOLDER)), false))
    }

    fn frame(last: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write_frame(&mut out, last, opcode, payload);
        out
    }

    /// All frames of `bytes`: whether last, opcode, payload.
    fn read(bytes: &[u8]) -> Vec<(bool, u8, Vec<u8>)> {
        let (mut buffer, mut all) = (BytesMut::from(bytes), Vec::new());
        while let Some(head) = take_head(&mut buffer).unwrap() {
            let payload = buffer.split_to(usize::try_from(head.left).unwrap());
            all.push((head.last, head.opcode, payload.to_vec()));
        }
        assert!(buffer.is_empty());
        all
    }

    fn in_pieces(bytes: &[u8], step: usize) -> Vec<u8> {
        let mut frames = frames();
        bytes.chunks(step).flat_map(|piece| frames.push(piece).unwrap()).collect()
    }

    #[test]
    fn clean_frames_stay_as_they_are() {
        let bytes = [
            frame(true, TEXT, b"hello"),
            frame(false, BINARY, &[7; 70]),
            frame(true, 9, b"ping"),
            frame(true, CONTINUATION, &[8; 300]),
            frame(true, TEXT, b""),
            frame(true, CLOSE, b"\x03\xe8bye"),
        ]
        .concat();
        for step in 1..bytes.len() {
            assert_eq!(in_pieces(&bytes, step), bytes);
        }
    }

    #[test]
    fn a_secret_is_found_wherever_fragments_and_reads_cut_it() {
        let text = format!("{{\"token\":\"{SECRET}\"}}");
        for cut in 0..text.len() {
            let (first, second) = text.as_bytes().split_at(cut);
            let bytes =
                [frame(false, TEXT, first), frame(true, 9, b"ping"), frame(true, CONTINUATION, second)].concat();
            let whole = in_pieces(&bytes, bytes.len());
            for step in 1..bytes.len() {
                assert_eq!(in_pieces(&bytes, step), whole);
            }
            let read = read(&whole);
            let data: Vec<_> = read.iter().filter(|(_, opcode, _)| !is_control(*opcode)).collect();
            let message: Vec<u8> = data.iter().flat_map(|(_, _, payload)| payload.clone()).collect();
            assert_eq!(String::from_utf8(message).unwrap(), format!("{{\"token\":\"{PLACEHOLDER}\"}}"));
            assert_eq!((data[0].1, data.last().unwrap().0), (TEXT, true));
            assert_eq!(data.iter().filter(|(last, _, _)| *last).count(), 1);
        }
    }

    #[test]
    fn a_secret_does_not_span_messages() {
        let (first, second) = SECRET.as_bytes().split_at(5);
        let bytes = [frame(true, TEXT, first), frame(true, TEXT, second)].concat();
        assert_eq!(in_pieces(&bytes, 3), bytes);
    }

    #[test]
    fn long_frames_become_fragments() {
        let payload = [vec![b'x'; PIECE - 5], SECRET.into(), vec![b'y'; PIECE]].concat();
        let read = read(&in_pieces(&frame(true, BINARY, &payload), 1000));
        let shapes: Vec<(bool, u8)> = read.iter().map(|(last, opcode, _)| (*last, *opcode)).collect();
        assert_eq!(shapes, [(false, BINARY), (false, CONTINUATION), (true, CONTINUATION)]);
        let message: Vec<u8> = read.into_iter().flat_map(|(_, _, payload)| payload).collect();
        assert_eq!(message, [vec![b'x'; PIECE - 5], PLACEHOLDER.into(), vec![b'y'; PIECE]].concat());
    }

    #[test]
    fn control_frames_keep_their_bound() {
        let reason = [&b"\x0f\xa1"[..], SECRET.as_bytes(), "é".repeat(52).as_bytes()].concat();
        let read = read(&in_pieces(&frame(true, CLOSE, &reason), 7));
        let (_, opcode, payload) = &read[0];
        assert!(*opcode == CLOSE && payload.len() <= MAX_CONTROL);
        assert!(std::str::from_utf8(&payload[2..]).unwrap().starts_with(PLACEHOLDER));
    }

    #[test]
    fn what_no_origin_may_send_ends_the_connection() {
        let refused = |bytes: &[u8]| frames().push(bytes).unwrap_err();
        assert_eq!(refused(&[0x81, 0x85]), BadFrame::Masked);
        assert_eq!(refused(&[0xc1, 5]), BadFrame::Extension);
        assert_eq!(refused(&[0x83, 5]), BadFrame::Extension);
        assert_eq!(refused(&[0x8b, 0]), BadFrame::Extension);
        assert_eq!(refused(&[0x80, 5]), BadFrame::Order);
        assert_eq!(refused(&[0x01, 0, 0x81, 0]), BadFrame::Order);
        assert_eq!(refused(&[0x09, 0]), BadFrame::Length);
        assert_eq!(refused(&[0x89, 126, 0, 126]), BadFrame::Length);
        assert_eq!(refused(&[0x81, 126, 0, 125]), BadFrame::Length);
        assert_eq!(refused(&[0x81, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff]), BadFrame::Length);
        assert_eq!(refused(&[0x81, 127, 0x80, 0, 0, 0, 0, 0, 0, 0]), BadFrame::Length);
    }

    proptest! {
        #[test]
        fn any_bytes_are_frames_or_refused(
            bytes in proptest::collection::vec(prop_oneof![Just(0x81_u8), Just(0x01), Just(0x80), Just(0), Just(5), any::<u8>()], 0..300), step in 1_usize..20
        ) {
            let (mut one, mut other) = (frames(), frames());
            let whole = one.push(&bytes);
            let pieces: Result<Vec<Vec<u8>>, BadFrame> = bytes.chunks(step).map(|piece| other.push(piece)).collect();
            prop_assert_eq!(whole.is_ok(), pieces.is_ok());
            if let (Ok(whole), Ok(pieces)) = (whole, pieces) {
                prop_assert_eq!(whole, pieces.concat());
            }
        }
    }
}
