//! scratch
#![allow(missing_docs, clippy::all, unreachable_pub)]
use clauderon_core::{access::*, config::*, credential::*, host::*, placeholder::*, rule::*, secret::*, session::*};
use clauderon_proxy::{
    snapshot::*,
    tls::{ca::Issuer, client::*},
    *,
};
use std::{future::Future, pin::Pin, sync::Arc};
struct Book(Arc<Secret>);
impl SecretBook for Book {
    fn peek(&self, name: &CredentialName) -> Known {
        if name.as_str() == "github" { Known::Ready(self.0.clone()) } else { Known::Absent }
    }
    fn used(&self, _: &CredentialName) {}
    fn resolve<'a>(&'a self, _: &'a CredentialName) -> Pin<Box<dyn Future<Output = Resolved> + Send + 'a>> {
        Box::pin(async { Err("no".into()) })
    }
}
struct Local;
impl LocalService for Local {
    fn call(
        &self,
        _r: http::Request<LocalBody>,
    ) -> Pin<Box<dyn Future<Output = http::Response<LocalBody>> + Send + '_>> {
        use http_body_util::BodyExt;
        Box::pin(async {
            http::Response::new(
                http_body_util::Full::new(bytes::Bytes::from_static(b"local\n")).map_err(|e| match e {}).boxed_unsync(),
            )
        })
    }
}
#[tokio::main(worker_threads = 2)]
async fn main() {
    clauderon_proxy::tls::install_crypto_provider();
    let home = std::path::PathBuf::from("/tmp/rig/home");
    std::fs::create_dir_all(&home).unwrap();
    let issuer = Arc::new(Issuer::load_or_create(&home.join("ca.pem"), &home.join("ca.key")).unwrap());
    let mut settings = Settings::defaults(&home);
    for (n, p) in [("api.github.com", 9443), ("h1.test", 9444), ("ws.test", 9445)] {
        settings.upstream.resolve.insert((Host::parse(n).unwrap(), 443), format!("127.0.0.1:{p}").parse().unwrap());
    }
    let roots = load_roots(&["/tmp/rig/root.pem"]).unwrap();
    let id = SessionId::parse("7f3a9c21").unwrap();
    let mode =
        if std::env::args().nth(1).as_deref() == Some("ro") { AccessMode::ReadOnly } else { AccessMode::ReadWrite };
    let session = Session {
        id: id.clone(),
        name: SessionName::parse("default").unwrap(),
        mode,
        credentials: None,
        allow_hosts: None,
    };
    let mut sessions = Sessions::default();
    sessions.insert(Arc::new(session), []);
    let mut placeholders = PlaceholderTable::default();
    placeholders.insert_all(&id, &CredentialName::parse("github").unwrap());
    let snapshot = Snapshot {
        sessions,
        rules: RuleSet::new(clauderon_core::service::rules(&settings)),
        placeholders,
        settings: Arc::new(settings),
        upstream_tls: Arc::new(UpstreamTls::new(&roots).unwrap()),
    };
    let proxy = Proxy::new(ProxyParts {
        issuer,
        snapshot: Arc::new(arc_swap::ArcSwap::from_pointee(snapshot)),
        secrets: Arc::new(Book(Arc::new(Secret::parse("ghp_REAL").unwrap().unwrap()))),
        audit: audit::AuditLog::disabled(),
        local: Arc::new(Local),
        own_listeners: vec![],
    })
    .unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3130").await.unwrap();
    let (_signal, drain) = drain::channel();
    proxy.serve_tcp(listener, drain).await;
}
