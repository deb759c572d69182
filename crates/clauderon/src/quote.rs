//! Environment variables spelled for shells and for dotenv files.

/// Whether every shell takes this as a variable's name.
pub(crate) fn is_name(name: &str) -> bool {
    let begins_well = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    begins_well && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// `value` as one word of sh, bash and zsh. Always quoted: between single quotes nothing is special, not even `!`, `~` or `=`.
pub(crate) fn shell(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

/// `value` as a dotenv file holds it: bare where every reader agrees, else quoted as most do.
pub(crate) fn dotenv(value: &str) -> String {
    let bare = |b: u8| b.is_ascii_alphanumeric() || b"_-./:@%+,=".contains(&b);
    if value.bytes().all(bare) {
        return value.to_owned();
    }
    if !value.contains(['\'', '\n', '\r']) {
        return format!("'{value}'");
    }
    let escaped = value.replace('\\', r"\\").replace('"', "\\\"").replace('$', r"\$");
    format!("\"{}\"", escaped.replace('\n', r"\n").replace('\r', r"\r"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use super::*;

    const AWKWARD: [&str; 9] = [
        "",
        "plain",
        "it's",
        "'",
        "$HOME `id` $(id)",
        "a\nb\n",
        "\\ \\n \"",
        "!history ~ =ls *",
        "!f(){ test \"$1\" = get && echo 'x'; };f",
    ];

    /// The shell is the judge of what its quoting means.
    #[test]
    fn real_shells_read_back_what_was_written() {
        for shell_name in ["sh", "bash", "dash", "zsh", "ksh"] {
            for value in AWKWARD {
                let script = format!("X={}; printf %s \"$X\"", shell(value));
                let Ok(output) = std::process::Command::new(shell_name).arg("-c").arg(&script).output() else {
                    assert_ne!(shell_name, "sh", "every machine has sh");
                    break;
                };
                assert_eq!(String::from_utf8(output.stdout).unwrap(), value, "{shell_name}");
            }
        }
    }

    #[test]
    fn dotenv_quotes_only_what_needs_it() {
        assert_eq!(dotenv("http://n:t@127.0.0.1:3030"), "http://n:t@127.0.0.1:3030");
        assert_eq!(dotenv("a b $c"), "'a b $c'");
        assert_eq!(dotenv("it's\n$x"), r#""it's\n\$x""#);
    }

    #[test]
    fn names_are_what_shells_take() {
        assert!(is_name("GIT_CONFIG_KEY_0") && is_name("_x"));
        for bad in ["", "0A", "A-B", "npm_config_//host/:_authToken", "A;id", "É"] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
