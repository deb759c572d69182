//! Real node and python, with nothing but the variables a session has.

use crate::{github, github_rig};

#[tokio::test]
async fn node_speaks_https_through_the_proxy() {
    let origin = github().reply("/user", "octocat").start().await;
    let rig = github_rig(&origin).start().await;
    rig.create("dev", &[]).await;
    let node = rig.direct_tool("node", "dev", rig.outside()).await.args(["-e", NODE]);
    assert_eq!(node.succeed().await.stdout, "200 octocat");
    assert_eq!(rig.audit_path("/user").await.text("session"), "dev");
    rig.assert_no_secret();
}

#[tokio::test]
async fn python_speaks_https_through_the_proxy() {
    let origin = github().reply("/user", "octocat").start().await;
    let rig = github_rig(&origin).start().await;
    rig.create("dev", &[]).await;
    let python = rig.direct_tool("python3", "dev", rig.outside()).await.args(["-c", PYTHON]);
    assert_eq!(python.succeed().await.stdout, "200 octocat\n");
    assert_eq!(rig.audit_path("/user").await.text("session"), "dev");
    rig.assert_no_secret();
}

#[tokio::test]
async fn python_accepts_our_certificates_strictly() {
    let origin = github().reply("/user", "octocat").start().await;
    let rig = github_rig(&origin).start().await;
    let python = rig.direct_tool("python3", "default", rig.outside()).await.args(["-c", STRICT]);
    assert_eq!(python.succeed().await.stdout, "200 octocat\n");
}

const NODE: &str = r#"
const http = require('http'), tls = require('tls'), https = require('https');
const proxy = new URL(process.env.HTTPS_PROXY);
const login = Buffer.from(decodeURIComponent(proxy.username) + ':' + decodeURIComponent(proxy.password)).toString('base64');
const connect = http.request({
  host: proxy.hostname, port: proxy.port, method: 'CONNECT', path: 'api.github.com:443',
  headers: { 'Proxy-Authorization': 'Basic ' + login },
});
connect.on('connect', (answer, socket) => {
  if (answer.statusCode !== 200) throw new Error('CONNECT ' + answer.statusCode);
  const secure = tls.connect({ socket, servername: 'api.github.com' });
  const request = https.request({
    host: 'api.github.com', path: '/user', defaultPort: 443, createConnection: () => secure,
    headers: { authorization: 'Bearer ' + process.env.GITHUB_TOKEN },
  }, response => {
    let text = '';
    response.on('data', piece => text += piece);
    response.on('end', () => { process.stdout.write(response.statusCode + ' ' + text); process.exit(0); });
  });
  request.end();
});
connect.end();
"#;

const PYTHON: &str = r#"
import os, urllib.request
request = urllib.request.Request("https://api.github.com/user")
request.add_header("Authorization", "Bearer " + os.environ["GITHUB_TOKEN"])
with urllib.request.urlopen(request, timeout=20) as answer:
    print(answer.status, answer.read().decode())
"#;

const STRICT: &str = r#"
import ssl, urllib.request
context = ssl.create_default_context()
context.verify_flags |= ssl.VERIFY_X509_STRICT
with urllib.request.urlopen("https://api.github.com/user", timeout=20, context=context) as answer:
    print(answer.status, answer.read().decode())
"#;
