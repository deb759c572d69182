//! A credential that an origin refuses is read again, and the request sent again with what it has become.

use clauderon_testkit::agent::Client;
use clauderon_testkit::body::{channel, full};
use clauderon_testkit::origin::{Origin, OriginBuilder, ok, status};
use clauderon_testkit::rig::{Rig, RigBuilder};
use clauderon_testkit::wait::until;
use http::{Method, Request, StatusCode};

use crate::onepassword::{calls, with_op};
use crate::{GITHUB, github, rig};

/// What GitHub took before the token was renewed.
const OLD: &str = "ghp_TheTokenOfYesterday012345678901234567";

/// An `op` that gives the old token once, and then the new one.
fn rotated() -> RigBuilder {
    with_op(&format!("[ $(wc -l < \"$calls\") = 1 ] && printf {OLD} || printf {GITHUB}")).guards(OLD)
}

/// GitHub's API, which reads a request whole before it refuses the old token.
fn patient(also: impl Fn() + Clone + Send + Sync + 'static) -> OriginBuilder {
    Origin::https("api.github.com").route("/*", move |call| {
        let (new, also) = (call.field("authorization") == Some(format!("Bearer {GITHUB}").as_str()), also.clone());
        async move {
            call.collect().await;
            if new {
                ok(format!("hello {GITHUB}, once {OLD}"))
            } else {
                also();
                status(StatusCode::UNAUTHORIZED, "bad")
            }
        }
    })
}

async fn clients(rig: &Rig) -> [Client; 2] {
    let agent = rig.anonymous();
    [agent.h1("api.github.com").await, agent.h2("api.github.com").await]
}

#[tokio::test]
async fn a_request_goes_out_again_once_with_the_new_secret() {
    for protocol in 0..2 {
        let origin = patient(|| ()).start().await;
        let rig = rotated().origin(&origin).start().await;
        let client = &mut clients(&rig).await[protocol];
        let answered = client.get("/user").await;
        assert_eq!(answered.status, 200, "{}", answered.text());
        assert_eq!(answered.text().matches("clauderon_placeholder").count(), 2, "{}", answered.text());
        let line = rig.audit_path("/user").await;
        assert_eq!((line.get("response_code"), line.get("redactions")), (&200.into(), &2.into()));
        assert!(line.text("error").contains("refused the credential (401)"), "{}", line.raw);
        assert!(line.text("error").contains("sent again"), "{}", line.raw);
        assert_eq!(client.get("/later").await.status, 200);
        assert_eq!((origin.log().count(), calls(&rig).len()), (3, 2));
        assert!(rig.audit_path("/later").await.get("error").is_null());
        rig.assert_no_secret();
    }
}

#[tokio::test]
async fn a_short_body_goes_out_again_whole() {
    // One origin reads all before it answers, the other answers at once.
    let origins = [patient(|| ()), github().reply("/*", "x")];
    for builder in origins {
        let origin = builder.start().await;
        for protocol in 0..2 {
            let rig = rotated().origin(&origin).start().await;
            let client = &mut clients(&rig).await[protocol];
            let body = "a body of some length ".repeat(3000);
            let before = origin.log().count();
            let answered = client.send(Method::POST, "/graphql", body.clone()).await;
            assert_eq!(answered.status, 200, "{protocol} {}", answered.text());
            assert_eq!(origin.log().count(), before + 2);
            let last = origin.log().last();
            assert_eq!((last.complete, last.body.len()), (true, body.len()));
            assert_eq!(last.body, body);
            assert_eq!(rig.audit_path("/graphql").await.get("request_bytes"), body.len());
            rig.assert_no_secret();
        }
    }
}

#[tokio::test]
async fn a_body_that_was_not_kept_is_not_sent_again() {
    let origin = patient(|| ()).start().await;
    for protocol in 0..2 {
        let rig = rotated().origin(&origin).start().await;
        let client = &mut clients(&rig).await[protocol];
        let (feed, body) = channel();
        tokio::spawn(async move { feed.data("of unknown length").await });
        let before = origin.log().count();
        let streamed = client.fetch(Request::post("/streamed").body(body).unwrap()).await;
        assert_eq!((streamed.status.as_u16(), origin.log().count()), (401, before + 1));
        assert!(rig.audit_path("/streamed").await.text("error").contains("could not be sent again"));
        // The next one needs no second try.
        let (feed, body) = channel();
        tokio::spawn(async move { feed.data("of unknown length").await });
        assert_eq!(client.fetch(Request::post("/next").body(body).unwrap()).await.status, 200);
        assert_eq!((origin.log().count(), calls(&rig).len()), (before + 2, 2));
    }
    let rig = rotated().origin(&origin).start().await;
    let before = origin.log().count();
    let long = rig.anonymous().h1("api.github.com").await.send(Method::POST, "/long", vec![b'x'; 2 << 20]).await;
    assert_eq!((long.status.as_u16(), origin.log().count()), (401, before + 1));
}

#[tokio::test]
async fn a_credential_that_is_still_the_same_is_refused_as_it_is() {
    let origin = github().reply("/*", "x").start().await;
    let rig = with_op(&format!("printf {OLD}")).guards(OLD).origin(&origin).start().await;
    for path in ["/first", "/second"] {
        assert_eq!(rig.anonymous().get(&format!("https://api.github.com{path}")).await.status, 401);
    }
    assert!(rig.audit_path("/first").await.text("error").contains("still holds the same"));
    assert!(rig.audit_path("/second").await.get("error").is_null());
    assert_eq!((origin.log().count(), calls(&rig).len()), (2, 2), "asked again once, not for every refusal");
    rig.assert_no_secret();
}

#[tokio::test]
async fn a_renewal_that_fails_leaves_the_answer_and_the_secret() {
    let origin = github().reply("/*", "x").start().await;
    let limited =
        format!("[ $(wc -l < \"$calls\") = 1 ] && printf {OLD} || {{ echo '(429) Too Many Requests' >&2; exit 1; }}");
    let rig = with_op(&limited).guards(OLD).origin(&origin).start().await;
    for path in ["/first", "/second"] {
        assert_eq!(rig.anonymous().get(&format!("https://api.github.com{path}")).await.status, 401);
    }
    assert!(rig.audit_path("/first").await.text("error").contains("rate limit"));
    assert_eq!(origin.log().last().field("authorization"), Some(format!("Bearer {OLD}").as_str()));
    assert_eq!(calls(&rig).len(), 2);
    let shown = rig.cli(["config", "credentials"]).succeed().await.stdout;
    assert!(shown.contains("rate limit") && shown.contains("the value read before is used"), "{shown}");
    rig.assert_no_secret();
}

#[tokio::test]
async fn many_refusals_at_once_ask_once() {
    let origin = patient(|| ()).start().await;
    let rig = with_op(&format!(
        "case $(wc -l < \"$calls\") in 1) printf {OLD};; 2) sleep 0.3; printf {GITHUB};; *) exit 1;; esac"
    ));
    let rig = rig.guards(OLD).origin(&origin).start().await;
    rig.create("other", &[]).await;
    let mut asking = tokio::task::JoinSet::new();
    for agent in [rig.anonymous(), rig.anonymous(), rig.agent("other").await, rig.agent("other").await] {
        asking.spawn(async move { agent.get("https://api.github.com/user").await.status });
    }
    assert!(asking.join_all().await.iter().all(|status| *status == 200));
    assert_eq!(calls(&rig).len(), 2);
    rig.assert_no_secret();
}

#[tokio::test]
async fn a_secret_file_is_read_again_too() {
    let home = std::sync::Arc::new(std::sync::OnceLock::<std::path::PathBuf>::new());
    let place = home.clone();
    // Written at the moment of the refusal: too late for the daemon to have noticed by itself.
    let origin = patient(move || {
        let file = place.get().unwrap().join("secrets/github_token");
        let new = file.with_extension("new");
        std::fs::write(&new, GITHUB).unwrap();
        std::fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::rename(&new, &file).unwrap();
    });
    let origin = origin.start().await;
    let rig = rig().secret("github_token", OLD).guards(GITHUB).origin(&origin).start().await;
    home.set(rig.home()).unwrap();
    assert_eq!(rig.anonymous().get("https://api.github.com/user").await.status, 200);
    assert_eq!(origin.log().count(), 2);
    rig.assert_no_secret();
}

#[tokio::test]
async fn a_variable_is_what_it_was_and_a_reference_in_it_is_not() {
    let origin = patient(|| ()).start().await;
    let rig = rig().env("GITHUB_TOKEN", OLD).guards(OLD).origin(&origin).start().await;
    assert_eq!(rig.anonymous().get("https://api.github.com/user").await.status, 401);
    assert_eq!(origin.log().count(), 1);
    drop(rig);
    let rig = rotated().env("GITHUB_TOKEN", "op://Work/Other/token").origin(&origin).start().await;
    assert_eq!(rig.anonymous().get("https://api.github.com/user").await.status, 200);
    assert!(calls(&rig)[1].contains("op://Work/Other/token"));
}

#[tokio::test]
async fn what_was_taken_away_meanwhile_is_not_used() {
    let origin = patient(|| ()).start().await;
    let rig = with_op(&format!(
        "[ $(wc -l < \"$calls\") = 1 ] && {{ printf {OLD}; exit; }}\n\
         while [ ! -e \"$calls-go\" ]; do sleep 0.02; done; printf {GITHUB}"
    ));
    let rig = rig.guards(OLD).origin(&origin).start().await;
    let agent = rig.anonymous();
    let post = tokio::spawn(async move {
        let mut client = agent.h1("api.github.com").await;
        client.fetch(Request::post("/repos").body(full("x")).unwrap()).await.status
    });
    until("the second read", || (calls(&rig).len() == 2).then_some(())).await;
    rig.cli(["set-access-mode", "default", "read-only"]).succeed().await;
    std::fs::write(rig.outside().join("op-calls-go"), "").unwrap();
    assert_eq!((post.await.unwrap().as_u16(), origin.log().count()), (401, 1));
}

#[tokio::test]
async fn curl_gets_its_answer_over_either_protocol() {
    for version in ["--http1.1", "--http2"] {
        let origin = patient(|| ()).start().await;
        let rig = rotated().origin(&origin).start().await;
        let curl = rig.tool("curl", "default", rig.outside()).await;
        let post = ["-sS", version, "-d", "{\"title\":\"x\"}", "https://api.github.com/repos/o/r/issues"];
        let stdout = curl.args(post).args(["-o", "/dev/null", "-w", "%{http_code}"]).succeed().await.stdout;
        assert_eq!((stdout.as_str(), origin.log().count()), ("200", 2));
        assert_eq!(origin.log().last().body, "{\"title\":\"x\"}");
        rig.assert_no_secret();
    }
}
