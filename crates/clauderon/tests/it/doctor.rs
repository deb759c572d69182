//! `doctor` on a machine where things work, and beside a tool that does not.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::rig;

fn result<'a>(checks: &'a Value, name: &str) -> &'a Value {
    checks.as_array().unwrap().iter().find(|check| check["check"] == name).unwrap_or_else(|| panic!("{name}: {checks}"))
}

#[tokio::test]
async fn tries_a_sandbox_and_the_tools_and_says_what_to_do() {
    let rig = rig().start().await;
    let tools = rig.work_dir("tools");
    // Stands before the real one, and asks nobody.
    std::fs::write(tools.join("wget"), "#!/bin/sh\necho Error: no way out >&2\nexit 1\n").unwrap();
    std::fs::set_permissions(tools.join("wget"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
    let doctor = rig.cli(["doctor", "--json"]).env("PATH", &path).finish().await;
    assert_eq!(doctor.code, 1, "{}", doctor.all());
    let checks = doctor.json();
    for works in ["user namespaces", "Landlock", "system call filters", "a sandbox", "daemon", "curl", "git", "python3"]
    {
        assert_eq!(result(&checks, works)["result"], "ok", "{checks}");
    }
    let wget = result(&checks, "wget");
    assert_eq!(wget["result"], "failed");
    assert!(wget["found"].as_str().unwrap().contains("no way out"), "{wget}");
    assert!(wget["remedy"].as_str().is_some());
    let told = rig.cli(["doctor"]).env("PATH", &path).finish().await;
    assert!(told.stdout.contains("failed") && told.stderr.contains("hint: wget: "), "{}", told.all());
    let list = rig.cli(["list", "--json"]).succeed().await.json();
    assert_eq!(list.as_array().unwrap().len(), 1, "it tries tools with a daemon of its own");
}

#[tokio::test]
async fn names_a_port_that_is_taken_and_half_a_certificate_authority() {
    let rig = rig().build();
    rig.write("proxy-ca.pem", 0o644, "not a certificate");
    let doctor = rig.cli(["doctor", "--json"]).finish().await;
    assert_eq!(doctor.code, 1, "{}", doctor.all());
    let checks = doctor.json();
    assert_eq!(result(&checks, "certificate authority")["result"], "failed");
    assert!(matches!(result(&checks, "daemon")["result"].as_str(), Some("absent" | "failed")), "{checks}");
    assert!(!rig.home().join("proxy-ca-key.pem").exists(), "it changes nothing");
}
