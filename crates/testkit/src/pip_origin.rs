//! A Python package index with one wheel.

use crate::origin::{Origin, OriginBuilder, ok, with_field};
use crate::run::Run;

/// The project the index has.
pub const PROJECT: &str = "clauderon-test-wheel";

/// An index at `https://name/simple/`, still open to further conditions.
pub async fn builder(name: &str) -> OriginBuilder {
    let wheel = wheel().await;
    Origin::https(name)
        .h1_only()
        .route("/simple/clauderon-test-wheel/", |call| async move {
            call.collect().await;
            with_field(ok(format!("<a href=\"/files/{WHEEL}\">{WHEEL}</a>")), "content-type", "text/html")
        })
        .route("/files/*", move |call| {
            let wheel = wheel.clone();
            async move {
                call.collect().await;
                with_field(ok(wheel), "content-type", "application/octet-stream")
            }
        })
}

async fn wheel() -> Vec<u8> {
    let dir = tempfile::tempdir().expect("the temporary directory is writable");
    Run::new("python3").args(["-c", SCRIPT, WHEEL]).dir(dir.path()).succeed().await;
    std::fs::read(dir.path().join(WHEEL)).expect("python wrote it")
}

const WHEEL: &str = "clauderon_test_wheel-1.0-py3-none-any.whl";

const SCRIPT: &str = r#"
import sys, zipfile
info = "clauderon_test_wheel-1.0.dist-info/"
with zipfile.ZipFile(sys.argv[1], "w") as wheel:
    wheel.writestr("clauderon_test_wheel.py", "")
    wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\nName: clauderon-test-wheel\nVersion: 1.0\n")
    wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr(info + "RECORD", "")
"#;
