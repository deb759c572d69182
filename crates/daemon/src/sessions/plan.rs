//! From a request to what a session will be: every check that needs no other session.

use std::path::Path;

use clauderon_api::CreateSession;
use clauderon_core::access::AccessMode;
use clauderon_core::agent::Agent;
use clauderon_core::credential::CredentialName;
use clauderon_core::host::HostPattern;
use clauderon_core::session::SessionName;
use clauderon_sandbox::plan::is_taken;

use super::naming::slug;
use super::{SessionError, backend, contained};
use crate::process::{ProcessId, find_program};
use crate::sources::env::Environment;

/// A checked request.
pub(crate) struct Plan {
    pub(crate) name: Naming,
    pub(crate) mode: AccessMode,
    pub(crate) backend: &'static str,
    /// The container to find, for the backends that have one.
    pub(crate) container: Option<contained::Wanted>,
    pub(crate) agent: String,
    pub(crate) repo: Option<String>,
    /// Whether a copy may leave out what is not committed.
    pub(crate) allow_dirty: bool,
    pub(crate) prompt: Option<String>,
    /// Empty: no process of its own.
    pub(crate) command: Vec<String>,
    pub(crate) credentials: Option<Vec<String>>,
    pub(crate) allow_hosts: Option<Vec<String>>,
    /// Ports of the machine's loopback that it shall reach.
    pub(crate) forwards: Vec<u16>,
    pub(crate) owner: Option<ProcessId>,
}

/// Where a session's name comes from.
pub(crate) enum Naming {
    /// The user; it must be free.
    Given(SessionName),
    /// What the session is for; a number is added if it is taken.
    Made(String),
}

impl Plan {
    /// A session without a process that may do everything.
    pub(crate) fn bare(name: SessionName) -> Self {
        Self {
            name: Naming::Given(name),
            mode: AccessMode::default(),
            backend: backend::LOCAL,
            container: None,
            agent: "none".to_owned(),
            repo: None,
            allow_dirty: false,
            prompt: None,
            command: Vec::new(),
            credentials: None,
            allow_hosts: None,
            forwards: Vec::new(),
            owner: None,
        }
    }

    /// Checks `request`; programs are looked for in `env`, credentials among `known`.
    pub(crate) fn check(
        request: CreateSession,
        env: &Environment,
        known: &[CredentialName],
    ) -> Result<Self, SessionError> {
        let backend = backend(request.backend.as_deref())?;
        let container = contained::wanted(backend, request.container.as_ref())?;
        let mode = request.access_mode.as_deref().map(str::parse::<AccessMode>).transpose();
        let mode = mode.map_err(|error| SessionError::bad_request(error.to_string()))?.unwrap_or_default();
        let (agent, command) = agent_and_command(&request, backend, env)?;
        Ok(Self {
            name: naming(&request, &agent)?,
            container,
            mode,
            backend,
            agent,
            allow_dirty: request.allow_dirty,
            repo: request.repo.map(repository).transpose()?,
            prompt: request.prompt,
            command,
            credentials: request.credentials.map(|names| known_credentials(names, known)).transpose()?,
            allow_hosts: request.allow_hosts.map(host_patterns).transpose()?,
            forwards: forwards(request.forwards, backend)?,
            owner: owner(request.ephemeral, request.owner_pid)?,
        })
    }
}

fn backend(wanted: Option<&str>) -> Result<&'static str, SessionError> {
    backend::known(wanted.unwrap_or(backend::SANDBOX)).ok_or_else(|| {
        SessionError::bad_request(format!("there is no backend {:?}", wanted.unwrap_or_default()))
            .with_hint("the backends are `sandbox`, `docker`, `podman` and `local`")
    })
}

fn agent_and_command(
    request: &CreateSession,
    backend: &str,
    env: &Environment,
) -> Result<(String, Vec<String>), SessionError> {
    let (agent, command) = (request.agent.as_deref(), &request.command);
    if !command.is_empty() {
        no_nul(command)?;
        return Ok((known_agent(agent.unwrap_or("custom"))?.to_owned(), command.clone()));
    }
    match agent {
        Some(agent @ ("none" | "custom")) => Ok((agent.to_owned(), Vec::new())),
        // `run` starts its command itself, an agent too.
        agent if request.ephemeral => Ok((known_agent(agent.unwrap_or("custom"))?.to_owned(), Vec::new())),
        preset => {
            let agent = preset.map_or(Ok(Agent::Claude), |name| Agent::parse(name).ok_or_else(|| no_agent(name)))?;
            Ok((agent.name().to_owned(), preset_command(agent, request.prompt.as_deref(), backend, env)?))
        }
    }
}

fn known_agent(agent: &str) -> Result<&str, SessionError> {
    let is_known = Agent::parse(agent).is_some() || ["custom", "none"].contains(&agent);
    is_known.then_some(agent).ok_or_else(|| no_agent(agent))
}

fn no_agent(name: &str) -> SessionError {
    SessionError::bad_request(format!("there is no agent {name:?}"))
        .with_hint("the agents are `claude`, `codex` and `gemini`; give any other command after `--`")
}

/// The command that makes an agent work on a prompt without a terminal, or without a prompt at its terminal.
fn preset_command(
    agent: Agent,
    prompt: Option<&str>,
    backend: &str,
    env: &Environment,
) -> Result<Vec<String>, SessionError> {
    let prompt = prompt.filter(|prompt| !prompt.trim().is_empty());
    let (name, has_walls) = (agent.name(), backend::isolates(backend));
    if prompt.is_none() && !has_walls {
        let error = SessionError::bad_request(format!("`{name}` needs a prompt, or a terminal to be asked at"));
        return Err(error.with_hint("give --prompt TEXT, or --backend sandbox: it has a terminal for `attach`"));
    }
    let program = program(name, backend, env)?;
    let mut command = vec![program];
    command.extend(agent.arguments(prompt, has_walls));
    no_nul(&command).map(|()| command)
}

/// Where the agent's program lies; in a container that is the image's to say.
fn program(agent: &str, backend: &str, env: &Environment) -> Result<String, SessionError> {
    if backend::engine(backend).is_some() {
        return Ok(agent.to_owned());
    }
    let program = find_program(env, agent).ok_or_else(|| SessionError::Backend {
        what: format!("`{agent}` is not on the daemon's PATH"),
        hint: Some(format!("install {agent} and restart the daemon, or give a command after `--`")),
    })?;
    Ok(program.to_string_lossy().into_owned())
}

fn no_nul(command: &[String]) -> Result<(), SessionError> {
    let clean =
        command.iter().all(|argument| !argument.contains('\0')) && !command.first().is_some_and(String::is_empty);
    clean.then_some(()).ok_or_else(|| SessionError::bad_request("the command is empty or contains NUL"))
}

fn naming(request: &CreateSession, agent: &str) -> Result<Naming, SessionError> {
    if let Some(name) = &request.name {
        let name = SessionName::parse(name).map_err(|error| SessionError::bad_request(error.to_string()))?;
        return Ok(Naming::Given(name));
    }
    // Of a command only the program: its arguments may hold what no listing should show.
    let program = request.command.first().and_then(|program| slug(&file_name(program)));
    let repo = || request.repo.as_deref().and_then(|repo| slug(&file_name(repo)));
    let made = request.prompt.as_deref().and_then(slug).or(program).or_else(repo);
    let agent = if ["none", "custom"].contains(&agent) { "session" } else { agent };
    Ok(Naming::Made(made.unwrap_or_else(|| agent.to_owned())))
}

fn file_name(path: &str) -> String {
    Path::new(path).file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn repository(path: String) -> Result<String, SessionError> {
    let is_there = Path::new(&path).is_absolute() && Path::new(&path).is_dir();
    if is_there {
        return Ok(path);
    }
    let error = SessionError::bad_request(format!("{path} is not a directory"));
    Err(error.with_hint("give the absolute path of a repository that exists"))
}

fn known_credentials(names: Vec<String>, known: &[CredentialName]) -> Result<Vec<String>, SessionError> {
    let is_known = |name: &String| known.iter().any(|known| known.as_str() == name);
    match names.iter().find(|name| !is_known(name)) {
        None => Ok(names),
        Some(unknown) => {
            let all: Vec<_> = known.iter().map(CredentialName::as_str).collect();
            Err(SessionError::bad_request(format!("there is no credential {unknown:?}"))
                .with_hint(format!("the credentials are {}", all.join(", "))))
        }
    }
}

fn host_patterns(hosts: Vec<String>) -> Result<Vec<String>, SessionError> {
    let canonical = |host: String| {
        HostPattern::parse(&host).map(|pattern| pattern.to_string()).map_err(|_| {
            SessionError::bad_request(format!("{host:?} is no host"))
                .with_hint("write `api.example.com`, `*.example.com` or `host:port`")
        })
    };
    hosts.into_iter().map(canonical).collect()
}

fn forwards(mut ports: Vec<u16>, backend: &str) -> Result<Vec<u16>, SessionError> {
    if !ports.is_empty() && !backend::isolates(backend) {
        let error = SessionError::bad_request(format!("the backend `{backend}` forwards no ports"));
        return Err(error.with_hint("the others do; with `local` a process reaches this machine's ports as it is"));
    }
    if let Some(port) = ports.iter().find(|port| is_taken(**port)) {
        let error =
            SessionError::bad_request(format!("port {port} cannot be forwarded: a sandbox has its own use for it"));
        return Err(error.with_hint("let the service listen on another port of this machine"));
    }
    ports.sort_unstable();
    ports.dedup();
    if ports.len() > MAX_FORWARDS {
        return Err(SessionError::bad_request(format!("a session has at most {MAX_FORWARDS} forwarded ports")));
    }
    Ok(ports)
}

fn owner(ephemeral: bool, pid: Option<u32>) -> Result<Option<ProcessId>, SessionError> {
    if !ephemeral {
        return Ok(None);
    }
    let pid = pid.ok_or_else(|| SessionError::bad_request("an ephemeral session needs `owner_pid`"))?;
    let owner = i32::try_from(pid).ok().and_then(ProcessId::of);
    owner
        .map(Some)
        .ok_or_else(|| SessionError::bad_request(format!("process {pid}, the session's owner, does not run")))
}

/// Two listeners and a task each; nobody needs as many.
const MAX_FORWARDS: usize = 32;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use clauderon_api::ContainerRequest;

    use super::*;

    fn check(request: CreateSession) -> Result<Plan, SessionError> {
        let known = [CredentialName::parse("github").unwrap(), CredentialName::parse("npm").unwrap()];
        Plan::check(request, &Environment::from_iter([("PATH", "/nowhere")]), &known)
    }

    fn refusal(request: CreateSession) -> String {
        let error = check(request).err().unwrap();
        format!("{error} ({})", error.hint().unwrap_or_default())
    }

    #[test]
    fn a_container_needs_an_image_and_nothing_else_takes_one() {
        let request = |backend: &str, container| CreateSession {
            backend: Some(backend.into()),
            agent: Some("none".into()),
            container,
            ..Default::default()
        };
        let image = |more: ContainerRequest| Some(ContainerRequest { image: "alpine".into(), ..more });
        for backend in ["docker", "podman"] {
            assert!(refusal(request(backend, None)).contains("--image"));
            assert!(check(request(backend, image(ContainerRequest::default()))).unwrap().container.is_some());
        }
        let text = refusal(request("sandbox", image(ContainerRequest::default())));
        assert!(text.contains("`sandbox`") && text.contains("--backend docker"), "{text}");
        for (more, word) in [
            (ContainerRequest { cpus: Some(0.0), ..Default::default() }, "processors"),
            (ContainerRequest { cpus: Some(f64::NAN), ..Default::default() }, "processors"),
            (ContainerRequest { memory: Some(1000), ..Default::default() }, "memory"),
            (ContainerRequest { pull_policy: Some("often".into()), ..Default::default() }, "`missing`"),
        ] {
            let text = refusal(request("docker", image(more)));
            assert!(text.contains(word), "{text}");
        }
    }

    #[test]
    fn mistakes_are_named_with_the_way_out() {
        let cases = [
            (CreateSession { agent: Some("hal".into()), ..Default::default() }, "agents are"),
            (
                CreateSession { agent: Some("claude".into()), backend: Some("local".into()), ..Default::default() },
                "--prompt TEXT",
            ),
            (
                CreateSession { prompt: Some("Fix".into()), ..Default::default() },
                "`claude` is not on the daemon's PATH",
            ),
            (
                CreateSession { name: Some("../x".into()), command: vec!["a".into()], ..Default::default() },
                "session name",
            ),
            (CreateSession { access_mode: Some("rw".into()), ..Default::default() }, "`read-only` or `read-write`"),
            (
                CreateSession { repo: Some("code".into()), command: vec!["a".into()], ..Default::default() },
                "absolute path",
            ),
            (CreateSession { command: vec![String::new()], ..Default::default() }, "empty or contains NUL"),
            (CreateSession { ephemeral: true, ..Default::default() }, "owner_pid"),
            (CreateSession { ephemeral: true, owner_pid: Some(u32::MAX), ..Default::default() }, "does not run"),
        ];
        for (request, expected) in cases {
            let text = refusal(request);
            assert!(text.contains(expected), "{text}");
        }
        let bare = CreateSession { agent: Some("none".into()), ..Default::default() };
        let text = refusal(CreateSession { credentials: Some(vec!["gitlab".into()]), ..bare.clone() });
        assert!(text.contains("gitlab") && text.contains("github, npm"), "{text}");
        let text = refusal(CreateSession { allow_hosts: Some(vec!["*".into()]), ..bare });
        assert!(text.contains("*.example.com"), "{text}");
    }

    #[test]
    fn names_tell_what_a_session_is_for_and_no_more() {
        let name = |request| match check(request).unwrap().name {
            Naming::Given(name) => name.to_string(),
            Naming::Made(name) => name,
        };
        let curl = vec!["/usr/bin/curl".into(), "-H".into(), "Authorization: hunter2".into()];
        assert_eq!(name(CreateSession { command: curl.clone(), ..Default::default() }), "curl");
        let prompt = Some("Review the code".to_owned());
        assert_eq!(name(CreateSession { command: curl, prompt, ..Default::default() }), "review-the-code");
        assert_eq!(name(CreateSession { agent: Some("none".into()), ..Default::default() }), "session");
    }
}
