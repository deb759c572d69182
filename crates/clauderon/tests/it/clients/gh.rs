//! GitHub's own command line.

use clauderon_testkit::git_origin::GitOrigin;
use clauderon_testkit::origin::{Call, Origin, ok, with_field};
use clauderon_testkit::rig::{Rig, RigBuilder};
use clauderon_testkit::run::Run;
use http::{Method, Response};
use serde_json::{Value, json};

use crate::{GITHUB, github_rig};

async fn github() -> (Origin, Rig) {
    github_with(|rig| rig).await
}

/// GitHub's API as `gh` knows it, which answers 401 to anything but the real token; and what else `more` adds.
async fn github_with(more: impl FnOnce(RigBuilder) -> RigBuilder) -> (Origin, Rig) {
    let issue = json!({ "number": 1, "html_url": "https://github.com/owner/repo/issues/1" });
    let origin = Origin::https("api.github.com").require("authorization", &format!("token {GITHUB}"));
    let origin = origin
        .route("/graphql", |call| async move { graphql(call).await })
        .route("/user", |call| json_answer(call, json!({ "login": "octocat" })))
        .route("/repos/owner/repo/issues", move |call| json_answer(call, issue.clone()))
        .route("/repos/owner/repo/releases/tags/v1", |call| json_answer(call, release()))
        .route("/repos/owner/repo/releases/assets/1", |call| async move {
            call.collect().await;
            let moved = clauderon_testkit::origin::status(http::StatusCode::FOUND, "");
            with_field(moved, "location", "https://objects.githubusercontent.com/asset")
        })
        .start()
        .await;
    let rig = more(github_rig(&origin)).start().await;
    let hosts = ["api.github.com", "github.com", "uploads.github.com", "objects.githubusercontent.com"];
    let hosts: Vec<&str> = hosts.into_iter().flat_map(|host| ["--allow-host", host]).collect();
    rig.create("review", &[&hosts[..], &["--access-mode", "read-only"]].concat()).await;
    rig.create("write", &hosts).await;
    (origin, rig)
}

async fn json_answer(call: Call, answer: Value) -> Response<clauderon_testkit::body::Body> {
    // An origin that shows what it was sent, as many do in errors.
    let echo = call.field("authorization").unwrap_or_default().to_owned();
    call.collect().await;
    with_field(with_field(ok(answer.to_string()), "content-type", "application/json"), "x-debug-authorization", &echo)
}

async fn graphql(call: Call) -> Response<clauderon_testkit::body::Body> {
    let echo = call.field("authorization").unwrap_or_default().to_owned();
    let asked: Value = serde_json::from_slice(&call.collect().await.bytes).unwrap();
    let query = asked["query"].as_str().unwrap();
    let repository = json!({
        "id": "R_1", "name": "repo", "owner": { "login": "owner" }, "nameWithOwner": "owner/repo", "description": echo,
        "isPrivate": true, "isFork": false, "isArchived": false, "visibility": "PRIVATE", "pushedAt": "2026-01-01T00:00:00Z",
        "hasIssuesEnabled": true, "viewerPermission": "WRITE", "defaultBranchRef": { "name": "main" }, "parent": null,
    });
    let pull = json!({ "number": 7, "title": "A pull request", "id": "PR_7", "state": "OPEN", "url": "https://github.com/owner/repo/pull/7" });
    let page = |nodes: Value| json!({ "nodes": nodes, "totalCount": 1, "pageInfo": { "hasNextPage": false, "endCursor": "" } });
    let data = if query.contains("createPullRequest") {
        json!({ "createPullRequest": { "pullRequest": pull } })
    } else if query.contains("query RepositoryList") {
        json!({ "repositoryOwner": { "login": "owner", "repositories": page(json!([repository])) } })
    } else if query.contains("query PullRequestList") {
        json!({ "repository": { "pullRequests": page(json!([pull])) } })
    } else if query.contains("query PullRequestForBranch") {
        json!({ "repository": { "pullRequests": page(json!([])) } })
    } else if query.contains("query IssueByNumber") {
        json!({ "repository": { "hasIssuesEnabled": true, "issue": { "__typename": "Issue", "number": 3, "title": "An issue" } } })
    } else if query.contains("query RepositoryNetwork") {
        json!({ "viewer": { "login": "octocat" }, "repo_000": repository })
    } else if query.contains("RepositoryReleaseByTag") {
        json!({ "repository": { "release": { "databaseId": 1, "isDraft": false } } })
    } else if query.contains("__type") {
        json!({ "PullRequest": { "fields": [] }, "Issue": { "fields": [] } })
    } else {
        json!({ "viewer": { "login": "octocat" }, "repository": repository })
    };
    json_body(&json!({ "data": data }))
}

fn json_body(answer: &Value) -> Response<clauderon_testkit::body::Body> {
    with_field(ok(answer.to_string()), "content-type", "application/json; charset=utf-8")
}

async fn gh(rig: &Rig, session: &str, args: &[&str]) -> Run {
    let gh = rig.tool("gh", session, rig.outside()).await.env("GH_NO_UPDATE_NOTIFIER", "1").env("NO_COLOR", "1");
    gh.env("GH_PROMPT_DISABLED", "1").args(args.iter().copied())
}

#[tokio::test]
async fn lists_and_views_in_both_modes() {
    let (origin, rig) = github().await;
    for session in ["review", "write"] {
        for (args, shown) in [
            (&["api", "user"][..], "octocat"),
            (&["repo", "list", "owner"], "owner/repo"),
            (&["pr", "list", "--repo", "owner/repo", "--json", "number,title"], "A pull request"),
            (&["issue", "view", "3", "--repo", "owner/repo", "--json", "title"], "An issue"),
            (&["api", "graphql", "-f", "query=query { viewer { login } }"], "octocat"),
        ] {
            let printed = gh(&rig, session, args).await.succeed().await;
            assert!(printed.stdout.contains(shown), "{args:?}: {}", printed.all());
        }
    }
    assert!(origin.log().requests().iter().any(|seen| seen.method == Method::POST && seen.target == "/graphql"));
    let graphql =
        |line: &clauderon_testkit::rig::AuditLine| line.text("path") == "/graphql" && line.text("session") == "review";
    assert_eq!(rig.audit_line("a query", graphql).await.get("allowed"), &Value::from(true));
}

#[tokio::test]
async fn writes_are_refused_in_read_only_with_a_reason_it_prints() {
    let (origin, rig) = github().await;
    let create = ["pr", "create", "--repo", "owner/repo", "--head", "owner:topic", "--title", "t", "--body", "b"];
    // What the method alone refuses has no `message`, but this command prints the whole answer.
    let issue = ["api", "repos/owner/repo/issues", "-f", "title=t"];
    for args in [&create[..], &issue] {
        let refused = gh(&rig, "review", args).await.finish().await;
        assert_ne!(refused.code, 0, "{args:?}");
        assert!(refused.all().contains("Write operations are blocked in read-only mode"), "{}", refused.all());
    }
    let wrote = |seen: &clauderon_testkit::origin::Seen| {
        seen.target != "/graphql" && seen.method == Method::POST
            || String::from_utf8_lossy(&seen.body).contains("mutation")
    };
    assert!(!origin.log().requests().iter().any(wrote), "{:#?}", origin.log().requests());
    for args in [&create[..], &issue] {
        let done = gh(&rig, "write", args).await.succeed().await;
        assert!(done.stdout.contains("github.com/owner/repo"), "{}", done.all());
    }
    assert_eq!(origin.log().requests().iter().filter(|seen| wrote(seen)).count(), 2);
}

#[tokio::test]
async fn knows_itself_logged_in_and_shows_only_the_placeholder() {
    let (_origin, rig) = github().await;
    let token = gh(&rig, "review", &["auth", "token"]).await.succeed().await.stdout;
    assert_eq!(token.trim(), rig.session_env("review").await["GH_TOKEN"]);
    let git = gh(&rig, "review", &["auth", "git-credential", "get"]).await.input("protocol=https\nhost=github.com\n\n");
    assert!(git.succeed().await.stdout.contains(token.trim()));
}

#[tokio::test]
async fn clones_by_any_address() {
    let git = GitOrigin::start("github.com", GITHUB).await;
    git.repository("owner/repo").await;
    let (_api, rig) = github_with(|rig| rig.origin(&git.origin)).await;
    for (session, how) in [("review", "gh"), ("write", "git@github.com:"), ("review", "ssh://git@github.com/")] {
        let dir = rig.work_dir(&format!("clone-{session}-{}", how.len()));
        let clone = match how {
            "gh" => rig.tool("gh", session, &dir).await.args(["repo", "clone", "owner/repo", "copy"]),
            base => {
                rig.tool("git", session, &dir).await.args(["clone", "--quiet", &format!("{base}owner/repo"), "copy"])
            }
        };
        clone.env("GIT_CONFIG_NOSYSTEM", "1").env("GH_NO_UPDATE_NOTIFIER", "1").succeed().await;
        assert!(dir.join("copy/README").exists(), "{how}");
    }
}

#[tokio::test]
async fn uploads_and_downloads_release_assets() {
    let store = Origin::https("objects.githubusercontent.com").reply("/asset", "the asset").start().await;
    let uploads = Origin::https("uploads.github.com").require("authorization", &format!("token {GITHUB}"));
    let uploads = uploads.route("/repos/owner/repo/releases/1/assets", |call| json_answer(call, asset())).start().await;
    let (_api, rig) = github_with(|rig| rig.origin(&store).origin(&uploads)).await;
    for session in ["review", "write"] {
        let dir = rig.work_dir(session).display().to_string();
        let args = ["release", "download", "v1", "--repo", "owner/repo", "--pattern", "*", "--dir", &dir, "--clobber"];
        gh(&rig, session, &args).await.succeed().await;
        assert_eq!(std::fs::read_to_string(rig.work_dir(session).join("asset.txt")).unwrap(), "the asset");
    }
    assert!(store.log().requests().iter().all(|seen| seen.field("authorization").is_none()));
    std::fs::write(rig.outside().join("new.txt"), "a new asset").unwrap();
    let args = ["release", "upload", "v1", "new.txt", "--repo", "owner/repo"];
    assert_ne!(gh(&rig, "review", &args).await.finish().await.code, 0);
    assert_eq!(uploads.log().count(), 0);
    gh(&rig, "write", &args).await.succeed().await;
    assert_eq!(uploads.log().only().body.as_ref(), b"a new asset");
}

fn asset() -> Value {
    let url = "https://api.github.com/repos/owner/repo/releases/assets/1";
    json!({ "id": 1, "name": "asset.txt", "size": 9, "state": "uploaded", "url": url })
}

fn release() -> Value {
    let upload = "https://uploads.github.com/repos/owner/repo/releases/1/assets{?name,label}";
    json!({ "id": 1, "tag_name": "v1", "upload_url": upload, "assets": [asset()], "draft": false })
}
