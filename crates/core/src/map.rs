//! The map that every request looks into.

use std::collections::HashMap;

/// A map whose keys come from the daemon itself (configured hosts, names, what it issued), so that nobody outside can choose
/// colliding ones: it hashes several times as fast as one that must expect that.
pub type TrustedMap<K, V> = HashMap<K, V, foldhash::fast::FixedState>;
