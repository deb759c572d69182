//! HTTP/1 bodies taken out of their framing (RFC 9112 §§ 6, 7), as strictly as their heads.

use bytes::{Bytes, BytesMut};
use clauderon_core::denial::Denial;
use http::HeaderMap;

use super::head::{Framing, malformed, parse_fields};

/// Takes one body out of the bytes that follow its head.
#[derive(Debug)]
pub struct BodyDecoder(State);

/// What the next bytes hold.
#[derive(Debug)]
pub enum Decoded {
    /// Body bytes.
    Data(Bytes),
    /// The trailer fields, after the last chunk.
    Trailers(HeaderMap),
    /// Nothing yet: more bytes are needed.
    More,
    /// The body is complete.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Length(u64),
    UntilClose,
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailers,
    Done,
    /// The framing was violated: where the next message begins can no longer be told.
    Broken,
}

impl BodyDecoder {
    /// A decoder for a body with this framing.
    pub fn new(framing: Framing) -> Self {
        Self(match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(n) => State::Length(n),
            Framing::Chunked => State::ChunkSize,
        })
    }

    /// A decoder for an answer that ends where its connection does.
    pub fn until_close() -> Self {
        Self(State::UntilClose)
    }

    /// Whether the end of input is the end of the body.
    pub fn ends_at_close(&self) -> bool {
        self.0 == State::UntilClose
    }

    /// Whether the whole body has been taken.
    pub fn is_done(&self) -> bool {
        self.0 == State::Done
    }

    /// How many body bytes are still to come, where the framing tells.
    pub fn remaining(&self) -> Option<u64> {
        match self.0 {
            State::Length(n) => Some(n),
            State::Done => Some(0),
            State::UntilClose
            | State::ChunkSize
            | State::ChunkData(_)
            | State::ChunkEnd
            | State::Trailers
            | State::Broken => None,
        }
    }

    /// Takes the next piece off the front of `buffer`. After an error there is only that error: reading on would take
    /// what follows for a message of its own.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Decoded, Denial> {
        let decoded = self.step(buffer);
        if decoded.is_err() {
            self.0 = State::Broken;
        }
        decoded
    }

    fn step(&mut self, buffer: &mut BytesMut) -> Result<Decoded, Denial> {
        loop {
            match self.0 {
                State::Done => return Ok(Decoded::End),
                State::Broken => return Err(malformed("a body that broke its framing")),
                State::Length(left) | State::ChunkData(left) => return Ok(self.data(left, buffer)),
                State::UntilClose if buffer.is_empty() => return Ok(Decoded::More),
                State::UntilClose => return Ok(Decoded::Data(buffer.split().freeze())),
                State::ChunkSize => match take_line(buffer)? {
                    Some(line) => self.0 = chunk_state(parse_chunk_size(&line)?),
                    None => return Ok(Decoded::More),
                },
                State::ChunkEnd => match buffer.get(..2) {
                    Some(b"\r\n") => {
                        let _ = buffer.split_to(2);
                        self.0 = State::ChunkSize;
                    }
                    Some(_) => return Err(malformed("a chunk that is longer than its size")),
                    None if buffer.first().is_some_and(|b| *b != b'\r') => {
                        return Err(malformed("a chunk that is longer than its size"));
                    }
                    None => return Ok(Decoded::More),
                },
                State::Trailers => return self.trailers(buffer),
            }
        }
    }

    fn data(&mut self, left: u64, buffer: &mut BytesMut) -> Decoded {
        if buffer.is_empty() {
            return Decoded::More;
        }
        let n = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let rest = left - n as u64;
        self.0 = match (self.0, rest) {
            (State::ChunkData(_), 0) => State::ChunkEnd,
            (State::ChunkData(_), rest) => State::ChunkData(rest),
            (_, 0) => State::Done,
            (_, rest) => State::Length(rest),
        };
        Decoded::Data(buffer.split_to(n).freeze())
    }

    fn trailers(&mut self, buffer: &mut BytesMut) -> Result<Decoded, Denial> {
        if buffer.starts_with(b"\r\n") {
            let _ = buffer.split_to(2);
            self.0 = State::Done;
            return Ok(Decoded::End);
        }
        let end = memchr::memmem::find(buffer, b"\r\n\r\n").map(|at| at + 4);
        if end.unwrap_or(buffer.len()) > MAX_TRAILER_BYTES {
            return Err(malformed("trailers beyond 8 KiB"));
        }
        let Some(end) = end else { return Ok(Decoded::More) };
        let block = buffer.split_to(end).freeze();
        self.0 = State::Done;
        parse_trailers(&block).map(Decoded::Trailers)
    }
}

fn chunk_state(size: u64) -> State {
    if size == 0 { State::Trailers } else { State::ChunkData(size) }
}

/// A line up to its CRLF, which is taken off but not returned. LF alone ends no line.
fn take_line(buffer: &mut BytesMut) -> Result<Option<Bytes>, Denial> {
    let Some(lf) = memchr::memchr(b'\n', buffer) else {
        let bare_cr = memchr::memchr(b'\r', buffer).is_some_and(|at| at + 1 < buffer.len());
        // One byte more may be the CR of a line as long as is allowed.
        return if bare_cr || buffer.len() > MAX_CHUNK_LINE + 1 {
            Err(malformed("a bad chunk size line"))
        } else {
            Ok(None)
        };
    };
    let line = buffer.split_to(lf + 1).freeze();
    let text = line.strip_suffix(b"\r\n").ok_or_else(|| malformed("a chunk size line that ends in LF without CR"))?;
    if text.len() > MAX_CHUNK_LINE || text.contains(&b'\r') || text.contains(&0) {
        return Err(malformed("a bad chunk size line"));
    }
    Ok(Some(line.slice_ref(text)))
}

/// Hexadecimal digits, then nothing or an extension, which a recipient must ignore (RFC 9112 § 7.1.1) and we drop.
fn parse_chunk_size(line: &[u8]) -> Result<u64, Denial> {
    let end = line.iter().position(|b| !b.is_ascii_hexdigit()).unwrap_or(line.len());
    let (digits, rest) = line.split_at(end);
    let extension = rest.is_empty() || rest.first() == Some(&b';');
    let size = std::str::from_utf8(digits).ok().filter(|d| (1..=15).contains(&d.len()));
    let size = size.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    size.filter(|_| extension).ok_or_else(|| malformed("a chunk size that is no plain hexadecimal number"))
}

fn parse_trailers(block: &Bytes) -> Result<HeaderMap, Denial> {
    if memchr::memchr_iter(b'\n', block).any(|at| at == 0 || block.get(at - 1) != Some(&b'\r')) {
        return Err(malformed("a trailer line that ends in LF without CR"));
    }
    let mut slots = [httparse::EMPTY_HEADER; MAX_TRAILERS];
    let Ok(httparse::Status::Complete((_, fields))) = httparse::parse_headers(block, &mut slots) else {
        return Err(malformed("bad trailers"));
    };
    parse_fields(block, fields)
}

/// Room for sixteen digits and an extension nobody has a use for.
const MAX_CHUNK_LINE: usize = 256;
const MAX_TRAILER_BYTES: usize = 8 * 1024;
const MAX_TRAILERS: usize = 64;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use super::*;

    fn decode_in_pieces(text: &[u8], step: usize) -> Result<(Vec<u8>, Option<HeaderMap>, usize), Denial> {
        let (mut decoder, mut buffer) = (BodyDecoder::new(Framing::Chunked), BytesMut::new());
        let (mut body, mut trailers, mut input) = (Vec::new(), None, text.chunks(step));
        loop {
            match decoder.decode(&mut buffer)? {
                Decoded::Data(data) => body.extend_from_slice(&data),
                Decoded::Trailers(fields) => trailers = Some(fields),
                Decoded::End => return Ok((body, trailers, buffer.len() + input.map(<[u8]>::len).sum::<usize>())),
                Decoded::More => match input.next() {
                    Some(piece) => buffer.extend_from_slice(piece),
                    None => return Err(malformed("ends early")),
                },
            }
        }
    }

    #[test]
    fn every_cut_decodes_alike() {
        let text = b"3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\nNEXT";
        for step in 1..text.len() {
            let (body, trailers, rest) = decode_in_pieces(text, step).unwrap();
            assert_eq!(body, b"abc0123456789");
            assert_eq!(trailers.unwrap()["x-sum"], "1");
            assert_eq!(rest, 4);
        }
    }

    #[test]
    fn limits_do_not_depend_on_cuts() {
        let size_line = |len: usize| format!("{:x<len$}\r\na\r\n0\r\n\r\n", "1;");
        let trailers = |len: usize| format!("0\r\n{:x<1$}\r\n\r\n", "a: ", len - 4);
        let within = [size_line(MAX_CHUNK_LINE), trailers(MAX_TRAILER_BYTES)];
        let beyond = [size_line(MAX_CHUNK_LINE + 1), trailers(MAX_TRAILER_BYTES + 1)];
        for step in [1, 2, 3, 255, 256, 257, 258, MAX_TRAILER_BYTES + 3, usize::MAX] {
            assert!(within.iter().all(|text| decode_in_pieces(text.as_bytes(), step).is_ok()), "step {step}");
            assert!(beyond.iter().all(|text| decode_in_pieces(text.as_bytes(), step).is_err()), "step {step}");
        }
    }

    #[test]
    fn nothing_is_read_after_broken_framing() {
        for text in [&b"x\r\n0\r\n\r\n"[..], b"0\r\nA : b\r\n\r\n", b"1\r\nab0\r\n\r\n"] {
            let (mut decoder, mut buffer) = (BodyDecoder::new(Framing::Chunked), BytesMut::from(text));
            while decoder.decode(&mut buffer).is_ok() {}
            buffer.extend_from_slice(b"0\r\n\r\n");
            assert!(decoder.decode(&mut buffer).is_err());
            assert!(!decoder.is_done() && decoder.remaining().is_none());
        }
    }

    #[test]
    fn bad_chunks_are_refused() {
        let bad: [&[u8]; 10] = [
            b"0x3\r\nabc\r\n0\r\n\r\n",
            b"+3\r\nabc\r\n0\r\n\r\n",
            b"3\nabc\r\n0\r\n\r\n",
            b"3\r\nabcd\r\n0\r\n\r\n",
            b"\r\nabc\r\n0\r\n\r\n",
            b"3 \r\nabc\r\n0\r\n\r\n",
            b"ffffffffffffffff0\r\nabc",
            b"3;a\rb\r\nabc\r\n0\r\n\r\n",
            b"0\r\nA : b\r\n\r\n",
            b"0\r\nA: b\n\r\n\r\n",
        ];
        for text in bad {
            for step in 1..=text.len() {
                assert!(decode_in_pieces(text, step).is_err(), "{:?} step {step}", String::from_utf8_lossy(text));
            }
        }
    }
}
