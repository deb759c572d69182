//! As much of OpenPGP (RFC 9580) as signing with a service account's key takes: one Ed25519 key, detached signatures.
//!
//! Omni makes such keys and no others. A whole OpenPGP library would bring RSA, DSA and three hash generations along.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clauderon_core::digest::hex;
use zeroize::Zeroizing;

/// A private key that signs.
pub(crate) struct SigningKey {
    pair: Ed25519KeyPair,
    fingerprint: Vec<u8>,
}

/// Why a text is no such key. Never repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No armored private key.
    #[error("it is no armored OpenPGP private key")]
    Armor,
    /// Encrypted with a passphrase.
    #[error("its private key is protected by a passphrase")]
    Encrypted,
    /// Of another kind.
    #[error("its private key is not of the kind that Omni makes (version 4, Ed25519)")]
    Kind,
    /// Damaged.
    #[error("its private key is damaged")]
    Damaged,
    /// A name that cannot be sent.
    #[error("its name cannot be sent in a call")]
    Identity,
}

impl SigningKey {
    /// Reads the first key of an armored text.
    pub(crate) fn read(armored: &str) -> Result<Self, KeyError> {
        let bytes = dearmored(armored).ok_or(KeyError::Armor)?;
        let (tag, body) = packet(&bytes).ok_or(KeyError::Armor)?;
        if tag != SECRET_KEY {
            return Err(KeyError::Armor);
        }
        Self::of_packet(body)
    }

    /// RFC 9580 §§ 5.5.2.2 and 5.5.3: version, time, algorithm, public part; then how the secret part is protected, and that.
    fn of_packet(body: &[u8]) -> Result<Self, KeyError> {
        let ([version, _time @ .., algorithm], rest) = body.split_first_chunk::<6>().ok_or(KeyError::Damaged)?;
        if *version != 4 {
            return Err(KeyError::Kind);
        }
        let (public, rest) = legacy_point(rest).filter(|_| *algorithm == EDDSA_LEGACY).ok_or(KeyError::Kind)?;
        let public_length = body.len() - rest.len();
        let (&protection, rest) = rest.split_first().ok_or(KeyError::Damaged)?;
        if protection != 0 {
            return Err(KeyError::Encrypted);
        }
        let (sum, secret) = rest.split_last_chunk::<2>().map(|(secret, sum)| (sum, secret)).ok_or(KeyError::Damaged)?;
        if secret.iter().fold(0_u16, |sum, byte| sum.wrapping_add((*byte).into())) != u16::from_be_bytes(*sum) {
            return Err(KeyError::Damaged);
        }
        let seed = seed(secret).ok_or(KeyError::Damaged)?;
        let pair = Ed25519KeyPair::from_seed_and_public_key(&*seed, public).map_err(|_| KeyError::Damaged)?;
        let public_part = body.get(..public_length).unwrap_or_default();
        Ok(Self { pair, fingerprint: fingerprint(public_part) })
    }

    /// The key's fingerprint, lower-case hexadecimal.
    pub(crate) fn fingerprint(&self) -> String {
        hex(&self.fingerprint)
    }

    /// A detached binary signature over `data` (RFC 9580 § 5.2.3), made at `now` (seconds since the Unix epoch).
    pub(crate) fn sign(&self, data: &[u8], now: u64) -> Vec<u8> {
        let time = u32::try_from(now).unwrap_or(u32::MAX).to_be_bytes();
        let mut hashed = vec![5, 2];
        hashed.extend(time);
        hashed.extend([22, 33, 4]);
        hashed.extend(&self.fingerprint);
        let mut signed = vec![4, BINARY_DOCUMENT, EDDSA_LEGACY, SHA_256];
        signed.extend(short(hashed.len()));
        signed.extend(&hashed);
        let mut trailer = vec![4, 0xff];
        trailer.extend(u32::try_from(signed.len()).unwrap_or(u32::MAX).to_be_bytes());
        let hash = digest(&SHA256, &[data, &signed, &trailer].concat());
        let signature = self.pair.sign(hash.as_ref());

        let mut body = signed;
        let issuer = self.fingerprint.get(12..).unwrap_or_default();
        body.extend(short(issuer.len() + 2));
        body.extend([9, 16]);
        body.extend(issuer);
        body.extend(hash.as_ref().iter().take(2));
        let (r, s) = signature.as_ref().split_at(32);
        body.extend([integer(r), integer(s)].concat());
        // Old format, one or two octets of length.
        let mut packet = vec![0x80 | SIGNATURE << 2 | 1];
        packet.extend(short(body.len()));
        packet.extend(body);
        packet
    }
}

/// The bytes in an armor (RFC 9580 § 6): header lines, an empty line, base64, perhaps a checksum.
fn dearmored(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let (_, rest) = text.split_once("-----BEGIN PGP PRIVATE KEY BLOCK-----")?;
    let (inner, _) = rest.split_once("-----END PGP PRIVATE KEY BLOCK-----")?;
    let lines = inner.lines().map(str::trim).filter(|line| !line.contains(": ") && !line.starts_with('='));
    let plain: Zeroizing<String> = Zeroizing::new(lines.collect());
    STANDARD.decode(plain.as_bytes()).ok().map(Zeroizing::new)
}

/// The first packet's type and body (RFC 9580 § 4.2).
fn packet(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let (&head, rest) = bytes.split_first()?;
    let (&first, after) = rest.split_first()?;
    let (tag, length, body) = match head {
        0xc0.. if first < 192 => (head & 0x3f, usize::from(first), after),
        0xc0.. if first < 224 => {
            let (&second, body) = after.split_first()?;
            (head & 0x3f, (usize::from(first) - 192) * 256 + usize::from(second) + 192, body)
        }
        0x80.. if head & 3 == 0 => (head >> 2 & 0xf, usize::from(first), after),
        0x80.. if head & 3 == 1 => {
            let (&second, body) = after.split_first()?;
            (head >> 2 & 0xf, usize::from(first) * 256 + usize::from(second), body)
        }
        _ => return None,
    };
    body.get(..length).map(|body| (tag, body))
}

/// The curve's identifier, then the point in its native form, marked 0x40 (RFC 9580 § 5.5.5.5).
fn legacy_point(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = rest.strip_prefix(&ED25519_CURVE)?;
    let (point, rest) = take_integer(rest)?;
    point.strip_prefix(&[0x40]).filter(|point| point.len() == 32).map(|point| (point, rest))
}

fn seed(secret: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let mut seed = Zeroizing::new([0; 32]);
    let (bytes, _) = take_integer(secret).filter(|(_, rest)| rest.is_empty())?;
    let start = 32_usize.checked_sub(bytes.len())?;
    seed.get_mut(start..)?.copy_from_slice(bytes);
    Some(seed)
}

/// RFC 9580 § 3.2: the number of bits, then the bytes.
fn take_integer(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (bits, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*bits)).div_ceil(8))
}

fn integer(bytes: &[u8]) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let plain = bytes.get(zeros..).unwrap_or_default();
    let spare = plain.first().map_or(0, |first| first.leading_zeros() as usize);
    [&short(plain.len() * 8 - spare)[..], plain].concat()
}

/// RFC 9580 § 5.5.4.2.
fn fingerprint(public: &[u8]) -> Vec<u8> {
    digest(&SHA1_FOR_LEGACY_USE_ONLY, &[&[0x99], &short(public.len())[..], public].concat()).as_ref().to_vec()
}

fn short(number: usize) -> [u8; 2] {
    u16::try_from(number).unwrap_or(u16::MAX).to_be_bytes()
}

const SIGNATURE: u8 = 2;
const SECRET_KEY: u8 = 5;
const BINARY_DOCUMENT: u8 = 0;
const SHA_256: u8 = 8;
const EDDSA_LEGACY: u8 = 22;

/// Its length, then the identifier 1.3.6.1.4.1.11591.15.1.
const ED25519_CURVE: [u8; 10] = [9, 0x2b, 0x06, 0x01, 0x04, 0x01, 0xda, 0x47, 0x0f, 0x01];

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing unwrap or index is the test's failure")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The kit's service account.
    fn armored() -> String {
        let (account, _) = clauderon_testkit::talos::service_account();
        let json: serde_json::Value = serde_json::from_slice(&STANDARD.decode(account).unwrap()).unwrap();
        json["pgp_key"].as_str().unwrap().to_owned()
    }

    fn armor(bytes: &[u8]) -> String {
        let inner = STANDARD.encode(bytes);
        format!("-----BEGIN PGP PRIVATE KEY BLOCK-----\nComment: x\n\n{inner}\n-----END PGP PRIVATE KEY BLOCK-----\n")
    }

    fn fault(bytes: &[u8]) -> Option<KeyError> {
        SigningKey::read(&armor(bytes)).err()
    }

    #[test]
    fn a_key_is_known_by_its_fingerprint_and_signs_alike() {
        let key = SigningKey::read(&armored()).unwrap();
        assert_eq!(key.fingerprint(), "18579893280ca31874d040b12dd0bb89b5d071f8");
        let signature = key.sign(b"x", 1_795_490_441);
        assert_eq!(signature, key.sign(b"x", 1_795_490_441));
        assert_ne!(signature, key.sign(b"y", 1_795_490_441));
        let (tag, body) = packet(&signature).unwrap();
        assert_eq!((tag, &body[..4]), (SIGNATURE, &[4, BINARY_DOCUMENT, EDDSA_LEGACY, SHA_256][..]));
    }

    #[test]
    fn other_keys_are_refused_by_what_is_wrong_with_them() {
        let whole = dearmored(&armored()).unwrap();
        assert_eq!(fault(&whole), None);
        let changed = |at: usize, to: u8| {
            let mut bytes = whole.to_vec();
            bytes[at] = to;
            fault(&bytes)
        };
        // Behind two octets of head: the version, and five on the algorithm; the protection comes after 51 octets.
        assert_eq!(changed(2, 6), Some(KeyError::Kind));
        assert_eq!(changed(7, 1), Some(KeyError::Kind));
        assert_eq!(changed(2 + 51, 254), Some(KeyError::Encrypted));
        assert_eq!(changed(2 + 60, whole[2 + 60].wrapping_add(1)), Some(KeyError::Damaged));
        assert_eq!(changed(0, 0x98), Some(KeyError::Armor), "a public key");
        assert_eq!(SigningKey::read("hunter2").err(), Some(KeyError::Armor));
    }

    proptest! {
        #[test]
        fn no_key_is_too_odd(bytes in proptest::collection::vec(any::<u8>(), 0..128), at in 0_usize..90, to: u8) {
            let _ = fault(&bytes);
            let mut whole = dearmored(&armored()).unwrap().to_vec();
            whole.truncate(at.max(1));
            let _ = fault(&whole);
            let last = whole.len() - 1;
            whole[last] = to;
            let _ = fault(&whole);
        }
    }
}
