//! git with Git LFS, whose objects lie on a host of their own.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use clauderon_testkit::git_origin::GitOrigin;
use clauderon_testkit::origin::{Call, Origin, ok, status, with_field};
use clauderon_testkit::rig::Rig;
use clauderon_testkit::run::Run;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{GITHUB, rig};

type Objects = Arc<Mutex<HashMap<String, Vec<u8>>>>;

/// What the LFS server gives for one transfer; no credential of the user's.
const SCOPED: &str = "RemoteAuth scoped-to-one-object";

struct Hosted {
    git: GitOrigin,
    store: Origin,
    objects: Objects,
    rig: Rig,
}

async fn hosted() -> Hosted {
    let objects = Objects::default();
    let batches = Arc::clone(&objects);
    let git = GitOrigin::with("github.com", GITHUB, |origin| {
        origin.route("/owner/repo.git/info/lfs/objects/batch", move |call| batch(call, Arc::clone(&batches))).route(
            "/owner/repo.git/info/lfs/locks/verify",
            |call| async move {
                call.collect().await;
                status(StatusCode::NOT_FOUND, "{\"message\":\"no locks here\"}")
            },
        )
    })
    .await;
    git.repository("owner/repo").await;
    let stored = Arc::clone(&objects);
    let store = Origin::https("lfs-store.example.test").require("authorization", SCOPED);
    let store = store.route("/objects/*", move |call| object(call, Arc::clone(&stored))).start().await;
    let rig = rig().secret("github_token", GITHUB).origin(&git.origin).origin(&store).start().await;
    let hosts = ["--allow-host", "github.com", "--allow-host", "lfs-store.example.test"];
    rig.create("write", &hosts).await;
    rig.create("review", &[&hosts[..], &["--access-mode", "read-only"]].concat()).await;
    Hosted { git, store, objects, rig }
}

async fn batch(call: Call, objects: Objects) -> http::Response<clauderon_testkit::body::Body> {
    let asked: Value = serde_json::from_slice(&call.collect().await.bytes).unwrap();
    let operation = asked["operation"].as_str().unwrap();
    let known = objects.lock().unwrap();
    let actions = |object: &Value| {
        let oid = object["oid"].as_str().unwrap();
        let action = json!({ "href": format!("https://lfs-store.example.test/objects/{oid}"), "header": { "Authorization": SCOPED } });
        let wanted = operation == "download" || !known.contains_key(oid);
        let actions = if wanted { json!({ operation: action }) } else { json!({}) };
        json!({ "oid": oid, "size": object["size"], "authenticated": true, "actions": actions })
    };
    let objects: Vec<Value> = asked["objects"].as_array().unwrap().iter().map(actions).collect();
    let answer = json!({ "transfer": "basic", "objects": objects });
    with_field(ok(answer.to_string()), "content-type", "application/vnd.git-lfs+json")
}

async fn object(call: Call, objects: Objects) -> http::Response<clauderon_testkit::body::Body> {
    let oid = call.uri.path().rsplit('/').next().unwrap().to_owned();
    let method = call.method.clone();
    let body = call.collect().await.bytes;
    if method == Method::PUT {
        objects.lock().unwrap().insert(oid, body.to_vec());
        return ok("");
    }
    objects
        .lock()
        .unwrap()
        .get(&oid)
        .map_or_else(|| status(StatusCode::NOT_FOUND, "no such object"), |bytes| ok(bytes.clone()))
}

impl Hosted {
    async fn git(&self, session: &str, dir: &Path, args: &[&str]) -> Run {
        let git = self.rig.tool("git", session, dir).await.args(args.iter().copied());
        git.env("GIT_CONFIG_NOSYSTEM", "1").env("HOME", self.rig.outside().display().to_string())
    }

    async fn clone(&self, session: &str, into: &str) -> PathBuf {
        let url = "https://github.com/owner/repo.git";
        self.git(session, self.rig.outside(), &["clone", "--quiet", url, into]).await.succeed().await;
        self.rig.outside().join(into)
    }
}

#[tokio::test]
async fn pushes_and_fetches_large_files_and_read_only_fetches_only() {
    let hosted = hosted().await;
    hosted.git("write", hosted.rig.outside(), &["lfs", "install"]).await.succeed().await;
    let copy = hosted.clone("write", "copy").await;
    hosted.git("write", &copy, &["lfs", "track", "*.bin"]).await.succeed().await;
    let content = vec![0x5a; 300_000];
    std::fs::write(copy.join("large.bin"), &content).unwrap();
    commit(&hosted, &copy, "a large file").await;
    hosted.git("write", &copy, &["push", "--quiet", "origin", "main"]).await.succeed().await;
    assert_eq!(hosted.objects.lock().unwrap().values().collect::<Vec<_>>(), [&content]);

    let fetched = hosted.clone("review", "fetched").await;
    assert_eq!(std::fs::read(fetched.join("large.bin")).unwrap(), content);
    let head = hosted.git.head("owner/repo").await;
    std::fs::write(fetched.join("more.bin"), b"stays here").unwrap();
    commit(&hosted, &fetched, "another").await;
    let refused = hosted.git("review", &fetched, &["push", "origin", "main"]).await.finish().await;
    assert_ne!(refused.code, 0, "{}", refused.all());
    assert_eq!((hosted.git.head("owner/repo").await, hosted.objects.lock().unwrap().len()), (head, 1));
    let upload = hosted.git("review", &fetched, &["lfs", "push", "origin", "main"]).await.finish().await;
    assert_ne!(upload.code, 0, "{}", upload.all());
    assert_eq!(hosted.objects.lock().unwrap().len(), 1);
    assert!(upload.all().contains("read-only"), "{}", upload.all());
    assert!(hosted.store.log().requests().iter().all(|seen| seen.field("authorization") == Some(SCOPED)));
}

/// LFS's filter runs in the commit, so git is the session's.
async fn commit(hosted: &Hosted, dir: &Path, message: &str) {
    hosted.git("write", dir, &["add", "--all"]).await.succeed().await;
    let author = ["-c", "user.name=Test", "-c", "user.email=test@example.test"];
    let args = [&author[..], &["commit", "--quiet", "-m", message]].concat();
    hosted.git("write", dir, &args).await.succeed().await;
}
