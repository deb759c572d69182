//! Settings in force: flags over environment over `proxy.toml` over defaults.

use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use clauderon_core::config::{ConfigErrors, GivenBy, Settings};

use crate::home::Home;
use crate::npmrc::{self, Registries};
use crate::sources::env::Environment;

/// What the command line overrides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--http-port`.
    pub http_port: Option<u16>,
    /// `--bind`.
    pub bind: Option<IpAddr>,
}

/// Loads the settings of one daemon, as often as their files change.
pub struct Loader {
    home: Home,
    overrides: Overrides,
    env: Arc<Environment>,
    /// What npm itself says its registry is; asked at most once.
    npm_default: OnceLock<Option<String>>,
}

impl Loader {
    /// A loader for `home`.
    pub fn new(home: Home, overrides: Overrides, env: Arc<Environment>) -> Self {
        Self { home, overrides, env, npm_default: OnceLock::new() }
    }

    /// Reads everything anew. A missing `proxy.toml` means defaults.
    pub fn load(&self) -> Result<Settings, SettingsError> {
        let mut settings = self.file_settings()?;
        self.apply_environment(&mut settings)?;
        self.apply_flags(&mut settings);
        self.apply_npm(&mut settings);
        self.apply_logins(&mut settings);
        Ok(settings)
    }

    /// The files that settings are read from.
    pub fn files(&self) -> [PathBuf; 2] {
        [self.home.proxy_toml(), npmrc::user_config(self.home.user_home(), &self.env)]
    }

    /// The environment that settings and sources are read from.
    pub fn environment(&self) -> &Environment {
        &self.env
    }

    /// Asks npm for its default registry, if nothing else names one and the npm credential could use it. Returns
    /// whether loading again would now give other settings.
    pub async fn ask_npm(&self, npm_is_configured: bool) -> bool {
        let asked = self.npm_default.get().is_some();
        if asked || !npm_is_configured || self.npm_registries().default.is_some() {
            return false;
        }
        let answer = npmrc::ask_npm(self.home.user_home(), &self.env).await;
        let found = answer.is_some();
        self.npm_default.set(answer).is_ok() && found
    }

    fn file_settings(&self) -> Result<Settings, SettingsError> {
        let path = self.home.proxy_toml();
        let text = match read_small(&path) {
            Ok(text) => text.unwrap_or_default(),
            Err(source) => return Err(SettingsError::Unreadable { path, source }),
        };
        let parsed = Settings::parse(&text, self.home.root(), self.home.user_home());
        parsed.map_err(|errors| SettingsError::Wrong { path, errors })
    }

    fn apply_environment(&self, settings: &mut Settings) -> Result<(), SettingsError> {
        if let Some(text) = self
            .env
            .get("CLAUDERON_BIND_ADDR")
            .and_then(|value| value.to_str())
            .map(str::trim)
            .filter(|t| !t.is_empty())
        {
            settings.bind = text.parse().map_err(|_| SettingsError::BindAddress)?;
            settings.given.insert("bind".to_owned(), GivenBy::Env);
        }
        Ok(())
    }

    fn apply_flags(&self, settings: &mut Settings) {
        if let Some(port) = self.overrides.http_port {
            settings.http_port = port;
            settings.given.insert("http_port".to_owned(), GivenBy::Flag);
        }
        if let Some(bind) = self.overrides.bind {
            settings.bind = bind;
            settings.given.insert("bind".to_owned(), GivenBy::Flag);
        }
    }

    fn apply_npm(&self, settings: &mut Settings) {
        if settings.services.get("npm").is_some_and(|npm| !npm.registries.is_empty()) {
            return;
        }
        let Registries { default, mut all } = self.npm_registries();
        let asked = self.npm_default.get().cloned().flatten();
        if let Some(asked) = asked.filter(|asked| default.is_none() && !all.contains(asked)) {
            all.insert(0, asked);
        }
        if !all.is_empty() {
            settings.services.entry("npm".to_owned()).or_default().registries = all;
            settings.given.insert("services.npm.registries".to_owned(), GivenBy::Npm);
        }
    }

    /// The places where Claude Code and Codex keep their logins unless told otherwise.
    fn apply_logins(&self, settings: &mut Settings) {
        let home = |variable: &str, usual: &str| match self.env.get(variable).filter(|dir| !dir.is_empty()) {
            Some(dir) => PathBuf::from(dir),
            None => self.home.user_home().join(usual),
        };
        let logins = &mut settings.logins;
        logins.claude.get_or_insert_with(|| home("CLAUDE_CONFIG_DIR", ".claude").join(".credentials.json"));
        logins.codex.get_or_insert_with(|| home("CODEX_HOME", ".codex").join("auth.json"));
    }

    fn npm_registries(&self) -> Registries {
        npmrc::registries(self.home.user_home(), &self.env)
    }
}

/// Loads the settings once.
pub fn load(home: &Home, overrides: &Overrides, env: &Environment) -> Result<Settings, SettingsError> {
    Loader::new(home.clone(), overrides.clone(), Arc::new(env.clone())).load()
}

/// The text of a configuration file; `None` when there is none. Larger than any configuration is an error.
pub(crate) fn read_small(path: &Path) -> io::Result<Option<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    match file.take(MAX_CONFIG + 1).read_to_string(&mut text)? {
        length if length as u64 > MAX_CONFIG => Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 1 MiB")),
        _ => Ok(Some(text)),
    }
}

/// Why settings cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file has mistakes.
    #[error("{} is wrong:\n{errors}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// All of its mistakes.
        errors: ConfigErrors,
    },
    /// `CLAUDERON_BIND_ADDR` is no address.
    #[error("CLAUDERON_BIND_ADDR is no IP address: write one such as 127.0.0.1")]
    BindAddress,
}

/// A hundred times any real configuration.
const MAX_CONFIG: u64 = 1 << 20;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use super::*;
    use crate::home::write_private;

    fn at(toml: &str, npmrc: &str) -> (tempfile::TempDir, Home) {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path().join("home"), dir.path()).create().unwrap();
        write_private(&home.proxy_toml(), toml.as_bytes(), 0o644).unwrap();
        write_private(&dir.path().join(".npmrc"), npmrc.as_bytes(), 0o600).unwrap();
        (dir, home)
    }

    #[test]
    fn flags_beat_the_environment_beats_the_file() {
        let (_dir, home) = at("bind = \"127.0.0.2\"\nhttp_port = 1\nkubectl_proxy_port = 2", "");
        let env = Environment::from_iter([("CLAUDERON_BIND_ADDR", " 127.0.0.3 ")]);
        let mut overrides = Overrides { http_port: Some(0), bind: None };
        let settings = load(&home, &overrides, &env).unwrap();
        assert_eq!((settings.bind.to_string(), settings.http_port), ("127.0.0.3".to_owned(), 0));
        let given = |settings: &Settings, key: &str| settings.given.get(key).copied();
        assert_eq!(given(&settings, "bind"), Some(GivenBy::Env));
        assert_eq!(given(&settings, "http_port"), Some(GivenBy::Flag));
        assert_eq!(given(&settings, "kubectl_proxy_port"), Some(GivenBy::File));
        overrides.bind = Some("127.0.0.4".parse().unwrap());
        assert_eq!(load(&home, &overrides, &env).unwrap().bind.to_string(), "127.0.0.4");
        let bad = load(&home, &Overrides::default(), &Environment::from_iter([("CLAUDERON_BIND_ADDR", "hunter2")]));
        assert!(!bad.unwrap_err().to_string().contains("hunter2"));
    }

    #[test]
    fn npms_registries_are_taken_over_unless_the_file_has_its_own() {
        let npmrc = "registry=https://npm.example.com/\n";
        let (_dir, home) = at("", npmrc);
        let settings = load(&home, &Overrides::default(), &Environment::default()).unwrap();
        assert_eq!(settings.services["npm"].registries, ["https://npm.example.com/"]);
        let (_dir, home) = at("[services.npm]\nregistries = [\"https://own.example.com\"]", npmrc);
        let settings = load(&home, &Overrides::default(), &Environment::default()).unwrap();
        assert_eq!(settings.services["npm"].registries, ["https://own.example.com/"]);
    }

    #[test]
    fn an_unreadable_or_broken_file_is_named() {
        let (_dir, home) = at("bnd = 1", "");
        let text = load(&home, &Overrides::default(), &Environment::default()).unwrap_err().to_string();
        assert!(text.contains("proxy.toml") && text.contains("did you mean `bind`?"), "{text}");
        for bytes in [b"\xff".to_vec(), vec![b'#'; 1 << 21]] {
            write_private(&home.proxy_toml(), &bytes, 0o644).unwrap();
            let error = load(&home, &Overrides::default(), &Environment::default()).unwrap_err();
            assert!(matches!(error, SettingsError::Unreadable { .. }), "{error}");
        }
    }
}
