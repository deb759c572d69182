//! Real npm and pip against registries on loopback.

use clauderon_testkit::origin::Origin;
use clauderon_testkit::rig::Rig;
use clauderon_testkit::{npm_origin, pip_origin};

use crate::rig;

const NPM: &str = "npm_TheRealTokenNobodyMaySee0123456789ab";
const PYPI: &str = "pypi-TheRealTokenNobodyMaySee0123456789";

async fn npm_rig() -> (Origin, Rig) {
    let registry = npm_origin::start("npm.example.test", NPM).await;
    let rig = rig().secret("npm_token", NPM).origin(&registry);
    let rig = rig.table("[services.npm]\nregistries = [\"https://npm.example.test/\"]").start().await;
    rig.create("dev", &[]).await;
    (registry, rig)
}

async fn install(rig: &Rig, package: &str, npmrc: &str) -> std::path::PathBuf {
    let dir = rig.work_dir("project");
    std::fs::write(dir.join("package.json"), "{\"name\":\"project\",\"version\":\"1.0.0\"}").unwrap();
    std::fs::write(dir.join(".npmrc"), format!("registry=https://npm.example.test/\n{npmrc}")).unwrap();
    let npm = rig.tool("npm", "dev", &dir).await.args(["install", "--no-audit", "--no-fund", "--loglevel", "error"]);
    // Whatever the session says, the project's own registry is the one under test.
    let npm = npm.env("npm_config_registry", "https://npm.example.test/").env("npm_config_update_notifier", "false");
    npm.args([package]).succeed().await;
    dir.join("node_modules").join(package)
}

#[tokio::test]
async fn npm_installs_a_private_scoped_package() {
    let (registry, rig) = npm_rig().await;
    let installed = install(&rig, "@private/package", "//npm.example.test/:_authToken=${NPM_TOKEN}\n").await;
    assert!(installed.join("index.js").exists());
    let bearer = format!("Bearer {NPM}");
    assert!(registry.log().requests().iter().all(|seen| seen.field("authorization") == Some(&bearer)));
    assert!(registry.log().requests().iter().any(|seen| seen.target == "/@private%2fpackage"));
    rig.assert_no_secret();
}

#[tokio::test]
async fn npm_installs_a_public_package_anonymously() {
    let (registry, rig) = npm_rig().await;
    assert!(install(&rig, "plain-package", "").await.join("index.js").exists());
    assert!(registry.log().count() >= 2);
    rig.assert_no_secret();
}

#[tokio::test]
async fn pip_downloads_a_wheel() {
    let index = pip_origin::builder("pypi.example.test").await.start().await;
    let rig = rig().origin(&index).start().await;
    pip(&rig, "https://pypi.example.test/simple/").await;
    assert!(index.log().requests().iter().all(|seen| seen.field("authorization").is_none()));
}

#[tokio::test]
async fn pip_downloads_from_a_private_index_of_the_users_own() {
    let basic = "Basic X190b2tlbl9fOnB5cGktVGhlUmVhbFRva2VuTm9ib2R5TWF5U2VlMDEyMzQ1Njc4OQ==";
    let index = pip_origin::builder("pypi.example.test").await.require("authorization", basic).start().await;
    let credential = "[[credential]]\nname = \"pypi\"\nenv = \"PYPI_TOKEN\"\nhosts = [\"pypi.example.test\"]\n\
                      basic_user = \"__token__\"\nsession_env = \"PYPI_TOKEN\"";
    let rig = rig().origin(&index).table(credential).env("PYPI_TOKEN", PYPI).guards(PYPI).start().await;
    pip(&rig, "https://pypi.example.test/simple/").await;
    rig.assert_no_secret();
}

async fn pip(rig: &Rig, index: &str) {
    let dir = rig.work_dir("wheels");
    let pip = rig.direct_tool("python3", "default", &dir).await.args([
        "-m",
        "pip",
        "--isolated",
        "--no-cache-dir",
        "download",
    ]);
    let args = ["--quiet", "--disable-pip-version-check", "--no-deps", "--index-url", index, pip_origin::PROJECT];
    pip.args(args).succeed().await;
    assert_eq!(std::fs::read_dir(&dir).unwrap().filter(|file| is_wheel(file.as_ref().unwrap())).count(), 1);
}

fn is_wheel(file: &std::fs::DirEntry) -> bool {
    file.path().extension().is_some_and(|extension| extension == "whl")
}
