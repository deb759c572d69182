//! Ready entries: added without touching what is there, and injected as each service wants it.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clauderon_testkit::body;
use clauderon_testkit::origin::Origin;
use clauderon_testkit::rig::Rig;
use clauderon_testkit::wait::within;
use http::Request;

use crate::rig;

/// What one service wants to see.
struct Row {
    add: &'static [&'static str],
    session_env: &'static str,
    secret: &'static str,
    url: (&'static str, &'static str),
    field: &'static str,
    value: fn(&str) -> String,
}

const fn row(
    name: &'static [&'static str],
    session_env: &'static str,
    secret: &'static str,
    url: (&'static str, &'static str),
) -> Row {
    Row { add: name, session_env, secret, url, field: "authorization", value: |secret| format!("Bearer {secret}") }
}

fn basic(user: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{secret}")))
}

fn rows() -> Vec<Row> {
    let git = "/g/r.git/info/refs?service=git-upload-pack";
    let bitbucket = || {
        row(
            &["bitbucket", "--user", "ann"],
            "BITBUCKET_TOKEN",
            "ATBBTheRealTokenNobodyMaySee",
            ("api.bitbucket.org", "/2.0/user"),
        )
    };
    let gitlab = || row(&["gitlab"], "GITLAB_TOKEN", "glpat-TheRealTokenNobodyMaySee", ("gitlab.com", "/api/v4/user"));
    let hugging =
        || row(&["huggingface"], "HF_TOKEN", "hf_TheRealTokenNobodyMaySee00", ("huggingface.co", "/api/whoami-v2"));
    vec![
        Row { value: |secret| basic("ann", secret), ..bitbucket() },
        Row { value: |secret| basic("ann", secret), url: ("bitbucket.org", git), ..bitbucket() },
        row(&["buildkite"], "BUILDKITE_API_TOKEN", "bkua_TheRealTokenNobodyMaySee0", ("api.buildkite.com", "/v2/user")),
        Row {
            value: str::to_owned,
            ..row(
                &["cargo", "--host", "cargo.example.com"],
                "CARGO_REGISTRY_TOKEN",
                "cioTheRealTokenNobodyMaySee000",
                ("cargo.example.com", "/api/v1/me"),
            )
        },
        row(
            &["cloudflare"],
            "CLOUDFLARE_API_TOKEN",
            "cfTheRealTokenNobodyMaySee00000",
            ("api.cloudflare.com", "/client/v4/user"),
        ),
        Row { field: "private-token", value: str::to_owned, ..gitlab() },
        Row {
            value: |secret| basic("oauth2", secret),
            url: ("gitlab.com", "/g/s/r.git/info/refs?service=git-upload-pack"),
            ..gitlab()
        },
        hugging(),
        Row { value: |secret| basic("user", secret), url: ("huggingface.co", git), ..hugging() },
        Row {
            value: str::to_owned,
            ..row(&["linear"], "LINEAR_API_KEY", "lin_api_TheRealTokenNobodyMaySee", ("api.linear.app", "/graphql"))
        },
        row(&["notion"], "NOTION_TOKEN", "ntn_TheRealTokenNobodyMaySee000", ("api.notion.com", "/v1/users/me")),
        Row {
            value: |secret| basic("__token__", secret),
            ..row(
                &["pypi", "--host", "upload.example.com"],
                "TWINE_PASSWORD",
                "pypi-TheRealTokenNobodyMaySee00",
                ("upload.example.com", "/legacy/"),
            )
        },
        row(&["slack"], "SLACK_BOT_TOKEN", "xoxb-TheRealTokenNobodyMaySee00", ("slack.com", "/api/auth.test")),
        row(&["stripe"], "STRIPE_API_KEY", "sk_live_TheRealTokenNobodyMaySee", ("api.stripe.com", "/v1/charges")),
        row(&["vercel"], "VERCEL_TOKEN", "vercelTheRealTokenNobodyMaySee0", ("api.vercel.com", "/v2/user")),
    ]
}

const DATADOG: (&str, &str) = ("ddapiTheRealKeyNobodyMaySee0000", "ddappTheRealKeyNobodyMaySee0000");

/// Every entry added, every token in its file, one origin under every host.
async fn everything() -> (Origin, Rig) {
    let origin = rows().iter().fold(Origin::https("api.datadoghq.com"), |origin, row| origin.also(row.url.0));
    let origin = origin.reply("/*", "{}").start().await;
    let mut rig = rig().origin(&origin).build();
    for (name, secret) in [("datadog", DATADOG.0), ("datadog-app", DATADOG.1)] {
        rig.secret(name, secret);
        rig.cli(["config", "add", name]).succeed().await;
    }
    let mut added: Vec<&str> = Vec::new();
    for row in rows() {
        rig.secret(row.add[0], row.secret);
        if !added.contains(&row.add[0]) {
            rig.cli(["config", "add"].iter().chain(row.add).copied()).succeed().await;
            added.push(row.add[0]);
        }
    }
    rig.start().await;
    (origin, rig)
}

#[tokio::test]
async fn each_entry_is_injected_as_its_service_wants_it() {
    let (origin, rig) = everything().await;
    rig.create("dev", &[]).await;
    let (agent, env) = (rig.agent("dev").await, rig.session_env("dev").await);
    for row in rows() {
        let (host, path) = row.url;
        assert_eq!(agent.get(&format!("https://{host}{path}")).await.status, 200, "{host}");
        assert_eq!(origin.log().last().field(row.field), Some((row.value)(row.secret).as_str()), "{host}{path}: added");
        let placeholder = env.get(row.session_env).unwrap_or_else(|| panic!("no {}", row.session_env));
        let request = Request::get(path).header(row.field, (row.value)(placeholder)).body(body::empty()).unwrap();
        let answered = agent.h1(host).await.fetch(request).await;
        assert_eq!(answered.status, 200, "{host}{path}: {}", answered.text());
        assert_eq!(
            origin.log().last().field(row.field),
            Some((row.value)(row.secret).as_str()),
            "{host}{path}: swapped"
        );
    }
    rig.assert_no_secret();
}

#[tokio::test]
async fn both_of_datadogs_keys_go_out() {
    let (origin, rig) = everything().await;
    rig.create("dev", &[]).await;
    let (agent, env) = (rig.agent("dev").await, rig.session_env("dev").await);
    assert_eq!(agent.get("https://api.datadoghq.com/api/v1/validate").await.status, 200);
    let request = Request::get("/api/v1/dashboard").header("dd-api-key", &env["DD_API_KEY"]);
    let request = request.header("dd-application-key", &env["DD_APP_KEY"]).body(body::empty()).unwrap();
    assert_eq!(agent.h1("api.datadoghq.com").await.fetch(request).await.status, 200);
    for seen in origin.log().requests() {
        assert_eq!((seen.field("dd-api-key"), seen.field("dd-application-key")), (Some(DATADOG.0), Some(DATADOG.1)));
    }
    rig.assert_no_secret();
}

#[tokio::test]
async fn a_token_stays_below_its_path_and_takes_the_forms_its_clients_use() {
    let (origin, rig) = everything().await;
    rig.create("dev", &[]).await;
    let (agent, env) = (rig.agent("dev").await, rig.session_env("dev").await);
    let ask = async |host: &str, path: &str, field: &str, value: String| {
        let request = Request::get(path).header(field, value).body(body::empty()).unwrap();
        agent.h1(host).await.fetch(request).await
    };
    for (host, path, variable) in [
        ("cargo.example.com", "/config.json", "CARGO_REGISTRY_TOKEN"),
        ("upload.example.com", "/simple/", "TWINE_PASSWORD"),
        ("slack.com", "/", "SLACK_BOT_TOKEN"),
        ("gitlab.com", "/explore", "GITLAB_TOKEN"),
    ] {
        let answered = ask(host, path, "authorization", format!("Bearer {}", env[variable])).await;
        assert_eq!(answered.field("x-clauderon-error"), Some("placeholder_misdirected"), "{host}{path}");
        assert_eq!(agent.get(&format!("https://{host}{path}")).await.status, 200);
        let seen = origin.log().last();
        assert_eq!((seen.field("authorization"), seen.field("private-token")), (None, None), "{host}{path}");
    }
    let stripe = ask("api.stripe.com", "/v1/charges", "authorization", basic(&env["STRIPE_API_KEY"], "")).await;
    assert_eq!(
        (stripe.status.as_u16(), origin.log().last().field("authorization")),
        (200, Some(basic("sk_live_TheRealTokenNobodyMaySee", "").as_str()))
    );
    for (host, path, variable, secret) in [
        ("gitlab.com", "/api/v4/user", "GITLAB_TOKEN", "glpat-TheRealTokenNobodyMaySee"),
        ("api.linear.app", "/graphql", "LINEAR_API_KEY", "lin_api_TheRealTokenNobodyMaySee"),
    ] {
        let answered = ask(host, path, "authorization", format!("Bearer {}", env[variable])).await;
        assert_eq!(
            (answered.status.as_u16(), origin.log().last().field("authorization")),
            (200, Some(format!("Bearer {secret}").as_str()))
        );
    }
    rig.assert_no_secret();
}

#[tokio::test]
async fn bots_have_their_token_in_the_path_and_slacks_older_clients_in_a_form() {
    const BOT: &str = "110201543:AAHdTheRealBotTokenNobodyMaySee";
    const SLACK: &str = "xoxb-TheRealTokenNobodyMaySee00";
    let origin = Origin::https("api.telegram.org").also("slack.com").reply("/*", "{}").start().await;
    let mut rig = rig().origin(&origin).build();
    for (name, secret) in [("telegram", BOT), ("slack", SLACK)] {
        rig.secret(name, secret);
        rig.cli(["config", "add", name]).succeed().await;
    }
    rig.start().await;
    rig.create("dev", &[]).await;
    let curl = async |args: &str| {
        let shell = rig.direct_tool("sh", "dev", rig.outside()).await;
        shell.args(["-c", &format!("curl -sSf {args}")]).succeed().await;
        origin.log().last()
    };
    let sent = curl("-d chat_id=1 -d text=hi \"https://api.telegram.org/bot$TELEGRAM_BOT_TOKEN/sendMessage\"").await;
    assert_eq!(sent.target, format!("/bot{BOT}/sendMessage"));
    let file = curl("\"https://api.telegram.org/file/bot$TELEGRAM_BOT_TOKEN/photos/file_1.jpg\"").await;
    assert_eq!(file.target, format!("/file/bot{BOT}/photos/file_1.jpg"));
    let form = curl("-d channel=c -d \"token=$SLACK_BOT_TOKEN\" https://slack.com/api/chat.postMessage").await;
    assert_eq!((form.field("authorization"), &form.body[..]), (None, format!("channel=c&token={SLACK}").as_bytes()));
    let posted =
        curl("-H 'Content-Type: application/json' -d '{\"channel\":\"c\"}' https://slack.com/api/chat.postMessage")
            .await;
    assert_eq!(posted.field("authorization"), Some(format!("Bearer {SLACK}").as_str()));
    rig.assert_no_secret();
}

#[tokio::test]
async fn graphql_is_read_in_read_only_where_it_is_known() {
    let (origin, rig) = everything().await;
    rig.create("review", &["--access-mode", "read-only"]).await;
    let agent = rig.agent("review").await;
    let post = async |text: &'static str| {
        let request =
            Request::post("/graphql").header("content-type", "application/json").body(body::full(text)).unwrap();
        agent.h1("api.linear.app").await.fetch(request).await.status.as_u16()
    };
    assert_eq!(post("{\"query\":\"{viewer{id}}\"}").await, 200);
    assert_eq!(post("{\"query\":\"mutation{issueCreate(input:{}){success}}\"}").await, 403);
    assert_eq!(origin.log().count(), 1);
}

#[tokio::test]
async fn an_entry_is_added_after_what_is_there_and_comes_into_force() {
    let origin =
        Origin::https("api.linear.app").require("authorization", "lin_api_TheRealTokenNobodyMaySee").reply("/*", "{}");
    let origin = origin.start().await;
    let mut rig = rig().origin(&origin).line("# mine, and it stays").start().await;
    let before = std::fs::read_to_string(rig.home().join("proxy.toml")).unwrap();
    rig.secret("linear", "lin_api_TheRealTokenNobodyMaySee");
    let said = rig.cli(["config", "add", "linear"]).succeed().await.all();
    assert!(said.contains("secrets/linear") && said.contains("LINEAR_API_KEY"), "{said}");
    let after = std::fs::read_to_string(rig.home().join("proxy.toml")).unwrap();
    assert!(after.starts_with(&before) && after.contains("# mine, and it stays"), "{after}");
    rig.cli(["config", "check"]).succeed().await;
    let agent = rig.anonymous();
    let in_force = async {
        while agent.get("https://api.linear.app/viewer").await.status != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within("the entry to be in force", in_force).await;
    rig.assert_no_secret();
}

#[tokio::test]
async fn what_cannot_be_added_changes_nothing() {
    let rig = rig().build();
    rig.cli(["config", "add", "linear"]).succeed().await;
    let before = std::fs::read_to_string(rig.home().join("proxy.toml")).unwrap();
    for (args, code, said) in [
        (&["linear"][..], 1, "already"),
        (&["cargo"], 2, "--host"),
        (&["bitbucket"], 2, "--user"),
        (&["bitbucket", "--user", "a:b"], 2, "user name"),
        (&["slack", "--host", "https://slack.com/"], 2, "not a URL"),
        (&["nothing"], 2, "possible values"),
        (&[], 2, "required"),
    ] {
        let run = rig.cli(["config", "add"].iter().chain(args).copied()).finish().await;
        assert_eq!(run.code, code, "{args:?}: {}", run.all());
        assert!(run.all().contains(said), "{args:?}: {}", run.all());
    }
    assert_eq!(std::fs::read_to_string(rig.home().join("proxy.toml")).unwrap(), before);
    rig.write("proxy.toml", 0o644, "bnd = 1\n");
    let run = rig.cli(["config", "add", "stripe"]).finish().await;
    assert!(run.code == 2 && run.all().contains("bind"), "{}", run.all());
}

#[tokio::test]
async fn every_entry_is_listed_and_documented() {
    let rig = rig().build();
    let listed = rig.cli(["config", "add", "--list", "--json"]).succeed().await.json();
    let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/credentials.md")).unwrap();
    let table = rig.cli(["config", "add", "--list"]).succeed().await.all();
    assert_eq!(listed.as_array().unwrap().len(), 15);
    for ready in listed.as_array().unwrap() {
        let name = ready["name"].as_str().unwrap();
        assert!(docs.contains(&format!("| `{name}` |")) && table.contains(name), "{name}");
    }
}
