//! Channels.

use std::convert::Infallible;

use super::super::wire::{Reader, Write, message};
use super::super::{DataStream, Forwarded, OpenFailure, disconnect_reason};
use super::client::{Pair, channel_message, data_message, global_message, open_message, request_message};

const WINDOW: u32 = 1 << 20;

fn pair() -> (Pair, u32) {
    let mut pair = Pair::logged_in(|config| config.window = WINDOW);
    let id = pair.open_session();
    (pair, id)
}

#[test]
fn requests_and_their_answers() {
    let (mut pair, id) = pair();
    let requests = [
        (
            request_message(id, b"env", false, |payload| payload.bytes(b"\0\0\0\x01A\0\0\0\x02bc")),
            "Env { name: [65], value: [98, 99] }",
            false,
        ),
        (
            request_message(id, b"pty-req", true, |payload| {
                payload.string(b"vt");
                [80, 24, 640, 480].iter().for_each(|number| payload.u32(*number));
                payload.string(b"\0");
            }),
            "Pty { term: [118, 116], columns: 80, rows: 24, width: 640, height: 480, modes: [0] }",
            true,
        ),
        (
            request_message(id, b"window-change", false, |payload| (1..5).for_each(|number| payload.u32(number))),
            "WindowChange { columns: 1, rows: 2, width: 3, height: 4 }",
            false,
        ),
        (request_message(id, b"exec", true, |payload| payload.string(b"id")), "Exec { line: [105, 100] }", true),
        (request_message(id, b"shell", true, |_| {}), "Shell", true),
        (request_message(id, b"subsystem", true, |payload| payload.string(b"x")), "Subsystem { name: [120] }", true),
        (
            request_message(id, b"signal", false, |payload| payload.string(b"INT")),
            "Signal { name: [73, 78, 84] }",
            false,
        ),
        (request_message(id, b"break", true, |payload| payload.u32(500)), "Break { milliseconds: 500 }", true),
        (request_message(id, b"q", true, |payload| payload.byte(9)), "Other { name: [113], data: [9] }", true),
    ];
    for (message, request, wants_reply) in &requests {
        pair.send(message);
        assert_eq!(pair.event(), format!("Request {{ id: {id}, request: {request}, wants_reply: {wants_reply} }}"));
    }
    // Six want an answer, and get one in their order, and no more.
    for index in 0..8 {
        pair.server.reply(id, index % 2 == 0);
    }
    let answers: Vec<u8> = pair.receive().iter().map(|payload| payload[0]).collect();
    let (success, failure) = (message::CHANNEL_SUCCESS, message::CHANNEL_FAILURE);
    assert_eq!(answers, [success, failure, success, failure, success, failure]);
}

#[test]
fn requests_outside_channels() {
    let (mut pair, _) = pair();
    let requests = [
        (
            global_message(b"tcpip-forward", true, |payload| payload.bytes(b"\0\0\0\x01h\0\0\0\x07")),
            "TcpipForward { host: [104], port: 7 }",
        ),
        (
            global_message(b"cancel-tcpip-forward", true, |payload| payload.bytes(b"\0\0\0\x01h\0\0\0\x07")),
            "CancelTcpipForward { host: [104], port: 7 }",
        ),
        (
            global_message(b"streamlocal-forward@openssh.com", true, |payload| payload.string(b"/s")),
            "StreamlocalForward { path: [47, 115] }",
        ),
        (
            global_message(b"cancel-streamlocal-forward@openssh.com", true, |payload| payload.string(b"/s")),
            "CancelStreamlocalForward { path: [47, 115] }",
        ),
        (global_message(b"z", false, |payload| payload.byte(1)), "Other { name: [122], data: [1] }"),
    ];
    for (message, request) in &requests {
        pair.send(message);
        let wants_reply = !request.starts_with("Other");
        assert_eq!(pair.event(), format!("Global {{ request: {request}, wants_reply: {wants_reply} }}"));
    }
    pair.server.reply_global(true, &9u32.to_be_bytes());
    for _ in 0..5 {
        pair.server.reply_global(false, b"not sent");
    }
    let answers = pair.receive();
    assert_eq!(answers[0], [message::REQUEST_SUCCESS, 0, 0, 0, 9]);
    assert_eq!(&answers[1..], [[message::REQUEST_FAILURE]; 3]);
}

#[test]
fn a_signs_of_life() {
    let (mut pair, _) = pair();
    pair.server.keepalive();
    pair.server.keepalive();
    assert_eq!(pair.server.keepalives_unanswered(), 2);
    assert_eq!(pair.receive(), vec![global_message(b"keepalive@openssh.com", true, |_| {}); 2]);
    pair.send(&[message::REQUEST_FAILURE]);
    assert!(pair.no_event().is_empty());
    assert_eq!(pair.server.keepalives_unanswered(), 0);
    pair.send(b"\xc0\0\0\0\x04ping");
    assert_eq!(pair.no_event(), [b"\xc1\0\0\0\x04ping"]);
    // What is unknown is said to be so, with its number.
    pair.send(&[150]);
    assert_eq!(pair.no_event()[0][0], message::UNIMPLEMENTED);
}

#[test]
fn kinds_of_channels() {
    let (mut pair, first) = pair();
    assert_eq!(first, 0);
    let mut tcpip = open_message(b"direct-tcpip", 5, 10, 20);
    tcpip.bytes(b"\0\0\0\x01h\0\0\0\x07\0\0\0\x01o\0\0\0\x08");
    pair.send(&tcpip);
    assert_eq!(
        pair.event(),
        "Open { id: 1, kind: DirectTcpip { host: [104], port: 7, originator_host: [111], originator_port: 8 } }"
    );
    let mut local = open_message(b"direct-streamlocal@openssh.com", 6, 10, 20);
    local.bytes(b"\0\0\0\x02/s\0\0\0\0\0\0\0\0");
    pair.send(&local);
    assert_eq!(pair.event(), "Open { id: 2, kind: DirectStreamlocal { path: [47, 115] } }");
    let mut connect = open_message(b"connect@sandbox", 7, 10, 20);
    connect.bytes(b"\0\0\0\x02{}");
    pair.send(&connect);
    assert_eq!(pair.event(), "Open { id: 3, kind: Connect { target: [123, 125] } }");
    pair.server.refuse_open(1, OpenFailure::ConnectFailed, "no way");
    let refused = pair.receive().remove(0);
    assert_eq!(refused, b"\x5c\0\0\0\x05\0\0\0\x02\0\0\0\x06no way\0\0\0\0");
    pair.send(&open_message(b"x11", 7, 10, 20));
    assert_eq!(pair.no_event()[0][..9], *b"\x5c\0\0\0\x07\0\0\0\x03");
    // No number is used again.
    pair.send(&open_message(b"session", 8, 10, 20));
    assert_eq!(pair.event(), "Open { id: 4, kind: Session }");
    pair.server.accept_open(4);
    let mut accepted = channel_message(message::CHANNEL_OPEN_CONFIRMATION, 8, |payload| payload.u32(4));
    accepted.u32(WINDOW);
    accepted.u32(256 << 10);
    assert_eq!(pair.receive(), [accepted]);
    // Only once, and not what is not asked for.
    pair.server.accept_open(4);
    pair.server.refuse_open(4, OpenFailure::ConnectFailed, "late");
    pair.server.accept_open(9);
    assert!(pair.receive().is_empty());
}

#[test]
fn connections_from_here() {
    let (mut pair, _) = pair();
    let kind = Forwarded::Tcpip { host: b"h", port: 7, originator_host: b"o", originator_port: 8 };
    let id = pair.server.open_forwarded(kind).expect("a channel");
    let opening = pair.receive().remove(0);
    assert_eq!(&opening[..24], b"\x5a\0\0\0\x0fforwarded-tcpip\0\0\0\x01");
    assert!(opening.ends_with(b"\0\0\0\x01h\0\0\0\x07\0\0\0\x01o\0\0\0\x08"));
    assert_eq!(pair.server.room(id), 0);
    pair.send(&channel_message(message::CHANNEL_OPEN_CONFIRMATION, id, |payload| {
        [70, 10, 5].iter().for_each(|n| payload.u32(*n))
    }));
    assert_eq!(pair.event(), format!("OpenConfirmed {{ id: {id} }}"));
    assert_eq!(pair.server.room(id), 5);
    assert_eq!(pair.server.send(id, DataStream::Data, b"eleven chars"), 10);
    assert!(pair.server.is_window_closed(id));
    assert_eq!(pair.receive(), [&b"\x5e\0\0\0\x46\0\0\0\x05eleve"[..], b"\x5e\0\0\0\x46\0\0\0\x05n cha"]);
    let refused = pair.server.open_forwarded(Forwarded::Streamlocal { path: b"/s" }).expect("a channel");
    assert!(pair.receive()[0].ends_with(b"\0\0\0\x02/s\0\0\0\0"));
    pair.send(&channel_message(message::CHANNEL_OPEN_FAILURE, refused, |payload| {
        payload.bytes(b"\0\0\0\x01\0\0\0\x02no\0\0\0\0")
    }));
    assert_eq!(pair.event(), format!("OpenFailed {{ id: {refused}, reason: 1, text: [110, 111] }}"));
    assert_eq!(pair.server.open_forwarded(kind), Some(refused + 1));
}

#[test]
fn the_window_is_enlarged_only_for_what_was_taken() {
    let (mut pair, id) = pair();
    let block = vec![1; 32_768];
    for _ in 0..WINDOW as usize / block.len() {
        pair.send(&data_message(id, &block));
        assert!(pair.event().starts_with("Data"));
    }
    assert!(pair.receive().is_empty());
    // From a quarter on.
    pair.server.consumed(id, WINDOW as usize / 4 - 1);
    assert!(pair.receive().is_empty());
    pair.server.consumed(id, 1);
    assert_eq!(
        pair.receive(),
        [channel_message(message::CHANNEL_WINDOW_ADJUST, 42, |payload| payload.u32(WINDOW / 4))]
    );
    // Not more than what came.
    pair.server.consumed(id, usize::MAX);
    assert_eq!(
        pair.receive(),
        [channel_message(message::CHANNEL_WINDOW_ADJUST, 42, |payload| payload.u32(WINDOW / 4 * 3))]
    );
    pair.server.consumed(id, 5000);
    for _ in 0..WINDOW as usize / block.len() {
        pair.send(&data_message(id, &block));
        assert!(pair.event().starts_with("Data"));
    }
    pair.send(&data_message(id, b""));
    assert!(pair.no_event().is_empty());
    pair.send(&data_message(id, b"1"));
    assert_eq!(pair.error(), "data was sent beyond the channel's window");
}

#[test]
fn other_streams_count_against_the_same_window() {
    let (mut pair, id) = pair();
    pair.send(&channel_message(message::CHANNEL_EXTENDED_DATA, id, |payload| payload.bytes(b"\0\0\0\x01\0\0\0\x02ab")));
    assert_eq!(pair.event(), format!("ExtendedData {{ id: {id}, stream: 1, bytes: [97, 98] }}"));
    pair.server.send(id, DataStream::Stderr, b"cd");
    assert_eq!(pair.receive(), [b"\x5f\0\0\0\x2a\0\0\0\x01\0\0\0\x02cd"]);
    for _ in 0..WINDOW / (128 << 10) {
        pair.send(&channel_message(message::CHANNEL_EXTENDED_DATA, id, |payload| {
            payload.u32(1);
            payload.string(&[0; 128 << 10]);
        }));
    }
    assert_eq!(pair.error(), "data was sent beyond the channel's window");
}

#[test]
fn the_peers_window_and_packets_are_kept_to() {
    let (mut pair, id) = pair();
    let mut received = 0;
    let bytes = vec![3; 3_000_000];
    let mut at = 0;
    loop {
        let sent = pair.server.send(id, DataStream::Data, &bytes[at..]);
        at += sent;
        for payload in pair.receive() {
            let length = payload.len() - 9;
            assert!(length <= 32_768);
            received += length;
        }
        if sent == 0 {
            break;
        }
    }
    assert_eq!((at, received), (1_000_000, 1_000_000));
    assert!(pair.server.is_window_closed(id) && !pair.server.output_is_full());
    let called = pair.server.send_with(id, DataStream::Data, |_| panic!("there is no room"));
    assert_eq!(called, Ok::<_, Infallible>(0));
    pair.send(&channel_message(message::CHANNEL_WINDOW_ADJUST, id, |payload| payload.u32(10)));
    pair.send(&channel_message(message::CHANNEL_WINDOW_ADJUST, id, |payload| payload.u32(u32::MAX)));
    assert!(pair.no_event().is_empty());
    assert_eq!(pair.server.room(id), 32_768);
    assert_eq!(pair.server.send_with(id, DataStream::Data, |_| Err("broken")), Err("broken"));
    assert!(pair.receive().is_empty());
}

#[test]
fn output_is_bounded_for_all_channels_together() {
    let (mut pair, first) = pair();
    let second = pair.open_session();
    let bytes = vec![3; 3_000_000];
    let sent = pair.server.send(first, DataStream::Data, &bytes);
    assert!((200_000..300_000).contains(&sent), "{sent}");
    assert!(pair.server.output_is_full() && !pair.server.is_window_closed(first));
    assert_eq!((pair.server.room(first), pair.server.room(second)), (0, 0));
    let half = pair.server.output().len() - 10;
    pair.server.written(half);
    assert!(!pair.server.output_is_full());
    assert!(pair.server.room(second) > 0);
}

#[test]
fn the_end_of_a_channel_from_either_side() {
    let (mut pair, id) = pair();
    pair.send(&request_message(id, b"exec", true, |payload| payload.string(b"x")));
    pair.event();
    pair.send(&channel_message(message::CHANNEL_EOF, id, |_| {}));
    assert_eq!(pair.event(), format!("Eof {{ id: {id} }}"));
    pair.send(&channel_message(message::CHANNEL_EOF, id, |_| {}));
    assert!(pair.no_event().is_empty());
    pair.server.reply(id, true);
    pair.server.exit_status(id, 3);
    pair.server.exit_signal(id, "KILL", true, "text");
    pair.server.eof(id);
    pair.server.eof(id);
    assert_eq!(pair.server.room(id), 0);
    pair.server.exit_status(id, 4);
    pair.server.close(id);
    pair.server.close(id);
    pair.server.exit_status(id, 5);
    pair.server.reply(id, true);
    let received = pair.receive();
    assert_eq!(received[1], request_message(42, b"exit-status", false, |payload| payload.u32(3)));
    assert_eq!(
        received[2],
        request_message(42, b"exit-signal", false, |payload| payload
            .bytes(b"\0\0\0\x04KILL\x01\0\0\0\x04text\0\0\0\0"))
    );
    let numbers: Vec<u8> = received.iter().map(|payload| payload[0]).collect();
    assert_eq!(
        numbers,
        [
            message::CHANNEL_SUCCESS,
            message::CHANNEL_REQUEST,
            message::CHANNEL_REQUEST,
            message::CHANNEL_EOF,
            message::CHANNEL_REQUEST,
            message::CHANNEL_CLOSE
        ]
    );
    pair.send(&request_message(id, b"exec", true, |payload| payload.string(b"x")));
    assert!(pair.no_event().is_empty());
    pair.send(&channel_message(message::CHANNEL_CLOSE, id, |_| {}));
    assert_eq!(pair.event(), format!("Closed {{ id: {id} }}"));
    assert!(pair.receive().is_empty());
    // Closed by the client first, with data under way to it.
    let id = pair.open_session();
    pair.server.send(id, DataStream::Data, b"late");
    pair.send(&channel_message(message::CHANNEL_CLOSE, id, |_| {}));
    assert_eq!(pair.event(), format!("Closed {{ id: {id} }}"));
    assert_eq!(pair.receive()[1], channel_message(message::CHANNEL_CLOSE, 42, |_| {}));
    pair.server.exit_status(id, 0);
    pair.server.close(id);
    pair.server.consumed(id, 10);
    assert!(pair.receive().is_empty());
    // A late message for it is no error.
    for number in [message::CHANNEL_WINDOW_ADJUST, message::CHANNEL_EOF, message::CHANNEL_CLOSE] {
        pair.send(&channel_message(number, id, |payload| payload.u32(1)));
        assert!(pair.no_event().is_empty());
    }
    pair.send(&channel_message(message::CHANNEL_CLOSE, id + 1, |_| {}));
    assert_eq!(pair.error(), "a message is for a channel that is not open");
}

#[test]
fn data_for_a_closed_channel_is_dropped_within_its_window() {
    let (mut pair, id) = pair();
    pair.server.close(id);
    pair.receive();
    for _ in 0..8 {
        pair.send(&data_message(id, &[0; 128 << 10]));
        assert!(pair.no_event().is_empty());
    }
    pair.send(&data_message(id, b"1"));
    assert_eq!(pair.error(), "data was sent beyond the channel's window");
}

#[test]
fn no_data_after_its_end() {
    let (mut pair, id) = pair();
    pair.send(&channel_message(message::CHANNEL_EOF, id, |_| {}));
    pair.event();
    pair.send(&data_message(id, b"1"));
    assert_eq!(pair.error(), "data was sent after its end");
}

#[test]
fn disconnecting() {
    let (mut pair, id) = pair();
    pair.send(b"\x01\0\0\0\x0b\0\0\0\x03bye\0\0\0\0");
    assert_eq!(pair.event(), "Disconnected { reason: 11, text: [98, 121, 101] }");
    assert!(pair.server.is_ended() && !pair.server.wants_input());
    assert_eq!((pair.server.room(id), pair.server.send(id, DataStream::Data, b"x")), (0, 0));
    assert!(pair.no_event().is_empty());
    let mut pair = Pair::logged_in(|_| {});
    pair.server.disconnect(disconnect_reason::BY_APPLICATION, "expired");
    pair.server.disconnect(disconnect_reason::BY_APPLICATION, "again");
    pair.server.keepalive();
    assert_eq!(pair.receive(), [b"\x01\0\0\0\x0b\0\0\0\x07expired\0\0\0\0"]);
    assert!(pair.server.is_ended());
    assert_eq!(pair.server.open_forwarded(Forwarded::Streamlocal { path: b"/s" }), None);
}

#[test]
fn packets_of_a_quarter_of_a_megabyte() {
    let (mut pair, id) = pair();
    pair.send(&data_message(id, &vec![9; 256 << 10]));
    assert!(pair.event().starts_with("Data"));
    pair.send(&data_message(id, &vec![9; (256 << 10) + 1]));
    assert_eq!(pair.error(), "a packet has more data than is allowed");
    let mut pair = Pair::logged_in(|_| {});
    pair.send(&open_message(b"session", 1, 1 << 30, 1 << 30));
    pair.event();
    pair.server.accept_open(0);
    pair.receive();
    let sent = pair.server.send_with(0, DataStream::Data, |room| {
        assert!(room.len() > 200_000);
        Ok::<_, Infallible>(room.len())
    });
    let payload = pair.receive().remove(0);
    let mut reader = Reader::new(&payload[5..]);
    assert_eq!(reader.string().map(<[u8]>::len), Ok(sent.unwrap_or_default()));
}
