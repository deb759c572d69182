//! A Kubernetes API server as far as kubectl needs one: discovery, objects, watches, logs, reviews, and pods to reach into.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::broadcast;

use crate::body::{Body, channel, full};
use crate::origin::{Call, Origin, OriginBuilder};

mod kinds;
mod pods;
mod spdy;

use kinds::{KINDS, Kind};

/// A running API server.
pub struct ApiServer {
    origin: Origin,
    state: Arc<State>,
}

/// What the server keeps.
pub(crate) struct State {
    objects: Mutex<BTreeMap<String, Value>>,
    changes: broadcast::Sender<(String, Value)>,
    version: Mutex<u64>,
}

impl ApiServer {
    /// Starts one known as `https://name:6443`, with a namespace, a running pod and a secret; `build` says whom it lets in.
    pub async fn start(name: &str, build: impl FnOnce(OriginBuilder) -> OriginBuilder) -> Self {
        let state =
            Arc::new(State { objects: Mutex::default(), changes: broadcast::channel(64).0, version: Mutex::new(1) });
        state.furnish();
        let shared = Arc::clone(&state);
        let builder = Origin::https(name).port(6443).route("/*", move |call| answer(Arc::clone(&shared), call));
        Self { origin: build(builder).start().await, state }
    }

    /// What reached it.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The object at `path`, if there is one.
    pub fn object(&self, path: &str) -> Option<Value> {
        self.state.objects().get(path).cloned()
    }

    /// Puts an object at `path`, and tells those who watch.
    pub fn put(&self, path: &str, object: Value) {
        self.state.store(path, object, "ADDED");
    }

    /// A kubeconfig for it whose one user is `user` (YAML, without indentation).
    pub fn kubeconfig(&self, user: &str) -> String {
        let user: String = user.lines().map(|line| format!("    {line}\n")).collect();
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: dev\nclusters:\n- name: dev-cluster\n  cluster:\n    \
             server: https://{}:{}\n    tls-server-name: {}\n    certificate-authority-data: {}\ncontexts:\n- name: dev\n  \
             context:\n    cluster: dev-cluster\n    user: ann\n    namespace: apps\nusers:\n- name: ann\n  user:\n{user}",
            self.origin.addr().ip(),
            self.origin.addr().port(),
            self.origin.name(),
            base64::Engine::encode(&base64::prelude::BASE64_STANDARD, crate::ca::TestCa::shared().pem()),
        )
    }
}

impl State {
    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Value>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn furnish(&self) {
        let meta = |name: &str, space: &str| json!({ "name": name, "namespace": space, "uid": name });
        let core = |kind: &str, name: &str| json!({ "apiVersion": "v1", "kind": kind, "metadata": meta(name, "apps") });
        let space = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "apps", "uid": "apps" } });
        self.store("/api/v1/namespaces/apps", space, "ADDED");
        let mut pod = core("Pod", "web");
        pod["spec"] = json!({ "containers": [{ "name": "main", "image": "web:1" }], "nodeName": "node-1" });
        pod["status"] = json!({
            "phase": "Running", "podIP": "10.0.0.7", "startTime": "2026-01-01T00:00:00Z",
            "containerStatuses": [{ "name": "main", "ready": true, "restartCount": 0, "state": { "running": {} }, "image": "web:1", "imageID": "" }]
        });
        self.store("/api/v1/namespaces/apps/pods/web", pod, "ADDED");
        let mut secret = core("Secret", "db");
        secret["type"] = "Opaque".into();
        secret["data"] = json!({ "password": SECRET_VALUE });
        secret["metadata"]["annotations"] = json!({ "kubectl.kubernetes.io/last-applied-configuration": format!("{{\"data\":\"{SECRET_VALUE}\"}}"), "team": "a" });
        self.store("/api/v1/namespaces/apps/secrets/db", secret, "ADDED");
    }

    fn store(&self, path: &str, mut object: Value, change: &str) -> Value {
        let version = {
            let mut version = self.version.lock().unwrap_or_else(PoisonError::into_inner);
            *version += 1;
            *version
        };
        object["metadata"]["resourceVersion"] = version.to_string().into();
        self.objects().insert(path.to_owned(), object.clone());
        self.tell(path, change, &object);
        object
    }

    fn remove(&self, path: &str) -> Option<Value> {
        let gone = self.objects().remove(path)?;
        self.tell(path, "DELETED", &gone);
        Some(gone)
    }

    fn tell(&self, path: &str, change: &str, object: &Value) {
        // Nobody may be watching.
        let _ = self.changes.send((path.to_owned(), json!({ "type": change, "object": object })));
    }

    fn within(&self, place: &Place) -> Vec<Value> {
        let objects = self.objects();
        objects.iter().filter(|(path, _)| place.holds(path)).map(|(_, object)| object.clone()).collect()
    }
}

/// Where in the tree a request points.
#[derive(Clone)]
struct Place {
    kind: &'static Kind,
    namespace: String,
    name: String,
    subresource: String,
}

impl Place {
    fn read(path: &str) -> Option<Self> {
        let kind_of =
            |group: &str, plural: &str| KINDS.iter().find(|kind| kind.group == group && kind.plural == plural);
        let (group, rest) = match path.strip_prefix("/api/v1/") {
            Some(rest) => ("", rest),
            None => path.strip_prefix("/apis/")?.split_once("/v1/")?,
        };
        let parts: Vec<&str> = rest.split('/').collect();
        let at = |nth: usize| parts.get(nth).copied().unwrap_or_default().to_owned();
        let (namespace, from) = if at(0) == "namespaces" && parts.len() > 2 { (at(1), 2) } else { (String::new(), 0) };
        let kind = kind_of(group, &at(from))?;
        Some(Self { kind, namespace, name: at(from + 1), subresource: at(from + 2) })
    }

    fn holds(&self, path: &str) -> bool {
        let collection = match self.namespace.as_str() {
            "" if self.kind.namespaced => {
                return path.starts_with(self.kind.root()) && path.contains(&format!("/{}/", self.kind.plural));
            }
            "" => format!("{}{}/", self.kind.root(), self.kind.plural),
            namespace => format!("{}namespaces/{namespace}/{}/", self.kind.root(), self.kind.plural),
        };
        path.strip_prefix(&collection).is_some_and(|name| !name.contains('/'))
    }

    fn path_of(&self, name: &str) -> String {
        let space = if self.kind.namespaced { format!("namespaces/{}/", self.namespace) } else { String::new() };
        format!("{}{space}{}/{name}", self.kind.root(), self.kind.plural)
    }
}

/// In which form an answer was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Whole,
    Metadata,
    Table,
}

impl Form {
    fn of(call: &Call) -> Self {
        let accept = call.headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        match accept.split(',').next().unwrap_or_default() {
            first if first.contains("as=Table") => Self::Table,
            first if first.contains("as=PartialObjectMetadata") => Self::Metadata,
            _ => Self::Whole,
        }
    }
}

async fn answer(state: Arc<State>, call: Call) -> Response<Body> {
    let path = call.uri.path().trim_end_matches('/').to_owned();
    if let Some(discovery) = kinds::discovery(&path) {
        call.collect().await;
        return reply(StatusCode::OK, &discovery);
    }
    if path == "/logs/secret.log" {
        return crate::origin::ok("the node's own");
    }
    let Some(place) = Place::read(&path) else { return not_found(&path) };
    match (&call.method, place.subresource.as_str()) {
        (_, "exec" | "portforward") => pods::open(call, &place.subresource),
        (_, "log") => pods::log(&call),
        (_, "token") => reply(
            StatusCode::CREATED,
            &json!({ "kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "status": { "token": "eyJ.minted" } }),
        ),
        (&Method::GET, "") if query(&call, "watch").is_some_and(|watch| watch != "false" && watch != "0") => {
            watch(&state, &call, place)
        }
        (&Method::GET, "") => get(&state, &call, &place),
        (&Method::POST, "") => create(&state, call, &place).await,
        (&Method::PUT | &Method::PATCH, "") => change(&state, call, &place).await,
        (&Method::DELETE, "") => delete(&state, call, &place).await,
        _ => not_found(&path),
    }
}

fn get(state: &State, call: &Call, place: &Place) -> Response<Body> {
    let form = Form::of(call);
    if place.name.is_empty() {
        return reply(StatusCode::OK, &list(place.kind, form, &state.within(place)));
    }
    match state.objects().get(&place.path_of(&place.name)) {
        Some(object) => reply(StatusCode::OK, &shown(place.kind, form, object)),
        None => not_found(&place.name),
    }
}

async fn create(state: &State, call: Call, place: &Place) -> Response<Body> {
    let form = Form::of(&call);
    let body = call.collect().await.bytes;
    if place.kind.plural == "selfsubjectaccessreviews" {
        // Whatever encoding it was asked in.
        let version = place.kind.version();
        let answer = json!({ "kind": place.kind.name, "apiVersion": version, "metadata": {}, "spec": {}, "status": { "allowed": true } });
        return reply(StatusCode::CREATED, &answer);
    }
    let Ok(mut object) = serde_json::from_slice::<Value>(&body) else { return bad_request() };
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    object["metadata"]["namespace"] = place.namespace.as_str().into();
    object["metadata"]["uid"] = name.as_str().into();
    let stored = state.store(&place.path_of(&name), object, "ADDED");
    reply(StatusCode::CREATED, &shown(place.kind, form, &stored))
}

async fn change(state: &State, call: Call, place: &Place) -> Response<Body> {
    let (form, patches) = (Form::of(&call), call.method == Method::PATCH);
    let path = place.path_of(&place.name);
    let Ok(body) = serde_json::from_slice::<Value>(&call.collect().await.bytes) else { return bad_request() };
    let Some(mut object) = state.objects().get(&path).cloned() else { return not_found(&place.name) };
    if patches {
        merge(&mut object, &body);
    } else {
        object = body;
    }
    let stored = state.store(&path, object, "MODIFIED");
    reply(StatusCode::OK, &shown(place.kind, form, &stored))
}

async fn delete(state: &State, call: Call, place: &Place) -> Response<Body> {
    call.collect().await;
    match state.remove(&place.path_of(&place.name)) {
        Some(_) => {
            reply(StatusCode::OK, &json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success" }))
        }
        None => not_found(&place.name),
    }
}

fn watch(state: &State, call: &Call, place: Place) -> Response<Body> {
    let form = Form::of(call);
    let mut changes = state.changes.subscribe();
    let known = match query(call, "resourceVersion") {
        None => state.within(&place),
        Some(_) => Vec::new(),
    };
    let (feed, body) = channel();
    tokio::spawn(async move {
        let line = |change: &Value, object: &Value| {
            let event = json!({ "type": change, "object": shown(place.kind, form, object) });
            format!("{event}\n")
        };
        for object in &known {
            if !feed.data(line(&"ADDED".into(), object)).await {
                return;
            }
        }
        while let Ok((path, event)) = changes.recv().await {
            let wanted = place.holds(&path) && (place.name.is_empty() || path.ends_with(&format!("/{}", place.name)));
            if wanted && !feed.data(line(&event["type"], &event["object"])).await {
                return;
            }
        }
    });
    json_type(Response::new(body))
}

fn shown(kind: &Kind, form: Form, object: &Value) -> Value {
    match form {
        Form::Whole => object.clone(),
        Form::Metadata => partial(object),
        Form::Table => kinds::table(kind, std::slice::from_ref(object)),
    }
}

fn list(kind: &Kind, form: Form, objects: &[Value]) -> Value {
    let (version, name) = match form {
        Form::Table => return kinds::table(kind, objects),
        Form::Metadata => ("meta.k8s.io/v1".to_owned(), "PartialObjectMetadataList".to_owned()),
        Form::Whole => (kind.version(), format!("{}List", kind.name)),
    };
    let items: Vec<Value> = objects.iter().map(|object| shown(kind, form, object)).collect();
    json!({ "apiVersion": version, "kind": name, "metadata": { "resourceVersion": "1000" }, "items": items })
}

/// An object as far as its metadata goes.
fn partial(object: &Value) -> Value {
    json!({ "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": object["metadata"] })
}

/// RFC 7396, which is near enough to a strategic merge for these objects.
fn merge(target: &mut Value, patch: &Value) {
    let Some(members) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in members {
        match value {
            Value::Null => drop(target.as_object_mut().and_then(|target| target.remove(name))),
            value => merge(&mut target[name.as_str()], value),
        }
    }
}

/// A parameter of the target.
fn query(call: &Call, name: &str) -> Option<String> {
    parameters(call).find(|(key, _)| key == name).map(|(_, value)| value)
}

/// All of them, decoded.
fn parameters(call: &Call) -> impl Iterator<Item = (String, String)> {
    let pairs = call.uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(name, value)| (decoded(name), decoded(value)))
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16)).unwrap_or_default() as u8;
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => digit(rest.next()) << 4 | digit(rest.next()),
            byte => byte,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn not_found(what: &str) -> Response<Body> {
    reply(StatusCode::NOT_FOUND, &failure(404, "NotFound", what))
}

fn bad_request() -> Response<Body> {
    reply(StatusCode::BAD_REQUEST, &failure(400, "BadRequest", "the body is no JSON"))
}

fn failure(code: u16, reason: &str, message: &str) -> Value {
    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason, "code": code })
}

fn reply(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = json_type(Response::new(full(value.to_string())));
    *response.status_mut() = status;
    response
}

fn json_type(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

/// The value of the secret `apps/db`, as its `data` holds it.
pub const SECRET_VALUE: &str = "aHVudGVyMi1pbi10aGUtY2x1c3Rlcg==";
