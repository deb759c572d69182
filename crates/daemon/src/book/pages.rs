//! The sources of every credential, as they were last read.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use clauderon_core::config::{OpReference, Settings, UserCredential};
use clauderon_core::credential::{CredentialKind, CredentialName};
use clauderon_core::map::TrustedMap;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::sources::env::Environment;
use crate::sources::login::{Keeper, LoginFile, Logins, api_key};
use crate::sources::{self, Reading, file};

/// All credentials as their sources were last read.
pub(super) struct Pages {
    pub(super) order: Vec<Arc<Page>>,
    pub(super) by_name: TrustedMap<CredentialName, Arc<Page>>,
    /// Whether a reference that cannot be resolved gives way to the next source.
    pub(super) fallback: bool,
}

pub(super) struct Page {
    pub(super) definition: Arc<Definition>,
    /// By priority; the first wins, and what is wrong with it is not mended by the next.
    pub(super) found: Vec<Found>,
    /// Kept when sources are read again.
    pub(super) history: Arc<History>,
}

/// What happened to a credential.
#[derive(Default)]
pub(super) struct History {
    /// Unix seconds of the last injection; 0 means never.
    pub(super) last_used: AtomicI64,
    /// When its source was last asked again because an origin refused it. Locked while that lasts.
    pub(super) renewed: tokio::sync::Mutex<Option<Instant>>,
}

/// Where a credential's sources are.
pub(super) struct Definition {
    pub(super) name: CredentialName,
    pub(super) title: String,
    pub(super) env: Option<String>,
    pub(super) op: Option<OpReference>,
    pub(super) file: Option<PathBuf>,
    /// The directory of secret files, if the file lies there: its mode matters too.
    pub(super) private_dir: Option<PathBuf>,
    /// The login that counts where nothing else does.
    pub(super) login: Option<LoginFile>,
    /// Where Codex keeps an API key.
    pub(super) codex_key: Option<PathBuf>,
}

pub(super) struct Found {
    pub(super) source: Source,
    pub(super) reading: Reading,
}

pub(super) enum Source {
    Env(String),
    OnePassword,
    File(PathBuf),
    Login(PathBuf),
}

impl Pages {
    pub(super) fn read(
        definitions: Vec<Arc<Definition>>,
        fallback: bool,
        from: (&Environment, &Logins),
        before: Option<&Self>,
    ) -> Self {
        let page = |definition: Arc<Definition>| {
            let earlier = before.and_then(|pages| pages.by_name.get(&definition.name));
            let history = earlier.map(|page| Arc::clone(&page.history)).unwrap_or_default();
            Arc::new(Page { found: definition.find(from), definition, history })
        };
        let order: Vec<Arc<Page>> = definitions.into_iter().map(page).collect();
        let by_name = order.iter().map(|page| (page.definition.name.clone(), Arc::clone(page))).collect();
        Self { order, by_name, fallback }
    }

    /// Says in the log what cannot be used and could be before, or was not there.
    pub(super) fn tell_faults(&self, before: Option<&Self>) {
        for page in &self.order {
            let earlier = before.and_then(|pages| pages.by_name.get(&page.definition.name));
            let known = |fault: &String| earlier.is_some_and(|page| page.faults().any(|known| known == *fault));
            for fault in page.faults().filter(|fault| !known(fault)) {
                tracing::warn!(credential = %page.definition.name, "{fault}");
            }
        }
    }

    /// Every reference that could be asked for.
    pub(super) fn references(&self) -> HashSet<&OpReference> {
        let found = self.order.iter().flat_map(|page| &page.found);
        found.filter_map(Found::reference).collect()
    }
}

impl Page {
    pub(super) fn reading(&self) -> Option<&Reading> {
        self.found.first().map(|found| &found.reading)
    }

    fn faults(&self) -> impl Iterator<Item = String> {
        self.found.iter().filter_map(|found| match &found.reading {
            Reading::Broken(reason) => Some(format!("{found}: {reason}")),
            Reading::Literal(_) | Reading::Reference(_) | Reading::Login(_) => None,
        })
    }

    /// The reference that wins.
    pub(super) fn reference(&self) -> Option<&OpReference> {
        self.found.first().and_then(Found::reference)
    }

    /// How long after asking the source again it is not worth it to ask once more.
    pub(super) fn renewal_interval(&self) -> Duration {
        match self.reading() {
            Some(Reading::Reference(_)) => REFERENCE_RENEWAL,
            _ => FILE_RENEWAL,
        }
    }

    pub(super) fn last_used(&self) -> Option<String> {
        let seconds = self.history.last_used.load(Ordering::Relaxed);
        (seconds != 0).then(|| OffsetDateTime::from_unix_timestamp(seconds).ok()?.format(&Rfc3339).ok()).flatten()
    }

    /// What to do about a credential that no source defines, or that no rule uses.
    pub(super) fn advice(&self, no_hosts: bool) -> Option<String> {
        match self.found.is_empty() {
            true => Some(self.definition.how_to_give()),
            false if no_hosts => Some(unused(self.definition.name.as_str()).to_owned()),
            false => None,
        }
    }
}

impl Definition {
    fn built_in(kind: CredentialKind, settings: &Settings) -> Self {
        let (names, name) = (kind.names(), kind.credential());
        Self {
            title: names.title.to_owned(),
            env: Some(names.env.to_owned()),
            op: mapped(&name, settings),
            file: Some(settings.secrets_dir.join(names.key)),
            private_dir: Some(settings.secrets_dir.clone()),
            login: keeper(kind).and_then(|keeper| LoginFile::of(keeper, &settings.logins)),
            codex_key: LoginFile::of(Keeper::Codex, &settings.logins)
                .filter(|_| kind == CredentialKind::Openai)
                .map(|file| file.path),
            name,
        }
    }

    fn of_user(credential: &UserCredential, settings: &Settings) -> Self {
        let private = credential.file.as_ref().is_some_and(|file| file.starts_with(&settings.secrets_dir));
        Self {
            name: credential.name.clone(),
            title: credential.name.to_string(),
            env: credential.env.clone(),
            op: credential.op.clone().or_else(|| mapped(&credential.name, settings)),
            file: credential.file.clone(),
            private_dir: private.then(|| settings.secrets_dir.clone()),
            login: None,
            codex_key: None,
        }
    }

    /// All sources that define the credential, by priority.
    fn find(&self, (env, logins): (&Environment, &Logins)) -> Vec<Found> {
        let from_env =
            self.env.as_ref().and_then(|name| Found::new(Source::Env(name.clone()), env.read_as(name, self.how())));
        let from_op = self
            .op
            .clone()
            .map(|reference| Found { source: Source::OnePassword, reading: Reading::Reference(reference) });
        let from_file =
            self.file.as_ref().and_then(|path| Found::new(Source::File(path.clone()), self.read_file(path)));
        let from_login = self.login.as_ref().and_then(|file| Found::login(file, logins.read(file)?));
        let key = self.codex_key.as_ref().and_then(|path| Found::new(Source::Login(path.clone()), api_key(path)));
        [from_env, from_op, from_file, from_login, key].into_iter().flatten().collect()
    }

    /// How its sources are read: a talosconfig is a document.
    fn how(&self) -> fn(&str) -> Option<Reading> {
        let is_document = self.name.as_str() == CredentialKind::Talos.names().name;
        if is_document { sources::read_document } else { sources::read }
    }

    fn read_file(&self, path: &Path) -> Option<Reading> {
        let reading = file::read_as(path, self.how())?;
        let fault = self.private_dir.as_deref().and_then(file::directory_fault);
        Some(fault.map_or(reading, Reading::Broken))
    }

    fn how_to_give(&self) -> String {
        let env = self.env.as_ref().map(|name| format!("set {name} in the daemon's environment"));
        let file = self.file.as_ref().map(|path| format!("write it to {} (mode 0600)", path.display()));
        let login = self.login.as_ref().map(|login| format!("run `{}`", login.keeper.command()));
        let ways: Vec<String> = [env, file, login].into_iter().flatten().collect();
        format!("not configured: {}", if ways.is_empty() { "give it a source".to_owned() } else { ways.join(", or ") })
    }
}

impl Found {
    fn login(file: &LoginFile, read: Result<(), String>) -> Option<Self> {
        let reading = read.map_or_else(Reading::Broken, |()| Reading::Login(file.keeper));
        Self::new(Source::Login(file.path.clone()), Some(reading))
    }

    fn new(source: Source, reading: Option<Reading>) -> Option<Self> {
        Some(Self { source, reading: reading? })
    }

    fn reference(&self) -> Option<&OpReference> {
        if let Reading::Reference(reference) = &self.reading { Some(reference) } else { None }
    }
}

impl Found {
    /// A variable of ours stays as it is; a file can be written, and a field of 1Password changed.
    pub(super) fn can_change(&self) -> bool {
        !matches!((&self.source, &self.reading), (Source::Env(_), Reading::Literal(_)))
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.source, &self.reading) {
            (Source::OnePassword, Reading::Reference(reference)) => return write!(f, "1password {reference}"),
            (Source::OnePassword, _) => f.write_str("1password")?,
            (Source::Env(name), _) => write!(f, "env {name}")?,
            (Source::File(path), _) => write!(f, "file {}", path.display())?,
            (Source::Login(path), _) => write!(f, "login {}", path.display())?,
        }
        if let Reading::Reference(reference) = &self.reading { write!(f, " = {reference}") } else { Ok(()) }
    }
}

pub(super) fn definitions(settings: &Settings) -> Vec<Arc<Definition>> {
    let in_force = CredentialKind::ALL.into_iter().filter(|kind| kind.is_in_force(settings));
    let built_in = in_force.map(|kind| Definition::built_in(kind, settings));
    let of_user = settings.credentials.iter().map(|credential| Definition::of_user(credential, settings));
    built_in.chain(of_user).map(Arc::new).collect()
}

/// Whose login a credential may come from.
const fn keeper(kind: CredentialKind) -> Option<Keeper> {
    match kind {
        CredentialKind::Anthropic => Some(Keeper::Claude),
        CredentialKind::Chatgpt => Some(Keeper::Codex),
        _ => None,
    }
}

fn mapped(name: &CredentialName, settings: &Settings) -> Option<OpReference> {
    let onepassword = &settings.onepassword;
    onepassword.enabled.then(|| onepassword.credentials.get(name).cloned()).flatten()
}

fn unused(name: &str) -> &'static str {
    match name {
        "npm" => "unused: npm's configuration names no registry; set [services.npm] registries in proxy.toml",
        "talos" => "unused: it is not known where the cluster is; see the documentation of Talos",
        "grafana" => "unused: it is not known where your Grafana is; set [services.grafana] url in proxy.toml",
        _ => "unused: no host is known that it may go to",
    }
}

/// An agent can have requests refused at will: asking may bother a person, and costs requests of a limited account.
const REFERENCE_RENEWAL: Duration = Duration::from_secs(5 * 60);
/// A file costs next to nothing.
const FILE_RENEWAL: Duration = Duration::from_secs(1);
