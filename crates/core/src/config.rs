//! Typed settings of `proxy.toml`: what each key means and what holds without it.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

mod credential;
mod document;
mod error;
mod keys;
mod kubernetes;
mod listing;
mod read;
mod reference;
mod suggest;
mod talos;
mod values;

pub use error::{ConfigError, ConfigErrors};
pub use kubernetes::{KubernetesSettings, SecretAccess};
pub use reference::{BadReference, OpReference};
pub use talos::TalosSettings;

use http::{HeaderName, HeaderValue};

use crate::access::ReadException;
pub use crate::cidr::Cidr;
use crate::credential::CredentialName;
use crate::host::{Host, HostPattern, Origin};
use crate::path::PathPattern;
use crate::rule::InjectPolicy;
use crate::secret::Secret;

/// The whole of `proxy.toml`, checked: whatever holds one of these need not validate again.
#[derive(Debug)]
pub struct Settings {
    /// The proxy's TCP port; 0 picks a free one.
    pub http_port: u16,
    /// The address all TCP listeners bind to.
    pub bind: IpAddr,
    /// Who may call without proxy credentials.
    pub anonymous: Anonymous,
    /// Where secret files lie.
    pub secrets_dir: PathBuf,
    /// The audit log.
    pub audit: AuditSettings,
    /// The Talos gateway's port.
    pub talos_gateway_port: u16,
    /// The Kubernetes gateway's port.
    pub kubectl_proxy_port: u16,
    /// 1Password.
    pub onepassword: OnePasswordSettings,
    /// Logins that agents keep on this machine.
    pub logins: LoginSettings,
    /// How origins are reached.
    pub upstream: UpstreamSettings,
    /// Which addresses may be dialled although private.
    pub allow_private: Vec<Cidr>,
    /// What modes and lists permit.
    pub policy: PolicySettings,
    /// Limits on downstream.
    pub limits: Limits,
    /// `[services.<name>]`.
    pub services: BTreeMap<String, ServiceSettings>,
    /// `[services.kubernetes]`.
    pub kubernetes: KubernetesSettings,
    /// `[services.talos]`.
    pub talos: TalosSettings,
    /// `[[credential]]`, in the order of the file.
    pub credentials: Vec<UserCredential>,
    /// Which keys (dotted) do not have their default, and who gave them.
    pub given: BTreeMap<String, GivenBy>,
}

/// Who gave a setting its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum GivenBy {
    /// Nobody: the default holds.
    Default,
    /// The user's npm configuration.
    Npm,
    /// `proxy.toml`.
    File,
    /// An environment variable of the daemon.
    Env,
    /// A command-line flag.
    Flag,
}

/// One line of `config show`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The dotted key, as in `proxy.toml`.
    pub key: String,
    /// The value as TOML; secrets are masked.
    pub value: String,
    /// Who gave it.
    pub origin: GivenBy,
}

/// Who may call without proxy credentials on a loopback listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anonymous {
    /// Processes of the daemon's own user, as session `default`.
    SameUser,
    /// Nobody.
    Reject,
}

/// `audit_enabled`, `audit_log_path`, `[audit]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditSettings {
    /// Whether requests are recorded.
    pub enabled: bool,
    /// The log file.
    pub path: PathBuf,
    /// Bytes at which the log is rotated.
    pub rotate_bytes: u64,
    /// Rotated files that are kept.
    pub keep: usize,
}

/// `[onepassword]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnePasswordSettings {
    /// Whether the references below are used.
    pub enabled: bool,
    /// The 1Password CLI.
    pub op_path: PathBuf,
    /// How long one read may take; long, because a person may have to approve it.
    pub timeout: Duration,
    /// The account to ask, where `op` knows several.
    pub account: Option<String>,
    /// How long a value that was read may be used; `None` means until the daemon ends.
    pub cache_ttl: Option<Duration>,
    /// Whether a credential whose reference cannot be resolved comes from its next source instead.
    pub fallback: bool,
    /// Credential to reference.
    pub credentials: BTreeMap<CredentialName, OpReference>,
}

/// `[logins]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginSettings {
    /// Whether they are used where no other source has a value.
    pub enabled: bool,
    /// Claude Code's credentials file; `None` is its usual place.
    pub claude: Option<PathBuf>,
    /// Codex's `auth.json`; `None` is its usual place.
    pub codex: Option<PathBuf>,
    /// Where Claude Code's login is renewed.
    pub claude_token_url: TokenUrl,
    /// Where Codex's login is renewed.
    pub codex_token_url: TokenUrl,
}

/// A token endpoint (RFC 6749 § 3.2), always `https`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenUrl {
    /// Its origin.
    pub origin: Origin,
    /// Its path, with the leading slash.
    pub path: String,
}

/// `[upstream]`.
#[derive(Debug)]
pub struct UpstreamSettings {
    /// Names that are dialled at a fixed address; exempt from the address guard.
    pub resolve: HashMap<(Host, u16), SocketAddr>,
    /// PEM files with more trust roots.
    pub ca_files: Vec<PathBuf>,
    /// The corporate proxy.
    pub proxy: Option<UpstreamProxy>,
    /// Hosts reached without it.
    pub no_proxy: Vec<HostPattern>,
    /// Until connected, TLS included.
    pub connect_timeout: Duration,
    /// Until the response head.
    pub response_timeout: Duration,
}

/// A corporate HTTP proxy, reached by clear-text CONNECT.
pub struct UpstreamProxy {
    /// Its host.
    pub host: Host,
    /// Its port.
    pub port: u16,
    /// User name and password, if the URL had them.
    pub credentials: Option<(String, Secret)>,
}

/// `[services.<name>]`; which keys a service reads is its own business.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceSettings {
    /// More hosts of the service (GHES, regions, self-hosted).
    pub hosts: Vec<HostPattern>,
    /// npm: registry URLs (`https://host[:port]/path/`).
    pub registries: Vec<String>,
    /// The service's base URL, where it has no fixed host (Grafana).
    pub url: Option<String>,
    /// Docker Hub: the user name that goes with the token.
    pub username: Option<String>,
    /// PagerDuty, OpenAI: the region.
    pub region: Option<String>,
    /// Sentry, Grafana: the path above the API at `hosts`; no trailing slash.
    pub path_prefix: Option<String>,
    /// Grafana: whether read-only sessions may send queries that a data source runs as they are; yes unless said otherwise.
    pub sql_query: Option<bool>,
    /// Grafana: whether sessions may reach data sources through it; yes unless said otherwise.
    pub datasource_proxy: Option<bool>,
    /// Fields that go along with the credential, where the client did not send them.
    pub extra_headers: Vec<(HeaderName, HeaderValue)>,
}

/// One `[[credential]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserCredential {
    /// Its name.
    pub name: CredentialName,
    /// The environment variable that holds it.
    pub env: Option<String>,
    /// The file that holds it.
    pub file: Option<PathBuf>,
    /// The 1Password reference.
    pub op: Option<OpReference>,
    /// Where it may go; ports default to 443.
    pub hosts: Vec<HostPattern>,
    /// Where in the request, and how.
    pub shape: crate::rule::Shape,
    /// When.
    pub inject: InjectPolicy,
    /// The variable that holds the placeholder inside sessions.
    pub session_env: Option<String>,
    /// What else is said of where it goes.
    pub reach: Reach,
}

/// The keys of a `[[credential]]` that few need.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// The paths above everything it goes to; none is the whole host.
    pub paths: Vec<PathPattern>,
    /// The field of a body in which a placeholder is taken too.
    pub body: Option<String>,
    /// Whether a placeholder in `Authorization: Bearer` is taken too.
    pub bearer: bool,
    /// Where it opens git over HTTPS.
    pub git_hosts: Vec<HostPattern>,
    /// The user name that goes with it there.
    pub git_user: Option<String>,
    /// Further variables that hold the placeholder inside sessions.
    pub more_session_env: Vec<String>,
}

/// Limits on what one client may make the proxy hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Until a request head is complete.
    pub header_timeout: Duration,
    /// Until a TLS handshake is complete.
    pub handshake_timeout: Duration,
    /// Until an idle connection is closed.
    pub idle_timeout: Duration,
    /// Bytes of a request head.
    pub max_head_bytes: usize,
    /// Header fields of a request.
    pub max_fields: usize,
    /// Bytes of a request target.
    pub max_target_bytes: usize,
    /// Open downstream connections.
    pub max_connections: usize,
    /// Open downstream connections of one session.
    pub max_connections_per_session: usize,
    /// Bytes of each temporary directory of a sandbox.
    pub session_tmp_bytes: u64,
    /// Processes and threads in a sandbox.
    pub session_processes: u64,
}

/// What policy needs beyond rules and sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicySettings {
    /// The exceptions that read-only permits.
    pub read_only_allow: Vec<ReadException>,
    /// Minting operations that are open, by name (`github.runner`).
    pub allow_minting: Vec<String>,
    /// The only hosts anyone may reach; `None` means all.
    pub allow_hosts: Option<Vec<HostPattern>>,
    /// Operations that a service's settings close.
    pub closed: Vec<Closed>,
}

/// An operation that a key of `[services.<name>]` closes while it is `false`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed {
    /// The service.
    pub service: &'static str,
    /// The key.
    pub key: &'static str,
    /// The operation's rule.
    pub rule: &'static str,
    /// Whether read-write sessions may do it all the same.
    pub to_readers_only: bool,
}

impl Settings {
    /// Reads the text of a `proxy.toml` for a home at `home`; `~` means `user_home`. All mistakes are reported at once.
    pub fn parse(text: &str, home: &Path, user_home: &Path) -> Result<Self, ConfigErrors> {
        read::settings(text, values::Places { home, user_home })
    }

    /// Every effective value in the order of the documentation, and who gave it.
    pub fn entries(&self) -> Vec<Entry> {
        listing::entries(self)
    }

    /// What holds without a `proxy.toml`, for a home at `home`.
    pub fn defaults(home: &Path) -> Self {
        Self {
            http_port: 3030,
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            anonymous: Anonymous::SameUser,
            secrets_dir: home.join("secrets"),
            audit: AuditSettings {
                enabled: true,
                path: home.join("audit.jsonl"),
                rotate_bytes: 100 * 1024 * 1024,
                keep: 10,
            },
            talos_gateway_port: 18082,
            kubectl_proxy_port: 18081,
            onepassword: OnePasswordSettings {
                enabled: false,
                op_path: "op".into(),
                timeout: Duration::from_secs(60),
                account: None,
                cache_ttl: None,
                fallback: false,
                credentials: BTreeMap::new(),
            },
            logins: LoginSettings::default(),
            upstream: UpstreamSettings::default(),
            allow_private: Vec::new(),
            policy: PolicySettings::default(),
            limits: Limits::default(),
            services: BTreeMap::new(),
            kubernetes: KubernetesSettings::default(),
            talos: TalosSettings::default(),
            credentials: Vec::new(),
            given: BTreeMap::new(),
        }
    }
}

impl ServiceSettings {
    /// A base URL in the one form settings hold it in (`https://host[:port]/path/`), or what would be right.
    pub fn url_form(text: &str) -> Result<String, String> {
        values::service_url(text)
    }
}

impl Default for LoginSettings {
    fn default() -> Self {
        let url = |text| values::token_url(text).expect("the built-in URLs are valid");
        Self {
            enabled: true,
            claude: None,
            codex: None,
            claude_token_url: url("https://platform.claude.com/v1/oauth/token"),
            codex_token_url: url("https://auth.openai.com/oauth/token"),
        }
    }
}

impl std::fmt::Display for TokenUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}{}", self.origin.scheme.as_str(), self.origin.authority(), self.path)
    }
}

impl UpstreamProxy {
    /// Reads `http://[user:password@]host[:port]`; an error says what would be right, without repeating the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        values::upstream_proxy(text)
    }
}

impl Default for UpstreamSettings {
    fn default() -> Self {
        Self {
            resolve: HashMap::new(),
            ca_files: Vec::new(),
            proxy: None,
            no_proxy: Vec::new(),
            connect_timeout: Duration::from_secs(5),
            // Long: a model may think for minutes before its first byte.
            response_timeout: Duration::from_secs(300),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(300),
            max_head_bytes: 64 * 1024,
            max_fields: 128,
            max_target_bytes: 16 * 1024,
            max_connections: 4096,
            max_connections_per_session: 512,
            session_tmp_bytes: 2 << 30,
            session_processes: 8192,
        }
    }
}

impl Default for PolicySettings {
    fn default() -> Self {
        Self {
            read_only_allow: ReadException::ALL.to_vec(),
            allow_minting: Vec::new(),
            allow_hosts: None,
            closed: Vec::new(),
        }
    }
}

impl std::fmt::Debug for UpstreamProxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UpstreamProxy({}:{})", self.host, self.port)
    }
}

/// A `proxy.toml` in which every key is commented out, with its default and meaning.
pub fn template() -> &'static str {
    include_str!("config/template.toml")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::host::Scheme;
    use crate::rule::Shape;

    fn parse(text: &str) -> Result<Settings, ConfigErrors> {
        Settings::parse(text, Path::new("/home/ann/.clauderon"), Path::new("/home/ann"))
    }

    /// Each mistake as `line key: message`.
    fn mistakes(text: &str) -> Vec<String> {
        parse(text).unwrap_err().0.iter().map(|e| format!("{} {}: {}", e.line, e.key, e.message)).collect()
    }

    fn value(settings: &Settings, key: &str) -> (String, GivenBy) {
        let entry = settings.entries().into_iter().find(|entry| entry.key == key).unwrap();
        (entry.value, entry.origin)
    }

    #[test]
    fn the_documented_example_means_what_it_says() {
        let text = r#"
            secrets_dir = "~/.clauderon/secrets"
            audit_enabled = true
            audit_log_path = "~/.clauderon/audit.jsonl"
            talos_gateway_port = 18082
            kubectl_proxy_port = 18081
            [onepassword]
            enabled = false
            op_path = "op"
            [onepassword.credentials]
            github_token = ""
            anthropic_oauth_token = "op://Private/Claude/oauth-token"
        "#;
        let settings = parse(text).unwrap();
        assert_eq!(settings.secrets_dir, Path::new("/home/ann/.clauderon/secrets"));
        assert_eq!(settings.audit.path, Path::new("/home/ann/.clauderon/audit.jsonl"));
        let names: Vec<&str> = settings.onepassword.credentials.keys().map(CredentialName::as_str).collect();
        assert_eq!(names, ["anthropic"]);
    }

    #[test]
    fn every_key_is_read() {
        let text = r#"
            http_port = 0
            bind = "::1"
            anonymous = "reject"
            allow_minting = ["github.runner"]
            [upstream]
            resolve = { "api.github.com:443" = "127.0.0.1:8443" }
            ca_file = ["~/corp.pem", "extra.pem"]
            proxy = "http://ann:p%40ss@proxy.example:3128/"
            no_proxy = ["git.example.com"]
            connect_timeout = "300ms"
            response_timeout = "2m"
            [network]
            allow_private = ["10.1.2.0/24", "fd00::/8", "192.168.0.1"]
            allow_hosts = ["*.example.com", "api.example.org:8443"]
            [read_only]
            allow = []
            [audit]
            rotate_bytes = 4096
            keep = 0
            [limits]
            header_timeout = "1h"
            max_connections = 7
            [services.npm]
            registries = ["https://Registry.example.com:443/npm"]
            [services.grafana]
            url = "https://grafana.example.com:3000/sub"
        "#;
        let settings = parse(text).unwrap();
        assert_eq!((settings.http_port, settings.anonymous), (0, Anonymous::Reject));
        let key = (Host::parse("api.github.com").unwrap(), 443);
        assert_eq!(settings.upstream.resolve[&key], "127.0.0.1:8443".parse().unwrap());
        let ca_files = ["/home/ann/corp.pem", "/home/ann/.clauderon/extra.pem"].map(PathBuf::from);
        assert_eq!(settings.upstream.ca_files, ca_files);
        let (user, password) = settings.upstream.proxy.as_ref().unwrap().credentials.as_ref().unwrap();
        assert_eq!((user.as_str(), password.expose()), ("ann", "p@ss"));
        assert_eq!(settings.upstream.connect_timeout, Duration::from_millis(300));
        assert_eq!(settings.limits.header_timeout, Duration::from_secs(3600));
        assert!(settings.policy.read_only_allow.is_empty());
        assert_eq!(settings.policy.allow_hosts.as_ref().unwrap().len(), 2);
        assert_eq!(settings.services["npm"].registries, ["https://registry.example.com/npm/"]);
        assert_eq!(settings.services["grafana"].url.as_deref(), Some("https://grafana.example.com:3000/sub/"));
        assert_eq!(value(&settings, "upstream.proxy").0, "\"http://ann:***@proxy.example:3128\"");
        assert_eq!(value(&settings, "limits.max_connections"), ("7".to_owned(), GivenBy::File));
        assert_eq!(value(&settings, "limits.max_fields"), ("128".to_owned(), GivenBy::Default));
    }

    #[test]
    fn a_credential_of_the_users_own_becomes_a_shape() {
        let text = r#"
            [[credential]]
            name = "linear"
            env = "LINEAR_API_KEY"
            hosts = ["api.linear.app"]
            session_env = "LINEAR_API_KEY"
            [[credential]]
            name = "jira"
            file = "jira"
            hosts = ["example.atlassian.net:443"]
            basic_user = "ann@example.com"
            inject = "always"
            [[credential]]
            name = "gitlab"
            hosts = ["gitlab.example.com"]
            header = "Private-Token"
            format = "v1 {token}!"
            [[credential]]
            name = "bot"
            file = "bot"
            hosts = ["bots.example.com"]
            path = "/bot{token}"
            more_paths = ["/file/bot{token}/*"]
            [[credential]]
            name = "form"
            file = "form"
            hosts = ["forms.example.com"]
            body = "token"
            [[credential]]
            name = "both"
            file = "both"
            hosts = ["both.example.com"]
            path = "/api"
            header = "X-Key"
            body = "token"
            [onepassword.credentials]
            gitlab = "op://Private/GitLab/token"
        "#;
        let credentials = parse(text).unwrap().credentials;
        let header = |name: &str, prefix: &str, suffix: &str| Shape::Header {
            name: name.parse().unwrap(),
            prefix: prefix.into(),
            suffix: suffix.into(),
        };
        assert_eq!(credentials[0].shape, header("authorization", "", ""));
        assert_eq!(credentials[1].shape, Shape::Basic { user: "ann@example.com".into() });
        assert_eq!(credentials[1].file.as_deref(), Some(Path::new("/home/ann/.clauderon/secrets/jira")));
        assert_eq!(credentials[1].inject, InjectPolicy::Always);
        assert_eq!(credentials[2].shape, header("private-token", "v1 ", "!"));
        let bot = crate::path::TokenSegment { nth: 0, before: "bot".into(), after: "".into() };
        assert_eq!(credentials[3].shape, Shape::Path(bot));
        assert_eq!((credentials[3].reach.paths.len(), credentials[3].inject), (2, InjectPolicy::Placeholder));
        let field = Shape::Body { field: "token".into(), user: None };
        assert_eq!((&credentials[4].shape, credentials[4].inject), (&field, InjectPolicy::Placeholder));
        assert_eq!((&credentials[5].shape, credentials[5].inject), (&header("x-key", "", ""), InjectPolicy::Auto));
        assert_eq!(credentials[5].reach.body.as_deref(), Some("token"));
        let host = Host::parse("api.linear.app").unwrap();
        assert!(credentials[0].hosts[0].matches(&host, 443, Scheme::Https.default_port()));
    }

    #[test]
    fn a_service_takes_its_own_settings_only() {
        let text = r#"
[services.github]
region = "eu"
path_prefix = ""
[services.sentry]
hosts = ["*.sentry.io", "*.de.sentry.io", "*.sentry.example.com"]
path_prefix = "a/../b"
[services.kubernetes]
hosts = ["k.example"]
[services.pagerduty]
extra_headers = { From = "me@example.com", Host = "x", Authorization = "x", "a b" = "x", X-A = "a\u0000b" }
"#;
        let told = mistakes(text).join("\n");
        for part in [
            "3 services.github.region: is no setting of github, which has `hosts`, `extra_headers`",
            "6 services.sentry.hosts[0]: others have hosts under `sentry.io` too: name yours",
            "6 services.sentry.hosts[1]: others have hosts",
            "7 services.sentry.path_prefix: must be a plain path",
            "9 services.kubernetes.hosts: is no setting of kubernetes, which has `server`, `ca`",
            "extra_headers.Host: is a header that the proxy itself writes",
            "extra_headers.Authorization: is where credentials stand",
            "extra_headers.a b: is no header name",
            "extra_headers.X-A: holds a character that no header may carry",
        ] {
            assert!(told.contains(part), "{part}\n{told}");
        }
        assert!(!told.contains("hosts[2]") && !told.contains("From"), "{told}");
    }

    #[test]
    fn every_key_is_in_the_template_and_in_the_documentation() {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
        let docs = std::fs::read_to_string(docs).unwrap();
        let services =
            crate::service::SERVICES.iter().flat_map(|service| service.settings).map(|key| (*key).to_owned());
        let keys = Settings::defaults(Path::new("/h")).entries().into_iter().map(|entry| entry.key);
        for key in keys.chain(services).chain(["network.allow_hosts".to_owned()]) {
            let last = key.rsplit('.').next().unwrap();
            assert!(docs.contains(&format!("| `{last}`")), "`{key}` is not documented");
            assert!(
                template().lines().any(|l| l.trim_start_matches(['#', ' ']).starts_with(&format!("{last} ="))),
                "`{key}` is not in the template"
            );
        }
        // And the other way round: nothing is documented that does not exist.
        let known = |name: &str| docs_known(name);
        for line in docs.lines().filter(|line| line.starts_with("| `")) {
            let cell = line.split('|').nth(1).unwrap();
            for name in cell.split('`').skip(1).step_by(2).filter(|name| !name.starts_with('[')) {
                assert!(known(name), "`{name}` is documented and does not exist");
            }
        }
    }

    /// Whether some table takes this key: an unknown one is told so.
    fn docs_known(name: &str) -> bool {
        let tables = [
            "",
            "[onepassword]",
            "[logins]",
            "[upstream]",
            "[network]",
            "[read_only]",
            "[audit]",
            "[limits]",
            "[[credential]]",
        ];
        let services = crate::service::SERVICES.iter().map(|service| format!("[services.{}]", service.name()));
        let unknown = |table: &str| {
            let told = parse(&format!("{table}\n{name} = 0.5\n"));
            told.err().is_none_or(|e| e.0.iter().any(|e| e.key.ends_with(name) && e.message.contains("unknown key")))
        };
        tables.into_iter().map(str::to_owned).chain(services).any(|table| !unknown(&table))
    }

    #[test]
    fn only_minting_operations_that_exist_can_be_opened() {
        let mistake = |name: &str| mistakes(&format!("allow_minting = [\"{name}\"]")).concat();
        let unknown = mistake("github.runer");
        assert!(unknown.ends_with("no such minting operation; did you mean \"github.runner\"?"), "{unknown}");
        let all = mistake("github");
        assert!(all.contains("there are: anthropic.api-key, ") && all.contains(", github.runner, "), "{all}");
        assert!(!mistake("grafana.query").is_empty(), "an operation that is no minting cannot be opened");
        assert_eq!(parse("allow_minting = [\"npm.token\"]").unwrap().policy.allow_minting, ["npm.token"]);
    }

    #[test]
    fn all_mistakes_are_reported_at_once_with_key_line_and_advice() {
        let text = r#"htpp_port = 3030
bind = "localhost"
talos_gateway_port = 65536
[onepassword]
enabled = "yes"
connect_timeout = "5s"
http_port = 1
[onepassword.credentials]
github_tokn = "op://a/b/c"
npm_token = "npm_not-a-reference"
[upstream]
connect_timeout = "5 seconds"
ca_file = ["a.pem", 7]
[read_only]
allow = ["git-fetsh"]
[services.githb]
hosts = []
"#;
        let expected = [
            "1 htpp_port: unknown key; did you mean `http_port`?",
            "2 bind: must be an IP address such as \"127.0.0.1\" (ports have keys of their own)",
            "3 talos_gateway_port: must be 0 to 65535",
            "5 onepassword.enabled: expected `true` or `false`, found a string",
            "6 onepassword.connect_timeout: unknown key; did you mean `upstream.connect_timeout`?",
            "7 onepassword.http_port: unknown key; did you mean `http_port` at the top of the file, before the first [table]?",
            "9 onepassword.credentials.github_tokn: no such credential; did you mean `github_token`?",
            "10 onepassword.credentials.npm_token: a 1Password reference begins with `op://`",
            "12 upstream.connect_timeout: a duration is a whole number and a unit: \"300ms\", \"5s\", \"2m\", \"1h\"",
            "13 upstream.ca_file[1]: expected a string, found an integer",
            "15 read_only.allow[0]: no such exception; did you mean \"git-fetch\"?",
            "16 services.githb: no such service; did you mean `services.github`?",
        ];
        assert_eq!(mistakes(text), expected);
    }

    #[test]
    fn a_credential_that_could_not_work_is_refused() {
        let cases = [
            ("", "[0].env: the credential has no source: give `env`, `file` or `op`"),
            ("env = \"A\"\nheader = \"X-A\"\nquery = \"k\"", "only one of"),
            ("env = \"A\"\nheader = \"Host\"", "[0].header: is a header that the proxy itself writes"),
            ("env = \"A\"\nformat = \"Bearer\"", "[0].format: must contain `{token}`"),
            ("env = \"A\"\nformat = \"{token}{token}\"", "[0].format: may contain `{token}` only once"),
            ("env = \"A\"\ncookie = \"a\"\nformat = \"x {token}\"", "[0].format: only a header has one"),
            ("env = \"A\"\nsession_env = \"LD_PRELOAD\"", "[0].session_env: is a variable that steers"),
            ("env = \"A\"\nsession_env = \"GH_TOKEN\"", "[0].session_env: holds another credential's"),
            ("env = \"A B\"", "[0].env: must be a variable's name"),
            ("env = \"A\"\npath = \"/a/{token}/{token}\"", "[0].path: must be a plain path"),
            ("env = \"A\"\npath = \"/a*\"", "[0].path: must be a plain path"),
            ("env = \"A\"\nmore_paths = [\"/a\"]", "[0].more_paths: say the first one as `path`"),
            ("env = \"A\"\npath = \"/{token}\"\nmore_paths = [\"/a\"]", "[0].more_paths: must contain `{token}`"),
            ("env = \"A\"\npath = \"/{token}\"\ninject = \"auto\"", "[0].inject: must be \"placeholder\""),
            ("env = \"A\"\nbody = \"token\"\ninject = \"always\"", "[0].inject: must be \"placeholder\""),
            ("env = \"A\"\nbody = \"a b\"", "[0].body: a field's name"),
        ];
        for (lines, expected) in cases {
            let text = format!("[[credential]]\nname = \"own\"\nhosts = [\"a.example.com\"]\n{lines}");
            let found = mistakes(&text);
            assert!(found.len() == 1 && found[0].contains(expected), "{lines}: {found:?}");
        }
        let nameless = mistakes("[[credential]]\nenv = \"A\"\nname = \" \"");
        assert_eq!(nameless.len(), 2, "{nameless:?}");
        let clash = mistakes("[[credential]]\nname = \"github\"\nenv = \"A\"\nhosts = [\"a.example.com\"]");
        assert_eq!(clash, ["2 credential[0].name: is the name of a built-in credential: choose another"]);
    }

    #[test]
    fn values_that_could_be_secret_never_stand_in_an_error() {
        let secret = "hunter2-s3cr3t";
        let texts = [
            format!("[upstream]\nproxy = \"https://ann:{secret}@proxy:1\""),
            format!("[upstream]\nproxy = \"http://ann:{secret}@pro xy:1\""),
            format!("[upstream]\nproxy = \"http://{secret}@proxy:1\""),
            format!("[onepassword.credentials]\ngithub_token = \"{secret}\""),
            format!("[onepassword.credentials]\ngithub_token = \"{secret}"),
            format!("[onepassword.credentials]\ngithub_token = {secret}"),
            format!("[[credential]]\nname = \"own\"\nvalue = \"{secret}\""),
            format!("[services.grafana]\nurl = \"http://u:{secret}@host/\""),
            format!("bind = \"{secret}\"\nanonymous = \"{secret}\"\nallow_minting = [\"{secret}\"]"),
        ];
        for text in texts {
            let errors = parse(&text).unwrap_err();
            assert!(!format!("{errors} {errors:?}").contains(secret), "{errors}");
        }
        let fine = parse(&format!("[upstream]\nproxy = \"http://ann:{secret}@proxy:1\"")).unwrap();
        assert!(!format!("{fine:?} {:?}", fine.entries()).contains(secret));
    }

    #[test]
    fn the_template_shows_the_defaults() {
        let uncommented: String = template()
            .lines()
            .map(|line| {
                line.strip_prefix('#').filter(|rest| !rest.is_empty() && !rest.starts_with(' ')).unwrap_or(line)
            })
            .fold(String::new(), |text, line| text + line + "\n");
        let of = |settings: &Settings| settings.entries().into_iter().map(|e| (e.key, e.value)).collect::<Vec<_>>();
        let defaults = Settings::defaults(Path::new("/home/ann/.clauderon"));
        let settings = parse(&uncommented).unwrap();
        assert_eq!(of(&settings), of(&defaults));
        for entry in settings.entries() {
            assert_eq!(entry.origin, GivenBy::File, "{} is not in the template", entry.key);
        }
        assert!(parse(template()).unwrap().given.is_empty());
    }

    #[test]
    fn the_templates_examples_are_valid() {
        let examples: String =
            template().lines().skip_while(|line| !line.starts_with("# [services")).fold(String::new(), |text, line| {
                text + line.strip_prefix("# ").filter(|l| l.starts_with('[') || l.contains(" = ")).unwrap_or("") + "\n"
            });
        let settings = parse(&examples).unwrap();
        assert_eq!((settings.services.len(), settings.credentials.len()), (6, 1));
    }

    proptest! {
        #[test]
        fn any_text_is_settings_or_mistakes(text in "\\PC*") {
            let _ = parse(&text);
        }

        #[test]
        fn any_values_are_settings_or_mistakes(key in key(), value in "(\"[^\"\\\\\n]{0,20}\"|-?[0-9]{1,20}|true|\\[.{0,10}\\]|\\{\\})") {
            let _ = parse(&format!("{key} = {value}"));
        }
    }

    fn key() -> impl Strategy<Value = String> {
        let settings = Settings::defaults(Path::new("/h"));
        proptest::sample::select(settings.entries().into_iter().map(|entry| entry.key).collect::<Vec<_>>())
    }
}
