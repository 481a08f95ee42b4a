//! What unit tests need that would otherwise come from a cluster.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::cluster::{Phase, PodSnapshot};
use crate::config::{Config, Transport};
use crate::context::Context;
use crate::deadline::Deadline;
use crate::endpoint::Endpoint;
use crate::link::Link;
use crate::ssh::session::{Login, Session};
use crate::ssh::stream::Stream;
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
        runtime_class: None,
        pod_ip: None,
        ssh_port: 22,
        ssh_user: "sandbox".into(),
        host_key: None,
        created_at: None,
        expires_at: None,
        labels: BTreeMap::new(),
        verdict: None,
        login_key: None,
        membership: None,
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

/// A guest on this machine: an ordinary process whose files are in a directory.
pub(crate) struct LocalGuest {
    guest: Child,
    pub(crate) link: Link,
}

impl LocalGuest {
    pub(crate) fn start(directory: &Path, config: Config) -> Self {
        let ctx = context(config.transport(Transport::Direct));
        // Nobody else takes a port that was free just now.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(guest_program());
        command.args(["serve", "--address", "127.0.0.1", "--port", &port.to_string(), "--key"]);
        command.arg(ctx.identity.public().as_str()).args(["--termination-log", "/dev/null"]);
        command.current_dir(directory).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let guest = command.spawn().unwrap();
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        let deadline = Deadline::after(Some(Duration::from_secs(60)));
        let session = loop {
            let login = Login { user: "sandbox", identity: &ctx.identity, host_key: None };
            match Stream::direct(address, deadline).and_then(|stream| Session::log_in(stream, &login, deadline)) {
                Ok(session) => break session,
                Err(e) => {
                    deadline.check("the guest").unwrap_or_else(|_| panic!("{e}"));
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        };
        let mut snapshot = snapshot("test", "test");
        (snapshot.pod_ip, snapshot.ssh_port) = (Some(address.ip()), port);
        snapshot.host_key = Some(session.host_key().as_str().into());
        Self { guest, link: Link::new(Endpoint::new(&ctx, &snapshot, true)) }
    }
}

impl Drop for LocalGuest {
    fn drop(&mut self) {
        let _ = self.guest.kill();
        let _ = self.guest.wait();
    }
}

/// Says where the guest's program is to a test that can't build it.
pub(crate) const GUEST_PROGRAM: &str = "SANDBOX_TEST_GUEST_PROGRAM";

/// The guest's program, built for the tests.
pub(crate) fn guest_program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        if let Some(program) = std::env::var_os(GUEST_PROGRAM) {
            return program.into();
        }
        let test = std::env::current_exe().unwrap();
        let target = test.ancestors().nth(3).unwrap();
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--offline", "--quiet", "--package", "sandbox-guest", "--target-dir"]).arg(target);
        cargo.current_dir(env!("CARGO_MANIFEST_DIR")).env_remove("RUSTFLAGS");
        assert!(cargo.status().unwrap().success());
        target.join("debug/sandbox-guest")
    })
}
