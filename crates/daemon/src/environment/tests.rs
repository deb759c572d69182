use std::collections::BTreeMap;

use clauderon_core::access::AccessMode;
use clauderon_core::config::ServiceSettings;
use clauderon_core::host::HostPattern;
use clauderon_core::placeholder::{TokenKind, mint};
use clauderon_core::session::{SessionId, SessionName};

use super::*;
use crate::store::Status;

fn session() -> StoredSession {
    StoredSession {
        id: SessionId::parse("7f3a9c21").unwrap(),
        name: SessionName::parse("review").unwrap(),
        mode: AccessMode::ReadOnly,
        backend: "local".into(),
        agent: "none".into(),
        repo: None,
        prompt: None,
        command: Vec::new(),
        created_ms: 0,
        status: Status::Ready,
        process: None,
        exit_code: None,
        credentials: None,
        allow_hosts: None,
        forwards: Vec::new(),
        owner: None,
    }
}

fn settings() -> Settings {
    let mut settings = Settings::defaults("/h".as_ref());
    let service = |make: fn(&mut ServiceSettings)| {
        let mut service = ServiceSettings::default();
        make(&mut service);
        service
    };
    let enterprise = service(|service| service.hosts = vec![HostPattern::parse("git.corp.example").unwrap()]);
    let npm = service(|service| service.registries = vec!["https://npm.corp.example:8443/team/".into()]);
    let docker = service(|service| service.username = Some("ann".into()));
    settings.services = BTreeMap::from([("github".into(), enterprise), ("npm".into(), npm), ("docker".into(), docker)]);
    settings
}

fn with_grounds<T>(home: &Home, kinds: &[CredentialKind], test: impl FnOnce(&Grounds<'_>) -> T) -> T {
    let (session, settings) = (session(), settings());
    let placeholder = |kind: &CredentialKind| {
        let name = kind.credential();
        let placeholder = mint(&session.id, &name, &TokenKind::default());
        (name, placeholder)
    };
    let ca = tempfile::tempdir().unwrap();
    let issuer = Issuer::load_or_create(&ca.path().join("ca.pem"), &ca.path().join("key.pem")).unwrap();
    let offered = |name: &str| Offered { name: name.into(), cluster: "c".into(), namespace: Some("apps".into()) };
    let talos = |name: &str| talos::Offered { name: name.into(), nodes: vec!["10.0.0.2".into()], cluster: None };
    test(&Grounds {
        session: &session,
        proxy_url: &proxy_url(&session.name, "TOKEN", "0.0.0.0:3030".parse().unwrap()),
        gateways: Gateways { kubernetes: "0.0.0.0:18081".parse().unwrap(), talos: "0.0.0.0:18082".parse().unwrap() },
        talos: Ok((vec![talos("dev"), talos("prod")], "prod".into())),
        clusters: Ok((vec![offered("dev"), offered("prod")], "prod".into())),
        issuer: &issuer,
        home,
        npmrc: &home.user_home().join(".npmrc"),
        settings: &settings,
        placeholders: kinds.iter().map(placeholder).collect(),
        profiles: Profiles::default(),
    })
}

#[test]
fn the_environment_of_a_session() {
    let home = Home::at("/h", "/home/ann");
    let env = with_grounds(&home, &CredentialKind::ALL, environment);
    let lines: Vec<String> = env.set.iter().map(|(name, value)| format!("{name}={value}")).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn a_credential_that_is_not_there_leaves_no_trace() {
    let home = Home::at("/h", "/home/ann");
    let env = with_grounds(&home, &[], environment);
    assert!(env.set.iter().all(|(name, value)| name != "GITHUB_TOKEN" && !value.contains("password=")));
    assert!(env.set.iter().any(|(_, value)| value == "git@github.com:"), "ssh would go around the proxy");
}

#[test]
fn what_could_hold_a_secret_is_removed_and_the_rest_stays() {
    let home = Home::at("/h", "/home/ann");
    let env = with_grounds(&home, &[], environment);
    for secret in [
        "GITHUB_TOKEN",
        "CLAUDE_CODE_OAUTH_TOKEN",
        "SENTRY_AUTH_TOKEN",
        "OP_SERVICE_ACCOUNT_TOKEN",
        "OP_SESSION_my",
        "AWS_PROFILE",
        "STRIPE_SECRET_KEY",
        "db_password",
        "SSL_CERT_DIR",
        "ALL_PROXY",
        "SSH_AUTH_SOCK",
        "npm_config_//registry.example/:_authToken",
    ] {
        assert!(env.removes(secret), "{secret}");
    }
    for plain in ["PATH", "HOME", "EDITOR", "npm_config_registry", "KEYBOARD", "CARGO_HOME"] {
        assert!(!env.removes(plain), "{plain}");
    }
}

#[test]
fn the_generated_files_hold_placeholders_and_the_users_registries() {
    let dir = tempfile::tempdir().unwrap();
    let npmrc = "registry = https://npm.corp.example:8443/team/\n@corp:registry=https://u:p@x.example/\n\
                 @team:registry=https://npm.corp.example/\n//npm.corp.example:8443/team/:_authToken=REAL\nsave-exact=true\n";
    std::fs::write(dir.path().join(".npmrc"), npmrc).unwrap();
    let home = Home::at(dir.path().join("h"), dir.path()).create().unwrap();
    let kinds = [CredentialKind::Npm, CredentialKind::Docker];
    let session_dir = with_grounds(&home, &kinds, |grounds| {
        files::write(grounds).unwrap();
        grounds.home.session_files(&grounds.session.id)
    });
    let read = |file: &str| std::fs::read_to_string(session_dir.join(file)).unwrap();
    assert_eq!(
        read("npmrc"),
        "registry=https://npm.corp.example:8443/team/\n@team:registry=https://npm.corp.example/\n\
         //npm.corp.example:8443/team/:_authToken=${NPM_TOKEN}\n"
    );
    assert_eq!(read("wgetrc"), format!("ca_certificate = {}\n", home.bundle().display()));
    let docker: serde_json::Value = serde_json::from_str(&read("docker/config.json")).unwrap();
    let login = docker["auths"]["https://index.docker.io/v1/"]["auth"].as_str().unwrap();
    let login = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, login).unwrap();
    assert_eq!(String::from_utf8(login).unwrap(), "ann:dckr_pat_clauderon_7f3a9c21_000000");
}

#[test]
fn the_proxy_is_where_a_process_of_this_machine_reaches_it() {
    for (bound, reached) in [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1"), ("10.0.0.1:1", "10.0.0.1:1")] {
        assert_eq!(reachable(bound.parse().unwrap()).to_string(), reached);
    }
}
