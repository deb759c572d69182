//! `config add`: ready entries for credentials, added to `proxy.toml` without touching what is there.

use std::path::Path;

use clauderon_core::catalogue::{Filling, READY, Ready};
use clauderon_core::config::Settings;
use clauderon_daemon::home::{Home, write_private};
use serde_json::json;

use super::settings;
use crate::cli::ConfigAdd;
use crate::error::{CliError, Doing, FAILURE, OK, Result, USAGE};
use crate::output::{self, Table, Tone};
use crate::reach;

pub(super) fn run(args: &ConfigAdd) -> Result<u8> {
    match args.name.as_deref().and_then(Ready::named) {
        Some(ready) if !args.list => add(ready, args),
        _ => list(args.format.json),
    }
}

fn list(as_json: bool) -> Result<u8> {
    if as_json {
        let row = |ready: &Ready| json!({ "name": ready.name, "title": ready.title, "env": ready.env, "hosts": ready.hosts, "token": ready.token });
        output::json(&READY.iter().map(row).collect::<Vec<_>>())?;
        return Ok(OK);
    }
    let mut table = Table::new(["name", "service", "hosts", "token"]);
    for ready in &READY {
        let hosts = if ready.hosts.is_empty() { "--host".to_owned() } else { ready.hosts.join(", ") };
        table.row(Tone::Plain, [ready.name.into(), ready.title.into(), hosts, ready.token.into()]);
    }
    output::table(&table)?;
    Ok(OK)
}

fn add(ready: &Ready, args: &ConfigAdd) -> Result<u8> {
    let home = reach::home()?.create().map_err(|e| CliError::caused(USAGE, e))?;
    let before = settings(&home)?;
    if before.credentials.iter().any(|own| own.name.as_str() == ready.name) {
        return Err(CliError::new(
            FAILURE,
            format_args!("`{}` is in proxy.toml already; nothing was changed", ready.name),
        )
        .hint("edit its [[credential]] table there"));
    }
    let filling = Filling { hosts: args.host.clone(), user: args.user.clone() };
    let entry =
        ready.entry(&filling).map_err(|missing| CliError::new(USAGE, format_args!("{}: {missing}", ready.title)))?;
    let path = home.proxy_toml();
    let text = with_entry(&path, &entry)?;
    check(&home, &text)?;
    // A link stays one: the file it leads to is replaced.
    let target = path.canonicalize().unwrap_or_else(|_| path.clone());
    write_private(&target, text.as_bytes(), 0o644).doing(|| format!("cannot write {}", target.display()))?;
    tell(ready, &entry, &before, args.format.json)
}

/// The file as it is, and the entry after it.
fn with_entry(path: &Path, entry: &str) -> Result<String> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).doing(|| format!("cannot read {}", path.display())),
    };
    let gap = match text.as_str() {
        "" => "",
        text if text.ends_with("\n\n") => "",
        text if text.ends_with('\n') => "\n",
        _ => "\n\n",
    };
    Ok([&text, gap, entry].concat())
}

/// Nothing is written that a daemon would not take.
fn check(home: &Home, text: &str) -> Result {
    let parsed = Settings::parse(text, home.root(), home.user_home());
    let refused = |errors| {
        CliError::new(USAGE, format_args!("the entry does not fit into proxy.toml; nothing was changed:\n{errors}"))
            .hint("see `clauderon config add --help`")
    };
    parsed.map(drop).map_err(refused)
}

fn tell(ready: &Ready, entry: &str, settings: &Settings, as_json: bool) -> Result<u8> {
    let file = settings.secrets_dir.join(ready.name);
    if as_json {
        output::json(&json!({ "name": ready.name, "env": ready.env, "file": file, "entry": entry }))?;
        return Ok(OK);
    }
    output::line(entry.trim_end())?;
    output::hint(format_args!(
        "write the token ({}) to {} (mode 0600), or set {} in the daemon's environment; `clauderon config credentials` shows whether it is found",
        ready.token,
        file.display(),
        ready.env
    ));
    Ok(OK)
}
