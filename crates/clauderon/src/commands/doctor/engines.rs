//! The container engines, for `--backend docker` and `podman`.

use clauderon_container::{Connected, Engine, Kind};

use super::Check;

pub(super) async fn checks() -> Vec<Check> {
    let mut checks = Vec::new();
    for kind in [Kind::Docker, Kind::Podman] {
        checks.push(check(kind).await);
    }
    checks
}

async fn check(kind: Kind) -> Check {
    let name = format!("{kind} engine");
    let variable = |name: &str| std::env::var(name).ok();
    let (named, runtime_dir) = (variable(kind.variable()), variable("XDG_RUNTIME_DIR"));
    let engine = Engine { kind, named: named.as_deref(), runtime_dir: runtime_dir.as_deref() };
    match engine.connect().await {
        Ok(engine) => Check::ok(&name, found(kind, &engine)),
        // Who named one wants it; else it may just not be used here.
        Err(error) if named.is_some() => Check::failed(&name, error.what, error.hint.unwrap_or_default()),
        Err(error) => Check::absent(&name, error.what),
    }
}

fn found(kind: Kind, engine: &Connected) -> String {
    let what = if engine.kind == kind { String::new() } else { format!(", which is {}", engine.kind) };
    let rootless = if engine.is_rootless { ", rootless" } else { "" };
    format!("answers{what}, version {}{rootless}", engine.version)
}
