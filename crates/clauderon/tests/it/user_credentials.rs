//! `[[credential]]`: the user's own, in every shape.

use clauderon_testkit::origin::{Origin, Seen};
use clauderon_testkit::rig::Rig;
use http::Request;

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
