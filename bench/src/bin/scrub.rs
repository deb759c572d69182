//! How fast answers are searched for a secret: bytes a second, and what a small answer costs.
//! `cargo run --release --bin scrub` in bench/.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clauderon_core::scrub::{Echoes, Scrubber};

const PLACEHOLDER: &str = "ghp_clauderon_placeholder_7f3a9c21000000";
const SECRETS: [(&str, &str); 3] = [
    ("GitHub", "ghp_16C7e42F292c6912E7710c838347Ae178B4a"),
    ("Base64", "Wm9v/x+9_dE0123456789abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGH=="),
    ("hexadecimal", "0123456789abcdef0123456789abcdef"),
];
const CHUNK: usize = 16 * 1024;

fn main() {
    let body = json(8 << 20);
    let small = body.slice(..1024);
    println!("{:<12} {:>10} {:>10} {:>12} {:>12}", "secret", "made in", "JSON", "1 KiB body", "47 B field");
    for (name, secret) in SECRETS {
        let began = Instant::now();
        let echoes = Arc::new(Echoes::new(secret, PLACEHOLDER));
        let made = began.elapsed();
        let whole = best(9, || {
            let mut scrubber = Scrubber::new(echoes.clone());
            let pieces = (0..body.len()).step_by(CHUNK).map(|at| body.slice(at..(at + CHUNK).min(body.len())));
            let passed: usize = pieces.map(|piece| scrubber.push(&piece).len()).sum();
            assert_eq!(passed + scrubber.finish(&Bytes::new()).len(), body.len());
        });
        let short = best(9, || {
            (0..1000).for_each(|_| drop(black_box(Scrubber::new(echoes.clone()).finish(black_box(&small)))));
        });
        let field = b"max-age=60, s-maxage=60, private; charset=utf-8";
        let field = best(9, || (0..1000).for_each(|_| drop(black_box(echoes.scrub(black_box(field))))));
        let speed = body.len() as f64 / whole.as_secs_f64() / 1e9;
        let (short, field) = (short.as_nanos() / 1000, field.as_nanos() / 1000);
        println!("{name:<12} {:>7} µs {speed:>5.1} GB/s {short:>9} ns {field:>9} ns", made.as_micros());
    }
}

fn best(rounds: usize, work: impl Fn()) -> Duration {
    let round = |_| {
        let began = Instant::now();
        work();
        began.elapsed()
    };
    (0..rounds).map(round).min().unwrap_or_default()
}

/// Something like a listing of repositories.
fn json(len: usize) -> Bytes {
    let (mut text, mut seed) = (String::new(), 0x9e37_79b9_7f4a_7c15_u64);
    while text.len() < len {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let name = format!("octo/ghost-{}", seed % 1000);
        text += &format!(
            "{{\"id\":{seed},\"node_id\":\"MDEwOlJlcG9zaXRvcnk{seed:016x}\",\"full_name\":\"{name}\",\"private\":false,\
             \"html_url\":\"https://github.com/{name}\",\"description\":\"a \\u0026 b \\\"quoted\\\" %20 github_ text\",\
             \"updated_at\":\"2024-01-01T00:00:00Z\"}},"
        );
    }
    text.into()
}
