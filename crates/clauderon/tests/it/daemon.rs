//! The daemon's life: what it refuses to start with, how it ends, and what it keeps.

use std::os::unix::fs::PermissionsExt as _;

use clauderon_testkit::rig::Rig;
use clauderon_testkit::run::{Finished, Run};
use clauderon_testkit::wait;
use http::Request;

use crate::{GITHUB, github, github_rig, rig};

/// Runs a daemon that is expected to refuse: gives its exit code and output.
async fn refused(rig: &Rig) -> Finished {
    rig.cli(["daemon", "--http-port", "0"]).finish().await
}

fn assert_says(finished: &Finished, code: i32, words: &[&str]) {
    assert_eq!(finished.code, code, "{}", finished.all());
    for word in words {
        assert!(finished.stderr.contains(word), "{word:?} is missing in: {}", finished.all());
    }
    assert!(
        !finished.stderr.contains("panicked") && !finished.stderr.contains("RUST_BACKTRACE"),
        "{}",
        finished.stderr
    );
}

fn set_mode(path: &std::path::Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[tokio::test]
async fn it_says_where_it_listens_and_makes_its_files() {
    let rig = rig().start().await;
    let address = format!("listening on {}", rig.addr());
    wait::until("the address", || rig.output().contains(&address).then_some(())).await;
    for (path, mode) in [
        ("proxy-ca.pem", 0o644),
        ("proxy-ca-key.pem", 0o600),
        ("ca-bundle.pem", 0o644),
        ("secrets", 0o700),
        ("db.sqlite", 0o600),
        ("control.sock", 0o600),
        ("api-token", 0o600),
        ("logs", 0o700),
    ] {
        let metadata = std::fs::metadata(rig.home().join(path)).unwrap_or_else(|_| panic!("{path} is missing"));
        assert_eq!(metadata.permissions().mode() & 0o777, mode, "{path}");
    }
}

#[tokio::test]
async fn port_0_picks_a_free_port_and_prints_it() {
    let mut rig = rig().port(0).build();
    rig.spawn();
    let line = wait::until("the address", || {
        let output = rig.output();
        output.lines().find(|line| line.contains("listening on 127.0.0.1:")).map(str::to_owned)
    })
    .await;
    let digits: String = line.split("127.0.0.1:").nth(1).unwrap().chars().take_while(char::is_ascii_digit).collect();
    assert_ne!(digits.parse::<u16>().unwrap(), 0);
    assert_eq!(rig.terminate().await, Some(0));
}

#[tokio::test]
async fn health_tells_what_it_should() {
    let rig = rig().start().await;
    let mut wire = rig.anonymous().wire().await;
    let reply = wire.exchange(format!("GET /health HTTP/1.1\r\nHost: {}\r\n\r\n", rig.addr())).await.unwrap();
    let health = reply.json();
    assert_eq!((reply.status(), &health["status"]), (200, &"ok".into()));
    assert!(health["version"].is_string() && health["uptime_s"].is_u64() && health["sessions"].is_u64(), "{health}");
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let mut rig = rig().build();
    let taken = std::net::TcpListener::bind(rig.addr()).unwrap();
    rig.spawn();
    assert_eq!(rig.ended().await, Some(1));
    let output = rig.output();
    assert!(output.contains(&rig.addr().port().to_string()) && output.contains("in use"), "{output}");
    drop(taken);
}

#[tokio::test]
async fn a_home_that_cannot_be_written_is_named() {
    let rig = rig().build();
    let home = rig.outside().join("a-file");
    std::fs::write(&home, "").unwrap();
    let home = home.join("home").display().to_string();
    let finished = rig.cli(["daemon", "--http-port", "0"]).env("CLAUDERON_HOME", home.clone()).finish().await;
    assert!([1, 2].contains(&finished.code));
    assert_says(&finished, finished.code, &[&home]);
}

#[tokio::test]
async fn secrets_too_open_are_refused_with_the_mending_command() {
    let rig = rig().secret("github_token", GITHUB).build();
    let file = rig.home().join("secrets/github_token");
    set_mode(&file, 0o644);
    let chmod = format!("chmod 600 {}", file.display());
    let listed = rig.cli(["config", "credentials"]).finish().await;
    assert!(listed.all().contains(&chmod), "{chmod:?} is missing in: {}", listed.all());
    let row = rig.cli(["config", "credentials", "--json"]).finish().await.json();
    let row = row.as_array().unwrap().iter().find(|row| row["name"] == "github").unwrap().clone();
    assert_eq!(row["available"], false);
    rig.assert_no_secret();
}

#[tokio::test]
async fn a_secrets_directory_too_open_is_refused() {
    let origin = github().reply("/", "x").start().await;
    let mut rig = github_rig(&origin).build();
    set_mode(&rig.home().join("secrets"), 0o755);
    rig.start().await;
    let answered = rig.anonymous().get("https://api.github.com/").await;
    assert!([401, 503].contains(&answered.status.as_u16()), "{}", answered.text());
    assert!(origin.log().requests().iter().all(|seen| seen.field("authorization").is_none()));
    let chmod = format!("chmod 700 {}", rig.home().join("secrets").display());
    let listed = rig.cli(["config", "credentials", "--json"]).succeed().await.stdout;
    assert!(listed.contains(&chmod), "{chmod:?} is missing in: {listed}");
    assert!(rig.output().contains(&chmod), "the daemon's log says it too: {}", rig.output());
}

#[tokio::test]
async fn half_a_ca_is_refused() {
    for half in ["proxy-ca.pem", "proxy-ca-key.pem"] {
        let mut rig = rig().start().await;
        rig.terminate().await;
        std::fs::remove_file(rig.home().join(half)).unwrap();
        let finished = refused(&rig).await;
        assert_says(&finished, finished.code, &["proxy-ca.pem", "proxy-ca-key.pem"]);
        assert_ne!(finished.code, 0);
        assert!(!rig.home().join(half).exists(), "a new {half} was made silently");
    }
}

#[tokio::test]
async fn a_ca_key_of_another_certificate_is_refused() {
    let (mut one, mut two) = (rig().start().await, rig().start().await);
    one.terminate().await;
    two.terminate().await;
    let key = std::fs::read_to_string(two.home().join("proxy-ca-key.pem")).unwrap();
    one.write("proxy-ca-key.pem", 0o600, &key);
    let finished = refused(&one).await;
    assert_ne!(finished.code, 0);
    assert_says(&finished, finished.code, &["proxy-ca-key.pem"]);
    assert!(!finished.all().contains("PRIVATE KEY"));
}

#[tokio::test]
async fn deleting_both_ca_files_makes_a_new_ca() {
    let origin = github().reply("/", "x").start().await;
    let mut rig = github_rig(&origin).start().await;
    let before = rig.ca_pem();
    rig.terminate().await;
    std::fs::remove_file(rig.home().join("proxy-ca.pem")).unwrap();
    std::fs::remove_file(rig.home().join("proxy-ca-key.pem")).unwrap();
    rig.start().await;
    assert_ne!(rig.ca_pem(), before);
    assert_eq!(rig.anonymous().get("https://api.github.com/").await.status, 200);
    let curl = rig.direct_tool("curl", "default", rig.outside()).await;
    curl.args(["-sSf", "https://api.github.com/"]).succeed().await;
}

#[tokio::test]
async fn the_leaf_is_for_exactly_the_asked_host() {
    let origin = github().reply("/", "x").start().await;
    let rig = github_rig(&origin).start().await;
    let wire = rig.anonymous().tunnel("api.github.com").await;
    let leaf = rig.outside().join("leaf.der");
    std::fs::write(&leaf, &wire.peer().chain[0]).unwrap();
    let args = ["x509", "-inform", "DER", "-in", "leaf.der", "-noout", "-text"];
    let text = Run::new("openssl").args(args).dir(rig.outside()).succeed().await.stdout;
    assert!(text.contains("DNS:api.github.com\n") && !text.contains("DNS:*"), "{text}");
    assert!(text.contains("prime256v1") && text.contains("CA:FALSE"), "{text}");
    let ca = std::fs::read_to_string(rig.home().join("proxy-ca-key.pem")).unwrap();
    assert!(ca.contains("PRIVATE KEY"));
    let chain: Vec<_> = wire.peer().chain.iter().map(|certificate| certificate.to_vec()).collect();
    assert_eq!(chain.len(), chain.iter().collect::<std::collections::HashSet<_>>().len());
}

#[tokio::test]
async fn broken_toml_is_refused_with_its_place() {
    let rig = rig().build();
    rig.write("proxy.toml", 0o644, "audit_enabled = true\nbind = \n");
    let finished = refused(&rig).await;
    assert_says(&finished, 2, &["proxy.toml", "2"]);
    assert_says(&rig.cli(["config", "check"]).finish().await, 2, &["proxy.toml"]);
}

#[tokio::test]
async fn an_unknown_key_is_refused_with_a_suggestion() {
    let rig = rig().build();
    rig.write("proxy.toml", 0o644, "audit_enable = true\n[upstream]\nresolv = {}\n");
    let finished = refused(&rig).await;
    assert_says(&finished, 2, &["audit_enable", "audit_enabled", "resolv", "resolve"]);
}

#[tokio::test]
async fn a_broken_change_leaves_the_old_settings_in_force() {
    let origin = github().reply("/", "x").start().await;
    let rig = github_rig(&origin).start().await;
    let good = std::fs::read_to_string(rig.home().join("proxy.toml")).unwrap();
    rig.write("proxy.toml", 0o644, "this is = not [toml");
    wait::until("the report", || rig.output().contains("proxy.toml").then_some(())).await;
    assert_eq!(rig.anonymous().get("https://api.github.com/").await.status, 200);
    rig.write("proxy.toml", 0o644, &good.replace("[upstream]", "anonymous = \"reject\"\n[upstream]"));
    let began = std::time::Instant::now();
    while rig.anonymous().connect("api.github.com:443").await.is_ok() {
        assert!(began.elapsed() < wait::LIMIT, "the mended settings never came into force");
    }
}

#[tokio::test]
async fn a_second_daemon_is_refused() {
    let rig = rig().start().await;
    let finished = refused(&rig).await;
    assert_says(&finished, 1, &[&rig.home().display().to_string()]);
    assert!(finished.stderr.contains("already") || finished.stderr.contains("running"), "{}", finished.stderr);
    let mut wire = rig.anonymous().wire().await;
    let reply = wire.exchange(format!("GET /health HTTP/1.1\r\nHost: {}\r\n\r\n", rig.addr())).await.unwrap();
    assert_eq!(reply.status(), 200, "the first daemon suffered");
}

#[tokio::test]
async fn a_database_from_a_newer_version_is_refused_and_left_alone() {
    let mut rig = rig().start().await;
    rig.create("kept", &[]).await;
    rig.terminate().await;
    let script = "import sqlite3; db = sqlite3.connect('.clauderon/db.sqlite'); db.execute('pragma user_version = 9999'); db.commit()";
    Run::new("python3").args(["-c", script]).dir(rig.outside()).succeed().await;
    let finished = refused(&rig).await;
    assert_ne!(finished.code, 0);
    assert_says(&finished, finished.code, &["db.sqlite", "newer"]);
    let check =
        "import sqlite3; print(sqlite3.connect('.clauderon/db.sqlite').execute('pragma user_version').fetchone()[0])";
    let version = Run::new("python3").args(["-c", check]).dir(rig.outside()).succeed().await.stdout;
    assert_eq!(version.trim(), "9999");
}

#[tokio::test]
async fn sigterm_lets_requests_in_flight_finish() {
    let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let opened = std::sync::Arc::clone(&gate);
    let origin = github().route("/slow", move |call| {
        let gate = std::sync::Arc::clone(&opened);
        async move {
            call.collect().await;
            gate.acquire().await.unwrap().forget();
            clauderon_testkit::origin::ok("finished")
        }
    });
    let origin = origin.start().await;
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT] {
        let mut rig = github_rig(&origin).start().await;
        let agent = rig.anonymous();
        let (mut h1, mut h2) = (agent.h1("api.github.com").await, agent.h2("api.github.com").await);
        let before = origin.log().count();
        let first = tokio::spawn(async move { h1.get("/slow").await.text() });
        let second = tokio::spawn(async move { h2.get("/slow").await.text() });
        origin.log().wait(before + 2).await;
        rig.signal(signal);
        // It no longer accepts, and has not ended: two requests are still out.
        let addr = rig.addr();
        let began = std::time::Instant::now();
        while tokio::net::TcpStream::connect(addr).await.is_ok() {
            assert!(began.elapsed() < wait::LIMIT, "it still accepts");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        gate.add_permits(2);
        assert_eq!((first.await.unwrap().as_str(), second.await.unwrap().as_str()), ("finished", "finished"));
        assert_eq!(rig.ended().await, Some(0));
        let lines = rig.audit();
        assert_eq!(lines.iter().filter(|line| line.get("response_code") == 200).count(), 2);
    }
}

#[tokio::test]
async fn sigterm_ends_an_endless_request_at_last() {
    let origin = github().route("/stuck", |_| std::future::pending()).start().await;
    let mut rig = github_rig(&origin).start().await;
    let mut client = rig.anonymous().h1("api.github.com").await;
    let asking = tokio::spawn(async move {
        let request = Request::get("/stuck").body(clauderon_testkit::body::empty()).unwrap();
        client.start(request).await.is_ok()
    });
    origin.log().wait(1).await;
    assert_eq!(rig.terminate().await, Some(0));
    asking.abort();
    assert_cut_off(&rig, "/stuck").await;
}

/// The log is complete when the daemon has ended, not only after the next start.
async fn assert_cut_off(rig: &Rig, path: &str) {
    let line = rig.audit_path(path).await;
    assert!(line.text("error").contains("the daemon stopped"), "{}", line.raw);
    let verified = rig.cli(["audit", "verify"]).finish().await;
    assert_eq!(verified.code, 0, "{}", verified.all());
}

#[tokio::test]
async fn a_second_signal_ends_the_waiting() {
    let origin = github().route("/*", |_| std::future::pending()).start().await;
    let [term, int] = [rustix::process::Signal::TERM, rustix::process::Signal::INT];
    for (first, second) in [(term, term), (int, term), (term, int)] {
        let mut rig = github_rig(&origin).start().await;
        let agent = rig.anonymous();
        let (mut h1, mut h2) = (agent.h1("api.github.com").await, agent.h2("api.github.com").await);
        let before = origin.log().count();
        let asking = tokio::spawn(async move {
            let request = |path| Request::get(path).body(clauderon_testkit::body::empty()).unwrap();
            let (first, second) = tokio::join!(h1.start(request("/h1")), h2.start(request("/h2")));
            first.is_ok() || second.is_ok()
        });
        origin.log().wait(before + 2).await;
        rig.signal(first);
        let begun = || rig.output().contains("requests under way may finish").then_some(());
        wait::until("the stop's beginning", begun).await;
        assert!(!rig.output().contains("cut off"));
        rig.signal(second);
        assert_eq!(rig.ended().await, Some(0));
        assert!(rig.output().contains("cut off"));
        asking.abort();
        assert_cut_off(&rig, "/h1").await;
        assert_cut_off(&rig, "/h2").await;
    }
}

#[tokio::test]
async fn the_control_socket_is_closed_to_other_users() {
    let rig = rig().start().await;
    // As if somebody had loosened every mode.
    for (path, mode) in
        [(rig.outside().to_owned(), 0o755), (rig.home(), 0o755), (rig.home().join("control.sock"), 0o666)]
    {
        set_mode(&path, mode);
    }
    let own = rustix::process::geteuid().as_raw();
    // Only root can start a process of another user; anyone else checks a process of their own.
    let other = if own == 0 { 65_534 } else { own };
    for uid in [own, other] {
        let mut curl = tokio::process::Command::new("curl");
        curl.args(["-sS", "--max-time", "20", "--unix-socket"]).arg(rig.home().join("control.sock"));
        curl.arg("http://localhost/v1/daemon").env_clear().env("PATH", "/usr/bin:/bin").current_dir("/").uid(uid);
        let output = wait::within("curl", curl.output()).await.unwrap();
        assert_eq!(output.status.success(), uid == own, "{uid}: {output:?}");
        assert_eq!(output.stdout.is_empty(), uid != own, "{uid}");
    }
    assert_eq!(rig.output().contains("turned away from the control socket"), own != other);
}

#[tokio::test]
async fn a_restart_keeps_sessions_tokens_and_placeholders() {
    let origin = github().reply("/", "x").start().await;
    let mut rig = github_rig(&origin).start().await;
    rig.create("kept", &["--access-mode", "read-only"]).await;
    let agent = rig.agent("kept").await;
    let before = rig.session_env("kept").await;
    for crash in [false, true] {
        if crash {
            rig.kill9().await;
        } else {
            assert_eq!(rig.terminate().await, Some(0));
        }
        rig.start().await;
        assert_eq!(agent.get("https://api.github.com/").await.status, 200, "the old token still works");
        let mut client = agent.h1("api.github.com").await;
        assert_eq!(client.send(http::Method::POST, "/", "").await.status, 403, "the mode was kept");
        assert_eq!(rig.session_env("kept").await["GITHUB_TOKEN"], before["GITHUB_TOKEN"]);
    }
}

#[tokio::test]
async fn a_loose_bind_needs_credentials() {
    let origin = github().reply("/", "x").start().await;
    let rig = github_rig(&origin).argument("--bind").argument("0.0.0.0").start().await;
    assert_eq!(rig.anonymous().connect("api.github.com:443").await.err().unwrap().status(), 407);
    rig.create("dev", &[]).await;
    assert_eq!(rig.agent("dev").await.get("https://api.github.com/").await.status, 200);
}

#[tokio::test]
async fn core_dumps_are_off_and_arguments_hold_no_secret() {
    let rig = rig().secret("github_token", GITHUB).start().await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", rig.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    let words: Vec<_> = core.split_whitespace().collect();
    assert_eq!(words[4], "0", "{core}");
    let arguments = std::fs::read_to_string(format!("/proc/{}/cmdline", rig.pid())).unwrap();
    assert!(!arguments.contains(GITHUB));
}
