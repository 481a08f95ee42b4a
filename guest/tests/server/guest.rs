//! A guest for a test.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

/// The user that the guest runs as if it is not root.
pub(crate) const USER: u32 = 12345;
/// What takes longer has failed.
pub(crate) const TEST_TIMEOUT: Duration = Duration::from_secs(60);

/// A running guest. Ends when it is dropped.
pub(crate) struct Guest {
    outer: Child,
    /// Its number outside of its namespace.
    pub(crate) pid: u32,
    pub(crate) port: u16,
    pub(crate) directory: PathBuf,
    pub(crate) log: Arc<Mutex<String>>,
}

/// How a guest is started.
#[derive(Default)]
pub(crate) struct Setting {
    /// As root, who may do everything. Otherwise as a plain user with `no_new_privs`, as in a restricted Pod.
    pub(crate) as_root: bool,
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
}

impl Guest {
    pub(crate) fn start() -> Self {
        Self::with(Setting::default())
    }

    pub(crate) fn root() -> Self {
        Self::with(Setting { as_root: true, ..Setting::default() })
    }

    pub(crate) fn with_arguments(arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Self::with(Setting { arguments, ..Setting::default() })
    }

    pub(crate) fn with(setting: Setting) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("sandbox-guest-test-{}-{number}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        let work = directory.join("work");
        fs::create_dir(&work).unwrap();
        if !setting.as_root {
            std::os::unix::fs::chown(&work, Some(USER), Some(USER)).unwrap();
        }
        // As the init container does it: execute-only, and the user can't change it.
        let status = Command::new(env!("CARGO_BIN_EXE_sandbox-guest")).arg("install").arg(&directory).status().unwrap();
        assert!(status.success());
        let key = directory.join("key");
        let status =
            Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status().unwrap();
        assert!(status.success());
        let public = fs::read_to_string(key.with_extension("pub")).unwrap();
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--mount-proc", "--"]);
        if !setting.as_root {
            let user = USER.to_string();
            command.args(["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups", "--no-new-privs"]);
            command.args(["--inh-caps=-all", "--bounding-set=-all"]);
        }
        command.arg(directory.join("sandbox-guest"));
        command.args(["serve", "--port", "0", "--address", "127.0.0.1", "--key", public.trim()]);
        command.arg("--termination-log").arg(directory.join("work/termination-log")).args(&setting.arguments);
        fs::write(work.join("termination-log"), "").unwrap();
        if !setting.as_root {
            std::os::unix::fs::chown(work.join("termination-log"), Some(USER), Some(USER)).unwrap();
        }
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin").env("MARK", "of the image");
        command.envs(setting.environment).current_dir(&work).process_group(0);
        let mut outer = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (sender, receiver) = mpsc::channel();
        let (stderr, kept) = (outer.stderr.take().unwrap(), Arc::clone(&log));
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let port = line.strip_prefix("sandbox-guest: listening on port ").map(|rest| {
                    let port = rest.split(',').next().unwrap();
                    port.parse().unwrap()
                });
                kept.lock().unwrap().push_str(&(line + "\n"));
                if let Some(port) = port {
                    let _ = sender.send(port);
                }
            }
        });
        let Ok(port) = receiver.recv_timeout(TEST_TIMEOUT) else { panic!("no guest: {}", log.lock().unwrap()) };
        let pid = child_of(outer.id()).unwrap();
        Self { outer, pid, port, directory, log }
    }

    /// The directory that commands begin in.
    pub(crate) fn work(&self) -> PathBuf {
        self.directory.join("work")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.directory.join("key")
    }

    /// One of OpenSSH's clients, with options for this guest; `port` is the option for the port.
    pub(crate) fn client(&self, program: &str, port: &str) -> Command {
        let mut command = Command::new(program);
        command.args(["-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]);
        command.args(["-o", "LogLevel=ERROR", "-o", "IdentitiesOnly=yes", "-i"]).arg(self.key());
        command.arg(port).arg(self.port.to_string()).env_remove("SSH_AUTH_SOCK");
        command
    }

    /// The guest's host key, as in `known_hosts`.
    pub(crate) fn host_key(&self) -> String {
        let log = self.log.lock().unwrap();
        let key = log.lines().find_map(|line| Some(line.split_once(", host key ")?.1.to_owned()));
        key.unwrap()
    }

    pub(crate) fn ssh(&self) -> Command {
        let mut command = self.client("ssh", "-p");
        command.arg("sandbox@127.0.0.1");
        command
    }

    /// Runs a line by OpenSSH's client.
    pub(crate) fn line(&self, line: &str) -> Output {
        self.ssh().arg(line).stdin(Stdio::null()).output().unwrap()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.outer.try_wait().unwrap().is_some()
    }

    /// Waits for the guest's end, and gives its exit code.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let until = Instant::now() + TEST_TIMEOUT;
        loop {
            if let Some(status) = self.outer.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < until, "the guest runs on");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn termination_log(&self) -> String {
        fs::read_to_string(self.work().join("termination-log")).unwrap()
    }

    /// Runs a program in the guest's namespaces as the kubelet does it: with no parent in there.
    pub(crate) fn run_from_outside(&self, program: &Path, arguments: &[&str], input: &str) -> Output {
        let mut child = Command::new("nsenter")
            .args(["--target", &self.pid.to_string(), "--pid", "--mount"])
            .args(["--setuid", &USER.to_string(), "--setgid", &USER.to_string(), "--"])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// Whether a process that has this among its arguments is alive in the guest's namespace.
    pub(crate) fn has_process(&self, argument: &str) -> bool {
        let namespace = fs::read_link(format!("/proc/{}/ns/pid", self.pid)).unwrap();
        fs::read_dir("/proc").unwrap().flatten().any(|entry| {
            let path = entry.path();
            fs::read_link(path.join("ns/pid")).is_ok_and(|of| of == namespace)
                && fs::read(path.join("cmdline"))
                    .is_ok_and(|line| line.split(|byte| *byte == 0).any(|part| part == argument.as_bytes()))
        })
    }

    /// A number that no other process has among its arguments, for `sleep`.
    pub(crate) fn mark(&self) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        format!("{}.{}", 100_000 + NUMBER.fetch_add(1, Ordering::Relaxed), std::process::id())
    }

    /// Bytes of memory that the guest itself has.
    pub(crate) fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix("kB").unwrap().trim().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Ok(Some(status)) = self.outer.try_wait()
        {
            eprintln!("the guest has ended: {status}");
        }
        if let Some(pid) = child_of(self.outer.id()) {
            let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
        }
        let _ = self.outer.wait();
        let _ = fs::remove_dir_all(&self.directory);
        if std::thread::panicking() {
            eprintln!("the guest's log:\n{}", self.log.lock().unwrap());
        }
    }
}

fn child_of(pid: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

/// Waits until something is so.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + TEST_TIMEOUT;
    while !is_so() {
        assert!(Instant::now() < until, "{what} has not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}
