//! `/v1/credentials`, `/v1/unlock`, `/v1/config` and `/v1/explain`.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use clauderon_api::{ConfigEntry, CredentialInfo, Explanation, Unlock, UnlockedCredential};
use clauderon_core::config::{Entry, GivenBy, Settings};
use clauderon_core::credential::CredentialName;

use clauderon_core::credential::CredentialKind;

use super::sessions::read;
use super::{Control, Failure};
use crate::book::Book;
use crate::explain;
use crate::gateway;

pub(super) async fn list(State(control): State<Arc<Control>>) -> Json<Vec<CredentialInfo>> {
    let snapshot = control.supervisor.snapshot().load_full();
    let mut rows = control.book.rows(&snapshot.rules);
    for row in &mut rows {
        if row.name == CredentialKind::Kubernetes.names().name {
            by_file(row, "kubeconfig", control.contexts.servers());
        } else if row.name == CredentialKind::Talos.names().name {
            by_file(row, "talosconfig", control.talos_contexts.servers());
        }
    }
    Json(rows)
}

pub(super) async fn unlock(
    State(control): State<Arc<Control>>,
    body: Bytes,
) -> Result<Json<Vec<UnlockedCredential>>, Failure> {
    let wanted: Unlock = read(&body)?;
    let names = names(&wanted.credentials, &control.book).map_err(Failure::bad_request)?;
    // On its own: the answer of a person who approves is kept, also when the caller has given up.
    let asking = tokio::spawn(async move { control.book.unlock(&names, wanted.again).await });
    Ok(Json(asking.await.map_err(|_| Failure::internal())?))
}

/// Credentials as people name them; the error says which there are.
fn names(texts: &[String], book: &Book) -> Result<Vec<CredentialName>, String> {
    let known = book.names();
    let find = |text: &String| {
        let shown: Vec<&str> = known.iter().map(CredentialName::as_str).collect();
        let unknown = || format!("there is no credential `{text}`; known are {}", shown.join(", "));
        known.iter().find(|name| name.as_str() == text).cloned().ok_or_else(unknown)
    };
    texts.iter().map(find).collect()
}

pub(super) async fn config(State(control): State<Arc<Control>>) -> Json<Vec<ConfigEntry>> {
    Json(config_entries(&control.supervisor.snapshot().load().settings))
}

pub(super) async fn explain(State(control): State<Arc<Control>>, body: Bytes) -> Result<Json<Explanation>, Failure> {
    let asked = read(&body)?;
    let snapshot = control.supervisor.snapshot().load_full();
    let told = match gateway::explain::explain(&asked, &snapshot, &control.contexts, control.kubernetes)? {
        None => gateway::talos::explain::explain(&asked, &snapshot, &control.talos_contexts, control.talos)?,
        told => told,
    };
    if let Some(told) = told {
        return Ok(Json(told));
    }
    Ok(Json(explain::explain(&asked, &snapshot, &control.book)?))
}

/// What a gateway's own configuration file adds to what the other sources say.
fn by_file(row: &mut CredentialInfo, file: &str, servers: Result<Vec<String>, String>) {
    match servers {
        Ok(servers) => {
            let own = row.source.is_none();
            row.source.get_or_insert_with(|| file.to_owned());
            row.available = true;
            row.hosts = servers;
            // Nothing is amiss where the file brings its own identity.
            row.problem.take_if(|problem| own || problem.starts_with("unused"));
        }
        Err(why) if row.source.is_some() => row.problem = Some(why),
        Err(why) => row.problem = row.problem.take().map(|problem| format!("{problem}; {why}")),
    }
}

/// The effective settings as the API lists them.
pub fn config_entries(settings: &Settings) -> Vec<ConfigEntry> {
    let origin = |given: GivenBy| match given {
        GivenBy::Default => "default",
        GivenBy::Npm => "npm",
        GivenBy::File => "proxy.toml",
        GivenBy::Env => "env",
        GivenBy::Flag => "flag",
    };
    let entry = |entry: Entry| ConfigEntry {
        origin: origin(entry.origin).to_owned(),
        value: from_toml(&entry.value),
        key: entry.key,
    };
    settings.entries().into_iter().map(entry).collect()
}

/// The listing writes every value as TOML; as text it still tells a person what it is.
fn from_toml(value: &str) -> serde_json::Value {
    let table: Option<toml::Table> = toml::from_str(&format!("value = {value}")).ok();
    table.and_then(|table| serde_json::to_value(table.get("value")?).ok()).unwrap_or_else(|| value.into())
}
