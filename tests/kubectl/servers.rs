//! API servers and proxies that note who asked what, and a small public-key infrastructure.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv6Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::spawn;
use std::time::Duration;

use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{SslAcceptor, SslMethod, SslStream, SslVerifyMode};
use openssl::x509::extension::{
    AuthorityKeyIdentifier, BasicConstraints, SubjectAlternativeName, SubjectKeyIdentifier,
};
use openssl::x509::{X509, X509Builder, X509Name, X509NameBuilder};

/// What the servers saw since it was last cleared.
#[derive(Clone, Default)]
pub(crate) struct Journal(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    requests: Vec<String>,
    /// The last proxy that was used.
    proxy: Option<String>,
}

impl Journal {
    pub(crate) fn clear(&self) {
        *self.0.lock().unwrap() = Seen::default();
    }

    pub(crate) fn entries(&self) -> Vec<String> {
        let seen = self.0.lock().unwrap();
        let proxy = seen.proxy.as_deref().unwrap_or("-");
        seen.requests.iter().map(|request| format!("{request} proxy={proxy}")).collect()
    }

    fn request(&self, text: String) {
        self.0.lock().unwrap().requests.push(text);
    }

    fn proxy(&self, text: String) {
        self.0.lock().unwrap().proxy = Some(text);
    }
}

/// An authority, and a server's certificate by it.
pub(crate) struct Pki {
    authority: X509,
    authority_key: PKey<Private>,
    server: X509,
    server_key: PKey<Private>,
    pem: String,
}

fn key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

fn name(common_name: &str) -> X509Name {
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_nid(Nid::COMMONNAME, common_name).unwrap();
    name.build()
}

fn unsigned(subject: &str, issuer: &str, key: &PKey<Private>) -> X509Builder {
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    let serial = BigNum::from_u32(u32::from(rand_byte()) + 1).unwrap().to_asn1_integer().unwrap();
    builder.set_serial_number(&serial).unwrap();
    builder.set_subject_name(&name(subject)).unwrap();
    builder.set_issuer_name(&name(issuer)).unwrap();
    builder.set_pubkey(key).unwrap();
    builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
    builder
}

fn rand_byte() -> u8 {
    let mut byte = [0];
    openssl::rand::rand_bytes(&mut byte).unwrap();
    byte[0]
}

impl Pki {
    pub(crate) fn new(addresses: &[&str], names: &[&str]) -> Self {
        let (authority_key, server_key) = (key(), key());
        let mut authority = unsigned("authority", "authority", &authority_key);
        authority.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
        let identifier = SubjectKeyIdentifier::new().build(&authority.x509v3_context(None, None)).unwrap();
        authority.append_extension(identifier).unwrap();
        authority.sign(&authority_key, MessageDigest::sha256()).unwrap();
        let authority = authority.build();
        let mut server = unsigned("server", "authority", &server_key);
        let mut alternatives = SubjectAlternativeName::new();
        for address in addresses {
            alternatives.ip(address);
        }
        for name in names {
            alternatives.dns(name);
        }
        let alternatives = alternatives.build(&server.x509v3_context(Some(&authority), None)).unwrap();
        server.append_extension(alternatives).unwrap();
        // By this one authority is told from another one of its name.
        let identifier =
            AuthorityKeyIdentifier::new().keyid(true).build(&server.x509v3_context(Some(&authority), None)).unwrap();
        server.append_extension(identifier).unwrap();
        server.sign(&authority_key, MessageDigest::sha256()).unwrap();
        let pem = String::from_utf8(authority.to_pem().unwrap()).unwrap();
        Self { authority, authority_key, server: server.build(), server_key, pem }
    }

    /// The authority's certificate in PEM.
    pub(crate) fn authority(&self) -> &str {
        &self.pem
    }

    pub(crate) fn authority_data(&self) -> String {
        openssl::base64::encode_block(self.pem.as_bytes())
    }

    /// The server's own certificate in PEM.
    pub(crate) fn server(&self) -> String {
        String::from_utf8(self.server.to_pem().unwrap()).unwrap()
    }

    /// A client's certificate and key in PEM.
    pub(crate) fn client(&self, name: &str) -> (String, String) {
        let key = key();
        let mut client = unsigned(name, "authority", &key);
        client.sign(&self.authority_key, MessageDigest::sha256()).unwrap();
        let text = |pem: Vec<u8>| String::from_utf8(pem).unwrap();
        (text(client.build().to_pem().unwrap()), text(key.private_key_to_pem_pkcs8().unwrap()))
    }

    fn acceptor(&self) -> SslAcceptor {
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).unwrap();
        acceptor.set_certificate(&self.server).unwrap();
        acceptor.set_private_key(&self.server_key).unwrap();
        acceptor.cert_store_mut().add_cert(self.authority.clone()).unwrap();
        acceptor.add_client_ca(&self.authority).unwrap();
        acceptor.set_verify(SslVerifyMode::PEER);
        acceptor.set_session_id_context(b"test").unwrap();
        acceptor.build()
    }
}

/// Accepts connections for ever, each on a thread of its own, and tells the port.
fn listen(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = Arc::new(serve);
    spawn(move || {
        for stream in listener.incoming() {
            let (serve, stream) = (Arc::clone(&serve), stream.unwrap());
            spawn(move || serve(stream));
        }
    });
    port
}

/// An API server with no Pods in it.
pub(crate) fn api_server(journal: &Journal, pki: Option<&Pki>) -> u16 {
    let (journal, acceptor) = (journal.clone(), pki.map(Pki::acceptor));
    listen(move |stream| {
        let address: IpAddr = stream.local_addr().unwrap().ip().to_canonical();
        match &acceptor {
            None => answer(stream, "http", address, "-", &journal),
            Some(acceptor) => {
                let Ok(stream) = acceptor.accept(stream) else { return };
                let certificate = common_name(&stream).unwrap_or_else(|| "-".into());
                answer(stream, "https", address, &certificate, &journal);
            }
        }
    })
}

fn common_name(stream: &SslStream<TcpStream>) -> Option<String> {
    let certificate = stream.ssl().peer_certificate()?;
    let entry = certificate.subject_name().entries_by_nid(Nid::COMMONNAME).next()?;
    entry.data().to_string().ok()
}

/// The first line and the headers of a request.
fn head(reader: &mut impl BufRead) -> Option<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => return Some(lines),
            line => lines.push(line.to_owned()),
        }
    }
}

fn header<'a>(head: &'a [String], name: &str) -> &'a str {
    let found =
        head.iter().filter_map(|line| line.split_once(": ")).find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map_or("-", |(_, value)| value)
}

fn answer(mut stream: impl Read + Write, scheme: &str, address: IpAddr, certificate: &str, journal: &Journal) {
    let Some(head) = head(&mut BufReader::new(&mut stream)) else { return };
    let target = head[0].split(' ').nth(1).unwrap_or_default();
    let path = target.split('?').next().unwrap_or_default();
    let body = match path {
        "/api" => r#"{"kind": "APIVersions", "versions": ["v1"]}"#,
        "/apis" => r#"{"kind": "APIGroupList", "apiVersion": "v1", "groups": []}"#,
        "/api/v1" => {
            r#"{"kind": "APIResourceList", "groupVersion": "v1", "resources": [{"name": "pods", "singularName": "pod",
                "namespaced": true, "kind": "Pod", "verbs": ["get", "list"]}]}"#
        }
        _ => {
            if let Some(namespace) =
                path.strip_prefix("/api/v1/namespaces/").and_then(|path| path.strip_suffix("/pods"))
            {
                let (who, other) = (header(&head, "authorization"), header(&head, "impersonate-user"));
                journal.request(format!(
                    "{scheme}://{address} namespace={namespace} authorization={who} certificate={certificate} impersonate={other}"
                ));
            }
            r#"{"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": []}"#
        }
    };
    let length = body.len();
    let _ = write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    let _ = stream.flush();
}

/// A proxy that knows CONNECT, and whole addresses in place of paths.
pub(crate) fn http_proxy(journal: &Journal, name: &'static str, pki: Option<&Pki>) -> u16 {
    let (journal, acceptor) = (journal.clone(), pki.map(Pki::acceptor));
    listen(move |stream| match &acceptor {
        None => lead(stream, name, &journal),
        Some(acceptor) => {
            // A plain connection to this same program takes what is inside.
            let Ok(outside) = acceptor.accept(stream) else { return };
            let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
            let inside = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (other, _) = listener.accept().unwrap();
            let journal = journal.clone();
            spawn(move || lead(other, name, &journal));
            join_in_turns(outside, inside);
        }
    })
}

fn lead(stream: TcpStream, name: &str, journal: &Journal) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let Some(head) = head(&mut reader) else { return };
    let mut words = head[0].split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let who = header(&head, "proxy-authorization");
    let (host, path) = match target.strip_prefix("http://") {
        Some(rest) => rest.split_once('/').unwrap_or((rest, "")),
        None => (target, ""),
    };
    journal.proxy(format!("{name} to={host} proxy-authorization={who}"));
    let Ok(mut server) = TcpStream::connect(host) else { return };
    let mut client = stream;
    if method == "CONNECT" {
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
    } else {
        let mut request = format!("{method} /{path} HTTP/1.1\r\n");
        for line in &head[1..] {
            request += &format!("{line}\r\n");
        }
        server.write_all(format!("{request}\r\n").as_bytes()).unwrap();
    }
    join(client, server);
}

/// Copies both ways until both ends are done.
fn join(mut one: TcpStream, mut other: TcpStream) {
    let (mut one_reader, mut other_writer) = (one.try_clone().unwrap(), other.try_clone().unwrap());
    let there = spawn(move || {
        let _ = std::io::copy(&mut one_reader, &mut other_writer);
        let _ = other_writer.shutdown(std::net::Shutdown::Write);
    });
    let _ = std::io::copy(&mut other, &mut one);
    let _ = one.shutdown(std::net::Shutdown::Both);
    let _ = there.join();
}

/// The same for a TLS connection, which two threads can't share: each side in turn, as far as it has something within a
/// moment.
fn join_in_turns(mut outside: SslStream<TcpStream>, mut inside: TcpStream) {
    let moment = Some(Duration::from_millis(5));
    outside.get_ref().set_read_timeout(moment).unwrap();
    inside.set_read_timeout(moment).unwrap();
    while pass_on(&mut outside, &mut inside) && pass_on(&mut inside, &mut outside) {}
}

/// False at the end of the stream.
fn pass_on(from: &mut impl Read, to: &mut impl Write) -> bool {
    let mut buffer = [0; 16384];
    match from.read(&mut buffer) {
        Ok(0) => false,
        Ok(length) => to.write_all(&buffer[..length]).is_ok(),
        Err(e) => e.kind() == ErrorKind::WouldBlock,
    }
}

/// A proxy of SOCKS 5 without authentication.
pub(crate) fn socks_proxy(journal: &Journal) -> u16 {
    let journal = journal.clone();
    listen(move |mut stream| {
        // What a method or an address is stands in RFC 1928.
        let mut take = |length: usize| {
            let mut bytes = vec![0; length];
            stream.read_exact(&mut bytes).map(|()| bytes)
        };
        let mut greeting = || {
            let methods = take(2)?[1];
            take(methods.into())
        };
        if greeting().is_err() {
            return;
        }
        stream.write_all(&[5, 0]).unwrap();
        let mut take = |length: usize| {
            let mut bytes = vec![0; length];
            stream.read_exact(&mut bytes).unwrap();
            bytes
        };
        let host = match take(4)[3] {
            1 => IpAddr::from(<[u8; 4]>::try_from(take(4)).unwrap()).to_string(),
            3 => {
                let length = take(1)[0];
                String::from_utf8(take(length.into())).unwrap()
            }
            kind => panic!("a SOCKS address of kind {kind}"),
        };
        let port = u16::from_be_bytes(take(2).try_into().unwrap());
        journal.proxy(format!("socks to={host}:{port}"));
        let Ok(server) = TcpStream::connect((host.as_str(), port)) else { return };
        stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).unwrap();
        join(stream, server);
    })
}
