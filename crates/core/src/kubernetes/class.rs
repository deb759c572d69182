//! What a request does to a cluster. Whatever is not known to be harmless is a write.

use http::Method;

use super::request::parameters;
use super::{ApiRequest, Resource};
use crate::access::ReadException;
use crate::classify::{Classified, overrides_method};
use crate::config::KubernetesSettings;
use crate::facts::Facts;

/// The class of a request: first what mints, then what opens a way around the table, then reviews, then the method.
pub fn classify(request: &ApiRequest<'_>, facts: &Facts<'_>, settings: &KubernetesSettings) -> Classified {
    if let Some(rule) = mints(request) {
        return Classified::mint(rule);
    }
    if facts.upgrade {
        return Classified::write("upgrade");
    }
    if opens_a_channel(request) {
        return Classified::write("kubernetes.exec");
    }
    if let Some(header) = overrides_method(facts) {
        return Classified::write(header);
    }
    match *facts.method {
        Method::GET | Method::HEAD if request.resource.is_none() && !is_public(request.path) => {
            Classified::write("kubernetes.path")
        }
        Method::GET | Method::HEAD | Method::OPTIONS => Classified::read("method"),
        Method::POST if request.resource.is_some_and(is_review) => {
            Classified::excepted_by(ReadException::K8sReview, ReadException::K8sReview.as_str())
        }
        _ if settings.dry_run && only_tries(facts) => Classified::read("kubernetes.dry-run"),
        _ => Classified::write("method"),
    }
}

/// Whether the request reaches into a pod, a node or a service, where no rule sees what is done.
pub fn opens_a_channel(request: &ApiRequest<'_>) -> bool {
    let Some(resource) = &request.resource else { return false };
    let into_pod = match resource.subresource {
        "exec" | "attach" | "portforward" => resource.kind == "pods",
        "ephemeralcontainers" => resource.kind == "pods" && request.verb != "get",
        _ => false,
    };
    resource.through_proxy || resource.subresource == "proxy" || into_pod
}

fn mints(request: &ApiRequest<'_>) -> Option<&'static str> {
    let resource = request.resource.as_ref()?;
    let writes = !matches!(request.verb, "get" | "list" | "watch" | "options");
    let rule = match (resource.group, resource.kind, resource.subresource) {
        ("", "serviceaccounts", "token") => "kubernetes.service-account-token",
        ("certificates.k8s.io", "certificatesigningrequests", _) => "kubernetes.certificate",
        ("authentication.k8s.io", "tokenreviews", _) => "kubernetes.token-review",
        ("", "secrets", _) if resource.name.starts_with("bootstrap-token-") => "kubernetes.bootstrap-token",
        _ => return None,
    };
    writes.then_some(rule)
}

/// What mints, by the names that `allow_minting` takes.
pub const MINTING: [&str; 4] = [
    "kubernetes.service-account-token",
    "kubernetes.certificate",
    "kubernetes.token-review",
    "kubernetes.bootstrap-token",
];

fn is_review(resource: Resource<'_>) -> bool {
    match resource.group {
        "authorization.k8s.io" => matches!(
            resource.kind,
            "selfsubjectaccessreviews"
                | "selfsubjectrulesreviews"
                | "subjectaccessreviews"
                | "localsubjectaccessreviews"
        ),
        "authentication.k8s.io" => resource.kind == "selfsubjectreviews",
        _ => false,
    }
}

/// Paths without a resource that tell what every client asks first, and nothing of what runs.
fn is_public(path: &str) -> bool {
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    match parts.next() {
        None => true,
        Some("api" | "apis") => true,
        Some("version" | "openapi" | "healthz" | "livez" | "readyz" | "metrics" | "openid" | ".well-known") => true,
        Some(_) => false,
    }
}

/// Whether the API server is told to change nothing.
fn only_tries(facts: &Facts<'_>) -> bool {
    let mut told = parameters(facts.query).filter(|(name, _)| name == "dryRun").map(|(_, value)| value);
    told.next().is_some_and(|value| value == "All") && told.all(|value| value == "All")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use http::Request;

    use super::*;
    use crate::access::OperationClass;
    use crate::host::{Authority, Scheme};

    fn class_with(method: &str, target: &str, upgrade: bool, dry_run: bool) -> (OperationClass, &'static str) {
        let (parts, ()) = Request::builder().method(method).uri(target).body(()).unwrap().into_parts();
        let origin = Authority::parse("k8s.test").unwrap().origin(Scheme::Https);
        let facts = Facts::of(&parts, &origin, upgrade);
        let settings = KubernetesSettings { dry_run, ..KubernetesSettings::default() };
        let classified = classify(&ApiRequest::read(&facts).unwrap(), &facts, &settings);
        (classified.class, classified.rule)
    }

    fn class(method: &str, target: &str) -> (OperationClass, &'static str) {
        class_with(method, target, false, false)
    }

    #[test]
    fn reads_are_reads() {
        for target in [
            "/",
            "/api",
            "/apis/apps/v1",
            "/openapi/v3/api/v1",
            "/livez/ping",
            "/version",
            "/api/v1/pods?watch=1",
            "/api/v1/namespaces/a/pods/p/log?follow=1",
            "/apis/apps/v1/namespaces/a/deployments/d/scale",
            "/api/v1/namespaces/a/pods/p/ephemeralcontainers",
        ] {
            assert_eq!(class("GET", target).0, OperationClass::Read, "{target}");
        }
    }

    #[test]
    fn channels_and_private_paths_are_writes_whatever_the_method() {
        for (target, rule) in [
            ("/api/v1/namespaces/a/pods/p/exec?command=sh", "kubernetes.exec"),
            ("/api/v1/namespaces/a/pods/p/attach", "kubernetes.exec"),
            ("/api/v1/namespaces/a/pods/p/portforward", "kubernetes.exec"),
            ("/api/v1/namespaces/a/pods/p/proxy/x", "kubernetes.exec"),
            ("/api/v1/namespaces/a/services/s/proxy", "kubernetes.exec"),
            ("/api/v1/nodes/n/proxy/run/a/b/c", "kubernetes.exec"),
            ("/api/v1/proxy/nodes/n/run", "kubernetes.exec"),
            ("/logs/kube-apiserver.log", "kubernetes.path"),
            ("/debug/pprof/heap", "kubernetes.path"),
            ("/configz", "kubernetes.path"),
        ] {
            assert_eq!(class("GET", target), (OperationClass::Write, rule), "{target}");
        }
        assert_eq!(class_with("GET", "/api/v1/pods?watch=1", true, false), (OperationClass::Write, "upgrade"));
        for method in ["POST", "PUT", "PATCH", "DELETE", "PURGE"] {
            assert_eq!(class(method, "/api/v1/namespaces/a/pods/p/eviction").0, OperationClass::Write, "{method}");
        }
    }

    #[test]
    fn reviews_are_an_exception_and_minting_is_its_own_class() {
        let review = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        assert_eq!(class("POST", review).0, OperationClass::Excepted(ReadException::K8sReview));
        for (method, target, rule) in [
            ("POST", "/api/v1/namespaces/a/serviceaccounts/s/token", "kubernetes.service-account-token"),
            ("POST", "/apis/certificates.k8s.io/v1/certificatesigningrequests", "kubernetes.certificate"),
            ("PUT", "/apis/certificates.k8s.io/v1/certificatesigningrequests/c/approval", "kubernetes.certificate"),
            ("POST", "/apis/authentication.k8s.io/v1/tokenreviews", "kubernetes.token-review"),
            ("PUT", "/api/v1/namespaces/kube-system/secrets/bootstrap-token-abcdef", "kubernetes.bootstrap-token"),
        ] {
            assert_eq!(class(method, target), (OperationClass::Mint, rule), "{method} {target}");
        }
        assert_eq!(class("GET", "/apis/certificates.k8s.io/v1/certificatesigningrequests").0, OperationClass::Read);
    }

    #[test]
    fn a_dry_run_reads_where_it_is_allowed_and_only_if_all_of_it_is_one() {
        let target = "/api/v1/namespaces/a/pods?dryRun=All";
        assert_eq!(class_with("POST", target, false, false).0, OperationClass::Write);
        assert_eq!(class_with("POST", target, false, true).0, OperationClass::Read);
        let mixed = "/api/v1/namespaces/a/pods?dryRun=All&dryRun=";
        assert_eq!(class_with("POST", mixed, false, true).0, OperationClass::Write);
    }
}
