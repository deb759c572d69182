//! Programs that print an identity (`exec` in a kubeconfig): run on the host, without a terminal, for a bounded time.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use clauderon_core::secret::Secret;
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use zeroize::Zeroizing;

use super::files::Hidden;
use super::kubeconfig::{ClusterEntry, ExecEntry};
use crate::sources::env::Environment;

/// What a program printed.
pub(crate) struct Printed {
    /// A token.
    pub(crate) token: Option<Secret>,
    /// A client certificate and its key, PEM.
    pub(crate) certificate: Option<(String, Hidden)>,
    /// Until when both hold.
    pub(crate) expires: Option<OffsetDateTime>,
}

/// Why there is nothing of use. Never holds what the program printed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExecError {
    #[error("it cannot be run: {0}")]
    NotRun(std::io::Error),
    #[error("it wants a terminal (interactiveMode: Always), which the daemon has none of")]
    Interactive,
    #[error("it did not end within {}s: it may be waiting for somebody", .0.as_secs())]
    TimedOut(Duration),
    #[error("it ended with {0}; run kubectl yourself to see what it says")]
    Failed(String),
    #[error("it printed what is no ExecCredential")]
    Garbage,
    #[error("it printed an ExecCredential of version {0:?}, where the kubeconfig says otherwise")]
    Version(String),
    #[error("it printed neither a token nor a certificate with its key")]
    Empty,
    #[error("its token cannot be used: {0}")]
    Token(clauderon_core::secret::BadSecret),
}

/// Runs the program.
pub(crate) async fn run(
    entry: &ExecEntry,
    cluster: &ClusterEntry,
    env: &Environment,
    limit: Duration,
) -> Result<Printed, ExecError> {
    if entry.interactive_mode.as_deref() == Some("Always") {
        return Err(ExecError::Interactive);
    }
    let version = entry.api_version.clone().unwrap_or_else(|| DEFAULT_VERSION.to_owned());
    let mut command = Command::new(program(&entry.command, env));
    command.args(entry.args.iter().flatten()).env_clear().envs(env.filter(|_| true));
    for variable in entry.env.iter().flatten() {
        command.env(&variable.name, variable.value.expose());
    }
    command.env("KUBERNETES_EXEC_INFO", info(&version, entry, cluster).to_string());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0).kill_on_drop(true);
    let child = command.spawn().map_err(ExecError::NotRun)?;
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
    let ended = tokio::time::timeout(limit, collect(child)).await;
    if ended.is_err()
        && let Some(group) = group
    {
        // Also what it started: a browser helper would wait on.
        let _gone = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let text = ended.map_err(|_| ExecError::TimedOut(limit))??;
    read(&text, &version)
}

/// A bare name is looked up on the daemon's own path.
fn program(command: &Path, env: &Environment) -> std::path::PathBuf {
    let bare = command.components().count() == 1 && !command.is_absolute();
    let found = command.to_str().filter(|_| bare).and_then(|name| crate::process::find_program(env, name));
    found.unwrap_or_else(|| command.to_owned())
}

async fn collect(mut child: Child) -> Result<Zeroizing<Vec<u8>>, ExecError> {
    let mut text = Zeroizing::new(Vec::with_capacity(LONGEST + 1));
    if let Some(stdout) = child.stdout.take() {
        stdout.take(LONGEST as u64 + 1).read_to_end(&mut text).await.map_err(ExecError::NotRun)?;
    }
    let status = child.wait().await.map_err(ExecError::NotRun)?;
    if status.success() { Ok(text) } else { Err(ExecError::Failed(status.to_string())) }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Credential {
    api_version: String,
    kind: String,
    status: Option<Status>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    token: Option<Hidden>,
    client_certificate_data: Option<String>,
    client_key_data: Option<Hidden>,
    expiration_timestamp: Option<String>,
}

fn read(text: &[u8], version: &str) -> Result<Printed, ExecError> {
    let credential: Credential = serde_json::from_slice(text).map_err(|_| ExecError::Garbage)?;
    if credential.kind != "ExecCredential" {
        return Err(ExecError::Garbage);
    }
    if credential.api_version != version {
        return Err(ExecError::Version(credential.api_version.chars().take(64).collect()));
    }
    let status = credential.status.unwrap_or_default();
    let expires = status.expiration_timestamp.map(|text| OffsetDateTime::parse(&text, &Rfc3339)).transpose();
    let token = status.token.map(|token| Secret::parse(token.expose())).transpose().map_err(ExecError::Token)?;
    let printed = Printed {
        token: token.flatten(),
        certificate: status.client_certificate_data.zip(status.client_key_data),
        expires: expires.map_err(|_| ExecError::Garbage)?,
    };
    let is_empty = printed.token.is_none() && printed.certificate.is_none();
    if is_empty { Err(ExecError::Empty) } else { Ok(printed) }
}

/// What the program is told: that nobody is there to answer, and where the cluster is if it wants to know.
fn info(version: &str, entry: &ExecEntry, cluster: &ClusterEntry) -> Value {
    let mut spec = json!({ "interactive": false });
    if entry.provide_cluster_info {
        let data = cluster.certificate_authority_data.clone();
        let data = data.or_else(|| super::base64_file(cluster.certificate_authority.as_deref()?));
        spec["cluster"] = json!({
            "server": cluster.server,
            "tls-server-name": cluster.tls_server_name,
            "certificate-authority-data": data,
        });
    }
    json!({ "apiVersion": version, "kind": "ExecCredential", "spec": spec })
}

const DEFAULT_VERSION: &str = "client.authentication.k8s.io/v1";

/// Far beyond any certificate.
const LONGEST: usize = 256 * 1024;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use super::*;

    async fn run_script(script: &str, interactive: Option<&str>) -> Result<Printed, ExecError> {
        let entry = ExecEntry {
            command: "sh".into(),
            args: Some(vec!["-c".into(), script.into()]),
            interactive_mode: interactive.map(str::to_owned),
            ..ExecEntry::default()
        };
        let path = std::env::var("PATH").unwrap();
        let env: Environment = [("PATH", path.as_str())].into_iter().collect();
        run(&entry, &ClusterEntry::default(), &env, Duration::from_secs(5)).await
    }

    fn printing(status: &str) -> String {
        let version = DEFAULT_VERSION;
        format!(r#"printf '%s' '{{"apiVersion":"{version}","kind":"ExecCredential","status":{status}}}'"#)
    }

    #[tokio::test]
    async fn a_token_with_its_end_is_read_and_the_program_knows_that_nobody_is_there() {
        let script = format!(
            "case $KUBERNETES_EXEC_INFO in *'\"interactive\":false'*) ;; *) exit 3;; esac; {}",
            printing(r#"{"token":"t1","expirationTimestamp":"2030-01-01T00:00:00Z"}"#)
        );
        let printed = run_script(&script, Some("IfAvailable")).await.unwrap();
        assert_eq!(printed.token.unwrap().expose(), "t1");
        assert_eq!(printed.expires.unwrap().year(), 2030);
    }

    #[tokio::test]
    async fn whatever_is_of_no_use_is_told_without_what_was_printed() {
        for (script, wanted) in [
            ("echo hunter2".to_owned(), "no ExecCredential"),
            ("echo hunter2; exit 7".to_owned(), "exit status: 7"),
            (printing("{}"), "neither a token"),
            (printing(r#"{"token":"hunter2\nx"}"#), "line break"),
            (printing(r#"{"token":"x"}"#).replace("/v1", "/v9"), "version"),
        ] {
            let error = run_script(&script, None).await.err().unwrap().to_string();
            assert!(error.contains(wanted) && !error.contains("hunter2"), "{error}");
        }
        assert!(matches!(run_script("true", Some("Always")).await, Err(ExecError::Interactive)));
    }

    #[tokio::test]
    async fn one_that_hangs_is_ended_with_what_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let mark = dir.path().join("pid");
        let entry = ExecEntry {
            command: "sh".into(),
            args: Some(vec!["-c".into(), format!("sleep 60 & echo $! > {}; wait", mark.display())]),
            ..ExecEntry::default()
        };
        let path = std::env::var("PATH").unwrap();
        let env: Environment = [("PATH", path.as_str())].into_iter().collect();
        let outcome = run(&entry, &ClusterEntry::default(), &env, Duration::from_secs(2)).await;
        assert!(matches!(outcome, Err(ExecError::TimedOut(_))));
        let pid: i32 = std::fs::read_to_string(mark).unwrap().trim().parse().unwrap();
        let ended = crate::process::ProcessId::of(pid).is_none_or(|process| !process.is_alive());
        assert!(
            ended
                || tokio::time::timeout(Duration::from_secs(5), crate::process::ProcessId::of(pid).unwrap().ended())
                    .await
                    .is_ok()
        );
    }
}
