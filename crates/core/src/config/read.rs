//! `proxy.toml`, table by table: which keys there are and what each may hold.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::credential;
use super::document::{Document, Item, Table};
use super::suggest::suggestion;
use super::values::{self, Places};
use super::{ConfigErrors, LoginSettings, OnePasswordSettings, OpReference, ServiceSettings, Settings, UserCredential};
use super::{kubernetes, talos};
use crate::credential::{CredentialKind, CredentialName};
use crate::host::Host;
use crate::service::{self, SERVICES, Service};

/// The settings of a whole document, or all of its mistakes.
pub(super) fn settings(text: &str, places: Places<'_>) -> Result<Settings, ConfigErrors> {
    let document = Document::parse(text);
    let mut settings = Settings::defaults(places.home);
    let mut root = document.root();
    top(&mut root, &mut settings, places);
    logins(&mut root, &mut settings.logins, places);
    upstream(&mut root, &mut settings, places);
    network(&mut root, &mut settings);
    limits(&mut root, &mut settings);
    services(&mut root, &mut settings, places);
    settings.policy.closed = service::closed(&settings.services);
    let credentials = root.tables("credential");
    let named = credential::names(&credentials);
    onepassword(&mut root, &mut settings.onepassword, &named, places);
    settings.credentials = user_credentials(credentials, &settings, places);
    root.finish();
    settings.given = document.finish()?;
    Ok(settings)
}

fn top(root: &mut Table<'_, '_>, settings: &mut Settings, places: Places<'_>) {
    set(&mut settings.secrets_dir, root.string("secrets_dir", |text| places.path(text)));
    set(&mut settings.audit.enabled, root.boolean("audit_enabled"));
    set(&mut settings.audit.path, root.string("audit_log_path", |text| places.path(text)));
    set(&mut settings.talos_gateway_port, port(root, "talos_gateway_port"));
    set(&mut settings.kubectl_proxy_port, port(root, "kubectl_proxy_port"));
    set(&mut settings.http_port, port(root, "http_port"));
    set(&mut settings.bind, root.string("bind", values::address));
    set(&mut settings.anonymous, root.string("anonymous", values::anonymous));
    set(&mut settings.policy.allow_minting, root.strings("allow_minting", values::minting));
    if let Some(mut table) = root.table("read_only") {
        set(&mut settings.policy.read_only_allow, table.strings("allow", values::exception));
        table.finish();
    }
    if let Some(mut table) = root.table("audit") {
        set(&mut settings.audit.rotate_bytes, table.integer("rotate_bytes", SMALLEST_LOG..=u64::MAX));
        set(&mut settings.audit.keep, size(&mut table, "keep", 0..=10_000));
        table.finish();
    }
}

fn onepassword(
    root: &mut Table<'_, '_>,
    settings: &mut OnePasswordSettings,
    named: &[CredentialName],
    places: Places<'_>,
) {
    let Some(mut table) = root.table("onepassword") else { return };
    set(&mut settings.enabled, table.boolean("enabled"));
    set(&mut settings.op_path, table.string("op_path", |text| places.program(text)));
    set(&mut settings.timeout, table.string("timeout", values::duration));
    settings.account = table.string("account", |text| Ok(text.trim().to_owned()));
    settings.cache_ttl = table.string("cache_ttl", values::duration);
    set(&mut settings.fallback, table.boolean("fallback"));
    if let Some(mapping) = table.table("credentials") {
        settings.credentials = references(&mapping, named);
    }
    table.finish();
}

/// `[onepassword.credentials]`: the key is a secret file's name or a credential's.
fn references(mapping: &Table<'_, '_>, named: &[CredentialName]) -> BTreeMap<CredentialName, OpReference> {
    let mut references = BTreeMap::new();
    for (key, item) in mapping.entries() {
        let Some(name) = credential_of_key(key, named) else {
            let keys =
                CredentialKind::ALL.iter().map(|kind| kind.names().key).chain(named.iter().map(CredentialName::as_str));
            let hint = suggestion(key, keys).map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            item.error(format!("no such credential{hint}"));
            continue;
        };
        let reference = item.string(values::reference);
        if reference.is_some_and(|reference| references.insert(name.clone(), reference).is_some()) {
            item.error(format!("`{name}` has a reference already"));
        }
    }
    references
}

fn credential_of_key(key: &str, named: &[CredentialName]) -> Option<CredentialName> {
    let built_in = CredentialKind::ALL.into_iter().find(|kind| key == kind.names().key || key == kind.names().name);
    built_in.map(CredentialKind::credential).or_else(|| named.iter().find(|name| name.as_str() == key).cloned())
}

fn logins(root: &mut Table<'_, '_>, settings: &mut LoginSettings, places: Places<'_>) {
    let Some(mut table) = root.table("logins") else { return };
    set(&mut settings.enabled, table.boolean("enabled"));
    settings.claude = table.string("claude", |text| places.path(text));
    settings.codex = table.string("codex", |text| places.path(text));
    set(&mut settings.claude_token_url, table.string("claude_token_url", values::token_url));
    set(&mut settings.codex_token_url, table.string("codex_token_url", values::token_url));
    table.finish();
}

fn upstream(root: &mut Table<'_, '_>, settings: &mut Settings, places: Places<'_>) {
    let Some(mut table) = root.table("upstream") else { return };
    let upstream = &mut settings.upstream;
    if let Some(mapping) = table.table("resolve") {
        upstream.resolve = resolve(&mapping);
    }
    set(&mut upstream.ca_files, table.strings("ca_file", |text| places.path(text)));
    set(&mut upstream.no_proxy, table.strings("no_proxy", values::host_pattern));
    set(&mut upstream.connect_timeout, table.string("connect_timeout", values::duration));
    set(&mut upstream.response_timeout, table.string("response_timeout", values::duration));
    upstream.proxy = table.string("proxy", values::upstream_proxy);
    table.finish();
}

fn resolve(mapping: &Table<'_, '_>) -> HashMap<(Host, u16), SocketAddr> {
    let entries = mapping.entries().filter_map(|(key, item)| {
        let address = item.string(values::socket_address);
        let destination = values::destination(key).map_err(|message| item.error(message)).ok();
        destination.zip(address)
    });
    entries.collect()
}

fn network(root: &mut Table<'_, '_>, settings: &mut Settings) {
    let Some(mut table) = root.table("network") else { return };
    set(&mut settings.allow_private, table.strings("allow_private", values::cidr));
    settings.policy.allow_hosts = table.strings("allow_hosts", values::host_pattern);
    table.finish();
}

fn limits(root: &mut Table<'_, '_>, settings: &mut Settings) {
    let Some(mut table) = root.table("limits") else { return };
    let limits = &mut settings.limits;
    set(&mut limits.header_timeout, deadline(&mut table, "header_timeout"));
    set(&mut limits.handshake_timeout, deadline(&mut table, "handshake_timeout"));
    set(&mut limits.idle_timeout, deadline(&mut table, "idle_timeout"));
    set(&mut limits.max_head_bytes, size(&mut table, "max_head_bytes", 1024..=MIB));
    set(&mut limits.max_fields, size(&mut table, "max_fields", 8..=4096));
    set(&mut limits.max_target_bytes, size(&mut table, "max_target_bytes", 64..=MIB));
    set(&mut limits.max_connections, size(&mut table, "max_connections", 1..=MIB));
    set(&mut limits.max_connections_per_session, size(&mut table, "max_connections_per_session", 1..=MIB));
    set(&mut limits.session_tmp_bytes, table.integer("session_tmp_bytes", MIB..=MIB << 20));
    // Fewer than a shell and its pipeline need would only look like a fault.
    set(&mut limits.session_processes, table.integer("session_processes", 32..=4 * MIB));
    table.finish();
}

fn services(root: &mut Table<'_, '_>, settings: &mut Settings, places: Places<'_>) {
    let Some(table) = root.table("services") else { return };
    for (name, item) in table.entries() {
        let Some(known) = SERVICES.iter().find(|service| service.name() == name) else {
            let near = suggestion(name, SERVICES.iter().map(Service::name));
            let hint = near.map_or_else(String::new, |near| format!("; did you mean `services.{near}`?"));
            item.error(format!("no such service{hint}"));
            continue;
        };
        if let Some(mut table) = item.table() {
            if known.kind == CredentialKind::Kubernetes {
                settings.kubernetes = kubernetes::read(&mut table, places);
            }
            if known.kind == CredentialKind::Talos {
                settings.talos = talos::read(&mut table);
            }
            settings.services.insert(name.to_owned(), service(&mut table, known));
            table.finish();
        }
    }
}

fn service(table: &mut Table<'_, '_>, service: &Service) -> ServiceSettings {
    let settings = ServiceSettings {
        hosts: table.strings("hosts", values::service_host).unwrap_or_default(),
        registries: table.strings("registries", values::service_url).unwrap_or_default(),
        url: table.string("url", values::service_url),
        username: table.string("username", values::user_name),
        region: table.string("region", values::region),
        path_prefix: table.string("path_prefix", values::path_prefix),
        sql_query: table.boolean("sql_query"),
        datasource_proxy: table.boolean("datasource_proxy"),
        extra_headers: table.table("extra_headers").map(|fields| extra_headers(&fields)).unwrap_or_default(),
    };
    for key in table.asked().iter().filter(|key| !service.settings.contains(key) && table.has(key)) {
        let own = service.settings.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
        table.error(
            key,
            format!("is no setting of {}, which has {}", service.name(), if own.is_empty() { "none" } else { &own }),
        );
    }
    settings
}

fn extra_headers(fields: &Table<'_, '_>) -> Vec<(HeaderName, HeaderValue)> {
    let field = |(name, item): (&str, Item<'_, '_>)| {
        let value = item.string(values::header_value);
        let name = credential::extra_header(name).map_err(|message| item.error(message)).ok();
        name.zip(value)
    };
    fields.entries().filter_map(field).collect()
}

fn user_credentials(tables: Vec<Table<'_, '_>>, settings: &Settings, places: Places<'_>) -> Vec<UserCredential> {
    let mut credentials: Vec<UserCredential> = Vec::new();
    for mut table in tables {
        let read = credential::read(&mut table, settings, places, &credentials);
        table.finish();
        credentials.extend(read);
    }
    credentials
}

fn set<T>(target: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *target = value;
    }
}

fn port(table: &mut Table<'_, '_>, key: &'static str) -> Option<u16> {
    table.integer(key, 0..=u64::from(u16::MAX)).and_then(|port| port.try_into().ok())
}

fn size(table: &mut Table<'_, '_>, key: &'static str, range: RangeInclusive<u64>) -> Option<usize> {
    table.integer(key, range).and_then(|size| size.try_into().ok())
}

fn deadline(table: &mut Table<'_, '_>, key: &'static str) -> Option<Duration> {
    table.string(key, values::duration)
}

/// A log that rotates on every other line keeps nothing.
const SMALLEST_LOG: u64 = 1024;
const MIB: u64 = 1 << 20;
