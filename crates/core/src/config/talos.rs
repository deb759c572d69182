//! `[services.talos]`: which clusters and nodes sessions reach through the gateway, and what they may read there.

use super::document::Table;

/// `[services.talos]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TalosSettings {
    /// The only contexts of the user's talosconfig that sessions get; `None` means all.
    pub contexts: Option<Vec<String>>,
    /// The only nodes that sessions may call, by the names they are called by; `None` means all.
    pub nodes: Option<Vec<String>>,
    /// Whether read-write sessions may read what may hold secrets (files, captures, machine configurations).
    pub secret_reads: bool,
}

/// Reads the keys that only Talos has.
pub(super) fn read(table: &mut Table<'_, '_>) -> TalosSettings {
    TalosSettings {
        contexts: table.strings("contexts", |text| Ok(text.to_owned())),
        nodes: table.strings("nodes", |text| Ok(text.to_owned())),
        secret_reads: table.boolean("secret_reads").unwrap_or_default(),
    }
}
