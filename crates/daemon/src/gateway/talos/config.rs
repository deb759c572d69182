//! The user's talosconfig: one file, found and read as talosctl does it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::gateway::files::{Hidden, place};
use crate::sources::env::Environment;

/// What the file says.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Talosconfig {
    /// The context that is meant when none is named.
    pub(super) context: Option<String>,
    contexts: Option<BTreeMap<String, Option<Context>>>,
}

/// A cluster as a user.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Context {
    endpoints: Option<Vec<String>>,
    /// What `endpoints` was before there could be several.
    target: Option<String>,
    pub(super) nodes: Option<Vec<String>>,
    pub(super) ca: Option<String>,
    pub(super) crt: Option<String>,
    pub(super) key: Option<Hidden>,
    pub(super) auth: Option<Auth>,
    pub(super) cluster: Option<String>,
    #[serde(rename = "proxy-url")]
    pub(super) proxy_url: Option<Hidden>,
}

/// Other ways than a certificate to say who asks.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Auth {
    pub(super) basic: Option<Basic>,
    pub(super) siderov1: Option<SideroV1>,
}

/// A user name and a password.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Basic {
    pub(super) username: String,
    pub(super) password: Hidden,
}

/// A signature on every call.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct SideroV1 {
    pub(super) identity: String,
}

impl Talosconfig {
    /// Reads a file's text; an error says where it stumbled, and never repeats the text.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let stumbled = |error: &serde_saphyr::Error| place(error.location().map(|at| (at.line(), at.column())));
        serde_saphyr::from_str(text).map_err(|error| format!("cannot be understood{}", stumbled(&error)))
    }

    /// Its contexts, by name.
    pub(super) fn contexts(&self) -> impl Iterator<Item = (&str, &Context)> {
        let listed = self.contexts.iter().flatten();
        listed.filter_map(|(name, context)| Some((name.as_str(), context.as_ref()?)))
    }
}

impl Context {
    /// Where the cluster can be asked.
    pub(super) fn endpoints(&self) -> impl Iterator<Item = &str> {
        let all = self.endpoints.iter().flatten().chain(&self.target);
        all.map(|endpoint| endpoint.trim()).filter(|endpoint| !endpoint.is_empty())
    }
}

/// The directory of talosctl's own files.
pub(super) fn home(env: &Environment, user_home: &Path) -> PathBuf {
    let named = env.get("TALOS_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    named.unwrap_or_else(|| user_home.join(".talos"))
}

/// The file that talosctl would read: the first that is there, else the first.
pub(super) fn file(env: &Environment, user_home: &Path) -> PathBuf {
    let named = env.get("TALOSCONFIG").map(PathBuf::from).and_then(|path| std::path::absolute(path).ok());
    let own = home(env, user_home).join("config");
    let places = [named, Some(own.clone()), Some(PathBuf::from(IN_POD))];
    places.into_iter().flatten().find(|path| path.exists()).unwrap_or(own)
}

/// What a pod finds whose service account may use Talos.
const IN_POD: &str = "/var/run/secrets/talos.dev/config";

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use super::*;

    #[test]
    fn a_file_as_talosctl_writes_it() {
        let config = Talosconfig::parse(
            "context: dev\ncontexts:\n    dev:\n        endpoints:\n            - 10.0.0.2\n        nodes: [10.0.0.2, 10.0.0.3]\n\
             \x20       ca: Y2E=\n        crt: Y3J0\n        key: aHVudGVyMg==\n    old:\n        target: 10.0.0.9\n    omni:\n\
             \x20       endpoints: ['https://omni.test']\n        auth:\n            siderov1:\n                identity: ann@example.com\n\
             \x20       cluster: c1\n    empty:\n",
        )
        .unwrap();
        let contexts: BTreeMap<&str, &Context> = config.contexts().collect();
        assert_eq!(config.context.as_deref(), Some("dev"));
        assert_eq!(contexts.keys().copied().collect::<Vec<_>>(), ["dev", "old", "omni"]);
        assert_eq!(contexts["old"].endpoints().collect::<Vec<_>>(), ["10.0.0.9"]);
        let auth = contexts["omni"].auth.as_ref().unwrap();
        assert_eq!(auth.siderov1.as_ref().unwrap().identity, "ann@example.com");
        assert_eq!(contexts["omni"].cluster.as_deref(), Some("c1"));
    }

    #[test]
    fn what_cannot_be_read_is_not_repeated() {
        for text in
            ["contexts: [hunter2", "hunter2", "contexts:\n  a:\n    key: [hunter2]\n", "context: a\ncontext: hunter2"]
        {
            let told = Talosconfig::parse(text).err().unwrap();
            assert!(told.starts_with("cannot be understood") && !told.contains("hunter2"), "{told}");
        }
        assert_eq!(Talosconfig::parse("\n").unwrap().contexts().count(), 0);
    }

    #[test]
    fn files_are_looked_for_where_talosctl_does() {
        let dir = tempfile::tempdir().unwrap();
        let (own, named) = (dir.path().join(".talos/config"), dir.path().join("named"));
        let env: Environment = [("TALOSCONFIG", &named)].into_iter().collect();
        assert_eq!(file(&env, dir.path()), own);
        std::fs::write(&named, "").unwrap();
        assert_eq!(file(&env, dir.path()), named);
        let env: Environment = [("TALOS_HOME", dir.path())].into_iter().collect();
        assert_eq!(file(&env, Path::new("/nowhere")), dir.path().join("config"));
    }
}
