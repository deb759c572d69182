//! Origins that cannot be reached, or that should not be trusted: the error says which.

use std::net::SocketAddr;

use clauderon_testkit::agent::Answered;
use clauderon_testkit::ca::Certificate;
use clauderon_testkit::origin::Origin;
use clauderon_testkit::rig::Rig;

use crate::{github, github_rig, rig};

/// An address nobody listens on. The socket stays bound (and unlistened), so nobody else can take it meanwhile.
fn refusing() -> (std::os::fd::OwnedFd, SocketAddr) {
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
    let fd = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&fd, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let addr = getsockname(&fd).unwrap().try_into().unwrap();
    (fd, addr)
}

async fn failed(rig: &Rig, status: u16, code: &str) -> Answered {
    let answered = rig.anonymous().get("https://api.github.com/x").await;
    assert_eq!(answered.status, status, "{}", answered.text());
    assert_eq!(answered.field("x-clauderon-error"), Some(code), "{}", answered.text());
    let line = rig.audit_path("/x").await;
    assert_eq!(line.get("response_code"), status);
    assert!(!line.text("error").is_empty(), "{}", line.raw);
    assert!(answered.json()["error"].as_str().unwrap().contains("api.github.com"), "{}", answered.text());
    rig.assert_no_secret();
    answered
}

#[tokio::test]
async fn a_refusing_origin_is_502_and_said_to_refuse() {
    let (_held, addr) = refusing();
    let rig = rig().secret("github_token", crate::GITHUB).resolve("api.github.com:443", addr).start().await;
    let answered = failed(&rig, 502, "upstream_refused").await;
    assert!(answered.text().contains("refuse"), "{}", answered.text());
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_502_and_said_so() {
    let rig = rig().start().await;
    let answered = rig.anonymous().get("https://no-such-host.invalid/x").await;
    assert_eq!((answered.status.as_u16(), answered.field("x-clauderon-error")), (502, Some("upstream_dns")));
    assert!(answered.json()["error"].as_str().unwrap().contains("no-such-host.invalid"));
}

#[tokio::test]
async fn a_silent_origin_is_504_at_the_limit() {
    let origin = github().h1_only().script(|mut wire| async move { drop(wire.rest().await) }).start().await;
    let rig = github_rig(&origin).upstream("response_timeout = \"300ms\"").start().await;
    failed(&rig, 504, "upstream_timeout").await;
}

#[tokio::test]
async fn an_origin_silent_before_tls_is_504_at_the_limit() {
    // Connects by the kernel's backlog; nobody ever accepts.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let rig = rig().resolve("api.github.com:443", listener.local_addr().unwrap());
    let rig = rig.upstream("connect_timeout = \"300ms\"").start().await;
    failed(&rig, 504, "upstream_timeout").await;
}

#[tokio::test]
async fn an_origin_that_resets_is_502() {
    let origin = github().h1_only().script(|mut wire| async move {
        let _ = wire.request().await;
        wire.reset();
    });
    let origin = origin.start().await;
    let rig = github_rig(&origin).start().await;
    failed(&rig, 502, "upstream_protocol").await;
}

#[tokio::test]
async fn an_origin_without_tls_is_502_and_said_to_speak_no_tls() {
    let origin = Origin::http("api.github.com").port(443).script(|mut wire| async move {
        wire.try_send("HTTP/1.1 400 Bad Request\r\n\r\n").await;
        drop(wire.rest().await);
    });
    let origin = origin.start().await;
    let rig = github_rig(&origin).start().await;
    failed(&rig, 502, "upstream_tls").await;
}

#[tokio::test]
async fn bad_certificates_are_502_and_nothing_is_sent() {
    for certificate in Certificate::BAD {
        let origin = github().certificate(certificate).h1_only();
        let origin = origin.script(|mut wire| async move { drop(wire.rest().await) }).start().await;
        let rig = github_rig(&origin).start().await;
        let answered = failed(&rig, 502, "upstream_certificate").await;
        let why = match certificate {
            Certificate::Expired => "expired",
            Certificate::NotYetValid => "not valid before",
            Certificate::WrongName => "somebody-else.test",
            Certificate::NoAltName => "name",
            Certificate::SelfSigned | Certificate::UnknownIssuer => "issuer",
            _ => "certificate",
        };
        let text = answered.text().to_lowercase();
        assert!(text.contains(why), "{certificate:?} should say {why:?}: {text}");
        assert_eq!(origin.log().bytes(), 0, "{certificate:?}: a byte of the request was sent");
    }
}

#[tokio::test]
async fn private_addresses_are_not_dialled() {
    let rig = rig().start().await;
    for host in
        ["127.0.0.1", "10.1.2.3", "192.168.1.1", "169.254.169.254", "100.64.0.1", "[::1]", "[fd00::1]", "0.0.0.0"]
    {
        let refusal = rig.anonymous().connect(&format!("{host}:443")).await;
        let status = match refusal {
            Err(refusal) => refusal.status(),
            // The address may be judged at the dial, once a request is there.
            Ok(_) => rig.anonymous().get(&format!("https://{host}/")).await.status.as_u16(),
        };
        assert_eq!(status, 403, "{host}");
    }
    let plain = rig.anonymous().get("http://10.1.2.3/").await;
    assert_eq!((plain.status.as_u16(), plain.field("x-clauderon-error")), (403, Some("address_not_allowed")));
}

#[tokio::test]
async fn allowed_private_addresses_are_dialled() {
    let origin = Origin::http("127.0.0.1").reply("/", "inside").start().await;
    let rig = rig().table("[network]\nallow_private = [\"127.0.0.0/8\"]").start().await;
    let answered = rig.anonymous().get(&format!("http://{}/", origin.addr())).await;
    assert_eq!(answered.text(), "inside");
}

#[tokio::test]
async fn an_upstream_proxy_is_asked_by_connect() {
    let origin = github().reply("/x", "by way of the proxy").start().await;
    let target = origin.addr();
    let corporate = Origin::http("proxy.example.test").script(move |mut wire| async move {
        let Some((head, _)) = wire.request().await else { return };
        if head.start != "CONNECT api.github.com:443 HTTP/1.1"
            || head.field("proxy-authorization") != Some("Basic dXNlcjpwYXNzLXdvcmQtbm9ib2R5LW1heS1zZWU=")
        {
            wire.try_send("HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n").await;
            return;
        }
        wire.send("HTTP/1.1 200 OK\r\n\r\n").await;
        let mut onward = tokio::net::TcpStream::connect(target).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut wire, &mut onward).await;
    });
    let corporate = corporate.start().await;
    let url = format!("http://user:pass-word-nobody-may-see@{}", corporate.addr());
    let rig = rig().secret("github_token", crate::GITHUB).guards("pass-word-nobody-may-see");
    let rig = rig.upstream(&format!("proxy = \"{url}\"")).start().await;
    let answered = rig.anonymous().get("https://api.github.com/x").await;
    assert_eq!(answered.text(), "by way of the proxy");
    let line = rig.audit_path("/x").await;
    assert_eq!(line.get("auth_injected"), true);
    assert!(!rig.output().contains("pass-word-nobody-may-see"));
}
