//! The way to origins: which addresses may be dialled, dialling them, and keeping connections for the next request.

pub(crate) mod dial;
pub(crate) mod guard;
pub(crate) mod http1;
pub(crate) mod http2;
pub(crate) mod pool;
