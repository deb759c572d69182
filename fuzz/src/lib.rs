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

#[path = "../../crates/sandbox/src/dns.rs"]
mod dns;
/// WebSocket frames, with as much of the scrubbing around them as they need.
#[path = "../../crates/proxy/src/scrub"]
mod scrub {
    use std::sync::Arc;

    use bytes::Bytes;
    use clauderon_core::scrub::{Echoes, Scrubber};

    pub(crate) mod frames;

    #[derive(Clone)]
    pub(crate) struct Scrub(pub(crate) Arc<Echoes>);

    impl Scrub {
        fn scrubber(&self) -> Scrubber {
            Scrubber::new(Arc::clone(&self.0))
        }

        fn text(&self, text: &[u8]) -> Option<Bytes> {
            self.0.scrub(text).map(|(clean, _)| clean)
        }

        fn count(&self, _: u64) {}
    }
}

use std::net::Ipv4Addr;
use std::sync::Arc;

use clauderon_core::scrub::Echoes;
use codings::Coding;
use decode::{Decoder, Step};

/// What the sandbox's name server remembers.
#[derive(Default)]
pub struct Names(dns::Names);

impl Names {
    /// The answer to a message.
    pub fn answer(&self, message: &[u8]) -> Option<Vec<u8>> {
        dns::answer(message, &self.0)
    }

    /// The name behind an address.
    pub fn name_of(&self, address: Ipv4Addr) -> Option<String> {
        self.0.name_of(address)
    }
}

/// The frames that an origin's bytes become in these pieces; nothing when it may not send them.
pub fn scrubbed_frames<'a>(echoes: &Arc<Echoes>, pieces: impl Iterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let mut frames = scrub::frames::FrameScrubber::new(&scrub::Scrub(Arc::clone(echoes)));
    let mut out = Vec::new();
    for piece in pieces {
        out.extend(frames.push(piece).ok()?);
    }
    Some(out)
}

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
