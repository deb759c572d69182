//! An npm registry with a public package and a private, scoped one.

use std::path::Path;

use http::{Response, StatusCode};
use serde_json::json;

use crate::body::Body;
use crate::origin::{Call, Origin, ok, status, with_field};
use crate::run::Run;

/// Serves `plain-package` to anyone and `@private/package` only with exactly `Bearer token`.
///
/// The public package refuses any credential but that one, as registries do with dead tokens.
pub async fn start(name: &str, token: &str) -> Origin {
    let public = tarball("plain-package").await;
    let private = tarball("@private/package").await;
    let bearer = Some(format!("Bearer {token}"));
    let base = format!("https://{name}");
    let [document_token, tarball_token, whoami_token] = [bearer.clone(), bearer.clone(), bearer];
    let (plain, scoped) = (document("plain-package", &base), document("@private/package", &base));
    let whoami = br#"{"username":"tester"}"#.to_vec();
    Origin::https(name)
        .h1_only()
        .route("/plain-package", move |call| serve(call, None, plain.clone()))
        .route("/-/plain-package.tgz", move |call| serve(call, None, public.clone()))
        .route("/@private%2fpackage", move |call| serve(call, document_token.clone(), scoped.clone()))
        .route("/-/private/package.tgz", move |call| serve(call, tarball_token.clone(), private.clone()))
        .route("/-/whoami", move |call| serve(call, whoami_token.clone(), whoami.clone()))
        .start()
        .await
}

async fn serve(call: Call, bearer: Option<String>, bytes: Vec<u8>) -> Response<Body> {
    let got = call.field("authorization").map(str::to_owned);
    call.collect().await;
    if bearer.is_some() && got != bearer {
        return status(StatusCode::UNAUTHORIZED, "{\"error\":\"the exact token did not arrive\"}");
    }
    let kind = if bytes.starts_with(b"{") { "application/json" } else { "application/octet-stream" };
    with_field(ok(bytes), "content-type", kind)
}

fn document(package: &str, base: &str) -> Vec<u8> {
    let file = package.trim_start_matches('@');
    let tarball = format!("{base}/-/{file}.tgz");
    let version = json!({ "name": package, "version": "1.0.0", "dist": { "tarball": tarball } });
    json!({ "name": package, "dist-tags": { "latest": "1.0.0" }, "versions": { "1.0.0": version } })
        .to_string()
        .into_bytes()
}

async fn tarball(package: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().expect("the temporary directory is writable");
    let content = dir.path().join("package");
    std::fs::create_dir(&content).expect("a new directory");
    write(&content, "package.json", &json!({ "name": package, "version": "1.0.0" }).to_string());
    write(&content, "index.js", "module.exports = 'installed through the proxy';\n");
    Run::new("tar").args(["-czf", "package.tgz", "package"]).dir(dir.path()).succeed().await;
    std::fs::read(dir.path().join("package.tgz")).expect("tar wrote it")
}

fn write(dir: &Path, name: &str, text: &str) {
    std::fs::write(dir.join(name), text).expect("our own directory");
}
