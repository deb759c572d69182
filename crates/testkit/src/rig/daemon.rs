//! One run of `clauderon daemon`.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, Resource, Rlimit, Signal};
use tokio::process::{Child, Command};

use crate::bytes::Wire;
use crate::wait;

pub(super) struct Daemon {
    child: Child,
    pid: Pid,
    log: std::path::PathBuf,
}

impl Daemon {
    pub(super) fn spawn(mut command: Command, dir: &Path, environment: &BTreeMap<String, String>) -> Self {
        let log = dir.join(LOG);
        let open = || File::options().create(true).append(true).open(&log).expect("the rig's directory is writable");
        command.env_clear().env("PATH", std::env::var("PATH").expect("PATH is set"));
        command.env("HOME", dir).env("CLAUDERON_HOME", dir.join(".clauderon")).env("NO_COLOR", "1").envs(environment);
        command.stdin(Stdio::null()).stdout(open()).stderr(open()).current_dir(dir).kill_on_drop(true);
        let child = command.spawn().expect("the binary runs");
        let id = child.id().expect("a spawned child has an id");
        let pid = Pid::from_raw(i32::try_from(id).expect("process ids fit")).expect("a process id is not zero");
        Self { child, pid, log }
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    pub(super) async fn ready(&mut self, addr: SocketAddr) {
        let began = std::time::Instant::now();
        while !healthy(addr).await {
            let text = std::fs::read_to_string(&self.log).unwrap_or_default();
            if let Some(status) = self.child.try_wait().expect("a child can be asked") {
                panic!("the daemon ended with {status} before it was ready:\n{text}");
            }
            assert!(began.elapsed() < wait::LIMIT, "waited {:?} for the daemon to be ready:\n{text}", wait::LIMIT);
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    pub(super) fn signal(&self, signal: Signal) {
        rustix::process::kill_process(self.pid, signal).expect("the daemon is our child");
    }

    pub(super) async fn ended(mut self) -> Option<i32> {
        wait::within("the daemon's end", self.child.wait()).await.expect("a child is waited for").code()
    }

    pub(super) fn limit_file_size(&self, bytes: Option<u64>) {
        let limit = Rlimit { current: bytes, maximum: None };
        rustix::process::prlimit(Some(self.pid), Resource::Fsize, limit).expect("the daemon is our child");
    }
}

pub(super) fn output(dir: &Path) -> String {
    std::fs::read_to_string(dir.join(LOG)).unwrap_or_default()
}

/// A port nobody listens on, below the range the system hands to outgoing connections: it stays free across restarts.
pub(super) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let candidate = std::process::id().wrapping_mul(31).wrapping_add(step * 7) % PORTS.1;
        let port = PORTS.0 + u16::try_from(candidate).expect("below the range's length");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

async fn healthy(addr: SocketAddr) -> bool {
    let Ok(stream) = tokio::net::TcpStream::connect(addr).await else { return false };
    let mut wire = Wire::new(stream);
    let request = format!("GET /health HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    wire.exchange(request).await.is_some_and(|reply| reply.status() == 200)
}

const LOG: &str = "daemon.log";
const PORTS: (u16, u32) = (12_000, 20_000);
