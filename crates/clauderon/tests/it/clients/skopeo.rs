//! skopeo: a registry client through 401, realm, token and pull, at Docker Hub and at GitHub's registry.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clauderon_core::digest::{hex, sha256};
use clauderon_testkit::body::Body;
use clauderon_testkit::origin::{Call, Origin, OriginBuilder, ok, status, with_field};
use clauderon_testkit::rig::{Rig, RigBuilder};
use clauderon_testkit::run::Finished;
use http::{Method, Response, StatusCode};
use serde_json::json;

use crate::{GITHUB, rig};

const PAT: &str = "dckr_pat_TheRealTokenNobodyMaySee012";

/// What the token endpoints issue: real tokens too, which no client may see.
const HUB_JWT: &str =
    "eyJhbGciOiJSUzI1NiJ9.eyJhY2Nlc3MiOlt7InR5cGUiOiJyZXBvc2l0b3J5In1dfQ.VGhlUmVhbEp3dE5vYm9keU1heVNlZQ";
const GHCR_TOKEN: &str = "djE6b3duZXI6VGhlUmVhbFJlZ2lzdHJ5VG9rZW5Ob2JvZHlNYXlTZWU";

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// An image of one layer, as its registry keeps it.
#[derive(Clone)]
struct Image {
    config: Vec<u8>,
    layer: Vec<u8>,
}

impl Image {
    fn new() -> Self {
        use std::io::Write as _;
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        // An empty archive: two blocks of zeros.
        gzip.write_all(&[0; 1024]).unwrap();
        let rootfs = json!({ "type": "layers", "diff_ids": [digest(&[0; 1024])] });
        let config = json!({ "architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs, "history": [{}] });
        Self { config: config.to_string().into_bytes(), layer: gzip.finish().unwrap() }
    }

    fn manifest(&self) -> String {
        let part = |kind: &str, bytes: &[u8]| json!({ "mediaType": format!("application/vnd.docker.{kind}"), "size": bytes.len(), "digest": digest(bytes) });
        let layers = [part("image.rootfs.diff.tar.gzip", &self.layer)];
        let config = part("container.image.v1+json", &self.config);
        json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers }).to_string()
    }
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&sha256(&[bytes])))
}

/// A registry that wants `bearer` and says where to get it; its layers lie elsewhere.
fn registry(name: &str, realm: &'static str, bearer: &'static str, store: &'static str) -> OriginBuilder {
    Origin::https(name).route("/v2/*", move |call| async move {
        let authorized = call.field("authorization") == Some(&format!("Bearer {bearer}"));
        let (method, path) = (call.method.clone(), call.uri.path().to_owned());
        call.collect().await;
        if !authorized {
            let answer = status(StatusCode::UNAUTHORIZED, "{\"errors\":[{\"code\":\"UNAUTHORIZED\"}]}");
            return with_field(answer, "www-authenticate", realm);
        }
        let image = Image::new();
        if path.ends_with("/tags/list") {
            return json_answer(&json!({ "name": "owner/app", "tags": ["latest"] }).to_string());
        }
        if path.contains("/manifests/") {
            return manifest(&method, &image);
        }
        if path.ends_with(&digest(&image.config)) {
            return ok(image.config);
        }
        if method == Method::HEAD {
            return ok(image.layer);
        }
        let moved = status(StatusCode::TEMPORARY_REDIRECT, "");
        with_field(moved, "location", &format!("https://{store}/layer?signature=short-lived"))
    })
}

fn manifest(method: &Method, image: &Image) -> Response<Body> {
    let text = image.manifest();
    let answer = with_field(ok(text.clone()), "docker-content-digest", &digest(text.as_bytes()));
    let answer = with_field(answer, "content-type", MANIFEST);
    if *method == Method::PUT { status(StatusCode::CREATED, "") } else { answer }
}

/// A token endpoint that wants `basic` and shows what it got.
fn tokens(origin: OriginBuilder, basic: String, token: &'static str) -> OriginBuilder {
    origin.route("/token", move |call: Call| {
        let basic = basic.clone();
        async move {
            let got = call.field("authorization").unwrap_or_default().to_owned();
            call.collect().await;
            if got != basic {
                return status(StatusCode::UNAUTHORIZED, "{\"details\":\"incorrect username or password\"}");
            }
            let answer = json!({ "token": token, "access_token": token, "expires_in": 300, "issued_for": got });
            json_answer(&answer.to_string())
        }
    })
}

fn json_answer(text: &str) -> Response<Body> {
    with_field(ok(text.to_owned()), "content-type", "application/json")
}

async fn store(name: &str) -> Origin {
    Origin::https(name)
        .route("/layer", |call| async move {
            call.collect().await;
            ok(Image::new().layer)
        })
        .start()
        .await
}

async fn sessions(rig: RigBuilder, hosts: &[&str]) -> Rig {
    let rig = rig.start().await;
    let allowed: Vec<&str> = hosts.iter().flat_map(|host| ["--allow-host", *host]).collect();
    rig.create("write", &allowed).await;
    rig.create("review", &[&allowed[..], &["--access-mode", "read-only"]].concat()).await;
    rig
}

async fn skopeo(rig: &Rig, session: &str, args: &[&str]) -> Finished {
    let dir = rig.work_dir(&format!("images-{session}"));
    let skopeo = rig.tool("skopeo", session, &dir).await.args(["--insecure-policy"]).args(args.iter().copied());
    skopeo.finish().await
}

async fn pulls(rig: &Rig, image: &str) {
    for session in ["review", "write"] {
        let seen = skopeo(rig, session, &["inspect", image]).await;
        assert_eq!(seen.code, 0, "{session}: {}", seen.all());
        assert_eq!(seen.json()["Digest"], digest(Image::new().manifest().as_bytes()));
        let copied = skopeo(rig, session, &["copy", image, "dir:pulled"]).await;
        assert_eq!(copied.code, 0, "{session}: {}", copied.all());
        let layer = digest(&Image::new().layer).replace("sha256:", "");
        let pulled = rig.work_dir(&format!("images-{session}")).join("pulled").join(layer);
        assert_eq!(std::fs::read(pulled).unwrap(), Image::new().layer);
    }
}

#[tokio::test]
async fn pulls_from_docker_hub_in_both_modes_and_pushes_in_one() {
    let realm = "Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\"";
    let hub = registry("registry-1.docker.io", realm, HUB_JWT, "production.cloudflare.docker.com").start().await;
    let basic = format!("Basic {}", STANDARD.encode(format!("someone:{PAT}")));
    let auth = tokens(Origin::https("auth.docker.io"), basic, HUB_JWT).start().await;
    let blobs = store("production.cloudflare.docker.com").await;
    let rig = rig().secret("docker_token", PAT).guards(HUB_JWT).table("[services.docker]\nusername = \"someone\"");
    let rig = rig.origin(&hub).origin(&auth).origin(&blobs);
    let hosts = ["registry-1.docker.io", "auth.docker.io", "production.cloudflare.docker.com"];
    let rig = sessions(rig, &hosts).await;
    pulls(&rig, "docker://docker.io/owner/app:latest").await;
    assert!(
        blobs.log().count() >= 2 && blobs.log().requests().iter().all(|seen| seen.field("authorization").is_none())
    );

    let push = ["copy", "dir:pulled", "docker://docker.io/owner/app:new"];
    let refused = skopeo(&rig, "review", &push).await;
    assert_ne!(refused.code, 0, "{}", refused.all());
    let put = |seen: &clauderon_testkit::origin::Seen| seen.method == Method::PUT;
    assert!(!hub.log().requests().iter().any(put));
    let pushed = skopeo(&rig, "write", &push).await;
    assert_eq!(pushed.code, 0, "{}", pushed.all());
    assert!(hub.log().requests().iter().any(put));
}

#[tokio::test]
async fn pulls_from_githubs_registry() {
    let realm = "Bearer realm=\"https://ghcr.io/token\",service=\"ghcr.io\",scope=\"repository:owner/app:pull\"";
    let ghcr = registry("ghcr.io", realm, GHCR_TOKEN, "pkg-containers.githubusercontent.com");
    let basic = format!("Basic {}", STANDARD.encode(format!("x-access-token:{GITHUB}")));
    let ghcr = tokens(ghcr, basic, GHCR_TOKEN).start().await;
    let blobs = store("pkg-containers.githubusercontent.com").await;
    let rig = rig().secret("github_token", GITHUB).guards(GHCR_TOKEN).origin(&ghcr).origin(&blobs);
    let rig = sessions(rig, &["ghcr.io", "pkg-containers.githubusercontent.com"]).await;
    pulls(&rig, "docker://ghcr.io/owner/app:latest").await;
    assert!(blobs.log().requests().iter().all(|seen| seen.field("authorization").is_none()));
}
