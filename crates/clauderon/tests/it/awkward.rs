//! Secrets made of what some language would act on: they go out as they are, and nothing of them comes back.

use clauderon_testkit::origin::{Origin, ok};
use clauderon_testkit::rig::Rig;

use crate::rig;

/// What regular expressions, JSON, URLs, templates, shells and field grammars would act on.
const SECRETS: [&str; 7] = [
    r"^(a|b)*[c-e]$.+?{1,2}\d\\E",
    r#"{"a":["b\\n","\u0041"],"c":null}"#,
    "%25%00%2F%zz%C3%28+%0d%0aX-Injected:1",
    "${HOME}{{token}}{token}$(id)`id`%s%n$1\\1&&",
    "a=b&c=d;e=f, g=\"h\" <i>'j'</i>#k?l",
    "pass word:with spaces\tand:colons/../..//",
    "clé-secrète-€-\u{1F511}-ключ",
];

/// Where each of them goes, a host for each place.
const PLACES: [(&str, &str); 4] = [
    ("header", "header = \"x-key\""),
    ("query", "query = \"key\""),
    ("basic", "basic_user = \"me\""),
    ("path", "path = \"/x/{token}\""),
];

fn host(place: &str, nth: usize) -> String {
    format!("{place}{nth}.example.test")
}

/// An origin that sends back all it got, and the secret in every form that is listed.
async fn everything() -> (Origin, Rig) {
    let hosts = PLACES.iter().flat_map(|(place, _)| (0..SECRETS.len()).map(|nth| host(place, nth)));
    let origin = hosts.fold(Origin::https("awkward.example.test"), |origin, host| origin.also(&host));
    let origin = origin.route("/*", |call| async move {
        let host = call.field("host").or_else(|| call.uri.host()).unwrap_or_default().to_owned();
        let nth = host.split('.').next().unwrap().trim_start_matches(char::is_alphabetic).parse::<usize>().unwrap();
        let forms = clauderon_core::encodings::forms(SECRETS[nth], "");
        let forms = forms.iter().map(|form| form.text.to_vec()).collect::<Vec<_>>().join(&b"\n"[..]);
        ok([format!("{} {:?}\n", call.uri, call.headers).into_bytes(), forms].concat())
    });
    let origin = origin.start().await;
    let builder = SECRETS
        .iter()
        .enumerate()
        .fold(rig().origin(&origin), |rig, (nth, secret)| rig.secret(&format!("s{nth}"), secret));
    let tables = PLACES.iter().flat_map(|(place, line)| {
        (0..SECRETS.len()).map(move |nth| {
            let names =
                format!("name = \"{place}{nth}\"\nfile = \"s{nth}\"\nsession_env = \"{}{nth}\"", place.to_uppercase());
            format!("[[credential]]\n{names}\nhosts = [\"{}\"]\n{}", host(place, nth), line)
        })
    });
    let rig = builder.table(&tables.collect::<Vec<_>>().join("\n")).start().await;
    (origin, rig)
}

#[tokio::test]
async fn they_go_out_as_they_are_and_do_not_come_back() {
    let (origin, rig) = everything().await;
    rig.create("dev", &[]).await;
    let (agent, env) = (rig.agent("dev").await, rig.session_env("dev").await);
    for ((place, _), nth) in PLACES.iter().flat_map(|place| (0..SECRETS.len()).map(move |nth| (place, nth))) {
        let host = host(place, nth);
        let path = if *place == "path" { format!("/x/{}/y", env[&format!("PATH{nth}")]) } else { "/x".to_owned() };
        let answered = agent.get(&format!("https://{host}{path}")).await;
        if *place == "path" && SECRETS[nth].contains(['\\', '\t']) {
            // Some origin would read another path.
            assert_eq!(answered.status, 503, "{}", answered.text());
            assert!(answered.text().contains("backslash"), "{}", answered.text());
            continue;
        }
        assert_eq!(answered.status, 200, "{place} {}: {}", SECRETS[nth], answered.text());
        for form in clauderon_core::encodings::forms(SECRETS[nth], "") {
            let shown = String::from_utf8_lossy(&form.text);
            assert!(clauderon_testkit::sightings::find(&answered.body, &form.text).is_none(), "{place}: {shown}");
        }
        let seen = origin.log().last();
        let arrived = match *place {
            "header" => String::from_utf8(seen.headers["x-key"].as_bytes().to_vec()).unwrap(),
            "query" => decoded(seen.target.split_once("?key=").unwrap().1),
            "basic" => basic(seen.field("authorization").unwrap()),
            _ => decoded(seen.target.split('/').nth(2).unwrap()),
        };
        assert_eq!(arrived, SECRETS[nth], "{place}");
        assert!(!seen.headers.contains_key("x-injected"));
    }
    rig.assert_no_secret();
}

fn decoded(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut out = Vec::new();
    while let Some(byte) = bytes.next() {
        let mut digit = || char::from(bytes.next().unwrap()).to_digit(16).unwrap();
        out.push(if byte == b'%' { u8::try_from(digit() * 16 + digit()).unwrap() } else { byte });
    }
    String::from_utf8(out).unwrap()
}

fn basic(field: &str) -> String {
    use base64::Engine as _;
    let plain = base64::engine::general_purpose::STANDARD.decode(field.strip_prefix("Basic ").unwrap()).unwrap();
    String::from_utf8(plain).unwrap().strip_prefix("me:").unwrap().to_owned()
}

#[tokio::test]
async fn a_line_break_inside_one_is_refused_and_named() {
    let origin = Origin::https("api.github.com").reply("/*", "x").start().await;
    for broken in ["ghp_one\nX-Injected: 1", "ghp_one\rtwo", "ghp_one\0two"] {
        let rig = rig().origin(&origin).secret("github_token", broken).start().await;
        let answered = rig.anonymous().get("https://api.github.com/user").await;
        assert_eq!(
            (answered.status.as_u16(), answered.field("x-clauderon-error")),
            (503, Some("credential_unavailable"))
        );
        let shown = rig.cli(["config", "credentials", "--json"]).succeed().await.stdout;
        assert!(
            shown.contains("line break") && shown.contains("github_token") && !shown.contains("ghp_one"),
            "{shown}"
        );
    }
    assert_eq!(origin.log().count(), 0);
}
