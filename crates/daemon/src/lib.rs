//! The daemon: owns the home directory, the credentials and the sessions

pub mod book;
pub mod home;
pub mod npmrc;
pub mod settings;
pub mod sources;
pub mod watch;
