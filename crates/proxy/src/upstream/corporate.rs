//! A tunnel through the user's corporate proxy (RFC 9110 § 9.3.6).

use std::io;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use clauderon_core::config::UpstreamProxy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use super::failure::ProxyFault;

/// Asks the proxy at the other end of `stream` to connect it to `target` (`host:port`).
pub(super) async fn open_tunnel(stream: &mut TcpStream, proxy: &UpstreamProxy, target: &str) -> Result<(), ProxyFault> {
    stream.write_all(request(proxy, target).as_bytes()).await.map_err(ProxyFault::Io)?;
    let status = read_status(stream).await?;
    match status {
        200..=299 => Ok(()),
        407 => Err(ProxyFault::Credentials),
        other => Err(ProxyFault::Status(other)),
    }
}

fn request(proxy: &UpstreamProxy, target: &str) -> Zeroizing<String> {
    let mut head = Zeroizing::new(String::with_capacity(REQUEST_ROOM));
    head.push_str(&format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n"));
    if let Some((user, password)) = &proxy.credentials {
        let pair = Zeroizing::new([user.as_str(), ":", password.expose()].concat());
        let encoded = Zeroizing::new(BASE64_STANDARD.encode(pair.as_bytes()));
        for part in ["Proxy-Authorization: Basic ", &encoded, "\r\n"] {
            head.push_str(part);
        }
    }
    head.push_str("\r\n");
    head
}

async fn read_status(stream: &mut TcpStream) -> Result<u16, ProxyFault> {
    let mut head = Vec::with_capacity(1024);
    loop {
        if stream.read_buf(&mut head).await.map_err(ProxyFault::Io)? == 0 {
            return Err(ProxyFault::Io(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection")));
        }
        if let Some(status) = parse(&head)? {
            return Ok(status);
        }
        if head.len() >= HEAD_MAX {
            return Err(ProxyFault::Malformed);
        }
    }
}

/// The final status, once the head is whole. After a 2xx the origin speaks next, and only when spoken to: bytes behind
/// the head are not the origin's, and are refused.
fn parse(head: &[u8]) -> Result<Option<u16>, ProxyFault> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    let end = match response.parse(head).map_err(|_| ProxyFault::Malformed)? {
        httparse::Status::Complete(end) => end,
        httparse::Status::Partial => return Ok(None),
    };
    let status = response.code.ok_or(ProxyFault::Malformed)?;
    if (200..300).contains(&status) && end < head.len() {
        return Err(ProxyFault::Malformed);
    }
    Ok(Some(status))
}

/// What a proxy's refusal page may need for its head; the page itself is not read.
const HEAD_MAX: usize = 16 * 1024;

const FIELDS_MAX: usize = 64;

/// Enough for the longest name and usual credentials, so that the buffer holding them does not move while it grows.
const REQUEST_ROOM: usize = 4096;
