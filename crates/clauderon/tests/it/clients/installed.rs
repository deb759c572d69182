//! Clients from npm, which `./test` installs beside the build.

use std::path::{Path, PathBuf};

/// The script of an npm package; panics when `./test tools` has not installed it.
pub(super) fn script(path: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_BIN_EXE_clauderon")).ancestors().nth(2).unwrap();
    let script = target.join("clients/node_modules").join(path);
    assert!(script.exists(), "{} is missing: run `./test tools`", script.display());
    script
}
