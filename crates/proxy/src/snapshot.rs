//! The immutable view a request is decided on. The daemon swaps it whole; a request keeps the one it began with.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use clauderon_core::config::Settings;
use clauderon_core::credential::CredentialName;
use clauderon_core::map::TrustedMap;
use clauderon_core::placeholder::PlaceholderTable;
use clauderon_core::rule::RuleSet;
use clauderon_core::secret::Secret;
use clauderon_core::session::{Session, SessionId, SessionName};

use crate::tls::client::UpstreamTls;

/// Sessions, rules and settings at one moment.
pub struct Snapshot {
    /// Who may call.
    pub sessions: Sessions,
    /// Where credentials may go.
    pub rules: RuleSet,
    /// Every placeholder of every session.
    pub placeholders: PlaceholderTable,
    /// `proxy.toml` as it stands.
    pub settings: Arc<Settings>,
    /// How origins are verified; rebuilt when `upstream.ca_file` changes.
    pub upstream_tls: Arc<UpstreamTls>,
}

/// All sessions, found the three ways a caller can be known.
#[derive(Default)]
pub struct Sessions {
    by_id: TrustedMap<SessionId, Arc<Session>>,
    by_name: TrustedMap<SessionName, SessionId>,
    /// SHA-256 of a session token; a session may have several.
    by_token: TrustedMap<[u8; 32], SessionId>,
}

impl Sessions {
    /// Adds a session with the hashes of its tokens.
    pub fn insert(&mut self, session: Arc<Session>, token_hashes: impl IntoIterator<Item = [u8; 32]>) {
        self.by_token.extend(token_hashes.into_iter().map(|hash| (hash, session.id.clone())));
        self.by_name.insert(session.name.clone(), session.id.clone());
        self.by_id.insert(session.id.clone(), session);
    }

    /// The session with this identity.
    pub fn by_id(&self, id: &SessionId) -> Option<&Arc<Session>> {
        self.by_id.get(id)
    }

    /// The session with this name.
    pub fn by_name(&self, name: &SessionName) -> Option<&Arc<Session>> {
        self.by_id(self.by_name.get(name)?)
    }

    /// The session whose token this is, if it also has that name. Looking up by hash tells a timer nothing about the token.
    pub fn by_token(&self, name: &str, token: &str) -> Option<&Arc<Session>> {
        let hash = clauderon_core::digest::sha256(&[token.as_bytes()]);
        self.by_id(self.by_token.get(&hash)?).filter(|session| session.name.as_str() == name)
    }

    /// How many sessions there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}

/// Where secrets come from; the proxy asks only when a permit needs one.
pub trait SecretBook: Send + Sync + 'static {
    /// What is known without waiting.
    fn peek(&self, name: &CredentialName) -> Known;
    /// Notes that a secret went out.
    fn used(&self, name: &CredentialName);
    /// Resolves a credential that is [`Known::Unresolved`] (1Password), single flight.
    fn resolve<'a>(&'a self, name: &'a CredentialName) -> Pin<Box<dyn Future<Output = Resolved> + Send + 'a>>;
    /// Whether the source of a secret in force could tell another one when it is asked again.
    fn is_renewable(&self, name: &CredentialName) -> bool;
    /// Asks the source again because an origin answered 401 to `refused`: once for all who ask at the same time, and not
    /// again soon after.
    fn renew<'a>(
        &'a self,
        name: &'a CredentialName,
        refused: &'a Secret,
    ) -> Pin<Box<dyn Future<Output = Renewed> + Send + 'a>>;
}

/// What a credential's sources say without waiting.
pub enum Known {
    /// The secret in force.
    Ready(Arc<Secret>),
    /// Configured, but must be asked for.
    Unresolved,
    /// No source defines it.
    Absent,
}

/// What came of asking a source again.
pub enum Renewed {
    /// Another secret, which is in force now.
    Changed(Arc<Secret>),
    /// The refused secret is what the source holds.
    Same,
    /// The source was not asked: that happened a short while ago.
    NotAsked,
    /// The source gave nothing (for people, without the value); the secret in force stays.
    Failed(String),
}

/// A secret, or why a configured credential cannot be had (for people, without the value).
pub type Resolved = Result<Arc<Secret>, String>;
