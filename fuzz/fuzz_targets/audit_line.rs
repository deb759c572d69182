//! Audit lines: one line whatever the fields hold, nothing a terminal acts on, read back equal, and any changed bit is found.
#![no_main]

use arbitrary::Arbitrary;
use clauderon_core::audit::{AuditLine, AuditRecord, Head, line, verify_line};
use clauderon_core::session::{SessionId, SessionName};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    timestamp_ms: i64,
    id: Option<[u8; 4]>,
    service: &'a str,
    method: &'a str,
    path: &'a str,
    response_code: Option<u16>,
    numbers: [u64; 4],
    host: &'a str,
    port: u16,
    flags: [bool; 2],
    rule: Option<&'a str>,
    credential: Option<&'a str>,
    error: Option<&'a str>,
    request_id: &'a str,
    seq: u64,
    flip: u16,
}

fuzz_target!(|input: Input<'_>| {
    let previous = Head::GENESIS.chain;
    let (mut written, chain) = line(&record(&input), input.seq, &previous);
    assert_eq!(written.iter().filter(|b| **b == b'\n').count(), 1, "more than one line");
    assert_eq!(written.pop(), Some(b'\n'));
    let text = std::str::from_utf8(&written).expect("the log is text");
    assert!(!text.chars().any(char::is_control), "a control character in {text:?}");
    let parsed = verify_line(&written, Some(&previous)).expect("its own line");
    assert_eq!((parsed.seq, parsed.chain), (input.seq, chain));
    equal(&input, &parsed);
    let mut forged = written.clone();
    let bit = usize::from(input.flip) % (forged.len() * 8);
    forged[bit / 8] ^= 1 << (bit % 8);
    assert!(
        verify_line(&forged, Some(&previous)).is_err(),
        "an edited line passes: {:?}",
        String::from_utf8_lossy(&forged)
    );
});

fn record(input: &Input<'_>) -> AuditRecord {
    let name = SessionName::parse("review").expect("a name");
    AuditRecord {
        timestamp_ms: input.timestamp_ms,
        session: input.id.map(|id| (SessionId::from_bytes(id), name)),
        service: input.service.into(),
        method: input.method.into(),
        path: input.path.into(),
        auth_injected: input.flags[0],
        response_code: input.response_code,
        duration_ms: input.numbers[0],
        host: input.host.into(),
        port: input.port,
        protocol: "HTTP/1.1",
        access_mode: None,
        allowed: input.flags[1],
        reason: None,
        rule: input.rule.map(Into::into),
        credential: input.credential.map(Into::into),
        request_bytes: input.numbers[1],
        response_bytes: input.numbers[2],
        redactions: input.numbers[3],
        error: input.error.map(Into::into),
        request_id: input.request_id.into(),
        about: None,
    }
}

/// Long fields are cut; what is short comes back as it was.
fn equal(input: &Input<'_>, parsed: &AuditLine) {
    let same = |was: &str, is: &str| was.len() > 20 || was == is;
    assert!(
        same(input.service, &parsed.service) && same(input.method, &parsed.method) && same(input.path, &parsed.path)
    );
    assert!(same(input.host, &parsed.host) && same(input.request_id, &parsed.request_id));
    for (was, is) in [(input.rule, &parsed.rule), (input.credential, &parsed.credential), (input.error, &parsed.error)]
    {
        assert_eq!(was.is_some(), is.is_some());
        assert!(same(was.unwrap_or_default(), is.as_deref().unwrap_or_default()));
    }
    assert_eq!(input.response_code, parsed.response_code);
    assert_eq!(input.numbers, [parsed.duration_ms, parsed.request_bytes, parsed.response_bytes, parsed.redactions]);
    assert_eq!((input.flags, input.port), ([parsed.auth_injected, parsed.allowed], parsed.port));
}
