//! The demo's daemon: this same binary, on a temporary home, on a free port.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use clauderon_api::Client;
use rustix::process::{Pid, Signal};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::origin::Origin;
use crate::error::{CliError, Doing, FAILURE, Result};

/// A running daemon that ends, with its home, when dropped.
pub(in crate::commands) struct Stage {
    home: TempDir,
    daemon: Child,
    client: Client,
}

impl Stage {
    /// Starts a daemon that dials `origin` for `host` and has `secret` for it.
    pub(in crate::commands) async fn open(origin: &Origin, host: &str, secret: &str) -> Result<Self> {
        let home = tempfile::Builder::new().prefix("clauderon-demo-").tempdir()?;
        furnish(home.path(), origin, host, secret).doing(|| "cannot prepare a temporary home")?;
        let daemon = spawn(home.path()).doing(|| "cannot start the daemon")?;
        let client = Client::new(home.path().join("control.sock"));
        let mut stage = Self { home, daemon, client };
        stage.wait_until_up().await?;
        Ok(stage)
    }

    /// The daemon's client.
    pub(in crate::commands) fn client(&self) -> &Client {
        &self.client
    }

    /// The newest audit line of a request with `method`; it may come a moment after the answer.
    pub(in crate::commands) async fn recorded(&self, method: &str) -> Result<String> {
        let wanted = format!("\"method\":\"{method}\"");
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let log = fs::read_to_string(self.home.path().join("audit.jsonl")).unwrap_or_default();
            let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
            if let Some(line) = whole.lines().rev().find(|line| line.contains(&wanted)) {
                return Ok(line.to_owned());
            }
            sleep(POLL).await;
        }
        Err(CliError::new(FAILURE, format_args!("the audit log has no line of the {method} request")))
    }

    /// Whether `audit verify` finds nothing wrong.
    pub(in crate::commands) fn log_is_intact(&self) -> Result<bool> {
        let home = self.home.path();
        let report = clauderon_proxy::audit::verify(&home.join("audit.jsonl"), &home.join("audit.journal"))?;
        Ok(report.problems.is_empty() && report.lines > 0)
    }

    /// Stops the daemon; what it said.
    pub(in crate::commands) async fn close(mut self) -> Result<String> {
        if let Some(pid) = self.daemon.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
            rustix::process::kill_process(pid, Signal::TERM)?;
        }
        if timeout(PATIENCE, self.daemon.wait()).await.is_err() {
            self.daemon.kill().await?;
        }
        let said = self.said();
        self.home.close()?;
        Ok(said)
    }

    async fn wait_until_up(&mut self) -> Result {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline && self.daemon.try_wait()?.is_none() {
            if self.client.health().await.is_ok_and(|health| health.status == "ok") {
                return Ok(());
            }
            sleep(POLL).await;
        }
        Err(CliError::new(FAILURE, self.said()).context("the daemon did not start"))
    }

    fn said(&self) -> String {
        fs::read_to_string(self.home.path().join(LOG)).unwrap_or_default()
    }
}

#[expect(clippy::disallowed_methods, reason = "a temporary home, private to the demo and gone after it")]
fn furnish(home: &Path, origin: &Origin, host: &str, secret: &str) -> Result {
    let secrets = home.join("secrets");
    fs::create_dir(&secrets)?;
    fs::set_permissions(&secrets, fs::Permissions::from_mode(0o700))?;
    clauderon_daemon::home::write_private(&secrets.join("github_token"), secret.as_bytes(), 0o600)?;
    let root = home.join("origin-ca.pem");
    fs::write(&root, origin.root_pem())?;
    let settings = format!(
        "kubectl_proxy_port = 0\ntalos_gateway_port = 0\n\n[upstream]\nca_file = [{}]\nresolve = {{ \"{host}:443\" = \"{}\" }}\n",
        serde_json::to_string(&root)?,
        origin.address()
    );
    Ok(fs::write(home.join("proxy.toml"), settings)?)
}

/// The daemon sees nothing of this machine's settings and credentials.
#[expect(clippy::disallowed_methods, reason = "in the temporary home, gone after the demo")]
fn spawn(home: &Path) -> Result<Child> {
    let log = fs::File::create(home.join(LOG))?;
    let daemon = Command::new(std::env::current_exe()?)
        .args(["daemon", "--http-port", "0"])
        .env_clear()
        .env("CLAUDERON_HOME", home)
        .env("HOME", home)
        .env("NO_COLOR", "1")
        .current_dir(home)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true)
        .spawn()?;
    Ok(daemon)
}

/// Far beyond what any step takes, so that a slow machine is no failure.
const PATIENCE: Duration = Duration::from_secs(10);
/// Short beside the start of a daemon.
const POLL: Duration = Duration::from_millis(10);
/// Where the daemon's words go.
const LOG: &str = "daemon.log";
