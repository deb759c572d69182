//! The product, tested through the doors its users have: the real binary, real sockets, real tools.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing unwrap or index is the test's failure")]

mod alarms;
mod attach;
mod audit;
mod awkward;
mod catalogue;
mod cli;
mod clients;
mod containers;
mod crash;
mod credentials;
mod curl;
mod daemon;
mod derived;
mod doctor;
mod explain;
mod forward;
mod framing;
mod git;
mod hardship;
mod homes;
mod hostile;
mod identity;
mod kubernetes;
mod kubernetes_sources;
mod leaks;
mod malformed;
mod modes;
mod oauth;
mod onepassword;
mod origins;
mod packages;
mod read_only_classes;
mod renewal;
mod runtimes;
mod sandbox;
mod scrub;
mod services;
mod streaming;
mod talos;
mod troubleshooting;
mod user_credentials;
mod worktree;

use clauderon_testkit::origin::{Origin, OriginBuilder};
use clauderon_testkit::rig::{Rig, RigBuilder};

/// The user's GitHub token, which no agent may see.
const GITHUB: &str = "ghp_TheRealTokenNobodyMaySee0123456789";

/// A rig around the binary under test.
fn rig() -> RigBuilder {
    Rig::new(env!("CARGO_BIN_EXE_clauderon"))
}

/// A rig that holds the GitHub token and finds `origin`.
fn github_rig(origin: &Origin) -> RigBuilder {
    rig().secret("github_token", GITHUB).origin(origin)
}

/// GitHub's API, which fails unless the real token arrives exactly.
fn github() -> OriginBuilder {
    Origin::https("api.github.com").require("authorization", &format!("Bearer {GITHUB}"))
}
