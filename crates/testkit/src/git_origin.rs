//! A git host: smart HTTP by `git http-backend`, behind Basic credentials.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::body::{Body, full};
use crate::origin::{Call, Origin, OriginBuilder};
use crate::run::Run;
use crate::sightings::find;

/// Bare repositories served at `/{owner}/{name}[.git]/…` of one origin.
pub struct GitOrigin {
    /// The origin.
    pub origin: Origin,
    root: tempfile::TempDir,
}

impl GitOrigin {
    /// Serves `name`, asking for exactly `Basic base64(x-access-token:token)` on every request.
    pub async fn start(name: &str, token: &str) -> Self {
        Self::with(name, token, |origin| origin).await
    }

    /// The same, with whatever else `more` makes it serve.
    pub async fn with(name: &str, token: &str, more: impl FnOnce(OriginBuilder) -> OriginBuilder) -> Self {
        let root = tempfile::tempdir().expect("the temporary directory is writable");
        let credential = format!("Basic {}", STANDARD.encode(format!("x-access-token:{token}")));
        let dir = Arc::new(root.path().to_path_buf());
        let origin = Origin::https(name).require("authorization", &credential).route("/*", move |call| {
            let dir = Arc::clone(&dir);
            async move { backend(call, &dir).await }
        });
        Self { origin: more(origin).start().await, root }
    }

    /// Makes the bare repository `owner/name.git` with one commit of one file.
    pub async fn repository(&self, path: &str) {
        let bare = self.bare(path);
        let seed = self.root.path().join("seed");
        git(self.root.path(), &["init", "--quiet", "--bare", "-b", "main", &bare.display().to_string()]).await;
        git(&bare, &["config", "http.receivepack", "true"]).await;
        git(self.root.path(), &["init", "--quiet", "-b", "main", "seed"]).await;
        std::fs::write(seed.join("README"), "hello from the origin\n").expect("our own directory");
        commit_all(&seed, "seed").await;
        git(&seed, &["push", "--quiet", &bare.display().to_string(), "main"]).await;
        std::fs::remove_dir_all(seed).expect("our own directory");
    }

    /// The commit `main` of a repository points to.
    pub async fn head(&self, path: &str) -> String {
        git(&self.bare(path), &["rev-parse", "main"]).await.trim().to_owned()
    }

    fn bare(&self, path: &str) -> PathBuf {
        self.root.path().join(format!("{path}.git"))
    }
}

/// Commits everything below `dir`.
pub async fn commit_all(dir: &Path, message: &str) {
    git(dir, &["add", "--all"]).await;
    git(dir, &["-c", "user.name=Test", "-c", "user.email=test@example.test", "commit", "--quiet", "-m", message]).await;
}

/// Runs git locally and gives what it printed.
pub async fn git(dir: &Path, args: &[&str]) -> String {
    let run = Run::new("git").args(args.iter().copied()).dir(dir).env("GIT_CONFIG_NOSYSTEM", "1");
    run.succeed().await.stdout
}

async fn backend(call: Call, root: &Path) -> Response<Body> {
    let path = with_suffix(call.uri.path());
    let field = |name: &str| call.field(name).unwrap_or_default().to_owned();
    let mut command = Command::new("git");
    command.arg("http-backend").env("GIT_PROJECT_ROOT", root).env("GIT_HTTP_EXPORT_ALL", "1").env("PATH_INFO", path);
    command.env("REQUEST_METHOD", call.method.as_str()).env("QUERY_STRING", call.uri.query().unwrap_or_default());
    command.env("CONTENT_TYPE", field("content-type")).env("HTTP_CONTENT_ENCODING", field("content-encoding"));
    command.env("GIT_PROTOCOL", field("git-protocol")).env("REMOTE_USER", "test").env("REMOTE_ADDR", "127.0.0.1");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().expect("git is installed");
    let body = call.collect().await.bytes;
    let mut stdin = child.stdin.take().expect("piped above");
    let feeding = tokio::spawn(async move { stdin.write_all(&body).await });
    let output = child.wait_with_output().await.expect("a child is waited for");
    feeding.abort();
    from_cgi(&output.stdout)
}

/// GitHub serves a repository with and without `.git` (the backend knows only directories).
fn with_suffix(path: &str) -> String {
    let mut parts: Vec<String> = path.split('/').map(str::to_owned).collect();
    if let Some(repository) = parts.get_mut(2).filter(|name| !name.ends_with(".git")) {
        repository.push_str(".git");
    }
    parts.join("/")
}

fn from_cgi(output: &[u8]) -> Response<Body> {
    let end = find(output, b"\r\n\r\n").unwrap_or(output.len());
    let (head, body) = output.split_at(end);
    let mut response = Response::new(full(body.get(4..).unwrap_or_default().to_vec()));
    for line in String::from_utf8_lossy(head).lines() {
        let Some((name, value)) = line.split_once(": ") else { continue };
        if name == "Status" {
            let code = value.get(..3).and_then(|code| code.parse().ok());
            *response.status_mut() = code.unwrap_or(StatusCode::BAD_GATEWAY);
        } else if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}
