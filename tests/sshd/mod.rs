//! An SSH server for tests, which does with each packet what the test says: the real one can't be made to lie.
//!
//! A test gives [`Server::start`] a script, which is run for each connection and made of the steps of [`Connection`].
//! The library finds the server's address, port and key in a Pod, as everywhere; that Pod is known to an API server of
//! this process only. So these tests need no cluster.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test program uses a part of it")]

mod api;
pub mod cipher;
pub mod commands;
pub mod connection;
pub mod sftp;
pub mod transport;
pub mod wire;

use std::fs;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use openssl::pkey::PKey;
use sandbox::{Client, Config};

use self::connection::{Connection, Requests};
use self::transport::{Transport, host_key_blob};
use super::common::{Scratch, unique};

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
        let pod = format!("hostile-{}", unique());
        api::add(&pod, address.port(), &format!("ssh-ed25519 {host_key_line}"));
        Self { address, pod, requests, is_over }
    }

    /// The name of the sandbox that this server is to the library.
    pub fn name(&self) -> &str {
        &self.pod
    }

    /// What was asked for on command channels so far, as JSON.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        // Wakes the thread that waits for connections.
        drop(TcpStream::connect(self.address));
        api::remove(&self.pod);
    }
}

/// A client for such servers. Its key is from a file, since a client brings a key of its own into the Pod before it
/// uses it, which takes more than this API server does.
pub fn client(set: impl FnOnce(Config) -> Config) -> Client {
    let scratch = Scratch::new();
    let (key, path) = (PKey::generate_ed25519().unwrap(), scratch.path("key"));
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
    file.write_all(&key.private_key_to_pem_pkcs8().unwrap()).unwrap();
    let kubeconfig = scratch.path("kubeconfig");
    api::write_kubeconfig(&kubeconfig);
    let config = Config::new()
        .kubeconfig(kubeconfig)
        .transport(sandbox::Transport::Direct)
        .command_timeout(Duration::from_secs(60))
        .transfer_timeout(Duration::from_secs(120));
    Client::new(set(config).ssh_key(path)).unwrap()
}
