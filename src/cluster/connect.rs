//! From settings to a client for the API server, without asking it anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::legacy::connect::{Connection, HttpConnector};
use hyper_util::rt::TokioExecutor;
use kube::Client;
use kube::client::{Body, ConfigExt};
use kube::config::Config as Access;
use parking_lot::Mutex;
use tower::util::{BoxCloneSyncService, MapRequest, MapRequestLayer, service_fn};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt};

use super::api::error_from_kube;
use super::kubeconfig::{self, Found};
use super::login::{Certificate, Credentials, Login};
use super::proxy;
use super::tls::https;
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// With these two the kernel finds out within a minute that the API server is gone, under every stream.
const KEEPALIVE: Duration = Duration::from_secs(15);
const UNACKNOWLEDGED: Duration = Duration::from_secs(45);

/// A client that counts its requests in `requests`, and how to reach the API server. A login command is run now, so
/// that what is wrong with it is known at once.
pub(super) async fn connect(config: &Config, requests: &Arc<AtomicU64>) -> Result<(Client, Access)> {
    for (level, note) in &config.notes {
        log::log!(*level, "{note}");
    }
    let Found { access, login } = kubeconfig::find(config)?;
    login.credentials().await.map_err(|e| Error::new(ErrorKind::Config, e.to_string()))?;
    let client = client(&access, login, requests)
        .map_err(|e| error_from_kube(e, &server(&access)).with_kind(ErrorKind::Config))?;
    Ok((client, access))
}

/// Address of the API server for messages, with the proxy that leads there, without the credentials that URLs may
/// carry.
pub(super) fn server(access: &Access) -> String {
    let url = &access.cluster_url;
    let (scheme, host) = (url.scheme_str().unwrap_or("https"), url.host().unwrap_or("?"));
    let server = url.port().map_or_else(|| format!("{scheme}://{host}"), |port| format!("{scheme}://{host}:{port}"));
    match &access.proxy_url {
        Some(url) => format!("{server} (through the proxy {})", proxy::shown(url)),
        None => server,
    }
}

fn client(access: &Access, login: Login, requests: &Arc<AtomicU64>) -> kube::Result<Client> {
    let requests = requests.clone();
    let count = MapRequestLayer::new(move |request: Request<Body>| {
        requests.fetch_add(1, Ordering::Relaxed);
        request
    });
    let sender = Arc::new(Sender { http: Mutex::new((None, http(access)?)), access: access.clone(), login });
    let service = ServiceBuilder::new()
        .layer(count)
        .layer(access.base_uri_layer())
        .option_layer(access.auth_layer()?)
        .layer(access.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(service_fn(move |request| Arc::clone(&sender).send(request)));
    Ok(Client::new(service, access.default_namespace.clone()))
}

type Http = BoxCloneSyncService<Request<Body>, Response<Incoming>, BoxError>;

/// Sends each request with the credentials that are right at that moment.
struct Sender {
    access: Access,
    login: Login,
    /// The connections, and the certificate that they were made with if it came from a login command.
    http: Mutex<(Option<Certificate>, Http)>,
}

impl Sender {
    async fn send(self: Arc<Self>, mut request: Request<Body>) -> std::result::Result<Response<Incoming>, BoxError> {
        let credentials = self.login.credentials().await?;
        if let Some(authorization) = &credentials.authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        let response = self.http(&credentials)?.oneshot(request).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            credentials.refuse();
        }
        Ok(response)
    }

    /// Connections with the certificate of these credentials. Streams over those with an older one go on.
    fn http(&self, credentials: &Credentials) -> kube::Result<Http> {
        let mut http = self.http.lock();
        if http.0 != credentials.certificate {
            let mut access = self.access.clone();
            let (chain, key) =
                credentials.certificate.as_ref().map(|one| (one.chain.as_str(), one.key.as_str())).unzip();
            access.auth_info.client_certificate_data = chain.map(|pem| openssl::base64::encode_block(pem.as_bytes()));
            access.auth_info.client_key_data = key.map(|pem| openssl::base64::encode_block(pem.as_bytes()).into());
            *http = (credentials.certificate.clone(), self::http(&access)?);
        }
        Ok(http.1.clone())
    }
}

/// An HTTP client of our own. kube's offers no TCP_NODELAY, without which small SSH packets wait for each other in the
/// tunnel, and its retry layer would repeat a POST, for longer than any deadline of ours.
fn http(access: &Access) -> kube::Result<Http> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp.set_keepalive(Some(KEEPALIVE));
    tcp.set_keepalive_interval(Some(KEEPALIVE));
    tcp.set_keepalive_retries(Some(2));
    #[cfg(target_os = "linux")]
    tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    let mut server = access.clone();
    // In a URL an IPv6 address has brackets, in a certificate none.
    if let Some(address) = access.cluster_url.host().and_then(|host| host.strip_prefix('[')?.strip_suffix(']')) {
        server.tls_server_name.get_or_insert_with(|| address.to_owned());
    }
    let Some(url) = access.proxy_url.clone() else { return over(&server, tcp) };
    let user = proxy::user_and_password(&url);
    match url.scheme_str() {
        Some("socks5") => {
            let socks = SocksV5::new(url, tcp);
            over(&server, user.into_iter().fold(socks, |socks, (name, password)| socks.with_auth(name, password)))
        }
        // As for kubectl, the proxy's certificate is checked as the server's.
        Some("https") => over(&server, tunnel(url, https(access, tcp)?, user)),
        _ => over(&server, tunnel(url, tcp, user)),
    }
}

/// A way through an HTTP proxy, which knows no default port but that of HTTPS.
fn tunnel<C>(url: Uri, connector: C, user: Option<(String, String)>) -> MapRequest<Tunnel<C>, fn(Uri) -> Uri>
where
    Tunnel<C>: Service<Uri>,
{
    let mut tunnel = Tunnel::new(url, connector);
    if let Some((name, password)) = user {
        let encoded = openssl::base64::encode_block(format!("{name}:{password}").as_bytes());
        if let Ok(value) = HeaderValue::try_from(format!("Basic {encoded}")) {
            tunnel = tunnel.with_auth(value);
        }
    }
    MapRequest::new(tunnel, with_port)
}

fn with_port(server: Uri) -> Uri {
    let mut parts = server.clone().into_parts();
    if server.port().is_none() && server.scheme_str() == Some("http") {
        parts.authority = server.host().and_then(|host| format!("{host}:80").parse().ok());
    }
    Uri::from_parts(parts).unwrap_or(server)
}

fn over<C>(access: &Access, connector: C) -> kube::Result<Http>
where
    C: Service<Uri> + Clone + Send + Sync + 'static,
    C::Response: Read + Write + Connection + Unpin + Send + 'static,
    C::Future: Send + 'static,
    C::Error: Into<BoxError>,
{
    let client = HttpClient::builder(TokioExecutor::new()).build::<_, Body>(https(access, connector)?);
    Ok(BoxCloneSyncService::new(client.map_err(BoxError::from)))
}
