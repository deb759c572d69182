//! The audit record, the one line it becomes, and the hash chain that ties the lines together.

use std::fmt;
use std::sync::{Arc, LazyLock};

use memchr::memmem::Finder;
use serde::{Deserialize, Serialize};

use crate::access::AccessMode;
use crate::digest;

use text::{HEX, count, flag, member, number, optional, text, timestamp, word};

mod text;
use crate::session::{SessionId, SessionName};

/// One request, as the audit log tells it. Holds only what may be shown: no query, no header values, no secrets.
#[derive(Debug, Clone)]
pub struct AuditRecord {
    /// When the request began, as the wall clock told it: milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// Whose request; `None` when nobody could be made out (407).
    pub session: Option<(SessionId, SessionName)>,
    /// The service's short name, or the host where no service is known.
    pub service: Arc<str>,
    /// The method as sent.
    pub method: String,
    /// The path without query, secrets in segments masked.
    pub path: String,
    /// Whether a real secret went out.
    pub auth_injected: bool,
    /// The status the agent got; `None` if none.
    pub response_code: Option<u16>,
    /// From the request head to the last byte of the answer.
    pub duration_ms: u64,
    /// The destination's host.
    pub host: Arc<str>,
    /// The destination's port.
    pub port: u16,
    /// `HTTP/1.1`, `HTTP/2`, `websocket`, `connect`, `tcp`.
    pub protocol: &'static str,
    /// The session's mode at the decision.
    pub access_mode: Option<AccessMode>,
    /// Whether policy let the request out.
    pub allowed: bool,
    /// Why not (a denial code), or why it was allowed although not a plain read.
    pub reason: Option<&'static str>,
    /// The rule or exception that decided, for people.
    pub rule: Option<Arc<str>>,
    /// The credential that was injected or meant.
    pub credential: Option<Arc<str>>,
    /// Body bytes the agent sent.
    pub request_bytes: u64,
    /// Body bytes the agent got.
    pub response_bytes: u64,
    /// Secrets taken out of the answer.
    pub redactions: u64,
    /// What went wrong, for people; never a secret.
    pub error: Option<String>,
    /// Unique per request; sent upstream to nobody.
    pub request_id: String,
    /// What a gateway understood of the request; `None` for what came through the proxy.
    pub about: Option<Box<About>>,
}

/// What a gateway understood of a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct About {
    /// What is done, in the service's own words (`list`, `create`), where the path does not say it.
    pub verb: Option<&'static str>,
    /// What it is done to (`pods/exec`); `None` where nothing is named.
    pub resource: Option<String>,
    /// Where it lies.
    pub namespace: Option<String>,
    /// The nodes it was meant for, in a list with commas.
    pub node: Option<String>,
    /// How a gRPC call ended, by the number of its status.
    pub grpc_status: Option<u8>,
    /// Whether more than tallies may change until the end: which endpoint took the call, and how it ended.
    pub is_open: bool,
}

/// A line of the audit log as read back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditLine {
    /// RFC 3339, UTC, milliseconds.
    pub timestamp: String,
    /// Whose request.
    pub session_id: Option<String>,
    /// The service's short name, or the host.
    pub service: String,
    /// The method as sent.
    pub method: String,
    /// The path without query.
    pub path: String,
    /// Whether a real secret went out.
    pub auth_injected: bool,
    /// The status the agent got; `None` if none.
    pub response_code: Option<u16>,
    /// From the request head to the last byte of the answer, in milliseconds.
    pub duration_ms: u64,
    /// The session's name.
    pub session: Option<String>,
    /// The destination's host.
    pub host: String,
    /// The destination's port.
    pub port: u16,
    /// `HTTP/1.1`, `HTTP/2`, `websocket`, `connect`, `tcp`.
    pub protocol: String,
    /// The session's mode at the decision.
    pub access_mode: Option<AccessMode>,
    /// Whether policy let the request out.
    pub allowed: bool,
    /// A denial code, or why a request was allowed although it is not a plain read.
    pub reason: Option<String>,
    /// The rule or exception that decided.
    pub rule: Option<String>,
    /// The credential that was injected or meant.
    pub credential: Option<String>,
    /// Body bytes the agent sent.
    pub request_bytes: u64,
    /// Body bytes the agent got.
    pub response_bytes: u64,
    /// Secrets taken out of the answer.
    pub redactions: u64,
    /// What went wrong.
    pub error: Option<String>,
    /// Unique per request.
    pub request_id: String,
    /// What is done, in the words of a gateway's service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verb: Option<String>,
    /// What it is done to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// Where that lies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The nodes it was meant for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// How a gRPC call ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc_status: Option<u8>,
    /// The line's number, beginning with 1; never goes back, whatever the clock does.
    pub seq: u64,
    /// This line's link of the hash chain.
    pub chain: Chain,
}

/// A link of the hash chain: SHA-256 in lower-case hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Chain([u8; CHAIN_DIGITS]);

/// Where a log stands: its last line's number and link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The last line's number; 0 before the first line.
    pub seq: u64,
    /// The last line's link.
    pub chain: Chain,
}

/// How a record is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Every field up to its usual bound.
    Full,
    /// An intent: what the line says if nothing more is ever heard of the request ([`TERMINATED`]).
    Intent,
    /// An intent whose fields are cut so short that it fits [`BRIEF_BYTES`].
    BriefIntent,
}

/// What a request's end adds to its intent when all went well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// The status the agent got; `None` if none.
    pub response_code: Option<u16>,
    /// From the request head to the last byte of the answer.
    pub duration_ms: u64,
    /// Body bytes the agent sent.
    pub request_bytes: u64,
    /// Body bytes the agent got.
    pub response_bytes: u64,
    /// Secrets taken out of the answer.
    pub redactions: u64,
}

/// What is wrong with a line, seen from the line before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LineFault {
    /// Not a line this program writes.
    #[error("not an audit line")]
    Malformed,
    /// A whole line, but its link does not follow from the line before and its own bytes.
    #[error("the line or its predecessor was edited")]
    Edited,
}

/// The record's line with number `seq` after the link `previous`, line end included, and its own link.
pub fn line(record: &AuditRecord, seq: u64, previous: &Chain) -> (Vec<u8>, Chain) {
    let (mut body, mut line) = (Vec::with_capacity(USUAL_BYTES), Vec::with_capacity(USUAL_BYTES));
    record.write_body(Form::Full, &mut body);
    let chain = seal(&body, seq, previous, &mut line);
    (line, chain)
}

/// Completes a body into a whole line at the end of `out`: number, link, line end.
pub fn seal(body: &[u8], seq: u64, previous: &Chain, out: &mut Vec<u8>) -> Chain {
    let begin = out.len();
    out.extend_from_slice(body);
    out.extend_from_slice(b",\"seq\":");
    number(out, seq);
    let chain = Chain::after(previous, out.get(begin..).unwrap_or_default());
    out.extend_from_slice(CHAIN_KEY);
    out.extend_from_slice(&chain.0);
    out.extend_from_slice(b"\"}\n");
    chain
}

/// Appends the body of a whole line to `out`: an intent's, with what its request's end adds. False for what is no intent.
pub fn complete(intent: &[u8], tally: &Tally, out: &mut Vec<u8>) -> bool {
    // A quote inside a value is always escaped, so these patterns stand for the members and nothing else.
    let [outcome, tallies, id] = &*INTENT_MARKS;
    let parts = outcome.find(intent).zip(tallies.find(intent)).zip(id.find(intent));
    let Some(((outcome_at, tallies_at), id_at)) = parts else { return false };
    let kept =
        (intent.get(..outcome_at), intent.get(outcome_at + INTENT_OUTCOME.len()..tallies_at), intent.get(id_at..));
    let (Some(before), Some(between), Some(after)) = kept else { return false };
    out.extend_from_slice(before);
    tally.write_outcome(out);
    out.extend_from_slice(between);
    tally.write_tallies(out);
    out.extend_from_slice(b",\"error\":null");
    out.extend_from_slice(after);
    true
}

/// Rewrites an intent's body for a request whose outcome never came: why, and how long it lasted.
pub fn abandon(body: &[u8], error: &str, duration_ms: u64) -> Vec<u8> {
    // A quote inside a value is always escaped, so these two patterns stand for the members and nothing else.
    let lasted = replace_once(body, INTENT_DURATION, format!(",\"duration_ms\":{duration_ms},").as_bytes());
    let mut told = b",\"error\":".to_vec();
    text(&mut told, error, SHORT_FIELD);
    replace_once(&lasted, format!(",\"error\":\"{TERMINATED}\"").as_bytes(), &told)
}

/// Reads a line and checks its own link against the link before it, if that is known.
pub fn verify_line(line: &[u8], previous: Option<&Chain>) -> Result<AuditLine, LineFault> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let parsed = AuditLine::parse(line)?;
    let (hashed, tail) = line.split_at_checked(line.len().wrapping_sub(CHAIN_TAIL)).ok_or(LineFault::Malformed)?;
    match previous {
        _ if !tail.starts_with(CHAIN_KEY) => Err(LineFault::Malformed),
        Some(previous) if Chain::after(previous, hashed) != parsed.chain => Err(LineFault::Edited),
        _ => Ok(parsed),
    }
}

impl AuditRecord {
    /// The record of a request of which nothing is known yet.
    pub fn begun(timestamp_ms: i64, request_id: String) -> Self {
        Self {
            timestamp_ms,
            session: None,
            service: "".into(),
            method: String::new(),
            path: String::new(),
            auth_injected: false,
            response_code: None,
            duration_ms: 0,
            host: "".into(),
            port: 0,
            protocol: "HTTP/1.1",
            access_mode: None,
            allowed: false,
            reason: None,
            rule: None,
            credential: None,
            request_bytes: 0,
            response_bytes: 0,
            redactions: 0,
            error: None,
            request_id,
            about: None,
        }
    }

    /// Writes the record without its number and link: what [`seal`] completes into a line.
    pub fn write_body(&self, form: Form, out: &mut Vec<u8>) {
        let limit = Limits::of(form);
        out.extend_from_slice(b"{\"timestamp\":\"");
        timestamp(out, self.timestamp_ms);
        let id = self.session.as_ref().map(|(id, _)| id.as_str());
        word(out, b"\",\"session_id\":", id);
        member(out, b",\"service\":", &self.service, limit.short);
        member(out, b",\"method\":", &self.method, limit.short);
        member(out, b",\"path\":", &self.path, limit.long);
        flag(out, b",\"auth_injected\":", self.auth_injected);
        self.shown_tally(form).write_outcome(out);
        self.write_destination(limit, out);
        self.write_decision(limit, out);
        self.write_tallies(form, limit, out);
    }

    /// The tally that completes this record's intent, if nothing else has changed since: whatever else may change on the way
    /// comes with an error, or is announced.
    pub fn tally(&self) -> Option<Tally> {
        let is_open = self.about.as_ref().is_some_and(|about| about.is_open);
        (self.error.is_none() && !is_open).then(|| self.shown_tally(Form::Full))
    }

    fn shown_tally(&self, form: Form) -> Tally {
        let (response_code, duration_ms) =
            if form == Form::Full { (self.response_code, self.duration_ms) } else { (None, 0) };
        let Self { request_bytes, response_bytes, redactions, .. } = *self;
        Tally { response_code, duration_ms, request_bytes, response_bytes, redactions }
    }

    fn write_destination(&self, limit: Limits, out: &mut Vec<u8>) {
        let name = self.session.as_ref().map(|(_, name)| name.as_str());
        optional(out, b",\"session\":", name, limit.short);
        member(out, b",\"host\":", &self.host, limit.host);
        count(out, b",\"port\":", self.port.into());
        word(out, b",\"protocol\":", Some(self.protocol));
    }

    fn write_decision(&self, limit: Limits, out: &mut Vec<u8>) {
        word(out, b",\"access_mode\":", self.access_mode.map(AccessMode::as_str));
        flag(out, b",\"allowed\":", self.allowed);
        word(out, b",\"reason\":", self.reason);
        optional(out, b",\"rule\":", self.rule.as_deref(), limit.short);
        optional(out, b",\"credential\":", self.credential.as_deref(), limit.short);
    }

    fn write_tallies(&self, form: Form, limit: Limits, out: &mut Vec<u8>) {
        self.shown_tally(form).write_tallies(out);
        let error = if form == Form::Full { self.error.as_deref() } else { Some(TERMINATED) };
        optional(out, b",\"error\":", error, limit.long);
        member(out, b",\"request_id\":", &self.request_id, limit.short);
        if let Some(about) = self.about.as_ref().filter(|_| form != Form::BriefIntent) {
            about.write(limit, out);
        }
    }
}

impl About {
    /// Only what is there: these members are the gateways' own.
    fn write(&self, limit: Limits, out: &mut Vec<u8>) {
        let texts: [(&[u8], Option<&str>); 4] = [
            (b",\"verb\":", self.verb),
            (b",\"resource\":", self.resource.as_deref()),
            (b",\"namespace\":", self.namespace.as_deref()),
            (b",\"node\":", self.node.as_deref()),
        ];
        for (key, text) in texts {
            if let Some(text) = text {
                member(out, key, text, limit.short);
            }
        }
        if let Some(status) = self.grpc_status {
            count(out, b",\"grpc_status\":", status.into());
        }
    }
}

impl Tally {
    fn write_outcome(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"response_code\":");
        match self.response_code {
            Some(code) => number(out, code.into()),
            None => out.extend_from_slice(b"null"),
        }
        count(out, b",\"duration_ms\":", self.duration_ms);
    }

    fn write_tallies(&self, out: &mut Vec<u8>) {
        count(out, TALLIES_KEY, self.request_bytes);
        count(out, b",\"response_bytes\":", self.response_bytes);
        count(out, b",\"redactions\":", self.redactions);
    }
}

impl AuditLine {
    /// Parses one line, with or without its line end. Members of a later version are passed over.
    pub fn parse(line: &[u8]) -> Result<Self, LineFault> {
        serde_json::from_slice(line).map_err(|_| LineFault::Malformed)
    }

    /// Where the log stands after this line.
    pub fn head(&self) -> Head {
        Head { seq: self.seq, chain: self.chain }
    }
}

impl Head {
    /// Before the first line.
    pub const GENESIS: Self = Self { seq: 0, chain: Chain([b'0'; CHAIN_DIGITS]) };
}

impl Chain {
    /// Parses 64 lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Result<Self, BadChain> {
        let digits: [u8; CHAIN_DIGITS] = text.as_bytes().try_into().map_err(|_| BadChain)?;
        let hex = |b: &u8| b.is_ascii_digit() || (b'a'..=b'f').contains(b);
        digits.iter().all(hex).then_some(Self(digits)).ok_or(BadChain)
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }

    fn after(previous: &Self, bytes: &[u8]) -> Self {
        let digest = digest::sha256(&[&previous.0, bytes]);
        let mut digits = [0; CHAIN_DIGITS];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(digest) {
            pair.copy_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
        Self(digits)
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl TryFrom<String> for Chain {
    type Error = BadChain;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<Chain> for String {
    fn from(chain: Chain) -> Self {
        chain.as_str().into()
    }
}

/// A text that is no link of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a chain link is 64 lower-case hexadecimal digits")]
pub struct BadChain;

/// The most bytes a field may take as written (escapes counted, quotes not).
#[derive(Clone, Copy)]
struct Limits {
    long: usize,
    host: usize,
    short: usize,
}

impl Limits {
    const fn of(form: Form) -> Self {
        match form {
            Form::Full | Form::Intent => Self { long: LONG_FIELD, host: SHORT_FIELD, short: SHORT_FIELD },
            Form::BriefIntent => Self { long: 448, host: 256, short: 112 },
        }
    }
}

fn replace_once(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = memchr::memmem::find(bytes, from);
    let Some((before, rest)) = at.and_then(|at| bytes.split_at_checked(at)) else {
        return bytes.to_vec();
    };
    [before, to, rest.get(from.len()..).unwrap_or_default()].concat()
}

/// The error of a request during which the daemon was killed.
pub const TERMINATED: &str = "daemon terminated";

/// The error of a request whose client vanished before its outcome was known.
pub const ABORTED: &str = "aborted";

/// No [`Form::BriefIntent`] is longer.
pub const BRIEF_BYTES: usize = 2016;

const CHAIN_DIGITS: usize = 64;
const CHAIN_KEY: &[u8] = b",\"chain\":\"";
/// From the comma before `chain` to the closing brace.
const CHAIN_TAIL: usize = CHAIN_KEY.len() + CHAIN_DIGITS + 2;
/// Where an intent is rewritten: its outcome, its tallies, and what follows them.
static INTENT_MARKS: LazyLock<[Finder<'static>; 3]> =
    LazyLock::new(|| [INTENT_OUTCOME, TALLIES_KEY, b",\"request_id\":"].map(Finder::new));
const INTENT_OUTCOME: &[u8] = b",\"response_code\":null,\"duration_ms\":0";
const TALLIES_KEY: &[u8] = b",\"request_bytes\":";
const INTENT_DURATION: &[u8] = b",\"duration_ms\":0,";
/// The path as records show it: npm's logout names the token it ends.
pub fn shown_path(path: &str) -> String {
    let token = TOKEN_FOLLOWS.find(path.as_bytes()).map(|at| at + TOKEN_FOLLOWS.needle().len());
    match token.and_then(|at| path.split_at_checked(at)) {
        Some((before, token)) if !token.is_empty() => [before, "***"].concat(),
        _ => path.to_owned(),
    }
}

static TOKEN_FOLLOWS: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("/-/user/token/"));

/// A path as long as browsers and most servers take whole.
const LONG_FIELD: usize = 4096;
const SHORT_FIELD: usize = 512;
const USUAL_BYTES: usize = 1024;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use proptest::prelude::*;

    use super::text::is_steering;
    use super::*;
    use crate::session::{SessionId, SessionName};

    fn record() -> AuditRecord {
        AuditRecord {
            session: Some((SessionId::parse("00c0ffee").unwrap(), SessionName::parse("default").unwrap())),
            service: "github".into(),
            method: "GET".into(),
            path: "/repos/owner/repo".into(),
            auth_injected: true,
            response_code: Some(200),
            duration_ms: 150,
            host: "api.github.com".into(),
            port: 443,
            protocol: "HTTP/2",
            access_mode: Some(AccessMode::ReadOnly),
            allowed: true,
            rule: Some("github".into()),
            credential: Some("github".into()),
            response_bytes: 4096,
            redactions: 1,
            ..AuditRecord::begun(1_705_314_600_123, "r-1".into())
        }
    }

    fn first_line(record: &AuditRecord) -> String {
        String::from_utf8(line(record, 1, &Head::GENESIS.chain).0).unwrap()
    }

    #[test]
    fn the_line_is_spelled_as_documented() {
        let expected = concat!(
            r#"{"timestamp":"2024-01-15T10:30:00.123Z","session_id":"00c0ffee","service":"github","method":"GET","#,
            r#""path":"/repos/owner/repo","auth_injected":true,"response_code":200,"duration_ms":150,"#,
            r#""session":"default","host":"api.github.com","port":443,"protocol":"HTTP/2","access_mode":"read-only","#,
            r#""allowed":true,"reason":null,"rule":"github","credential":"github","request_bytes":0,"#,
            r#""response_bytes":4096,"redactions":1,"error":null,"request_id":"r-1","seq":1,"chain":""#,
        );
        let line = first_line(&record());
        assert!(line.starts_with(expected), "{line}");
        assert!(line.ends_with("\"}\n"));
    }

    #[test]
    fn an_unknown_caller_has_null_identity() {
        let line = first_line(&AuditRecord { session: None, access_mode: None, ..record() });
        let parsed = AuditLine::parse(line.as_bytes()).unwrap();
        assert_eq!((parsed.session_id, parsed.session, parsed.access_mode), (None, None, None));
    }

    #[test]
    fn timestamps_are_rfc_3339() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_001, "2000-02-29T00:00:00.001Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (i64::MAX, "1970-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(
                AuditLine::parse(first_line(&AuditRecord { timestamp_ms: ms, ..record() }).as_bytes())
                    .unwrap()
                    .timestamp,
                text
            );
        }
    }

    #[test]
    fn a_chain_notices_every_changed_byte() {
        let (first, link) = line(&record(), 1, &Head::GENESIS.chain);
        let (second, _) = line(&record(), 2, &link);
        assert!(verify_line(&first, Some(&Head::GENESIS.chain)).is_ok());
        assert!(verify_line(&second, Some(&link)).is_ok());
        assert_eq!(verify_line(&second, Some(&Head::GENESIS.chain)), Err(LineFault::Edited));
        for at in 0..second.len() - 1 {
            let mut edited = second.clone();
            edited[at] ^= 1;
            assert!(verify_line(&edited, Some(&link)).is_err(), "byte {at}");
        }
    }

    #[test]
    fn an_intent_tells_its_own_end() {
        let mut body = Vec::new();
        let hostile = AuditRecord { path: r#"/","error":"daemon terminated","duration_ms":0,"#.into(), ..record() };
        hostile.write_body(Form::Intent, &mut body);
        let told = |body: &[u8]| {
            let mut line = Vec::new();
            seal(body, 7, &Head::GENESIS.chain, &mut line);
            let parsed = AuditLine::parse(&line).unwrap();
            assert_eq!((&parsed.path, parsed.response_code), (&hostile.path, None));
            (parsed.error.unwrap(), parsed.duration_ms)
        };
        assert_eq!(told(&body), (TERMINATED.into(), 0));
        assert_eq!(told(&abandon(&body, ABORTED, 31)), (ABORTED.into(), 31));
    }

    #[test]
    fn long_fields_are_cut_visibly() {
        let long = AuditRecord { path: "/".repeat(9000), method: "\u{1b}".repeat(9000), ..record() };
        let parsed = AuditLine::parse(first_line(&long).as_bytes()).unwrap();
        assert!(parsed.path.ends_with('…') && parsed.path.len() == LONG_FIELD, "{}", parsed.path.len());
        assert!(parsed.method.ends_with('…') && parsed.method.len() < 100);
        assert_eq!(
            AuditLine::parse(first_line(&AuditRecord { path: "/".repeat(4096), ..record() }).as_bytes())
                .unwrap()
                .path
                .len(),
            4096
        );
    }

    fn any_text() -> impl Strategy<Value = String> {
        let nasty = prop::sample::select(vec![
            '"', '\\', '\n', '\u{1b}', '\u{7f}', '\u{85}', '\u{9b}', '\u{2028}', '\u{202e}', '\0', '😀',
        ]);
        prop_oneof![
            any::<String>(),
            prop::collection::vec(prop_oneof![nasty, any::<char>()], 0..700).prop_map(String::from_iter)
        ]
    }

    prop_compose! {
        fn any_record()(service in any_text(), method in any_text(), path in any_text(), host in any_text(), id in any_text(),
            rule in prop::option::of(any_text()), credential in prop::option::of(any_text()), error in prop::option::of(any_text()),
            timestamp_ms in any::<i64>(), tallies in any::<[u64; 4]>(), code in any::<Option<u16>>()) -> AuditRecord {
            AuditRecord { service: service.into(), method, path, host: host.into(), request_id: id, rule: rule.map(Into::into), credential: credential.map(Into::into), error, timestamp_ms,
                response_code: code, duration_ms: tallies[0], request_bytes: tallies[1], response_bytes: tallies[2],
                redactions: tallies[3], ..record() }
        }
    }

    fn same_or_cut(written: &str, meant: &str) -> bool {
        written == meant || written.strip_suffix('…').is_some_and(|kept| meant.starts_with(kept) && meant.len() > 100)
    }

    proptest! {
        #[test]
        fn whatever_stands_in_the_fields_it_stays_one_line_that_reads_back(record in any_record()) {
            let (line, link) = line(&record, u64::MAX, &Head::GENESIS.chain);
            let text = std::str::from_utf8(&line).unwrap();
            prop_assert_eq!(text.strip_suffix('\n').map(|text| text.chars().any(|c| c.is_control() || is_steering(c))), Some(false));
            let parsed = verify_line(&line, Some(&Head::GENESIS.chain)).unwrap();
            prop_assert_eq!(parsed.head(), Head { seq: u64::MAX, chain: link });
            for (written, meant) in [(&parsed.method, &record.method), (&parsed.path, &record.path), (&parsed.host, &record.host.to_string()), (&parsed.request_id, &record.request_id)] {
                prop_assert!(same_or_cut(written, meant), "{} is not {}", written, meant);
            }
            prop_assert!(same_or_cut(&parsed.error.unwrap_or_default(), record.error.as_deref().unwrap_or_default()));
            prop_assert_eq!((parsed.response_code, parsed.duration_ms), (record.response_code, record.duration_ms));
        }

        #[test]
        fn a_completed_intent_is_the_full_line(record in any_record()) {
            let record = AuditRecord { error: None, ..record };
            let (mut intent, mut completed, mut full) = (Vec::new(), Vec::new(), Vec::new());
            AuditRecord { request_bytes: 0, response_bytes: 7, redactions: 0, ..record.clone() }.write_body(Form::Intent, &mut intent);
            record.write_body(Form::Full, &mut full);
            prop_assert!(complete(&intent, &record.tally().unwrap(), &mut completed));
            prop_assert_eq!(String::from_utf8_lossy(&completed), String::from_utf8_lossy(&full));
        }

        #[test]
        fn a_brief_intent_fits_its_slot(record in any_record()) {
            let mut body = Vec::new();
            record.write_body(Form::BriefIntent, &mut body);
            prop_assert!(body.len() <= BRIEF_BYTES, "{}", body.len());
        }

        #[test]
        fn reading_arbitrary_bytes_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(verify_line(&bytes, None).is_err());
        }
    }
}
