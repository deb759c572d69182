//! One load run, as the runner describes it to the load generator, and what comes back.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A kind of traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// 16 keep-alive tunnels, one request at a time in each.
    WarmH1,
    /// One keep-alive tunnel, one request at a time.
    H1C1,
    /// Two HTTP/2 connections with eight streams each.
    WarmH2,
    /// Each request a new TCP connection, CONNECT and full TLS handshake.
    Cold,
    /// As cold, with TLS session tickets.
    ColdResume,
    /// As cold, each tunnel to a name never seen before.
    ColdHosts,
    /// 32 MiB answers.
    Down,
    /// 8 MiB uploads.
    Up,
    /// Eight event streams, an event each 10 ms.
    Sse,
    /// Absolute-form requests in clear text.
    Plain,
    /// 250 tunnels held open after one request each.
    Idle,
}

/// One load run against one proxy.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// The traffic.
    pub mode: Mode,
    /// Requests in all (tunnels for idle, events per stream for SSE).
    pub requests: usize,
    /// Where to connect.
    pub via: Via,
    /// Trust root (PEM).
    pub ca: PathBuf,
    /// Sent with every request over TLS.
    pub authorization: String,
    /// For cold hosts: the number of the first name.
    pub first_host: usize,
}

/// How the proxy is reached.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Via {
    /// A forward proxy: CONNECT and absolute-form.
    Forward {
        /// The proxy.
        addr: SocketAddr,
        /// `Proxy-Authorization`, if it wants one.
        authorization: Option<String>,
    },
    /// A reverse proxy, or the origin itself.
    Reverse {
        /// TLS.
        tls: SocketAddr,
        /// Clear text.
        plain: SocketAddr,
    },
}

/// What one load run measured.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Measured {
    /// Requests answered (events delivered for SSE).
    pub requests: usize,
    /// Body bytes moved.
    pub bytes: u64,
    /// Wall time from go to the last answer.
    pub seconds: f64,
    /// Latency in microseconds.
    pub p50_us: u64,
    /// Latency in microseconds.
    pub p90_us: u64,
    /// Latency in microseconds.
    pub p99_us: u64,
    /// SSE: the slowest first event, microseconds.
    pub first_event_us: u64,
}

/// The origin's host for everything but cold hosts and clear text.
pub const HOST: &str = "api.bench.test";
/// The origin's host for clear text.
pub const PLAIN_HOST: &str = "plain.bench.test";
/// Bytes of one download.
pub const DOWN_BYTES: u64 = 32 << 20;
/// Bytes of one upload.
pub const UP_BYTES: u64 = 8 << 20;

/// The nth name of the cold hosts.
pub fn cold_host(n: usize) -> String {
    format!("h{n}.hosts.bench.test")
}

impl Mode {
    /// All modes in the order they are run.
    pub const ALL: [Self; 11] = [
        Self::Idle,
        Self::WarmH1,
        Self::H1C1,
        Self::WarmH2,
        Self::Cold,
        Self::ColdResume,
        Self::ColdHosts,
        Self::Down,
        Self::Up,
        Self::Sse,
        Self::Plain,
    ];

    /// As written in tables and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::WarmH1 => "warm-h1",
            Self::H1C1 => "h1-c1",
            Self::WarmH2 => "warm-h2",
            Self::Cold => "cold",
            Self::ColdResume => "cold-resume",
            Self::ColdHosts => "cold-hosts",
            Self::Down => "down",
            Self::Up => "up",
            Self::Sse => "sse",
            Self::Plain => "plain",
            Self::Idle => "idle",
        }
    }

    /// Body bytes one request moves, where bytes are what counts.
    pub const fn body_bytes(self) -> u64 {
        match self {
            Self::Down => DOWN_BYTES,
            Self::Up => UP_BYTES,
            _ => 0,
        }
    }

    /// How much one run does: enough CPU that a clock tick of 10 ms is about 1 %.
    pub const fn requests(self) -> usize {
        match self {
            Self::WarmH1 | Self::Plain => 40_000,
            Self::H1C1 => 10_000,
            Self::WarmH2 => 32_000,
            Self::Cold | Self::ColdResume => 2_400,
            Self::ColdHosts => 600,
            Self::Down => 16,
            Self::Up => 64,
            Self::Sse => 250,
            Self::Idle => 250,
        }
    }
}
