//! `create`: a session with an agent, with a command, or with no process of its own.

use std::time::Duration;

use clauderon_api::{Client, ContainerRequest, CreateSession, SessionInfo};
use tokio::time::timeout;

use crate::cli::{Agent, Backend, CreateArgs, Mode, SessionArgs, typed};
use crate::error::{self, CliError, Doing, OK, Result};
use crate::{output, reach, sandbox};

pub(crate) async fn run(args: CreateArgs) -> Result<u8> {
    let wanted = wanted(&args)?;
    let client = reach::daemon_started().await?;
    warn_if_not_isolated(args.session.backend);
    warn_of_forwards(&args.session);
    let session = create(&client, &wanted).await?;
    match args.format.json {
        _ if args.print => return print(&client, &session).await,
        true => output::json(&session)?,
        false => tell(&session)?,
    }
    Ok(OK)
}

/// Shows what the session's process writes until it ends; its exit code becomes ours.
async fn print(client: &Client, session: &SessionInfo) -> Result<u8> {
    output::note(format_args!("created session `{}`", session.name));
    let mut stream = client.logs(&session.name, true).await.map_err(reach::failed)?;
    let (mut out, mut was_silent) = (output::Raw::new(), true);
    while let Some(piece) = stream.next().await.map_err(reach::failed)? {
        was_silent = false;
        out.write(&piece)?;
    }
    let ended = client.session(&session.name).await.map_err(reach::failed)?;
    let Some(code) = ended.exit_code else {
        return Err(CliError::new(error::FAILURE, format_args!("session `{}` is {}", session.name, ended.status)));
    };
    if was_silent {
        warn_of_silence(&ended);
    }
    Ok(u8::try_from(code).unwrap_or(u8::MAX))
}

/// Agents that cannot reach their model have been seen to say nothing and call it success.
pub(super) fn warn_of_silence(session: &SessionInfo) {
    if session.exit_code == Some(0) {
        output::warning(format_args!("session `{}` ended without writing anything", session.name));
        output::hint(format_args!("see what it asked for: clauderon audit query --session {}", session.name));
    }
}

/// What `create` and `run` say alike about a new session.
pub(super) fn described(args: &SessionArgs) -> Result<CreateSession> {
    Ok(CreateSession {
        name: args.name.clone(),
        access_mode: Some(typed(&args.access_mode)),
        backend: Some(typed(&args.backend)),
        container: container(args)?,
        credentials: given(&args.credentials),
        allow_hosts: given(&args.allow_hosts),
        forwards: args.forwards.clone(),
        ..CreateSession::default()
    })
}

/// Asks the daemon for the session.
pub(super) async fn create(client: &Client, wanted: &CreateSession) -> Result<SessionInfo> {
    let creating = client.create_session(wanted);
    let mut creating = std::pin::pin!(creating);
    let created = match timeout(PATIENCE, &mut creating).await {
        Ok(created) => created,
        Err(_) => {
            if let Some(container) = &wanted.container {
                output::note(format_args!("still waiting: the engine may be pulling `{}`", container.image));
            }
            creating.await
        }
    };
    created.map_err(reach::failed).doing(|| "the session was not created")
}

/// Said each time: nothing else would tell that a session's walls are missing.
pub(super) fn warn_if_not_isolated(backend: Backend) {
    if backend == Backend::Local {
        output::warning("backend `local` does not isolate: the process can read your files and go around the proxy");
    }
}

/// Said because the mode says otherwise.
pub(super) fn warn_of_forwards(args: &SessionArgs) {
    if args.access_mode == Mode::ReadOnly && !args.forwards.is_empty() {
        output::warning("what passes through `--forward` is not looked at: services there are not read-only");
    }
}

fn wanted(args: &CreateArgs) -> Result<CreateSession> {
    let agent = agent(args)?;
    let repo = args.repo.as_ref().map(|path| directory(path)).transpose()?;
    Ok(CreateSession {
        agent,
        repo,
        allow_dirty: args.allow_dirty,
        prompt: args.prompt.clone(),
        command: args.command.clone(),
        ..described(&args.session)?
    })
}

/// `None` lets the daemon call it `custom`, as it does for a command.
fn agent(args: &CreateArgs) -> Result<Option<String>> {
    if args.no_agent {
        return Ok(Some("none".into()));
    }
    if !args.command.is_empty() {
        return Ok(None);
    }
    let is_asked_something = args.prompt.is_some() || args.session.backend.isolates();
    if args.repo.is_none() || !is_asked_something {
        return Err(CliError::new(error::USAGE, "an agent needs `--repo PATH` and `--prompt TEXT`")
            .hint("`--no-agent` makes a session for your own shell; `-- CMD` starts a command instead of an agent"));
    }
    Ok(Some(typed(&args.agent.unwrap_or(Agent::Claude))))
}

fn directory(path: &std::path::Path) -> Result<String> {
    let wrong = |why: &str| CliError::new(error::USAGE, format_args!("`--repo {}`: {why}", path.display()));
    let absolute = path.canonicalize().map_err(|e| wrong(&e.to_string()))?;
    if !absolute.is_dir() {
        return Err(wrong("not a directory"));
    }
    absolute.into_os_string().into_string().map_err(|_| wrong("the path is not UTF-8"))
}

/// What the container shall be, for the backends that have one.
fn container(args: &SessionArgs) -> Result<Option<ContainerRequest>> {
    let (wanted, variable) = match args.backend {
        Backend::Docker => (&args.container, "DOCKER_HOST"),
        Backend::Podman => (&args.container, "CONTAINER_HOST"),
        Backend::Sandbox | Backend::Local if args.container.image.is_some() => {
            return Err(CliError::new(error::USAGE, format_args!("backend `{}` has no image", typed(&args.backend)))
                .hint("`--image` and what belongs to it are for `--backend docker` and `--backend podman`"));
        }
        Backend::Sandbox | Backend::Local => return Ok(None),
    };
    let Some(image) = wanted.image.clone() else {
        return Err(CliError::new(error::USAGE, format_args!("backend `{}` needs an image", typed(&args.backend)))
            .hint("give `--image NAME`: any will do that has the programs the session needs"));
    };
    Ok(Some(ContainerRequest {
        image,
        pull_policy: wanted.pull_policy.as_ref().map(typed),
        cpus: wanted.cpus,
        memory: wanted.memory,
        engine: std::env::var(variable).ok(),
    }))
}

fn given(list: &[String]) -> Option<Vec<String>> {
    // `--allow-host none`, or an empty word, is how an empty list is written, which allows nothing.
    let means_none = list.iter().all(|item| ["", "none"].contains(&item.as_str()));
    let named = list.iter().filter(|item| !means_none && !item.is_empty()).cloned();
    (!list.is_empty()).then(|| named.collect())
}

fn tell(session: &SessionInfo) -> Result {
    output::line(&session.name)?;
    output::note(format_args!(
        "created session `{}` ({}, backend {}, agent {})",
        session.name, session.access_mode, session.backend, session.agent
    ));
    output::hint(match session.agent.as_str() {
        "none" if sandbox::isolates(&session.backend) => format!("run in it: clauderon exec {} -- CMD", session.name),
        "none" => format!("use it in this shell: eval \"$(clauderon env {})\"", session.name),
        _ if sandbox::isolates(&session.backend) => {
            format!("watch it: clauderon logs -f {0}; talk with it: clauderon attach {0}", session.name)
        }
        _ => format!("watch it: clauderon logs -f {}", session.name),
    });
    Ok(())
}

/// Whoever waits longer is told for what.
const PATIENCE: Duration = Duration::from_secs(3);
