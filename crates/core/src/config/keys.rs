//! Where each key lives, for those who wrote it in the wrong table.

/// The place of a key that is known elsewhere, for a hint.
pub(super) fn elsewhere(name: &str) -> Option<String> {
    if TOP.contains(&name) {
        return Some(format!("`{name}` at the top of the file, before the first [table]"));
    }
    let (table, _) = TABLES.iter().find(|(_, keys)| keys.contains(&name))?;
    Some(format!("`{table}.{name}`"))
}

const TOP: &[&str] = &[
    "secrets_dir",
    "audit_enabled",
    "audit_log_path",
    "talos_gateway_port",
    "kubectl_proxy_port",
    "http_port",
    "bind",
    "anonymous",
    "allow_minting",
];

const TABLES: &[(&str, &[&str])] = &[
    ("onepassword", &["enabled", "op_path", "account", "cache_ttl", "fallback"]),
    ("logins", &["claude", "codex", "claude_token_url", "codex_token_url"]),
    ("upstream", &["resolve", "ca_file", "proxy", "no_proxy", "connect_timeout", "response_timeout"]),
    ("network", &["allow_private", "allow_hosts"]),
    ("read_only", &["allow"]),
    ("audit", &["rotate_bytes", "keep"]),
    (
        "limits",
        &[
            "header_timeout",
            "handshake_timeout",
            "idle_timeout",
            "max_head_bytes",
            "max_fields",
            "max_target_bytes",
            "max_connections",
            "max_connections_per_session",
            "session_tmp_bytes",
            "session_processes",
        ],
    ),
];
