//! From settings to a client for the API server, without asking it anything.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::Request;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::Client;
use kube::client::{Body, ClientBuilder, ConfigExt};
use kube::config::{Config as Access, KubeConfigOptions, Kubeconfig, KubeconfigError};
use tower::util::MapRequestLayer;
use tower::{BoxError, ServiceBuilder};

use super::api::error_from_kube;
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};

const TOKEN_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// With these two the kernel finds out within a minute that the API server is gone, under every stream.
const KEEPALIVE: Duration = Duration::from_secs(15);
const UNACKNOWLEDGED: Duration = Duration::from_secs(45);

/// A client that counts its requests in `requests`, and how to reach the API server.
pub(super) async fn connect(config: &Config, requests: &Arc<AtomicU64>) -> Result<(Client, Access)> {
    let mut access = access(config).await?;
    // The retry layer would repeat a POST, and for longer than any deadline of ours.
    access.default_retry = false;
    access.connect_timeout = Some(CONNECT_TIMEOUT);
    access.read_timeout = None;
    if is_local(access.cluster_url.host()) {
        // As kubectl does; HTTPS_PROXY is meant for the world outside.
        access.proxy_url = None;
    }
    access.default_namespace =
        Some(access.default_namespace.trim()).filter(|name| !name.is_empty()).unwrap_or("default").to_owned();
    let client =
        client(&access, requests).map_err(|e| error_from_kube(e, &server(&access)).with_kind(ErrorKind::Config))?;
    Ok((client, access))
}

/// Address of the API server for messages, without the credentials that a URL may carry.
pub(super) fn server(access: &Access) -> String {
    let url = &access.cluster_url;
    let (scheme, host) = (url.scheme_str().unwrap_or("https"), url.host().unwrap_or("?"));
    url.port().map_or_else(|| format!("{scheme}://{host}"), |port| format!("{scheme}://{host}:{port}"))
}

fn is_local(host: Option<&str>) -> bool {
    let host = host.unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn client(access: &Access, requests: &Arc<AtomicU64>) -> kube::Result<Client> {
    let requests = requests.clone();
    let count = MapRequestLayer::new(move |request: Request<Body>| {
        requests.fetch_add(1, Ordering::Relaxed);
        request
    });
    if access.proxy_url.is_some() {
        return Ok(ClientBuilder::try_from(access.clone())?.with_layer(&count).build());
    }
    // kube's own stack offers no TCP_NODELAY, without which small SSH packets wait for each other in the tunnel.
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp.set_keepalive(Some(KEEPALIVE));
    tcp.set_keepalive_interval(Some(KEEPALIVE));
    tcp.set_keepalive_retries(Some(2));
    #[cfg(target_os = "linux")]
    tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    let https = access.openssl_https_connector_with_connector(tcp)?;
    let service = ServiceBuilder::new()
        .layer(count)
        .layer(access.base_uri_layer())
        .option_layer(access.auth_layer()?)
        .layer(access.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(HttpClient::builder(TokioExecutor::new()).build::<_, Body>(https));
    Ok(Client::new(service, access.default_namespace.clone()))
}

/// The first of the ways that is there decides, so that a broken one is not hidden by the next.
async fn access(config: &Config) -> Result<Access> {
    let options = KubeConfigOptions { context: config.context.clone(), ..Default::default() };
    if let Some(path) = &config.kubeconfig {
        return from_file(path, &options).await;
    }
    let token = Path::new(TOKEN_FILE);
    if config.context.is_none() && token.exists() {
        return Access::incluster().map_err(|e| unusable("the service account of this Pod", &e.to_string()));
    }
    let variable = format!("KUBECONFIG={}", std::env::var_os("KUBECONFIG").unwrap_or_default().display());
    match Kubeconfig::from_env() {
        Ok(Some(kubeconfig)) => return from_kubeconfig(kubeconfig, &options, &variable).await,
        Ok(None) => {}
        Err(e) => return Err(unusable(&variable, &explain(&e))),
    }
    let home = std::env::home_dir().map(|home| home.join(".kube/config"));
    match home {
        Some(path) if path.exists() => from_file(&path, &options).await,
        home => Err(no_way(config, home)),
    }
}

fn no_way(config: &Config, home: Option<PathBuf>) -> Error {
    let service_account = match &config.context {
        Some(_) => "a context is set, so the service account is not used".to_owned(),
        None => format!("there is no service account token ({TOKEN_FILE})"),
    };
    let file = home.map_or("there is no home directory".into(), |path| format!("there is no {}", path.display()));
    Error::new(
        ErrorKind::Config,
        format!("no way to a Kubernetes is known: {service_account}, KUBECONFIG is not set, {file}"),
    )
}

async fn from_file(path: &Path, options: &KubeConfigOptions) -> Result<Access> {
    let place = format!("the kubeconfig {}", path.display());
    let kubeconfig = Kubeconfig::read_from(path).map_err(|e| unusable(&place, &explain(&e)))?;
    from_kubeconfig(kubeconfig, options, &place).await
}

async fn from_kubeconfig(kubeconfig: Kubeconfig, options: &KubeConfigOptions, place: &str) -> Result<Access> {
    Access::from_custom_kubeconfig(kubeconfig, options).await.map_err(|e| unusable(place, &explain(&e)))
}

fn unusable(place: &str, why: &str) -> Error {
    Error::new(ErrorKind::Config, format!("{place} can't be used: {why}"))
}

/// kube's own words, except where they would quote the file, which holds secrets.
fn explain(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::Parse(_) => "it is not the YAML of a kubeconfig".into(),
        KubeconfigError::ReadConfig(e, path) => format!("{}: {e}", path.display()),
        KubeconfigError::CurrentContextNotSet => "it has no current context, and none is set".into(),
        KubeconfigError::LoadContext(name) => format!("it has no context {name:?}"),
        KubeconfigError::LoadClusterOfContext(name) => format!("it has no cluster {name:?}"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deadline::Deadline;
    use crate::runtime::Runtime;

    fn error_of(config: &Config) -> Error {
        let runtime = Runtime::shared().unwrap();
        runtime.block_on(Deadline::after(None), "nothing", access(config)).unwrap_err()
    }

    #[test]
    fn says_what_is_wrong_with_a_kubeconfig_but_quotes_none() {
        let file = std::env::temp_dir().join(format!("sandbox-kubeconfig-{}", std::process::id()));
        let config = Config::new().kubeconfig(&file);
        assert!(error_of(&config).to_string().contains("No such file"));
        std::fs::write(&file, "users: [{name: me, user: {token: hunter2").unwrap();
        let broken = error_of(&config);
        std::fs::write(&file, "apiVersion: v1\nkind: Config\ncurrent-context: here\n").unwrap();
        let lacking = error_of(&config.clone().context("there"));
        std::fs::remove_file(&file).unwrap();
        assert_eq!(broken.kind(), ErrorKind::Config);
        assert!(broken.to_string().contains("not the YAML") && !broken.to_string().contains("hunter2"), "{broken}");
        assert!(lacking.to_string().contains("no context \"there\""), "{lacking}");
    }
}
