//! Injection: the only place where a secret meets a request.

use http::request::Parts;

use crate::credential::CredentialName;
use crate::denial::Denial;
use crate::placeholder::PlaceholderTable;
use crate::policy::Permit;
use crate::secret::Secret;
use crate::session::Session;

/// What is to be done to a permitted request, before its secret is known.
#[derive(Debug)]
pub struct Plan {
    credential: Option<CredentialName>,
}

/// A request head that may go out. Only [`Plan`] makes one.
pub struct Injected {
    parts: Parts,
    credential: Option<CredentialName>,
}

/// Looks through a permitted request for placeholders and decides what its rule does.
pub fn plan(_permit: Permit, _parts: &Parts, _session: &Session, _table: &PlaceholderTable) -> Result<Plan, Denial> {
    Ok(Plan { credential: None })
}

impl Plan {
    /// The credential whose secret is needed; `None` if the request goes out as it is.
    pub fn credential(&self) -> Option<&CredentialName> {
        self.credential.as_ref()
    }

    /// Puts the secret in.
    pub fn apply(self, parts: Parts, _secret: &Secret) -> Result<Injected, Denial> {
        Ok(Injected { parts, credential: self.credential })
    }

    /// Goes on without a secret: none is needed, none is configured (`why` is `None`), or it cannot be had (`why` says so).
    pub fn without_secret(self, parts: Parts, _why: Option<&str>) -> Result<Injected, Denial> {
        Ok(Injected { parts, credential: None })
    }
}

impl Injected {
    /// The head as it goes upstream.
    pub fn into_parts(self) -> Parts {
        self.parts
    }

    /// Whether a real secret is in it.
    pub fn auth_injected(&self) -> bool {
        self.credential.is_some()
    }

    /// The credential whose secret is in it.
    pub fn credential(&self) -> Option<&CredentialName> {
        self.credential.as_ref()
    }
}
