//! The registries the user's npm is configured with. Tokens in its files are never read into anything that is kept.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use clauderon_core::config::ServiceSettings;
use tokio::process::Command;

use crate::sources::env::Environment;

/// What npm's own configuration says about registries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registries {
    /// The registry of unscoped packages, if one is configured.
    pub default: Option<String>,
    /// All registries named, that one first, each as `https://host[:port]/path/`.
    pub all: Vec<String>,
}

/// Reads npm's environment variables and the user's npmrc.
pub fn registries(user_home: &Path, env: &Environment) -> Registries {
    let text = crate::settings::read_small(&user_config(user_home, env)).ok().flatten().unwrap_or_default();
    from_text(&text, env)
}

/// The file npm keeps the user's configuration in.
pub fn user_config(user_home: &Path, env: &Environment) -> PathBuf {
    let given = variable(env, "userconfig").map(PathBuf::from);
    given.unwrap_or_else(|| user_home.join(".npmrc"))
}

/// Asks npm itself (`npm config get registry`): only it knows its system-wide configuration and its built-in default.
pub async fn ask_npm(user_home: &Path, env: &Environment) -> Option<String> {
    let mut command = Command::new("npm");
    command.args(["config", "get", "registry"]).current_dir(user_home).env_clear().envs(env.filter(is_for_npm));
    command.stdin(Stdio::null()).stderr(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.ok()?.ok()?;
    let text = output.status.success().then_some(output.stdout)?;
    url(std::str::from_utf8(&text).ok()?.trim())
}

fn from_text(text: &str, env: &Environment) -> Registries {
    let pairs: BTreeMap<&str, &str> = text.lines().filter_map(pair).collect();
    let default = variable(env, "registry").or_else(|| pairs.get("registry").map(|value| expand(value, env)));
    let default = default.as_deref().and_then(url);
    let scoped = pairs.iter().filter(|(key, _)| key.starts_with('@') && key.ends_with(":registry"));
    let scoped = scoped.filter_map(|(_, value)| url(&expand(value, env)));
    // The key is enough: whose token stands beside it is not our business.
    let keyed = pairs.keys().filter_map(|key| url(&format!("https:{}", key.strip_suffix(":_authToken")?)));
    let mut all: Vec<String> = Vec::new();
    for registry in default.iter().cloned().chain(scoped).chain(keyed) {
        if !all.contains(&registry) {
            all.push(registry);
        }
    }
    Registries { default, all }
}

/// `key = value` of an npmrc; comments and sections are skipped.
fn pair(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    if line.starts_with([';', '#', '[']) {
        return None;
    }
    let (key, value) = line.split_once('=')?;
    Some((unquoted(key.trim()), unquoted(value.trim())))
}

fn unquoted(text: &str) -> &str {
    let inner = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    inner('"').or_else(|| inner('\'')).unwrap_or(text)
}

/// Replaces `${NAME}` as npm does; an unset variable stays as it is written.
fn expand(text: &str, env: &Environment) -> String {
    let mut parts = text.split("${");
    let mut expanded = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let found = part.split_once('}').and_then(|(name, rest)| Some((env.get(name)?.to_str()?, rest)));
        match found {
            Some((value, rest)) => expanded.extend([value, rest]),
            None => expanded.extend(["${", part]),
        }
    }
    expanded
}

/// The one form settings hold; a registry in clear text can have no credential and is left out.
fn url(text: &str) -> Option<String> {
    ServiceSettings::url_form(text).ok()
}

/// A setting from npm's environment (`npm_config_*`, in either case).
fn variable(env: &Environment, name: &str) -> Option<String> {
    let upper = format!("NPM_CONFIG_{}", name.to_ascii_uppercase());
    let value = env.get(&format!("npm_config_{name}")).or_else(|| env.get(&upper))?;
    value.to_str().map(str::to_owned)
}

/// What npm needs to find itself and its configuration; no token among it.
fn is_for_npm(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let configured = lower.starts_with("npm_config_") && !lower.contains("auth") && !lower.contains("password");
    configured
        || ["HOME", "PATH", "USER", "LOGNAME", "LANG", "TMPDIR", "NVM_DIR", "VOLTA_HOME", "ASDF_DIR"].contains(&name)
}

/// npm starts in about half a second; a machine that needs longer does without.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str, env: &[(&str, &str)]) -> Vec<String> {
        from_text(text, &env.iter().copied().collect()).all
    }

    #[test]
    fn default_scoped_and_keyed_registries_are_found() {
        let text = "\u{feff}; comment\n\
            registry=https://npm.example.com\n\
            @acme:registry = \"https://acme.example.com/npm/\"\n\
            //npm.example.com/:_authToken=npm_hunter2\n\
            //other.example.com:8443/pkg/:_authToken=${NPM_TOKEN}\n\
            //ignored.example.com/:always-auth=true\n\
            email=ann@example.com\n";
        let expected =
            ["https://npm.example.com/", "https://acme.example.com/npm/", "https://other.example.com:8443/pkg/"];
        assert_eq!(all(&text.replace('\u{feff}', ""), &[]), expected);
        assert!(!format!("{:?}", from_text(text, &Environment::default())).contains("hunter2"));
    }

    #[test]
    fn the_environment_wins_and_variables_expand() {
        let text = "registry=https://${CORP}/npm/\n@a:registry=https://${UNSET}/\n";
        assert_eq!(all(text, &[("CORP", "corp.example.com")]), ["https://corp.example.com/npm/"]);
        for name in ["npm_config_registry", "NPM_CONFIG_REGISTRY"] {
            assert_eq!(all(text, &[(name, "https://env.example.com")]), ["https://env.example.com/"]);
        }
    }

    #[test]
    fn clear_text_and_nonsense_are_left_out() {
        let text = "registry=http://npm.example.com/\n@a:registry=\n//:_authToken=x\n=\n[section]\n@b:registry=https://u:p@h/\n";
        assert!(all(text, &[]).is_empty());
    }
}
