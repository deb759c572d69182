//! The load generator: `load JOB_JSON`.
//!
//! Prints `ready` when its tunnels are warm, waits for a line, runs, prints what it measured as JSON, and holds its
//! tunnels until another line: the runner reads the proxy's CPU and memory at these points.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use clauderon_bench::job::{self, Job, Measured, Mode, Via};
use clauderon_bench::stats::percentile;
use clauderon_bench::tls;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

#[tokio::main]
async fn main() -> Result<()> {
    let job: Job = serde_json::from_str(&std::env::args().nth(1).context("usage: load JOB_JSON")?)?;
    let load = Arc::new(Load::new(job)?);
    tokio::time::timeout(LONGEST, run(load)).await.context("the run took too long")?
}

async fn run(load: Arc<Load>) -> Result<()> {
    match load.job.mode {
        Mode::WarmH1 => load.keep_alive(16).await,
        Mode::H1C1 => load.keep_alive(1).await,
        Mode::WarmH2 => load.h2(2, 8).await,
        Mode::Cold | Mode::ColdResume | Mode::ColdHosts => load.cold(8).await,
        Mode::Down | Mode::Up => load.bulk(4).await,
        Mode::Sse => load.sse(8).await,
        Mode::Plain => load.plain(16).await,
        Mode::Idle => load.idle().await,
    }
}

struct Load {
    job: Job,
    tls: Arc<ClientConfig>,
    next: AtomicUsize,
}

type Tunnel = BufReader<TlsStream<TcpStream>>;
type Sender = SendRequest<Empty<Bytes>>;
type Latencies = Vec<u64>;

impl Load {
    fn new(job: Job) -> Result<Self> {
        let alpn: &[&[u8]] = if job.mode == Mode::WarmH2 { &[b"h2"] } else { &[b"http/1.1"] };
        let tls = tls::client(&job.ca, alpn, job.mode == Mode::ColdResume)?;
        Ok(Self { job, tls, next: AtomicUsize::new(0) })
    }

    /// The number of the next request, until all are handed out.
    fn take(&self) -> Option<usize> {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        (n < self.job.requests).then_some(n)
    }

    async fn keep_alive(self: Arc<Self>, tunnels: usize) -> Result<()> {
        let request = self.get("/small", job::HOST);
        let mut warm = Vec::new();
        for _ in 0..tunnels {
            let mut tunnel = self.tunnel(job::HOST).await?;
            exchange(&mut tunnel, &request).await?;
            warm.push(tunnel);
        }
        self.timed(warm, move |load, mut tunnel| {
            let request = request.clone();
            async move {
                let mut latencies = Latencies::new();
                while load.take().is_some() {
                    let start = Instant::now();
                    exchange(&mut tunnel, &request).await?;
                    latencies.push(micros(start));
                }
                Ok(latencies)
            }
        })
        .await
    }

    async fn h2(self: Arc<Self>, connections: usize, streams: usize) -> Result<()> {
        let mut warm = Vec::new();
        for _ in 0..connections {
            let sender = self.h2_connection().await?;
            self.h2_exchange(&mut sender.clone()).await?;
            warm.extend(std::iter::repeat_n(sender, streams));
        }
        self.timed(warm, |load, mut sender| async move {
            let mut latencies = Latencies::new();
            while load.take().is_some() {
                let start = Instant::now();
                load.h2_exchange(&mut sender).await?;
                latencies.push(micros(start));
            }
            Ok(latencies)
        })
        .await
    }

    async fn cold(self: Arc<Self>, workers: usize) -> Result<()> {
        // Fills the proxy's upstream pool, and with tickets the client's own store.
        self.once(job::HOST).await?;
        self.timed(vec![(); workers], |load, ()| async move {
            let mut latencies = Latencies::new();
            while let Some(n) = load.take() {
                let start = Instant::now();
                match load.job.mode {
                    Mode::ColdHosts => load.once(&job::cold_host(load.job.first_host + n)).await?,
                    _ => load.once(job::HOST).await?,
                }
                latencies.push(micros(start));
            }
            Ok(latencies)
        })
        .await
    }

    async fn once(&self, host: &str) -> Result<()> {
        let mut tunnel = self.tunnel(host).await?;
        exchange(&mut tunnel, &self.get("/small", host)).await?;
        let _ = tunnel.get_mut().shutdown().await;
        Ok(())
    }

    async fn bulk(self: Arc<Self>, tunnels: usize) -> Result<()> {
        let up = self.job.mode == Mode::Up;
        let request = if up { self.post("/up", job::UP_BYTES) } else { self.get("/down", job::HOST) };
        let body: Bytes = if up { vec![b'u'; job::UP_BYTES as usize].into() } else { Bytes::new() };
        let mut warm = Vec::new();
        for _ in 0..tunnels {
            warm.push(self.tunnel(job::HOST).await?);
        }
        self.timed(warm, move |load, mut tunnel| {
            let (request, body) = (request.clone(), body.clone());
            async move {
                let mut latencies = Latencies::new();
                while load.take().is_some() {
                    let start = Instant::now();
                    tunnel.get_mut().write_all(&request).await?;
                    tunnel.get_mut().write_all(&body).await?;
                    tunnel.get_mut().flush().await?;
                    let received = answer(&mut tunnel).await?;
                    ensure!(up || received == job::DOWN_BYTES, "a download of {received} bytes");
                    latencies.push(micros(start));
                }
                Ok(latencies)
            }
        })
        .await
    }

    async fn sse(self: Arc<Self>, streams: usize) -> Result<()> {
        let request = self.get(&format!("/sse?{}", self.job.requests), job::HOST);
        let mut warm = Vec::new();
        for _ in 0..streams {
            warm.push(self.tunnel(job::HOST).await?);
        }
        self.timed(warm, move |load, mut tunnel| {
            let request = request.clone();
            async move {
                tunnel.get_mut().write_all(&request).await?;
                tunnel.get_mut().flush().await?;
                events(&mut tunnel, load.job.requests).await
            }
        })
        .await
    }

    async fn plain(self: Arc<Self>, connections: usize) -> Result<()> {
        let mut warm = Vec::new();
        for _ in 0..connections {
            let (stream, request) = self.plain_connection().await?;
            let mut stream = BufReader::new(stream);
            exchange(&mut stream, &request).await?;
            warm.push((stream, request));
        }
        self.timed(warm, |load, (mut stream, request)| async move {
            let mut latencies = Latencies::new();
            while load.take().is_some() {
                let start = Instant::now();
                exchange(&mut stream, &request).await?;
                latencies.push(micros(start));
            }
            Ok(latencies)
        })
        .await
    }

    async fn idle(self: Arc<Self>) -> Result<()> {
        self.once(job::HOST).await?;
        say("ready")?;
        wait().await?;
        let mut held = Vec::new();
        for _ in 0..self.job.requests {
            let mut tunnel = self.tunnel(job::HOST).await?;
            exchange(&mut tunnel, &self.get("/small", job::HOST)).await?;
            held.push(tunnel);
        }
        // What a proxy frees only after the answer shall be freed.
        tokio::time::sleep(Duration::from_millis(300)).await;
        say(&serde_json::to_string(&Measured { requests: held.len(), ..Measured::default() })?)?;
        wait().await
    }

    /// Says ready, waits for go, runs one task per item of `warm`, and tells what they measured.
    async fn timed<T, F, R>(self: Arc<Self>, warm: Vec<T>, work: F) -> Result<()>
    where
        T: Send + 'static,
        F: Fn(Arc<Self>, T) -> R,
        R: Future<Output = Result<Latencies>> + Send + 'static,
    {
        say("ready")?;
        wait().await?;
        let start = Instant::now();
        let mut tasks = JoinSet::new();
        for item in warm {
            tasks.spawn(work(self.clone(), item));
        }
        let (mut latencies, mut first_event_us) = (Latencies::new(), 0);
        while let Some(task) = tasks.join_next().await {
            let of_task = task??;
            first_event_us = first_event_us.max(of_task.first().copied().unwrap_or(0));
            latencies.extend(of_task);
        }
        let measured = Measured {
            requests: latencies.len(),
            bytes: latencies.len() as u64 * self.job.mode.body_bytes(),
            seconds: start.elapsed().as_secs_f64(),
            p50_us: percentile(&mut latencies, 50),
            p90_us: percentile(&mut latencies, 90),
            p99_us: percentile(&mut latencies, 99),
            first_event_us,
        };
        say(&serde_json::to_string(&measured)?)?;
        wait().await
    }

    async fn tunnel(&self, host: &str) -> Result<Tunnel> {
        let tcp = match &self.job.via {
            Via::Reverse { tls, .. } => connect(*tls).await?,
            Via::Forward { addr, authorization } => {
                let mut tcp = connect(*addr).await?;
                let authorization = proxy_authorization(authorization.as_deref());
                let request = format!("CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n{authorization}\r\n");
                tcp.write_all(request.as_bytes()).await?;
                accepted(&mut tcp).await?;
                tcp
            }
        };
        let name = rustls::pki_types::ServerName::try_from(host.to_owned())?;
        let stream = TlsConnector::from(self.tls.clone()).connect(name, tcp).await.context("TLS with the proxy")?;
        Ok(BufReader::with_capacity(128 * 1024, stream))
    }

    async fn plain_connection(&self) -> Result<(TcpStream, Bytes)> {
        let host = job::PLAIN_HOST;
        let (addr, target, authorization) = match &self.job.via {
            Via::Reverse { plain, .. } => (*plain, "/small".to_owned(), String::new()),
            Via::Forward { addr, authorization } => {
                (*addr, format!("http://{host}/small"), proxy_authorization(authorization.as_deref()))
            }
        };
        let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\n{authorization}\r\n");
        Ok((connect(addr).await?, request.into()))
    }

    async fn h2_connection(&self) -> Result<Sender> {
        let stream = self.tunnel(job::HOST).await?.into_inner();
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn h2_exchange(&self, sender: &mut Sender) -> Result<()> {
        let request = http::Request::get(format!("https://{}/small", job::HOST))
            .header("authorization", &self.job.authorization)
            .header("accept", "*/*")
            .body(Empty::new())?;
        sender.ready().await?;
        let response = sender.send_request(request).await?;
        ensure!(response.status() == 200, "answered {}", response.status());
        response.into_body().collect().await?;
        Ok(())
    }

    fn get(&self, target: &str, host: &str) -> Bytes {
        let authorization = &self.job.authorization;
        format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\nUser-Agent: bench\r\nAuthorization: {authorization}\r\n\r\n")
            .into()
    }

    fn post(&self, target: &str, bytes: u64) -> Bytes {
        let (host, authorization) = (job::HOST, &self.job.authorization);
        format!("POST {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {bytes}\r\nAuthorization: {authorization}\r\n\r\n").into()
    }
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut BufReader<S>, request: &[u8]) -> Result<()> {
    stream.get_mut().write_all(request).await?;
    stream.get_mut().flush().await?;
    answer(stream).await?;
    Ok(())
}

/// Reads one HTTP/1.1 answer and returns its body's size. Without a Content-Length the body is chunked: a proxy that
/// searches an answer cannot promise its length.
async fn answer<S: AsyncRead + Unpin>(stream: &mut BufReader<S>) -> Result<u64> {
    let (status, length) = head(stream).await?;
    ensure!(status == 200, "answered {status}: {}", error_text(stream, length.unwrap_or(2000)).await);
    if let Some(length) = length {
        skip(stream, length).await?;
        return Ok(length);
    }
    let (mut total, mut line) = (0, String::new());
    loop {
        line.clear();
        stream.read_line(&mut line).await?;
        let size = u64::from_str_radix(line.trim(), 16).with_context(|| format!("no chunk size in {line:?}"))?;
        skip(stream, size + 2).await?;
        total += size;
        if size == 0 {
            return Ok(total);
        }
    }
}

async fn skip<S: AsyncRead + Unpin>(stream: &mut BufReader<S>, mut left: u64) -> Result<()> {
    while left > 0 {
        let available = stream.fill_buf().await?.len();
        ensure!(available > 0, "the answer ended {left} bytes early");
        let taken = left.min(available as u64);
        stream.consume(taken as usize);
        left -= taken;
    }
    Ok(())
}

/// Reads an answer's head: status and Content-Length.
async fn head<S: AsyncRead + Unpin>(stream: &mut BufReader<S>) -> Result<(u16, Option<u64>)> {
    let mut line = String::with_capacity(256);
    stream.read_line(&mut line).await?;
    let status =
        line.split(' ').nth(1).and_then(|code| code.parse().ok()).with_context(|| format!("no status in {line:?}"))?;
    let mut length = None;
    loop {
        line.clear();
        ensure!(stream.read_line(&mut line).await? > 0, "the head ended early");
        let Some((name, value)) = line.split_once(':') else { return Ok((status, length)) };
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(value.trim().parse()?);
        }
    }
}

async fn error_text<S: AsyncRead + Unpin>(stream: &mut BufReader<S>, length: u64) -> String {
    let mut body = Vec::new();
    let _ = stream.take(length.min(2000)).read_to_end(&mut body).await;
    String::from_utf8_lossy(&body).into_owned()
}

/// Reads an event stream; each event's latency is now less the time it carries. Chunk framing lies between the lines.
async fn events(tunnel: &mut Tunnel, count: usize) -> Result<Latencies> {
    let (status, _) = head(tunnel).await?;
    ensure!(status == 200, "answered {status}");
    let mut latencies = Latencies::new();
    let mut line = String::new();
    while latencies.len() < count {
        line.clear();
        ensure!(tunnel.read_line(&mut line).await? > 0, "the stream ended after {} events", latencies.len());
        if let Some(sent) = line.strip_prefix("data: ") {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_micros() as u64;
            latencies.push(now.saturating_sub(sent.trim().parse()?));
        }
    }
    Ok(latencies)
}

async fn connect(addr: std::net::SocketAddr) -> Result<TcpStream> {
    let tcp = TcpStream::connect(addr).await.with_context(|| format!("cannot connect to {addr}"))?;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

/// Reads the answer to CONNECT; nothing can follow it before our ClientHello.
async fn accepted(tcp: &mut TcpStream) -> Result<()> {
    let mut head = Vec::with_capacity(1024);
    while !head.ends_with(b"\r\n\r\n") {
        ensure!(tcp.read_buf(&mut head).await? > 0 && head.len() < 4096, "the answer to CONNECT has no end");
    }
    if !head.starts_with(b"HTTP/1.1 200") {
        bail!("CONNECT was answered {:?}", String::from_utf8_lossy(&head));
    }
    Ok(())
}

fn proxy_authorization(value: Option<&str>) -> String {
    value.map(|value| format!("Proxy-Authorization: {value}\r\n")).unwrap_or_default()
}

fn micros(start: Instant) -> u64 {
    start.elapsed().as_micros() as u64
}

fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

async fn wait() -> Result<()> {
    let line = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map(|_| ())
    });
    Ok(line.await??)
}

/// No run of the bench takes longer; a stuck proxy ends the run instead of holding it.
const LONGEST: Duration = Duration::from_secs(60);
