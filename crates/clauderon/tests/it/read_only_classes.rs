//! What read-only lets out besides GET, told by the body where it must be, and what no mode lets out.

use bytes::Bytes;
use clauderon_testkit::agent::{Answered, Client};
use clauderon_testkit::body;
use clauderon_testkit::origin::{Origin, OriginBuilder};
use clauderon_testkit::rig::Rig;
use http::{Method, Request};

use crate::{GITHUB, github, github_rig, rig};

const QUERY: &str = "{\"query\":\"query UserCurrent{viewer{login}}\",\"variables\":{\"a\":\"mutation\"}}";
const MUTATION: &str = "{\"query\":\"mutation PullRequestCreate($input:CreatePullRequestInput!){createPullRequest(input:$input)\
                        {pullRequest{id url}}}\",\"variables\":{\"input\":{\"title\":\"x\"}}}";
const DOCKER: &str = "dckr_pat_TheRealTokenNobodyMaySee01";
const NPM: &str = "npm_TheRealTokenNobodyMaySee0123456789ab";

/// Sessions `review` (read-only) and `write` (read-write).
async fn sessions(rig: &Rig) {
    rig.create("review", &["--access-mode", "read-only"]).await;
    rig.create("write", &[]).await;
}

async fn github_sessions() -> (Origin, Rig) {
    let origin = github().reply("/*", "{\"data\":{}}").start().await;
    let rig = github_rig(&origin).start().await;
    sessions(&rig).await;
    (origin, rig)
}

async fn both(rig: &Rig, session: &str, host: &str) -> [Client; 2] {
    let agent = rig.agent(session).await;
    [agent.h1(host).await, agent.h2(host).await]
}

async fn post(client: &mut Client, path: &str, kind: &str, body: impl Into<Bytes>) -> Answered {
    let request = Request::post(path).header("content-type", kind).body(body::full(body));
    client.fetch(request.unwrap()).await
}

const JSON: &str = "application/json; charset=utf-8";

#[tokio::test]
async fn a_graphql_query_reaches_the_origin_byte_for_byte() {
    let (origin, rig) = github_sessions().await;
    for mut client in both(&rig, "review", "api.github.com").await {
        assert_eq!(post(&mut client, "/graphql", JSON, QUERY).await.status, 200);
        let seen = origin.log().last();
        assert_eq!((&seen.body[..], seen.complete), (QUERY.as_bytes(), true));
        assert_eq!(seen.field("content-length"), Some(QUERY.len().to_string().as_str()));
        assert_eq!((seen.field("transfer-encoding"), seen.field("content-type")), (None, Some(JSON)));
    }
    let line = rig.audit_line("a query", |line| line.text("path") == "/graphql").await;
    assert_eq!((line.get("allowed"), line.text("reason")), (&true.into(), "graphql-query"));
    assert_eq!(line.get("request_bytes"), &serde_json::json!(QUERY.len()));
    rig.assert_no_secret();
}

#[tokio::test]
async fn a_query_in_pieces_of_unknown_length_arrives_whole() {
    let (origin, rig) = github_sessions().await;
    for mut client in both(&rig, "review", "api.github.com").await {
        let (feed, body) = body::channel();
        let request = Request::post("/graphql").header("content-type", "application/json").body(body).unwrap();
        let feeding = async move {
            for piece in QUERY.as_bytes().chunks(7) {
                assert!(feed.data(piece).await);
            }
        };
        let (answered, ()) = tokio::join!(client.fetch(request), feeding);
        assert_eq!(answered.status, 200);
        let seen = origin.log().last();
        assert_eq!((&seen.body[..], seen.complete), (QUERY.as_bytes(), true));
    }
}

#[tokio::test]
async fn a_mutation_is_refused_in_read_only_and_passes_in_read_write() {
    let (origin, rig) = github_sessions().await;
    for mut client in both(&rig, "review", "api.github.com").await {
        let refused = post(&mut client, "/graphql", JSON, MUTATION).await;
        assert_eq!((refused.status.as_u16(), refused.field("x-clauderon-error")), (403, Some("read_only")));
        assert_eq!(client.get("/user").await.status, 200, "the connection lives on");
    }
    assert!(origin.log().requests().iter().all(|seen| seen.method == Method::GET));
    let line = rig.audit_line("a refusal", |line| line.text("path") == "/graphql").await;
    assert_eq!((line.get("allowed"), line.text("rule")), (&false.into(), "graphql.mutation"));
    for mut client in both(&rig, "write", "api.github.com").await {
        assert_eq!(post(&mut client, "/graphql", JSON, MUTATION).await.status, 200);
        assert_eq!(origin.log().last().body, MUTATION);
    }
}

#[tokio::test]
async fn what_cannot_be_read_one_way_is_refused() {
    let (origin, rig) = github_sessions().await;
    let bodies: [(&str, &str, Bytes); 7] = [
        ("/graphql", "application/json", format!("[{QUERY}]").into()),
        ("/graphql", "application/json", format!("\u{feff}{QUERY}").into()),
        ("/graphql", "application/json", "{\"query\":\"{x}\",\"query\":\"mutation{x}\"}".into()),
        ("/graphql", "application/json; charset=utf-16", QUERY.into()),
        ("/graphql", "application/graphql", "{x}".into()),
        ("/graphql?query=mutation%7Bx%7D", "application/json", QUERY.into()),
        ("/graphql", "application/json", "{".repeat(60_000).into()),
    ];
    for mut client in both(&rig, "review", "api.github.com").await {
        for (path, kind, body) in &bodies {
            assert_eq!(post(&mut client, path, kind, body.clone()).await.status, 403, "{path} {kind} {body:.40?}");
        }
        let gzip = Request::post("/graphql").header("content-type", JSON).header("content-encoding", "gzip");
        assert_eq!(client.fetch(gzip.body(body::full(QUERY)).unwrap()).await.status, 403);
    }
    assert_eq!(origin.log().count(), 0);
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_neither_kept_nor_waited_for() {
    let (origin, rig) = github_sessions().await;
    let mut client = rig.agent("review").await.h2("api.github.com").await;
    let padded = |size| format!("{{\"query\":\"{{x}}\",\"variables\":\"{}\"}}", "x".repeat(size));
    assert_eq!(post(&mut client, "/graphql", JSON, padded(1024 * 1024 - 64)).await.status, 200);
    assert_eq!(post(&mut client, "/graphql", JSON, padded(1024 * 1024)).await.status, 403);
    let (feed, endless) = body::channel();
    let request = Request::post("/graphql").header("content-type", JSON).body(endless).unwrap();
    let feeding = tokio::spawn(async move { while feed.data(vec![b' '; 64 * 1024]).await {} });
    assert_eq!(client.fetch(request).await.status, 403);
    feeding.await.unwrap();
    assert_eq!(origin.log().only().body.len(), padded(1024 * 1024 - 64).len());
}

async fn post_in_pieces(client: &mut Client, sent: &str) -> Answered {
    let (feed, body) = body::channel();
    let request = Request::post("/graphql").header("content-type", JSON).body(body).unwrap();
    let feeding = async move {
        for piece in sent.as_bytes().chunks(60_000).map(<[u8]>::to_vec) {
            if !feed.data(piece).await {
                break;
            }
        }
    };
    tokio::join!(client.fetch(request), feeding).0
}

#[tokio::test]
async fn the_limit_is_met_to_the_byte_and_holds_for_nobody_who_may_write() {
    const LIMIT: usize = 1024 * 1024;
    let (origin, rig) = github_sessions().await;
    let exactly = |size: usize| {
        let frame = "{\"query\":\"{x}\",\"variables\":\"\"}";
        frame.replace(":\"\"}", &format!(":\"{}\"}}", "x".repeat(size - frame.len())))
    };
    for (size, status) in [(LIMIT, 200), (LIMIT + 1, 403)] {
        let (before, sent) = (origin.log().count(), exactly(size));
        for mut client in both(&rig, "review", "api.github.com").await {
            assert_eq!(post(&mut client, "/graphql", JSON, sent.clone()).await.status, status, "{size} bytes");
        }
        // The same without a length: the head does not tell.
        for mut client in both(&rig, "review", "api.github.com").await {
            assert_eq!(post_in_pieces(&mut client, &sent).await.status, status, "{size} bytes in pieces");
        }
        let arrived = origin.log().requests().split_off(before);
        assert_eq!(arrived.len(), if status == 200 { 4 } else { 0 });
        assert!(arrived.iter().all(|seen| seen.body == sent && seen.complete));
    }
    let before = origin.log().count();
    let mut client = rig.agent("review").await.h2("api.github.com").await;
    assert_eq!(post(&mut client, "/graphql", JSON, exactly(10 * LIMIT)).await.status, 403);
    let dir = rig.work_dir("project");
    std::fs::write(dir.join("query.json"), exactly(10 * LIMIT)).unwrap();
    for chunked in ["Transfer-Encoding: chunked", "Expect:"] {
        let curl = rig.tool("curl", "review", &dir).await;
        let curl = curl.args([
            "-sS",
            "--http1.1",
            "-w",
            "%{http_code}",
            "-H",
            chunked,
            "-H",
            "Content-Type: application/json",
        ]);
        let told = curl.args(["--data-binary", "@query.json", "https://api.github.com/graphql"]).finish().await;
        assert!(told.stdout.ends_with("403"), "{}", told.all());
    }
    assert_eq!(origin.log().count(), before);
    for mut client in both(&rig, "write", "api.github.com").await {
        assert_eq!(post(&mut client, "/graphql", JSON, exactly(10 * LIMIT)).await.status, 200);
        assert_eq!(origin.log().last().body_len, 10 * LIMIT as u64);
    }
}

#[tokio::test]
async fn a_document_nests_as_deep_as_people_write_and_variables_as_they_like() {
    let (origin, rig) = github_sessions().await;
    let document = |depth: usize| format!("{{\"query\":\"{}x{}\"}}", "{a".repeat(depth), "}".repeat(depth));
    let variables =
        |depth: usize| format!("{{\"query\":\"{{x}}\",\"variables\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    for mut client in both(&rig, "review", "api.github.com").await {
        for (body, status) in [
            (document(40), 200),
            (document(100_000), 403),
            (variables(60), 200),
            (variables(500_000), 200),
            (format!("{{\"query\":\"{{x}}\",\"variables\":{}", "{\"a\":".repeat(100_000)), 403),
            (format!("{{\"query\":\"query($a:{}Int{}){{x}}\"}}", "[".repeat(50_000), "]".repeat(50_000)), 403),
        ] {
            assert_eq!(post(&mut client, "/graphql", JSON, body.clone()).await.status, status, "{body:.60}");
        }
        assert_eq!(client.get("/user").await.status, 200, "the connection lives on");
    }
    assert_eq!(origin.log().requests().iter().filter(|seen| seen.method == Method::POST).count(), 6);
}

#[tokio::test]
async fn a_query_by_get_passes_and_a_change_by_get_does_not() {
    let (origin, rig) = github_sessions().await;
    for mut client in both(&rig, "review", "api.github.com").await {
        assert_eq!(client.get("/graphql?query=%7Bviewer%7Blogin%7D%7D").await.status, 200);
        let before = origin.log().count();
        for path in [
            "/graphql?query=mutation%7Bx%7D",
            "/graphql?query=%6d%75tation%7Bx%7D",
            "/graphql?query=query%20a%7Bx%7D%20mutation%20b%7Bx%7D&operationName=a",
            "/graphql?query=subscription%7Bx%7D",
            "/GraphQL/?query=mutation%7Bx%7D",
            "/graphql?batch=%5B%7B%22query%22:%22%5Cu006dutation%7Bx%7D%22%7D%5D",
        ] {
            for method in [Method::GET, Method::HEAD] {
                let refused = client.send(method, path, "").await;
                assert_eq!(
                    (refused.status.as_u16(), refused.field("x-clauderon-error")),
                    (403, Some("read_only")),
                    "{path}"
                );
            }
        }
        assert_eq!(origin.log().count(), before);
    }
    let line = rig.audit_line("a refusal", |line| line.get("allowed") == false).await;
    assert_eq!((line.text("path"), line.text("rule")), ("/graphql", "graphql-by-get"));
    let mut client = rig.agent("write").await.h1("api.github.com").await;
    assert_eq!(client.get("/graphql?query=mutation%7Bx%7D").await.status, 200);
}

#[tokio::test]
async fn a_client_that_waits_to_be_told_is_told() {
    let (origin, rig) = github_sessions().await;
    let mut wire = rig.agent("review").await.tunnel("api.github.com").await;
    let head = format!(
        "POST /graphql HTTP/1.1\r\nHost: api.github.com\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Expect: 100-continue\r\n\r\n",
        QUERY.len()
    );
    wire.send(head).await;
    assert_eq!(wire.head().await.unwrap().status(), 100);
    assert_eq!(origin.log().count(), 0, "nothing has been decided yet");
    wire.send(QUERY).await;
    assert_eq!(wire.reply().await.unwrap().status(), 200);
    assert_eq!(origin.log().only().body, QUERY);
}

#[tokio::test]
async fn a_body_that_breaks_off_reaches_nobody() {
    let (origin, rig) = github_sessions().await;
    let mut wire = rig.agent("review").await.tunnel("api.github.com").await;
    let head = "POST /graphql HTTP/1.1\r\nHost: api.github.com\r\nContent-Type: application/json\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    let answer = wire.exchange(format!("{head}xyz\r\n")).await.unwrap();
    assert_eq!((answer.status(), answer.head.field("x-clauderon-error")), (400, Some("malformed_request")));
    assert_eq!(origin.log().count(), 0);
}

#[tokio::test]
async fn without_the_exception_the_method_decides() {
    let origin = github().reply("/*", "{}").start().await;
    let rig = github_rig(&origin).table("[read_only]\nallow = [\"git-fetch\"]").start().await;
    rig.create("review", &["--access-mode", "read-only"]).await;
    let mut client = rig.agent("review").await.h1("api.github.com").await;
    assert_eq!(post(&mut client, "/graphql", JSON, QUERY).await.status, 403);
    assert_eq!(post(&mut client, "/markdown", JSON, "{\"text\":\"x\"}").await.status, 403);
    let line = rig.audit_path("/graphql").await;
    assert_eq!(line.text("rule"), "method");
    assert_eq!(origin.log().count(), 0);
}

#[tokio::test]
async fn large_files_are_downloaded_and_not_uploaded() {
    let lfs = |operation: &str| {
        format!(
            "{{\"operation\":\"{operation}\",\"objects\":[{{\"oid\":\"1111\",\"size\":123}}],\"transfers\":\
             [\"lfs-standalone-file\",\"basic\",\"ssh\"],\"ref\":{{\"name\":\"refs/heads/main\"}},\"hash_algo\":\"sha256\"}}"
        )
    };
    let basic = "Basic eC1hY2Nlc3MtdG9rZW46Z2hwX1RoZVJlYWxUb2tlbk5vYm9keU1heVNlZTAxMjM0NTY3ODk=";
    let origin =
        Origin::https("github.com").require("authorization", basic).reply("/*", "{\"objects\":[]}").start().await;
    let rig = github_rig(&origin).start().await;
    sessions(&rig).await;
    const LFS: &str = "application/vnd.git-lfs+json; charset=utf-8";
    for mut client in both(&rig, "review", "github.com").await {
        let batch = "/o/r.git/info/lfs/objects/batch";
        assert_eq!(post(&mut client, batch, LFS, lfs("download")).await.status, 200);
        assert_eq!(origin.log().last().body, lfs("download"));
        let before = origin.log().count();
        assert_eq!(post(&mut client, batch, LFS, lfs("upload")).await.status, 403);
        for path in ["/o/r.git/info/lfs/locks", "/o/r.git/info/lfs/locks/verify", "/o/r.git/info/lfs/verify"] {
            assert_eq!(post(&mut client, path, LFS, "{\"operation\":\"download\"}").await.status, 403, "{path}");
        }
        assert_eq!(origin.log().count(), before);
    }
    let mut client = rig.agent("write").await.h1("github.com").await;
    assert_eq!(post(&mut client, "/o/r.git/info/lfs/objects/batch", LFS, lfs("upload")).await.status, 200);
}

fn docker() -> OriginBuilder {
    Origin::https("auth.docker.io").reply("/token", "{\"token\":\"t\"}")
}

#[tokio::test]
async fn a_registry_token_is_for_pulling_only() {
    let origin = docker().start().await;
    let table = "[services.docker]\nusername = \"me\"";
    let rig = rig().secret("docker_token", DOCKER).origin(&origin).table(table).start().await;
    sessions(&rig).await;
    const FORM: &str = "application/x-www-form-urlencoded";
    let asked = "/token?scope=repository%3Ao%2Fr%3Apull%2Cpush&offline_token=true&service=registry.docker.io";
    let form = "grant_type=password&username=me&scope=repository%3Ao%2Fr%3Apull%2Cpush%2Cdelete&access_type=offline";
    let narrowed = "grant_type=password&username=me&scope=repository%3Ao%2Fr%3Apull";
    for mut client in both(&rig, "review", "auth.docker.io").await {
        assert_eq!(client.get(asked).await.status, 200);
        assert_eq!(origin.log().last().target, "/token?scope=repository%3Ao%2Fr%3Apull&service=registry.docker.io");
        assert_eq!(post(&mut client, "/token", FORM, form).await.status, 200);
        let seen = origin.log().last();
        assert_eq!((&seen.body[..], seen.complete), (narrowed.as_bytes(), true));
        assert_eq!(seen.field("content-length"), Some(narrowed.len().to_string().as_str()));
        let before = origin.log().count();
        for path in [
            "/token?scope=repository:o/r:push",
            "/token?scope=repository:o/r:*",
            "/token?a=b;scope=repository:o/r:push",
        ] {
            assert_eq!(client.get(path).await.status, 403, "{path}");
        }
        assert_eq!(
            post(&mut client, "/token", FORM, "grant_type=password&scope=repository:o/r:push").await.status,
            403
        );
        assert_eq!(origin.log().count(), before);
    }
    for mut client in both(&rig, "write", "auth.docker.io").await {
        assert_eq!(client.get(asked).await.status, 200);
        assert_eq!(origin.log().last().target, asked);
        assert_eq!(post(&mut client, "/token", FORM, form).await.status, 200);
        assert_eq!(origin.log().last().body, form);
    }
    rig.assert_no_secret();
}

#[tokio::test]
async fn minting_is_refused_in_both_modes_until_it_is_named() {
    let origin = github().reply("/*", "{\"token\":\"new\"}").start().await;
    let rig = github_rig(&origin).line("allow_minting = [\"github.deploy-key\"]").start().await;
    sessions(&rig).await;
    for session in ["review", "write"] {
        for mut client in both(&rig, session, "api.github.com").await {
            for path in
                ["/repos/o/r/actions/runners/registration-token", "/user/%6Beys", "/app/installations/1/access_tokens/"]
            {
                let refused = client.send(Method::POST, path, "{}").await;
                assert_eq!(
                    (refused.status.as_u16(), refused.field("x-clauderon-error")),
                    (403, Some("minting")),
                    "{path}"
                );
                let told = refused.json();
                assert!(told["hint"].as_str().unwrap().contains("`allow_minting`"));
                assert_eq!((&told["reason"], &told["message"]), (&"minting".into(), &told["error"]), "as GitHub's own");
            }
            let named = client.send(Method::POST, "/repos/o/r/keys", "{}").await;
            assert_eq!(named.status.as_u16(), if session == "write" { 200 } else { 403 });
        }
    }
    assert!(origin.log().requests().iter().all(|seen| seen.target == "/repos/o/r/keys"));
    let line = rig.audit_line("a refusal", |line| line.text("path").ends_with("/registration-token")).await;
    assert_eq!((line.text("reason"), line.text("rule")), ("minting", "github.runner"));
}

#[tokio::test]
async fn npm_audits_in_read_only() {
    let registry = Origin::https("npm.example.test").h1_only();
    let registry = registry.reply("/-/npm/v1/security/advisories/bulk", "{}").start().await;
    let table = "[services.npm]\nregistries = [\"https://npm.example.test/\"]";
    let rig = rig().secret("npm_token", NPM).origin(&registry).table(table).start().await;
    rig.create("review", &["--access-mode", "read-only"]).await;
    let dir = rig.work_dir("project");
    let package = "{\"name\":\"project\",\"version\":\"1.0.0\",\"dependencies\":{\"left\":\"1.0.0\"}}";
    let lock = "{\"name\":\"project\",\"version\":\"1.0.0\",\"lockfileVersion\":3,\"requires\":true,\"packages\":{\"\":{\"name\":\
                \"project\",\"version\":\"1.0.0\",\"dependencies\":{\"left\":\"1.0.0\"}},\"node_modules/left\":{\"version\":\
                \"1.0.0\",\"resolved\":\"https://npm.example.test/left/-/left-1.0.0.tgz\"}}}";
    std::fs::write(dir.join("package.json"), package).unwrap();
    std::fs::write(dir.join("package-lock.json"), lock).unwrap();
    let npmrc = "registry=https://npm.example.test/\n//npm.example.test/:_authToken=${NPM_TOKEN}\n";
    std::fs::write(dir.join(".npmrc"), npmrc).unwrap();
    let npm = rig.tool("npm", "review", &dir).await.env("npm_config_registry", "https://npm.example.test/");
    let audited = npm.env("npm_config_update_notifier", "false").args(["audit", "--package-lock-only"]).succeed().await;
    assert!(audited.all().contains("found 0 vulnerabilities"), "{}", audited.all());
    let seen = registry.log().only();
    assert_eq!((seen.method, seen.complete), (Method::POST, true));
    assert_eq!(seen.headers["authorization"], format!("Bearer {NPM}"));
    rig.assert_no_secret();
}

#[tokio::test]
async fn explain_says_that_the_body_decides() {
    let rig = rig().secret("github_token", GITHUB).start().await;
    rig.create("review", &["--access-mode", "read-only"]).await;
    let args = ["explain", "POST", "https://api.github.com/graphql", "--session", "review", "--json"];
    let explained = rig.cli(args).finish().await.json();
    assert_eq!((&explained["allowed"], &explained["rule"]), (&false.into(), &"needs-body".into()));
    let args = ["explain", "POST", "https://api.github.com/user/keys", "--json"];
    let explained = rig.cli(args).finish().await.json();
    assert_eq!((&explained["reason"], &explained["rule"]), (&"minting".into(), &"github.user-key".into()));
}
