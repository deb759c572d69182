//! What a session's container is shown of this machine: its own home, what it works on, and clauderon's files for it. All but
//! the home keeps its path.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clauderon_api::SessionEnv;
use clauderon_container::{Bind, Memory, Plan};
use clauderon_core::config::Limits;

use super::Contained;
use crate::environment::homes::HOMES;
use crate::home::{Home, private_dir, write_private};
use crate::sessions::SessionError;
use crate::sessions::sandboxed::identity;
use crate::sessions::sandboxed::scene::{BUNDLES, JAVA_TRUSTSTORE, NOBODY, PLACES, PROTECTED, RUN_MIB, Shown, tmp_mib};
use crate::store::StoredSession;

/// What a plan is made from.
pub(super) struct Scene<'a> {
    pub(super) home: &'a Home,
    pub(super) kept: &'a StoredSession,
    pub(super) container: &'a Contained,
    pub(super) shown: &'a Shown,
    pub(super) inherited: &'a [(String, String)],
    pub(super) session: SessionEnv,
    pub(super) limits: &'a Limits,
}

impl Scene<'_> {
    /// The plan of a launch.
    pub(super) fn plan(
        &self,
        name: String,
        launch_dir: PathBuf,
        record: PathBuf,
        output: Option<PathBuf>,
    ) -> Result<Plan, SessionError> {
        let (uid, gid) = user(self.kept, self.container);
        let runtime = runtime_dir(uid);
        let directory = match self.shown {
            Shown::Directory { path, .. } | Shown::Copy { path, .. } => path.clone(),
            Shown::Nothing | Shown::Hidden(_) => HOME.into(),
        };
        Ok(Plan {
            engine: self.container.engine.clone(),
            image: self.container.image.id.clone(),
            name,
            labels: self.labels(),
            uid,
            gid,
            binds: self.binds(),
            memory: self.memory(&runtime),
            shared_mib: tmp_mib(self.limits),
            processes: self.limits.session_processes,
            limits: self.container.limits,
            directory,
            environment: self.environment(uid, output.is_some()),
            way: self.home.session_way(&self.kept.id),
            forwards: self.kept.forwards.clone(),
            launch_dir,
            record,
            output,
        })
    }

    fn memory(&self, runtime: &Path) -> Vec<Memory> {
        let mib = tmp_mib(self.limits);
        let temporary = ["/tmp", "/var/tmp"].map(|target| Memory { target: target.into(), mib });
        temporary.into_iter().chain([Memory { target: runtime.to_owned(), mib: RUN_MIB }]).collect()
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let pair = |name: &str, value: &str| (format!("clauderon.{name}"), value.to_owned());
        let home = self.home.root().display().to_string();
        BTreeMap::from([
            pair("session", self.kept.name.as_str()),
            pair("session-id", self.kept.id.as_str()),
            pair("home", &home),
        ])
    }

    fn binds(&self) -> Vec<Bind> {
        let (home, id) = (self.home, &self.kept.id);
        let mut binds = vec![Bind { source: home.session_home(id), target: HOME.into(), writable: true }];
        let files = [home.ca_cert(), home.bundle(), home.truststore(), home.session_files(id), home.session_way(id)];
        binds.extend(files.map(|path| Bind::same(path, false)));
        let agents = HOMES.into_iter().map(|name| home.session_agents(id).join(name)).filter(|dir| dir.is_dir());
        binds.extend(agents.map(|dir| Bind::same(dir, true)));
        binds.extend(BUNDLES.iter().map(|place| Bind::read(home.bundle(), *place)));
        binds.push(Bind::read(home.truststore(), JAVA_TRUSTSTORE));
        let etc = accounts_dir(home, self.kept);
        binds.extend(ETC.iter().map(|name| Bind::read(etc.join(name), Path::new("/etc").join(name))));
        binds.extend(self.work());
        binds
    }

    fn work(&self) -> Vec<Bind> {
        match self.shown {
            Shown::Nothing | Shown::Hidden(_) => Vec::new(),
            Shown::Directory { path, writable } => {
                let protected = PROTECTED.iter().map(|name| path.join(name)).filter(|_| *writable);
                // Also a link that leads nowhere: the launcher refuses it, and none is passed over.
                let protected = protected.filter(|path| path.symlink_metadata().is_ok());
                let protected = protected.map(|path| Bind::same(path, false));
                std::iter::once(Bind::same(path, *writable)).chain(protected).collect()
            }
            Shown::Copy { path, objects } => {
                let objects = objects.iter().map(|path| Bind::same(path, false));
                std::iter::once(Bind::same(path, true)).chain(objects).collect()
            }
        }
    }

    /// The image's variables, a few of the caller's, and the session's over both.
    fn environment(&self, uid: u32, has_own_terminal: bool) -> Vec<(String, String)> {
        let callers = self.inherited.iter().filter(|(name, _)| CALLERS.contains(&name.as_str()));
        let callers = callers.filter(|(name, _)| !has_own_terminal || name != "TERM");
        let image = self.container.image.environment.iter();
        let image = image.filter(|(name, _)| !PLACES.contains(&name.as_str()) && !CALLERS.contains(&name.as_str()));
        let mut all = self.session.over(image.chain(callers).cloned());
        let mut add = |name: &str, value: String| {
            if !all.iter().any(|(has, _)| has == name) {
                all.push((name.to_owned(), value));
            }
        };
        add("HOME", HOME.to_owned());
        add("USER", USER.to_owned());
        add("LOGNAME", USER.to_owned());
        add("XDG_RUNTIME_DIR", runtime_dir(uid).display().to_string());
        add("PATH", USUAL_PATH.to_owned());
        if has_own_terminal {
            add("TERM", "xterm-256color".to_owned());
        }
        all
    }
}

/// Writes who there is inside, and where names are asked for.
pub(super) fn write_accounts(home: &Home, kept: &StoredSession, container: &Contained) -> Result<(), SessionError> {
    let dir = accounts_dir(home, kept);
    let failed = |source| SessionError::File { path: dir.clone(), source };
    private_dir(&dir).map_err(failed)?;
    let (uid, gid) = user(kept, container);
    let root = if uid == 0 { String::new() } else { "root:x:0:0:root:/root:/bin/sh\n".to_owned() };
    let root_group = if gid == 0 { "" } else { "root:x:0:\n" };
    let texts = [
        format!("{root}{USER}:x:{uid}:{gid}::{HOME}:/bin/sh\n{NOBODY}"),
        format!("{root_group}{USER}:x:{gid}:\nnogroup:x:65534:\n"),
        "127.0.0.1 localhost clauderon\n::1 localhost\n".to_owned(),
        "nameserver 127.0.0.1\n".to_owned(),
    ];
    ETC.iter()
        .zip(texts)
        .try_for_each(|(name, text)| write_private(&dir.join(name), text.as_bytes(), 0o644))
        .map_err(failed)
}

/// Who the session's processes are inside.
fn user(kept: &StoredSession, container: &Contained) -> (u32, u32) {
    let (uid, gid) = identity(&kept.id);
    container.engine.inside(uid, gid)
}

fn accounts_dir(home: &Home, kept: &StoredSession) -> PathBuf {
    home.session_dir(&kept.id).join("etc")
}

fn runtime_dir(uid: u32) -> PathBuf {
    format!("/run/user/{uid}").into()
}

/// Nothing of the host is below it, so that no engine makes directories in it for what it shows there.
const HOME: &str = "/.clauderon/home";
const USER: &str = "agent";

/// What is ours in `/etc`, whatever the image has there.
const ETC: [&str; 4] = ["passwd", "group", "hosts", "resolv.conf"];

/// What an image knows nothing of.
const CALLERS: [&str; 3] = ["TERM", "COLORTERM", "TZ"];

/// Where programs are in an image that does not say so.
const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
