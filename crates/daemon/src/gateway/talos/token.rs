//! What `TALOS_TOKEN` may hold: Talos has no token of its own, so what it is, is told by what is in it.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clauderon_proxy::gateway::talos::sidero::Signer;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::config::Talosconfig;
use crate::gateway::files::Hidden;

/// A credential for Talos.
pub(super) enum Token {
    /// A whole talosconfig, in place of the user's file.
    Config(Talosconfig),
    /// A service account, which signs the calls of contexts that ask for signatures.
    Account(Arc<Signer>),
}

/// A service account's key as Omni hands it out.
#[derive(Deserialize)]
struct Account {
    name: String,
    pgp_key: Hidden,
}

impl Token {
    /// Tells them apart; an error says what would be right, and never repeats the text.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let mut text = Zeroizing::new(text.to_owned());
        // What came in several lines was kept in base64; underneath may be base64 of the user's own.
        for _ in 0..2 {
            let Some(inner) = unwrapped(&text) else { break };
            text = inner;
        }
        Self::read_plain(&text)
    }

    fn read_plain(text: &str) -> Result<Self, String> {
        if is_account(text) {
            return account(text).map(Self::Account);
        }
        if !text.contains("contexts") {
            return Err(NEITHER.to_owned());
        }
        let config = Talosconfig::parse(text).map_err(|why| format!("the talosconfig in it {why}"))?;
        if config.contexts().next().is_none() {
            return Err(NEITHER.to_owned());
        }
        Ok(Self::Config(config))
    }
}

/// The service account in a text that is base64 of JSON.
pub(super) fn account_of(base64: &str) -> Result<Arc<Signer>, String> {
    match Token::read(base64)? {
        Token::Account(signer) => Ok(signer),
        Token::Config(_) => Err("it holds a talosconfig where a service account's key is expected".to_owned()),
    }
}

fn account(json: &str) -> Result<Arc<Signer>, String> {
    let account: Account =
        serde_json::from_str(json).map_err(|_| "the service account in it has no `name` and `pgp_key`".to_owned())?;
    let signer = Signer::new(&account.name, account.pgp_key.expose());
    signer.map(Arc::new).map_err(|why| format!("the service account in it cannot sign: {why}"))
}

fn is_account(text: &str) -> bool {
    text.trim_start().starts_with('{') && text.contains("\"pgp_key\"")
}

/// The text behind base64, however its lines are cut.
fn unwrapped(text: &str) -> Option<Zeroizing<String>> {
    let plain: Zeroizing<String> = Zeroizing::new(text.chars().filter(|c| !c.is_ascii_whitespace()).collect());
    let bytes = STANDARD.decode(plain.as_bytes()).ok()?;
    String::from_utf8(bytes).ok().map(Zeroizing::new)
}

const NEITHER: &str = "it is none of what Talos knows: a talosconfig, base64 of one, or a service account's key \
                       (base64, as in OMNI_SERVICE_ACCOUNT_KEY); Talos has no plain tokens";

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use super::*;

    #[test]
    fn a_talosconfig_is_known_in_every_wrapping() {
        let text = "context: a\ncontexts:\n  a:\n    endpoints: [10.0.0.2]\n";
        let once = STANDARD.encode(text);
        let (first, second) = once.split_at(20);
        let twice = STANDARD.encode(format!("{first}\n{second}\n"));
        let json = r#"{"contexts":{"a":{"endpoints":["10.0.0.2"]}}}"#;
        for given in [text, &once, &twice, json] {
            assert!(
                matches!(Token::read(given), Ok(Token::Config(config)) if config.contexts().count() == 1),
                "{given}"
            );
        }
    }

    #[test]
    fn what_is_none_is_named_and_not_repeated() {
        let broken = STANDARD.encode("contexts: [hunter2");
        let account = STANDARD.encode(r#"{"name":"a","pgp_key":"hunter2"}"#);
        for (given, told) in [
            ("hunter2-and-more", "no plain tokens"),
            ("contexts: {}", "no plain tokens"),
            (broken.as_str(), "cannot be understood"),
            (account.as_str(), "no armored OpenPGP private key"),
        ] {
            let why = Token::read(given).err().unwrap();
            assert!(why.contains(told) && !why.contains("hunter2"), "{why}");
        }
    }
}
