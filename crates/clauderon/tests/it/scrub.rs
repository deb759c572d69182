//! Echoes: whatever an origin does with the secret it was sent, the agent reads its placeholder.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use clauderon_testkit::agent::{Answered, Client, read};
use clauderon_testkit::body::{channel, full};
use clauderon_testkit::bytes::Wire;
use clauderon_testkit::origin::{Origin, OriginBuilder, ok, with_field};
use clauderon_testkit::rig::Rig;
use clauderon_testkit::wait::within;
use clauderon_testkit::websocket::{self, Frame};
use http::header::{ACCEPT_ENCODING, RANGE};
use http::{HeaderMap, Request};
use http_body_util::BodyExt as _;
use tokio::sync::Semaphore;

use crate::streaming::resident;
use crate::{GITHUB, github, github_rig, rig};

/// Every character that some encoding escapes.
const AWKWARD: &str = "s3cr/t+key&\"with\\%41=<everything>";

/// What the default session holds for GitHub.
async fn placeholder(rig: &Rig) -> String {
    rig.session_env("default").await["GITHUB_TOKEN"].clone()
}

async fn client(rig: &Rig, h2: bool) -> Client {
    let agent = rig.anonymous();
    if h2 { agent.h2("api.github.com").await } else { agent.h1("api.github.com").await }
}

/// Panics when any form of `secret` is in what a client got.
fn assert_scrubbed(answered: &Answered, secret: &str) {
    let got = [answered.body.as_ref(), format!("{:?} {:?}", answered.headers, answered.trailers).as_bytes()].concat();
    for form in clauderon_core::encodings::forms(secret, "") {
        let shown = String::from_utf8_lossy(&form.text);
        assert!(clauderon_testkit::sightings::find(&got, &form.text).is_none(), "{shown}");
    }
}

#[tokio::test]
async fn fields_bodies_and_trailers_show_the_placeholder() {
    let origin = github().route("/echo", |call| async move {
        let sent = call.field("authorization").unwrap_or_default().to_owned();
        let (feed, body) = channel();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-signed-for", sent.parse().unwrap());
        tokio::spawn(async move {
            for byte in format!("{{\"you_sent\":\"{sent}\"}}").into_bytes() {
                feed.data(vec![byte]).await;
            }
            feed.trailers(trailers).await;
        });
        let response = with_field(ok(""), "location", &format!("/login?token={GITHUB}"));
        with_field(response, "trailer", "x-signed-for").map(|_| body)
    });
    let origin = origin.start().await;
    let rig = github_rig(&origin).start().await;
    let placeholder = placeholder(&rig).await;
    for h2 in [false, true] {
        let mut client = client(&rig, h2).await;
        let request = Request::get("/echo").header("te", "trailers").body(full("")).unwrap();
        let answered = client.fetch(request).await;
        assert_eq!(answered.json()["you_sent"], format!("Bearer {placeholder}"));
        assert_eq!(answered.field("location"), Some(format!("/login?token={placeholder}").as_str()));
        assert_eq!(answered.trailers.unwrap()["x-signed-for"], format!("Bearer {placeholder}"));
    }
    let lines = rig.audit_lines(2).await;
    assert!(lines.iter().all(|line| line.get("redactions") == 3), "{lines:?}");
    rig.assert_no_secret();
}

#[tokio::test]
async fn secrets_of_former_days_are_looked_for_too() {
    const DAYS: [&str; 5] = ["Mon", "Tue", "Wed", "Thu", "Fri"];
    let sent: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let origin = Origin::https("api.github.com").route("/*", move |call| {
        let mut sent = sent.lock().unwrap();
        sent.extend(call.field("authorization").map(str::to_owned));
        let all = sent.iter().cloned().collect::<Vec<_>>().join(" ");
        async move { ok(all) }
    });
    let origin = origin.start().await;
    let tokens = DAYS.map(|day| format!("ghp_TheTokenOf{day}DayNobodyMaySee0123456789"));
    let mut rig = rig().origin(&origin).secret("github_token", &tokens[0]).start().await;
    let placeholder = placeholder(&rig).await;
    let mut client = client(&rig, false).await;
    for token in &tokens {
        rig.secret("github_token", token);
        let in_force = async {
            let bearer = format!("Bearer {token}");
            while client.get("/x").await.status != 200 || origin.log().last().field("authorization") != Some(&bearer) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        within("the day's token to go out", in_force).await;
    }
    assert_eq!(client.get("/x").await.text(), [format!("Bearer {placeholder}").as_str(); 5].join(" "));
    rig.assert_no_secret();
}

#[tokio::test]
async fn every_form_is_found_however_the_body_is_cut() {
    let json = serde_json::to_string(AWKWARD).unwrap();
    let forms = [
        AWKWARD.to_owned(),
        json.replace('/', "\\/").replace('<', "\\u003c").replace('>', "\\u003e"),
        "s3cr%2Ft%2Bkey%26%22with%5C%2541%3D%3Ceverything%3E".to_owned(),
        "s3cr%2ft%2bkey%26%22with%5c%2541%3d%3ceverything%3e".to_owned(),
        STANDARD.encode(AWKWARD),
        STANDARD.encode(format!("me:{AWKWARD}")),
        URL_SAFE_NO_PAD.encode(format!("x {AWKWARD} y")),
        STANDARD.encode(format!("me!:{AWKWARD}")).replace('/', "\\/"),
    ];
    let text = forms.join("\n");
    let len = text.len();
    let origin = Origin::https("echo.example.test").require("x-key", AWKWARD).route("/echo/*", move |call| {
        let (cut, text) = (call.uri.path().rsplit('/').next().unwrap().parse().unwrap(), text.clone());
        async move {
            let (feed, body) = channel();
            tokio::spawn(async move {
                let (first, second) = text.split_at(cut);
                feed.data(first.to_owned()).await;
                feed.data(second.to_owned()).await;
            });
            ok("").map(|_| body)
        }
    });
    let origin = origin.start().await;
    let table =
        "[[credential]]\nname = \"echo\"\nenv = \"ECHO_KEY\"\nhosts = [\"echo.example.test\"]\nheader = \"x-key\"";
    let rig = rig().origin(&origin).table(table).env("ECHO_KEY", AWKWARD).guards(AWKWARD).start().await;
    let mut client = rig.anonymous().h1("echo.example.test").await;
    let mut whole = None;
    for cut in 0..len {
        let answered = client.get(&format!("/echo/{cut}")).await;
        assert_eq!(answered.status, 200, "{}", answered.text());
        assert_scrubbed(&answered, AWKWARD);
        assert_eq!(whole.get_or_insert_with(|| answered.text()), &answered.text(), "cut at {cut}");
    }
    assert_eq!(whole.unwrap().matches("clauderon-placeholder-echo").count(), 4);
    rig.assert_no_secret();
}

#[tokio::test]
async fn a_stream_of_near_misses_is_not_gathered() {
    const BLOCKS: usize = 256;
    let near = [GITHUB.get(..GITHUB.len() - 1), GITHUB.get(..9)].map(Option::unwrap).concat();
    let block = format!("{}{GITHUB}\n", near.repeat(64 * 1024 / near.len()));
    let origin = github().route("/*", move |_| {
        let (feed, body) = channel();
        let block = block.clone();
        tokio::spawn(async move {
            for _ in 0..BLOCKS {
                feed.data(block.clone()).await;
            }
        });
        async { ok("").map(|_| body) }
    });
    let origin = origin.start().await;
    let rig = github_rig(&origin).start().await;
    let placeholder = placeholder(&rig).await;
    let mut client = client(&rig, true).await;
    let before = resident(rig.pid());
    let mut response = client.start(Request::get("/x").body(full("")).unwrap()).await.unwrap();
    let (mut len, mut found, mut end) = (0, 0, Vec::new());
    while let Some(frame) = response.body_mut().frame().await {
        let data = frame.unwrap().into_data().unwrap();
        len += data.len();
        end.extend_from_slice(&data);
        let lines = end.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let text: Vec<u8> = end.drain(..lines).collect();
        found += String::from_utf8_lossy(&text).matches(&placeholder).count();
        assert!(clauderon_testkit::sightings::find(&text, GITHUB.as_bytes()).is_none());
    }
    assert_eq!((found, len > BLOCKS * 60 * 1024), (BLOCKS, true));
    let grown = resident(rig.pid()).saturating_sub(before);
    assert!(grown < 8 * 1024, "the daemon grew by {grown} KiB");
}

#[tokio::test]
async fn a_stream_goes_on_being_searched_for_the_secret_it_began_with() {
    const NEW: &str = "ghp_TheTokenOfTomorrow0123456789012345678";
    let gate = Arc::new(Semaphore::new(0));
    let opened = gate.clone();
    let origin = Origin::https("api.github.com").reply("/now", "x").route("/stream", move |call| {
        let (sent, gate) = (call.field("authorization").unwrap_or_default().to_owned(), gate.clone());
        let (feed, body) = channel();
        tokio::spawn(async move {
            feed.data(format!("{sent}\n")).await;
            gate.acquire().await.unwrap().forget();
            feed.data(format!("{sent}\n")).await;
        });
        async { ok("").map(|_| body) }
    });
    let origin = origin.start().await;
    let mut rig = github_rig(&origin).guards(NEW).start().await;
    let expected = format!("Bearer {}\n", placeholder(&rig).await);
    let (mut stream, mut other) = (client(&rig, true).await, client(&rig, false).await);
    let mut response = stream.start(Request::get("/stream").body(full("")).unwrap()).await.unwrap();
    let mut got = response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap().to_vec();
    rig.secret("github_token", NEW);
    let in_force = async {
        while other.get("/now").await.status != 200
            || origin.log().last().field("authorization") != Some(&format!("Bearer {NEW}"))
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within("the new token to go out", in_force).await;
    opened.add_permits(1);
    got.extend_from_slice(&response.into_body().collect().await.unwrap().to_bytes());
    assert_eq!(String::from_utf8(got).unwrap(), expected.repeat(2));
    rig.assert_no_secret();
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn deflate(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn brotli(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    brotli::CompressorWriter::new(&mut out, 4096, 5, 22).write_all(text.as_bytes()).unwrap();
    out
}

fn zstd(text: &str) -> Vec<u8> {
    let mut out = vec![0; zstd_safe::compress_bound(text.len())];
    let len = zstd_safe::compress(&mut out[..], text.as_bytes(), 3).unwrap();
    out.truncate(len);
    out
}

/// Answers in the coding that the path names, in one piece or byte by byte.
fn encoding() -> OriginBuilder {
    github().route("/coded/*", |call| async move {
        let mut path = call.uri.path().split('/').skip(2);
        let (coding, whole) = (path.next().unwrap().to_owned(), path.next() == Some("whole"));
        let text = format!("{{\"token\":\"{GITHUB}\"}}");
        let bytes = match coding.as_str() {
            "gzip" => gzip(&text),
            "deflate" => deflate(&text),
            "br" => brotli(&text),
            "zstd" => zstd(&text),
            _ => text.into_bytes(),
        };
        let response = with_field(ok(""), "etag", "\"1\"");
        let response = with_field(response, "content-encoding", &coding);
        if whole {
            return response.map(|_| full(bytes));
        }
        let (feed, body) = channel();
        tokio::spawn(async move {
            for byte in bytes {
                feed.data(vec![byte]).await;
            }
        });
        response.map(|_| body)
    })
}

#[tokio::test]
async fn every_coding_is_looked_into() {
    let origin = encoding().start().await;
    let rig = github_rig(&origin).start().await;
    let expected = format!("{{\"token\":\"{}\"}}", placeholder(&rig).await);
    for h2 in [false, true] {
        let mut client = client(&rig, h2).await;
        for coding in ["gzip", "deflate", "br", "zstd"] {
            let whole = client.get(&format!("/coded/{coding}/whole")).await;
            assert_eq!((whole.text(), whole.field("content-encoding")), (expected.clone(), None), "{coding}");
            assert_eq!(whole.field("content-length"), Some(expected.len().to_string().as_str()));
            assert_eq!(whole.field("etag"), Some("W/\"1\""));
            let pieces = client.get(&format!("/coded/{coding}/pieces")).await;
            assert_eq!((pieces.text(), pieces.field("content-length")), (expected.clone(), None), "{coding}");
        }
    }
    rig.assert_no_secret();
}

#[tokio::test]
async fn a_coding_that_cannot_be_looked_into_is_502_and_said_so() {
    let origin = encoding().start().await;
    let elsewhere =
        Origin::https("example.test").route("/coded", |_| async { with_field(ok("?"), "content-encoding", "rot13") });
    let elsewhere = elsewhere.start().await;
    let rig = github_rig(&origin).origin(&elsewhere).start().await;
    let answered = rig.anonymous().get("https://api.github.com/coded/rot13").await;
    assert_eq!((answered.status.as_u16(), answered.field("x-clauderon-error")), (502, Some("upstream_protocol")));
    assert!(answered.json()["error"].as_str().unwrap().contains("`rot13`"), "{}", answered.text());
    let line = rig.audit_path("/coded/rot13").await;
    assert!(line.text("error").contains("rot13") && line.get("auth_injected") == true, "{}", line.raw);
    // Where no secret went out, nothing needs to be looked into.
    let untouched = rig.anonymous().get("https://example.test/coded").await;
    assert_eq!((untouched.text().as_str(), untouched.field("content-encoding")), ("?", Some("rot13")));
    rig.assert_no_secret();
}

#[tokio::test]
async fn only_codings_that_can_be_looked_into_are_asked_for() {
    let origin = github().reply("/x", "x").start().await;
    let elsewhere = Origin::https("example.test").reply("/x", "x").start().await;
    let rig = github_rig(&origin).origin(&elsewhere).start().await;
    let asked = async |host: &str, origin: &Origin, fields: &[(http::HeaderName, &str)]| {
        let mut request = Request::get("/x");
        for (name, value) in fields {
            request = request.header(name, *value);
        }
        assert_eq!(rig.anonymous().h1(host).await.fetch(request.body(full("")).unwrap()).await.status, 200);
        origin.log().last().field("accept-encoding").map(str::to_owned)
    };
    let all = (ACCEPT_ENCODING, "gzip, dcz, br;q=0.5, *");
    assert_eq!(asked("api.github.com", &origin, std::slice::from_ref(&all)).await.as_deref(), Some("gzip, br;q=0.5"));
    assert_eq!(asked("api.github.com", &origin, &[]).await, None);
    assert_eq!(
        asked("api.github.com", &origin, &[all.clone(), (RANGE, "bytes=0-3")]).await.as_deref(),
        Some("identity")
    );
    assert_eq!(asked("example.test", &elsewhere, &[all]).await.as_deref(), Some("gzip, dcz, br;q=0.5, *"));
}

#[tokio::test]
async fn what_holds_no_secret_stays_as_it_is() {
    let body: Vec<u8> = (0..200_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let sent = body.clone();
    let origin = github().route("/blob", move |call| {
        let sent = sent.clone();
        async move {
            let short = call.uri.query() == Some("short");
            with_field(ok(if short { sent[..1000].to_vec() } else { sent }), "etag", "\"1\"")
        }
    });
    let origin = origin.start().await;
    let rig = github_rig(&origin).start().await;
    for h2 in [false, true] {
        let mut client = client(&rig, h2).await;
        let short = client.get("/blob?short").await;
        assert_eq!((short.body.as_ref(), short.field("content-length")), (&body[..1000], Some("1000")));
        assert_eq!(short.field("etag"), Some("\"1\""));
        let long = client.get("/blob").await;
        assert!(long.complete && long.body == body);
        let head = client.fetch(Request::head("/blob?short").body(full("")).unwrap()).await;
        assert_eq!((head.body.len(), head.field("content-length")), (0, Some("1000")));
    }
    let lines = rig.audit_lines(6).await;
    assert!(lines.iter().all(|line| line.get("redactions") == 0));
}

#[tokio::test]
async fn informational_answers_and_reason_phrases_tell_nothing() {
    let origin = github().h1_only().script(|mut wire: Wire| async move {
        while wire.request().await.is_some() {
            let echo = format!("Bearer {GITHUB}");
            wire.send(format!("HTTP/1.1 103 Early Hints {echo}\r\nLink: <https://x.test/?t={echo}>; rel=x\r\n\r\n"))
                .await;
            wire.send(format!("HTTP/1.1 403 {echo} is no good\r\nContent-Length: {}\r\n\r\n{echo}", echo.len())).await;
        }
    });
    let origin = origin.start().await;
    let rig = github_rig(&origin).start().await;
    let placeholder = placeholder(&rig).await;
    let mut wire = rig.anonymous().tunnel("api.github.com").await;
    let reply = wire.exchange("GET /x HTTP/1.1\r\nHost: api.github.com\r\n\r\n").await.unwrap();
    assert_eq!((reply.status(), reply.text()), (403, format!("Bearer {placeholder}")));
    let link = format!("<https://x.test/?t=Bearer {placeholder}>; rel=x");
    assert_eq!(reply.informational[0].field("link"), Some(link.as_str()));
    assert_eq!(rig.audit_path("/x").await.get("redactions"), 2);
    rig.assert_no_secret();
}

#[tokio::test]
async fn bodies_that_lie_about_their_coding_are_no_answer() {
    let origin = github().route("/lies", |call| async move {
        let whole = call.uri.query() == Some("whole");
        let text = format!("{{\"token\":\"{GITHUB}\"}}");
        let (feed, body) = channel();
        let body = if whole { full(text.clone()) } else { body };
        tokio::spawn(async move { feed.data(text).await });
        with_field(ok(""), "content-encoding", "gzip").map(|_| body)
    });
    let origin = origin.start().await;
    let rig = github_rig(&origin).start().await;
    for h2 in [false, true] {
        let mut whole = client(&rig, h2).await;
        let answered = whole.get("/lies?whole").await;
        assert_eq!((answered.status.as_u16(), answered.field("x-clauderon-error")), (502, Some("upstream_protocol")));
        let mut pieces = client(&rig, h2).await;
        if let Ok(response) = pieces.start(Request::get("/lies").body(full("")).unwrap()).await {
            let answered = read(response).await;
            assert!(!answered.complete && answered.body.is_empty(), "{}", answered.text());
        }
    }
    let lines = rig.audit_lines(4).await;
    assert!(lines.iter().all(|line| line.text("error").contains("content coding")), "{lines:?}");
    rig.assert_no_secret();
}

#[tokio::test]
async fn a_secret_rotated_meanwhile_is_still_taken_out() {
    let gate = Arc::new(Semaphore::new(0));
    let opened = Arc::clone(&gate);
    let origin = Origin::https("api.github.com").route("/slow", move |call| {
        let (gate, sent) = (Arc::clone(&opened), call.field("authorization").unwrap_or_default().to_owned());
        let held = call.uri.query() == Some("held");
        async move {
            let (feed, body) = channel();
            tokio::spawn(async move {
                feed.data("data: begun\n\n").await;
                if held {
                    gate.acquire().await.unwrap().forget();
                }
                feed.data(format!("data: {sent}\n\n")).await;
            });
            ok("").map(|_| body)
        }
    });
    let origin = origin.start().await;
    let mut rig = github_rig(&origin).start().await;
    let placeholder = placeholder(&rig).await;
    let mut first = client(&rig, false).await;
    let mut old = first.start(Request::get("/slow?held").body(full("")).unwrap()).await.unwrap();
    let begun = within("the first event", old.body_mut().frame()).await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(begun, "data: begun\n\n");
    let rotated = "ghp_TheRotatedTokenNobodyMaySee987654321";
    rig.secret("github_token", rotated);
    let mut second = client(&rig, false).await;
    loop {
        let answered = second.get("/slow").await;
        assert!(answered.text().ends_with(&format!("data: Bearer {placeholder}\n\n")), "{}", answered.text());
        if origin.log().last().field("authorization") == Some(&format!("Bearer {rotated}")) {
            break;
        }
    }
    gate.add_permits(1);
    assert_eq!(read(old).await.text(), format!("data: Bearer {placeholder}\n\n"));
    rig.assert_no_secret();
}

/// Accepts a handshake and sends `bytes`, then reads until the agent leaves.
fn socket(bytes: Vec<u8>, step: usize) -> OriginBuilder {
    let origin = Origin::https("api.github.com").h1_only();
    origin.script(move |mut wire: Wire| {
        let bytes = bytes.clone();
        async move {
            let (head, _) = wire.request().await.unwrap();
            let echo = head.field("authorization").unwrap().to_owned();
            let accept = websocket::KEY.1;
            let switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
            wire.send(format!("{switching}Sec-WebSocket-Accept: {accept}\r\nX-Echo: {echo}\r\n\r\n")).await;
            for piece in bytes.chunks(step) {
                wire.try_send(piece).await;
            }
            let _ = wire.rest().await;
        }
    })
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    [&[first, u8::try_from(payload.len()).unwrap()], payload].concat()
}

async fn open(rig: &Rig) -> (Wire, clauderon_testkit::bytes::Head) {
    let mut wire = rig.anonymous().tunnel("api.github.com").await;
    wire.send(websocket::request("/socket", "api.github.com", "")).await;
    let head = wire.head().await.unwrap();
    assert_eq!(head.status(), 101, "{head:?}");
    (wire, head)
}

#[tokio::test]
async fn websocket_frames_show_the_placeholder() {
    let (first, second) = GITHUB.split_at(20);
    let sent = [
        frame(0x81, format!("{{\"token\":\"{GITHUB}\"}}").as_bytes()),
        frame(0x02, first.as_bytes()),
        frame(0x89, b"ping"),
        frame(0x80, second.as_bytes()),
        frame(0x82, b"clean"),
        frame(0x88, &[b"\x0f\xa1", GITHUB.as_bytes()].concat()),
    ]
    .concat();
    for step in [1, 7, sent.len()] {
        let origin = socket(sent.clone(), step).start().await;
        let rig = github_rig(&origin).start().await;
        let placeholder = placeholder(&rig).await;
        let (mut wire, head) = open(&rig).await;
        assert_eq!(head.field("x-echo"), Some(format!("Bearer {placeholder}").as_str()));
        let expect = |fin, opcode, payload: &[u8]| Frame { fin, opcode, payload: payload.to_vec() };
        let close = [b"\x0f\xa1", placeholder.as_bytes()].concat();
        for expected in [
            expect(true, 1, format!("{{\"token\":\"{placeholder}\"}}").as_bytes()),
            expect(true, 9, b"ping"),
            expect(true, 2, placeholder.as_bytes()),
            expect(true, 2, b"clean"),
            expect(true, 8, &close),
        ] {
            assert_eq!(websocket::receive(&mut wire).await.unwrap(), expected);
        }
        drop(wire);
        assert_eq!(rig.audit_path("/socket").await.get("redactions"), 4);
        rig.assert_no_secret();
    }
}

#[tokio::test]
async fn frames_no_origin_may_send_end_the_websocket() {
    for bytes in [vec![0x81, 0x85, 1, 2, 3, 4], vec![0xc1, 5, 1, 2, 3, 4, 5], vec![0x80, 0]] {
        let origin = socket(bytes, 100).start().await;
        let rig = github_rig(&origin).start().await;
        let (mut wire, _) = open(&rig).await;
        assert_eq!(websocket::receive(&mut wire).await, None);
        let line = rig.audit_path("/socket").await;
        assert!(line.text("error").contains("WebSocket frame"), "{}", line.raw);
    }
}
