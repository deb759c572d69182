//! What failures of `op` mean, and what to do about them.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use clauderon_core::secret::BadSecret;

/// Why `op` gave no value, and what to do about it. Never holds what it printed to stdout.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// There is no such program.
    #[error("the 1Password CLI was not found at `{}`: install it, or set onepassword.op_path", .0.display())]
    Missing(PathBuf),
    /// The person said no, or let the dialog expire.
    #[error(
        "the 1Password prompt was dismissed: approve it next time; it is not raised again for a minute, unless by `clauderon unlock`"
    )]
    Dismissed,
    /// No answer in time.
    #[error("1Password did not answer within {}s: unlock the app and approve the prompt", .0.as_secs_f32())]
    TimedOut(Duration),
    /// No session.
    #[error(
        "1Password is signed out: run `op signin`, or turn on the app's CLI integration, or set OP_SERVICE_ACCOUNT_TOKEN"
    )]
    SignedOut,
    /// No account.
    #[error("1Password has no account on this machine: run `op account add`, or set OP_SERVICE_ACCOUNT_TOKEN")]
    NoAccount,
    /// More than one account, or none by the name that was given.
    #[error("1Password cannot tell which account is meant: set onepassword.account (`op account list` shows them)")]
    WhichAccount,
    /// The desktop app does not answer.
    #[error("the 1Password app cannot be reached: start and unlock it, and check its setting for CLI integration")]
    AppUnreachable,
    /// The service does not answer.
    #[error("1Password's service did not answer: check the network, then try again")]
    Network,
    /// No item or field.
    #[error("1Password has no such item or field: check the reference (`op item list` shows the items)")]
    NoItem,
    /// No vault.
    #[error("1Password has no such vault for this account: check the reference (`op vault list` shows the vaults)")]
    NoVault,
    /// Several items of that name.
    #[error("more than one 1Password item has that name: refer to it by its id (`op item list` shows the ids)")]
    Ambiguous,
    /// Refused by `op` itself.
    #[error(
        "1Password calls the reference invalid: use the ids of vault and item where a name holds special characters"
    )]
    BadReference,
    /// The service account's token is wrong or was revoked.
    #[error(
        "1Password refused the token: check OP_SERVICE_ACCOUNT_TOKEN or OP_CONNECT_TOKEN, and that it may read the vault"
    )]
    Unauthorized,
    /// Too many requests.
    #[error("1Password's rate limit is reached: wait, and refer to vaults and items by id, which costs fewer requests")]
    RateLimited,
    /// A blank value.
    #[error("the 1Password field is empty")]
    Empty,
    /// More than any secret.
    #[error("the 1Password field is longer than 64 KiB")]
    TooLong,
    /// Not text.
    #[error("the 1Password field is not UTF-8")]
    NotText,
    /// A field that refers to another.
    #[error("the 1Password field holds another reference: refer to the field with the secret itself")]
    Chained,
    /// No header could carry it.
    #[error("the 1Password field cannot be used: {0}")]
    Unusable(#[from] BadSecret),
    /// Anything else.
    #[error("op failed: {0}")]
    Other(String),
}

impl Failure {
    /// Whether every other reference would meet the same, because it has to do with the tool, the account or the person.
    pub fn speaks_for_all(&self) -> bool {
        match self {
            Self::Missing(_) | Self::Dismissed | Self::TimedOut(_) | Self::RateLimited => true,
            Self::SignedOut | Self::NoAccount | Self::WhichAccount | Self::Unauthorized => true,
            Self::AppUnreachable | Self::Network => true,
            Self::NoItem | Self::NoVault | Self::Ambiguous | Self::BadReference | Self::Other(_) => false,
            Self::Empty | Self::TooLong | Self::NotText | Self::Unusable(_) | Self::Chained => false,
        }
    }
}

/// What a failed run that printed `stderr` (references masked) came to.
pub(super) fn classify(stderr: &str, status: ExitStatus) -> Failure {
    let found = MEANINGS.iter().find(|(words, _)| words.iter().any(|word| contains(stderr, word)));
    if let Some((_, failure)) = found {
        return failure.clone();
    }
    let lines = || stderr.lines().map(str::trim).filter(|line| !line.is_empty());
    // Warnings may come first.
    let line = lines().find(|line| line.starts_with("[ERROR]")).or_else(|| lines().next());
    match line.map(without_prefix) {
        None | Some("") => Failure::Other(format!("it ended with {status} and said nothing")),
        Some(text) => Failure::Other(text.chars().filter(|c| !c.is_control()).take(MAX_TOLD).collect()),
    }
}

fn contains(text: &str, word: &str) -> bool {
    text.as_bytes().windows(word.len()).any(|window| window.eq_ignore_ascii_case(word.as_bytes()))
}

/// The text after `[ERROR] <date> <time> `.
fn without_prefix(line: &str) -> &str {
    line.strip_prefix("[ERROR] ").and_then(|rest| rest.splitn(3, ' ').nth(2)).unwrap_or(line)
}

/// What `op` is known to say, in any case. What quotes a name stands first: the name may hold the words of another.
const MEANINGS: &[(&[&str], Failure)] = &[
    (&["authorization prompt dismissed", "authorization timeout", "authorization denied"], Failure::Dismissed),
    (&["isn't a vault in this account"], Failure::NoVault),
    (&["more than one item matches"], Failure::Ambiguous),
    (&["isn't an item", "doesn't have a field", "isn't a field", "could not find item"], Failure::NoItem),
    (&["invalid secret reference", "invalid character in secret reference"], Failure::BadReference),
    (&["(429)", "too many requests", "rate limit exceeded"], Failure::RateLimited),
    (&["no accounts configured"], Failure::NoAccount),
    (
        &["multiple accounts found", "found no accounts for filter", "found no account for filter"],
        Failure::WhichAccount,
    ),
    (&["not currently signed in", "account is not signed in", "session expired"], Failure::SignedOut),
    (&["connecting to desktop app", "RequestDelegatedSession", "cannot setup session"], Failure::AppUnreachable),
    (&["(401)", "unauthorized", "DecodeSACredentials"], Failure::Unauthorized),
    (&["context deadline exceeded", "no such host", "i/o timeout", "dial tcp"], Failure::Network),
];

/// Characters of an unknown message that are passed on.
const MAX_TOLD: usize = 200;

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn every_known_message_has_a_meaning() {
        let cases = [
            ("[ERROR] 2024/05/01 10:00:00 authorization prompt dismissed, please try again", Failure::Dismissed),
            ("[ERROR] 2024/05/01 10:00:00 authorization timeout", Failure::Dismissed),
            (
                "[ERROR] 2024/05/01 10:00:00 You are not currently signed in. Please run `op signin --help`",
                Failure::SignedOut,
            ),
            ("[ERROR] 2024/05/01 10:00:00 account is not signed in", Failure::SignedOut),
            ("No accounts configured for use with 1Password CLI.", Failure::NoAccount),
            ("[ERROR] 2024/05/01 10:00:00 connecting to desktop app: read: connection reset", Failure::AppUnreachable),
            ("[ERROR] 2024/05/01 10:00:00 RequestDelegatedSession: cannot setup session", Failure::AppUnreachable),
            (
                r#"[ERROR] 2024/05/01 10:00:00 could not read secret: "x" isn't an item in the "y" vault."#,
                Failure::NoItem,
            ),
            (r#"[ERROR] 2024/05/01 10:00:00 "y" isn't a vault in this account."#, Failure::NoVault),
            ("[ERROR] 2024/05/01 10:00:00 invalid secret reference 'op://x'", Failure::BadReference),
            ("[ERROR] 2024/05/01 10:00:00 (401) Unauthorized: bad token", Failure::Unauthorized),
            ("[ERROR] 2024/05/01 10:00:00 failed to DecodeSACredentials", Failure::Unauthorized),
            ("[ERROR] 2024/05/01 10:00:00 (429) Too Many Requests", Failure::RateLimited),
            ("[ERROR] 2024/05/01 10:00:00 rate limit exceeded", Failure::RateLimited),
            ("[ERROR] 2024/05/01 10:00:00 context deadline exceeded", Failure::Network),
            ("[ERROR] 2024/05/01 10:00:00 More than one item matches \"a\". Try again", Failure::Ambiguous),
            ("[ERROR] 2024/05/01 10:00:00 multiple accounts found. Use the --account flag", Failure::WhichAccount),
            ("[ERROR] 2024/05/01 10:00:00 \"(401)\" isn't an item in the \"429\" vault", Failure::NoItem),
            ("[WARN] 2024/05/01 10:00:00 old\n\n[ERROR] 2024/05/01 10:00:00 (401) Unauthorized", Failure::Unauthorized),
            ("[WARN] 2024/05/01 10:00:00 old\n[ERROR] 2024/05/01 10:00:00 new", Failure::Other("new".to_owned())),
            ("[ERROR] 2024/05/01 10:00:00 something new", Failure::Other("something new".to_owned())),
        ];
        for (stderr, failure) in cases {
            assert_eq!(classify(stderr, ExitStatus::from_raw(256)), failure, "{stderr}");
        }
        let silent = classify("", ExitStatus::from_raw(256)).to_string();
        assert!(silent.contains("exit status: 1"), "{silent}");
    }
}
