//! Real programs, run in a clean environment and bounded in time.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::sightings::Sightings;
use crate::wait;

/// A program to run.
pub struct Run {
    program: PathBuf,
    args: Vec<String>,
    env: BTreeMap<String, String>,
    dir: Option<PathBuf>,
    input: Vec<u8>,
    sightings: Option<Sightings>,
}

/// What a program left.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The exit code; -1 when a signal ended it.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Run {
    /// A program found in `PATH`, which is all it inherits.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let path = std::env::var("PATH").expect("PATH is set");
        let env = BTreeMap::from([("PATH".into(), path), ("LC_ALL".into(), "C.UTF-8".into())]);
        let program = PathBuf::from(program.as_ref());
        Self { program, args: Vec::new(), env, dir: None, input: Vec::new(), sightings: None }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// Sets many variables.
    #[must_use]
    pub fn envs<'a>(mut self, pairs: impl IntoIterator<Item = (&'a String, &'a String)>) -> Self {
        self.env.extend(pairs.into_iter().map(|(name, value)| (name.clone(), value.clone())));
        self
    }

    /// Runs it in `dir`, which becomes its `HOME` too unless one is set.
    #[must_use]
    pub fn dir(mut self, dir: &Path) -> Self {
        self.env.entry("HOME".into()).or_insert_with(|| dir.display().to_string());
        self.dir = Some(dir.into());
        self
    }

    /// Gives it standard input.
    #[must_use]
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self
    }

    /// Keeps all it prints.
    #[must_use]
    pub fn watched(mut self, sightings: &Sightings) -> Self {
        self.sightings = Some(sightings.clone());
        self
    }

    /// Runs it to its end.
    pub async fn finish(self) -> Finished {
        let name = self.program.display().to_string();
        let mut command = Command::new(&self.program);
        command.args(&self.args).env_clear().envs(&self.env).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name} must be installed: {error}"));
        let mut stdin = child.stdin.take().expect("piped above");
        let input = self.input;
        // A program that ends early leaves the pipe broken, which is its right.
        let feeding = tokio::spawn(async move { stdin.write_all(&input).await });
        let output = tokio::time::timeout(PROGRAM_LIMIT, child.wait_with_output()).await;
        feeding.abort();
        let output =
            output.unwrap_or_else(|_| panic!("{name} {:?} still ran", self.args)).expect("a child is waited for");
        if let Some(sightings) = &self.sightings {
            sightings.add(&output.stdout);
            sightings.add(&output.stderr);
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = output.status.code().unwrap_or(-1);
        Finished { code, stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// Runs it to its end; panics unless it succeeds.
    pub async fn succeed(self) -> Finished {
        let what = format!("{} {:?}", self.program.display(), self.args);
        let finished = self.finish().await;
        assert_eq!(finished.code, 0, "{what} failed:\n{}\n{}", finished.stdout, finished.stderr);
        finished
    }
}

impl Finished {
    /// Standard output as JSON; panics when it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|_| panic!("no JSON: {}\n{}", self.stdout, self.stderr))
    }

    /// Both outputs.
    pub fn all(&self) -> String {
        format!("{}\n{}", self.stdout, self.stderr)
    }
}

/// Real tools such as npm start slowly when all cores are busy.
const PROGRAM_LIMIT: std::time::Duration = wait::LIMIT.saturating_mul(2);
