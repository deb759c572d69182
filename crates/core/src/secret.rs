//! A secret's value: it cannot be printed, compared, cloned or serialised.

use http::HeaderValue;
use zeroize::Zeroizing;

/// The value of a credential. No `Debug`, `Display`, `Clone` or `PartialEq`, and wiped when dropped.
pub struct Secret(Zeroizing<Box<str>>);

impl Secret {
    /// Takes a value as its source gave it: surrounding white space is cut; nothing left means absent (`None`).
    pub fn parse(raw: &str) -> Result<Option<Self>, BadSecret> {
        let text = raw.trim();
        match text {
            "" => Ok(None),
            _ if text.contains(['\r', '\n', '\0']) => Err(BadSecret::ControlCharacter),
            _ if text.len() > MAX_LEN => Err(BadSecret::TooLong),
            _ => Ok(Some(Self(Zeroizing::new(text.into())))),
        }
    }

    /// The value itself. Every use is a place to review.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// `prefix` + value + `suffix` as a header value marked sensitive, so that it is neither shown by `Debug` nor indexed by HPACK.
    pub fn to_header(&self, prefix: &str, suffix: &str) -> Result<HeaderValue, BadSecret> {
        let text = Zeroizing::new([prefix, self.expose(), suffix].concat());
        let mut value = HeaderValue::from_str(&text).map_err(|_| BadSecret::NotAHeaderValue)?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// Four hexadecimal digits of the value's SHA-256: enough to see that two sources differ, too little to guess from.
    pub fn fingerprint(&self) -> String {
        let hash = crate::digest::sha256(&[self.expose().as_bytes()]);
        crate::digest::hex(&hash).chars().take(4).collect()
    }
}

/// Why a value cannot be a secret. Names the fault, never the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSecret {
    /// CR, LF or NUL inside the value.
    #[error("the value contains a line break or NUL")]
    ControlCharacter,
    /// A byte that no header may carry.
    #[error("the value contains bytes that no HTTP header may carry")]
    NotAHeaderValue,
    /// Longer than any real token.
    #[error("the value is longer than 16 KiB")]
    TooLong,
}

/// Longer than the longest known tokens (GitHub's are ~520 bytes, JWTs a few KiB), short enough for any head limit.
const MAX_LEN: usize = 16 * 1024;
