//! The transport `exec`: everything works by it where Kubernetes's port-forward is refused or does not reach into the
//! sandbox, `auto` finds that out once, and what goes wrong on the way is told.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test program")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{Scratch, await_that, beside, client_over, config, create, create_from, kubectl, noise, repository};
use sandbox::{Client, ErrorKind, Sandbox, SandboxSpec, Transport};
use serde_json::json;

const ECHO: u16 = 7001;

/// `kubectl proxy`, which lets all requests through but those for a port-forward.
struct Relay {
    process: Child,
    scratch: Scratch,
}

impl Relay {
    fn new() -> Self {
        let mut kubectl = Command::new(repository().join("target/cluster/programs/kubernetes"));
        kubectl.args(["kubectl", "proxy", "--port=0", "--reject-paths=/portforward$"]);
        let mut process = kubectl.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().rsplit(' ').next().unwrap();
        let namespace = kubectl_namespace();
        let scratch = Scratch::new();
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "relay",
            "contexts": [{"name": "relay", "context": {"cluster": "relay", "namespace": namespace}}],
            "clusters": [{"name": "relay", "cluster": {"server": format!("http://{address}")}}],
        });
        std::fs::write(scratch.path("kubeconfig"), kubeconfig.to_string()).unwrap();
        Self { process, scratch }
    }

    fn client_over(&self, transport: Transport) -> Client {
        Client::new(config().kubeconfig(self.scratch.path("kubeconfig")).transport(transport)).unwrap()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn kubectl_namespace() -> String {
    kubectl(&["config", "view", "--minify", "-o", "jsonpath={..namespace}"])
}

/// How often the API server was asked for this of the Pod.
fn asked(sandbox: &Sandbox, subresource: &str) -> usize {
    let log = std::fs::read_to_string(repository().join("target/cluster/state/logs/audit.log")).unwrap();
    let (name, subresource) = (format!("\"{}\"", sandbox.name()), format!("\"subresource\":\"{subresource}\""));
    log.lines().filter(|line| line.contains(&name) && line.contains(&subresource)).count()
}

/// Commands, files, trees and ports.
fn all_works(client: &Client, sandbox: &Sandbox) {
    assert_eq!(sandbox.execute("uname -n").unwrap().stdout_text().trim(), sandbox.name());
    let bytes = noise(3_000_001);
    let output = sandbox.command("cat").stdin(bytes.clone()).output().unwrap().check().unwrap();
    assert!(output.stdout == bytes);
    let mut child = sandbox.command("cat").spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"to and fro").unwrap();
    assert_eq!(child.wait_with_output().unwrap().stdout, b"to and fro");
    let error = sandbox.shell("echo late; sleep 60").timeout(Duration::from_secs(1)).output().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");

    let scratch = Scratch::new();
    let (local, back) = (scratch.path("local"), scratch.path("back"));
    std::fs::write(&local, &bytes).unwrap();
    client.upload_file(sandbox.name(), &local, "file").unwrap();
    client.download_file(sandbox.name(), "file", &back).unwrap();
    assert!(std::fs::read(&back).unwrap() == bytes);

    sandbox.files().write("ports.py", include_str!("common/ports.py")).unwrap();
    sandbox.command("python3").arg("ports.py").detach("ports").unwrap();
    sandbox.wait_for_port(ECHO, Duration::from_secs(60)).unwrap();
    let mut stream = sandbox.connect(ECHO).unwrap();
    stream.write_all(&bytes[..100_000]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    assert!(back.starts_with(&bytes[..100_000]) && back.ends_with(b"end of 100000"));
}

/// Another client, with another key, finds the same machine.
fn another_may_attach(client: &Client, sandbox: &Sandbox) {
    await_that("the host key to be in its annotation", || sandbox.info().unwrap().host_key.is_some());
    let attached = client.attach(sandbox.name()).unwrap();
    assert_eq!(attached.execute("uname -n").unwrap().stdout_text().trim(), sandbox.name());
    assert_eq!(attached.host_key(), sandbox.host_key());
}

#[test]
fn under_gvisor_all_works_by_exec_and_auto_finds_that_out_once() {
    let spec = SandboxSpec::new().runtime_class("gvisor");
    for transport in [Transport::Exec, Transport::Auto] {
        println!("over {transport:?}");
        let client = client_over(transport);
        let sandbox = create_from(&client, &spec);
        all_works(&client, &sandbox);
        another_may_attach(&client_over(transport), &sandbox);
        assert_eq!(asked(&sandbox, "portforward") > 0, transport == Transport::Auto);
        let next = create_from(&client, &spec);
        assert_eq!(next.execute("echo next").unwrap().stdout, b"next\n");
        assert_eq!(asked(&next, "portforward"), 0);
        // What was found out holds for that runtime class alone.
        let other = create(&client);
        other.execute("true").unwrap();
        assert_eq!(asked(&other, "portforward") > 0, transport == Transport::Auto);
    }
}

#[test]
fn where_port_forward_is_refused_auto_takes_exec() {
    let relay = Relay::new();
    let client = relay.client_over(Transport::Auto);
    let sandbox = create(&client);
    all_works(&client, &sandbox);
    another_may_attach(&relay.client_over(Transport::Auto), &sandbox);
    // The host key is learned by exec, too.
    kubectl(&["annotate", "pod", sandbox.name(), "sandbox/host-key-"]);
    let attached = relay.client_over(Transport::Exec).attach(sandbox.name()).unwrap();
    attached.execute("true").unwrap();
    assert_eq!(attached.host_key(), sandbox.host_key());

    let error = relay.client_over(Transport::Tunnel).create(&SandboxSpec::new()).unwrap_err();
    assert!(error.kind() == ErrorKind::PermissionDenied && error.http_status() == Some(403), "{error}");
    let error = relay.client_over(Transport::Tunnel).attach(sandbox.name()).unwrap().execute("true").unwrap_err();
    assert!(
        error.kind() == ErrorKind::PermissionDenied && error.to_string().contains("can't open a tunnel"),
        "{error}"
    );
}

/// The processes that carry connections.
fn carriers(sandbox: &Sandbox) -> Vec<String> {
    let line = r#"for process in /proc/[0-9]*; do
        case "$(tr '\0' ' ' < $process/cmdline 2> /dev/null)" in "/sandbox-guest connect"*) echo ${process#/proc/};; esac
    done"#;
    beside(sandbox, line).lines().map(str::to_owned).collect()
}

#[test]
fn a_carrier_that_is_killed_is_a_cut_connection() {
    let sandbox = create(&client_over(Transport::Exec));
    sandbox.execute("true").unwrap();
    let found = carriers(&sandbox);
    assert_eq!(found.len(), 1, "{found:?}");
    let error = sandbox.execute(format!("kill -KILL {}; sleep 60", found[0])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
    assert_eq!(sandbox.execute("echo again").unwrap().stdout, b"again\n");
    // No code of its user can look into one.
    let found = carriers(&sandbox);
    let output = sandbox.execute(format!("cat /proc/{0}/environ; ls /proc/{0}/fd", found[0])).unwrap();
    assert!(!output.status.success() && output.stderr_text().matches("Permission denied").count() == 2, "{output:?}");
}

#[test]
fn no_carrier_outlives_its_connection() {
    let client = Client::new(config().transport(Transport::Exec).idle_timeout(Duration::from_secs(5))).unwrap();
    let sandbox = create(&client);
    sandbox.execute("true").unwrap();
    assert_eq!(carriers(&sandbox).len(), 1);
    await_that("the idle session to be closed", || carriers(&sandbox).is_empty());
    // Nor one whose client is killed.
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandbox"));
    command.args(["--set", "transport=exec", "run", sandbox.name(), "--", "sleep", "600"]);
    let mut running = command.stdin(Stdio::null()).spawn().unwrap();
    let sleeps =
        || beside(&sandbox, "cat /proc/[0-9]*/comm 2> /dev/null").lines().filter(|name| *name == "sleep").count();
    await_that("the command to run", || sleeps() == 1);
    assert_eq!(carriers(&sandbox).len(), 1);
    running.kill().unwrap();
    running.wait().unwrap();
    await_that("its connection to end", || carriers(&sandbox).is_empty());
    await_that("the command to end", || sleeps() == 0);
}

#[test]
fn what_the_carrier_says_is_in_the_error() {
    let scratch = Scratch::new();
    let key = scratch.path("key");
    let openssl = Command::new("openssl").args(["genpkey", "-algorithm", "ed25519", "-out"]).arg(&key).status();
    assert!(openssl.unwrap().success());
    let client = || Client::new(config().ssh_key(&key).transport(Transport::Exec)).unwrap();
    let sandbox = create(&client());
    // Nothing listens there.
    kubectl(&["annotate", "--overwrite", "pod", sandbox.name(), "sandbox/ssh-port=2223"]);
    let error = client().attach(sandbox.name()).unwrap().execute("true").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
    assert!(error.to_string().contains("the connection to the guest: Connection refused"), "{error}");
}

#[test]
fn openssh_comes_in_by_exec() {
    let (home, sandbox) = (Scratch::new(), create(&client_over(Transport::Exec)));
    let mut ssh = Command::new(env!("CARGO_BIN_EXE_sandbox"));
    ssh.env("HOME", home.path("")).env_remove("SANDBOX_SSH_KEY").stdin(Stdio::null());
    let output = ssh.args(["--set", "transport=exec", "ssh", sandbox.name(), "echo", "by ssh"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "by ssh\n", "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(asked(&sandbox, "portforward"), 0);
    assert!(Path::new(&home.path(".ssh/sandbox_ed25519")).exists());
}
