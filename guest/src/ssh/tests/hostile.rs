//! Peers that mean harm: what they cost is bounded, they are told the reason, and nothing panics.

use std::sync::Arc;

use super::super::wire::{Write, message};
use super::super::{Connection, DataStream, HostKey, ServerConfig};
use super::client::{Offer, Pair, Share, channel_message, data_message, global_message, open_message, request_message};

fn server() -> Connection {
    Connection::new(Arc::new(ServerConfig::new(HostKey::from_seed(&[1; 32]).expect("a key"))))
}

/// What a fresh connection makes of these bytes.
fn feed(mut bytes: &[u8]) -> Result<Connection, String> {
    let mut server = server();
    loop {
        match server.next_event() {
            Ok(None) => {}
            Ok(Some(event)) => panic!("{event:?}"),
            Err(error) => return Err(error.to_string()),
        }
        if bytes.is_empty() {
            return Ok(server);
        }
        let room = server.read_buffer();
        assert!(!room.is_empty() && room.len() <= 64 << 10);
        let length = room.len().min(bytes.len());
        room[..length].copy_from_slice(&bytes[..length]);
        server.received(length);
        bytes = &bytes[length..];
    }
}

#[test]
fn garbage_instead_of_a_version() {
    let other = "the client does not speak version 2 of SSH";
    for bytes in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01\x02\0", b"SSH-1.5-old\r\n", b"\n", b"SSH-2.1-x\n", b"S\n"]
    {
        assert_eq!(feed(bytes).err().as_deref(), Some(other), "{bytes:?}");
    }
    assert_eq!(feed(&[b'\0'; 1_000_000]).err().as_deref(), Some(other));
    let endless = [&b"SSH-2.0-"[..], &[b'x'; 1000]].concat();
    assert_eq!(feed(&endless).err().as_deref(), Some("the client's version string is too long"));
    assert_eq!(feed(b"SSH-2.0-a\0b\r\n").err().as_deref(), Some("the client's version string is malformed"));
    assert_eq!(feed(b"SSH-2.0-").map(|server| server.client_version().to_vec()), Ok(Vec::new()));
    assert_eq!(feed(b"SSH-1.99-both\n").map(|server| server.client_version().to_vec()), Ok(b"SSH-1.99-both".to_vec()));
}

#[test]
fn garbage_instead_of_packets() {
    let start = b"SSH-2.0-x\r\n";
    for byte in 0..=255 {
        let bytes = [&start[..], &[byte; 100_000]].concat();
        assert!(feed(&bytes).is_err(), "{byte}");
    }
    let mut pair = Pair::logged_in(|_| {});
    pair.to_server.plain(&[0x55; 40_000]);
    let error = pair.error();
    assert!(["a packet has a length that is not allowed", "a packet is not authentic"].contains(&&*error), "{error}");
}

/// Every beginning of every message: an error or nothing, never a panic.
#[test]
fn truncated_messages() {
    let mut tcpip = open_message(b"direct-tcpip", 5, 10, 20);
    tcpip.bytes(b"\0\0\0\x01h\0\0\0\x07\0\0\0\x01o\0\0\0\x08");
    let mut local = open_message(b"direct-streamlocal@openssh.com", 6, 10, 20);
    local.string(b"/s");
    let messages = [
        b"\x01\0\0\0\x0b\0\0\0\x03bye".to_vec(),
        tcpip,
        local,
        data_message(0, b"data"),
        channel_message(message::CHANNEL_EXTENDED_DATA, 0, |payload| payload.bytes(b"\0\0\0\x01\0\0\0\x02ab")),
        channel_message(message::CHANNEL_WINDOW_ADJUST, 0, |payload| payload.u32(1)),
        request_message(0, b"env", true, |payload| payload.bytes(b"\0\0\0\x01A\0\0\0\x02bc")),
        request_message(0, b"pty-req", true, |payload| payload.bytes(&[0; 24])),
        request_message(0, b"window-change", true, |payload| payload.bytes(&[0; 16])),
        request_message(0, b"exec", true, |payload| payload.string(b"id")),
        request_message(0, b"subsystem", true, |payload| payload.string(b"id")),
        request_message(0, b"signal", true, |payload| payload.string(b"INT")),
        request_message(0, b"break", true, |payload| payload.u32(1)),
        global_message(b"tcpip-forward", true, |payload| payload.bytes(b"\0\0\0\x01h\0\0\0\x07")),
        global_message(b"cancel-tcpip-forward", true, |payload| payload.bytes(b"\0\0\0\x01h\0\0\0\x07")),
        global_message(b"streamlocal-forward@openssh.com", true, |payload| payload.string(b"/s")),
        b"\xc0\0\0\0\x04ping".to_vec(),
        Offer::default().message(),
    ];
    for whole in &messages {
        for end in 1..whole.len() {
            let mut pair = Pair::logged_in(|_| {});
            pair.open_session();
            pair.send(&whole[..end]);
            match pair.try_event() {
                Err(error) => assert!(!error.text().is_empty()),
                // A shorter message of the kind that may have anything at its end, or nothing.
                Ok(_) => assert!(
                    matches!(whole[0], message::CHANNEL_REQUEST | message::GLOBAL_REQUEST | 192),
                    "{whole:?} {end}"
                ),
            }
        }
    }
    let share = Share::new(true).message();
    for end in (1..share.len()).step_by(13) {
        let mut pair = Pair::new(|_| {});
        pair.offer_keys(Offer { methods: "mlkem768x25519-sha256", ..Offer::default() });
        pair.send(&share[..end]);
        pair.error();
    }
}

#[test]
fn endless_offers_of_keys() {
    let mut bytes = b"SSH-2.0-x\r\n".to_vec();
    let mut packets = super::super::packet::Output::new();
    for _ in 0..1000 {
        packets.packet(|packet| packet.bytes(&Offer::default().message()));
    }
    bytes.extend_from_slice(packets.pending());
    assert_eq!(feed(&bytes).err().as_deref(), Some("KEXINIT is not allowed now"));
}

#[test]
fn ten_thousand_channels() {
    let mut pair = Pair::logged_in(|config| config.max_channels = 100);
    let (mut opened, mut refused) = (0, 0);
    for number in 0..10_000 {
        pair.send(&open_message(b"session", number, 100, 100));
        match pair.try_event().expect("no error") {
            Some(_) => {
                pair.server.accept_open(opened);
                opened += 1;
            }
            None => {
                let answer = pair.receive().pop().expect("an answer");
                assert_eq!((answer[0], answer[8]), (message::CHANNEL_OPEN_FAILURE, 4));
                refused += 1;
            }
        }
    }
    assert_eq!((opened, refused), (100, 9_900));
}

/// A peer that asks and asks and reads nothing is not read any more, until it has read.
#[test]
fn answers_that_nobody_reads() {
    let mut pair = Pair::logged_in(|_| {});
    let message = global_message(b"keepalive@openssh.com", true, |_| {});
    let mut asked = 0;
    while pair.server.wants_input() {
        pair.send(&message);
        if pair.try_event().expect("no error").is_some() {
            pair.server.reply_global(false, b"");
            asked += 1;
        }
        assert!(asked < 100_000);
    }
    assert!(pair.server.output().len() < 600 << 10);
    for _ in 0..10 {
        pair.send(&message);
    }
    assert!(pair.try_event().expect("no error").is_none());
    // It goes on where it stopped.
    let answers = pair.receive().len();
    assert_eq!(answers, asked);
    let mut more = 0;
    while pair.try_event().expect("no error").is_some() {
        pair.server.reply_global(false, b"");
        more += 1;
    }
    assert!(more >= 10);
    assert_eq!(pair.receive().len(), more);
}

#[test]
fn messages_for_channels_that_are_not_open() {
    let not_open = "a message is for a channel that is not open";
    for number in message::CHANNEL_OPEN_CONFIRMATION..=message::CHANNEL_FAILURE {
        let mut pair = Pair::logged_in(|_| {});
        pair.send(&channel_message(number, 3, |payload| payload.bytes(&[0; 12])));
        assert_eq!(pair.error(), not_open);
        // Asked for, but not answered.
        let mut pair = Pair::logged_in(|_| {});
        pair.send(&open_message(b"session", 1, 1, 1));
        pair.event();
        pair.send(&channel_message(number, 0, |payload| payload.bytes(&[0; 12])));
        assert_eq!(pair.error(), not_open);
    }
    let mut pair = Pair::logged_in(|_| {});
    let id = pair.open_session();
    pair.send(&channel_message(message::CHANNEL_OPEN_CONFIRMATION, id, |payload| payload.bytes(&[0; 12])));
    assert_eq!(pair.error(), not_open);
}

/// What an idle connection holds.
#[test]
fn an_idle_connection_is_small() {
    let mut pair = Pair::logged_in(|_| {});
    let id = pair.open_session();
    pair.server.send(id, DataStream::Data, &[0; 100_000]);
    for _ in 0..10 {
        pair.send(&data_message(id, &[0; 100_000]));
        pair.event();
    }
    pair.receive();
    assert_eq!(pair.try_event(), Ok(None));
    assert!(pair.server.holds_memory());
    pair.server.release_memory();
    assert!(!pair.server.holds_memory());
    // Beside the buffers: the structure, two keys of AES-GCM, the version, a few channels.
    assert!(std::mem::size_of::<Connection>() < 1024, "{}", std::mem::size_of::<Connection>());
    // It goes on as before.
    pair.send(&data_message(id, b"x"));
    assert!(pair.event().starts_with("Data"));
    assert!(pair.server.read_buffer().len() <= 4096);
}
