//! SPDY/3.1 from the server's side, as far as kubectl needs it: streams with headers, data both ways, and their ends.

use std::io;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, WriteHalf};
use tokio::sync::mpsc;

/// What the client says.
pub(super) enum Said {
    /// A stream begins, with these headers.
    Opened { stream: u32, headers: Vec<(String, String)> },
    /// Bytes on a stream, and whether they are its last.
    Data { stream: u32, bytes: Vec<u8>, last: bool },
    /// A ping, to be sent back as it is.
    Ping(Vec<u8>),
}

/// What is said on a connection, and the hand to answer with.
pub(super) fn open<S>(io: S) -> (mpsc::Receiver<Said>, Speaker<WriteHalf<S>>)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (reads, io) = tokio::io::split(io);
    let (told, said) = mpsc::channel(16);
    let mut listener = Listener { io: reads, inflate: Decompress::new(true) };
    tokio::spawn(async move {
        while let Ok(Some(said)) = listener.next().await {
            if told.send(said).await.is_err() {
                return;
            }
        }
    });
    (said, Speaker { io, deflate: Compress::new(Compression::default(), true), primed: false })
}

struct Listener<R> {
    io: R,
    inflate: Decompress,
}

/// The writing half.
pub(super) struct Speaker<W> {
    io: W,
    deflate: Compress,
    /// Whether the first header block, which brings the dictionary along, is out.
    primed: bool,
}

impl<R: AsyncRead + Unpin> Listener<R> {
    /// The next thing said that matters; `None` when the client says good-bye.
    async fn next(&mut self) -> io::Result<Option<Said>> {
        loop {
            let mut head = [0; 8];
            self.io.read_exact(&mut head).await?;
            let [a, b, kind_high, kind_low, flags, high, middle, low] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, high, middle, low]) as usize];
            self.io.read_exact(&mut payload).await?;
            if a & 0x80 == 0 {
                let stream = u32::from_be_bytes([a, b, kind_high, kind_low]);
                return Ok(Some(Said::Data { stream, bytes: payload, last: flags & 1 != 0 }));
            }
            match u16::from_be_bytes([kind_high, kind_low]) {
                1 => {
                    let stream = word(&payload, 0)? & 0x7fff_ffff;
                    let headers = self.headers(payload.get(10..).unwrap_or_default())?;
                    return Ok(Some(Said::Opened { stream, headers }));
                }
                6 => return Ok(Some(Said::Ping([&head[..], &payload].concat()))),
                7 => return Ok(None),
                _ => {}
            }
        }
    }

    /// A header block: a count, then names and values, each with its length.
    fn headers(&mut self, block: &[u8]) -> io::Result<Vec<(String, String)>> {
        let mut plain = Vec::with_capacity(8192);
        let before = self.inflate.total_in();
        let first = self.inflate.decompress_vec(block, &mut plain, FlushDecompress::Sync);
        if first.is_err() && before == 0 {
            // The stream asks for the dictionary once, and says so by failing.
            self.inflate.set_dictionary(&dictionary()).map_err(io::Error::other)?;
            let read = usize::try_from(self.inflate.total_in()).map_err(io::Error::other)?;
            let rest = block.get(read..).unwrap_or_default();
            self.inflate.decompress_vec(rest, &mut plain, FlushDecompress::Sync).map_err(io::Error::other)?;
        } else {
            first.map_err(io::Error::other)?;
        }
        let mut at = 4;
        let mut text = || {
            let length = word(&plain, at)? as usize;
            let bytes = plain.get(at + 4..at + 4 + length).ok_or(io::ErrorKind::InvalidData)?;
            at += 4 + length;
            io::Result::Ok(String::from_utf8_lossy(bytes).into_owned())
        };
        (0..word(&plain, 0)?).map(|_| Ok((text()?, text()?))).collect()
    }
}

impl<W: AsyncWrite + Unpin> Speaker<W> {
    /// Sends bytes on a stream.
    pub(super) async fn send(&mut self, stream: u32, bytes: &[u8], last: bool) -> io::Result<()> {
        let [_, length @ ..] = u32::try_from(bytes.len()).map_err(io::Error::other)?.to_be_bytes();
        let mut frame = stream.to_be_bytes().to_vec();
        frame.push(u8::from(last));
        frame.extend_from_slice(&length);
        frame.extend_from_slice(bytes);
        self.raw(&frame).await
    }

    /// Sends bytes as they are.
    pub(super) async fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.io.write_all(bytes).await?;
        self.io.flush().await
    }

    /// Accepts a stream, without headers.
    pub(super) async fn accept(&mut self, stream: u32) -> io::Result<()> {
        if !self.primed {
            self.deflate.set_dictionary(&dictionary()).map_err(io::Error::other)?;
            self.primed = true;
        }
        let mut block = Vec::with_capacity(256);
        self.deflate.compress_vec(&0_u32.to_be_bytes(), &mut block, FlushCompress::Sync).map_err(io::Error::other)?;
        let [_, length @ ..] = u32::try_from(block.len() + 4).map_err(io::Error::other)?.to_be_bytes();
        let mut frame = vec![0x80, 3, 0, 2, 0];
        frame.extend_from_slice(&length);
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(&block);
        self.raw(&frame).await
    }
}

fn word(bytes: &[u8], at: usize) -> io::Result<u32> {
    let bytes = bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    bytes.map(u32::from_be_bytes).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The bytes both ends begin compressing with (SPDY/3, section 2.6.10.1): words with their lengths, then loose text.
fn dictionary() -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1423);
    for word in WORDS.split_ascii_whitespace().map(|word| word.replace('_', " ")) {
        bytes.extend((word.len() as u32).to_be_bytes());
        bytes.extend_from_slice(word.as_bytes());
    }
    bytes.extend_from_slice(TAIL.as_bytes());
    bytes
}

const WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges \
    age allow authorization cache-control connection content-base content-encoding content-language content-length \
    content-location content-md5 content-range content-type date etag expect expires from host if-match \
    if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma \
    proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade \
    user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie \
    keep-alive origin";

const TAIL: &str = concat!(
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505",
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden",
    "404 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug ",
    "Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,",
    "application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdch",
    "charset=utf-8charset=iso-8859-1,utf-,*,enq=0."
);

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use super::*;

    #[test]
    fn the_dictionary_is_the_norms() {
        // zlib tells a dictionary by this sum, and every SPDY peer expects this one.
        let mut deflate = Compress::new(Compression::default(), true);
        assert_eq!(deflate.set_dictionary(&dictionary()).unwrap(), 0xe3c6_a7c2);
        assert_eq!(dictionary().len(), 1423);
    }
}
