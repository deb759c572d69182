//! The machine: what a sandbox needs, the daemon, its port, its certificate authority.

use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::process::Stdio;
use std::time::Duration;

use clauderon_daemon::home::{Home, write_private};
use clauderon_proxy::tls::ca::Issuer;
use clauderon_sandbox::{Report, identity, probe};
use tokio::process::Command;
use tokio::time::timeout;

use super::Check;
use crate::error::{CliError, Result};
use crate::reach;

pub(super) async fn checks() -> Vec<Check> {
    let mut checks: Vec<Check> = probe::switches().into_iter().map(switch).collect();
    checks.push(sandbox().await);
    match reach::home() {
        Ok(home) => {
            checks.push(daemon(&home).await);
            checks.push(authority(&home));
        }
        Err(error) => checks.push(Check::failed("home directory", said(&error), "set HOME or CLAUDERON_HOME")),
    }
    checks
}

fn switch(finding: probe::Finding) -> Check {
    match finding.problem {
        None => Check::ok(finding.what, "there"),
        Some(problem) => Check::failed(finding.what, problem, finding.remedy.unwrap_or("see docs/sandbox.md")),
    }
}

/// Puts up a real sandbox around `true`: whatever may be wrong shows here.
async fn sandbox() -> Check {
    let name = "a sandbox";
    match timeout(PATIENCE, start_sandbox()).await {
        Ok(Ok(Ok(()))) => Check::ok(name, "was put up, and ran a command"),
        Ok(Ok(Err(error))) => {
            let remedy = error.hint.unwrap_or_else(|| "use --backend local, which does not isolate".to_owned());
            Check::failed(name, error.what, remedy)
        }
        Ok(Err(error)) => Check::failed(name, said(&error), "see docs/sandbox.md"),
        Err(_) => Check::failed(name, "was not up within 10 seconds", "see docs/sandbox.md"),
    }
}

async fn start_sandbox() -> Result<Report> {
    let scratch = tempfile::Builder::new().prefix("clauderon-doctor-").tempdir()?;
    let way = scratch.path().join("way");
    std::fs::create_dir(&way)?;
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let (uid, gid) = identity::of_session(uid, gid, std::process::id(), |_| false);
    let plan = scratch.path().join("plan.json");
    write_private(&plan, &serde_json::to_vec(&probe::smallest_plan(&way, uid, gid))?, 0o600)?;
    let mut command = std::process::Command::new("/proc/self/exe");
    command.arg0("clauderon").args(["sandbox-init", "--report", "--plan"]).arg(&plan).args(["--", "true"]);
    let output = Command::from(command).stdin(Stdio::null()).kill_on_drop(true).output().await?;
    let line = String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned();
    Ok(serde_json::from_str(&line)?)
}

async fn daemon(home: &Home) -> Check {
    let name = "daemon";
    match reach::running(home).await {
        Ok(Some(client)) => match client.health().await {
            Ok(health) if health.status == "ok" => Check::ok(name, format!("runs, version {}", health.version)),
            Ok(health) => {
                let bad = health.listeners.iter().filter(|(_, state)| *state != "up");
                let bad: Vec<String> = bad.map(|(part, state)| format!("{part}: {state}")).collect();
                Check::failed(name, bad.join("; "), "start the daemon again")
            }
            Err(error) => Check::failed(name, error.to_string(), "start the daemon again"),
        },
        Ok(None) => port(),
        Err(error) => Check::failed(name, said(&error), "start the daemon again"),
    }
}

/// Whether a daemon could listen.
fn port() -> Check {
    match TcpListener::bind(("127.0.0.1", DEFAULT_PORT)) {
        Ok(_) => Check::absent("daemon", format!("does not run; port {DEFAULT_PORT} is free for it")),
        Err(error) => Check::failed(
            "daemon",
            format!("does not run, and port {DEFAULT_PORT} cannot be listened on: {error}"),
            "stop the other process, or set `http_port` in proxy.toml",
        ),
    }
}

fn authority(home: &Home) -> Check {
    let name = "certificate authority";
    if !home.ca_cert().exists() && !home.ca_key().exists() {
        return Check::absent(name, "is made at the daemon's first start");
    }
    match Issuer::load_or_create(&home.ca_cert(), &home.ca_key()) {
        Ok(_) => Check::ok(name, home.ca_cert().display().to_string()),
        Err(error) => Check::failed(name, error.to_string(), "delete both files and start the daemon again"),
    }
}

fn said(error: &CliError) -> String {
    error.messages().join(": ")
}

const PATIENCE: Duration = Duration::from_secs(10);
const DEFAULT_PORT: u16 = 3030;
