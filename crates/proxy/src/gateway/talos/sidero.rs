//! SideroV1: a signature on every call, as Omni and other servers ask for it in place of a certificate.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue};
use serde_json::{Map, Value, json};

pub use super::openpgp::KeyError;
use super::openpgp::SigningKey;

/// Whoever signs.
pub struct Signer {
    identity: String,
    key: SigningKey,
}

/// A call that cannot be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the call cannot be signed: its metadata is no text")]
pub(crate) struct Unsignable;

impl Signer {
    /// Whoever is called `identity` and holds the private key in `armored` (OpenPGP, not encrypted, Ed25519).
    pub fn new(identity: &str, armored: &str) -> Result<Self, KeyError> {
        let is_word = !identity.is_empty() && identity.bytes().all(|byte| byte.is_ascii_graphic());
        let identity = is_word.then(|| identity.to_owned()).ok_or(KeyError::Identity)?;
        Ok(Self { identity, key: SigningKey::read(armored)? })
    }

    /// Signs a call of `path` at `now` (seconds since the Unix epoch).
    pub(crate) fn sign(&self, path: &str, headers: &mut HeaderMap, now: u64) -> Result<(), Unsignable> {
        headers.insert(TIMESTAMP, HeaderValue::from(now));
        let payload = payload(path, headers)?;
        let signature = STANDARD.encode(self.key.sign(payload.as_bytes(), now));
        let signature = format!("siderov1 {} {} {signature}", self.identity, self.key.fingerprint());
        headers.insert(PAYLOAD, HeaderValue::from_str(&payload).map_err(|_| Unsignable)?);
        let mut signature = HeaderValue::from_str(&signature).map_err(|_| Unsignable)?;
        signature.set_sensitive(true);
        headers.insert(SIGNATURE, signature);
        Ok(())
    }
}

/// What is signed. The receiver compares each list with the call's own, and a name that is not there with no list at all.
fn payload(path: &str, headers: &HeaderMap) -> Result<String, Unsignable> {
    let mut signed = Map::new();
    for name in SIGNED {
        let values: Result<Vec<Value>, Unsignable> =
            headers.get_all(name).iter().map(|value| value.to_str().map(Value::from).map_err(|_| Unsignable)).collect();
        let values = values?;
        if !values.is_empty() {
            signed.insert(name.to_owned(), values.into());
        }
    }
    Ok(json!({ "headers": signed, "method": path }).to_string())
}

const TIMESTAMP: &str = "x-sidero-timestamp";
const PAYLOAD: &str = "x-sidero-payload";
const SIGNATURE: &str = "x-sidero-signature";

/// The metadata that is signed. `fieldSelectors` is on the protocol's own list too, but no metadata has a name with capitals.
const SIGNED: [&str; 9] =
    [TIMESTAMP, "nodes", "selectors", "runtime", "context", "cluster", "namespace", "uid", "authorization"];
