//! Raw bytes on a socket, for either side: what no well-behaved library would send, and what it would not show.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::origin::Log;
use crate::sightings::{Sightings, Watched, find};
use crate::wait::within;

/// A connection, with what was read too far kept for the next read.
pub struct Wire {
    stream: Box<dyn Io>,
    ahead: Vec<u8>,
    log: Option<Arc<Log>>,
    peer: Peer,
}

/// What a client's TLS handshake told about its peer.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    /// The protocol agreed by ALPN.
    pub alpn: Option<Vec<u8>>,
    /// The chain it showed, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
}

/// What a [`Wire`] can run over.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {
    /// The socket below, for its options.
    fn socket(&self) -> BorrowedFd<'_>;
}

/// The head of a message.
#[derive(Debug, Clone)]
pub struct Head {
    /// The request line or status line.
    pub start: String,
    /// The fields in order, names in lower case.
    pub fields: Vec<(String, String)>,
}

/// A whole response.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Heads with 1xx status that came before.
    pub informational: Vec<Head>,
    /// The final head.
    pub head: Head,
    /// The body, chunking removed.
    pub body: Vec<u8>,
    /// Trailer fields.
    pub trailers: Vec<(String, String)>,
}

impl Wire {
    /// Wraps a connection.
    pub fn new(stream: impl Io + 'static) -> Self {
        Self { stream: Box::new(stream), ahead: Vec::new(), log: None, peer: Peer::default() }
    }

    /// Connects to `addr`.
    pub async fn connect(addr: SocketAddr) -> Self {
        let tcp = within("a loopback connect", TcpStream::connect(addr)).await.expect("the listener is up");
        tcp.set_nodelay(true).expect("a socket option");
        Self::new(tcp)
    }

    /// Connects to a Unix socket.
    pub async fn connect_unix(path: &Path) -> Self {
        Self::new(within("a Unix connect", UnixStream::connect(path)).await.expect("the socket is up"))
    }

    /// Speaks TLS on top, as a client that asks for `name`; panics when the handshake fails.
    pub async fn tls(self, name: &str, config: Arc<ClientConfig>) -> Self {
        self.try_tls(name, config).await.expect("the TLS handshake succeeds")
    }

    /// Speaks TLS on top, as a client that asks for `name`.
    pub async fn try_tls(self, name: &str, config: Arc<ClientConfig>) -> io::Result<Self> {
        let name = ServerName::try_from(name.to_owned()).expect("test names are valid");
        let stream = within("a TLS handshake", TlsConnector::from(config).connect(name, self)).await?;
        let session = stream.get_ref().1;
        let alpn = session.alpn_protocol().map(<[u8]>::to_vec);
        let chain = session.peer_certificates().unwrap_or_default().to_vec();
        Ok(Self { peer: Peer { alpn, chain }, ..Self::new(stream) })
    }

    /// What the last TLS handshake told about the peer.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Copies all that is read from now on into `sightings`.
    #[must_use]
    pub fn watched(self, sightings: &Sightings) -> Self {
        let peer = self.peer.clone();
        Self { peer, ..Self::new(Watched::new(self, sightings)) }
    }

    pub(crate) fn counted_by(mut self, log: Arc<Log>) -> Self {
        self.log = Some(log);
        self
    }

    /// The next byte, which stays to be read; `None` when the connection ends.
    pub(crate) async fn peek(&mut self) -> Option<u8> {
        if self.ahead.is_empty() {
            self.more().await;
        }
        self.ahead.first().copied()
    }

    /// Sends bytes; panics when the peer is gone.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        assert!(self.try_send(bytes).await, "the peer closed before everything was sent");
    }

    /// Sends bytes; false when the peer is gone.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let sent = async {
            self.write_all(bytes.as_ref()).await?;
            self.flush().await
        };
        within("room to send", sent).await.is_ok()
    }

    /// Reads up to and including `end`; `None` when the connection ends before.
    pub async fn until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = find(&self.ahead, end) {
                return Some(self.ahead.drain(..at + end.len()).collect());
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// Reads exactly `len` bytes; `None` when the connection ends before.
    pub async fn exactly(&mut self, len: usize) -> Option<Vec<u8>> {
        while self.ahead.len() < len {
            if !self.more().await {
                return None;
            }
        }
        Some(self.ahead.drain(..len).collect())
    }

    /// Reads to the end of the connection, orderly or not.
    pub async fn rest(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.ahead)
    }

    /// What comes until the connection ends; `None` when it stays open longer than a peer that meant to close it would.
    pub async fn ending(&mut self) -> Option<Vec<u8>> {
        tokio::time::timeout(CLOSING, self.rest()).await.ok()
    }

    /// What was received and not read yet.
    pub fn pending(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.ahead)
    }

    /// Reads a message head; `None` when the connection ends before.
    pub async fn head(&mut self) -> Option<Head> {
        let bytes = self.until(b"\r\n\r\n").await?;
        Some(Head::parse(&String::from_utf8_lossy(&bytes)))
    }

    /// Reads a whole request and gives its head and body; `None` when there is none.
    pub async fn request(&mut self) -> Option<(Head, Vec<u8>)> {
        let head = self.head().await?;
        let (body, _) = if head.has_body() { self.body(&head).await? } else { (Vec::new(), Vec::new()) };
        Some((head, body))
    }

    /// Reads a whole response; `None` when the connection ends before its head is complete.
    pub async fn reply(&mut self) -> Option<Reply> {
        let mut informational = Vec::new();
        loop {
            let head = self.head().await?;
            if (100..200).contains(&head.status()) && head.status() != 101 {
                informational.push(head);
                continue;
            }
            let bodiless = matches!(head.status(), 101 | 204 | 304);
            let (body, trailers) = if bodiless { Default::default() } else { self.body(&head).await? };
            return Some(Reply { informational, head, body, trailers });
        }
    }

    /// Sends `request` and reads the reply.
    pub async fn exchange(&mut self, request: impl AsRef<[u8]>) -> Option<Reply> {
        // A refusal may come, and close, before all is sent.
        self.try_send(request).await;
        self.reply().await
    }

    /// Closes by RST: the peer learns of a failure, not of an end.
    pub fn reset(self) {
        let _ = rustix::net::sockopt::set_socket_linger(self.socket(), Some(std::time::Duration::ZERO));
    }

    async fn body(&mut self, head: &Head) -> Option<(Vec<u8>, Vec<(String, String)>)> {
        if head.field("transfer-encoding").is_some() {
            return self.chunks().await;
        }
        let body = match head.field("content-length") {
            Some(len) => self.exactly(len.parse().expect("Content-Length is a number")).await?,
            None => self.rest().await,
        };
        Some((body, Vec::new()))
    }

    async fn chunks(&mut self) -> Option<(Vec<u8>, Vec<(String, String)>)> {
        let mut body = Vec::new();
        loop {
            let line = self.until(b"\r\n").await?;
            let digits = String::from_utf8_lossy(&line);
            let size = digits.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).expect("a chunk size is hexadecimal");
            if size == 0 {
                return Some((body, self.trailer_section().await?));
            }
            body.extend(self.exactly(size).await?);
            assert_eq!(self.exactly(2).await?, b"\r\n", "a chunk ends with CR LF");
        }
    }

    async fn trailer_section(&mut self) -> Option<Vec<(String, String)>> {
        let mut fields = Vec::new();
        loop {
            let line = self.until(b"\r\n").await?;
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            if line.is_empty() {
                return Some(fields);
            }
            fields.push(field(&line));
        }
    }

    async fn more(&mut self) -> bool {
        let mut block = vec![0; 64 * 1024];
        let count = within("bytes", self.stream.read(&mut block)).await.unwrap_or(0);
        self.ahead.extend_from_slice(block.get(..count).unwrap_or_default());
        if let Some(log) = &self.log {
            log.count_bytes(count);
        }
        count > 0
    }
}

impl Head {
    fn parse(text: &str) -> Self {
        let mut lines = text.trim_end().split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        Self { start, fields: lines.map(field).collect() }
    }

    /// The status of a status line; 0 for a request line.
    pub fn status(&self) -> u16 {
        self.start.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok()).unwrap_or(0)
    }

    /// The first value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// How often a field occurs.
    pub fn occurrences(&self, name: &str) -> usize {
        self.fields.iter().filter(|(field, _)| field == name).count()
    }

    fn has_body(&self) -> bool {
        self.field("content-length").is_some() || self.field("transfer-encoding").is_some()
    }
}

impl Reply {
    /// The status.
    pub fn status(&self) -> u16 {
        self.head.status()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; panics when it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }
}

/// Above the 10 s a daemon gives a request head.
const CLOSING: std::time::Duration = std::time::Duration::from_secs(15);

fn field(line: &str) -> (String, String) {
    let (name, value) = line.split_once(':').unwrap_or((line, ""));
    (name.to_ascii_lowercase(), value.trim().to_owned())
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let take = self.ahead.len().min(buf.remaining());
        let bytes: Vec<u8> = self.ahead.drain(..take).collect();
        buf.put_slice(&bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Io for Wire {
    fn socket(&self) -> BorrowedFd<'_> {
        self.stream.socket()
    }
}

impl Io for TcpStream {
    fn socket(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }
}

impl Io for UnixStream {
    fn socket(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }
}

impl<S: Io> Io for Watched<S> {
    fn socket(&self) -> BorrowedFd<'_> {
        self.inner().socket()
    }
}

impl<S: Io> Io for tokio_rustls::client::TlsStream<S> {
    fn socket(&self) -> BorrowedFd<'_> {
        self.get_ref().0.socket()
    }
}

impl<S: Io> Io for tokio_rustls::server::TlsStream<S> {
    fn socket(&self) -> BorrowedFd<'_> {
        self.get_ref().0.socket()
    }
}
