//! One renewal of a login: from the file to the token endpoint, and back into the file.

use std::io;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Instant;

use bytes::Bytes;
use clauderon_core::credential::CredentialKind;
use clauderon_core::secret::Secret;
use clauderon_proxy::errand::Errand;
use clauderon_proxy::snapshot::Resolved;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::{HeaderValue, Request, Response, StatusCode};
use serde_json::Value;
use time::OffsetDateTime;

use super::format::{self, Login, Tokens};
use super::{Failure, Keeper, Shared, file, over};
use crate::home::write_private;

/// Gives an access token that is good: the file's, if somebody renewed it meanwhile, else a new one.
pub(super) async fn renew(shared: &Shared, keeper: Keeper) -> Resolved {
    let login = reread(shared, keeper)?;
    let barred = shared.held().get(&keeper).is_some_and(|held| held.is_good() || held.is_barred());
    if let (false, Some(spent)) = (barred, &login.refresh) {
        let tokens = ask(shared, keeper, &login, spent).await;
        if let Err(failure) = tokens.and_then(|tokens| keep(shared, keeper, &login, spent, &tokens)) {
            // The user's own program may have spent the same token a moment earlier, and written what it got for it.
            let is_still_there = reread(shared, keeper)?.is_same(&login);
            tracing::warn!("the login of {keeper:?} is not renewed: {}", failure.message);
            if let Some(held) = shared.held().get_mut(&keeper).filter(|_| is_still_there) {
                held.failure = Some(failure);
                // It is all there is: as long as it has not ended, the origin may say itself what it thinks of it.
                held.refused = None;
            }
        }
    }
    shared.held().get(&keeper).map_or_else(|| Err(over(keeper)), |held| held.usable(keeper))
}

/// The login as the file has it now, which is in force from here on.
fn reread(shared: &Shared, keeper: Keeper) -> Result<Arc<Login>, String> {
    let file = shared.held().get(&keeper).map(|held| held.file.clone()).ok_or_else(|| over(keeper))?;
    shared.read(&file).unwrap_or_else(|| Err(over(keeper)))?;
    shared.held().get(&keeper).map(|held| Arc::clone(&held.login)).ok_or_else(|| over(keeper))
}

async fn ask(shared: &Shared, keeper: Keeper, login: &Login, spent: &Secret) -> Result<Tokens, Failure> {
    let proxy = shared.way.get().and_then(Weak::upgrade).ok_or_else(|| Failure::passing("the daemon is not up yet"))?;
    let url =
        shared.held().get(&keeper).map(|held| held.file.url.clone()).ok_or_else(|| Failure::passing(over(keeper)))?;
    let mut request = Request::new(Bytes::from(format::request(keeper, login, spent)));
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = url.path.parse().map_err(|_| Failure::passing("the token URL is none"))?;
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("clauderon/", env!("CARGO_PKG_VERSION"))));
    let credential = credential(keeper).credential();
    let host = url.origin.host.to_string();
    let errand = Errand { credential, reason: "login-renewal", origin: url.origin, request };
    let answered = proxy.run(errand).await.map_err(|denial| Failure::passing(denial.message))?;
    understand(keeper, &host, &answered)
}

fn understand(keeper: Keeper, host: &str, answered: &Response<Bytes>) -> Result<Tokens, Failure> {
    let status = answered.status();
    if status == StatusCode::OK {
        return Tokens::parse(answered.body())
            .map_err(|why| Failure::passing(format!("{host} gave no new tokens: {why}")));
    }
    let code = error_code(answered.body());
    let said = code.as_deref().map_or_else(String::new, |code| format!(" ({code})"));
    let is_final = status.is_client_error() && code.as_deref().is_some_and(|code| FINAL.contains(&code));
    let message = format!("{host} answered {}{said} instead of new tokens", status.as_u16());
    let message = if is_final { format!("{message}: run `{}`", keeper.command()) } else { message };
    Err(Failure { message, since: Instant::now(), is_final })
}

/// Writes new tokens into the file, then puts them in force. A login that changed meanwhile wins over them.
fn keep(shared: &Shared, keeper: Keeper, spent: &Arc<Login>, refresh: &Secret, tokens: &Tokens) -> Result<(), Failure> {
    let path =
        shared.held().get(&keeper).map(|held| held.file.path.clone()).ok_or_else(|| Failure::passing(over(keeper)))?;
    // A link stays one: the file it leads to is replaced.
    let path = path.canonicalize().unwrap_or(path);
    let text = file::text(&path).and_then(Result::ok);
    let updated = text.and_then(|text| tokens.brought_into(keeper, &text, refresh, OffsetDateTime::now_utc()));
    let Some(updated) = updated else { return Err(Failure::passing("the login's file changed meanwhile")) };
    let login = Login::parse(keeper, &updated).and_then(Result::ok);
    let login = Arc::new(login.ok_or_else(|| Failure::passing("the new tokens make no login"))?);
    let written = write_private(&path, updated.as_bytes(), 0o600);
    let mut all = shared.held();
    let Some(held) = all.get_mut(&keeper) else { return Ok(()) };
    held.login = login;
    held.refused = None;
    held.renewed = Some(Instant::now());
    held.superseded = written.is_err().then(|| Arc::clone(spent));
    let ended = || held.is_over().then(|| Failure::passing("the new access token has ended already"));
    held.failure = written.err().map(|error| unwritten(&path, &error)).or_else(ended);
    Ok(())
}

/// The old refresh token is spent, and the new one is only in memory.
fn unwritten(path: &Path, error: &io::Error) -> Failure {
    let message = format!("{} cannot be written ({error}): the new login ends with this daemon", path.display());
    tracing::error!("{message}");
    Failure { message, since: Instant::now(), is_final: false }
}

/// An error's code (RFC 6749 § 5.2), if it is one word; never a text that could hold more.
fn error_code(body: &[u8]) -> Option<String> {
    let root: Value = serde_json::from_slice(body).ok()?;
    let error = root.get("error")?;
    let code = error.as_str().or_else(|| error.get("code")?.as_str()).or_else(|| error.get("type")?.as_str())?;
    let is_word = code.len() <= 40 && code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    is_word.then(|| code.to_owned())
}

const fn credential(keeper: Keeper) -> CredentialKind {
    match keeper {
        Keeper::Claude => CredentialKind::Anthropic,
        Keeper::Codex => CredentialKind::Chatgpt,
    }
}

/// Codes after which the same refresh token will never do.
const FINAL: [&str; 5] = [
    "invalid_grant",
    "refresh_token_expired",
    "refresh_token_reused",
    "refresh_token_invalidated",
    "invalid_refresh_token",
];
