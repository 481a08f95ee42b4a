//! OpenSSH's client.

use std::collections::BTreeMap;
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
    let shown = client.output(&["SetEnv=NAME=value", "RequestTTY=force"], "show");
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    let environment = format!("{:?}", BTreeMap::from([(b"NAME".to_vec(), b"value".to_vec())]));
    assert!(text.starts_with("Some(\"") && text.contains(&environment), "{shown:?}");
    let refused = client.output(&[], "unknown");
    assert_eq!(refused.status.code(), Some(255));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("exec request failed"), "{refused:?}");
    let complaint = client.output(&[], "complain 100000");
    let mut expected = vec![0; 100_000];
    pattern::fill(0, &mut expected);
    assert_eq!(complaint.stderr, expected);
    let ends = client.server.ends();
    assert!(ends.iter().all(|end| ["disconnected: disconnected by user", "end of file"].contains(&&**end)), "{ends:?}");
}

#[test]
fn every_cipher_and_key_exchange() {
    let client = Client::new(|_| {});
    for cipher in ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com"] {
        for exchange in ["curve25519-sha256", "curve25519-sha256@libssh.org"] {
            let options = [format!("Ciphers={cipher}"), format!("KexAlgorithms={exchange}")];
            client.echo(&options.each_ref().map(|option| option.as_str()), 3_000_000);
        }
    }
}

#[test]
fn every_kind_of_key() {
    for (kind, options) in
        [("ed25519", &[][..]), ("ecdsa", &["-b", "256"]), ("ecdsa", &["-b", "384"]), ("rsa", &["-b", "2048"])]
    {
        let keys = Keys::new(kind, options);
        let client = Client { server: Server::start(vec![keys.public()], |_| {}), keys };
        let algorithms: &[&str] = if kind == "rsa" { &["rsa-sha2-256", "rsa-sha2-512"] } else { &["^ssh-ed25519"] };
        for algorithm in algorithms {
            let option = format!("PubkeyAcceptedAlgorithms={algorithm}");
            assert_eq!(client.output(&[&option], "ping").stdout, b"pong\n", "{kind} {options:?} {algorithm}");
        }
    }
}

#[test]
fn another_key_is_refused() {
    let client = Client::new(|_| {});
    let stranger = Keys::new("ed25519", &[]);
    let identity = format!("IdentityFile={}", stranger.private().display());
    let mut command = Command::new("ssh");
    // The first value of an option counts; identity files would add up.
    command.args(
        client
            .keys
            .options(&client.server)
            .iter()
            .map(|option| if option.starts_with("IdentityFile=") { identity.clone() } else { option.clone() }),
    );
    let output = command.args(["user@127.0.0.1", "ping"]).output().expect("ssh runs");
    assert_eq!(output.status.code(), Some(255));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("Permission denied (publickey)"), "{text}");
}

#[test]
fn keys_are_exchanged_again_under_load() {
    let ours = Client::new(|config| config.rekey_bytes = 1 << 20);
    let theirs = Client::new(|_| {});
    let theirs_and_ours = Client::new(|config| config.rekey_bytes = 1_100_000);
    for cipher in ["aes128-gcm@openssh.com", "chacha20-poly1305@openssh.com"] {
        let cipher = format!("Ciphers={cipher}");
        ours.echo(&[&cipher], 30_000_000);
        theirs.echo(&[&cipher, "RekeyLimit=1M"], 30_000_000);
        theirs_and_ours.echo(&[&cipher, "RekeyLimit=1M"], 30_000_000);
    }
}

#[test]
fn a_window_and_packets_of_another_size() {
    let client = Client::new(|config| {
        config.window = 40_000;
        config.max_packet = 1 << 20;
    });
    client.echo(&[], 10_000_000);
}

#[test]
fn three_hundred_megabytes_both_ways() {
    Client::new(|_| {}).echo(&[], 300_000_000);
}

#[test]
fn one_way_streams() {
    let client = Client::new(|_| {});
    let length = 100_000_000;
    let mut child = client.start(&[], &format!("send {length}"));
    assert_eq!(read_digest(&mut child.stdout.take().expect("a pipe")), (length, pattern::digest(length)));
    assert!(child.wait().expect("ssh ends").success());
    let mut child = client.start(&[], "count");
    write_pattern(&mut child.stdin.take().expect("a pipe"), length);
    let output = child.wait_with_output().expect("ssh ends");
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{length} {}\n", pattern::digest(length)));
}

#[test]
fn forwards_a_connection() {
    let client = Client::new(|_| {});
    let mut child = Command::new("ssh")
        .args(client.keys.options(&client.server))
        .args(["-W", "example:7", "user@127.0.0.1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("ssh runs");
    child.stdin.take().expect("a pipe").write_all(b"through a tunnel").expect("ssh takes it");
    assert_eq!(child.wait_with_output().expect("ssh ends").stdout, b"through a tunnel");
}
