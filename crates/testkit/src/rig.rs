//! The real binary between real clients and the kit's origins, in a home of its own.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::agent::Agent;
use crate::ca::TestCa;
use crate::origin::Origin;
use crate::run::Run;
use crate::sightings::{Sightings, assert_absent};
use crate::tap::Tap;

mod audit;
mod daemon;

pub use audit::AuditLine;
use daemon::Daemon;

/// What a rig shall be; see [`Rig::new`].
pub struct RigBuilder {
    rig: Rig,
    top: String,
    upstream: String,
    tables: String,
    resolve: BTreeMap<String, SocketAddr>,
}

/// A home, a daemon, and the clients' sightings.
pub struct Rig {
    binary: PathBuf,
    dir: tempfile::TempDir,
    daemon: Option<Daemon>,
    port: u16,
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
    secrets: Vec<String>,
    sightings: Sightings,
    tap: OnceLock<Tap>,
}

impl Rig {
    /// Begins a rig around `binary` (`env!("CARGO_BIN_EXE_clauderon")`).
    #[expect(clippy::new_ret_no_self, reason = "a rig is made by its builder")]
    pub fn new(binary: &str) -> RigBuilder {
        let dir =
            tempfile::Builder::new().prefix("clauderon-rig-").tempdir().expect("the temporary directory is writable");
        std::fs::DirBuilder::new().mode(0o700).create(dir.path().join(".clauderon")).expect("a new directory");
        let rig = Self {
            binary: binary.into(),
            dir,
            daemon: None,
            port: daemon::free_port(),
            arguments: Vec::new(),
            environment: BTreeMap::new(),
            secrets: Vec::new(),
            sightings: Sightings::default(),
            tap: OnceLock::new(),
        };
        let (top, upstream, tables) = (String::new(), String::new(), String::new());
        RigBuilder { rig, top, upstream, tables, resolve: BTreeMap::new() }
    }

    /// `CLAUDERON_HOME`.
    pub fn home(&self) -> PathBuf {
        self.dir.path().join(".clauderon")
    }

    /// The directory around it, `HOME` of everything the rig runs.
    pub fn outside(&self) -> &Path {
        self.dir.path()
    }

    /// Where the proxy listens.
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// The daemon's process.
    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().expect("the daemon was started").pid()
    }

    /// What agents received so far.
    pub fn sightings(&self) -> &Sightings {
        &self.sightings
    }

    /// A caller without proxy credentials: session `default`.
    pub fn anonymous(&self) -> Agent {
        Agent::proxy(self.addr(), &self.ca_pem(), &self.sightings)
    }

    /// A caller of session `name`, by token.
    pub async fn agent(&self, name: &str) -> Agent {
        let env = self.session_env(name).await;
        let (user, token) = proxy_credentials(env.get("HTTPS_PROXY").expect("a session has a proxy"));
        self.anonymous().authorized(&user, &token)
    }

    /// The proxy's root certificate.
    pub fn ca_pem(&self) -> String {
        std::fs::read_to_string(self.home().join("proxy-ca.pem")).expect("a started daemon has a CA")
    }

    /// Creates a session without a process, and without walls unless `more` says so: tools then run where they can be watched.
    pub async fn create(&self, name: &str, more: &[&str]) {
        let backend: &[&str] = if more.contains(&"--backend") { &[] } else { &["--backend", "local"] };
        let args = [&["create", "--no-agent", "--name", name], backend, more].concat();
        self.cli(args).succeed().await;
    }

    /// The variables of a session.
    pub async fn session_env(&self, name: &str) -> BTreeMap<String, String> {
        let printed = self.cli(["env", name, "--format", "json"]).succeed().await.json();
        let object = printed.as_object().expect("env --format json prints one object");
        object.iter().map(|(name, value)| (name.clone(), value.as_str().expect("a string").to_owned())).collect()
    }

    /// The `clauderon` command with these arguments.
    pub fn cli<S: Into<String>>(&self, args: impl IntoIterator<Item = S>) -> Run {
        let home = self.home().display().to_string();
        let run = Run::new(&self.binary).args(args).env("CLAUDERON_HOME", home).env("NO_COLOR", "1");
        run.envs(&self.environment).dir(self.outside()).watched(&self.sightings)
    }

    /// A real tool as it runs inside session `name`, in `dir`; whatever the daemon sends it is kept, TLS opened.
    pub async fn tool(&self, program: impl AsRef<OsStr>, name: &str, dir: &Path) -> Run {
        let tap = self.tap.get_or_init(|| Tap::start(self.addr(), self.home(), &self.sightings)).addr();
        let mut env = self.session_env(name).await;
        env.values_mut().for_each(|value| *value = value.replace(&format!("@{}", self.addr()), &format!("@{tap}")));
        Run::new(program).envs(&env).dir(dir).watched(&self.sightings)
    }

    /// The same, but with nothing between: its TLS is the daemon's own, and only what it prints is kept.
    pub async fn direct_tool(&self, program: impl AsRef<OsStr>, name: &str, dir: &Path) -> Run {
        Run::new(program).envs(&self.session_env(name).await).dir(dir).watched(&self.sightings)
    }

    /// A directory below [`Self::outside`].
    pub fn work_dir(&self, name: &str) -> PathBuf {
        let dir = self.dir.path().join(name);
        std::fs::create_dir_all(&dir).expect("a new directory");
        dir
    }

    /// Writes a file below the home with this mode, replacing it whole.
    pub fn write(&self, path: &str, mode: u32, text: &str) {
        write_private(&self.home().join(path), mode, text);
    }

    /// Writes a secret file and remembers its value as one nobody may see.
    pub fn secret(&mut self, key: &str, value: &str) {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(self.home().join("secrets")).expect("writable");
        self.write(&format!("secrets/{key}"), 0o600, value);
        self.secrets.push(value.trim().to_owned());
    }

    /// Starts (again) with the same home, port and environment.
    pub async fn start(&mut self) {
        self.spawn();
        self.ready().await;
    }

    /// Spawns the daemon without waiting for it.
    pub fn spawn(&mut self) {
        assert!(self.daemon.is_none(), "one daemon at a time");
        let mut command = tokio::process::Command::new(&self.binary);
        command.args(["daemon", "--http-port", &self.port.to_string()]).args(&self.arguments);
        self.daemon = Some(Daemon::spawn(command, self.dir.path(), &self.environment));
    }

    /// Waits until the daemon answers `/health` with 200.
    pub async fn ready(&mut self) {
        let addr = self.addr();
        let daemon = self.daemon.as_mut().expect("the daemon was spawned");
        daemon.ready(addr).await;
    }

    /// SIGTERM, then waits for the end; gives the exit code.
    pub async fn terminate(&mut self) -> Option<i32> {
        self.signal(rustix::process::Signal::TERM);
        self.ended().await
    }

    /// Sends the daemon a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        self.daemon.as_ref().expect("the daemon was started").signal(signal);
    }

    /// Waits for the daemon to end by itself; gives the exit code.
    pub async fn ended(&mut self) -> Option<i32> {
        self.daemon.take().expect("the daemon was started").ended().await
    }

    /// SIGKILL, as a crash.
    pub async fn kill9(&mut self) {
        self.signal(rustix::process::Signal::KILL);
        self.ended().await;
    }

    /// What all daemons of this rig printed so far.
    pub fn output(&self) -> String {
        daemon::output(self.dir.path())
    }

    /// Limits the size of files the daemon may write, which is how a disk gets full here; `None` lifts it.
    pub fn limit_file_size(&self, bytes: Option<u64>) {
        self.daemon.as_ref().expect("the daemon was started").limit_file_size(bytes);
    }

    /// Panics when a real secret reached a client, the audit log, the diagnostics or the database.
    pub fn assert_no_secret(&self) {
        self.sightings.assert_free_of(&self.secrets);
        let output = self.output();
        for secret in &self.secrets {
            assert_absent("the daemon's output", output.as_bytes(), secret);
        }
        self.assert_clean(&self.home());
    }

    /// Panics unless agents did receive a secret, and forgets it: for the tests of this check.
    pub fn expect_leak_of(&self, what: &str) {
        assert!(self.sightings.leaked(&self.secrets).is_some(), "a leaked secret was not seen: {what}");
        self.sightings.forget();
    }

    fn assert_clean(&self, dir: &Path) {
        // Where the user put secrets, they are.
        let own = [self.home().join("secrets"), self.home().join("proxy.toml")];
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten().filter(|entry| !own.contains(&entry.path()))
        {
            let path = entry.path();
            if path.is_dir() {
                self.assert_clean(&path);
            } else if let Ok(bytes) = std::fs::read(&path) {
                let place = path.display().to_string();
                self.secrets.iter().for_each(|secret| assert_absent(&place, &bytes, secret));
            }
        }
    }
}

impl Drop for Rig {
    /// No test passes that let a real secret through, whatever it was about.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.assert_no_secret();
        }
    }
}

impl RigBuilder {
    /// Makes the proxy find `origin` under its names.
    #[must_use]
    pub fn origin(self, origin: &Origin) -> Self {
        origin.mappings().into_iter().fold(self, |rig, (authority, addr)| rig.resolve(&authority, addr))
    }

    /// Makes the proxy dial `addr` for `authority` (`host:port`).
    #[must_use]
    pub fn resolve(mut self, authority: &str, addr: SocketAddr) -> Self {
        self.resolve.insert(authority.into(), addr);
        self
    }

    /// Writes a secret file.
    #[must_use]
    pub fn secret(mut self, key: &str, value: &str) -> Self {
        self.rig.secret(key, value);
        self
    }

    /// Remembers a value nobody may see, wherever it is configured.
    #[must_use]
    pub fn guards(mut self, value: &str) -> Self {
        self.rig.secrets.push(value.into());
        self
    }

    /// Sets a variable of the daemon and of every `clauderon` command.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.rig.environment.insert(name.into(), value.into());
        self
    }

    /// Passes another `--http-port` than the free one the rig found.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.rig.port = port;
        self
    }

    /// Adds an argument of `clauderon daemon`.
    #[must_use]
    pub fn argument(mut self, argument: &str) -> Self {
        self.rig.arguments.push(argument.into());
        self
    }

    /// Adds a line at the top level of `proxy.toml`.
    #[must_use]
    pub fn line(mut self, line: &str) -> Self {
        writeln!(self.top, "{line}").expect("a string grows");
        self
    }

    /// Adds a line to `[upstream]`.
    #[must_use]
    pub fn upstream(mut self, line: &str) -> Self {
        writeln!(self.upstream, "{line}").expect("a string grows");
        self
    }

    /// Adds tables at the end of `proxy.toml`.
    #[must_use]
    pub fn table(mut self, text: &str) -> Self {
        writeln!(self.tables, "{text}").expect("a string grows");
        self
    }

    /// The home directory, for what a test puts there itself.
    pub fn home(&self) -> PathBuf {
        self.rig.home()
    }

    /// The directory around the home.
    pub fn outside(&self) -> &Path {
        self.rig.outside()
    }

    /// Writes the files and leaves the daemon to the test.
    pub fn build(self) -> Rig {
        let origins_ca = self.rig.outside().join("origins.pem");
        write_private(&origins_ca, 0o644, &TestCa::shared().pem());
        let resolve: Vec<String> = self.resolve.iter().map(|(name, addr)| format!("\"{name}\" = \"{addr}\"")).collect();
        // Unless a test says otherwise: daemons of other tests run beside this one.
        let unsaid = ["kubectl_proxy_port", "talos_gateway_port"].into_iter().filter(|key| !self.top.contains(key));
        let gateway: String = unsaid.map(|key| format!("{key} = 0\n")).collect();
        let config = format!(
            "{gateway}{}\n[upstream]\nca_file = [\"{}\"]\nresolve = {{ {} }}\n{}\n{}",
            self.top,
            origins_ca.display(),
            resolve.join(", "),
            self.upstream,
            self.tables
        );
        self.rig.write("proxy.toml", 0o644, &config);
        self.rig
    }

    /// Writes the files and starts the daemon.
    pub async fn start(self) -> Rig {
        let mut rig = self.build();
        rig.start().await;
        rig
    }
}

/// The user and password of a proxy URL.
pub fn proxy_credentials(url: &str) -> (String, String) {
    let authority = url.strip_prefix("http://").expect("a proxy URL is http");
    let (user, _) = authority.split_once('@').expect("a session's proxy URL has credentials");
    let (name, token) = user.split_once(':').expect("name and token");
    (name.into(), token.into())
}

fn write_private(path: &Path, mode: u32, text: &str) {
    let aside = path.with_extension("being-written");
    let _ = std::fs::remove_file(&aside);
    let mut options = std::fs::OpenOptions::new();
    let mut file =
        options.write(true).create_new(true).mode(mode).open(&aside).expect("the rig's directory is writable");
    std::io::Write::write_all(&mut file, text.as_bytes()).expect("the disk has room");
    // Atomic, so that the daemon's watcher never sees half a file; the mode is set past any umask.
    std::fs::set_permissions(&aside, std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("our own file");
    std::fs::rename(&aside, path).expect("the same directory");
}
