//! An API server that knows the Pods of this program's [`Server`](super::Server)s and answers nothing but `get`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

pub const NAMESPACE: &str = "test";

/// The Pods by their paths.
static PODS: Mutex<BTreeMap<String, Value>> = Mutex::new(BTreeMap::new());
static ADDRESS: LazyLock<SocketAddr> = LazyLock::new(start);

fn start() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for socket in listener.incoming() {
            // An error is the client's end.
            thread::spawn(move || serve(socket?));
        }
    });
    address
}

/// Answers one request and closes the connection.
fn serve(mut socket: TcpStream) -> io::Result<()> {
    socket.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut lines = BufReader::new(socket.try_clone()?).lines();
    let request = lines.next().unwrap_or(Ok(String::new()))?;
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let path = request.strip_prefix("GET ").and_then(|rest| rest.split_once(' ')).map_or("", |(path, _)| path);
    let pod = PODS.lock().unwrap().get(path).cloned();
    let (code, body) = match pod {
        Some(pod) => (200, pod),
        None => (404, json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404})),
    };
    let body = body.to_string();
    write!(socket, "HTTP/1.1 {code} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

fn path(pod: &str) -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/pods/{pod}")
}

/// Adds a running Pod, as the library makes it, whose SSH server has this port of 127.0.0.1.
pub fn add(name: &str, port: u16, host_key: &str) {
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "uid": name,
            "resourceVersion": "1",
            "labels": {"app.kubernetes.io/managed-by": "sandbox", "sandbox/owner": "hostile"},
            "annotations": {
                "sandbox/ssh-port": port.to_string(),
                "sandbox/ssh-user": "sandbox",
                "sandbox/host-key": host_key,
            },
        },
        "spec": {"containers": [{"name": "sandbox", "image": "none"}]},
        "status": {
            "phase": "Running",
            "podIP": "127.0.0.1",
            "containerStatuses": [{
                "name": "sandbox", "image": "none", "imageID": "", "ready": true, "restartCount": 0,
                "state": {"running": {}},
            }],
        },
    });
    PODS.lock().unwrap().insert(path(name), pod);
}

pub fn remove(name: &str) {
    PODS.lock().unwrap().remove(&path(name));
}

/// Writes a kubeconfig that leads here.
pub fn write_kubeconfig(file: &PathBuf) {
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "namespace": NAMESPACE}}],
        "clusters": [{"name": "test", "cluster": {"server": format!("http://{}", *ADDRESS)}}],
    });
    fs::write(file, kubeconfig.to_string()).unwrap();
}
