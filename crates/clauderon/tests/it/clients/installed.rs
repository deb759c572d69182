//! Clients from npm, which `./test` installs beside the build.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use clauderon_testkit::rig::RigBuilder;
use serde_json::Value;

/// The script of an npm package; panics when `./test tools` has not installed it.
pub(super) fn script(path: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_BIN_EXE_clauderon")).ancestors().nth(2).unwrap();
    let script = target.join("clients/node_modules").join(path);
    assert!(script.exists(), "{} is missing: run `./test tools`", script.display());
    script
}

/// The user's own login, where their own agent keeps it.
pub(super) fn login(rig: &RigBuilder, file: &str, json: &Value) {
    let path = rig.outside().join(file);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, json.to_string()).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
}
