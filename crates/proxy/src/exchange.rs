//! One request's account: gathered along the path, written once, however the request ends.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clauderon_core::access::AccessMode;
use clauderon_core::audit::AuditRecord;
use clauderon_core::credential::CredentialName;
use clauderon_core::denial::{Denial, DenialCode};
use clauderon_core::inject::Injected;
use clauderon_core::policy::Permit;
use clauderon_core::session::Session;
use http::HeaderMap;
use tokio::sync::OwnedSemaphorePermit;

use crate::audit::{AuditLog, AuditUnavailable, Pending};
use crate::body::Sent;
use crate::scrub::Scrub;
use crate::session::{Seat, Turn};
use crate::upstream::failure::in_short;

/// The account of one request. Dropping it writes its record: there is no way past the audit log.
pub(crate) struct Exchange {
    log: AuditLog,
    seat: Option<Arc<Seat>>,
    record: Option<Box<AuditRecord>>,
    pending: Option<Pending>,
    turn: Option<Turn>,
    reading: Option<OwnedSemaphorePermit>,
    began: Instant,
    sent: Arc<Sent>,
    /// Counts what is taken out of the answer, where a secret went out.
    scrub: Option<Scrub>,
    /// What the record shall say besides what may go wrong later.
    note: Option<String>,
}

impl Exchange {
    /// Opens the account of a request that just arrived.
    pub(crate) fn open(log: &AuditLog, seat: Option<&Arc<Seat>>, request_id: String) -> Self {
        let record = AuditRecord::begun(now_ms(), request_id);
        Self {
            log: log.clone(),
            seat: seat.cloned(),
            record: Some(Box::new(record)),
            pending: None,
            turn: None,
            reading: None,
            began: Instant::now(),
            sent: Arc::default(),
            scrub: None,
            note: None,
        }
    }

    /// The record so far; filled in as facts become known.
    pub(crate) fn record(&mut self) -> &mut AuditRecord {
        self.record.as_mut().expect("the record leaves only when the exchange ends")
    }

    /// Notes whose request this is.
    pub(crate) fn of_session(&mut self, session: &Session) {
        let record = self.record();
        record.session = Some((session.id.clone(), session.name.clone()));
        record.access_mode = Some(session.mode);
    }

    /// Notes that policy lets the request out, and by which rule.
    pub(crate) fn permitted(&mut self, permit: &Permit) {
        let record = self.record();
        record.allowed = true;
        record.reason = permit.reason();
        record.rule = permit.label();
        if let Some(service) = permit.service() {
            record.service = service.clone();
        }
        record.credential = permit.rule().map(|rule| rule.credential.shared());
    }

    /// Notes what was put in, and what will take it out of the answer.
    pub(crate) fn injected(&mut self, injected: &Injected, scrub: Option<&Scrub>) {
        self.scrub = scrub.cloned();
        let record = self.record();
        record.auth_injected = injected.auth_injected();
        record.credential = listed(injected.credentials());
        if let Some(rule) = injected.rule().filter(|_| record.reason.is_none()) {
            record.rule = Some(rule.label());
            record.service = rule.service.clone();
        }
    }

    /// Waits for leave to hold the request's body or its answer in memory until the account is closed.
    pub(crate) async fn hold_body(&mut self, wait: Duration) -> Result<(), Denial> {
        let Some(seat) = self.seat.as_ref().filter(|_| self.reading.is_none()) else { return Ok(()) };
        let too_busy = || Denial::new(DenialCode::TooBusy, "the session has too many request bodies being read");
        self.reading = Some(seat.take_reading(wait).await.ok_or_else(too_busy)?);
        Ok(())
    }

    /// Takes the session's turn and writes the intent down; only then may anything reach the origin.
    pub(crate) fn begin(&mut self) -> Result<(), Denial> {
        if let Some(seat) = &self.seat {
            let too_busy = || Denial::new(DenialCode::TooBusy, "the session has too many requests under way");
            self.turn = Some(seat.take_turn().ok_or_else(too_busy)?);
        }
        let record = self.record.as_ref().expect("the record leaves only when the exchange ends");
        let pending = self.log.begin(record);
        let refused = |error: AuditUnavailable| Denial::new(DenialCode::AuditUnavailable, error.to_string());
        self.pending = Some(pending.map_err(refused)?);
        Ok(())
    }

    /// Notes that the origin refused the credential, and what was done about it.
    pub(crate) fn renewed(&mut self, what: impl std::fmt::Display) {
        self.note = Some(format!("the origin refused the credential (401), {what}"));
    }

    /// The mode that the request was decided in.
    pub(crate) fn mode(&self) -> Option<AccessMode> {
        self.record.as_ref()?.access_mode
    }

    /// As [`Self::begin`] for a request that may go out a second time, which has begun already.
    pub(crate) fn begin_once(&mut self) -> Result<(), Denial> {
        if self.pending.is_some() { Ok(()) } else { self.begin() }
    }

    /// Notes a refusal or failure of the proxy's own.
    pub(crate) fn denied(&mut self, denial: &Denial) {
        let refused = self.pending.is_none();
        let record = self.record();
        record.allowed &= !refused;
        record.reason = Some(denial.code.as_str());
        if let Some(rule) = denial.rule {
            record.rule = Some(rule.into());
        }
        record.error = Some(denial.message.clone());
        record.response_code = Some(denial.status().as_u16());
        if denial.code == DenialCode::PlaceholderMisdirected
            && let Some(seat) = &self.seat
        {
            seat.count_alarm();
        }
    }

    /// Writes a line that says that an upgrade has begun; the request's own follows at its end.
    pub(crate) fn upgraded(&mut self) {
        let record = AuditRecord { response_code: Some(101), reason: Some("upgraded"), ..self.record().clone() };
        // The request is in the journal already: a log that fails now says so at the next request.
        drop(self.log.record(record));
    }

    /// Notes the status the agent gets.
    pub(crate) fn answered(&mut self, status: http::StatusCode) {
        self.record().response_code = Some(status.as_u16());
    }

    /// Notes how a gRPC call ended, where the fields say it.
    pub(crate) fn ended_with(&mut self, fields: &HeaderMap) {
        let status = fields.get("grpc-status").and_then(|status| status.to_str().ok()?.parse().ok());
        if let Some(about) = self.record.as_mut().and_then(|record| record.about.as_mut()) {
            about.grpc_status = status.or(about.grpc_status);
        }
    }

    /// What is sent upstream, for the body to hold.
    pub(crate) fn sent(&self) -> Arc<Sent> {
        self.sent.clone()
    }

    /// Counts body bytes given to the agent.
    pub(crate) fn count_response(&mut self, bytes: usize) {
        if let Some(record) = &mut self.record {
            record.response_bytes += bytes as u64;
        }
    }

    /// Notes that the answer broke off.
    pub(crate) fn fail(&mut self, error: &(dyn std::error::Error + 'static)) {
        if let Some(record) = &mut self.record {
            record.error.get_or_insert_with(|| format!("the answer broke off: {}", in_short(error)));
        }
        self.complete();
    }

    /// Ends the account and writes the record. Further calls do nothing.
    pub(crate) fn complete(&mut self) {
        let Some(mut record) = self.record.take() else { return };
        record.duration_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        record.request_bytes = self.sent.bytes();
        if let Some(note) = self.note.take() {
            record.error = Some(record.error.iter().fold(note, |note, error| format!("{note}; {error}")));
        }
        record.redactions = self.scrub.as_ref().map_or(0, Scrub::redactions);
        if let Some(seat) = &self.seat {
            seat.count_request(!record.allowed);
        }
        match self.pending.take() {
            Some(pending) => pending.finish(*record),
            // Nothing went out, so an unwritable log loses no request that reached an origin; health tells of it.
            None => drop(self.log.record(*record)),
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if let Some(record) = &mut self.record {
            let cut = self.seat.as_ref().is_some_and(|seat| seat.revoked.is_cancelled());
            let why = if cut { "cut off: the session ended, or the daemon stopped" } else { "the client went away" };
            record.error.get_or_insert_with(|| why.into());
        }
        self.complete();
    }
}

/// One name as it is; several with commas between them.
fn listed<'n>(mut names: impl Iterator<Item = &'n CredentialName>) -> Option<Arc<str>> {
    let first = names.next()?.shared();
    Some(names.fold(first, |listed, name| format!("{listed},{name}").into()))
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
