//! Where an engine listens on this machine.

use std::path::{Path, PathBuf};

use crate::engine::Kind;
use crate::error::EngineError;

/// The engine's socket: `named`, which is what the variable of the engine's own tools says, or where it usually lies.
pub(crate) fn find(kind: Kind, named: Option<&str>, runtime_dir: Option<&str>) -> Result<PathBuf, EngineError> {
    if let Some(named) = named.filter(|named| !named.is_empty()) {
        let path = named.strip_prefix("unix://").filter(|path| Path::new(path).is_absolute());
        return path.map(PathBuf::from).ok_or_else(|| {
            EngineError::new(format!("{} is not a socket of this machine: {named}", kind.variable())).hint(
                "a session's container reaches the proxy by a Unix socket, so its engine must run on this machine",
            )
        });
    }
    let places = usual(kind, runtime_dir);
    let found = places.iter().find(|place| place.exists());
    found.cloned().ok_or_else(|| {
        let looked: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
        EngineError::new(format!("no {kind} engine listens on this machine: there is no {}", looked.join(" or ")))
            .hint(kind.how_to_start())
    })
}

/// The user's own engine first: it has fewer rights.
fn usual(kind: Kind, runtime_dir: Option<&str>) -> Vec<PathBuf> {
    let runtime = runtime_dir.map(PathBuf::from);
    let (of_user, of_machine) = match kind {
        Kind::Docker => ("docker.sock", "/var/run/docker.sock"),
        Kind::Podman => ("podman/podman.sock", "/run/podman/podman.sock"),
    };
    runtime.map(|dir| dir.join(of_user)).into_iter().chain([of_machine.into()]).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use super::*;

    #[test]
    fn an_engine_elsewhere_is_refused_and_a_missing_one_is_named() {
        for elsewhere in ["tcp://10.0.0.1:2375", "ssh://host", "unix://relative.sock"] {
            let error = find(Kind::Docker, Some(elsewhere), None).unwrap_err();
            assert!(error.what.contains("DOCKER_HOST") && error.what.contains(elsewhere), "{error}");
        }
        assert_eq!(find(Kind::Podman, Some("unix:///x/p.sock"), None).unwrap(), Path::new("/x/p.sock"));
        let dir = tempfile::tempdir().unwrap();
        let runtime = dir.path().to_str();
        let socket = dir.path().join("docker.sock");
        std::fs::write(&socket, "").unwrap();
        assert_eq!(find(Kind::Docker, None, runtime).unwrap(), socket);
        let error = find(Kind::Podman, Some(""), runtime);
        if let Err(error) = error {
            assert!(error.what.contains("podman/podman.sock") && error.hint.unwrap().contains("podman.socket"));
        }
    }
}
