//! The data path: accept, intercept, decide, inject, forward, record

pub mod snapshot;
