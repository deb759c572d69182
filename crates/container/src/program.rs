//! This program as a container's first process, in an image that may hold nothing: it comes with its loader and libraries.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clauderon_sandbox::container::OWN;

use crate::error::EngineError;
use crate::plan::Bind;

/// What to show of this program inside, and the command line that starts it there.
pub(crate) struct Program {
    pub(crate) binds: Vec<Bind>,
    pub(crate) command: Vec<String>,
}

impl Program {
    /// That which runs now.
    pub(crate) fn own() -> Result<Self, EngineError> {
        let program = own_path()?;
        let (loader, libraries) = parts(&listing()?);
        let dir = Path::new(OWN).join("program");
        let inside = dir.join("clauderon").display().to_string();
        let mut binds = vec![Bind::read(program, &inside)];
        let mut command = vec![inside];
        if let Some(loader) = loader {
            let place = dir.join("loader").display().to_string();
            let library_dir = dir.join("lib");
            binds.push(Bind::read(loader, &place));
            binds.extend(libraries.into_iter().map(|(name, path)| Bind::read(path, library_dir.join(name))));
            command.splice(0..0, [place, "--library-path".to_owned(), library_dir.display().to_string()]);
        }
        command.push("container-init".to_owned());
        Ok(Self { binds, command })
    }
}

/// Where the program lies that runs now, unless something else lies there by now.
fn own_path() -> Result<PathBuf, EngineError> {
    let number = |path: &Path| std::fs::metadata(path).map(|there| (there.dev(), there.ino())).ok();
    let runs = Path::new("/proc/self/exe");
    let path = std::fs::read_link(runs).map_err(|error| EngineError::new(format!("{}: {error}", runs.display())))?;
    if number(&path).is_some() && number(&path) == number(runs) {
        return Ok(path);
    }
    Err(EngineError::new("clauderon was replaced while it ran").hint("end its daemon, and start it again"))
}

/// What the loader says that this program is made of. A program that needs no loader says its version instead.
fn listing() -> Result<String, EngineError> {
    let mut command = Command::new("/proc/self/exe");
    command.arg("--version").env_clear().env("LD_TRACE_LOADED_OBJECTS", "1").stdin(Stdio::null());
    command.envs(std::env::var_os("LD_LIBRARY_PATH").map(|value| ("LD_LIBRARY_PATH", value)));
    let output = command.output().map_err(|error| EngineError::new(format!("the loader cannot be asked: {error}")))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The loader, and each library with the name it is looked for by. Lines read `name => /path (address)`, the loader's
/// `/path (address)`; what the kernel brings has neither.
fn parts(listing: &str) -> (Option<PathBuf>, Vec<(String, PathBuf)>) {
    let path = |text: &str| {
        text.trim().rsplit_once(" (").map(|(path, _)| PathBuf::from(path)).filter(|path| path.is_absolute())
    };
    let mut loader = listing.lines().filter(|line| !line.contains("=>")).find_map(path);
    let mut libraries = Vec::new();
    for (name, found) in listing.lines().filter_map(|line| line.split_once("=>")) {
        let (name, Some(found)) = (name.trim(), path(found)) else { continue };
        match Path::new(name).is_absolute() {
            true => loader = Some(found),
            false => libraries.push((name.to_owned(), found)),
        }
    }
    (loader, libraries)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use super::*;

    #[test]
    fn the_listings_of_loaders_are_read() {
        let glibc = "\tlinux-vdso.so.1 (0x00007ffc)\n\tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007fb5)\n\
                     \t/lib64/ld-linux-x86-64.so.2 (0x00007fb6)\n";
        let (loader, libraries) = parts(glibc);
        assert_eq!(loader.unwrap(), Path::new("/lib64/ld-linux-x86-64.so.2"));
        assert_eq!(libraries, [("libm.so.6".to_owned(), PathBuf::from("/lib/x86_64-linux-gnu/libm.so.6"))]);
        let musl = "\t/lib/ld-musl-x86_64.so.1 (0x7f)\n\tlibgcc_s.so.1 => /usr/lib/libgcc_s.so.1 (0x7f)\n\
                    \tlibc.musl-x86_64.so.1 => /lib/ld-musl-x86_64.so.1 (0x7f)\n";
        assert_eq!(parts(musl).0.unwrap(), Path::new("/lib/ld-musl-x86_64.so.1"));
        let nix = "\t/lib64/ld-linux-x86-64.so.2 => /nix/store/x-glibc/lib64/ld-linux-x86-64.so.2 (0x7f)\n";
        assert_eq!(parts(nix).0.unwrap(), Path::new("/nix/store/x-glibc/lib64/ld-linux-x86-64.so.2"));
        assert_eq!(parts("clauderon 0.1.0\n"), (None, Vec::new()));
    }
}
