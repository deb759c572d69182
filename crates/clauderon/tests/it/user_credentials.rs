//! `[[credential]]`: the user's own, in every shape.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use clauderon_testkit::origin::{Origin, OriginBuilder, Seen, ok, status, with_field};
use clauderon_testkit::rig::{Rig, RigBuilder};
use clauderon_testkit::run::Finished;
use http::{Request, StatusCode};

use crate::rig;

const KEY: &str = "the-real-key+of/the=user";

async fn with(lines: &str) -> (Origin, Rig) {
    let origin = Origin::https("api.example.test").also("eu.api.example.test").reply("/*", "x").start().await;
    let table = format!("[[credential]]\nname = \"own\"\nenv = \"OWN_KEY\"\nsession_env = \"OWN_KEY\"\n{lines}");
    let rig = rig().origin(&origin).table(&table).env("OWN_KEY", KEY).guards(KEY).start().await;
    (origin, rig)
}

async fn sent(lines: &str, path: &str) -> Seen {
    let (origin, rig) = with(lines).await;
    assert_eq!(rig.anonymous().get(&format!("https://api.example.test{path}")).await.status, 200);
    assert_eq!(rig.audit_lines(1).await[0].get("credential"), "own");
    rig.assert_no_secret();
    origin.log().only()
}

#[tokio::test]
async fn a_header_in_the_users_format() {
    let seen = sent("hosts = [\"api.example.test\"]\nheader = \"X-Key\"\nformat = \"key {token}!\"", "/").await;
    assert_eq!(seen.field("x-key"), Some(format!("key {KEY}!").as_str()));
}

#[tokio::test]
async fn a_query_parameter() {
    let seen = sent("hosts = [\"api.example.test\"]\nquery = \"key\"", "/find?q=a%20b").await;
    assert_eq!(seen.target, "/find?q=a%20b&key=the-real-key%2Bof%2Fthe%3Duser");
}

#[tokio::test]
async fn a_basic_user() {
    let seen = sent("hosts = [\"api.example.test\"]\nbasic_user = \"me\"", "/").await;
    assert_eq!(seen.field("authorization"), Some("Basic bWU6dGhlLXJlYWwta2V5K29mL3RoZT11c2Vy"));
}

#[tokio::test]
async fn a_cookie_beside_others() {
    let (origin, rig) = with("hosts = [\"api.example.test\"]\ncookie = \"sid\"").await;
    let mut client = rig.anonymous().h1("api.example.test").await;
    let request = Request::get("/").header("cookie", "theme=dark").body(clauderon_testkit::body::empty()).unwrap();
    assert_eq!(client.fetch(request).await.status, 200);
    let cookies = origin.log().only().field("cookie").unwrap().to_owned();
    assert!(cookies.contains("theme=dark") && cookies.contains(&format!("sid={KEY}")), "{cookies}");
    rig.assert_no_secret();
}

#[tokio::test]
async fn a_wildcard_covers_one_label() {
    let (origin, rig) = with("hosts = [\"*.api.example.test\"]\nheader = \"X-Key\"\nformat = \"{token}\"").await;
    rig.anonymous().get("https://eu.api.example.test/").await;
    assert_eq!(origin.log().last().field("x-key"), Some(KEY));
    rig.anonymous().get("https://api.example.test/").await;
    assert_eq!(origin.log().last().field("x-key"), None);
}

#[tokio::test]
async fn a_host_with_a_port() {
    let origin = Origin::https("api.example.test").port(8443).reply("/", "x").start().await;
    let table = "[[credential]]\nname = \"own\"\nenv = \"OWN_KEY\"\nhosts = [\"api.example.test:8443\"]\n\
                 header = \"X-Key\"\nformat = \"{token}\"";
    let rig = rig().origin(&origin).table(table).env("OWN_KEY", KEY).guards(KEY).start().await;
    rig.anonymous().get("https://api.example.test:8443/").await;
    assert_eq!(origin.log().only().field("x-key"), Some(KEY));
    rig.assert_no_secret();
}

#[tokio::test]
async fn the_three_injection_policies() {
    let lines = "hosts = [\"api.example.test\"]\nheader = \"X-Key\"\nformat = \"{token}\"";
    for (policy, absent, foreign) in
        [("auto", Some(KEY), Some("mine")), ("placeholder", None, Some("mine")), ("always", Some(KEY), Some(KEY))]
    {
        let (origin, rig) = with(&format!("{lines}\ninject = \"{policy}\"")).await;
        rig.create("dev", &[]).await;
        let placeholder = rig.session_env("dev").await["OWN_KEY"].clone();
        let mut client = rig.agent("dev").await.h1("api.example.test").await;
        client.get("/").await;
        assert_eq!(origin.log().last().field("x-key"), absent, "{policy}, absent");
        for (sent, arrives) in [("mine", foreign), (placeholder.as_str(), Some(KEY))] {
            let request = Request::get("/").header("x-key", sent).body(clauderon_testkit::body::empty()).unwrap();
            client.fetch(request).await;
            assert_eq!(origin.log().last().field("x-key"), arrives, "{policy}, {sent}");
        }
        rig.assert_no_secret();
    }
}

/// What real curl gets, in a session that holds the placeholder in `$OWN_KEY`.
async fn curl(rig: &Rig, script: &str) -> Finished {
    let shell = rig.direct_tool("sh", "dev", rig.outside()).await;
    shell.args(["-c", script]).finish().await
}

#[tokio::test]
async fn a_segment_of_the_path() {
    let lines = "hosts = [\"api.example.test\"]\npath = \"/bot{token}\"\nmore_paths = [\"/hooks/*/{token}.json\"]";
    let (origin, rig) = with(lines).await;
    rig.create("dev", &[]).await;
    let sent = "bot/the-real-key+of%2Fthe=user";
    for (path, arrives) in [
        (
            "bot$OWN_KEY/sendMessage?chat_id=1&text=a%20b",
            "/botthe-real-key+of%2Fthe=user/sendMessage?chat_id=1&text=a%20b",
        ),
        ("hooks/7/$OWN_KEY.json", "/hooks/7/the-real-key+of%2Fthe=user.json"),
        ("bot$OWN_KEY/a%20file", "/botthe-real-key+of%2Fthe=user/a%20file"),
    ] {
        for version in ["--http1.1", "--http2"] {
            let script = format!("curl -sSf {version} -d x=1 \"https://api.example.test/{path}\"");
            assert_eq!(curl(&rig, &script).await.code, 0, "{path}");
            assert_eq!(origin.log().last().target, arrives, "{sent}");
        }
    }
    let count = origin.log().count();
    let strays = [
        "$OWN_KEY/x",
        "x/bot$OWN_KEY",
        "botx$OWN_KEY",
        "bot$OWN_KEY.x",
        "hooks/$OWN_KEY.json",
        "hooks/7/8/$OWN_KEY.json",
        "bot$OWN_KEY/$OWN_KEY",
        "bot$OWN_KEY?x=$OWN_KEY",
        "Bot$OWN_KEY",
        "bot%63${OWN_KEY#c}",
    ];
    for stray in strays {
        let answered = curl(&rig, &format!("curl -sS -D - \"https://api.example.test/{stray}\"")).await.all();
        assert!(answered.contains("placeholder_misdirected"), "{stray}: {answered}");
    }
    assert_eq!(origin.log().count(), count);
    let untouched = curl(&rig, "curl -sSf https://api.example.test/botmine/x").await;
    assert_eq!((untouched.code, origin.log().last().target.as_str()), (0, "/botmine/x"));
    let audited: Vec<String> =
        rig.audit_lines(count + strays.len() + 1).await.iter().map(|line| line.text("path").to_owned()).collect();
    assert!(
        audited.iter().filter(|path| *path == "/bot***/sendMessage" || *path == "/hooks/7/***.json").count() == 4,
        "{audited:?}"
    );
    assert!(audited.contains(&"/bot***/x".to_owned()), "{audited:?}");
    rig.assert_no_secret();
}

#[tokio::test]
async fn an_echo_of_a_path_is_scrubbed_in_every_form() {
    const ODD: &str = "1234:AA-b_c/d%e&f";
    let origin = Origin::https("api.example.test").route("/*", |call| async move {
        let target = call.uri.to_string();
        let decoded = target.replace("%2F", "/").replace("%25", "%");
        with_field(ok(format!("{target} {decoded}")), "location", &target)
    });
    let origin = origin.start().await;
    let table = "[[credential]]\nname = \"own\"\nenv = \"OWN_KEY\"\nsession_env = \"OWN_KEY\"\nhosts = [\"api.example.test\"]\npath = \"/bot{token}\"";
    let rig = rig()
        .origin(&origin)
        .table(table)
        .env("OWN_KEY", ODD)
        .guards(ODD)
        .guards("1234:AA-b_c%2Fd%25e&f")
        .start()
        .await;
    rig.create("dev", &[]).await;
    let own = rig.session_env("dev").await["OWN_KEY"].clone();
    let answered = curl(&rig, "curl -sSf -D - \"https://api.example.test/bot$OWN_KEY/x\"").await.stdout;
    assert_eq!(answered.matches(&format!("/bot{own}/x")).count(), 3, "{answered}");
    assert_eq!(origin.log().only().target, "/bot1234:AA-b_c%2Fd%25e&f/x");
    rig.assert_no_secret();
}

#[tokio::test]
async fn a_field_of_the_body() {
    let (origin, rig) = with("hosts = [\"api.example.test\"]\nbody = \"token\"").await;
    rig.create("dev", &[]).await;
    let json = r#"-H 'Content-Type: application/json' -d "{\"a\": [1.0], \"token\": \"$OWN_KEY\"}""#;
    for (data, arrives) in [
        ("-d \"channel=c&token=$OWN_KEY\"", "channel=c&token=the-real-key%2Bof%2Fthe%3Duser"),
        (json, r#"{"a": [1.0], "token": "the-real-key+of/the=user"}"#),
        ("-d channel=c", "channel=c"),
        ("-d token=mine", "token=mine"),
    ] {
        for version in ["--http1.1", "--http2"] {
            let got = curl(&rig, &format!("curl -sSf {version} {data} https://api.example.test/x")).await;
            assert_eq!(got.code, 0, "{data}: {}", got.all());
            assert_eq!(origin.log().last().body, arrives, "{data}");
        }
    }
    let count = origin.log().count();
    for stray in [
        "-d \"other=$OWN_KEY\"",
        "-d \"token=x$OWN_KEY\"",
        "-d \"$OWN_KEY=token\"",
        "-H \"X-Key: $OWN_KEY\"",
        "-H \"Authorization: Bearer $OWN_KEY\"",
    ] {
        let answered = curl(&rig, &format!("curl -sS -D - {stray} https://api.example.test/x")).await.all();
        assert!(answered.contains("placeholder_misdirected"), "{stray}: {answered}");
    }
    let answered =
        curl(&rig, "head -c 1100000 /dev/zero | tr '\\0' x | curl -sS -D - -d @- https://api.example.test/x").await;
    assert!(answered.all().contains("longer than 1 MiB"), "{}", answered.all());
    assert_eq!(origin.log().count(), count);
    // What is no form and no JSON holds no field, and goes out as it comes.
    let upload = "head -c 1100000 /dev/zero | curl -sSf -T - -H 'Content-Type: application/octet-stream' https://api.example.test/x";
    assert_eq!(curl(&rig, upload).await.code, 0);
    assert_eq!(origin.log().last().body.len(), 1_100_000);
    rig.assert_no_secret();
}

#[tokio::test]
async fn a_field_of_the_body_beside_a_header() {
    let lines = "hosts = [\"api.example.test\"]\nformat = \"Bearer {token}\"\nbody = \"token\"";
    let (origin, rig) = with(lines).await;
    rig.create("dev", &[]).await;
    let bearer = format!("Bearer {KEY}");
    for (data, field, body) in [
        ("-d \"token=$OWN_KEY\"", None, "token=the-real-key%2Bof%2Fthe%3Duser"),
        ("-d channel=c", Some(bearer.as_str()), "channel=c"),
        ("-d token=mine", None, "token=mine"),
        (
            "-d \"a=1&token=$OWN_KEY\" -H \"Authorization: Bearer $OWN_KEY\"",
            Some(&bearer),
            "a=1&token=the-real-key%2Bof%2Fthe%3Duser",
        ),
    ] {
        let got = curl(&rig, &format!("curl -sSf {data} https://api.example.test/x")).await;
        assert_eq!(got.code, 0, "{data}: {}", got.all());
        let seen = origin.log().last();
        assert_eq!((seen.field("authorization"), &seen.body[..]), (field, body.as_bytes()), "{data}");
    }
    let explain = ["explain", "POST", "https://api.example.test/x", "--session", "dev", "--json"];
    let told = rig.cli(explain).succeed().await.json();
    assert_eq!((&told["auth_injected"], &told["surface"]), (&true.into(), &"authorization: Bearer {token}".into()));
    rig.assert_no_secret();
}

#[tokio::test]
async fn explain_says_why_a_path_credential_stays() {
    let (_origin, rig) = with("hosts = [\"api.example.test\"]\npath = \"/bot{token}\"").await;
    rig.create("dev", &[]).await;
    let own = rig.session_env("dev").await["OWN_KEY"].clone();
    let explain = async |path: &str| {
        let url = format!("https://api.example.test{path}");
        rig.cli(["explain", "GET", &url, "--session", "dev", "--json"]).succeed().await.json()
    };
    let told = explain(&format!("/bot{own}/getMe")).await;
    assert_eq!((&told["auth_injected"], &told["credential"]), (&true.into(), &"own".into()));
    assert_eq!(told["surface"], "segment 1 of the path: bot{token}");
    assert_eq!(told["rule"], "own api.example.test/bot{token}/*");
    let told = explain("/botmine/getMe").await;
    assert_eq!(told["injection"], "no: it goes out only in place of the session's placeholder");
    assert_eq!(explain(&format!("/x/bot{own}")).await["reason"], "placeholder_misdirected");
    let shown = rig.cli(["config", "show"]).succeed().await.stdout;
    assert!(shown.contains("credential[0].path") && shown.contains("/bot{token}"), "{shown}");
}

/// A second credential of the same service, in another field.
const APP: &str = "the-other-real-key/of+the=user";
const APP_TABLE: &str = "[[credential]]\nname = \"app\"\nfile = \"app\"\nhosts = [\"api.example.test\"]\nheader = \"X-App\"\nsession_env = \"APP_KEY\"";

/// A service that wants both, and sends back what it got.
fn wants_both(app: &'static str, refused: impl Fn() + Clone + Send + Sync + 'static) -> OriginBuilder {
    Origin::https("api.example.test").route("/*", move |call| {
        let sent = format!("{:?} {:?}", call.field("x-key"), call.field("x-app"));
        let good = sent == format!("{:?} {:?}", Some(KEY), Some(app));
        let refused = refused.clone();
        async move {
            if good {
                return ok(sent);
            }
            refused();
            status(StatusCode::UNAUTHORIZED, "no")
        }
    })
}

fn two_keys(origin: &Origin, app: &str) -> RigBuilder {
    let own = "[[credential]]\nname = \"own\"\nenv = \"OWN_KEY\"\nsession_env = \"OWN_KEY\"\nhosts = [\"api.example.test\"]\nheader = \"X-Key\"";
    rig().origin(origin).table(own).table(APP_TABLE).env("OWN_KEY", KEY).guards(KEY).secret("app", app)
}

#[tokio::test]
async fn one_request_carries_two_of_them() {
    let origin = wants_both(APP, || ()).start().await;
    let rig = two_keys(&origin, APP).start().await;
    rig.create("dev", &[]).await;
    let env = rig.session_env("dev").await;
    let (own, app) = (&env["OWN_KEY"], &env["APP_KEY"]);
    let echoed = format!("{:?} {:?}", Some(own), Some(app));
    let get = async |more: &[&str]| {
        let curl = rig.direct_tool("curl", "dev", rig.outside()).await;
        let args = ["-sSf", "https://api.example.test/x"].iter().chain(more).copied();
        curl.args(args).succeed().await.stdout
    };
    assert_eq!(get(&[]).await, echoed, "both are added");
    let (own, app) = (format!("X-Key: {own}"), format!("X-App: {app}"));
    assert_eq!(get(&["-H", &own, "-H", &app]).await, echoed, "both are swapped");
    assert_eq!(get(&["--http1.1", "-H", &app, "-H", &own]).await, echoed, "in any order");
    let lines = rig.audit_lines(3).await;
    assert!(lines.iter().all(|line| line.get("redactions") == 2 && line.get("auth_injected") == true), "{lines:?}");
    let named: Vec<&str> = lines.iter().map(|line| line.text("credential")).collect();
    assert_eq!(named[0], "own,app");
    assert_eq!(named.iter().map(|names| names.len()).collect::<Vec<_>>(), [7, 7, 7]);
    let explained = rig.cli(["explain", "GET", "https://api.example.test/x", "--json"]).succeed().await.json();
    assert_eq!((&explained["credential"], &explained["auth_injected"]), (&"own,app".into(), &true.into()));
    assert!(explained["surface"].as_str().unwrap().contains("x-app"), "{explained}");
    rig.assert_no_secret();
}

#[tokio::test]
async fn the_one_of_two_that_has_changed_is_read_again() {
    const OLD: &str = "the-other-key-as-it-was-yesterday";
    let file: Arc<OnceLock<PathBuf>> = Arc::default();
    let renews = file.clone();
    let origin = wants_both(APP, move || std::fs::write(renews.get().unwrap(), APP).unwrap()).start().await;
    let rig = two_keys(&origin, OLD).guards(APP).start().await;
    file.set(rig.home().join("secrets/app")).unwrap();
    let answered = rig.anonymous().get("https://api.example.test/x").await;
    assert_eq!(answered.status, 200, "{}", answered.text());
    let sent: Vec<_> = origin.log().requests().iter().map(|seen| seen.field("x-app").unwrap().to_owned()).collect();
    assert_eq!(sent, [OLD, APP]);
    let line = rig.audit_path("/x").await;
    assert!(line.text("error").contains("sent again"), "{}", line.raw);
    rig.assert_no_secret();
}

#[tokio::test]
async fn a_file_as_source() {
    let origin = Origin::https("api.example.test").reply("/", "x").start().await;
    let builder = rig().origin(&origin).guards(KEY);
    let file = builder.outside().join("own.key");
    std::fs::write(&file, format!("{KEY}\n")).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let table = "[[credential]]\nname = \"own\"\nfile = \"FILE\"\nhosts = [\"api.example.test\"]\nheader = \"X-Key\"\nformat = \"{token}\"";
    let rig = builder.table(&table.replace("FILE", &file.display().to_string())).start().await;
    rig.anonymous().get("https://api.example.test/").await;
    assert_eq!(origin.log().only().field("x-key"), Some(KEY));
    rig.assert_no_secret();
}
