//! WebSocket by hand (RFC 6455), as far as an echo needs it. The kit's own clients use the RFC's key.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::bytes::Wire;

/// A client's key and the only answer to it (RFC 6455, section 1.3).
pub const KEY: (&str, &str) = ("dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");

/// The answer to any client's key (RFC 6455, section 4.2.2).
pub fn accept(key: &str) -> String {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()))
}

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Whether it ends its message.
    pub fin: bool,
    /// 0 continuation, 1 text, 2 binary, 8 close, 9 ping, 10 pong.
    pub opcode: u8,
    /// The payload, unmasked.
    pub payload: Vec<u8>,
}

/// The head of an upgrade request.
pub fn request(path: &str, host: &str, more: &str) -> String {
    let key = KEY.0;
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{more}\r\n"
    )
}

/// Sends a frame; a client masks, a server does not.
pub async fn send(wire: &mut Wire, frame: &Frame, mask: bool) {
    let mut bytes = vec![u8::from(frame.fin) << 7 | frame.opcode];
    let masked = u8::from(mask) << 7;
    match frame.payload.len() {
        len @ 0..=125 => bytes.push(masked | len as u8),
        len @ 126..=0xffff => {
            bytes.push(masked | 126);
            bytes.extend((len as u16).to_be_bytes());
        }
        len => {
            bytes.push(masked | 127);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    if mask {
        bytes.extend(MASK);
        bytes.extend(frame.payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
    } else {
        bytes.extend(&frame.payload);
    }
    wire.send(bytes).await;
}

/// Receives a frame; `None` when the connection ended.
pub async fn receive(wire: &mut Wire) -> Option<Frame> {
    let head = wire.exactly(2).await?;
    let (first, second) = (*head.first()?, *head.get(1)?);
    let len = match second & 0x7f {
        126 => u64::from(u16::from_be_bytes(wire.exactly(2).await?.try_into().ok()?)),
        127 => u64::from_be_bytes(wire.exactly(8).await?.try_into().ok()?),
        len => u64::from(len),
    };
    let mask = if second & 0x80 == 0 { vec![0; 4] } else { wire.exactly(4).await? };
    let payload = wire.exactly(usize::try_from(len).ok()?).await?;
    let payload = payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
    Some(Frame { fin: first & 0x80 != 0, opcode: first & 0x0f, payload })
}

/// A script: upgrades when `credential` stands in `Authorization`, then echoes frames until a close frame.
pub async fn echo(mut wire: Wire, credential: String) {
    let Some((head, _)) = wire.request().await else { return };
    let upgrades = head.field("upgrade") == Some("websocket") && head.field("sec-websocket-key") == Some(KEY.0);
    if !upgrades || head.field("authorization") != Some(&credential) {
        wire.try_send("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n").await;
        return;
    }
    let accept = KEY.1;
    let switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
    wire.send(format!("{switching}Sec-WebSocket-Accept: {accept}\r\n\r\n")).await;
    while let Some(frame) = receive(&mut wire).await {
        send(&mut wire, &frame, false).await;
        if frame.opcode == 8 {
            return;
        }
    }
}

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
