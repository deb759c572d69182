//! Brings up the loopback interface of the new network namespace; there is no other.

use std::io;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};

use crate::error::{SandboxError, Step as _};

/// Puts `lo` up and gives it one address besides 127.0.0.1: the C library takes a machine that has only that one for a
/// machine without IPv4, and then does not ask for IPv4 addresses at all.
pub(crate) fn bring_up_loopback() -> Result<(), SandboxError> {
    ask(RTM_NEWLINK, 0, &link_up()).step("bringing up lo")?;
    ask(RTM_NEWADDR, CREATE, &second_address()).step("giving lo a second address")
}

/// One request to the kernel's routing tables, and its answer.
fn ask(kind: u16, flags: u16, payload: &[u8]) -> io::Result<()> {
    // No protocol means routing.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let length = u32::try_from(HEADER_BYTES + payload.len()).map_err(io::Error::other)?;
    let mut message = Vec::with_capacity(HEADER_BYTES + payload.len());
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend((REQUEST | ACK | flags).to_ne_bytes());
    message.extend([0; 8]);
    message.extend(payload);
    sendto(&socket, &message, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut answer = [0; 512];
    let (filled, _) = recv(&socket, &mut answer, RecvFlags::empty())?;
    // An answer is a header, then the negated error number.
    let number = answer.get(HEADER_BYTES..filled).and_then(|rest| rest.first_chunk::<4>());
    match number.map(|bytes| i32::from_ne_bytes(*bytes)) {
        Some(0) => Ok(()),
        Some(error) => Err(io::Error::from_raw_os_error(-error)),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// `struct ifinfomsg`: set the flag "up" on interface 1, which is `lo` in every network namespace.
fn link_up() -> Vec<u8> {
    let mut text = vec![0, 0, 0, 0];
    text.extend(LOOPBACK.to_ne_bytes());
    text.extend(IFF_UP.to_ne_bytes());
    text.extend(IFF_UP.to_ne_bytes());
    text
}

/// `struct ifaddrmsg` and the attribute `IFA_LOCAL`.
fn second_address() -> Vec<u8> {
    let mut text = vec![AF_INET, 8, 0, HOST_SCOPE];
    text.extend(LOOPBACK.to_ne_bytes());
    text.extend(8_u16.to_ne_bytes());
    text.extend(IFA_LOCAL.to_ne_bytes());
    text.extend([127, 1, 0, 1]);
    text
}

const HEADER_BYTES: usize = 16;
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const CREATE: u16 = 0x400;
const LOOPBACK: u32 = 1;
const IFF_UP: u32 = 1;
const IFA_LOCAL: u16 = 2;
const AF_INET: u8 = 2;
const HOST_SCOPE: u8 = 254;
