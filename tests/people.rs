//! People with OpenSSH's programs, and `sandbox forward`.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test program")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use common::{Guarded, Scratch, await_that, client, config, create, noise};
use rustix::process::{Pid, Signal, kill_process};
use sandbox::{Client, ErrorKind, Sandbox};

const ECHO: u16 = 7001;
const LONG: Duration = Duration::from_secs(60);

/// Somebody with a home directory, whose ssh knows sandboxes.
struct Person {
    home: Scratch,
    box_: Guarded,
}

impl Person {
    fn new() -> Self {
        let person = Self { home: Scratch::new(), box_: create(&client()) };
        let written = person.sandbox(&["ssh-config", "--write"]);
        assert!(written.status.success(), "{written:?}");
        person
    }

    fn host(&self) -> String {
        format!("{}.sandbox", self.box_.name())
    }

    fn of(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env("HOME", self.home.path("")).current_dir(self.home.path("")).env_remove("SANDBOX_SSH_KEY");
        command
    }

    fn sandbox(&self, args: &[&str]) -> Output {
        self.of(env!("CARGO_BIN_EXE_sandbox")).args(args).stdin(Stdio::null()).output().unwrap()
    }

    /// `ssh` itself looks for its configuration in the home directory of /etc/passwd only.
    fn config(&self) -> PathBuf {
        self.home.path(".ssh/config")
    }

    fn ssh(&self, args: &[&str], input: &[u8]) -> Output {
        let mut ssh = self.of("ssh");
        ssh.arg("-F").arg(self.config()).args(args);
        let mut child = ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || stdin.write_all(input));
            child.wait_with_output().unwrap()
        })
    }

    /// What a program that uses ssh prints; it must succeed.
    fn succeeds(&self, command: &mut Command) -> String {
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// ssh as a program of its own that forwards, until it is dropped.
    fn tunnel(&self, args: &[&str]) -> Running {
        let mut ssh = self.of("ssh");
        ssh.arg("-F").arg(self.config()).args(["-N", "-o", "ExitOnForwardFailure=yes"]).args(args).arg(self.host());
        Running(ssh.stdin(Stdio::null()).spawn().unwrap())
    }
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serve(sandbox: &Sandbox) {
    sandbox.files().write("ports.py", include_str!("common/ports.py")).unwrap();
    sandbox.command("python3").arg("ports.py").detach("ports").unwrap();
    sandbox.wait_for_port(Path::new("/home/sandbox/echo.sock"), LONG).unwrap();
}

fn echoes(mut stream: impl Read + Write) {
    stream.write_all(b"to and fro").unwrap();
    let mut back = [0; 10];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"to and fro");
}

/// A port that nobody has just now.
fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

fn connected(port: u16) -> TcpStream {
    await_that("ssh to listen", || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap()
}

/// Puts a program of this machine with its libraries into the sandbox, where this is the path of a script that runs it.
fn lend(sandbox: &Sandbox, program: &str, names: &[&str]) {
    let listed = Command::new("ldd").arg(program).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let libraries = listed.lines().filter_map(|line| line.split_once("=> ")?.1.split(' ').next());
    sandbox.execute("mkdir -p lent bin").unwrap();
    for file in libraries.chain([program]).filter(|file| !file.contains("/libc.so")) {
        let name = Path::new(file).file_name().unwrap();
        sandbox.upload_file(std::fs::canonicalize(file).unwrap(), Path::new("lent").join(name)).unwrap();
    }
    sandbox.execute("chmod +x lent/*").unwrap();
    for name in names {
        let start = Path::new(program).file_name().unwrap().to_str().unwrap();
        let script = format!(
            "#!/bin/bash\nexport GIT_EXEC_PATH=$HOME/bin LD_LIBRARY_PATH=$HOME/lent\nexec -a {name} $HOME/lent/{start} \"$@\"\n"
        );
        sandbox.files().write(format!("bin/{name}"), script).unwrap();
    }
    sandbox.execute("chmod +x bin/*").unwrap();
}

#[test]
fn ssh_scp_and_sftp_work_as_they_are() {
    let person = Person::new();
    let host = person.host();
    let output = person.ssh(&[&host, "echo $HOME; cat; exit 3"], b"input");
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(3), &b"/home/sandbox\ninput"[..]), "{output:?}");
    // Not a word beside what the command says, and nothing in known_hosts.
    assert!(output.stderr.is_empty(), "{output:?}");
    assert!(!person.home.path(".ssh/known_hosts").exists());
    let much = noise(20 << 20);
    let output = person.ssh(&[&host, "cat"], &much);
    assert!(output.status.success() && output.stdout == much);

    std::fs::write(person.home.path("file"), &much).unwrap();
    person.succeeds(person.of("scp").arg("-qF").arg(person.config()).args(["file", &format!("{host}:there")]));
    person.succeeds(person.of("scp").arg("-qF").arg(person.config()).args([&format!("{host}:there"), "back"]));
    assert!(std::fs::read(person.home.path("back")).unwrap() == much);
    std::fs::write(person.home.path("batch"), "put file again\nrename again renamed\nls renamed\n").unwrap();
    let listed = person.succeeds(person.of("sftp").arg("-qF").arg(person.config()).args(["-b", "batch", &host]));
    assert!(listed.lines().any(|line| line.trim() == "renamed"), "{listed}");

    // The command's own way to ssh needs no configuration.
    std::fs::remove_file(person.config()).unwrap();
    let output = person.sandbox(&["ssh", person.box_.name(), "-q", "echo out; echo err >&2; exit 4"]);
    assert_eq!((output.status.code(), &output.stdout[..], &output.stderr[..]), (Some(4), &b"out\n"[..], &b"err\n"[..]));
    let output = person.sandbox(&["ssh", "no-such-box", "true"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(255));
    assert!(said.starts_with("sandbox: ") && said.contains("no-such-box"), "{said}");
}

#[test]
fn rsync_and_git_work_over_it() {
    let person = Person::new();
    let host = person.host();
    lend(&person.box_, "/usr/bin/rsync", &["rsync"]);
    lend(&person.box_, "/usr/bin/git", &["git", "git-upload-pack", "git-receive-pack"]);
    let ssh = format!("ssh -F {}", person.config().display());
    std::fs::create_dir_all(person.home.path("tree/below")).unwrap();
    std::fs::write(person.home.path("tree/below/file"), noise(3 << 20)).unwrap();
    let at = format!("{host}:copy/");
    person.succeeds(person.of("rsync").args(["-a", "--rsync-path=bin/rsync", "-e", &ssh, "tree/", &at]));
    person.succeeds(person.of("rsync").args(["-a", "--rsync-path=bin/rsync", "-e", &ssh, &at, "back"]));
    assert!(std::fs::read(person.home.path("back/below/file")).unwrap() == noise(3 << 20));

    let git = |args: &[&str]| {
        let mut git = person.of("git");
        git.env("GIT_SSH_COMMAND", &ssh).args([
            "-c",
            "user.name=a",
            "-c",
            "user.email=a",
            "-c",
            "init.defaultBranch=main",
        ]);
        person.succeeds(git.args(args))
    };
    person.box_.execute("bin/git init -q --bare project").unwrap().check().unwrap();
    git(&["init", "-q", "work"]);
    std::fs::write(person.home.path("work/file"), noise(1 << 20)).unwrap();
    git(&["-C", "work", "add", "file"]);
    git(&["-C", "work", "commit", "-qm", "first"]);
    let url = format!("{host}:project");
    git(&["-C", "work", "push", "-q", "--receive-pack=bin/git-receive-pack", &url, "HEAD:refs/heads/main"]);
    git(&["clone", "-q", "--upload-pack=bin/git-upload-pack", "-b", "main", &url, "clone"]);
    assert!(std::fs::read(person.home.path("clone/file")).unwrap() == noise(1 << 20));
}

#[test]
fn ports_are_forwarded_by_ssh_as_an_editor_wants_it() {
    let person = Person::new();
    serve(&person.box_);
    let (local, socks, socket) = (free_port(), free_port(), person.home.path("local.sock"));
    let _ssh = person.tunnel(&[
        "-L",
        &format!("{local}:127.0.0.1:{ECHO}"),
        "-D",
        &socks.to_string(),
        "-L",
        &format!("{}:/home/sandbox/echo.sock", socket.display()),
    ]);
    echoes(connected(local));
    echoes(UnixStream::connect(&socket).unwrap());
    let mut stream = connected(socks);
    stream.write_all(&[5, 1, 0]).unwrap();
    let mut answer = [0; 10];
    stream.read_exact(&mut answer[..2]).unwrap();
    assert_eq!(answer[..2], [5, 0]);
    let [high, low] = ECHO.to_be_bytes();
    stream.write_all(&[5, 1, 0, 1, 127, 0, 0, 1, high, low]).unwrap();
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer[..2], [5, 0]);
    echoes(stream);
}

#[test]
fn what_an_editor_installs_runs_on() {
    let person = Person::new();
    let host = person.host();
    // A script for bash on the standard input, which unpacks an archive into a directory of the home and starts a
    // server of it.
    std::fs::create_dir(person.home.path("server")).unwrap();
    std::fs::write(person.home.path("server/run.py"), include_str!("common/ports.py")).unwrap();
    let archive = person.of("tar").args(["-cz", "server"]).output().unwrap().stdout;
    let unpacked = person.ssh(&[&host, "mkdir -p ~/.editor && tar -xz -C ~/.editor"], &archive);
    assert!(unpacked.status.success(), "{unpacked:?}");
    let script =
        b"set -e\ncd ~/.editor/server\nnohup python3 run.py > log 2>&1 < /dev/null &\necho \"listening on $$\"\n";
    let started = person.ssh(&["-T", &host, "bash"], script);
    assert!(started.status.success() && started.stdout.starts_with(b"listening on "), "{started:?}");
    // That connection is over; the server is not.
    person.box_.wait_for_port(ECHO, LONG).unwrap();
    let local = free_port();
    let _ssh = person.tunnel(&["-L", &format!("{local}:localhost:{ECHO}")]);
    echoes(connected(local));
    // A terminal, too.
    let on_terminal = person.ssh(&["-tt", &host, "tty && stty size"], b"");
    assert!(String::from_utf8_lossy(&on_terminal.stdout).contains("/dev/pts/"), "{on_terminal:?}");
}

#[test]
fn the_users_configuration_gets_one_line() {
    let person = Person::new();
    let (config, own) = (person.config(), person.home.path(".ssh/sandbox.conf"));
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    let include = format!("Include \"{}\"\n", own.display());
    assert_eq!(read(&config), include);
    for (file, mode) in [(&config, 0o600), (&own, 0o600), (&person.home.path(".ssh/sandbox_ed25519"), 0o600)] {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, mode, "{}", file.display());
    }
    // Once more changes nothing, and the key is the same.
    let block = read(&own);
    assert!(person.sandbox(&["ssh-config", "--write"]).status.success());
    assert_eq!((read(&config), read(&own)), (include.clone(), block.clone()));
    // What is printed is what is written, below its first line.
    let printed = person.sandbox(&["ssh-config"]);
    assert_eq!(String::from_utf8(printed.stdout).unwrap(), block.split_once('\n').unwrap().1);
    // The user's own lines stay, behind a link too, and the line is shown before it is there.
    let real = person.home.path("dotfiles");
    std::fs::write(&real, "Host a\n  User b\n").unwrap();
    std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o640)).unwrap();
    std::fs::remove_file(&config).unwrap();
    symlink(&real, &config).unwrap();
    let written = person.sandbox(&["ssh-config", "--write", "-n", "elsewhere", "--set", "transport=tunnel"]);
    let said = String::from_utf8(written.stdout).unwrap();
    assert!(said.contains(&format!("{} gets this line on top: {}", real.display(), include.trim_end())), "{said}");
    assert_eq!((read(&real), config.is_symlink()), (format!("{include}Host a\n  User b\n"), true));
    assert_eq!(real.metadata().unwrap().permissions().mode() & 0o777, 0o640);
    assert!(read(&own).contains("'--namespace' 'elsewhere'") && read(&own).contains("'--set' 'transport=tunnel'"));
    // ssh understands it.
    let shown = person.succeeds(person.of("ssh").arg("-F").arg(&config).args(["-G", "box.sandbox"]));
    assert!(shown.lines().any(|line| line == "stricthostkeychecking true"), "{shown}");
    // Somebody else's file is not overwritten.
    std::fs::write(&own, "mine").unwrap();
    let refused = person.sandbox(&["ssh-config", "--write"]);
    assert_eq!((refused.status.code(), read(&own)), (Some(1), "mine".to_owned()));
}

#[test]
fn forward_tells_its_ports_and_each_connection() {
    let person = Person::new();
    serve(&person.box_);
    let start = |args: &[&str]| {
        let mut forward = person.of(env!("CARGO_BIN_EXE_sandbox"));
        forward.arg("forward").arg(person.box_.name()).args(args);
        forward.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let socket = person.home.path("echo.sock");
    let mut forward = start(&["-v", "0:7001", &format!("{}:/home/sandbox/echo.sock", socket.display()), ":7999"]);
    let mut lines = BufReader::new(forward.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut local = |target: &str| {
        let line = lines.next().unwrap();
        line.strip_suffix(&format!(" -> {target}")).unwrap_or_else(|| panic!("{line}")).to_owned()
    };
    let (echo, path, nobody) = (local("7001"), local("/home/sandbox/echo.sock"), local("7999"));
    assert_eq!(Path::new(&path), socket);
    let stream = TcpStream::connect(&echo).unwrap();
    let from = stream.local_addr().unwrap();
    echoes(stream);
    echoes(UnixStream::connect(&socket).unwrap());
    assert!(TcpStream::connect(&nobody).unwrap().read(&mut [0]).is_err());
    kill_process(Pid::from_child(&forward), Signal::TERM).unwrap();
    let said = forward.wait_with_output().unwrap();
    let told = String::from_utf8(said.stderr).unwrap();
    assert_eq!(said.status.code(), Some(143), "{told}");
    assert!(told.contains(&format!("connection from {from} is there")), "{told}");
    assert!(told.contains("refused"), "{told}");
    assert!(!socket.exists() && TcpStream::connect(&echo).is_err());

    // It ends with the sandbox, and says why.
    let mut forward = start(&["--json", ":7001"]);
    let mut line = String::new();
    let mut out = BufReader::new(forward.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    assert!(line.contains("\"target\":\"7001\""), "{line}");
    person.box_.delete().unwrap();
    let said = forward.wait_with_output().unwrap();
    assert_eq!(said.status.code(), Some(1));
    assert!(String::from_utf8(said.stderr).unwrap().contains("not_found"));
    // Ports that can't be.
    let refused = start(&["http"]).wait_with_output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
}

#[test]
fn somebody_else_logs_in_for_a_time() {
    let person = Person::new();
    let (host, name) = (person.host(), person.box_.name());
    let [private, public, theirs] = ["colleague", "colleague.pub", "theirs"].map(|name| person.home.path(name));
    let keygen = ["-q", "-t", "ecdsa", "-N", "", "-C", "a colleague", "-f"];
    person.succeeds(person.of("ssh-keygen").args(keygen).arg(&private));
    // The same way to the sandbox with another key.
    let settings = std::fs::read_to_string(person.home.path(".ssh/sandbox.conf")).unwrap();
    let is_key = |line: &&str| line.trim_start().starts_with("IdentityFile ");
    let mut lines: Vec<_> = settings.lines().filter(|line| !is_key(line)).map(str::to_owned).collect();
    lines.push(format!("    IdentityFile \"{}\"", private.display()));
    std::fs::write(&theirs, lines.join("\n")).unwrap();
    let ssh = |line: &str| {
        let mut ssh = person.of("ssh");
        ssh.arg("-F").arg(&theirs).args([&host, line]).stdin(Stdio::null());
        ssh
    };
    let is_let_in = || ssh("echo in").output().unwrap().stdout == b"in\n";
    assert!(!is_let_in());
    let key = |args: &[&str]| person.sandbox(&[&["key"], args].concat());
    let file = public.to_str().unwrap();
    let added = key(&["add", name, file, "--lifetime", "1h"]);
    assert!(added.status.success() && is_let_in(), "{added:?}");
    let listed = String::from_utf8(key(&["ls", name]).stdout).unwrap();
    let line = std::fs::read_to_string(&public).unwrap();
    assert!(listed.ends_with(&format!("Z  {line}")) && listed.lines().count() == 1, "{listed}");

    let mut open = Running(ssh("echo there; sleep 1301").stdout(Stdio::piped()).spawn().unwrap());
    let mut out = BufReader::new(open.0.stdout.take().unwrap());
    out.read_line(&mut String::new()).unwrap();
    let removed = key(&["rm", name, file]);
    assert!(removed.status.success(), "{removed:?}");
    assert!(!open.0.wait().unwrap().success() && !is_let_in());
    assert_eq!(key(&["rm", name, file]).status.code(), Some(1));

    person.box_.authorize_key(&line, Duration::from_secs(1)).unwrap();
    await_that("the key's time to be over", || !is_let_in() && person.box_.authorized_keys().unwrap().is_empty());
    // The client's own key is not for that.
    let own = std::fs::read_to_string(person.home.path(".ssh/sandbox_ed25519.pub")).unwrap();
    assert_eq!(person.box_.authorize_key(&own, None).unwrap_err().kind(), ErrorKind::Conflict);
    assert!(!person.box_.revoke_key(&own).unwrap());

    // Whoever was let in lets nobody else in.
    let ed25519 = person.home.path("second");
    person.succeeds(person.of("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&ed25519));
    let second = std::fs::read_to_string(person.home.path("second.pub")).unwrap();
    person.box_.authorize_key(&second, None).unwrap();
    let guest = Client::new(config().ssh_key(&ed25519)).unwrap().attach(name).unwrap();
    assert_eq!(guest.execute("echo in").unwrap().stdout, b"in\n");
    assert_eq!(guest.authorize_key(&line, None).unwrap_err().kind(), ErrorKind::PermissionDenied);
    assert_eq!(guest.revoke_key(&second).unwrap_err().kind(), ErrorKind::PermissionDenied);
    assert_eq!(guest.authorized_keys().unwrap().len(), 1);
}
