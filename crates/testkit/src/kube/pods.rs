//! Pods to reach into: their log, programs in them, and ports of theirs. A program runs for real, on this machine.

use std::collections::HashMap;
use std::process::Stdio;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderValue, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::process::{ChildStdin, Command};
use tokio::sync::mpsc;

use super::spdy::{self, Said, Speaker};
use super::{Call, json_type, parameters, query};
use crate::body::{Body, channel, empty, full};
use crate::origin::status;

/// The log: three lines at once, and with `follow` more as long as somebody reads.
pub(super) fn log(call: &Call) -> Response<Body> {
    if query(call, "follow").as_deref() != Some("true") {
        return Response::new(full("line 0\nline 1\nline 2\n"));
    }
    if let Some(bytes) = query(call, "limitBytes").and_then(|bytes| bytes.parse().ok()) {
        return Response::new(crate::body::pattern(bytes));
    }
    let (feed, body) = channel();
    tokio::spawn(async move {
        for number in 0_u64.. {
            if !feed.data(format!("line {number}\n")).await {
                return;
            }
            if number >= 2 {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    });
    json_type(Response::new(body))
}

/// Leaves HTTP for a program or a port.
pub(super) fn open(call: Call, what: &str) -> Response<Body> {
    let command: Vec<String> = parameters(&call).filter(|(name, _)| name == "command").map(|(_, text)| text).collect();
    let spoken = call.field("upgrade").unwrap_or_default().to_ascii_lowercase();
    match (spoken.as_str(), what) {
        ("spdy/3.1", _) => {
            let offered =
                call.headers.get_all("x-stream-protocol-version").iter().filter_map(|value| value.to_str().ok());
            let offered: Vec<&str> = offered.flat_map(|value| value.split(',')).map(str::trim).collect();
            let version = ["v4.channel.k8s.io", "portforward.k8s.io"].into_iter().find(|known| offered.contains(known));
            let Some(version) = version else { return status(StatusCode::FORBIDDEN, "no protocol in common") };
            let switching = with(switching("SPDY/3.1"), "x-stream-protocol-version", version);
            match what {
                "exec" => tokio::spawn(exec_spdy(call.upgrade, command)),
                _ => tokio::spawn(forward_spdy(call.upgrade)),
            };
            switching
        }
        ("websocket", "exec") => {
            let offered = call.field("sec-websocket-protocol").unwrap_or_default();
            let offers = |known: &&str| offered.split(',').any(|protocol| protocol.trim() == *known);
            // The older one lacks but a way to close a channel.
            let Some(agreed) = ["v5.channel.k8s.io", "v4.channel.k8s.io"].into_iter().find(offers) else {
                return status(StatusCode::BAD_REQUEST, "no protocol in common");
            };
            let accept = accept_of(call.field("sec-websocket-key").unwrap_or_default());
            let switching = with(switching("websocket"), SEC_WEBSOCKET_ACCEPT.as_str(), &accept);
            tokio::spawn(exec_websocket(call.upgrade, command));
            with(switching, SEC_WEBSOCKET_PROTOCOL.as_str(), agreed)
        }
        // Older servers know SPDY only; clients then fall back to it.
        _ => status(StatusCode::BAD_REQUEST, "you must upgrade to SPDY"),
    }
}

/// A program's input, and where its output comes from: the channel, and bytes or its end.
struct Program {
    stdin: Option<ChildStdin>,
    output: mpsc::Receiver<(u8, Vec<u8>)>,
    ended: tokio::task::JoinHandle<i32>,
}

impl Program {
    fn start(command: &[String]) -> Self {
        let (program, arguments) = command.split_first().expect("a program is named");
        let mut started = Command::new(program);
        started.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = started.spawn().expect("the tests name programs that exist");
        let (told, output) = mpsc::channel(16);
        let pumps = [
            tokio::spawn(pump(STDOUT, child.stdout.take().expect("piped"), told.clone())),
            tokio::spawn(pump(STDERR, child.stderr.take().expect("piped"), told)),
        ];
        let stdin = child.stdin.take();
        let ended = tokio::spawn(async move {
            for pump in pumps {
                let _ = pump.await;
            }
            child.wait().await.ok().and_then(|status| status.code()).unwrap_or(-1)
        });
        Self { stdin, output, ended }
    }

    async fn feed(&mut self, bytes: &[u8]) {
        if let Some(stdin) = &mut self.stdin {
            // It may have ended, which is its right.
            let _ = stdin.write_all(bytes).await;
        }
    }

    /// What the error stream says at the end.
    async fn verdict(self) -> Vec<u8> {
        let code = self.ended.await.unwrap_or(-1);
        let verdict = match code {
            0 => json!({ "metadata": {}, "status": "Success" }),
            code => json!({
                "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode", "message": "it failed",
                "details": { "causes": [{ "reason": "ExitCode", "message": code.to_string() }] },
            }),
        };
        verdict.to_string().into_bytes()
    }
}

async fn pump(channel: u8, mut from: impl AsyncRead + Unpin, to: mpsc::Sender<(u8, Vec<u8>)>) {
    let mut buffer = vec![0; 8192];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if to.send((channel, buffer.get(..read).unwrap_or_default().to_vec())).await.is_err() {
            return;
        }
    }
}

async fn exec_spdy(upgrade: OnUpgrade, command: Vec<String>) {
    let Ok(upgraded) = upgrade.await else { return };
    let (mut said, mut speaker) = spdy::open(TokioIo::new(upgraded));
    let mut program = Program::start(&command);
    let mut streams = HashMap::new();
    loop {
        tokio::select! {
            said = said.recv() => match said {
                Some(Said::Opened { stream, headers }) => {
                    let kind = headers.into_iter().find(|(name, _)| name == "streamtype").map(|(_, kind)| kind);
                    streams.insert(kind.unwrap_or_default(), stream);
                    let _ = speaker.accept(stream).await;
                }
                Some(Said::Data { stream, bytes, last }) if streams.get("stdin") == Some(&stream) => {
                    program.feed(&bytes).await;
                    if last { program.stdin = None; }
                }
                Some(Said::Data { .. }) => {}
                Some(Said::Ping(ping)) => drop(speaker.raw(&ping).await),
                None => return,
            },
            // The client opens its streams before it expects anything on them.
            output = program.output.recv(), if streams.contains_key("stdout") => match output {
                Some((channel, bytes)) => {
                    let name = if channel == STDOUT { "stdout" } else { "stderr" };
                    if let Some(&stream) = streams.get(name) { let _ = speaker.send(stream, &bytes, false).await; }
                }
                None => break,
            },
        }
    }
    let verdict = program.verdict().await;
    end_streams(&mut speaker, &streams, &verdict).await;
    listen_on(said, speaker).await;
}

/// Says how the program ended, and that nothing more comes.
async fn end_streams(speaker: &mut Speaker<impl AsyncWrite + Unpin>, streams: &HashMap<String, u32>, verdict: &[u8]) {
    for (name, last_words) in [("error", verdict), ("stdout", &[]), ("stderr", &[])] {
        if let Some(&stream) = streams.get(name) {
            let _ = speaker.send(stream, last_words, true).await;
        }
    }
}

/// Answers until the client goes: the program may have been quicker than the client with its streams.
async fn listen_on(mut said: mpsc::Receiver<Said>, mut speaker: Speaker<impl AsyncWrite + Unpin>) {
    while let Some(said) = said.recv().await {
        match said {
            Said::Ping(ping) => drop(speaker.raw(&ping).await),
            Said::Opened { stream, .. } => {
                let _ = speaker.accept(stream).await;
                let _ = speaker.send(stream, &[], true).await;
            }
            Said::Data { .. } => {}
        }
    }
}

/// Every port echoes what it is sent.
async fn forward_spdy(upgrade: OnUpgrade) {
    let Ok(upgraded) = upgrade.await else { return };
    let (mut said, mut speaker) = spdy::open(TokioIo::new(upgraded));
    while let Some(said) = said.recv().await {
        let done = match said {
            Said::Opened { stream, .. } => speaker.accept(stream).await,
            Said::Data { stream, bytes, last } => speaker.send(stream, &bytes, last).await,
            Said::Ping(ping) => speaker.raw(&ping).await,
        };
        if done.is_err() {
            return;
        }
    }
}

async fn exec_websocket(upgrade: OnUpgrade, command: Vec<String>) {
    let Ok(upgraded) = upgrade.await else { return };
    let (mut reads, mut writes) = tokio::io::split(TokioIo::new(upgraded));
    let (told, mut said) = mpsc::channel(16);
    tokio::spawn(async move {
        while let Some(frame) = receive(&mut reads).await {
            if told.send(frame).await.is_err() {
                return;
            }
        }
    });
    let mut program = Program::start(&command);
    loop {
        tokio::select! {
            frame = said.recv() => match frame.as_ref().map(|(opcode, payload)| (*opcode, payload.as_slice())) {
                Some((2, [STDIN, bytes @ ..])) => program.feed(bytes).await,
                Some((2, [CLOSED, STDIN])) => program.stdin = None,
                Some((8, _)) | None => return,
                Some((9, payload)) => drop(writes.write_all(&frame_of(10, &[payload])).await),
                Some(_) => {}
            },
            output = program.output.recv() => match output {
                Some((channel, bytes)) => drop(writes.write_all(&frame_of(2, &[&[channel], &bytes])).await),
                None => break,
            },
        }
        let _ = writes.flush().await;
    }
    let verdict = program.verdict().await;
    let _ = writes.write_all(&frame_of(2, &[&[ERROR], &verdict])).await;
    let _ = writes.write_all(&frame_of(8, &[&1000_u16.to_be_bytes()])).await;
    // A real server closes at once; some clients look at what they hold only when the connection stirs.
    let _ = writes.shutdown().await;
    while said.recv().await.is_some() {}
}

/// A client's frame: opcode and payload, unmasked.
async fn receive(reads: &mut (impl AsyncRead + Unpin)) -> Option<(u8, Vec<u8>)> {
    let (first, second) = (reads.read_u8().await.ok()?, reads.read_u8().await.ok()?);
    let length = match second & 0x7f {
        126 => u64::from(reads.read_u16().await.ok()?),
        127 => reads.read_u64().await.ok()?,
        length => u64::from(length),
    };
    let mut mask = [0; 4];
    reads.read_exact(&mut mask).await.ok()?;
    let mut payload = vec![0; usize::try_from(length).ok()?];
    reads.read_exact(&mut payload).await.ok()?;
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
    Some((first & 0x0f, payload))
}

/// A server's frame, whole and unmasked.
fn frame_of(opcode: u8, parts: &[&[u8]]) -> Vec<u8> {
    let payload = parts.concat();
    let mut frame = vec![0x80 | opcode];
    match u16::try_from(payload.len()).expect("outputs come in small pieces") {
        length @ 0..=125 => frame.push(length as u8),
        length => {
            frame.push(126);
            frame.extend(length.to_be_bytes());
        }
    }
    frame.extend(payload);
    frame
}

fn switching(protocol: &'static str) -> Response<Body> {
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static(protocol));
    response
}

fn with(response: Response<Body>, name: &str, value: &str) -> Response<Body> {
    let mut response = response;
    let name = http::HeaderName::from_bytes(name.as_bytes()).expect("a field name");
    response.headers_mut().insert(name, value.parse().expect("a field value"));
    response
}

/// RFC 6455, section 4.2.2.
fn accept_of(key: &str) -> String {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    BASE64_STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()))
}

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
/// Of the v5 protocol: the channel that follows has ended.
const CLOSED: u8 = 255;
