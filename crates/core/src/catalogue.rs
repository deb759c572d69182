//! Ready `[[credential]]` entries for services that have no code of their own: `clauderon config add`.

use crate::classify::{BodyRule, Classification};
use crate::facts::Facts;
use crate::host::Scheme;

/// One entry.
#[derive(Debug)]
pub struct Ready {
    /// What the user types, and the credential's name.
    pub name: &'static str,
    /// The service, for people.
    pub title: &'static str,
    /// The variable that holds the token, and its placeholder inside sessions unless the lines say otherwise.
    pub env: &'static str,
    /// Where it goes; empty where only the user can know.
    pub hosts: &'static [&'static str],
    /// What kind of token it is.
    pub token: &'static str,
    /// The other keys, a line each; `{hosts}` and `{user}` are filled in.
    lines: &'static [&'static str],
    /// The one URL whose POSTs are GraphQL: its host and path.
    graphql: Option<(&'static str, &'static str)>,
}

/// What the user fills in.
#[derive(Debug, Default)]
pub struct Filling {
    /// Hosts instead of the entry's own.
    pub hosts: Vec<String>,
    /// The account that goes with the token.
    pub user: Option<String>,
}

/// What an entry needs and was not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// Where it goes.
    #[error("its host is different for everyone: give it with --host")]
    Host,
    /// Whose token it is.
    #[error("the token goes with an account: give its name with --user")]
    User,
}

impl Ready {
    /// The entry of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        READY.iter().find(|ready| ready.name == name)
    }

    /// Whether it needs `--user`.
    pub fn needs_user(&self) -> bool {
        self.lines.iter().any(|line| line.contains("{user}"))
    }

    /// The text for `proxy.toml`.
    pub fn entry(&self, filling: &Filling) -> Result<String, Missing> {
        let given: Vec<&str> = filling.hosts.iter().map(String::as_str).collect();
        let hosts = if given.is_empty() { self.hosts } else { &given };
        let user = filling.user.as_deref().unwrap_or_default();
        match () {
            () if hosts.is_empty() => return Err(Missing::Host),
            () if self.needs_user() && user.is_empty() => return Err(Missing::User),
            () => {}
        }
        let Self { name, title, env, token, .. } = self;
        let mut text = format!("# {title}: {token}.\n[[credential]]\nname = \"{name}\"\n");
        text.push_str(&format!("env = {}\nfile = {}\nhosts = {}\n", quoted(env), quoted(name), list(hosts)));
        for line in self.lines {
            text.push_str(&line.replace("{hosts}", &list(hosts)).replace("{user}", &escaped(user)));
            text.push('\n');
        }
        if !self.lines.iter().any(|line| line.starts_with("session_env")) {
            text.push_str(&format!("session_env = {}\n", quoted(env)));
        }
        Ok(text)
    }
}

/// The class of a POST to a URL that is known to take GraphQL.
pub(crate) fn graphql(facts: &Facts<'_>) -> Option<Classification> {
    let origin = facts.origin;
    let (host, path) = (origin.host.name()?, facts.path?);
    let plain = origin.scheme == Scheme::Https && origin.port == Scheme::Https.default_port();
    let post = *facts.method == http::Method::POST && !facts.upgrade;
    let known = || READY.iter().any(|ready| ready.graphql == Some((host, path.as_str())));
    (plain && post && known()).then(|| BodyRule::Graphql.by_head(facts))
}

fn list(texts: &[&str]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
    format!("[{}]", quoted.join(", "))
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(text))
}

/// What a basic string of TOML cannot hold as it is. Control characters are refused when the entry is read.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

const BEARER: &str = "format = \"Bearer {token}\"";

const fn bearer(
    name: &'static str,
    title: &'static str,
    env: &'static str,
    hosts: &'static [&'static str],
    token: &'static str,
) -> Ready {
    Ready { name, title, env, hosts, token, lines: &[BEARER], graphql: None }
}

/// All of them, by name.
pub static READY: [Ready; 15] = [
    Ready {
        lines: &["basic_user = \"{user}\"", "git_hosts = [\"bitbucket.org\"]", "git_user = \"{user}\""],
        ..bearer(
            "bitbucket",
            "Bitbucket",
            "BITBUCKET_TOKEN",
            &["api.bitbucket.org"],
            "an app password or API token of the account",
        )
    },
    Ready {
        graphql: Some(("graphql.buildkite.com", "/v1")),
        ..bearer(
            "buildkite",
            "Buildkite",
            "BUILDKITE_API_TOKEN",
            &["api.buildkite.com", "graphql.buildkite.com"],
            "an API access token (bkua_…)",
        )
    },
    Ready {
        lines: &["path = \"/api/v1\"", "header = \"Authorization\""],
        ..bearer("cargo", "A cargo registry", "CARGO_REGISTRY_TOKEN", &[], "a token for publishing")
    },
    bearer("cloudflare", "Cloudflare", "CLOUDFLARE_API_TOKEN", &["api.cloudflare.com"], "an API token"),
    Ready {
        lines: &["header = \"DD-API-KEY\""],
        ..bearer("datadog", "Datadog", "DD_API_KEY", &["api.datadoghq.com"], "an API key")
    },
    Ready {
        lines: &["header = \"DD-APPLICATION-KEY\""],
        ..bearer("datadog-app", "Datadog, beside `datadog`", "DD_APP_KEY", &["api.datadoghq.com"], "an application key")
    },
    Ready {
        lines: &[
            "path = \"/api\"",
            "header = \"PRIVATE-TOKEN\"",
            "bearer = true",
            "git_hosts = {hosts}",
            "git_user = \"oauth2\"",
        ],
        ..bearer("gitlab", "GitLab", "GITLAB_TOKEN", &["gitlab.com"], "an access token (glpat-…)")
    },
    Ready {
        lines: &[BEARER, "git_hosts = {hosts}", "git_user = \"user\""],
        ..bearer("huggingface", "Hugging Face", "HF_TOKEN", &["huggingface.co"], "an access token (hf_…)")
    },
    Ready {
        lines: &["header = \"Authorization\""],
        graphql: Some(("api.linear.app", "/graphql")),
        ..bearer("linear", "Linear", "LINEAR_API_KEY", &["api.linear.app"], "a personal API key (lin_api_…)")
    },
    bearer("notion", "Notion", "NOTION_TOKEN", &["api.notion.com"], "an integration's secret (ntn_…)"),
    Ready {
        lines: &["path = \"/legacy\"", "basic_user = \"__token__\"", "session_env = \"TWINE_PASSWORD\""],
        ..bearer("pypi", "A Python package index", "PYPI_TOKEN", &[], "a token for uploading (pypi-…)")
    },
    Ready {
        lines: &["path = \"/api\"", BEARER, "body = \"token\""],
        ..bearer("slack", "Slack", "SLACK_BOT_TOKEN", &["slack.com"], "a bot's token (xoxb-…)")
    },
    bearer("stripe", "Stripe", "STRIPE_API_KEY", &["api.stripe.com"], "a secret or restricted key (sk_…, rk_…)"),
    Ready {
        lines: &["path = \"/bot{token}\"", "more_paths = [\"/file/bot{token}\"]"],
        ..bearer("telegram", "Telegram's bots", "TELEGRAM_BOT_TOKEN", &["api.telegram.org"], "a bot's token")
    },
    bearer("vercel", "Vercel", "VERCEL_TOKEN", &["api.vercel.com"], "an access token"),
];

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing unwrap or index is the test's failure")]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Settings;

    fn filling() -> Filling {
        Filling { hosts: vec!["own.example.com".into()], user: Some("an\"n".into()) }
    }

    #[test]
    fn every_entry_is_a_valid_configuration_of_its_own_and_together() {
        let entries = READY.iter().map(|ready| ready.entry(&filling()).unwrap());
        let mut all = String::new();
        for (ready, entry) in READY.iter().zip(entries) {
            all.push_str(&entry);
            let settings = Settings::parse(&entry, Path::new("/h/.c"), Path::new("/h")).unwrap();
            let [credential] = &settings.credentials[..] else { panic!("{entry}") };
            assert_eq!(credential.name.as_str(), ready.name);
            assert_eq!(credential.hosts[0].to_string(), "own.example.com");
            assert!(credential.env.is_some() && credential.file.is_some() && credential.session_env.is_some());
        }
        assert_eq!(Settings::parse(&all, Path::new("/h/.c"), Path::new("/h")).unwrap().credentials.len(), READY.len());
        assert!(READY.iter().map(|ready| ready.name).is_sorted(), "listed by name");
    }

    #[test]
    fn what_only_the_user_knows_is_asked_for() {
        let missing = |name: &str| Ready::named(name).unwrap().entry(&Filling::default()).err();
        assert_eq!(
            (missing("cargo"), missing("pypi"), missing("bitbucket")),
            (Some(Missing::Host), Some(Missing::Host), Some(Missing::User))
        );
        assert_eq!((missing("linear"), missing("gitlab")), (None, None));
    }
}
