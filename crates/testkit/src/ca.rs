//! The certificate authority of the tests' origins, and the bad certificates origins may show.

use std::sync::{Arc, OnceLock};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// An authority that signs for origins; never known to a real trust store.
pub struct TestCa {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// What an origin shows as its certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certificate {
    /// Signed by the tests' authority for the right names.
    Good,
    /// Ran out in 2020.
    Expired,
    /// Begins in 2099.
    NotYetValid,
    /// Good, but for another name.
    WrongName,
    /// Its own issuer.
    SelfSigned,
    /// Signed by an authority nobody trusts.
    UnknownIssuer,
    /// Meant for TLS clients only.
    ClientOnly,
    /// The name stands in the subject only, not among the alternative names.
    NoAltName,
    /// Signed by an end-entity certificate.
    SignedByLeaf,
}

impl Certificate {
    /// Every certificate that must be refused.
    pub const BAD: [Self; 8] = [
        Self::Expired,
        Self::NotYetValid,
        Self::WrongName,
        Self::SelfSigned,
        Self::UnknownIssuer,
        Self::ClientOnly,
        Self::NoAltName,
        Self::SignedByLeaf,
    ];
}

impl TestCa {
    /// The authority all origins of this process share.
    pub fn shared() -> &'static Self {
        static CA: OnceLock<TestCa> = OnceLock::new();
        CA.get_or_init(|| Self::new("clauderon test authority"))
    }

    /// A new authority.
    pub fn new(name: &str) -> Self {
        Self { issuer: CertifiedIssuer::self_signed(ca_params(name), key()).expect("constant parameters are valid") }
    }

    /// Its certificate as PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A server config that shows `certificate` for `names` and offers `alpn`.
    pub fn server(&self, names: &[String], certificate: Certificate, alpn: &[&str]) -> Arc<ServerConfig> {
        let (chain, key) = self.issue(names, certificate);
        server(chain, &key, alpn, Arc::new(NoClientAuth))
    }

    /// A server config that shakes hands only with clients that show a certificate of this authority.
    pub fn server_for_clients(&self, names: &[String], alpn: &[&str]) -> Arc<ServerConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("a CA certificate is a trust anchor");
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
        let (chain, key) = self.issue(names, Certificate::Good);
        server(chain, &key, alpn, verifier.expect("there is a root"))
    }

    /// A certificate for a client named `name`, and its key; both PEM.
    pub fn client(&self, name: &str) -> (String, String) {
        self.client_by(leaf_params(&[name.to_owned()], Certificate::ClientOnly))
    }

    /// The same, but it ran out in 2020.
    pub fn expired_client(&self, name: &str) -> (String, String) {
        let mut params = leaf_params(&[name.to_owned()], Certificate::ClientOnly);
        let expired = leaf_params(&[], Certificate::Expired);
        (params.not_before, params.not_after) = (expired.not_before, expired.not_after);
        self.client_by(params)
    }

    fn client_by(&self, mut params: CertificateParams) -> (String, String) {
        params.subject_alt_names.clear();
        let key = key();
        let certificate = params.signed_by(&key, &self.issuer).expect("valid");
        (certificate.pem(), key.serialize_pem())
    }

    fn issue(&self, names: &[String], certificate: Certificate) -> (Vec<CertificateDer<'static>>, KeyPair) {
        let leaf_key = key();
        let params = leaf_params(names, certificate);
        let chain = match certificate {
            Certificate::SelfSigned => vec![params.self_signed(&leaf_key).expect("valid").der().clone()],
            Certificate::UnknownIssuer => {
                let stranger = Self::new("an authority nobody trusts");
                let leaf = params.signed_by(&leaf_key, &stranger.issuer).expect("valid");
                vec![leaf.der().clone(), stranger.issuer.der().clone()]
            }
            Certificate::SignedByLeaf => {
                let middle = CertifiedIssuer::signed_by(leaf_params(names, Certificate::Good), key(), &self.issuer)
                    .expect("valid");
                let leaf = params.signed_by(&leaf_key, &middle).expect("valid");
                vec![leaf.der().clone(), middle.der().clone()]
            }
            _ => vec![params.signed_by(&leaf_key, &self.issuer).expect("valid").der().clone()],
        };
        (chain, leaf_key)
    }
}

/// A server config for `name` that a foreign authority signed for, and that speaks the protocol `alpn` or none by ALPN.
pub(crate) fn signed_by(issuer: &Issuer<'_, KeyPair>, name: String, alpn: Option<&str>) -> Arc<ServerConfig> {
    let leaf_key = key();
    let leaf = leaf_params(&[name], Certificate::Good).signed_by(&leaf_key, issuer).expect("valid");
    server(vec![leaf.der().clone()], &leaf_key, alpn.as_slice(), Arc::new(NoClientAuth))
}

fn server(
    chain: Vec<CertificateDer<'static>>,
    key: &KeyPair,
    alpn: &[&str],
    clients: Arc<dyn ClientCertVerifier>,
) -> Arc<ServerConfig> {
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a generated key is PKCS#8");
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions")
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)
        .expect("the key signs for its certificate");
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// A certificate for a client named `name` of `organization`, and its key, an Ed25519 one; both PEM.
pub fn client_with(ca: &TestCa, name: &str, organization: &str) -> (String, String) {
    let mut params = leaf_params(&[name.to_owned()], Certificate::ClientOnly);
    params.subject_alt_names.clear();
    params.distinguished_name.push(DnType::OrganizationName, organization);
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("the system has randomness");
    let certificate = params.signed_by(&key, &ca.issuer).expect("valid");
    (certificate.pem(), key.serialize_pem())
}

/// A client config that trusts the certificates in `pem` only and offers `alpn`.
pub fn client(pem: &str, alpn: &[&str]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.expect("PEM given to the kit is valid")).expect("a CA certificate is a trust anchor");
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

fn key() -> KeyPair {
    KeyPair::generate().expect("the system has randomness")
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn leaf_params(names: &[String], certificate: Certificate) -> CertificateParams {
    let names = match certificate {
        Certificate::WrongName => vec!["somebody-else.test".to_owned()],
        Certificate::NoAltName => Vec::new(),
        _ => names.to_vec(),
    };
    let mut params = CertificateParams::new(names.clone()).expect("test names are valid");
    params.distinguished_name.push(DnType::CommonName, names.first().map_or("api.github.com", String::as_str));
    params.use_authority_key_identifier_extension = certificate != Certificate::SelfSigned;
    params.extended_key_usages = vec![match certificate {
        Certificate::ClientOnly => ExtendedKeyUsagePurpose::ClientAuth,
        _ => ExtendedKeyUsagePurpose::ServerAuth,
    }];
    (params.not_before, params.not_after) = match certificate {
        Certificate::Expired => (date_time_ymd(2019, 1, 1), date_time_ymd(2020, 1, 1)),
        Certificate::NotYetValid => (date_time_ymd(2099, 1, 1), date_time_ymd(2100, 1, 1)),
        _ => (date_time_ymd(2020, 1, 1), date_time_ymd(2090, 1, 1)),
    };
    params
}
