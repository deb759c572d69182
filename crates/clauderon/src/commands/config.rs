//! `config`: credentials, settings and paths, as the running daemon sees them or as one started here would.

use std::sync::Arc;

use clauderon_api::{Client, ConfigEntry, CredentialInfo, Unlock};
use clauderon_core::config::{self, Settings};
use clauderon_core::rule::RuleSet;
use clauderon_core::service;
use clauderon_daemon::book::Book;
use clauderon_daemon::control::config_entries;
use clauderon_daemon::home::{Home, write_private};
use clauderon_daemon::settings::{self, Overrides, SettingsError};
use clauderon_daemon::sources::env::Environment;
use serde_json::{Map, Value, json};

use super::unlock;
use crate::cli::{ConfigCommand, CredentialsArgs, Format};
use crate::error::{CliError, Doing, FAILURE, OK, Result, USAGE};
use crate::output::{self, Table, Tone};
use crate::reach;

mod add;

pub(crate) async fn run(command: ConfigCommand) -> Result<u8> {
    match command {
        ConfigCommand::Credentials(args) => credentials(args).await,
        ConfigCommand::Show(format) => show(format).await,
        ConfigCommand::Paths(format) => paths(format),
        ConfigCommand::Check(format) => check(format),
        ConfigCommand::Init => init(),
        ConfigCommand::Add(args) => add::run(&args),
    }
}

/// The settings that a daemon started from this shell would have.
pub(super) fn settings(home: &Home) -> Result<Settings> {
    let loaded = settings::load(home, &Overrides::default(), &Environment::of_process());
    loaded.map_err(|e| CliError::caused(USAGE, e))
}

async fn credentials(args: CredentialsArgs) -> Result<u8> {
    let home = reach::home()?;
    let client = view(&home).await?;
    if args.test {
        unlock::note();
    }
    let (rows, code) = match &client {
        Some(client) => credentials_there(client, args.test).await?,
        None => credentials_here(&home, args.test).await?,
    };
    if args.format.json {
        output::json(&rows)?;
        return Ok(code);
    }
    output::table(&credentials_table(&rows))?;
    tell_problems(&rows)?;
    Ok(code)
}

async fn credentials_there(client: &Client, test: bool) -> Result<(Vec<CredentialInfo>, u8)> {
    let wanted = Unlock { credentials: Vec::new(), again: true };
    let code = if test { unlock::code(&client.unlock(&wanted).await.map_err(reach::failed)?) } else { OK };
    Ok((client.credentials().await.map_err(reach::failed)?, code))
}

fn tell_problems(rows: &[CredentialInfo]) -> Result {
    for (at, (row, problem)) in rows.iter().filter_map(|row| Some((row, row.problem.as_deref()?))).enumerate() {
        let gap = if at == 0 { "\n" } else { "" };
        let text = output::plain(&format!("{}: {problem}", row.name));
        output::line(format_args!("{gap}{}", output::toned(tone(row), &text)))?;
    }
    Ok(())
}

async fn credentials_here(home: &Home, test: bool) -> Result<(Vec<CredentialInfo>, u8)> {
    let settings = settings(home)?;
    let rules = RuleSet::new(service::rules(&settings));
    let book = Book::open(Arc::new(Environment::of_process()), &settings);
    let code = if test { unlock::code(&book.unlock(&[], true).await) } else { OK };
    Ok((book.rows(&rules), code))
}

fn credentials_table(rows: &[CredentialInfo]) -> Table {
    let mut table = Table::new(["name", "available", "source", "hosts", "hash", "last used"]);
    for row in rows {
        let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
        let available = if row.available { "yes" } else { "no" };
        let words = [row.name.clone(), available.into(), source(row), hosts(row)];
        table.row(tone(row), words.into_iter().chain([or_dash(&row.fingerprint), or_dash(&row.last_used)]));
    }
    table
}

fn tone(row: &CredentialInfo) -> Tone {
    match (row.available, &row.source, &row.problem) {
        (true, _, None) => Tone::Good,
        (true, _, Some(_)) => Tone::Warn,
        (false, Some(_), _) => Tone::Bad,
        (false, None, _) => Tone::Dim,
    }
}

/// As many as a table can bear; `--json` has them all.
fn hosts(row: &CredentialInfo) -> String {
    match row.hosts.as_slice() {
        [] => "-".into(),
        [first, second, third, .., _] => format!("{first}, {second}, {third}, … (of {})", row.hosts.len()),
        few => few.join(", "),
    }
}

fn source(row: &CredentialInfo) -> String {
    let source = row.source.as_deref().unwrap_or("-");
    match row.shadowed.as_slice() {
        [] => source.into(),
        shadowed => format!("{source} (over {})", shadowed.join(", ")),
    }
}

async fn show(format: Format) -> Result<u8> {
    let home = reach::home()?;
    let entries = match view(&home).await? {
        Some(client) => client.config().await.map_err(reach::failed)?,
        None => entries_here(&home)?,
    };
    if format.json {
        output::json(&entries)?;
        return Ok(OK);
    }
    let mut table = Table::new(["key", "value", "from"]);
    for entry in entries {
        let tone = if entry.origin == "default" { Tone::Dim } else { Tone::Plain };
        table.row(tone, [entry.key, entry.value.to_string(), entry.origin]);
    }
    output::table(&table)?;
    Ok(OK)
}

fn entries_here(home: &Home) -> Result<Vec<ConfigEntry>> {
    Ok(config_entries(&settings(home)?))
}

/// The running daemon, if its view is to be shown; says on standard error whose view it is.
async fn view(home: &Home) -> Result<Option<Client>> {
    let client = reach::running(home).await?;
    match &client {
        Some(_) => output::note(format_args!("as the running daemon of {} sees it:", home.root().display())),
        None => output::note("no daemon is running; a daemon started from this shell would see:"),
    }
    Ok(client)
}

fn paths(format: Format) -> Result<u8> {
    let home = reach::home()?;
    let settings = settings(&home).unwrap_or_else(|_| {
        output::warning("proxy.toml has mistakes (see `clauderon config check`); these are the default paths");
        Settings::defaults(home.root())
    });
    let paths = [
        ("home", home.root().to_owned()),
        ("config", home.proxy_toml()),
        ("ca", home.ca_cert()),
        ("ca_key", home.ca_key()),
        ("ca_bundle", home.bundle()),
        ("secrets", settings.secrets_dir),
        ("audit_log", settings.audit.path),
        ("database", home.db()),
        ("control_socket", home.control_socket()),
        ("api_token", home.api_token()),
        ("sessions", home.sessions_dir()),
        ("worktrees", home.worktrees_dir()),
        ("logs", home.logs_dir()),
    ];
    let shown = paths.map(|(name, path)| (name, path.display().to_string()));
    if format.json {
        let object: Map<String, Value> = shown.into_iter().map(|(name, path)| (name.into(), path.into())).collect();
        output::json(&object)?;
    } else {
        output::members(&shown)?;
    }
    Ok(OK)
}

fn check(format: Format) -> Result<u8> {
    let home = reach::home()?;
    let mistakes = mistakes(&home);
    let file = home.proxy_toml();
    if format.json {
        output::json(&json!({ "ok": mistakes.is_empty(), "file": file, "exists": file.exists(), "errors": mistakes }))?;
    } else if mistakes.is_empty() {
        let verdict = if file.exists() { "is in order" } else { "does not exist: the defaults hold" };
        output::line(format_args!("{} {verdict}", file.display()))?;
    }
    if mistakes.is_empty() {
        return Ok(OK);
    }
    if !format.json {
        mistakes.iter().for_each(|mistake| output::error(&CliError::new(USAGE, mistake)));
    }
    Ok(USAGE)
}

/// Everything that would keep a daemon from starting with these settings, or from reaching origins.
fn mistakes(home: &Home) -> Vec<String> {
    let settings = match settings::load(home, &Overrides::default(), &Environment::of_process()) {
        Ok(settings) => settings,
        Err(SettingsError::Wrong { path, errors }) => {
            return errors.0.iter().map(|error| format!("{}: {error}", path.display())).collect();
        }
        Err(other) => return vec![other.to_string()],
    };
    let roots = settings.upstream.ca_files.iter().filter_map(|file| {
        let loaded = clauderon_proxy::tls::client::load_roots(&[file]);
        loaded.err().map(|error| format!("`upstream.ca_file`: {error}"))
    });
    roots.chain(half_a_ca(home)).collect()
}

/// Only a whole pair or none is right; a pair is looked at as the daemon will.
fn half_a_ca(home: &Home) -> Option<String> {
    use clauderon_proxy::tls::ca::Issuer;
    if !home.ca_cert().exists() && !home.ca_key().exists() {
        return None;
    }
    Issuer::load_or_create(&home.ca_cert(), &home.ca_key()).err().map(|error| error.to_string())
}

fn init() -> Result<u8> {
    let home = reach::home()?.create().map_err(|e| CliError::caused(USAGE, e))?;
    let path = home.proxy_toml();
    // Even a dangling link is something that somebody put there.
    if path.symlink_metadata().is_ok() {
        return Err(CliError::new(FAILURE, format_args!("{} exists already; nothing was written", path.display()))
            .hint("edit it, or move it away first"));
    }
    write_private(&path, config::template().as_bytes(), 0o644).doing(|| format!("cannot write {}", path.display()))?;
    output::line(path.display())?;
    output::hint("every key is commented out with its default; `clauderon config check` checks what you change");
    Ok(OK)
}
