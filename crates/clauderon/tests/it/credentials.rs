//! Which credential goes where, in which form, from which source; and where it never goes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clauderon_testkit::origin::Origin;
use clauderon_testkit::rig::{Rig, RigBuilder};
use clauderon_testkit::wait;
use http::Request;

use crate::{GITHUB, github, github_rig, rig};

/// A built-in credential on its way to one host.
struct Case {
    env: &'static str,
    key: &'static str,
    secret: &'static str,
    host: &'static str,
    path: &'static str,
    field: &'static str,
    value: fn(&str) -> String,
    /// Whether it is added to a request that carries no credential.
    added: bool,
}

const fn case(env: &'static str, key: &'static str, host: &'static str, path: &'static str) -> Case {
    Case { env, key, secret: "", host, path, field: "authorization", value: bearer, added: true }
}

fn bearer(secret: &str) -> String {
    format!("Bearer {secret}")
}

fn basic(user: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{secret}")))
}

fn cases() -> Vec<Case> {
    let github = case("GITHUB_TOKEN", "github_token", "api.github.com", "/user");
    let uploads = case("GITHUB_TOKEN", "github_token", "uploads.github.com", "/repos/o/r/releases/1/assets");
    let git = case("GITHUB_TOKEN", "github_token", "github.com", "/o/r.git/info/refs?service=git-upload-pack");
    let anthropic = case("CLAUDE_CODE_OAUTH_TOKEN", "anthropic_oauth_token", "api.anthropic.com", "/v1/models");
    let openai = case("OPENAI_API_KEY", "openai_api_key", "api.openai.com", "/v1/models");
    let pagerduty = case("PAGERDUTY_TOKEN", "pagerduty_token", "api.pagerduty.com", "/users");
    let sentry = case("SENTRY_AUTH_TOKEN", "sentry_auth_token", "sentry.io", "/api/0/projects/");
    let grafana = case("GRAFANA_API_KEY", "grafana_api_key", "grafana.example.test", "/api/search");
    let npm = case("NPM_TOKEN", "npm_token", "npm.example.test", "/-/whoami");
    let docker = case("DOCKER_TOKEN", "docker_token", "auth.docker.io", "/token?service=registry.docker.io");
    let gemini = case("GEMINI_API_KEY", "gemini_api_key", "generativelanguage.googleapis.com", "/v1beta/models");
    vec![
        Case { secret: GITHUB, ..github },
        Case { secret: GITHUB, ..uploads },
        Case { secret: GITHUB, value: |secret| basic("x-access-token", secret), ..git },
        Case { secret: "sk-ant-oat01-TheRealOauthTokenNobodyMaySee", ..anthropic },
        Case { secret: "sk-proj-TheRealOpenaiKeyNobodyMaySee", ..openai },
        Case { secret: "u+TheRealPagerKey99", value: |secret| format!("Token token={secret}"), ..pagerduty },
        Case { secret: "sntryu_0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", ..sentry },
        Case { secret: "glsa_TheRealGrafanaTokenNobodyMaySee0_12345678", ..grafana },
        Case { secret: "npm_TheRealNpmTokenNobodyMaySee012345678", added: false, ..npm },
        Case { secret: "dckr_pat_TheRealDockerTokenNobodyMay", value: |secret| basic("dockeruser", secret), ..docker },
        Case {
            secret: "AIzaTheRealGeminiKeyNobodyMaySee01234",
            field: "x-goog-api-key",
            value: str::to_owned,
            ..gemini
        },
    ]
}

/// One origin under every host of the table, and the settings the table needs.
async fn everywhere() -> (Origin, RigBuilder) {
    let origin = cases().iter().fold(Origin::https("api.github.com"), |origin, case| origin.also(case.host));
    let origin = origin.reply("/*", "x").reply("/token", "{\"token\":\"t\"}").start().await;
    let tables = "[services.grafana]\nurl = \"https://grafana.example.test\"\n\
                  [services.npm]\nregistries = [\"https://npm.example.test/\"]\n\
                  [services.docker]\nusername = \"dockeruser\"";
    let rig = rig().origin(&origin).table(tables);
    (origin, rig)
}

async fn assert_delivered(origin: &Origin, rig: &Rig) {
    for case in cases().iter().filter(|case| case.added) {
        let answered = rig.anonymous().get(&format!("https://{}{}", case.host, case.path)).await;
        assert_eq!(answered.status, 200, "{}: {}", case.host, answered.text());
        let seen = origin.log().last();
        assert_eq!(seen.field(case.field), Some((case.value)(case.secret).as_str()), "{}", case.host);
        assert_eq!(seen.target, case.path);
    }
}

#[tokio::test]
async fn every_credential_is_found_in_its_file() {
    let (origin, rig) = everywhere().await;
    let rig = cases().iter().fold(rig, |rig, case| rig.secret(case.key, case.secret)).start().await;
    assert_delivered(&origin, &rig).await;
    rig.assert_no_secret();
}

#[tokio::test]
async fn every_credential_is_found_in_its_variable() {
    let (origin, rig) = everywhere().await;
    let rig = cases().iter().fold(rig, |rig, case| rig.env(case.env, case.secret).guards(case.secret)).start().await;
    assert_delivered(&origin, &rig).await;
    rig.assert_no_secret();
}

#[tokio::test]
async fn every_placeholder_is_swapped_where_it_belongs() {
    let (origin, rig) = everywhere().await;
    let rig = cases().iter().fold(rig, |rig, case| rig.secret(case.key, case.secret)).start().await;
    rig.create("dev", &[]).await;
    let env = rig.session_env("dev").await;
    let agent = rig.agent("dev").await;
    for case in cases() {
        let placeholder = env.get(case.env).unwrap_or_else(|| panic!("no {} in the session", case.env));
        assert_ne!(placeholder, case.secret);
        let mut client = agent.h1(case.host).await;
        let request = Request::get(case.path).header(case.field, (case.value)(placeholder));
        let answered = client.fetch(request.body(clauderon_testkit::body::empty()).unwrap()).await;
        assert_eq!(answered.status, 200, "{}: {}", case.host, answered.text());
        assert_eq!(origin.log().last().field(case.field), Some((case.value)(case.secret).as_str()), "{}", case.host);
    }
    rig.assert_no_secret();
}

#[tokio::test]
async fn kubernetes_and_talos_are_known_and_kept() {
    let rig = rig().env("K8S_TOKEN", "the-real-k8s-token-nobody-may-see").guards("the-real-k8s-token-nobody-may-see");
    let rig = rig.secret("talos_token", "the-real-talos-token-nobody-may-see").start().await;
    let listed = rig.cli(["config", "credentials", "--json"]).succeed().await.json();
    let names: Vec<_> = listed.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect();
    for name in
        ["github", "anthropic", "openai", "pagerduty", "sentry", "grafana", "npm", "docker", "kubernetes", "talos"]
    {
        assert!(names.iter().any(|listed| listed == name), "{name} is missing in {names:?}");
    }
    rig.assert_no_secret();
}

#[tokio::test]
async fn an_anthropic_api_key_goes_out_as_one() {
    let key = "sk-ant-api03-TheRealApiKeyNobodyMaySee0123456789";
    let origin = Origin::https("api.anthropic.com").require("x-api-key", key).reply("/*", "x").start().await;
    let rig = rig().secret("anthropic_oauth_token", key).origin(&origin).start().await;
    let answered = rig.anonymous().get("https://api.anthropic.com/v1/models").await;
    assert_eq!((answered.status.as_u16(), origin.log().only().field("authorization")), (200, None));
    rig.assert_no_secret();
}

#[tokio::test]
async fn an_anthropic_oauth_token_brings_its_beta_flag() {
    let token = "sk-ant-oat01-TheRealOauthTokenNobodyMaySee";
    let origin =
        Origin::https("api.anthropic.com").require("authorization", &bearer(token)).reply("/*", "x").start().await;
    let rig = rig().secret("anthropic_oauth_token", token).origin(&origin).start().await;
    let mut client = rig.anonymous().h1("api.anthropic.com").await;
    let request = Request::get("/v1/models").header("anthropic-beta", "claude-code-20250219,other-1");
    assert_eq!(client.fetch(request.body(clauderon_testkit::body::empty()).unwrap()).await.status, 200);
    let beta = origin.log().only().field("anthropic-beta").unwrap().to_owned();
    let flags: Vec<_> = beta.split(',').map(str::trim).collect();
    assert!(flags.contains(&"oauth-2025-04-20") && flags.contains(&"other-1"), "{beta}");
    rig.assert_no_secret();
}

#[tokio::test]
async fn foreign_credentials_pass_untouched() {
    let origin = Origin::https("api.github.com").reply("/", "x").start().await;
    let rig = github_rig(&origin).start().await;
    let mut client = rig.anonymous().h1("api.github.com").await;
    let request = Request::get("/").header("authorization", "Bearer the-agents-own");
    client.fetch(request.body(clauderon_testkit::body::empty()).unwrap()).await;
    assert_eq!(origin.log().only().field("authorization"), Some("Bearer the-agents-own"));
    assert_eq!(rig.audit_path("/").await.get("auth_injected"), false);
}

#[tokio::test]
async fn a_placeholder_elsewhere_is_refused_as_an_alarm() {
    let github = github().reply("/*", "x").start().await;
    let other = Origin::https("example.test").reply("/*", "x").start().await;
    let plain = Origin::http("api.github.com").reply("/*", "x").start().await;
    let odd = Origin::https("api.github.com").port(8443).reply("/*", "x").start().await;
    let rig = github_rig(&github).origin(&other).origin(&plain).origin(&odd).start().await;
    rig.create("one", &[]).await;
    rig.create("two", &[]).await;
    let placeholder = rig.session_env("one").await["GITHUB_TOKEN"].clone();
    let (one, two) = (rig.agent("one").await, rig.agent("two").await);
    // Not its host, not its port, not its session.
    for (agent, host) in [(&one, "example.test"), (&one, "api.github.com:8443"), (&two, "api.github.com")] {
        for value in [bearer(&placeholder), basic("x", &placeholder)] {
            let request = Request::get("/misplaced").header("authorization", value);
            let answered = agent.h1(host).await.fetch(request.body(clauderon_testkit::body::empty()).unwrap()).await;
            assert_eq!(answered.status, 403, "{host}");
            assert_eq!(answered.field("x-clauderon-error"), Some("placeholder_misdirected"));
        }
    }
    let mut wire = one.wire().await;
    let login = one.proxy_authorization();
    let head = "GET http://api.github.com/clear HTTP/1.1\r\nHost: api.github.com\r\n";
    let refused = wire.exchange(format!("{head}{login}Authorization: Bearer {placeholder}\r\n\r\n")).await.unwrap();
    assert_eq!(refused.status(), 403);
    let line = rig.audit_path("/clear").await;
    assert_eq!((line.text("reason"), line.get("allowed")), ("placeholder_misdirected", &false.into()));
    let seen = [&github, &other, &plain, &odd].map(|origin| origin.log().count());
    assert_eq!(seen, [0, 0, 0, 0], "a misdirected placeholder reached an origin");
    rig.assert_no_secret();
}

#[tokio::test]
async fn a_secret_never_leaves_on_another_port_or_scheme() {
    let plain = Origin::http("api.github.com").reply("/*", "x").start().await;
    let odd = Origin::https("api.github.com").port(8443).reply("/*", "x").start().await;
    let near = Origin::https("api.github.com.example.test").also("notapi.github.com").reply("/*", "x").start().await;
    let rig = rig().secret("github_token", GITHUB).origin(&plain).origin(&odd).origin(&near).start().await;
    for url in [
        "http://api.github.com/",
        "https://api.github.com:8443/",
        "https://api.github.com.example.test/",
        "https://notapi.github.com/",
    ] {
        assert_eq!(rig.anonymous().get(url).await.status, 200, "{url}");
    }
    for origin in [&plain, &odd, &near] {
        assert!(origin.log().requests().iter().all(|seen| seen.field("authorization").is_none()));
    }
    rig.assert_no_secret();
}

#[tokio::test]
async fn a_rewritten_secret_file_reaches_running_sessions() {
    let origin = Origin::https("api.github.com").reply("/", "x").start().await;
    let mut rig = github_rig(&origin).start().await;
    rig.create("dev", &[]).await;
    let mut client = rig.agent("dev").await.h2("api.github.com").await;
    client.get("/").await;
    assert_eq!(origin.log().last().field("authorization"), Some(bearer(GITHUB).as_str()));
    let rotated = "ghp_TheRotatedTokenNobodyMaySee987654321";
    rig.secret("github_token", rotated);
    // The watcher is told by the kernel; until it was, the old one is still in force.
    let began = std::time::Instant::now();
    loop {
        client.get("/").await;
        if origin.log().last().field("authorization") == Some(bearer(rotated).as_str()) {
            break;
        }
        assert!(began.elapsed() < wait::LIMIT, "the new secret never arrived");
    }
    rig.assert_no_secret();
}

#[tokio::test]
async fn the_environment_wins_over_the_file() {
    let origin = Origin::https("api.github.com").reply("/", "x").start().await;
    let rig = rig().secret("github_token", "ghp_FromTheFileNobodyMaySee").origin(&origin);
    let rig = rig.env("GITHUB_TOKEN", "  \n").start().await;
    rig.anonymous().get("https://api.github.com/").await;
    // Blank counts as absent.
    assert_eq!(origin.log().last().field("authorization"), Some("Bearer ghp_FromTheFileNobodyMaySee"));
    drop(rig);
    let rig = crate::rig().secret("github_token", "ghp_FromTheFileNobodyMaySee").origin(&origin);
    let rig = rig.env("GITHUB_TOKEN", "ghp_FromTheVariableNobodyMaySee\n").guards("ghp_FromTheVariableNobodyMaySee");
    let rig = rig.start().await;
    rig.anonymous().get("https://api.github.com/").await;
    assert_eq!(origin.log().last().field("authorization"), Some("Bearer ghp_FromTheVariableNobodyMaySee"));
    let listed = rig.cli(["config", "credentials", "--json"]).succeed().await.json();
    let row = listed.as_array().unwrap().iter().find(|row| row["name"] == "github").unwrap().clone();
    assert!(row["source"].as_str().unwrap().contains("GITHUB_TOKEN"), "{row}");
    assert!(row["shadowed"].to_string().contains("github_token"), "{row}");
    rig.assert_no_secret();
}

#[tokio::test]
async fn a_secret_with_a_line_break_inside_is_an_error_that_hides_it() {
    let origin = Origin::https("api.github.com").reply("/", "x").start().await;
    let rig = rig().secret("github_token", "ghp_FirstHalf\r\nX-Evil: SecondHalf").origin(&origin).start().await;
    let answered = rig.anonymous().get("https://api.github.com/").await;
    assert!(origin.log().requests().iter().all(|seen| seen.field("x-evil").is_none()));
    assert_ne!(answered.status, 500);
    let listed = rig.cli(["config", "credentials", "--json"]).succeed().await.stdout;
    assert!(listed.contains("github_token") && !listed.contains("SecondHalf"), "{listed}");
}

#[tokio::test]
async fn grafana_without_a_url_is_unused_and_reported() {
    let rig = rig().secret("grafana_api_key", "glsa_TheRealTokenNobodyMaySee").start().await;
    let listed = rig.cli(["config", "credentials", "--json"]).succeed().await.json();
    let row = listed.as_array().unwrap().iter().find(|row| row["name"] == "grafana").unwrap().clone();
    assert!(row["problem"].as_str().is_some_and(|problem| problem.contains("url")), "{row}");
    rig.assert_no_secret();
}
