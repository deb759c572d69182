//! Content codings, undone as far as they can be.

use std::io::Read;

use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

/// The codings a `Content-Encoding` names, last applied first.
pub(super) fn names(field: &str) -> Vec<String> {
    let names = field.split(',').map(|name| name.trim().to_ascii_lowercase());
    names.filter(|name| !name.is_empty() && name != "identity").rev().collect()
}

/// What a client would read; of a broken or unknown coding, what came out so far.
pub(super) fn decoded(body: Vec<u8>, codings: &[String]) -> Vec<u8> {
    codings.iter().fold(body, |body, coding| match coding.as_str() {
        "gzip" | "x-gzip" => drained(MultiGzDecoder::new(body.as_slice())),
        "deflate" => deflated(&body),
        "br" => drained(brotli_decompressor::Decompressor::new(body.as_slice(), 4096)),
        "zstd" => zstd(&body),
        _ => body,
    })
}

/// RFC 9110 means zlib; some servers send the bare stream.
fn deflated(body: &[u8]) -> Vec<u8> {
    let zlib = drained(ZlibDecoder::new(body));
    if zlib.is_empty() { drained(DeflateDecoder::new(body)) } else { zlib }
}

fn drained(reader: impl Read) -> Vec<u8> {
    let mut text = Vec::new();
    // A coding that breaks off has shown its beginning to the client too.
    let _ = reader.take(MOST).read_to_end(&mut text);
    text
}

fn zstd(body: &[u8]) -> Vec<u8> {
    let mut context = zstd_safe::DCtx::create();
    let (mut text, mut block) = (Vec::new(), vec![0; 128 * 1024]);
    let mut input = zstd_safe::InBuffer::around(body);
    loop {
        let mut output = zstd_safe::OutBuffer::around(block.as_mut_slice());
        let result = context.decompress_stream(&mut output, &mut input);
        let written = output.pos();
        text.extend_from_slice(block.get(..written).unwrap_or_default());
        let stuck = input.pos() == body.len() && written == 0;
        if result.is_err() || stuck || text.len() as u64 > MOST {
            return text;
        }
    }
}

/// Past this it is a bomb, and a test of bombs says itself what came through.
const MOST: u64 = 256 * 1024 * 1024;
