//! The engines' API; the only user of its library.

use std::collections::HashMap;
use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigCgroupnsModeEnum, Mount, MountBindOptions, MountType,
    ResourcesUlimits,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, CreateImageOptionsBuilder, RemoveContainerOptionsBuilder,
};
use bollard::{ClientVersion, Docker};
use futures_util::StreamExt as _;
use rustix::process::{Resource, getrlimit};
use serde::{Deserialize, Serialize};

use crate::error::{EngineError, is_absent, reason};
use crate::plan::{Bind, Memory, Plan};
use crate::socket;

/// Which engine is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Docker's.
    Docker,
    /// Podman's, by the API that it shares with Docker's.
    Podman,
}

/// An engine that is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Engine<'a> {
    /// Which.
    pub kind: Kind,
    /// What the variable of its own tools says (`DOCKER_HOST`, `CONTAINER_HOST`).
    pub named: Option<&'a str>,
    /// `XDG_RUNTIME_DIR`, where a user's own engine listens.
    pub runtime_dir: Option<&'a str>,
}

/// An engine that has answered, and what it said of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Connected {
    /// Where it listens.
    pub socket: PathBuf,
    /// What it is, which need not be what its socket is called.
    pub kind: Kind,
    /// Its version.
    pub version: String,
    /// Whether it runs as a user, to whom its root is mapped.
    pub is_rootless: bool,
    /// Whether it maps containers' users to others unless told not to.
    pub is_remapping: bool,
    /// Whether it labels what containers may touch.
    pub is_labelling: bool,
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PullPolicy {
    /// When the engine does not have it.
    #[default]
    Missing,
    /// Each time.
    Always,
    /// Never.
    Never,
}

/// An image that the engine has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// Its name as it was given.
    pub name: String,
    /// Which it is, whatever the name stands for later.
    pub id: String,
    /// The environment it brings.
    pub environment: Vec<(String, String)>,
}

impl Kind {
    /// The variable by which its own tools are told where it listens.
    pub const fn variable(self) -> &'static str {
        match self {
            Self::Docker => "DOCKER_HOST",
            Self::Podman => "CONTAINER_HOST",
        }
    }

    /// The name of the backend and of the engine's own command.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
        }
    }

    pub(crate) const fn how_to_start(self) -> &'static str {
        match self {
            Self::Docker => "start it (`systemctl start docker`), or say where it listens: DOCKER_HOST=unix:///PATH",
            Self::Podman => {
                "let it listen (`systemctl --user enable --now podman.socket`, or `podman system service --time=0`), \
                 or say where it listens: CONTAINER_HOST=unix:///PATH"
            }
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Engine<'_> {
    /// Asks it who it is.
    pub async fn connect(&self) -> Result<Connected, EngineError> {
        let socket = socket::find(self.kind, self.named, self.runtime_dir)?;
        let failed = |error: &Error| {
            EngineError::new(format!(
                "the {} engine at {} does not answer: {}",
                self.kind,
                socket.display(),
                why(error)
            ))
            .hint(self.kind.how_to_start())
        };
        let client = client(&socket, ANSWER_LIMIT).map_err(|error| failed(&error))?;
        let version = client.version().await.map_err(|error| failed(&error))?;
        let info = client.info().await.map_err(|error| failed(&error))?;
        let components = version.components.unwrap_or_default();
        let is_podman = components.iter().any(|component| component.name.starts_with("Podman"));
        let options = info.security_options.unwrap_or_default();
        let has = |name: &str| options.iter().any(|option| option.split(',').any(|part| part == name));
        Ok(Connected {
            kind: if is_podman { Kind::Podman } else { Kind::Docker },
            version: version.version.unwrap_or_default(),
            // Podman's may not say so; it is whose socket it listens on.
            is_rootless: has("name=rootless") || (is_podman && !is_roots(&socket)),
            is_remapping: has("name=userns"),
            is_labelling: has("name=selinux"),
            socket,
        })
    }
}

impl Connected {
    /// The image, pulled when the policy says so.
    pub async fn image(&self, name: &str, policy: PullPolicy) -> Result<Image, EngineError> {
        let client = self.client(LONG)?;
        if policy == PullPolicy::Always {
            self.pull(&client, name).await?;
        }
        let found = match client.inspect_image(name).await {
            Err(error) if is_absent(&error) && policy == PullPolicy::Missing => {
                self.pull(&client, name).await?;
                client.inspect_image(name).await
            }
            found => found,
        };
        let found = found.map_err(|error| match is_absent(&error) {
            true => EngineError::new(format!("{} has no image `{name}`", self.kind))
                .hint(format!("`{} pull {name}`, or `--pull-policy missing`", self.kind)),
            false => EngineError::said(format_args!("the image `{name}`"), &error),
        })?;
        let architecture = found.architecture.unwrap_or_default();
        if !architecture.is_empty() && architecture != MACHINE {
            let what = format!("the image `{name}` is for {architecture}, and this machine is {MACHINE}");
            return Err(EngineError::new(what).hint(format!("pull it with `--platform linux/{MACHINE}`")));
        }
        let variables = found.config.and_then(|config| config.env).unwrap_or_default();
        let pair = |text: &String| text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        let environment = variables.iter().filter_map(pair).collect();
        Ok(Image { name: name.to_owned(), id: found.id.unwrap_or_else(|| name.to_owned()), environment })
    }

    async fn pull(&self, client: &Docker, name: &str) -> Result<(), EngineError> {
        // Without a tag the API takes all there are.
        let is_tagged = name.rsplit('/').next().is_some_and(|last| last.contains(':') || last.contains('@'));
        let wanted = if is_tagged { name.to_owned() } else { format!("{name}:latest") };
        let options = CreateImageOptionsBuilder::default().from_image(&wanted).build();
        let mut steps = client.create_image(Some(options), None, None);
        while let Some(step) = steps.next().await {
            let failure = match step {
                Ok(step) => step.error_detail.and_then(|error| error.message),
                Err(error) => Some(reason(&error)),
            };
            if let Some(failure) = failure {
                let hint =
                    format!("try `{} pull {name}`, which also knows your logins; then --pull-policy never", self.kind);
                return Err(EngineError::new(format!("{} cannot pull `{name}`: {failure}", self.kind)).hint(hint));
            }
        }
        Ok(())
    }

    /// Makes the container of a launch, with `program` as its first process.
    pub(crate) async fn create(&self, plan: &Plan, binds: &[Bind], program: &[String]) -> Result<(), EngineError> {
        let body = ContainerCreateBody {
            hostname: Some("clauderon".to_owned()),
            user: Some(format!("{}:{}", plan.uid, plan.gid)),
            env: Some(no_proxy()),
            image: Some(plan.image.clone()),
            entrypoint: Some(program.to_vec()),
            cmd: Some(Vec::new()),
            working_dir: Some("/".to_owned()),
            labels: Some(plan.labels.clone().into_iter().collect()),
            // It would be run past the first process.
            healthcheck: Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }),
            host_config: Some(self.host_config(plan, binds)),
            ..ContainerCreateBody::default()
        };
        let options = CreateContainerOptionsBuilder::default().name(&plan.name).build();
        let made = self.client(ANSWER_LIMIT)?.create_container(Some(options), body).await;
        made.map(drop).map_err(|error| self.refused("make", &error))
    }

    /// Starts the container `name`.
    pub(crate) async fn start(&self, name: &str) -> Result<(), EngineError> {
        let started = self.client(ANSWER_LIMIT)?.start_container(name, None).await;
        started.map_err(|error| self.refused("start", &error))
    }

    /// Waits until the container `name` has ended or is gone; once it was started, the engine then removes it by itself.
    pub(crate) async fn ended(&self, name: &str) -> Result<(), EngineError> {
        let client = self.client(LONG)?;
        let mut end = client.wait_container(name, None);
        match end.next().await {
            // The second: with a code that is not 0.
            None | Some(Ok(_) | Err(Error::DockerContainerWaitError { .. })) => Ok(()),
            Some(Err(error)) if is_absent(&error) => Ok(()),
            Some(Err(error)) => {
                Err(EngineError::said(format_args!("the container {name} cannot be waited for"), &error))
            }
        }
    }

    /// Removes the container `name`, running or not; one that is gone is none to remove.
    pub(crate) async fn remove(&self, name: &str) -> Result<(), EngineError> {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        match self.client(ANSWER_LIMIT)?.remove_container(name, Some(options)).await {
            Ok(()) => Ok(()),
            // The second: it is being removed.
            Err(Error::DockerResponseServerError { status_code: 404 | 409, .. }) => Ok(()),
            Err(error) => Err(EngineError::said(format_args!("the container {name} cannot be removed"), &error)),
        }
    }

    /// The user and group inside that the host knows as `uid` and `gid`. A rootless Docker engine has but one of its users: its
    /// own, which is root inside; whoever that is has no capability there.
    pub fn inside(&self, uid: u32, gid: u32) -> (u32, u32) {
        if self.kind == Kind::Docker && self.is_rootless { (0, 0) } else { (uid, gid) }
    }

    fn host_config(&self, plan: &Plan, binds: &[Bind]) -> HostConfig {
        HostConfig {
            network_mode: Some("none".to_owned()),
            cap_drop: Some(vec!["ALL".to_owned()]),
            security_opt: Some(self.security_options()),
            readonly_rootfs: Some(true),
            pids_limit: Some(i64::try_from(plan.processes).unwrap_or(i64::MAX)),
            memory: plan.limits.memory.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
            memory_swap: plan.limits.memory.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
            nano_cpus: plan.limits.cpus.map(nano),
            ulimits: Some(vec![
                limit("nofile", Resource::Nofile, USUAL_FILES, MOST_FILES),
                limit("nproc", Resource::Nproc, MOST_OF_A_USER, MOST_OF_A_USER),
            ]),
            // The relay listens where names are asked for and web servers are looked for.
            sysctls: Some(HashMap::from([("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned())])),
            tmpfs: Some(plan.memory.iter().map(|memory| self.tmpfs(plan, memory)).collect()),
            shm_size: Some(i64::from(plan.shared_mib) << 20),
            mounts: Some(binds.iter().map(mount).collect()),
            ipc_mode: Some("private".to_owned()),
            cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
            userns_mode: self.user_namespace().map(str::to_owned),
            auto_remove: Some(true),
            ..HostConfig::default()
        }
    }

    fn security_options(&self) -> Vec<String> {
        let mut options = vec!["no-new-privileges".to_owned()];
        if self.is_labelling {
            // Labelled as containers are, it could not connect to a socket of the host.
            options.push("label=disable".to_owned());
        }
        options
    }

    /// The mapping under which files of the session's user are its own inside.
    fn user_namespace(&self) -> Option<&'static str> {
        match self.kind {
            Kind::Podman if self.is_rootless => Some("keep-id"),
            Kind::Docker if self.is_remapping => Some("host"),
            _ => None,
        }
    }

    fn tmpfs(&self, plan: &Plan, memory: &Memory) -> (String, String) {
        // Else it would be as closed as the image's own directory.
        let owner = match self.kind {
            Kind::Podman => "U".to_owned(),
            Kind::Docker => format!("uid={},gid={}", plan.uid, plan.gid),
        };
        let options = format!("rw,exec,nosuid,nodev,mode=1777,size={}m,{owner}", memory.mib);
        (memory.target.display().to_string(), options)
    }

    fn refused(&self, what: &str, error: &Error) -> EngineError {
        EngineError::new(format!("{} cannot {what} the container: {}", self.kind, reason(error)))
    }

    fn client(&self, limit: Duration) -> Result<Docker, EngineError> {
        client(&self.socket, limit).map_err(|error| {
            EngineError::new(format!("the {} engine at {}: {}", self.kind, self.socket.display(), why(&error)))
                .hint(self.kind.how_to_start())
        })
    }
}

fn is_roots(socket: &Path) -> bool {
    std::fs::metadata(socket).is_ok_and(|metadata| metadata.uid() == 0)
}

fn client(socket: &Path, limit: Duration) -> Result<Docker, Error> {
    let version = &ClientVersion { major_version: 1, minor_version: API_MINOR };
    Docker::connect_with_unix(&socket.display().to_string(), limit.as_secs(), version)
}

/// What kept a request from the engine, down to the system's own words.
fn why(error: &Error) -> String {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut last = reason(error);
    while let Some(cause) = source {
        last = cause.to_string();
        source = cause.source();
    }
    last
}

fn mount(bind: &Bind) -> Mount {
    Mount {
        target: Some(bind.target.display().to_string()),
        source: Some(bind.source.display().to_string()),
        typ: Some(MountType::BIND),
        read_only: Some(!bind.writable),
        bind_options: Some(MountBindOptions { non_recursive: Some(true), ..MountBindOptions::default() }),
        ..Mount::default()
    }
}

/// As many as this process may have, within bounds that engines keep for themselves: by default they give more, which fails
/// where they may not.
fn limit(name: &str, resource: Resource, usual: i64, most: i64) -> ResourcesUlimits {
    let own = getrlimit(resource).maximum.and_then(|own| i64::try_from(own).ok()).unwrap_or(most).min(most);
    ResourcesUlimits { name: Some(name.to_owned()), soft: Some(own.min(usual)), hard: Some(own) }
}

/// Podman hands its own proxy variables on unless there are others; they may have a login in them.
fn no_proxy() -> Vec<String> {
    let names = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY"];
    names.iter().flat_map(|name| [format!("{name}="), format!("{}=", name.to_lowercase())]).collect()
}

#[expect(clippy::cast_possible_truncation, reason = "a number of processors")]
fn nano(cpus: f64) -> i64 {
    (cpus * 1e9) as i64
}

/// Of the engines that are around the oldest speak this; nothing younger is used.
const API_MINOR: usize = 41;

/// As the engines spell this machine's architecture.
const MACHINE: &str = if cfg!(target_arch = "x86_64") {
    "amd64"
} else if cfg!(target_arch = "aarch64") {
    "arm64"
} else {
    std::env::consts::ARCH
};

/// A request to an engine that works is answered in a moment; making a container on a slow disk may take some.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// Gigabytes over a slow line, or whatever is waited for under a limit of its own.
const LONG: Duration = Duration::from_secs(3600);
/// Files that programs may open before they ask for more.
const USUAL_FILES: i64 = 1024;
/// And then; what every engine gives by default.
const MOST_FILES: i64 = 1 << 20;
/// Processes of the session's user on the whole machine. No kernel has fewer numbers for processes, by which Podman bounds itself.
const MOST_OF_A_USER: i64 = 32_768;
