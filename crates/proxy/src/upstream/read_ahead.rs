//! Larger socket reads under rustls, which asks for 4 KiB at a time.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Passes small reads through; once a read fills the caller's buffer, reads 64 KiB ahead until the socket runs dry.
/// Idle connections own no buffer.
#[derive(Debug)]
pub(crate) struct ReadAhead<S> {
    inner: S,
    /// Empty unless a burst is being read.
    buffer: Box<[u8]>,
    unread: Range<usize>,
    bursting: bool,
}

impl<S> ReadAhead<S> {
    /// Wraps a stream from which nothing was read ahead.
    pub(crate) fn new(inner: S) -> Self {
        Self { inner, buffer: Box::default(), unread: 0..0, bursting: false }
    }

    /// The stream itself; bytes read ahead are not in it.
    #[cfg(test)]
    pub(crate) fn get_ref(&self) -> &S {
        &self.inner
    }

    fn begin_burst(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = SPARE.take().unwrap_or_else(|| vec![0; AHEAD].into());
        }
    }

    fn end_burst(&mut self) {
        self.bursting = false;
        SPARE.set(Some(std::mem::take(&mut self.buffer)));
    }
}

impl<S: AsyncRead + Unpin> ReadAhead<S> {
    fn poll_through(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let room = buf.remaining();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        self.bursting = room > 0 && buf.remaining() == 0;
        Poll::Ready(Ok(()))
    }

    fn poll_refill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.begin_burst();
        let mut buf = ReadBuf::new(&mut self.buffer);
        let outcome = Pin::new(&mut self.inner).poll_read(cx, &mut buf);
        self.unread = 0..buf.filled().len();
        if self.unread.is_empty() {
            self.end_burst();
        }
        outcome
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ReadAhead<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.unread.is_empty() {
            if !this.bursting {
                return this.poll_through(cx, buf);
            }
            ready!(this.poll_refill(cx))?;
        }
        let given = this.unread.len().min(buf.remaining());
        buf.put_slice(&this.buffer[this.unread.start..this.unread.start + given]);
        this.unread.start += given;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ReadAhead<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

thread_local! {
    /// One buffer per thread goes from burst to burst, so that a burst costs neither an allocation nor its zeroing.
    static SPARE: RefCell<Option<Box<[u8]>>> = const { RefCell::new(None) };
}

/// Four TLS records of the largest size.
const AHEAD: usize = 64 * 1024;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_burst_is_read_ahead_and_its_buffer_given_back() {
        let (mut far, near) = tokio::io::duplex(1 << 20);
        let mut ahead = ReadAhead::new(near);
        far.write_all(&[7; 10_000]).await.unwrap();
        let mut chunk = [0; 4096];
        ahead.read_exact(&mut chunk).await.unwrap();
        assert!(ahead.bursting && ahead.buffer.is_empty());
        ahead.read_exact(&mut chunk).await.unwrap();
        assert_eq!(ahead.unread.len(), 10_000 - 2 * 4096);
        far.shutdown().await.unwrap();
        let mut rest = Vec::new();
        ahead.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, [7; 10_000 - 2 * 4096]);
        assert!(!ahead.bursting && ahead.buffer.is_empty());
    }

    #[tokio::test]
    async fn small_messages_own_no_buffer() {
        let (mut far, near) = tokio::io::duplex(1 << 20);
        let mut ahead = ReadAhead::new(near);
        for _ in 0..3 {
            far.write_all(b"hello").await.unwrap();
            let mut chunk = [0; 4096];
            assert_eq!(ahead.read(&mut chunk).await.unwrap(), 5);
            assert!(ahead.buffer.is_empty());
        }
    }

    proptest! {
        #[test]
        fn no_byte_is_lost_or_moved(
            writes in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9000), 0..12),
            room in 1_usize..9000,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let sent: Vec<u8> = writes.concat();
            let got = runtime.block_on(async move {
                let (mut far, near) = tokio::io::duplex(3000);
                let write = async move {
                    for part in writes {
                        far.write_all(&part).await.unwrap();
                    }
                };
                let read = async move {
                    let (mut ahead, mut got, mut chunk) = (ReadAhead::new(near), Vec::new(), vec![0; room]);
                    loop {
                        match ahead.read(&mut chunk).await.unwrap() {
                            0 => break got,
                            read => got.extend_from_slice(&chunk[..read]),
                        }
                    }
                };
                tokio::join!(write, read).1
            });
            prop_assert_eq!(got, sent);
        }
    }
}
