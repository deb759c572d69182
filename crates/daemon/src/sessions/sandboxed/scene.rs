//! What a session sees of this machine: system programs, a little of `/etc`, a home of its own, and what it works on.
//! Everything keeps its path, so that a path means the same inside and outside.

use std::path::{Path, PathBuf};

use clauderon_core::config::Limits;
use clauderon_core::session::SessionId;
use clauderon_sandbox::plan::{Access, Entry, Plan};

use super::SessionError;
use crate::environment::homes::HOMES;
use crate::home::Home;

/// What a view is made from.
pub(super) struct Scene<'a> {
    pub(super) home: &'a Home,
    pub(super) id: &'a SessionId,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) shown: &'a Shown,
    pub(super) forwards: &'a [u16],
    pub(super) limits: &'a Limits,
}

/// The directory that the command works in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// None but the session's home.
    Nothing,
    /// One that cannot be shown, and why.
    Hidden(String),
    /// The session's own copy of its repository.
    Copy {
        /// Where it is.
        path: PathBuf,
        /// Where git finds the objects that it shares.
        objects: Vec<PathBuf>,
    },
    /// This one.
    Directory {
        /// Where it is, without links.
        path: PathBuf,
        /// Whether it may be changed.
        writable: bool,
    },
}

/// Decides whether `directory` can be shown: not when that would show the user's home, clauderon's, or the system's
/// sockets and settings along with it.
pub(super) fn shown(directory: &Path, writable: bool, home: &Home) -> Result<Shown, SessionError> {
    let wrong = |why: String| SessionError::bad_request(format!("{}: {why}", directory.display()));
    let path = directory.canonicalize().map_err(|error| wrong(error.to_string()))?;
    if !path.is_dir() {
        return Err(wrong("it is not a directory".into()));
    }
    if writable && rustix::process::geteuid().is_root() {
        let hint = "run clauderon as the user who owns the directory";
        return Err(wrong("root's sessions run as another user, who may not write there".into()).with_hint(hint));
    }
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let own = [real(home.user_home()), real(home.root())];
    let holds = |inner: &PathBuf| inner.starts_with(&path);
    let hidden = if own.iter().any(holds) {
        Some("it holds your home directory")
    } else if path.starts_with(real(home.root())) {
        Some("it belongs to clauderon")
    } else if path.components().count() <= 2 || NEVER_SHOWN.iter().any(|system| path.starts_with(system)) {
        Some("it belongs to the system")
    } else {
        None
    };
    Ok(match hidden {
        Some(why) if writable => return Err(wrong(format!("it cannot be written in a sandbox: {why}"))),
        Some(why) => Shown::Hidden(format!("{} is not shown in the sandbox: {why}", path.display())),
        None => Shown::Directory { path, writable },
    })
}

impl Scene<'_> {
    /// The plan of a launch.
    pub(super) fn plan(&self, environment: Vec<(String, String)>, output: Option<PathBuf>) -> Plan {
        let user_home = self.user_home();
        let mut writable: Vec<PathBuf> = WRITABLE.iter().map(PathBuf::from).collect();
        writable.push(user_home.clone());
        writable.extend(self.agents());
        let directory = match self.shown {
            Shown::Directory { path, writable: may_write } => {
                writable.extend(may_write.then(|| path.clone()));
                path.clone()
            }
            Shown::Copy { path, .. } => {
                writable.push(path.clone());
                path.clone()
            }
            Shown::Nothing | Shown::Hidden(_) => user_home,
        };
        Plan {
            uid: self.uid,
            gid: self.gid,
            hostname: "clauderon".to_owned(),
            view: self.view(),
            writable,
            processes: self.limits.session_processes,
            directory,
            environment: self.environment(environment),
            way: self.home.session_way(self.id),
            forwards: self.forwards.to_vec(),
            output,
        }
    }

    /// What is inherited says where things are on the machine; some of them are elsewhere in here.
    fn environment(&self, environment: Vec<(String, String)>) -> Vec<(String, String)> {
        let mut kept: Vec<_> = environment.into_iter().filter(|(name, _)| !PLACES.contains(&name.as_str())).collect();
        let runtime = format!("/run/user/{}", self.uid);
        let own = [("HOME", self.user_home().display().to_string()), ("XDG_RUNTIME_DIR", runtime)];
        kept.extend(own.map(|(name, value)| (name.to_owned(), value)));
        kept.extend(["USER", "LOGNAME"].map(|name| (name.to_owned(), self.user_name())));
        kept
    }

    fn view(&self) -> Vec<Entry> {
        let mut view: Vec<Entry> = TOP.iter().filter_map(|path| top_level(Path::new(path))).collect();
        view.extend(SYSTEM.iter().chain(ETC).map(Entry::if_there));
        view.extend(self.etc_files());
        view.extend(memory(self.limits));
        view.push(Entry::Directory { target: format!("/run/user/{}", self.uid).into() });
        view.extend(devices());
        view.extend(self.own_files());
        match self.shown {
            Shown::Directory { path, writable } => view.extend(work(path, *writable)),
            Shown::Copy { path, objects } => {
                view.push(Entry::same(path, Access::Write));
                view.extend(objects.iter().map(|path| Entry::same(path, Access::Read)));
            }
            Shown::Nothing | Shown::Hidden(_) => {}
        }
        // Parents first; among equals the order above.
        view.sort_by_key(|entry| entry.target().components().count());
        view
    }

    /// The session's home, what it needs of the user's toolchains and of clauderon's files.
    fn own_files(&self) -> Vec<Entry> {
        let user_home = self.user_home();
        let home = Entry::Bind {
            source: self.home.session_home(self.id),
            target: user_home.clone(),
            access: Access::Write,
            optional: false,
        };
        let toolchains = TOOLCHAINS.iter().map(|name| Entry::if_there(user_home.join(name)));
        let files = [self.home.ca_cert(), self.home.bundle(), self.home.truststore(), self.home.session_files(self.id)];
        let files = files.into_iter().chain([self.home.session_way(self.id)]);
        let files = files.map(|path| Entry::same(path, Access::Read));
        let agents = self.agents().map(|path| Entry::same(path, Access::Write));
        std::iter::once(home).chain(toolchains).chain(files).chain(agents).collect()
    }

    /// The agents' homes that the session has. Each is shown by itself, so that none can be moved away from in here.
    fn agents(&self) -> impl Iterator<Item = PathBuf> {
        let dir = self.home.session_agents(self.id);
        HOMES.into_iter().map(move |name| dir.join(name)).filter(|home| home.is_dir())
    }

    fn etc_files(&self) -> Vec<Entry> {
        let (uid, gid, name) = (self.uid, self.gid, self.user_name());
        let home = self.user_home();
        let file = |target: &str, text: String| Entry::File { target: target.into(), text };
        let java = (self.home.truststore(), JAVA_TRUSTSTORE);
        let bundles = BUNDLES.iter().map(|target| (self.home.bundle(), *target)).chain([java]);
        let bundles = bundles.map(|(source, target)| Entry::Bind {
            source,
            target: target.into(),
            access: Access::Read,
            optional: false,
        });
        let files = [
            file("/etc/passwd", format!("{name}:x:{uid}:{gid}::{}:/bin/sh\n{NOBODY}", home.display())),
            file("/etc/group", format!("{name}:x:{gid}:\nnogroup:x:65534:\n")),
            file("/etc/hosts", "127.0.0.1 localhost clauderon\n::1 localhost\n".to_owned()),
            file("/etc/hostname", "clauderon\n".to_owned()),
            file("/etc/resolv.conf", "nameserver 127.0.0.1\n".to_owned()),
            file("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n".to_owned()),
            file("/etc/machine-id", format!("{:0<32}\n", self.id.as_str())),
        ];
        files.into_iter().chain(bundles).collect()
    }

    fn user_home(&self) -> PathBuf {
        let home = self.home.user_home();
        home.canonicalize().unwrap_or_else(|_| home.to_owned())
    }

    fn user_name(&self) -> String {
        let own = rustix::process::getuid().as_raw();
        let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let known = accounts.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)?.parse() == Ok(own)).then(|| name.to_owned())
        });
        known.filter(|_| own != 0).unwrap_or_else(|| "agent".to_owned())
    }
}

/// Links of the root directory stay links, as programs find their libraries through them.
fn top_level(path: &Path) -> Option<Entry> {
    if let Ok(text) = std::fs::read_link(path) {
        return Some(Entry::Link { target: path.into(), text: text.to_str()?.to_owned() });
    }
    path.is_dir().then(|| Entry::same(path, Access::Read))
}

/// The directory worked in. Git's own part of it stays as it is: its configuration names programs that the user's next
/// git command would run.
fn work(path: &Path, writable: bool) -> Vec<Entry> {
    let access = if writable { Access::Write } else { Access::Read };
    let mut entries = vec![Entry::same(path, access)];
    if writable {
        entries.extend(PROTECTED.iter().map(|name| Entry::if_there(path.join(name))));
    }
    entries
}

/// What a session may fill in each of its temporary directories.
pub(crate) fn tmp_mib(limits: &Limits) -> u32 {
    u32::try_from(limits.session_tmp_bytes.div_ceil(MIB)).unwrap_or(u32::MAX)
}

fn memory(limits: &Limits) -> Vec<Entry> {
    let tmp_mib = tmp_mib(limits);
    let memory = |target: &str, mib, mode| Entry::Memory { target: target.into(), mib, mode };
    vec![
        memory("/tmp", tmp_mib, 0o1777),
        memory("/var/tmp", tmp_mib, 0o1777),
        memory("/run", RUN_MIB, 0o755),
        Entry::Link { target: "/var/run".into(), text: "/run".to_owned() },
        memory("/dev/shm", tmp_mib, 0o1777),
    ]
}

fn devices() -> Vec<Entry> {
    let link = |target: &str, text: &str| Entry::Link { target: target.into(), text: text.to_owned() };
    let nodes = ["null", "zero", "full", "random", "urandom", "tty"];
    let nodes = nodes.iter().map(|name| Entry::same(Path::new("/dev").join(name), Access::Device));
    let rest = [
        Entry::Terminals { target: "/dev/pts".into() },
        link("/dev/ptmx", "pts/ptmx"),
        link("/dev/fd", "/proc/self/fd"),
        link("/dev/stdin", "/proc/self/fd/0"),
        link("/dev/stdout", "/proc/self/fd/1"),
        link("/dev/stderr", "/proc/self/fd/2"),
    ];
    nodes.chain(rest).collect()
}

/// Directories, or links on systems that have merged them.
const TOP: &[&str] = &["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];

const SYSTEM: &[&str] = &["/usr", "/opt", "/nix/store", "/nix/var/nix/profiles", "/home/linuxbrew", "/gnu/store"];

/// What programs need of `/etc`, none of which holds a login.
const ETC: &[&str] = &[
    "/etc/alternatives",
    "/etc/bash.bashrc",
    "/etc/ca-certificates",
    "/etc/debian_version",
    "/etc/fonts",
    "/etc/inputrc",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/magic",
    "/etc/mime.types",
    "/etc/os-release",
    "/etc/perl",
    "/etc/profile",
    "/etc/profile.d",
    "/etc/protocols",
    "/etc/python3",
    "/etc/services",
    "/etc/shells",
    "/etc/ssl/openssl.cnf",
    "/etc/terminfo",
    "/etc/timezone",
    "/etc/java-17-openjdk",
    "/etc/java-21-openjdk",
    "/etc/lsb-release",
    "/etc/redhat-release",
    "/etc/alpine-release",
];

/// Where distributions keep the trust bundle; tools without a variable for it look there.
pub(crate) const BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
];

/// The same for Java, on Debian and its like.
pub(crate) const JAVA_TRUSTSTORE: &str = "/etc/ssl/certs/java/cacerts";

/// Programs that users install in their home; none of these directories holds a login.
const TOOLCHAINS: &[&str] = &[
    ".asdf",
    ".bun/bin",
    ".cargo/bin",
    ".deno/bin",
    ".fnm",
    ".local/bin",
    ".local/lib",
    ".local/pipx",
    ".local/share/claude",
    ".local/share/fnm",
    ".local/share/mise",
    ".local/share/pnpm",
    ".local/share/uv",
    ".nodenv",
    ".npm-global",
    ".nvm",
    ".pyenv",
    ".rbenv",
    ".rustup",
    ".sdkman",
    ".volta",
    "go/bin",
];

/// Parts of a directory whose content decides what runs on the host later.
pub(crate) const PROTECTED: &[&str] =
    &[".git", ".claude", ".mcp.json", ".vscode", ".idea", ".envrc", ".githooks", ".husky"];

/// Holds sockets, settings and devices of the machine.
const NEVER_SHOWN: &[&str] = &["/dev", "/etc", "/proc", "/run", "/sys", "/var/run", "/var/tmp", "/boot"];

/// Where an agent may write besides its home and what it works on.
const WRITABLE: &[&str] = &["/tmp", "/var/tmp", "/run", "/dev", "/proc"];

/// Variables that say where things of the user's are that are elsewhere in a sandbox.
pub(crate) const PLACES: &[&str] = &[
    "HOME",
    "USER",
    "LOGNAME",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_CACHE_HOME",
    "XDG_STATE_HOME",
    "CARGO_HOME",
    "GOPATH",
];

/// The user that everybody else's files seem to belong to.
pub(crate) const NOBODY: &str = "nobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\n";

const MIB: u64 = 1 << 20;
pub(crate) const RUN_MIB: u32 = 64;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_shown_unless_it_shows_more_than_itself() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let user_home = root.join("ann");
        let home = Home::at(user_home.join(".clauderon"), &user_home).create().unwrap();
        let project = user_home.join("project");
        std::fs::create_dir(&project).unwrap();
        std::os::unix::fs::symlink(&user_home, root.join("link")).unwrap();
        let of = |path: &Path| shown(path, false, &home).unwrap();
        assert_eq!(of(&project), Shown::Directory { path: project, writable: false });
        for hidden in [&root, &user_home, &root.join("link"), &home.root().to_owned(), &home.secrets_dir()] {
            assert!(matches!(of(hidden), Shown::Hidden(_)), "{}", hidden.display());
        }
        for hidden in ["/", "/usr", "/etc/ssl", "/proc/self", "/dev/shm", "/tmp"] {
            assert!(matches!(of(Path::new(hidden)), Shown::Hidden(_)), "{hidden}");
        }
        assert!(shown(&user_home.join("none"), false, &home).is_err());
        assert!(shown(&user_home, true, &home).is_err(), "nothing less than asked");
    }

    #[test]
    fn a_view_lists_parents_before_children_and_no_file_of_the_daemons_own() {
        let home = Home::at("/home/ann/.clauderon", "/home/ann");
        let id = SessionId::from_bytes([1, 2, 3, 4]);
        let shown = Shown::Directory { path: "/home/ann/project".into(), writable: true };
        let scene = Scene {
            home: &home,
            id: &id,
            uid: 1000,
            gid: 1000,
            shown: &shown,
            forwards: &[],
            limits: &Limits::default(),
        };
        let plan = scene.plan(Vec::new(), None);
        let targets: Vec<_> = plan.view.iter().map(|entry| entry.target().components().count()).collect();
        assert!(targets.is_sorted());
        let forbidden = [home.ca_key(), home.db(), home.api_token(), home.control_socket(), home.secrets_dir()];
        for entry in &plan.view {
            let Entry::Bind { source, .. } = entry else { continue };
            assert!(forbidden.iter().all(|file| !file.starts_with(source)), "{}", source.display());
        }
        assert!(plan.view.contains(&Entry::if_there("/home/ann/project/.git")));
    }
}
