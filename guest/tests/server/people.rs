//! OpenSSH's clients, and what works through them. Those without a `#[test]` are rows of the table in `clients.rs`.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::guest::{Guest, wait_until};

pub(crate) fn bytes(length: u32) -> Vec<u8> {
    (0..length).map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// Ends when it is dropped.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn lines() {
    let guest = Guest::start();
    let output = guest.line("echo out; echo err >&2; pwd; echo $MARK; exit 7");
    let expected = format!("out\n{}\nof the image\n", guest.work().display());
    assert_eq!((output.status.code(), String::from_utf8(output.stdout).unwrap()), (Some(7), expected));
    assert_eq!(output.stderr, b"err\n");
    // OpenSSH's client exits with 255 for a signal.
    assert_eq!(guest.line("kill -KILL $$").status.code(), Some(255));
    assert_eq!(guest.line("no-such-program-at-all").status.code(), Some(127));
    let output =
        guest.ssh().args(["-o", "SetEnv=GREETING=hi", "echo $GREETING; env | grep -c ^SSH_CONNECTION="]).output();
    assert_eq!(output.unwrap().stdout, b"hi\n1\n");
}

pub(crate) fn the_shell() {
    let guest = Guest::start();
    let mut child = guest.ssh().stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"cd /\npwd\nexit 4\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stdout), (Some(4), b"/\n".to_vec()));
}

pub(crate) fn much_through_a_line_in_both_directions() {
    let guest = Guest::start();
    let input = bytes(60_000_000);
    let mut child = guest.ssh().arg("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let sent = input.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&sent).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success() && output.stdout == input);
}

#[test]
fn a_background_process_has_the_streams_as_with_sshd() {
    let guest = Guest::start();
    let output = guest.line("(sleep 0.3; echo later) & echo now; exit 3");
    assert_eq!((output.status.code(), output.stdout), (Some(3), b"now\nlater\n".to_vec()));
}

#[test]
fn the_end_of_a_connection() {
    let guest = Guest::start();
    let mark = guest.mark();
    let line = format!("setsid sleep {mark} & sleep {mark}");
    let child = Running(guest.ssh().arg(line).stdin(Stdio::null()).spawn().unwrap());
    wait_until("the command", || guest.has_process(&mark));
    drop(child);
    wait_until("the end of the command", || !guest.has_process(&mark));
    // On a terminal it is a hang-up, which can be ignored.
    let line = format!("trap '' HUP; echo ready; sleep {mark}");
    let mut child = guest.ssh();
    let mut child = Running(child.arg("-tt").arg(line).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap());
    let mut ready = [0; 5];
    child.0.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    wait_until("the command", || guest.has_process(&mark));
    drop(child);
    let mut again = guest.line(&format!("pgrep -f 'sleep {mark}' | wc -l"));
    again.stdout.retain(|byte| !byte.is_ascii_whitespace());
    assert_ne!(again.stdout, b"0");
    let mark = guest.mark();
    let mut child = guest.ssh();
    let child = Running(
        child.arg("-tt").arg(format!("sleep {mark}")).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap(),
    );
    wait_until("the command", || guest.has_process(&mark));
    drop(child);
    wait_until("the hang-up", || !guest.has_process(&mark));
}

pub(crate) fn a_terminal_with_job_control() {
    let guest = Guest::start();
    let mut child = guest.ssh();
    child.args(["-tt"]).env("TERM", "vt100");
    let mut child = Running(child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap());
    let (mut stdin, mut stdout) = (child.0.stdin.take().unwrap(), child.0.stdout.take().unwrap());
    let mut seen = String::new();
    let mut expect = |text: &str| {
        let mut buffer = [0; 4096];
        while !seen.contains(text) {
            let length = stdout.read(&mut buffer).unwrap();
            assert!(length > 0, "{seen}");
            seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
        seen.drain(..seen.find(text).unwrap() + text.len());
    };
    stdin.write_all(b"PS1=; set -m; stty -echo; echo TERM is $TERM; test -t 1 && echo a terminal\n").unwrap();
    expect("TERM is vt100");
    expect("a terminal");
    let mark = guest.mark();
    stdin.write_all(format!("sleep {mark}\n").as_bytes()).unwrap();
    wait_until("the job", || guest.has_process(&mark));
    stdin.write_all(b"\x1a").unwrap();
    stdin.write_all(b"jobs\n").unwrap();
    expect("topped");
    stdin.write_all(b"kill %1; fg; echo status $?\n").unwrap();
    expect("status");
    stdin.write_all(b"exit 9\n").unwrap();
    let status = child.0.wait().unwrap();
    assert_eq!(status.code(), Some(9));
}

pub(crate) fn scp() {
    copies(&Guest::start(), "scp");
}

/// By the program `scp` in the sandbox, which wants a line in `/etc/passwd` for its user.
pub(crate) fn old_scp() {
    copies(&Guest::root(), "scp -O");
}

fn copies(guest: &Guest, program: &str) {
    let (here, there, back) = (guest.directory.join("here"), guest.work().join("there"), guest.directory.join("back"));
    std::fs::write(&here, bytes(5_000_000)).unwrap();
    let remote = format!("sandbox@127.0.0.1:{}", there.display());
    for (from, to) in [(here.to_str().unwrap(), &*remote), (&*remote, back.to_str().unwrap())] {
        let (program, options) = program.split_once(' ').unwrap_or((program, "-p"));
        let output = guest.client(program, "-P").args([options, from, to]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    assert!(std::fs::read(&back).unwrap() == bytes(5_000_000));
}

pub(crate) fn sftp() {
    let guest = Guest::start();
    let (here, back, batch) =
        (guest.directory.join("here"), guest.directory.join("back"), guest.directory.join("batch"));
    std::fs::write(&here, bytes(5_000_000)).unwrap();
    let text = format!("mkdir d\ncd d\nput {} f\nrename f g\nls -l\nget g {}\nrm g\n", here.display(), back.display());
    std::fs::write(&batch, text).unwrap();
    let output = guest.client("sftp", "-P").arg("-b").arg(&batch).arg("sandbox@127.0.0.1").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("5000000"));
    assert!(std::fs::read(&back).unwrap() == bytes(5_000_000));
    assert!(guest.work().join("d").is_dir());
}

/// The command line of `ssh` for programs that call it.
fn ssh_line(guest: &Guest) -> String {
    let options = "-F none -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR";
    format!("ssh {options} -p {} -o IdentitiesOnly=yes -i {}", guest.port, guest.key().display())
}

fn succeeds(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}

pub(crate) fn git() {
    let guest = Guest::start();
    let own = "git -c user.name=n -c user.email=e commit -q --allow-empty -m";
    let output = guest.line(&format!("git init -q -b main r && cd r && {own} first"));
    assert!(output.status.success(), "{output:?}");
    let clone = guest.directory.join("clone");
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.env("GIT_SSH_COMMAND", ssh_line(&guest)).args(["-c", "user.name=n", "-c", "user.email=e"]);
        succeeds(git.args(arguments).current_dir(&guest.directory));
    };
    let url = format!("ssh://sandbox@127.0.0.1:{}{}", guest.port, guest.work().join("r").display());
    git(&["clone", "-q", &url, "clone"]);
    std::fs::write(clone.join("file"), bytes(1_000_000)).unwrap();
    git(&["-C", "clone", "add", "file"]);
    git(&["-C", "clone", "commit", "-qm", "second"]);
    git(&["-C", "clone", "push", "-q", "origin", "HEAD:refs/heads/other"]);
    let output = guest.line(&format!("cd r && git merge -q other && {own} third && cat file"));
    assert!(output.status.success() && output.stdout == bytes(1_000_000));
    git(&["-C", "clone", "pull", "-q", "--ff-only"]);
}

pub(crate) fn rsync() {
    let guest = Guest::start();
    let (tree, back) = (guest.directory.join("tree"), guest.directory.join("back"));
    std::fs::create_dir(&tree).unwrap();
    let ssh = ssh_line(&guest);
    let at = format!("sandbox@127.0.0.1:{}/", guest.work().display());
    for length in [1_000_000, 1_200_000] {
        std::fs::write(tree.join("file"), bytes(length)).unwrap();
        succeeds(Command::new("rsync").args(["-a", "-e", &ssh]).arg(&tree).arg(&at));
        succeeds(Command::new("rsync").args(["-a", "-e", &ssh, &format!("{at}tree/")]).arg(&back));
        assert!(std::fs::read(back.join("file")).unwrap() == bytes(length));
    }
}

/// A server that gives back what it gets.
fn echo(listener: TcpListener) {
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            std::thread::spawn(move || {
                let mut writer = stream.try_clone().unwrap();
                let _ = std::io::copy(&mut stream, &mut writer);
                let _ = writer.shutdown(std::net::Shutdown::Write);
            });
        }
    });
}

/// The port of one.
pub(crate) fn echo_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    echo(listener);
    port
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Sends bytes and expects them back, with the end after them.
fn check_echo(mut stream: impl Read + Write + Send, mut writer: impl Write + Send, end: impl FnOnce() + Send) {
    let sent = bytes(3_000_000);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            writer.write_all(&sent).unwrap();
            end();
        });
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        assert!(received == sent);
    });
}

fn check_tcp_echo(stream: TcpStream) {
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let (writer, ender) = (stream.try_clone().unwrap(), stream.try_clone().unwrap());
    check_echo(stream, writer, move || ender.shutdown(std::net::Shutdown::Write).unwrap());
}

pub(crate) fn forwarding() {
    let guest = Guest::start();
    let target = echo_server();
    let [local, named, socks, back, nowhere] = std::array::from_fn(|_| free_port());
    let path = guest.work().join("socket");
    let local_path = guest.directory.join("local-socket");
    let mut client = guest.client("ssh", "-p");
    client.args(["-N", "-o", "ExitOnForwardFailure=yes"]);
    client.args(["-L", &format!("{local}:127.0.0.1:{target}"), "-L", &format!("{named}:localhost:{target}")]);
    client.args(["-D", &socks.to_string(), "-R", &format!("{back}:127.0.0.1:{target}")]);
    client.args(["-L", &format!("{nowhere}:127.0.0.1:{}", free_port())]);
    client.args(["-R", &format!("{}:127.0.0.1:{target}", path.display())]);
    client.args(["-L", &format!("{}:{}", local_path.display(), path.display())]).arg("sandbox@127.0.0.1");
    let child = Running(client.stdin(Stdio::null()).spawn().unwrap());
    wait_until("the forwarding", || {
        TcpStream::connect(("127.0.0.1", local)).is_ok() && local_path.exists() && path.exists()
    });
    for port in [local, named, back] {
        check_tcp_echo(TcpStream::connect(("127.0.0.1", port)).unwrap());
    }
    // From a Unix socket here to one in the sandbox, and from there back.
    let stream = UnixStream::connect(&local_path).unwrap();
    let (writer, ender) = (stream.try_clone().unwrap(), stream.try_clone().unwrap());
    check_echo(stream, writer, move || ender.shutdown(std::net::Shutdown::Write).unwrap());
    // SOCKS 5 with a name.
    let mut stream = TcpStream::connect(("127.0.0.1", socks)).unwrap();
    stream.write_all(&[5, 1, 0]).unwrap();
    stream.read_exact(&mut [0; 2]).unwrap();
    stream.write_all(&[&[5, 1, 0, 3, 9][..], b"localhost", &target.to_be_bytes()].concat()).unwrap();
    let mut answer = [0; 10];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer[1], 0);
    check_tcp_echo(stream);
    // Where nobody listens, the connection is closed.
    let mut stream = TcpStream::connect(("127.0.0.1", nowhere)).unwrap();
    let mut received = Vec::new();
    let _ = stream.read_to_end(&mut received);
    assert!(received.is_empty());
    drop(child);
    wait_until("the end of the listeners", || TcpStream::connect(("127.0.0.1", back)).is_err() && !path.exists());
}

#[test]
fn what_is_refused() {
    let guest = Guest::start();
    let output = guest.client("ssh", "-p").arg("root@127.0.0.1").arg("true").output().unwrap();
    assert_eq!(output.status.code(), Some(255));
    // No agent is forwarded: code in the sandbox could use its keys.
    let output = guest.ssh().args(["-A", "echo \"<$SSH_AUTH_SOCK>\""]).output().unwrap();
    assert_eq!(output.stdout, b"<>\n");
    let output = guest.ssh().args(["-s", "no-such-subsystem"]).output().unwrap();
    assert!(!output.status.success());
}
