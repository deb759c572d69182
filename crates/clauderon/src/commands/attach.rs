//! `attach`: the terminal of a session, until it ends or the user leaves it.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use clauderon_sandbox::terminal::{ATTACH_SOCKET, SIZE, TYPED, keys};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::OfSession;
use crate::error::{BACKEND, CliError, OK, Result, USAGE};
use crate::{output, reach, sandbox};

pub(crate) async fn run(args: OfSession) -> Result<u8> {
    let stream = connect(&args.name).await?;
    let raw = Raw::begin()?;
    let left = relay(stream).await;
    drop(raw);
    match left? {
        Left::Detached => output::note(format_args!("left session `{}` running", args.name)),
        Left::Ended => output::note(format_args!("session `{}` has ended", args.name)),
    }
    Ok(OK)
}

enum Left {
    /// The user went.
    Detached,
    /// The session's process did.
    Ended,
}

async fn connect(name: &str) -> Result<UnixStream> {
    let client = reach::daemon().await?;
    let session = match client.session(name).await {
        Ok(session) => session,
        Err(error) => return Err(reach::session_failed(&client, error).await),
    };
    if !sandbox::isolates(&session.backend) || session.status == "ready" {
        return Err(CliError::new(USAGE, format_args!("session `{name}` has no terminal"))
            .hint(format!("`clauderon logs -f {name}` shows what it writes")));
    }
    let home = client.daemon().await.map_err(reach::failed)?.home;
    let socket = PathBuf::from(home).join("sessions").join(&session.id).join(ATTACH_SOCKET);
    clauderon_api::client::connect(&socket).await.map_err(|_| {
        CliError::new(BACKEND, format_args!("the process of session `{name}` has ended"))
            .hint(format!("`clauderon logs {name}` shows what it wrote"))
    })
}

async fn relay(stream: UnixStream) -> Result<Left> {
    let (mut shown, mut typed) = stream.into_split();
    let mut keys = keys();
    let mut resized = signal(SignalKind::window_change())?;
    let (mut hang_up, mut terminate) = (signal(SignalKind::hangup())?, signal(SignalKind::terminate())?);
    let mut piece = vec![0; PIECE];
    send_size(&mut typed).await?;
    let (mut keys_open, mut leaving) = (true, Leaving::default());
    loop {
        tokio::select! {
            length = shown.read(&mut piece) => match length {
                Ok(length @ 1..) => output::bytes(piece.get(..length).unwrap_or_default())?,
                _ => return Ok(Left::Ended),
            },
            text = keys.recv(), if keys_open => match text {
                Some(text) => {
                    let (text, leaves) = leaving.look(&text);
                    send(&mut typed, TYPED, &text).await?;
                    if leaves { return Ok(Left::Detached) }
                }
                None => keys_open = false,
            },
            _ = resized.recv() => send_size(&mut typed).await?,
            _ = hang_up.recv() => return Ok(Left::Detached),
            _ = terminate.recv() => return Ok(Left::Detached),
        }
    }
}

async fn send_size(typed: &mut OwnedWriteHalf) -> Result {
    let Ok(size) = tcgetwinsize(std::io::stdout()) else { return Ok(()) };
    let ([a, b], [c, d]) = (size.ws_col.to_be_bytes(), size.ws_row.to_be_bytes());
    send(typed, SIZE, &[a, b, c, d]).await
}

/// One frame; a session that has ended takes none, and says so by closing the other direction.
async fn send(typed: &mut OwnedWriteHalf, kind: u8, text: &[u8]) -> Result {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes();
    let frame: Vec<u8> = [kind].into_iter().chain(length).chain(text.iter().copied()).collect();
    let _ended = typed.write_all(&frame).await;
    Ok(())
}

/// Looks for the two keys that leave, also where they come in two pieces.
#[derive(Default)]
struct Leaving {
    holds_first: bool,
}

impl Leaving {
    /// What of `text` is for the session, and whether the user leaves after it.
    fn look(&mut self, text: &[u8]) -> (Vec<u8>, bool) {
        let mut kept = Vec::with_capacity(text.len() + 1);
        for &key in text {
            if std::mem::take(&mut self.holds_first) {
                if key == CTRL_Q {
                    return (kept, true);
                }
                kept.push(CTRL_P);
            }
            match key {
                CTRL_P => self.holds_first = true,
                key => kept.push(key),
            }
        }
        (kept, false)
    }
}

/// A terminal that hands on every key; as it was before once this is dropped.
struct Raw(Option<Termios>);

impl Raw {
    fn begin() -> Result<Self> {
        let input = std::io::stdin();
        if !input.is_terminal() {
            return Ok(Self(None));
        }
        let before = tcgetattr(&input)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&input, OptionalActions::Now, &raw)?;
        Ok(Self(Some(before)))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let Some(before) = &self.0 else { return };
        // What a full-screen program left on: its screen, hidden cursor, colours, mouse and paste reports.
        let _ =
            output::bytes(b"\x1b[?1049l\x1b[?25h\x1b[0m\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\r\n");
        let _gone = tcsetattr(std::io::stdin(), OptionalActions::Now, before);
    }
}

const CTRL_P: u8 = 0x10;
const CTRL_Q: u8 = 0x11;
const PIECE: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_keys_leave_and_one_of_them_does_not() {
        let mut leaving = Leaving::default();
        assert_eq!(leaving.look(b"ls\n"), (b"ls\n".to_vec(), false));
        assert_eq!(leaving.look(b"a\x10"), (b"a".to_vec(), false));
        assert_eq!(leaving.look(b"b"), (b"\x10b".to_vec(), false));
        assert_eq!(leaving.look(b"\x10\x10"), (b"\x10".to_vec(), false));
        assert_eq!(leaving.look(b"\x11rest"), (Vec::new(), true));
    }
}
