//! An SSH server for tests, which does with each packet what the test says: the real one can't be made to lie.
//!
//! A test gives [`Server::start`] a script, which is run for each connection and made of the steps of [`Connection`]. A Pod that
//! does not run stands for the sandbox: the library finds the server's port and key in it, and its address 127.0.0.1. So this
//! works in the cluster's network only.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test program uses a part of it")]

pub mod cipher;
pub mod connection;
pub mod sftp;
pub mod transport;
pub mod wire;

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use openssl::pkey::PKey;
use sandbox::{Client, Config};

use self::connection::{Connection, Requests};
use self::transport::{Transport, host_key_blob};
use super::common::{Position, Scratch, config, kubectl, kubectl_with_input, position, unique};

/// What a server does with a connection.
pub trait Script: Fn(&mut Connection) -> io::Result<()> + Send + Sync + 'static {}

impl<F: Fn(&mut Connection) -> io::Result<()> + Send + Sync + 'static> Script for F {}

/// A server on a port of 127.0.0.1, and the Pod that leads clients to it. Both go when this does.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    pod: String,
    requests: Requests,
    is_over: Arc<AtomicBool>,
}

impl Server {
    /// Runs `script` for each connection on a thread of its own, and closes the connection when it returns.
    pub fn start(script: impl Script) -> Self {
        assert_eq!(position(), Position::Inside, "only there the way to a Pod's address is a plain connection");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (host_key, address) = (PKey::generate_ed25519().unwrap(), listener.local_addr().unwrap());
        let host_key_line = openssl::base64::encode_block(&host_key_blob(&host_key).unwrap());
        let (requests, is_over) = (Requests::default(), Arc::new(AtomicBool::new(false)));
        let (seen, ends, script) = (Arc::clone(&requests), Arc::clone(&is_over), Arc::new(script));
        thread::spawn(move || {
            for socket in listener.incoming() {
                if ends.load(Ordering::Acquire) {
                    return;
                }
                let (requests, script, host_key) = (Arc::clone(&seen), Arc::clone(&script), host_key.clone());
                let serve = move || -> io::Result<()> {
                    let transport = Transport::new(socket?, host_key)?;
                    script(&mut Connection::new(transport, requests))
                };
                // An error is the client's goodbye.
                thread::spawn(serve);
            }
        });
        let pod = shadow_pod(address.port(), &format!("ssh-ed25519 {host_key_line}"));
        Self { address, pod, requests, is_over }
    }

    /// The name of the sandbox that this server is to the library.
    pub fn name(&self) -> &str {
        &self.pod
    }

    /// The command lines and subsystems that were asked for so far.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        // Wakes the thread that waits for connections.
        drop(TcpStream::connect(self.address));
        kubectl(&["delete", "pod", &self.pod, "--wait=false", "--grace-period=0", "--force"]);
    }
}

/// A client for such servers. Its key is from a file, since a client brings a key of its own into the Pod before it uses it, and
/// this Pod does not run.
pub fn client(set: impl FnOnce(Config) -> Config) -> Client {
    let scratch = Scratch::new();
    let (key, path) = (PKey::generate_ed25519().unwrap(), scratch.path("key"));
    fs::write(&path, key.private_key_to_pem_pkcs8().unwrap()).unwrap();
    Client::new(set(config().transport(sandbox::Transport::Direct)).ssh_key(path)).unwrap()
}

/// Creates a Pod as the library does, which no scheduler takes and which is said to run at this address.
fn shadow_pod(port: u16, host_key: &str) -> String {
    let name = format!("shadow-{}", unique());
    // Whoever reaps takes what a crashed test has left.
    let expiry = (SystemTime::now() + Duration::from_secs(600)).duration_since(UNIX_EPOCH).unwrap();
    let pod = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": {"app.kubernetes.io/managed-by": "sandbox", "sandbox/owner": "hostile"},
            "annotations": {
                "sandbox/ssh-port": port.to_string(),
                "sandbox/ssh-user": "sandbox",
                "sandbox/host-key": host_key,
                "sandbox/expires-at": expiry.as_secs().to_string(),
            },
        },
        "spec": {
            "schedulerName": "nobody",
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "sandbox",
                "image": "none",
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    });
    let status = serde_json::json!({"status": {
        "phase": "Running",
        "podIP": "127.0.0.1",
        "podIPs": [{"ip": "127.0.0.1"}],
        "containerStatuses": [{
            "name": "sandbox", "image": "none", "imageID": "", "ready": true, "restartCount": 0,
            "state": {"running": {}},
        }],
    }});
    kubectl_with_input(&["create", "-f", "-"], &pod.to_string());
    kubectl(&["patch", "pod", &name, "--subresource=status", "-p", &status.to_string()]);
    name
}
