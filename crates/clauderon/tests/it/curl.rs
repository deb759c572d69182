//! Real curl, with nothing but the variables a session has.

use clauderon_testkit::origin::Origin;
use http::Version;

use crate::{GITHUB, github, github_rig, rig};

#[tokio::test]
async fn gets_the_answer_over_http_1_1() {
    let origin = github().reply("/user", "octocat").start().await;
    let rig = github_rig(&origin).start().await;
    rig.create("dev", &[]).await;
    let curl = rig.direct_tool("curl", "dev", rig.outside()).await;
    let args = ["-sS", "--http1.1", "https://api.github.com/user", "-w", " %{http_version} %{http_code}"];
    assert_eq!(curl.args(args).succeed().await.stdout, "octocat 1.1 200");
    assert_eq!(origin.log().only().field("host").unwrap_or("api.github.com"), "api.github.com");
    rig.assert_no_secret();
}

#[tokio::test]
async fn gets_the_answer_over_http_2() {
    let origin = github().reply("/user", "octocat").start().await;
    let rig = github_rig(&origin).start().await;
    rig.create("dev", &[]).await;
    let curl = rig.direct_tool("curl", "dev", rig.outside()).await;
    let args = ["-sS", "--http2", "https://api.github.com/user", "-w", " %{http_version} %{http_code}"];
    assert_eq!(curl.args(args).succeed().await.stdout, "octocat 2 200");
    assert_eq!(origin.log().only().version, Version::HTTP_2);
    rig.assert_no_secret();
}

#[tokio::test]
async fn many_transfers_share_one_connection() {
    let origin = github().reply("/*", "x").start().await;
    let rig = github_rig(&origin).start().await;
    for version in ["--http1.1", "--http2"] {
        let curl = rig.tool("curl", "default", rig.outside()).await;
        let args = ["-sS", version, "https://api.github.com/[1-20]", "-o", "#1.txt", "-w", "%{num_connects} "];
        let connects = curl.args(args).succeed().await.stdout;
        assert_eq!(connects.split_whitespace().filter(|count| *count != "0").count(), 1, "{version}: {connects}");
    }
    assert_eq!(origin.log().count(), 40);
    assert!(origin.log().connections() <= 2, "the proxy reuses its connections too");
    rig.assert_no_secret();
}

#[tokio::test]
async fn swaps_the_placeholder_it_was_given() {
    let origin = github().reply("/user", "octocat").start().await;
    let rig = github_rig(&origin).start().await;
    rig.create("dev", &[]).await;
    let env = rig.session_env("dev").await;
    assert!(env["GITHUB_TOKEN"].contains("clauderon_placeholder"), "{}", env["GITHUB_TOKEN"]);
    assert_eq!(env["GITHUB_TOKEN"], env["GH_TOKEN"]);
    let shell = rig.tool("sh", "dev", rig.outside()).await;
    let script = "curl -sSf -H \"Authorization: Bearer $GITHUB_TOKEN\" https://api.github.com/user";
    assert_eq!(shell.args(["-c", script]).succeed().await.stdout, "octocat");
    assert_eq!(origin.log().only().field("authorization"), Some(format!("Bearer {GITHUB}").as_str()));
    assert_eq!(rig.audit_path("/user").await.get("auth_injected"), true);
    rig.assert_no_secret();
}

#[tokio::test]
async fn keeps_the_scheme_gh_uses() {
    let origin = Origin::https("api.github.com").require("authorization", &format!("token {GITHUB}"));
    let origin = origin.reply("/user", "octocat").start().await;
    let rig = github_rig(&origin).start().await;
    let shell = rig.tool("sh", "default", rig.outside()).await;
    let script = "curl -sSf -H \"Authorization: token $GH_TOKEN\" https://api.github.com/user";
    assert_eq!(shell.args(["-c", script]).succeed().await.stdout, "octocat");
    rig.assert_no_secret();
}

#[tokio::test]
async fn fetches_plain_http_in_absolute_form_without_any_credential() {
    let origin = Origin::http("api.github.com").reply("/plain", "in clear").start().await;
    let rig = github_rig(&origin).start().await;
    rig.create("dev", &[]).await;
    let curl = rig.tool("curl", "dev", rig.outside()).await;
    let args = ["-sS", "http://api.github.com/plain?q=1"];
    assert_eq!(curl.args(args).succeed().await.stdout, "in clear");
    let seen = origin.log().only();
    assert_eq!((seen.target.as_str(), seen.authority.as_str()), ("/plain?q=1", "api.github.com"));
    assert_eq!((seen.field("authorization"), seen.field("proxy-authorization")), (None, None));
    assert_eq!(seen.field("proxy-connection"), None);
    let line = rig.audit_path("/plain").await;
    assert_eq!((line.get("auth_injected"), line.get("port")), (&false.into(), &80.into()));
    rig.assert_no_secret();
}

#[tokio::test]
async fn uploads_a_file_with_a_length() {
    let origin = github().reply("/upload", "taken").start().await;
    let rig = github_rig(&origin).start().await;
    let file = rig.outside().join("upload.bin");
    std::fs::write(&file, vec![0x5a; 3_000_000]).unwrap();
    for version in ["--http1.1", "--http2"] {
        let curl = rig.tool("curl", "default", rig.outside()).await;
        let args = ["-sSf", version, "-T", "upload.bin", "https://api.github.com/upload"];
        assert_eq!(curl.args(args).succeed().await.stdout, "taken");
        let seen = origin.log().last();
        assert_eq!((seen.body_len, seen.complete), (3_000_000, true), "{version}");
        assert!(seen.body.iter().all(|byte| *byte == 0x5a));
        assert_eq!(seen.field("content-length"), Some("3000000"));
    }
    rig.assert_no_secret();
}

#[tokio::test]
async fn uploads_without_a_length() {
    let origin = github().h1_only().reply("/upload", "taken").start().await;
    let rig = github_rig(&origin).start().await;
    for version in ["--http1.1", "--http2"] {
        let curl = rig.tool("curl", "default", rig.outside()).await.input(vec![0x21; 2_000_000]);
        let args = ["-sSf", version, "-T", "-", "https://api.github.com/upload"];
        assert_eq!(curl.args(args).succeed().await.stdout, "taken");
        let seen = origin.log().last();
        assert_eq!((seen.body_len, seen.complete, seen.field("content-length")), (2_000_000, true, None), "{version}");
        assert_eq!(seen.field("transfer-encoding"), Some("chunked"));
    }
    rig.assert_no_secret();
}

#[tokio::test]
async fn waits_for_100_continue() {
    let origin = github().reply("/upload", "taken").start().await;
    let rig = github_rig(&origin).start().await;
    let curl = rig.tool("curl", "default", rig.outside()).await;
    let url = "https://api.github.com/upload";
    // An hour: without the 100 this would not end in time.
    let expect = ["-sSv", "--http1.1", "--expect100-timeout", "3600", "-H", "Expect: 100-continue", "-d", "body", url];
    let finished = curl.args(expect).succeed().await;
    assert_eq!(finished.stdout, "taken");
    assert!(finished.stderr.contains("< HTTP/1.1 100"), "{}", finished.stderr);
    assert_eq!(origin.log().only().body.as_ref(), b"body");
    rig.assert_no_secret();
}

#[tokio::test]
async fn head_has_a_length_and_no_body() {
    let origin = github().h1_only().reply("/file", "eleven byte").start().await;
    let rig = github_rig(&origin).start().await;
    let curl = rig.tool("curl", "default", rig.outside()).await;
    let head = curl.args(["-sSI", "https://api.github.com/file"]).succeed().await.stdout.to_lowercase();
    assert!(head.contains("content-length: 11"), "{head}");
    let line = rig.audit_path("/file").await;
    assert_eq!((line.text("method"), line.get("response_bytes")), ("HEAD", &0.into()));
}

#[tokio::test]
async fn follows_redirects_itself_and_takes_no_credential_along() {
    let store = Origin::https("objects.example.test").reply("/blob", "the blob").start().await;
    let origin = github().route("/asset", |call| async move {
        call.collect().await;
        let moved = clauderon_testkit::origin::status(http::StatusCode::FOUND, "");
        clauderon_testkit::origin::with_field(moved, "location", "https://objects.example.test/blob")
    });
    let origin = origin.start().await;
    let rig = github_rig(&origin).origin(&store).start().await;
    let curl = rig.tool("curl", "default", rig.outside()).await;
    assert_eq!(curl.args(["-sSfL", "https://api.github.com/asset"]).succeed().await.stdout, "the blob");
    assert_eq!(store.log().only().field("authorization"), None);
    rig.assert_no_secret();
}

#[tokio::test]
async fn reaches_hosts_no_credential_belongs_to() {
    let origin = Origin::https("example.test").reply("/", "anyone may").start().await;
    let rig = rig().origin(&origin).start().await;
    let curl = rig.tool("curl", "default", rig.outside()).await;
    assert_eq!(curl.args(["-sSf", "https://example.test/"]).succeed().await.stdout, "anyone may");
    let line = rig.audit_path("/").await;
    assert_eq!((line.text("service"), line.get("auth_injected")), ("example.test", &false.into()));
}
