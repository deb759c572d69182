//! What a request does: one class for each, and whatever cannot be told apart is a write.
#![deny(clippy::wildcard_enum_match_arm, clippy::indexing_slicing)]

mod git;
mod graphql;

use http::Method;

use crate::access::{OperationClass, ReadException};
use crate::facts::Facts;
use crate::rule::RuleSet;
use crate::service;

/// The class of a request and the rule that gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Classified {
    /// What the request does.
    pub class: OperationClass,
    /// The rule's name, for audit records and `allow_minting`.
    pub rule: &'static str,
}

/// Classifies a request by its head: first what overrides the method, then what the origin's service knows, then the protocols
/// that look alike on every host, then the method.
pub fn classify(facts: &Facts<'_>, rules: &RuleSet) -> Classified {
    if let Some(header) = METHOD_OVERRIDES.iter().find(|name| facts.headers.contains_key(**name)) {
        return Classified::write(header);
    }
    let special = service::classify(facts, rules).or_else(|| git::classify(facts)).or_else(|| graphql::classify(facts));
    special.unwrap_or_else(|| by_method(facts))
}

impl Classified {
    /// A read, by `rule`.
    pub const fn read(rule: &'static str) -> Self {
        Self { class: OperationClass::Read, rule }
    }

    /// A write, by `rule`.
    pub const fn write(rule: &'static str) -> Self {
        Self { class: OperationClass::Write, rule }
    }

    /// Harmless in a named way.
    pub const fn excepted(exception: ReadException) -> Self {
        Self { class: OperationClass::Excepted(exception), rule: exception.as_str() }
    }
}

fn by_method(facts: &Facts<'_>) -> Classified {
    if facts.upgrade {
        return Classified::write("upgrade");
    }
    match *facts.method {
        Method::GET | Method::HEAD | Method::OPTIONS => Classified::read("method"),
        _ => Classified::write("method"),
    }
}

/// Frameworks that honour these turn a GET into any other method.
const METHOD_OVERRIDES: [&str; 3] = ["x-http-method-override", "x-method-override", "x-http-method"];
