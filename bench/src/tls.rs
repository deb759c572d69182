//! Certificates for one run, and client settings.

use std::path::Path;
use std::sync::Arc;
use std::{fs, io};

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// Makes a CA and writes `NAME-ca.pem` and `NAME-ca-key.pem`.
pub fn authority(dir: &Path, name: &str) -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, format!("bench {name}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate()?;
    fs::write(dir.join(format!("{name}-ca-key.pem")), key.serialize_pem())?;
    let issuer = CertifiedIssuer::self_signed(params, key)?;
    fs::write(dir.join(format!("{name}-ca.pem")), issuer.pem())?;
    Ok(issuer)
}

/// Makes a leaf for `names` and writes `NAME.pem`: certificate, then key, as haproxy reads them.
pub fn leaf(dir: &Path, name: &str, issuer: &CertifiedIssuer<'static, KeyPair>, names: &[&str]) -> Result<()> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?;
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&key, issuer)?;
    fs::write(dir.join(format!("{name}.pem")), certificate.pem() + &key.serialize_pem())?;
    Ok(())
}

/// Reads a file as [`leaf`] writes it.
pub fn read_leaf(path: &Path) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let chain = CertificateDer::pem_file_iter(path)?.collect::<Result<_, _>>()?;
    Ok((chain, PrivateKeyDer::from_pem_file(path)?))
}

/// A client that trusts only `ca`, offers `alpn`, and resumes only when told to.
pub fn client(ca: &Path, alpn: &[&[u8]], resume: bool) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    let pem = CertificateDer::pem_file_iter(ca).with_context(|| format!("no trust root at {}", ca.display()))?;
    for root in pem {
        roots.add(root?).map_err(io::Error::other)?;
    }
    let mut config = ClientConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|id| id.to_vec()).collect();
    if !resume {
        config.resumption = rustls::client::Resumption::disabled();
    }
    Ok(Arc::new(config))
}
