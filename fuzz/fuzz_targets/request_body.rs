//! Request bodies: every cut gives the same body, trailers and end, and a length is kept to the byte.
//! Input: a cut size, the framing (0 to 127: so many bytes, else chunked), then the bytes.
#![no_main]

use bytes::BytesMut;
use clauderon_fuzz::http1::decode::{BodyDecoder, Decoded};
use clauderon_fuzz::http1::head::Framing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let [cut, kind, bytes @ ..] = input else { return };
    let framing = if *kind < 128 { Framing::Length((*kind).into()) } else { Framing::Chunked };
    let whole = read(bytes, bytes.len().max(1), framing);
    assert_eq!(whole, read(bytes, usize::from(*cut).max(1), framing), "a cut changes the body");
    if let (Framing::Length(length), Outcome::Complete { body, left, .. }) = (framing, &whole) {
        assert_eq!(body.len() as u64, length);
        assert_eq!(body.len() + left, bytes.len());
        assert!(bytes.starts_with(body));
    }
});

#[derive(Debug, PartialEq)]
enum Outcome {
    Complete { body: Vec<u8>, trailers: String, left: usize },
    Unfinished,
    Refused,
}

fn read(bytes: &[u8], cut: usize, framing: Framing) -> Outcome {
    let (mut decoder, mut buffer) = (BodyDecoder::new(framing), BytesMut::new());
    let (mut body, mut trailers, mut fed) = (Vec::new(), String::new(), 0);
    let mut pieces = bytes.chunks(cut);
    loop {
        match decoder.decode(&mut buffer) {
            Ok(Decoded::Data(data)) => body.extend_from_slice(&data),
            Ok(Decoded::Trailers(fields)) => trailers = format!("{fields:?}"),
            Ok(Decoded::End) => return Outcome::Complete { body, trailers, left: buffer.len() + bytes.len() - fed },
            Err(_) => return Outcome::Refused,
            Ok(Decoded::More) => {
                let Some(piece) = pieces.next() else { return Outcome::Unfinished };
                buffer.extend_from_slice(piece);
                fed += piece.len();
            }
        }
    }
}
