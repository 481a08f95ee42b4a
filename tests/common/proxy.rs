//! Ways to the API server of a test's own: `kubectl proxy`, which speaks plain HTTP, and a relay that does with each
//! request what the test says.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test program uses a part of it")]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;

use sandbox::Config;
use serde_json::json;

use crate::common::{Scratch, client, config, repository};

/// A `kubectl proxy`, which ends when this goes.
#[derive(Debug)]
pub struct Proxy {
    process: Child,
    address: SocketAddr,
    scratch: Scratch,
}

impl Proxy {
    /// Of `kubectl proxy` with these arguments.
    pub fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(repository().join("target/cluster/programs/kubernetes"));
        // By itself it lets nobody into a Pod.
        command.args(["kubectl", "proxy", "--port=0", "--reject-paths=^$"]).args(arguments);
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
        let address = said.trim_end().rsplit(' ').next().unwrap().parse().unwrap();
        Self { process, address, scratch: Scratch::new() }
    }

    /// A configuration that leads here, to this path.
    pub fn config(&self, path: &str) -> Config {
        self.config_by(self.address, path)
    }

    /// The same by way of `relay`.
    pub fn config_through(&self, relay: &Relay) -> Config {
        self.config_by(relay.address, "")
    }

    fn config_by(&self, address: SocketAddr, path: &str) -> Config {
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "test"}}],
            "clusters": [{"name": "test", "cluster": {"server": format!("http://{address}{path}")}}],
        });
        let file = self.scratch.path(&format!("kubeconfig-{}", address.port()));
        std::fs::write(&file, kubeconfig.to_string()).unwrap();
        // Where `kubectl` looks.
        config().kubeconfig(file).namespace(client().namespace())
    }

    /// Leads to this proxy, and asks `decide` about all that clients send.
    pub fn relay(&self, decide: impl Fn(&Sent<'_>) -> Then + Send + Sync + 'static) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, to, decide) = (listener.local_addr().unwrap(), self.address, Arc::new(decide));
        thread::spawn(move || {
            for client in listener.incoming() {
                let decide = Arc::clone(&decide);
                // An error is the end of one side.
                thread::spawn(move || carry(client?, to, &*decide));
            }
        });
        Relay { address }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A way to a [`Proxy`] that is there for as long as the test program.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
}

/// Some bytes of a client.
#[derive(Debug)]
pub struct Sent<'a> {
    /// The first line of the request that they belong to.
    pub request: &'a str,
    /// Whether they are its beginning.
    pub begins: bool,
}

/// What becomes of them.
#[derive(Debug)]
pub enum Then {
    Pass,
    /// They are lost with their connection.
    Cut,
    /// The answer of an API server that allows nothing.
    Refuse,
}

fn carry(mut client: TcpStream, to: SocketAddr, decide: &dyn Fn(&Sent<'_>) -> Then) -> io::Result<()> {
    let mut server = TcpStream::connect(to)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut answers, mut back) = (server.try_clone()?, client.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut answers, &mut back);
        let _ = back.shutdown(Shutdown::Write);
    });
    let (mut buffer, mut request) = (vec![0; 65536], String::new());
    loop {
        let length = client.read(&mut buffer)?;
        if length == 0 {
            return server.shutdown(Shutdown::Write);
        }
        let sent = &buffer[..length];
        let line = request_line(sent);
        let begins = line.is_some();
        request = line.unwrap_or(request);
        match decide(&Sent { request: &request, begins }) {
            Then::Pass => server.write_all(sent)?,
            Then::Cut => {
                server.shutdown(Shutdown::Both)?;
                return client.shutdown(Shutdown::Both);
            }
            Then::Refuse => {
                let status = json!({
                    "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", "code": 403,
                    "message": "the relay allows nothing",
                });
                let body = status.to_string();
                let head = "HTTP/1.1 403 Forbidden\r\ncontent-type: application/json\r\nconnection: close";
                write!(client, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len())?;
                client.shutdown(Shutdown::Write)?;
                return server.shutdown(Shutdown::Both);
            }
        }
    }
}

/// The first line of a request, if one begins here.
fn request_line(sent: &[u8]) -> Option<String> {
    let line = std::str::from_utf8(sent.split(|&byte| byte == b'\r').next()?).ok()?;
    line.ends_with(" HTTP/1.1").then(|| line.to_owned())
}
