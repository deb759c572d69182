//! What would happen to a request: the same decision as the live path takes, without sending anything.

use clauderon_api::{ExplainRequest, Explanation};
use clauderon_core::access::OperationClass;
use clauderon_core::classify::classify;
use clauderon_core::denial::{Denial, DenialCode};
use clauderon_core::facts::Facts;
use clauderon_core::host::{Authority, Origin, Scheme};
use clauderon_core::inject;
use clauderon_core::policy::{Permit, decide, settle};
use clauderon_core::session::{Session, SessionName};
use clauderon_proxy::snapshot::{Known, SecretBook, Snapshot};
use http::request::Parts;
use http::{Method, Request, StatusCode, Uri};

use crate::book::Book;
use crate::control::Failure;

/// The decision about `asked` under `snapshot`. Without a body and headers, what depends on them is taken as a write.
pub(crate) fn explain(asked: &ExplainRequest, snapshot: &Snapshot, book: &Book) -> Result<Explanation, Failure> {
    let session = session(asked, snapshot)?;
    let Target { parts, origin, upgrade } = Target::read(asked)?;
    let facts = Facts::of(&parts, &origin, upgrade);
    let policy = &snapshot.settings.policy;
    let classified = settle(classify(&facts, &snapshot.rules), session, policy).without_body();
    let service = snapshot.rules.service_of(&origin).map(ToString::to_string);
    let blank = Explanation {
        allowed: false,
        reason: String::new(),
        rule: None,
        service,
        credential: None,
        source: None,
        auth_injected: false,
        class: class_name(classified.class).to_owned(),
        session: session.name.to_string(),
        access_mode: session.mode.to_string(),
        denial: None,
    };
    let permit = match decide(&facts, classified, session, &snapshot.rules, policy) {
        Ok(permit) => permit,
        Err(denial) => {
            let by_class = matches!(denial.code, DenialCode::ReadOnly | DenialCode::Minting);
            let rule = by_class.then(|| classified.rule.to_owned());
            return Ok(denied(Explanation { rule, ..blank }, &denial));
        }
    };
    let allowed = allowed(blank, &permit, session, book);
    // A placeholder in the URL is found here, as on the live path.
    Ok(match inject::plan(permit, &parts, session, &snapshot.placeholders) {
        Ok(_plan) => allowed,
        Err(denial) => denied(allowed, &denial),
    })
}

/// Where an asked request would go, and its head.
struct Target {
    parts: Parts,
    origin: Origin,
    upgrade: bool,
}

impl Target {
    fn read(asked: &ExplainRequest) -> Result<Self, Failure> {
        let method = Method::from_bytes(asked.method.to_ascii_uppercase().as_bytes());
        let method = method.map_err(|_| Failure::bad_request(format!("{:?} is no method", asked.method)))?;
        let no_url = || {
            Failure::bad_request(format!("{:?} is no URL", asked.url))
                .hint("write it whole: https://api.example.com/path")
        };
        let uri: Uri = asked.url.parse().map_err(|_| no_url())?;
        let (scheme, upgrade) = match uri.scheme_str().ok_or_else(no_url)? {
            "https" => (Scheme::Https, false),
            "http" => (Scheme::Http, false),
            "wss" => (Scheme::Https, true),
            "ws" => (Scheme::Http, true),
            _ => return Err(no_url()),
        };
        let authority = uri.authority().ok_or_else(no_url)?.as_str();
        let origin = Authority::parse(authority).map_err(|_| no_url())?.origin(scheme);
        let (parts, ()) = Request::builder().method(method).uri(uri).body(()).map_err(|_| no_url())?.into_parts();
        Ok(Self { parts, origin, upgrade })
    }
}

fn session<'a>(asked: &ExplainRequest, snapshot: &'a Snapshot) -> Result<&'a Session, Failure> {
    let name = asked.session.as_deref().unwrap_or(SessionName::DEFAULT);
    let found = SessionName::parse(name).ok().and_then(|name| snapshot.sessions.by_name(&name));
    found.map(AsRef::as_ref).ok_or_else(|| {
        let error = format!("there is no session named {name:?}");
        Failure::new(StatusCode::NOT_FOUND, "no_such_session", error).hint("see `clauderon list`")
    })
}

fn allowed(blank: Explanation, permit: &Permit, session: &Session, book: &Book) -> Explanation {
    let is_known = |credential: &_| !matches!(book.peek(credential), Known::Absent);
    let injected = permit.bare_injection(session, |rule| is_known(&rule.credential));
    let named = injected.or_else(|| permit.rule()).map(|rule| &rule.credential);
    Explanation {
        allowed: true,
        reason: permit.reason().map_or_else(|| format!("{} permits a {}", session.mode, blank.class), str::to_owned),
        rule: permit.label().map(|label| label.to_string()),
        credential: named.map(ToString::to_string),
        source: named.and_then(|credential| book.source_of(credential)),
        auth_injected: injected.is_some(),
        ..blank
    }
}

fn denied(asked: Explanation, denial: &Denial) -> Explanation {
    Explanation {
        allowed: false,
        reason: denial.code.as_str().to_owned(),
        auth_injected: false,
        denial: serde_json::from_str(&denial.body()).ok(),
        ..asked
    }
}

fn class_name(class: OperationClass) -> &'static str {
    match class {
        OperationClass::Read => "read",
        OperationClass::Excepted(exception) => exception.as_str(),
        OperationClass::Write => "write",
        OperationClass::Mint => "mint",
        OperationClass::Local(_) => "answered-here",
    }
}
