//! Answers the proxy gives in the origin's place: what would use up, renew or end the user's own login never leaves.
#![deny(clippy::wildcard_enum_match_arm, clippy::indexing_slicing)]

use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderValue, Response};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::classify::login;
use crate::credential::CredentialKind;
use crate::denial::{Denial, DenialCode};
use crate::placeholder::{self, PlaceholderTable, TokenKind};
use crate::policy::Permit;
use crate::session::Session;

/// What is answered, and for which credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LocalAnswer {
    /// The credential whose placeholder the request must carry.
    pub credential: CredentialKind,
    /// What the client asks for.
    pub wish: Wish,
}

/// What a client asks for that only the user may have done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wish {
    /// New tokens for a login (RFC 6749 § 6); it gets the placeholders it has, for years.
    Refresh,
    /// The end of a login's token (RFC 7009 § 2); it is told so, and nothing ends.
    Revoke,
    /// The end of the registry token that the path names; likewise.
    Logout,
}

/// The answer to a permitted request with this `body`. A token in it that is not this session's own placeholder is a denial.
pub fn answer(
    wish: LocalAnswer,
    request: (&Permit, &Parts, &[u8]),
    session: &Session,
    table: &PlaceholderTable,
) -> Result<Response<String>, Denial> {
    let (permit, parts, body) = request;
    let stray = || stray(wish.credential, permit, session);
    let sent = match wish.wish {
        Wish::Refresh => login::field(parts, body, "refresh_token"),
        Wish::Revoke => login::field(parts, body, "token"),
        Wish::Logout => last_segment(parts),
    };
    let sent = sent.ok_or_else(stray)?;
    let (owner, credential) = table.owner(&sent).ok_or_else(stray)?;
    let own = *owner == session.id && *credential == wish.credential.credential() && session.may_use(credential);
    if !own || carries_anothers(parts, session, table) {
        return Err(stray());
    }
    Ok(in_json(match wish.wish {
        Wish::Refresh => tokens(wish.credential, session, login::field(parts, body, "scope").as_deref()),
        Wish::Revoke => "{}".to_owned(),
        Wish::Logout => json!({ "ok": true }).to_string(),
    }))
}

/// The members that Claude Code and Codex read of a refresh. An identity token is left out: the client keeps the one it has.
fn tokens(credential: CredentialKind, session: &Session, scope: Option<&str>) -> String {
    let access = placeholder::mint(&session.id, &credential.credential(), &TokenKind::default());
    let refresh = placeholder::refresh(&session.id, credential);
    let members = [
        ("token_type", Some(json!("Bearer"))),
        ("access_token", Some(json!(access))),
        ("refresh_token", refresh.map(Value::from)),
        ("expires_in", Some(json!(TEN_YEARS))),
        ("scope", scope.map(Value::from)),
    ];
    let members = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(members.collect()).to_string()
}

fn in_json(body: String) -> Response<String> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn last_segment(parts: &Parts) -> Option<String> {
    let segment = parts.uri.path().rsplit('/').next()?;
    percent_decode_str(segment).decode_utf8().ok().map(String::from)
}

/// Nothing goes out, but another session's placeholder in this one's hands is an alarm wherever it is seen.
fn carries_anothers(parts: &Parts, session: &Session, table: &PlaceholderTable) -> bool {
    parts.headers.values().any(|value| table.sightings(value.as_bytes()).any(|seen| *seen.session != session.id))
}

fn stray(credential: CredentialKind, permit: &Permit, session: &Session) -> Denial {
    let (name, host) = (credential.names().name, permit.origin().authority());
    let message = format!("the token in this request to {host} is no placeholder of this session for `{name}`");
    Denial::new(DenialCode::PlaceholderMisdirected, message)
        .detail("credential", name)
        .detail("host", permit.origin().host.to_string())
        .detail("session", session.name.as_str())
        .hint(format!("`clauderon env {}` prints this session's own", session.name))
}

const TEN_YEARS: u32 = 10 * 365 * 86_400;

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing unwrap or index is the test's failure")]
mod tests {
    use http::Request;

    use super::*;
    use crate::access::{AccessMode, OperationClass};
    use crate::classify::Classified;
    use crate::config::PolicySettings;
    use crate::credential::CredentialName;
    use crate::facts::Facts;
    use crate::host::{Authority, Scheme};
    use crate::policy::decide;
    use crate::rule::RuleSet;
    use crate::session::{SessionId, SessionName};

    const OWN: &str = "7f3a9c21";
    const OTHER: &str = "0badc0de";

    fn session(only: Option<&str>) -> Session {
        Session {
            id: SessionId::parse(OWN).unwrap(),
            name: SessionName::parse("s").unwrap(),
            mode: AccessMode::ReadOnly,
            credentials: only.map(|name| vec![CredentialName::parse(name).unwrap()]),
            allow_hosts: None,
        }
    }

    fn ask(wish: LocalAnswer, request: Request<&str>, only: Option<&str>) -> Result<Value, DenialCode> {
        let session = session(only);
        let mut table = PlaceholderTable::default();
        for id in [OWN, OTHER] {
            for kind in CredentialKind::ALL {
                table.insert_all(&SessionId::parse(id).unwrap(), &kind.credential());
            }
        }
        let (parts, body) = request.into_parts();
        let origin = Authority::parse("platform.claude.com").unwrap().origin(Scheme::Https);
        let facts = Facts::of(&parts, &origin, false);
        let class = Classified::local(wish, "x");
        let permit = decide(&facts, class, &session, &RuleSet::default(), &PolicySettings::default()).unwrap();
        assert_eq!((permit.local(), permit.class()), (Some(wish), OperationClass::Local(wish)));
        let answered = answer(wish, (&permit, &parts, body.as_bytes()), &session, &table);
        answered.map(|answered| serde_json::from_str(answered.body()).unwrap()).map_err(|denial| denial.code)
    }

    const fn anthropic(wish: Wish) -> LocalAnswer {
        LocalAnswer { credential: CredentialKind::Anthropic, wish }
    }

    fn json_request(body: &str) -> Request<&str> {
        Request::post("/v1/oauth/token").header("content-type", "application/json").body(body).unwrap()
    }

    #[test]
    fn a_refresh_gives_the_placeholders_the_session_has() {
        let json = r#"{"grant_type":"refresh_token","refresh_token":"sk-ant-ort01-clauderon-placeholder-7f3a9c21-000000","scope":"a b"}"#;
        let form =
            "grant_type=refresh_token&refresh_token=sk-ant-ort01-clauderon-placeholder-7f3a9c21-000000&scope=a+b";
        let typed = |content_type: &str, body| {
            Request::post("/v1/oauth/token").header("content-type", content_type).body(body).unwrap()
        };
        for request in [json_request(json), typed("application/x-www-form-urlencoded", form)] {
            let tokens = ask(anthropic(Wish::Refresh), request, None).unwrap();
            assert_eq!(tokens["access_token"], "sk-ant-oat01-clauderon-placeholder-7f3a9c21-000000");
            assert_eq!(tokens["refresh_token"], "sk-ant-ort01-clauderon-placeholder-7f3a9c21-000000");
            assert_eq!((&tokens["scope"], &tokens["token_type"]), (&"a b".into(), &"Bearer".into()));
            assert!(tokens["expires_in"].as_u64().unwrap() > 300_000_000);
        }
    }

    #[test]
    fn only_the_sessions_own_placeholder_is_answered() {
        let refresh = |token: &str| format!(r#"{{"grant_type":"refresh_token","refresh_token":"{token}"}}"#);
        for token in [
            "sk-ant-ort01-clauderon-placeholder-0badc0de-000000",
            "sk-ant-ort01-clauderon-placeholder-99999999-000000",
            "sk-ant-ort01-real",
            "ghp_clauderon_placeholder_7f3a9c21000000",
        ] {
            let code = ask(anthropic(Wish::Refresh), json_request(&refresh(token)), None).unwrap_err();
            assert_eq!(code, DenialCode::PlaceholderMisdirected, "{token}");
        }
        let own = refresh("sk-ant-ort01-clauderon-placeholder-7f3a9c21-000000");
        assert!(ask(anthropic(Wish::Refresh), json_request(&own), Some("anthropic")).is_ok());
        assert!(ask(anthropic(Wish::Refresh), json_request(&own), Some("github")).is_err());
        let mut beside = json_request(&own);
        let others = HeaderValue::from_static("Bearer ghp_clauderon_placeholder_0badc0de000000");
        beside.headers_mut().insert("authorization", others);
        assert!(ask(anthropic(Wish::Refresh), beside, None).is_err());
    }

    #[test]
    fn revoking_and_logging_out_do_nothing_and_say_so() {
        let revoke = r#"{"token":"sk-ant-oat01-clauderon-placeholder-7f3a9c21-000000"}"#;
        assert_eq!(ask(anthropic(Wish::Revoke), json_request(revoke), None).unwrap(), json!({}));
        let npm = LocalAnswer { credential: CredentialKind::Npm, wish: Wish::Logout };
        let logout = |token: &str| Request::delete(format!("/-/user/token/{token}")).body("").unwrap();
        assert!(ask(npm, logout("npm_clauderon_placeholder_7f3a9c21000000"), None).is_ok());
        assert!(ask(npm, logout("npm%5Fclauderon_placeholder_7f3a9c21000000"), None).is_ok());
        assert!(ask(npm, logout("npm_clauderon_placeholder_0badc0de000000"), None).is_err());
    }
}
