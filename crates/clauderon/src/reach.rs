//! The way to the daemon: find it, start it where a command may, and say what is wrong where it cannot be reached.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clauderon_api::{Client, ClientError};
use clauderon_daemon::home::Home;

use crate::error::{self, CliError, Doing, Result};
use crate::output;

/// Where the home is; nothing is created.
pub(crate) fn home() -> Result<Home> {
    Home::locate().map_err(|e| CliError::caused(error::USAGE, e))
}

/// The running daemon, or the error that says how to start one.
pub(crate) async fn daemon() -> Result<Client> {
    running(&home()?).await?.ok_or_else(unreachable)
}

/// The running daemon of `home`, if there is one.
pub(crate) async fn running(home: &Home) -> Result<Option<Client>> {
    let client = Client::new(home.control_socket());
    match client.daemon().await {
        Ok(_) => Ok(Some(client)),
        Err(ClientError::NotRunning(_)) => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// The running daemon; starts one, and says so, when there is none.
pub(crate) async fn daemon_started() -> Result<Client> {
    let home = home()?;
    match running(&home).await? {
        Some(client) => Ok(client),
        None => start(home).await,
    }
}

/// What an answer of the daemon means for the user.
pub(crate) fn failed(error: ClientError) -> CliError {
    let ClientError::Refused { error: answer, .. } = error else {
        return CliError::caused(error::UNREACHABLE, error).hint(start_hint());
    };
    let code = match answer.code.as_str() {
        "no_such_session" => error::NO_SUCH_SESSION,
        "backend" => error::BACKEND,
        "bad_request" => error::USAGE,
        _ => error::FAILURE,
    };
    let hint = answer.hint.clone();
    let error = CliError::caused(code, answer);
    hint.into_iter().fold(error, CliError::hint)
}

/// Like [`failed`]; where the session does not exist, the hint names those that do.
pub(crate) async fn session_failed(client: &Client, error: ClientError) -> CliError {
    let failed = failed(error);
    if failed.code() != error::NO_SUCH_SESSION {
        return failed;
    }
    let names: Vec<String> = client.sessions().await.unwrap_or_default().into_iter().map(|s| s.name).collect();
    if names.is_empty() { failed } else { failed.hint_instead(format!("sessions: {}", names.join(", "))) }
}

fn unreachable() -> CliError {
    let socket = home().map(|home| home.control_socket()).unwrap_or_default();
    CliError::new(error::UNREACHABLE, format_args!("no daemon is running (nobody listens on {})", socket.display()))
        .hint(start_hint())
}

/// The command that starts the daemon of this home.
fn start_hint() -> String {
    match std::env::var("CLAUDERON_HOME") {
        Ok(home) if !home.is_empty() => {
            format!("start it with `CLAUDERON_HOME={} clauderon daemon`", crate::quote::shell(&home))
        }
        _ => "start it with `clauderon daemon`".into(),
    }
}

async fn start(home: Home) -> Result<Client> {
    refuse_inside_session()?;
    let home = home.create().map_err(|e| CliError::caused(error::USAGE, e))?;
    let log = home.logs_dir().join("daemon-start.log");
    output::note(format_args!("no daemon is running: starting one (its first words go to {})", log.display()));
    let child = spawn(&home, &log).doing(|| "cannot start the daemon")?;
    let client = Client::new(home.control_socket());
    match wait_until_up(&client, child).await {
        true => Ok(client),
        false => Err(did_not_start(&log)),
    }
}

/// A daemon started here would take the session's placeholders for real credentials.
fn refuse_inside_session() -> Result {
    match std::env::var("CLAUDERON_SESSION_NAME") {
        Ok(name) => Err(CliError::new(error::UNREACHABLE, "no daemon is running")
            .hint(format!("this shell is inside session `{name}`: start the daemon from a shell of your own"))),
        Err(_) => Ok(()),
    }
}

fn spawn(home: &Home, log: &Path) -> Result<Child> {
    let program = std::env::current_exe()?;
    let log = open_log(log)?;
    let child = Command::new(program)
        .args(["daemon", "--detached"])
        .env("CLAUDERON_HOME", home.root())
        // Not the caller's directory: the daemon outlives it.
        .current_dir(home.root())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    Ok(child)
}

fn open_log(path: &Path) -> Result<File> {
    let open = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path);
    open.doing(|| format!("cannot write {}", path.display()))
}

/// Waits for a healthy daemon, be it our child or one that another command started at the same moment.
async fn wait_until_up(client: &Client, mut child: Child) -> bool {
    let mut deadline = Instant::now() + START_TIME;
    let mut ended = false;
    while Instant::now() < deadline {
        if client.health().await.is_ok_and(|health| health.status == "ok") {
            return true;
        }
        if !ended && !matches!(child.try_wait(), Ok(None)) {
            ended = true;
            deadline = deadline.min(Instant::now() + GRACE);
        }
        tokio::time::sleep(POLL).await;
    }
    // It runs, but something in it is not up: the command that follows says what, better than we could.
    client.daemon().await.is_ok()
}

fn did_not_start(log: &PathBuf) -> CliError {
    let said = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = said.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let from = lines
        .iter()
        .rposition(|line| line.starts_with("error:"))
        .unwrap_or_else(|| lines.len().saturating_sub(SHOWN_LINES));
    let words = lines.get(from..).unwrap_or_default().join("\n");
    let error = match words.as_str() {
        "" => CliError::new(error::UNREACHABLE, "it said nothing within 5 seconds"),
        words => CliError::new(error::UNREACHABLE, words.trim_start_matches("error:").trim_start()),
    };
    error.context("the daemon did not start").hint("run `clauderon daemon` to see it start in the foreground")
}

/// A daemon is up in well under a second; a busy machine may need more.
const START_TIME: Duration = Duration::from_secs(5);
/// How long another daemon may take to come up after ours found that it holds the home.
const GRACE: Duration = Duration::from_secs(1);
/// Short beside the start of a daemon, long beside a call.
const POLL: Duration = Duration::from_millis(20);
/// Lines of the daemon's own words that an error repeats.
const SHOWN_LINES: usize = 8;

#[cfg(test)]
mod tests {
    use clauderon_api::ApiError;

    use super::*;

    fn refused(code: &str) -> CliError {
        let error = ApiError { error: "no".into(), code: code.into(), hint: Some("do this".into()) };
        failed(ClientError::Refused { error, status: http::StatusCode::BAD_REQUEST })
    }

    #[test]
    fn answers_become_exit_codes() {
        for (answer, code) in [
            ("no_such_session", error::NO_SUCH_SESSION),
            ("backend", error::BACKEND),
            ("bad_request", error::USAGE),
            ("session_exists", error::FAILURE),
            ("internal", error::FAILURE),
            ("something newer", error::FAILURE),
        ] {
            assert_eq!(refused(answer).code(), code, "{answer}");
        }
        assert_eq!(refused("backend").hints(), ["do this"]);
        assert_eq!(failed(ClientError::NotRunning("/x".into())).code(), error::UNREACHABLE);
        assert_eq!(failed(ClientError::Transport("x".into())).code(), error::UNREACHABLE);
    }

    #[test]
    fn a_daemon_that_ends_at_once_is_quoted() {
        let dir = tempfile::tempdir().expect("a directory");
        let log = dir.path().join("log");
        std::fs::write(&log, "first\n\nerror: port 3030 is in use\nhint: pick another\n").expect("a file");
        let error = did_not_start(&log);
        assert_eq!(error.code(), error::UNREACHABLE);
        assert_eq!(error.messages(), ["the daemon did not start", "port 3030 is in use\nhint: pick another"]);
    }
}
