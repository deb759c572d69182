//! One run of `op read`, and what its failures mean.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use clauderon_core::config::OpReference;
use clauderon_core::secret::{BadSecret, Secret};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use zeroize::Zeroizing;

/// How `op` is run.
#[derive(Debug, Clone)]
pub(super) struct Program {
    /// A path, or a name looked up in `PATH`.
    pub(super) path: PathBuf,
    /// Until a run is ended.
    pub(super) timeout: Duration,
}

/// Why `op` gave no value, and what to do about it. Never holds what it printed to stdout.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// There is no such program.
    #[error("the 1Password CLI was not found at `{}`: install it, or set onepassword.op_path", .0.display())]
    Missing(PathBuf),
    /// The person said no, or let the dialog expire.
    #[error("the 1Password prompt was dismissed: approve it next time; it is not raised again for a minute")]
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
    /// The desktop app does not answer.
    #[error("the 1Password app cannot be reached: start and unlock it, and check its setting for CLI integration")]
    AppUnreachable,
    /// No item or field.
    #[error("1Password has no such item or field: check the reference (`op item list` shows the items)")]
    NoItem,
    /// No vault.
    #[error("1Password has no such vault for this account: check the reference (`op vault list` shows the vaults)")]
    NoVault,
    /// Refused by `op` itself.
    #[error(
        "1Password calls the reference invalid: use the ids of vault and item where a name holds special characters"
    )]
    BadReference,
    /// The service account's token is wrong or was revoked.
    #[error("1Password refused the service account: check OP_SERVICE_ACCOUNT_TOKEN, and that it may read the vault")]
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
    /// No header could carry it.
    #[error("the 1Password field cannot be used: {0}")]
    Unusable(#[from] BadSecret),
    /// Anything else.
    #[error("op failed: {0}")]
    Other(String),
}

impl Failure {
    /// Whether asking again would bother a person, or wait for one in vain.
    pub(super) fn needs_a_person(&self) -> bool {
        matches!(self, Self::Dismissed | Self::TimedOut(_) | Self::RateLimited)
    }
}

/// Runs `op read` for one reference, which is passed verbatim as one argument.
pub(super) async fn read(
    program: &Program,
    env: &[(OsString, OsString)],
    reference: &OpReference,
) -> Result<Secret, Failure> {
    let mut command = Command::new(&program.path);
    command
        .args(["read", "--no-newline", reference.as_str()])
        .env_clear()
        .envs(env.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let child = command.spawn().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Failure::Missing(program.path.clone()),
        _ => Failure::Other(format!("{} cannot be run: {error}", program.path.display())),
    })?;
    let mut output = Output::default();
    let ended = tokio::time::timeout(program.timeout, output.collect(child)).await;
    match ended.map_err(|_| Failure::TimedOut(program.timeout))?? {
        _ if output.stdout.len() > MAX_STDOUT => Err(Failure::TooLong),
        status if status.success() => output.secret(),
        status => Err(classify(&output.stderr_text(reference), status)),
    }
}

/// What a run printed, each stream up to its limit.
struct Output {
    stdout: Zeroizing<Vec<u8>>,
    stderr: Vec<u8>,
}

impl Default for Output {
    fn default() -> Self {
        // Allocated once: a buffer that grows leaves copies of the secret behind.
        Self { stdout: Zeroizing::new(Vec::with_capacity(MAX_STDOUT + 1)), stderr: Vec::new() }
    }
}

impl Output {
    async fn collect(&mut self, mut child: Child) -> Result<ExitStatus, Failure> {
        let failed = |error: std::io::Error| Failure::Other(error.to_string());
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(Failure::Other("its output cannot be read".to_owned()));
        };
        let streams = async {
            tokio::join!(fill(stdout, &mut self.stdout, MAX_STDOUT + 1), fill(stderr, &mut self.stderr, MAX_STDERR))
        };
        tokio::pin!(streams);
        tokio::select! {
            _ = &mut streams => child.wait().await.map_err(failed),
            status = child.wait() => {
                // A background process that op left behind may hold the pipes open for ever.
                let _ = tokio::time::timeout(GRACE, &mut streams).await;
                status.map_err(failed)
            }
        }
    }

    fn secret(&self) -> Result<Secret, Failure> {
        let text = std::str::from_utf8(&self.stdout).map_err(|_| Failure::NotText)?;
        Secret::parse(text)?.ok_or(Failure::Empty)
    }

    /// The first line of stderr, without the reference and without what a terminal would obey.
    fn stderr_text(&self, reference: &OpReference) -> String {
        let text = String::from_utf8_lossy(&self.stderr).replace(reference.as_str(), &reference.to_string());
        let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
        line.chars().filter(|c| !c.is_control()).take(200).collect()
    }
}

/// Reads up to `limit` bytes; a writer that has more to say meets a closed pipe.
async fn fill(stream: impl AsyncRead + Unpin, buffer: &mut Vec<u8>, limit: usize) {
    // What was read before an error is judged like any other output.
    let _ = stream.take(u64::try_from(limit).unwrap_or(u64::MAX)).read_to_end(buffer).await;
}

fn classify(stderr: &str, status: ExitStatus) -> Failure {
    let found = MEANINGS.iter().find(|(words, _)| words.iter().any(|word| stderr.contains(word)));
    found.map_or_else(
        || match without_prefix(stderr) {
            "" => Failure::Other(format!("it ended with {status} and said nothing")),
            text => Failure::Other(text.to_owned()),
        },
        |(_, failure)| failure.clone(),
    )
}

/// The text after `[ERROR] <date> <time> `.
fn without_prefix(line: &str) -> &str {
    line.strip_prefix("[ERROR] ").and_then(|rest| rest.splitn(3, ' ').nth(2)).unwrap_or(line)
}

/// What `op` is known to say, the more specific first.
const MEANINGS: &[(&[&str], Failure)] = &[
    (&["authorization prompt dismissed", "authorization timeout"], Failure::Dismissed),
    (&["(429)", "Too Many Requests", "rate limit exceeded"], Failure::RateLimited),
    (&["No accounts configured", "no accounts configured"], Failure::NoAccount),
    (&["not currently signed in", "account is not signed in"], Failure::SignedOut),
    (&["connecting to desktop app", "RequestDelegatedSession", "cannot setup session"], Failure::AppUnreachable),
    (&["(401)", "Unauthorized", "DecodeSACredentials"], Failure::Unauthorized),
    (&["isn't a vault in this account"], Failure::NoVault),
    (&["invalid secret reference", "invalid character in secret reference"], Failure::BadReference),
    (&["isn't an item", "doesn't have a field", "isn't a field", "could not find item"], Failure::NoItem),
    (&["context deadline exceeded"], Failure::AppUnreachable),
];

/// No secret is longer than 16 KiB; more than this is some other output.
const MAX_STDOUT: usize = 64 * 1024;
const MAX_STDERR: usize = 64 * 1024;
/// Output that was written before the end is in the pipe already.
const GRACE: Duration = Duration::from_millis(500);

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
            ("[ERROR] 2024/05/01 10:00:00 something new", Failure::Other("something new".to_owned())),
        ];
        for (stderr, failure) in cases {
            assert_eq!(classify(stderr, ExitStatus::from_raw(256)), failure, "{stderr}");
        }
        let silent = classify("", ExitStatus::from_raw(256)).to_string();
        assert!(silent.contains("exit status: 1"), "{silent}");
    }
}
