//! What the tests against a real cluster share.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test program uses a part of it")]

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use sandbox::{Client, Config, Error, ErrorKind, Progress, Sandbox, SandboxSpec, Transport};
use serde_json::{Value, json};

/// Where this process stands: in the cluster's network, or outside of it with only the API server in reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    Inside,
    Outside,
}

pub fn position() -> Position {
    match std::env::var("SANDBOX_TEST_POSITION").as_deref() {
        Ok("inside") => Position::Inside,
        Ok("outside") => Position::Outside,
        _ => panic!("this test needs the test cluster: run `make test`, or see CONTRIBUTING.md for one test alone"),
    }
}

/// The transports to test here: those through the API server are the same from everywhere, so they have their turn
/// where there is nothing else.
pub fn transports() -> &'static [Transport] {
    match position() {
        Position::Inside => &[Transport::Direct, Transport::Auto],
        Position::Outside => &[Transport::Tunnel, Transport::Exec, Transport::Auto],
    }
}

/// Those that do not move to another connection by themselves, for tests that look at the server's process of a
/// connection.
pub fn steady_transports() -> &'static [Transport] {
    let all = transports();
    &all[..all.len() - 1]
}

/// A configuration for tests: what a crashed test leaves behind expires soon.
pub fn config() -> Config {
    position();
    Config::from_env()
        .unwrap()
        .lifetime(Duration::from_secs(600))
        .create_timeout(Duration::from_secs(60))
        .command_timeout(Duration::from_secs(60))
        .transfer_timeout(Duration::from_secs(120))
}

pub fn client_over(transport: Transport) -> Client {
    Client::new(config().transport(transport)).unwrap()
}

pub fn client() -> Client {
    client_over(Transport::Auto)
}

/// A sandbox that goes when the test does.
#[derive(Debug)]
pub struct Guarded(pub Sandbox);

impl Deref for Guarded {
    type Target = Sandbox;

    fn deref(&self) -> &Sandbox {
        &self.0
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // Its end is not waited for; the tests of `delete` are elsewhere.
        let args = ["delete", "pod", self.0.name(), "--wait=false", "--grace-period=1", "--ignore-not-found"];
        let _ = try_kubectl(&args, "");
    }
}

/// Idle and busy SSH sessions.
pub fn session_counts(sandbox: &Sandbox) -> (usize, usize) {
    let counts = sandbox.session_counts();
    (counts.idle, counts.busy)
}

pub fn create(client: &Client) -> Guarded {
    create_from(client, &SandboxSpec::new())
}

pub fn create_from(client: &Client, spec: &SandboxSpec) -> Guarded {
    Guarded(client.create(spec).unwrap())
}

/// Runs `check` over every transport that works here, each time with a new sandbox.
pub fn over_every_transport(check: impl Fn(&Client, &Sandbox)) {
    for &transport in transports() {
        println!("over {transport:?}");
        let client = client_over(transport);
        check(&client, &create(&client));
    }
}

/// Asks until `condition` holds.
pub fn await_that(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "not within 60 s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A program of `examples/`, which cargo builds together with the tests.
pub fn example(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let profile = tests.parent().and_then(Path::parent).unwrap();
    profile.join("examples").join(name)
}

/// What `kubectl` prints; it must succeed.
pub fn kubectl(args: &[&str]) -> String {
    kubectl_with_input(args, "")
}

pub fn kubectl_with_input(args: &[&str], input: &str) -> String {
    let output = try_kubectl(args, input).unwrap();
    assert!(output.status.success(), "kubectl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Also for what tidies up after a test that failed, where another panic would hide all results.
fn try_kubectl(args: &[&str], input: &str) -> std::io::Result<Output> {
    let mut child = Command::new(repository().join("target/cluster/programs/kubernetes"))
        .arg("kubectl")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(input.as_bytes()))?;
    child.wait_with_output()
}

/// A namespace under the restricted standard, which goes when the test does.
#[derive(Debug)]
pub struct Namespace(String);

impl Namespace {
    pub fn new(prefix: &str) -> Self {
        let this = Self(format!("{prefix}-{}", unique()));
        kubectl(&["create", "namespace", &this.0]);
        kubectl(&["label", "namespace", &this.0, "pod-security.kubernetes.io/enforce=restricted"]);
        // Without it no Pod is taken; a controller makes it.
        await_that("its service account", || !this.kubectl(&["get", "serviceaccounts", "-o", "name"]).is_empty());
        this
    }

    pub fn name(&self) -> &str {
        &self.0
    }

    /// What `kubectl` prints about this namespace.
    pub fn kubectl(&self, args: &[&str]) -> String {
        kubectl(&[&["-n", &self.0], args].concat())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = try_kubectl(&["delete", "namespace", &self.0, "--wait=false"], "");
    }
}

/// Closes the sandbox's SSH connections, as an operator does.
pub fn disconnect(sandbox: &Sandbox) {
    kubectl(&["exec", sandbox.name(), "--", "/sandbox-guest", "control", "disconnect"]);
}

/// Whether a call after a cut may end like this: the end of a connection comes through the API server late, and what
/// was sent into it meanwhile may have been carried out.
pub fn is_late_end(transport: Transport, error: &Error) -> bool {
    transport != Transport::Direct && error.kind() == ErrorKind::OutcomeUnknown
}

/// Cuts the connections once, when so many bytes have been moved: for a transfer's progress.
pub fn cut_at<'a>(sandbox: &'a Sandbox, bytes: u64) -> impl FnMut(&Progress<'_>) -> Result<(), Error> + 'a {
    let mut is_cut = false;
    move |progress| {
        if progress.done >= bytes && !std::mem::replace(&mut is_cut, true) {
            disconnect(sandbox);
        }
        Ok(())
    }
}

/// `tracer.c`, compiled.
fn tracer() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let program = std::env::temp_dir().join(format!("sandbox-test-tracer-{}", unique()));
        let mut compiler = Command::new("cc");
        compiler.args("-std=gnu11 -Wall -Wextra -Wpedantic -Werror -O1 -o".split(' ')).arg(&program);
        assert!(compiler.arg(repository().join("tests/common/tracer.c")).status().unwrap().success());
        program
    })
}

/// The processes of a sandbox, whose calls to the system `tracer.c` stops or fails by the names of files. It lets go of
/// them when this goes.
#[derive(Debug)]
pub struct Tracer {
    process: Child,
    held: PathBuf,
    _scratch: Scratch,
}

impl Tracer {
    pub fn of(sandbox: &Sandbox) -> Self {
        let scratch = Scratch::new();
        let held = scratch.path("held");
        let process = start_tracer(&[held.as_os_str(), OsStr::new(sandbox.uid())]);
        Self { process, held, _scratch: scratch }
    }

    /// From now on, calls may stop.
    pub fn arm(&self) {
        std::fs::create_dir(&self.held).unwrap();
    }

    /// Which have stopped.
    pub fn held(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.held).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// All go on, and none stops any more.
    pub fn release(&self) {
        std::fs::rename(&self.held, self.held.with_file_name("released")).unwrap();
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        end_tracer(&mut self.process);
    }
}

/// Connections of a sandbox that stand still. They go on when this goes.
#[derive(Debug)]
pub struct Frozen(Child);

impl Drop for Frozen {
    fn drop(&mut self) {
        end_tracer(&mut self.0);
    }
}

/// Stops the threads of the guest that serve the connections that there are. New ones are served.
pub fn freeze_connections(sandbox: &Sandbox) -> Frozen {
    Frozen(start_tracer(&["-".as_ref(), OsStr::new(sandbox.uid()), "connection".as_ref()]))
}

fn start_tracer(arguments: &[&OsStr]) -> Child {
    let mut process =
        Command::new(tracer()).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut ready = [0; 6];
    process.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    process
}

fn end_tracer(process: &mut Child) {
    drop(process.stdin.take());
    let _ = process.wait();
}

/// The command of a program of this machine whose calls to the system `tracer.c` fails.
pub fn traced(program: &Path, scratch: &Scratch) -> Command {
    let mut command = Command::new(tracer());
    command.arg(scratch.path("held")).arg("--").arg(program);
    command
}

/// What this machine tells of a process; nothing if it has ended.
fn about(pid: i32, name: &str) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default()
}

/// The processes of a sandbox's Pod as this machine has them.
pub fn processes(sandbox: &Sandbox) -> impl Iterator<Item = i32> {
    let all = std::fs::read_dir("/proc").unwrap();
    let pids = all.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    pids.filter(|pid| about(*pid, "cgroup").contains(sandbox.uid()))
}

/// The guest of a sandbox: a process id outside of the sandbox's own namespace.
pub fn guest_process(sandbox: &Sandbox) -> i32 {
    let is_first = |pid| about(pid, "status").lines().any(|line| line.starts_with("NSpid:") && line.ends_with("\t1"));
    let is_guest = |pid: &i32| is_first(*pid) && about(*pid, "cmdline").starts_with("/sandbox-guest\0serve");
    processes(sandbox).find(is_guest).unwrap()
}

/// How many connections the guest serves, those included that have ended and whose last request is still being carried
/// out.
pub fn served_connections(sandbox: &Sandbox) -> usize {
    let threads = std::fs::read_dir(format!("/proc/{}/task", guest_process(sandbox))).unwrap();
    let names = threads.filter_map(|thread| std::fs::read_to_string(thread.unwrap().path().join("comm")).ok());
    names.filter(|name| name == "connection\n").count()
}

/// Whether bytes have arrived at the guest that it has not read.
pub fn waits_to_be_read(sandbox: &Sandbox) -> bool {
    let guest = guest_process(sandbox);
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{guest}/net/{name}")).unwrap();
    // Local and remote address, state, and what is to be sent and to be read.
    let waits = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        fields[1].ends_with(":08AE") && fields[3] == "01" && !fields[4].ends_with(":00000000")
    };
    ["tcp", "tcp6"].into_iter().any(|name| read(name).lines().skip(1).any(waits))
}

/// Sends a signal to a sandbox's guest from outside, where it can't be refused.
pub fn signal_guest(sandbox: &Sandbox, signal: Signal) {
    kill_process(Pid::from_raw(guest_process(sandbox)).unwrap(), signal).unwrap();
}

/// Runs a line in the sandbox without SSH.
pub fn beside(sandbox: &Sandbox, line: &str) -> String {
    kubectl(&["exec", sandbox.name(), "--", "sh", "-c", line])
}

/// The cable of one sandbox: this side of the pair whose other side is its `eth0`. It is plugged in again when this
/// goes.
#[derive(Debug)]
pub struct Cable {
    interface: String,
    ssh: SocketAddr,
}

impl Cable {
    pub fn of(sandbox: &Sandbox) -> Self {
        assert_eq!(position(), Position::Inside, "only there the way to the Pod is a cable of its own");
        let found = sandbox.execute("cat /sys/class/net/eth0/iflink; hostname -i").unwrap().check().unwrap();
        let text = found.stdout_text();
        let (index, address) = text.trim().split_once('\n').unwrap();
        let links = Command::new("ip").args(["-o", "link"]).output().unwrap().stdout;
        let links = String::from_utf8(links).unwrap();
        let prefix = format!("{index}: ");
        let line = links.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap();
        let interface = line.split(['@', ':']).next().unwrap().to_owned();
        Self { interface, ssh: SocketAddr::new(address.parse().unwrap(), 2222) }
    }

    pub fn pull(&self) {
        assert!(self.set("down").success());
    }

    /// Until the system has found the way again, whoever connects may be told that there is none.
    pub fn plug_in(&self) {
        assert!(self.set("up").success());
        await_that("the cable to carry", || TcpStream::connect_timeout(&self.ssh, Duration::from_secs(5)).is_ok());
    }

    fn set(&self, state: &str) -> ExitStatus {
        Command::new("ip").args(["link", "set", "dev", &self.interface, state]).status().unwrap()
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.set("up");
    }
}

/// A Pod with these metadata that never starts, and that each namespace takes.
pub fn gated_pod(metadata: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": metadata,
        "spec": {
            "schedulingGates": [{"name": "example.com/wait"}],
            "containers": [{"name": "sandbox", "image": "x", "securityContext": {
                "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}],
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        },
    })
}

/// The names of the Pods with this label, in any phase.
pub fn pods(selector: &str) -> Vec<String> {
    let names =
        kubectl(&["get", "pods", "-l", selector, "-o", "jsonpath={range .items[*]}{.metadata.name}{\"\\n\"}{end}"]);
    names.lines().map(str::to_owned).collect()
}

/// A value for names that no other test uses.
pub fn unique() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A directory on this machine that goes when the test does.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Self {
        let path = std::env::temp_dir().join(format!("sandbox-test-{}", unique()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Bytes that no compression or text handling leaves alone.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        // xorshift64: fast, and the same in each run.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
