#![expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]

use std::io::Write as _;

use clauderon_core::host::{Host, Scheme};
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use futures_util::stream;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use proptest::prelude::*;

use super::*;
use crate::BoxError;

const SECRET: &str = "ghp_16C7e42F292c6912E7710c838347Ae178B4a";
const PLACEHOLDER: &str = "clauderon-placeholder-x-7f3a9c21-000000";

fn scrub() -> Scrub {
    Scrub::new(Arc::new(Echoes::new(SECRET, PLACEHOLDER)), false)
}

fn origin() -> Origin {
    Origin { scheme: Scheme::Https, host: Host::parse("api.test").unwrap(), port: 443 }
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn zlib(text: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn deflate(text: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn brotli(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    brotli::CompressorWriter::new(&mut out, 4096, 5, 22).write_all(text).unwrap();
    out
}

fn zstd(text: &[u8]) -> Vec<u8> {
    let mut out = vec![0; zstd_safe::compress_bound(text.len())];
    let length = zstd_safe::compress(&mut out[..], text, 3).unwrap();
    out.truncate(length);
    out
}

type Encode = fn(&[u8]) -> Vec<u8>;

/// Every way a body may be encoded: the field's value, and the encoder.
fn encoders() -> Vec<(&'static str, Encode)> {
    vec![
        ("identity", <[u8]>::to_vec),
        ("gzip", gzip),
        ("x-gzip", |text| {
            let (first, second) = text.split_at(text.len() / 2);
            [gzip(first), gzip(b""), gzip(second)].concat()
        }),
        ("deflate", zlib),
        ("Deflate", deflate),
        ("br", brotli),
        ("zstd", zstd),
        ("zstd", |text| {
            let (first, second) = text.split_at(text.len() / 3);
            [zstd(first), zstd(second)].concat()
        }),
        ("gzip, br", |text| brotli(&gzip(text))),
        ("zstd, deflate", |text| zlib(&zstd(text))),
    ]
}

fn body_of(frames: Vec<Result<Frame<Bytes>, BoxError>>) -> Body {
    Body::Local(StreamBody::new(stream::iter(frames)).boxed_unsync())
}

fn pieces(bytes: &[u8], step: usize) -> Vec<Result<Frame<Bytes>, BoxError>> {
    bytes.chunks(step).map(|piece| Ok(Frame::data(Bytes::copy_from_slice(piece)))).collect()
}

fn response(coding: &str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_ENCODING, coding.parse().unwrap());
    response
}

async fn read(response: Response<Body>) -> Result<Vec<u8>, String> {
    response.into_body().collect().await.map(|body| body.to_bytes().to_vec()).map_err(|error| error.to_string())
}

/// What the agent gets of `bytes` that come in these pieces.
async fn scrubbed(coding: &str, frames: Vec<Result<Frame<Bytes>, BoxError>>) -> Result<Vec<u8>, String> {
    let answer = scrub().answer(response(coding, body_of(frames)), &origin()).await;
    read(answer.map_err(|denial| denial.message)?).await
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

#[tokio::test]
async fn a_secret_is_found_in_every_coding_at_every_cut() {
    let text = format!("{{\"token\":\"{SECRET}\",\"list\":[{}]}}", "1,".repeat(60));
    let expected = text.replace(SECRET, PLACEHOLDER);
    for (coding, encode) in encoders() {
        let bytes = encode(text.as_bytes());
        for step in 1..=bytes.len() {
            let out = scrubbed(coding, pieces(&bytes, step)).await.unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{coding} in pieces of {step}");
        }
    }
}

#[tokio::test]
async fn bodies_that_are_not_what_they_say_break_off() {
    for (coding, encode) in encoders().into_iter().skip(1) {
        let whole = encode(&[b'x'; 3000]);
        let cut = &whole[..whole.len() - 1];
        assert!(scrubbed(coding, pieces(cut, 100)).await.is_err(), "{coding} cut");
        assert!(
            scrubbed(coding, pieces(b"{\"plain\":\"text, and long enough to tell\"}", 9)).await.is_err(),
            "{coding}"
        );
        assert_eq!(scrubbed(coding, vec![]).await.unwrap(), b"");
    }
    let broken = vec![Ok(Frame::data("a".into())), Err("reset by the origin".into())];
    assert_eq!(scrubbed("identity", broken).await.unwrap_err(), "reset by the origin");
}

#[tokio::test]
async fn what_follows_an_encoded_body_is_dropped() {
    for (coding, encode) in encoders().into_iter().filter(|(coding, _)| ["gzip", "deflate", "br"].contains(coding)) {
        let bytes = [encode(b"hello"), vec![0; 40]].concat();
        assert_eq!(scrubbed(coding, pieces(&bytes, 7)).await.unwrap(), b"hello", "{coding}");
    }
}

#[tokio::test]
async fn bombs_are_stopped_and_mere_size_is_not() {
    let zeros = vec![0; 24 << 20];
    for (coding, encode) in encoders().into_iter().skip(1) {
        let out = scrubbed(coding, pieces(&encode(&zeros), 1024)).await.map(|body| body.len());
        let error = out.unwrap_err();
        assert!(error.contains("256 times"), "{coding}: {error}");
    }
    let dull: Vec<u8> = (0..1_400_000_u32).flat_map(|n| format!("line {n} {:x}\n", n ^ 0x5555).into_bytes()).collect();
    assert!(dull.len() > 24 << 20);
    assert!(scrubbed("gzip", pieces(&gzip(&dull), 9000)).await.is_ok_and(|out| out == dull));
}

#[tokio::test]
async fn an_event_is_passed_on_when_it_comes() {
    let (events, incoming) = tokio::sync::mpsc::channel::<Bytes>(1);
    let frames = stream::unfold(incoming, async |mut incoming| {
        let data = incoming.recv().await?;
        Some((Ok::<_, BoxError>(Frame::data(data)), incoming))
    });
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let body = Body::Local(StreamBody::new(frames).boxed_unsync());
    let mut answer = scrub().answer(response("gzip", body), &origin()).await.unwrap().into_body();
    for nth in 0..3 {
        let event = format!("data: {{\"n\":{nth}}}\n\n");
        encoder.write_all(event.as_bytes()).unwrap();
        encoder.flush().unwrap();
        events.send(std::mem::take(encoder.get_mut()).into()).await.unwrap();
        assert_eq!(answer.frame().await.unwrap().unwrap().into_data().unwrap(), event);
    }
}

#[tokio::test]
async fn a_grpc_message_is_whole_before_the_next_comes() {
    let (messages, incoming) = tokio::sync::mpsc::channel::<Bytes>(1);
    let frames = stream::unfold(incoming, async |mut incoming| {
        let data = incoming.recv().await?;
        Some((Ok::<_, BoxError>(Frame::data(data)), incoming))
    });
    let mut answer = Response::new(Body::Local(StreamBody::new(frames).boxed_unsync()));
    answer.headers_mut().insert("content-type", "application/grpc+proto".parse().unwrap());
    let mut answer = scrub().answer(answer, &origin()).await.unwrap().into_body();
    // The message ends as the secret begins; only in the second one does it go on.
    for (message, expected) in
        [("\0\0\0\0\x02gh", "\0\0\0\0\x02gh"), ("\0\0\0\0\x28", "\0\0\0\0\x28"), (SECRET, PLACEHOLDER)]
    {
        messages.send(message.into()).await.unwrap();
        assert_eq!(answer.frame().await.unwrap().unwrap().into_data().unwrap(), expected);
    }
}

#[tokio::test]
async fn fields_and_trailers_are_scrubbed() {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-echo", format!("Bearer {SECRET}").parse().unwrap());
    let frames = vec![Ok(Frame::data("{}".into())), Ok(Frame::trailers(trailers))];
    let mut answer = Response::new(body_of(frames));
    let basic = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("me:{SECRET}"));
    answer.headers_mut().insert("x-basic", format!("Basic {basic}").parse().unwrap());
    answer.headers_mut().append("x-echo", "nothing".parse().unwrap());
    answer.headers_mut().append("x-echo", format!("{SECRET}, {SECRET}").parse().unwrap());
    answer.headers_mut().insert("x-ghp", "stays".parse().unwrap());
    let scrub = scrub();
    let answer = scrub.answer(answer, &origin()).await.unwrap();
    let values: Vec<_> = answer.headers().get_all("x-echo").iter().collect();
    assert_eq!(values, ["nothing", &format!("{PLACEHOLDER}, {PLACEHOLDER}")]);
    assert!(!format!("{:?}", answer.headers()).contains(basic.split_at(8).1));
    let trailers = answer.into_body().collect().await.unwrap().trailers().cloned().unwrap();
    assert_eq!(trailers["x-echo"], format!("Bearer {PLACEHOLDER}"));
    assert_eq!(scrub.redactions(), 4);
}

#[tokio::test]
async fn a_field_named_like_the_secret_is_dropped() {
    let scrub = Scrub::new(Arc::new(Echoes::new("0123456789abcdef", PLACEHOLDER)), false);
    let mut fields = HeaderMap::new();
    fields.insert("x-0123456789abcdef", "1".parse().unwrap());
    scrub.fields(&mut fields);
    assert!(fields.is_empty() && scrub.redactions() == 1);
}

#[tokio::test]
async fn short_bodies_keep_a_true_length_and_long_ones_lose_it() {
    let answer = async |text: String| {
        let mut response = Response::new(Body::Full(text.into()));
        let length = response.body().size_hint().exact().unwrap();
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
        scrub().answer(response, &origin()).await.unwrap()
    };
    let short = answer(format!("<{SECRET}>")).await;
    assert_eq!(short.headers()[CONTENT_LENGTH], (PLACEHOLDER.len() + 2).to_string());
    assert_eq!(read(short).await.unwrap(), format!("<{PLACEHOLDER}>").into_bytes());
    let long = answer("x".repeat(70_000)).await;
    assert!(!long.headers().contains_key(CONTENT_LENGTH));
    assert_eq!(read(long).await.unwrap().len(), 70_000);
}

#[tokio::test]
async fn a_decoded_answer_says_nothing_of_its_encoded_bytes() {
    let bytes = gzip(&vec![b'x'; 1 << 20]);
    let mut answer = response("gzip", Body::Full(bytes.into()));
    for (name, value) in [("etag", "\"1\""), ("content-length", "9"), ("repr-digest", "x"), ("accept-ranges", "bytes")]
    {
        answer.headers_mut().insert(name, value.parse().unwrap());
    }
    answer.headers_mut().insert("vary", "accept-encoding".parse().unwrap());
    let answer = scrub().answer(answer, &origin()).await.unwrap();
    let mut names: Vec<_> = answer.headers().keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["etag", "vary"]);
    assert_eq!(answer.headers()[ETAG], "W/\"1\"");
    assert_eq!(read(answer).await.unwrap().len(), 1 << 20);
}

#[tokio::test]
async fn what_cannot_be_searched_is_refused() {
    let full = || Body::Full("??".into());
    let denial = scrub().answer(response("gzip, rot13", full()), &origin()).await.err().unwrap();
    assert_eq!(denial.status(), StatusCode::BAD_GATEWAY);
    assert!(denial.message.contains("`rot13`") && denial.message.contains("api.test"), "{}", denial.message);
    let mut part = response("gzip", full());
    *part.status_mut() = StatusCode::PARTIAL_CONTENT;
    assert!(scrub().answer(part, &origin()).await.is_err());
}

#[tokio::test]
async fn answers_without_a_body_stay_so() {
    let head = Scrub::new(Arc::new(Echoes::new(SECRET, PLACEHOLDER)), true);
    let mut answer = response("rot13", Body::Full("not asked for".into()));
    answer.headers_mut().insert(CONTENT_LENGTH, "13".parse().unwrap());
    let answer = head.answer(answer, &origin()).await.unwrap();
    assert_eq!(answer.headers()[CONTENT_LENGTH], "13");
    assert_eq!(read(answer).await.unwrap(), b"");
    let mut unchanged = response("gzip", Body::Empty);
    *unchanged.status_mut() = StatusCode::NOT_MODIFIED;
    assert_eq!(read(scrub().answer(unchanged, &origin()).await.unwrap()).await.unwrap(), b"");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_output_depends_on_no_cut(
        parts in proptest::collection::vec("[ -~]{0,200}", 1..5), which in 0_usize..10, cuts in proptest::collection::vec(1_usize..97, 1..20)
    ) {
        let text = parts.join(SECRET);
        let (coding, encode) = encoders()[which];
        let bytes = encode(text.as_bytes());
        let (mut rest, mut frames) = (&bytes[..], Vec::new());
        for cut in cuts.iter().cycle().take(bytes.len()) {
            let (piece, after) = rest.split_at(rest.len().min(*cut));
            frames.push(Ok(Frame::data(Bytes::copy_from_slice(piece))));
            rest = after;
        }
        let out = block_on(scrubbed(coding, frames)).unwrap();
        prop_assert_eq!(String::from_utf8(out).unwrap(), text.replace(SECRET, PLACEHOLDER));
    }
}
