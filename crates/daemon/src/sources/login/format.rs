//! The files in which Claude Code and Codex keep a login: what is in them, and how they are brought up to date.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clauderon_core::placeholder;
use clauderon_core::secret::Secret;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Keeper;

/// A login as its file holds it.
pub(super) struct Login {
    /// What goes out in the place of placeholders.
    pub(super) access: Arc<Secret>,
    /// Good for one more pair of tokens.
    pub(super) refresh: Option<Secret>,
    /// When the access token ends, in Unix seconds; `None` where nothing says.
    pub(super) expires: Option<i64>,
    /// What an agent may know of it: scopes, plan, account; no token.
    pub(super) profile: Map<String, Value>,
}

/// New tokens, as a token endpoint gives them (RFC 6749 § 5.1).
pub(super) struct Tokens {
    access: Secret,
    refresh: Option<Secret>,
    id: Option<Secret>,
    expires_in: Option<i64>,
    scope: Option<String>,
}

impl Login {
    /// Reads a file's text; `None` when it holds no login.
    pub(super) fn parse(keeper: Keeper, text: &str) -> Option<Result<Self, String>> {
        let Ok(root) = serde_json::from_str::<Value>(text) else { return Some(Err("it is no JSON".to_owned())) };
        let table = root.get(table(keeper))?;
        let access = table.get(names(keeper).access)?.as_str().filter(|token| !token.trim().is_empty())?;
        // A daemon that is started inside a session finds the session's own file.
        (!placeholder::looks_like_one(access)).then(|| Self::of(keeper, &root, table, access))
    }

    fn of(keeper: Keeper, root: &Value, table: &Value, access: &str) -> Result<Self, String> {
        let refresh = table.get(names(keeper).refresh).and_then(Value::as_str).unwrap_or_default();
        Ok(Self {
            expires: expires(keeper, root, table, access),
            access: Arc::new(secret(access)?.ok_or("its access token is empty")?),
            refresh: secret(refresh)?,
            profile: profile(keeper, table),
        })
    }
}

impl Login {
    /// Whether this is the login as it was read before.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.access.expose() == other.access.expose() && self.renews_like(other)
    }

    /// Whether both have the same refresh token.
    pub(super) fn renews_like(&self, other: &Self) -> bool {
        self.refresh.as_ref().map(Secret::expose) == other.refresh.as_ref().map(Secret::expose)
    }
}

impl Tokens {
    /// Reads a token endpoint's answer; nothing of it is repeated where it is none.
    pub(super) fn parse(body: &[u8]) -> Result<Self, &'static str> {
        let root: Value = serde_json::from_slice(body).map_err(|_| "its answer is no JSON")?;
        let text = |name: &str| root.get(name).and_then(Value::as_str).unwrap_or_default();
        let token = |name: &str| Secret::parse(text(name)).map_err(|_| "a token in its answer is none");
        let access = token("access_token")?.filter(|token| token.to_header("", "").is_ok());
        Ok(Self {
            access: access.ok_or("its answer holds no access token")?,
            refresh: token("refresh_token")?,
            id: token("id_token")?,
            expires_in: root
                .get("expires_in")
                .and_then(Value::as_i64)
                .filter(|seconds| (1..=MAX_LIFE).contains(seconds)),
            scope: Some(text("scope").to_owned()).filter(|scope| !scope.is_empty()),
        })
    }

    /// The file's text with these tokens in it and everything else as it is, if it still holds the login that `spent` renewed.
    pub(super) fn brought_into(
        &self,
        keeper: Keeper,
        text: &str,
        spent: &Secret,
        now: OffsetDateTime,
    ) -> Option<String> {
        let mut root: Value = serde_json::from_str(text).ok()?;
        let table = root.get_mut(table(keeper))?.as_object_mut()?;
        let names = names(keeper);
        if table.get(names.refresh).and_then(Value::as_str).map(str::trim) != Some(spent.expose()) {
            return None;
        }
        let mut set = |name: &str, value: Option<Value>| value.map(|value| table.insert(name.to_owned(), value));
        set(names.access, Some(json!(self.access.expose())));
        set(names.refresh, self.refresh.as_ref().map(|token| json!(token.expose())));
        match keeper {
            Keeper::Claude => {
                let life = self.expires_in.unwrap_or(UNSAID_LIFE);
                set("expiresAt", Some(json!((now.unix_timestamp() + life) * 1000)));
                set("scopes", self.scope.as_ref().map(|scope| scope.split_whitespace().collect()));
            }
            Keeper::Codex => {
                set("id_token", self.id.as_ref().map(|token| json!(token.expose())));
                root.as_object_mut()?.insert("last_refresh".to_owned(), json!(now.format(&Rfc3339).ok()?));
            }
        }
        serde_json::to_string_pretty(&root).ok()
    }
}

/// The body that asks for new tokens.
pub(super) fn request(keeper: Keeper, login: &Login, refresh: &Secret) -> Vec<u8> {
    let (refresh, client) = (refresh.expose(), names(keeper).client);
    let mut body = json!({ "grant_type": "refresh_token", "refresh_token": refresh, "client_id": client });
    let scopes = login.profile.get("scopes").and_then(Value::as_array).into_iter().flatten();
    let scopes: Vec<&str> = scopes.filter_map(Value::as_str).collect();
    if let (false, Some(body)) = (scopes.is_empty(), body.as_object_mut()) {
        body.insert("scope".to_owned(), scopes.join(" ").into());
    }
    body.to_string().into_bytes()
}

/// OpenAI's API key, which Codex keeps where a login would be when it was given one instead.
pub(super) fn api_key(text: &str) -> Option<String> {
    let root: Value = serde_json::from_str(text).ok()?;
    let logged_in = root.get(table(Keeper::Codex)).is_some_and(Value::is_object);
    let key = root.get("OPENAI_API_KEY")?.as_str().filter(|_| !logged_in)?;
    Some(key.to_owned()).filter(|key| !placeholder::looks_like_one(key))
}

struct Names {
    access: &'static str,
    refresh: &'static str,
    /// The public identity of the program that logged in.
    client: &'static str,
}

const fn names(keeper: Keeper) -> Names {
    match keeper {
        Keeper::Claude => {
            Names { access: "accessToken", refresh: "refreshToken", client: "9d1c250a-e61b-44d9-88ed-5944d1962f5e" }
        }
        Keeper::Codex => {
            Names { access: "access_token", refresh: "refresh_token", client: "app_EMoamEEZ73f0CkXaXp7hrann" }
        }
    }
}

const fn table(keeper: Keeper) -> &'static str {
    match keeper {
        Keeper::Claude => "claudeAiOauth",
        Keeper::Codex => "tokens",
    }
}

fn secret(text: &str) -> Result<Option<Secret>, String> {
    Secret::parse(text).map_err(|bad| bad.to_string())
}

fn expires(keeper: Keeper, root: &Value, table: &Value, access: &str) -> Option<i64> {
    match keeper {
        Keeper::Claude => table.get("expiresAt")?.as_i64().map(|ms| ms / 1000),
        Keeper::Codex => claims(access).and_then(|claims| claims.get("exp")?.as_i64()).or_else(|| {
            let last = OffsetDateTime::parse(root.get("last_refresh")?.as_str()?, &Rfc3339).ok()?;
            Some(last.unix_timestamp() + CODEX_LIFE)
        }),
    }
}

/// What the middle of a JSON Web Token says (RFC 7519 § 3); nobody here relies on its signature.
fn claims(token: &str) -> Option<Map<String, Value>> {
    let payload = token.split('.').nth(1)?.trim_end_matches('=');
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

/// Only members that are known to hold no token, and short.
fn profile(keeper: Keeper, table: &Value) -> Map<String, Value> {
    let pick = |from: &Map<String, Value>, names: &[&str]| -> Map<String, Value> {
        let found = names.iter().filter_map(|name| Some(((*name).to_owned(), from.get(*name)?.clone())));
        found.filter(|(_, value)| is_plain(value)).collect()
    };
    match keeper {
        Keeper::Claude => table.as_object().map(|own| pick(own, &["scopes", "subscriptionType", "rateLimitTier"])),
        Keeper::Codex => {
            let id = table.get("id_token").and_then(Value::as_str).and_then(claims);
            let mut known =
                id.and_then(|id| Some(pick(id.get(OPENAI_CLAIMS)?.as_object()?, &CODEX_CLAIMS))).unwrap_or_default();
            known.extend(
                table.get("account_id").filter(|id| is_plain(id)).map(|id| ("account_id".to_owned(), id.clone())),
            );
            Some(known)
        }
    }
    .unwrap_or_default()
}

fn is_plain(value: &Value) -> bool {
    match value {
        Value::String(text) => text.len() <= MAX_WORD,
        Value::Array(items) => {
            items.len() <= MAX_WORD && items.iter().all(|item| item.as_str().is_some_and(|text| text.len() <= MAX_WORD))
        }
        Value::Bool(_) | Value::Null => true,
        Value::Number(_) | Value::Object(_) => false,
    }
}

/// Under which Codex's identity token says whose it is.
pub const OPENAI_CLAIMS: &str = "https://api.openai.com/auth";
const CODEX_CLAIMS: [&str; 3] = ["chatgpt_account_id", "chatgpt_plan_type", "chatgpt_account_is_fedramp"];
/// Shorter than any token of these services, longer than any plan, scope or account.
const MAX_WORD: usize = 64;
/// How long Codex itself trusts an access token that does not say.
const CODEX_LIFE: i64 = 8 * 86_400;
/// What a token endpoint that says nothing may be trusted to mean.
const UNSAID_LIFE: i64 = 3600;
/// A century; more is no number of seconds.
const MAX_LIFE: i64 = 100 * 365 * 86_400;
