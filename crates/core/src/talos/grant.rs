//! Asking a cluster for a certificate that can read and nothing else (`GenerateClientConfiguration`).

use std::time::Duration;

use zeroize::Zeroizing;

use super::message::Fields;

/// The path of the call.
pub const GRANT_PATH: &str = "/machine.MachineService/GenerateClientConfiguration";

/// A certificate as a cluster granted it, PEM.
pub struct Granted {
    /// The certificate.
    pub certificate: Vec<u8>,
    /// Its key.
    pub key: Zeroizing<Vec<u8>>,
}

/// The body of a call that asks for a certificate with the role `os:reader` that holds for `life`.
pub fn reader_request(life: Duration) -> Vec<u8> {
    let mut seconds = vec![0x08];
    varint(life.as_secs(), &mut seconds);
    let mut message = field(1, READER.as_bytes());
    message.extend(field(2, &seconds));
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [&[0][..], &length.to_be_bytes(), &message].concat()
}

/// What the answer to such a call holds; `None` if that is no certificate with its key.
pub fn granted(body: &[u8]) -> Option<Granted> {
    let (prefix, message) = body.split_first_chunk::<5>()?;
    let inner = Fields(message).of(1).filter(|_| prefix.first() == Some(&0))?;
    let certificate = Fields(inner).of(3)?.to_vec();
    let key = Zeroizing::new(Fields(inner).of(4)?.to_vec());
    Some(Granted { certificate, key })
}

fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    varint(bytes.len() as u64, &mut field);
    field.extend_from_slice(bytes);
    field
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap_or_default() | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap_or_default());
}

/// The role of whoever may look and nothing else.
const READER: &str = "os:reader";

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_what_talos_reads() {
        let asked = reader_request(Duration::from_hours(6));
        assert_eq!(asked, b"\0\0\0\0\x11\x0a\x09os:reader\x12\x04\x08\xe0\xa8\x01");
    }

    #[test]
    fn an_answer_is_taken_apart() {
        let inner = [field(2, b"ca"), field(3, b"crt"), field(4, b"key")].concat();
        let message = field(1, &inner);
        let length = u32::try_from(message.len()).unwrap();
        let body = [&[0][..], &length.to_be_bytes(), &message].concat();
        let granted = granted(&body).unwrap();
        assert_eq!((granted.certificate.as_slice(), granted.key.as_slice()), (&b"crt"[..], &b"key"[..]));
        assert!(super::granted(b"\0\0\0\0\0").is_none());
    }
}
