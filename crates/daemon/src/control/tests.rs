use std::time::Duration;

use clauderon_api::{Client, ClientError, CreateSession, ExplainRequest};

use crate::rig::{Rig, SECRET, bare, script};

fn code(error: ClientError) -> String {
    match error {
        ClientError::Refused { error, .. } => error.code,
        other => panic!("{other}"),
    }
}

async fn output(client: &Client, name: &str, follow: bool) -> String {
    let mut stream = client.logs(name, follow).await.unwrap();
    let mut all = Vec::new();
    while let Some(piece) = stream.next().await.unwrap() {
        all.extend_from_slice(&piece);
    }
    String::from_utf8(all).unwrap()
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..400 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("never: {what}");
}

#[tokio::test]
async fn a_fresh_daemon_is_healthy_and_has_its_default_session() {
    let rig = Rig::start().await;
    let health = rig.client().health().await.unwrap();
    assert_eq!((health.status.as_str(), health.sessions), ("ok", 1));
    let daemon = rig.client().daemon().await.unwrap();
    assert_eq!((daemon.pid, daemon.proxy), (std::process::id(), rig.proxy()));
    let sessions = rig.client().sessions().await.unwrap();
    assert_eq!(sessions[0].name, "default");
    assert_eq!(sessions[0].status, "ready");
}

#[tokio::test]
async fn health_tells_what_is_gone() {
    let rig = Rig::start().await;
    std::fs::remove_file(rig.home().join("proxy-ca.pem")).unwrap();
    let health = rig.client().health().await.unwrap();
    assert_eq!(health.status, "degraded");
    assert!(health.listeners["ca"].contains("start the daemon again"));
}

#[tokio::test]
async fn sessions_live_and_end_by_name() {
    let rig = Rig::start().await;
    let client = rig.client();
    let wanted = CreateSession { access_mode: Some("read-only".into()), ..bare("review") };
    let made = client.create_session(&wanted).await.unwrap();
    assert_eq!((made.access_mode.as_str(), made.backend.as_str(), made.agent.as_str()), ("read-only", "local", "none"));
    assert_eq!(code(client.create_session(&wanted).await.unwrap_err()), "session_exists");
    assert_eq!(client.set_access_mode("review", "read-write").await.unwrap().access_mode, "read-write");
    assert_eq!(code(client.set_access_mode("review", "rw").await.unwrap_err()), "bad_request");
    assert!(rig.home().join("sessions").join(&made.id).join("proxy.sock").exists());
    client.delete_session("review").await.unwrap();
    assert!(!rig.home().join("sessions").join(&made.id).exists());
    for error in [
        client.session("review").await.unwrap_err(),
        client.delete_session("review").await.unwrap_err(),
        client.session_env("review").await.unwrap_err(),
        client.stop_session("../review").await.unwrap_err(),
    ] {
        assert_eq!(code(error), "no_such_session");
    }
    assert_eq!(code(client.delete_session("default").await.unwrap_err()), "bad_request");
}

#[tokio::test]
async fn sessions_survive_the_daemon() {
    let mut rig = Rig::start().await;
    let before = rig.client().create_session(&bare("review")).await.unwrap();
    rig.client().set_access_mode("review", "read-only").await.unwrap();
    let default = rig.client().session("default").await.unwrap().id;
    rig.restart().await;
    let after = rig.client().session("review").await.unwrap();
    assert_eq!((after.id, after.access_mode.as_str()), (before.id, "read-only"));
    assert_eq!(rig.client().session("default").await.unwrap().id, default);
}

#[tokio::test]
async fn a_process_gets_placeholders_and_nothing_of_the_daemon() {
    let rig = Rig::start().await;
    let client = rig.client();
    client.create_session(&script("printer", "env; echo done >&2; exit 7")).await.unwrap();
    let text = output(&client, "printer", true).await;
    assert!(
        text.contains("done\n") && text.contains("LANG=C\n") && text.contains("CLAUDERON_SESSION_NAME=printer\n"),
        "{text}"
    );
    assert!(
        text.contains("HTTPS_PROXY=http://printer:") && text.contains("GITHUB_TOKEN=ghp_clauderon_placeholder_"),
        "{text}"
    );
    assert!(!text.contains(SECRET) && !text.contains("HIDDEN_SETTING"), "{text}");
    until("the exit is known", async || client.session("printer").await.unwrap().exit_code == Some(7)).await;
    assert_eq!(client.session("printer").await.unwrap().status, "exited");
    assert_eq!(output(&client, "printer", false).await, text);
}

#[tokio::test]
async fn a_program_that_is_missing_leaves_no_session() {
    let rig = Rig::start().await;
    let command = vec!["/no/such/program".to_owned()];
    let wanted = CreateSession { name: Some("x".into()), command, ..Default::default() };
    assert_eq!(code(rig.client().create_session(&wanted).await.unwrap_err()), "backend");
    assert_eq!(rig.client().sessions().await.unwrap().len(), 1);
    let left = std::fs::read_dir(rig.home().join("sessions")).unwrap().count();
    assert_eq!(left, 1, "only that of `default`");
}

#[tokio::test]
async fn stopping_ends_the_whole_group() {
    let rig = Rig::start().await;
    let client = rig.client();
    client.create_session(&script("busy", "sleep 600 & echo child $!; wait")).await.unwrap();
    until("it has started", async || output(&client, "busy", false).await.ends_with('\n')).await;
    let child: i32 = output(&client, "busy", false).await.trim().rsplit(' ').next().unwrap().parse().unwrap();
    let stopped = client.stop_session("busy").await.unwrap();
    assert_eq!((stopped.status.as_str(), stopped.exit_code), ("stopped", Some(143)));
    until("its child is gone", async || crate::process::ProcessId::of(child).is_none()).await;
    assert_eq!(client.stop_session("busy").await.unwrap().status, "stopped");
}

#[tokio::test]
async fn a_process_outlives_the_daemon_and_is_still_known() {
    let mut rig = Rig::start().await;
    rig.client().create_session(&script("long", "exec sleep 600")).await.unwrap();
    rig.restart().await;
    assert_eq!(rig.client().session("long").await.unwrap().status, "running");
    assert_eq!(rig.client().stop_session("long").await.unwrap().status, "stopped");
    rig.client().create_session(&script("short", "exec sleep 600")).await.unwrap();
    rig.client().delete_session("short").await.unwrap();
}

#[tokio::test]
async fn an_ephemeral_session_ends_with_its_owner() {
    let mut rig = Rig::start().await;
    let client = rig.client();
    let mut owner = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    let wanted =
        CreateSession { name: Some("run".into()), ephemeral: true, owner_pid: Some(owner.id()), ..Default::default() };
    client.create_session(&wanted).await.unwrap();
    client.session_env("run").await.unwrap();
    owner.kill().unwrap();
    owner.wait().unwrap();
    until("the session is gone", async || client.session("run").await.is_err()).await;

    let mut owner = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    let wanted = CreateSession { owner_pid: Some(owner.id()), ..wanted };
    let id = client.create_session(&wanted).await.unwrap().id;
    rig.stop().await;
    owner.kill().unwrap();
    owner.wait().unwrap();
    let _daemon = Rig::later_daemon(&rig.dir).await;
    assert_eq!(code(rig.client().session("run").await.unwrap_err()), "no_such_session");
    assert!(!rig.home().join("sessions").join(id).exists());
}

#[tokio::test]
async fn tokens_are_fresh_and_never_kept() {
    let rig = Rig::start().await;
    let client = rig.client();
    let mut tokens = Vec::new();
    for _ in 0..2 {
        let env = client.session_env("default").await.unwrap();
        let url = &env.set.iter().find(|(name, _)| name == "HTTPS_PROXY").unwrap().1;
        let token = url.strip_prefix("http://default:").unwrap().split('@').next().unwrap().to_owned();
        assert_eq!(token.len(), 64);
        tokens.push(token);
    }
    assert_ne!(tokens[0], tokens[1]);
    for file in ["db.sqlite", "db.sqlite-wal"] {
        let bytes = std::fs::read(rig.home().join(file)).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(tokens.iter().all(|token| !text.contains(token)), "{file}");
    }
}

#[tokio::test]
async fn a_second_daemon_names_the_first() {
    let rig = Rig::start().await;
    let error = Rig::daemon(&rig.dir).await.err().unwrap().to_string();
    assert!(error.contains(&std::process::id().to_string()), "{error}");
    assert!(rig.client().health().await.is_ok(), "the first goes on");
}

#[tokio::test]
async fn a_stopped_daemon_is_not_running() {
    let mut rig = Rig::start().await;
    let client = rig.client();
    rig.stop().await;
    assert!(matches!(client.sessions().await, Err(ClientError::NotRunning(_))));
    assert!(!rig.home().join("control.sock").exists());
}

#[tokio::test]
async fn mistakes_get_the_api_error() {
    let rig = Rig::start().await;
    let client = rig.client();
    assert_eq!(code(client.session("a b/../c").await.unwrap_err()), "no_such_session");
    let url = |url: &str| ExplainRequest { method: "GET".into(), url: url.into(), ..ExplainRequest::default() };
    assert_eq!(code(client.explain(&url("api.github.com")).await.unwrap_err()), "bad_request");
    let nobody = ExplainRequest { session: Some("nobody".into()), ..url("https://api.github.com/user") };
    assert_eq!(code(client.explain(&nobody).await.unwrap_err()), "no_such_session");
}

#[tokio::test]
async fn explain_tells_what_the_live_path_would_do() {
    let rig = Rig::start().await;
    let client = rig.client();
    let ask = |method: &str, session: &str| ExplainRequest {
        method: method.into(),
        url: "https://api.github.com/repos/o/r/issues".into(),
        session: Some(session.into()),
        ..ExplainRequest::default()
    };
    let read = client.explain(&ask("GET", "default")).await.unwrap();
    assert!(read.allowed && read.auth_injected, "{read:?}");
    assert_eq!(read.credential.as_deref(), Some("github"));
    assert_eq!(read.source.as_deref(), Some("env GITHUB_TOKEN"));
    let wanted = CreateSession { access_mode: Some("read-only".into()), ..bare("review") };
    client.create_session(&wanted).await.unwrap();
    let write = client.explain(&ask("POST", "review")).await.unwrap();
    assert_eq!((write.allowed, write.reason.as_str(), write.class.as_str()), (false, "read_only", "write"));
    assert_eq!(write.denial.unwrap()["hint"], "clauderon set-access-mode review read-write");
    let wanted = CreateSession { credentials: Some(vec!["npm".into()]), ..bare("limited") };
    client.create_session(&wanted).await.unwrap();
    assert!(!client.explain(&ask("GET", "limited")).await.unwrap().auth_injected);
}

#[tokio::test]
async fn changed_files_are_in_force_without_a_restart() {
    let rig = Rig::start().await;
    let client = rig.client();
    let asked =
        ExplainRequest { method: "GET".into(), url: "https://registry.example/x".into(), ..ExplainRequest::default() };
    assert!(client.explain(&asked).await.unwrap().allowed);
    std::fs::write(rig.home().join("proxy.toml"), "[network]\nallow_hosts = [\"api.github.com\"]\n").unwrap();
    until("the new list holds", async || client.explain(&asked).await.unwrap().reason == "host_not_allowed").await;
    std::fs::write(rig.home().join("proxy.toml"), "nonsense = true\n").unwrap();
    let secret = rig.home().join("secrets/sentry_auth_token");
    crate::home::write_private(&secret, b"sntryu_0123456789abcdef", 0o600).unwrap();
    let is_available =
        async || client.credentials().await.unwrap().iter().any(|row| row.name == "sentry" && row.available);
    until("the new secret is known", is_available).await;
    assert_eq!(client.explain(&asked).await.unwrap().reason, "host_not_allowed", "a broken file changes nothing");
}
