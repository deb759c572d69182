//! A daemon in a temporary home, for tests.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clauderon_api::{Client, CreateSession};
use clauderon_proxy::audit::AuditError;
use tempfile::TempDir;

use crate::home::Home;
use crate::settings::Overrides;
use crate::sources::env::Environment;
use crate::{Daemon, RunError, RunOptions};

pub(crate) struct Rig {
    pub(crate) dir: TempDir,
    daemon: Option<Daemon>,
}

impl Rig {
    pub(crate) async fn start() -> Self {
        Self::with_config("").await
    }

    pub(crate) async fn with_config(proxy_toml: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("home")).unwrap();
        let proxy_toml = format!("kubectl_proxy_port = 0\ntalos_gateway_port = 0\n{proxy_toml}");
        std::fs::write(dir.path().join("home/proxy.toml"), proxy_toml).unwrap();
        let daemon = Self::daemon(&dir).await.unwrap();
        Self { dir, daemon: Some(daemon) }
    }

    pub(crate) async fn daemon(dir: &TempDir) -> Result<Daemon, RunError> {
        let home = Home::at(dir.path().join("home"), dir.path());
        let overrides = Overrides { http_port: Some(0), ..Overrides::default() };
        let path = std::env::var("PATH").unwrap();
        let env = [("PATH", path.as_str()), ("GITHUB_TOKEN", SECRET), ("HIDDEN_SETTING", "x"), ("LANG", "C")];
        Daemon::start(RunOptions { home, overrides }, Arc::new(Environment::from_iter(env))).await
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.home().join("control.sock"))
    }

    pub(crate) fn proxy(&self) -> String {
        self.daemon.as_ref().unwrap().info().proxy
    }

    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.daemon = Some(Self::later_daemon(&self.dir).await);
    }

    /// The next daemon of a home, once the tasks of the one before have let go of the audit journal.
    pub(crate) async fn later_daemon(dir: &TempDir) -> Daemon {
        for _ in 0..400 {
            match Self::daemon(dir).await {
                Err(RunError::Audit(AuditError::InUse { .. })) => tokio::time::sleep(Duration::from_millis(25)).await,
                started => return started.unwrap(),
            }
        }
        panic!("the journal stays locked");
    }

    pub(crate) async fn stop(&mut self) {
        self.daemon.take().unwrap().stop().await;
    }
}

/// A session without a process.
pub(crate) fn bare(name: &str) -> CreateSession {
    CreateSession {
        name: Some(name.into()),
        agent: Some("none".into()),
        backend: Some("local".into()),
        ..Default::default()
    }
}

/// A session that runs a shell script.
pub(crate) fn script(name: &str, script: &str) -> CreateSession {
    let command = ["sh", "-c", script].map(str::to_owned).to_vec();
    CreateSession { name: Some(name.into()), command, backend: Some("local".into()), ..Default::default() }
}

pub(crate) const SECRET: &str = "ghp_0123456789abcdefghijklmnopqrstuvwxyz";
