//! A session's live state in the proxy: its counters, its connections, and the switch that cuts it off.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clauderon_core::credential::CredentialName;
use clauderon_core::map::TrustedMap;
use clauderon_core::rule::Rule;
use clauderon_core::scrub::Echoes;
use clauderon_core::secret::Secret;
use clauderon_core::session::SessionId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::{Counters, SessionCounters};

/// What the proxy holds for one session.
pub(crate) struct Seat {
    pub(crate) id: SessionId,
    /// Cancelled when the session ends: every connection of it closes at once.
    pub(crate) revoked: CancellationToken,
    connections: AtomicUsize,
    under_way: AtomicUsize,
    /// Requests whose bodies may be held in memory.
    readings: Arc<Semaphore>,
    /// KiB of bodies that may be remembered while they are sent.
    spares: Arc<Semaphore>,
    requests: AtomicU64,
    denials: AtomicU64,
    alarms: AtomicU64,
    echoes: Mutex<TrustedMap<CredentialName, Remembered>>,
    joined: Mutex<Option<Joined>>,
}

/// What answers are searched for where a credential's secret went out: that, and those before it, which the origin knows as
/// well.
struct Remembered {
    /// The latest first.
    secrets: Vec<Arc<Secret>>,
    echoes: Arc<Echoes>,
}

/// The echoes of a request that carried several secrets; the next one is likely to carry the same.
struct Joined {
    parts: Vec<Arc<Echoes>>,
    all: Arc<Echoes>,
}

/// One connection's place among those its session may have.
pub(crate) struct Place(Arc<Seat>);

impl Place {
    /// Whose it is.
    pub(crate) fn seat(&self) -> &Arc<Seat> {
        &self.0
    }
}

/// One request's place among those its session may have under way.
pub(crate) struct Turn(Arc<Seat>);

/// The seats of all sessions that have called.
#[derive(Default)]
pub(crate) struct Seats(Mutex<HashMap<SessionId, Arc<Seat>>>);

impl Seats {
    /// The seat of a session, made at its first call.
    pub(crate) fn of(&self, id: &SessionId) -> Arc<Seat> {
        let mut seats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seats.entry(id.clone()).or_insert_with(|| Arc::new(Seat::new(id.clone()))).clone()
    }

    /// Takes the seat away; its connections close.
    pub(crate) fn revoke(&self, id: &SessionId) {
        if let Some(seat) = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id) {
            seat.revoked.cancel();
        }
    }

    /// Takes every seat away.
    pub(crate) fn revoke_all(&self) {
        let mut seats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seats.drain().for_each(|(_, seat)| seat.revoked.cancel());
    }

    pub(crate) fn counters(&self) -> Counters {
        let seats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seats.iter().map(|(id, seat)| (id.clone(), seat.counters())).collect()
    }
}

impl Seat {
    fn new(id: SessionId) -> Self {
        Self {
            id,
            revoked: CancellationToken::new(),
            connections: AtomicUsize::new(0),
            under_way: AtomicUsize::new(0),
            readings: Arc::new(Semaphore::new(MAX_READINGS)),
            spares: Arc::new(Semaphore::new(MAX_SPARES_KIB)),
            requests: AtomicU64::new(0),
            denials: AtomicU64::new(0),
            alarms: AtomicU64::new(0),
            echoes: Mutex::default(),
            joined: Mutex::default(),
        }
    }

    /// What to search an answer for when `secret` went out by `rule`; made once for each secret.
    pub(crate) fn echoes(&self, rule: &Rule, secret: &Arc<Secret>) -> Arc<Echoes> {
        let mut known = self.echoes.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known.get(&rule.credential);
        let latest = before.filter(|before| before.secrets.first().is_some_and(|latest| Arc::ptr_eq(latest, secret)));
        if let Some(same) = latest {
            return same.echoes.clone();
        }
        let secrets = remembered(secret, before.map_or(&[][..], |before| &before.secrets));
        let echoes = Arc::new(Echoes::of_all(secrets.iter().map(|secret| &**secret), rule, &self.id));
        known.insert(rule.credential.clone(), Remembered { secrets, echoes: echoes.clone() });
        echoes
    }

    /// What to search an answer for when all of `parts` went out.
    pub(crate) fn joined_echoes(&self, parts: Vec<Arc<Echoes>>) -> Arc<Echoes> {
        let mut known = self.joined.lock().unwrap_or_else(PoisonError::into_inner);
        let alike = |known: &&Joined| {
            known.parts.len() == parts.len()
                && known.parts.iter().zip(&parts).all(|(one, other)| Arc::ptr_eq(one, other))
        };
        if let Some(same) = known.as_ref().filter(alike) {
            return same.all.clone();
        }
        let all = Arc::new(Echoes::joined(parts.iter().map(|echoes| &**echoes)));
        *known = Some(Joined { parts, all: all.clone() });
        all
    }

    /// A place for one more connection, unless `limit` are open.
    pub(crate) fn take_place(self: &Arc<Self>, limit: usize) -> Option<Place> {
        let place = Place(self.clone());
        (self.connections.fetch_add(1, Ordering::Relaxed) < limit).then_some(place)
    }

    /// A place for one more request, unless the session has its full share under way already.
    pub(crate) fn take_turn(self: &Arc<Self>) -> Option<Turn> {
        let turn = Turn(self.clone());
        (self.under_way.fetch_add(1, Ordering::Relaxed) < MAX_UNDER_WAY).then_some(turn)
    }

    /// Leave to hold one request's body in memory; `None` if there is none within `wait`.
    pub(crate) async fn take_reading(&self, wait: Duration) -> Option<OwnedSemaphorePermit> {
        tokio::time::timeout(wait, self.readings.clone().acquire_owned()).await.ok()?.ok()
    }

    /// Room to remember a body of this many bytes while it is sent, if there is any.
    pub(crate) fn take_spare(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let kib = u32::try_from(bytes.div_ceil(1024)).ok()?;
        self.spares.clone().try_acquire_many_owned(kib).ok()
    }

    pub(crate) fn count_request(&self, denied: bool) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.denials.fetch_add(denied.into(), Ordering::Relaxed);
    }

    pub(crate) fn count_alarm(&self) {
        self.alarms.fetch_add(1, Ordering::Relaxed);
    }

    fn counters(&self) -> SessionCounters {
        SessionCounters {
            requests: self.requests.load(Ordering::Relaxed),
            denials: self.denials.load(Ordering::Relaxed),
            alarms: self.alarms.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// `latest`, and as many of those before it as are kept.
fn remembered(latest: &Arc<Secret>, before: &[Arc<Secret>]) -> Vec<Arc<Secret>> {
    let mut bytes = 0;
    let others = before.iter().filter(|other| other.expose() != latest.expose());
    let all = std::iter::once(latest).chain(others).take(MAX_REMEMBERED);
    let fitting = all.take_while(|secret| {
        let fits = bytes < MAX_REMEMBERED_BYTES;
        bytes += secret.expose().len();
        fits
    });
    fitting.cloned().collect()
}

/// Tokens that live an hour are remembered for most of a day.
const MAX_REMEMBERED: usize = 16;

/// A secret's forms are some sixty times its length: about 1 MiB for each credential of a session.
const MAX_REMEMBERED_BYTES: usize = 16 * 1024;

/// A quarter of what the audit journal can hold at once: one session cannot take the log from the others.
const MAX_UNDER_WAY: usize = 2048;

/// At 1 MiB each, what a session that stalls its uploads can make the daemon hold.
const MAX_READINGS: usize = 32;

/// The same again; a body that finds no room is sent all the same, but only once.
const MAX_SPARES_KIB: usize = 32 * 1024;

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing unwrap or index is the test's failure")]
mod tests {
    use super::*;

    fn secret(text: &str) -> Arc<Secret> {
        Arc::new(Secret::parse(text).unwrap().unwrap())
    }

    #[test]
    fn secrets_that_went_out_are_remembered_within_bounds() {
        let add = |before: Vec<Arc<Secret>>, text: String| remembered(&secret(&text), &before);
        let texts = |all: &[Arc<Secret>]| all.iter().map(|one| one.expose().to_owned()).collect::<Vec<_>>();
        let all = (0..40).map(|n| format!("secret-{n}")).fold(Vec::new(), add);
        assert_eq!(texts(&all), (24..40).rev().map(|n| format!("secret-{n}")).collect::<Vec<_>>());
        let again = remembered(&secret("secret-30"), &all);
        assert_eq!((again.len(), again[0].expose(), again[1].expose()), (16, "secret-30", "secret-39"));
        let long = (0..40).map(|n| format!("{n:04096}")).fold(Vec::new(), add);
        assert_eq!(texts(&long), (36..40).rev().map(|n| format!("{n:04096}")).collect::<Vec<_>>());
        assert_eq!(texts(&add(all, "x".repeat(16 * 1024))).len(), 1);
    }

    #[tokio::test]
    async fn bodies_held_in_memory_are_few() {
        let seat = Seat::new(SessionId::parse("7f3a9c21").unwrap());
        let mut held = Vec::new();
        for _ in 0..MAX_READINGS {
            held.push(seat.take_reading(Duration::ZERO).await.unwrap());
        }
        assert!(seat.take_reading(Duration::ZERO).await.is_none());
        held.pop();
        assert!(seat.take_reading(Duration::ZERO).await.is_some());
    }
}
