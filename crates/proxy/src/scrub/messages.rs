//! Where the messages of a gRPC body end: a receiver may wait for a whole one before it goes on, so nothing is held beyond it.

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;

/// Follows the length-prefixed messages of a body (gRPC over HTTP/2, "Length-Prefixed-Message").
#[derive(Default)]
pub(crate) struct Messages {
    /// How many bytes of the prefix were read: a flag and four bytes of length.
    prefix: u8,
    length: u32,
    left: u32,
}

impl Messages {
    /// For a body of these fields, if it is one of such messages.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let kind = headers.get(CONTENT_TYPE)?.as_bytes();
        kind.get(..GRPC.len()).filter(|kind| kind.eq_ignore_ascii_case(GRPC)).map(|_| Self::default())
    }

    /// Takes off `data` what belongs to one message, and tells whether the message ends there.
    pub(crate) fn take(&mut self, data: &mut Bytes) -> (Bytes, bool) {
        let mut taken = 0;
        while self.prefix < PREFIX && taken < data.len() {
            if self.prefix > 0 {
                self.length = self.length << 8 | u32::from(data.get(taken).copied().unwrap_or_default());
            }
            self.prefix += 1;
            taken += 1;
            self.left = self.length;
        }
        if self.prefix < PREFIX {
            return (data.split_to(taken), false);
        }
        let payload = (data.len() - taken).min(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= u32::try_from(payload).unwrap_or(self.left);
        let ends = self.left == 0;
        if ends {
            *self = Self::default();
        }
        (data.split_to(taken + payload), ends)
    }
}

const GRPC: &[u8] = b"application/grpc";
const PREFIX: u8 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_end_where_their_length_says_however_they_are_cut() {
        let bytes = b"\0\0\0\0\x03abc\0\0\0\0\0\x01\0\0\0\x02xy\0\0";
        for step in 1..=bytes.len() {
            let (mut messages, mut read, mut ends) = (Messages::default(), 0, Vec::new());
            for piece in bytes.chunks(step) {
                let mut data = Bytes::copy_from_slice(piece);
                while !data.is_empty() {
                    let (taken, ended) = messages.take(&mut data);
                    read += taken.len();
                    ends.extend(ended.then_some(read));
                }
            }
            assert_eq!((read, ends), (bytes.len(), vec![8, 13, 20]), "in pieces of {step}");
        }
    }
}
