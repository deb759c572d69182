//! Whose process is at the other end of a loopback connection.

use std::io;
use std::net::SocketAddr;

/// The user id that owns `peer`'s end of a connection accepted at `local`, as the kernel's socket diagnostics tell it.
pub(crate) fn uid_of_peer(_peer: SocketAddr, _local: SocketAddr) -> io::Result<u32> {
    unimplemented!()
}

/// Whether the process at `peer` runs as the daemon's own user; what cannot be found out is not the same user.
pub(crate) fn same_user(peer: SocketAddr, local: SocketAddr) -> bool {
    uid_of_peer(peer, local).is_ok_and(|uid| uid == rustix::process::geteuid().as_raw())
}
