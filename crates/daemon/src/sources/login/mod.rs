//! Logins that Claude Code and Codex keep on this machine: used where nothing else is configured, renewed by the daemon alone.
//!
//! A refresh token is good once. So one flight renews a login, whoever waits for it; the file is read again before, because the
//! user's own program may have been there first, and it is written before anybody gets the new token.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use clauderon_core::config::{LoginSettings, TokenUrl};
use clauderon_core::secret::Secret;
use clauderon_proxy::Proxy;
use clauderon_proxy::snapshot::{Known, Resolved};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use tokio::sync::watch;

use super::{Reading, file};

mod format;
mod renew;

use format::Login;
pub use format::OPENAI_CLAIMS;

/// The programs whose logins are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Keeper {
    /// Claude Code.
    Claude,
    /// Codex, logged in at ChatGPT.
    Codex,
}

/// The logins of this machine; cheap to clone. None can be renewed before [`Logins::through`].
#[derive(Clone, Default)]
pub struct Logins(Arc<Shared>);

#[derive(Default)]
struct Shared {
    way: OnceLock<Weak<Proxy>>,
    held: Mutex<HashMap<Keeper, Held>>,
    flights: Mutex<HashMap<Keeper, watch::Receiver<Option<Resolved>>>>,
}

/// OpenAI's API key in Codex's file, where Codex was given one instead of a login.
pub fn api_key(path: &Path) -> Option<Reading> {
    match file::text(path)? {
        Ok(text) => super::read(&format::api_key(&text)?),
        Err(_) => None,
    }
}

/// What is known of one login.
struct Held {
    file: LoginFile,
    login: Arc<Login>,
    /// What the file still says, because a renewed login could not be written.
    superseded: Option<Arc<Login>>,
    /// The access token that an origin refused.
    refused: Option<Arc<Secret>>,
    renewed: Option<Instant>,
    failure: Option<Failure>,
}

/// Why a login was not renewed.
#[derive(Clone)]
struct Failure {
    message: String,
    since: Instant,
    /// Only a new login helps.
    is_final: bool,
}

impl Keeper {
    /// What the user runs to log in again.
    pub const fn command(self) -> &'static str {
        match self {
            Self::Claude => "claude /login",
            Self::Codex => "codex login",
        }
    }
}

/// Where a login is kept, and where it is renewed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginFile {
    /// Whose it is.
    pub keeper: Keeper,
    /// The file.
    pub path: PathBuf,
    /// Its token endpoint.
    pub url: TokenUrl,
}

impl LoginFile {
    /// The file that settings name; `None` where logins are switched off.
    pub fn of(keeper: Keeper, settings: &LoginSettings) -> Option<Self> {
        let (path, url) = match keeper {
            Keeper::Claude => (&settings.claude, &settings.claude_token_url),
            Keeper::Codex => (&settings.codex, &settings.codex_token_url),
        };
        let path = path.clone().filter(|_| settings.enabled)?;
        Some(Self { keeper, path, url: url.clone() })
    }
}

impl Logins {
    /// Says which proxy carries the requests for new tokens.
    pub fn through(&self, proxy: &Arc<Proxy>) {
        let _already = self.0.way.set(Arc::downgrade(proxy));
    }

    /// Reads a login's file; `None` when it holds none. An error says what is wrong with it.
    pub fn read(&self, file: &LoginFile) -> Option<Result<(), String>> {
        let outcome = self.0.read(file);
        if !matches!(outcome, Some(Ok(()))) {
            self.0.held().remove(&file.keeper);
        }
        outcome
    }

    /// What is known of its access token without waiting.
    pub fn peek(&self, keeper: Keeper) -> Known {
        match self.0.held().get(&keeper) {
            None => Known::Absent,
            Some(held) if held.is_good() => Known::Ready(Arc::clone(&held.login.access)),
            Some(_) => Known::Unresolved,
        }
    }

    /// Its access token, renewed if need be. All who ask at once share one renewal, which is finished even if nobody waits.
    pub async fn resolve(&self, keeper: Keeper) -> Resolved {
        if let Known::Ready(secret) = self.peek(keeper) {
            return Ok(secret);
        }
        let mut flight = self.0.flight(keeper);
        let landed = flight.wait_for(Option::is_some).await.map(|outcome| outcome.clone());
        landed.ok().flatten().unwrap_or_else(|| Err("the renewal of the login was interrupted".to_owned()))
    }

    /// Notes that an origin refused the access token: the next use renews it, unless that was done just now.
    pub fn forget(&self, keeper: Keeper) {
        if let Some(held) = self.0.held().get_mut(&keeper)
            && held.login.refresh.is_some()
            && held.renewed.is_none_or(|renewed| renewed.elapsed() > RENEWED_LATELY)
        {
            held.refused = Some(Arc::clone(&held.login.access));
        }
    }

    /// What an agent may know of a login: scopes, plan, account.
    pub fn profile(&self, keeper: Keeper) -> Option<Map<String, Value>> {
        self.0.held().get(&keeper).map(|held| held.login.profile.clone())
    }

    /// What is wrong with a login, if its last renewal failed or it has ended.
    pub fn problem(&self, keeper: Keeper) -> Option<String> {
        let held = self.0.held();
        let held = held.get(&keeper)?;
        let ended = || (held.is_over() && held.login.refresh.is_none()).then(|| over(keeper));
        held.failure.as_ref().map(|failure| failure.message.clone()).or_else(ended)
    }
}

impl Shared {
    fn held(&self) -> MutexGuard<'_, HashMap<Keeper, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what the file says, unless the daemon knows better.
    fn read(&self, at: &LoginFile) -> Option<Result<(), String>> {
        let text = match file::text(&at.path)? {
            Ok(text) => text,
            Err(reason) => return Some(Err(reason)),
        };
        let login = match Login::parse(at.keeper, &text)? {
            Ok(login) => login,
            Err(reason) => return Some(Err(reason)),
        };
        let mut all = self.held();
        match all.get_mut(&at.keeper) {
            Some(held) if held.file.path == at.path && held.covers(&login) => held.file.clone_from(at),
            before => {
                let renewed = before.and_then(|held| held.renewed);
                all.insert(at.keeper, Held::new(at.clone(), login, renewed));
            }
        }
        Some(Ok(()))
    }

    fn flight(self: &Arc<Self>, keeper: Keeper) -> watch::Receiver<Option<Resolved>> {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(&keeper) {
            return flight.clone();
        }
        let (land, flight) = watch::channel(None);
        flights.insert(keeper, flight.clone());
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            let outcome = renew::renew(&shared, keeper).await;
            shared.flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&keeper);
            land.send_replace(Some(outcome));
        });
        flight
    }
}

impl Held {
    fn new(file: LoginFile, login: Login, renewed: Option<Instant>) -> Self {
        Self { file, login: Arc::new(login), superseded: None, refused: None, renewed, failure: None }
    }

    /// Whether what the file says is known already, or out of date.
    fn covers(&self, read: &Login) -> bool {
        self.login.is_same(read) || self.superseded.as_ref().is_some_and(|stale| stale.renews_like(read))
    }

    /// The token as far as it can still go out, else why not.
    fn usable(&self, keeper: Keeper) -> Resolved {
        if !self.is_over() {
            return Ok(Arc::clone(&self.login.access));
        }
        Err(self.failure.as_ref().map_or_else(|| over(keeper), |failure| failure.message.clone()))
    }

    fn is_refused(&self) -> bool {
        self.refused.as_ref().is_some_and(|refused| Arc::ptr_eq(refused, &self.login.access))
    }

    /// Whether the token can go out as it is.
    fn is_good(&self) -> bool {
        // A token that never lives longer than the margin must not be renewed for every request.
        let is_fresh = self.renewed.is_some_and(|renewed| renewed.elapsed() < MARGIN);
        let is_due = !is_fresh && self.ends_within(MARGIN) && self.login.refresh.is_some();
        !(is_due || self.is_refused() || self.is_over())
    }

    fn is_over(&self) -> bool {
        self.ends_within(Duration::ZERO)
    }

    fn ends_within(&self, margin: Duration) -> bool {
        let now = OffsetDateTime::now_utc() + margin;
        self.login.expires.is_some_and(|end| end <= now.unix_timestamp())
    }

    /// Whether the last failure still keeps from trying again.
    fn is_barred(&self) -> bool {
        self.failure.as_ref().is_some_and(|failure| failure.is_final || failure.since.elapsed() < COOL_DOWN)
    }
}

impl Failure {
    fn passing(message: impl Into<String>) -> Self {
        Self { message: message.into(), since: Instant::now(), is_final: false }
    }
}

fn over(keeper: Keeper) -> String {
    format!("the login has ended: run `{}`", keeper.command())
}

/// Longer than any request takes until its head is out, so that no token ends on its way.
const MARGIN: Duration = Duration::from_secs(5 * 60);
/// A token that is refused so soon after a renewal has not ended: what was asked for is not granted to it.
const RENEWED_LATELY: Duration = Duration::from_secs(5 * 60);
/// Between two tries after a failure.
const COOL_DOWN: Duration = Duration::from_secs(15);
