//! `[[credential]]`: a user-defined credential, where it may go and in what shape.

use http::{HeaderName, HeaderValue};

use super::document::{Parsed, Table};
use super::values::{self, Places};
use super::{Reach, Settings, UserCredential};
use crate::credential::{CredentialKind, CredentialName};
use crate::path::PathPattern;
use crate::rule::{InjectPolicy, Shape};

/// The names that `[[credential]]` tables give, so that other tables can refer to them.
pub(super) fn names(tables: &[Table<'_, '_>]) -> Vec<CredentialName> {
    let texts = tables.iter().filter_map(|table| table.text("name"));
    texts.filter_map(|text| CredentialName::parse(text).ok()).collect()
}

/// Reads one table; `None` when it has a mistake, which is then reported.
pub(super) fn read(
    table: &mut Table<'_, '_>,
    settings: &Settings,
    places: Places<'_>,
    earlier: &[UserCredential],
) -> Option<UserCredential> {
    let name = required(table, "name", |text| name(text, earlier));
    let env = table.string("env", variable);
    let file = table.string("file", |text| places.path_in(&settings.secrets_dir, text));
    let op = table.string("op", values::reference);
    let hosts = table.strings("hosts", values::host_pattern);
    if !table.has("hosts") {
        table.error("hosts", "say where it may go: hosts = [\"api.example.com\"]");
    }
    let reach = reach(table, earlier);
    let shape = shape(table, &reach);
    let inject = policy(table, shape.as_ref());
    let session_env = table.string("session_env", |text| session_variable(text, earlier));
    let name = name?;
    check_sources(table, &name, settings);
    Some(UserCredential { name, env, file, op, hosts: hosts?, shape: shape?, inject, session_env, reach })
}

fn reach(table: &mut Table<'_, '_>, earlier: &[UserCredential]) -> Reach {
    let reach = Reach {
        paths: paths(table),
        body: table.string("body", |text| token(text, "a field")),
        bearer: table.boolean("bearer").unwrap_or_default(),
        git_hosts: table.strings("git_hosts", values::host_pattern).unwrap_or_default(),
        git_user: table.string("git_user", values::user_name),
        more_session_env: table.strings("more_session_env", |text| session_variable(text, earlier)).unwrap_or_default(),
    };
    if reach.git_user.is_some() && reach.git_hosts.is_empty() {
        table.error("git_user", "say where git is: git_hosts = [\"git.example.com\"]");
    }
    if !reach.git_hosts.is_empty() && reach.git_user.is_none() {
        table.error("git_hosts", "say which user name goes with the token: git_user = \"oauth2\"");
    }
    reach
}

fn paths(table: &mut Table<'_, '_>) -> Vec<PathPattern> {
    let first = table.string("path", path);
    let more = table.strings("more_paths", path).unwrap_or_default();
    if !more.is_empty() && !table.has("path") {
        table.error("more_paths", "say the first one as `path`");
    }
    if first.as_ref().is_some_and(|first| more.iter().any(|path| path.token().is_some() != first.token().is_some())) {
        table.error("more_paths", "must contain `{token}` where `path` does, and only there");
    }
    first.into_iter().chain(more).collect()
}

fn path(text: &str) -> Parsed<PathPattern> {
    let path = PathPattern::like(text.trim());
    path.ok_or_else(|| "must be a plain path such as \"/api/v1\", \"/bot{token}\" or \"/hooks/*/{token}\"".to_owned())
}

fn required<T>(table: &mut Table<'_, '_>, key: &'static str, parse: impl FnOnce(&str) -> Parsed<T>) -> Option<T> {
    if !table.has(key) {
        table.error(key, "is missing");
    }
    table.string(key, |text| parse(text))
}

fn name(text: &str, earlier: &[UserCredential]) -> Parsed<CredentialName> {
    let name = CredentialName::parse(text).map_err(|bad| bad.to_string())?;
    if own_names().any(|kind| [kind.names().name, kind.names().key].contains(&text)) {
        return Err("is the name of a built-in credential: choose another".to_owned());
    }
    if earlier.iter().any(|credential| credential.name == name) { Err("is defined twice".to_owned()) } else { Ok(name) }
}

fn check_sources(table: &Table<'_, '_>, name: &CredentialName, settings: &Settings) {
    let own = ["env", "file", "op"].into_iter().any(|key| table.has(key));
    let mapped = settings.onepassword.credentials.contains_key(name);
    if !own && !mapped {
        table.error("env", "the credential has no source: give `env`, `file` or `op`");
    }
    if table.has("op") && mapped {
        table.error("op", "the credential is in [onepassword.credentials] too: keep one of the two");
    }
}

/// Where in the request: one of four keys; none of them means the path or body if those say so, else the `Authorization` header.
fn shape(table: &mut Table<'_, '_>, reach: &Reach) -> Option<Shape> {
    let given: Vec<&str> = SURFACES.into_iter().filter(|key| table.has(key)).collect();
    if let [first, second, ..] = given[..] {
        table.error(
            second,
            format!("only one of `header`, `query`, `basic_user` and `cookie` may be given, and `{first}` is"),
        );
    }
    let header = table.string("header", header);
    let query = table.string("query", |text| token(text, "a query parameter"));
    let basic = table.string("basic_user", values::user_name);
    let cookie = table.string("cookie", |text| token(text, "a cookie"));
    let (prefix, suffix) = table.string("format", format).unwrap_or_default();
    let bare = prefix.is_empty() && suffix.is_empty();
    match given.first().copied() {
        Some("query" | "basic_user" | "cookie") if !bare => {
            table.error("format", "only a header has one: elsewhere the credential stands alone");
            None
        }
        Some("query") => query.map(|key| Shape::Query { key: key.into() }),
        Some("basic_user") => basic.map(|user| Shape::Basic { user: user.into() }),
        Some("cookie") => cookie.map(|name| Shape::Cookie { name: name.into() }),
        Some(_) => header.map(|name| Shape::Header { name, prefix: prefix.into(), suffix: suffix.into() }),
        None if !table.has("format") && only_swapped(reach).is_some() => only_swapped(reach),
        None => Some(Shape::Header { name: http::header::AUTHORIZATION, prefix: prefix.into(), suffix: suffix.into() }),
    }
}

fn only_swapped(reach: &Reach) -> Option<Shape> {
    let in_path = reach.paths.iter().find_map(PathPattern::token).cloned().map(Shape::Path);
    in_path.or_else(|| Some(Shape::Body { field: reach.body.as_deref()?.into(), user: None }))
}

/// What stands in a path or body is never added: nobody knows what the request would be with it.
fn policy(table: &mut Table<'_, '_>, shape: Option<&Shape>) -> InjectPolicy {
    let given = table.string("inject", inject);
    if !shape.is_some_and(Shape::is_only_swapped) {
        return given.unwrap_or_default();
    }
    if given.is_some_and(|given| given != InjectPolicy::Placeholder) {
        table.error("inject", "must be \"placeholder\": in a path or body a credential is never added");
    }
    InjectPolicy::Placeholder
}

fn header(text: &str) -> Parsed<HeaderName> {
    let name: HeaderName = text.trim().parse().map_err(|_| "is no header name")?;
    let own = FRAMING_FIELDS.contains(&name.as_str()) || name.as_str().starts_with("proxy-");
    if own { Err("is a header that the proxy itself writes: choose another".to_owned()) } else { Ok(name) }
}

/// A field that goes along with a credential; never one that is a credential itself.
pub(super) fn extra_header(text: &str) -> Parsed<HeaderName> {
    let name = header(text)?;
    let own = name == http::header::AUTHORIZATION || name.as_str() == "x-api-key";
    if own { Err("is where credentials stand: choose another".to_owned()) } else { Ok(name) }
}

/// What stands around the one `{token}`.
fn format(text: &str) -> Parsed<(String, String)> {
    let (prefix, suffix) = text.split_once(TOKEN).ok_or("must contain `{token}`, such as \"Bearer {token}\"")?;
    if suffix.contains(TOKEN) {
        return Err("may contain `{token}` only once".to_owned());
    }
    let fits = [prefix, suffix].into_iter().all(|part| HeaderValue::from_str(part).is_ok());
    if fits { Ok((prefix.into(), suffix.into())) } else { Err("holds a character that no header may carry".to_owned()) }
}

fn token(text: &str, what: &str) -> Parsed<String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"!#$'*+-.^_`|~[]".contains(&b);
    let fits = (1..=255).contains(&text.len()) && text.bytes().all(plain);
    fits.then(|| text.to_owned()).ok_or_else(|| format!("{what}'s name is letters, digits, `-`, `_` and `.`"))
}

fn inject(text: &str) -> Parsed<InjectPolicy> {
    match text {
        "auto" => Ok(InjectPolicy::Auto),
        "placeholder" => Ok(InjectPolicy::Placeholder),
        "always" => Ok(InjectPolicy::Always),
        _ => Err("must be \"auto\", \"placeholder\" or \"always\"".to_owned()),
    }
}

fn variable(text: &str) -> Parsed<String> {
    let begins_well = text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    let fits = begins_well && text.len() <= 255 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    fits.then(|| text.to_owned()).ok_or_else(|| "must be a variable's name: letters, digits and `_`".to_owned())
}

fn session_variable(text: &str, earlier: &[UserCredential]) -> Parsed<String> {
    let name = variable(text)?;
    let upper = name.to_ascii_uppercase();
    if STEERING.contains(&upper.as_str()) || STEERING_PREFIXES.iter().any(|prefix| upper.starts_with(prefix)) {
        return Err("is a variable that steers programs or clauderon itself: choose another".to_owned());
    }
    let built_in = own_names().any(|kind| kind.names().session_env.contains(&name.as_str()));
    let taken = earlier.iter().any(|credential| credential.session_env.as_ref() == Some(&name));
    if built_in || taken { Err("holds another credential's placeholder already".to_owned()) } else { Ok(name) }
}

/// The kinds whose names and variables nobody else may have.
fn own_names() -> impl Iterator<Item = CredentialKind> {
    CredentialKind::ALL.into_iter().filter(|kind| !kind.is_extra())
}

const SURFACES: [&str; 4] = ["header", "query", "basic_user", "cookie"];
const TOKEN: &str = "{token}";

/// Fields that say where a message goes or where it ends; a secret there would break the request or leave it.
const FRAMING_FIELDS: &[&str] = &[
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];

/// Variables that decide which code runs or where traffic goes; a placeholder there would break the session.
const STEERING: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "PWD",
    "TMPDIR",
    "TERM",
    "LANG",
    "IFS",
    "ENV",
    "BASH_ENV",
    "PROMPT_COMMAND",
    "NODE_OPTIONS",
    "NODE_EXTRA_CA_CERTS",
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONSTARTUP",
    "PERL5LIB",
    "PERL5OPT",
    "RUBYOPT",
    "RUBYLIB",
    "JAVA_TOOL_OPTIONS",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "FTP_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "KUBECONFIG",
    "TALOSCONFIG",
    "DOCKER_CONFIG",
    "EDITOR",
    "PAGER",
];

const STEERING_PREFIXES: &[&str] = &["LD_", "DYLD_", "CLAUDERON_", "OP_", "GIT_", "LC_"];
