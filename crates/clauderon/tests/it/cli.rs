//! The command line: what it prints, and how it ends.

use clauderon_testkit::rig::Rig;
use serde_json::Value;

use crate::{GITHUB, github, github_rig, rig};

fn members<'a>(value: &'a Value, names: &[&str]) -> &'a Value {
    for name in names {
        assert!(value.get(name).is_some(), "{name} is missing in {value}");
    }
    value
}

async fn code(rig: &Rig, args: &[&str]) -> i32 {
    let finished = rig.cli(args.iter().copied()).finish().await;
    assert!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
    if finished.code != 0 {
        assert!(!finished.stderr.trim().is_empty(), "{args:?} failed without a word");
        assert!(finished.stdout.is_empty(), "{args:?} wrote its error to stdout: {}", finished.stdout);
    }
    finished.code
}

#[tokio::test]
async fn exit_codes_are_as_documented() {
    let mut rig = rig().start().await;
    assert_eq!(code(&rig, &["list"]).await, 0);
    assert_eq!(code(&rig, &["no-such-command"]).await, 2);
    assert_eq!(code(&rig, &["set-access-mode", "default", "sometimes"]).await, 2);
    for args in [
        &["env", "nobody"][..],
        &["set-access-mode", "nobody", "read-only"],
        &["delete", "nobody"],
        &["exec", "nobody", "--", "true"],
        &["logs", "nobody"],
        &["stop", "nobody"],
    ] {
        assert_eq!(code(&rig, args).await, 3, "{args:?}");
    }
    assert_eq!(code(&rig, &["create", "--no-agent", "--name", "Bad Name"]).await, 2);
    rig.terminate().await;
    assert_eq!(code(&rig, &["env", "default"]).await, 5);
    assert_eq!(code(&rig, &["list"]).await, 5);
    rig.write("proxy.toml", 0o644, "nonsense = 1\n");
    assert_eq!(code(&rig, &["config", "check"]).await, 2);
}

#[tokio::test]
async fn env_gives_every_variable_of_a_session() {
    let rig = rig().secret("github_token", GITHUB).env("NO_PROXY", "inherited.example.test").start().await;
    rig.create("dev", &["--access-mode", "read-only"]).await;
    let env = rig.session_env("dev").await;
    for name in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"] {
        assert!(
            env[name].starts_with("http://dev:") && env[name].contains(&rig.addr().to_string()),
            "{name}={}",
            env[name]
        );
    }
    for name in ["NO_PROXY", "no_proxy"] {
        assert_eq!(env[name], "localhost,127.0.0.1,::1");
    }
    let bundle = rig.home().join("ca-bundle.pem").display().to_string();
    for name in [
        "SSL_CERT_FILE",
        "GIT_SSL_CAINFO",
        "CURL_CA_BUNDLE",
        "REQUESTS_CA_BUNDLE",
        "PIP_CERT",
        "AWS_CA_BUNDLE",
        "npm_config_cafile",
        "CARGO_HTTP_CAINFO",
        "CODEX_CA_CERTIFICATE",
        "NIX_SSL_CERT_FILE",
    ] {
        assert!(env[name] == bundle || std::path::Path::new(&env[name]).exists(), "{name}={}", env[name]);
    }
    for name in ["NODE_EXTRA_CA_CERTS", "DENO_CERT"] {
        assert_eq!(std::fs::read_to_string(&env[name]).unwrap(), rig.ca_pem(), "{name}");
    }
    for (name, value) in [
        ("NODE_USE_ENV_PROXY", "1"),
        ("GIT_HTTP_PROXY_AUTHMETHOD", "basic"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("CLAUDERON_SESSION_NAME", "dev"),
        ("CLAUDERON_ACCESS_MODE", "read-only"),
        ("CLAUDERON_BACKEND", "local"),
    ] {
        assert_eq!(env[name], value, "{name}");
    }
    assert!(env.contains_key("CLAUDERON_SESSION_ID") && env.contains_key("CLAUDERON_AGENT"));
    assert!(!env.contains_key("ALL_PROXY") && !env.contains_key("SSL_CERT_DIR"));
    rig.assert_no_secret();
}

#[tokio::test]
async fn env_is_for_shells() {
    let origin = github().reply("/user", "octocat").start().await;
    let rig = github_rig(&origin).start().await;
    rig.create("dev", &[]).await;
    let exports = rig.cli(["env", "dev"]).succeed().await.stdout;
    let script = "eval \"$EXPORTS\"; curl -sSf -H \"Authorization: Bearer $GITHUB_TOKEN\" https://api.github.com/user";
    let shell = clauderon_testkit::run::Run::new("sh").args(["-c", script]).env("EXPORTS", exports);
    assert_eq!(shell.dir(rig.outside()).succeed().await.stdout, "octocat");
    let dotenv = rig.cli(["env", "dev", "--format", "dotenv"]).succeed().await.stdout;
    assert!(dotenv.lines().any(|line| line.starts_with("HTTPS_PROXY=")), "{dotenv}");
    assert_eq!(rig.audit_path("/user").await.text("session"), "dev");
    rig.assert_no_secret();
}

#[tokio::test]
async fn run_gives_a_session_of_its_own_and_the_childs_exit_code() {
    let origin = github().reply("/user", "octocat").start().await;
    let rig = github_rig(&origin).env("SOME_PASSWORD", "from-the-users-shell").start().await;
    let script = "curl -sSf -H \"Authorization: Bearer $GITHUB_TOKEN\" https://api.github.com/user; echo; \
                  echo session=$CLAUDERON_SESSION_NAME; exit 7";
    let finished = rig.cli(["run", "--name", "short", "--", "sh", "-c", script]).finish().await;
    assert_eq!(finished.code, 7, "{}", finished.all());
    assert!(finished.stdout.starts_with("octocat\nsession=short\n"), "{}", finished.all());
    assert_eq!(rig.audit_path("/user").await.text("session"), "short");
    let listed = rig.cli(["list", "--json"]).succeed().await.stdout;
    assert!(!listed.contains("short"), "the session outlived its command: {listed}");
    rig.assert_no_secret();
}

#[tokio::test]
async fn run_takes_a_mode() {
    let origin = github().reply("/", "x").start().await;
    let rig = github_rig(&origin).start().await;
    let curl = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-X", "POST", "https://api.github.com/"];
    let args = ["run", "--access-mode", "read-only", "--"].into_iter().chain(curl);
    assert_eq!(rig.cli(args).succeed().await.stdout, "403");
    assert_eq!(origin.log().count(), 0);
}

#[tokio::test]
async fn run_starts_the_daemon_when_none_runs() {
    let origin = github().reply("/user", "octocat").start().await;
    let rig = github_rig(&origin).build();
    let port = rig.addr().port();
    let config = std::fs::read_to_string(rig.home().join("proxy.toml")).unwrap();
    rig.write("proxy.toml", 0o644, &format!("http_port = {port}\n{config}"));
    let finished = rig.cli(["run", "--", "curl", "-sSf", "https://api.github.com/user"]).succeed().await;
    assert_eq!(finished.stdout, "octocat", "{}", finished.stderr);
    assert!(finished.stderr.contains("daemon"), "it does not say that it started one: {}", finished.stderr);
    stop_background(&rig).await;
}

/// Ends the daemon that a command started, by the process it names itself.
async fn stop_background(rig: &Rig) {
    let token = std::fs::read_to_string(rig.home().join("api-token")).unwrap();
    let mut wire = rig.anonymous().wire().await;
    let head =
        format!("GET /v1/daemon HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\r\n", rig.addr(), token.trim());
    let pid = wire.exchange(head).await.unwrap().json()["pid"].as_i64().unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    clauderon_testkit::wait::until("its end", || std::net::TcpStream::connect(rig.addr()).is_err().then_some(())).await;
}

#[tokio::test]
async fn exec_runs_inside_an_existing_session() {
    let origin = github().reply("/user", "octocat").start().await;
    let rig = github_rig(&origin).start().await;
    rig.create("dev", &[]).await;
    let finished = rig.cli(["exec", "dev", "--", "curl", "-sSf", "https://api.github.com/user"]).succeed().await;
    assert_eq!(finished.stdout, "octocat");
    assert_eq!(rig.audit_path("/user").await.text("session"), "dev");
    assert_eq!(rig.cli(["exec", "dev", "--", "sh", "-c", "exit 9"]).finish().await.code, 9);
}

#[tokio::test]
async fn children_inherit_nothing_that_could_be_a_secret() {
    let rig = rig().secret("github_token", GITHUB).env("AWS_SECRET_ACCESS_KEY", "from-the-users-shell").start().await;
    rig.create("dev", &[]).await;
    for args in [&["run", "--", "env"][..], &["exec", "dev", "--", "env"]] {
        let printed = rig.cli(args.iter().copied()).succeed().await.stdout;
        assert!(!printed.contains("from-the-users-shell"), "{printed}");
        assert!(printed.contains("GITHUB_TOKEN=ghp_clauderon_placeholder"), "{printed}");
    }
    rig.assert_no_secret();
}

#[tokio::test]
async fn list_prints_the_documented_members() {
    let rig = rig().start().await;
    rig.create("review", &["--access-mode", "read-only"]).await;
    let listed = rig.cli(["list", "--json"]).succeed().await.json();
    let session = listed.as_array().unwrap().iter().find(|session| session["name"] == "review").unwrap().clone();
    members(&session, &["id", "name", "status", "access_mode", "backend", "agent", "created_at"]);
    assert_eq!((&session["access_mode"], &session["backend"]), (&"read-only".into(), &"local".into()));
    let table = rig.cli(["list"]).succeed().await.stdout;
    assert!(table.contains("review") && table.contains("read-only") && !table.contains('\u{1b}'), "{table}");
}

#[tokio::test]
async fn explain_decides_as_the_proxy_does_and_sends_nothing() {
    let origin = github().reply("/*", "x").start().await;
    let rig = github_rig(&origin).start().await;
    rig.create("review", &["--access-mode", "read-only"]).await;
    let explain = async |method: &str, url: &str| {
        let finished = rig.cli(["explain", method, url, "--session", "review", "--json"]).finish().await;
        let explained = finished.json();
        members(&explained, &["allowed", "reason", "rule", "service", "credential", "source", "auth_injected"]);
        explained
    };
    let read = explain("GET", "https://api.github.com/user").await;
    assert_eq!(
        (&read["allowed"], &read["service"], &read["credential"]),
        (&true.into(), &"github".into(), &"github".into())
    );
    assert_eq!(read["auth_injected"], true);
    assert!(read["source"].as_str().unwrap().contains("github_token"), "{read}");
    let write = explain("POST", "https://api.github.com/user").await;
    assert_eq!((&write["allowed"], &write["reason"]), (&false.into(), &"read_only".into()));
    let other = explain("GET", "https://example.test/").await;
    assert_eq!(
        (&other["allowed"], &other["auth_injected"], &other["credential"]),
        (&true.into(), &false.into(), &Value::Null)
    );
    assert_eq!(origin.log().count(), 0);
    rig.assert_no_secret();
}

#[tokio::test]
async fn config_credentials_prints_the_documented_members() {
    let rig = rig().secret("github_token", GITHUB).build();
    let listed = rig.cli(["config", "credentials", "--json"]).succeed().await.json();
    for row in listed.as_array().unwrap() {
        members(row, &["name", "available", "source", "hosts", "problem"]);
    }
    let github = listed.as_array().unwrap().iter().find(|row| row["name"] == "github").unwrap().clone();
    assert_eq!(github["available"], true);
    assert!(github["hosts"].to_string().contains("api.github.com"));
    let openai = listed.as_array().unwrap().iter().find(|row| row["name"] == "openai").unwrap().clone();
    assert_eq!(openai["available"], false);
    let table = rig.cli(["config", "credentials"]).succeed().await.all();
    assert!(table.contains("github") && !table.contains(GITHUB));
    rig.assert_no_secret();
}

#[tokio::test]
async fn config_credentials_shows_the_running_daemons_view() {
    let rig = rig().env("GITHUB_TOKEN", GITHUB).guards(GITHUB).start().await;
    // This shell has no such variable; the daemon has.
    let home = rig.home().display().to_string();
    let bare = clauderon_testkit::run::Run::new(env!("CARGO_BIN_EXE_clauderon")).env("CLAUDERON_HOME", home);
    let listed = bare.args(["config", "credentials", "--json"]).dir(rig.outside()).succeed().await.json();
    let github = listed.as_array().unwrap().iter().find(|row| row["name"] == "github").unwrap().clone();
    assert_eq!(github["available"], true);
    assert!(github["source"].as_str().unwrap().contains("GITHUB_TOKEN"), "{github}");
}

#[tokio::test]
async fn config_init_writes_a_file_that_checks_and_never_overwrites() {
    let rig = rig().build();
    std::fs::remove_file(rig.home().join("proxy.toml")).unwrap();
    rig.cli(["config", "init"]).succeed().await;
    rig.cli(["config", "check"]).succeed().await;
    assert_ne!(rig.cli(["config", "init"]).finish().await.code, 0);
    for command in ["show", "paths"] {
        let printed = rig.cli(["config", command]).succeed().await.stdout;
        assert!(printed.contains("audit"), "{printed}");
    }
}

#[tokio::test]
async fn ca_path_and_show() {
    let rig = rig().start().await;
    let path = rig.cli(["ca", "path"]).succeed().await.stdout;
    assert_eq!(path.trim(), rig.home().join("proxy-ca.pem").display().to_string());
    let shown = rig.cli(["ca", "show"]).succeed().await.stdout;
    assert!(!shown.contains("PRIVATE") && !shown.is_empty());
}

#[tokio::test]
async fn demo_needs_no_account_and_no_network() {
    let rig = rig().build();
    std::fs::remove_file(rig.home().join("proxy.toml")).unwrap();
    let finished = rig.cli(["demo"]).succeed().await;
    let text = finished.all();
    assert!(text.contains("placeholder"), "{text}");
    assert!(text.contains("\"auth_injected\":true") || text.contains("\"auth_injected\": true"), "{text}");
    let entries = std::fs::read_dir(rig.home()).unwrap().count();
    assert_eq!(entries, 0, "the demo left something in the user's home");
}

#[tokio::test]
async fn completions_are_printed_for_shells() {
    let rig = rig().build();
    for shell in ["bash", "zsh", "fish"] {
        assert!(rig.cli(["completions", shell]).succeed().await.stdout.contains("clauderon"));
    }
}

#[tokio::test]
async fn a_command_given_to_create_runs_and_is_logged() {
    let rig = rig().start().await;
    let args = ["create", "--name", "job", "--backend", "local", "--", "sh", "-c", "echo hello from the session"];
    let created = rig.cli(args).succeed().await;
    assert!(created.all().contains("no isolation") || created.all().contains("does not isolate"), "{}", created.all());
    let began = std::time::Instant::now();
    while !rig.cli(["logs", "job"]).succeed().await.stdout.contains("hello from the session") {
        assert!(began.elapsed() < clauderon_testkit::wait::LIMIT, "the log never came");
    }
    rig.cli(["delete", "job"]).succeed().await;
    assert_eq!(code(&rig, &["logs", "job"]).await, 3);
}

#[tokio::test]
async fn stop_ends_a_running_process() {
    let rig = rig().start().await;
    let pidfile = rig.outside().join("pid");
    let script = format!("echo $$ > {}; exec sleep 300", pidfile.display());
    rig.cli(["create", "--name", "job", "--backend", "local", "--", "sh", "-c", &script]).succeed().await;
    let pid = clauderon_testkit::wait::until("its start", || {
        std::fs::read_to_string(&pidfile).ok()?.trim().parse::<u32>().ok()
    })
    .await;
    rig.cli(["stop", "job"]).succeed().await;
    clauderon_testkit::wait::until("its end", || {
        (!std::path::Path::new(&format!("/proc/{pid}")).exists()).then_some(())
    })
    .await;
    let listed = rig.cli(["list", "--json"]).succeed().await.json();
    let job = listed.as_array().unwrap().iter().find(|session| session["name"] == "job").unwrap().clone();
    assert_ne!(job["status"], "running");
}
