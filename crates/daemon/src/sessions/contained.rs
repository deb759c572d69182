//! Sessions in containers: which engine and image, and what a launch there shall be.

use std::path::PathBuf;
use std::time::Duration;

use clauderon_api::ContainerRequest;
use clauderon_container::{Connected, Engine, EngineError, Image, Kind, Limits, PullPolicy, Record, remove_left};
use clauderon_core::digest;
use serde::{Deserialize, Serialize};

use super::sandboxed::scene::Shown;
use super::{SessionError, Supervisor, backend, random, sandboxed};
use crate::home::{Home, private_dir, write_private};
use crate::store::StoredSession;

mod scene;

use scene::Scene;

/// The container that a new session shall have.
pub(crate) struct Wanted {
    kind: Kind,
    image: String,
    pull: PullPolicy,
    limits: Limits,
    named: Option<String>,
}

/// The container that a session has: the same for every launch, whatever the image's name stands for later.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Contained {
    engine: Connected,
    image: Image,
    limits: Limits,
}

/// Checks what was asked for.
pub(crate) fn wanted(name: &str, request: Option<&ContainerRequest>) -> Result<Option<Wanted>, SessionError> {
    let kind = match (backend::engine(name), request) {
        (Some(kind), Some(_)) => kind,
        (None, None) => return Ok(None),
        (None, Some(_)) => {
            let error = SessionError::bad_request(format!("the backend `{name}` has no container"));
            return Err(
                error.with_hint("--image, --pull-policy, --cpus and --memory are for --backend docker and podman")
            );
        }
        (Some(kind), None) => return Err(no_image(kind)),
    };
    let request = request.cloned().unwrap_or_default();
    if request.image.trim().is_empty() {
        return Err(no_image(kind));
    }
    let limits = Limits { cpus: cpus(request.cpus)?, memory: memory(request.memory)? };
    let pull = pull_policy(request.pull_policy.as_deref())?;
    Ok(Some(Wanted { kind, image: request.image, pull, limits, named: request.engine }))
}

fn no_image(kind: Kind) -> SessionError {
    SessionError::bad_request(format!("the backend `{kind}` needs an image"))
        .with_hint("give --image NAME: any will do that has the programs the session needs")
}

fn cpus(cpus: Option<f64>) -> Result<Option<f64>, SessionError> {
    match cpus {
        Some(cpus) if !(0.01..=1024.0).contains(&cpus) => {
            Err(SessionError::bad_request(format!("{cpus} is no number of processors"))
                .with_hint("for example `--cpus 1.5`"))
        }
        cpus => Ok(cpus),
    }
}

fn memory(bytes: Option<u64>) -> Result<Option<u64>, SessionError> {
    match bytes {
        Some(bytes) if bytes < LEAST_MEMORY => {
            Err(SessionError::bad_request(format!("{bytes} bytes of memory are too few"))
                .with_hint("for example `--memory 2g`; the least is 32m"))
        }
        bytes => Ok(bytes),
    }
}

fn pull_policy(policy: Option<&str>) -> Result<PullPolicy, SessionError> {
    match policy {
        None | Some("missing") => Ok(PullPolicy::Missing),
        Some("always") => Ok(PullPolicy::Always),
        Some("never") => Ok(PullPolicy::Never),
        Some(other) => Err(SessionError::bad_request(format!("there is no pull policy {other:?}"))
            .with_hint("it is `missing`, `always` or `never`")),
    }
}

impl From<EngineError> for SessionError {
    fn from(error: EngineError) -> Self {
        Self::Backend { what: error.what, hint: error.hint }
    }
}

impl Supervisor {
    /// Finds the engine and the image, before there is a session. Blocks, for as long as pulling takes.
    pub(super) fn find_container(&self, wanted: &Wanted) -> Result<Contained, SessionError> {
        let env = &self.0.env;
        let own = |name: &str| env.get(name).and_then(std::ffi::OsStr::to_str);
        let named = wanted.named.as_deref().or_else(|| own(wanted.kind.variable()));
        let engine = Engine { kind: wanted.kind, named, runtime_dir: own("XDG_RUNTIME_DIR") };
        tokio::runtime::Handle::current().block_on(async {
            let engine = engine.connect().await?;
            let image = engine.image(&wanted.image, wanted.pull).await?;
            Ok(Contained { engine, image, limits: wanted.limits })
        })
    }

    /// Keeps what was found with the session.
    pub(super) fn keep_container(&self, kept: &StoredSession, found: &Contained) -> Result<(), SessionError> {
        let path = self.container_file(kept);
        let text = serde_json::to_vec(found).expect("it is JSON");
        write_private(&path, &text, 0o600).map_err(|source| SessionError::File { path: path.clone(), source })
    }

    /// The image of the session's containers.
    pub(super) fn image(&self, kept: &StoredSession) -> Option<String> {
        backend::engine(&kept.backend)?;
        self.container_of(kept).ok().map(|container| container.image.name)
    }

    /// Writes the plan of a launch in a container of the session's.
    pub(super) fn write_container_plan(
        &self,
        kept: &StoredSession,
        shown: &Shown,
        inherited: &[(String, String)],
        output: Option<PathBuf>,
    ) -> Result<PathBuf, SessionError> {
        let container = self.container_of(kept)?;
        let mark = digest::hex(&random::<8>()?);
        let name = format!("clauderon-{}-{mark}", kept.name);
        let home = &self.0.home;
        let launch_dir = home.session_dir(&kept.id).join(format!("launch-{mark}"));
        let record = home.containers_dir().join(format!("{name}.json"));
        self.make_places(kept, &launch_dir)?;
        let (session, settings) = self.isolated_environment(kept)?;
        let scene = Scene { home, kept, container: &container, shown, inherited, session, limits: &settings.limits };
        let plan = scene.plan(name, launch_dir, record, output)?;
        self.keep_record(&plan)?;
        let path = home.session_dir(&kept.id).join(format!("launch-{mark}.json"));
        let text = serde_json::to_vec(&plan).expect("a plan is JSON");
        write_private(&path, &text, 0o600).map_err(|source| SessionError::File { path: path.clone(), source })?;
        Ok(path)
    }

    /// Removes containers whose launchers are gone, beside everything else.
    pub(super) fn remove_left_containers(&self, settled: Duration) {
        let dir = self.0.home.containers_dir();
        // Without a runtime there was no launch either.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            for problem in remove_left(&dir, settled).await {
                tracing::warn!("an earlier container may be left: {problem}");
            }
        });
    }

    /// On record before the engine hears of it.
    fn keep_record(&self, plan: &clauderon_container::Plan) -> Result<(), SessionError> {
        let record =
            Record { engine: plan.engine.clone(), name: plan.name.clone(), launch_dir: plan.launch_dir.clone() };
        let text = serde_json::to_vec(&record).expect("a record is JSON");
        let failed = |source| SessionError::File { path: plan.record.clone(), source };
        write_private(&plan.record, &text, 0o600).map_err(failed)
    }

    /// The session's home and the launcher's directory, for whoever the session's user is.
    fn make_places(&self, kept: &StoredSession, launch_dir: &std::path::Path) -> Result<(), SessionError> {
        let home = self.0.home.session_home(&kept.id);
        for dir in [home.as_path(), launch_dir] {
            let failed = |source| SessionError::File { path: dir.to_owned(), source };
            private_dir(dir).map_err(failed)?;
            sandboxed::give(&[dir.to_owned()], &kept.id).map_err(failed)?;
        }
        scene::write_accounts(&self.0.home, kept, &self.container_of(kept)?)
    }

    fn container_of(&self, kept: &StoredSession) -> Result<Contained, SessionError> {
        let path = self.container_file(kept);
        let failed = |source| SessionError::File { path: path.clone(), source };
        let text = std::fs::read(&path).map_err(failed)?;
        serde_json::from_slice(&text).map_err(|error| failed(error.into()))
    }

    fn container_file(&self, kept: &StoredSession) -> PathBuf {
        container_file(&self.0.home, kept)
    }
}

fn container_file(home: &Home, kept: &StoredSession) -> PathBuf {
    home.session_dir(&kept.id).join("container.json")
}

/// How long a launcher may take to take its record over.
pub(super) const SETTLED: Duration = Duration::from_secs(60);

/// This program itself needs some, as the first process.
const LEAST_MEMORY: u64 = 32 << 20;
