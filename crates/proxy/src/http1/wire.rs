//! Buffered bytes of one HTTP/1 connection, on either side. An idle connection owns no buffer: reads land in a scratch area of the
//! thread, and only what arrived is kept.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The connection's stream with what was read but not yet used, and what is still to be written.
pub(crate) struct Wire<S> {
    pub(crate) stream: S,
    /// Read, not yet parsed.
    pub(crate) read: BytesMut,
    /// The peer has ended its input.
    pub(crate) eof: bool,
    write: WriteQueue,
}

impl<S> Wire<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, read: BytesMut::new(), eof: false, write: WriteQueue::default() }
    }

    /// Queues a few bytes: heads, chunk sizes.
    pub(crate) fn push_small(&mut self, bytes: &[u8]) {
        self.write.tail.extend_from_slice(bytes);
    }

    /// Queues body bytes, without copying large ones.
    pub(crate) fn push(&mut self, bytes: Bytes) {
        self.write.push(bytes);
    }

    /// The place to format a head into.
    pub(crate) fn tail(&mut self) -> &mut BytesMut {
        &mut self.write.tail
    }

    /// Whether anything waits to be written.
    pub(crate) fn has_queued(&self) -> bool {
        self.write.len() > 0
    }

    /// Whether so much waits to be written that whoever sends must wait for whoever reads (back-pressure).
    pub(crate) fn is_full(&self) -> bool {
        self.write.len() >= WRITE_AHEAD
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Reads once and appends to `read`; 0 means end of input.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buf = ReadBuf::new(scratch);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf))?;
            let filled = buf.filled();
            self.eof |= filled.is_empty();
            self.read.extend_from_slice(filled);
            Poll::Ready(Ok(filled.len()))
        })
    }

    /// Writes everything queued and flushes the stream.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.write.len() > 0 {
            let n = ready!(self.write.poll_write(Pin::new(&mut self.stream), cx))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Ends the output (TLS close_notify, FIN).
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Bytes to write: large pieces as they came, small ones gathered in the tail.
#[derive(Default)]
struct WriteQueue {
    pieces: VecDeque<Bytes>,
    tail: BytesMut,
}

impl WriteQueue {
    fn push(&mut self, bytes: Bytes) {
        if bytes.len() < COPY_BELOW {
            return self.tail.extend_from_slice(&bytes);
        }
        if !self.tail.is_empty() {
            self.pieces.push_back(self.tail.split().freeze());
        }
        self.pieces.push_back(bytes);
    }

    fn len(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum::<usize>() + self.tail.len()
    }

    fn poll_write(&mut self, stream: Pin<&mut impl AsyncWrite>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let written = if self.pieces.is_empty() {
            ready!(stream.poll_write(cx, &self.tail))?
        } else {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let parts = self.pieces.iter().map(Bytes::as_ref).chain([self.tail.as_ref()]);
            let used = slices.iter_mut().zip(parts).map(|(slice, part)| *slice = IoSlice::new(part)).count();
            ready!(stream.poll_write_vectored(cx, slices.get(..used).unwrap_or_default()))?
        };
        self.advance(written);
        Poll::Ready(Ok(written))
    }

    fn advance(&mut self, mut n: usize) {
        while let Some(front) = self.pieces.front_mut().filter(|_| n > 0) {
            let step = n.min(front.len());
            front.advance(step);
            n -= step;
            if front.is_empty() {
                self.pieces.pop_front();
            }
        }
        self.tail.advance(n);
        if self.len() == 0 {
            self.tail.clear();
            if self.tail.capacity() > MAX_KEPT {
                // An idle connection keeps room for a head, and no more.
                self.tail = BytesMut::new();
            }
        }
    }
}

thread_local! {
    /// Large reads halve the system calls of bulk bodies; one area a thread serves every connection.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_LEN].into());
}

const WRITE_AHEAD: usize = 64 * 1024;

const SCRATCH_LEN: usize = 64 * 1024;

/// Below this, copying into the tail is cheaper than another slice of a gathered write.
const COPY_BELOW: usize = 2048;

const MAX_SLICES: usize = 8;

const MAX_KEPT: usize = 2048;
