//! sentry-cli with a user's token and with an organization's, whose own claims say where it goes.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use clauderon_testkit::body::Body;
use clauderon_testkit::origin::{Call, Origin, OriginBuilder, ok, with_field};
use clauderon_testkit::rig::Rig;
use clauderon_testkit::run::Finished;
use http::{Method, Response};
use serde_json::{Value, json};

use super::installed;
use crate::rig;

const USER: &str = "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";

fn sentry(name: &str, token: &str) -> OriginBuilder {
    let project = json!({ "id": "1", "slug": "app", "name": "App", "team": null, "teams": [] });
    let release = json!({
        "version": "1.0.0", "url": null, "dateCreated": "2026-01-01T00:00:00Z", "dateReleased": null, "newGroups": 0,
        "lastEvent": null, "projects": [{ "id": 1, "slug": "app", "name": "App" }],
    });
    let regions = json!({ "regions": [{ "name": "one", "url": format!("https://{name}") }] });
    Origin::https(name)
        .require("authorization", &format!("Bearer {token}"))
        .route("/api/0/organizations/acme/projects/", move |call| answer(call, json!([project])))
        .route("/api/0/organizations/acme/releases/", move |call| answer(call, release.clone()))
        .route("/api/0/users/me/regions/", move |call| answer(call, regions.clone()))
        .route("/api/0/", |call| {
            answer(
                call,
                json!({ "version": "0", "user": { "email": "me@example.test" }, "auth": { "scopes": ["org:read"] } }),
            )
        })
}

async fn answer(call: Call, json: Value) -> Response<Body> {
    let echo = call.field("authorization").unwrap_or_default().to_owned();
    call.collect().await;
    with_field(with_field(ok(json.to_string()), "content-type", "application/json"), "x-sentry-debug", &echo)
}

async fn sentry_cli(rig: &Rig, session: &str, args: &[&str]) -> Finished {
    let script = installed::script("@sentry/cli/bin/sentry-cli").display().to_string();
    let cli = rig.tool("node", session, &rig.work_dir("project")).await.env("SENTRY_DISABLE_UPDATE_CHECK", "1");
    cli.args([script.as_str()]).args(args.iter().copied()).finish().await
}

async fn reads_and_read_only_writes_nothing(origin: &Origin, rig: &Rig) {
    let host = origin.name().to_owned();
    for (session, mode) in [("review", "read-only"), ("write", "read-write")] {
        rig.create(session, &["--access-mode", mode, "--allow-host", &host]).await;
        let listed = sentry_cli(rig, session, &["projects", "--org", "acme", "list"]).await;
        assert!(listed.code == 0 && listed.stdout.contains("app"), "{}", listed.all());
    }
    let new = ["releases", "--org", "acme", "--project", "app", "new", "1.0.0"];
    let refused = sentry_cli(rig, "review", &new).await;
    assert!(refused.code != 0 && refused.all().contains("403"), "{}", refused.all());
    assert!(origin.log().requests().iter().all(|seen| seen.method == Method::GET));
    let made = sentry_cli(rig, "write", &new).await;
    assert_eq!(made.code, 0, "{}", made.all());
    assert_eq!(origin.log().last().method, Method::POST);
}

#[tokio::test]
async fn uses_a_users_token() {
    let origin = sentry("sentry.io", USER).start().await;
    let rig = rig().secret("sentry_auth_token", USER).origin(&origin).start().await;
    reads_and_read_only_writes_nothing(&origin, &rig).await;
}

#[tokio::test]
async fn follows_the_region_its_organization_token_claims() {
    let claims =
        json!({ "iat": 1.5, "url": "https://de.sentry.io", "region_url": "https://de.sentry.io", "org": "acme" });
    let token = format!("sntrys_{}_{}", STANDARD.encode(claims.to_string()), STANDARD_NO_PAD.encode([0x5e; 32]));
    let origin = sentry("de.sentry.io", &token).start().await;
    let rig = rig().secret("sentry_auth_token", &token).origin(&origin).start().await;
    reads_and_read_only_writes_nothing(&origin, &rig).await;
}
