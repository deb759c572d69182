//! 1Password, through its command-line tool `op`: asked on first use, one run at a time, each answer kept.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
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
    settings: RwLock<OnePasswordSettings>,
    answers: RwLock<HashMap<OpReference, Kept>>,
    queue: Mutex<Queue>,
}

/// Questions on their way. What waits while `op` runs is asked together when it is done.
#[derive(Default)]
struct Queue {
    waiting: Vec<OpReference>,
    flights: HashMap<OpReference, watch::Sender<Option<Answer>>>,
    /// Whether somebody works on it: several runs at once would raise one dialog each.
    running: bool,
}

/// What is known of a reference.
#[derive(Default)]
struct Kept {
    value: Option<(Arc<Secret>, Instant)>,
    /// What went wrong since the value was read, and when; `None` if that is no reason any more not to ask.
    failure: Option<(Failure, Option<Instant>)>,
}

impl OnePassword {
    /// Nothing runs before the first [`OnePassword::read`].
    pub fn new(environment: &Environment, settings: &OnePasswordSettings) -> Self {
        Self(Arc::new(Shared {
            environment: op::environment(environment),
            settings: RwLock::new(settings.clone()),
            answers: RwLock::default(),
            queue: Mutex::default(),
        }))
    }

    /// Takes new settings and ends every cool-down. Values are forgotten if they could come from elsewhere now.
    pub fn reload(&self, settings: &OnePasswordSettings) {
        let mut current = self.0.settings.write().unwrap_or_else(PoisonError::into_inner);
        let same = current.op_path == settings.op_path && current.account == settings.account;
        *current = settings.clone();
        drop(current);
        let mut answers = self.0.answers.write().unwrap_or_else(PoisonError::into_inner);
        answers.retain(|_, _| same);
        drop(answers);
        self.0.end_cool_downs();
    }

    /// Forgets what nobody refers to any more.
    pub fn keep_only(&self, references: &HashSet<&OpReference>) {
        let mut answers = self.0.answers.write().unwrap_or_else(PoisonError::into_inner);
        answers.retain(|reference, _| references.contains(reference));
    }

    /// The value in force, if one was read and has not become too old.
    pub fn held(&self, reference: &OpReference) -> Option<Arc<Secret>> {
        let (ttl, now) = (self.0.ttl(), Instant::now());
        self.0.answers().get(reference)?.value(ttl, now)
    }

    /// What went wrong when the reference was last asked for.
    pub fn failure(&self, reference: &OpReference) -> Option<Failure> {
        self.0.answers().get(reference)?.failure.as_ref().map(|(failure, _)| failure.clone())
    }

    /// The value of `reference`. All who ask at once share one run; a run is finished even if nobody waits any more,
    /// because the person who approves it should be asked only once.
    pub async fn read(&self, reference: &OpReference) -> Answer {
        if let Some(answer) = self.0.current(reference) {
            return answer;
        }
        let flight = {
            let mut queue = self.0.queue();
            // What landed between the look and the lock is no reason to ask again.
            match self.0.current(reference) {
                Some(answer) => return answer,
                None => self.0.board(&mut queue, [reference]).pop(),
            }
        };
        landed(flight).await
    }

    /// The value of `reference` asked anew, whatever is held; that stays in force if nothing better comes. Does not ask
    /// during a cool-down.
    pub async fn renew(&self, reference: &OpReference) -> Answer {
        match self.0.cooling(reference) {
            Some(failure) => Err(failure),
            None => {
                let flight = self.0.board(&mut self.0.queue(), [reference]).pop();
                landed(flight).await
            }
        }
    }

    /// Reads all of `references` in one go, for a person who is there: no cool-down counts. Those that are held are asked
    /// for only `anew`. The answers stand in the order of the references.
    pub async fn unlock(&self, references: &[OpReference], anew: bool) -> Vec<Unlocked> {
        self.0.end_cool_downs();
        let held: Vec<_> = references.iter().map(|reference| self.held(reference).filter(|_| !anew)).collect();
        let asked = references.iter().zip(&held).filter(|(_, held)| held.is_none()).map(|(reference, _)| reference);
        let mut flights = self.0.board(&mut self.0.queue(), asked).into_iter();
        let mut unlocked = Vec::with_capacity(references.len());
        for held in held {
            unlocked.push(match held {
                Some(_) => Unlocked::Held,
                None => landed(flights.next()).await.map_or_else(Unlocked::Failed, |_| Unlocked::Read),
            });
        }
        unlocked
    }
}

/// What [`OnePassword::unlock`] came to for one reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unlocked {
    /// It was read just now.
    Read,
    /// It was there already.
    Held,
    /// It could not be read.
    Failed(Failure),
}

async fn landed(flight: Option<watch::Receiver<Option<Answer>>>) -> Answer {
    let interrupted = || Failure::Other("the read was interrupted".to_owned());
    let mut flight = flight.ok_or_else(interrupted)?;
    let answer = flight.wait_for(Option::is_some).await.map(|answer| answer.clone());
    answer.ok().flatten().unwrap_or_else(|| Err(interrupted()))
}

impl Shared {
    fn answers(&self) -> std::sync::RwLockReadGuard<'_, HashMap<OpReference, Kept>> {
        self.answers.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ttl(&self) -> Option<Duration> {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).cache_ttl
    }

    fn program(&self) -> op::Program {
        let settings = self.settings.read().unwrap_or_else(PoisonError::into_inner);
        op::Program {
            path: PathBuf::from(&settings.op_path),
            timeout: settings.timeout,
            account: settings.account.clone(),
        }
    }

    /// The answer that still holds: a value, or a failure whose cool-down is not over.
    fn current(&self, reference: &OpReference) -> Option<Answer> {
        let (ttl, now) = (self.ttl(), Instant::now());
        let value = self.answers().get(reference).and_then(|kept| kept.value(ttl, now));
        value.map(Ok).or_else(|| self.cooling(reference).map(|failure| self.despite(failure, reference)))
    }

    /// A failure that makes asking again pointless for now. A dismissed dialog is an answer to all references: the next
    /// one would raise it again.
    fn cooling(&self, reference: &OpReference) -> Option<Failure> {
        let (answers, now) = (self.answers(), Instant::now());
        let own = answers.get(reference).and_then(|kept| kept.cooling(now));
        own.or_else(|| shared_failure(&answers, now)).cloned()
    }

    /// A value that has become too old is better than none where only the number of questions is the matter.
    fn despite(&self, failure: Failure, reference: &OpReference) -> Answer {
        let limited = failure == Failure::RateLimited;
        let value = self.answers().get(reference).and_then(|kept| kept.value.clone()).filter(|_| limited);
        value.map_or(Err(failure), |(value, _)| Ok(value))
    }

    fn end_cool_downs(&self) {
        let mut answers = self.answers.write().unwrap_or_else(PoisonError::into_inner);
        answers.values_mut().filter_map(|kept| kept.failure.as_mut()).for_each(|(_, since)| *since = None);
    }

    /// Puts questions into the queue, all at once; the answers come in their order.
    fn board<'r>(
        self: &Arc<Self>,
        queue: &mut Queue,
        references: impl IntoIterator<Item = &'r OpReference>,
    ) -> Vec<watch::Receiver<Option<Answer>>> {
        let flights = references.into_iter().map(|reference| queue.board(reference)).collect();
        if !queue.waiting.is_empty() && !std::mem::replace(&mut queue.running, true) {
            tokio::spawn(Arc::clone(self).work());
        }
        flights
    }

    /// Asks until nothing waits any more.
    async fn work(self: Arc<Self>) {
        while let Some(batch) = self.next() {
            // What was said while these waited answers them too.
            if let Some(failure) = self.said() {
                for reference in &batch {
                    let answer = self.despite(failure.clone(), reference);
                    self.queue().land(reference, answer);
                }
                continue;
            }
            let tell = |reference: &OpReference, answer: Result<Secret, Failure>| {
                self.keep(reference, answer.map(Arc::new));
            };
            op::read_all(&self.program(), &self.environment, &batch, tell).await;
        }
    }

    fn next(&self) -> Option<Vec<OpReference>> {
        self.queue().next()
    }

    fn said(&self) -> Option<Failure> {
        shared_failure(&self.answers(), Instant::now()).cloned()
    }

    fn keep(&self, reference: &OpReference, answer: Answer) {
        let mut answers = self.answers.write().unwrap_or_else(PoisonError::into_inner);
        let kept = answers.entry(reference.clone()).or_default();
        match &answer {
            Ok(value) => *kept = Kept { value: Some((Arc::clone(value), Instant::now())), failure: None },
            Err(failure) => {
                let stays = if kept.value.is_some() { "; the value read before is kept" } else { "" };
                tracing::warn!(%reference, %failure, "1password gave no value{stays}");
                kept.failure = Some((failure.clone(), Some(Instant::now())));
            }
        }
        drop(answers);
        self.queue().land(reference, answer);
    }
}

impl Queue {
    fn board(&mut self, reference: &OpReference) -> watch::Receiver<Option<Answer>> {
        let waiting = &mut self.waiting;
        let flight = self.flights.entry(reference.clone()).or_insert_with(|| {
            waiting.push(reference.clone());
            watch::Sender::new(None)
        });
        flight.subscribe()
    }

    /// What is to be asked together; whoever finds nothing stops working.
    fn next(&mut self) -> Option<Vec<OpReference>> {
        let batch = std::mem::take(&mut self.waiting);
        self.running = !batch.is_empty();
        self.running.then_some(batch)
    }

    fn land(&mut self, reference: &OpReference, answer: Answer) {
        if let Some(flight) = self.flights.remove(reference) {
            flight.send_replace(Some(answer));
        }
    }
}

impl Kept {
    fn value(&self, ttl: Option<Duration>, now: Instant) -> Option<Arc<Secret>> {
        let young = |since: Instant| ttl.is_none_or(|ttl| now.saturating_duration_since(since) < ttl);
        self.value.as_ref().filter(|(_, since)| young(*since)).map(|(value, _)| Arc::clone(value))
    }

    fn cooling(&self, now: Instant) -> Option<&Failure> {
        let (failure, since) = self.failure.as_ref()?;
        since.is_some_and(|since| now.saturating_duration_since(since) < cool_down(failure)).then_some(failure)
    }
}

fn shared_failure(answers: &HashMap<OpReference, Kept>, now: Instant) -> Option<&Failure> {
    answers.values().filter_map(|kept| kept.cooling(now)).find(|failure| failure.speaks_for_all())
}

/// How long nothing is asked after a failure.
fn cool_down(failure: &Failure) -> Duration {
    match failure {
        // Long enough that a dialog does not come back at once, short enough to try again in the same sitting.
        Failure::Dismissed | Failure::TimedOut(_) => Duration::from_secs(60),
        // Accounts are limited by the hour, and refused requests count.
        Failure::RateLimited => Duration::from_secs(5 * 60),
        // A mistake in a reference costs requests of a limited account too; a loop must not spend them.
        _ => Duration::from_secs(10),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use std::path::Path;
    use std::process::{Command, Stdio};

    use clauderon_core::config::Settings;

    use super::*;

    /// Fills a template as `op inject` does, with the last segment of each reference.
    const INJECT: &str = "[ \"$1\" = inject ] && exec sed 's,{{ op://[^}]*/\\([^/}]*\\) }},value-of-\\1,g'";

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
        OnePasswordSettings {
            enabled: true,
            op_path: op_path.to_owned(),
            timeout,
            ..Settings::defaults(op_path).onepassword
        }
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
        source.renew(&github).await.unwrap();
        assert_eq!(fake.calls().len(), 2);
    }

    #[tokio::test]
    async fn what_waits_is_asked_together_and_runs_do_not_overlap() {
        let wait = "mkdir \"$d/busy\" || exit 9; sleep 0.05; rmdir \"$d/busy\"";
        let fake = Fake::new(&format!("{wait}; {INJECT}; printf v"));
        let source = fake.source();
        let all = ["op://v/a/one", "op://v/b/two", "op://v/c/three", "op://v/d/otp?attribute=otp"].map(reference);
        let [a, b, c, d] = [&all[0], &all[1], &all[2], &all[3]].map(|reference| source.read(reference));
        let (a, b, c, d) = tokio::join!(a, b, c, d);
        let values = [a, b, c, d].map(|answer| answer.unwrap().expose().to_owned());
        assert_eq!(values, ["value-of-one", "value-of-two", "value-of-three", "v"]);
        assert_eq!(fake.calls(), ["inject", "read --no-newline op://v/d/otp?attribute=otp"]);
    }

    #[tokio::test]
    async fn one_bad_reference_does_not_keep_the_others_from_their_values() {
        let item = "echo '[ERROR] 2024/01/01 00:00:00 \"b\" isn'\\''t an item in the \"v\" vault' >&2; exit 1";
        let fake = Fake::new(&format!("case \"$*\" in inject|*/b/*) {item};; *) printf v;; esac"));
        let source = fake.source();
        let all = ["op://v/a/f", "op://v/b/f", "op://v/c/f"].map(reference);
        let unlocked = source.unlock(&all, false).await;
        assert_eq!(unlocked, [Unlocked::Read, Unlocked::Failed(Failure::NoItem), Unlocked::Read]);
        assert_eq!(fake.calls().len(), 4);
        let again = source.unlock(&all, false).await;
        assert_eq!(again, [Unlocked::Held, Unlocked::Failed(Failure::NoItem), Unlocked::Held]);
        assert_eq!(fake.calls()[4..], ["read --no-newline op://v/b/f"]);
    }

    #[tokio::test]
    async fn a_dismissed_common_run_is_not_followed_by_others() {
        let fake = Fake::new("echo 'authorization prompt dismissed' >&2; exit 1");
        let source = fake.source();
        let all = ["op://v/a/f", "op://v/b/f"].map(reference);
        for asked in 1..3 {
            let unlocked = source.unlock(&all, false).await;
            assert_eq!(unlocked, [Unlocked::Failed(Failure::Dismissed), Unlocked::Failed(Failure::Dismissed)]);
            assert_eq!(fake.calls().len(), asked, "a person who asks is not held up by a cool-down");
        }
    }

    #[tokio::test]
    async fn a_value_outlives_a_failed_renewal() {
        let fake = Fake::new("[ -e \"$d/limited\" ] && { echo '(429) Too Many Requests' >&2; exit 1; }; printf v");
        let source = fake.source();
        let a = reference("op://v/a/f");
        source.read(&a).await.unwrap();
        std::fs::write(fake.dir.path().join("limited"), "").unwrap();
        assert_eq!(source.renew(&a).await.err(), Some(Failure::RateLimited));
        assert_eq!(source.read(&a).await.unwrap().expose(), "v");
        assert_eq!(source.failure(&a), Some(Failure::RateLimited));
        assert_eq!(source.renew(&a).await.err(), Some(Failure::RateLimited));
        assert_eq!(fake.calls().len(), 2, "it backs off");
    }

    #[tokio::test]
    async fn an_old_value_is_asked_for_again_and_used_only_where_limits_are_the_matter() {
        let fake = Fake::new("[ -e \"$d/says\" ] && { cat \"$d/says\" >&2; exit 1; }; printf v");
        let settings =
            OnePasswordSettings { cache_ttl: Some(Duration::ZERO), ..settings(&fake.op(), Duration::from_secs(20)) };
        let source = OnePassword::new(&Environment::from_iter([("PATH", "/usr/bin:/bin")]), &settings);
        let a = reference("op://v/a/f");
        source.read(&a).await.unwrap();
        assert!(source.held(&a).is_none());
        std::fs::write(fake.dir.path().join("says"), "(429) Too Many Requests").unwrap();
        assert_eq!(source.read(&a).await.err(), Some(Failure::RateLimited));
        assert_eq!(source.read(&a).await.unwrap().expose(), "v");
        std::fs::write(fake.dir.path().join("says"), "authorization prompt dismissed").unwrap();
        source.unlock(std::slice::from_ref(&a), false).await;
        assert_eq!(source.read(&a).await.err(), Some(Failure::Dismissed));
    }

    #[tokio::test]
    async fn settings_that_say_nothing_of_the_account_keep_the_values() {
        let fake = Fake::new("printf v");
        let source = fake.source();
        let a = reference("op://v/a/f");
        source.read(&a).await.unwrap();
        let changed = settings(&fake.op(), Duration::from_secs(5));
        source.reload(&changed);
        assert!(source.held(&a).is_some());
        source.reload(&OnePasswordSettings { account: Some("work".to_owned()), ..changed });
        assert!(source.held(&a).is_none());
        source.read(&a).await.unwrap();
        let env = std::fs::read_to_string(fake.dir.path().join("env")).unwrap();
        assert!(env.contains("OP_ACCOUNT=work"), "{env}");
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
            ("printf op://hunter2/a/b", "another reference"),
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
    fn failures_are_kept_for_a_while() {
        let now = Instant::now();
        for (failure, seconds) in [(Failure::Dismissed, 60), (Failure::NoItem, 10), (Failure::RateLimited, 300)] {
            let kept = Kept { value: None, failure: Some((failure, Some(now))) };
            assert!(kept.cooling(now + Duration::from_secs(seconds - 1)).is_some());
            assert!(kept.cooling(now + Duration::from_secs(seconds)).is_none());
        }
    }
}
