//! What services are told apart by, and what `[services.<name>]` changes.

use clauderon_testkit::body;
use clauderon_testkit::origin::Origin;
use http::Request;

use crate::rig;

/// `{"iat":1705,"url":"https://sentry.io","region_url":"https://de.sentry.io","org":"acme"}` and a secret.
const SENTRY: &str = "sntrys_eyJpYXQiOjE3MDUsInVybCI6Imh0dHBzOi8vc2VudHJ5LmlvIiwicmVnaW9uX3VybCI6Imh0dHBzOi8vZGUuc2VudHJ5LmlvIiwi\
                      b3JnIjoiYWNtZSJ9_TheRealSecretNobodyMaySee0123456789abcdefgh";

#[tokio::test]
async fn a_sentry_organization_token_keeps_its_claims() {
    let bearer = format!("Bearer {SENTRY}");
    let origin = Origin::https("de.sentry.io").require("authorization", &bearer).reply("/*", SENTRY).start().await;
    let rig = rig().secret("sentry_auth_token", SENTRY).origin(&origin).start().await;
    rig.create("dev", &[]).await;
    rig.create("other", &[]).await;
    let placeholder = rig.session_env("dev").await["SENTRY_AUTH_TOKEN"].clone();
    let text = placeholder.strip_prefix("sntrys_").and_then(|rest| rest.split('_').next()).unwrap();
    assert!(text.starts_with("eyJjbGF1ZGVyb24i") && placeholder != SENTRY, "{placeholder}");
    for mut client in [rig.agent("dev").await.h1("de.sentry.io").await, rig.agent("dev").await.h2("de.sentry.io").await]
    {
        let get = || Request::get("/api/0/projects/").header("authorization", format!("Bearer {placeholder}"));
        let answered = client.fetch(get().body(body::full("")).unwrap()).await;
        assert_eq!((answered.status.as_u16(), answered.text()), (200, placeholder.clone()), "as it was sent");
    }
    let mut other = rig.agent("other").await.h1("de.sentry.io").await;
    let get = Request::get("/api/0/projects/").header("authorization", format!("Bearer {placeholder}"));
    let refused = other.fetch(get.body(body::full("")).unwrap()).await;
    assert_eq!(refused.field("x-clauderon-error"), Some("placeholder_misdirected"));
    rig.assert_no_secret();
}

#[tokio::test]
async fn fields_of_ones_own_go_along_where_the_client_sent_none() {
    let origin = Origin::https("api.eu.pagerduty.com").reply("/*", "{}").start().await;
    let table =
        "[services.pagerduty]\nregion = \"eu\"\nextra_headers = { From = \"me@example.com\", X-Team = \"a b\" }";
    let rig = rig().secret("pagerduty_token", "u+TheRealKeyNobodySee").origin(&origin).table(table).start().await;
    let agent = rig.anonymous();
    agent.get("https://api.eu.pagerduty.com/users").await;
    let seen = origin.log().last();
    assert_eq!((seen.field("from"), seen.field("x-team")), (None, Some("a b")));
    let mut client = rig.agent("default").await.h1("api.eu.pagerduty.com").await;
    for (own, arrives) in [(None, "me@example.com"), (Some("you@example.com"), "you@example.com")] {
        let mut put = Request::put("/incidents");
        if let Some(own) = own {
            put = put.header("from", own);
        }
        client.fetch(put.body(body::full("{}")).unwrap()).await;
        assert_eq!(origin.log().last().field("from"), Some(arrives));
    }
    let theirs = Request::put("/incidents").header("authorization", "Token token=theirs");
    client.fetch(theirs.body(body::full("{}")).unwrap()).await;
    assert_eq!(origin.log().last().field("from"), None, "with somebody else's credential nothing goes along");
    rig.assert_no_secret();
}

#[tokio::test]
async fn a_host_of_ones_own_below_a_path() {
    let origin = Origin::https("sentry.example.test").reply("/*", "[]").start().await;
    let table = "[services.sentry]\nhosts = [\"sentry.example.test\"]\npath_prefix = \"/s/\"";
    let rig = rig().secret("sentry_auth_token", "sntryu_TheRealTokenNobodyMaySee").origin(&origin).table(table);
    let rig = rig.start().await;
    for (path, sent) in [("/s/api/0/projects/", Some("Bearer sntryu_TheRealTokenNobodyMaySee")), ("/api/0/", None)] {
        rig.anonymous().get(&format!("https://sentry.example.test{path}")).await;
        assert_eq!(origin.log().last().field("authorization"), sent, "{path}");
    }
}
