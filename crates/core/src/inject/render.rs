//! Rendering a secret in the shape of its rule.
#![deny(clippy::wildcard_enum_match_arm, clippy::indexing_slicing)]

use bytes::Bytes;
use http::header::{AUTHORIZATION, COOKIE, Entry, SEC_WEBSOCKET_PROTOCOL};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use zeroize::Zeroizing;

use super::auth::{self, Auth, Form};
use super::look::{GOOGLE_QUERY, cookies, decode, pairs};
use crate::path::{CanonicalPath, TokenSegment};
use crate::rule::Shape;
use crate::secret::Secret;

/// Why a secret cannot be rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// A byte that no header may carry.
    NotAHeaderValue,
    /// Basic credentials need a user, and nobody named one.
    NoUser,
    /// The request target became invalid.
    BadTarget,
    /// The body can be read in several ways.
    Ambiguous,
}

/// Puts `secret` on the surface in place of whatever is there. `false` if this secret is not for this request.
pub(super) fn add(parts: &mut Parts, shape: &Shape, secret: &Secret) -> Result<bool, Fault> {
    let value = match shape {
        Shape::Bearer | Shape::Openai => header(&["Bearer ", secret.expose()])?,
        Shape::PagerdutyToken => header(&["Token token=", secret.expose()])?,
        Shape::Basic { user } => basic(user, secret.expose())?,
        Shape::RegistryBasic { user } => match registry("", user.as_deref(), secret) {
            Ok(value) => value,
            Err(Fault::NoUser) => return Ok(false),
            Err(fault @ (Fault::NotAHeaderValue | Fault::BadTarget | Fault::Ambiguous)) => {
                return Err(fault);
            }
        },
        Shape::Anthropic => return add_anthropic(parts, secret),
        Shape::GoogleKey => {
            parts.headers.insert(X_GOOG_API_KEY, header(&[secret.expose()])?);
            return Ok(true);
        }
        Shape::Header { name, prefix, suffix } => {
            parts.headers.insert(name, header(&[prefix, secret.expose(), suffix])?);
            return Ok(true);
        }
        Shape::Query { key } => return add_query(parts, key, secret).map(|()| true),
        Shape::Cookie { name } => return add_cookie(&mut parts.headers, name, secret).map(|()| true),
        Shape::Path(_) | Shape::Body { .. } => return Ok(false),
    };
    parts.headers.insert(AUTHORIZATION, value);
    Ok(true)
}

/// Puts `secret` where `placeholders` stand on the surface.
pub(super) fn swap(parts: &mut Parts, shape: &Shape, placeholders: &[String], secret: &Secret) -> Result<(), Fault> {
    let swap = Swap { placeholders, secret };
    match shape {
        Shape::Bearer | Shape::PagerdutyToken | Shape::Basic { .. } | Shape::RegistryBasic { .. } => {
            swap.authorization(&mut parts.headers, shape)
        }
        Shape::Openai => {
            swap.field(&mut parts.headers, &SEC_WEBSOCKET_PROTOCOL)?;
            swap.authorization(&mut parts.headers, shape)
        }
        Shape::Anthropic => anthropic(&mut parts.headers, secret),
        Shape::GoogleKey => swap.google(parts, shape),
        Shape::Header { name, .. } if *name == AUTHORIZATION => swap.authorization(&mut parts.headers, shape),
        Shape::Header { name, .. } => swap.field(&mut parts.headers, name),
        Shape::Query { key } => swap.query(parts, key),
        Shape::Cookie { name } => swap.cookie(&mut parts.headers, name),
        Shape::Path(token) => swap.path(parts, token),
        // The body is another's business.
        Shape::Body { .. } => Ok(()),
    }
}

/// Anthropic's field for API keys.
pub(super) const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Google's field for API keys.
pub(super) const X_GOOG_API_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");

struct Swap<'a> {
    placeholders: &'a [String],
    secret: &'a Secret,
}

impl Swap<'_> {
    fn authorization(&self, headers: &mut HeaderMap, shape: &Shape) -> Result<(), Fault> {
        let Some(value) = headers.get(AUTHORIZATION) else { return Ok(()) };
        let ours = |text: &str| self.placeholders.iter().any(|placeholder| placeholder == text);
        let Some(auth) = Auth::parse(value.as_bytes(), ours) else { return Ok(()) };
        let value = match shape {
            Shape::Basic { user } => self.as_basic(&auth, user)?,
            Shape::RegistryBasic { user } => self.as_registry_basic(&auth, user.as_deref())?,
            Shape::PagerdutyToken if auth.scheme.eq_ignore_ascii_case("bearer") && !is_rest_key(self.secret) => {
                header(&["Bearer ", self.secret.expose()])?
            }
            Shape::PagerdutyToken => header(&["Token token=", self.secret.expose()])?,
            Shape::Bearer
            | Shape::Openai
            | Shape::Anthropic
            | Shape::GoogleKey
            | Shape::Header { .. }
            | Shape::Query { .. }
            | Shape::Cookie { .. }
            | Shape::Path(_)
            | Shape::Body { .. } => self.as_written(&auth, shape)?,
        };
        headers.insert(AUTHORIZATION, value);
        Ok(())
    }

    /// In the client's own scheme and form.
    fn as_written(&self, auth: &Auth<'_>, shape: &Shape) -> Result<HeaderValue, Fault> {
        let secret = self.secret.expose();
        let scheme =
            if auth.scheme.is_empty() && !matches!(shape, Shape::Header { .. }) { "Bearer" } else { auth.scheme };
        let space = if scheme.is_empty() { "" } else { " " };
        match &auth.form {
            Form::Token => header(&[scheme, space, secret]),
            Form::Parameter => header(&[scheme, space, "token=", secret]),
            Form::Encoded => header(&[scheme, space, &auth::encode(secret.as_bytes())]),
            Form::User { password } => encoded(scheme, secret, password),
            Form::Password { user } => encoded(scheme, user, secret),
        }
    }

    fn as_basic(&self, auth: &Auth<'_>, default_user: &str) -> Result<HeaderValue, Fault> {
        let secret = self.secret.expose();
        match &auth.form {
            Form::Password { user } if !user.is_empty() => basic(user, secret),
            Form::User { password } => basic(secret, password),
            Form::Password { .. } | Form::Token | Form::Parameter | Form::Encoded => basic(default_user, secret),
        }
    }

    fn as_registry_basic(&self, auth: &Auth<'_>, user: Option<&str>) -> Result<HeaderValue, Fault> {
        match &auth.form {
            Form::Password { user: sent } => registry(sent, user, self.secret),
            Form::User { .. } | Form::Token | Form::Parameter | Form::Encoded => registry("", user, self.secret),
        }
    }

    fn field(&self, headers: &mut HeaderMap, name: &HeaderName) -> Result<(), Fault> {
        let Entry::Occupied(mut entry) = headers.entry(name) else { return Ok(()) };
        for value in entry.iter_mut() {
            let swapped = self.replace(value.as_bytes());
            if *swapped != value.as_bytes() {
                *value = sensitive(Bytes::copy_from_slice(&swapped))?;
            }
        }
        Ok(())
    }

    fn cookie(&self, headers: &mut HeaderMap, name: &str) -> Result<(), Fault> {
        let Entry::Occupied(mut entry) = headers.entry(COOKIE) else { return Ok(()) };
        for value in entry.iter_mut() {
            let Ok(text) = std::str::from_utf8(value.as_bytes()) else { continue };
            let ours = |pair: &str| cookies(pair).any(|(cookie, _)| cookie == name);
            let mut swapped = Zeroizing::new(Vec::with_capacity(text.len()));
            for (nth, pair) in text.split(';').enumerate() {
                swapped.extend_from_slice(if nth == 0 { b"" } else { b";" });
                let plain = Zeroizing::new(pair.as_bytes().to_vec());
                swapped.extend_from_slice(&if ours(pair) { self.replace(&plain) } else { plain });
            }
            *value = sensitive(Bytes::copy_from_slice(&swapped))?;
        }
        Ok(())
    }

    fn query(&self, parts: &mut Parts, key: &str) -> Result<(), Fault> {
        let swap = |pair: &str| match pair.split_once('=') {
            Some((name, value)) if decode(name) == key && self.stands_in(&decode(value)) => {
                let plain = self.replace(decode(value).as_bytes());
                format!("{name}={}", *escaped(&String::from_utf8_lossy(&plain)))
            }
            Some(_) | None => pair.to_owned(),
        };
        let query: Vec<_> = parts.uri.query().unwrap_or_default().split('&').map(swap).collect();
        set_query(parts, &Zeroizing::new(query.join("&")))
    }

    fn path(&self, parts: &mut Parts, token: &TokenSegment) -> Result<(), Fault> {
        let mut path = Zeroizing::new(parts.uri.path().to_owned());
        let Some(range) = token.range(&path) else { return Ok(()) };
        if path.get(range.clone()).is_some_and(|text| self.placeholders.iter().any(|placeholder| placeholder == text)) {
            let secret = Zeroizing::new(utf8_percent_encode(self.secret.expose(), ESCAPED_IN_PATH).to_string());
            path.replace_range(range, &secret);
            // A secret such as `..` would be no segment of its own.
            CanonicalPath::parse(&path).map_err(|_| Fault::BadTarget)?;
            let query = parts.uri.query().map(str::to_owned);
            set_target(parts, &path, query.as_deref().unwrap_or_default())?;
        }
        Ok(())
    }

    /// A key in a URL ends up in logs: it goes into the field, and the query loses it.
    fn google(&self, parts: &mut Parts, shape: &Shape) -> Result<(), Fault> {
        self.field(&mut parts.headers, &X_GOOG_API_KEY)?;
        self.authorization(&mut parts.headers, shape)?;
        let is_key = |pair: &str| {
            pairs(pair).any(|(name, value)| decode(name) == GOOGLE_QUERY && self.stands_in(&decode(value)))
        };
        let query = parts.uri.query().unwrap_or_default();
        if !query.split('&').any(is_key) {
            return Ok(());
        }
        let others: Vec<&str> = query.split('&').filter(|pair| !is_key(pair)).collect();
        let others = others.join("&");
        set_query(parts, &others)?;
        parts.headers.insert(X_GOOG_API_KEY, header(&[self.secret.expose()])?);
        Ok(())
    }

    fn stands_in(&self, text: &str) -> bool {
        self.placeholders.iter().any(|placeholder| text.contains(placeholder))
    }

    /// `text` with every placeholder replaced: bytes for bytes, nothing in the secret is special.
    fn replace(&self, text: &[u8]) -> Zeroizing<Vec<u8>> {
        let mut text = Zeroizing::new(text.to_vec());
        for placeholder in self.placeholders {
            text = replace_one(&text, placeholder.as_bytes(), self.secret.expose().as_bytes());
        }
        text
    }
}

fn replace_one(text: &[u8], from: &[u8], to: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut done = Zeroizing::new(Vec::with_capacity(text.len() + to.len()));
    let mut rest = text;
    while let Some(at) = memchr::memmem::find(rest, from) {
        let (before, found) = rest.split_at(at);
        done.extend_from_slice(before);
        done.extend_from_slice(to);
        rest = found.get(from.len()..).unwrap_or_default();
    }
    done.extend_from_slice(rest);
    done
}

/// An API key that nobody sent is only added where API keys are taken.
fn add_anthropic(parts: &mut Parts, secret: &Secret) -> Result<bool, Fault> {
    let path = parts.uri.path();
    if !is_oauth(secret) && path != "/v1" && !path.starts_with("/v1/") {
        return Ok(false);
    }
    anthropic(&mut parts.headers, secret).map(|()| true)
}

fn anthropic(headers: &mut HeaderMap, secret: &Secret) -> Result<(), Fault> {
    if is_oauth(secret) {
        headers.insert(AUTHORIZATION, header(&["Bearer ", secret.expose()])?);
        headers.remove(X_API_KEY);
        return require_beta(headers);
    }
    headers.insert(X_API_KEY, header(&[secret.expose()])?);
    headers.remove(AUTHORIZATION);
    Ok(())
}

fn is_oauth(secret: &Secret) -> bool {
    secret.expose().starts_with("sk-ant-oat")
}

/// Without this flag the API answers 401 "OAuth authentication is currently not supported".
fn require_beta(headers: &mut HeaderMap) -> Result<(), Fault> {
    let sent: Vec<&[u8]> = headers.get_all(BETA).iter().map(HeaderValue::as_bytes).filter(|v| !v.is_empty()).collect();
    let mut flags = sent.iter().flat_map(|value| value.split(|b| *b == b','));
    if flags.any(|flag| flag.trim_ascii() == OAUTH_BETA) {
        return Ok(());
    }
    let all: Vec<&[u8]> = sent.into_iter().chain([OAUTH_BETA]).collect();
    let value = HeaderValue::from_bytes(&all.join(&b',')).map_err(|_| Fault::NotAHeaderValue)?;
    headers.insert(BETA, value);
    Ok(())
}

/// PagerDuty's REST keys: 20 characters, user keys beginning with `u+`. Its OAuth tokens are longer.
fn is_rest_key(secret: &Secret) -> bool {
    secret.expose().len() == 20 || secret.expose().starts_with("u+")
}

/// Basic for a registry: the client's user, else the configured one, else the one the secret brings along.
fn registry(sent: &str, configured: Option<&str>, secret: &Secret) -> Result<HeaderValue, Fault> {
    let (own, token) = secret.expose().split_once(':').unwrap_or_else(|| ("", secret.expose()));
    let sent = Some(sent).filter(|user| *user != "clauderon");
    let user = [sent, configured, Some(own)].into_iter().flatten().find(|user| !user.is_empty());
    basic(user.ok_or(Fault::NoUser)?, token)
}

fn basic(user: &str, password: &str) -> Result<HeaderValue, Fault> {
    encoded("Basic", user, password)
}

fn encoded(scheme: &str, user: &str, password: &str) -> Result<HeaderValue, Fault> {
    let plain = Zeroizing::new([user, ":", password].concat());
    header(&[scheme, " ", &auth::encode(plain.as_bytes())])
}

fn header(pieces: &[&str]) -> Result<HeaderValue, Fault> {
    sensitive(pieces.concat())
}

/// Marked so that it is neither shown by `Debug` nor indexed by HPACK.
fn sensitive(bytes: impl Into<Bytes>) -> Result<HeaderValue, Fault> {
    let mut value = HeaderValue::from_maybe_shared(bytes.into()).map_err(|_| Fault::NotAHeaderValue)?;
    value.set_sensitive(true);
    Ok(value)
}

fn add_query(parts: &mut Parts, key: &str, secret: &Secret) -> Result<(), Fault> {
    let own = Zeroizing::new([escaped(key).as_str(), "=", &escaped(secret.expose())].concat());
    let query = parts.uri.query().unwrap_or_default();
    let others = query.split('&').filter(|pair| !pair.is_empty() && pairs(pair).all(|(name, _)| decode(name) != key));
    let all: Vec<&str> = others.chain([own.as_str()]).collect();
    set_query(parts, &Zeroizing::new(all.join("&")))
}

fn set_query(parts: &mut Parts, query: &str) -> Result<(), Fault> {
    let path = parts.uri.path().to_owned();
    set_target(parts, &path, query)
}

fn set_target(parts: &mut Parts, path: &str, query: &str) -> Result<(), Fault> {
    let mark = if query.is_empty() { "" } else { "?" };
    let target = format!("{path}{mark}{query}");
    let mut uri = std::mem::take(&mut parts.uri).into_parts();
    uri.path_and_query = Some(PathAndQuery::try_from(target).map_err(|_| Fault::BadTarget)?);
    parts.uri = http::Uri::from_parts(uri).map_err(|_| Fault::BadTarget)?;
    Ok(())
}

fn add_cookie(headers: &mut HeaderMap, name: &str, secret: &Secret) -> Result<(), Fault> {
    let sent: Vec<String> =
        headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok().map(str::to_owned)).collect();
    let own = Zeroizing::new(format!("{name}={}", secret.expose()));
    let others = sent.iter().flat_map(|value| value.split(';')).map(str::trim);
    let others = others.filter(|pair| !pair.is_empty() && cookies(pair).all(|(cookie, _)| cookie != name));
    let all: Vec<&str> = others.chain([own.as_str()]).collect();
    headers.insert(COOKIE, header(&[&all.join("; ")])?);
    Ok(())
}

pub(super) fn escaped(text: &str) -> Zeroizing<String> {
    Zeroizing::new(utf8_percent_encode(text, ESCAPED).to_string())
}

/// Everything but what a segment may hold as it is (RFC 3986 § 3.3).
const ESCAPED_IN_PATH: &AsciiSet = &ESCAPED
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');
const BETA: HeaderName = HeaderName::from_static("anthropic-beta");
const OAUTH_BETA: &[u8] = b"oauth-2025-04-20";
/// Everything but the unreserved characters (RFC 3986 § 2.3).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
