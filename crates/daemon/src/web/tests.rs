use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::rig::Rig;

/// Sends a request head as it stands and returns the answer's status and body.
async fn ask(rig: &Rig, path: &str, fields: &[(&str, &str)]) -> (u16, String) {
    let mut stream = TcpStream::connect(rig.proxy()).await.unwrap();
    let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!("GET {path} HTTP/1.1\r\n{fields}Connection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

fn token(rig: &Rig) -> String {
    std::fs::read_to_string(rig.home().join("api-token")).unwrap().trim().to_owned()
}

#[tokio::test]
async fn health_is_open_and_the_api_is_not() {
    let rig = Rig::start().await;
    let host = rig.proxy();
    let (status, body) = ask(&rig, "/health", &[("Host", &host)]).await;
    assert_eq!(status, 200, "{body}");
    assert!(body.contains(r#""status":"ok""#), "{body}");
    for credentials in ["", "Bearer", "Bearer 0000", "Basic eA=="] {
        let (status, body) = ask(&rig, "/v1/sessions", &[("Host", &host), ("Authorization", credentials)]).await;
        assert_eq!(status, 401, "{body}");
        assert!(body.contains("unauthorized") && body.contains("api-token"), "{body}");
    }
    let bearer = format!("Bearer {}", token(&rig));
    let (status, body) = ask(&rig, "/v1/sessions", &[("Host", &host), ("Authorization", &bearer)]).await;
    assert_eq!(status, 200, "{body}");
    assert!(body.contains(r#""name":"default""#), "{body}");
}

#[tokio::test]
async fn a_page_of_another_site_gets_nothing_even_with_the_token() {
    let rig = Rig::start().await;
    let host = rig.proxy();
    let port = host.rsplit(':').next().unwrap();
    let bearer = format!("Bearer {}", token(&rig));
    let rebound = format!("attacker.example:{port}");
    let dotted = format!("localhost.attacker.example:{port}");
    for foreign in [rebound.as_str(), dotted.as_str(), "localhost", "127.0.0.1:1"] {
        let (status, _) = ask(&rig, "/v1/sessions", &[("Host", foreign), ("Authorization", &bearer)]).await;
        assert_eq!(status, 403, "Host: {foreign}");
    }
    let own = format!("http://{host}");
    let localhost = format!("localhost:{port}");
    for (origin, expected) in [("http://attacker.example", 403), ("null", 403), ("https://localhost", 403), (&own, 200)]
    {
        let fields = [("Host", localhost.as_str()), ("Origin", origin), ("Authorization", &bearer)];
        let (status, body) = ask(&rig, "/v1/sessions", &fields).await;
        assert_eq!(status, expected, "Origin: {origin} {body}");
    }
}

#[tokio::test]
async fn the_root_points_on_and_other_paths_are_json_errors() {
    let rig = Rig::start().await;
    let host = rig.proxy();
    let (status, body) = ask(&rig, "/", &[("Host", &host)]).await;
    assert_eq!((status, body.contains("/health")), (200, true));
    let bearer = format!("Bearer {}", token(&rig));
    let (status, body) = ask(&rig, "/v2/x", &[("Host", &host), ("Authorization", &bearer)]).await;
    assert_eq!(status, 404);
    assert!(body.contains(r#""code":"not_found""#), "{body}");
}

#[test]
fn a_token_that_was_open_to_others_is_replaced() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("api-token");
    let read = || std::fs::read_to_string(&path).unwrap();
    super::ApiToken::load_or_create(&path).unwrap();
    let first = read();
    assert!(super::ApiToken::load_or_create(&path).unwrap().is(first.trim()));
    assert_eq!(read(), first);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(!super::ApiToken::load_or_create(&path).unwrap().is(first.trim()));
    assert_ne!(read(), first);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}
