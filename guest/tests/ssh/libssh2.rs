//! libssh2, which is what the library uses.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use ring::digest::{SHA256, digest};
use ssh2::{BlockDirections, ErrorCode, Session};

use crate::keys::Keys;
use crate::pattern;
use crate::server::Server;

fn log_in(server: &Server, keys: &Keys, cipher: Option<&str>) -> Session {
    let mut session = Session::new().expect("a session");
    // What hangs fails.
    session.set_timeout(60_000);
    if let Some(cipher) = cipher {
        session.method_pref(ssh2::MethodType::CryptCs, cipher).expect("a cipher");
        session.method_pref(ssh2::MethodType::CryptSc, cipher).expect("a cipher");
    }
    session.set_tcp_stream(TcpStream::connect(("127.0.0.1", server.port)).expect("a connection"));
    session.handshake().expect("a handshake");
    session.userauth_pubkey_file("user", None, &keys.private(), None).expect("a login");
    session
}

fn start(change: impl FnOnce(&mut sandbox_guest::ssh::ServerConfig)) -> (Keys, Server) {
    let keys = Keys::new("ecdsa", &["-b", "256"]);
    let server = Server::start(vec![keys.public()], change);
    (keys, server)
}

fn ping(session: &Session) -> String {
    let mut channel = session.channel_session().expect("a channel");
    channel.exec("ping").expect("a command");
    let mut text = String::new();
    channel.read_to_string(&mut text).expect("output");
    channel.wait_close().expect("closed");
    assert_eq!(channel.exit_status().expect("a status"), 0);
    text
}

#[test]
fn runs_commands() {
    let (keys, server) = start(|_| {});
    for cipher in [None, Some("aes128-gcm@openssh.com"), Some("aes256-gcm@openssh.com")] {
        let session = log_in(&server, &keys, cipher);
        for _ in 0..20 {
            assert_eq!(ping(&session), "pong\n");
        }
    }
}

/// A thousand requests are under way before the first answer is read.
#[test]
fn sftp_reads_far_ahead() {
    let (keys, server) = start(|_| {});
    let session = log_in(&server, &keys, None);
    let mut file = session.sftp().expect("sftp").open(Path::new("pattern")).expect("a file");
    let length = 120_000_000;
    let mut buffer = vec![0; 30_000_000];
    let mut bytes = Vec::new();
    while bytes.len() < length {
        let part = file.read(&mut buffer).expect("data");
        assert!(part > 0);
        bytes.extend_from_slice(&buffer[..part]);
    }
    bytes.truncate(length);
    assert_eq!(pattern::hex(digest(&SHA256, &bytes).as_ref()), pattern::digest(length as u64));
}

/// What a channel does not take must not hold up another one, and is not more than its window.
#[test]
fn a_channel_that_nobody_reads_holds_up_no_other() {
    let (keys, server) = start(|_| {});
    let session = log_in(&server, &keys, None);
    let mut stuck = session.channel_session().expect("a channel");
    stuck.exec("never").expect("a command");
    session.set_blocking(false);
    let block = vec![7; 1 << 20];
    let mut sent = 0;
    while sent < 50_000_000 {
        match stuck.write(&block) {
            Ok(length) => sent += length,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                // libssh2 waits for the window here, no longer for the socket.
                if session.block_directions() == BlockDirections::Inbound {
                    break;
                }
                std::thread::yield_now();
            }
            Err(error) => panic!("{error}"),
        }
    }
    session.set_blocking(true);
    for _ in 0..10 {
        assert_eq!(ping(&session), "pong\n");
    }
    assert!(sent >= 2 << 20, "{sent}");
    assert!(server.most_held() <= 2 << 20, "{}", server.most_held());
}

#[test]
fn keys_are_exchanged_again_under_load() {
    let (keys, server) = start(|config| config.rekey_bytes = 1 << 20);
    let session = log_in(&server, &keys, None);
    let mut channel = session.channel_session().expect("a channel");
    let length = 20_000_000;
    channel.exec(&format!("send {length}")).expect("a command");
    let mut bytes = Vec::new();
    channel.read_to_end(&mut bytes).expect("output");
    assert_eq!(pattern::hex(digest(&SHA256, &bytes).as_ref()), pattern::digest(length));
    let mut channel = session.channel_session().expect("a channel");
    channel.exec("count").expect("a command");
    channel.write_all(&bytes).expect("input");
    channel.send_eof().expect("an end");
    let mut text = String::new();
    channel.read_to_string(&mut text).expect("output");
    assert_eq!(text, format!("{length} {}\n", pattern::digest(length)));
}

#[test]
fn a_stranger_is_refused() {
    let (_keys, server) = start(|_| {});
    let stranger = Keys::new("ecdsa", &["-b", "256"]);
    let mut session = Session::new().expect("a session");
    session.set_tcp_stream(TcpStream::connect(("127.0.0.1", server.port)).expect("a connection"));
    session.handshake().expect("a handshake");
    let error = session.userauth_pubkey_file("user", None, &stranger.private(), None).expect_err("refused");
    assert!(matches!(error.code(), ErrorCode::Session(-18 | -19)), "{error}");
    assert!(!session.authenticated());
}
