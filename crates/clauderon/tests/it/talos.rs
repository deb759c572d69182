//! The Talos gateway, with a gRPC client of its own making and stand-ins for nodes that grant roles as Talos does.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clauderon_testkit::rig::{Rig, RigBuilder};
use clauderon_testkit::run::Run;
use clauderon_testkit::talos::messages::{Data, Empty, LogsRequest, ResourceRequest, VersionResponse};
use clauderon_testkit::talos::{ROBOT, TalosClient, TalosNode, bare_context, context, service_account, talosconfig};
use clauderon_testkit::wait;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::{Code, Status};

use crate::rig;

const VERSION: &str = "/machine.MachineService/Version";
const LOGS: &str = "/machine.MachineService/Logs";
const EVENTS: &str = "/machine.MachineService/Events";
const REBOOT: &str = "/machine.MachineService/Reboot";
const READ: &str = "/machine.MachineService/Read";
const GRANT: &str = "/machine.MachineService/GenerateClientConfiguration";
const COSI_GET: &str = "/cosi.resource.State/Get";

/// A rig whose user has this talosconfig; every key in it is a secret that no agent may see.
fn with_talosconfig(config: &str) -> RigBuilder {
    let mut rig = rig();
    for line in config.lines().filter_map(|line| line.trim().strip_prefix("key: ")) {
        rig = rig.guards(line);
    }
    std::fs::create_dir(rig.outside().join(".talos")).unwrap();
    std::fs::write(rig.outside().join(".talos/config"), config).unwrap();
    rig
}

async fn started(rig: RigBuilder) -> Rig {
    let rig = rig.start().await;
    rig.create("build", &[]).await;
    rig.create("review", &["--access-mode", "read-only"]).await;
    rig
}

/// A cluster of one node, and a daemon whose user administers it.
async fn cluster(toml: &str) -> (TalosNode, Rig) {
    let node = TalosNode::start().await;
    let rig = with_talosconfig(&talosconfig("dev", &[context("dev", &[node.addr()], "os:admin")])).table(toml);
    (node, started(rig).await)
}

async fn session_file(rig: &Rig, session: &str) -> PathBuf {
    PathBuf::from(&rig.session_env(session).await["TALOSCONFIG"])
}

async fn client(rig: &Rig, session: &str) -> TalosClient {
    TalosClient::of(&session_file(rig, session).await)
}

async fn call(client: &TalosClient, path: &'static str) -> Result<Empty, Status> {
    client.unary::<Empty, Empty>(path, Empty {}).await.map(tonic::Response::into_inner)
}

async fn ask_for(client: &TalosClient, kind: &str) -> Result<Empty, Status> {
    let request = ResourceRequest { namespace: "config".into(), kind: kind.into(), id: "v1alpha1".into() };
    client.unary::<ResourceRequest, Empty>(COSI_GET, request).await.map(tonic::Response::into_inner)
}

fn log(id: &str, lines: i32, follow: bool) -> LogsRequest {
    LogsRequest { id: id.into(), tail_lines: lines, follow }
}

async fn refused(client: &TalosClient, path: &'static str) -> Status {
    call(client, path).await.unwrap_err()
}

#[tokio::test]
async fn reads_pass_in_both_modes_as_a_reader() {
    let (node, rig) = cluster("").await;
    for session in ["build", "review"] {
        let client = client(&rig, session).await.with("node", "10.0.0.3");
        let answer = client.unary::<Empty, VersionResponse>(VERSION, Empty {}).await.unwrap().into_inner();
        let from: Vec<_> = answer.messages.iter().map(|one| one.metadata.clone().unwrap().hostname).collect();
        assert_eq!(from, ["10.0.0.3"]);
        ask_for(&client, "Members.cluster.talos.dev").await.unwrap();
    }
    let seen = node.calls();
    assert_eq!(node.calls_of(GRANT).len(), 1, "a certificate for reading is asked for once");
    for read in seen.iter().filter(|seen| seen.path != GRANT) {
        assert_eq!(read.roles, ["os:reader"], "{}", read.path);
    }
    let line = rig.audit_line("the version", |line| line.text("path") == VERSION).await;
    assert_eq!((line.text("service"), line.text("method"), line.text("protocol")), ("talos", "POST", "HTTP/2"));
    assert_eq!((line.text("node"), line.text("rule"), line.text("credential")), ("10.0.0.3", "dev", "talos"));
    assert_eq!((line.get("auth_injected"), line.get("response_code")), (&true.into(), &200.into()));
    assert_eq!(line.get("grpc_status"), 0);
    let line = rig.audit_line("the resource", |line| line.text("path") == COSI_GET).await;
    assert_eq!((line.text("resource"), line.text("namespace")), ("Members.cluster.talos.dev", "config"));
    let line = rig.audit_line("the grant", |line| line.text("path") == GRANT).await;
    assert_eq!((line.get("session"), line.text("reason")), (&serde_json::Value::Null, "reader_certificate"));
    rig.assert_no_secret();
}

#[tokio::test]
async fn writes_are_refused_before_the_cluster_in_read_only() {
    let (node, rig) = cluster("").await;
    let (build, review) = (client(&rig, "build").await, client(&rig, "review").await);
    for path in [
        REBOOT,
        "/machine.MachineService/Reset",
        "/machine.MachineService/ApplyConfiguration",
        "/storage.StorageService/BlockDeviceWipe",
        "/cosi.resource.State/Create",
        "/machine.DebugService/ContainerRun",
        "/machine.MachineService/OfTheFuture",
    ] {
        let status = refused(&review, path).await;
        assert_eq!(status.code(), Code::PermissionDenied, "{path}: {status}");
        assert!(status.message().contains("read-only mode (session review)"), "{status}");
        assert!(status.message().contains("clauderon set-access-mode review read-write"), "{status}");
    }
    assert_eq!(node.calls().len(), 0, "something reached the cluster");
    call(&build, REBOOT).await.unwrap();
    let seen = node.calls_of(REBOOT);
    assert_eq!((seen.len(), seen[0].roles.as_slice()), (1, &["os:admin".to_owned()][..]));
    let line = rig.audit_line("a refusal", |line| line.text("reason") == "read_only").await;
    assert_eq!(
        (line.get("allowed"), line.get("auth_injected"), line.get("grpc_status")),
        (&false.into(), &false.into(), &7.into())
    );
    // The next call of an open connection already is one of the new mode.
    rig.cli(["set-access-mode", "review", "read-write"]).succeed().await;
    call(&review, REBOOT).await.unwrap();
    rig.assert_no_secret();
}

#[tokio::test]
async fn secrets_and_credentials_stay_in_the_cluster() {
    let (node, rig) = cluster("").await;
    for session in ["build", "review"] {
        let client = client(&rig, session).await;
        for path in [READ, "/machine.MachineService/Copy", "/machine.MachineService/EtcdSnapshot"] {
            let status = refused(&client, path).await;
            assert!(status.code() == Code::PermissionDenied && status.message().contains("secret_reads"), "{status}");
        }
        for kind in ["MachineConfigs.config.talos.dev", "osrootsecrets.secrets.talos.dev"] {
            let status = ask_for(&client, kind).await.unwrap_err();
            assert!(status.code() == Code::PermissionDenied && status.message().contains("secret_reads"), "{status}");
        }
        for path in [GRANT, "/machine.MachineService/Kubeconfig"] {
            let status = refused(&client, path).await;
            assert!(status.code() == Code::PermissionDenied && status.message().contains("allow_minting"), "{status}");
        }
    }
    assert_eq!(node.calls().len(), 0);
    let (node, rig) = cluster("[services.talos]\nsecret_reads = true\n").await;
    let (build, review) = (client(&rig, "build").await, client(&rig, "review").await);
    call(&build, READ).await.unwrap();
    ask_for(&build, "MachineConfigs.config.talos.dev").await.unwrap();
    assert!(refused(&review, READ).await.message().contains("read-only mode"));
    assert!(node.calls().iter().all(|seen| seen.roles == ["os:admin"]), "a reader could not");
}

#[tokio::test]
async fn minting_can_be_opened_by_its_name() {
    let node = TalosNode::start().await;
    let config = talosconfig("dev", &[context("dev", &[node.addr()], "os:admin")]);
    let rig = started(with_talosconfig(&config).line("allow_minting = [\"talos.kubeconfig\"]")).await;
    call(&client(&rig, "build").await, "/machine.MachineService/Kubeconfig").await.unwrap();
    assert_eq!(
        refused(&client(&rig, "review").await, "/machine.MachineService/Kubeconfig").await.code(),
        Code::PermissionDenied
    );
    assert_eq!(refused(&client(&rig, "build").await, GRANT).await.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn nobody_can_say_who_they_are() {
    let (node, rig) = cluster("").await;
    let client = client(&rig, "build").await.with("node", "10.0.0.2").with("runtime", "Talos").with("context", "dev");
    let client =
        client.with("talos-role", "os:admin").with("proxyfrom", "10.0.0.9").with("authorization", "Basic eDp5");
    let client = client.with("x-sidero-signature", "siderov1 a b c").with("x-sidero-payload", "{}");
    for path in [REBOOT, VERSION] {
        call(&client, path).await.unwrap();
        let seen = &node.calls_of(path)[0];
        let kept = ["node", "runtime", "context"].map(|name| seen.field(name));
        assert_eq!(kept, [Some("10.0.0.2"), Some("Talos"), Some("dev")]);
        for name in ["talos-role", "proxyfrom", "authorization", "x-sidero-signature", "x-sidero-payload"] {
            assert_eq!(seen.field(name), None, "{name}");
        }
    }
}

#[tokio::test]
async fn logs_of_two_nodes_stream_with_their_trailers() {
    let (_node, rig) = cluster("").await;
    let client = client(&rig, "review").await.with("nodes", "10.0.0.2").with("nodes", "10.0.0.3");
    let mut stream = client.stream::<LogsRequest, Data>(LOGS, log("kubelet", 3, false)).await.unwrap();
    let mut text = String::new();
    while let Some(piece) = stream.message().await.unwrap() {
        text.push_str(&String::from_utf8(piece.bytes).unwrap());
    }
    assert!(text.starts_with("10.0.0.2: line 0\n10.0.0.3: line 0\n") && text.ends_with("10.0.0.3: line 2\n"), "{text}");
    assert_eq!(stream.trailers().await.unwrap().unwrap().get("grpc-status").unwrap(), "0");
    let line = rig.audit_line("the log", |line| line.text("path") == LOGS).await;
    assert_eq!((line.text("node"), line.get("grpc_status")), ("10.0.0.2,10.0.0.3", &0.into()));
    let status = refused(&client, "/machine.MachineService/List").await;
    assert_eq!((status.code(), status.message()), (Code::NotFound, "no such file: /nowhere"));
    let line = rig.audit_line("the failure", |line| line.text("path").ends_with("/List")).await;
    assert_eq!((line.get("allowed"), line.get("grpc_status")), (&true.into(), &5.into()));
}

#[tokio::test]
async fn streams_go_both_ways_at_once() {
    let (_node, rig) = cluster("").await;
    let (sender, receiver) = tokio::sync::mpsc::channel::<LogsRequest>(1);
    let messages = futures_util::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|message| (message, receiver))
    });
    let client = client(&rig, "build").await;
    let path = "/machine.DebugService/ContainerRun";
    let mut answers = client.both_ways::<LogsRequest, LogsRequest>(path, Box::pin(messages)).await.unwrap();
    for id in ["one", "two", "three"] {
        // Each is answered before the next is sent.
        sender.send(log(id, 0, false)).await.unwrap();
        let answer = wait::within("the echo", answers.message()).await.unwrap().unwrap();
        assert_eq!(answer.id, id);
    }
    drop(sender);
    assert!(answers.message().await.unwrap().is_none());
}

#[tokio::test]
async fn a_client_that_goes_away_ends_the_call_at_the_node() {
    let (node, rig) = cluster("").await;
    let client = client(&rig, "review").await.with("node", "10.0.0.2");
    let mut stream = client.stream::<LogsRequest, Data>(LOGS, log("kubelet", 0, true)).await.unwrap();
    stream.message().await.unwrap().unwrap();
    drop(stream);
    wait::until("the end of the log", || (node.cancelled() == 1).then_some(())).await;
    let line = rig.audit_line("the log", |line| line.text("path") == LOGS).await;
    assert!(line.text("error").contains("went away") || line.text("error").contains("broke off"), "{}", line.raw);
}

#[tokio::test]
async fn a_deadline_is_passed_on_and_kept() {
    let (node, rig) = cluster("").await;
    let client = client(&rig, "review").await;
    let answer = client.unary_within::<Empty, Empty>(VERSION, Empty {}, Duration::from_secs(3600)).await;
    answer.unwrap();
    let said = node.calls_of(VERSION)[0].field("grpc-timeout").unwrap().to_owned();
    let millis: u64 = said.strip_suffix('m').unwrap().parse().unwrap();
    assert!((3_000_000..=3_600_000).contains(&millis), "{said}");
    // The node never answers; whoever asked without patience hears of it from the gateway.
    let file = session_file(&rig, "review").await;
    let raw = raw_call(&file, EVENTS, &[("grpc-timeout", "300m")]).await;
    assert_eq!(raw.headers()["grpc-status"], "4", "{raw:?}");
    wait::until("the end of the call", || (node.cancelled() == 1).then_some(())).await;
    let line = rig.audit_line("the call", |line| line.text("path") == EVENTS).await;
    assert_eq!((line.text("reason"), line.get("grpc_status")), ("upstream_timeout", &4.into()));
    let odd = raw_call(&file, VERSION, &[("grpc-timeout", "soon")]).await;
    assert_eq!(odd.headers()["grpc-status"], "3", "{odd:?}");
}

#[tokio::test]
async fn another_endpoint_takes_over_when_one_is_down() {
    let (first, second) = (TalosNode::start().await, TalosNode::start().await);
    let (deaf, mute) = (deaf().await, mute().await);
    let endpoints = [first.addr(), deaf, second.addr(), mute];
    let config = talosconfig("dev", &[context("dev", &endpoints, "os:admin")]);
    let rig = started(with_talosconfig(&config).upstream("connect_timeout = \"1s\"")).await;
    let client = client(&rig, "build").await;
    for _ in 0..8 {
        call(&client, VERSION).await.unwrap();
    }
    let counts = (first.calls_of(VERSION).len(), second.calls_of(VERSION).len());
    assert!(counts.0 > 0 && counts.1 > 0 && counts.0 + counts.1 == 8, "{counts:?}: nothing is sent twice");
    let gone = first.addr();
    drop(first);
    for _ in 0..8 {
        call(&client, REBOOT).await.unwrap();
    }
    assert_eq!(second.calls_of(REBOOT).len(), 8);
    let lines: Vec<_> = rig.audit().into_iter().filter(|line| line.text("path") == REBOOT).collect();
    assert!(lines.iter().all(|line| line.get("port") != gone.port()), "the line names the endpoint that was asked");
    drop(second);
    let status = wait::within("the last refusal", call(&client, REBOOT)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
}

#[tokio::test]
async fn only_a_sessions_own_certificate_opens_the_gateway() {
    let (node, rig) = cluster("").await;
    let file = session_file(&rig, "build").await;
    let bare = TalosClient::without_certificate(&file);
    let status = refused(&bare, VERSION).await;
    assert!(status.code() == Code::Unauthenticated && status.message().contains("TALOSCONFIG"), "{status}");
    let kept = TalosClient::of(&file);
    call(&kept, VERSION).await.unwrap();
    let copy = rig.work_dir("work").join("kept");
    std::fs::copy(&file, &copy).unwrap();
    rig.cli(["delete", "build"]).succeed().await;
    let status = refused(&TalosClient::of(&copy), VERSION).await;
    assert!(status.message().contains("the session of this certificate has ended"), "{status}");
    let before = node.calls().len();
    let address = rig
        .output()
        .lines()
        .find_map(|line| line.strip_prefix("listening on ")?.strip_suffix(" for Talos").map(str::to_owned));
    let address: SocketAddr = address.expect("the daemon says where").parse().unwrap();
    let mut clear = tokio::net::TcpStream::connect(address).await.unwrap();
    clear.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _reset = clear.read_to_end(&mut answer).await;
    assert!(answer.is_empty(), "clear text got an answer: {answer:?}");
    let line = rig.audit_line("the clear text", |line| line.text("reason") == "tls_handshake").await;
    assert_eq!(line.text("service"), "talos");
    assert_eq!(node.calls().len(), before);
    rig.assert_no_secret();
}

#[tokio::test]
async fn every_context_leads_to_its_own_cluster_and_can_be_left_out() {
    let (dev, prod) = (TalosNode::start().await, TalosNode::start().await);
    let contexts =
        [context("dev", &[dev.addr()], "os:admin"), context("prod", &[prod.addr()], "os:admin") + "    cluster: c1\n"];
    let rig = started(with_talosconfig(&talosconfig("dev", &contexts))).await;
    let file = session_file(&rig, "build").await;
    let config: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let names: Vec<_> = config["contexts"].as_object().unwrap().keys().cloned().collect();
    assert_eq!((names, config["context"].as_str()), (vec!["dev".to_owned(), "prod".to_owned()], Some("dev")));
    assert_eq!(config["contexts"]["prod"]["nodes"], serde_json::json!(["10.0.0.2", "10.0.0.3"]));
    assert_eq!(config["contexts"]["prod"]["cluster"], "c1");
    call(&TalosClient::of_named(&file, "prod"), REBOOT).await.unwrap();
    assert_eq!((dev.calls().len(), prod.calls().len()), (0, 1));
    let only = with_talosconfig(&talosconfig("dev", &contexts)).table("[services.talos]\ncontexts = [\"prod\"]\n");
    let rig = started(only).await;
    let config = std::fs::read_to_string(session_file(&rig, "build").await).unwrap();
    assert!(!config.contains("\"dev\"") && config.contains("\"context\": \"prod\""), "{config}");
}

#[tokio::test]
async fn nodes_and_whole_sessions_can_be_kept_out() {
    let (node, rig) = cluster("[services.talos]\nnodes = [\"10.0.0.2\"]\n").await;
    let client = client(&rig, "build").await;
    call(&client.clone().with("node", "10.0.0.2"), VERSION).await.unwrap();
    let other = refused(&client.clone().with("node", "10.0.0.3"), VERSION).await;
    assert!(other.code() == Code::PermissionDenied && other.message().contains("10.0.0.3"), "{other}");
    assert!(refused(&client, VERSION).await.message().contains("names no node"));
    let two = refused(&client.clone().with("node", "10.0.0.2").with("node", "10.0.0.3"), VERSION).await;
    assert_eq!(two.code(), Code::InvalidArgument, "{two}");
    rig.create("other", &["--credential", "github"]).await;
    let status = refused(&TalosClient::of(&session_file(&rig, "other").await), VERSION).await;
    assert!(status.message().contains("may not use the credential `talos`"), "{status}");
    assert_eq!(node.calls_of(VERSION).len(), 1);
}

#[tokio::test]
async fn a_cluster_that_grants_no_reader_is_asked_as_the_user() {
    let node = TalosNode::without_grants().await;
    let config = talosconfig("dev", &[context("dev", &[node.addr()], "os:admin")]);
    let rig = started(with_talosconfig(&config)).await;
    let client = client(&rig, "review").await;
    for _ in 0..2 {
        call(&client, VERSION).await.unwrap();
    }
    assert_eq!(node.calls_of(GRANT).len(), 1, "it is not asked for every call");
    assert_eq!(node.calls_of(VERSION)[0].roles, ["os:admin"]);
    assert!(ask_for(&client, "MachineConfigs.config.talos.dev").await.is_err());
    assert_eq!(node.calls_of(COSI_GET).len(), 0);
    // Whoever is no administrator need not ask.
    let reader = TalosNode::start().await;
    let config = talosconfig("dev", &[context("dev", &[reader.addr()], "os:reader")]);
    let rig = started(with_talosconfig(&config)).await;
    call(&self::client(&rig, "review").await, VERSION).await.unwrap();
    assert_eq!(reader.calls().len(), 1);
}

#[tokio::test]
async fn a_service_account_signs_every_call() {
    let node = TalosNode::omni().await;
    let omni = bare_context("omni", &[node.addr()]) + "    auth:\n      siderov1:\n        identity: ann@example.com\n";
    let (account, public) = service_account();
    let rig = with_talosconfig(&talosconfig("omni", &[omni])).secret("talos_token", &account);
    let rig = started(rig).await;
    let client = client(&rig, "review").await.with("nodes", "10.0.0.2").with("cluster", "c1");
    call(&client, VERSION).await.unwrap();
    let seen = &node.calls_of(VERSION)[0];
    let parts: Vec<&str> = seen.field("x-sidero-signature").unwrap().split(' ').collect();
    assert_eq!((parts[0], parts[1], parts.len()), ("siderov1", ROBOT, 4));
    let payload = seen.field("x-sidero-payload").unwrap();
    let said: serde_json::Value = serde_json::from_str(payload).unwrap();
    assert_eq!(
        (&said["method"], &said["headers"]["nodes"][0], &said["headers"]["cluster"][0]),
        (&VERSION.into(), &"10.0.0.2".into(), &"c1".into())
    );
    assert_eq!(said["headers"]["x-sidero-timestamp"][0].as_str(), seen.field("x-sidero-timestamp"));
    // Who wrote the verifier did not write the signer.
    let work = rig.work_dir("work");
    std::fs::write(work.join("key.gpg"), public).unwrap();
    std::fs::write(work.join("payload"), payload).unwrap();
    std::fs::write(work.join("payload.b64"), parts[3]).unwrap();
    Run::new("sh").args(["-c", "base64 -d payload.b64 > payload.sig"]).dir(&work).succeed().await;
    let verify = ["--homedir", ".", "--keyring", "./key.gpg", "--status-fd", "1", "payload.sig", "payload"];
    let verified = Run::new("gpgv").args(verify).dir(&work).succeed().await;
    assert!(verified.stdout.to_lowercase().contains(&format!("validsig {}", parts[2])), "{}", verified.all());
    let line = rig.audit_line("the call", |line| line.text("path") == VERSION).await;
    assert_eq!((line.get("auth_injected"), line.text("credential")), (&true.into(), "talos"));
    rig.assert_no_secret();
}

#[tokio::test]
async fn a_whole_talosconfig_may_be_the_credential() {
    let node = TalosNode::start().await;
    let config = talosconfig("given", &[context("given", &[node.addr()], "os:admin")]);
    let rig = started(rig().env("TALOS_TOKEN", config.clone())).await;
    call(&client(&rig, "build").await, REBOOT).await.unwrap();
    let rows = rig.cli(["config", "credentials", "--json"]).succeed().await.json();
    let row = rows.as_array().unwrap().iter().find(|row| row["name"] == "talos").unwrap();
    assert_eq!((row["available"].as_bool(), row["source"].as_str()), (Some(true), Some("env TALOS_TOKEN")), "{row}");
    rig.assert_no_secret();
    let mut rig = self::rig().build();
    rig.secret("talos_token", &config);
    rig.start().await;
    rig.create("build", &[]).await;
    call(&client(&rig, "build").await, REBOOT).await.unwrap();
    assert_eq!(node.calls_of(REBOOT).len(), 2);
}

#[tokio::test]
async fn whatever_is_wrong_is_said_where_the_client_shows_it() {
    let node = TalosNode::start().await;
    let rig = started(rig()).await;
    let client = client(&rig, "build").await;
    let status = refused(&client, VERSION).await;
    assert!(
        status.code() == Code::FailedPrecondition && status.message().contains("no cluster is configured"),
        "{status}"
    );
    let good = context("clauderon", &[node.addr()], "os:admin");
    let with = |line: &str, other: &str| {
        let changed =
            |kept: &str| if kept.trim().starts_with(line) { format!("    {other}\n") } else { format!("{kept}\n") };
        talosconfig("clauderon", &[good.lines().map(changed).collect()])
    };
    let junk = "aHVudGVyMg==";
    let cases = [
        ("contexts: [hunter2".to_owned(), "cannot be understood"),
        (with("endpoints:", "endpoints: []"), "has no endpoints"),
        (with("endpoints:", "endpoints: [\"http://x\"]"), "no https:// URL"),
        (with("ca:", &format!("ca: {junk}")), "its ca is no PEM certificate"),
        (with("crt:", &format!("crt: {junk}")), "the certificate is no PEM certificate"),
        (with("crt:", "crt: hunter2!"), "its crt is no base64"),
        (with("key:", &format!("key: {junk}")), "the key is no PEM private key"),
        (with("key:", ""), "without a key"),
        (with("crt:", &format!("crt: {}", expired())), "expired on 2020-01-01"),
        (
            with("key:", "auth: {siderov1: {identity: ann}}").replace("    crt:", "    ignored:"),
            "run talosctl once outside",
        ),
        ("context: other\ncontexts:\n  a: {endpoints: [x]}\n  b: {endpoints: [x]}\n".to_owned(), "no current context"),
    ];
    std::fs::create_dir(rig.outside().join(".talos")).unwrap();
    for (config, wanted) in cases {
        std::fs::write(rig.outside().join(".talos/config"), &config).unwrap();
        let status = refused(&client, VERSION).await;
        assert!(status.code() == Code::FailedPrecondition && status.message().contains(wanted), "{wanted}: {status}");
        assert!(!status.message().contains("hunter2"), "{status}");
    }
    // A session that began without a cluster gets the one that has come since.
    std::fs::write(rig.outside().join(".talos/config"), talosconfig("clauderon", &[good])).unwrap();
    call(&client, VERSION).await.unwrap();
    let mut broken = self::rig().build();
    broken.secret("talos_token", "hunter2-is-no-token");
    broken.start().await;
    broken.create("build", &[]).await;
    let status = refused(&self::client(&broken, "build").await, VERSION).await;
    assert!(status.message().contains("no plain tokens") && !status.message().contains("hunter2"), "{status}");
}

#[tokio::test]
async fn odd_calls_reach_nobody() {
    let (node, rig) = cluster("").await;
    let file = session_file(&rig, "build").await;
    for path in [
        "/machine.MachineService/Version?x=1",
        "/machine.MachineService/%56ersion",
        "/machine.MachineService//Version",
        "/",
    ] {
        let answer = raw_call(&file, path, &[]).await;
        assert_eq!(answer.headers()["grpc-status"], "3", "{path}: {answer:?}");
    }
    let json = raw_call(&file, VERSION, &[("content-type", "application/json")]).await;
    assert_eq!(json.headers()["grpc-status"], "3", "{json:?}");
    let huge = "x".repeat(100 * 1024);
    let answer = raw_call(&file, VERSION, &[("runtime", &huge)]).await;
    assert_eq!(answer.status(), 431, "{answer:?}");
    let many: Vec<(&str, &str)> = (0..500).map(|_| ("nodes", "10.0.0.2")).collect();
    let answer = raw_call(&file, VERSION, &many).await;
    assert_eq!(answer.headers()["grpc-status"], "3", "{answer:?}");
    assert_eq!(node.calls().len(), 0);
    call(&TalosClient::of(&file), VERSION).await.unwrap();
}

#[tokio::test]
async fn a_long_log_is_not_held() {
    let (_node, rig) = cluster("").await;
    let client = client(&rig, "review").await.with("node", "10.0.0.2");
    let mut stream = client.stream::<LogsRequest, Data>(LOGS, log("long", PIECES, false)).await.unwrap();
    let first = stream.message().await.unwrap().unwrap().bytes.len();
    // Nobody reads: what is under way stays bounded.
    let before = resident(rig.pid());
    let mut length = first as u64;
    while let Some(piece) = stream.message().await.unwrap() {
        length += piece.bytes.len() as u64;
    }
    assert_eq!(length, u64::try_from(PIECES).unwrap() * first as u64);
    let grown = resident(rig.pid()).saturating_sub(before);
    assert!(grown < length / 4 / 1024, "{grown} KiB for {length} bytes");
}

#[tokio::test]
async fn the_gateway_is_reached_from_a_sandbox() {
    let (node, rig) = cluster("").await;
    // No client of Talos need be installed: what is shown is that the file, the relay and the certificate belong together.
    let script = "import json, os, ssl, base64, tempfile\n\
        config = json.load(open(os.environ['TALOSCONFIG']))\n\
        context = config['contexts'][config['context']]\n\
        pem = lambda name: base64.b64decode(context[name]).decode()\n\
        tls = ssl.create_default_context(cadata=pem('ca'))\n\
        tls.set_alpn_protocols(['h2'])\n\
        with tempfile.NamedTemporaryFile('w') as file:\n\
        \x20   file.write(pem('crt') + pem('key')); file.flush(); tls.load_cert_chain(file.name)\n\
        import socket\n\
        host, port = context['endpoints'][0].split(':')\n\
        wire = tls.wrap_socket(socket.create_connection((host, int(port)), 20), server_hostname=host)\n\
        # Preface, SETTINGS, and HEADERS with literal fields: RFC 9113 and RFC 7541 section 6.2.2.\n\
        text = lambda value: bytes([len(value)]) + value.encode()\n\
        field = lambda name, value: b'\\0' + text(name) + text(value)\n\
        path = '/machine.MachineService/Version'\n\
        head = field(':method', 'POST') + field(':scheme', 'https') + field(':path', path) + field(':authority', host)\n\
        head += field('content-type', 'application/grpc') + field('te', 'trailers') + field('node', '10.0.0.2')\n\
        frame = lambda kind, flags, stream, body: len(body).to_bytes(3, 'big') + bytes([kind, flags]) + stream.to_bytes(4, 'big') + body\n\
        wire.sendall(b'PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n' + frame(4, 0, 0, b'') + frame(1, 4, 1, head) + frame(0, 1, 1, bytes(5)))\n\
        got = b''\n\
        while b'10.0.0.2' not in got:\n\
        \x20   piece = wire.recv(65536)\n\
        \x20   assert piece, got\n\
        \x20   got += piece\n\
        print('answered')\n";
    let run = ["run", "--backend", "sandbox", "--access-mode", "read-only", "--", "python3", "-c", script];
    let answered = rig.cli(run).succeed().await;
    assert!(answered.stdout.contains("answered"), "{}", answered.all());
    assert_eq!(node.calls_of(VERSION).len(), 1);
    rig.assert_no_secret();
}

#[tokio::test]
async fn explain_and_the_listing_know_the_clusters() {
    let (node, rig) = cluster("").await;
    let config = std::fs::read_to_string(session_file(&rig, "build").await).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    let gateway = config["contexts"]["dev"]["endpoints"][0].as_str().unwrap();
    for (path, session, allowed, reason) in [
        (REBOOT, "review", false, "read_only"),
        (READ, "build", false, "switched_off"),
        (GRANT, "build", false, "minting"),
        (VERSION, "review", true, "read-only permits a read"),
        (REBOOT, "build", true, "read-write permits a write"),
    ] {
        let url = format!("https://{gateway}{path}");
        let told = rig.cli(["explain", "POST", &url, "--session", session, "--json"]).succeed().await.json();
        assert_eq!((told["allowed"].as_bool(), told["reason"].as_str()), (Some(allowed), Some(reason)), "{told}");
        assert_eq!((told["service"].as_str(), told["source"].as_str()), (Some("talos"), Some("talosconfig")), "{told}");
    }
    let rows = rig.cli(["config", "credentials", "--json"]).succeed().await.json();
    let row = rows.as_array().unwrap().iter().find(|row| row["name"] == "talos").unwrap();
    assert_eq!((row["available"].as_bool(), row["source"].as_str()), (Some(true), Some("talosconfig")), "{row}");
    assert_eq!(row["hosts"][0], node.addr().to_string(), "{row}");
    assert_eq!(node.calls().len(), 0, "nothing was asked");
}

/// One call as written here, over a connection of its own: its head, which says how it ended where there is no body.
async fn raw_call(file: &std::path::Path, path: &str, fields: &[(&str, &str)]) -> http::Response<()> {
    let stream = TalosClient::of(file).stream_to_gateway().await;
    let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut request = http::Request::post(format!("https://talos.test{path}")).header("te", "trailers");
    if fields.iter().all(|(name, _)| *name != "content-type") {
        request = request.header("content-type", "application/grpc");
    }
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let (answer, mut body) = sender.send_request(request.body(()).unwrap(), false).unwrap();
    let _refused_already = body.send_data(bytes::Bytes::from_static(&[0; 5]), true);
    let answer = wait::within("the answer", answer).await.unwrap();
    connection.abort();
    answer.map(drop)
}

/// An endpoint where nobody listens.
async fn deaf() -> SocketAddr {
    tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// An endpoint that takes connections and says nothing.
async fn mute() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    address
}

/// A certificate whose time is over, as a talosconfig has it.
fn expired() -> String {
    use base64::Engine as _;
    base64::prelude::BASE64_STANDARD.encode(clauderon_testkit::ca::TestCa::shared().expired_client("ann").0)
}

/// What a process keeps in memory, in KiB.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// 64 MiB in Talos' own pieces.
const PIECES: i32 = 4096;
