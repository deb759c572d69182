//! The user's kubeconfig files: read as kubectl reads them, several merged into one. The only module that knows YAML.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::files::{Hidden, place};
use crate::settings::read_small;
use crate::sources::env::Environment;

/// What all files say together.
#[derive(Default)]
pub(crate) struct Kubeconfig {
    /// The context that is meant when none is named.
    pub(crate) current: Option<String>,
    pub(crate) contexts: BTreeMap<String, Context>,
    pub(crate) clusters: BTreeMap<String, ClusterEntry>,
    pub(crate) users: BTreeMap<String, UserEntry>,
}

/// A cluster as a user, with a namespace.
#[derive(Deserialize, Default, Clone)]
#[serde(default)]
pub(crate) struct Context {
    pub(crate) cluster: String,
    pub(crate) user: String,
    pub(crate) namespace: Option<String>,
}

/// Where an API server is, and how it is verified.
#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct ClusterEntry {
    pub(crate) server: String,
    pub(crate) certificate_authority: Option<PathBuf>,
    pub(crate) certificate_authority_data: Option<String>,
    pub(crate) tls_server_name: Option<String>,
    pub(crate) insecure_skip_tls_verify: bool,
    pub(crate) proxy_url: Option<Hidden>,
}

/// As whom to call.
#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct UserEntry {
    pub(crate) token: Option<Hidden>,
    #[serde(rename = "tokenFile")]
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) client_certificate: Option<PathBuf>,
    pub(crate) client_certificate_data: Option<String>,
    pub(crate) client_key: Option<PathBuf>,
    pub(crate) client_key_data: Option<Hidden>,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<Hidden>,
    pub(crate) exec: Option<ExecEntry>,
    pub(crate) auth_provider: Option<AuthProvider>,
    #[serde(rename = "as")]
    pub(crate) act_as: Option<String>,
    pub(crate) as_uid: Option<String>,
    pub(crate) as_groups: Option<Vec<String>>,
    pub(crate) as_user_extra: Option<BTreeMap<String, Vec<String>>>,
}

/// A program that prints an identity.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ExecEntry {
    pub(crate) api_version: Option<String>,
    pub(crate) command: PathBuf,
    pub(crate) args: Option<Vec<String>>,
    pub(crate) env: Option<Vec<ExecVariable>>,
    pub(crate) interactive_mode: Option<String>,
    pub(crate) provide_cluster_info: bool,
}

/// A variable of such a program.
#[derive(Deserialize)]
pub(crate) struct ExecVariable {
    pub(crate) name: String,
    pub(crate) value: Hidden,
}

/// The older way to get an identity, of which only what was got before can be used.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct AuthProvider {
    pub(crate) name: String,
    pub(crate) config: Option<BTreeMap<String, Hidden>>,
}

/// Why the files cannot be used. Never repeats what they say.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KubeconfigError {
    /// The system does not let it be read.
    #[error("the kubeconfig {} cannot be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    /// It is no kubeconfig.
    #[error("the kubeconfig {} cannot be understood{}: `kubectl config view` shows what is wrong", path.display(), place(*at))]
    Broken { path: PathBuf, at: Option<(u64, u64)> },
    /// One name twice.
    #[error("the kubeconfig {} has two {what} named {name:?}", path.display())]
    Twice { path: PathBuf, what: &'static str, name: String },
}

/// The files that kubectl would read, first to last.
pub(crate) fn files(env: &Environment, user_home: &Path) -> Vec<PathBuf> {
    let listed = env.get("KUBECONFIG").map(|list| std::env::split_paths(list).collect::<Vec<_>>()).unwrap_or_default();
    let named = listed.into_iter().filter(|path| !path.as_os_str().is_empty());
    let named: Vec<PathBuf> = named.filter_map(|path| std::path::absolute(path).ok()).collect();
    if named.is_empty() { vec![user_home.join(".kube/config")] } else { named }
}

/// Reads and merges `files`; those that are missing say nothing. Of two that say the same thing the first counts.
pub(crate) fn load(files: &[PathBuf]) -> Result<Kubeconfig, KubeconfigError> {
    let mut merged = Kubeconfig::default();
    for path in files {
        let unreadable = |source| KubeconfigError::Unreadable { path: path.clone(), source };
        if let Some(text) = read_small(path).map_err(unreadable)? {
            merged.add(Kubeconfig::parse(&Zeroizing::new(text), path)?);
        }
    }
    Ok(merged)
}

impl Kubeconfig {
    fn parse(text: &str, path: &Path) -> Result<Self, KubeconfigError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let document: Document = serde_saphyr::from_str(text).map_err(|error| KubeconfigError::Broken {
            path: path.to_owned(),
            // Its words may repeat the text.
            at: error.location().map(|at| (at.line(), at.column())),
        })?;
        let dir = path.parent().unwrap_or_else(|| Path::new("/"));
        let mut clusters = named(document.clusters, "clusters", path)?;
        clusters.values_mut().for_each(|cluster: &mut ClusterEntry| cluster.place_in(dir));
        let mut users = named(document.users, "users", path)?;
        users.values_mut().for_each(|user: &mut UserEntry| user.place_in(dir));
        Ok(Self {
            current: document.current_context.filter(|name| !name.is_empty()),
            contexts: named(document.contexts, "contexts", path)?,
            clusters,
            users,
        })
    }

    fn add(&mut self, later: Self) {
        self.current = self.current.take().or(later.current);
        keep_first(&mut self.contexts, later.contexts);
        keep_first(&mut self.clusters, later.clusters);
        keep_first(&mut self.users, later.users);
    }
}

fn keep_first<T>(mine: &mut BTreeMap<String, T>, later: BTreeMap<String, T>) {
    for (name, value) in later {
        mine.entry(name).or_insert(value);
    }
}

impl ClusterEntry {
    fn place_in(&mut self, dir: &Path) {
        place_in(dir, [&mut self.certificate_authority]);
    }
}

impl UserEntry {
    fn place_in(&mut self, dir: &Path) {
        place_in(dir, [&mut self.token_file, &mut self.client_certificate, &mut self.client_key]);
        if let Some(exec) = &mut self.exec
            && exec.command.components().nth(1).is_some()
        {
            exec.command = dir.join(&exec.command);
        }
    }
}

/// Relative paths begin at the file they stand in.
fn place_in<const N: usize>(dir: &Path, paths: [&mut Option<PathBuf>; N]) {
    for path in paths {
        *path = path.take().filter(|path| !path.as_os_str().is_empty()).map(|path| dir.join(path));
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Document {
    #[serde(default)]
    current_context: Option<String>,
    #[serde(default, bound(deserialize = ""))]
    contexts: Option<Vec<Named<Context>>>,
    #[serde(default, bound(deserialize = ""))]
    clusters: Option<Vec<Named<ClusterEntry>>>,
    #[serde(default, bound(deserialize = ""))]
    users: Option<Vec<Named<UserEntry>>>,
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "T: DeserializeOwned"))]
struct Named<T> {
    name: String,
    #[serde(alias = "cluster", alias = "user", default = "Option::default")]
    context: Option<T>,
}

fn named<T: Default>(
    list: Option<Vec<Named<T>>>,
    what: &'static str,
    path: &Path,
) -> Result<BTreeMap<String, T>, KubeconfigError> {
    let mut map = BTreeMap::new();
    for Named { name, context } in list.unwrap_or_default() {
        if map.insert(name.clone(), context.unwrap_or_default()).is_some() {
            return Err(KubeconfigError::Twice { path: path.to_owned(), what, name });
        }
    }
    Ok(map)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Kubeconfig, String> {
        Kubeconfig::parse(text, Path::new("/home/ann/.kube/config")).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_as_kubectl_writes_it() {
        let config = parse(
            "apiVersion: v1\nkind: Config\npreferences: {}\ncurrent-context: dev\n\
             clusters:\n- cluster:\n    certificate-authority: ca.pem\n    server: https://k8s.test:6443\n  name: c\n\
             contexts:\n- context:\n    cluster: c\n    namespace: apps\n    user: u\n  name: dev\n\
             users:\n- name: u\n  user:\n    token: hunter2\n    tokenFile: sub/token\n\
             \x20   exec:\n      apiVersion: client.authentication.k8s.io/v1\n      command: ./bin/login\n      args: null\n      env:\n      - name: A\n        value: b\n      interactiveMode: Never\n",
        )
        .unwrap();
        let context = &config.contexts["dev"];
        assert_eq!((context.cluster.as_str(), context.namespace.as_deref()), ("c", Some("apps")));
        assert_eq!(config.clusters["c"].certificate_authority.as_deref(), Some(Path::new("/home/ann/.kube/ca.pem")));
        let user = &config.users["u"];
        assert_eq!(user.token.as_ref().unwrap().expose(), "hunter2");
        assert_eq!(user.token_file.as_deref(), Some(Path::new("/home/ann/.kube/sub/token")));
        assert_eq!(user.exec.as_ref().unwrap().command, Path::new("/home/ann/.kube/./bin/login"));
    }

    #[test]
    fn empty_and_null_lists_are_no_mistake_and_json_is_yaml() {
        assert!(parse("apiVersion: v1\nclusters: null\ncontexts: []\nusers: null\n").unwrap().contexts.is_empty());
        assert!(parse("\n").unwrap().contexts.is_empty());
        assert_eq!(parse(r#"{"current-context":"a"}"#).unwrap().current.as_deref(), Some("a"));
    }

    #[test]
    fn a_broken_file_is_named_with_the_place_and_without_its_text() {
        for text in [
            "users:\n- name: u\n  user: {token: hunter2\n",
            "users:\n- name: [hunter2]\n",
            "hunter2",
            "a: 1\na: hunter2\n",
        ] {
            let error = parse(text).err().unwrap();
            assert!(error.contains("/home/ann/.kube/config") && !error.contains("hunter2"), "{error}");
        }
        let twice = parse("users:\n- name: u\n  user: {}\n- name: u\n  user: {}\n").err().unwrap();
        assert!(twice.contains("two users named \"u\""), "{twice}");
    }

    #[test]
    fn of_several_files_the_first_counts() {
        let dir = tempfile::tempdir().unwrap();
        let files = ["a", "b", "missing"].map(|name| dir.path().join(name));
        std::fs::write(&files[0], "current-context: ''\ncontexts:\n- name: x\n  context: {cluster: first}\n").unwrap();
        std::fs::write(
            &files[1],
            "current-context: y\ncontexts:\n- name: x\n  context: {cluster: second}\n- name: y\n  context: {cluster: second}\n",
        )
        .unwrap();
        let merged = load(&files).unwrap();
        assert_eq!(merged.current.as_deref(), Some("y"));
        assert_eq!((&*merged.contexts["x"].cluster, &*merged.contexts["y"].cluster), ("first", "second"));
        let list = format!("{}::{}", files[0].display(), files[1].display());
        let env: Environment = [("KUBECONFIG", list.as_str())].into_iter().collect();
        assert_eq!(super::files(&env, dir.path()), files[..2]);
        assert_eq!(super::files(&Environment::default(), Path::new("/h")), [Path::new("/h/.kube/config")]);
    }
}
