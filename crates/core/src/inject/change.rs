//! One change to a request: a secret on its surface, or in the place of its placeholders.
#![deny(clippy::wildcard_enum_match_arm, clippy::indexing_slicing)]

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;

use super::body;
use super::look::{self, Seen};
use super::render::{self, Fault};
use crate::credential::CredentialName;
use crate::denial::{Denial, DenialCode};
use crate::derived::DerivedToken;
use crate::rule::{Rule, Shape};
use crate::secret::Secret;
use crate::session::{Session, SessionName};

/// What is done with one secret.
#[derive(Debug, Clone)]
pub struct Change {
    rule: Arc<Rule>,
    action: Action,
    /// What is put in, if not the credential itself.
    derived: Option<Arc<DerivedToken>>,
    session: SessionName,
}

#[derive(Debug, Clone)]
enum Action {
    /// Put the secret on the surface, whatever stood there.
    Add,
    /// Put it in the place of these texts on the surface, and leave the rest as the client wrote it.
    Swap(Vec<String>),
}

impl Change {
    pub(super) fn add(rule: &Arc<Rule>, session: &Session) -> Self {
        Self { rule: rule.clone(), action: Action::Add, derived: None, session: session.name.clone() }
    }

    pub(super) fn swap(rule: &Arc<Rule>, seen: &Seen<'_>, session: &Session) -> Self {
        let action = Action::Swap(vec![seen.text.clone()]);
        Self { rule: rule.clone(), action, derived: seen.derived.cloned(), session: session.name.clone() }
    }

    /// Whether it swaps this one as well: it stands on its surface, and for the same secret.
    pub(super) fn covers(&mut self, seen: &Seen<'_>) -> bool {
        let same = match (&self.derived, seen.derived) {
            (None, None) => true,
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, Some(_)) | (Some(_), None) => false,
        };
        let Action::Swap(texts) = &mut self.action else { return false };
        let covers = same && seen.is_swapped_by(&self.rule);
        if covers && !texts.contains(&seen.text) {
            texts.push(seen.text.clone());
        }
        covers
    }

    /// Whether a request that it adds to has no place for what `rule` would add.
    pub(super) fn leaves_no_room_for(&self, rule: &Rule) -> bool {
        self.rule.credential == rule.credential || look::share_a_surface(&self.rule.shape, &rule.shape)
    }

    /// The credential whose secret is needed; `None` where a derived token is put in.
    pub fn credential(&self) -> Option<&CredentialName> {
        self.derived.is_none().then_some(&self.rule.credential)
    }

    /// The derived token that is put in.
    pub fn derived(&self) -> Option<&Arc<DerivedToken>> {
        self.derived.as_ref()
    }

    /// The rule that asks for it.
    pub fn rule(&self) -> &Arc<Rule> {
        &self.rule
    }

    /// Whether the secret takes the place of a placeholder; else it is added.
    pub fn swaps(&self) -> bool {
        matches!(self.action, Action::Swap(_))
    }

    /// What the agent is told where the secret cannot be had: none is configured (`why` is `None`), or `why` says more.
    pub fn unavailable(&self, why: Option<&str>) -> Denial {
        let name = &self.rule.credential;
        let (message, hint) = match why {
            Some(why) => (format!("the credential `{name}` cannot be had: {why}"), "see what is wrong with it"),
            None => (format!("no secret is configured for `{name}`"), "see where it can be configured"),
        };
        self.denial(message, &format!("`clauderon config credentials` lets you {hint}"))
    }

    pub(super) fn into_rule(self) -> Arc<Rule> {
        self.rule
    }

    /// Whether the secret is in, and the body if it is in that.
    pub(super) fn put_in(
        &self,
        parts: &mut Parts,
        body: Option<&Bytes>,
        secret: &Secret,
    ) -> Result<(bool, Option<Bytes>), Denial> {
        self.render(parts, body, secret).map_err(|fault| self.unrenderable(fault))
    }

    fn render(&self, parts: &mut Parts, body: Option<&Bytes>, secret: &Secret) -> Result<(bool, Option<Bytes>), Fault> {
        match (&self.action, &self.rule.shape) {
            (Action::Add, shape) => Ok((render::add(parts, shape, secret)?, None)),
            (Action::Swap(placeholders), Shape::Body { field, user }) => {
                let body = body.ok_or(Fault::Ambiguous)?;
                Ok((true, Some(body::swap(parts, body, (field, user.as_ref()), placeholders, secret)?)))
            }
            (Action::Swap(placeholders), shape) => {
                render::swap(parts, shape, placeholders, secret)?;
                Ok((true, None))
            }
        }
    }

    fn unrenderable(&self, fault: Fault) -> Denial {
        let name = &self.rule.credential;
        match fault {
            Fault::NotAHeaderValue => self.denial(
                format!("the secret of `{name}` contains bytes that no HTTP header may carry"),
                "configure it anew without them",
            ),
            Fault::NoUser => self.denial(
                format!("no user name is known that goes with `{name}`"),
                &format!("set `username` under `[services.{name}]` in proxy.toml, or write the secret as `user:token`"),
            ),
            Fault::Ambiguous => {
                let message = format!("the placeholder for `{name}` stands in a body that can be read in several ways");
                Denial::new(DenialCode::MalformedRequest, message).hint("send each field once, as JSON or as a form")
            }
            Fault::BadTarget => self.denial(format!("the secret of `{name}` does not fit into the URL"), BAD_TARGET),
        }
    }

    fn denial(&self, message: String, hint: &str) -> Denial {
        Denial::new(DenialCode::CredentialUnavailable, message)
            .detail("credential", self.rule.credential.as_str())
            .detail("session", self.session.as_str())
            .hint(hint)
    }
}

const BAD_TARGET: &str =
    "shorten the URL; in a path a secret may hold no backslash, no control character and no dot segment";
