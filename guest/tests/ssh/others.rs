//! Clients in other languages, each a small program beside this file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::keys::Keys;
use crate::python;
use crate::server::Server;

const CIPHERS: [&str; 3] = ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com"];

fn beside(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ssh").join(path)
}

/// Runs the program with the port, the private key, the host key and these arguments.
fn run(command: &mut Command, arguments: &[&str]) {
    let keys = Keys::new("ed25519", &[]);
    let server = Server::start(vec![keys.public()], |config| config.rekey_bytes = 3 << 20);
    command.arg(server.port.to_string()).arg(keys.private()).arg(&server.host_key).args(arguments);
    let output = command.output().expect("the program runs");
    let ends = server.ends();
    assert!(output.status.success(), "{arguments:?}: {} {ends:?}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn go() {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("go-client-{}", std::process::id()));
    let build = Command::new("go").args(["build", "-o"]).arg(&program).arg(".").current_dir(beside("go")).output();
    let build = build.expect("go runs");
    assert!(build.status.success(), "{}", String::from_utf8_lossy(&build.stderr));
    for exchange in ["mlkem768x25519-sha256", "curve25519-sha256"] {
        for cipher in CIPHERS {
            run(&mut Command::new(&program), &[exchange, cipher]);
        }
    }
    fs::remove_file(program).expect("the program is there");
}

#[test]
fn paramiko() {
    for cipher in &CIPHERS[..2] {
        run(Command::new(python::environment()).arg(beside("python/paramiko_client.py")), &[cipher]);
    }
}

#[test]
fn asyncssh() {
    for cipher in CIPHERS {
        run(Command::new(python::environment()).arg(beside("python/asyncssh_client.py")), &[cipher]);
    }
}
