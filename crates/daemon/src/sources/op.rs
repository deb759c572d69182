//! Runs of `op`: one reference with `op read`, several with `op inject`, and what it gets of our environment.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use clauderon_core::config::OpReference;
use clauderon_core::secret::Secret;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};
use zeroize::Zeroizing;

use super::env::Environment;
use template::Template;

mod failure;
mod template;

pub use failure::Failure;
use failure::classify;

/// How `op` is run.
#[derive(Debug, Clone)]
pub(super) struct Program {
    /// A path, or a name looked up in `PATH`.
    pub(super) path: PathBuf,
    /// Until a run is ended.
    pub(super) timeout: Duration,
    /// The account to ask, where there are several.
    pub(super) account: Option<String>,
}

/// Asks for all of `references` with as few runs as possible, so that a person approves once, and tells each answer as soon
/// as it is known. One bad reference fails a common run: then they are read one after another.
pub(super) async fn read_all(
    program: &Program,
    env: &[(OsString, OsString)],
    references: &[OpReference],
    mut tell: impl FnMut(&OpReference, Result<Secret, Failure>),
) {
    // Whether queries mean the same inside a template is not documented.
    let (together, mut alone): (Vec<_>, Vec<_>) = references.iter().partition(|reference| !reference.has_query());
    let mut said = None;
    for batch in together.chunks(MAX_TOGETHER) {
        let answers = match (&said, batch) {
            (None, [_, _, ..]) => inject(program, env, batch).await,
            _ => Ok(None),
        };
        match answers {
            Ok(Some(values)) => batch.iter().zip(values).for_each(|(reference, value)| tell(reference, value)),
            Err(failure) if failure.speaks_for_all() => {
                batch.iter().for_each(|reference| tell(reference, Err(failure.clone())));
                said = Some(failure);
            }
            Ok(None) | Err(_) => alone.extend(batch),
        }
    }
    for reference in alone {
        let answer = match &said {
            Some(failure) => Err(failure.clone()),
            None => read(program, env, reference).await,
        };
        said = said.or_else(|| answer.as_ref().err().filter(|failure| failure.speaks_for_all()).cloned());
        tell(reference, answer);
    }
}

/// Runs `op read` for one reference, which is passed verbatim as one argument.
async fn read(program: &Program, env: &[(OsString, OsString)], reference: &OpReference) -> Result<Secret, Failure> {
    let arguments = ["read", "--no-newline", reference.as_str()];
    let output = run(program, env, &arguments, None, &[reference]).await?;
    secret(&output)
}

/// Runs `op inject` on a template of all `references`; `None` if its output is not what the template makes of values.
async fn inject(
    program: &Program,
    env: &[(OsString, OsString)],
    references: &[&OpReference],
) -> Result<Option<Vec<Result<Secret, Failure>>>, Failure> {
    let Some(template) = Template::of(references) else { return Ok(None) };
    let output = run(program, env, &["inject"], Some(template.text()), references).await?;
    Ok(template.values(&output).map(|values| values.into_iter().map(secret).collect()))
}

fn secret(output: &[u8]) -> Result<Secret, Failure> {
    let text = std::str::from_utf8(output).map_err(|_| Failure::NotText)?;
    match Secret::parse(text)? {
        None => Err(Failure::Empty),
        // Sent as it is, it would be no secret; and it is not for a field to say what else is read.
        Some(secret) if OpReference::is_meant(secret.expose()) => Err(Failure::Chained),
        Some(secret) => Ok(secret),
    }
}

/// Runs `op` to its end and returns what it wrote.
async fn run(
    program: &Program,
    env: &[(OsString, OsString)],
    arguments: &[&str],
    input: Option<&str>,
    references: &[&OpReference],
) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut command = Command::new(&program.path);
    command.args(arguments).env_clear().envs(env.iter().map(|(name, value)| (name, value)));
    command.envs(program.account.iter().map(|account| ("OP_ACCOUNT", account)));
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Failure::Missing(program.path.clone()),
        _ => Failure::Other(format!("{} cannot be run: {error}", program.path.display())),
    })?;
    let mut output = Output::new(references.len() * MAX_STDOUT);
    let stdin = child.stdin.take();
    let work = async { tokio::join!(feed(stdin, input), output.collect(child)).1 };
    let ended = tokio::time::timeout(program.timeout, work).await;
    match ended.map_err(|_| Failure::TimedOut(program.timeout))?? {
        _ if output.stdout.len() > output.limit => Err(Failure::TooLong),
        status if status.success() => Ok(output.stdout),
        status => Err(classify(&output.stderr_text(references), status)),
    }
}

/// A tool that does not read its input says why in its own way.
async fn feed(stdin: Option<ChildStdin>, input: Option<&str>) {
    if let (Some(mut stdin), Some(input)) = (stdin, input) {
        let _ = stdin.write_all(input.as_bytes()).await;
    }
}

/// What a run printed, each stream up to its limit.
struct Output {
    stdout: Zeroizing<Vec<u8>>,
    limit: usize,
    stderr: Vec<u8>,
}

impl Output {
    fn new(limit: usize) -> Self {
        // Allocated once: a buffer that grows leaves copies of the secret behind.
        Self { stdout: Zeroizing::new(Vec::with_capacity(limit + 1)), limit, stderr: Vec::new() }
    }

    async fn collect(&mut self, mut child: Child) -> Result<ExitStatus, Failure> {
        let failed = |error: std::io::Error| Failure::Other(error.to_string());
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(Failure::Other("its output cannot be read".to_owned()));
        };
        let streams = async {
            tokio::join!(fill(stdout, &mut self.stdout, self.limit + 1), fill(stderr, &mut self.stderr, MAX_STDERR))
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

    /// Stderr with the references masked.
    fn stderr_text(&self, references: &[&OpReference]) -> String {
        let text = String::from_utf8_lossy(&self.stderr).into_owned();
        references.iter().fold(text, |text, reference| {
            let shown = reference.to_string();
            text.replace(reference.as_str(), &shown).replace(reference.without_query(), &shown)
        })
    }
}

/// Reads up to `limit` bytes; a writer that has more to say meets a closed pipe.
async fn fill(stream: impl AsyncRead + Unpin, buffer: &mut Vec<u8>, limit: usize) {
    // What was read before an error is judged like any other output.
    let _ = stream.take(u64::try_from(limit).unwrap_or(u64::MAX)).read_to_end(buffer).await;
}

/// What `op` gets of the daemon's environment: all it needs to find its account, its app and the network, and one identity.
/// Connect comes before a service account, as `op` itself has it.
pub(super) fn environment(environment: &Environment) -> Vec<(OsString, OsString)> {
    let given = |name: &str| environment.get(name).is_some_and(|value| !value.is_empty());
    let connect = (given("OP_CONNECT_HOST"), given("OP_CONNECT_TOKEN"));
    if let (true, false) | (false, true) = connect {
        tracing::warn!("1Password Connect is not used: it takes both OP_CONNECT_HOST and OP_CONNECT_TOKEN");
    }
    let wanted = |name: &str| match name {
        "OP_CONNECT_HOST" | "OP_CONNECT_TOKEN" => connect == (true, true),
        "OP_SERVICE_ACCOUNT_TOKEN" => connect != (true, true),
        name => is_for_op(name),
    };
    environment.filter(wanted).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn is_for_op(name: &str) -> bool {
    const EXACT: [&str; 20] = [
        "HOME",
        "PATH",
        "USER",
        "LOGNAME",
        "LANG",
        "TMPDIR",
        "DISPLAY",
        "WAYLAND_DISPLAY",
        "XAUTHORITY",
        "DBUS_SESSION_BUS_ADDRESS",
        "SSH_AUTH_SOCK",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "HTTPS_PROXY",
        "https_proxy",
        "HTTP_PROXY",
        "http_proxy",
        "NO_PROXY",
        "no_proxy",
        "ALL_PROXY",
    ];
    // They change what is printed, and so what we would take for a secret or a message.
    const PRINTING: [&str; 4] = ["OP_FORMAT", "OP_DEBUG", "OP_ISO_TIMESTAMPS", "OP_ENCODING"];
    if PRINTING.contains(&name) {
        return false;
    }
    EXACT.contains(&name) || ["OP_", "XDG_", "LC_"].iter().any(|prefix| name.starts_with(prefix))
}

/// As many as anybody has; more are asked for in turn.
const MAX_TOGETHER: usize = 32;
/// For each reference: no secret is longer than 16 KiB; more than this is some other output.
const MAX_STDOUT: usize = 64 * 1024;
const MAX_STDERR: usize = 64 * 1024;
/// Output that was written before the end is in the pipe already.
const GRACE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    fn given(pairs: &[(&str, &str)]) -> Vec<String> {
        let env = environment(&Environment::from_iter(pairs.iter().copied()));
        let mut names: Vec<_> = env.into_iter().map(|(name, _)| name.to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn op_gets_one_identity_and_nothing_that_is_not_its_own() {
        let service = ("OP_SERVICE_ACCOUNT_TOKEN", "ops_x");
        let (host, token) = (("OP_CONNECT_HOST", "http://c"), ("OP_CONNECT_TOKEN", "t"));
        assert_eq!(given(&[service, host, token]), ["OP_CONNECT_HOST", "OP_CONNECT_TOKEN"]);
        assert_eq!(given(&[service, host]), ["OP_SERVICE_ACCOUNT_TOKEN"]);
        assert_eq!(given(&[service, token, ("OP_CONNECT_HOST", "")]), ["OP_SERVICE_ACCOUNT_TOKEN"]);
        let rest =
            [("OP_ACCOUNT", "a"), ("OP_SESSION_x", "s"), ("OP_FORMAT", "json"), ("OP_DEBUG", "1"), ("NPM_TOKEN", "n")];
        assert_eq!(given(&rest), ["OP_ACCOUNT", "OP_SESSION_x"]);
    }
}
