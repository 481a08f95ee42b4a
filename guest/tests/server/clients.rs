//! Other people's clients, as they are. The table that this prints says what each of them did.

use std::io::{Read, Write};
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::client::connect;
use crate::guest::Guest;
use crate::people::{self, Running, bytes};
use crate::python;

/// A client, what it does, and that.
type Row = (&'static str, &'static str, fn());

const ROWS: &[Row] = &[
    ("OpenSSH's ssh", "lines, exit codes, signals, variables", people::lines),
    ("OpenSSH's ssh", "a shell on the standard input", people::the_shell),
    ("OpenSSH's ssh", "60 MB through a line both ways", people::much_through_a_line_in_both_directions),
    ("OpenSSH's ssh -tt", "a terminal with job control", people::a_terminal_with_job_control),
    ("OpenSSH's ssh -tt", "vim", vim),
    ("OpenSSH's ssh", "-L, -D, -R, also of Unix sockets", people::forwarding),
    ("OpenSSH's scp", "a file up and down, by SFTP", people::scp),
    ("OpenSSH's scp -O", "the same by the old protocol", people::old_scp),
    ("OpenSSH's sftp", "a batch", people::sftp),
    ("rsync", "a tree up and down, a second time too", people::rsync),
    ("git", "clone, push, fetch", people::git),
    ("libssh2", "commands, a terminal, files", libssh2),
    ("paramiko", "commands, a terminal, files, forwarding", paramiko),
    ("asyncssh", "commands, a terminal, files, forwarding both ways", asyncssh),
    ("x/crypto/ssh", "commands, a terminal, forwarding both ways", || go("ssh")),
    ("pkg/sftp", "files, many requests at a time", || go("sftp")),
];

#[test]
fn every_client_works() {
    let mut wrong = Vec::new();
    for (client, what, works) in ROWS {
        let outcome = catch_unwind(works);
        println!("{client:<18} {what:<52} {}", if outcome.is_ok() { "works" } else { "FAILS" });
        if outcome.is_err() {
            wrong.push((client, what));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// Writes a file, and ends with what vim ends with.
fn vim() {
    let guest = Guest::start();
    let mut child = guest.ssh();
    child.args(["-tt", "vim -u NONE -n note"]).env("TERM", "xterm");
    let mut child = Running(child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap());
    let (mut stdin, mut stdout) = (child.0.stdin.take().unwrap(), child.0.stdout.take().unwrap());
    let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
    // The screen is its own before a key is typed.
    while !String::from_utf8_lossy(&seen).contains("note\"") {
        let length = stdout.read(&mut buffer).unwrap();
        assert!(length > 0, "{}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&buffer[..length]);
    }
    stdin.write_all(b"ifirst\rsecond\x1b:w\r:cquit 5\r").unwrap();
    stdout.read_to_end(&mut seen).unwrap();
    assert_eq!(child.0.wait().unwrap().code(), Some(5));
    assert_eq!(std::fs::read(guest.work().join("note")).unwrap(), b"first\nsecond\n");
}

fn libssh2() {
    let guest = Guest::start();
    let session = connect(&guest);
    let run = |line: &str, input: &[u8], terminal: bool| {
        let mut channel = session.channel_session().unwrap();
        if terminal {
            channel.request_pty("vt100", None, Some((90, 33, 0, 0))).unwrap();
        }
        channel.exec(line).unwrap();
        channel.write_all(input).unwrap();
        channel.send_eof().unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        channel.read_to_end(&mut out).unwrap();
        channel.stderr().read_to_end(&mut err).unwrap();
        channel.wait_close().unwrap();
        (out, err, channel.exit_status().unwrap())
    };
    assert_eq!(run("cat; echo err >&2; exit 7", b"input", false), (b"input".to_vec(), b"err\n".to_vec(), 7));
    assert_eq!(run("stty size", b"", true).0, b"33 90\r\n");
    let sftp = session.sftp().unwrap();
    let (name, other) = (Path::new("file"), Path::new("other"));
    sftp.create(name).unwrap().write_all(&bytes(3_000_000)).unwrap();
    sftp.rename(name, other, None).unwrap();
    let mut back = Vec::new();
    sftp.open(other).unwrap().read_to_end(&mut back).unwrap();
    assert!(back == bytes(3_000_000));
    assert!(sftp.readdir(Path::new(".")).unwrap().iter().any(|(path, stat)| path.ends_with("other") && stat.is_file()));
    sftp.unlink(other).unwrap();
    assert!(sftp.stat(other).is_err());
}

/// Runs a program with the port, the private key, the host key, and the port of a server that gives back what it gets.
fn run(command: &mut Command, arguments: &[&str]) -> Output {
    let guest = Guest::start();
    let echo = people::echo_server();
    command.arg(guest.port.to_string()).arg(guest.key()).arg(guest.host_key()).arg(echo.to_string());
    command.args(arguments).output().unwrap()
}

fn succeeds(command: &mut Command, arguments: &[&str]) {
    let output = run(command, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn beside(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(path)
}

fn paramiko() {
    succeeds(Command::new(python::environment()).arg(beside("server/python/paramiko_client.py")), &[]);
}

fn asyncssh() {
    succeeds(Command::new(python::environment()).arg(beside("server/python/asyncssh_client.py")), &[]);
}

fn go(what: &str) {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("go-{what}-{}", std::process::id()));
    let mut build = Command::new("go");
    let build =
        build.args(["build", "-o"]).arg(&program).arg("./guest").current_dir(beside("ssh/go")).output().unwrap();
    assert!(build.status.success(), "{}", String::from_utf8_lossy(&build.stderr));
    succeeds(&mut Command::new(&program), &[what]);
    std::fs::remove_file(program).unwrap();
}
