//! A placeholder where it does not belong is an alarm, also where the request would be refused anyway.

use clauderon_testkit::body;
use clauderon_testkit::origin::{Origin, OriginBuilder};
use http::{Method, Request};

use crate::{github, github_rig};

#[tokio::test]
async fn a_refused_request_with_a_misplaced_placeholder_is_an_alarm() {
    let github = github().reply("/*", "x").start().await;
    let other = Origin::https("example.test").reply("/*", "x").start().await;
    let rig = github_rig(&github).origin(&other).start().await;
    rig.create("review", &["--access-mode", "read-only"]).await;
    rig.create("other", &[]).await;
    let own = rig.session_env("review").await["GITHUB_TOKEN"].clone();
    let alien = rig.session_env("other").await["GITHUB_TOKEN"].clone();
    let agent = rig.agent("review").await;
    for (host, path, token, reason) in [
        ("example.test", "/collect", &own, "placeholder_misdirected"),
        ("api.github.com", "/user/repos", &alien, "placeholder_misdirected"),
        ("api.github.com", "/user/keys", &alien, "placeholder_misdirected"),
        ("api.github.com", "/user/repos", &own, "read_only"),
        ("api.github.com", "/user/keys", &own, "minting"),
    ] {
        for mut client in [agent.h1(host).await, agent.h2(host).await] {
            let request = Request::builder().method(Method::POST).uri(path);
            let request = request.header("authorization", format!("Bearer {token}")).body(body::full("{}"));
            let refused = client.fetch(request.unwrap()).await;
            assert_eq!(
                (refused.status.as_u16(), refused.field("x-clauderon-error")),
                (403, Some(reason)),
                "{host}{path}"
            );
            assert!(!refused.text().contains(token.as_str()), "the alarm repeats the placeholder");
        }
    }
    assert_eq!((github.log().count(), other.log().count()), (0, 0));
    // Records are written in order, so the last one is there when all are.
    rig.audit_line("the last refusal", |line| line.text("reason") == "minting" && line.text("protocol") == "HTTP/2")
        .await;
    let listed = rig.cli(["list", "--json"]).succeed().await.json();
    let review = listed.as_array().unwrap().iter().find(|session| session["name"] == "review").unwrap().clone();
    assert_eq!((&review["alarms"], &review["denials"]), (&6.into(), &10.into()));
    let found = rig.cli(["audit", "query", "--alarms", "--json"]).succeed().await.stdout;
    assert_eq!(found.matches("placeholder_misdirected").count(), 6, "{found}");
    let header = format!("Authorization: Bearer {own}");
    let args = ["explain", "POST", "https://example.test/", "--session", "review", "-H", &header, "--json"];
    assert_eq!(rig.cli(args).succeed().await.json()["reason"], "placeholder_misdirected");
    rig.assert_no_secret();
}

#[tokio::test]
async fn another_surface_of_the_right_host_is_an_alarm_too() {
    let github = github().reply("/*", "x").start().await;
    let rig = github_rig(&github).start().await;
    rig.create("dev", &[]).await;
    let own = rig.session_env("dev").await["GITHUB_TOKEN"].clone();
    let mut client = rig.agent("dev").await.h1("api.github.com").await;
    let in_path = [
        format!("/x/{own}"),
        format!("/x?token={own}"),
        format!("/x?{own}"),
        format!("/x/{}", own.replacen('g', "%67", 1)),
    ];
    for path in &in_path {
        let refused = client.fetch(Request::get(path.as_str()).body(body::empty()).unwrap()).await;
        assert_eq!(refused.field("x-clauderon-error"), Some("placeholder_misdirected"), "{path:.4}");
    }
    for name in ["cookie", "user-agent", "x-api-key", "x-forwarded-for"] {
        let refused =
            client.fetch(Request::get("/x").header(name, format!("a={own}")).body(body::empty()).unwrap()).await;
        assert_eq!(refused.field("x-clauderon-error"), Some("placeholder_misdirected"), "{name}");
    }
    assert_eq!(github.log().count(), 0);
    rig.assert_no_secret();
}

#[tokio::test]
async fn every_spelling_of_a_host_is_that_host_and_no_other_is() {
    let github = github().reply("/*", "x").start().await;
    let near = Origin::https("xn--pi-7lc.github.com").reply("/*", "x").start().await;
    let rig = github_rig(&github).origin(&near).start().await;
    for url in ["https://API.GitHub.COM/user", "https://api.github.com./user", "https://api.github.com:443/user"] {
        assert_eq!(rig.anonymous().get(url).await.status, 200, "{url}");
    }
    let sent = github.log().count();
    assert_eq!(sent, 3);
    let answered = rig.anonymous().get("https://xn--pi-7lc.github.com/user").await;
    let passed = near.log().requests();
    assert!(passed.iter().all(|seen| seen.field("authorization").is_none()), "{}", answered.status);
    assert_eq!(github.log().count(), sent);
    rig.assert_no_secret();
}

#[tokio::test]
async fn what_only_looks_like_the_host_gets_nothing() {
    const ALIKE: [&str; 9] = [
        "api.github.com.evil.test",
        "xapi.github.com",
        "api-github.com",
        "api.github.co",
        "api.githuh.com",
        // Cyrillic letters that look like the others.
        "xn--pi-6kc.github.com",
        "xn--ap-ioc.github.com",
        "api.xn--gthub-n2e.com",
        "api.github.com.github.test",
    ];
    let github = github().reply("/*", "x").start().await;
    let near = ALIKE.into_iter().fold(Origin::https("near.test"), OriginBuilder::also);
    let near = near.reply("/*", "x").start().await;
    let rig = github_rig(&github).origin(&near).start().await;
    rig.create("dev", &[]).await;
    let own = rig.session_env("dev").await["GITHUB_TOKEN"].clone();
    for host in ALIKE {
        let mut client = rig.agent("dev").await.h1(host).await;
        assert_eq!(client.get("/user").await.status, 200, "{host}");
        assert_eq!(near.log().last().field("authorization"), None, "{host}");
        let before = near.log().count();
        let request =
            Request::get("/user").header("authorization", format!("Bearer {own}")).body(body::empty()).unwrap();
        let refused = client.fetch(request).await;
        assert_eq!(refused.field("x-clauderon-error"), Some("placeholder_misdirected"), "{host}");
        assert_eq!(near.log().count(), before, "{host}");
    }
    assert_eq!(github.log().count(), 0);
    rig.assert_no_secret();
}

#[tokio::test]
async fn a_host_that_can_be_read_two_ways_is_no_host() {
    let github = github().reply("/*", "x").start().await;
    let rig = github_rig(&github).start().await;
    for authority in [
        "api.github.com..:443",
        ".api.github.com:443",
        "api..github.com:443",
        "api.github.com%2eevil.test:443",
        "api.github.com%00.evil.test:443",
        "api.github.com\\.evil.test:443",
        "user@api.github.com:443",
        "api.github.com:443:443",
        "api.github.com:0443x",
        "api.github.com:",
        "xn--api-.github.com:443",
        "xn--a.github.com:443",
    ] {
        let mut wire = clauderon_testkit::bytes::Wire::connect(rig.addr()).await;
        let reply = wire.exchange(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n")).await;
        let status = reply.map(|reply| reply.status());
        assert!(matches!(status, Some(400)), "{authority}: {status:?}");
    }
    assert_eq!(github.log().count(), 0);
}
