//! `proxy.toml`: settings or mistakes, never a panic. A mistake names keys and lines, never a value; a listing never shows
//! the upstream proxy's password. `\x01` in the input stands for a value that no other text can be mistaken for.
#![no_main]

use std::path::Path;

use clauderon_core::config::Settings;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let text = text.replace('\u{1}', SECRET);
    match Settings::parse(&text, Path::new("/home/me/.clauderon"), Path::new("/home/me")) {
        Ok(settings) if is_password(&text) => {
            let listed: Vec<String> = settings.entries().into_iter().map(|entry| entry.value).collect();
            assert!(!listed.concat().contains(SECRET), "the listing shows the password");
            assert!(!format!("{settings:?}").contains(SECRET), "Debug shows the password");
        }
        Ok(_) => {}
        Err(mistakes) => {
            assert!(!mistakes.0.is_empty(), "refused without a mistake");
            let told = format!("{mistakes}\n{mistakes:?}");
            assert!(!told.contains(SECRET) || !is_value(&text), "a mistake repeats a value: {told}");
        }
    }
});

/// Whether the secret stands in the file once, inside a quoted value.
fn is_value(text: &str) -> bool {
    let line = text.lines().find(|line| line.contains(SECRET)).unwrap_or_default();
    let value = line.split_once(SECRET).and_then(|(before, _)| before.split_once("= \""));
    text.matches(SECRET).count() == 1
        && value.is_some_and(|(key, before)| !key.contains(['"', '\'']) && !before.contains('"'))
}

/// Whether it stands there as the upstream proxy's password.
fn is_password(text: &str) -> bool {
    is_value(text) && text.lines().any(|line| line.starts_with(&format!("proxy = \"http://user:{SECRET}@")))
}

const SECRET: &str = "hunter2-Passw0rd";
