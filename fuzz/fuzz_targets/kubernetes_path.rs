//! Requests to an API server: the resource read from a path is the one that a server finds, which decodes the path before it
//! takes it apart (`RequestInfoFactory.NewRequestInfo` of k8s.io/apiserver). Input: the target.
#![no_main]

use clauderon_core::facts::Facts;
use clauderon_core::host::{Authority, Scheme};
use clauderon_core::kubernetes::{ApiRequest, opens_a_channel};
use http::{Request, Uri};
use libfuzzer_sys::fuzz_target;
use percent_encoding::percent_decode_str;

fuzz_target!(|target: &str| {
    let Ok(uri) = target.parse::<Uri>() else { return };
    if uri.authority().is_some() || !target.starts_with('/') {
        return;
    }
    let origin = Authority::parse("k8s.test").expect("a host").origin(Scheme::Https);
    let parts = Request::get(uri).body(()).expect("a parsed URI").into_parts().0;
    let Ok(asked) = ApiRequest::read(&Facts::of(&parts, &origin, false)) else { return };
    let read = asked.resource.map(|r| [r.group, r.namespace, r.kind, r.name, r.subresource].map(str::to_owned));
    let decoded = percent_decode_str(parts.uri.path()).decode_utf8_lossy().into_owned();
    let found = as_a_server(&decoded);
    // With `watch/` ahead a server knows no path to a subresource.
    let found =
        found.map(|(prefix, resource)| if prefix == "watch" { without_subresource(resource) } else { resource });
    assert_eq!(read, found, "{target:?}");
    if let Some([_, _, kind, _, subresource]) = &found {
        let into = kind == "pods" && ["exec", "attach", "portforward"].contains(&subresource.as_str());
        assert!(opens_a_channel(&asked) || !(into || subresource == "proxy"), "{target:?}");
    }
});

fn without_subresource(mut resource: [String; 5]) -> [String; 5] {
    resource[4].clear();
    resource
}

/// The verb's prefix; group, namespace, resource, name and subresource.
fn as_a_server(path: &str) -> Option<(&str, [String; 5])> {
    let mut parts: Vec<&str> = path.trim_matches('/').split('/').filter(|part| !part.is_empty()).collect();
    if parts.len() < 3 || !["api", "apis"].contains(&parts[0]) {
        return None;
    }
    let mut group = "";
    if parts.remove(0) == "apis" {
        if parts.len() < 3 {
            return None;
        }
        group = parts.remove(0);
    }
    parts.remove(0);
    let mut prefix = "";
    if ["proxy", "watch"].contains(&parts[0]) {
        prefix = parts.remove(0);
    }
    let mut namespace = "";
    if parts.first() == Some(&"namespaces") && parts.len() > 1 {
        namespace = parts[1];
        if parts.len() > 2 && !["status", "finalize"].contains(&parts[2]) {
            parts.drain(..2);
        }
    }
    let at = |nth: usize| parts.get(nth).copied().unwrap_or_default().to_owned();
    let subresource = if prefix == "proxy" { String::new() } else { at(2) };
    Some((prefix, [group.to_owned(), namespace.to_owned(), at(0), at(1), subresource]))
}
