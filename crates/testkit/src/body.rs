//! Bodies that tests feed frame by frame.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use http_body_util::{BodyExt as _, Empty, Full, combinators::UnsyncBoxBody};
use tokio::sync::mpsc;

use crate::BoxError;

/// The body of every request and response the kit makes.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// No body.
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body of known length.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body of unknown length, and the hand that feeds it.
pub fn channel() -> (Feed, Body) {
    let (sender, receiver) = mpsc::channel(1);
    (Feed(sender), Frames(receiver).boxed_unsync())
}

/// A body of `len` bytes of a fixed pattern, made on the way: no test holds it in memory.
pub fn pattern(len: u64) -> Body {
    let (feed, body) = channel();
    tokio::spawn(async move {
        let block = Bytes::from(pattern_block());
        let mut left = len;
        while left > 0 {
            let take = left.min(block.len() as u64);
            if !feed.data(block.slice(..usize::try_from(take).expect("at most a block"))).await {
                return;
            }
            left -= take;
        }
    });
    body
}

fn pattern_block() -> Vec<u8> {
    (0..BLOCK).map(|index| (index % 251) as u8).collect()
}

/// Feeds a [`channel`] body; dropping it ends the body well.
pub struct Feed(mpsc::Sender<Result<Frame<Bytes>, BoxError>>);

impl Feed {
    /// Sends a piece; false when nobody reads any more.
    pub async fn data(&self, bytes: impl Into<Bytes>) -> bool {
        self.0.send(Ok(Frame::data(bytes.into()))).await.is_ok()
    }

    /// Sends trailers, which end the body.
    pub async fn trailers(self, trailers: HeaderMap) {
        let _ = self.0.send(Ok(Frame::trailers(trailers))).await;
    }

    /// Breaks the body off.
    pub async fn fail(self) {
        let _ = self.0.send(Err("the test broke this body off".into())).await;
    }

    /// Waits until nobody reads any more.
    pub async fn abandoned(&self) {
        self.0.closed().await;
    }
}

struct Frames(mpsc::Receiver<Result<Frame<Bytes>, BoxError>>);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0.poll_recv(cx)
    }
}

const BLOCK: usize = 64 * 1024;
