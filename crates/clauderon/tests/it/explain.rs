//! `explain`: the decision of the live path, told without sending anything.

use clauderon_testkit::rig::{Rig, RigBuilder};
use serde_json::Value;

use crate::{GITHUB, rig};

fn services() -> RigBuilder {
    rig()
        .secret("github_token", GITHUB)
        .secret("docker_token", "dckr_pat_TheRealTokenNobodyMaySee01")
        .secret("anthropic_oauth_token", "sk-ant-api03-TheRealKeyNobodyMaySee")
        .secret("npm_token", "npm_TheRealTokenNobodyMaySee0123456789ab")
        .table("[services.npm]\nregistries = [\"https://npm.example.test/\"]")
}

async fn explain(rig: &Rig, args: &[&str]) -> Value {
    let words = ["explain"].into_iter().chain(args.iter().copied()).chain(["--json"]);
    rig.cli(words).succeed().await.json()
}

/// What `explain` says goes out, and why.
async fn injection(rig: &Rig, args: &[&str]) -> (bool, String) {
    let told = explain(rig, args).await;
    (told["auth_injected"] == true, told["injection"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn it_says_whether_the_secret_goes_out_and_why_not() {
    let rig = services().start().await;
    rig.create("few", &["--credential", "npm"]).await;
    for (args, injected, why) in [
        (&["GET", "https://api.github.com/user"][..], true, "yes: added"),
        (&["GET", "https://api.anthropic.com/v1/models"], true, "yes: added"),
        (&["GET", "https://api.anthropic.com/api/oauth/profile"], false, "no: such a secret is not added here"),
        (&["GET", "https://auth.docker.io/token?service=registry.docker.io"], false, "no: such a secret is not added"),
        (&["GET", "https://api.pagerduty.com/users"], false, "no: no secret is configured"),
        (
            &["GET", "https://npm.example.test/left"],
            false,
            "no: it goes out only in place of the session's placeholder",
        ),
        (&["GET", "https://github.com/login"], false, "no: no credential goes to this path"),
        (&["GET", "https://example.test/"], false, "no: no credential goes to this host"),
        (&["GET", "http://api.github.com/user"], false, "no: credentials go over TLS only"),
        (&["GET", "https://api.github.com/user", "--session", "few"], false, "no: the session may not use it"),
        (
            &["GET", "https://api.github.com/user", "--header", "Authorization: Bearer mine"],
            false,
            "no: the request carries a credential of its own",
        ),
    ] {
        let (said, because) = injection(&rig, args).await;
        assert!(said == injected && because.starts_with(why), "{args:?}: {said} {because}");
    }
    rig.assert_no_secret();
}

#[tokio::test]
async fn it_swaps_placeholders_as_the_proxy_does() {
    let rig = services().start().await;
    rig.create("dev", &[]).await;
    rig.create("other", &[]).await;
    let own = rig.session_env("dev").await["NPM_TOKEN"].clone();
    let alien = rig.session_env("other").await["NPM_TOKEN"].clone();
    let with = async |url: &str, token: &str| {
        let header = format!("Authorization: Bearer {token}");
        explain(&rig, &["GET", url, "--session", "dev", "-H", &header]).await
    };
    let swapped = with("https://npm.example.test/left", &own).await;
    assert_eq!(swapped["injection"], "yes: in place of the placeholder");
    assert_eq!(swapped["surface"], "authorization: Bearer");
    for (url, token) in [("https://npm.example.test/left", &alien), ("https://example.test/", &own)] {
        let refused = with(url, token).await;
        assert_eq!((&refused["allowed"], &refused["reason"]), (&false.into(), &"placeholder_misdirected".into()));
        assert!(!refused.to_string().contains(token.as_str()));
    }
    rig.assert_no_secret();
}

#[tokio::test]
async fn it_reads_the_body_that_decides() {
    let rig = services().start().await;
    rig.create("review", &["--access-mode", "read-only"]).await;
    let file = rig.work_dir("bodies").join("mutation.json");
    std::fs::write(&file, "{\"query\":\"mutation{x}\"}").unwrap();
    let file = format!("@{}", file.display());
    let ask = async |body: &str| {
        let args = ["POST", "https://api.github.com/graphql", "--session", "review", "-H", JSON, "--data", body];
        explain(&rig, &args).await
    };
    let query = ask("{\"query\":\"{viewer{login}}\"}").await;
    assert_eq!((&query["allowed"], &query["reason"]), (&true.into(), &"graphql-query".into()));
    let mutation = ask(&file).await;
    assert_eq!((&mutation["allowed"], &mutation["rule"]), (&false.into(), &"graphql.mutation".into()));
    assert_eq!((&mutation["credential"], &mutation["service"]), (&"github".into(), &"github".into()));
    assert!(mutation["source"].as_str().unwrap().contains("github_token"), "{mutation}");
}

#[tokio::test]
async fn it_knows_the_addresses_that_are_never_dialled() {
    let rig = services().start().await;
    for url in ["https://169.254.169.254/latest/meta-data", "http://127.0.0.1:8080/", "https://[::ffff:10.0.0.1]/"] {
        assert_eq!(explain(&rig, &["GET", url]).await["reason"], "address_not_allowed", "{url}");
    }
}

#[tokio::test]
async fn it_tells_people_the_same() {
    let rig = services().start().await;
    rig.create("review", &["--access-mode", "read-only"]).await;
    let told = rig.cli(["explain", "POST", "https://api.github.com/user/repos", "--session", "review"]).succeed().await;
    for line in [
        "refused POST https://api.github.com/user/repos",
        "reason      read_only",
        "origin      https://api.github.com:443",
        "credential  github",
        "surface     authorization: Bearer",
        "injected    no: the request is refused",
        "error       Write operations are blocked in read-only mode",
        "hint        clauderon set-access-mode review read-write",
    ] {
        assert!(told.stdout.contains(line), "{line}\n{}", told.stdout);
    }
    for (args, what) in [
        (["GET", "api.github.com", "-H", "a: b"], "write it whole"),
        (["GET", "https://api.github.com/", "-H", "a b: c"], "is no header"),
        (["GET", "https://api.github.com/", "-H", "Host: evil.test"], "in the URL already"),
        (["GET", "https://api.github.com/", "-d", "@/nowhere"], "cannot read /nowhere"),
    ] {
        let failed = rig.cli(["explain"].into_iter().chain(args)).finish().await;
        assert!(failed.code != 0 && failed.stderr.contains(what), "{args:?}: {}", failed.stderr);
    }
}

const JSON: &str = "Content-Type: application/json";
