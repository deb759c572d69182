//! Notices changed configuration and secret files.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clauderon_core::config::Settings;
use clauderon_core::credential::CredentialKind;
use tokio_util::task::AbortOnDropHandle;

use crate::settings::Loader;

mod notices;

use notices::Notices;

/// What changed on disk.
pub enum Change {
    /// `proxy.toml` or the user's npm configuration; these settings are in force from now on.
    Settings(Arc<Settings>),
    /// A secret file; the sources must be read again.
    Secrets,
}

/// Watches until the handle is dropped; what changes after the return is noticed. A broken new `proxy.toml` is
/// reported and changes nothing. Must be called within a runtime.
pub fn watch(
    loader: Arc<Loader>,
    settings: Arc<Settings>,
    on_change: impl Fn(Change) + Send + Sync + 'static,
) -> AbortOnDropHandle<()> {
    let files = Files::of(&loader, &settings);
    let notices = Notices::new(files.directories());
    let mut watcher = Watcher { loader, settings, files, notices, on_change };
    AbortOnDropHandle::new(tokio::spawn(async move { watcher.run().await }))
}

struct Watcher<F> {
    loader: Arc<Loader>,
    settings: Arc<Settings>,
    files: Files,
    notices: Notices,
    on_change: F,
}

/// The files whose change matters.
struct Files {
    settings: Vec<PathBuf>,
    secrets: Vec<PathBuf>,
    secrets_dir: PathBuf,
}

/// Which of them changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Changed {
    settings: bool,
    secrets: bool,
}

impl<F: Fn(Change)> Watcher<F> {
    async fn run(&mut self) {
        self.ask_npm().await;
        loop {
            let mut changed = Changed::default();
            while !changed.settings && !changed.secrets {
                changed = self.files.changed_by(&self.notices.next().await);
            }
            // An editor or a script changes several files in one go; they are read once, when it is done.
            tokio::time::sleep(DEBOUNCE).await;
            let more = self.files.changed_by(&self.notices.pending());
            self.apply(Changed {
                settings: changed.settings || more.settings,
                secrets: changed.secrets || more.secrets,
            });
            self.ask_npm().await;
        }
    }

    fn apply(&mut self, changed: Changed) {
        if changed.settings {
            self.reload();
        }
        if changed.secrets {
            (self.on_change)(Change::Secrets);
        }
        // Directories may have come, gone or been replaced.
        self.notices.watch(self.files.directories());
    }

    fn reload(&mut self) {
        match self.loader.load() {
            Ok(settings) => {
                self.settings = Arc::new(settings);
                self.files = Files::of(&self.loader, &self.settings);
                tracing::info!("configuration read again");
                (self.on_change)(Change::Settings(Arc::clone(&self.settings)));
            }
            Err(error) => tracing::error!(%error, "the new configuration is not used; the old one stays in force"),
        }
    }

    async fn ask_npm(&mut self) {
        if self.loader.ask_npm(npm_is_configured(&self.loader, &self.settings)).await {
            self.reload();
        }
    }
}

impl Files {
    fn of(loader: &Loader, settings: &Settings) -> Self {
        let logins = [&settings.logins.claude, &settings.logins.codex].into_iter().flatten();
        let logins = logins.filter(|_| settings.logins.enabled).cloned();
        let own = settings.credentials.iter().filter_map(|credential| credential.file.clone());
        let secrets = own.chain(logins);
        Self {
            settings: with_targets(loader.files()),
            secrets: with_targets(secrets),
            secrets_dir: settings.secrets_dir.clone(),
        }
    }

    /// The directories that hold them.
    fn directories(&self) -> impl Iterator<Item = &Path> {
        let parents = self.settings.iter().chain(&self.secrets).filter_map(|file| file.parent());
        parents.chain([self.secrets_dir.as_path()])
    }

    fn changed_by(&self, paths: &[PathBuf]) -> Changed {
        let mut changed = Changed::default();
        for path in paths {
            // A change of a directory above a file may bring the file or take it away.
            changed.settings |= self.settings.iter().any(|file| file.starts_with(path));
            changed.secrets |= path.starts_with(&self.secrets_dir) || self.secrets_dir.starts_with(path);
            changed.secrets |= self.secrets.iter().any(|file| file.starts_with(path));
        }
        changed
    }
}

/// The files, and where symbolic links lead: an editor writes the file behind the link.
fn with_targets(files: impl IntoIterator<Item = PathBuf>) -> Vec<PathBuf> {
    let both = files.into_iter().flat_map(|file| {
        let target = file.canonicalize().ok().filter(|target| *target != file);
        [Some(file), target].into_iter().flatten()
    });
    both.collect()
}

/// Starting npm costs half a second of a core: not for those who never gave it a token.
fn npm_is_configured(loader: &Loader, settings: &Settings) -> bool {
    let names = CredentialKind::Npm.names();
    let own = settings.services.get("npm").is_some_and(|npm| !npm.registries.is_empty());
    let mapped = settings.onepassword.credentials.contains_key(&CredentialKind::Npm.credential());
    let given =
        mapped || loader.environment().get(names.env).is_some() || settings.secrets_dir.join(names.key).exists();
    given && !own
}

/// Long enough for a script to finish, short enough to pass for "at once".
const DEBOUNCE: Duration = Duration::from_millis(100);

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;
    use crate::home::{Home, write_private};
    use crate::settings::Overrides;
    use crate::sources::env::Environment;

    struct Rig {
        dir: tempfile::TempDir,
        home: Home,
        changes: UnboundedReceiver<Change>,
        _watching: AbortOnDropHandle<()>,
    }

    impl Rig {
        fn new(prepare: impl FnOnce(&Home)) -> Self {
            Self::with_env(prepare, Environment::default())
        }

        fn with_env(prepare: impl FnOnce(&Home), env: Environment) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let home = Home::at(dir.path().join("home"), dir.path()).create().unwrap();
            prepare(&home);
            let loader = Arc::new(Loader::new(home.clone(), Overrides::default(), Arc::new(env)));
            let settings = Arc::new(loader.load().unwrap());
            let (tell, changes) = unbounded_channel();
            let watching = watch(loader, settings, move |change| tell.send(change).unwrap());
            Self { dir, home, changes, _watching: watching }
        }

        async fn next(&mut self) -> Change {
            tokio::time::timeout(Duration::from_secs(20), self.changes.recv()).await.unwrap().unwrap()
        }

        async fn settings(&mut self) -> Arc<Settings> {
            loop {
                if let Change::Settings(settings) = self.next().await {
                    return settings;
                }
            }
        }

        async fn secrets(&mut self) {
            while !matches!(self.next().await, Change::Secrets) {}
        }
    }

    #[tokio::test]
    async fn a_new_and_a_changed_file_are_noticed_and_a_broken_one_is_not_used() {
        let mut rig = Rig::new(|_| {});
        let toml = rig.home.proxy_toml();
        fs::write(&toml, "http_port = 1").unwrap();
        assert_eq!(rig.settings().await.http_port, 1);
        fs::write(&toml, "http_port = oops").unwrap();
        tokio::time::sleep(DEBOUNCE * 3).await;
        // Were the broken file used or the watching over, the next change could not be the next one heard of.
        write_private(&toml, b"http_port = 2", 0o644).unwrap();
        assert_eq!(rig.settings().await.http_port, 2);
        fs::remove_file(&toml).unwrap();
        assert_eq!(rig.settings().await.http_port, 3030);
    }

    #[tokio::test]
    async fn secrets_are_noticed_also_after_their_directory_was_replaced() {
        let mut rig = Rig::new(|_| {});
        let dir = rig.home.secrets_dir();
        write_private(&dir.join("github_token"), b"ghp_1", 0o600).unwrap();
        rig.secrets().await;
        fs::remove_dir_all(&dir).unwrap();
        rig.secrets().await;
        crate::home::private_dir(&dir).unwrap();
        rig.secrets().await;
        fs::write(dir.join("npm_token"), b"npm_1").unwrap();
        rig.secrets().await;
    }

    #[tokio::test]
    async fn npmrc_and_files_behind_links_are_noticed() {
        let mut rig = Rig::new(|home| {
            let elsewhere = home.user_home().join("dotfiles");
            fs::create_dir(&elsewhere).unwrap();
            fs::write(elsewhere.join("proxy.toml"), "http_port = 1").unwrap();
            symlink(elsewhere.join("proxy.toml"), home.proxy_toml()).unwrap();
        });
        fs::write(rig.dir.path().join("dotfiles/proxy.toml"), "http_port = 2").unwrap();
        assert_eq!(rig.settings().await.http_port, 2);
        fs::write(rig.dir.path().join(".npmrc"), "registry=https://npm.example.com/").unwrap();
        assert_eq!(rig.settings().await.services["npm"].registries, ["https://npm.example.com/"]);
    }

    #[tokio::test]
    async fn npm_is_asked_for_what_only_it_knows() {
        let dir = tempfile::tempdir().unwrap();
        let script = "printf '#!/bin/sh\\n[ \"$*\" = \"config get registry\" ] && [ -z \"$NPM_TOKEN\" ] && echo https://built-in.example.com/\\n' > \"$0\" && chmod 700 \"$0\"";
        assert!(
            std::process::Command::new("sh")
                .args(["-c", script])
                .arg(dir.path().join("npm"))
                .status()
                .unwrap()
                .success()
        );
        let path = format!("{}:/usr/bin:/bin", dir.path().display());
        let env = Environment::from_iter([("PATH", path.as_str()), ("NPM_TOKEN", "npm_x")]);
        let mut rig = Rig::with_env(|_| {}, env);
        assert_eq!(rig.settings().await.services["npm"].registries, ["https://built-in.example.com/"]);
    }

    #[test]
    fn only_what_matters_counts() {
        let files = Files {
            settings: vec!["/h/proxy.toml".into()],
            secrets: vec!["/elsewhere/key".into()],
            secrets_dir: "/h/secrets".into(),
        };
        let changed = |path: &str| {
            let Changed { settings, secrets } = files.changed_by(&[path.into()]);
            (settings, secrets)
        };
        assert_eq!(changed("/h/audit.jsonl"), (false, false));
        assert_eq!(changed("/h/proxy.toml"), (true, false));
        assert_eq!(changed("/h/secrets/github_token"), (false, true));
        assert_eq!(changed("/elsewhere/key"), (false, true));
        assert_eq!(changed("/h"), (true, true));
    }
}
