//! What others see of the sessions: the proxy its snapshot, callers of the API their listings.

use std::sync::Arc;

use clauderon_api::SessionInfo;
use clauderon_core::config::Settings;
use clauderon_core::credential::CredentialName;
use clauderon_core::host::HostPattern;
use clauderon_core::placeholder::PlaceholderTable;
use clauderon_core::rule::RuleSet;
use clauderon_core::service;
use clauderon_core::session::Session;
use clauderon_proxy::SessionCounters;
use clauderon_proxy::snapshot::{Sessions, Snapshot};
use clauderon_proxy::tls::client::UpstreamTls;
use time::OffsetDateTime;
use time::macros::format_description;

use super::SessionError;
use crate::store::StoredSession;

/// What a snapshot is made from besides the sessions.
pub(crate) struct Configuration {
    /// The settings in force.
    pub(crate) settings: Arc<Settings>,
    /// How origins are verified under them.
    pub(crate) upstream_tls: Arc<UpstreamTls>,
}

/// The snapshot of these sessions, each with the hashes of its tokens.
pub(crate) fn snapshot<'a>(
    configuration: &Configuration,
    credentials: &[CredentialName],
    all: impl Iterator<Item = (&'a Arc<Session>, &'a [[u8; 32]])>,
) -> Snapshot {
    let mut sessions = Sessions::default();
    let mut placeholders = PlaceholderTable::default();
    for (session, tokens) in all {
        for credential in credentials.iter().filter(|name| session.may_use(name)) {
            placeholders.insert_all(&session.id, credential);
        }
        sessions.insert(Arc::clone(session), tokens.iter().copied());
    }
    Snapshot {
        sessions,
        rules: RuleSet::new(service::rules(&configuration.settings)),
        placeholders,
        settings: Arc::clone(&configuration.settings),
        upstream_tls: Arc::clone(&configuration.upstream_tls),
    }
}

/// A kept session as the proxy needs it. A list that cannot be read is an error: it must not turn into "all".
pub(crate) fn session(kept: &StoredSession) -> Result<Session, SessionError> {
    let unreadable =
        |what: &str| SessionError::bad_request(format!("session `{}` has an unreadable {what}", kept.name));
    let credentials =
        kept.credentials.as_ref().map(|names| names.iter().map(|name| CredentialName::parse(name)).collect());
    let hosts = kept.allow_hosts.as_ref().map(|hosts| hosts.iter().map(|host| HostPattern::parse(host)).collect());
    Ok(Session {
        id: kept.id.clone(),
        name: kept.name.clone(),
        mode: kept.mode,
        credentials: credentials.transpose().map_err(|_| unreadable("credential"))?,
        allow_hosts: hosts.transpose().map_err(|_| unreadable("host"))?,
    })
}

/// A kept session as listings show it; `base` is the commit its copy began at, `image` that of its containers.
pub(crate) fn info(
    kept: &StoredSession,
    base: Option<String>,
    image: Option<String>,
    counters: SessionCounters,
) -> SessionInfo {
    SessionInfo {
        id: kept.id.to_string(),
        name: kept.name.to_string(),
        status: kept.status.as_str().to_owned(),
        access_mode: kept.mode.to_string(),
        backend: kept.backend.clone(),
        image,
        agent: kept.agent.clone(),
        created_at: rfc3339(kept.created_ms),
        repo: kept.repo.clone(),
        base,
        exit_code: kept.exit_code,
        credentials: kept.credentials.clone(),
        allow_hosts: kept.allow_hosts.clone(),
        forwards: kept.forwards.clone(),
        requests: counters.requests,
        denials: counters.denials,
        alarms: counters.alarms,
    }
}

fn rfc3339(ms: i64) -> String {
    // Always three digits: what is sorted as text then stands in the order of time.
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000).ok();
    moment.and_then(|moment| moment.format(format).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_milliseconds_whatever_they_are() {
        for (ms, text) in [(0, "1970-01-01T00:00:00.000Z"), (1_700_000_000_120, "2023-11-14T22:13:20.120Z")] {
            assert_eq!(rfc3339(ms), text);
        }
    }
}
