//! The proxy's readers, compiled from their source: fuzzing them needs neither TLS nor a runtime.
#![allow(dead_code, missing_docs, reason = "the proxy uses what the targets do not")]

use bytes::Bytes;

#[path = "../../crates/proxy/src/scrub/codings.rs"]
mod codings;
#[path = "../../crates/proxy/src/scrub/decode.rs"]
mod decode;
/// The HTTP/1 readers.
#[path = "../../crates/proxy/src/http1"]
pub mod http1 {
    pub mod decode;
    pub mod head;
}

use codings::Coding;
use decode::{Decoder, Step};

/// The codings, by number: gzip, deflate, br, zstd.
pub const CODINGS: [&str; 4] = ["gzip", "deflate", "br", "zstd"];

/// Takes the coding with this number off, in these pieces; nothing when the bytes are not in it.
pub fn decoded<'a>(coding: usize, pieces: impl Iterator<Item = &'a [u8]>, mut pass: impl FnMut(Bytes)) -> Option<()> {
    let coding = [Coding::Gzip, Coding::Deflate, Coding::Brotli, Coding::Zstd][coding];
    let mut decoder = Decoder::new(&[coding]);
    for piece in pieces {
        decoder.feed(Bytes::copy_from_slice(piece));
        loop {
            match decoder.step().ok()? {
                Step::Data(data) => pass(data),
                Step::Working => {}
                Step::Hungry => break,
            }
        }
    }
    decoder.finish().ok()
}
