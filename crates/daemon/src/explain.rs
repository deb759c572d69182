//! What would happen to a request: the same decision as the live path takes, without sending anything.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use clauderon_api::{ExplainRequest, Explanation};
use clauderon_core::access::OperationClass;
use clauderon_core::classify::{BodyRule, Classification, Classified, classify};
use clauderon_core::denial::{Denial, DenialCode};
use clauderon_core::derived::{Derivation, DerivedTable};
use clauderon_core::facts::Facts;
use clauderon_core::host::{Authority, Origin, Scheme};
use clauderon_core::inject::{self, Change, InForce, Plan};
use clauderon_core::policy::{Permit, decide, settle};
use clauderon_core::rule::Rule;
use clauderon_core::session::{Session, SessionName};
use clauderon_proxy::snapshot::{Known, SecretBook, Snapshot};
use http::header::{HOST, UPGRADE};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri};

use crate::book::Book;
use crate::control::Failure;

/// The decision about `asked` under `snapshot`. Without a body, what depends on one is taken as a write.
pub(crate) fn explain(asked: &ExplainRequest, snapshot: &Snapshot, book: &Book) -> Result<Explanation, Failure> {
    let case = Case { session: session(asked, snapshot)?, snapshot, book };
    let Target { parts, origin, upgrade } = Target::read(asked)?;
    let facts = Facts::of(&parts, &origin, upgrade);
    let classified = case.class(&facts, asked.body.as_deref());
    let told = case.about(&facts, classified);
    let policy = &snapshot.settings.policy;
    Ok(match decide(&facts, classified, case.session, &snapshot.rules, policy) {
        Ok(permit) => case.permitted(told, permit, parts, asked.body.as_deref()),
        Err(denial) => {
            // Derived tokens come and go with requests; none is looked for here.
            let none = DerivedTable::new(0);
            let in_force = InForce { credentials: &snapshot.placeholders, derived: &none, now: Instant::now() };
            denied(told, &inject::or_alarm(denial, (&parts, &origin), &snapshot.rules, case.session, in_force))
        }
    })
}

/// Who asks, and what is in force.
struct Case<'a> {
    session: &'a Session,
    snapshot: &'a Snapshot,
    book: &'a Book,
}

impl Case<'_> {
    fn class(&self, facts: &Facts<'_>, body: Option<&str>) -> Classified {
        let settled = settle(classify(facts, &self.snapshot.rules), self.session, &self.snapshot.settings.policy);
        match (settled, body) {
            (Classification::NeedsBody(rule), Some(body)) if body.len() > BodyRule::MAX_BYTES => rule.too_long(),
            (Classification::NeedsBody(rule), Some(body)) => rule.classify(facts, body.as_bytes()),
            (known, _) => known.without_body(),
        }
    }

    /// What is known before the decision: the destination, and the rule of the credential that may go there.
    fn about(&self, facts: &Facts<'_>, classified: Classified) -> Explanation {
        let mut rules = self.snapshot.rules.matching(facts);
        let rule = rules.find(|rule| self.session.may_use(&rule.credential));
        let told = Explanation {
            allowed: false,
            reason: String::new(),
            origin: facts.origin.to_string(),
            rule: None,
            service: self.snapshot.rules.service_of(facts.origin).map(ToString::to_string),
            credential: None,
            source: None,
            surface: None,
            auth_injected: false,
            injection: String::new(),
            answer: None,
            class: class_name(classified.class).to_owned(),
            session: self.session.name.to_string(),
            access_mode: self.session.mode.to_string(),
            error: None,
            denial: None,
        };
        match rule {
            Some(rule) => self.by_rules(told, &[rule]),
            None => told,
        }
    }

    /// By one rule, or by several at once.
    fn by_rules(&self, told: Explanation, rules: &[&Arc<Rule>]) -> Explanation {
        let joined = |texts: Vec<String>, by: &str| Some(texts.join(by)).filter(|text| !text.is_empty());
        let listed = |text: &dyn Fn(&Rule) -> String, by| joined(rules.iter().map(|rule| text(rule)).collect(), by);
        let sources = rules.iter().filter_map(|rule| self.book.source_of(&rule.credential)).collect();
        Explanation {
            rule: listed(&|rule| rule.label().to_string(), ", "),
            service: rules.first().map(|rule| rule.service.to_string()),
            credential: listed(&|rule| rule.credential.to_string(), ","),
            source: joined(sources, ", "),
            surface: listed(&|rule| rule.shape.to_string(), "; "),
            ..told
        }
    }

    fn permitted(&self, told: Explanation, permit: Permit, parts: Parts, body: Option<&str>) -> Explanation {
        let body = body
            .filter(|_| inject::reads_body(&permit, &parts.headers))
            .map(|body| Bytes::copy_from_slice(body.as_bytes()));
        let body = body.as_ref();
        let reason = || format!("{} permits a {}", self.session.mode, told.class);
        let told = Explanation {
            allowed: true,
            reason: permit.reason().map_or_else(reason, str::to_owned),
            rule: permit.label().map(|label| label.to_string()),
            answer: permit.derivation().map(replaced),
            ..told
        };
        if let Err(denial) = clauderon_proxy::vet(permit.origin(), &self.snapshot.settings) {
            return denied(told, &denial);
        }
        if permit.local().is_some() {
            return Explanation { injection: "no: clauderon answers this itself, nothing goes out".to_owned(), ..told };
        }
        let idle = inject::idle_because(&permit, &parts, body, self.session);
        let by_rule = permit.reason().is_none();
        // Derived tokens come and go with requests; none is looked for here.
        let none = DerivedTable::new(0);
        let in_force = InForce { credentials: &self.snapshot.placeholders, derived: &none, now: Instant::now() };
        match inject::plan(permit, &parts, body, self.session, in_force) {
            Err(denial) => denied(told, &denial),
            Ok(plan) if plan.changes().is_empty() => {
                Explanation { injection: format!("no: {}", idle.unwrap_or("nothing asks for it")), ..told }
            }
            Ok(plan) => {
                let rules: Vec<&Arc<Rule>> = plan.changes().iter().map(Change::rule).collect();
                let label = told.rule.clone().filter(|_| !by_rule);
                let told = self.by_rules(told, &rules);
                let rule = label.or(told.rule);
                self.planned(Explanation { rule, ..told }, plan, parts, body)
            }
        }
    }

    /// What the plan makes of the secrets that are known now. Nothing is sent, and no source is asked.
    fn planned(&self, told: Explanation, plan: Plan, parts: Parts, body: Option<&Bytes>) -> Explanation {
        let swaps = plan.changes().iter().any(Change::swaps);
        let how = if swaps { "yes: in place of the placeholder" } else { "yes: added" };
        let mut secrets = Vec::with_capacity(plan.changes().len());
        for change in plan.changes() {
            let Some(name) = change.credential() else { return told };
            secrets.push(match (self.book.peek(name), self.book.fault(name)) {
                (Known::Ready(secret), _) => Some(secret),
                (Known::Absent, _) => None,
                (Known::Unresolved, Some(why)) => return denied(told, &change.unavailable(Some(&why))),
                (Known::Unresolved, None) => {
                    let injection = format!("{how}, once its source has been asked");
                    return Explanation { auth_injected: true, injection, ..told };
                }
            });
        }
        let missing = secrets.iter().any(Option::is_none);
        let idle = if missing { "no secret is configured" } else { "such a secret is not added here" };
        match plan.apply(parts, body, secrets.iter().map(Option::as_deref)).map(|injected| injected.auth_injected()) {
            Ok(true) => Explanation { auth_injected: true, injection: how.to_owned(), ..told },
            Ok(false) => Explanation { injection: format!("no: {idle}"), ..told },
            Err(denial) => denied(told, &denial),
        }
    }
}

/// Where an asked request would go, and its head.
pub(crate) struct Target {
    pub(crate) parts: Parts,
    pub(crate) origin: Origin,
    pub(crate) upgrade: bool,
}

impl Target {
    pub(crate) fn read(asked: &ExplainRequest) -> Result<Self, Failure> {
        let method = Method::from_bytes(asked.method.to_ascii_uppercase().as_bytes());
        let method = method.map_err(|_| Failure::bad_request(format!("{:?} is no method", asked.method)))?;
        let no_url = || {
            Failure::bad_request(format!("{:?} is no URL", asked.url))
                .hint("write it whole: https://api.example.com/path")
        };
        let uri: Uri = asked.url.parse().map_err(|_| no_url())?;
        let (scheme, socket) = match uri.scheme_str().ok_or_else(no_url)? {
            "https" => (Scheme::Https, false),
            "http" => (Scheme::Http, false),
            "wss" => (Scheme::Https, true),
            "ws" => (Scheme::Http, true),
            _ => return Err(no_url()),
        };
        let authority = uri.authority().ok_or_else(no_url)?.as_str();
        let origin = Authority::parse(authority).map_err(|_| no_url())?.origin(scheme);
        let (mut parts, ()) = Request::builder().method(method).uri(uri).body(()).map_err(|_| no_url())?.into_parts();
        add_headers(&mut parts, &asked.headers)?;
        let upgrade = socket || parts.headers.remove(UPGRADE).is_some();
        Ok(Self { parts, origin, upgrade })
    }
}

/// Errors name the field and never its value, which may be a secret.
fn add_headers(parts: &mut Parts, headers: &[(String, String)]) -> Result<(), Failure> {
    for (name, value) in headers {
        let field = name.parse::<HeaderName>().ok().zip(HeaderValue::from_str(value).ok());
        let bad = || Failure::bad_request(format!("{name:?} is no header, or its value none that may be sent"));
        let (name, value) = field.ok_or_else(bad)?;
        if name == HOST {
            return Err(Failure::bad_request("the host is in the URL already").hint("leave `Host` out"));
        }
        parts.headers.append(name, value);
    }
    Ok(())
}

pub(crate) fn session<'a>(asked: &ExplainRequest, snapshot: &'a Snapshot) -> Result<&'a Session, Failure> {
    let name = asked.session.as_deref().unwrap_or(SessionName::DEFAULT);
    let found = SessionName::parse(name).ok().and_then(|name| snapshot.sessions.by_name(&name));
    found.map(AsRef::as_ref).ok_or_else(|| {
        let error = format!("there is no session named {name:?}");
        Failure::new(StatusCode::NOT_FOUND, "no_such_session", error).hint("see `clauderon list`")
    })
}

/// A refusal: by what refused, if that is a rule, else with the rule that would have counted.
pub(crate) fn denied(told: Explanation, denial: &Denial) -> Explanation {
    let by_class = matches!(denial.code, DenialCode::ReadOnly | DenialCode::Minting);
    let refusing = denial.rule.filter(|_| by_class).map(str::to_owned);
    Explanation {
        allowed: false,
        reason: denial.code.as_str().to_owned(),
        rule: refusing.or(told.rule),
        auth_injected: false,
        injection: "no: the request is refused".to_owned(),
        error: Some(denial.message.clone()),
        denial: serde_json::from_str(&denial.body()).ok(),
        ..told
    }
}

/// What becomes of the tokens in an answer.
fn replaced(derivation: &Derivation) -> String {
    let members: Vec<&str> = derivation.tokens.iter().map(|token| token.member).collect();
    let whose = if derivation.always { "" } else { " if the credential goes out" };
    format!("placeholders in place of {}{whose}", members.join(", "))
}

pub(crate) fn class_name(class: OperationClass) -> &'static str {
    match class {
        OperationClass::Read => "read",
        OperationClass::Excepted(exception) => exception.as_str(),
        OperationClass::Write => "write",
        OperationClass::Mint => "mint",
        OperationClass::Local(_) => "answered-here",
    }
}
