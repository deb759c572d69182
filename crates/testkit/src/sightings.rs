//! Everything any client ever received, kept to be searched for real secrets.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The bytes agents saw, in no particular order. Clones share them.
#[derive(Clone)]
pub struct Sightings(Option<Arc<Mutex<Vec<u8>>>>);

impl Default for Sightings {
    fn default() -> Self {
        Self(Some(Arc::default()))
    }
}

impl Sightings {
    /// Keeps nothing; [`Self::assert_free_of`] panics on it.
    pub fn discarding() -> Self {
        Self(None)
    }

    /// Adds what a client got.
    pub fn add(&self, bytes: &[u8]) {
        self.extend(bytes);
        // A separator, so that two sightings never make a secret (or hide one) together.
        self.extend(b"\n");
    }

    /// Panics when any form of any of `secrets` was seen.
    pub fn assert_free_of(&self, secrets: &[String]) {
        let seen = self.0.as_ref().expect("these sightings were kept").lock().expect("no holder panics");
        for secret in secrets {
            assert_absent("what agents received", &seen, secret);
        }
    }

    fn extend(&self, bytes: &[u8]) {
        if let Some(seen) = &self.0 {
            seen.lock().expect("no holder panics").extend_from_slice(bytes);
        }
    }
}

/// Panics when `text` holds `secret` plainly, as base64 or as the base64 of a Basic pair with the usual user names.
pub fn assert_absent(place: &str, text: &[u8], secret: &str) {
    for form in forms(secret) {
        assert!(find(text, form.as_bytes()).is_none(), "{place} holds the secret that begins with {secret:.8}");
    }
}

/// Where `needle` begins in `haystack`.
pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(haystack, needle)
}

fn forms(secret: &str) -> Vec<String> {
    let basic = ["x-access-token:", "clauderon:", "__token__:", ":"];
    let mut forms = vec![secret.to_owned(), STANDARD.encode(secret), URL_SAFE_NO_PAD.encode(secret)];
    forms.extend(basic.iter().map(|user| STANDARD.encode(format!("{user}{secret}"))));
    forms
}

/// A stream that copies all it reads into [`Sightings`].
pub struct Watched<S> {
    inner: S,
    sightings: Sightings,
}

impl<S> Watched<S> {
    /// Watches `inner`.
    pub fn new(inner: S, sightings: Sightings) -> Self {
        Self { inner, sightings }
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
        self.sightings.extend(buf.filled().get(before..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
