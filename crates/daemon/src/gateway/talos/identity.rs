//! From what a talosconfig says about a context to a cluster that can be called.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clauderon_core::config::{Settings, UpstreamProxy};
use clauderon_core::host::Origin;
use clauderon_proxy::gateway::access::{Identity, Named};
use clauderon_proxy::gateway::talos::cluster::{TalosCluster, TalosClusterParts, Trust};
use clauderon_proxy::gateway::talos::sidero::Signer;
use clauderon_proxy::tls::client::{ClientIdentity, load_roots, roots_from_pem};
use time::OffsetDateTime;

use super::config::{self, Context, SideroV1};
use super::token::account_of;
use crate::gateway::files::{Files, Hidden, decoded, in_force, read, secret, tls_origin};
use crate::sources::env::Environment;

/// A cluster, and what it stands on.
pub(super) struct Made {
    pub(super) cluster: Arc<TalosCluster>,
    /// From when it must be made anew.
    pub(super) until: Option<OffsetDateTime>,
    /// Files it was made from, besides the talosconfig; a change makes it anew.
    pub(super) files: Files,
}

/// What making a cluster needs.
pub(super) struct Maker<'a> {
    pub(super) settings: &'a Settings,
    pub(super) env: &'a Environment,
    pub(super) user_home: &'a Path,
    /// The service account that signs in place of the user.
    pub(super) account: Option<&'a Arc<Signer>>,
}

impl Maker<'_> {
    /// The cluster of a context; an error says what to mend.
    pub(super) fn make(&self, name: &str, context: &Context) -> Result<Made, String> {
        self.of_context(name, context).map_err(|why| format!("the context {name:?} cannot be used: {why}"))
    }

    fn of_context(&self, name: &str, context: &Context) -> Result<Made, String> {
        let endpoints: Vec<Origin> = context.endpoints().map(endpoint).collect::<Result<_, String>>()?;
        if endpoints.is_empty() {
            return Err("it has no endpoints: run `talosctl config endpoint ADDRESS`".to_owned());
        }
        let mut files = Files::new();
        let certificate = certificate(context)?;
        let until = certificate.as_ref().map(in_force).transpose()?.flatten();
        let extra = load_roots(&self.settings.upstream.ca_files).map_err(|error| error.to_string())?;
        let parts = TalosClusterParts {
            context: name.to_owned(),
            endpoints,
            trust: Trust { roots: roots(context)?, extra },
            certificate,
            identity: self.identity(name, context, &mut files)?,
            named: named(context)?,
        };
        let cluster = TalosCluster::new(parts).map_err(|error| error.to_string())?;
        Ok(Made { cluster: Arc::new(cluster), until, files })
    }

    /// Who asks, where it is not the certificate that says it.
    fn identity(&self, name: &str, context: &Context, files: &mut Files) -> Result<Option<Identity>, String> {
        let Some(auth) = &context.auth else { return Ok(None) };
        if let Some(basic) = &auth.basic {
            let password = secret(basic.password.expose().as_bytes(), "its password")?;
            return Ok(Some(Identity::Basic(basic.username.clone(), password)));
        }
        let Some(siderov1) = &auth.siderov1 else { return Ok(None) };
        self.signer(name, siderov1, files).map(|signer| Some(Identity::Signed(signer)))
    }

    /// Who signs: the service account that was given, else the environment's, else the user with the key of their last login.
    fn signer(&self, name: &str, siderov1: &SideroV1, files: &mut Files) -> Result<Arc<Signer>, String> {
        if let Some(account) = self.account {
            return Ok(Arc::clone(account));
        }
        for variable in ACCOUNT_VARIABLES {
            if let Some(value) = self.env.get(variable) {
                let value = value.to_str().ok_or_else(|| format!("{variable} is no text"))?;
                return account_of(value).map_err(|why| format!("{variable}: {why}"));
            }
        }
        let file = self.key_file(name, &siderov1.identity)?;
        let login = "run talosctl once outside a session to log in, or give a service account's key as TALOS_TOKEN";
        let text = read(&file, files).map_err(|why| format!("the key of its login: {why}; {login}"))?;
        let text = std::str::from_utf8(&text).map_err(|_| format!("{} is no text", file.display()))?;
        let signer = Signer::new(&siderov1.identity, text).map_err(|why| format!("{}: {why}", file.display()))?;
        Ok(Arc::new(signer))
    }

    /// Where talosctl keeps the key of a login: beside its configuration, else where it did before.
    fn key_file(&self, name: &str, identity: &str) -> Result<PathBuf, String> {
        let file = format!("{name}-{identity}.pgp");
        if file.contains('/') {
            return Err("the names of the context and its identity make no file name".to_owned());
        }
        let dir = |variable: &str| self.env.get(variable).map(PathBuf::from).filter(|path| path.is_absolute());
        let own = dir("SIDEROV1_KEYS_DIR").unwrap_or_else(|| config::home(self.env, self.user_home).join("keys"));
        let data = dir("XDG_DATA_HOME").unwrap_or_else(|| self.user_home.join(".local/share"));
        let (own, before) = (own.join(&file), data.join("talos/keys").join(&file));
        Ok(if !own.exists() && before.exists() { before } else { own })
    }
}

/// Where an endpoint is: an address or a name, with a port or without; a URL as for Omni.
pub(super) fn endpoint(text: &str) -> Result<Origin, String> {
    let (rest, default) = match text.split_once("://") {
        Some(("https", rest)) => (rest.trim_end_matches('/'), 443),
        Some(_) => return Err(format!("its endpoint {text:?} is no https:// URL")),
        None => (text, PORT),
    };
    let bracketed = rest.parse::<std::net::Ipv6Addr>().map_or_else(|_| rest.to_owned(), |ip| format!("[{ip}]"));
    let has_port = bracketed.rsplit_once(':').is_some_and(|(host, port)| {
        !port.is_empty()
            && port.bytes().all(|byte| byte.is_ascii_digit())
            && (!host.contains(':') || host.ends_with(']'))
    });
    let authority = if has_port { bracketed } else { format!("{bracketed}:{default}") };
    tls_origin(&authority)
        .ok_or_else(|| format!("its endpoint {text:?} is no host like 10.0.0.2 or https://omni.example.com"))
}

fn roots(context: &Context) -> Result<Option<Vec<rustls_pki_types::CertificateDer<'static>>>, String> {
    let Some(data) = context.ca.as_deref().filter(|data| !data.trim().is_empty()) else { return Ok(None) };
    let pem = decoded(data, "ca")?;
    roots_from_pem(&pem).map(Some).ok_or_else(|| "its ca is no PEM certificate".to_owned())
}

fn certificate(context: &Context) -> Result<Option<ClientIdentity>, String> {
    let given = |text: &&str| !text.trim().is_empty();
    let (crt, key) = (context.crt.as_deref().filter(given), context.key.as_ref().map(Hidden::expose).filter(given));
    let (crt, key) = match (crt, key) {
        (None, None) => return Ok(None),
        (Some(crt), Some(key)) => (decoded(crt, "crt")?, decoded(key, "key")?),
        _ => return Err("it has a client certificate without a key, or a key without a certificate".to_owned()),
    };
    ClientIdentity::from_pem(&crt, &key).map(Some).map_err(|error| error.to_string())
}

fn named(context: &Context) -> Result<Named, String> {
    let proxy = context.proxy_url.as_ref().map(Hidden::expose).filter(|url| !url.is_empty());
    let proxy = proxy.map(|url| UpstreamProxy::parse(url).map_err(|why| format!("its proxy-url: {why}")));
    Ok(Named { proxy: proxy.transpose()?, certificate_name: None })
}

/// Where Talos' API listens.
const PORT: u16 = 50000;

/// Where talosctl looks for a service account, first to last.
const ACCOUNT_VARIABLES: [&str; 2] = ["SIDERO_SERVICE_ACCOUNT_KEY", "OMNI_SERVICE_ACCOUNT_KEY"];

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_as_talosctl_does() {
        for (text, meant) in [
            ("10.0.0.2", "https://10.0.0.2:50000"),
            ("10.0.0.2:6000", "https://10.0.0.2:6000"),
            ("fd00::2", "https://[fd00::2]:50000"),
            ("[fd00::2]:6000", "https://[fd00::2]:6000"),
            ("node.test", "https://node.test:50000"),
            ("https://omni.test", "https://omni.test:443"),
            ("https://omni.test/", "https://omni.test:443"),
            ("https://omni.test:8443", "https://omni.test:8443"),
        ] {
            assert_eq!(endpoint(text).unwrap().to_string(), meant, "{text}");
        }
        for odd in ["http://omni.test", "grpc://x", "a b", "https://omni.test/path", ""] {
            assert!(endpoint(odd).is_err(), "{odd}");
        }
    }
}
