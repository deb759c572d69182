//! A request's path taken apart as an API server does it (its `RequestInfo`), refusing what two readers could read differently.

use http::Method;

use crate::facts::Facts;

/// A request to an API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiRequest<'a> {
    /// What it does, in the words of Kubernetes' own roles: `get`, `list`, `watch`, `create`, …
    pub verb: &'static str,
    /// What it is about; `None` for paths that name no resource (discovery, health, metrics).
    pub resource: Option<Resource<'a>>,
    /// The path below the server's own.
    pub path: &'a str,
}

/// A resource as a path names it. Empty texts stand for what the path leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Resource<'a> {
    /// The API group; empty for the core group.
    pub group: &'a str,
    /// The namespace; empty for what belongs to none, and for all of them.
    pub namespace: &'a str,
    /// The plural name (`pods`).
    pub kind: &'a str,
    /// The object's name; empty for a collection.
    pub name: &'a str,
    /// `log`, `exec`, `status`, …
    pub subresource: &'a str,
    /// Whether the old form with `proxy/` ahead of the resource was used, which reaches into pods and nodes.
    pub through_proxy: bool,
}

/// A path that an API server could read differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the path is not in its normal form")]
pub struct NotCanonical;

impl<'a> ApiRequest<'a> {
    /// Reads a request.
    pub fn read(facts: &Facts<'a>) -> Result<Self, NotCanonical> {
        let path = facts.path.ok_or(NotCanonical)?.as_str();
        let all: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let verb = by_method(facts.method);
        let (mut parts, escaped) = (all.clone(), |parts: &[&str]| parts.iter().any(|part| part.contains('%')));
        let Some(group) = take_group(&mut parts) else {
            let request = Self { verb, resource: None, path };
            return if escaped(&all) { Err(NotCanonical) } else { Ok(request) };
        };
        let resource = Resource::read(group, &parts)?;
        // An API server decodes a path before it takes it apart: escapes may stand only in what its own proxy passes on.
        let named = [resource.namespace, resource.kind, resource.name, resource.subresource];
        if escaped(all.get(..all.len() - parts.len()).unwrap_or_default()) || escaped(&named) {
            return Err(NotCanonical);
        }
        let watches = parts.first() == Some(&"watch") || asks_to_watch(facts.query);
        let verb = match verb {
            "get" if watches && (resource.name.is_empty() || parts.first() == Some(&"watch")) => "watch",
            "get" if resource.name.is_empty() => "list",
            "delete" if resource.name.is_empty() => "deletecollection",
            verb => verb,
        };
        Ok(Self { verb, resource: Some(resource), path })
    }

    /// The resource of the core group that is meant, if it is one of that.
    pub fn core_resource(&self) -> Option<&Resource<'a>> {
        self.resource.as_ref().filter(|resource| resource.group.is_empty())
    }

    /// Whether the request is about core `secrets`.
    pub fn is_about_secrets(&self) -> bool {
        self.core_resource().is_some_and(|resource| resource.kind == "secrets")
    }
}

impl<'a> Resource<'a> {
    /// The resource with its subresource, as Kubernetes' roles write it (`pods/exec`).
    pub fn label(&self) -> String {
        match self.subresource {
            "" => self.kind.to_owned(),
            subresource => format!("{}/{subresource}", self.kind),
        }
    }

    /// `parts` is what follows the version.
    fn read(group: &'a str, parts: &[&'a str]) -> Result<Self, NotCanonical> {
        let (prefix, mut parts) = match parts.split_first() {
            Some((first @ (&"watch" | &"proxy"), rest)) => (*first, rest),
            _ => ("", parts),
        };
        let mut namespace = "";
        if let ["namespaces", named, rest @ ..] = parts {
            namespace = named;
            // A namespace has two subresources of its own; anything else lies in it.
            if rest.first().is_some_and(|first| !matches!(*first, "status" | "finalize")) {
                parts = rest;
            }
        }
        let at = |nth: usize| parts.get(nth).copied().unwrap_or_default();
        if at(0).is_empty() {
            return Err(NotCanonical);
        }
        let through_proxy = prefix == "proxy";
        let subresource = if prefix.is_empty() { at(2) } else { "" };
        Ok(Self { group, namespace, kind: at(0), name: at(1), subresource, through_proxy })
    }
}

/// Takes `api/VERSION` or `apis/GROUP/VERSION` off the front, if something follows.
fn take_group<'a>(parts: &mut Vec<&'a str>) -> Option<&'a str> {
    let (group, ahead) = match parts.as_slice() {
        ["api", _version, _, ..] => ("", 2),
        ["apis", group, _version, _, ..] => (*group, 3),
        _ => return None,
    };
    parts.drain(..ahead);
    Some(group)
}

/// Whether a path names a resource; others are about the server itself.
pub(super) fn names_resource(path: &str) -> bool {
    take_group(&mut path.split('/').filter(|part| !part.is_empty()).collect()).is_some()
}

fn by_method(method: &Method) -> &'static str {
    match *method {
        Method::GET | Method::HEAD => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::OPTIONS => "options",
        _ => "unknown",
    }
}

/// Only the absence of the parameter, `false` and `0` mean no.
fn asks_to_watch(query: Option<&str>) -> bool {
    let values = parameters(query).filter(|(name, _)| name == "watch").map(|(_, value)| value);
    values.into_iter().any(|value| !matches!(value.to_ascii_lowercase().as_str(), "false" | "0"))
}

/// The parameters of a query, decoded.
pub(super) fn parameters(query: Option<&str>) -> impl Iterator<Item = (String, String)> {
    let decode = |text: &str| {
        let spaced = text.replace('+', " ");
        percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
    };
    let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    pairs.map(move |pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use http::Request;

    use super::*;
    use crate::host::{Authority, Scheme};

    fn read(method: &str, target: &str) -> Result<(String, Vec<String>), NotCanonical> {
        let (parts, ()) = Request::builder().method(method).uri(target).body(()).unwrap().into_parts();
        let origin = Authority::parse("k8s.test").unwrap().origin(Scheme::Https);
        let facts = Facts::of(&parts, &origin, false);
        let request = ApiRequest::read(&facts)?;
        let resource = request.resource.map(|r| vec![r.group, r.namespace, r.kind, r.name, r.subresource]);
        let resource = resource.unwrap_or_default().into_iter().map(str::to_owned).collect();
        Ok((request.verb.to_owned(), resource))
    }

    #[test]
    fn paths_are_read_as_an_api_server_reads_them() {
        let cases: [(&str, &str, &str, &[&str]); 21] = [
            ("GET", "/api", "get", &[]),
            ("GET", "/api/v1", "get", &[]),
            ("GET", "/apis/apps/v1", "get", &[]),
            ("GET", "/version", "get", &[]),
            ("GET", "/api/v1/pods", "list", &["", "", "pods", "", ""]),
            ("GET", "/api/v1/pods?watch=1", "watch", &["", "", "pods", "", ""]),
            ("GET", "/api/v1/pods?watch", "watch", &["", "", "pods", "", ""]),
            ("GET", "/api/v1/pods?watch=False", "list", &["", "", "pods", "", ""]),
            ("GET", "/api/v1/namespaces", "list", &["", "", "namespaces", "", ""]),
            ("GET", "/api/v1/namespaces/a", "get", &["", "a", "namespaces", "a", ""]),
            ("PUT", "/api/v1/namespaces/a/finalize", "update", &["", "a", "namespaces", "a", "finalize"]),
            ("HEAD", "/api/v1/namespaces/a/pods/p/", "get", &["", "a", "pods", "p", ""]),
            ("GET", "/api/v1/namespaces/a/pods/p/log?follow=true", "get", &["", "a", "pods", "p", "log"]),
            ("POST", "/api/v1/namespaces/a/pods/p/exec", "create", &["", "a", "pods", "p", "exec"]),
            ("DELETE", "/api/v1/namespaces/a/pods", "deletecollection", &["", "a", "pods", "", ""]),
            ("PATCH", "/apis/apps/v1/namespaces/a/deployments/d", "patch", &["apps", "a", "deployments", "d", ""]),
            ("GET", "/api/v1/watch/namespaces/a/secrets", "watch", &["", "a", "secrets", "", ""]),
            ("GET", "/api/v1/watch/namespaces/a/secrets/s", "watch", &["", "a", "secrets", "s", ""]),
            ("GET", "/api/v1/proxy/nodes/n/run", "get", &["", "", "nodes", "n", ""]),
            (
                "GET",
                "/api/v1/namespaces/a/services/http:s:80/proxy/x%20y/z",
                "get",
                &["", "a", "services", "http:s:80", "proxy"],
            ),
            ("TRACE", "/metrics", "unknown", &[]),
        ];
        for (method, target, verb, resource) in cases {
            let expected = (verb.to_owned(), resource.iter().map(|&part| part.to_owned()).collect::<Vec<_>>());
            assert_eq!(read(method, target), Ok(expected), "{method} {target}");
        }
    }

    #[test]
    fn what_could_be_read_differently_is_refused() {
        for target in [
            "/api/v1/namespaces/a/pods/p/e%78ec",
            "/api/v1/namespaces/a%2fsecrets/b",
            "/api/v1/namespaces/a/../b/pods",
            "/api/v1//secrets",
            "/api/v1/watch",
            "/api/v1/%73ecrets",
            "/apis/app%73/v1/deployments",
            "/%61pi/v1/secrets",
            "/ap%69s/apps/v1/deployments",
            "/api%2fv1/secrets",
            "/api/v1%2Fsecrets/a/b",
            "/apis/apps/%76%31/deployments",
            "/api/v1/pods/p/log/%2e%2e",
            "/healthz%2fx",
            "/api/v1/%70roxy/nodes/n",
            "/api/v1/n%61mespaces/a/services/s/proxy/x",
            "/api/proxy/n%61mespaces/a/secrets/s",
        ] {
            assert_eq!(read("GET", target), Err(NotCanonical), "{target}");
        }
    }
}
