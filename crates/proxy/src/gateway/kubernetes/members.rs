//! JSON on its way to the agent without the members that hold a secret's values, however the stream is cut.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use clauderon_core::denial::{Denial, DenialCode};
use clauderon_core::kubernetes::Shown;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::BoxError;
use crate::body::Body;

/// The body of an answer about secrets, without their values; an answer that cannot be read so is not passed on. Metadata is
/// called a secret again, which is what the client asked for, but in tables.
pub(crate) fn without_values(shown: Shown, headers: &mut HeaderMap, body: Body) -> Result<Body, Denial> {
    if body.is_end_stream() {
        return Ok(body);
    }
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !kind.to_ascii_lowercase().starts_with("application/json") || headers.contains_key(CONTENT_ENCODING) {
        let message = "the API server answered about secrets in a form that cannot be searched for their values";
        return Err(Denial::new(DenialCode::UpstreamProtocol, message)
            .hint("`secrets = \"allow\"` under [services.kubernetes] passes them on as they are"));
    }
    headers.remove(CONTENT_LENGTH);
    Ok(Body::WithoutValues(Box::new(WithoutValues {
        body,
        filter: Filter { renames: shown != Shown::Table, ..Filter::default() },
    })))
}

/// A body that loses members on the way.
pub(crate) struct WithoutValues {
    body: Body,
    filter: Filter,
}

impl HttpBody for WithoutValues {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
            let Some(Ok(frame)) = frame else { return Poll::Ready(frame) };
            let data = match frame.into_data() {
                Ok(data) => data,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            };
            let kept = self.filter.push(&data)?;
            if !kept.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(kept.into()))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// Reads JSON values one after the other, and passes on all but the members that hold values.
#[derive(Default)]
struct Filter {
    state: State,
    /// The objects and arrays around the current place.
    around: Vec<Around>,
    /// The member name being read, quotes included.
    name: Vec<u8>,
    /// The text being read that may be replaced, quotes included.
    text: Vec<u8>,
    /// Whether metadata is called what it is the metadata of.
    renames: bool,
}

#[derive(Default, Clone, Copy)]
enum State {
    #[default]
    Between,
    /// In a text that is passed on.
    Text { escaped: bool },
    /// In a text that may be replaced.
    Kind,
    /// In a member's name.
    Name { escaped: bool },
    /// Between a member's name and its value.
    Named,
    /// In a value that is dropped.
    Dropping(Dropped),
}

#[derive(Default, Clone, Copy)]
struct Dropped {
    depth: usize,
    in_text: bool,
    escaped: bool,
    begun: bool,
}

#[derive(Clone, Copy)]
enum Around {
    Array,
    Object {
        /// Whether a name comes next.
        expects_name: bool,
        /// Whether a member was passed on.
        has_members: bool,
        /// Whether its members are the user's own words (labels).
        free: bool,
    },
}

impl Filter {
    fn push(&mut self, input: &[u8]) -> Result<Vec<u8>, BoxError> {
        let mut out = Vec::with_capacity(input.len());
        for &byte in input {
            self.step(byte, &mut out)?;
        }
        Ok(out)
    }

    fn step(&mut self, byte: u8, out: &mut Vec<u8>) -> Result<(), BoxError> {
        match self.state {
            State::Between => return self.between(byte, out),
            State::Text { escaped } => {
                out.push(byte);
                self.state = match byte {
                    b'"' if !escaped => State::Between,
                    _ => State::Text { escaped: byte == b'\\' && !escaped },
                };
            }
            State::Kind => {
                self.text.push(byte);
                if byte == b'"' {
                    out.extend_from_slice(renamed(&self.text));
                    self.state = State::Between;
                } else if self.text.len() > LONGEST_KIND || byte == b'\\' {
                    out.append(&mut self.text);
                    self.state = State::Text { escaped: byte == b'\\' };
                }
            }
            State::Name { escaped } => {
                self.name.push(byte);
                self.state = match byte {
                    b'"' if !escaped => State::Named,
                    _ if self.name.len() > LONGEST_NAME => return Err("a member's name beyond 64 KiB".into()),
                    _ => State::Name { escaped: byte == b'\\' && !escaped },
                };
            }
            State::Named if byte == b':' => self.named(out),
            State::Named => {}
            State::Dropping(dropped) => return self.drop_byte(dropped, byte, out),
        }
        Ok(())
    }

    fn between(&mut self, byte: u8, out: &mut Vec<u8>) -> Result<(), BoxError> {
        let expects = matches!(self.around.last(), Some(Around::Object { expects_name: true, .. }));
        match byte {
            b'"' if expects => {
                self.name.clear();
                self.name.push(byte);
                self.state = State::Name { escaped: false };
                return Ok(());
            }
            b'"' if self.renames && matches!(self.name.as_slice(), b"\"kind\"" | b"\"apiVersion\"") => {
                self.text.clear();
                self.text.push(byte);
                self.state = State::Kind;
                return Ok(());
            }
            b'"' => self.state = State::Text { escaped: false },
            b'{' | b'[' if self.around.len() >= DEEPEST => return Err("nested too deep".into()),
            b'{' => {
                let free = matches!(self.name.as_slice(), b"\"labels\"" | b"\"annotations\"");
                self.around.push(Around::Object { expects_name: true, has_members: false, free });
                self.name.clear();
            }
            b'[' => {
                self.around.push(Around::Array);
                self.name.clear();
            }
            b'}' | b']' => {
                self.around.pop();
                self.name.clear();
            }
            b',' => {
                self.name.clear();
                if let Some(Around::Object { expects_name, .. }) = self.around.last_mut() {
                    // Written when another member follows that is passed on.
                    *expects_name = true;
                    return Ok(());
                }
            }
            _ => {}
        }
        out.push(byte);
        Ok(())
    }

    fn named(&mut self, out: &mut Vec<u8>) {
        let Some(Around::Object { expects_name, has_members, free }) = self.around.last_mut() else {
            self.state = State::Between;
            return;
        };
        *expects_name = false;
        if holds_value(&self.name, *free) {
            self.state = State::Dropping(Dropped::default());
            return;
        }
        if *has_members {
            out.push(b',');
        }
        *has_members = true;
        out.extend_from_slice(&self.name);
        out.push(b':');
        self.state = State::Between;
    }

    fn drop_byte(&mut self, mut dropped: Dropped, byte: u8, out: &mut Vec<u8>) -> Result<(), BoxError> {
        if dropped.in_text {
            dropped.in_text = byte != b'"' || dropped.escaped;
            dropped.escaped = byte == b'\\' && !dropped.escaped;
            self.state = State::Dropping(dropped);
            return Ok(());
        }
        let ends = dropped.begun && dropped.depth == 0;
        match byte {
            b',' | b'}' | b']' if ends => {
                self.state = State::Between;
                return self.between(byte, out);
            }
            b'"' => dropped.in_text = true,
            b'{' | b'[' => dropped.depth += 1,
            b'}' | b']' => dropped.depth = dropped.depth.saturating_sub(1),
            _ => {}
        }
        dropped.begun |= !byte.is_ascii_whitespace();
        self.state = State::Dropping(dropped);
        Ok(())
    }
}

/// Whether a member of this name (as written) holds a secret's values: the data itself, and the copy of it that `kubectl apply`
/// leaves among the annotations. `free` members are named by users.
fn holds_value(name: &[u8], free: bool) -> bool {
    let name: String = serde_json::from_slice(name).unwrap_or_default();
    match name.as_str() {
        LAST_APPLIED => true,
        "data" | "stringData" => !free,
        _ => false,
    }
}

/// What a kind or version of metadata is called in the secret itself.
fn renamed(text: &[u8]) -> &[u8] {
    match text {
        b"\"PartialObjectMetadata\"" => b"\"Secret\"",
        b"\"PartialObjectMetadataList\"" => b"\"SecretList\"",
        b"\"meta.k8s.io/v1\"" => b"\"v1\"",
        other => other,
    }
}

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

const LONGEST_KIND: usize = 64;

/// Names of members are short, but for those of annotations.
const LONGEST_NAME: usize = 64 * 1024;

/// Deeper than any object of Kubernetes.
const DEEPEST: usize = 128;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filtered(pieces: &[&[u8]]) -> String {
        let mut filter = Filter { renames: true, ..Filter::default() };
        let kept: Vec<u8> = pieces.iter().flat_map(|piece| filter.push(piece).unwrap()).collect();
        String::from_utf8(kept).unwrap()
    }

    fn whole(text: &str) -> String {
        filtered(&[text.as_bytes()])
    }

    #[test]
    fn values_go_and_the_rest_stays() {
        for (text, left) in [
            (r#"{"data":{"a":"eA=="}}"#, r#"{}"#),
            (r#"{"kind":"Secret","data":{"a":"}"},"type":"x"}"#, r#"{"kind":"Secret","type":"x"}"#),
            (r#"{"data":null,"stringData":{"a":[1,"]"]},"b":1}"#, r#"{"b":1}"#),
            (r#"{"b":1,"data":"x\"}"}"#, r#"{"b":1}"#),
            (r#"[{"annotations":1},{"data":2}]"#, r#"[{"annotations":1},{}]"#),
            (r#"{"d\u0061ta":{"a":"x"},"b":[{"data":1},2]}"#, r#"{"b":[{},2]}"#),
            (
                r#"{"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"data\":1}","data":"mine"},"labels":{"data":"kept"}}}"#,
                r#"{"metadata":{"annotations":{"data":"mine"},"labels":{"data":"kept"}}}"#,
            ),
            (
                "{\"type\":\"ADDED\",\"object\":{\"data\":{}}}\n{\"a\":1}\n",
                "{\"type\":\"ADDED\",\"object\":{}}\n{\"a\":1}\n",
            ),
        ] {
            assert_eq!(whole(text), left, "{text}");
        }
    }

    #[test]
    fn bottomless_nesting_is_refused() {
        assert!(Filter::default().push("[".repeat(DEEPEST + 1).as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn the_cut_decides_nothing(cut in 0_usize..200, other in 0_usize..200) {
            let text = r#"{"items":[{"metadata":{"name":"a","annotations":{"x":"y","kubectl.kubernetes.io/last-applied-configuration":"{}"}},"data":{"k":"\\"},"b":[]},{"c":"\"data\":1"}]}"#;
            let (a, b) = (cut.min(other).min(text.len()), cut.max(other).min(text.len()));
            let bytes = text.as_bytes();
            prop_assert_eq!(filtered(&[&bytes[..a], &bytes[a..b], &bytes[b..]]), whole(text));
        }
    }
}
