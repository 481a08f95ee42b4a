//! OpenSSH's client.

use std::io::{Read, Write};
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use ring::digest::{Context, SHA256};

use crate::keys::Keys;
use crate::pattern;
use crate::server::Server;

pub(crate) struct Client {
    keys: Keys,
    pub(crate) server: Server,
}

impl Client {
    fn new(change: impl FnOnce(&mut sandbox_guest::ssh::ServerConfig)) -> Self {
        let keys = Keys::new("ed25519", &[]);
        let server = Server::start(vec![keys.public()], change);
        Self { keys, server }
    }

    fn command(&self, options: &[&str], line: &str) -> Command {
        let mut command = Command::new("ssh");
        command.args(self.keys.options(&self.server));
        for option in options {
            command.arg("-o").arg(option);
        }
        command.args(["user@127.0.0.1", line]);
        command
    }

    fn output(&self, options: &[&str], line: &str) -> Output {
        self.command(options, line).stdin(Stdio::null()).output().expect("ssh runs")
    }

    fn start(&self, options: &[&str], line: &str) -> Child {
        self.command(options, line).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("ssh runs")
    }

    /// Sends so much of the pattern through `echo` and checks what comes back.
    fn echo(&self, options: &[&str], length: u64) {
        let mut child = self.start(options, "echo");
        let mut stdin = child.stdin.take().expect("a pipe");
        let writer = thread::spawn(move || write_pattern(&mut stdin, length));
        let (received, digest) = read_digest(&mut child.stdout.take().expect("a pipe"));
        writer.join().expect("no panic");
        assert_eq!((received, digest), (length, pattern::digest(length)), "{options:?}");
        assert!(child.wait().expect("ssh ends").success());
    }
}

fn write_pattern(stdin: &mut impl Write, length: u64) {
    let mut block = vec![0; 1 << 20];
    let mut at = 0;
    while at < length {
        let part = block.len().min((length - at) as usize);
        pattern::fill(at, &mut block[..part]);
        stdin.write_all(&block[..part]).expect("ssh takes it");
        at += part as u64;
    }
}

fn read_digest(stdout: &mut impl Read) -> (u64, String) {
    let (mut hash, mut length, mut block) = (Context::new(&SHA256), 0, vec![0; 1 << 20]);
    loop {
        match stdout.read(&mut block).expect("ssh gives it") {
            0 => return (length, pattern::hex(hash.finish().as_ref())),
            part => {
                hash.update(&block[..part]);
                length += part as u64;
            }
        }
    }
}

#[test]
fn logs_in_and_runs_commands() {
    let client = Client::new(|_| {});
    let output = client.output(&[], "ping");
    assert_eq!((output.stdout.as_slice(), output.status.code()), (&b"pong\n"[..], Some(0)), "{output:?}");
    assert_eq!(client.output(&[], "exit 7").status.code(), Some(7));
    let shown = client.output(&["SetEnv=NAME=a value", "RequestTTY=force"], "show");
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains(" 80x24\") ") || shown.contains("0x0") && shown.contains('{'), "{shown}");
    let refused = client.output(&[], "unknown");
    assert_eq!(refused.status.code(), Some(255));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("exec request failed"), "{refused:?}");
    let complaint = client.output(&[], "complain 100000");
    let mut expected = vec![0; 100_000];
    pattern::fill(0, &mut expected);
    assert_eq!(complaint.stderr, expected);
    assert_eq!(client.server.ends(), vec!["disconnected: disconnected by user"; 5]);
}
