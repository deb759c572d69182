//! The origin and the proxies that are measured.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clauderon_bench::job::{self, Mode, Via};
use clauderon_bench::process::{self, Owned};
use clauderon_bench::tls;

/// A scratch directory with the run's certificates, and the origin.
pub struct Bench {
    dir: PathBuf,
    origin: Owned,
    tls: SocketAddr,
    plain: SocketAddr,
}

/// A running proxy (or the origin itself).
pub struct Peer {
    /// As in tables.
    pub name: String,
    /// The process that is measured, with its children.
    pub pid: u32,
    /// How it is reached.
    pub via: Via,
    /// What its clients must trust.
    pub ca: PathBuf,
    /// What its clients send: a placeholder.
    pub authorization: String,
    /// Resident memory when it had started, before anything was asked of it, KiB.
    pub start_rss_kib: u64,
    log: PathBuf,
    _process: Option<Owned>,
}

impl Bench {
    /// Makes the certificates and starts the origin.
    pub fn start() -> Result<Self> {
        let dir = std::env::temp_dir().join(format!("clauderon-bench-{}", std::process::id()));
        fs::create_dir_all(&dir)?;
        let origin_ca = tls::authority(&dir, "origin")?;
        tls::leaf(&dir, "origin", &origin_ca, &[job::HOST, job::PLAIN_HOST, "*.hosts.bench.test"])?;
        let proxy_ca = tls::authority(&dir, "proxy")?;
        tls::leaf(&dir, "haproxy", &proxy_ca, &[job::HOST])?;
        let mut command = Command::new(binary("origin")?);
        command.arg(dir.join("origin.pem")).arg(SECRET);
        let (origin, ports) = ready(command, &dir.join("origin.log"))?;
        let [tls, plain] = ports[..] else { bail!("the origin named {} ports", ports.len()) };
        Ok(Self { dir, origin, tls: loopback(tls), plain: loopback(plain) })
    }

    /// Another program of the bench.
    pub fn binary(&self, name: &str) -> Result<PathBuf> {
        binary(name)
    }

    /// Starts a peer by name.
    pub fn peer(&self, name: &str, clauderon: &Path) -> Result<Peer> {
        match name {
            "direct" => Ok(self.direct()),
            "haproxy" => self.haproxy(),
            "hudsucker" => self.hudsucker(),
            "clauderon" => self.clauderon(name, clauderon, true),
            "clauderon-noaudit" => self.clauderon(name, clauderon, false),
            _ => bail!("no peer `{name}`"),
        }
    }

    fn direct(&self) -> Peer {
        Peer {
            name: "direct".into(),
            pid: self.origin.0.id(),
            via: Via::Reverse { tls: self.tls, plain: self.plain },
            ca: self.dir.join("origin-ca.pem"),
            authorization: format!("Bearer {SECRET}"),
            start_rss_kib: 0,
            log: self.dir.join("origin.log"),
            _process: None,
        }
    }

    fn haproxy(&self) -> Result<Peer> {
        let (tls, plain) = (loopback(free_port()?), loopback(free_port()?));
        let config = self.dir.join("haproxy.cfg");
        fs::write(&config, self.haproxy_config(tls, plain))?;
        let log = self.dir.join("haproxy.log");
        let mut command = Command::new(found("haproxy", &["/usr/sbin/haproxy"])?);
        command
            .arg("-db")
            .arg("-f")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(File::create(&log)?)
            .stderr(File::create(&log)?);
        let process = Owned(command.spawn().context("haproxy does not start")?);
        listening(tls, &log)?;
        let via = Via::Reverse { tls, plain };
        self.peer_of("haproxy", process, via, self.dir.join("proxy-ca.pem"), log)
    }

    fn haproxy_config(&self, tls: SocketAddr, plain: SocketAddr) -> String {
        let dir = self.dir.display();
        let (origin_tls, origin_plain, host) = (self.tls, self.plain, job::HOST);
        format!(
            "global\n  maxconn 4096\n  nbthread 2\n\
             defaults\n  mode http\n  timeout connect 5s\n  timeout client 300s\n  timeout server 300s\n  http-reuse always\n\
             frontend tls\n  bind {tls} ssl crt {dir}/haproxy.pem alpn h2,http/1.1\n\
             \x20 http-request set-header Authorization \"Bearer {SECRET}\"\n  default_backend origin\n\
             frontend plain\n  bind {plain}\n  default_backend plain\n\
             backend origin\n  server o {origin_tls} ssl verify required ca-file {dir}/origin-ca.pem sni str({host}) verifyhost {host} alpn http/1.1 pool-max-conn -1\n\
             backend plain\n  server o {origin_plain} pool-max-conn -1\n"
        )
    }

    fn hudsucker(&self) -> Result<Peer> {
        let log = self.dir.join("hudsucker.log");
        let mut command = Command::new(binary("hudsucker")?);
        for file in ["proxy-ca.pem", "proxy-ca-key.pem", "origin-ca.pem"] {
            command.arg(self.dir.join(file));
        }
        command.arg(SECRET).arg(self.tls.port().to_string()).arg(self.plain.port().to_string());
        let (process, ports) = ready(command, &log)?;
        let addr = loopback(*ports.first().context("hudsucker named no port")?);
        let via = Via::Forward { addr, authorization: None };
        self.peer_of("hudsucker", process, via, self.dir.join("proxy-ca.pem"), log)
    }

    /// The real daemon: policy, injection and audit on, called with a session's token and placeholder.
    fn clauderon(&self, name: &str, binary: &Path, audit: bool) -> Result<Peer> {
        let home = self.dir.join(name);
        let _ = fs::remove_dir_all(&home);
        fs::create_dir_all(&home)?;
        fs::write(home.join("proxy.toml"), self.clauderon_config(audit))?;
        let binary = fs::canonicalize(binary).with_context(|| format!("build {} first", binary.display()))?;
        let command = |args: &[&str]| {
            let mut command = Command::new(&binary);
            command.args(args).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", &home);
            command.env("CLAUDERON_HOME", &home).env(SECRET_ENV, SECRET).stdin(Stdio::null());
            command
        };
        let addr = loopback(free_port()?);
        let log = self.dir.join(format!("{name}.log"));
        let mut daemon = command(&["daemon", "--http-port", &addr.port().to_string()]);
        daemon.stdout(File::create(&log)?).stderr(File::create(&log)?);
        let process = Owned(daemon.spawn()?);
        listening(addr, &log)?;
        let start_rss_kib = process::rss_kib(process.0.id())?;
        succeed(command(&["create", "--name", "bench", "--no-agent", "--backend", "local"]))?;
        let variables: serde_json::Value =
            serde_json::from_str(&succeed(command(&["env", "bench", "--format", "json"]))?)?;
        let variable = |name: &str| variables[name].as_str().with_context(|| format!("the session has no {name}"));
        let authorization = proxy_authorization(variable("HTTPS_PROXY")?)?;
        let placeholder = format!("Bearer {}", variable(SECRET_ENV)?);
        ensure!(!placeholder.contains(SECRET), "the session was given the real credential");
        let via = Via::Forward { addr, authorization: Some(authorization) };
        let peer = self.peer_of(name, process, via, home.join("proxy-ca.pem"), log)?;
        Ok(Peer { authorization: placeholder, start_rss_kib, ..peer })
    }

    fn clauderon_config(&self, audit: bool) -> String {
        let (ca, tls, plain) = (self.dir.join("origin-ca.pem"), self.tls, self.plain);
        let mut resolve = format!("\"{}:443\" = \"{tls}\"\n\"{}:80\" = \"{plain}\"\n", job::HOST, job::PLAIN_HOST);
        for n in 0..COLD_HOSTS {
            resolve += &format!("\"{}:443\" = \"{tls}\"\n", job::cold_host(n));
        }
        format!(
            "audit_enabled = {audit}\nkubectl_proxy_port = 0\ntalos_gateway_port = 0\n\n[upstream]\nca_file = [\"{}\"]\n\n[upstream.resolve]\n{resolve}\n\
             [[credential]]\nname = \"bench\"\nenv = \"{SECRET_ENV}\"\nhosts = [\"{}\", \"*.hosts.bench.test\"]\n\
             header = \"Authorization\"\nformat = \"Bearer {{token}}\"\nsession_env = \"{SECRET_ENV}\"\n",
            ca.display(),
            job::HOST
        )
    }

    fn peer_of(&self, name: &str, process: Owned, via: Via, ca: PathBuf, log: PathBuf) -> Result<Peer> {
        let start_rss_kib = process::rss_kib(process.0.id())?;
        let authorization = "Bearer placeholder-placeholder-placeholder".to_owned();
        let (name, pid) = (name.into(), process.0.id());
        Ok(Peer { name, pid, via, ca, authorization, start_rss_kib, log, _process: Some(process) })
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Peer {
    /// Whether the mode means anything for this peer: reverse proxies mint no certificates.
    pub fn can(&self, mode: Mode) -> bool {
        match self.via {
            Via::Forward { .. } => true,
            Via::Reverse { .. } => mode != Mode::ColdHosts || self.name == "direct",
        }
    }

    /// The end of what the process said, for an error.
    pub fn log_tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(15)..].join("\n");
        if tail.is_empty() { tail } else { format!("; {} said:\n{tail}\n", self.name) }
    }
}

/// Starts a program that prints `ready PORT...`.
fn ready(mut command: Command, log: &Path) -> Result<(Owned, Vec<u16>)> {
    let name = command.get_program().to_string_lossy().into_owned();
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(log)?).spawn();
    let mut child = Owned(spawned.with_context(|| format!("{name} does not start"))?);
    let mut line = String::new();
    BufReader::new(child.0.stdout.take().context("no output")?).read_line(&mut line)?;
    let ports = line.strip_prefix("ready ").with_context(|| format!("{name} said {line:?}"))?;
    Ok((child, ports.split_whitespace().map(str::parse).collect::<Result<_, _>>()?))
}

fn succeed(mut command: Command) -> Result<String> {
    let output = command.output()?;
    ensure!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// `Basic …` out of `http://name:token@host:port`.
fn proxy_authorization(url: &str) -> Result<String> {
    let user = url.strip_prefix("http://").and_then(|rest| rest.split_once('@')).context("HTTPS_PROXY has no user")?.0;
    Ok(format!("Basic {}", base64(user.as_bytes())))
}

fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0_u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let digit = BASE64[(group >> (18 - 6 * at) & 63) as usize];
            text.push(if at <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

fn listening(addr: SocketAddr, log: &Path) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(5);
    while TcpStream::connect(addr).is_err() {
        if Instant::now() > deadline {
            bail!("nothing listens on {addr}: {}", fs::read_to_string(log).unwrap_or_default());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn binary(name: &str) -> Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name(name))
}

fn found(name: &str, places: &[&str]) -> Result<PathBuf> {
    let place = places.iter().map(PathBuf::from).find(|path| path.exists());
    place.with_context(|| format!("{name} is not installed (Debian package {name}); or leave it out with --peers"))
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const SECRET: &str = "bench-real-credential-0123456789abcdef0123456789abcdef";
const SECRET_ENV: &str = "BENCH_TOKEN";
/// Names the daemon can resolve; more than any sensible number of rounds asks for.
const COLD_HOSTS: usize = 6000;
