//! WebSocket frames from an origin: no cut changes what becomes of them, what goes on is well formed to an independent reader,
//! and each message is the scrubbed one. Input: a cut size, then the bytes; `$` stands for the secret.
#![no_main]

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use clauderon_core::scrub::{Echoes, Scrubber};
use clauderon_fuzz::scrubbed_frames;
use libfuzzer_sys::fuzz_target;

const SECRET: &str = "s3cr/t+0123";
const PLACEHOLDER: &str = "placeholder-7f3a9c21-000000";

fuzz_target!(|input: &[u8]| {
    let Some((cut, rest)) = input.split_first() else { return };
    let bytes = rest.split(|b| *b == b'$').collect::<Vec<_>>().join(SECRET.as_bytes());
    let whole = scrubbed_frames(&ECHOES, [&bytes[..]].into_iter());
    assert_eq!(whole, scrubbed_frames(&ECHOES, bytes.chunks(usize::from(*cut).max(1))), "a cut changes the outcome");
    let Some(passed) = whole else { return };
    let sent = messages(&bytes);
    let got = messages(&passed);
    assert_eq!(got.len(), sent.len());
    for ((kind, got), (sent_kind, sent)) in got.iter().zip(&sent) {
        let clean = Scrubber::new(Arc::clone(&ECHOES)).finish(&Bytes::copy_from_slice(sent));
        assert_eq!(kind, sent_kind);
        assert!(!contains(got, SECRET.as_bytes()), "the secret went on");
        if kind & 8 == 0 || clean.len() <= 125 {
            assert_eq!(got, &clean);
        } else {
            // A control frame is bounded; a close reason ends with a whole character.
            assert!(clean.starts_with(got) && (122..=125).contains(&got.len()), "{} bytes", got.len());
        }
    }
});

static ECHOES: LazyLock<Arc<Echoes>> = LazyLock::new(|| Arc::new(Echoes::new(SECRET, PLACEHOLDER)));

/// The whole messages and control frames of `bytes` in order of their ends.
fn messages(bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let (mut rest, mut all, mut open) = (bytes, Vec::new(), None::<(u8, Vec<u8>)>);
    while let Some((first, length, after)) = head(rest) {
        let Some(payload) = after.get(..length) else { break };
        rest = &after[length..];
        let (last, kind) = (first & 0x80 != 0, first & 0xf);
        if kind & 8 != 0 {
            all.push((kind, payload.to_vec()));
            continue;
        }
        open.get_or_insert((kind, Vec::new())).1.extend_from_slice(payload);
        all.extend(open.take_if(|_| last));
    }
    all
}

fn head(bytes: &[u8]) -> Option<(u8, usize, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let (second, rest) = rest.split_first()?;
    let (length, rest) = match second & 0x7f {
        126 => rest.split_first_chunk::<2>().map(|(l, rest)| (u64::from(u16::from_be_bytes(*l)), rest))?,
        127 => rest.split_first_chunk::<8>().map(|(l, rest)| (u64::from_be_bytes(*l), rest))?,
        short => (u64::from(short), rest),
    };
    Some((*first, usize::try_from(length).ok()?, rest))
}

fn contains(text: &[u8], what: &[u8]) -> bool {
    text.windows(what.len()).any(|window| window == what)
}
