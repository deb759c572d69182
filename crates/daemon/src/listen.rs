//! The daemon's own sockets.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, UnixListener};

/// Why the daemon cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another process has the port.
    #[error("port {} is in use{}: stop that process, or choose another port with {setting} (0 picks a free one)", address.port(), by(owner.as_deref()))]
    InUse {
        /// The address asked for.
        address: SocketAddr,
        /// The process that listens there, where it can be known.
        owner: Option<String>,
        /// What sets the port.
        setting: &'static str,
    },
    /// The address cannot be bound.
    #[error("{address} cannot be listened on ({source}): choose another with --bind and {setting}")]
    Address {
        /// The address asked for.
        address: SocketAddr,
        /// Why.
        source: io::Error,
        /// What sets the port.
        setting: &'static str,
    },
    /// The control socket cannot be made.
    #[error("{} cannot be listened on: {source}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Binds the port that `setting` sets; port 0 takes a free one.
pub(crate) async fn tcp(ip: IpAddr, port: u16, setting: &'static str) -> Result<TcpListener, ListenError> {
    let address = SocketAddr::new(ip, port);
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::InUse { address, owner: listener_of(port), setting },
        _ => ListenError::Address { address, source, setting },
    })
}

/// Binds the control socket in place of one that a killed daemon left; only for the holder of the home's lock.
pub(crate) fn control(path: &Path) -> Result<UnixListener, ListenError> {
    let bind = || {
        let (dir, name) = path.parent().zip(path.file_name()).ok_or(io::ErrorKind::InvalidInput)?;
        unix(dir, Path::new(name), 0o600)
    };
    bind().map_err(|source| ListenError::Socket { path: path.into(), source })
}

/// Binds a socket in a directory that is private, in place of one that an earlier daemon left there: the lock on the home says
/// that nobody listens any more.
#[expect(clippy::disallowed_methods, reason = "bind takes no mode; the directory is private meanwhile")]
pub(crate) fn unix(dir: &Path, name: &Path, mode: u32) -> io::Result<UnixListener> {
    // By way of its descriptor: a socket's path holds 107 bytes, and homes can lie deep.
    let handle = std::fs::File::open(dir)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd())).join(name);
    if let Err(error) = std::fs::remove_file(&path)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?;
    Ok(listener)
}

fn by(owner: Option<&str>) -> String {
    owner.map(|owner| format!(" by {owner}")).unwrap_or_default()
}

/// The process that listens on a port, as `name (pid)`; only processes this user may look into are found.
fn listener_of(port: u16) -> Option<String> {
    let inodes: Vec<String> =
        ["/proc/net/tcp", "/proc/net/tcp6"].iter().flat_map(|table| inodes(table, port)).collect();
    let pids =
        std::fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let owner = pids.into_iter().find(|pid| has_socket(*pid, &inodes))?;
    let name = std::fs::read_to_string(format!("/proc/{owner}/comm")).ok()?;
    Some(format!("{} (process {owner})", name.trim().escape_debug()))
}

/// The inodes of the listening sockets of a port in one of the kernel's tables.
fn inodes(table: &str, port: u16) -> Vec<String> {
    let text = std::fs::read_to_string(table).unwrap_or_default();
    let suffix = format!(":{port:04X}");
    let inode = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let listens = fields.get(1)?.ends_with(&suffix) && *fields.get(3)? == LISTEN;
        listens.then(|| fields.get(9).map(|inode| (*inode).to_owned())).flatten()
    };
    text.lines().skip(1).filter_map(inode).collect()
}

fn has_socket(pid: u32, inodes: &[String]) -> bool {
    let Ok(files) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let targets = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
    targets.into_iter().any(|target| {
        let socket = target.to_str().and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']'));
        socket.is_some_and(|inode| inodes.iter().any(|listening| listening == inode))
    })
}

/// `TCP_LISTEN` as the kernel's tables write it.
const LISTEN: &str = "0A";

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[tokio::test]
    async fn a_taken_port_names_its_process() {
        let first = tcp(Ipv4Addr::LOCALHOST.into(), 0, "--http-port").await.unwrap();
        let port = first.local_addr().unwrap().port();
        let text = tcp(Ipv4Addr::LOCALHOST.into(), port, "--http-port").await.err().unwrap().to_string();
        assert!(text.contains(&format!("port {port} is in use")), "{text}");
        assert!(text.contains(&format!("(process {})", std::process::id())), "{text}");
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_closed_to_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let _listener = control(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
