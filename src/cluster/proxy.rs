//! Which proxy leads to an API server, decided as `kubectl` does: the kubeconfig's `proxy-url` always, else the
//! environment with its exceptions.

use std::net::IpAddr;

use http::Uri;
use http::uri::{Authority, PathAndQuery, Scheme};

/// The proxy that the kubeconfig names; the error says what is allowed.
pub(super) fn named(url: &str) -> Result<Uri, &'static str> {
    usable(url).map_err(|_| "its proxy-url is not an http://, https:// or socks5:// address")
}

/// The proxy that the environment has for `server`.
pub(super) fn from_environment(
    server: &Uri,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Uri>, &'static str> {
    let either = |upper: &str| {
        [upper.to_owned(), upper.to_lowercase()]
            .iter()
            .find_map(|name| variable(name).filter(|value| !value.is_empty()))
    };
    let is_tls = server.scheme() != Some(&Scheme::HTTP);
    let Some(value) = either(if is_tls { "HTTPS_PROXY" } else { "HTTP_PROXY" }) else { return Ok(None) };
    let host = bare_host(server);
    let port = server.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    if is_loopback(host) || is_exempt(host, port, &either("NO_PROXY").unwrap_or_default()) {
        return Ok(None);
    }
    let url = if value.contains("://") { value } else { format!("http://{value}") };
    usable(&url).map(Some)
}

/// The address of a proxy for messages: without the password that it may carry.
pub(super) fn shown(proxy: &Uri) -> String {
    let host = proxy.host().unwrap_or_default();
    format!("{}://{host}:{}", proxy.scheme_str().unwrap_or("http"), proxy.port_u16().unwrap_or_default())
}

/// User and password of a proxy's URL.
pub(super) fn user_and_password(proxy: &Uri) -> Option<(String, String)> {
    let (user, _) = proxy.authority()?.as_str().rsplit_once('@')?;
    let (user, password) = user.split_once(':').unwrap_or((user, ""));
    Some((decoded(user), decoded(password)))
}

/// The host of a URL as it is compared: an IPv6 address has no brackets.
fn bare_host(url: &Uri) -> &str {
    url.host().unwrap_or_default().trim_matches(['[', ']'])
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || address(host).is_some_and(|address| address.is_loopback())
}

fn address(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

/// A proxy's URL with its port, which the connectors don't know for every scheme.
fn usable(url: &str) -> Result<Uri, &'static str> {
    const ALLOWED: &str = "the proxy is not an http://, https:// or socks5:// address";
    let url: Uri = url.parse().map_err(|_| ALLOWED)?;
    let (scheme, port) = match url.scheme_str() {
        Some("http") => ("http", 80),
        Some("https") => ("https", 443),
        Some("socks5" | "socks5h") => ("socks5", 1080),
        _ => return Err(ALLOWED),
    };
    let authority = url.authority().filter(|authority| !authority.host().is_empty()).ok_or(ALLOWED)?;
    let authority = match authority.port() {
        Some(_) => authority.clone(),
        None => {
            format!("{}:{port}", authority.as_str().trim_end_matches(':')).parse::<Authority>().map_err(|_| ALLOWED)?
        }
    };
    Uri::builder()
        .scheme(scheme)
        .authority(authority)
        .path_and_query(PathAndQuery::from_static("/"))
        .build()
        .map_err(|_| ALLOWED)
}

/// Whether `no_proxy` names this host: `*`, an address, a range of addresses, a name, which stands for those below it
/// too, or `.name` or `*.name` for those below it alone; each but a range with a port or without.
fn is_exempt(host: &str, port: u16, no_proxy: &str) -> bool {
    let host = host.to_lowercase();
    let host_address = address(&host);
    no_proxy.split(',').map(|entry| entry.trim().to_lowercase()).any(|entry| {
        if entry.is_empty() {
            return false;
        }
        if entry == "*" {
            return true;
        }
        if let Some(range) = range(&entry) {
            return host_address.is_some_and(|address| contains(range, address));
        }
        let (name, wanted) = name_and_port(&entry);
        if wanted.is_some_and(|wanted| wanted != port.to_string()) {
            return false;
        }
        if let Some(wanted) = address(name) {
            return host_address == Some(wanted);
        }
        let below = name.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(name);
        match below.strip_prefix('.') {
            Some(_) => host.ends_with(below),
            None => !below.is_empty() && (host == below || host.ends_with(&format!(".{below}"))),
        }
    })
}

/// `host`, `host:port`, `[address]:port`, or an IPv6 address, whose colons are its own.
fn name_and_port(entry: &str) -> (&str, Option<&str>) {
    match entry.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') => (name, Some(port).filter(|port| !port.is_empty())),
        Some((name, port)) if name.starts_with('[') && name.ends_with(']') => {
            (&name[1..name.len() - 1], Some(port).filter(|port| !port.is_empty()))
        }
        _ => (entry, None),
    }
}

/// An address and how many of its first bits count.
fn range(entry: &str) -> Option<(IpAddr, u32)> {
    let (network, bits) = entry.split_once('/')?;
    let (network, bits): (IpAddr, u32) = (network.parse().ok()?, bits.parse().ok()?);
    (bits <= if network.is_ipv4() { 32 } else { 128 }).then_some((network, bits))
}

fn contains((network, bits): (IpAddr, u32), address: IpAddr) -> bool {
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            (network.to_bits() ^ address.to_bits()).checked_shr(32 - bits).unwrap_or(0) == 0
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            (network.to_bits() ^ address.to_bits()).checked_shr(128 - bits).unwrap_or(0) == 0
        }
        _ => false,
    }
}

/// Text in which `%40` stands for `@`, and so on.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digit = |at: usize| after.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        match (byte, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                rest = &after[2..];
            }
            _ => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn for_server(server: &str, variables: &[(&str, &str)]) -> Result<Option<String>, &'static str> {
        let variable = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, v)| (*v).to_owned());
        from_environment(&server.parse().unwrap(), variable).map(|proxy| proxy.map(|proxy| proxy.to_string()))
    }

    #[test]
    fn takes_the_variable_that_fits_the_server() {
        for (server, variables, expected) in [
            ("https://a.test", &[("HTTPS_PROXY", "http://p:1")][..], Some("http://p:1/")),
            ("https://a.test", &[("https_proxy", "http://p:1")], Some("http://p:1/")),
            ("https://a.test", &[("HTTPS_PROXY", ""), ("https_proxy", "http://p:1")], Some("http://p:1/")),
            ("https://a.test", &[("HTTP_PROXY", "http://p:1")], None),
            ("http://a.test", &[("HTTPS_PROXY", "http://p:1")], None),
            ("http://a.test", &[("HTTP_PROXY", "http://p:1")], Some("http://p:1/")),
            ("https://a.test", &[("HTTPS_PROXY", "p:1")], Some("http://p:1/")),
            ("https://a.test", &[("HTTPS_PROXY", "p")], Some("http://p:80/")),
            ("https://a.test", &[("HTTPS_PROXY", "user:pa%40ss@p:1")], Some("http://user:pa%40ss@p:1/")),
            ("https://a.test", &[("HTTPS_PROXY", "https://p")], Some("https://p:443/")),
            ("https://a.test", &[("HTTPS_PROXY", "socks5h://p")], Some("socks5://p:1080/")),
            ("https://a.test", &[], None),
            ("https://localhost:6443", &[("HTTPS_PROXY", "http://p:1")], None),
            ("https://127.8.0.1:6443", &[("HTTPS_PROXY", "http://p:1")], None),
            ("https://[::1]:6443", &[("HTTPS_PROXY", "http://p:1")], None),
        ] {
            assert_eq!(for_server(server, variables), Ok(expected.map(str::to_owned)), "{server} {variables:?}");
        }
        assert!(for_server("https://a.test", &[("HTTPS_PROXY", "gopher://p:1")]).is_err());
    }

    #[test]
    fn knows_the_exceptions() {
        for (host, port, no_proxy, expected) in [
            ("10.1.2.3", 443, "*", true),
            ("10.1.2.3", 443, "a.test,*", true),
            ("10.1.2.3", 443, "10.1.2.3", true),
            ("10.1.2.3", 443, "10.1.2.4", false),
            ("10.1.2.3", 6443, "10.1.2.3:6443", true),
            ("10.1.2.3", 443, "10.1.2.3:6443", false),
            ("10.1.2.3", 443, "10.0.0.0/8", true),
            ("10.1.2.3", 443, "10.0.0.0/16", false),
            ("10.1.2.3", 443, "0.0.0.0/0", true),
            ("10.1.2.3", 443, "10.1.2.3/32", true),
            ("10.1.2.3", 443, "10.0.0.0/33", false),
            ("10.1.2.3", 443, " a.test , 10.1.2.3 ,", true),
            ("10.1.2.3", 443, "::ffff:10.1.2.3", true),
            ("fd00::1", 443, "fd00::1", true),
            ("fd00::1", 443, "fd00::/8", true),
            ("fd00::1", 6443, "[fd00::1]:6443", true),
            ("fd00::1", 443, "[fd00::1]:6443", false),
            ("fd00::1", 443, "10.0.0.0/8", false),
            ("a.test", 443, "a.test", true),
            ("A.Test", 443, "a.tesT", true),
            ("b.a.test", 443, "a.test", true),
            ("ba.test", 443, "a.test", false),
            ("a.test", 443, ".a.test", false),
            ("b.a.test", 443, ".a.test", true),
            ("b.a.test", 443, "*.a.test", true),
            ("a.test", 443, "*.a.test", false),
            ("a.test", 443, "a.test:443", true),
            ("a.test", 6443, "a.test:443", false),
            ("b.a.test", 6443, ".a.test:6443", true),
            ("a.test", 443, ":443", false),
            ("a.test", 443, "", false),
            ("a.test", 443, ",,", false),
        ] {
            assert_eq!(is_exempt(host, port, no_proxy), expected, "{host}:{port} with NO_PROXY={no_proxy}");
        }
    }

    #[test]
    fn shows_no_password() {
        let proxy = named("http://me:pa%40s%s@proxy.test:3128").unwrap();
        assert_eq!(shown(&proxy), "http://proxy.test:3128");
        assert_eq!(user_and_password(&proxy), Some(("me".into(), "pa@s%s".into())));
        assert_eq!(user_and_password(&named("http://proxy.test").unwrap()), None);
        for wrong in ["proxy.test:3128", "gopher://proxy.test", "http://", "http:// no"] {
            assert!(named(wrong).is_err(), "{wrong}");
        }
    }
}
