//! 1Password, through its command-line tool.
