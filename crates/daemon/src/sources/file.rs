//! Secret files.
