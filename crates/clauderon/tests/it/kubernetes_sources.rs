//! Where the Kubernetes gateway's clusters and identities come from, and what becomes of it when one of them fails.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use clauderon_testkit::body;
use clauderon_testkit::ca::{Certificate, TestCa};
use clauderon_testkit::kube::{ApiServer, SECRET_VALUE};
use clauderon_testkit::origin::{Origin, OriginBuilder, ok};
use clauderon_testkit::rig::{Rig, RigBuilder};
use clauderon_testkit::run::Run;
use clauderon_testkit::wait::until;
use http::Response;
use serde_json::json;

use crate::kubernetes::{
    PODS, TOKEN, base64, cluster, get, kubectl, raw, refusal, resident, server, started, with_kubeconfig,
};
use crate::rig;

#[tokio::test]
async fn k8s_token_replaces_the_current_contexts_token_and_no_others() {
    let (dev, prod) = (server().await, server().await);
    let config = dev.kubeconfig("token: old");
    let other = prod.kubeconfig("token: old").replace("dev", "prod").replace("ann", "bob");
    for from_environment in [true, false] {
        let rig = with_kubeconfig(&config);
        let second = rig.outside().join("second");
        std::fs::write(&second, &other).unwrap();
        let list = format!("{}:{}", rig.outside().join(".kube/config").display(), second.display());
        let rig = rig.env("KUBECONFIG", list);
        let rig = if from_environment { rig.env("K8S_TOKEN", TOKEN) } else { rig.secret("k8s_token", TOKEN) };
        let rig = started(rig).await;
        kubectl(&rig, "build", &["get", "pods"]).await.succeed().await;
        let text = refusal(&rig, "build", &["--context", "prod", "get", "--raw", PODS]).await;
        assert!(text.contains("must be logged in"), "{text}");
        assert!(prod.origin().log().requests().iter().all(|seen| seen.field("authorization") == Some("Bearer old")));
        let rows = rig.cli(["config", "credentials", "--json"]).succeed().await.json();
        let row = rows.as_array().unwrap().iter().find(|row| row["name"] == "kubernetes").unwrap();
        let source = row["source"].as_str().unwrap();
        assert!(source.contains(if from_environment { "K8S_TOKEN" } else { "k8s_token" }), "{row}");
        rig.assert_no_secret();
    }
}

/// A server that stands under a name, and the settings that lead to it without a kubeconfig.
async fn named_server() -> (ApiServer, RigBuilder) {
    let server = server().await;
    let rig = rig().origin(server.origin()).secret("k8s_token", TOKEN);
    let ca = rig.outside().join("cluster.pem");
    std::fs::write(&ca, TestCa::shared().pem()).unwrap();
    let table = format!("[services.kubernetes]\nserver = \"https://k8s.test:6443\"\nca = \"{}\"\n", ca.display());
    (server, rig.table(&table))
}

#[tokio::test]
async fn a_server_in_the_settings_takes_the_place_of_a_kubeconfig() {
    let (_server, rig) = named_server().await;
    std::fs::create_dir(rig.outside().join(".kube")).unwrap();
    let unused = server().await;
    std::fs::write(rig.outside().join(".kube/config"), unused.kubeconfig("token: old")).unwrap();
    let rig = started(rig).await;
    let names = kubectl(&rig, "build", &["config", "get-contexts", "-o", "name"]).await.succeed().await;
    assert_eq!(names.stdout, "default\n");
    let pods = kubectl(&rig, "review", &["get", "pods", "-n", "apps"]).await.succeed().await;
    assert!(pods.stdout.contains("web"), "{}", pods.all());
    assert_eq!(unused.origin().log().count(), 0);
    rig.assert_no_secret();
}

/// A `clauderon` whose daemon sees a pod's own files, as the kubelet puts them there.
fn in_a_pod(dir: &Path) -> String {
    let account = dir.join("account");
    std::fs::create_dir(&account).unwrap();
    std::fs::write(account.join("token"), TOKEN).unwrap();
    std::fs::write(account.join("ca.crt"), TestCa::shared().pem()).unwrap();
    std::fs::write(account.join("namespace"), "apps").unwrap();
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = daemon ] || exec {binary} \"$@\"\n\
         exec unshare --user --map-root-user --mount sh -c 'mount -t tmpfs none /run && d=/run/secrets/kubernetes.io && \
         mkdir -p $d && ln -s {account} $d/serviceaccount && exec {binary} \"$@\"' sh \"$@\"\n",
        binary = env!("CARGO_BIN_EXE_clauderon"),
        account = account.display(),
    );
    let path = dir.join("clauderon");
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn in_a_pod_its_own_service_account_is_the_identity() {
    let server = server().await;
    let dir = tempfile::Builder::new().prefix("clauderon-pod-").tempdir().unwrap();
    let rig = Rig::new(&in_a_pod(dir.path())).guards(TOKEN).origin(server.origin());
    let rig = rig.env("KUBERNETES_SERVICE_HOST", "k8s.test").env("KUBERNETES_SERVICE_PORT", "6443");
    let rig = started(rig).await;
    let names = kubectl(&rig, "build", &["config", "get-contexts", "-o", "name"]).await.succeed().await;
    assert_eq!(names.stdout, "in-cluster\n");
    let pods = kubectl(&rig, "review", &["get", "pods"]).await.succeed().await;
    assert!(pods.stdout.contains("web"), "in the pod's own namespace: {}", pods.all());
    // A kubelet renews the token by replacing the file.
    std::fs::write(dir.path().join("account/token"), "stale").unwrap();
    refusal(&rig, "review", &["get", "--raw", PODS]).await;
    std::fs::write(dir.path().join("account/token"), TOKEN).unwrap();
    kubectl(&rig, "review", &["get", "pods"]).await.succeed().await;
    rig.assert_no_secret();
}

#[tokio::test]
async fn a_contexts_own_proxy_is_asked_with_its_password() {
    let server = server().await;
    let target = server.origin().addr();
    let corporate = Origin::http("proxy.example.test").script(move |mut wire| async move {
        let Some((head, _)) = wire.request().await else { return };
        let asked = format!("CONNECT {target} HTTP/1.1");
        if head.start != asked
            || head.field("proxy-authorization") != Some("Basic YW5uOnBhc3Mtd29yZC1ub2JvZHktc2Vlcw==")
        {
            wire.try_send("HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n").await;
            return;
        }
        wire.send("HTTP/1.1 200 OK\r\n\r\n").await;
        let mut onward = tokio::net::TcpStream::connect(target).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut wire, &mut onward).await;
    });
    let corporate = corporate.start().await;
    let through = |password: &str| {
        let proxy = format!("proxy-url: http://ann:{password}@{}\n    server: https", corporate.addr());
        server.kubeconfig(&format!("token: {TOKEN}")).replace("server: https", &proxy)
    };
    let rig = started(with_kubeconfig(&through("pass-word-nobody-sees")).guards("pass-word-nobody-sees")).await;
    kubectl(&rig, "review", &["get", "pods"]).await.succeed().await;
    assert!(corporate.log().bytes() > 0, "it went another way");
    std::fs::write(rig.outside().join(".kube/config"), through("wrong")).unwrap();
    let (status, body) = raw(&rig, "review", &get(PODS)).await;
    assert!(status == 502 && body.contains("407") && !body.contains("wrong@"), "{body}");
    rig.assert_no_secret();
}

#[tokio::test]
async fn the_user_acts_as_the_kubeconfig_says_and_as_nobody_a_session_names() {
    let server = server().await;
    let user = format!(
        "token: {TOKEN}\nas: deployer\nas-uid: u-1\nas-groups: [team-a, team-b]\nas-user-extra:\n  Example.com/Scope: [one, two]"
    );
    let rig = started(with_kubeconfig(&server.kubeconfig(&user))).await;
    kubectl(&rig, "build", &["get", "pods", "--as=root", "--as-group=system:masters", "--as-uid=0"])
        .await
        .succeed()
        .await;
    let seen = server.origin().log().requests().into_iter().rfind(|seen| seen.target.starts_with(PODS)).unwrap();
    let all = |name: &str| -> Vec<String> {
        seen.headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
    };
    assert_eq!(all("impersonate-user"), ["deployer"]);
    assert_eq!(all("impersonate-uid"), ["u-1"]);
    assert_eq!(all("impersonate-group"), ["team-a", "team-b"]);
    assert_eq!(all("impersonate-extra-example.com%2fscope"), ["one", "two"]);
    rig.assert_no_secret();
}

#[tokio::test]
async fn certificates_that_have_expired_are_told_by_their_owner() {
    let strict = ApiServer::start("k8s.test", OriginBuilder::clients_with_certificates).await;
    let (certificate, key) = TestCa::shared().expired_client("ann");
    let user = format!("client-certificate-data: {}\nclient-key-data: {}", base64(&certificate), base64(&key));
    let rig = started(with_kubeconfig(&strict.kubeconfig(&user)).guards(&base64(&key))).await;
    let text = refusal(&rig, "build", &["get", "--raw", PODS]).await;
    assert!(text.contains("the client certificate expired on 2020-"), "{text}");
    assert_eq!(strict.origin().log().bytes(), 0);
    rig.assert_no_secret();

    let stale = ApiServer::start("k8s.test", |origin| origin.certificate(Certificate::Expired)).await;
    let rig = started(with_kubeconfig(&stale.kubeconfig(&format!("token: {TOKEN}")))).await;
    let (status, body) = raw(&rig, "build", &get(PODS)).await;
    assert!(status == 502 && body.contains("certificate") && body.contains("expired"), "{body}");
    assert_eq!(stale.origin().log().bytes(), 0, "a byte of the request was sent");
    rig.assert_no_secret();
}

#[tokio::test]
async fn a_slow_server_is_given_up_and_a_quiet_watch_is_not() {
    let server = ApiServer::start("k8s.test", |origin| {
        origin.require("authorization", &format!("Bearer {TOKEN}")).route("/api/v1/nodes", |_| std::future::pending())
    })
    .await;
    let rig = with_kubeconfig(&server.kubeconfig(&format!("token: {TOKEN}")));
    let rig = started(rig.upstream("response_timeout = \"700ms\"")).await;
    let text = refusal(&rig, "review", &["get", "--raw", "/api/v1/nodes"]).await;
    assert!(text.contains("did not answer within 700ms"), "{text}");
    let line = rig.audit_path("/api/v1/nodes").await;
    assert_eq!((line.get("response_code"), line.get("allowed")), (&504.into(), &true.into()));
    // Its head is there at once; then nothing for longer than an answer may take.
    let path = "/api/v1/namespaces/apps/configmaps?watch=1&resourceVersion=1";
    let curl = format!("curl -sSN --unix-socket {} 'http://localhost{path}'", socket_of(&rig, "review").await);
    let script = format!("{curl} > event & while ! grep late event; do sleep 0.1; done; kill $!");
    let watching = tokio::spawn(Run::new("sh").args(["-c", &script]).dir(&rig.work_dir("work")).finish());
    let began = || server.origin().log().requests().iter().any(|seen| seen.target == path).then_some(());
    until("the watch", began).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    server
        .put("/api/v1/namespaces/apps/configmaps/late", json!({ "kind": "ConfigMap", "metadata": { "name": "late" } }));
    let event = watching.await.unwrap();
    assert!(event.stdout.contains("\"late\""), "{}", event.all());
    rig.assert_no_secret();
}

/// The session's own way to the gateway.
async fn socket_of(rig: &Rig, session: &str) -> String {
    let listed = rig.cli(["list", "--json"]).succeed().await.json();
    let row = listed.as_array().unwrap().iter().find(|row| row["name"] == session).unwrap().clone();
    rig.home().join("sessions").join(row["id"].as_str().unwrap()).join("kubernetes.sock").display().to_string()
}

/// A kubeconfig whose user is whoever this script says.
fn by_plugin(server: &ApiServer, script: &str, outside: &Path) -> String {
    let login = outside.join(".kube/login");
    std::fs::write(&login, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&login, std::fs::Permissions::from_mode(0o755)).unwrap();
    server.kubeconfig(
        "exec:\n  apiVersion: client.authentication.k8s.io/v1\n  command: ./login\n  interactiveMode: IfAvailable",
    )
}

#[tokio::test]
async fn a_plugin_that_prompts_floods_or_lies_fails_at_once_and_says_nothing_of_what_it_printed() {
    let server = server().await;
    let rig = started(with_kubeconfig("")).await;
    let json = |version: &str, status: &str| {
        format!(
            "printf '%s' '{{\"apiVersion\":\"client.authentication.k8s.io/{version}\",\"kind\":\"ExecCredential\",\"status\":{status}}}'"
        )
    };
    for (script, wanted) in [
        ("printf 'Password: '; read x || { echo hunter2 >&2; exit 3; }".to_owned(), "ended with exit status: 3"),
        ("yes hunter2".to_owned(), "its exec plugin"),
        ("printf '\\377\\376hunter2'".to_owned(), "no ExecCredential"),
        (json("v1beta1", "{\"token\":\"hunter2\"}"), "of version"),
        (json("v1", "{\"token\":\"hunter2\",\"expirationTimestamp\":\"soon\"}"), "no ExecCredential"),
        (json("v1", "{\"clientCertificateData\":\"hunter2\",\"clientKeyData\":\"hunter2\"}"), "no PEM certificate"),
        (json("v1", "{\"clientCertificateData\":\"hunter2\"}"), "neither a token nor a certificate"),
    ] {
        let config = by_plugin(&server, &script, rig.outside());
        std::fs::write(rig.outside().join(".kube/config"), config).unwrap();
        let (status, body) = raw(&rig, "build", &get(PODS)).await;
        assert!(status == 502 && body.contains(wanted) && !body.contains("hunter2"), "{script}: {body}");
    }
    assert_eq!(server.origin().log().count(), 0);
    assert!(!rig.output().contains("hunter2"));
}

#[tokio::test]
async fn a_plugin_that_hangs_holds_up_nobody_else() {
    let (stuck, fine) = (server().await, server().await);
    let rig = with_kubeconfig("");
    let mark = rig.outside().join("started");
    let config = by_plugin(&stuck, &format!("echo $$ > {}; sleep 600", mark.display()), rig.outside());
    let other = fine.kubeconfig(&format!("token: {TOKEN}")).replace("dev", "prod").replace("ann", "bob");
    std::fs::write(rig.outside().join(".kube/config"), config).unwrap();
    let second = rig.outside().join("second");
    std::fs::write(&second, other).unwrap();
    let list = format!("{}:{}", rig.outside().join(".kube/config").display(), second.display());
    let mut rig = started(rig.env("KUBECONFIG", list)).await;
    let hanging = tokio::spawn(kubectl(&rig, "build", &["get", "pods"]).await.finish());
    until("the plugin to run", || mark.exists().then_some(())).await;
    for session in ["build", "review"] {
        kubectl(&rig, session, &["--context", "prod", "get", "pods"]).await.succeed().await;
    }
    assert!(!hanging.is_finished());
    // Nor does it keep the daemon from ending, or live on after it.
    rig.terminate().await;
    let pid = std::fs::read_to_string(&mark).unwrap();
    until("the plugin to end", || (!Path::new(&format!("/proc/{}", pid.trim())).exists()).then_some(())).await;
    hanging.abort();
}

/// `count` changes of a secret of some size, one after the other.
fn changes(count: u64) -> Response<body::Body> {
    let (feed, changes) = body::channel();
    tokio::spawn(async move {
        let padding = "x".repeat(2000);
        for number in 0..count {
            let event = format!(
                "{{\"type\":\"MODIFIED\",\"object\":{{\"apiVersion\":\"v1\",\"kind\":\"Secret\",\"metadata\":{{\"name\":\"s{number}\",\
                 \"annotations\":{{\"a\":\"{padding}\"}}}},\"data\":{{\"password\":\"{SECRET_VALUE}\"}}}}}}\n"
            );
            if !feed.data(Bytes::from(event)).await {
                return;
            }
        }
    });
    let mut response = ok("");
    *response.body_mut() = changes;
    response.headers_mut().insert("content-type", "application/json".parse().unwrap());
    response
}

#[tokio::test]
async fn a_huge_watch_is_not_held_and_loses_its_values_on_the_way() {
    const COUNT: u64 = 20_000;
    let server = ApiServer::start("k8s.test", |origin| {
        origin
            .require("authorization", &format!("Bearer {TOKEN}"))
            .route("/api/v1/secrets", |_| async { changes(COUNT) })
    })
    .await;
    let rig = with_kubeconfig(&server.kubeconfig(&format!("token: {TOKEN}"))).guards(SECRET_VALUE);
    let rig = started(rig).await;
    let socket = socket_of(&rig, "review").await;
    let before = resident(rig.pid());
    let script = format!(
        "curl -sS --unix-socket {socket} 'http://localhost/api/v1/secrets?watch=1' > all; grep -c MODIFIED all; grep -c {SECRET_VALUE} all; wc -c < all"
    );
    let counted = Run::new("sh").args(["-c", &script]).dir(&rig.work_dir("work")).finish().await;
    let mut lines = counted.stdout.lines();
    assert_eq!((lines.next(), lines.next()), (Some("20000"), Some("0")), "{}", counted.all());
    let length: u64 = lines.next().unwrap().trim().parse().unwrap();
    assert!(length > COUNT * 2000);
    let grown = resident(rig.pid()).saturating_sub(before);
    assert!(grown < length / 4 / 1024, "{grown} KiB of {length} bytes");
    rig.assert_no_secret();
}

#[tokio::test]
async fn another_client_library_reads_watches_writes_and_execs() {
    let (server, rig) = cluster("").await;
    let work = rig.work_dir("work");
    std::fs::write(work.join("client.py"), PYTHON).unwrap();
    let python = rig.tool("/usr/bin/python3", "build", &work).await.args(["client.py"]).succeed().await;
    assert_eq!(python.stdout, "pods: web\nlog: line 0\nwatched: ADDED web\ncreated: c\nexec: hello\nsecret: None\n");
    assert!(server.object("/api/v1/namespaces/apps/configmaps/c").is_some());
    let refused = rig.tool("/usr/bin/python3", "review", &work).await.args(["client.py"]).finish().await;
    assert!(refused.stdout.ends_with("watched: ADDED web\n"), "{}", refused.all());
    assert!(refused.stderr.contains("Write operations are blocked in read-only mode"), "{}", refused.all());
    rig.assert_no_secret();
}

/// The official client for Python: urllib3 and websocket-client in place of Go's.
const PYTHON: &str = r#"
import faulthandler
from kubernetes import client, config, watch
from kubernetes.stream import stream

faulthandler.dump_traceback_later(20, exit=True)
config.load_kube_config()
core = client.CoreV1Api()
print("pods:", *[pod.metadata.name for pod in core.list_namespaced_pod("apps").items])
print("log:", core.read_namespaced_pod_log("web", "apps").splitlines()[0])
for event in watch.Watch().stream(core.list_namespaced_pod, "apps", timeout_seconds=5):
    print("watched:", event["type"], event["object"].metadata.name)
    break
core.create_namespaced_config_map("apps", {"metadata": {"name": "c"}, "data": {"a": "b"}})
print("created:", core.read_namespaced_config_map("c", "apps").metadata.name)
print("exec:", stream(core.connect_get_namespaced_pod_exec, "web", "apps", command=["echo", "hello"], stdout=True, stderr=True).strip())
print("secret:", core.read_namespaced_secret("db", "apps").data)
"#;
