//! The credentials in force: which source wins, what it says, and who was shadowed.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use clauderon_api::{CredentialInfo, UnlockedCredential};
use clauderon_core::config::{OpReference, Settings};
use clauderon_core::credential::CredentialName;
use clauderon_core::rule::RuleSet;
use clauderon_core::secret::Secret;
use clauderon_proxy::snapshot::{Known, Renewed, Resolved, SecretBook};

use crate::sources::Reading;
use crate::sources::env::Environment;
use crate::sources::login::{Keeper, Logins};
use crate::sources::onepassword::{OnePassword, Unlocked};

mod pages;

use pages::{Definition, Found, Page, Pages, definitions};

/// Every credential, built in or user-defined, with its sources by priority: environment, 1Password, file.
pub struct Book {
    env: Arc<Environment>,
    onepassword: OnePassword,
    logins: Logins,
    pages: ArcSwap<Pages>,
}

impl Book {
    /// Reads all sources for `settings`; 1Password is not asked before a first use.
    pub fn open(env: Arc<Environment>, settings: &Settings) -> Self {
        let onepassword = OnePassword::new(&env, &settings.onepassword);
        let logins = Logins::default();
        let sources = (env.as_ref(), &logins);
        let pages = Pages::read(definitions(settings), settings.onepassword.fallback, sources, None);
        pages.tell_faults(None);
        Self { env, onepassword, logins, pages: ArcSwap::from_pointee(pages) }
    }

    /// Reads all sources for new settings; what 1Password answered is kept unless another account may be meant now.
    pub fn reload(&self, settings: &Settings) {
        self.onepassword.reload(&settings.onepassword);
        self.turn(definitions(settings), settings.onepassword.fallback);
    }

    /// Reads the secret files again; what 1Password answered is kept.
    pub fn refresh(&self) {
        let pages = self.pages.load();
        let definitions = pages.order.iter().map(|page| Arc::clone(&page.definition)).collect();
        self.turn(definitions, pages.fallback);
    }

    /// The logins that agents keep on this machine.
    pub fn logins(&self) -> &Logins {
        &self.logins
    }

    /// Whose login stands behind a credential, if one does.
    pub fn login_of(&self, name: &CredentialName) -> Option<Keeper> {
        match self.page(name)?.reading()? {
            Reading::Login(keeper) => Some(*keeper),
            Reading::Literal(_) | Reading::Reference(_) | Reading::Broken(_) => None,
        }
    }

    /// Every credential that could exist, in the order of the documentation.
    pub fn names(&self) -> Vec<CredentialName> {
        self.pages.load().order.iter().map(|page| page.definition.name.clone()).collect()
    }

    /// The source that wins for a credential, for people.
    pub fn source_of(&self, name: &CredentialName) -> Option<String> {
        self.page(name)?.found.first().map(Found::to_string)
    }

    /// What is wrong with the source that wins, if that can be said without asking it.
    pub fn fault(&self, name: &CredentialName) -> Option<String> {
        let page = self.page(name)?;
        let found = page.found.first()?;
        if let Reading::Broken(reason) = &found.reading { Some(format!("{found}: {reason}")) } else { None }
    }

    /// One row per credential for `config credentials`; never a value.
    pub fn rows(&self, rules: &RuleSet) -> Vec<CredentialInfo> {
        self.pages.load().order.iter().map(|page| self.row(page, rules)).collect()
    }

    /// Resolves the 1Password references of these credentials, or of all, in one go; `again` also those that are held.
    pub async fn unlock(&self, only: &[CredentialName], again: bool) -> Vec<UnlockedCredential> {
        let pages = self.pages.load_full();
        let wanted = |page: &&Arc<Page>| match only {
            [] => page.reference().is_some(),
            only => only.contains(&page.definition.name),
        };
        let pages: Vec<&Arc<Page>> = pages.order.iter().filter(wanted).collect();
        let references: Vec<OpReference> = pages.iter().filter_map(|page| page.reference().cloned()).collect();
        let mut unlocked = self.onepassword.unlock(&references, again).await.into_iter();
        let of_page = |page: &&Arc<Page>| {
            let unlocked = page.reference().and_then(|_| unlocked.next());
            self.unlocked(page, unlocked.as_ref())
        };
        pages.iter().map(of_page).collect()
    }

    fn unlocked(&self, page: &Page, unlocked: Option<&Unlocked>) -> UnlockedCredential {
        let usable = matches!(page.reading(), Some(Reading::Literal(_) | Reading::Login(_)));
        let outcome = match unlocked {
            Some(Unlocked::Read) => "read",
            Some(Unlocked::Held) => "held",
            None if usable => "held",
            Some(Unlocked::Failed(_)) | None => "failed",
        };
        let problem = || match (unlocked, page.found.first()) {
            (Some(Unlocked::Failed(failure)), Some(found)) => Some(format!("{found}: {failure}")),
            _ => self.problem(page).or_else(|| page.advice(false)),
        };
        UnlockedCredential {
            name: page.definition.name.to_string(),
            outcome: outcome.to_owned(),
            source: page.found.first().map(Found::to_string),
            problem: if outcome == "failed" { problem() } else { None },
        }
    }

    fn row(&self, page: &Page, rules: &RuleSet) -> CredentialInfo {
        let known = self.known(page);
        let hosts = hosts(&page.definition.name, rules);
        let problem = self.problem(page).or_else(|| page.advice(hosts.is_empty()));
        CredentialInfo {
            name: page.definition.name.to_string(),
            title: page.definition.title.clone(),
            available: matches!(known, Known::Ready(_)) || self.may_be_had(page),
            source: page.found.first().map(Found::to_string),
            shadowed: page.found.iter().skip(1).map(Found::to_string).collect(),
            hosts,
            fingerprint: if let Known::Ready(secret) = &known { Some(secret.fingerprint()) } else { None },
            last_used: page.last_used(),
            problem,
        }
    }

    /// Whether a value is there, or was not asked for yet.
    fn may_be_had(&self, page: &Page) -> bool {
        for found in &page.found {
            match &found.reading {
                Reading::Literal(_) => return true,
                Reading::Reference(reference) if self.onepassword.failure(reference).is_none() => return true,
                Reading::Reference(_) if self.gives_way(found) => {}
                Reading::Login(keeper) => return self.logins.problem(*keeper).is_none(),
                Reading::Reference(_) | Reading::Broken(_) => return false,
            }
        }
        false
    }

    fn known(&self, page: &Page) -> Known {
        match page.reading() {
            None => Known::Absent,
            Some(Reading::Literal(secret)) => Known::Ready(Arc::clone(secret)),
            Some(Reading::Reference(reference)) => {
                self.onepassword.held(reference).map_or(Known::Unresolved, Known::Ready)
            }
            Some(Reading::Login(keeper)) => self.logins.peek(*keeper),
            // Resolving it says what is wrong.
            Some(Reading::Broken(_)) => Known::Unresolved,
        }
    }

    /// What is wrong with the source that wins, else with one that is shadowed.
    fn problem(&self, page: &Page) -> Option<String> {
        page.found.iter().enumerate().find_map(|(nth, found)| match &found.reading {
            Reading::Literal(_) => None,
            Reading::Reference(reference) => {
                let failure = self.onepassword.failure(reference)?;
                let held = self.onepassword.held(reference).is_some();
                let instead = match page.found.get(nth + 1).filter(|_| self.gives_way(found)) {
                    _ if held => "; the value read before is used".to_owned(),
                    Some(next) => format!("; {next} is used instead"),
                    None => String::new(),
                };
                Some(format!("{found}: {failure}{instead}"))
            }
            Reading::Login(keeper) => Some(format!("{found}: {}", self.logins.problem(*keeper)?)),
            Reading::Broken(reason) => Some(format!("{found}: {reason}")),
        })
    }

    async fn secret(&self, name: &CredentialName) -> Resolved {
        let page = self.page(name).ok_or_else(|| format!("there is no credential `{name}`"))?;
        let mut failures = Vec::new();
        for found in &page.found {
            match self.value(found).await {
                Ok(secret) => return Ok(secret),
                Err(failure) => failures.push(format!("{found}: {failure}")),
            }
            if !self.gives_way(found) {
                break;
            }
        }
        Err(if failures.is_empty() { page.advice(false).unwrap_or_default() } else { failures.join("; then ") })
    }

    async fn value(&self, found: &Found) -> Resolved {
        match &found.reading {
            Reading::Literal(secret) => Ok(Arc::clone(secret)),
            Reading::Reference(reference) => self.onepassword.read(reference).await.map_err(|f| f.to_string()),
            Reading::Login(keeper) => self.logins.resolve(*keeper).await,
            Reading::Broken(reason) => Err(reason.clone()),
        }
    }

    /// Whether the next source counts when this one cannot be resolved. What is written wrong must be mended.
    fn gives_way(&self, found: &Found) -> bool {
        matches!(found.reading, Reading::Reference(_)) && self.pages.load().fallback
    }

    /// Asks the sources of a credential again. Whoever waits for the lock finds what came of it.
    async fn asked_again(&self, name: &CredentialName, refused: &Secret) -> Renewed {
        let Some(history) = self.page(name).map(|page| Arc::clone(&page.history)) else { return Renewed::NotAsked };
        let mut renewed = history.renewed.lock().await;
        let Some(page) = self.page(name) else { return Renewed::NotAsked };
        if let Known::Ready(secret) = self.known(&page)
            && secret.expose() != refused.expose()
        {
            return Renewed::Changed(secret);
        }
        if renewed.is_some_and(|at| at.elapsed() < page.renewal_interval()) {
            return Renewed::NotAsked;
        }
        tracing::info!(credential = %name, "an origin refused the credential: its source is asked again");
        let failure = match page.reading() {
            Some(Reading::Reference(reference)) => self.onepassword.renew(reference).await.err(),
            Some(Reading::Login(keeper)) => {
                self.logins.forget(*keeper);
                None
            }
            Some(Reading::Literal(_) | Reading::Broken(_)) | None => None,
        };
        self.refresh();
        *renewed = Some(Instant::now());
        match (self.secret(name).await, failure) {
            (Ok(secret), _) if secret.expose() != refused.expose() => Renewed::Changed(secret),
            (Ok(_), None) => Renewed::Same,
            (Ok(_), Some(failure)) => Renewed::Failed(failure.to_string()),
            (Err(why), _) => Renewed::Failed(why),
        }
    }

    fn page(&self, name: &CredentialName) -> Option<Arc<Page>> {
        self.pages.load().by_name.get(name).cloned()
    }

    fn turn(&self, definitions: Vec<Arc<Definition>>, fallback: bool) {
        let before = self.pages.load();
        let pages = Pages::read(definitions, fallback, (&self.env, &self.logins), Some(&before));
        pages.tell_faults(Some(&before));
        self.onepassword.keep_only(&pages.references());
        self.pages.store(Arc::new(pages));
    }
}

impl SecretBook for Book {
    fn peek(&self, name: &CredentialName) -> Known {
        self.pages.load().by_name.get(name).map_or(Known::Absent, |page| self.known(page))
    }

    fn resolve<'a>(&'a self, name: &'a CredentialName) -> Pin<Box<dyn Future<Output = Resolved> + Send + 'a>> {
        Box::pin(self.secret(name))
    }

    fn used(&self, name: &CredentialName) {
        if let Some(page) = self.pages.load().by_name.get(name) {
            page.history.last_used.store(unix_seconds(), Ordering::Relaxed);
        }
    }

    fn is_renewable(&self, name: &CredentialName) -> bool {
        let pages = self.pages.load();
        pages.by_name.get(name).and_then(|page| page.found.first()).is_some_and(Found::can_change)
    }

    fn renew<'a>(
        &'a self,
        name: &'a CredentialName,
        refused: &'a Secret,
    ) -> Pin<Box<dyn Future<Output = Renewed> + Send + 'a>> {
        Box::pin(self.asked_again(name, refused))
    }
}

fn unix_seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn hosts(name: &CredentialName, rules: &RuleSet) -> Vec<String> {
    let mut hosts: Vec<String> =
        rules.iter().filter(|rule| rule.credential == *name).map(|rule| rule.host.to_string()).collect();
    hosts.sort_unstable();
    hosts.dedup();
    hosts
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use clauderon_core::host::HostPattern;
    use clauderon_core::path::PathPattern;
    use clauderon_core::rule::{InjectPolicy, Rule, Shape};

    use super::*;
    use crate::home::{Home, write_private};

    struct Rig {
        _dir: tempfile::TempDir,
        home: Home,
        env: Vec<(&'static str, &'static str)>,
        toml: String,
    }

    impl Rig {
        fn new(env: &[(&'static str, &'static str)], toml: &str) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let home = Home::at(dir.path().join("home"), dir.path()).create().unwrap();
            Self { _dir: dir, home, env: env.to_vec(), toml: toml.to_owned() }
        }

        fn file(&self, key: &str, value: &str) -> &Self {
            write_private(&self.home.secrets_dir().join(key), value.as_bytes(), 0o600).unwrap();
            self
        }

        fn settings(&self) -> Settings {
            Settings::parse(&self.toml, self.home.root(), self.home.user_home()).unwrap()
        }

        fn book(&self) -> Book {
            Book::open(Arc::new(self.env.iter().copied().collect()), &self.settings())
        }
    }

    fn name(text: &str) -> CredentialName {
        CredentialName::parse(text).unwrap()
    }

    fn ready(book: &Book, credential: &str) -> Option<String> {
        match book.peek(&name(credential)) {
            Known::Ready(secret) => Some(secret.expose().to_owned()),
            Known::Unresolved | Known::Absent => None,
        }
    }

    fn row(book: &Book, credential: &str) -> CredentialInfo {
        book.rows(&RuleSet::default()).into_iter().find(|row| row.name == credential).unwrap()
    }

    const MAPPED: &str = "[onepassword]\nenabled = true\nop_path = \"/nonexistent/op\"\n\
                          [onepassword.credentials]\ngithub_token = \"op://Private/GitHub/token\"\n";

    #[tokio::test]
    async fn environment_beats_1password_beats_file() {
        let rig = Rig::new(&[("GITHUB_TOKEN", "ghp_env")], MAPPED);
        rig.file("github_token", "ghp_file");
        let book = rig.book();
        assert_eq!(ready(&book, "github").as_deref(), Some("ghp_env"));
        let github = row(&book, "github");
        assert_eq!(github.source.as_deref(), Some("env GITHUB_TOKEN"));
        let file = format!("file {}", rig.home.secrets_dir().join("github_token").display());
        assert_eq!(github.shadowed, ["1password op://Private/GitHub/…", &file]);
        assert_eq!(github.fingerprint.map(|digits| digits.len()), Some(4));

        let rig = Rig::new(&[("GITHUB_TOKEN", " ")], MAPPED);
        rig.file("github_token", "ghp_file");
        let book = rig.book();
        assert!(matches!(book.peek(&name("github")), Known::Unresolved));
        // A winner that fails is an error; the file below it must not be sent instead.
        let error = book.resolve(&name("github")).await.err().unwrap();
        assert!(error.starts_with("1password op://Private/GitHub/…: ") && error.contains("/nonexistent/op"), "{error}");
        assert_eq!(row(&book, "github").problem, Some(error));

        let disabled = MAPPED.replace("enabled = true", "enabled = false");
        let rig = Rig::new(&[], &disabled);
        rig.file("github_token", "ghp_file\n");
        assert_eq!(ready(&rig.book(), "github").as_deref(), Some("ghp_file"));
    }

    #[tokio::test]
    async fn a_reference_is_never_the_value() {
        let rig = Rig::new(
            &[("GITHUB_TOKEN", "op://Private/GitHub/token"), ("NPM_TOKEN", "op://broken")],
            "[onepassword]\nop_path = \"/nonexistent/op\"",
        );
        rig.file("sentry_auth_token", "op://Private/Sentry/token\n");
        let book = rig.book();
        for credential in ["github", "npm", "sentry"] {
            assert_eq!(ready(&book, credential), None);
            assert!(book.resolve(&name(credential)).await.is_err());
        }
        assert_eq!(row(&book, "github").source.as_deref(), Some("env GITHUB_TOKEN = op://Private/GitHub/…"));
        assert!(!row(&book, "npm").available && row(&book, "npm").problem.unwrap().contains("op://vault/item/field"));
    }

    #[test]
    fn a_changed_file_is_in_force_after_a_refresh_and_uses_are_remembered() {
        let rig = Rig::new(&[], "");
        let book = rig.file("github_token", "ghp_old").book();
        book.used(&name("github"));
        rig.file("github_token", "ghp_new");
        book.refresh();
        assert_eq!(ready(&book, "github").as_deref(), Some("ghp_new"));
        assert!(row(&book, "github").last_used.unwrap().ends_with('Z'));
        std::fs::remove_file(rig.home.secrets_dir().join("github_token")).unwrap();
        book.refresh();
        assert!(matches!(book.peek(&name("github")), Known::Absent));
        assert!(row(&book, "github").problem.unwrap().contains("GITHUB_TOKEN"));
    }

    #[tokio::test]
    async fn loose_modes_are_refused_with_the_command() {
        let rig = Rig::new(&[], "");
        rig.file("github_token", "ghp_x").file("npm_token", "npm_x");
        let secrets = rig.home.secrets_dir();
        std::fs::set_permissions(secrets.join("github_token"), Permissions::from_mode(0o644)).unwrap();
        let book = rig.book();
        let problem = row(&book, "github").problem.unwrap();
        assert!(problem.contains(&format!("chmod 600 {}", secrets.join("github_token").display())), "{problem}");
        assert!(book.resolve(&name("github")).await.is_err_and(|error| error == problem));
        assert_eq!(ready(&book, "npm").as_deref(), Some("npm_x"));
        std::fs::set_permissions(&secrets, Permissions::from_mode(0o750)).unwrap();
        book.refresh();
        assert!(row(&book, "npm").problem.unwrap().contains(&format!("chmod 700 {}", secrets.display())));
        assert_eq!(ready(&book, "npm"), None);
    }

    #[test]
    fn rows_list_everything_and_say_what_is_missing() {
        let rig = Rig::new(
            &[("LINEAR_API_KEY", "lin_secretvalue"), ("NPM_TOKEN", "npm_secretvalue")],
            "[[credential]]\nname = \"linear\"\nenv = \"LINEAR_API_KEY\"\nhosts = [\"api.linear.app\"]",
        );
        let book = rig.book();
        let rule = |host: &str| Rule {
            service: "linear".into(),
            credential: name("linear"),
            host: HostPattern::parse(host).unwrap(),
            path: PathPattern::Any,
            shape: Shape::Bearer,
            inject: InjectPolicy::Auto,
            extra: Arc::default(),
            label: Default::default(),
        };
        let rows = book.rows(&RuleSet::new([rule("b.linear.app"), rule("api.linear.app"), rule("api.linear.app")]));
        assert_eq!(rows.len(), 13);
        let linear = rows.last().unwrap();
        assert_eq!((linear.name.as_str(), linear.available, linear.problem.as_deref()), ("linear", true, None));
        assert_eq!(linear.hosts, ["api.linear.app", "b.linear.app"]);
        let npm = rows.iter().find(|row| row.name == "npm").unwrap();
        assert!(npm.available && npm.problem.as_deref().unwrap().contains("[services.npm]"));
        assert!(!format!("{rows:?}").contains("secretvalue"));
    }
}
