//! Everything any client ever received, kept to be searched for real secrets.
//!
//! Clients of the kit are watched inside their TLS, real programs by a tap and by what they print. A
//! connection is read again when it is over: field sections out of HPACK, bodies out of chunks, frames and codings.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use aho_corasick::AhoCorasick;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use transcript::Transcript;

mod coding;
mod forms;
mod h2;
mod transcript;

/// What agents saw, in no particular order. Clones share it.
#[derive(Clone, Default)]
pub struct Sightings(Arc<Mutex<Vec<Recording>>>);

/// One connection or one program's output, still growing.
type Recording = Arc<Mutex<Transcript>>;

impl Sightings {
    /// Adds what a client got.
    pub fn add(&self, bytes: &[u8]) {
        self.begin().lock().expect("no holder panics").received.extend_from_slice(bytes);
    }

    /// Panics when any form of any of `secrets` was seen.
    pub fn assert_free_of(&self, secrets: &[String]) {
        if let Some(secret) = self.leaked(secrets) {
            panic!("what agents received holds the secret that begins with {secret:.8}");
        }
    }

    /// The first of `secrets` that was seen in any form.
    pub fn leaked<'a>(&self, secrets: &'a [String]) -> Option<&'a str> {
        let wanted: Vec<(&str, Vec<u8>)> = secrets.iter().flat_map(|secret| each_form(secret)).collect();
        let search = AhoCorasick::new(wanted.iter().map(|(_, form)| form)).expect("a handful of short forms");
        let recordings = self.0.lock().expect("no holder panics").clone();
        let mut leaked = None;
        for recording in recordings {
            recording.lock().expect("no holder panics").each_view(|view| {
                let found = search.find(view).and_then(|found| wanted.get(found.pattern().as_usize()));
                leaked = leaked.or_else(|| found.map(|(secret, _)| *secret));
            });
        }
        leaked
    }

    /// Forgets all: for the test whose purpose is a leak.
    pub fn forget(&self) {
        self.0.lock().expect("no holder panics").clear();
    }

    fn begin(&self) -> Recording {
        let recording = Recording::default();
        self.0.lock().expect("no holder panics").push(Arc::clone(&recording));
        recording
    }
}

/// Panics when `text` holds `secret` in any form.
pub fn assert_absent(place: &str, text: &[u8], secret: &str) {
    for form in forms::forms(secret) {
        assert!(find(text, &form).is_none(), "{place} holds the secret that begins with {secret:.8}");
    }
}

/// Where `needle` begins in `haystack`.
pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(haystack, needle)
}

fn each_form(secret: &str) -> impl Iterator<Item = (&str, Vec<u8>)> {
    forms::forms(secret).into_iter().map(move |form| (secret, form))
}

/// A client's stream that keeps a copy of both directions.
pub struct Watched<S> {
    inner: S,
    recording: Recording,
}

impl<S> Watched<S> {
    /// Watches `inner` from here on.
    pub fn new(inner: S, sightings: &Sightings) -> Self {
        Self { inner, recording: sightings.begin() }
    }

    /// The stream that is watched.
    pub fn inner(&self) -> &S {
        &self.inner
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        let new = buf.filled().get(before..).unwrap_or_default();
        self.recording.lock().expect("no holder panics").received.extend_from_slice(new);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, buf))?;
        let sent = buf.get(..written).unwrap_or_default();
        self.recording.lock().expect("no holder panics").sent.extend_from_slice(sent);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
