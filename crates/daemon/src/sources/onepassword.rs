//! 1Password, through its command-line tool `op`: asked on first use, one question at a time, each answer kept.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use clauderon_core::config::{OnePasswordSettings, OpReference};
use clauderon_core::secret::Secret;
use tokio::sync::watch;

use super::env::Environment;
use super::op::{self, Failure};

/// The references that were asked for, and what `op` said.
pub struct OnePassword(Arc<Shared>);

/// A value, or why there is none.
pub type Answer = Result<Arc<Secret>, Failure>;

struct Shared {
    environment: Vec<(OsString, OsString)>,
    program: RwLock<op::Program>,
    answers: RwLock<HashMap<OpReference, Kept>>,
    flights: Mutex<HashMap<OpReference, watch::Receiver<Option<Answer>>>>,
    /// Held while `op` runs: several at once would raise one dialog each.
    turn: tokio::sync::Mutex<()>,
}

struct Kept {
    answer: Answer,
    since: Instant,
}

impl OnePassword {
    /// Nothing runs before the first [`OnePassword::read`].
    pub fn new(environment: &Environment, settings: &OnePasswordSettings) -> Self {
        let kept = environment.filter(is_for_op).map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self(Arc::new(Shared {
            environment: kept.collect(),
            program: RwLock::new(program(settings)),
            answers: RwLock::default(),
            flights: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        }))
    }

    /// Takes new settings, and forgets every answer and cool-down.
    pub fn reload(&self, settings: &OnePasswordSettings) {
        *self.0.program.write().unwrap_or_else(PoisonError::into_inner) = program(settings);
        self.0.answers.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Forgets one answer, so that the next read asks again; a cool-down stays.
    pub fn forget(&self, reference: &OpReference) {
        let mut answers = self.0.answers.write().unwrap_or_else(PoisonError::into_inner);
        if answers.get(reference).is_some_and(|kept| kept.answer.is_ok()) {
            answers.remove(reference);
        }
    }

    /// The last answer, if `op` was ever asked.
    pub fn last(&self, reference: &OpReference) -> Option<Answer> {
        self.0.answers().get(reference).map(|kept| kept.answer.clone())
    }

    /// The value of `reference`. All who ask at once share one run; a run is finished even if nobody waits any more,
    /// because the person who approves it should be asked only once.
    pub async fn read(&self, reference: &OpReference) -> Answer {
        if let Some(answer) = self.0.current(reference) {
            return answer;
        }
        let mut flight = self.0.flight(reference);
        let landed = flight.wait_for(Option::is_some).await.map(|answer| answer.clone());
        landed.ok().flatten().unwrap_or_else(|| Err(Failure::Other("the read was interrupted".to_owned())))
    }
}

impl Shared {
    fn answers(&self) -> std::sync::RwLockReadGuard<'_, HashMap<OpReference, Kept>> {
        self.answers.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer that still holds: a value, or a failure whose cool-down is not over.
    fn current(&self, reference: &OpReference) -> Option<Answer> {
        let (answers, now) = (self.answers(), Instant::now());
        let own = answers.get(reference).filter(|kept| kept.holds(now));
        // A dismissed dialog is an answer to all of them: the next reference would raise it again.
        let shared = || answers.values().find(|kept| kept.speaks_for_all() && kept.holds(now));
        own.or_else(shared).map(|kept| kept.answer.clone())
    }

    fn flight(self: &Arc<Self>, reference: &OpReference) -> watch::Receiver<Option<Answer>> {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(reference) {
            return flight.clone();
        }
        let (land, flight) = watch::channel(None);
        flights.insert(reference.clone(), flight.clone());
        let (shared, reference) = (Arc::clone(self), reference.clone());
        tokio::spawn(async move {
            let answer = shared.ask(&reference).await;
            shared.flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&reference);
            land.send_replace(Some(answer));
        });
        flight
    }

    async fn ask(&self, reference: &OpReference) -> Answer {
        let _turn = self.turn.lock().await;
        // What was said while this one waited may answer it too.
        if let Some(answer) = self.current(reference) {
            return answer;
        }
        let program = self.program.read().unwrap_or_else(PoisonError::into_inner).clone();
        let answer = op::read(&program, &self.environment, reference).await.map(Arc::new);
        if let Err(failure) = &answer {
            tracing::warn!(%reference, %failure, "1password gave no value");
        }
        let kept = Kept { answer: answer.clone(), since: Instant::now() };
        self.answers.write().unwrap_or_else(PoisonError::into_inner).insert(reference.clone(), kept);
        answer
    }
}

impl Kept {
    fn holds(&self, now: Instant) -> bool {
        let Err(failure) = &self.answer else { return true };
        let age = now.saturating_duration_since(self.since);
        age < if failure.needs_a_person() { LONG_COOL_DOWN } else { SHORT_COOL_DOWN }
    }

    fn speaks_for_all(&self) -> bool {
        self.answer.as_ref().is_err_and(Failure::needs_a_person)
    }
}

fn program(settings: &OnePasswordSettings) -> op::Program {
    op::Program { path: PathBuf::from(&settings.op_path), timeout: settings.timeout }
}

/// What `op` needs to find its account, its app and the network. Nothing else of the daemon's environment concerns it.
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
    EXACT.contains(&name) || ["OP_", "XDG_", "LC_"].iter().any(|prefix| name.starts_with(prefix))
}

/// Long enough that a dismissed dialog does not come back at once, short enough to try again in the same sitting.
const LONG_COOL_DOWN: Duration = Duration::from_secs(60);
/// A mistake in a reference costs requests of a limited account too; a loop must not spend them.
const SHORT_COOL_DOWN: Duration = Duration::from_secs(10);

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use std::path::Path;
    use std::process::{Command, Stdio};

    use super::*;

    struct Fake {
        dir: tempfile::TempDir,
    }

    impl Fake {
        /// An `op` that notes its arguments and environment and then runs `script`.
        fn new(script: &str) -> Self {
            let fake = Self { dir: tempfile::tempdir().unwrap() };
            let text = format!(
                "#!/bin/sh\nd='{0}'\nprintf '%s\\n' \"$*\" >> \"$d/calls\"\nenv > \"$d/env\"\n{script}\n",
                fake.dir.path().display()
            );
            fake.install(&text);
            fake
        }

        /// Written by a child: a descriptor of ours, inherited by a concurrent fork, would make the program "busy".
        fn install(&self, text: &str) {
            let mut cat = Command::new("sh");
            cat.args(["-c", "cat > \"$0\" && chmod 700 \"$0\""]).arg(self.op()).stdin(Stdio::piped());
            let mut child = cat.spawn().unwrap();
            std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
            assert!(child.wait().unwrap().success());
        }

        fn op(&self) -> PathBuf {
            self.dir.path().join("op")
        }

        fn calls(&self) -> Vec<String> {
            let text = std::fs::read_to_string(self.dir.path().join("calls")).unwrap_or_default();
            text.lines().map(str::to_owned).collect()
        }

        fn source(&self) -> OnePassword {
            let pairs = [("PATH", "/usr/bin:/bin"), ("OP_ACCOUNT", "ann"), ("GITHUB_TOKEN", "ghp_other")];
            OnePassword::new(&Environment::from_iter(pairs), &settings(&self.op(), Duration::from_secs(20)))
        }
    }

    fn settings(op_path: &Path, timeout: Duration) -> OnePasswordSettings {
        let credentials = std::collections::BTreeMap::new();
        OnePasswordSettings { enabled: true, op_path: op_path.to_owned(), timeout, credentials }
    }

    fn reference(text: &str) -> OpReference {
        OpReference::parse(text).unwrap()
    }

    #[tokio::test]
    async fn a_reference_is_read_verbatim_once_for_all_who_ask() {
        let fake = Fake::new("printf 'ghp_value\\n'");
        let source = fake.source();
        let github = reference("op://My Vault/GitHub/one-time password?attribute=otp");
        let (a, b) = tokio::join!(source.read(&github), source.read(&github));
        assert_eq!(a.unwrap().expose(), "ghp_value");
        assert_eq!(b.unwrap().expose(), "ghp_value");
        assert_eq!(source.read(&github).await.unwrap().expose(), "ghp_value");
        assert_eq!(fake.calls(), ["read --no-newline op://My Vault/GitHub/one-time password?attribute=otp"]);
        let env = std::fs::read_to_string(fake.dir.path().join("env")).unwrap();
        assert!(env.contains("OP_ACCOUNT=ann") && !env.contains("GITHUB_TOKEN"), "{env}");
        source.forget(&github);
        source.read(&github).await.unwrap();
        assert_eq!(fake.calls().len(), 2);
    }

    #[tokio::test]
    async fn runs_do_not_overlap() {
        let fake = Fake::new("mkdir \"$d/busy\" || exit 9; sleep 0.05; rmdir \"$d/busy\"; printf v");
        let source = fake.source();
        let all = ["op://v/a/f", "op://v/b/f", "op://v/c/f"].map(reference);
        let (a, b, c) = tokio::join!(source.read(&all[0]), source.read(&all[1]), source.read(&all[2]));
        assert!(a.is_ok() && b.is_ok() && c.is_ok());
        assert_eq!(fake.calls().len(), 3);
    }

    #[tokio::test]
    async fn a_dismissed_dialog_is_not_raised_again() {
        let fake = Fake::new(
            "echo '[ERROR] 2024/01/01 00:00:00 authorization prompt dismissed, please try again' >&2; exit 1",
        );
        let source = fake.source();
        for text in ["op://v/a/f", "op://v/a/f", "op://v/b/f"] {
            assert_eq!(source.read(&reference(text)).await.err(), Some(Failure::Dismissed));
        }
        assert_eq!(fake.calls().len(), 1);
        source.reload(&settings(&fake.op(), Duration::from_secs(20)));
        assert!(source.read(&reference("op://v/a/f")).await.is_err());
        assert_eq!(fake.calls().len(), 2);
    }

    #[tokio::test]
    async fn a_waiter_that_leaves_does_not_end_the_run() {
        let fake = Fake::new("sleep 0.1; printf v");
        let source = fake.source();
        let a = reference("op://v/a/f");
        drop(tokio::time::timeout(Duration::from_millis(1), source.read(&a)).await);
        assert!(source.read(&a).await.is_ok());
        assert_eq!(fake.calls().len(), 1);
    }

    #[tokio::test]
    async fn a_tool_that_never_answers_is_ended() {
        let fake = Fake::new("exec sleep 30");
        let source = OnePassword::new(
            &Environment::from_iter([("PATH", "/usr/bin:/bin")]),
            &settings(&fake.op(), Duration::from_millis(200)),
        );
        assert_eq!(
            source.read(&reference("op://v/a/f")).await.err(),
            Some(Failure::TimedOut(Duration::from_millis(200)))
        );
    }

    #[tokio::test]
    async fn output_that_is_no_secret_is_refused_without_being_shown() {
        let cases = [
            ("printf 'hunter2\\nmore'", "line break"),
            ("printf '\\377hunter2'", "UTF-8"),
            ("printf '  \\n'", "empty"),
            ("yes hunter2 | head -c 1048576", "longer than 64 KiB"),
            ("printf hunter2; echo 'op: boom' >&2; exit 1", "op failed: op: boom"),
        ];
        for (script, reason) in cases {
            let fake = Fake::new(script);
            let failure = fake.source().read(&reference("op://v/a/f")).await.err().unwrap();
            assert!(failure.to_string().contains(reason), "{script}: {failure}");
            assert!(!format!("{failure} {failure:?}").contains("hunter2"), "{failure}");
        }
    }

    #[tokio::test]
    async fn a_missing_tool_is_named() {
        let settings = settings(Path::new("/nonexistent/op"), Duration::from_secs(5));
        let source = OnePassword::new(&Environment::default(), &settings);
        let failure = source.read(&reference("op://v/a/f")).await.err().unwrap();
        assert!(failure.to_string().contains("/nonexistent/op"), "{failure}");
    }

    #[test]
    fn failures_are_kept_for_a_while_and_values_for_good() {
        let now = Instant::now();
        let kept = |answer: Answer| Kept { answer, since: now };
        let later = now + LONG_COOL_DOWN;
        let value = Secret::parse("v").unwrap().unwrap();
        assert!(kept(Ok(Arc::new(value))).holds(later));
        assert!(
            kept(Err(Failure::Dismissed)).holds(now + SHORT_COOL_DOWN) && !kept(Err(Failure::Dismissed)).holds(later)
        );
        assert!(kept(Err(Failure::NoItem)).holds(now) && !kept(Err(Failure::NoItem)).holds(now + SHORT_COOL_DOWN));
    }
}
