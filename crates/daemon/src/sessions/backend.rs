//! The ways in which a session is kept apart, by name.

use clauderon_container::Kind;

/// A plain child process.
pub(crate) const LOCAL: &str = "local";
/// Linux namespaces.
pub(crate) const SANDBOX: &str = "sandbox";

/// The backend of this name.
pub(crate) fn known(name: &str) -> Option<&'static str> {
    [LOCAL, SANDBOX, Kind::Docker.as_str(), Kind::Podman.as_str()].into_iter().find(|known| *known == name)
}

/// Whether a session of this backend has no way out but its socket.
pub(crate) fn isolates(name: &str) -> bool {
    name != LOCAL
}

/// The engine that has the containers of this backend.
pub(crate) fn engine(name: &str) -> Option<Kind> {
    [Kind::Docker, Kind::Podman].into_iter().find(|kind| kind.as_str() == name)
}
