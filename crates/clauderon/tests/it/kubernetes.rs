//! The Kubernetes gateway, with the real kubectl.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use clauderon_testkit::bytes::Wire;
use clauderon_testkit::kube::{ApiServer, SECRET_VALUE};
use clauderon_testkit::origin::OriginBuilder;
use clauderon_testkit::rig::{Rig, RigBuilder};
use clauderon_testkit::run::Run;
use clauderon_testkit::wait;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

use crate::rig;

/// The user's token at the cluster, which no agent may see.
pub(crate) const TOKEN: &str = "k8s-TheRealTokenNobodyMaySee0123456789";

pub(crate) const PODS: &str = "/api/v1/namespaces/apps/pods";

/// An API server that lets only the user's token in.
pub(crate) async fn server() -> ApiServer {
    ApiServer::start("k8s.test", |origin| origin.require("authorization", &format!("Bearer {TOKEN}"))).await
}

/// A rig whose user has this kubeconfig.
pub(crate) fn with_kubeconfig(config: &str) -> RigBuilder {
    let rig = rig().guards(TOKEN);
    std::fs::create_dir(rig.outside().join(".kube")).unwrap();
    std::fs::write(rig.outside().join(".kube/config"), config).unwrap();
    rig
}

pub(crate) async fn started(rig: RigBuilder) -> Rig {
    let rig = rig.start().await;
    rig.create("build", &[]).await;
    rig.create("review", &["--access-mode", "read-only"]).await;
    rig
}

/// A cluster, and a daemon whose user may use it.
pub(crate) async fn cluster(toml: &str) -> (ApiServer, Rig) {
    let server = server().await;
    let rig = with_kubeconfig(&server.kubeconfig(&format!("token: {TOKEN}"))).table(toml);
    let rig = if toml.contains("\"allow\"") { rig } else { rig.guards(SECRET_VALUE) };
    (server, started(rig).await)
}

pub(crate) async fn kubectl(rig: &Rig, session: &str, args: &[&str]) -> Run {
    let run = rig.tool("kubectl", session, &rig.work_dir("work")).await;
    run.args(args.iter().copied())
}

/// What kubectl says when it fails.
pub(crate) async fn refusal(rig: &Rig, session: &str, args: &[&str]) -> String {
    let finished = kubectl(rig, session, args).await.finish().await;
    assert_ne!(finished.code, 0, "{}", finished.all());
    finished.stderr
}

/// A request in clear text on the session's own socket; its status and body.
pub(crate) async fn raw(rig: &Rig, session: &str, head: &str) -> (u16, String) {
    let listed = rig.cli(["list", "--json"]).succeed().await.json();
    let row = listed.as_array().unwrap().iter().find(|row| row["name"] == session).unwrap().clone();
    let socket = rig.home().join("sessions").join(row["id"].as_str().unwrap()).join("kubernetes.sock");
    let mut wire = Wire::connect_unix(&socket).await;
    let reply = wire.exchange(head).await.unwrap();
    (reply.status(), String::from_utf8_lossy(&reply.body).into_owned())
}

pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

#[tokio::test]
async fn kubectl_reads_in_both_modes() {
    let (_server, rig) = cluster("").await;
    for session in ["build", "review"] {
        let table = kubectl(&rig, session, &["get", "pods"]).await.succeed().await;
        assert!(table.stdout.contains("web") && table.stdout.contains("Running"), "{}", table.all());
        let pod = kubectl(&rig, session, &["get", "pod", "web", "-o", "json"]).await.succeed().await.json();
        assert_eq!(pod["spec"]["nodeName"], "node-1");
        let told = kubectl(&rig, session, &["describe", "pod", "web"]).await.succeed().await;
        assert!(told.stdout.contains("node-1"), "{}", told.all());
        let may = kubectl(&rig, session, &["auth", "can-i", "list", "pods"]).await.succeed().await;
        assert_eq!(may.stdout.trim(), "yes");
    }
    let line = rig.audit_line("a list", |line| line.text("path") == PODS).await;
    assert_eq!((line.text("service"), line.text("verb"), line.text("resource")), ("kubernetes", "list", "pods"));
    assert_eq!((line.text("namespace"), line.text("host")), ("apps", "127.0.0.1"));
    assert_eq!((line.get("auth_injected"), line.text("credential")), (&true.into(), "kubernetes"));
    rig.assert_no_secret();
}

#[tokio::test]
async fn writes_pass_in_read_write_and_are_refused_before_the_cluster_in_read_only() {
    let (server, rig) = cluster("").await;
    let work = rig.work_dir("work");
    let manifest =
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "c" }, "data": { "a": "b" } });
    std::fs::write(work.join("c.json"), manifest.to_string()).unwrap();
    let apply = ["apply", "--validate=false", "-f", "c.json"];
    let path = "/api/v1/namespaces/apps/configmaps/c";
    let text = refusal(&rig, "review", &apply).await;
    assert!(text.contains("Forbidden") && text.contains("read-only mode (session review)"), "{text}");
    assert!(text.contains("clauderon set-access-mode review read-write"), "{text}");
    assert_eq!(server.object(path), None);
    kubectl(&rig, "build", &apply).await.succeed().await;
    assert_eq!(server.object(path).unwrap()["data"]["a"], "b");
    std::fs::write(work.join("c.json"), manifest.to_string().replace("\"b\"", "\"z\"")).unwrap();
    kubectl(&rig, "build", &apply).await.succeed().await;
    assert_eq!(server.object(path).unwrap()["data"]["a"], "z");
    refusal(&rig, "review", &["delete", "configmap", "c"]).await;
    kubectl(&rig, "build", &["delete", "configmap", "c", "--wait=false"]).await.succeed().await;
    assert_eq!(server.object(path), None);
    let refused = rig.audit_line("a refusal", |line| line.text("reason") == "read_only").await;
    assert_eq!((refused.get("allowed"), refused.get("auth_injected")), (&false.into(), &false.into()));
    rig.assert_no_secret();
}

#[tokio::test]
async fn logs_and_watches_stream() {
    let (server, rig) = cluster("").await;
    let following = rig.tool("sh", "review", &rig.work_dir("work")).await;
    let followed = following.args(["-c", "kubectl logs -f web | head -n 6"]).succeed().await;
    assert!(followed.stdout.ends_with("line 5\n"), "{}", followed.all());
    let waiting = kubectl(&rig, "review", &["wait", "pod/web", "--for=condition=Ready", "--timeout=60s"]).await;
    let waiting = tokio::spawn(waiting.succeed());
    wait::until("the watch", || {
        let watches = server.origin().log().requests().iter().any(|seen| seen.target.contains("watch=true"));
        watches.then_some(())
    })
    .await;
    let mut pod = server.object(&format!("{PODS}/web")).unwrap();
    pod["status"]["conditions"] = json!([{ "type": "Ready", "status": "True" }]);
    server.put(&format!("{PODS}/web"), pod);
    waiting.await.unwrap();
    let line = rig.audit_line("a watch", |line| line.text("verb") == "watch").await;
    assert_eq!(line.text("resource"), "pods");
    rig.assert_no_secret();
}

#[tokio::test]
async fn exec_and_cp_reach_into_pods() {
    let (_server, rig) = cluster("").await;
    let said = kubectl(&rig, "build", &["exec", "web", "--", "echo", "hello"]).await.succeed().await;
    assert_eq!(said.stdout, "hello\n");
    let echoed = kubectl(&rig, "build", &["exec", "-i", "web", "--", "cat"]).await.input("to and fro").succeed().await;
    assert_eq!(echoed.stdout, "to and fro");
    let failed = kubectl(&rig, "build", &["exec", "web", "--", "sh", "-c", "exit 7"]).await.finish().await;
    assert_eq!(failed.code, 7, "{}", failed.all());
    let work = rig.work_dir("work");
    std::fs::create_dir(work.join("pod")).unwrap();
    std::fs::write(work.join("up.txt"), "x".repeat(100_000)).unwrap();
    let far = format!("web:{}/pod/up.txt", work.display());
    kubectl(&rig, "build", &["cp", "up.txt", &far]).await.succeed().await;
    kubectl(&rig, "build", &["cp", &far, "down.txt"]).await.succeed().await;
    assert_eq!(std::fs::read(work.join("down.txt")).unwrap(), std::fs::read(work.join("up.txt")).unwrap());
    let lines = wait::until("both lines of an upgrade", || {
        let lines: Vec<_> = rig.audit().into_iter().filter(|line| line.text("resource") == "pods/exec").collect();
        let id = lines.iter().find(|line| line.text("reason") == "upgraded")?.text("request_id").to_owned();
        let both: Vec<_> = lines.into_iter().filter(|line| line.text("request_id") == id).collect();
        (both.len() == 2).then_some(both)
    })
    .await;
    assert_eq!(lines[1].get("response_code"), 101);
    assert!(lines[1].get("response_bytes").as_u64().unwrap() > 0, "{}", lines[1].raw);
    assert!(["spdy", "websocket"].contains(&lines[1].text("protocol")), "{}", lines[1].raw);
    rig.assert_no_secret();
}

#[tokio::test]
async fn a_port_is_forwarded() {
    let (_server, rig) = cluster("").await;
    let env = rig.session_env("build").await;
    let mut command = tokio::process::Command::new("kubectl");
    command.args(["port-forward", "pod/web", ":8080"]).envs(&env).current_dir(rig.work_dir("work"));
    command.env("HOME", rig.outside()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut forwarding = command.spawn().unwrap();
    let mut lines = BufReader::new(forwarding.stdout.take().unwrap()).lines();
    let first = wait::within("kubectl's first line", lines.next_line()).await.unwrap().unwrap();
    let port = first.split("127.0.0.1:").nth(1).unwrap().split(' ').next().unwrap().parse::<u16>().unwrap();
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(b"there and back").await.unwrap();
    let mut back = [0; 14];
    wait::within("the echo", stream.read_exact(&mut back)).await.unwrap();
    assert_eq!(&back, b"there and back");
    forwarding.kill().await.unwrap();
    rig.assert_no_secret();
}

#[tokio::test]
async fn read_only_refuses_every_way_into_a_pod() {
    let (server, rig) = cluster("").await;
    let text = refusal(&rig, "review", &["exec", "web", "--", "echo", "hello"]).await;
    assert!(text.contains("read-only mode"), "{text}");
    let before = server.origin().log().count();
    let exec = format!("{PODS}/web/exec?command=id&stdout=true");
    let websocket = format!(
        "GET {exec} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n"
    );
    let spdy = format!(
        "POST {exec} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nContent-Length: 0\r\n\
         X-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n"
    );
    for head in [
        websocket,
        spdy,
        get(&exec),
        get(&format!("{PODS}/web/portforward")),
        get(&format!("{PODS}/web/proxy/secret")),
        get("/api/v1/nodes/node-1/proxy/run/apps/web/main?cmd=id"),
    ] {
        let (status, body) = raw(&rig, "review", &head).await;
        let told: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (status, told["kind"].as_str(), told["reason"].as_str()),
            (403, Some("Status"), Some("Forbidden")),
            "{head}"
        );
    }
    let (status, body) = raw(&rig, "review", &get("/logs/secret.log")).await;
    assert!(status == 403 && body.starts_with("clauderon: "), "{body}");
    assert_eq!(server.origin().log().count(), before, "something reached the cluster");
}

#[tokio::test]
async fn secrets_show_their_names_and_no_data() {
    let (server, rig) = cluster("").await;
    for session in ["build", "review"] {
        let table = kubectl(&rig, session, &["get", "secrets"]).await.succeed().await;
        assert!(table.stdout.contains("db"), "{}", table.all());
        let sorted =
            kubectl(&rig, session, &["get", "secrets", "-A", "--sort-by=.metadata.name"]).await.succeed().await;
        assert!(sorted.stdout.contains("db"), "{}", sorted.all());
        let list = kubectl(&rig, session, &["get", "secrets", "-o", "json"]).await.succeed().await.json();
        assert_eq!(list["items"][0]["metadata"]["annotations"], json!({ "team": "a" }));
        let told = kubectl(&rig, session, &["describe", "secret", "db"]).await.succeed().await;
        assert!(told.stdout.contains("team"), "{}", told.all());
        let one = kubectl(&rig, session, &["get", "secret", "db", "-o", "json"]).await.succeed().await.json();
        assert_eq!((one["metadata"]["name"].as_str(), &one["data"]), (Some("db"), &json!(null)));
        let (status, body) = raw(&rig, session, &get("/api/v1/namespaces/apps/secrets/db")).await;
        assert!(status == 200 && !body.contains(SECRET_VALUE) && body.contains("\"team\""), "{body}");
    }
    // An API server decodes a path before it takes it apart.
    for path in [
        "/%61pi/v1/namespaces/apps/secrets/db",
        "/api/v1%2fnamespaces/apps/secrets/db",
        "/api/v1/n%61mespaces/apps/secrets/db",
        "/api/v1/namespaces/apps/secret%73/db",
        "/api/v1/namespaces/apps%2fsecrets/db",
    ] {
        let (status, body) = raw(&rig, "build", &get(path)).await;
        assert!(status == 400 && body.contains("without escapes"), "{path}: {body}");
    }
    let put = "PUT /api/v1/namespaces/apps/secrets/db HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}";
    let (status, body) = raw(&rig, "build", put).await;
    assert!(status == 403 && body.contains("only patched"), "{body}");
    // The answer to a write brings the object too.
    kubectl(&rig, "build", &["patch", "secret", "db", "-p", r#"{"metadata":{"labels":{"x":"y"}}}"#, "-o", "json"])
        .await
        .succeed()
        .await;
    assert_eq!(server.object("/api/v1/namespaces/apps/secrets/db").unwrap()["data"]["password"], SECRET_VALUE);
    rig.assert_no_secret();
}

#[tokio::test]
async fn what_is_shown_of_secrets_and_pods_can_be_set() {
    let (_server, rig) = cluster("[services.kubernetes]\nsecrets = \"deny\"\nexec = false\n").await;
    for args in [&["get", "secret", "db"][..], &["exec", "web", "--", "id"]] {
        let text = refusal(&rig, "build", args).await;
        assert!(text.contains("switched off") && text.contains("[services.kubernetes]"), "{text}");
    }
    let (_server, rig) = cluster("[services.kubernetes]\nsecrets = \"allow\"\n").await;
    let shown = kubectl(&rig, "build", &["get", "secret", "db", "-o", "json"]).await.succeed().await.json();
    assert_eq!(shown["data"]["password"], SECRET_VALUE);
}

#[tokio::test]
async fn minting_is_refused_in_both_modes_unless_named() {
    let path = "/api/v1/namespaces/apps/serviceaccounts/default/token";
    let mint = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{{}}");
    let (_server, rig) = cluster("").await;
    for session in ["build", "review"] {
        let (status, body) = raw(&rig, session, &mint).await;
        assert!(status == 403 && body.contains("kubernetes.service-account-token"), "{body}");
    }
    let server = server().await;
    let rig = with_kubeconfig(&server.kubeconfig(&format!("token: {TOKEN}")));
    let rig = started(rig.line("allow_minting = [\"kubernetes.service-account-token\"]")).await;
    assert_eq!(raw(&rig, "build", &mint).await.0, 201);
    assert_eq!(raw(&rig, "review", &mint).await.0, 403);
}

#[tokio::test]
async fn nobody_can_say_who_they_are() {
    let (server, rig) = cluster("").await;
    kubectl(&rig, "build", &["get", "pods", "--as=root", "--as-group=system:masters"]).await.succeed().await;
    kubectl(&rig, "build", &["get", "pods", "--token=mine"]).await.succeed().await;
    let head = format!(
        "GET {PODS}/web/exec?command=true HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX-Remote-User: root\r\n\
         Sec-WebSocket-Protocol: v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.bWluZQ\r\n\r\n"
    );
    assert_eq!(raw(&rig, "build", &head).await.0, 101);
    for seen in server.origin().log().requests() {
        assert_eq!(seen.field("authorization"), Some(format!("Bearer {TOKEN}").as_str()));
        let said = |name: &str| name.starts_with("impersonate") || name.starts_with("x-remote");
        assert!(!seen.headers.keys().any(|name| said(name.as_str())), "{:?}", seen.headers);
        assert!(!seen.field("sec-websocket-protocol").unwrap_or_default().contains("bearer"));
    }
    for path in ["/api/v1/namespaces/apps/pods/../secrets", "/api/v1//secrets", "/api/v1/%73ecrets"] {
        assert_eq!(raw(&rig, "build", &get(path)).await.0, 400, "{path}");
    }
}

#[tokio::test]
async fn only_a_sessions_own_certificate_opens_the_gateway() {
    let (server, rig) = cluster("").await;
    let work = rig.work_dir("work");
    let config = std::fs::read_to_string(&rig.session_env("build").await["KUBECONFIG"]).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    let url = format!("{}{PODS}", config["clusters"][0]["cluster"]["server"].as_str().unwrap());
    let bare = rig.tool("curl", "build", &work).await.args(["-sS", &url]).succeed().await.json();
    assert_eq!((bare["code"].as_u64(), bare["reason"].as_str()), (Some(401), Some("Unauthorized")), "{bare}");
    let kept = work.join("kept");
    std::fs::write(&kept, config.to_string()).unwrap();
    let with_kept = ["--kubeconfig", kept.to_str().unwrap(), "get", "--raw", PODS];
    assert!(kubectl(&rig, "review", &with_kept).await.succeed().await.stdout.contains("PodList"));
    rig.cli(["delete", "build"]).succeed().await;
    let text = refusal(&rig, "review", &with_kept).await;
    assert!(text.contains("the session of this certificate has ended"), "{text}");
    // In clear text, as the user's own kubectl proxy was: the user may look.
    let plain = url.replace("https://", "http://");
    let look = rig.tool("curl", "review", &work).await.args(["-sS", &plain]).succeed().await.json();
    assert_eq!(look["kind"], "PodList");
    let write = ["-sS", "-X", "DELETE", &format!("{plain}/web")];
    let refused = rig.tool("curl", "review", &work).await.args(write).succeed().await.json();
    assert_eq!(refused["code"], 403);
    let page = ["-sS", "-H", "Host: evil.example", &plain];
    assert_eq!(rig.tool("curl", "review", &work).await.args(page).succeed().await.json()["code"], 401);
    assert!(server.object(&format!("{PODS}/web")).is_some());
    rig.assert_no_secret();
}

#[tokio::test]
async fn a_long_log_is_not_held() {
    let (_server, rig) = cluster("").await;
    let path = format!("{PODS}/web/log?follow=true&limitBytes={LONG}");
    let listed = rig.cli(["list", "--json"]).succeed().await.json();
    let row = listed.as_array().unwrap().iter().find(|row| row["name"] == "review").unwrap().clone();
    let socket = rig.home().join("sessions").join(row["id"].as_str().unwrap()).join("kubernetes.sock");
    let before = resident(rig.pid());
    let script = format!("curl -sS --unix-socket {} 'http://localhost{path}' | wc -c", socket.display());
    let counted = Run::new("sh").args(["-c", &script]).succeed().await;
    assert_eq!(counted.stdout.trim(), LONG.to_string());
    let grown = resident(rig.pid()).saturating_sub(before);
    assert!(grown < LONG / 4 / 1024, "{grown} KiB");
    let line = rig.audit_line("the log", |line| line.text("resource") == "pods/log").await;
    assert_eq!(line.get("response_bytes"), LONG);
}

#[tokio::test]
async fn kubectl_works_in_a_sandbox() {
    let (_server, rig) = cluster("").await;
    let run = ["run", "--backend", "sandbox", "--access-mode", "read-only", "--"];
    let pods = rig.cli(run.iter().chain(&["kubectl", "get", "pods"]).copied()).succeed().await;
    assert!(pods.stdout.contains("web"), "{}", pods.all());
    let refused = rig.cli(run.iter().chain(&["kubectl", "delete", "pod", "web"]).copied()).finish().await;
    assert!(refused.stderr.contains("read-only mode"), "{}", refused.all());
    rig.assert_no_secret();
}

#[tokio::test]
async fn a_session_may_be_kept_from_clusters() {
    let (server, rig) = cluster("").await;
    rig.create("other", &["--credential", "github"]).await;
    let text = refusal(&rig, "other", &["get", "--raw", PODS]).await;
    assert!(text.contains("may not use the credential `kubernetes`"), "{text}");
    assert_eq!(server.origin().log().count(), 0);
}

#[tokio::test]
async fn every_context_leads_to_its_own_cluster() {
    let (dev, prod) = (server().await, server().await);
    let config = dev.kubeconfig(&format!("token: {TOKEN}"));
    let other = prod.kubeconfig(&format!("token: {TOKEN}")).replace("dev", "prod").replace("ann", "bob");
    let rig = with_kubeconfig(&config);
    let second = rig.outside().join("second");
    std::fs::write(&second, other).unwrap();
    let list = format!("{}:{}", rig.outside().join(".kube/config").display(), second.display());
    let rig = started(rig.env("KUBECONFIG", list)).await;
    let names = kubectl(&rig, "build", &["config", "get-contexts", "-o", "name"]).await.succeed().await;
    assert_eq!(names.stdout, "dev\nprod\n");
    kubectl(&rig, "build", &["get", "pods"]).await.succeed().await;
    let before = (dev.origin().log().count(), prod.origin().log().count());
    assert!(before.0 > 0 && before.1 == 0);
    kubectl(&rig, "build", &["--context", "prod", "get", "pods"]).await.succeed().await;
    assert!(dev.origin().log().count() == before.0 && prod.origin().log().count() > 0);
    rig.assert_no_secret();
}

#[tokio::test]
async fn a_client_certificate_a_password_and_a_file_are_identities_too() {
    let certified = ApiServer::start("k8s.test", OriginBuilder::clients_with_certificates).await;
    let (certificate, key) = clauderon_testkit::ca::TestCa::shared().client("ann");
    let user = format!("client-certificate-data: {}\nclient-key-data: {}", base64(&certificate), base64(&key));
    let rig = started(with_kubeconfig(&certified.kubeconfig(&user)).guards(&base64(&key))).await;
    kubectl(&rig, "review", &["get", "pods"]).await.succeed().await;
    let line = rig.audit_line("a list", |line| line.text("path") == PODS).await;
    assert_eq!(line.get("auth_injected"), &true);
    rig.assert_no_secret();

    let basic =
        ApiServer::start("k8s.test", |origin| origin.require("authorization", "Basic YW5uOmh1bnRlcjItd29yZA==")).await;
    let rig =
        started(with_kubeconfig(&basic.kubeconfig("username: ann\npassword: hunter2-word")).guards("hunter2-word"))
            .await;
    kubectl(&rig, "review", &["get", "pods"]).await.succeed().await;
    rig.assert_no_secret();

    let server = server().await;
    let rig = with_kubeconfig(&server.kubeconfig("token: old\ntokenFile: token"));
    let file = rig.outside().join(".kube/token");
    std::fs::write(&file, "not yet").unwrap();
    let rig = started(rig).await;
    refusal(&rig, "review", &["get", "pods"]).await;
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    kubectl(&rig, "review", &["get", "pods"]).await.succeed().await;
    rig.assert_no_secret();
}

#[tokio::test]
async fn an_exec_plugin_is_asked_once_and_again_when_the_cluster_says_401() {
    let server = server().await;
    let rig = with_kubeconfig(&server.kubeconfig(
        "exec:\n  apiVersion: client.authentication.k8s.io/v1\n  command: ./login\n  interactiveMode: IfAvailable",
    ));
    let (login, count) = (rig.outside().join(".kube/login"), rig.outside().join("count"));
    let script = format!(
        "#!/bin/sh\necho x >> {0}\n[ $(wc -l < {0}) -gt 1 ] && token={TOKEN} || token=stale\n\
         printf '{{\"apiVersion\":\"client.authentication.k8s.io/v1\",\"kind\":\"ExecCredential\",\"status\":{{\"token\":\"%s\"}}}}' $token\n",
        count.display()
    );
    std::fs::write(&login, script).unwrap();
    std::fs::set_permissions(&login, std::fs::Permissions::from_mode(0o755)).unwrap();
    let rig = started(rig).await;
    for session in ["build", "review"] {
        kubectl(&rig, session, &["get", "pods"]).await.succeed().await;
    }
    assert_eq!(std::fs::read_to_string(count).unwrap(), "x\nx\n");
    rig.assert_no_secret();
}

#[tokio::test]
async fn whatever_is_wrong_is_said_where_kubectl_shows_it() {
    let rig = started(rig()).await;
    let text = refusal(&rig, "build", &["get", "pods"]).await;
    assert!(text.contains("no cluster is configured"), "{text}");
    let server = server().await;
    let cases = [
        ("users: [hunter2".to_owned(), "cannot be understood"),
        (
            server.kubeconfig("token: x").replace("server: https", "insecure-skip-tls-verify: true\n    server: https"),
            "insecure-skip-tls-verify",
        ),
        (server.kubeconfig("exec:\n  command: sleep\n  args: [\"60\"]\n  interactiveMode: Always"), "interactiveMode"),
        (server.kubeconfig("exec:\n  command: echo\n  args: [hunter2]"), "no ExecCredential"),
        (
            server.kubeconfig("client-certificate-data: aHVudGVyMg==\nclient-key-data: aHVudGVyMg=="),
            "no PEM certificate",
        ),
        (server.kubeconfig("token: x").replace("user: ann", "user: nobody"), "not in the kubeconfig"),
        (server.kubeconfig("token: x").replace("https://127.0.0.1:", "https://127.0.0.1:1/#"), "server is no URL"),
        (server.kubeconfig("auth-provider:\n  name: gcp"), "auth-provider"),
    ];
    for (config, wanted) in cases {
        let path = rig.outside().join(".kube");
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("config"), config).unwrap();
        let (status, body) = raw(&rig, "build", &get(PODS)).await;
        assert!(status == 502 && body.contains(wanted) && !body.contains("hunter2"), "{wanted}: {body}");
    }
    let gone = server.kubeconfig("token: x");
    drop(server);
    std::fs::write(rig.outside().join(".kube/config"), gone).unwrap();
    let (status, body) = raw(&rig, "build", &get(PODS)).await;
    assert!(status == 502 && body.contains("cannot be connected to"), "{body}");
}

#[tokio::test]
async fn explain_and_the_listing_know_the_clusters() {
    let (server, rig) = cluster("").await;
    let config = std::fs::read_to_string(&rig.session_env("build").await["KUBECONFIG"]).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    let gateway = config["clusters"][0]["cluster"]["server"].as_str().unwrap();
    let url = format!("{gateway}{PODS}/web/exec");
    let asked = ["explain", "POST", &url, "--session", "review", "--json"];
    let told = rig.cli(asked).succeed().await.json();
    assert_eq!((told["allowed"].as_bool(), told["reason"].as_str()), (Some(false), Some("read_only")), "{told}");
    let url = format!("{gateway}{PODS}");
    let told = rig.cli(["explain", "GET", &url, "--session", "review", "--json"]).succeed().await.json();
    assert_eq!((told["allowed"].as_bool(), told["service"].as_str()), (Some(true), Some("kubernetes")), "{told}");
    let rows = rig.cli(["config", "credentials", "--json"]).succeed().await.json();
    let row = rows.as_array().unwrap().iter().find(|row| row["name"] == "kubernetes").unwrap();
    assert_eq!((row["available"].as_bool(), row["source"].as_str()), (Some(true), Some("kubeconfig")), "{row}");
    assert!(row["hosts"][0].as_str().unwrap().contains(&server.origin().addr().port().to_string()), "{row}");
    assert_eq!(server.origin().log().count(), 0, "nothing was asked");
}

/// What a process keeps in memory, in KiB.
pub(crate) fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// 64 MiB.
const LONG: u64 = 64 << 20;

pub(crate) fn base64(text: &str) -> String {
    use std::io::Write as _;
    let mut child =
        std::process::Command::new("base64").arg("-w0").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}
