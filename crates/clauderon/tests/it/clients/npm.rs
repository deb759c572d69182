//! npm beyond installing: what its other commands do with a token that is not the user's.

use clauderon_testkit::body::Body;
use clauderon_testkit::origin::{Call, Origin, ok, with_field};
use clauderon_testkit::rig::Rig;
use clauderon_testkit::run::Run;
use http::{Method, Response};
use serde_json::{Value, json};

use crate::rig;

const NPM: &str = "npm_TheRealTokenNobodyMaySee0123456789ab";

async fn registry() -> (Origin, Rig) {
    let registry = Origin::https("npm.example.test").require("authorization", &format!("Bearer {NPM}"));
    let registry = registry
        .route("/-/npm/v1/security/advisories/bulk", |call| answer(call, json!({})))
        .route("/-/whoami", |call| answer(call, json!({ "username": "tester" })))
        .route("/-/npm/v1/tokens", |call| {
            answer(call, json!({ "objects": [], "urls": {}, "total": 0, "token": "npm_new" }))
        })
        .route("/*", |call| answer(call, json!({ "ok": true })))
        .start()
        .await;
    let table = "[services.npm]\nregistries = [\"https://npm.example.test/\"]";
    let rig = rig().secret("npm_token", NPM).origin(&registry).table(table).start().await;
    rig.create("review", &["--access-mode", "read-only", "--allow-host", "npm.example.test"]).await;
    rig.create("write", &["--allow-host", "npm.example.test"]).await;
    (registry, rig)
}

/// Shows the credential it got, as registries in debug mode do.
async fn answer(call: Call, json: Value) -> Response<Body> {
    let echo = call.field("authorization").unwrap_or_default().to_owned();
    call.collect().await;
    with_field(
        with_field(ok(json.to_string()), "content-type", "application/json"),
        "npm-notice",
        &format!("you are {echo}"),
    )
}

async fn npm(rig: &Rig, session: &str, args: &[&str]) -> Run {
    let dir = rig.work_dir("project");
    std::fs::write(dir.join("package.json"), json!({ "name": "project", "version": "1.0.0" }).to_string()).unwrap();
    let lock = json!({
        "name": "project", "version": "1.0.0", "lockfileVersion": 3, "requires": true,
        "packages": { "": { "name": "project", "version": "1.0.0", "dependencies": { "left": "1.0.0" } },
            "node_modules/left": { "version": "1.0.0", "resolved": "https://npm.example.test/left/-/left-1.0.0.tgz" } },
    });
    std::fs::write(dir.join("package-lock.json"), lock.to_string()).unwrap();
    let npm = rig.tool("npm", session, &dir).await.env("npm_config_registry", "https://npm.example.test/");
    npm.env("npm_config_update_notifier", "false").args(args.iter().copied())
}

#[tokio::test]
async fn publishes_and_read_only_refuses_to() {
    let (registry, rig) = registry().await;
    let refused = npm(&rig, "review", &["publish"]).await.finish().await;
    assert_ne!(refused.code, 0);
    assert!(refused.all().contains("Write operations are blocked in read-only mode"), "{}", refused.all());
    assert!(!registry.log().requests().iter().any(|seen| seen.method == Method::PUT));
    npm(&rig, "write", &["publish"]).await.succeed().await;
    let published = registry.log().requests().into_iter().find(|seen| seen.method == Method::PUT).unwrap();
    assert_eq!((published.target.as_str(), published.complete), ("/project", true));
}

#[tokio::test]
async fn audits_and_knows_itself_logged_in_in_both_modes() {
    let (registry, rig) = registry().await;
    for session in ["review", "write"] {
        let audited = npm(&rig, session, &["audit", "--package-lock-only"]).await.succeed().await;
        assert!(audited.stdout.contains("found 0 vulnerabilities"), "{}", audited.all());
        assert_eq!(npm(&rig, session, &["whoami"]).await.succeed().await.stdout.trim(), "tester");
    }
    assert_eq!(registry.log().count(), 4);
}

#[tokio::test]
async fn logs_out_of_the_session_only() {
    let (registry, rig) = registry().await;
    for session in ["review", "write"] {
        npm(&rig, session, &["logout"]).await.succeed().await;
    }
    // The user's token was not revoked, and still serves.
    assert_eq!(registry.log().count(), 0);
    assert_eq!(npm(&rig, "write", &["whoami"]).await.succeed().await.stdout.trim(), "tester");
}

#[tokio::test]
async fn makes_no_new_token() {
    let (registry, rig) = registry().await;
    for session in ["review", "write"] {
        let refused = npm(&rig, session, &["token", "create", "--password", "x"]).await.finish().await;
        assert_ne!(refused.code, 0, "{}", refused.all());
    }
    assert!(!registry.log().requests().iter().any(|seen| seen.method == Method::POST));
}
