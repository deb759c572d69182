//! `config show`: every effective value as TOML, without secrets.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use http::{HeaderName, HeaderValue};

use super::values::duration_text;
use super::{Anonymous, Entry, GivenBy, Settings, UpstreamProxy, UserCredential};
use crate::path::PathPattern;
use crate::rule::{InjectPolicy, Shape};

/// Every value, in the order of the documentation.
pub(super) fn entries(settings: &Settings) -> Vec<Entry> {
    let mut listing = Listing { given: &settings.given, entries: Vec::new() };
    listing.top(settings);
    listing.onepassword(settings);
    listing.logins(settings);
    listing.upstream(settings);
    listing.network(settings);
    listing.limits(settings);
    listing.services(settings);
    listing.kubernetes(settings);
    listing.talos(settings);
    for (at, credential) in settings.credentials.iter().enumerate() {
        listing.credential(at, credential);
    }
    listing.entries
}

struct Listing<'a> {
    given: &'a BTreeMap<String, GivenBy>,
    entries: Vec<Entry>,
}

impl Listing<'_> {
    fn top(&mut self, settings: &Settings) {
        self.add("secrets_dir", path(&settings.secrets_dir));
        self.add("audit_enabled", settings.audit.enabled);
        self.add("audit_log_path", path(&settings.audit.path));
        self.add("talos_gateway_port", settings.talos_gateway_port);
        self.add("kubectl_proxy_port", settings.kubectl_proxy_port);
        self.add("http_port", settings.http_port);
        self.add("bind", quoted(settings.bind));
        self.add(
            "anonymous",
            quoted(match settings.anonymous {
                Anonymous::SameUser => "same-user",
                Anonymous::Reject => "reject",
            }),
        );
        self.add("allow_minting", list(&settings.policy.allow_minting));
        self.add("read_only.allow", list(settings.policy.read_only_allow.iter().map(|exception| exception.as_str())));
        self.add("audit.rotate_bytes", settings.audit.rotate_bytes);
        self.add("audit.keep", settings.audit.keep);
    }

    fn onepassword(&mut self, settings: &Settings) {
        let onepassword = &settings.onepassword;
        self.add("onepassword.enabled", onepassword.enabled);
        self.add("onepassword.op_path", path(&onepassword.op_path));
        self.add("onepassword.timeout", quoted(duration_text(onepassword.timeout)));
        self.add("onepassword.account", quoted(onepassword.account.as_deref().unwrap_or_default()));
        self.add("onepassword.cache_ttl", quoted(onepassword.cache_ttl.map(duration_text).unwrap_or_default()));
        self.add("onepassword.fallback", onepassword.fallback);
        for (name, reference) in &onepassword.credentials {
            self.file(format!("onepassword.credentials.{name}"), quoted(reference));
        }
    }

    fn logins(&mut self, settings: &Settings) {
        let logins = &settings.logins;
        let file = |file: &Option<PathBuf>| file.as_deref().map_or_else(|| quoted(""), path);
        self.add("logins.enabled", logins.enabled);
        self.add("logins.claude", file(&logins.claude));
        self.add("logins.codex", file(&logins.codex));
        self.add("logins.claude_token_url", quoted(&logins.claude_token_url));
        self.add("logins.codex_token_url", quoted(&logins.codex_token_url));
    }

    fn upstream(&mut self, settings: &Settings) {
        let upstream = &settings.upstream;
        let mut resolve: Vec<_> =
            upstream.resolve.iter().map(|((host, port), to)| format!("\"{host}:{port}\" = \"{to}\"")).collect();
        resolve.sort();
        let resolve = if resolve.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", resolve.join(", ")) };
        self.add("upstream.resolve", resolve);
        self.add("upstream.ca_file", list(upstream.ca_files.iter().map(|file| file.display())));
        self.add(
            "upstream.proxy",
            upstream.proxy.as_ref().map_or_else(|| quoted(""), |proxy| quoted(proxy_url(proxy))),
        );
        self.add("upstream.no_proxy", list(&upstream.no_proxy));
        self.add("upstream.connect_timeout", quoted(duration_text(upstream.connect_timeout)));
        self.add("upstream.response_timeout", quoted(duration_text(upstream.response_timeout)));
    }

    fn network(&mut self, settings: &Settings) {
        self.add("network.allow_private", list(&settings.allow_private));
        if let Some(hosts) = &settings.policy.allow_hosts {
            self.add("network.allow_hosts", list(hosts));
        }
    }

    fn limits(&mut self, settings: &Settings) {
        let limits = &settings.limits;
        self.add("limits.header_timeout", quoted(duration_text(limits.header_timeout)));
        self.add("limits.handshake_timeout", quoted(duration_text(limits.handshake_timeout)));
        self.add("limits.idle_timeout", quoted(duration_text(limits.idle_timeout)));
        self.add("limits.max_head_bytes", limits.max_head_bytes);
        self.add("limits.max_fields", limits.max_fields);
        self.add("limits.max_target_bytes", limits.max_target_bytes);
        self.add("limits.max_connections", limits.max_connections);
        self.add("limits.max_connections_per_session", limits.max_connections_per_session);
        self.add("limits.session_tmp_bytes", limits.session_tmp_bytes);
        self.add("limits.session_processes", limits.session_processes);
    }

    fn services(&mut self, settings: &Settings) {
        for (name, service) in &settings.services {
            let key = |key: &str| format!("services.{name}.{key}");
            if !service.hosts.is_empty() {
                self.add(&key("hosts"), list(&service.hosts));
            }
            if !service.registries.is_empty() {
                self.add(&key("registries"), list(&service.registries));
            }
            let texts = [
                ("url", &service.url),
                ("path_prefix", &service.path_prefix),
                ("username", &service.username),
                ("region", &service.region),
            ];
            for (name, text) in texts.into_iter().filter_map(|(name, text)| Some((name, text.as_ref()?))) {
                self.add(&key(name), quoted(text));
            }
            let switches = [("sql_query", service.sql_query), ("datasource_proxy", service.datasource_proxy)];
            for (name, on) in switches.into_iter().filter_map(|(name, on)| Some((name, on?))) {
                self.add(&key(name), on);
            }
            if !service.extra_headers.is_empty() {
                let shown = |(name, value): &(HeaderName, HeaderValue)| {
                    format!("{name} = {}", quoted(String::from_utf8_lossy(value.as_bytes())))
                };
                let fields: Vec<String> = service.extra_headers.iter().map(shown).collect();
                self.add(&key("extra_headers"), format!("{{ {} }}", fields.join(", ")));
            }
        }
    }

    fn kubernetes(&mut self, settings: &Settings) {
        let kubernetes = &settings.kubernetes;
        if let Some(server) = &kubernetes.server {
            self.add("services.kubernetes.server", quoted(server));
        }
        if let Some(ca) = &kubernetes.ca {
            self.add("services.kubernetes.ca", path(ca));
        }
        if let Some(contexts) = &kubernetes.contexts {
            self.add("services.kubernetes.contexts", list(contexts));
        }
        self.add("services.kubernetes.secrets", quoted(kubernetes.secrets.as_str()));
        self.add("services.kubernetes.exec", kubernetes.exec);
        self.add("services.kubernetes.dry_run", kubernetes.dry_run);
    }

    fn talos(&mut self, settings: &Settings) {
        let talos = &settings.talos;
        let lists = [("services.talos.contexts", &talos.contexts), ("services.talos.nodes", &talos.nodes)];
        for (key, names) in lists {
            if let Some(names) = names {
                self.add(key, list(names));
            }
        }
        self.add("services.talos.secret_reads", talos.secret_reads);
    }

    fn credential(&mut self, at: usize, credential: &UserCredential) {
        let reach = &credential.reach;
        let (surface, place) = surface(&credential.shape).unzip();
        let file = credential.file.as_deref().map(path);
        let inject = match credential.inject {
            InjectPolicy::Auto => "auto",
            InjectPolicy::Placeholder => "placeholder",
            InjectPolicy::Always => "always",
        };
        let paths: Vec<String> = reach.paths.iter().map(template).collect();
        let values = [
            ("name", Some(quoted(&credential.name))),
            ("env", credential.env.as_ref().map(quoted)),
            ("file", file),
            ("op", credential.op.as_ref().map(quoted)),
            ("hosts", Some(list(&credential.hosts))),
            (surface.unwrap_or_default(), place),
            ("format", format_text(&credential.shape).map(quoted)),
            ("inject", Some(quoted(inject))),
            ("session_env", credential.session_env.as_ref().map(quoted)),
            ("path", paths.first().map(quoted)),
            ("more_paths", some(paths.get(1..).unwrap_or_default())),
            ("body", reach.body.as_ref().map(quoted)),
            ("bearer", reach.bearer.then(|| true.to_string())),
            ("git_hosts", some(&reach.git_hosts)),
            ("git_user", reach.git_user.as_ref().map(quoted)),
            ("more_session_env", some(&reach.more_session_env)),
        ];
        for (name, value) in values.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            self.add(&format!("credential[{at}].{name}"), value);
        }
    }

    fn add(&mut self, key: &str, value: impl Display) {
        let origin = self.given.get(key).copied().unwrap_or(GivenBy::Default);
        self.entries.push(Entry { key: key.to_owned(), value: value.to_string(), origin });
    }

    fn file(&mut self, key: String, value: String) {
        self.entries.push(Entry { key, value, origin: GivenBy::File });
    }
}

fn some<T: Display>(items: &[T]) -> Option<String> {
    (!items.is_empty()).then(|| list(items))
}

/// A path as it is written: what is below it counts without saying.
fn template(path: &PathPattern) -> String {
    let text = path.to_string();
    text.strip_suffix("/*").unwrap_or(&text).to_owned()
}

/// The key of the surface, unless that is one of those that may stand beside it.
fn surface(shape: &Shape) -> Option<(&'static str, String)> {
    Some(match shape {
        Shape::Path(_) | Shape::Body { .. } => return None,
        Shape::Header { name, .. } => ("header", quoted(name)),
        Shape::Query { key } => ("query", quoted(key)),
        Shape::Cookie { name } => ("cookie", quoted(name)),
        Shape::Basic { user } => ("basic_user", quoted(user)),
        Shape::RegistryBasic { user } => ("basic_user", quoted(user.as_deref().unwrap_or_default())),
        Shape::GoogleKey => ("header", quoted("x-goog-api-key")),
        Shape::Bearer | Shape::Openai | Shape::PagerdutyToken | Shape::Anthropic => ("header", quoted("authorization")),
    })
}

fn format_text(shape: &Shape) -> Option<String> {
    match shape {
        Shape::Header { prefix, suffix, .. } => Some(format!("{prefix}{{token}}{suffix}")),
        _ => None,
    }
}

fn proxy_url(proxy: &UpstreamProxy) -> String {
    let user = proxy.credentials.as_ref().map_or_else(String::new, |(user, _)| format!("{user}:***@"));
    format!("http://{user}{}:{}", proxy.host, proxy.port)
}

fn path(path: &Path) -> String {
    quoted(path.display())
}

fn quoted(text: impl Display) -> String {
    toml::Value::String(text.to_string()).to_string()
}

fn list(elements: impl IntoIterator<Item = impl Display>) -> String {
    let quoted: Vec<String> = elements.into_iter().map(quoted).collect();
    format!("[{}]", quoted.join(", "))
}
