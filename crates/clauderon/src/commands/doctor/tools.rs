//! Each installed tool, tried: does a real request of its arrive by way of the proxy, with nothing but a session's variables?

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use clauderon_api::{CreateSession, SessionEnv};
use futures_util::future::join_all;
use tokio::time::timeout;

use super::Check;
use crate::commands::demo::origin::Origin;
use crate::commands::demo::stage::Stage;
use crate::error::Result;
use crate::{child, reach};

/// A tool, how it is made to ask for a URL, and what to do when nothing arrives. `URL` and `DIR` stand for the two.
struct Tool {
    program: &'static str,
    arguments: &'static [&'static str],
    remedy: &'static str,
}

pub(super) async fn checks() -> Vec<Check> {
    match try_all().await {
        Ok(checks) => checks,
        Err(error) => {
            let found = error.messages().join(": ");
            vec![Check::failed("tools", found, "run `clauderon demo` to see where it goes wrong")]
        }
    }
}

async fn try_all() -> Result<Vec<Check>> {
    let origin = Origin::start(HOST).await?;
    let stage = Stage::open(&origin, HOST, SECRET).await?;
    let wanted = CreateSession {
        name: Some("doctor".into()),
        agent: Some("none".into()),
        backend: Some("local".into()),
        ..CreateSession::default()
    };
    stage.client().create_session(&wanted).await.map_err(reach::failed)?;
    let env = stage.client().session_env("doctor").await.map_err(reach::failed)?;
    let scratch = tempfile::Builder::new().prefix("clauderon-doctor-").tempdir()?;
    let checks = join_all(TOOLS.iter().map(|tool| check(tool, &env, scratch.path(), &origin))).await;
    stage.close().await?;
    Ok(checks)
}

async fn check(tool: &Tool, env: &SessionEnv, scratch: &Path, origin: &Origin) -> Check {
    if find(tool.program).is_none() {
        return Check::absent(tool.program, "not installed");
    }
    let (path, said) = (format!("/doctor-{}", tool.program), ask(tool, env, scratch).await);
    let arrived = origin.seen().iter().any(|seen| seen.path.starts_with(&path));
    match arrived {
        true => Check::ok(tool.program, "its request went through the proxy, and it trusts the certificates"),
        false => Check::failed(tool.program, format!("no request arrived: {said}"), tool.remedy),
    }
}

/// Runs the tool; what it said last.
async fn ask(tool: &Tool, env: &SessionEnv, scratch: &Path) -> String {
    let dir = scratch.join(tool.program);
    if let Err(error) = std::fs::create_dir(&dir) {
        return error.to_string();
    }
    let url = format!("https://{HOST}/doctor-{}", tool.program);
    let fill = |word: &&str| word.replace("URL", &url).replace("DIR", &dir.display().to_string()).into();
    let words: Vec<std::ffi::OsString> =
        std::iter::once(tool.program.into()).chain(tool.arguments.iter().map(fill)).collect();
    let mut command = tokio::process::Command::from(child::command(&words, env));
    // A home of its own: what the user has configured for the tool is not what sessions have.
    command.env("HOME", &dir).current_dir(&dir).stdin(Stdio::null()).kill_on_drop(true);
    match timeout(PATIENCE, command.output()).await {
        Ok(Ok(output)) => {
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            let telling = |line: &&str| line.to_ascii_lowercase().contains("error");
            let line = text.lines().find(telling).or_else(|| text.lines().rfind(|line| !line.trim().is_empty()));
            line.unwrap_or("it said nothing").trim().to_owned()
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it did not end".to_owned(),
    }
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// A service with a credential, so that the whole path is tried.
const HOST: &str = "api.github.com";
/// Has the shape of a GitHub token, and is none.
const SECRET: &str = "ghp_DoctorOnlyNotARealTokenxxxxxxxxxxxx0";

/// Some tools try again before they give up.
const PATIENCE: Duration = Duration::from_secs(20);

const TOOLS: &[Tool] = &[
    Tool {
        program: "curl",
        arguments: &["-sS", "URL"],
        remedy: "look for `proxy`, `noproxy` or `cacert` in ~/.curlrc",
    },
    Tool { program: "wget", arguments: &["-q", "-O", "-", "URL"], remedy: "look for proxy settings in /etc/wgetrc" },
    Tool { program: "git", arguments: &["ls-remote", "URL"], remedy: "look for `http.proxy` in /etc/gitconfig" },
    Tool { program: "gh", arguments: &["api", "doctor-gh"], remedy: "update gh: old ones know no proxy" },
    Tool {
        program: "python3",
        arguments: &["-c", "import urllib.request; urllib.request.urlopen('URL').read()"],
        remedy: "use a Python that is linked to OpenSSL and honours SSL_CERT_FILE",
    },
    Tool {
        program: "pip3",
        arguments: &["--disable-pip-version-check", "download", "-q", "--no-deps", "-d", "DIR", "-i", "URL/", "doctor"],
        remedy: "look for `proxy`, `cert` or `trusted-host` in `pip3 config list`",
    },
    Tool {
        program: "node",
        arguments: &["-e", "fetch('URL').then(answer => answer.text())"],
        remedy: "use Node 22.21, 24 or newer: older ones ignore proxies, and only a sandbox leads them to it",
    },
    Tool {
        program: "npm",
        arguments: &["ping", "--registry", "URL/"],
        remedy: "look for `proxy`, `https-proxy`, `noproxy` or `cafile` in `npm config list`",
    },
    Tool { program: "bun", arguments: &["-e", "await fetch('URL')"], remedy: "update bun" },
    Tool { program: "deno", arguments: &["eval", "await fetch('URL')"], remedy: "update deno" },
];
