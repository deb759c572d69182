//! The user's repository, and the copy of it that a session works on.
//!
//! Git runs here on the user's repository alone. What an agent wrote (a configuration can name programs) is only ever read by
//! a git inside the agent's own sandbox; what comes back is a bundle, which is data.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::SessionError;

/// A git repository of the user's.
pub(super) struct Repository {
    root: PathBuf,
    /// Where its objects are, also when it is a linked worktree.
    common: PathBuf,
}

impl Repository {
    /// The repository whose working tree `path` is.
    pub(super) fn open(path: &Path) -> Result<Self, SessionError> {
        let ask = |what: &str| git(path, &["rev-parse", "--path-format=absolute", what]);
        let root = ask("--show-toplevel").map_err(|why| {
            let error = SessionError::bad_request(format!("{} is no working tree of git: {why}", path.display()));
            error.with_hint("give --repo the directory of a repository, or `git init` and commit there first")
        })?;
        let common = ask("--git-common-dir").map_err(|why| failed(path, &why))?;
        Ok(Self { root: root.into(), common: common.into() })
    }

    /// Clones the last commit to `copy`, on a branch for the session; objects are shared, not copied. Gives the commit.
    pub(super) fn copy_to(&self, copy: &Path, name: &str, allow_dirty: bool) -> Result<String, SessionError> {
        let base = git(&self.root, &["rev-parse", "--verify", "--end-of-options", "HEAD^{commit}"]).map_err(|_| {
            let error = SessionError::bad_request(format!("{} has no commit yet", self.root.display()));
            error.with_hint("commit something first: the session works on a copy of what is committed")
        })?;
        let changed = git(&self.root, &["status", "--porcelain"]).map_err(|why| failed(&self.root, &why))?;
        if !allow_dirty && !changed.is_empty() {
            let text = format!("{} has changes that are not committed", self.root.display());
            let hint = "commit them, or give --allow-dirty: the session's copy has only what is committed";
            return Err(SessionError::bad_request(text).with_hint(hint));
        }
        let (from, to) = (text(&self.root)?, text(copy)?);
        let branch = format!("clauderon/{name}");
        git(&self.root, &["clone", "--quiet", "--shared", "--no-checkout", "--template=", "--", from, to])
            .and_then(|_| git(copy, &["checkout", "--quiet", "--no-track", "-b", &branch, &base]))
            .and_then(|_| self.name_origin(copy))
            .map_err(|why| failed(&self.root, &why))?;
        Ok(base)
    }

    /// Every directory with objects that the copy shares: the repository's, and those that it shares itself.
    pub(super) fn object_stores(&self) -> Vec<PathBuf> {
        let mut stores = vec![self.common.join("objects")];
        let mut next = 0;
        while let Some(store) = stores.get(next).filter(|_| next < MAX_STORES) {
            let listed = std::fs::read_to_string(store.join("info/alternates")).unwrap_or_default();
            let more: Vec<PathBuf> = listed.lines().map(|line| store.join(line)).filter(|path| path.is_dir()).collect();
            stores.extend(more);
            next += 1;
        }
        let real = |store: PathBuf| store.canonicalize().ok();
        stores.into_iter().filter_map(real).collect()
    }

    /// Lets `origin` be what it is in the repository, without a login that stands in its URL.
    fn name_origin(&self, copy: &Path) -> Result<String, String> {
        match git(&self.root, &["config", "--get", "remote.origin.url"]) {
            Ok(url) => git(copy, &["remote", "set-url", "origin", &without_login(&url)]),
            Err(_) => git(copy, &["remote", "remove", "origin"]),
        }
    }
}

/// Git in `dir`; its output without the last line end, or what it said when it failed.
fn git(dir: &Path, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new("git");
    // Neither hooks nor watchers of the repository: nobody asked for a program to run.
    command.args(["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "advice.detachedHead=false"]);
    command.arg("-C").arg(dir).args(arguments).env_clear().stdin(Stdio::null());
    command.envs(std::env::vars_os().filter(|(name, _)| KEPT.iter().any(|kept| name == kept)));
    command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_OPTIONAL_LOCKS", "0").env("GIT_LFS_SKIP_SMUDGE", "1");
    let output = command.output().map_err(|error| format!("git cannot be started: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

fn without_login(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            // Over SSH the user is part of the address, and no secret.
            if scheme.starts_with("http") { format!("{scheme}://{host}/{path}") } else { url.to_owned() }
        }
        None => url.to_owned(),
    }
}

fn text(path: &Path) -> Result<&str, SessionError> {
    path.to_str().ok_or_else(|| SessionError::bad_request(format!("{} is not UTF-8", path.display())))
}

fn failed(path: &Path, why: &str) -> SessionError {
    SessionError::Backend { what: format!("{} cannot be copied: {why}", path.display()), hint: None }
}

/// What git needs of the daemon's environment: programs, and the user's own configuration.
const KEPT: &[&str] = &["PATH", "HOME", "XDG_CONFIG_HOME", "LANG", "TMPDIR"];

/// More levels of sharing than anybody has.
const MAX_STORES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origins_url_loses_its_login() {
        for (url, without) in [
            ("https://u:secret@host/a@b", "https://host/a@b"),
            ("https://token@host:8443/x", "https://host:8443/x"),
            ("https://host/x", "https://host/x"),
            ("git@github.com:o/r", "git@github.com:o/r"),
            ("ssh://git@host/x", "ssh://git@host/x"),
            ("/srv/a@b", "/srv/a@b"),
        ] {
            assert_eq!(without_login(url), without);
        }
    }
}
