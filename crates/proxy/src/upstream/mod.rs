//! The way to origins: which addresses may be dialled, and dialling them.

mod corporate;
pub(crate) mod dial;
pub(crate) mod failure;
pub(crate) mod guard;
pub(crate) mod read_ahead;
