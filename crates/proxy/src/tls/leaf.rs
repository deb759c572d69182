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
use super::session::gateway_config;

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
        let base = base_config()?;
        Self::with_base(issuer, base)
    }

    /// One whose configurations take the certificates of sessions, and agree on one of `protocols` (ALPN).
    pub fn for_gateway(issuer: Arc<Issuer>, protocols: &[&str]) -> Result<Self, LeafError> {
        let mut base = gateway_config(&issuer)?;
        base.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Self::with_base(issuer, base)
    }

    fn with_base(issuer: Arc<Issuer>, base: ServerConfig) -> Result<Self, LeafError> {
        let mut pair = KeyPair::generate()?;
        let public_key = SubjectPublicKeyInfo::from_der(&pair.subject_public_key_info())?;
        let der = Zeroizing::new(pair.serialize_der());
        pair.zeroize();
        let key = any_ecdsa_type(&PrivateKeyDer::from(PrivatePkcs8KeyDer::from(der.as_slice())))?;
        Ok(Self { issuer, base, key, public_key, leaves: Cache::new(LEAVES_MAX) })
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
        let validity = validity_within(self.issuer.validity(), now, LEAF_LIFE)?;
        let certificate = self.issuer.sign(&leaf_params(host, validity)?, &self.public_key)?;
        let key = CertifiedKey::new(vec![certificate], Arc::clone(&self.key));
        let renew_at = now + (validity.not_after - now) / 2;
        Ok(Leaf { config: Arc::new(config_with(&self.base, key)), renew_at })
    }
}

/// Back-dated and short, but never beyond the CA: clients refuse a leaf that outlives its issuer.
pub(super) fn validity_within(issuer: Validity, now: OffsetDateTime, life: Duration) -> Result<Validity, LeafError> {
    if now >= issuer.not_after {
        return Err(LeafError::IssuerExpired);
    }
    Ok(Validity { not_before: issuer.not_before.max(now - BACK_DATED), not_after: issuer.not_after.min(now + life) })
}

fn leaf_params(host: &Host, validity: Validity) -> Result<CertificateParams, LeafError> {
    let mut params = CertificateParams::default();
    params.not_before = validity.not_before;
    params.not_after = validity.not_after;
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
pub(super) fn random_serial() -> Result<SerialNumber, LeafError> {
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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use std::process::Command;

    use rustls::client::ClientConnection;
    use rustls::server::ServerConnection;
    use rustls::{ClientConfig, HandshakeKind, RootCertStore};
    use rustls_pki_types::{CertificateDer, ServerName};
    use x509_parser::extensions::GeneralName;

    use super::super::{bundle::to_pem, ca::tests::issuer, provider};
    use super::*;

    fn host(text: &str) -> Host {
        Host::parse(text).unwrap()
    }

    fn cache() -> LeafCache {
        LeafCache::new(Arc::new(issuer(OffsetDateTime::now_utc()))).unwrap()
    }

    fn client(cache: &LeafCache) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(cache.issuer.certificate_der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(config)
    }

    /// A whole handshake in memory, and what the client knows after it.
    fn handshake(
        client: &Arc<ClientConfig>,
        server: Arc<ServerConfig>,
        name: &str,
    ) -> Result<ClientConnection, rustls::Error> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut client = ClientConnection::new(Arc::clone(client), name)?;
        let mut server = ServerConnection::new(server)?;
        while client.is_handshaking() || server.is_handshaking() || server.wants_write() {
            let mut flight = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut flight).unwrap();
            }
            let mut sent = flight.as_slice();
            while !sent.is_empty() {
                server.read_tls(&mut sent).unwrap();
                server.process_new_packets()?;
            }
            flight.clear();
            while server.wants_write() {
                server.write_tls(&mut flight).unwrap();
            }
            let mut sent = flight.as_slice();
            while !sent.is_empty() {
                client.read_tls(&mut sent).unwrap();
                client.process_new_packets()?;
            }
        }
        Ok(client)
    }

    fn leaf_of(cache: &LeafCache, name: &str) -> CertificateDer<'static> {
        let config = cache.config_for(&host(name)).unwrap();
        let name = name.trim_start_matches('[').trim_end_matches(']');
        handshake(&client(cache), config, name).unwrap().peer_certificates().unwrap()[0].clone()
    }

    fn long_name() -> String {
        format!("{0}.{0}.{0}.example.com", "a".repeat(60))
    }

    #[test]
    fn a_leaf_proves_exactly_its_host() {
        let cache = cache();
        let client = client(&cache);
        let config = cache.config_for(&host("api.example.com")).unwrap();
        let connection = handshake(&client, Arc::clone(&config), "api.example.com").unwrap();
        assert_eq!(connection.alpn_protocol(), Some(b"h2".as_slice()));
        for other in ["example.com", "www.example.com", "a.api.example.com", "127.0.0.1"] {
            assert!(handshake(&client, Arc::clone(&config), other).is_err(), "{other}");
        }
    }

    #[test]
    fn addresses_and_long_names_are_proved_too() {
        let cache = cache();
        for name in ["127.0.0.1", "[2001:db8::1]", "under_score.example.com", "xn--bcher-kva.example", &long_name()] {
            leaf_of(&cache, name);
        }
        let config = cache.config_for(&host("192.0.2.1")).unwrap();
        assert!(handshake(&client(&cache), config, "192.0.2.2").is_err());
    }

    #[test]
    fn a_second_handshake_is_resumed() {
        let cache = cache();
        let client = client(&cache);
        let kinds = [(); 2].map(|()| {
            let config = cache.config_for(&host("api.example.com")).unwrap();
            handshake(&client, config, "api.example.com").unwrap().handshake_kind().unwrap()
        });
        assert_eq!(kinds, [HandshakeKind::Full, HandshakeKind::Resumed]);
    }

    #[test]
    fn openssl_accepts_leaves_strictly() {
        let cache = cache();
        let folder = tempfile::tempdir().unwrap();
        let (ca, file) = (folder.path().join("ca.pem"), folder.path().join("leaf.pem"));
        std::fs::write(&ca, cache.issuer.certificate_pem()).unwrap();
        for (name, check) in [
            ("api.example.com", ["-verify_hostname", "api.example.com"]),
            ("127.0.0.1", ["-verify_ip", "127.0.0.1"]),
            ("[2001:db8::1]", ["-verify_ip", "2001:db8::1"]),
            (&long_name(), ["-verify_hostname", &long_name()]),
        ] {
            std::fs::write(&file, to_pem(&leaf_of(&cache, name))).unwrap();
            let mut openssl = Command::new("openssl");
            openssl.args(["verify", "-x509_strict", "-purpose", "sslserver"]).args(check);
            let output = openssl.arg("-CAfile").arg(&ca).arg(&file).output().unwrap();
            assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }

    #[test]
    fn a_leaf_has_one_name_its_own_serial_and_not_the_cas_key() {
        let cache = cache();
        let ders = ["a.example.com", "b.example.com"].map(|name| leaf_of(&cache, name));
        let [a, b] = ders.each_ref().map(|der| x509_parser::parse_x509_certificate(der).unwrap().1);
        assert_ne!(a.raw_serial(), b.raw_serial());
        assert_eq!(a.raw_serial().len(), 16);
        let names = &a.subject_alternative_name().unwrap().unwrap().value.general_names;
        assert_eq!(*names, [GeneralName::DNSName("a.example.com")]);
        assert!(!a.is_ca());
        let ca = x509_parser::parse_x509_certificate(cache.issuer.certificate_der()).unwrap().1;
        assert_ne!(a.public_key().raw, ca.public_key().raw);
    }

    #[test]
    fn a_leaf_stays_within_its_issuer() {
        let now = OffsetDateTime::now_utc();
        let issuer =
            |start, end| Validity { not_before: now + Duration::days(start), not_after: now + Duration::days(end) };
        let days = |issuer| {
            let leaf = validity_within(issuer, now, LEAF_LIFE).unwrap();
            ((leaf.not_before - now).whole_days(), (leaf.not_after - now).whole_days())
        };
        assert_eq!(days(issuer(-100, 100)), (-1, 7));
        assert_eq!(days(issuer(0, 100)), (0, 7));
        assert_eq!(days(issuer(-100, 3)), (-1, 3));
        assert!(matches!(validity_within(issuer(-100, 0), now, LEAF_LIFE), Err(LeafError::IssuerExpired)));
    }

    #[test]
    fn a_leaf_is_renewed_at_half_its_life() {
        let (cache, now) = (cache(), OffsetDateTime::now_utc());
        let at = |days| cache.config_at(&host("api.example.com"), now + Duration::days(days)).unwrap();
        let first = at(0);
        assert!(Arc::ptr_eq(&first, &at(3)));
        let second = at(4);
        assert!(!Arc::ptr_eq(&first, &second) && Arc::ptr_eq(&second, &at(4)));
    }

    #[test]
    fn one_caller_mints_for_all() {
        let cache = cache();
        let start = std::sync::Barrier::new(8);
        let configs = std::thread::scope(|scope| {
            let callers = [(); 8].map(|()| {
                scope.spawn(|| {
                    start.wait();
                    cache.config_for(&host("api.example.com")).unwrap()
                })
            });
            callers.map(|caller| caller.join().unwrap())
        });
        assert!(configs.iter().all(|config| Arc::ptr_eq(config, &configs[0])));
    }

    #[test]
    fn the_cache_is_bounded() {
        let cache = cache();
        for number in 0..3 * LEAVES_MAX {
            cache.config_for(&host(&format!("h{number}.example.com"))).unwrap();
        }
        assert!((1..=LEAVES_MAX).contains(&cache.leaves.len()), "{}", cache.leaves.len());
    }
}
