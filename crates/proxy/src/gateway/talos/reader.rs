//! A certificate that can read and nothing else, asked of the cluster itself: what then is forbidden, Talos forbids too.

use std::sync::Arc;
use std::time::Duration;

use clauderon_core::denial::{Denial, DenialCode};
use clauderon_core::host::Origin;
use clauderon_core::talos::{GRANT_PATH, granted, reader_request};
use http::header::{CONTENT_TYPE, TE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Version};
use http_body_util::{BodyExt as _, Limited};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::cluster::TalosCluster;
use crate::body::Body;
use crate::forward::Waiting;
use crate::gateway::access::Access;
use crate::gateway::sending::route;
use crate::gateway::{Call, Gateway};
use crate::snapshot::Snapshot;
use crate::target::at_origin;
use crate::tls::client::ClientIdentity;
use crate::upstream::pool::Bucket;

/// The certificate as it was last asked for; locked while it is, so that many who wait ask once.
#[derive(Default)]
pub(crate) struct Reader(Mutex<Option<Held>>);

struct Held {
    /// `None` where the cluster granted none.
    access: Option<Arc<Access>>,
    until: Instant,
}

/// The access of a reader, if the cluster grants one.
pub(crate) async fn access(call: &Call<'_>, snapshot: &Snapshot, cluster: &TalosCluster) -> Option<Arc<Access>> {
    let mut held = cluster.reader.as_ref()?.0.lock().await;
    if let Some(held) = held.as_ref().filter(|held| Instant::now() < held.until) {
        return held.access.clone();
    }
    let asked = tokio::time::timeout(PATIENCE, ask(call, snapshot, cluster)).await;
    let asked = asked.unwrap_or_else(|_| Err(Denial::new(DenialCode::UpstreamTimeout, "no answer in time")));
    let access = asked.map(Arc::new).inspect_err(|denial| {
        let (context, why) = (&cluster.access.context, &denial.message);
        tracing::warn!(%context, "no certificate for reading only: {why}; the context's own is used, within the same rules");
    });
    let life = if access.is_ok() { LIFE / 2 } else { RETRY };
    *held = Some(Held { access: access.ok(), until: Instant::now() + life });
    held.as_ref().and_then(|held| held.access.clone())
}

/// Asks each endpoint until one grants it: not all of them need be control planes.
async fn ask(call: &Call<'_>, snapshot: &Snapshot, cluster: &TalosCluster) -> Result<Access, Denial> {
    let mut why = Denial::new(DenialCode::CredentialUnavailable, "the context has no endpoints");
    for endpoint in cluster.endpoints.in_turn(Instant::now()) {
        match ask_at(call, snapshot, cluster, &endpoint.origin).await {
            Ok(access) => return Ok(access),
            Err(denial) => why = denial,
        }
    }
    Err(why)
}

/// One call of the daemon's own, which no agent had a part in; it is on record as any other.
async fn ask_at(
    call: &Call<'_>,
    snapshot: &Snapshot,
    cluster: &TalosCluster,
    origin: &Origin,
) -> Result<Access, Denial> {
    let mut exchange = call.proxy.exchange(None);
    let record = exchange.record();
    at_origin(record, origin);
    (record.method, record.path, record.protocol) = ("POST".into(), GRANT_PATH.into(), "HTTP/2");
    (record.service, record.credential) = (Gateway::Talos.service().into(), Some(Gateway::Talos.service().into()));
    (record.reason, record.auth_injected, record.allowed) = (Some("reader_certificate"), true, true);
    exchange.begin()?;
    let (sent, bucket) = (exchange.sent(), Arc::new(Bucket::default()));
    let route = route((call, snapshot), &cluster.access, origin, &bucket, (&sent, Waiting::ForAnswers));
    let asked = async {
        let response = route.send_own(head(), Body::Full(reader_request(LIFE).into())).await?;
        exchange.answered(response.status());
        let whole = Limited::new(response.into_body(), LARGEST).collect().await;
        let whole = whole.map_err(|_| Denial::new(DenialCode::UpstreamProtocol, "an answer that breaks off"))?;
        let refused = whole.trailers().and_then(refusal);
        let identity = granted(&whole.to_bytes()).ok_or_else(|| not_granted(refused.as_deref()))?;
        let identity = ClientIdentity::from_pem(&identity.certificate, &identity.key);
        identity.and_then(|identity| cluster.access_as(identity)).map_err(|error| not_granted(Some(&error.to_string())))
    };
    let asked = asked.await;
    if let Err(denial) = &asked {
        exchange.record().error = Some(denial.message.clone());
    }
    exchange.complete();
    asked
}

fn head() -> Parts {
    let (mut parts, ()) = Request::new(()).into_parts();
    (parts.method, parts.version) = (Method::POST, Version::HTTP_2);
    parts.uri = http::Uri::from_static(GRANT_PATH);
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    parts.headers.insert(TE, HeaderValue::from_static("trailers"));
    parts
}

/// What the cluster says against it.
fn refusal(trailers: &HeaderMap) -> Option<String> {
    let text = |name: &str| trailers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let told: String = text("grpc-message").chars().take(LONGEST_REASON).collect();
    (text("grpc-status") != "0").then(|| format!("status {}: {told}", text("grpc-status")))
}

fn not_granted(why: Option<&str>) -> Denial {
    let why = why.unwrap_or("the answer holds none");
    Denial::new(DenialCode::CredentialUnavailable, format!("the cluster granted no certificate for reading ({why})"))
}

/// How long such a certificate holds; a new one is asked for after half of it.
const LIFE: Duration = Duration::from_secs(6 * 3600);

/// So long a cluster is not asked again that granted none.
const RETRY: Duration = Duration::from_secs(600);

/// Whoever waits for it waits for a read.
const PATIENCE: Duration = Duration::from_secs(10);

/// Many times any certificate.
const LARGEST: usize = 256 * 1024;

const LONGEST_REASON: usize = 256;
