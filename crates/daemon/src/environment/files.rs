//! The files a session's tools are pointed at. They hold placeholders, never secrets.

use std::io;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clauderon_core::config::Settings;
use clauderon_core::credential::CredentialKind;
use serde_json::json;

use super::{Grounds, kubeconfig, talosconfig};
use crate::home::{private_dir, write_private};

/// wget's configuration, in the session's directory.
pub(crate) const WGETRC: &str = "wgetrc";
/// npm's user configuration, in the session's directory.
pub(crate) const NPMRC: &str = "npmrc";
/// docker's configuration directory, in the session's directory.
pub(crate) const DOCKER_DIR: &str = "docker";
/// kubectl's configuration, in the session's directory.
pub(crate) const KUBECONFIG: &str = "kubeconfig";
/// talosctl's configuration, in the session's directory.
pub(crate) const TALOSCONFIG: &str = "talosconfig";

/// Writes all of them anew.
pub(crate) fn write(grounds: &Grounds<'_>) -> io::Result<()> {
    let docker = grounds.file(DOCKER_DIR);
    private_dir(&docker)?;
    write_private(&grounds.file(WGETRC), wgetrc(grounds).as_bytes(), 0o600)?;
    write_private(&grounds.file(NPMRC), npmrc(grounds).as_bytes(), 0o600)?;
    let kubeconfig = kubeconfig::text(grounds).map_err(io::Error::other)?;
    write_private(&grounds.file(KUBECONFIG), kubeconfig.as_bytes(), 0o600)?;
    let talosconfig = talosconfig::text(grounds).map_err(io::Error::other)?;
    write_private(&grounds.file(TALOSCONFIG), talosconfig.as_bytes(), 0o600)?;
    write_private(&docker.join("config.json"), docker_config(grounds).as_bytes(), 0o600)
}

fn wgetrc(grounds: &Grounds<'_>) -> String {
    format!("ca_certificate = {}\n", grounds.home.bundle().display())
}

/// The user's registries without their tokens, and the placeholder for each registry that is known.
fn npmrc(grounds: &Grounds<'_>) -> String {
    let own = read_small(grounds.npmrc).unwrap_or_default();
    let mut text: String = own.lines().filter_map(registry_line).map(|line| line + "\n").collect();
    if grounds.placeholder(CredentialKind::Npm).is_some() {
        for key in auth_keys(grounds.settings) {
            // npm itself fills the variable in.
            text.push_str(&format!("{key}:_authToken=${{NPM_TOKEN}}\n"));
        }
    }
    text
}

/// Keeps `registry = …` and `@scope:registry = …`; a URL with a login in it stays behind.
fn registry_line(line: &str) -> Option<String> {
    let (key, value) = line.split_once('=')?;
    let (key, value) = (key.trim(), value.trim());
    let names_registry = key == "registry" || (key.starts_with('@') && key.ends_with(":registry"));
    (names_registry && !value.contains('@')).then(|| format!("{key}={value}"))
}

/// `//host[:port]/path/` of every registry, as npm spells the place a token belongs to.
fn auth_keys(settings: &Settings) -> impl Iterator<Item = String> {
    let registries = settings.services.get("npm").into_iter().flat_map(|service| &service.registries);
    registries.filter_map(|url| {
        let place = url.strip_prefix("https:")?;
        Some(if place.ends_with('/') { place.to_owned() } else { format!("{place}/") })
    })
}

fn docker_config(grounds: &Grounds<'_>) -> String {
    let configured = grounds.settings.services.get("docker").and_then(|service| service.username.as_deref());
    let user = configured.unwrap_or("clauderon");
    let login = |placeholder: &str| json!({ "auth": STANDARD.encode(format!("{user}:{placeholder}")) });
    let auths = match grounds.placeholder(CredentialKind::Docker) {
        Some(placeholder) => json!({ DOCKER_HUB: login(placeholder) }),
        None => json!({}),
    };
    format!("{}\n", json!({ "auths": auths }))
}

/// A configuration file of the user's; a huge or unreadable one counts as none.
fn read_small(path: &Path) -> Option<String> {
    let small = std::fs::metadata(path).ok()?.len() <= MAX_CONFIG_BYTES;
    small.then(|| std::fs::read_to_string(path).ok()).flatten()
}

/// The key under which every docker client keeps the login of Docker Hub.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// A hundred times any real `.npmrc`.
const MAX_CONFIG_BYTES: u64 = 1024 * 1024;
