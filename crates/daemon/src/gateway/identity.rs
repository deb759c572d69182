//! From what a kubeconfig says about a context to a cluster that can be called.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use clauderon_core::config::{Settings, UpstreamProxy};
use clauderon_core::host::{Authority, Origin, Scheme};
use clauderon_core::secret::Secret;
use clauderon_proxy::gateway::access::{Identity, Named};
use clauderon_proxy::gateway::kubernetes::cluster::{Cluster, ClusterParts};
use clauderon_proxy::tls::client::{ClientIdentity, UpstreamTls, load_roots, roots_from_pem};
use http::{HeaderName, HeaderValue};
use rustls_pki_types::{CertificateDer, ServerName};
use time::OffsetDateTime;

use super::exec;
use super::files::{Files, Hidden, decoded, in_force, read, secret};
use super::kubeconfig::{AuthProvider, ClusterEntry, Context, ExecEntry, Kubeconfig, UserEntry};
use crate::sources::env::Environment;

/// A cluster, and what it stands on.
pub(super) struct Made {
    pub(super) cluster: Cluster,
    /// From when it must be made anew.
    pub(super) until: Option<OffsetDateTime>,
    /// Files it was made from, besides the kubeconfig; a change makes it anew.
    pub(super) files: Files,
    /// Whether making it anew may give another identity.
    pub(super) renewable: bool,
}

/// What making a cluster needs.
pub(super) struct Maker<'a> {
    pub(super) config: &'a Kubeconfig,
    pub(super) settings: &'a Settings,
    pub(super) env: &'a Environment,
    /// The token that replaces the context's own.
    pub(super) token: Option<Arc<Secret>>,
}

/// An identity in the making.
struct Proof {
    identity: Identity,
    certificate: Option<ClientIdentity>,
    until: Option<OffsetDateTime>,
    renewable: bool,
}

impl Maker<'_> {
    /// The cluster of the context `name`; an error says what to mend.
    pub(super) async fn make(&self, name: &str) -> Result<Made, String> {
        let in_context = |why: String| format!("the context {name:?} cannot be used: {why}");
        let context = self.config.contexts.get(name).ok_or_else(|| format!("there is no context {name:?}"))?;
        self.of_context(name, context).await.map_err(in_context)
    }

    async fn of_context(&self, name: &str, context: &Context) -> Result<Made, String> {
        let cluster = self.config.clusters.get(&context.cluster);
        let cluster = cluster.ok_or_else(|| format!("its cluster {:?} is not in the kubeconfig", context.cluster))?;
        let nobody = UserEntry::default();
        let user = match self.config.users.get(&context.user) {
            Some(user) => user,
            None if context.user.is_empty() => &nobody,
            None => return Err(format!("its user {:?} is not in the kubeconfig", context.user)),
        };
        if cluster.insecure_skip_tls_verify {
            return Err(
                "insecure-skip-tls-verify is not honoured: name the server's root in certificate-authority".into()
            );
        }
        let (origin, prefix) = server(&cluster.server)?;
        let mut files = Vec::new();
        let roots = self.roots(cluster, &mut files)?;
        let proof = self.prove(user, cluster, &mut files).await?;
        let extra = load_roots(&self.settings.upstream.ca_files).map_err(|error| error.to_string())?;
        let tls = UpstreamTls::for_server(roots, &extra, proof.certificate).map_err(|error| error.to_string())?;
        let parts = ClusterParts {
            context: name.to_owned(),
            origin,
            prefix,
            tls,
            named: named(cluster)?,
            identity: proof.identity,
            impersonate: impersonation(user)?,
        };
        Ok(Made { cluster: Cluster::new(parts), until: proof.until, files, renewable: proof.renewable })
    }

    fn roots(&self, cluster: &ClusterEntry, files: &mut Files) -> Result<Option<Vec<CertificateDer<'static>>>, String> {
        let pem = match (&cluster.certificate_authority_data, &cluster.certificate_authority) {
            (Some(data), _) if !data.is_empty() => decoded(data, "certificate-authority-data")?,
            (_, Some(path)) => read(path, files)?,
            _ => return Ok(None),
        };
        let roots = roots_from_pem(&pem).ok_or("its certificate-authority is no PEM certificate")?;
        Ok(Some(roots))
    }

    /// As whom: in the order of kubectl's own precedence.
    async fn prove(&self, user: &UserEntry, cluster: &ClusterEntry, files: &mut Files) -> Result<Proof, String> {
        let certificate = own_certificate(user, files)?;
        let until = certificate.as_ref().map(in_force).transpose()?.flatten();
        let proof = |identity| Proof { identity, certificate: None, until: None, renewable: false };
        if let Some(token) = &self.token {
            return Ok(Proof { certificate, renewable: true, ..proof(Identity::Bearer(Arc::clone(token))) });
        }
        if let Some(path) = &user.token_file {
            let token = secret(&read(path, files)?, &format!("the token in {}", path.display()))?;
            return Ok(Proof { certificate, until, renewable: true, ..proof(Identity::Bearer(token)) });
        }
        if let Some(token) = user.token.as_ref().filter(|token| !token.expose().trim().is_empty()) {
            let token = secret(token.expose().as_bytes(), "its token")?;
            return Ok(Proof { certificate, until, ..proof(Identity::Bearer(token)) });
        }
        if let Some(name) = user.username.as_ref().filter(|name| !name.is_empty()) {
            let password = user.password.as_ref().map(Hidden::expose).unwrap_or_default();
            let password = secret(password.as_bytes(), "its password")?;
            return Ok(Proof { certificate, until, ..proof(Identity::Basic(name.clone(), password)) });
        }
        if let Some(provider) = &user.auth_provider {
            return provided(provider).map(|token| proof(Identity::Bearer(token)));
        }
        match (&user.exec, certificate) {
            (_, Some(certificate)) => {
                Ok(Proof { certificate: Some(certificate), until, ..proof(Identity::Certificate) })
            }
            (Some(entry), None) => self.ask_program(entry, cluster).await,
            (None, None) => Ok(proof(Identity::Anonymous)),
        }
    }

    async fn ask_program(&self, entry: &ExecEntry, cluster: &ClusterEntry) -> Result<Proof, String> {
        let printed = exec::run(entry, cluster, self.env, PROGRAM_LIMIT).await;
        let printed = printed.map_err(|error| format!("its exec plugin `{}`: {error}", entry.command.display()))?;
        let certificate = printed.certificate.as_ref().map(|(chain, key)| {
            ClientIdentity::from_pem(chain.as_bytes(), key.expose().as_bytes()).map_err(|error| error.to_string())
        });
        let certificate = certificate.transpose()?;
        let until = certificate.as_ref().map(in_force).transpose()?.flatten();
        // A little early, so that it does not run out on the way.
        let until = [printed.expires.map(|expires| expires - EARLY), until].into_iter().flatten().min();
        let identity = printed.token.map_or(Identity::Certificate, |token| Identity::Bearer(Arc::new(token)));
        Ok(Proof { identity, certificate, until, renewable: true })
    }
}

/// Where the server is, and the path of its URL.
pub(super) fn server(url: &str) -> Result<(Origin, String), String> {
    let no_url = || "its server is no URL like https://host:6443".to_owned();
    let (scheme, rest) = match url.trim().split_once("://") {
        Some(("https", rest)) => (Scheme::Https, rest),
        Some(("http", rest)) => (Scheme::Http, rest),
        None if !url.trim().is_empty() => (Scheme::Http, url.trim()),
        _ => return Err(no_url()),
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if path.contains(['?', '#']) {
        return Err(no_url());
    }
    let origin = Authority::parse(authority).map_err(|_| no_url())?.origin(scheme);
    Ok((origin, path.trim_end_matches('/').to_owned()))
}

fn named(cluster: &ClusterEntry) -> Result<Named, String> {
    let name = cluster.tls_server_name.as_deref().filter(|name| !name.is_empty());
    let name = name.map(|name| ServerName::try_from(name.to_owned())).transpose();
    Ok(Named {
        proxy: cluster
            .proxy_url
            .as_ref()
            .filter(|url| !url.expose().is_empty())
            .map(|url| proxy(url.expose()))
            .transpose()?,
        certificate_name: name.map_err(|_| "its tls-server-name is no name".to_owned())?,
    })
}

fn proxy(url: &str) -> Result<UpstreamProxy, String> {
    UpstreamProxy::parse(url).map_err(|why| format!("its proxy-url: {why}"))
}

fn own_certificate(user: &UserEntry, files: &mut Files) -> Result<Option<ClientIdentity>, String> {
    let data = user.client_certificate_data.as_deref().filter(|data| !data.is_empty());
    let chain = match (data, &user.client_certificate) {
        (Some(data), _) => decoded(data, "client-certificate-data")?,
        (None, Some(path)) => read(path, files)?,
        (None, None) => return Ok(None),
    };
    let data = user.client_key_data.as_ref().map(Hidden::expose).filter(|data| !data.is_empty());
    let key = match (data, &user.client_key) {
        (Some(data), _) => decoded(data, "client-key-data")?,
        (None, Some(path)) => read(path, files)?,
        (None, None) => return Err("it has a client certificate without a key".to_owned()),
    };
    ClientIdentity::from_pem(&chain, &key).map(Some).map_err(|error| error.to_string())
}

/// What kubectl's older plugins left in the file. Nothing here can renew it.
fn provided(provider: &AuthProvider) -> Result<Arc<Secret>, String> {
    let config = provider.config.as_ref();
    let value = |key: &str| config.and_then(|config| config.get(key)).map(Hidden::expose);
    let token = value(if provider.name == "oidc" { "id-token" } else { "access-token" });
    let how = "use an exec plugin, for example kubelogin or gke-gcloud-auth-plugin";
    let token = token.filter(|token| !token.is_empty());
    let token = token.ok_or_else(|| format!("its auth-provider {:?} holds no token: {how}", provider.name))?;
    let expired = match value("expiry") {
        Some(expiry) => OffsetDateTime::parse(expiry, &time::format_description::well_known::Rfc3339)
            .is_ok_and(|expiry| expiry < OffsetDateTime::now_utc()),
        None => jwt_expired(token),
    };
    if expired {
        return Err(format!(
            "the token of its auth-provider {:?} has expired: run kubectl once, or {how}",
            provider.name
        ));
    }
    secret(token.as_bytes(), "its auth-provider's token")
}

fn jwt_expired(token: &str) -> bool {
    let claims =
        token.split('.').nth(1).and_then(|part| base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).ok());
    let claims: Option<serde_json::Value> = claims.and_then(|claims| serde_json::from_slice(&claims).ok());
    let expires = claims.and_then(|claims| claims.get("exp")?.as_i64());
    expires.is_some_and(|at| at < OffsetDateTime::now_utc().unix_timestamp())
}

fn impersonation(user: &UserEntry) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let one = |name: &'static str, value: &Option<String>| {
        value
            .iter()
            .filter(|value| !value.is_empty())
            .map(move |value| (name.to_owned(), value.clone()))
            .collect::<Vec<_>>()
    };
    let mut fields = one("impersonate-user", &user.act_as);
    fields.extend(one("impersonate-uid", &user.as_uid));
    fields.extend(user.as_groups.iter().flatten().map(|group| ("impersonate-group".to_owned(), group.clone())));
    for (key, values) in user.as_user_extra.iter().flatten() {
        let key = percent_encoded(key);
        fields.extend(values.iter().map(|value| (format!("impersonate-extra-{key}"), value.clone())));
    }
    let field = |(name, value): (String, String)| {
        let pair = name.parse::<HeaderName>().ok().zip(HeaderValue::from_str(&value).ok());
        pair.ok_or_else(|| "whom it acts as (`as`) cannot be put into a request".to_owned())
    };
    fields.into_iter().map(field).collect()
}

/// Keys of extra fields may hold what no field name can.
fn percent_encoded(key: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte);
    key.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// A program may ask its cloud, and wait for a lock; nobody waits longer for kubectl.
const PROGRAM_LIMIT: Duration = Duration::from_secs(30);

const EARLY: time::Duration = time::Duration::seconds(10);
