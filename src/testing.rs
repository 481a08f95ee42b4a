//! What unit tests need that would otherwise come from a cluster.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::cluster::{Phase, PodSnapshot};
use crate::config::{Config, Transport};
use crate::context::Context;
use crate::endpoint::Endpoint;
use crate::link::Link;
use crate::text;

/// A context whose API server never answers.
pub(crate) fn context(config: Config) -> Arc<Context> {
    let file = std::env::temp_dir().join(format!("sandbox-test-{}", text::nonce()));
    let kubeconfig = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "namespace": "test"}}],
        // Nothing listens on the port `tcpmux`.
        "clusters": [{"name": "test", "cluster": {"server": "http://127.0.0.1:1"}}],
    });
    std::fs::write(&file, kubeconfig.to_string()).unwrap();
    let context = Context::new(config.kubeconfig(file.clone())).unwrap();
    std::fs::remove_file(file).unwrap();
    context
}

/// A running Pod.
pub(crate) fn snapshot(name: &str, uid: &str) -> PodSnapshot {
    PodSnapshot {
        name: name.into(),
        namespace: "test".into(),
        uid: uid.into(),
        resource_version: "1".into(),
        phase: Phase::Running,
        owner: "test".into(),
        nonce: String::new(),
        image: String::new(),
        guest: String::new(),
        node: None,
        pod_ip: None,
        ssh_port: 22,
        ssh_user: "sandbox".into(),
        host_key: None,
        created_at: None,
        expires_at: None,
        labels: BTreeMap::new(),
        verdict: None,
    }
}

/// A link to an SSH server at this address that shows this host key, and knows the client's key.
pub(crate) fn link_to(address: SocketAddr, host_key: &str, config: Config) -> Link {
    let mut snapshot = snapshot("test", "test");
    snapshot.pod_ip = Some(address.ip());
    snapshot.ssh_port = address.port();
    snapshot.host_key = Some(host_key.into());
    Link::new(Endpoint::new(&context(config.transport(Transport::Direct)), &snapshot, true))
}
