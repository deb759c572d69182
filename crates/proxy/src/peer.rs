//! Whose process is at the other end of a loopback connection.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recvfrom, send, socket_with};

/// Whether the process at `peer` runs as the daemon's own user; what cannot be found out is not the same user.
pub(crate) fn same_user(peer: SocketAddr, local: SocketAddr) -> bool {
    uid_of_peer(peer, local).is_ok_and(|uid| uid == rustix::process::geteuid().as_raw())
}

/// The user id that owns `peer`'s end of a connection accepted at `local`, as the kernel's socket diagnostics tell it.
/// Fails for a socket that its process has closed: the kernel then no longer knows an owner, and says 0.
pub(crate) fn uid_of_peer(peer: SocketAddr, local: SocketAddr) -> io::Result<u32> {
    // Seen from the peer: its own address is the local one.
    let ends = Ends { local: canonical(peer), remote: canonical(local) };
    ask_kernel(ends).or_else(|_not_permitted| search_tables(ends))
}

/// A connection as its client's socket sees it; IPv4-mapped addresses are unwrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ends {
    local: SocketAddr,
    remote: SocketAddr,
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// One exact look-up (`sock_diag(7)`): its cost does not grow with the number of sockets, as a search of /proc's does.
fn ask_kernel(ends: Ends) -> io::Result<u32> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, SocketFlags::CLOEXEC, Some(SOCK_DIAG))?;
    send(&socket, &request(ends), SendFlags::empty())?;
    let mut reply = [0; REPLY_ROOM];
    // The kernel answers before `send` returns, so there is nothing to wait for.
    let (_, length, sender) = recvfrom(&socket, &mut reply, RecvFlags::DONTWAIT)?;
    let from_kernel = sender.and_then(|sender| SocketAddrNetlink::try_from(sender).ok()).is_some_and(|s| s.pid() == 0);
    let reply = reply.get(..length).filter(|_| from_kernel).ok_or_else(|| malformed("no answer of the kernel's"))?;
    read_reply(reply, ends)
}

/// `struct nlmsghdr` with `struct inet_diag_req_v2` (linux/netlink.h, linux/inet_diag.h).
fn request(ends: Ends) -> Vec<u8> {
    let mut message = Vec::with_capacity(REQUEST_LEN);
    message.extend((REQUEST_LEN as u32).to_ne_bytes());
    message.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    message.extend(SEQUENCE.to_ne_bytes());
    message.extend([0; 4]); // our port id: the kernel fills it in
    let family = if ends.local.is_ipv4() { AF_INET } else { AF_INET6 };
    message.extend([family, IPPROTO_TCP, 0, 0]);
    message.extend(ALL_STATES.to_ne_bytes());
    message.extend(ends.local.port().to_be_bytes());
    message.extend(ends.remote.port().to_be_bytes());
    message.extend(address_field(ends.local.ip()));
    message.extend(address_field(ends.remote.ip()));
    message.extend([0; 4]); // any interface
    message.extend([0xff; 8]); // INET_DIAG_NOCOOKIE
    message
}

fn address_field(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V6(ip) => ip.octets(),
        IpAddr::V4(ip) => {
            let mut field = [0; 16];
            field[..4].copy_from_slice(&ip.octets());
            field
        }
    }
}

/// Reads `struct nlmsghdr` with `struct inet_diag_msg`. The look-up falls back to listeners, so the answer must show
/// the very connection that was asked for.
fn read_reply(reply: &[u8], asked: Ends) -> io::Result<u32> {
    let mut rest = Fields(reply);
    let (_length, kind, _flags) = (rest.u32()?, rest.u16()?, rest.u16()?);
    let (sequence, _port_id) = (rest.u32()?, rest.u32()?);
    if kind == NLMSG_ERROR {
        return Err(io::Error::from_raw_os_error(rest.u32()?.cast_signed().wrapping_neg()));
    }
    if kind != SOCK_DIAG_BY_FAMILY || sequence != SEQUENCE {
        return Err(malformed("another answer than the one asked for"));
    }
    let [family, _state, _timer, _retransmits] = rest.take()?;
    let (local_port, remote_port) = (u16::from_be_bytes(rest.take()?), u16::from_be_bytes(rest.take()?));
    let (local, remote) = (rest.ip(family)?, rest.ip(family)?);
    let [_interface, _cookie_low, _cookie_high, _expires, _read_queue, _write_queue] =
        [rest.u32()?, rest.u32()?, rest.u32()?, rest.u32()?, rest.u32()?, rest.u32()?];
    let (uid, inode) = (rest.u32()?, rest.u32()?);
    let ends = Ends { local: SocketAddr::new(local, local_port), remote: SocketAddr::new(remote, remote_port) };
    owner(ends, uid, inode, asked).ok_or_else(|| malformed("the socket is closed or another's"))
}

fn owner(found: Ends, uid: u32, inode: u32, asked: Ends) -> Option<u32> {
    (found == asked && inode != 0).then_some(uid)
}

/// A cursor over the kernel's bytes.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk().ok_or_else(|| malformed("a short answer"))?;
        self.0 = rest;
        Ok(*field)
    }

    fn u16(&mut self) -> io::Result<u16> {
        self.take().map(u16::from_ne_bytes)
    }

    fn u32(&mut self) -> io::Result<u32> {
        self.take().map(u32::from_ne_bytes)
    }

    fn ip(&mut self, family: u8) -> io::Result<IpAddr> {
        let field: [u8; 16] = self.take()?;
        let [a, b, c, d, ..] = field;
        match family {
            AF_INET => Ok(Ipv4Addr::new(a, b, c, d).into()),
            AF_INET6 => Ok(IpAddr::from(field).to_canonical()),
            _ => Err(malformed("an unknown address family")),
        }
    }
}

/// For kernels and containers without socket diagnostics.
fn search_tables(ends: Ends) -> io::Result<u32> {
    let found = |table| Ok::<_, io::Error>(search_table(BufReader::new(File::open(table)?), ends));
    // A system without IPv6 has no second table.
    let uid = found("/proc/net/tcp")?.or_else(|| found("/proc/net/tcp6").ok().flatten());
    uid.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such connection, or already closed"))
}

fn search_table(table: impl BufRead, asked: Ends) -> Option<u32> {
    table.lines().map_while(Result::ok).find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let ends = Ends { local: table_address(fields.nth(1)?)?, remote: table_address(fields.next()?)? };
        // Between: state, queues, timer, retransmits; then uid, timeout, inode.
        let uid = fields.nth(4)?.parse().ok()?;
        let inode = fields.nth(1)?.parse().ok()?;
        owner(ends, uid, inode, asked)
    })
}

/// `0100007F:0BD6`: the address as 32-bit words in the machine's byte order, the port as a number.
fn table_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| u32::from_str_radix(ip.get(at * 8..at * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let words: [[u8; 4]; 4] = [word(0)?, word(1)?, word(2)?, word(3)?];
            let octets: [u8; 16] = words.concat().try_into().ok()?;
            IpAddr::V6(Ipv6Addr::from(octets)).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

fn malformed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
const ALL_STATES: u32 = u32::MAX;

/// Each question has a socket of its own, so any number will do.
const SEQUENCE: u32 = 1;

/// 16 bytes of header, 56 of question.
const REQUEST_LEN: usize = 72;

/// The answer is 88 bytes and its attributes, none of which were asked for.
const REPLY_ROOM: usize = 1024;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    use super::*;

    fn own_uid() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    /// The address that a listener on `bind` and a client calling `call` see of each other.
    fn pair(bind: &str, call: &str) -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind((bind, 0)).unwrap();
        let client = TcpStream::connect((call, listener.local_addr().unwrap().port())).unwrap();
        (client, listener.accept().unwrap().0)
    }

    fn ends_of(accepted: &TcpStream) -> Ends {
        let (peer, local) = (accepted.peer_addr().unwrap(), accepted.local_addr().unwrap());
        Ends { local: canonical(peer), remote: canonical(local) }
    }

    #[test]
    fn our_own_connections_are_ours_in_every_family() {
        for (bind, call) in
            [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("::", "127.0.0.1"), ("::", "::ffff:127.0.0.1")]
        {
            let (_client, accepted) = pair(bind, call);
            let ends = ends_of(&accepted);
            assert_eq!(ask_kernel(ends).unwrap(), own_uid(), "{bind} {call}");
            assert_eq!(search_tables(ends).unwrap(), own_uid(), "{bind} {call}");
            assert!(same_user(accepted.peer_addr().unwrap(), accepted.local_addr().unwrap()));
        }
    }

    #[test]
    fn another_process_is_known_by_its_user() {
        // Only root can start a process of another user; anyone else checks a process of their own.
        let uid = if own_uid() == 0 { 65_534 } else { own_uid() };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut command = Command::new("bash");
        command.args(["-c", &format!("exec 3<>/dev/tcp/127.0.0.1/{port}; read -r -u 3 _")]).stdin(Stdio::null());
        if own_uid() == 0 {
            command.uid(uid);
        }
        let mut child = command.spawn().unwrap();
        let (accepted, peer) = listener.accept().unwrap();
        let ends = ends_of(&accepted);
        assert_eq!(ask_kernel(ends).unwrap(), uid);
        assert_eq!(search_tables(ends).unwrap(), uid);
        assert_eq!(same_user(peer, accepted.local_addr().unwrap()), uid == own_uid());
        drop(accepted);
        child.wait().unwrap();
    }

    #[test]
    fn a_closed_socket_has_no_owner() {
        let (client, mut accepted) = pair("127.0.0.1", "127.0.0.1");
        let (peer, local) = (accepted.peer_addr().unwrap(), accepted.local_addr().unwrap());
        drop(client);
        // The end of the stream shows that the client's socket has been closed.
        assert_eq!(accepted.read(&mut [0]).unwrap(), 0);
        assert!(uid_of_peer(peer, local).is_err());
        assert!(!same_user(peer, local));
    }

    #[test]
    fn a_listener_is_no_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ends = Ends { local: listener.local_addr().unwrap(), remote: "127.0.0.1:1".parse().unwrap() };
        assert!(ask_kernel(ends).is_err());
        assert!(search_tables(ends).is_err());
    }

    /// An answer for `ends`, as the kernel lays it out.
    fn reply(ends: Ends, uid: u32, inode: u32) -> Vec<u8> {
        let asked = request(ends);
        let mut reply = asked[..16].to_vec();
        reply.extend([AF_INET, 1, 0, 0]);
        reply.extend(&asked[24..72]);
        reply.extend([0; 12]);
        reply.extend(uid.to_ne_bytes());
        reply.extend(inode.to_ne_bytes());
        reply
    }

    #[test]
    fn only_the_answer_to_the_question_counts() {
        let ends = Ends { local: "127.0.0.1:40000".parse().unwrap(), remote: "127.0.0.1:3030".parse().unwrap() };
        let other = Ends { local: "127.0.0.1:40001".parse().unwrap(), ..ends };
        assert_eq!(read_reply(&reply(ends, 1000, 7), ends).unwrap(), 1000);
        assert!(read_reply(&reply(other, 1000, 7), ends).is_err());
        assert!(read_reply(&reply(ends, 0, 0), ends).is_err());
        let whole = reply(ends, 1000, 7);
        for length in 0..whole.len() {
            assert!(read_reply(&whole[..length], ends).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn table_addresses_are_read_in_the_machines_byte_order() {
        let v4 = u32::from_ne_bytes([127, 0, 0, 1]);
        assert_eq!(table_address(&format!("{v4:08X}:0BD6")), Some("127.0.0.1:3030".parse().unwrap()));
        let last = u32::from_ne_bytes([0, 0, 0, 1]);
        assert_eq!(table_address(&format!("{:024X}{last:08X}:0050", 0)), Some("[::1]:80".parse().unwrap()));
        for bad in ["", ":", "0100007F", "0100007:1", "0100007F:12345", "é100007F:0050"] {
            assert_eq!(table_address(bad), None, "{bad}");
        }
    }
}
