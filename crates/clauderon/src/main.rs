//! The credential proxy for AI coding agents.
fn main() {}
