//! The certificate authority that sessions trust: loaded and checked, or made when there is none.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use clauderon_core::digest;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose, PublicKeyData, SignatureAlgorithm,
    SigningKey,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};
use x509_parser::certificate::X509Certificate;
use zeroize::{Zeroize, Zeroizing};

use super::bundle::to_pem;

/// The CA's certificate with its key, checked to belong together and to be in force.
pub struct Issuer {
    signer: rcgen::Issuer<'static, CaKey>,
    certificate: CertificateDer<'static>,
    pem: String,
    subject: String,
    validity: Validity,
}

/// What `ca show` prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// The distinguished name.
    pub subject: String,
    /// First moment of validity (RFC 3339, UTC).
    pub not_before: String,
    /// Last moment of validity (RFC 3339, UTC).
    pub not_after: String,
    /// SHA-256 of the DER certificate, in colon-separated upper-case pairs as `openssl x509 -fingerprint` prints it.
    pub fingerprint: String,
}

/// From when to when a certificate holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) not_before: OffsetDateTime,
    pub(super) not_after: OffsetDateTime,
}

/// Why there is no usable CA, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// One file is there without the other.
    #[error("{} is missing while {} exists; restore it, or delete {} so that a new CA is made", missing.display(), present.display(), present.display())]
    HalfPair {
        /// The absent file.
        missing: PathBuf,
        /// The file that is there.
        present: PathBuf,
    },
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file cannot be made.
    #[error("cannot write {}: {source}", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Others than the owner may use the key.
    #[error("{} has mode {mode:04o}, so others can use the CA key; run `chmod 600 {}`", path.display(), path.display())]
    LooseMode {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The certificate file holds no readable certificate.
    #[error("{} is not a PEM certificate; restore it, or delete it and the key so that a new CA is made", path.display())]
    BadCertificate {
        /// The file.
        path: PathBuf,
    },
    /// The key file holds no readable private key.
    #[error("{} is not a PEM private key; restore it, or delete it and the certificate so that a new CA is made", path.display())]
    BadKey {
        /// The file.
        path: PathBuf,
    },
    /// The key is another certificate's.
    #[error("{} is not the key of {}; restore the pair, or delete both so that a new CA is made", key.display(), certificate.display())]
    Mismatch {
        /// The certificate file.
        certificate: PathBuf,
        /// The key file.
        key: PathBuf,
    },
    /// The certificate's time is over.
    #[error("{} expired on {since}; delete it and the key so that a new CA is made", path.display())]
    Expired {
        /// The file.
        path: PathBuf,
        /// Its last moment (RFC 3339).
        since: String,
    },
    /// The certificate's time has not begun.
    #[error("{} is not valid before {from}; check the clock of this machine", path.display())]
    NotYetValid {
        /// The file.
        path: PathBuf,
        /// Its first moment (RFC 3339).
        from: String,
    },
    /// The certificate may not sign others.
    #[error("{} is not a CA certificate (it may not sign others); restore it, or delete it and the key so that a new CA is made", path.display())]
    NotACa {
        /// The file.
        path: PathBuf,
    },
    /// Key generation or signing failed.
    #[error("cannot make a CA: {0}")]
    Crypto(#[from] rcgen::Error),
}

impl Issuer {
    /// Loads the pair, or makes both files when both are absent; never replaces anything.
    pub fn load_or_create(cert_path: &Path, key_path: &Path) -> Result<Self, CaError> {
        match (exists(cert_path)?, exists(key_path)?) {
            (true, true) => Self::load(cert_path, key_path, OffsetDateTime::now_utc()),
            (false, false) => Self::create(cert_path, key_path, OffsetDateTime::now_utc()),
            (true, false) => Err(CaError::HalfPair { missing: key_path.into(), present: cert_path.into() }),
            (false, true) => Err(CaError::HalfPair { missing: cert_path.into(), present: key_path.into() }),
        }
    }

    /// The certificate as PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.pem
    }

    /// The certificate itself.
    pub fn certificate_der(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// What a person wants to know of the CA.
    pub fn describe(&self) -> Description {
        let hash = digest::sha256(&[&self.certificate]);
        let pairs: Vec<String> = hash.iter().map(|byte| format!("{byte:02X}")).collect();
        Description {
            subject: self.subject.clone(),
            not_before: rfc3339(self.validity.not_before),
            not_after: rfc3339(self.validity.not_after),
            fingerprint: pairs.join(":"),
        }
    }

    pub(super) fn validity(&self) -> Validity {
        self.validity
    }

    /// Signs a certificate for someone else's public key.
    pub(super) fn sign(
        &self,
        params: &CertificateParams,
        public_key: &impl PublicKeyData,
    ) -> Result<CertificateDer<'static>, rcgen::Error> {
        params.signed_by(public_key, &self.signer).map(Into::into)
    }

    fn load(cert_path: &Path, key_path: &Path, now: OffsetDateTime) -> Result<Self, CaError> {
        let key_pem = read_key(key_path)?;
        let cert_pem = read(cert_path)?;
        let bad_cert = || CaError::BadCertificate { path: cert_path.into() };
        let certificate = CertificateDer::from_pem_slice(&cert_pem).map_err(|_| bad_cert())?;
        let bad_key = || CaError::BadKey { path: key_path.into() };
        let key = std::str::from_utf8(&key_pem).map_err(|_| bad_key())?;
        let key = CaKey(KeyPair::from_pem(key).map_err(|_| bad_key())?);
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).map_err(|_| bad_cert())?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.0.public_key_raw() {
            return Err(CaError::Mismatch { certificate: cert_path.into(), key: key_path.into() });
        }
        let validity = check(&parsed, cert_path, now)?;
        let subject = parsed.subject().to_string();
        let signer = rcgen::Issuer::from_ca_cert_der(&certificate, key).map_err(|_| bad_cert())?;
        Ok(Self { signer, pem: to_pem(&certificate), certificate, subject, validity })
    }

    fn create(cert_path: &Path, key_path: &Path, now: OffsetDateTime) -> Result<Self, CaError> {
        let key = CaKey(KeyPair::generate()?);
        let certificate = ca_params(&key, now).self_signed(&key)?;
        let key_pem = Zeroizing::new(key.0.serialize_pem());
        // The key first: should we die in between, what is left names itself as half a pair and holds no trust.
        write_new(key_path, key_pem.as_bytes(), 0o600)?;
        write_new(cert_path, certificate.pem().as_bytes(), 0o644).inspect_err(|_| {
            let _nothing_more_to_do = std::fs::remove_file(key_path);
        })?;
        Self::load(cert_path, key_path, now)
    }
}

/// The CA's key; rcgen wipes its encoded copy only when told to.
struct CaKey(KeyPair);

impl Drop for CaKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl PublicKeyData for CaKey {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.0.algorithm()
    }
}

impl SigningKey for CaKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(message)
    }
}

fn ca_params(key: &CaKey, now: OffsetDateTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    // Two CAs of one user must differ by name, or a client that trusts both picks the wrong key to verify with.
    let key_id = digest::hex(&digest::sha256(&[key.der_bytes()]));
    let short: String = key_id.chars().take(8).collect();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("clauderon local CA ({short})"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params.not_before = now - BACK_DATED;
    params.not_after = now + CA_LIFE;
    params
}

fn check(certificate: &X509Certificate<'_>, path: &Path, now: OffsetDateTime) -> Result<Validity, CaError> {
    let is_ca = certificate.is_ca();
    let may_sign = certificate.key_usage().is_ok_and(|usage| usage.is_none_or(|usage| usage.value.key_cert_sign()));
    if !is_ca || !may_sign {
        return Err(CaError::NotACa { path: path.into() });
    }
    let not_before = certificate.validity().not_before.to_datetime();
    let not_after = certificate.validity().not_after.to_datetime();
    if now > not_after {
        return Err(CaError::Expired { path: path.into(), since: rfc3339(not_after) });
    }
    if now < not_before {
        return Err(CaError::NotYetValid { path: path.into(), from: rfc3339(not_before) });
    }
    Ok(Validity { not_before, not_after })
}

fn exists(path: &Path) -> Result<bool, CaError> {
    path.try_exists().map_err(|source| CaError::Unreadable { path: path.into(), source })
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, CaError> {
    let unreadable = |source| CaError::Unreadable { path: path.into(), source };
    read_bounded(File::open(path).map_err(unreadable)?).map_err(unreadable)
}

fn read_key(path: &Path) -> Result<Zeroizing<Vec<u8>>, CaError> {
    let unreadable = |source| CaError::Unreadable { path: path.into(), source };
    let file = File::open(path).map_err(unreadable)?;
    // Asked of the open file, so that what is checked is what is read.
    let mode = file.metadata().map_err(unreadable)?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(CaError::LooseMode { path: path.into(), mode });
    }
    read_bounded(file).map_err(unreadable)
}

fn read_bounded(file: File) -> io::Result<Zeroizing<Vec<u8>>> {
    // Room for all of it at once: a growing buffer would leave unwiped copies of the key behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_MAX + 1));
    file.take(FILE_MAX as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > FILE_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than any certificate or key"));
    }
    Ok(bytes)
}

/// Makes `path` whole or not at all, with `mode` from its first byte, and never over an existing file.
fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), CaError> {
    let unwritable = |source| CaError::Unwritable { path: path.into(), source };
    let temporary = temporary_beside(path)?;
    let made = write_synced(&temporary, bytes, mode).and_then(|()| publish(&temporary, path));
    if made.is_err() {
        let _may_not_exist = std::fs::remove_file(&temporary);
    }
    made.map_err(unwritable)
}

/// A link cannot replace what another process made meanwhile, as a rename would; some file systems have no links.
fn publish(temporary: &Path, path: &Path) -> io::Result<()> {
    match std::fs::hard_link(temporary, path) {
        Ok(()) => std::fs::remove_file(temporary)?,
        Err(fault) if fault.kind() == io::ErrorKind::AlreadyExists => return Err(fault),
        Err(_) => std::fs::rename(temporary, path)?,
    }
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

fn write_synced(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    // The umask may have taken bits that other users' tools need to read the certificate.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn temporary_beside(path: &Path) -> Result<PathBuf, CaError> {
    let mut random = [0; 8];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| rcgen::Error::RingUnspecified)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(path.with_file_name(format!(".{name}.{}", digest::hex(&random))))
}

fn rfc3339(moment: OffsetDateTime) -> String {
    moment.format(&Rfc3339).unwrap_or_else(|_| moment.to_string())
}

/// Clocks differ: a session in a virtual machine may run behind its host.
pub(super) const BACK_DATED: Duration = Duration::days(1);

/// As mkcert: a CA that outlives the machine is one less thing to renew, and deleting two files replaces it.
const CA_LIFE: Duration = Duration::days(3650);

const FILE_MAX: usize = 64 * 1024;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
pub(super) mod tests {
    use std::process::Command;

    use super::*;

    /// A CA made at `now`, with its files already gone.
    pub(in crate::tls) fn issuer(now: OffsetDateTime) -> Issuer {
        let home = Home::new();
        Issuer::create(&home.cert, &home.key, now).unwrap()
    }

    struct Home {
        folder: tempfile::TempDir,
        cert: PathBuf,
        key: PathBuf,
    }

    impl Home {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            Self { cert: folder.path().join("ca.pem"), key: folder.path().join("ca-key.pem"), folder }
        }

        fn issuer(&self) -> Result<Issuer, CaError> {
            Issuer::load_or_create(&self.cert, &self.key)
        }

        fn fault(&self) -> CaError {
            self.issuer().err().unwrap()
        }
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_new_pair_is_private_and_is_loaded_again() {
        let home = Home::new();
        let made = home.issuer().unwrap();
        assert_eq!((mode(&home.key), mode(&home.cert)), (0o600, 0o644));
        assert_eq!(std::fs::read_dir(home.folder.path()).unwrap().count(), 2, "temporary files are left");
        let loaded = home.issuer().unwrap();
        assert_eq!(made.describe(), loaded.describe());
        assert_eq!(loaded.certificate_pem(), std::fs::read_to_string(&home.cert).unwrap());
    }

    #[test]
    fn openssl_reads_it_the_same_way() {
        let home = Home::new();
        let description = home.issuer().unwrap().describe();
        let openssl = |args: &[&str]| {
            let output = Command::new("openssl").args(args).arg(&home.cert).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        openssl(&["verify", "-x509_strict", "-check_ss_sig", "-CAfile", home.cert.to_str().unwrap()]);
        let text = openssl(&["x509", "-noout", "-fingerprint", "-sha256", "-text", "-in"]);
        for part in [&*description.fingerprint, "CA:TRUE, pathlen:0", "Certificate Sign, CRL Sign", "prime256v1"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(description.subject.starts_with("CN=clauderon local CA ("), "{}", description.subject);
    }

    #[test]
    fn half_a_pair_is_named_and_kept() {
        let home = Home::new();
        home.issuer().unwrap();
        let certificate = std::fs::read(&home.cert).unwrap();
        std::fs::remove_file(&home.key).unwrap();
        let fault = home.fault();
        assert!(matches!(&fault, CaError::HalfPair { missing, .. } if *missing == home.key), "{fault}");
        assert_eq!(std::fs::read(&home.cert).unwrap(), certificate);

        let home = Home::new();
        home.issuer().unwrap();
        std::fs::remove_file(&home.cert).unwrap();
        let fault = home.fault();
        assert!(matches!(&fault, CaError::HalfPair { missing, .. } if *missing == home.cert), "{fault}");
    }

    #[test]
    fn a_loose_key_is_refused_with_the_mend() {
        let home = Home::new();
        home.issuer().unwrap();
        std::fs::set_permissions(&home.key, Permissions::from_mode(0o640)).unwrap();
        let fault = home.fault().to_string();
        assert!(fault.contains("mode 0640") && fault.contains("chmod 600 "), "{fault}");
    }

    #[test]
    fn another_cas_key_is_refused() {
        let (home, other) = (Home::new(), Home::new());
        home.issuer().unwrap();
        other.issuer().unwrap();
        std::fs::copy(&other.key, &home.key).unwrap();
        assert!(matches!(home.fault(), CaError::Mismatch { .. }));
    }

    #[test]
    fn time_is_checked() {
        let now = OffsetDateTime::now_utc();
        let home = Home::new();
        Issuer::create(&home.cert, &home.key, now - CA_LIFE - Duration::days(1)).unwrap();
        assert!(matches!(home.fault(), CaError::Expired { .. }));
        let home = Home::new();
        Issuer::create(&home.cert, &home.key, now + Duration::days(2)).unwrap();
        assert!(matches!(home.fault(), CaError::NotYetValid { .. }));
    }

    #[test]
    fn a_server_certificate_is_no_ca() {
        let home = Home::new();
        home.issuer().unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["example.com".to_owned()]).unwrap().self_signed(&key).unwrap();
        std::fs::write(&home.cert, leaf.pem()).unwrap();
        std::fs::write(&home.key, key.serialize_pem()).unwrap();
        assert!(matches!(home.fault(), CaError::NotACa { .. }));
    }

    #[test]
    fn garbage_is_named() {
        let home = Home::new();
        home.issuer().unwrap();
        let key = std::fs::read(&home.key).unwrap();
        std::fs::write(&home.key, "no key").unwrap();
        assert!(matches!(home.fault(), CaError::BadKey { .. }));
        std::fs::write(&home.key, vec![b'x'; FILE_MAX + 1]).unwrap();
        assert!(matches!(home.fault(), CaError::Unreadable { .. }));
        std::fs::write(&home.key, key).unwrap();
        std::fs::write(&home.cert, "no certificate").unwrap();
        assert!(matches!(home.fault(), CaError::BadCertificate { .. }));
    }

    #[test]
    fn a_file_made_meanwhile_is_not_replaced() {
        let home = Home::new();
        std::fs::write(&home.key, "another's").unwrap();
        assert!(matches!(
            Issuer::create(&home.cert, &home.key, OffsetDateTime::now_utc()),
            Err(CaError::Unwritable { .. })
        ));
        assert_eq!(std::fs::read(&home.key).unwrap(), b"another's");
        assert!(matches!(
            Issuer::load_or_create(Path::new("/nowhere/ca"), Path::new("/nowhere/key")),
            Err(CaError::Unwritable { .. })
        ));
    }
}
