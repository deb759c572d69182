//! The derived tokens that sessions hold placeholders for.
#![deny(clippy::wildcard_enum_match_arm, clippy::indexing_slicing)]

use std::ops::Range;
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use memchr::memmem::Finder;

use super::{Derivation, Form, Issuer, Token};
use crate::credential::CredentialName;
use crate::host::Origin;
use crate::map::TrustedMap;
use crate::path::CanonicalPath;
use crate::rule::{Rule, RuleSet};
use crate::scrub::Echoes;
use crate::secret::Secret;
use crate::session::SessionId;

/// A token that an origin made from a credential, and the placeholder a session holds for it.
pub struct DerivedToken {
    session: SessionId,
    kind: &'static str,
    secret: Arc<Secret>,
    placeholder: String,
    /// Where in the placeholder its unmistakable part begins.
    stem: usize,
    audience: RuleSet,
    credential: CredentialName,
    until: Option<Instant>,
    /// The forms of the credential it was made from, which may be in it.
    base: Option<Arc<Echoes>>,
    echoes: OnceLock<Arc<Echoes>>,
}

/// Every derived token in force; a session has only so many of them.
pub struct DerivedTable {
    sessions: TrustedMap<SessionId, Vec<Arc<DerivedToken>>>,
    /// Numbers placeholders. Begins anywhere, so that none comes again after a restart.
    next: u32,
}

/// What a token is kept for.
pub struct Keep<'a> {
    /// Whose answer held it.
    pub session: &'a SessionId,
    /// Which endpoint gave it.
    pub derivation: &'static Derivation,
    /// Where that is.
    pub issuer: Issuer<'a>,
    /// The credential it was made from, if that went out.
    pub base: Option<&'a Arc<Echoes>>,
    /// When it came.
    pub now: Instant,
    /// The same in seconds since the Unix epoch.
    pub unix: u64,
}

impl DerivedTable {
    /// An empty table that numbers placeholders from `first` on.
    pub fn new(first: u32) -> Self {
        Self { sessions: TrustedMap::default(), next: first }
    }

    /// Keeps a token and says what stands for it; the same token keeps its placeholder. Where a session holds too many, the one
    /// that would end first goes.
    pub fn keep(
        &mut self,
        keep: &Keep<'_>,
        token: &'static Token,
        secret: Secret,
        lifetime: Option<Duration>,
    ) -> Arc<DerivedToken> {
        let held = self.sessions.entry(keep.session.clone()).or_default();
        let until = lifetime.and_then(|lifetime| keep.now.checked_add(lifetime));
        let serves = |kept: &&Arc<DerivedToken>| kept.is_live(keep.now) && kept.serves(keep, token, until);
        if let Some(same) = held.iter().filter(serves).find(|kept| kept.holds(&secret)) {
            return same.clone();
        }
        if held.len() >= MAX_HELD {
            let ends = |kept: &Arc<DerivedToken>| kept.until.map_or((1, keep.now), |until| (0, until));
            let first = held.iter().enumerate().min_by_key(|(_, kept)| ends(kept)).map(|(at, _)| at);
            first.map(|at| held.remove(at));
        }
        self.next = self.next.wrapping_add(1);
        let kept = Arc::new(DerivedToken::new(keep, token, secret, until, self.next));
        held.push(kept.clone());
        kept
    }

    /// Forgets what a session held.
    pub fn end(&mut self, session: &SessionId) {
        self.sessions.remove(session);
    }

    /// Forgets what has ended long ago.
    pub fn sweep(&mut self, now: Instant) {
        self.sessions.retain(|_, held| {
            held.retain(|kept| kept.until.is_none_or(|until| now < until + LINGER));
            !held.is_empty()
        });
    }

    /// Whether no session holds any.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// The token that `text` is the placeholder of.
    pub fn owner(&self, text: &str) -> Option<&Arc<DerivedToken>> {
        let at = MARK.find(text.as_bytes())?;
        self.sighting_at(text.as_bytes(), at).map(|(_, kept)| kept).filter(|kept| kept.placeholder == text)
    }

    /// Every placeholder in `text`, in order; of one that is cut short in front what is left of it.
    pub fn sightings<'a, 't>(
        &'a self,
        text: &'t [u8],
    ) -> impl Iterator<Item = (Range<usize>, &'a Arc<DerivedToken>)> + use<'a, 't> {
        let marked = if self.is_empty() { &[] } else { text };
        MARK.find_iter(marked).filter_map(|at| self.sighting_at(text, at))
    }

    fn sighting_at(&self, text: &[u8], at: usize) -> Option<(Range<usize>, &Arc<DerivedToken>)> {
        let stem = text.get(at..)?;
        let kind = memchr::memchr(b'-', stem.get(MARKER.len()..stem.len().min(MARKER.len() + MAX_KIND + 1))?)?;
        let id = stem.get(MARKER.len() + kind + 1..)?.get(..8)?;
        let session = SessionId::parse(std::str::from_utf8(id).ok()?).ok()?;
        let kept = self.sessions.get(&session)?.iter().find(|kept| stem.starts_with(kept.stem().as_bytes()))?;
        let end = at + kept.stem().len();
        let whole =
            at.checked_sub(kept.stem).filter(|start| text.get(*start..end) == Some(kept.placeholder.as_bytes()));
        Some((whole.unwrap_or(at)..end, kept))
    }
}

impl DerivedToken {
    fn new(keep: &Keep<'_>, token: &Token, secret: Secret, until: Option<Instant>, number: u32) -> Self {
        let rules = (token.audience)(&keep.issuer);
        let credential = rules.first().map(|rule| rule.credential.clone());
        let ends = until.map_or(FAR, |until| keep.unix.saturating_add(until.duration_since(keep.now).as_secs()));
        let prefix = match token.form {
            Form::Word | Form::Masked => token.prefix.to_owned(),
            Form::Jwt => unsigned(keep.unix, ends),
        };
        let stem = format!("{MARKER_TEXT}{}-{}-{number:08x}-000000", keep.derivation.kind, keep.session);
        // The last part of a JSON Web Token must be Base64, whose length is never one more than a multiple of four.
        let padding = if token.form == Form::Jwt { stem.len().next_multiple_of(4) - stem.len() } else { 0 };
        Self {
            session: keep.session.clone(),
            kind: keep.derivation.kind,
            secret: Arc::new(secret),
            stem: prefix.len(),
            placeholder: format!("{prefix}{stem}{:0<padding$}", ""),
            audience: RuleSet::new(rules),
            credential: credential.expect("an audience has a rule"),
            until,
            base: keep.base.cloned(),
            echoes: OnceLock::new(),
        }
    }

    /// Whose it is.
    pub fn session(&self) -> &SessionId {
        &self.session
    }

    /// The credential it was made from.
    pub fn credential(&self) -> &CredentialName {
        &self.credential
    }

    /// The value itself.
    pub fn secret(&self) -> &Arc<Secret> {
        &self.secret
    }

    /// What the session holds for it.
    pub fn placeholder(&self) -> &str {
        &self.placeholder
    }

    /// Whether it has not ended yet. After that its placeholder goes out as a text where the token went, and the origin says that
    /// it is invalid.
    pub fn is_live(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    /// The rules by which it may go to this path of this origin.
    pub fn rules<'a, 'o>(
        &'a self,
        origin: &'o Origin,
        path: Option<CanonicalPath<'o>>,
    ) -> impl Iterator<Item = &'a Arc<Rule>> + use<'a, 'o> {
        self.audience.of_origin(origin).filter(move |rule| path.is_some_and(|path| rule.path.matches(path)))
    }

    /// Whether it may go to this origin at all.
    pub fn goes_to(&self, origin: &Origin) -> bool {
        self.audience.knows(origin)
    }

    /// What to search an answer for where it went out.
    pub fn echoes(&self) -> Arc<Echoes> {
        let new = || Arc::new(Echoes::with(self.secret.expose(), &self.placeholder, self.base.as_deref()));
        self.echoes.get_or_init(new).clone()
    }

    /// The forms of the credential it was made from.
    pub fn base(&self) -> Option<&Arc<Echoes>> {
        self.base.as_ref()
    }

    fn stem(&self) -> &str {
        self.placeholder.get(self.stem..).unwrap_or_default()
    }

    fn holds(&self, secret: &Secret) -> bool {
        self.secret.expose() == secret.expose()
    }

    /// Whether it may do as much, and for as long, as `token` of this answer.
    fn serves(&self, keep: &Keep<'_>, token: &Token, until: Option<Instant>) -> bool {
        let lasts = self.until.is_none_or(|own| until.is_some_and(|until| own >= until));
        let goes = |rule: Rule| {
            self.audience.iter().any(|own| (&own.host, &own.path, &own.shape) == (&rule.host, &rule.path, &rule.shape))
        };
        self.kind == keep.derivation.kind && lasts && (token.audience)(&keep.issuer).into_iter().all(goes)
    }
}

impl std::fmt::Debug for DerivedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DerivedToken").field("placeholder", &self.placeholder).finish_non_exhaustive()
    }
}

/// The first two parts of a JSON Web Token without signature; its header `{}` keeps secret scanners quiet.
fn unsigned(now: u64, ends: u64) -> String {
    let claims = format!("{{\"iat\":{now},\"exp\":{ends}}}");
    format!("e30.{}.", URL_SAFE_NO_PAD.encode(claims))
}

const MARKER_TEXT: &str = "clauderon-derived-";
const MARKER: &[u8] = MARKER_TEXT.as_bytes();
/// Made once: every field of every request is searched for it.
static MARK: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(MARKER));

/// For how long a placeholder is known after its token has ended: where that never went, it is an alarm all the same.
const LINGER: Duration = Duration::from_secs(3600);

/// The longest [`Derivation::kind`].
const MAX_KIND: usize = 12;

/// Some image builds pull from several dozen repositories, each with a token of five minutes.
const MAX_HELD: usize = 128;

/// The year 2286: in no client's past.
const FAR: u64 = 9_999_999_999;
