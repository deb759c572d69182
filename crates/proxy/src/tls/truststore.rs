//! The same roots as a Java trust store.
//!
//! In the oldest of Java's formats, JKS: every Java since 1.2 reads it, under whatever type it is asked for, and unlike PKCS #12 it
//! needs no encryption, which would protect nothing here. Its layout is that of `sun.security.provider.JavaKeyStore`.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use rustls_pki_types::CertificateDer;

use super::ca::Issuer;
use super::client::system_roots;

/// System roots, `extra_roots` and our CA, under [`PASSWORD`].
pub fn java_truststore(issuer: &Issuer, extra_roots: &[CertificateDer<'_>]) -> Vec<u8> {
    let system = system_roots();
    let own = issuer.certificate_der();
    let roots: Vec<&[u8]> = system.iter().chain(extra_roots).map(AsRef::as_ref).chain([own.as_ref()]).collect();
    keystore(&roots)
}

fn keystore(roots: &[&[u8]]) -> Vec<u8> {
    let mut store = Vec::with_capacity(roots.iter().map(|root| root.len() + 64).sum());
    store.extend(MAGIC.to_be_bytes());
    store.extend(VERSION.to_be_bytes());
    store.extend(length(roots.len()));
    for (at, root) in roots.iter().enumerate() {
        store.extend(TRUSTED_CERTIFICATE.to_be_bytes());
        text(&mut store, &format!("root-{at}"));
        // The date of its making, which nothing looks at; with the real one no two stores would be alike.
        store.extend(0_u64.to_be_bytes());
        text(&mut store, "X.509");
        store.extend(length(root.len()));
        store.extend_from_slice(root);
    }
    let keyed: Vec<u8> = PASSWORD.encode_utf16().flat_map(u16::to_be_bytes).chain(*WHITENER).collect();
    let seal = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[keyed.as_slice(), store.as_slice()].concat());
    store.extend_from_slice(seal.as_ref());
    store
}

/// `DataOutput.writeUTF`; ours are plain and short.
fn text(store: &mut Vec<u8>, text: &str) {
    store.extend(u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
    store.extend_from_slice(text.as_bytes());
}

fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes()
}

/// What Java's own store of roots has. It keeps nothing secret: what it holds is public.
pub const PASSWORD: &str = "changeit";

const MAGIC: u32 = 0xFEED_FEED;
const VERSION: u32 = 2;
const TRUSTED_CERTIFICATE: u32 = 2;
/// Part of the format.
const WHITENER: &[u8; 16] = b"Mighty Aphrodite";
