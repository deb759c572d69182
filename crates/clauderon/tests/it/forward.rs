//! Ports of this machine that a user opens to a sandbox.

use clauderon_testkit::origin::Origin;
use clauderon_testkit::rig::Rig;
use clauderon_testkit::run::Run;
use rustix::process::Signal;

use crate::{GITHUB, rig};

async fn service() -> Origin {
    Origin::http("localhost").reply("/", "served").start().await
}

fn curl(rig: &Rig, options: &[&str], url: &str) -> Run {
    let args = ["run", "--backend", "sandbox"].into_iter().chain(options.iter().copied());
    rig.cli(args.chain(["--", "curl", "-sS", url])).dir(&rig.work_dir("project"))
}

#[tokio::test]
async fn a_service_on_loopback_is_reached_if_it_is_forwarded_and_no_other() {
    let (wanted, other) = (service().await, service().await);
    let rig = rig().secret("github_token", GITHUB).start().await;
    let port = wanted.addr().port().to_string();
    let url = format!("http://127.0.0.1:{port}/");
    let reached = curl(&rig, &["--forward", &port], &url).succeed().await;
    assert_eq!(reached.stdout, "served", "{}", reached.all());
    let line = rig.audit_line("the connection", |line| line.text("protocol") == "tcp").await;
    assert_eq!((line.text("host"), line.text("rule"), line.text("method")), ("127.0.0.1", "--forward", "CONNECT"));
    assert_eq!(line.get("port").as_u64(), Some(wanted.addr().port().into()));
    assert!(line.get("request_bytes").as_u64() > Some(0) && line.get("response_bytes").as_u64() > Some(0), "{line:?}");
    assert_eq!(line.get("allowed").as_bool(), Some(true));
    let elsewhere = format!("http://127.0.0.1:{}/", other.addr().port());
    for refused in [curl(&rig, &["--forward", &port], &elsewhere), curl(&rig, &[], &url)] {
        let refused = refused.finish().await;
        assert_eq!(refused.code, 7, "curl cannot connect: {}", refused.all());
    }
    assert_eq!((wanted.log().count(), other.log().count()), (1, 0));
}

#[tokio::test]
async fn a_forwarded_port_outlives_the_daemon_and_ends_with_the_session() {
    let service = service().await;
    let mut rig = rig().start().await;
    let port = service.addr().port().to_string();
    rig.create("box", &["--backend", "sandbox", "--forward", &port]).await;
    let url = format!("http://127.0.0.1:{port}/");
    rig.signal(Signal::KILL);
    rig.ended().await;
    rig.start().await;
    let exec = || rig.cli(["exec", "box", "--", "curl", "-sS", &url]).dir(rig.outside());
    assert_eq!(exec().succeed().await.stdout, "served");
    let list = rig.cli(["list", "--json"]).succeed().await.json();
    let session = list.as_array().unwrap().iter().find(|session| session["name"] == "box").unwrap();
    assert_eq!(session["forwards"], serde_json::json!([service.addr().port()]));
    // One that stays open, with the session's socket at its other end.
    let held = format!("exec 3<>/dev/tcp/127.0.0.1/{port}; echo open >&2; cat <&3; echo closed");
    let holding = rig.cli(["exec", "box", "--", "bash", "-c", &held]).dir(rig.outside()).finish();
    let deleting = async {
        let second = || service.log().connections() > 1;
        clauderon_testkit::wait::until("the second connection", || second().then_some(())).await;
        rig.cli(["delete", "box"]).succeed().await;
    };
    let (held, ()) = tokio::join!(holding, deleting);
    assert!(held.stderr.contains("open"), "{}", held.all());
    let line = rig.audit_line("the cut", |line| line.get("error").as_str().is_some()).await;
    assert!(line.text("error").contains("cut off"), "{line:?}");
}

#[tokio::test]
async fn what_cannot_be_forwarded_is_refused_with_the_reason() {
    let rig = rig().start().await;
    let own = rig.addr().port().to_string();
    for (backend, port, reason) in [
        ("sandbox", own.as_str(), "the daemon's own"),
        ("sandbox", "3128", "has its own use"),
        ("sandbox", "443", "has its own use"),
        ("local", "5432", "forwards no ports"),
    ] {
        let create = ["create", "--no-agent", "--name", "x", "--backend", backend, "--forward", port];
        let refused = rig.cli(create).finish().await;
        assert_eq!(refused.code, 2, "{}", refused.all());
        assert!(refused.stderr.contains(reason) && refused.stderr.contains("hint"), "{}", refused.stderr);
    }
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let url = format!("http://127.0.0.1:{nobody}/");
    let silent = curl(&rig, &["--access-mode", "read-only", "--forward", &nobody], &url).finish().await;
    assert_ne!(silent.code, 0);
    assert!(silent.stderr.contains("not read-only"), "{}", silent.stderr);
    let line = rig.audit_line("the attempt", |line| line.text("protocol") == "tcp").await;
    assert!(line.text("error").contains("refused"), "{line:?}");
}
