//! Certificates by which a session's tools show at a gateway whose they are, and which cluster they mean.

use std::sync::Arc;

use clauderon_core::digest;
use clauderon_core::session::SessionId;
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::CertificateDer;
use time::{Duration, OffsetDateTime};
use x509_parser::certificate::X509Certificate;
use zeroize::{Zeroize, Zeroizing};

use super::bundle::to_pem;
use super::ca::Issuer;
use super::leaf::{LeafError, random_serial, validity_within};
use super::{provider, server};

/// A certificate of a session's, with its key.
pub struct SessionCertificate {
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// Its key, PEM.
    pub key_pem: Zeroizing<String>,
}

/// Whose certificate a client showed, and for which context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    /// The session.
    pub session: SessionId,
    /// The [`context_key`] of a context.
    pub context: String,
}

/// What stands for a context in a certificate: names may be long and hold anything.
pub fn context_key(context: &str) -> String {
    digest::hex(&digest::sha256(&[context.as_bytes()])).chars().take(CONTEXT_DIGITS).collect()
}

impl SessionCertificate {
    /// A certificate for `session` and the context named `context`.
    pub fn issue(issuer: &Issuer, session: &SessionId, context: &str) -> Result<Self, LeafError> {
        let now = OffsetDateTime::now_utc();
        let mut key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        let validity = validity_within(issuer.validity(), now, LIFE)?;
        (params.not_before, params.not_after) = (validity.not_before, validity.not_after);
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, ORGANIZATION);
        params.distinguished_name.push(DnType::OrganizationalUnitName, context_key(context));
        params.distinguished_name.push(DnType::CommonName, session.as_str());
        params.serial_number = Some(random_serial()?);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = issuer.sign(&params, &key)?;
        let key_pem = Zeroizing::new(key.serialize_pem());
        key.zeroize();
        Ok(Self { certificate_pem: to_pem(&certificate), key_pem })
    }
}

impl Bearer {
    /// Reads a certificate that was verified to be of our making.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let subject = |pick: fn(&X509Certificate<'_>) -> Option<String>| pick(&parsed);
        let organization = subject(|c| text(c.subject().iter_organization().next()))?;
        let session = subject(|c| text(c.subject().iter_common_name().next()))?;
        let context = subject(|c| text(c.subject().iter_organizational_unit().next()))?;
        let session = SessionId::parse(&session).ok().filter(|_| organization == ORGANIZATION)?;
        Some(Self { session, context })
    }
}

fn text(attribute: Option<&x509_parser::x509::AttributeTypeAndValue<'_>>) -> Option<String> {
    attribute?.as_str().ok().map(str::to_owned)
}

/// As toward sessions elsewhere, but whoever has a certificate of a session's may show it.
pub(super) fn gateway_config(issuer: &Issuer) -> Result<ServerConfig, LeafError> {
    let mut roots = RootCertStore::empty();
    roots.add(issuer.certificate_der().clone())?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    // Without a certificate there is an answer that says what is missing; a failed handshake would say nothing.
    let verifier =
        verifier.allow_unauthenticated().build().map_err(|fault| rustls::Error::General(fault.to_string()))?;
    Ok(server::asking(verifier)?)
}

/// Tells them from anything else the CA may sign.
const ORGANIZATION: &str = "clauderon session";

/// 128 bits.
const CONTEXT_DIGITS: usize = 32;

/// Long enough for an agent that is left alone; a session that ends takes its certificates along at once.
const LIFE: Duration = Duration::days(90);

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use rustls_pki_types::pem::PemObject;

    use super::super::ca::tests::issuer;
    use super::*;

    #[test]
    fn a_certificate_says_whose_it_is_and_which_context_it_means() {
        let issuer = issuer(OffsetDateTime::now_utc());
        let session = SessionId::parse("7f3a9c21").unwrap();
        let context = "arn:aws:eks:eu-central-1:000000000000:cluster/a very long one, with a comma";
        let issued = SessionCertificate::issue(&issuer, &session, context).unwrap();
        let der = CertificateDer::from_pem_slice(issued.certificate_pem.as_bytes()).unwrap();
        assert_eq!(Bearer::of(&der), Some(Bearer { session, context: context_key(context) }));
        assert!(issued.key_pem.contains("PRIVATE KEY"));
        assert_eq!(Bearer::of(issuer.certificate_der()), None);
    }
}
