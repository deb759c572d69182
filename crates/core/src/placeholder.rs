//! Placeholders: minted per session and credential, found by exact lookup.

use std::collections::HashMap;

use crate::credential::CredentialName;
use crate::session::SessionId;

/// Every placeholder in force, by its exact text.
#[derive(Debug, Default)]
pub struct PlaceholderTable {
    owners: HashMap<String, (SessionId, CredentialName)>,
}

impl PlaceholderTable {
    /// Adds a session's placeholder for a credential.
    pub fn insert(&mut self, placeholder: String, session: SessionId, credential: CredentialName) {
        self.owners.insert(placeholder, (session, credential));
    }

    /// Whose placeholder `text` is, if it is one.
    pub fn owner(&self, text: &str) -> Option<(&SessionId, &CredentialName)> {
        self.owners.get(text).map(|(session, credential)| (session, credential))
    }
}
