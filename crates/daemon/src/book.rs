//! The credentials in force: which source wins, what it says, and who was shadowed.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use clauderon_api::CredentialInfo;
use clauderon_core::config::Settings;
use clauderon_core::credential::CredentialName;
use clauderon_core::rule::RuleSet;
use clauderon_proxy::snapshot::{Known, Resolved, SecretBook};

use crate::sources::env::Environment;

/// Every credential, built in or user-defined, with its sources by priority: environment, 1Password, file.
pub struct Book {
    _env: Arc<Environment>,
}

impl Book {
    /// Reads all sources for `settings`; 1Password is not asked before a first use.
    pub fn open(env: Arc<Environment>, settings: &Settings) -> Self {
        let _ = settings;
        Self { _env: env }
    }

    /// Reads all sources for new settings, and forgets what 1Password answered.
    pub fn reload(&self, settings: &Settings) {
        let _ = settings;
    }

    /// Reads the secret files again; what 1Password answered is kept.
    pub fn refresh(&self) {}

    /// Forgets a resolved value, so that the next use asks its source again (an origin answered 401).
    pub fn forget(&self, name: &CredentialName) {
        let _ = name;
    }

    /// Every credential that could exist, in the order of the documentation.
    pub fn names(&self) -> Vec<CredentialName> {
        Vec::new()
    }

    /// The source that wins for a credential, for people.
    pub fn source_of(&self, name: &CredentialName) -> Option<String> {
        let _ = name;
        None
    }

    /// One row per credential for `config credentials`; never a value.
    pub fn rows(&self, rules: &RuleSet) -> Vec<CredentialInfo> {
        let _ = rules;
        Vec::new()
    }
}

impl SecretBook for Book {
    fn peek(&self, _name: &CredentialName) -> Known {
        Known::Absent
    }

    fn resolve<'a>(&'a self, _name: &'a CredentialName) -> Pin<Box<dyn Future<Output = Resolved> + Send + 'a>> {
        Box::pin(async { Err("not configured".to_owned()) })
    }

    fn used(&self, _name: &CredentialName) {}
}
