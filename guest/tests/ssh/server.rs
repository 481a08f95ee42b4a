//! A small server around the transport: one thread a connection, with commands of its own instead of processes.

use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use ring::digest::{Context, SHA256};
use rustix::event::{PollFd, PollFlags, poll};
use sandbox_guest::ssh::{
    ChannelId, Connection, DataStream, Event, GlobalRequest, HostKey, OpenKind, PublicKey, Request, ServerConfig,
};

use crate::pattern;

/// A server on a port of its own; it stops when it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) port: u16,
    /// The line of the host key for `known_hosts`, without the host.
    pub(crate) host_key: String,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: Arc<ServerConfig>,
    users: Vec<PublicKey>,
    stops: AtomicBool,
    /// Connections that have not ended.
    connections: AtomicUsize,
    /// What connections ended with.
    ends: Mutex<Vec<String>>,
    /// The most bytes that a connection held in channels.
    most_held: AtomicUsize,
}

impl Server {
    pub(crate) fn start(users: Vec<PublicKey>, change: impl FnOnce(&mut ServerConfig)) -> Self {
        let host_key = HostKey::generate().expect("a host key");
        let line = host_key.public_line();
        let mut config = ServerConfig::new(host_key);
        change(&mut config);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared {
            config: Arc::new(config),
            users,
            stops: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            ends: Mutex::new(Vec::new()),
            most_held: AtomicUsize::new(0),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for socket in listener.incoming() {
                if accepting.stops.load(Ordering::SeqCst) {
                    break;
                }
                let shared = Arc::clone(&accepting);
                let socket = socket.expect("a connection");
                shared.connections.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || {
                    let end = Session::new(socket, Arc::clone(&shared)).run();
                    shared.ends.lock().expect("no panic").push(end);
                    shared.connections.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { port, host_key: line, shared }
    }

    /// Waits until all connections have ended, and says how.
    pub(crate) fn ends(&self) -> Vec<String> {
        while self.shared.connections.load(Ordering::SeqCst) > 0 {
            thread::sleep(Duration::from_millis(5));
        }
        self.shared.ends.lock().expect("no panic").clone()
    }

    pub(crate) fn most_held(&self) -> usize {
        self.shared.most_held.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stops.store(true, Ordering::SeqCst);
        // Wakes the listener.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// What a channel does.
enum Work {
    Nothing,
    /// Sends back what comes.
    Echo,
    /// Sends so many bytes of the pattern.
    Send {
        stream: DataStream,
        at: u64,
        end: u64,
    },
    /// Counts and hashes what comes, and says so at its end.
    Count {
        length: u64,
        hash: Box<Context>,
    },
    /// Takes nothing.
    Never,
    /// Answers the requests of SFTP that reading a file needs.
    Sftp {
        input: Vec<u8>,
    },
    /// Ends when everything is sent.
    End {
        code: u32,
    },
}

struct Channel {
    work: Work,
    /// What is to be sent.
    output: VecDeque<u8>,
    /// What came and was not taken.
    held: usize,
    eof: bool,
    environment: BTreeMap<Vec<u8>, Vec<u8>>,
    terminal: Option<String>,
}

struct Session {
    socket: TcpStream,
    shared: Arc<Shared>,
    connection: Connection,
    channels: BTreeMap<ChannelId, Channel>,
}

impl Session {
    fn new(socket: TcpStream, shared: Arc<Shared>) -> Self {
        socket.set_nonblocking(true).expect("a socket that does not block");
        socket.set_nodelay(true).expect("a socket without delay");
        let connection = Connection::new(Arc::clone(&shared.config));
        Self { socket, shared, connection, channels: BTreeMap::new() }
    }

    fn run(mut self) -> String {
        loop {
            let goes_on = self.take_events();
            // What was written makes room for more, and nothing else would wake this loop for it.
            while self.work() {
                if let Err(text) = self.write() {
                    return text;
                }
            }
            if let Err(text) = self.write() {
                return text;
            }
            match goes_on {
                Ok(()) => {}
                Err(text) if self.connection.output().is_empty() => return text,
                Err(_) => {}
            }
            let mut flags = PollFlags::empty();
            if self.connection.wants_input() {
                flags |= PollFlags::IN;
            }
            if !self.connection.output().is_empty() {
                flags |= PollFlags::OUT;
            }
            assert!(!flags.is_empty(), "nothing would wake this connection");
            let mut sockets = [PollFd::new(&self.socket, flags)];
            poll(&mut sockets, None).expect("poll");
            if sockets[0].revents().intersects(PollFlags::IN) {
                match self.socket.read(self.connection.read_buffer()) {
                    Ok(0) => return "end of file".to_owned(),
                    Ok(length) => self.connection.received(length),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return error.to_string(),
                }
            }
        }
    }

    fn write(&mut self) -> Result<(), String> {
        while !self.connection.output().is_empty() {
            match self.socket.write(self.connection.output()) {
                Ok(length) => self.connection.written(length),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(())
    }

    /// An error is the end.
    fn take_events(&mut self) -> Result<(), String> {
        while let Some(event) = self.connection.next_event().map_err(|error| error.to_string())? {
            match event {
                Event::Auth { user, key, proved: _ } => {
                    let knows = user == b"user" && self.shared.users.iter().any(|known| *known == key);
                    if knows { self.connection.accept_auth() } else { self.connection.reject_auth() }
                }
                Event::Open { id, kind: OpenKind::Session | OpenKind::DirectTcpip { .. } } => {
                    let work = if matches!(event, Event::Open { kind: OpenKind::Session, .. }) {
                        Work::Nothing
                    } else {
                        Work::Echo
                    };
                    let channel = Channel {
                        work,
                        output: VecDeque::new(),
                        held: 0,
                        eof: false,
                        environment: BTreeMap::new(),
                        terminal: None,
                    };
                    self.channels.insert(id, channel);
                    self.connection.accept_open(id);
                }
                Event::Request { id, request, .. } => {
                    let channel = self.channels.get_mut(&id).expect("an open channel");
                    let ok = channel.request(request);
                    self.connection.reply(id, ok);
                }
                Event::Global { request, .. } => {
                    let ok = matches!(request, GlobalRequest::TcpipForward { .. });
                    self.connection.reply_global(ok, &7u32.to_be_bytes());
                }
                Event::Data { id, bytes } => {
                    let length = bytes.len();
                    let channel = self.channels.get_mut(&id).expect("an open channel");
                    let taken = channel.data(bytes);
                    if taken {
                        self.connection.consumed(id, length);
                    } else {
                        channel.held += length;
                        let held = self.channels.values().map(|channel| channel.held).sum();
                        self.shared.most_held.fetch_max(held, Ordering::SeqCst);
                    }
                }
                Event::Eof { id } => self.channels.get_mut(&id).expect("an open channel").eof = true,
                Event::Closed { id } => {
                    self.channels.remove(&id);
                }
                Event::Disconnected { text, .. } => {
                    return Err(format!("disconnected: {}", String::from_utf8_lossy(text)));
                }
                other => panic!("an event that nobody asked for: {other:?}"),
            }
        }
        Ok(())
    }

    /// Sends what there is room for. Says whether that was something.
    fn work(&mut self) -> bool {
        let mut progress = false;
        for (&id, channel) in &mut self.channels {
            loop {
                channel.prepare();
                if channel.output.is_empty() {
                    break;
                }
                let sent = self.connection.send(id, DataStream::Data, channel.output.as_slices().0);
                if sent == 0 {
                    break;
                }
                progress = true;
                channel.output.drain(..sent);
                if matches!(channel.work, Work::Echo) {
                    channel.held -= sent;
                    self.connection.consumed(id, sent);
                }
            }
            if let Work::Send { stream, at, end } = &mut channel.work {
                while *at < *end {
                    let filled = self.connection.send_with(id, *stream, |room| {
                        let length = room.len().min((*end - *at) as usize);
                        pattern::fill(*at, &mut room[..length]);
                        Ok::<_, std::convert::Infallible>(length)
                    });
                    match filled {
                        Ok(0) => break,
                        Ok(length) => {
                            progress = true;
                            *at += length as u64;
                        }
                        Err(never) => match never {},
                    }
                }
                if *at == *end {
                    channel.work = Work::End { code: 0 };
                }
            }
            let ends = match &channel.work {
                Work::End { code } => Some(*code),
                Work::Echo if channel.eof => Some(0),
                _ => None,
            };
            if let Some(code) = ends.filter(|_| channel.output.is_empty()) {
                self.connection.exit_status(id, code);
                self.connection.eof(id);
                self.connection.close(id);
                channel.work = Work::Nothing;
            }
        }
        progress
    }
}

impl Channel {
    /// Says whether the request was fulfilled.
    fn request(&mut self, request: Request<'_>) -> bool {
        match request {
            Request::Env { name, value } => {
                self.environment.insert(name.to_vec(), value.to_vec());
                true
            }
            Request::Pty { term, columns, rows, .. } => {
                self.terminal = Some(format!("{} {columns}x{rows}", String::from_utf8_lossy(term)));
                true
            }
            Request::Exec { line } => {
                let line = String::from_utf8_lossy(line).into_owned();
                let mut words = line.split(' ');
                let name = words.next().unwrap_or_default();
                let number = words.next().and_then(|word| word.parse::<u64>().ok()).unwrap_or_default();
                self.work = match name {
                    "echo" => Work::Echo,
                    "send" => Work::Send { stream: DataStream::Data, at: 0, end: number },
                    "complain" => Work::Send { stream: DataStream::Stderr, at: 0, end: number },
                    "count" => Work::Count { length: 0, hash: Box::new(Context::new(&SHA256)) },
                    "never" => Work::Never,
                    "ping" => {
                        self.output.extend(b"pong\n");
                        Work::End { code: 0 }
                    }
                    "show" => {
                        self.output.extend(format!("{:?} {:?}\n", self.terminal, self.environment).bytes());
                        Work::End { code: 0 }
                    }
                    "exit" => Work::End { code: number as u32 },
                    _ => return false,
                };
                true
            }
            Request::Subsystem { name: b"sftp" } => {
                self.work = Work::Sftp { input: Vec::new() };
                true
            }
            _ => false,
        }
    }

    /// Says whether the data is done with.
    fn data(&mut self, bytes: &[u8]) -> bool {
        match &mut self.work {
            Work::Echo => {
                self.output.extend(bytes);
                false
            }
            Work::Never => false,
            Work::Count { length, hash } => {
                *length += bytes.len() as u64;
                hash.update(bytes);
                true
            }
            Work::Sftp { input } => {
                input.extend_from_slice(bytes);
                true
            }
            _ => true,
        }
    }

    /// Makes output where input leads to some.
    fn prepare(&mut self) {
        match &mut self.work {
            Work::Count { length, hash } if self.eof => {
                let text = format!("{length} {}\n", pattern::hex(hash.clone().finish().as_ref()));
                self.output.extend(text.bytes());
                self.work = Work::End { code: 0 };
            }
            Work::Sftp { input } => {
                // One answer at a time, so that answers wait as requests, which are small.
                while self.output.is_empty()
                    && let Some(answer) = sftp_answer(input)
                {
                    self.output.extend(answer);
                }
                if self.eof && self.output.is_empty() {
                    self.work = Work::End { code: 0 };
                }
            }
            _ => {}
        }
    }
}

/// Takes a request of SFTP and answers it: every file has the pattern in it and no end.
fn sftp_answer(input: &mut Vec<u8>) -> Option<Vec<u8>> {
    let length = u32::from_be_bytes(*input.first_chunk()?) as usize;
    if input.len() < 4 + length {
        return None;
    }
    let request: Vec<u8> = input.drain(..4 + length).skip(4).collect();
    let field = |at: usize| request[at..at + 4].try_into().map(u32::from_be_bytes).expect("four bytes");
    let mut answer = vec![0; 4];
    match request[0] {
        1 => answer.extend([2, 0, 0, 0, 3]),
        // OPEN: a handle.
        3 => {
            answer.push(102);
            answer.extend(&request[1..5]);
            answer.extend([0, 0, 0, 1, b'h']);
        }
        // READ.
        5 => {
            let offset = u64::from(field(10)) << 32 | u64::from(field(14));
            let length = field(18).min(256 << 10) as usize;
            answer.push(103);
            answer.extend(&request[1..5]);
            answer.extend((length as u32).to_be_bytes());
            let start = answer.len();
            answer.resize(start + length, 0);
            pattern::fill(offset, &mut answer[start..]);
        }
        // CLOSE: OK. Anything else: not supported.
        kind => {
            answer.push(101);
            answer.extend(&request[1..5]);
            answer.extend([0, 0, 0, if kind == 4 { 0 } else { 8 }]);
            answer.extend([0; 8]);
        }
    }
    let length = (answer.len() - 4) as u32;
    answer[..4].copy_from_slice(&length.to_be_bytes());
    Some(answer)
}
