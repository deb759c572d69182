//! The daemon's environment, read once at start.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use super::Reading;

/// A snapshot of environment variables. No `Debug`: the values are secrets.
#[derive(Clone, Default)]
pub struct Environment(HashMap<OsString, OsString>);

impl Environment {
    /// The environment of this process.
    pub fn of_process() -> Self {
        Self(std::env::vars_os().collect())
    }

    /// A variable that is set and not empty.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    /// Every variable whose name satisfies `keep`, for a child process.
    pub fn filter<'a>(&'a self, keep: impl Fn(&str) -> bool + 'a) -> impl Iterator<Item = (&'a OsStr, &'a OsStr)> {
        let named = move |name: &OsString| name.to_str().is_some_and(&keep);
        self.0.iter().filter(move |(name, _)| named(name)).map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }

    /// The user's home directory: `HOME`, else the account's.
    pub fn user_home(&self) -> Option<PathBuf> {
        self.get("HOME").map(PathBuf::from).or_else(std::env::home_dir).filter(|path| path.is_absolute())
    }

    /// What the variable `name` holds for a credential; `None` when unset, empty or blank.
    pub fn read(&self, name: &str) -> Option<Reading> {
        self.read_as(name, super::read)
    }

    /// The same, read by `how`.
    pub fn read_as(&self, name: &str, how: fn(&str) -> Option<Reading>) -> Option<Reading> {
        let value = self.get(name)?;
        value.to_str().map_or_else(|| Some(Reading::Broken("the value is not UTF-8".to_owned())), how)
    }
}

impl<K: Into<OsString>, V: Into<OsString>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}
