//! TLS to the API server, and to a proxy before it, by the rules of `kubectl`.

use std::net::IpAddr;

use hyper_openssl::client::legacy::HttpsConnector;
use kube::client::{ConfigExt, OpensslTlsError};
use kube::config::Config as Access;
use openssl::error::ErrorStack;
use openssl::ssl::{ConnectConfiguration, SslVerifyMode};
use openssl::x509::X509;
use openssl::x509::store::{X509Store, X509StoreBuilder};
use openssl::x509::verify::{X509CheckFlags, X509VerifyFlags};

/// Makes connections with TLS of what `connector` makes. kube's own would trust this machine's authorities beside those
/// that are named.
pub(super) fn https<C>(access: &Access, connector: C) -> kube::Result<HttpsConnector<C>> {
    let failed = |e| kube::Error::OpensslTls(OpensslTlsError::CreateHttpsConnector(e));
    let mut tls = access.openssl_ssl_connector_builder()?;
    if let Some(authorities) = &access.root_cert {
        tls.set_cert_store(only(authorities).map_err(failed)?);
    }
    let mut https = HttpsConnector::with_connector(connector, tls).map_err(failed)?;
    let (is_unverified, name) = (access.accept_invalid_certs, access.tls_server_name.clone());
    https.set_callback(move |connection, _| {
        if is_unverified {
            connection.set_verify(SslVerifyMode::NONE);
        }
        name.as_ref().map_or(Ok(()), |name| expect(connection, name))
    });
    Ok(https)
}

/// Trust in these certificates and in what they have signed. As for kubectl, they need not be roots.
fn only(authorities: &[Vec<u8>]) -> Result<X509Store, ErrorStack> {
    let mut store = X509StoreBuilder::new()?;
    store.set_flags(X509VerifyFlags::PARTIAL_CHAIN)?;
    for der in authorities {
        store.add_cert(X509::from_der(der)?)?;
    }
    Ok(store.build())
}

/// Asks for the certificate of this name or address, in place of the URL's.
fn expect(connection: &mut ConnectConfiguration, name: &str) -> Result<(), ErrorStack> {
    connection.set_use_server_name_indication(false);
    connection.set_verify_hostname(false);
    connection.param_mut().set_hostflags(X509CheckFlags::NO_PARTIAL_WILDCARDS);
    match name.parse::<IpAddr>() {
        // An address is not told to the server.
        Ok(address) => connection.param_mut().set_ip(address),
        Err(_) => connection.set_hostname(name).and_then(|()| connection.param_mut().set_host(name)),
    }
}
