//! The way to origins: which addresses may be dialled, dialling them, and keeping connections for the next request.

pub(crate) mod answer;
mod corporate;
pub(crate) mod dial;
pub(crate) mod failure;
pub(crate) mod guard;
pub(crate) mod http1;
pub(crate) mod http2;
pub(crate) mod pool;
pub(crate) mod read_ahead;
pub(crate) mod upload;
