//! An entry point for a fuzzer: any bytes as a client, and an application that does anything it may.

use std::sync::Arc;

use super::packet::Output;
use super::{Connection, DataStream, Event, Forwarded, HostKey, OpenFailure, ServerConfig};

/// So much output may wait at most: what stops the input, a packet of data, an answer.
const MOST_OUTPUT: usize = 1 << 20;
/// So large may the read buffer be at most.
const MOST_INPUT: usize = 2 << 20;

/// Feeds a connection with these bytes, in a way that depends on the first two.
///
/// The first one's two lowest bits say what the rest is: 0 the bytes of a client from the beginning, 1 messages of a
/// user who is logged in, 2 messages after the version, 3 messages of a user who is not logged in yet; each message
/// after its length, two bytes. There is no encryption before a key exchange. The second byte is for what the
/// application does.
///
/// Returns how many events there were.
///
/// # Panics
///
/// Something is wrong.
pub fn fuzz_connection(data: &[u8]) -> usize {
    let [mode, choices, rest @ ..] = data else {
        return 0;
    };
    let Ok(host_key) = HostKey::from_seed(&[1; 32]) else {
        return 0;
    };
    let mut config = ServerConfig::new(host_key);
    config.window = 10_000;
    config.max_channels = 4;
    config.rekey_bytes = 50_000;
    let config = Arc::new(config);
    let mut connection = match mode & 3 {
        1 => Connection::without_encryption(config, true),
        3 => Connection::without_encryption(config, false),
        _ => Connection::new(config),
    };
    let bytes = if mode & 3 == 0 { rest.to_vec() } else { packets(mode & 3 == 2, rest) };
    let mut application = Application { state: u32::from(*choices) << 8 | u32::from(*mode) | 1 << 30, events: 0 };
    let mut bytes = &*bytes;
    loop {
        application.run(&mut connection);
        assert!(connection.output().len() <= MOST_OUTPUT, "too much output");
        let stops = connection.is_ended() || bytes.is_empty() || !connection.wants_input();
        let room = connection.read_buffer();
        assert!(room.len() <= MOST_INPUT, "too large a buffer");
        if stops {
            return application.events;
        }
        assert!(!room.is_empty(), "no room for input");
        let length = room.len().min(bytes.len());
        room[..length].copy_from_slice(&bytes[..length]);
        connection.received(length);
        bytes = &bytes[length..];
    }
}

fn packets(with_version: bool, mut rest: &[u8]) -> Vec<u8> {
    let mut output = Output::new();
    if with_version {
        output.plain(b"SSH-2.0-fuzz\r\n");
    }
    while let Some((length, after)) = rest.split_first_chunk() {
        let (payload, after) = after.split_at(after.len().min(usize::from(u16::from_be_bytes(*length))));
        // A packet without payload is tried by the other mode.
        if !payload.is_empty() {
            output.packet(|packet| packet.bytes(payload));
        }
        rest = after;
    }
    output.pending().to_vec()
}

/// Does what it likes, but the same each time.
struct Application {
    state: u32,
    events: usize,
}

impl Application {
    fn choose(&mut self, below: u32) -> u32 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 17;
        self.state ^= self.state << 5;
        self.state % below
    }

    fn run(&mut self, connection: &mut Connection) {
        loop {
            let answer = match connection.next_event() {
                Err(error) => {
                    assert!(connection.is_ended() && !error.text().is_empty(), "an error is the end");
                    return;
                }
                Ok(None) => return,
                Ok(Some(event)) => Answer::new(&event),
            };
            self.events += 1;
            let yes = self.choose(4) > 0;
            match answer {
                Answer::Auth if yes => connection.accept_auth(),
                Answer::Auth => connection.reject_auth(),
                Answer::Open(id) if yes => connection.accept_open(id),
                Answer::Open(id) => connection.refuse_open(id, OpenFailure::ConnectFailed, "no"),
                Answer::Reply(id) => connection.reply(id, yes),
                Answer::Global => connection.reply_global(yes, b"data"),
                Answer::Taken(id, length) if yes => connection.consumed(id, length),
                Answer::Taken(..) | Answer::None => {}
            }
            let id = self.choose(5);
            match self.choose(12) {
                0 => drop(connection.open_forwarded(Forwarded::Streamlocal { path: b"/s" })),
                1 => connection.close(id),
                2 => connection.eof(id),
                3 => connection.exit_status(id, 1),
                4 => connection.keepalive(),
                5 => connection.release_memory(),
                6 => connection.consumed(id, 3000),
                7 | 8 => {
                    let room = connection.room(id);
                    let sent = connection.send(id, DataStream::Data, &[0; 70_000]);
                    assert_eq!(sent > 0, room > 0, "room is where data can be sent");
                }
                9 => {
                    let length = connection.output().len();
                    connection.written(length);
                }
                _ => {}
            }
        }
    }
}

/// What an event asks for.
enum Answer {
    Auth,
    Open(u32),
    Reply(u32),
    Global,
    Taken(u32, usize),
    None,
}

impl Answer {
    fn new(event: &Event<'_>) -> Self {
        match event {
            Event::Auth { .. } => Self::Auth,
            Event::Open { id, .. } => Self::Open(*id),
            Event::Request { id, .. } => Self::Reply(*id),
            Event::Global { .. } => Self::Global,
            Event::Data { id, bytes } | Event::ExtendedData { id, bytes, .. } => Self::Taken(*id, bytes.len()),
            _ => Self::None,
        }
    }
}
