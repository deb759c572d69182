//! Certificates for the hosts that sessions call: made in memory, cached, never written down.

use std::sync::Arc;

use aws_lc_rs::rand;
use clauderon_core::host::Host;
use quick_cache::sync::{Cache, EntryAction, EntryResult};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PublicKeyData, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::sign::any_ecdsa_type;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use time::{Duration, OffsetDateTime};
use zeroize::{Zeroize, Zeroizing};

use super::ca::{BACK_DATED, Issuer, Validity};
use super::server::{base_config, config_with};

/// Server configurations by host, each with a leaf for exactly that host.
pub struct LeafCache {
    issuer: Arc<Issuer>,
    base: ServerConfig,
    /// One key for all leaves of this process, so that a new host costs one signature; never the CA's key.
    key: Arc<dyn SigningKey>,
    public_key: SubjectPublicKeyInfo,
    leaves: Cache<Host, Leaf>,
}

/// Why no leaf could be made.
#[derive(Debug, thiserror::Error)]
pub enum LeafError {
    /// The CA's time is over.
    #[error("the CA expired while the daemon was running; delete its two files and restart the daemon")]
    IssuerExpired,
    /// Key generation, encoding or signing failed.
    #[error("cannot make a certificate: {0}")]
    Crypto(#[from] rcgen::Error),
    /// The TLS library refused the key or the parameters.
    #[error("cannot set up TLS toward sessions: {0}")]
    Tls(#[from] rustls::Error),
    /// The system gave no random bytes.
    #[error("no random bytes for a serial number")]
    Random,
}

#[derive(Clone)]
struct Leaf {
    config: Arc<ServerConfig>,
    renew_at: OffsetDateTime,
}

impl LeafCache {
    /// An empty cache with a fresh leaf key.
    pub fn new(issuer: Arc<Issuer>) -> Result<Self, LeafError> {
        let mut pair = KeyPair::generate()?;
        let public_key = SubjectPublicKeyInfo::from_der(&pair.subject_public_key_info())?;
        let der = Zeroizing::new(pair.serialize_der());
        pair.zeroize();
        let key = any_ecdsa_type(&PrivateKeyDer::from(PrivatePkcs8KeyDer::from(der.as_slice())))?;
        Ok(Self { issuer, base: base_config()?, key, public_key, leaves: Cache::new(LEAVES_MAX) })
    }

    /// The configuration that proves to be `host`. The first caller for a host mints (some 20 µs), others wait for it.
    pub fn config_for(&self, host: &Host) -> Result<Arc<ServerConfig>, LeafError> {
        self.config_at(host, OffsetDateTime::now_utc())
    }

    fn config_at(&self, host: &Host, now: OffsetDateTime) -> Result<Arc<ServerConfig>, LeafError> {
        // A read lock first: `entry` takes the write lock even for a hit.
        if let Some(leaf) = self.leaves.get(host).filter(|leaf| now < leaf.renew_at) {
            return Ok(leaf.config);
        }
        let fresh = |_: &Host, leaf: &mut Leaf| match now < leaf.renew_at {
            true => EntryAction::Retain(Arc::clone(&leaf.config)),
            false => EntryAction::ReplaceWithGuard,
        };
        match self.leaves.entry(host, None, fresh) {
            EntryResult::Retained(config) => Ok(config),
            EntryResult::Vacant(guard) | EntryResult::Replaced(guard, _) => {
                let leaf = self.mint(host, now)?;
                let config = Arc::clone(&leaf.config);
                let _not_kept_when_full = guard.insert(leaf);
                Ok(config)
            }
            EntryResult::Removed(..) | EntryResult::Timeout => self.mint(host, now).map(|leaf| leaf.config),
        }
    }

    fn mint(&self, host: &Host, now: OffsetDateTime) -> Result<Leaf, LeafError> {
        let Validity { not_before, not_after } = leaf_validity(self.issuer.validity(), now)?;
        let mut params = leaf_params(host)?;
        params.not_before = not_before;
        params.not_after = not_after;
        let certificate = self.issuer.sign(&params, &self.public_key)?;
        let key = CertifiedKey::new(vec![certificate], Arc::clone(&self.key));
        Ok(Leaf { config: Arc::new(config_with(&self.base, key)), renew_at: now + (not_after - now) / 2 })
    }
}

/// Back-dated and short, but never beyond the CA: clients refuse a leaf that outlives its issuer.
fn leaf_validity(issuer: Validity, now: OffsetDateTime) -> Result<Validity, LeafError> {
    if now >= issuer.not_after {
        return Err(LeafError::IssuerExpired);
    }
    Ok(Validity {
        not_before: issuer.not_before.max(now - BACK_DATED),
        not_after: issuer.not_after.min(now + LEAF_LIFE),
    })
}

fn leaf_params(host: &Host) -> Result<CertificateParams, LeafError> {
    let mut params = CertificateParams::default();
    let (san, name) = match host {
        Host::Name(name) => (SanType::DnsName(name.as_ref().try_into()?), name.to_string()),
        Host::Ip(ip) => (SanType::IpAddress(*ip), ip.to_string()),
    };
    params.subject_alt_names = vec![san];
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "clauderon");
    // Only the SAN counts (RFC 9525 § 2); a common name beyond X.520's limit would make OpenSSL refuse the whole.
    if name.len() <= COMMON_NAME_MAX {
        params.distinguished_name.push(DnType::CommonName, name);
    }
    params.serial_number = Some(random_serial()?);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // OpenSSL's X509_STRICT (Python 3.13's default) asks for it.
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// 126 random bits: positive, of fixed length, and unguessable (CA/Browser Forum BR § 7.1 asks for 64).
fn random_serial() -> Result<SerialNumber, LeafError> {
    let mut serial = [0; 16];
    rand::fill(&mut serial).map_err(|_| LeafError::Random)?;
    serial[0] = serial[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&serial))
}

/// Far more hosts than an agent calls in a day, at about 1.5 KiB each.
const LEAVES_MAX: usize = 1024;

/// Days, not months: nothing outside this process may come to rely on a leaf.
const LEAF_LIFE: Duration = Duration::days(7);

/// X.520's upper bound for common names.
const COMMON_NAME_MAX: usize = 64;
