//! Frames over the socket between launcher and first process: four bytes of length, then JSON. Descriptors come with the
//! first byte of a frame.

use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::mpsc;

/// Sends one frame, with descriptors.
pub(super) fn send(mut socket: &UnixStream, message: &impl Serialize, handed: &[BorrowedFd<'_>]) -> io::Result<()> {
    let frame = frame(message)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_HANDED))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !handed.is_empty() && !control.push(SendAncillaryMessage::ScmRights(handed)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let sent = sendmsg(socket, &[IoSlice::new(&frame)], &mut control, SendFlags::NOSIGNAL)?;
    socket.write_all(frame.get(sent..).unwrap_or_default())
}

/// Receives one frame and its descriptors.
pub(super) fn receive<T: DeserializeOwned>(mut socket: &UnixStream) -> io::Result<(T, Vec<OwnedFd>)> {
    let mut length = [0; LENGTH_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_HANDED))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(socket, &mut [IoSliceMut::new(&mut length)], &mut control, RecvFlags::CMSG_CLOEXEC)?.bytes;
    if got == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let handed = control.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(handed) => handed.collect(),
        _ => Vec::new(),
    });
    let handed = handed.collect();
    socket.read_exact(length.get_mut(got..).unwrap_or_default())?;
    let mut text = vec![0; bounded(length)?];
    socket.read_exact(&mut text)?;
    Ok((serde_json::from_slice(&text)?, handed))
}

/// The bytes of a frame.
pub(super) fn frame(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let text = serde_json::to_vec(message)?;
    let length = u32::try_from(text.len()).map_err(io::Error::other)?;
    Ok(length.to_be_bytes().into_iter().chain(text).collect())
}

/// The frames that still come, until the other end is gone. Read on their own, so that none is lost half read.
pub(super) fn frames<T: DeserializeOwned + Send + 'static>(mut socket: OwnedReadHalf) -> mpsc::Receiver<T> {
    let (send, receive) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Ok(message) = next(&mut socket).await {
            if send.send(message).await.is_err() {
                return;
            }
        }
    });
    receive
}

async fn next<T: DeserializeOwned>(socket: &mut OwnedReadHalf) -> io::Result<T> {
    let mut length = [0; LENGTH_BYTES];
    socket.read_exact(&mut length).await?;
    let mut text = vec![0; bounded(length)?];
    socket.read_exact(&mut text).await?;
    Ok(serde_json::from_slice(&text)?)
}

fn bounded(length: [u8; LENGTH_BYTES]) -> io::Result<usize> {
    let length = usize::try_from(u32::from_be_bytes(length)).map_err(io::Error::other)?;
    if length > MAX_FRAME { Err(io::ErrorKind::InvalidData.into()) } else { Ok(length) }
}

const LENGTH_BYTES: usize = 4;
/// A command line and an environment are at most 2 MiB to the kernel; JSON writes bytes as numbers.
const MAX_FRAME: usize = 16 * 1024 * 1024;
const MAX_HANDED: usize = 3;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn descriptors_arrive_with_their_frame_and_only_with_it() {
        let (a, b) = UnixStream::pair().unwrap();
        let (read, write) = rustix::pipe::pipe().unwrap();
        let long = "x".repeat(100_000);
        let sending = std::thread::spawn(move || {
            send(&a, &"first", &[write.as_fd()]).unwrap();
            send(&a, &long, &[]).unwrap();
        });
        let (text, handed): (String, _) = receive(&b).unwrap();
        assert_eq!((text.as_str(), handed.len()), ("first", 1));
        let (text, none): (String, _) = receive(&b).unwrap();
        assert_eq!((text.len(), none.len()), (100_000, 0));
        sending.join().unwrap();
        rustix::io::write(&handed[0], b"y").unwrap();
        assert_eq!(rustix::io::read(&read, &mut [0; 4]).unwrap(), 1);
    }

    #[test]
    fn what_is_too_long_or_cut_is_refused() {
        let (a, b) = UnixStream::pair().unwrap();
        (&a).write_all(&u32::MAX.to_be_bytes()).unwrap();
        assert_eq!(receive::<String>(&b).unwrap_err().kind(), io::ErrorKind::InvalidData);
        let (a, b) = UnixStream::pair().unwrap();
        (&a).write_all(&[0, 0, 0, 9, b'"']).unwrap();
        drop(a);
        assert_eq!(receive::<String>(&b).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
