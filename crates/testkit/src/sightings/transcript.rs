//! One connection as its client had it, read again once it is over: what no search of the bytes alone would find.

use super::{coding, h2};

/// Both directions of a connection, or (nothing sent) what a program printed.
#[derive(Default)]
pub(super) struct Transcript {
    pub(super) sent: Vec<u8>,
    pub(super) received: Vec<u8>,
}

/// What one message carried, apart from how it was carried.
#[derive(Default)]
pub(super) struct Message {
    /// `name: value` lines.
    pub(super) fields: Vec<u8>,
    /// The content codings, last applied first.
    pub(super) codings: Vec<String>,
    /// The body without chunks and frames.
    pub(super) body: Vec<u8>,
}

impl Transcript {
    /// Gives `look` everything that was received: as bytes, and message by message.
    pub(super) fn each_view(&self, mut look: impl FnMut(&[u8])) {
        look(&self.received);
        let messages = if self.sent.starts_with(h2::PREFACE) { h2::messages(&self.received) } else { self.http1() };
        for message in messages {
            look(&message.fields);
            look(&message.body);
            if !message.codings.is_empty() {
                look(&coding::decoded(message.body, &message.codings));
            }
        }
    }

    fn http1(&self) -> Vec<Message> {
        let (mut rest, mut messages) = (self.received.as_slice(), Vec::new());
        let mut methods = methods(&self.sent).into_iter();
        while let Some(head) = Head::response(rest) {
            let informational = (100..200).contains(&head.status);
            let method = if informational { None } else { methods.next() }.unwrap_or_default();
            let (body, after) = match (head.status, method.as_str()) {
                (101, _) => (web_socket_payloads(head.after), &[][..]),
                // What follows is TLS, seen whole on its inside.
                (200, "CONNECT") => return messages,
                (100..200 | 204 | 304, _) | (_, "HEAD") => (Vec::new(), head.after),
                _ => head.body(true),
            };
            messages.push(Message { fields: Vec::new(), codings: head.codings(), body });
            rest = after;
        }
        messages
    }
}

struct Head<'a> {
    status: u16,
    method: String,
    fields: Vec<(String, String)>,
    after: &'a [u8],
}

impl<'a> Head<'a> {
    fn response(bytes: &'a [u8]) -> Option<Self> {
        let mut fields = vec![httparse::EMPTY_HEADER; MOST_FIELDS];
        let mut head = httparse::Response::new(&mut fields);
        let len = complete(head.parse(bytes))?;
        let status = head.code?;
        Some(Self { status, method: String::new(), fields: owned(head.headers), after: bytes.get(len..)? })
    }

    fn request(bytes: &'a [u8]) -> Option<Self> {
        let mut fields = vec![httparse::EMPTY_HEADER; MOST_FIELDS];
        let mut head = httparse::Request::new(&mut fields);
        let len = complete(head.parse(bytes))?;
        let method = head.method?.to_owned();
        Some(Self { status: 0, method, fields: owned(head.headers), after: bytes.get(len..)? })
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    fn codings(&self) -> Vec<String> {
        let values = self.fields.iter().filter(|(name, _)| name == "content-encoding").map(|(_, value)| value.as_str());
        coding::names(&values.collect::<Vec<_>>().join(","))
    }

    /// The body and what comes after it; a response without a length ends with its connection.
    fn body(&self, to_the_end: bool) -> (Vec<u8>, &'a [u8]) {
        if self.field("transfer-encoding").is_some() {
            return unchunked(self.after);
        }
        let rest = if to_the_end { self.after.len() } else { 0 };
        let len = self.field("content-length").and_then(|len| len.parse().ok()).unwrap_or(rest);
        let (body, after) = self.after.split_at(len.min(self.after.len()));
        (body.to_vec(), after)
    }
}

/// The methods of the requests, in order: what an answer to HEAD says of a length, no body follows.
fn methods(sent: &[u8]) -> Vec<String> {
    let (mut rest, mut methods) = (sent, Vec::new());
    while let Some(head) = Head::request(rest) {
        rest = head.body(false).1;
        methods.push(head.method);
    }
    methods
}

fn unchunked(mut rest: &[u8]) -> (Vec<u8>, &[u8]) {
    let mut body = Vec::new();
    loop {
        let Ok(httparse::Status::Complete((digits, size))) = httparse::parse_chunk_size(rest) else {
            return (body, &[]);
        };
        rest = rest.get(digits..).unwrap_or_default();
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if size == 0 {
            let end = super::find(rest, b"\r\n\r\n").map(|at| at + 4);
            let after = if rest.starts_with(b"\r\n") { rest.get(2..) } else { end.and_then(|end| rest.get(end..)) };
            return (body, after.unwrap_or_default());
        }
        body.extend_from_slice(rest.get(..size.min(rest.len())).unwrap_or_default());
        rest = rest.get(size.saturating_add(2)..).unwrap_or_default();
    }
}

/// The payloads of a server's frames one after the other, so that fragments make whole messages.
fn web_socket_payloads(mut rest: &[u8]) -> Vec<u8> {
    let mut payloads = Vec::new();
    while let [_, second, after @ ..] = rest {
        let (size, after) = match second & 0x7f {
            126 => (after.get(..2), after.get(2..)),
            127 => (after.get(..8), after.get(8..)),
            _ => (rest.get(1..2), Some(after)),
        };
        let (Some(size), Some(after)) = (size, after) else { break };
        let len = size.iter().fold(0_usize, |len, byte| len << 8 | usize::from(*byte));
        let (payload, after) = after.split_at(len.min(after.len()));
        payloads.extend_from_slice(payload);
        rest = after;
    }
    payloads
}

fn complete(parsed: Result<httparse::Status<usize>, httparse::Error>) -> Option<usize> {
    parsed.ok().filter(httparse::Status::is_complete).map(httparse::Status::unwrap)
}

fn owned(fields: &[httparse::Header<'_>]) -> Vec<(String, String)> {
    let text = |value: &[u8]| String::from_utf8_lossy(value).trim().to_ascii_lowercase();
    fields.iter().map(|field| (field.name.to_ascii_lowercase(), text(field.value))).collect()
}

/// As many as any test sends.
const MOST_FIELDS: usize = 1024;
