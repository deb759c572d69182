//! The audit log: what a line holds, that nothing is missing from it, and that it cannot be altered unnoticed.

use clauderon_testkit::body::{channel, empty};
use clauderon_testkit::origin::Origin;
use http::{Method, Request};

use crate::{GITHUB, github, github_rig, rig};

/// The documented members, in the documented order.
const MEMBERS: [&str; 24] = [
    "timestamp",
    "session_id",
    "service",
    "method",
    "path",
    "auth_injected",
    "response_code",
    "duration_ms",
    "session",
    "host",
    "port",
    "protocol",
    "access_mode",
    "allowed",
    "reason",
    "rule",
    "credential",
    "request_bytes",
    "response_bytes",
    "redactions",
    "error",
    "request_id",
    "seq",
    "chain",
];

#[tokio::test]
async fn a_line_has_the_documented_members_in_order() {
    let origin = github().reply("/repos/o/r/issues", "created").start().await;
    let rig = github_rig(&origin).start().await;
    let mut client = rig.anonymous().h1("api.github.com").await;
    client.send(Method::POST, "/repos/o/r/issues?secret=query", "{\"a\":1}").await;
    let line = rig.audit_path("/repos/o/r/issues").await;
    let places: Vec<_> = MEMBERS.iter().map(|member| line.raw.find(&format!("\"{member}\":"))).collect();
    assert!(places.iter().all(Option::is_some), "a member is missing: {}", line.raw);
    assert!(places.is_sorted(), "the order is not the documented one: {}", line.raw);
    assert_eq!(line.json.as_object().unwrap().len(), MEMBERS.len(), "{}", line.raw);
    let timestamp = line.text("timestamp");
    assert!(timestamp.len() == 24 && timestamp.ends_with('Z') && timestamp.as_bytes()[19] == b'.', "{timestamp}");
    assert_eq!((line.text("service"), line.text("method"), line.get("response_code")), ("github", "POST", &200.into()));
    assert_eq!((line.get("auth_injected"), line.text("credential")), (&true.into(), "github"));
    assert_eq!(
        (line.text("host"), line.get("port"), line.text("protocol")),
        ("api.github.com", &443.into(), "HTTP/1.1")
    );
    assert_eq!((line.get("request_bytes"), line.get("response_bytes")), (&7.into(), &7.into()));
    assert_eq!(
        (line.text("access_mode"), line.get("allowed"), line.text("session")),
        ("read-write", &true.into(), "default")
    );
    assert!(line.get("duration_ms").is_u64() && line.get("error").is_null());
    assert!(!line.raw.contains("secret=query"));
    rig.assert_no_secret();
}

#[tokio::test]
async fn every_http_2_stream_has_its_own_line() {
    let origin = github().reply("/*", "x").start().await;
    let rig = github_rig(&origin).start().await;
    let client = rig.anonymous().h2("api.github.com").await;
    let mut streams = tokio::task::JoinSet::new();
    for index in 0..50 {
        let mut client = client.another().unwrap();
        streams.spawn(async move { client.get(&format!("/stream/{index}")).await.status });
    }
    assert!(streams.join_all().await.iter().all(|status| *status == 200));
    let lines = rig.audit_lines(50).await;
    for index in 0..50 {
        let path = format!("/stream/{index}");
        assert_eq!(lines.iter().filter(|line| line.text("path") == path).count(), 1, "{path}");
    }
    let mut ids: Vec<_> = lines.iter().map(|line| line.text("request_id").to_owned()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 50);
}

#[tokio::test]
async fn sequence_numbers_have_no_gap_and_the_chain_verifies() {
    let origin = github().reply("/*", "x").start().await;
    let mut rig = github_rig(&origin).start().await;
    for index in 0..5 {
        rig.anonymous().get(&format!("https://api.github.com/{index}")).await;
    }
    rig.audit_lines(5).await;
    assert_eq!(rig.terminate().await, Some(0));
    rig.start().await;
    rig.anonymous().get("https://api.github.com/after").await;
    rig.audit_path("/after").await;
    let numbers: Vec<_> = rig.audit().iter().map(|line| line.get("seq").as_u64().unwrap()).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    rig.cli(["audit", "verify"]).succeed().await;
}

#[tokio::test]
async fn an_altered_log_is_found() {
    let origin = github().reply("/*", "x").start().await;
    let mut rig = github_rig(&origin).start().await;
    for index in 0..6 {
        rig.anonymous().get(&format!("https://api.github.com/{index}")).await;
    }
    rig.audit_lines(6).await;
    rig.terminate().await;
    let path = rig.home().join("audit.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let joined = |lines: &[&str]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    let mut swapped = lines.clone();
    swapped.swap(2, 3);
    let mut missing = lines.clone();
    missing.remove(2);
    let mut doubled = lines.clone();
    doubled.insert(2, lines[2]);
    let alterations = [
        ("edited", text.replacen("\"path\":\"/3\"", "\"path\":\"/9\"", 1)),
        ("reordered", joined(&swapped)),
        ("missing", joined(&missing)),
        ("doubled", joined(&doubled)),
    ];
    for (what, altered) in alterations {
        assert_ne!(altered, text);
        std::fs::write(&path, altered).unwrap();
        let verified = rig.cli(["audit", "verify"]).finish().await;
        assert_eq!(verified.code, 1, "{what}: {}", verified.all());
    }
    std::fs::write(&path, text).unwrap();
    rig.cli(["audit", "verify"]).succeed().await;
}

#[tokio::test]
async fn a_vanished_client_leaves_a_line() {
    let origin = github().route("/endless", |call| async move {
        let (feed, body) = channel();
        tokio::spawn(async move {
            while feed.data("more ").await {}
            drop(call);
        });
        http::Response::new(body)
    });
    let origin = origin.route("/stuck", |_| std::future::pending()).start().await;
    let rig = github_rig(&origin).start().await;
    for h2 in [false, true] {
        let agent = rig.anonymous();
        let mut client = if h2 { agent.h2("api.github.com").await } else { agent.h1("api.github.com").await };
        let path = "/endless";
        let response = client.start(Request::get(path).body(empty()).unwrap()).await.unwrap();
        drop(response);
        drop(client);
    }
    for h2 in [false, true] {
        let agent = rig.anonymous();
        let mut client = if h2 { agent.h2("api.github.com").await } else { agent.h1("api.github.com").await };
        let before = origin.log().count();
        let asking = tokio::spawn(async move { client.start(Request::get("/stuck").body(empty()).unwrap()).await });
        origin.log().wait(before + 1).await;
        asking.abort();
    }
    let lines = rig.audit_lines(4).await;
    let vanished: Vec<_> = lines.iter().filter(|line| !line.text("error").is_empty()).collect();
    assert_eq!(vanished.len(), 4, "{lines:#?}");
    let stuck: Vec<_> = lines.iter().filter(|line| line.text("path") == "/stuck").collect();
    assert!(stuck.iter().all(|line| line.get("response_code").is_null()), "{stuck:#?}");
}

#[tokio::test]
async fn control_characters_cannot_break_a_line() {
    let origin = github().reply("/*", "x").start().await;
    let rig = github_rig(&origin).start().await;
    let path = "/a%0Ab%00\u{7f}";
    let mut wire = rig.anonymous().tunnel("api.github.com").await;
    wire.exchange("GET /a%0Ab%1b%5B31m%22,%22x HTTP/1.1\r\nHost: api.github.com\r\n\r\n").await;
    let mut wire = rig.anonymous().tunnel("api.github.com").await;
    wire.exchange(format!("GET {path} HTTP/1.1\r\nHost: api.github.com\r\n\r\n")).await;
    rig.audit_lines(1).await;
    let text = std::fs::read_to_string(rig.home().join("audit.jsonl")).unwrap();
    assert!(!text.bytes().any(|byte| (byte < 0x20 && byte != b'\n') || byte == 0x7f), "{text:?}");
}

#[tokio::test]
async fn a_full_disk_refuses_and_loses_nothing() {
    let origin = github().reply("/*", "x").start().await;
    let rig = github_rig(&origin).start().await;
    rig.anonymous().get("https://api.github.com/before").await;
    rig.audit_path("/before").await;
    let size = std::fs::metadata(rig.home().join("audit.jsonl")).unwrap().len();
    rig.limit_file_size(Some(size + 100));
    let mut client = rig.anonymous().h2("api.github.com").await;
    let mut refused = None;
    for index in 0..200 {
        let answered = client.get(&format!("/full/{index}")).await;
        if answered.status == 503 {
            refused = Some(answered);
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let refused = refused.expect("a full disk makes requests be refused");
    assert_eq!(refused.field("x-clauderon-error"), Some("audit_unavailable"));
    let before = origin.log().count();
    for index in 0..20 {
        assert_eq!(client.get(&format!("/refused/{index}")).await.status, 503);
    }
    assert_eq!(origin.log().count(), before, "an unrecorded request reached the origin");
    let health =
        rig.anonymous().wire().await.exchange(format!("GET /health HTTP/1.1\r\nHost: {}\r\n\r\n", rig.addr())).await;
    assert_eq!(health.unwrap().status(), 503);
    rig.limit_file_size(None);
    clauderon_testkit::wait::until("recovery", || {
        let text = std::fs::read_to_string(rig.home().join("audit.jsonl")).unwrap();
        text.ends_with('\n').then_some(())
    })
    .await;
    let began = std::time::Instant::now();
    while client.get("/after").await.status != 200 {
        assert!(began.elapsed() < clauderon_testkit::wait::LIMIT, "the daemon did not recover");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    rig.audit_line("the first request after", |line| line.text("path") == "/after" && line.get("response_code") == 200)
        .await;
    let lines = rig.audit();
    for seen in origin.log().requests() {
        let recorded =
            lines.iter().filter(|line| line.text("path") == seen.target && line.get("allowed") == true).count();
        assert_eq!(recorded, 1, "{} has {recorded} lines", seen.target);
    }
    rig.cli(["audit", "verify"]).succeed().await;
}

#[tokio::test]
async fn rotation_keeps_the_chain_and_the_number_of_files() {
    let origin = github().reply("/*", "x").start().await;
    let rig = github_rig(&origin).table("[audit]\nrotate_bytes = 4096\nkeep = 3").start().await;
    let mut client = rig.anonymous().h2("api.github.com").await;
    for index in 0..60 {
        client.get(&format!("/{index}")).await;
    }
    rig.audit_line("the last", |line| line.text("path") == "/59").await;
    let files: Vec<_> =
        std::fs::read_dir(rig.home()).unwrap().flatten().map(|file| file.file_name().into_string().unwrap()).collect();
    let logs = files.iter().filter(|name| name.starts_with("audit") && name.contains(".jsonl")).count();
    assert_eq!(logs, 1 + 3, "{files:?}");
    rig.cli(["audit", "verify"]).succeed().await;
}

#[tokio::test]
async fn the_log_survives_being_moved_away() {
    let origin = github().reply("/*", "x").start().await;
    let rig = github_rig(&origin).start().await;
    rig.anonymous().get("https://api.github.com/before").await;
    rig.audit_path("/before").await;
    let path = rig.home().join("audit.jsonl");
    std::fs::rename(&path, rig.home().join("audit.jsonl.1")).unwrap();
    // As logrotate does without copytruncate: the next line must be found in a new file.
    let began = std::time::Instant::now();
    while !path.exists() {
        rig.anonymous().get("https://api.github.com/after").await;
        assert!(began.elapsed() < clauderon_testkit::wait::LIMIT, "the log was not opened again");
    }
    rig.audit_line("after the move", |line| line.text("path") == "/after").await;
}

#[tokio::test]
async fn audit_can_be_turned_off() {
    let origin = github().reply("/", "x").start().await;
    let rig = github_rig(&origin).line("audit_enabled = false").start().await;
    assert_eq!(rig.anonymous().get("https://api.github.com/").await.status, 200);
    assert!(rig.audit().is_empty());
}

#[tokio::test]
async fn the_log_may_lie_elsewhere() {
    let origin = github().reply("/", "x").start().await;
    let builder = github_rig(&origin);
    let path = builder.outside().join("elsewhere.jsonl");
    let rig = builder.line(&format!("audit_log_path = \"{}\"", path.display())).start().await;
    rig.anonymous().get("https://api.github.com/").await;
    clauderon_testkit::wait::until("the line", || {
        std::fs::read_to_string(&path).ok().filter(|text| text.ends_with('\n'))
    })
    .await;
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn tail_query_and_stats_read_it() {
    let origin = github().reply("/*", "x").start().await;
    let rig = github_rig(&origin).start().await;
    rig.create("review", &["--access-mode", "read-only"]).await;
    let mut client = rig.agent("review").await.h1("api.github.com").await;
    client.get("/read").await;
    client.send(Method::POST, "/write", "{}").await;
    rig.audit_lines(2).await;
    let tail = rig.cli(["audit", "tail"]).succeed().await.stdout;
    assert!(tail.contains("/read") && tail.contains("/write"), "{tail}");
    let denied = rig.cli(["audit", "query", "--denied", "--json"]).succeed().await.stdout;
    assert_eq!(denied.lines().count(), 1);
    let line: serde_json::Value = serde_json::from_str(denied.trim()).unwrap();
    assert_eq!((&line["path"], &line["allowed"]), (&"/write".into(), &false.into()));
    let stats = rig.cli(["audit", "stats"]).succeed().await.stdout;
    assert!(stats.contains("review") && stats.contains("github"), "{stats}");
}

#[tokio::test]
async fn no_host_is_contacted_for_a_refused_request() {
    let origin = Origin::https("api.github.com").reply("/", "x").start().await;
    let rig = rig().secret("github_token", GITHUB).origin(&origin).start().await;
    rig.create("review", &["--access-mode", "read-only"]).await;
    let mut client = rig.agent("review").await.h1("api.github.com").await;
    assert_eq!(client.send(Method::DELETE, "/", "").await.status, 403);
    let line = rig.audit_path("/").await;
    assert_eq!((line.text("service"), line.get("allowed")), ("github", &false.into()));
    assert_eq!(origin.log().count(), 0);
}
