//! Sessions in a real sandbox: what works, and that nothing gets out.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use clauderon_testkit::git_origin::{GitOrigin, commit_all, git};
use clauderon_testkit::npm_origin;
use clauderon_testkit::origin::Origin;
use clauderon_testkit::rig::Rig;
use clauderon_testkit::run::{Finished, Run};
use clauderon_testkit::wait;
use rustix::process::Signal;
use serde_json::json;

use crate::{GITHUB, github, github_rig, rig};

/// A command in a sandbox of its own, in a project directory.
fn sandboxed<'a>(rig: &Rig, options: &[&'a str], words: &[&'a str]) -> Run {
    let args = ["run", "--backend", "sandbox"].iter().chain(options).chain(&["--"]).chain(words);
    rig.cli(args.copied()).dir(&rig.work_dir("project"))
}

#[tokio::test]
async fn curl_gets_out_by_the_proxy_and_with_a_placeholder() {
    let origin = github().reply("/user", "octocat").start().await;
    let rig = github_rig(&origin).start().await;
    let script = "curl -sSf -H \"Authorization: Bearer $GITHUB_TOKEN\" https://api.github.com/user; echo; env";
    let finished = sandboxed(&rig, &[], &["sh", "-c", script]).succeed().await;
    assert!(finished.stdout.starts_with("octocat\n"), "{}", finished.all());
    assert!(finished.stdout.contains("clauderon_placeholder"));
    assert!(!finished.stderr.contains("does not isolate"), "{}", finished.stderr);
    assert_eq!(origin.log().only().field("authorization"), Some(format!("Bearer {GITHUB}").as_str()));
    rig.assert_no_secret();
}

#[tokio::test]
async fn a_client_that_knows_no_proxy_is_led_to_it() {
    let origin = github().reply("/user", "octocat").start().await;
    let plain = Origin::http("plain.example.test").reply("/", "in clear").start().await;
    let rig = github_rig(&origin).origin(&plain).start().await;
    let script =
        "curl -sSf --noproxy '*' https://api.github.com/user; curl -sSf --noproxy '*' http://plain.example.test/";
    assert_eq!(sandboxed(&rig, &[], &["sh", "-c", script]).succeed().await.stdout, "octocatin clear");
    let unknown = sandboxed(&rig, &[], &["curl", "-sS", "--noproxy", "*", "http://nowhere.invalid/"]).finish().await;
    assert!(unknown.stdout.contains("upstream_dns"), "{}", unknown.all());
    assert_eq!(plain.log().only().authority, "plain.example.test");
    rig.assert_no_secret();
}

#[tokio::test]
async fn python_needs_nothing_but_its_environment() {
    let origin = github().reply("/user", "octocat").start().await;
    let rig = github_rig(&origin).start().await;
    let script = "import urllib.request as u; print(u.urlopen('https://api.github.com/user').read().decode())";
    assert_eq!(sandboxed(&rig, &[], &["/usr/bin/python3", "-c", script]).succeed().await.stdout, "octocat\n");
}

#[tokio::test]
async fn the_environment_is_made_from_a_list() {
    let mut rig = rig().build();
    rig.secret("github_token", GITHUB);
    rig.start().await;
    let hostile =
        ["NO_PROXY", "ALL_PROXY", "SSL_CERT_DIR", "LD_PRELOAD", "BASH_ENV", "NODE_OPTIONS", "PYTHONPATH", "GIT_DIR"];
    let hostile =
        hostile.into_iter().chain(["SSH_AUTH_SOCK", "DOCKER_HOST", "OP_SESSION_x", "DBUS_SESSION_BUS_ADDRESS"]);
    let run = hostile.clone().fold(sandboxed(&rig, &[], &["env", "-0"]), |run, name| run.env(name, "/inherited"));
    let printed = run.succeed().await.stdout;
    let env: BTreeMap<_, _> = printed.split('\0').filter_map(|line| line.split_once('=')).collect();
    let (bundle, ca) = (rig.home().join("ca-bundle.pem"), rig.home().join("proxy-ca.pem"));
    let (bundle, ca, way) = (bundle.to_str().unwrap(), ca.to_str().unwrap(), "http://127.0.0.1:3128");
    let around = "localhost,127.0.0.1,::1";
    for (names, value) in [
        ("HTTPS_PROXY https_proxy HTTP_PROXY http_proxy", way),
        ("NO_PROXY no_proxy", around),
        (
            "SSL_CERT_FILE CURL_CA_BUNDLE REQUESTS_CA_BUNDLE PIP_CERT AWS_CA_BUNDLE GIT_SSL_CAINFO npm_config_cafile",
            bundle,
        ),
        ("CARGO_HTTP_CAINFO CODEX_CA_CERTIFICATE NIX_SSL_CERT_FILE GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", bundle),
        ("HTTPLIB2_CA_CERTS CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE", bundle),
        ("NODE_EXTRA_CA_CERTS DENO_CERT", ca),
        ("NODE_USE_ENV_PROXY", "1"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("CLAUDERON_BACKEND", "sandbox"),
    ] {
        names.split(' ').for_each(|name| assert_eq!(env.get(name), Some(&value), "{name}"));
    }
    for file in ["WGETRC", "NPM_CONFIG_USERCONFIG", "DOCKER_CONFIG", "KUBECONFIG", "JAVA_TOOL_OPTIONS", "GITHUB_TOKEN"]
    {
        assert!(env.contains_key(file), "{file}");
    }
    assert_eq!(env["GITHUB_TOKEN"], env["GH_TOKEN"]);
    assert!(hostile.into_iter().all(|name| env.get(name).is_none_or(|value| *value == around)), "{env:#?}");
    let helper = ["sh", "-c", "printf 'protocol=https\nhost=github.com\n\n' | git credential fill"];
    let filled = sandboxed(&rig, &[], &helper).succeed().await.stdout;
    assert!(filled.contains("username=x-access-token\npassword=ghp_clauderon_placeholder_"), "{filled}");
}

#[tokio::test]
async fn java_needs_nothing_but_its_environment() {
    let origin = github().reply("/user", "octocat").start().await;
    let rig = github_rig(&origin).start().await;
    std::fs::write(rig.work_dir("project").join("Ask.java"), ASK).unwrap();
    let finished = sandboxed(&rig, &[], &["java", "Ask.java"]).succeed().await;
    assert_eq!(finished.stdout, "octocat\noctocat\n", "{}", finished.all());
    // Also where a build forgets the options.
    let bare = ["env", "-u", "JAVA_TOOL_OPTIONS", "java", "Ask.java"];
    assert_eq!(sandboxed(&rig, &[], &bare).succeed().await.stdout, "octocat\noctocat\n");
    let strange = ["keytool", "-list", "-keystore", "/etc/ssl/certs/java/cacerts", "-storepass", "changeit"];
    let listed = sandboxed(&rig, &[], &strange).succeed().await;
    let bundle = std::fs::read_to_string(rig.home().join("ca-bundle.pem")).unwrap();
    assert_eq!(listed.stdout.matches("trustedCertEntry").count(), bundle.matches("BEGIN CERTIFICATE").count());
}

#[tokio::test]
async fn git_clones_commits_and_pushes() {
    let host = GitOrigin::start("github.com", GITHUB).await;
    host.repository("owner/repo").await;
    let rig = rig().secret("github_token", GITHUB).origin(&host.origin).start().await;
    let script = "cd && git clone -q https://github.com/owner/repo copy && cd copy && echo x > new && git add new && \
                  git -c user.name=a -c user.email=a@example.test commit -qm change && git push -q origin main && \
                  git rev-parse HEAD";
    let pushed = sandboxed(&rig, &[], &["sh", "-ec", script]).succeed().await.stdout;
    assert_eq!(host.head("owner/repo").await, pushed.trim());
    rig.assert_no_secret();
}

#[tokio::test]
async fn git_reads_the_repository_it_stands_in() {
    let rig = rig().start().await;
    let project = rig.work_dir("project");
    git(&project, &["init", "--quiet"]).await;
    std::fs::write(project.join("README"), "first\n").unwrap();
    commit_all(&project, "first").await;
    let log = ["git", "log", "--format=%s"];
    assert_eq!(sandboxed(&rig, &[], &log).succeed().await.stdout, "first\n");
}

#[tokio::test]
async fn npm_installs_a_private_package() {
    const NPM: &str = "npm_TheRealTokenNobodyMaySee0123456789ab";
    let registry = npm_origin::start("npm.example.test", NPM).await;
    let rig = rig().secret("npm_token", NPM).origin(&registry);
    let rig = rig.table("[services.npm]\nregistries = [\"https://npm.example.test/\"]").start().await;
    let script = "mkdir ~/p && cd ~/p && echo '{\"name\":\"p\",\"version\":\"1.0.0\"}' > package.json && \
                  npm install --no-audit --no-fund --loglevel error --registry https://npm.example.test/ @private/package && \
                  ls node_modules/@private/package/index.js";
    sandboxed(&rig, &[], &["sh", "-ec", script]).succeed().await;
    assert!(registry.log().count() >= 2);
    rig.assert_no_secret();
}

#[tokio::test]
async fn a_mode_holds_inside_too() {
    let origin = github().reply("/*", "done").start().await;
    let rig = github_rig(&origin).start().await;
    let post = ["curl", "-sS", "--noproxy", "*", "-d", "x", "https://api.github.com/user/repos"];
    let refused = sandboxed(&rig, &["--access-mode", "read-only"], &post).finish().await;
    assert!(refused.stdout.contains("Write operations are blocked"), "{}", refused.all());
    assert_eq!(origin.log().count(), 0);
}

#[tokio::test]
async fn a_list_of_hosts_holds_inside_for_clients_with_and_without_a_proxy() {
    let origin = github().reply("/user", "octocat").start().await;
    let rig = github_rig(&origin).start().await;
    let ask = "curl -sS https://api.github.com/user; echo; curl -sS --noproxy '*' https://api.github.com/user; echo; \
               curl -sS --noproxy '*' http://api.github.com/user";
    let with = |host| sandboxed(&rig, &["--allow-host", host], &["sh", "-c", ask]).finish();
    let open = with("api.github.com").await;
    assert!(open.stdout.starts_with("octocat\noctocat\n"), "{}", open.all());
    let before = origin.log().count();
    for host in ["none", "", "example.test"] {
        let closed = with(host).await;
        // The second is TLS, and there is none to read the refusal in; the third can be read.
        assert!(closed.stdout.trim_start().starts_with("{\"error\""), "{}", closed.all());
        assert!(closed.stdout.contains("--allow-host api.github.com"), "{}", closed.all());
    }
    assert_eq!(origin.log().count(), before);
    let denied = || rig.audit().into_iter().filter(|line| line.get("reason") == "host_not_allowed").count();
    // A line is written when its answer has been given.
    wait::until("the last refusal's line", || (denied() >= 9).then_some(())).await;
    assert_eq!(denied(), 9, "{:#?}", rig.audit());
}

#[tokio::test]
async fn walls_are_the_default_and_nothing_weaker_takes_their_place() {
    let rig = rig().start().await;
    let inside = "echo $CLAUDERON_BACKEND; ls /sys";
    let run = rig.cli(["run", "--", "sh", "-c", inside]).dir(&rig.work_dir("project")).finish().await;
    assert!(run.stdout == "sandbox\n" && run.stderr.contains("/sys"), "{}", run.all());
    rig.cli(["create", "--no-agent", "--name", "box"]).succeed().await;
    assert_eq!(rig.cli(["exec", "box", "--", "printenv", "CLAUDERON_BACKEND"]).succeed().await.stdout, "sandbox\n");
    // A machine that lets nobody make namespaces, as this process's descendants see it.
    let closed = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"";
    let on_such_a_machine = |words: &[&str]| {
        let unshare =
            ["--user", "--map-user=65000", "--keep-caps", "sh", "-c", closed, "sh", env!("CARGO_BIN_EXE_clauderon")];
        let home = rig.home().display().to_string();
        let run = Run::new("unshare").args(unshare.iter().chain(words).map(|word| (*word).to_owned()));
        run.env("CLAUDERON_HOME", home).dir(rig.outside())
    };
    let refused = on_such_a_machine(&["run", "--", "echo", "weaker"]).finish().await;
    assert_eq!((refused.code, refused.stdout.as_str()), (4, ""), "{}", refused.all());
    for part in ["cannot be armed", "user.max_user_namespaces", "clauderon doctor", "--backend local"] {
        assert!(refused.stderr.contains(part), "{part}: {}", refused.stderr);
    }
    let asked = on_such_a_machine(&["run", "--backend", "local", "--", "echo", "weaker"]).succeed().await;
    assert!(asked.stdout == "weaker\n" && asked.stderr.contains("does not isolate"), "{}", asked.all());
}

#[tokio::test]
async fn codes_signals_and_missing_commands_are_told_as_shells_tell_them() {
    let rig = rig().start().await;
    for (words, code) in [
        (vec!["sh", "-c", "exit 7"], 7),
        (vec!["sh", "-c", "kill -KILL $$"], 137),
        (vec!["no-such-command-here"], 127),
        (vec!["/etc/passwd"], 126),
        (vec!["true"], 0),
    ] {
        let finished = sandboxed(&rig, &[], &words).finish().await;
        assert_eq!(finished.code, code, "{words:?}: {}", finished.all());
    }
    let finished = sandboxed(&rig, &[], &["no-such-command-here"]).finish().await;
    assert!(
        finished.stderr.contains("no-such-command-here") && finished.stderr.contains("hint"),
        "{}",
        finished.stderr
    );
}

#[tokio::test]
async fn the_view_is_a_list_and_the_project_is_only_read() {
    let mut rig = rig().build();
    rig.secret("github_token", GITHUB);
    rig.start().await;
    let project = rig.work_dir("project");
    std::fs::write(project.join("code"), "text").unwrap();
    let script = "pwd; cat code; ls -A ~; ls /; touch new; echo x > code; ls /sys /boot /srv /root/.ssh";
    let finished = sandboxed(&rig, &[], &["sh", "-c", script]).finish().await;
    let lines: Vec<&str> = finished.stdout.lines().collect();
    assert_eq!(lines[0], project.display().to_string());
    assert!(lines[1].starts_with("text"), "{}", finished.all());
    assert!(!lines.contains(&"origins.pem") && !lines.contains(&"daemon.log"), "{}", finished.stdout);
    assert_eq!(std::fs::read_to_string(project.join("code")).unwrap(), "text");
    assert!(!project.join("new").exists());
    for missing in ["/sys", "/boot", "/srv", "/root/.ssh"] {
        assert!(finished.stderr.contains(&format!("'{missing}': No such file")), "{}", finished.stderr);
    }
    let at_home = rig.cli(["run", "--backend", "sandbox", "--", "ls", "-A"]).succeed().await;
    assert!(at_home.stderr.contains("is not shown in the sandbox: it holds your home"), "{}", at_home.stderr);
    assert!(!at_home.stdout.contains("origins.pem"), "{}", at_home.stdout);
}

#[tokio::test]
async fn a_session_keeps_its_home_between_commands_and_shows_in_the_list() {
    let origin = github().reply("/user", "octocat").start().await;
    let rig = github_rig(&origin).start().await;
    rig.create("box", &["--backend", "sandbox"]).await;
    let exec = |script: &str| rig.cli(["exec", "box", "--", "sh", "-c", script]).dir(&rig.work_dir("project"));
    exec("echo kept > ~/note; echo gone > /tmp/note").succeed().await;
    assert_eq!(exec("cat ~/note; ls /tmp/note 2>/dev/null").finish().await.stdout, "kept\n");
    assert_eq!(exec("curl -sSf https://api.github.com/user").succeed().await.stdout, "octocat");
    let env = rig.cli(["env", "box"]).succeed().await;
    assert!(env.stderr.contains("is not in the sandbox"), "{}", env.stderr);
    let list = rig.cli(["list", "--json"]).succeed().await.json();
    let session = list.as_array().unwrap().iter().find(|session| session["name"] == "box").unwrap();
    assert_eq!(session["backend"], "sandbox");
    assert_eq!(rig.audit_path("/user").await.text("session"), "box");
    let dir = rig.home().join("sessions").join(session["id"].as_str().unwrap());
    rig.cli(["delete", "box"]).succeed().await;
    assert!(!dir.exists());
}

#[tokio::test]
async fn the_daemon_starts_a_command_in_the_sandbox_and_outlives_nothing_of_it() {
    let rig = rig().start().await;
    let create = ["create", "--backend", "sandbox", "--name", "job", "--", "sh", "-c"];
    rig.cli(create.iter().copied().chain(["echo begun; trap 'echo asked; exit 3' TERM; while :; do sleep 0.1; done"]))
        .succeed()
        .await;
    let logs = || std::fs::read_to_string(session_dir(&rig, "job").join("output.log")).unwrap_or_default();
    wait::until("the command's output", || logs().contains("begun").then_some(())).await;
    let stopped = rig.cli(["stop", "job"]).succeed().await;
    assert!(logs().contains("asked"), "{}{}", logs(), stopped.all());
    let list = rig.cli(["list", "--json"]).succeed().await.json();
    let job = list.as_array().unwrap().iter().find(|session| session["name"] == "job").unwrap();
    assert_eq!((&job["status"], &job["exit_code"]), (&json!("stopped"), &json!(3)), "{}", logs());
    let missing = rig.cli(["create", "--backend", "sandbox", "--", "no-such-command-here"]).finish().await;
    assert_eq!(missing.code, 4, "{}", missing.all());
    assert!(missing.stderr.contains("no-such-command-here"), "{}", missing.stderr);
}

#[tokio::test]
async fn a_session_goes_on_when_the_daemon_is_killed_and_started_again() {
    let origin = github().reply("/*", "octocat").start().await;
    let mut rig = github_rig(&origin).start().await;
    let marker = format!("marked {}", rig.outside().display());
    let script =
        format!(": {marker}; i=0; while :; do i=$((i+1)); curl -sS https://api.github.com/$i; sleep 0.1; done");
    rig.cli(["create", "--backend", "sandbox", "--name", "job", "--", "sh", "-c", &script]).succeed().await;
    assert!(runs(&marker));
    wait::until("the first request", || (origin.log().count() > 0).then_some(())).await;
    rig.signal(Signal::KILL);
    rig.ended().await;
    let before = origin.log().count();
    rig.start().await;
    wait::until("a request after the restart", || (origin.log().count() > before + 2).then_some(())).await;
    let dir = session_dir(&rig, "job");
    rig.cli(["delete", "job"]).succeed().await;
    assert!(!dir.exists());
    let after = origin.log().count();
    wait::until("the end of all that ran inside", || (!runs(&marker)).then_some(())).await;
    assert!(origin.log().count() <= after + 1);
    rig.assert_no_secret();
}

#[tokio::test]
async fn a_script_gets_the_output_and_the_exit_code() {
    let rig = rig().start().await;
    for backend in ["sandbox", "local"] {
        let create = ["create", "--backend", backend, "--print", "--", "sh", "-c"];
        let with = |script| rig.cli(create.iter().chain(&[script]).copied());
        let spoke = with("echo begun; sleep 0.3; echo done; exit 7").finish().await;
        assert_eq!((spoke.code, spoke.stdout.as_str()), (7, "begun\ndone\n"), "{}", spoke.all());
        let silent = with("exit 0").succeed().await;
        assert!(silent.stderr.contains("ended without writing anything"), "{}", silent.all());
        let name = silent.stderr.split("created session `").nth(1).and_then(|rest| rest.split('`').next()).unwrap();
        let logs = rig.cli(["logs", name]).succeed().await;
        assert!(logs.stderr.contains("ended without writing anything"), "{}", logs.all());
        let killed = with("kill -9 $$").finish().await;
        assert_eq!(killed.code, 137, "{}", killed.all());
    }
}

#[tokio::test]
async fn a_flood_in_one_sandbox_reaches_nobody_else_and_passes() {
    let origin = github().reply("/user", "octocat").start().await;
    let rig = github_rig(&origin).start().await;
    let marker = rig.work_dir("project").display().to_string();
    let flood = format!(
        "import resource, socket, time\nresource.setrlimit(resource.RLIMIT_NOFILE, (10000, 10000))\nheld = []\n\
         for _ in range(9980):\n  s = socket.socket(); s.setblocking(False); held.append(s)\n  \
         s.connect_ex(('127.0.0.1', 3128))\n  \
         if len(held) == 9980: print('flooded', flush=True)\ntime.sleep(600) # {marker}"
    );
    let create = ["create", "--backend", "sandbox", "--name", "job", "--", "/usr/bin/python3", "-c", &flood];
    rig.cli(create).succeed().await;
    let log = session_dir(&rig, "job").join("output.log");
    let flooded = || std::fs::read_to_string(&log).is_ok_and(|text| text.contains("flooded"));
    wait::until("the flood", || flooded().then_some(())).await;
    let curl = ["curl", "-sSf", "https://api.github.com/user"];
    assert_eq!(sandboxed(&rig, &[], &curl).succeed().await.stdout, "octocat");
    rig.cli(["stop", "job"]).succeed().await;
    wait::until("the end of the flood", || (!runs(&marker)).then_some(())).await;
    assert_eq!(rig.cli(["exec", "job", "--"].iter().chain(&curl).copied()).succeed().await.stdout, "octocat");
}

/// Whether a process of this machine has `marker` in its command line.
fn runs(marker: &str) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let mut lines = processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.any(|line| String::from_utf8_lossy(&line).contains(marker))
}

fn session_dir(rig: &Rig, name: &str) -> PathBuf {
    let ids = std::fs::read_dir(rig.home().join("sessions")).unwrap();
    let dirs: Vec<PathBuf> = ids.map(|entry| entry.unwrap().path()).collect();
    let of = |dir: &&PathBuf| dir.join("way").exists();
    dirs.iter().find(of).unwrap_or_else(|| panic!("no directory of {name}")).clone()
}

#[tokio::test]
async fn nothing_gets_out() {
    let mut rig = rig().build();
    rig.secret("github_token", GITHUB);
    rig.start().await;
    rig.create("other", &[]).await;
    let sinks = Sinks::open(rig.outside()).await;
    let project = rig.work_dir("project");
    std::fs::write(project.join("escape.py"), ESCAPE).unwrap();
    let id = "$CLAUDERON_SESSION_ID";
    let facts = sinks.facts(&rig.home(), rig.outside(), rig.addr().port(), id);
    let script =
        format!("exec /usr/bin/python3 escape.py \"$(printf '%s' '{facts}' | sed s/.CLAUDERON_SESSION_ID/{id}/)\"");
    let inside = sandboxed(&rig, &[], &["sh", "-c", &script]).finish().await;
    assert_closed(&inside, &sinks);
    assert_sinks_work(&sinks, &project, &rig.home(), rig.outside()).await;
    rig.assert_no_secret();
}

/// As the users who have no privileges at all; a machine's root starts it through another user.
#[tokio::test]
async fn nothing_gets_out_of_a_users_sandbox() {
    if !rustix::process::geteuid().is_root() {
        return; // The test above was this one.
    }
    let dir = tempfile::Builder::new().prefix("clauderon-user-").tempdir().unwrap();
    let (home, project, binary) =
        (dir.path().join(".clauderon"), dir.path().join("project"), dir.path().join("clauderon"));
    std::fs::copy(env!("CARGO_BIN_EXE_clauderon"), &binary).unwrap();
    std::fs::create_dir_all(home.join("secrets")).unwrap();
    std::fs::create_dir_all(project.join(".git")).unwrap();
    std::fs::write(home.join("proxy.toml"), "http_port = 0\nkubectl_proxy_port = 0\ntalos_gateway_port = 0\n").unwrap();
    std::fs::write(home.join("secrets/github_token"), GITHUB).unwrap();
    std::fs::write(project.join("escape.py"), ESCAPE).unwrap();
    for (path, mode) in
        [(home.clone(), 0o700), (home.join("secrets"), 0o700), (home.join("secrets/github_token"), 0o600)]
    {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    give(dir.path());
    let sinks = Sinks::open(dir.path()).await;
    let as_user = |words: &[&str]| {
        let user = ["--reuid", USER, "--regid", USER, "--clear-groups"].map(String::from);
        let run = Run::new("setpriv").args(user).args([binary.display().to_string()]).args(words.iter().copied());
        run.env("HOME", dir.path().display().to_string())
            .env("CLAUDERON_HOME", home.display().to_string())
            .dir(&project)
    };
    as_user(&["create", "--no-agent", "--name", "other"]).succeed().await;
    let daemon = DaemonOf(home.clone());
    let id = "$CLAUDERON_SESSION_ID";
    let facts = sinks.facts(&home, dir.path(), 3030, id);
    let script =
        format!("exec /usr/bin/python3 escape.py \"$(printf '%s' '{facts}' | sed s/.CLAUDERON_SESSION_ID/{id}/)\"");
    let inside = as_user(&["run", "--backend", "sandbox", "--", "sh", "-c", &script]).finish().await;
    assert_closed(&inside, &sinks);
    let script = "id -u; echo mine > new; touch .git/config 2>&1; mv .git .git2 2>&1; true";
    let written = as_user(&["run", "--backend", "sandbox", "--writable", "--", "sh", "-c", script]).succeed().await;
    assert!(written.stdout.starts_with(&format!("{USER}\n")), "{}", written.all());
    assert_eq!(std::fs::read_to_string(project.join("new")).unwrap(), "mine\n");
    assert!(!project.join(".git/config").exists() && !project.join(".git2").exists(), "{}", written.all());
    drop(daemon);
}

/// Ends the daemon that a command started by itself.
pub(crate) struct DaemonOf(pub(crate) PathBuf);

impl Drop for DaemonOf {
    fn drop(&mut self) {
        let pid = std::fs::read_to_string(self.0.join("daemon.lock")).ok().and_then(|text| text.trim().parse().ok());
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
            let _gone = rustix::process::kill_process(pid, Signal::TERM);
        }
    }
}

pub(crate) fn give(path: &Path) {
    let user = USER.parse().ok();
    std::os::unix::fs::lchown(path, user, user).unwrap();
    if path.is_dir() {
        std::fs::read_dir(path).unwrap().for_each(|entry| give(&entry.unwrap().path()));
    }
}

pub(crate) fn assert_closed(inside: &Finished, sinks: &Sinks) {
    let lines: Vec<(&str, &str)> = inside.stdout.lines().filter_map(|line| line.split_once('\t')).collect();
    let open: Vec<_> = lines.iter().filter(|(_, outcome)| outcome.starts_with("OPEN")).map(|(name, _)| *name).collect();
    assert_eq!(open, ["the relay after killing everything"], "{}", inside.all());
    assert!(lines.len() > 70, "only {} ways were tried:\n{}", lines.len(), inside.all());
    assert_eq!(sinks.count(), 0, "something arrived:\n{}", inside.all());
}

/// The same ways from outside: each sink hears of it, so the silence meant something.
pub(crate) async fn assert_sinks_work(sinks: &Sinks, project: &Path, home: &Path, outside: &Path) {
    let mut facts: serde_json::Value = serde_json::from_str(&sinks.facts(home, outside, 0, "")).unwrap();
    facts["inside"] = json!(false);
    let run = Run::new("/usr/bin/python3").args(["escape.py".to_owned(), facts.to_string()]).dir(project);
    let outside = run.succeed().await;
    let lines: Vec<_> = outside.stdout.lines().filter_map(|line| line.split_once('\t')).collect();
    assert!(lines.iter().all(|(_, outcome)| *outcome == "OPEN"), "{}", outside.all());
    wait::until("every sink", || (sinks.count() >= lines.len()).then_some(())).await;
}

/// Places on the host that count what reaches them.
pub(crate) struct Sinks {
    heard: Arc<AtomicUsize>,
    tcp: u16,
    udp: u16,
    abstract_name: String,
}

impl Sinks {
    pub(crate) async fn open(dir: &Path) -> Self {
        let heard = Arc::new(AtomicUsize::new(0));
        let count = |heard: &Arc<AtomicUsize>| {
            let heard = Arc::clone(heard);
            move || heard.fetch_add(1, Ordering::SeqCst)
        };
        let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let udp = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let abstract_name = format!("clauderon-sink-{}-{}", std::process::id(), tcp.local_addr().unwrap().port());
        let sink = Self {
            tcp: tcp.local_addr().unwrap().port(),
            udp: udp.local_addr().unwrap().port(),
            heard: Arc::clone(&heard),
            abstract_name: abstract_name.clone(),
        };
        let (hear_tcp, hear_udp) = (count(&heard), count(&heard));
        tokio::spawn(async move {
            // Held open, so that whoever came in can write.
            let mut held = Vec::new();
            while let Ok(stream) = tcp.accept().await {
                held.push(stream);
                hear_tcp();
            }
        });
        tokio::spawn(async move {
            while udp.recv_from(&mut [0; 16]).await.is_ok() {
                hear_udp();
            }
        });
        let name =
            <std::os::unix::net::SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(abstract_name);
        let abstract_socket = std::os::unix::net::UnixListener::bind_addr(&name.unwrap()).unwrap();
        let path = dir.join("agent.sock");
        let by_path = std::os::unix::net::UnixListener::bind(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
        for listener in [abstract_socket, by_path] {
            listener.set_nonblocking(true).unwrap();
            let (listener, hear) = (tokio::net::UnixListener::from_std(listener).unwrap(), count(&heard));
            tokio::spawn(async move {
                let mut held = Vec::new();
                while let Ok(stream) = listener.accept().await {
                    held.push(stream);
                    hear();
                }
            });
        }
        sink
    }

    fn count(&self) -> usize {
        self.heard.load(Ordering::SeqCst)
    }

    pub(crate) fn facts(&self, home: &Path, outside: &Path, api: u16, id: &str) -> String {
        let way = home.join("sessions").join(id).join("way");
        let host_file =
            if outside.join("origins.pem").exists() { outside.join("origins.pem") } else { home.join("proxy.toml") };
        json!({
            "inside": true, "port": self.tcp, "udp": self.udp, "abstract": self.abstract_name, "api": api,
            "agent_socket": outside.join("agent.sock"), "home": home, "way": way, "host_file": host_file,
        })
        .to_string()
    }
}

/// Both of Java's own clients, the old one and the new one.
const ASK: &str = r#"
import java.net.*;
import java.net.http.*;
public class Ask {
  public static void main(String[] args) throws Exception {
    var url = URI.create("https://api.github.com/user");
    try (var in = url.toURL().openStream()) { System.out.println(new String(in.readAllBytes())); }
    var request = HttpRequest.newBuilder(url).build();
    System.out.println(HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString()).body());
  }
}
"#;

pub(crate) const ESCAPE: &str = include_str!("escape.py");

/// A user that test machines do not have.
pub(crate) const USER: &str = "64999";
