//! Clients that flood, stall or speak garbage cost little and stop nobody.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use sandbox_protocol::{FrameKind, Request};

use crate::client::{Client, connect, run, shell};
use crate::guest::{Guest, wait_until};

#[test]
fn half_open_logins() {
    let guest = Guest::start();
    let mut client = Client::new(&guest);
    let before = guest.memory();
    let open = || TcpStream::connect(("127.0.0.1", guest.port)).unwrap();
    let mut waiting: Vec<TcpStream> = (0..200).map(|_| open()).collect();
    // The oldest were dropped, the youngest wait.
    waiting[0].set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut greeting = Vec::new();
    waiting[0].read_to_end(&mut greeting).unwrap();
    assert!(greeting.is_empty() || greeting.starts_with(b"SSH-2.0-"));
    let mut last = waiting.pop().unwrap();
    assert!(last.read(&mut [0; 4]).unwrap() > 0);
    assert_eq!(client.run(run(&["true"])).code(), 0);
    assert_eq!(Client::new(&guest).run(run(&["true"])).code(), 0);
    let used = guest.memory().saturating_sub(before);
    assert!(used < 16 << 20, "{used} bytes");
}

#[test]
fn garbage() {
    let guest = Guest::start();
    let mut client = Client::new(&guest);
    let garbage: Vec<u8> = (0..100_000u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for begin in [
        &b""[..],
        b"SSH-2.0-x\r\n",
        b"SSH-1.0-x\r\n",
        b"GET / HTTP/1.1\r\n",
        b"\0\0\0\0",
        b"SSH-2.0-x\r\n\xff\xff\xff\xff",
    ] {
        let mut stream = TcpStream::connect(("127.0.0.1", guest.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        // The guest may have closed it half-way.
        let _ = stream.write_all(begin).and_then(|()| stream.write_all(&garbage));
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
    }
    assert_eq!(client.run(run(&["true"])).code(), 0);
}

#[test]
fn too_many_channels() {
    let guest = Guest::start();
    let mut client = Client::new(&guest);
    let flood = connect(&guest);
    let mut channels = Vec::new();
    while let Ok(channel) = flood.channel_session() {
        channels.push(channel);
        assert!(channels.len() < 10_000);
    }
    assert!(channels.len() >= 100, "{}", channels.len());
    // The connection itself works on, and so do others.
    let mut first = channels.swap_remove(0);
    first.exec("exit 3").unwrap();
    let _ = first.read(&mut [0; 1]);
    first.wait_close().unwrap();
    assert_eq!(first.exit_status().unwrap(), 3);
    assert_eq!(client.run(run(&["true"])).code(), 0);
}

#[test]
fn a_client_that_does_not_read() {
    let guest = Guest::start();
    let mut client = Client::new(&guest);
    let mark = guest.mark();
    let before = guest.memory();
    let mut stalled = Client::new(&guest);
    stalled.request(&Request::Run(shell(&format!("yes; sleep {mark}"))));
    let stopped = Instant::now() + Duration::from_secs(1);
    while Instant::now() < stopped {
        assert_eq!(client.run(run(&["true"])).code(), 0);
    }
    let used = guest.memory().saturating_sub(before);
    assert!(used < 24 << 20, "{used} bytes");
    drop(stalled);
}

#[test]
fn connections_have_a_limit() {
    let guest = Guest::with_arguments(&["--max-connections", "3"]);
    let mut clients: Vec<Client> = (0..3).map(|_| Client::new(&guest)).collect();
    let mut stream = TcpStream::connect(("127.0.0.1", guest.port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.is_empty());
    for client in &mut clients {
        assert_eq!(client.run(run(&["true"])).code(), 0);
    }
    clients.pop();
    wait_until("room for another connection", || {
        let mut stream = TcpStream::connect(("127.0.0.1", guest.port)).unwrap();
        stream.read(&mut [0; 4]).is_ok_and(|length| length > 0)
    });
}

#[test]
fn frames_without_end() {
    let guest = Guest::start();
    let mut client = Client::new(&guest);
    let before = guest.memory();
    let mut other = Client::new(&guest);
    other.write(&sandbox_protocol::header(FrameKind::Request, u32::MAX));
    assert!(other.is_closed_by_guest());
    let mut other = Client::new(&guest);
    other.write(&[200, 0xff, 0xff, 0xff, 0xff]);
    let part = vec![0; 1 << 20];
    for _ in 0..20 {
        other.write(&part);
    }
    assert_eq!(client.run(run(&["true"])).code(), 0);
    let used = guest.memory().saturating_sub(before);
    assert!(used < 16 << 20, "{used} bytes");
}

#[test]
fn many_commands_leave_nothing() {
    let guest = Guest::start();
    let mut client = Client::new(&guest);
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", guest.pid)).unwrap().count();
    for _ in 0..100 {
        assert_eq!(client.run(run(&["true"])).code(), 0);
    }
    let (memory, before) = (guest.memory(), descriptors());
    for _ in 0..1000 {
        assert_eq!(client.run(run(&["true"])).code(), 0);
    }
    assert!(descriptors() <= before + 2);
    let used = guest.memory().saturating_sub(memory);
    assert!(used < 1 << 20, "{used} bytes");
}
