//! What a child of a session finds in its environment: the way out, whom to trust, and placeholders.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use clauderon_api::SessionEnv;
use clauderon_core::config::Settings;
use clauderon_core::credential::{CredentialKind, CredentialName};
use clauderon_core::session::SessionName;
use clauderon_proxy::tls::ca::Issuer;
use clauderon_proxy::tls::truststore::PASSWORD;

use crate::gateway::{Offered, talos};
use crate::home::Home;
use crate::sessions::Gateways;
use crate::store::StoredSession;

pub(crate) mod files;
pub(crate) mod homes;
mod kubeconfig;
mod talosconfig;

use homes::Profiles;

/// Everything a session's environment is made from.
pub(crate) struct Grounds<'a> {
    /// The session.
    pub(crate) session: &'a StoredSession,
    /// How its tools reach the proxy.
    pub(crate) proxy_url: &'a str,
    /// Where its tools reach the gateways.
    pub(crate) gateways: Gateways,
    /// The contexts it has and the current one, or why there is none.
    pub(crate) clusters: Result<(Vec<Offered>, String), String>,
    /// The same of its Talos contexts.
    pub(crate) talos: Result<(Vec<talos::Offered>, String), String>,
    /// Signs the certificates it knows sessions by.
    pub(crate) issuer: &'a Issuer,
    /// The home.
    pub(crate) home: &'a Home,
    /// The user's own npm configuration.
    pub(crate) npmrc: &'a Path,
    /// The settings in force.
    pub(crate) settings: &'a Settings,
    /// The placeholder of every credential that it may use and that can be injected.
    pub(crate) placeholders: Vec<(CredentialName, String)>,
    /// What an agent may know of the logins behind them.
    pub(crate) profiles: Profiles,
}

/// The URL of the proxy for processes of this machine: the token says whose they are.
pub(crate) fn proxy_url(session: &SessionName, token: &str, proxy: SocketAddr) -> String {
    format!("http://{session}:{token}@{}", reachable(proxy))
}

/// The environment of a child of the session.
pub(crate) fn environment(grounds: &Grounds<'_>) -> SessionEnv {
    let mut set = proxy_variables(grounds);
    set.extend(trust_variables(grounds.home));
    set.extend(java_variables(grounds));
    set.extend(git_variables(grounds));
    set.extend(generated_files(grounds));
    set.extend(homes::variables(grounds));
    set.extend(session_variables(grounds.session));
    // A user-defined credential may not take over a variable that leads out.
    let own: Vec<String> = set.iter().map(|(name, _)| name.clone()).collect();
    set.extend(placeholder_variables(grounds).into_iter().filter(|(name, _)| !own.contains(name)));
    SessionEnv {
        set,
        unset: removed_names(grounds.settings),
        unset_prefixes: owned(REMOVED_PREFIXES),
        unset_suffixes: owned(REMOVED_SUFFIXES),
    }
}

/// Whether a variable of the daemon's environment may reach a session's process.
pub(crate) fn is_plain(name: &str) -> bool {
    PLAIN_NAMES.contains(&name) || name.starts_with("LC_")
}

impl Grounds<'_> {
    /// The placeholder of a built-in credential, if the session has it.
    fn placeholder(&self, kind: CredentialKind) -> Option<&str> {
        let name = kind.credential();
        self.placeholders.iter().find(|(has, _)| *has == name).map(|(_, placeholder)| placeholder.as_str())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.home.session_files(&self.session.id).join(name)
    }
}

fn proxy_variables(grounds: &Grounds<'_>) -> Vec<(String, String)> {
    let ways = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"].map(|name| pair(name, grounds.proxy_url));
    // Wider than loopback would be a list of hosts that nothing decides on.
    let around = ["NO_PROXY", "no_proxy"].map(|name| pair(name, "localhost,127.0.0.1,::1"));
    // Node looks at the proxy variables only when told to; git asks twice unless told how to log in.
    let told =
        [("NODE_USE_ENV_PROXY", "1"), ("GIT_HTTP_PROXY_AUTHMETHOD", "basic")].map(|(name, value)| pair(name, value));
    ways.into_iter().chain(around).chain(told).collect()
}

fn trust_variables(home: &Home) -> Vec<(String, String)> {
    let bundle = home.bundle().display().to_string();
    let ca = home.ca_cert().display().to_string();
    let replaced = BUNDLE_NAMES.iter().map(|name| pair(name, &bundle));
    replaced.chain(ADDED_CA_NAMES.iter().map(|name| pair(name, &ca))).collect()
}

/// Java knows none of the variables above, and can be told no login for a proxy: only where the way itself says whose it is.
fn java_variables(grounds: &Grounds<'_>) -> Option<(String, String)> {
    let (host, port) = grounds.proxy_url.strip_prefix("http://").filter(|way| !way.contains('@'))?.rsplit_once(':')?;
    let proxies = ["https", "http"].map(|scheme| format!("-D{scheme}.proxyHost={host} -D{scheme}.proxyPort={port}"));
    let store = format!("-Djavax.net.ssl.trustStore={}", grounds.home.truststore().display());
    // It takes quotes as a shell does.
    let store = if store.contains(char::is_whitespace) { format!("\"{store}\"") } else { store };
    let options = [&proxies[0], &proxies[1], &store, &format!("-Djavax.net.ssl.trustStorePassword={PASSWORD}")];
    Some(pair("JAVA_TOOL_OPTIONS", &options.map(String::as_str).join(" ")))
}

fn git_variables(grounds: &Grounds<'_>) -> Vec<(String, String)> {
    let entries = git_config(grounds);
    let mut set = vec![pair("GIT_TERMINAL_PROMPT", "0"), pair("GIT_CONFIG_COUNT", &entries.len().to_string())];
    for (at, (key, value)) in entries.iter().enumerate() {
        set.push(pair(&format!("GIT_CONFIG_KEY_{at}"), key));
        set.push(pair(&format!("GIT_CONFIG_VALUE_{at}"), value));
    }
    set
}

fn git_config(grounds: &Grounds<'_>) -> Vec<(String, String)> {
    // An empty helper forgets those of the user's own configuration, which would answer with real tokens.
    let mut entries = vec![pair("credential.helper", "")];
    if homes::has_walls(grounds) {
        // Inside, the directory may be another user's, which git refuses to read: for fear of programs that walls are there for.
        entries.push(pair("safe.directory", "*"));
    }
    let has_github = grounds.placeholder(CredentialKind::Github).is_some();
    for host in git_hosts(grounds.settings) {
        let base = format!("https://{host}");
        if has_github {
            entries.push(pair(&format!("credential.{base}.helper"), GIT_HELPER));
        }
        // Over SSH git would go around the proxy.
        let rewrite = format!("url.{base}/.insteadOf");
        let name = host.split(':').next().unwrap_or(&host);
        entries.push(pair(&rewrite, &format!("git@{name}:")));
        entries.push(pair(&rewrite, &format!("ssh://git@{name}/")));
    }
    entries
}

/// `github.com` and the GitHub Enterprise servers that are named one by one.
fn git_hosts(settings: &Settings) -> Vec<String> {
    let configured = settings.services.get("github").into_iter().flat_map(|service| &service.hosts);
    let named = configured.filter(|pattern| pattern.exact().is_some()).map(ToString::to_string);
    std::iter::once("github.com".to_owned()).chain(named).collect()
}

fn generated_files(grounds: &Grounds<'_>) -> Vec<(String, String)> {
    let path = |name: &str, file: &str| pair(name, &grounds.file(file).display().to_string());
    vec![
        path("WGETRC", files::WGETRC),
        path("NPM_CONFIG_USERCONFIG", files::NPMRC),
        path("DOCKER_CONFIG", files::DOCKER_DIR),
        path("KUBECONFIG", files::KUBECONFIG),
        path("TALOSCONFIG", files::TALOSCONFIG),
    ]
}

fn session_variables(session: &StoredSession) -> Vec<(String, String)> {
    vec![
        pair("CLAUDERON_SESSION_ID", session.id.as_str()),
        pair("CLAUDERON_SESSION_NAME", session.name.as_str()),
        pair("CLAUDERON_ACCESS_MODE", session.mode.as_str()),
        pair("CLAUDERON_BACKEND", &session.backend),
        pair("CLAUDERON_AGENT", &session.agent),
    ]
}

fn placeholder_variables(grounds: &Grounds<'_>) -> Vec<(String, String)> {
    let of = |(name, placeholder): &(CredentialName, String)| -> Vec<(String, String)> {
        // Claude Code would take the variable for a token that may ask the model only, and not look at its login.
        if grounds.profiles.claude.is_some() && *name == CredentialKind::Anthropic.credential() {
            return Vec::new();
        }
        if *name == CredentialKind::Chatgpt.credential() && placeholder.starts_with(CODEX_TOKEN) {
            return vec![pair("CODEX_ACCESS_TOKEN", placeholder)];
        }
        session_env_names(grounds.settings, name).iter().map(|variable| pair(variable, placeholder)).collect()
    };
    let mut set: Vec<_> = grounds.placeholders.iter().flat_map(of).collect();
    let grafana = grounds.settings.services.get("grafana").and_then(|service| service.url.as_deref());
    set.extend(grafana.map(|url| pair("GRAFANA_URL", url)));
    set
}

/// What personal access tokens for Codex begin with. Of any other it would look for a signature.
const CODEX_TOKEN: &str = "at-";

fn session_env_names(settings: &Settings, credential: &CredentialName) -> Vec<String> {
    if let Some(defined) = settings.credentials.iter().find(|defined| defined.name == *credential) {
        return defined.session_env.iter().chain(&defined.reach.more_session_env).cloned().collect();
    }
    let kind = CredentialKind::ALL.into_iter().find(|kind| kind.names().name == credential.as_str());
    let names = kind.map(|kind| owned(kind.names().session_env)).unwrap_or_default();
    // Only an extra's can be taken.
    let taken = |name: &String| {
        settings
            .credentials
            .iter()
            .any(|defined| defined.session_env.as_ref() == Some(name) || defined.reach.more_session_env.contains(name))
    };
    names.into_iter().filter(|name| !taken(name)).collect()
}

/// Every variable that is known to hold a credential, or to lead around the bundle or the proxy.
fn removed_names(settings: &Settings) -> Vec<String> {
    let built_in = CredentialKind::ALL.iter().flat_map(|kind| {
        let names = kind.names();
        std::iter::once(names.env).chain(names.session_env.iter().copied())
    });
    let defined = settings.credentials.iter();
    let more = defined.clone().flat_map(|defined| &defined.reach.more_session_env).cloned();
    let defined = defined.flat_map(|defined| [&defined.env, &defined.session_env]);
    let mut names = owned(REMOVED_NAMES);
    names.extend(built_in.map(str::to_owned).chain(defined.flatten().cloned()).chain(more));
    names.sort_unstable();
    names.dedup();
    names
}

/// The proxy's address as a process of this machine reaches it.
fn reachable(bound: SocketAddr) -> SocketAddr {
    let ip = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, bound.port())
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// Prints what stands in for the user's login; `get` is one of three verbs git may ask with.
const GIT_HELPER: &str =
    r#"!f() { test "$1" = get && echo username=x-access-token && echo "password=$GITHUB_TOKEN"; }; f"#;

/// These replace the roots, so they get the whole bundle.
const BUNDLE_NAMES: &[&str] = &[
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "AWS_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "npm_config_cafile",
    "CARGO_HTTP_CAINFO",
    "CODEX_CA_CERTIFICATE",
    "NIX_SSL_CERT_FILE",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "HTTPLIB2_CA_CERTS",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
];

/// These add to the roots, so the CA alone is enough.
const ADDED_CA_NAMES: &[&str] = &["NODE_EXTRA_CA_CERTS", "DENO_CERT"];

/// What a session's process inherits from the daemon: where things are, and how to talk to the terminal's user.
const PLAIN_NAMES: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "TERM",
    "COLORTERM",
    "TZ",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_CACHE_HOME",
    "XDG_STATE_HOME",
    "CARGO_HOME",
    "RUSTUP_HOME",
    "GOPATH",
    "JAVA_HOME",
    "NVM_DIR",
];

const REMOVED_NAMES: &[&str] = &[
    // Would add or replace roots.
    "SSL_CERT_DIR",
    // SOCKS-minded clients prefer it.
    "ALL_PROXY",
    "all_proxy",
    // Programs and sockets that hand out the user's own logins, and headers that may be one.
    "GIT_ASKPASS",
    "SSH_ASKPASS",
    "SSH_AUTH_SOCK",
    "GIT_CONFIG_PARAMETERS",
    "CODEX_ACCESS_TOKEN",
    "TOKEN",
    "SECRET",
    "PASSWORD",
    "PGPASSWORD",
    "MYSQL_PWD",
    "DATABASE_URL",
];

const REMOVED_PREFIXES: &[&str] = &["OP_", "AWS_", "AZURE_", "VAULT_", "npm_config_//", "npm_config__"];

const REMOVED_SUFFIXES: &[&str] =
    &["_TOKEN", "_KEY", "_APIKEY", "_SECRET", "_PASSWORD", "_PASSWD", "_PASSPHRASE", "_CREDENTIALS", "_PAT"];

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests;
