//! The way to origins: which addresses may be dialled, and dialling them.

pub(crate) mod dial;
pub(crate) mod guard;
