//! What the user's configuration files have in common: texts that may be secret, and whether a file has changed.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clauderon_core::host::{Authority, Origin, Scheme};
use clauderon_core::secret::Secret;
use clauderon_proxy::tls::client::ClientIdentity;
use serde::Deserialize;
use std::sync::Arc;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::settings::read_small;

/// A text that may be a secret. No `Debug`.
#[derive(Deserialize, Default)]
#[serde(from = "String")]
pub(crate) struct Hidden(Zeroizing<String>);

impl Hidden {
    /// The text. Every use is a place to review.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Hidden {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    modified: (i64, i64),
    length: u64,
    inode: u64,
}

impl Stamp {
    /// The state of the file at `path`; `None` if there is none.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let of = |meta: Metadata| Self {
            modified: (meta.mtime(), meta.mtime_nsec()),
            length: meta.len(),
            inode: meta.ino(),
        };
        std::fs::metadata(path).ok().map(of)
    }
}

/// Files that something was made from, in the state that they had then.
pub(crate) type Files = Vec<(PathBuf, Option<Stamp>)>;

/// Whether all of them are as they were.
pub(super) fn unchanged(files: &Files) -> bool {
    files.iter().all(|(path, stamp)| Stamp::of(path) == *stamp)
}

/// Reads a file that something is made from.
pub(super) fn read(path: &Path, files: &mut Files) -> Result<Zeroizing<Vec<u8>>, String> {
    files.push((path.to_owned(), Stamp::of(path)));
    match read_small(path) {
        Ok(Some(text)) => Ok(Zeroizing::new(text.into_bytes())),
        Ok(None) => Err(format!("{} is missing", path.display())),
        Err(error) => Err(format!("{} cannot be read: {error}", path.display())),
    }
}

/// The bytes behind base64, however its lines are cut.
pub(super) fn decoded(data: &str, what: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    let plain: Zeroizing<String> = Zeroizing::new(data.chars().filter(|c| !c.is_ascii_whitespace()).collect());
    STANDARD.decode(plain.as_bytes()).map(Zeroizing::new).map_err(|_| format!("its {what} is no base64"))
}

/// A text as a secret.
pub(super) fn secret(text: &[u8], what: &str) -> Result<Arc<Secret>, String> {
    let text = std::str::from_utf8(text).map_err(|_| format!("{what} is no text"))?;
    let secret = Secret::parse(text).map_err(|bad| format!("{what}: {bad}"))?;
    secret.map(Arc::new).ok_or_else(|| format!("{what} is empty"))
}

/// Until when a certificate holds; one whose time is over would only fail in the handshake, and say nothing.
pub(super) fn in_force(certificate: &ClientIdentity) -> Result<Option<OffsetDateTime>, String> {
    let unreadable = || "the client certificate cannot be parsed".to_owned();
    let until = OffsetDateTime::from_unix_timestamp(certificate.expires_at().ok_or_else(unreadable)?);
    let until = until.map_err(|_| unreadable())?;
    match until > OffsetDateTime::now_utc() {
        true => Ok(Some(until)),
        false => Err(format!("the client certificate expired on {}", until.date())),
    }
}

/// Where in a file its parser stumbled, for people.
pub(super) fn place(at: Option<(u64, u64)>) -> String {
    at.map_or_else(String::new, |(line, column)| format!(" (line {line}, column {column})"))
}

/// Where an authority over TLS is.
pub(super) fn tls_origin(authority: &str) -> Option<Origin> {
    Authority::parse(authority).ok().map(|authority| authority.origin(Scheme::Https))
}
