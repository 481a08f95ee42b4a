//! The fuzzer's entry point, with its corpus and a short run that is the same each time.

use std::fs;
use std::path::PathBuf;

use super::super::fuzz::fuzz_connection;
use super::super::wire::{Write, message};
use super::client::{Offer, Share, channel_message, data_message, global_message, open_message, request_message};
use crate::mutation::Mutator;

const RUNS: u32 = 20_000;

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/ssh")
}

/// The files' names and contents.
fn corpus() -> Vec<(&'static str, Vec<u8>)> {
    let messages = |mode: u8, payloads: &[Vec<u8>]| {
        let mut bytes = vec![mode, 7];
        for payload in payloads {
            bytes.extend_from_slice(&(payload.len() as u16).to_be_bytes());
            bytes.extend_from_slice(payload);
        }
        bytes
    };
    let open = open_message(b"session", 42, 100_000, 32_768);
    let mut tcpip = open_message(b"direct-tcpip", 5, 10, 20);
    tcpip.bytes(b"\0\0\0\x01h\0\0\0\x07\0\0\0\x01o\0\0\0\x08");
    let mut local = open_message(b"direct-streamlocal@openssh.com", 6, 10, 20);
    local.string(b"/s");
    let mut pty = Vec::new();
    pty.bytes(b"\0\0\0\x05xterm");
    pty.bytes(&[0; 16]);
    pty.string(b"\x35\0\0\0\x01\0");
    let session = vec![
        open.clone(),
        request_message(0, b"env", false, |payload| payload.bytes(b"\0\0\0\x01A\0\0\0\x02bc")),
        request_message(0, b"pty-req", true, |payload| payload.bytes(&pty)),
        request_message(0, b"exec", true, |payload| payload.string(b"cat")),
        data_message(0, b"some data"),
        channel_message(message::CHANNEL_EXTENDED_DATA, 0, |payload| payload.bytes(b"\0\0\0\x01\0\0\0\x02ab")),
        request_message(0, b"window-change", false, |payload| payload.bytes(&[0; 16])),
        request_message(0, b"signal", false, |payload| payload.string(b"INT")),
        channel_message(message::CHANNEL_WINDOW_ADJUST, 0, |payload| payload.u32(5000)),
        channel_message(message::CHANNEL_EOF, 0, |_| {}),
        channel_message(message::CHANNEL_CLOSE, 0, |_| {}),
    ];
    let forwarding = vec![
        tcpip,
        local,
        global_message(b"tcpip-forward", true, |payload| payload.bytes(b"\0\0\0\x01h\0\0\0\x07")),
        global_message(b"cancel-tcpip-forward", true, |payload| payload.bytes(b"\0\0\0\x01h\0\0\0\x07")),
        global_message(b"streamlocal-forward@openssh.com", true, |payload| payload.string(b"/s")),
        global_message(b"keepalive@openssh.com", true, |_| {}),
        channel_message(message::CHANNEL_OPEN_CONFIRMATION, 2, |payload| payload.bytes(&[9; 12])),
        channel_message(message::CHANNEL_OPEN_FAILURE, 2, |payload| payload.bytes(b"\0\0\0\x01\0\0\0\x02no\0\0\0\0")),
        b"\xc0\0\0\0\x04ping".to_vec(),
        vec![message::REQUEST_FAILURE],
        vec![150, 1, 2],
        b"\x01\0\0\0\x0b\0\0\0\x03bye\0\0\0\0".to_vec(),
    ];
    let curve = vec![Offer::default().message(), Share::new(false).message(), vec![message::NEWKEYS]];
    let offer = Offer { methods: "mlkem768x25519-sha256", guess: true, ..Offer::default() };
    let hybrid = vec![offer.message(), Share::new(true).message(), vec![message::NEWKEYS]];
    let mut again = vec![open];
    again.extend(curve.iter().cloned());
    let none = b"\x32\0\0\0\x04user\0\0\0\x0essh-connection\0\0\0\x04none".to_vec();
    let service = b"\x05\0\0\0\x0cssh-userauth".to_vec();
    vec![
        ("version", b"\x00\x07SSH-2.0-OpenSSH_9.2p1\r\n\0\0\0\x0c\x06\x02\0\0\0\0\0\0\0\0\0\0".to_vec()),
        ("session", messages(1, &session)),
        ("forwarding", messages(1, &forwarding)),
        ("keys-again", messages(1, &again)),
        ("keys-curve25519", messages(2, &curve)),
        ("keys-mlkem768x25519", messages(2, &hybrid)),
        (
            "log-in",
            messages(3, &[service, none, super::login::signed_request(&super::login::user_key(), &[0; 32], b"user")]),
        ),
    ]
}

#[test]
#[ignore = "writes the corpus, which is checked in"]
fn write_the_corpus() {
    fs::create_dir_all(directory()).expect("a directory");
    for (name, mut bytes) in corpus() {
        // The application that lets it go furthest.
        bytes[1] = (0..=255)
            .max_by_key(|choices| fuzz_connection(&[&[bytes[0], *choices], &bytes[2..]].concat()))
            .unwrap_or_default();
        fs::write(directory().join(name), bytes).expect("a file");
    }
}

#[test]
fn changed_inputs_break_nothing() {
    let mut names: Vec<_> =
        fs::read_dir(directory()).expect("the corpus").map(|entry| entry.expect("an entry").path()).collect();
    names.sort();
    let seeds: Vec<Vec<u8>> = names.iter().map(|name| fs::read(name).expect("a file")).collect();
    assert_eq!(seeds.len(), corpus().len());
    let events: Vec<usize> = seeds.iter().map(|seed| fuzz_connection(seed)).collect();
    // Otherwise the changed ones would not get far either.
    assert_eq!(events, [7, 1, 0, 0, 1, 10, 0], "{names:?}");
    let mut mutator = Mutator::new(0x2545_f491_4f6c_dd1d);
    for _ in 0..RUNS {
        let mut input = mutator.change(&seeds);
        if input.len() < 2 {
            input.resize(2, 0);
        }
        fuzz_connection(&input);
    }
}
