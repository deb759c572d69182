//! Scrubbing: what comes out is what a slow reference says, in every coding and however the bytes are cut; bytes that are not
//! in the coding they claim neither panic nor depend on the cuts.
#![no_main]

use std::io::Write;
use std::sync::Arc;

use arbitrary::Arbitrary;
use bytes::Bytes;
use clauderon_core::encodings::{self, Form};
use clauderon_core::scrub::{Echoes, Scrubber};
use clauderon_fuzz::{CODINGS, decoded};
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use libfuzzer_sys::fuzz_target;

const PLACEHOLDER: &str = "clauderon-placeholder-x-7f3a9c21-000000";

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    secret: &'a str,
    /// Which form stands between the parts.
    form: u16,
    coding: u8,
    /// The body claims a coding that it was not put into.
    lies: bool,
    cut: u8,
    parts: Vec<&'a [u8]>,
}

fuzz_target!(|input: Input<'_>| {
    if input.secret.len() > 64 || input.secret.contains(['\0', '\r', '\n']) {
        return;
    }
    let forms = encodings::forms(input.secret, PLACEHOLDER);
    let echo = forms.get(usize::from(input.form) % forms.len().max(1)).map_or(&b""[..], |form| &form.text);
    let body = input.parts.join(echo);
    let coding = usize::from(input.coding) % (CODINGS.len() + 1);
    let sent = if input.lies { body.clone() } else { encode(coding, &body) };
    let echoes = Arc::new(Echoes::new(input.secret, PLACEHOLDER));
    let whole = received(coding, &sent, sent.len().max(1), &echoes);
    assert_eq!(whole, received(coding, &sent, usize::from(input.cut).max(1), &echoes), "a cut changes the outcome");
    if !input.lies {
        assert_eq!(whole, Some(reference(&forms, &body)));
    }
});

/// What an agent gets of `sent` in pieces of `cut` bytes; nothing when it is not in its coding.
fn received(coding: usize, sent: &[u8], cut: usize, echoes: &Arc<Echoes>) -> Option<Vec<u8>> {
    let mut scrubber = Scrubber::new(Arc::clone(echoes));
    let mut out = Vec::new();
    let mut pass = |data: Bytes| out.extend_from_slice(&scrubber.push(&data));
    match coding.checked_sub(1) {
        Some(coding) => decoded(coding, sent.chunks(cut), &mut pass)?,
        None => sent.chunks(cut).for_each(|piece| pass(Bytes::copy_from_slice(piece))),
    }
    out.extend_from_slice(&scrubber.finish(&Bytes::new()));
    Some(out)
}

/// The definition: at each place, from the left, the longest form.
fn reference(forms: &[Form], text: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), text);
    while let Some((first, after)) = rest.split_first() {
        match forms.iter().filter(|form| rest.starts_with(&form.text)).max_by_key(|form| form.text.len()) {
            Some(form) => {
                out.extend_from_slice(&form.stand_in);
                rest = &rest[form.text.len()..];
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

/// Encodes for the codings in the order of [`CODINGS`], after none at all. Of gzip there are two members.
fn encode(coding: usize, body: &[u8]) -> Vec<u8> {
    let (first, second) = body.split_at(body.len() / 2);
    match coding {
        0 => body.to_vec(),
        1 => [first, second].map(|part| written(GzEncoder::new(Vec::new(), Compression::fast()), part)).concat(),
        2 => {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(body).expect("a vector takes all");
            encoder.finish().expect("a vector takes all")
        }
        3 => {
            let mut out = Vec::new();
            brotli::CompressorWriter::new(&mut out, 4096, 1, 16).write_all(body).expect("a vector takes all");
            out
        }
        _ => {
            let mut out = vec![0; zstd_safe::compress_bound(body.len())];
            let length = zstd_safe::compress(&mut out[..], body, 1).expect("the bound is enough");
            out.truncate(length);
            out
        }
    }
}

fn written(mut encoder: GzEncoder<Vec<u8>>, part: &[u8]) -> Vec<u8> {
    encoder.write_all(part).expect("a vector takes all");
    encoder.finish().expect("a vector takes all")
}
