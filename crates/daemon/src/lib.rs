//! The daemon: owns the home directory, the credentials and the sessions
