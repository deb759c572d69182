//! The resources the server has, as discovery tells of them.

use serde_json::{Value, json};

/// One resource.
pub(super) struct Kind {
    pub(super) group: &'static str,
    pub(super) plural: &'static str,
    pub(super) name: &'static str,
    pub(super) short: &'static str,
    pub(super) namespaced: bool,
}

/// All of them.
pub(super) static KINDS: [Kind; 8] = [
    kind("", "namespaces", "Namespace", "ns", false),
    kind("", "pods", "Pod", "po", true),
    kind("", "configmaps", "ConfigMap", "cm", true),
    kind("", "secrets", "Secret", "", true),
    kind("", "events", "Event", "ev", true),
    kind("", "serviceaccounts", "ServiceAccount", "sa", true),
    kind("apps", "deployments", "Deployment", "deploy", true),
    kind("authorization.k8s.io", "selfsubjectaccessreviews", "SelfSubjectAccessReview", "", false),
];

impl Kind {
    /// The path all of its objects begin with.
    pub(super) fn root(&self) -> &'static str {
        match self.group {
            "apps" => "/apis/apps/v1/",
            "authorization.k8s.io" => "/apis/authorization.k8s.io/v1/",
            _ => "/api/v1/",
        }
    }

    pub(super) fn version(&self) -> String {
        if self.group.is_empty() { "v1".to_owned() } else { format!("{}/v1", self.group) }
    }
}

/// The answer to a discovery request; `None` for any other.
pub(super) fn discovery(path: &str) -> Option<Value> {
    let version = |group: &str| json!({ "groupVersion": format!("{group}/v1"), "version": "v1" });
    let group = |name: &str| json!({ "name": name, "versions": [version(name)], "preferredVersion": version(name) });
    Some(match path {
        "/version" => json!({ "major": "1", "minor": "32", "gitVersion": "v1.32.0", "platform": "linux/amd64" }),
        "/healthz" | "/livez" | "/readyz" => json!("ok"),
        "/api" => json!({ "kind": "APIVersions", "versions": ["v1"] }),
        "/apis" => {
            json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": [group("apps"), group("authorization.k8s.io")] })
        }
        "/api/v1" => resources(""),
        "/apis/apps/v1" => resources("apps"),
        "/apis/authorization.k8s.io/v1" => resources("authorization.k8s.io"),
        _ => return None,
    })
}

/// Rows as kubectl prints them.
pub(super) fn table(kind: &Kind, objects: &[Value]) -> Value {
    let row = |object: &Value| {
        json!({
            "cells": [object["metadata"]["name"], object["status"]["phase"].as_str().unwrap_or("-")],
            "object": super::partial(object),
        })
    };
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": { "resourceVersion": "1000" },
        "columnDefinitions": [
            { "name": "Name", "type": "string", "format": "name", "description": kind.name, "priority": 0 },
            { "name": "Status", "type": "string", "format": "", "description": "phase", "priority": 0 },
        ],
        "rows": objects.iter().map(row).collect::<Vec<_>>(),
    })
}

fn resources(group: &str) -> Value {
    let verbs = ["get", "list", "watch", "create", "update", "patch", "delete"];
    let of = |kind: &Kind| {
        let short: Vec<&str> = Some(kind.short).filter(|short| !short.is_empty()).into_iter().collect();
        json!({
            "name": kind.plural, "singularName": kind.name.to_lowercase(), "namespaced": kind.namespaced,
            "kind": kind.name, "verbs": verbs, "shortNames": short,
        })
    };
    let known: Vec<Value> = KINDS.iter().filter(|kind| kind.group == group).map(of).collect();
    let version = if group.is_empty() { "v1".to_owned() } else { format!("{group}/v1") };
    json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": known })
}

const fn kind(
    group: &'static str,
    plural: &'static str,
    name: &'static str,
    short: &'static str,
    namespaced: bool,
) -> Kind {
    Kind { group, plural, name, short, namespaced }
}
