//! How origins are verified: the system's roots and the user's, TLS 1.2 or newer, never an exception.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::provider;

/// The two client configurations toward origins; certificates are always verified.
pub struct UpstreamTls {
    /// Offers only `http/1.1`.
    pub http1: Arc<ClientConfig>,
    /// Offers `h2` and `http/1.1`.
    pub http2: Arc<ClientConfig>,
}

/// A certificate that a server may ask for, with its key.
pub struct ClientIdentity {
    /// The certificate, and those between it and its root.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
}

impl ClientIdentity {
    /// Reads both from PEM; an error says which of them is none, and shows neither.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, RootsError> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
        let chain = chain.ok().filter(|chain| !chain.is_empty());
        let chain = chain.ok_or_else(|| RootsError::Identity("the certificate is no PEM certificate".into()))?;
        let key = PrivateKeyDer::from_pem_slice(&plainly_labelled(key));
        let key = key.map_err(|_| RootsError::Identity("the key is no PEM private key".into()))?;
        Ok(Self { chain, key })
    }

    /// Whether the certificate's holder belongs to `organization`; Talos calls its roles so.
    pub fn belongs_to(&self, organization: &str) -> bool {
        let parsed = self.chain.first().and_then(|first| x509_parser::parse_x509_certificate(first).ok());
        let mut named = parsed.iter().flat_map(|(_, certificate)| certificate.subject().iter_organization());
        named.any(|name| name.as_str() == Ok(organization))
    }

    /// From when the certificate cannot be used any more: seconds since the Unix epoch, `None` if it cannot be read.
    pub fn expires_at(&self) -> Option<i64> {
        let (_, parsed) = x509_parser::parse_x509_certificate(self.chain.first()?).ok()?;
        Some(parsed.validity().not_after.timestamp())
    }
}

/// Talos labels PKCS#8 keys by what is in them, which no parser of PEM expects.
fn plainly_labelled(pem: &[u8]) -> Zeroizing<Vec<u8>> {
    const LABEL: &[u8] = b"ED25519 PRIVATE KEY-----";
    let mut plain = Zeroizing::new(Vec::with_capacity(pem.len()));
    let mut rest = pem;
    while let Some(at) = memchr::memmem::find(rest, LABEL) {
        plain.extend_from_slice(rest.get(..at).unwrap_or_default());
        rest = rest.get(at + b"ED25519 ".len()..).unwrap_or_default();
    }
    plain.extend_from_slice(rest);
    plain
}

/// The certificates in a PEM text; `None` where one is damaged or there is none.
pub fn roots_from_pem(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let roots: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    roots.ok().filter(|roots| !roots.is_empty())
}

/// Why origins cannot be verified.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// A file of roots cannot be read.
    #[error("cannot read {} (upstream.ca_file): {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The parser's or the system's reason.
        source: pem::Error,
    },
    /// A file of roots has none.
    #[error("{} (upstream.ca_file) has no PEM certificate", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A root cannot be used as one.
    #[error("certificate {position} in {} (upstream.ca_file) cannot be a trust root: {source}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Which certificate of the file, from 1.
        position: usize,
        /// What is wrong with it.
        source: rustls::Error,
    },
    /// A client certificate that cannot be shown.
    #[error("the client certificate cannot be used with its key: {0}")]
    Identity(String),
    /// The TLS library refused the roots.
    #[error("cannot set up TLS toward origins: {0}")]
    Tls(String),
}

impl UpstreamTls {
    /// Trusts the system's roots, or Mozilla's where the system has none, and `extra_roots`.
    pub fn new(extra_roots: &[CertificateDer<'_>]) -> Result<Self, RootsError> {
        Self::trusting(root_store(extra_roots)?, None)
    }

    /// For a server that the user named: trusts `roots` only, or as [`UpstreamTls::new`] does where there are none, and
    /// shows `identity` where the server asks for one.
    pub fn for_server(
        roots: Option<Vec<CertificateDer<'_>>>,
        extra_roots: &[CertificateDer<'_>],
        identity: Option<ClientIdentity>,
    ) -> Result<Self, RootsError> {
        let Some(roots) = roots else { return Self::trusting(root_store(extra_roots)?, identity) };
        let mut store = RootCertStore::empty();
        for root in roots {
            store.add(root).map_err(|fault| RootsError::Tls(fault.to_string()))?;
        }
        Self::trusting(store, identity)
    }

    fn trusting(roots: RootCertStore, identity: Option<ClientIdentity>) -> Result<Self, RootsError> {
        let failed = |fault: &dyn std::fmt::Display| RootsError::Tls(fault.to_string());
        // One verifier, hence one set of roots in memory, for both configurations.
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|fault| failed(&fault))?;
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|fault| failed(&fault))?
            .with_webpki_verifier(verifier);
        let mut http1 = match identity {
            // An agent's requests carry its credentials in HTTP; this machine has no TLS identity of its own.
            None => builder.with_no_client_auth(),
            Some(ClientIdentity { chain, key }) => {
                builder.with_client_auth_cert(chain, key).map_err(|fault| RootsError::Identity(fault.to_string()))?
            }
        };
        // Tickets are keyed by server name, so the store is shared: they save the origin a signature, us a verification.
        http1.resumption = Resumption::in_memory_sessions(RESUMED_NAMES_MAX);
        // Early data can be replayed (RFC 8446 § 8); credentials are never sent that way.
        http1.enable_early_data = false;
        let mut http2 = http1.clone();
        http1.alpn_protocols = vec![b"http/1.1".to_vec()];
        http2.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { http1: Arc::new(http1), http2: Arc::new(http2) })
    }
}

/// The certificates in PEM files (`upstream.ca_file`), each fit to be a root; a file without one is an error.
pub fn load_roots(files: &[impl AsRef<Path>]) -> Result<Vec<CertificateDer<'static>>, RootsError> {
    let files: Result<Vec<_>, _> = files.iter().map(|file| load_file(file.as_ref())).collect();
    Ok(files?.into_iter().flatten().collect())
}

/// The certificates the system trusts, as it lists them.
pub(super) fn system_roots() -> Vec<CertificateDer<'static>> {
    let found = rustls_native_certs::load_native_certs();
    for fault in &found.errors {
        tracing::warn!(%fault, "some system roots cannot be read");
    }
    found.certs
}

fn load_file(path: &Path) -> Result<Vec<CertificateDer<'static>>, RootsError> {
    let unreadable = |source| RootsError::Unreadable { path: path.into(), source };
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(unreadable)?.collect();
    let certificates = certificates.map_err(unreadable)?;
    if certificates.is_empty() {
        return Err(RootsError::Empty { path: path.into() });
    }
    for (index, certificate) in certificates.iter().enumerate() {
        let unusable = |source| RootsError::Unusable { path: path.into(), position: index + 1, source };
        RootCertStore::empty().add(certificate.clone()).map_err(unusable)?;
    }
    Ok(certificates)
}

fn root_store(extra_roots: &[CertificateDer<'_>]) -> Result<RootCertStore, RootsError> {
    let mut roots = RootCertStore::empty();
    // Best effort: large system stores often have a relic that no modern library parses.
    let (usable, _) = roots.add_parsable_certificates(system_roots());
    if usable == 0 {
        tracing::warn!("the system has no trust roots; using those compiled in");
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    for certificate in extra_roots {
        roots.add(certificate.clone()).map_err(|fault| RootsError::Tls(fault.to_string()))?;
    }
    roots.roots.shrink_to_fit();
    Ok(roots)
}

/// Server names whose tickets are kept; an agent calls a few dozen origins.
const RESUMED_NAMES_MAX: usize = 128;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use super::super::bundle::{bundle_pem, to_pem};
    use super::super::ca::tests::issuer;
    use super::*;

    fn root() -> CertificateDer<'static> {
        issuer(time::OffsetDateTime::now_utc()).certificate_der().clone()
    }

    #[test]
    fn files_are_read_whole() {
        let folder = tempfile::tempdir().unwrap();
        let (two, one) = (folder.path().join("two.pem"), folder.path().join("one.pem"));
        let roots = [root(), root(), root()];
        std::fs::write(&two, format!("# ours\n{}{}", to_pem(&roots[0]), to_pem(&roots[1]))).unwrap();
        std::fs::write(&one, to_pem(&roots[2])).unwrap();
        assert_eq!(load_roots(&[two, one]).unwrap(), roots);
    }

    #[test]
    fn a_useless_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("roots.pem");
        assert!(matches!(load_roots(&[&file]), Err(RootsError::Unreadable { .. })));
        std::fs::write(&file, "nothing").unwrap();
        assert!(matches!(load_roots(&[&file]), Err(RootsError::Empty { .. })));
        std::fs::write(&file, to_pem(&root()) + &to_pem(&CertificateDer::from(vec![1, 2, 3]))).unwrap();
        assert!(matches!(load_roots(&[&file]), Err(RootsError::Unusable { position: 2, .. })));
    }

    #[test]
    fn both_configurations_offer_their_protocols() {
        let tls = UpstreamTls::new(&[root()]).unwrap();
        assert_eq!(tls.http1.alpn_protocols, [b"http/1.1".to_vec()]);
        assert_eq!(tls.http2.alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    }

    #[test]
    fn the_bundle_ends_with_our_ca_and_is_all_certificates() {
        let (ours, extra) = (issuer(time::OffsetDateTime::now_utc()), root());
        let bundle = bundle_pem(&ours, std::slice::from_ref(&extra));
        let parsed: Vec<_> = CertificateDer::pem_slice_iter(bundle.as_bytes()).map(Result::unwrap).collect();
        let expected = [system_roots(), vec![extra, ours.certificate_der().clone()]].concat();
        assert_eq!(parsed, expected);
    }
}
