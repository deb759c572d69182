//! What a session's process wrote: the newest of it, so that no process can fill the disk.

use std::convert::Infallible;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FallocateFlags, OFlags};

/// A session's output as far as it is kept, from its beginning on.
pub(crate) struct Output {
    file: File,
}

impl Output {
    /// Opens what a process writes to.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(path)? })
    }

    /// The next bytes, none at the end for now. Where bytes are gone, a line says how many.
    pub(crate) fn read(&mut self) -> io::Result<Vec<u8>> {
        let at = self.file.stream_position()?;
        let from = match rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Data(at)) {
            Ok(data) => data,
            // Nothing but a hole until the end.
            Err(rustix::io::Errno::NXIO) => self.file.seek(SeekFrom::End(0))?,
            // A file system that knows no holes has none.
            Err(_) => self.file.seek(SeekFrom::Start(at))?,
        };
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        if from > at {
            piece.extend(format!("[{} bytes of earlier output are gone]\n", from - at).into_bytes());
        }
        (&mut self.file).take(PIECE_BYTES as u64).read_to_end(&mut piece)?;
        Ok(piece)
    }
}

/// Gives back what is old in a file that somebody appends to, for as long as it is polled. The process may write on at any
/// moment, and readers keep their places: old bytes become a hole.
pub(crate) async fn keep_short(path: PathBuf) -> Infallible {
    loop {
        tokio::time::sleep(INTERVAL).await;
        if let Err(error) = shorten(&path, MOST_BYTES, KEPT_BYTES) {
            tracing::warn!("{} cannot be kept short: {error}", path.display());
            std::future::pending::<()>().await;
        }
    }
}

fn shorten(path: &Path, most: u64, kept: u64) -> io::Result<()> {
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or_default();
    let file = match OpenOptions::new().write(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.blocks() * 512 <= most {
        return Ok(());
    }
    let end = metadata.len().saturating_sub(kept) / BLOCK * BLOCK;
    if end > 0 {
        rustix::fs::fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, end)?;
    }
    Ok(())
}

const PIECE_BYTES: usize = 32 * 1024;

/// Holes are made of whole blocks; no usual file system has larger ones.
const BLOCK: u64 = 4096;

/// More than anybody reads.
const KEPT_BYTES: u64 = 8 * 1024 * 1024;

/// So that there is something to give back each time.
const MOST_BYTES: u64 = 2 * KEPT_BYTES;

/// What a fast writer can put on the disk meanwhile is gigabytes, not the disk.
const INTERVAL: Duration = Duration::from_secs(2);

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use std::io::Write;

    use super::*;

    fn read_all(output: &mut Output) -> String {
        let mut all = Vec::new();
        loop {
            match output.read().unwrap() {
                piece if piece.is_empty() => return String::from_utf8(all).unwrap(),
                piece => all.extend(piece),
            }
        }
    }

    #[test]
    fn old_output_makes_room_and_readers_keep_their_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("output.log");
        let mut writer = OpenOptions::new().append(true).create(true).open(&path).unwrap();
        writer.write_all(b"first line\n").unwrap();
        let mut follower = Output::open(&path).unwrap();
        assert_eq!(read_all(&mut follower), "first line\n");
        let lines: Vec<String> = (0..50_000).map(|n| format!("line {n:06}\n")).collect();
        writer.write_all(lines.concat().as_bytes()).unwrap();
        shorten(&path, 1 << 20, 8 * BLOCK).unwrap();
        assert!(read_all(&mut Output::open(&path).unwrap()).starts_with("first line\nline 000000\n"), "short enough");
        shorten(&path, 2 * BLOCK, 8 * BLOCK).unwrap();
        assert!(std::fs::metadata(&path).unwrap().blocks() * 512 <= 16 * BLOCK);
        writer.write_all(b"last line\n").unwrap();
        let (whole, followed) = (read_all(&mut Output::open(&path).unwrap()), read_all(&mut follower));
        assert_eq!(whole.lines().skip(1).collect::<Vec<_>>(), followed.lines().skip(1).collect::<Vec<_>>());
        assert!(followed.starts_with('[') && followed.contains(" bytes of earlier output are gone]\n"));
        assert!(followed.ends_with("line 049999\nlast line\n") && !followed.contains('\0'));
        assert!(read_all(&mut follower).is_empty());
    }
}
