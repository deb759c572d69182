//! What a request does: one class for each, and whatever cannot be told apart is a write.
#![deny(clippy::wildcard_enum_match_arm, clippy::indexing_slicing)]

mod body;
mod git;
mod graphql;
pub(crate) mod login;
mod members;
mod narrow;
mod registry;

use http::{HeaderName, Method};

pub use self::body::BodyRule;
pub use self::login::LoginRule;
pub(crate) use self::members::Members;
pub use self::narrow::{Narrowing, NotNarrowed};
pub(crate) use self::registry::{by_head as registry_token, pairs as form_pairs};
use crate::access::{OperationClass, ReadException};
use crate::facts::Facts;
use crate::local::LocalAnswer;
use crate::rule::RuleSet;
use crate::service;

/// What the head of a request tells about its class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Classification {
    /// All there is to know.
    Known(Classified),
    /// The class is in the body. In read-write it does not matter; see [`crate::policy::settle`].
    NeedsBody(BodyRule),
}

/// The class of a request and the rule that gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Classified {
    /// What the request does.
    pub class: OperationClass,
    /// The rule's name, for audit records and `allow_minting`.
    pub rule: &'static str,
    /// What a read-only session's request must lose to be of that class.
    pub narrowing: Option<Narrowing>,
}

/// Classifies a request by its head: first what no mode lets out, then what overrides the method, then what the origin's service
/// knows, then the protocols that look alike on every host, then the method.
pub fn classify(facts: &Facts<'_>, rules: &RuleSet) -> Classification {
    if let Some(kept_in) = service::kept_in(facts, rules) {
        return kept_in;
    }
    if let Some(header) = overrides_method(facts) {
        return Classified::write(header).into();
    }
    let special = service::classify(facts, rules).or_else(|| git::classify(facts));
    let special = special.or_else(|| graphql::by_get(facts).map(Classification::Known));
    special.unwrap_or_else(|| by_method(facts).into())
}

/// The field by which a client asks for another method than it sends. Frameworks that honour it turn a GET into anything.
pub(crate) fn overrides_method(facts: &Facts<'_>) -> Option<&'static str> {
    // Most heads hold none of the names, which comparing tells sooner than looking each of them up.
    let held = facts.headers.keys().any(is_method_override);
    METHOD_OVERRIDES.iter().find(|name| held && facts.headers.contains_key(&name.0)).map(|name| name.1)
}

/// Whether a field is one of those by which a client asks for another method than it sends.
pub fn is_method_override(name: &HeaderName) -> bool {
    METHOD_OVERRIDES.iter().any(|known| known.0 == name)
}

impl Classified {
    /// A read, by `rule`.
    pub const fn read(rule: &'static str) -> Self {
        Self::new(OperationClass::Read, rule)
    }

    /// A write, by `rule`.
    pub const fn write(rule: &'static str) -> Self {
        Self::new(OperationClass::Write, rule)
    }

    /// Makes a credential, by `rule`.
    pub const fn mint(rule: &'static str) -> Self {
        Self::new(OperationClass::Mint, rule)
    }

    /// Answered by the proxy itself, by `rule`.
    pub const fn local(answer: LocalAnswer, rule: &'static str) -> Self {
        Self::new(OperationClass::Local(answer), rule)
    }

    /// Harmless in a named way.
    pub const fn excepted(exception: ReadException) -> Self {
        Self::excepted_by(exception, exception.as_str())
    }

    /// Harmless in a named way, by `rule`.
    pub const fn excepted_by(exception: ReadException, rule: &'static str) -> Self {
        Self::new(OperationClass::Excepted(exception), rule)
    }

    /// The same, if the request is narrowed.
    #[must_use]
    pub const fn narrowed(mut self, narrowing: Narrowing) -> Self {
        self.narrowing = Some(narrowing);
        self
    }

    const fn new(class: OperationClass, rule: &'static str) -> Self {
        Self { class, rule, narrowing: None }
    }
}

impl Classification {
    /// The class as far as it is known without the body: a write where that decides.
    pub const fn without_body(self) -> Classified {
        match self {
            Self::Known(classified) => classified,
            Self::NeedsBody(rule) => rule.unread(),
        }
    }
}

impl From<Classified> for Classification {
    fn from(classified: Classified) -> Self {
        Self::Known(classified)
    }
}

fn by_method(facts: &Facts<'_>) -> Classified {
    if facts.upgrade {
        return Classified::write("upgrade");
    }
    match *facts.method {
        Method::GET | Method::HEAD | Method::OPTIONS => Classified::read("method"),
        _ => Classified::write("method"),
    }
}

static METHOD_OVERRIDES: [(HeaderName, &str); 3] =
    [overriding("x-http-method-override"), overriding("x-method-override"), overriding("x-http-method")];

/// A name made once: looking it up as text would parse it for every request.
const fn overriding(name: &'static str) -> (HeaderName, &'static str) {
    (HeaderName::from_static(name), name)
}
