//! Real container engines, each with its own root directory, and an image without a registry.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal};

use crate::run::Run;
use crate::wait;

/// Which engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `dockerd`.
    Docker,
    /// `podman system service`.
    Podman,
}

/// An engine that runs until it is dropped; nothing of it is left then.
pub struct Engine {
    kind: Kind,
    child: Child,
    dir: tempfile::TempDir,
}

impl Kind {
    /// The backend's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
        }
    }

    const fn variable(self) -> &'static str {
        match self {
            Self::Docker => "DOCKER_HOST",
            Self::Podman => "CONTAINER_HOST",
        }
    }
}

impl Engine {
    /// Starts it. What keeps it from running is a failure: nothing would tell a test that was passed over from one that passed.
    pub async fn start(kind: Kind) -> Self {
        let is_root = rustix::process::geteuid().is_root();
        assert!(is_root, "an engine of the test's own needs root; to leave these out: -E 'not test(containers::)'");
        let dir = tempfile::Builder::new().prefix("clauderon-engine-").tempdir().expect("a temporary directory");
        let log = File::create(dir.path().join("log")).expect("a new file");
        let mut command = match kind {
            Kind::Docker => dockerd(dir.path()),
            Kind::Podman => podman(dir.path()),
        };
        command.current_dir(dir.path()).stdin(Stdio::null()).stdout(log.try_clone().expect("a file")).stderr(log);
        let child =
            command.spawn().unwrap_or_else(|error| panic!("{}: {error} (./test tools installs it)", kind.name()));
        let mut engine = Self { kind, child, dir };
        engine.ready().await;
        engine
    }

    /// Which it is.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The variable that tells clauderon of it, with its value.
    pub fn variable(&self) -> (&'static str, String) {
        (self.kind.variable(), format!("unix://{}", self.socket().display()))
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("engine.sock")
    }

    /// Makes the image `name` of the files in the archive `tar`.
    pub async fn import(&self, tar: &Path, name: &str) {
        self.tool(["import", &tar.display().to_string(), name]).await;
    }

    /// The names of all containers there are, running or not.
    pub async fn containers(&self) -> Vec<String> {
        let names = self.tool(["ps", "--all", "--format", "{{.Names}}"]).await;
        names.lines().map(str::to_owned).collect()
    }

    /// Runs the engine's own command.
    pub async fn tool<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> String {
        let args = args.into_iter().map(|arg| arg.as_ref().to_string_lossy().into_owned());
        let run = match self.kind {
            Kind::Docker => Run::new("docker").args(["--host".to_owned(), self.variable().1]),
            Kind::Podman => {
                Run::new("podman").args(roots(self.dir.path())).env("CONTAINERS_CONF", conf(self.dir.path()))
            }
        };
        run.args(args).dir(self.dir.path()).succeed().await.stdout
    }

    async fn ready(&mut self) {
        let began = Instant::now();
        while tokio::net::UnixStream::connect(self.socket()).await.is_err() {
            let log = || std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            if let Some(status) = self.child.try_wait().expect("a child can be asked") {
                panic!("the {} engine ended with {status}:\n{}", self.kind.name(), log());
            }
            assert!(began.elapsed() < wait::LIMIT, "the {} engine is not up:\n{}", self.kind.name(), log());
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        // Any user of the machine may ask it, as members of its group may on a developer's.
        std::fs::set_permissions(self.dir.path(), PermissionsExt::from_mode(0o755)).expect("our own directory");
        std::fs::set_permissions(self.socket(), PermissionsExt::from_mode(0o666)).expect("our own socket");
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _gone = rustix::process::kill_process(pid, Signal::TERM);
        }
        let _ended = self.child.wait();
        // What is still mounted would keep the directory from being removed.
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let places = table.lines().filter_map(|line| line.split(' ').nth(4));
        for place in places.filter(|place| Path::new(place).starts_with(self.dir.path())) {
            let _gone = Command::new("umount").args(["--lazy", place]).stderr(Stdio::null()).status();
        }
    }
}

fn dockerd(dir: &Path) -> Command {
    let mut command = Command::new("dockerd");
    let place = |name: &str| dir.join(name).display().to_string();
    command.args(["--data-root", &place("data"), "--exec-root", &place("exec"), "--pidfile", &place("pid")]);
    // No network is wanted of it, and none of its rules on this machine.
    command.args(["--bridge=none", "--iptables=false", "--ip6tables=false"]);
    command.args(["--host", &format!("unix://{}", place("engine.sock"))]);
    command
}

fn podman(dir: &Path) -> Command {
    // It works without systemd, and with whatever control groups the machine has.
    let text = "[engine]\nruntime=\"runc\"\ncgroup_manager=\"cgroupfs\"\nevents_logger=\"file\"\n";
    std::fs::write(conf(dir), text).expect("our own directory");
    let mut command = Command::new("podman");
    let socket = format!("unix://{}", dir.join("engine.sock").display());
    command.env("CONTAINERS_CONF", conf(dir)).args(roots(dir)).args(["system", "service", "--time=0", &socket]);
    command
}

fn roots(dir: &Path) -> Vec<String> {
    let place = |name: &str| dir.join(name).display().to_string();
    let roots = [("--root", "root"), ("--runroot", "run"), ("--tmpdir", "tmp")];
    roots.iter().flat_map(|(option, name)| [(*option).to_owned(), place(name)]).collect()
}

fn conf(dir: &Path) -> String {
    dir.join("containers.conf").display().to_string()
}
