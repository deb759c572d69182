//! What a hostile agent or origin may try on the data path, and what must come of it.
#![expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]

mod answers;
mod limits;
mod reuse;
mod rig;
mod uploads;
