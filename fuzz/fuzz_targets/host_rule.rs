//! Host rules: a match agrees with a slow reference over labels, and one name has one form. Input: rule, line feed, authority.
#![no_main]

use std::net::Ipv4Addr;

use clauderon_core::host::{Authority, Host, HostPattern};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| {
    let Some((rule, authority)) = input.split_once('\n') else { return };
    let Ok(Authority { host, port }) = Authority::parse(authority) else { return };
    canonical(&host);
    let Ok(pattern) = HostPattern::parse(rule) else { return };
    let port = port.unwrap_or(443);
    assert_eq!(
        pattern.matches(&host, port, 443),
        reference(&pattern.to_string(), &host.to_string(), port),
        "{rule:?} {authority:?}"
    );
    assert_eq!(HostPattern::parse(&pattern.to_string()).as_ref(), Ok(&pattern), "a rule survives being printed");
});

/// What every accepted host promises: printing and parsing it changes nothing, and no two spellings remain.
fn canonical(host: &Host) {
    let text = host.to_string();
    assert_eq!(Host::parse(&text).as_ref(), Ok(host), "{text:?}");
    assert!(text.is_ascii() && !text.contains(|c: char| c.is_ascii_uppercase() || c.is_ascii_control()), "{text:?}");
    assert!(!text.ends_with('.') && !text.contains(['%', '@', '/', '\\', ' ']), "{text:?}");
    if let Some(name) = host.name() {
        assert!(name.parse::<Ipv4Addr>().is_err(), "{name:?} is an address");
    }
}

/// The definition, label by label, over canonical text.
fn reference(rule: &str, host: &str, port: u16) -> bool {
    let (name, rule_port) = match rule.rsplit_once(':') {
        Some((name, digits)) if !digits.ends_with(']') => (name, digits.parse().expect("a canonical rule's port")),
        _ => (rule, 443),
    };
    let same_name = match name.strip_prefix("*.") {
        None => name == host,
        Some(suffix) => {
            let labels: Vec<&str> = host.split('.').collect();
            !host.starts_with('[')
                && host.parse::<Ipv4Addr>().is_err()
                && labels.get(1..).is_some_and(|rest| rest.join(".") == suffix)
        }
    };
    same_name && port == rule_port
}
