//! Secret files: one value each, readable by nobody else.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use zeroize::Zeroizing;

use super::Reading;

/// What the file at `path` holds; `None` when there is none or it is blank. A symbolic link counts as what it leads to.
pub fn read(path: &Path) -> Option<Reading> {
    read_as(path, super::read)
}

/// The same, read by `how`.
pub fn read_as(path: &Path, how: fn(&str) -> Option<Reading>) -> Option<Reading> {
    match read_private(path) {
        Ok(text) => how(&text),
        Err(Unusable::Absent) => None,
        Err(Unusable::Because(reason)) => Some(Reading::Broken(reason)),
    }
}

/// The text of the private file at `path`; `None` when there is none, an error when it cannot be used.
pub fn text(path: &Path) -> Option<Result<Zeroizing<String>, String>> {
    match read_private(path) {
        Ok(text) => Some(Ok(text)),
        Err(Unusable::Absent) => None,
        Err(Unusable::Because(reason)) => Some(Err(reason)),
    }
}

/// What is wrong with the directory that holds secret files, and the command that mends it.
pub fn directory_fault(dir: &Path) -> Option<String> {
    let metadata = std::fs::metadata(dir).ok()?;
    open_to_others(&metadata).then(|| format!("the directory is open to other users: run `chmod 700 {}`", shown(dir)))
}

enum Unusable {
    Absent,
    Because(String),
}

fn read_private(path: &Path) -> Result<Zeroizing<String>, Unusable> {
    // Without O_NONBLOCK a named pipe in the place of a file would stop the daemon.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    // Asked of the open file, so that it is the file that is read whose mode was checked.
    check(&file.metadata()?, path)?;
    bounded(&file)
}

fn check(metadata: &Metadata, path: &Path) -> Result<(), Unusable> {
    let me = rustix::process::geteuid().as_raw();
    if !metadata.is_file() {
        return Err(Unusable::Because("it is not a regular file".to_owned()));
    }
    if metadata.uid() != me && metadata.uid() != 0 {
        return Err(Unusable::Because(format!("it belongs to another user: run `chown {me} {}`", shown(path))));
    }
    if open_to_others(metadata) {
        return Err(Unusable::Because(format!("it is open to other users: run `chmod 600 {}`", shown(path))));
    }
    Ok(())
}

fn bounded(file: &File) -> Result<Zeroizing<String>, Unusable> {
    // Allocated once: a buffer that grows leaves copies of the secret behind.
    let mut text = Zeroizing::new(String::with_capacity(MAX_BYTES + 1));
    let limit = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX);
    match file.take(limit + 1).read_to_string(&mut text) {
        Ok(length) if length > MAX_BYTES => Err(Unusable::Because("it is larger than any secret".to_owned())),
        Ok(_) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(Unusable::Because("it is not UTF-8".to_owned()))
        }
        Err(error) => Err(error.into()),
    }
}

fn open_to_others(metadata: &Metadata) -> bool {
    metadata.mode() & 0o077 != 0
}

/// The path as a shell takes it.
fn shown(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

impl From<io::Error> for Unusable {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::Absent,
            _ => Self::Because(format!("it cannot be read: {error}")),
        }
    }
}

/// Four times the longest secret: blanks around it are no reason to fail.
const MAX_BYTES: usize = 64 * 1024;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::home::write_private;

    fn broken(path: &Path) -> String {
        match read(path) {
            Some(Reading::Broken(reason)) => reason,
            _ => panic!("{} was not refused", path.display()),
        }
    }

    #[test]
    fn a_private_file_is_read_without_its_line_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("github_token");
        write_private(&path, b"ghp_value\r\n", 0o600).unwrap();
        assert!(matches!(read(&path), Some(Reading::Literal(secret)) if secret.expose() == "ghp_value"));
        let link = dir.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(matches!(read(&link), Some(Reading::Literal(_))));
        write_private(&path, b" op://Private/GitHub/token\n", 0o600).unwrap();
        assert!(matches!(read(&path), Some(Reading::Reference(_))));
    }

    #[test]
    fn a_loose_mode_is_refused_with_the_command_that_mends_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("it's a token");
        for mode in [0o640, 0o604, 0o620, 0o601] {
            write_private(&path, b"ghp_value", mode).unwrap();
            let quoted = format!("'{}'", path.display().to_string().replace('\'', r"'\''"));
            assert_eq!(broken(&path), format!("it is open to other users: run `chmod 600 {quoted}`"), "{mode:o}");
        }
        let link = dir.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(broken(&link).contains("chmod 600"));
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        assert_eq!(
            directory_fault(dir.path()),
            Some(format!("the directory is open to other users: run `chmod 700 {}`", dir.path().display()))
        );
        fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
        assert_eq!(directory_fault(dir.path()), None);
    }

    #[test]
    fn what_is_no_secret_is_absent_or_refused_without_being_repeated() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t");
        assert!(read(&path).is_none() && read(&path.join("below")).is_none());
        write_private(&path, b" \n\t", 0o600).unwrap();
        assert!(read(&path).is_none());
        let cases: [(&[u8], &str); 4] = [
            (b"hunter2\nsecond", "line break"),
            (b"hunter2\xff", "UTF-8"),
            (&[b'x'; MAX_BYTES + 1], "larger"),
            (b"op://hunter2", "op://vault/item/field"),
        ];
        for (bytes, reason) in cases {
            write_private(&path, bytes, 0o600).unwrap();
            let found = broken(&path);
            assert!(found.contains(reason) && !found.contains("hunter2"), "{found}");
        }
        assert!(broken(dir.path()).contains("not a regular file"));
    }
}
