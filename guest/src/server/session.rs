//! One connection, on a thread of its own.

use std::collections::HashMap;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::Shared;
use super::channel::{Channel, Context, Link, Slots};
use super::connected::Connected;
use super::forward::Forwards;
use super::login::Login;
use super::poll::{Polls, Waker};
use super::process::{Process, Request as Start};
use super::sftp::SftpChannel;
use super::socket::SocketChannel;
use crate::command::CommandChannel;
use crate::environment::is_variable;
use crate::idle::User;
use crate::log::log;
use crate::sftp::Digest;
use crate::ssh::{
    ChannelId, Connection, Event, GlobalRequest, OpenFailure, OpenKind, PublicKeyRef, Request, disconnect_reason,
};

/// After so long without anything happening, buffers are given back.
const QUIET: Duration = Duration::from_secs(1);
/// How long the last words to a client may take.
const FAREWELL: Duration = Duration::from_secs(5);
/// After so long a client has read what it was sent.
const READ_BY_THEN: Duration = Duration::from_millis(50);
/// Variables that a client may set for a command, and their bytes.
const MOST_VARIABLES: usize = 1024;
const MOST_VARIABLE_BYTES: usize = 1 << 20;
/// Digests that are kept for a client that does not ask for them.
const MOST_DIGESTS: usize = 1024;

/// What a session channel was told before it is used.
#[derive(Debug, Default)]
struct Preparation {
    start: Start,
    bytes: usize,
}

#[derive(Debug)]
enum Slot {
    /// A session that nothing was requested of yet.
    New(Box<Preparation>),
    /// Something that runs.
    Used(Box<dyn Channel>),
}

/// A connection and its channels.
#[derive(Debug)]
struct Session<'a> {
    socket: &'a TcpStream,
    connected: &'a Connected,
    connection: Connection,
    context: Context,
    channels: HashMap<ChannelId, Slot>,
    /// Closed channels that have something to write yet, and until when.
    lingering: Vec<(Box<dyn Channel>, Instant)>,
    forwards: Forwards,
    digests: Vec<Digest>,
    /// Until the client has logged in.
    login: Option<Login>,
    user: User<'a>,
}

const SOCKET: ChannelId = ChannelId::MAX;
const WAKER: ChannelId = ChannelId::MAX - 1;
const FORWARDS: ChannelId = ChannelId::MAX - 2;
/// The first of those that linger.
const LINGERING: ChannelId = 1 << 31;
/// How many may linger, and how long.
const MOST_LINGERING: usize = 64;
const LINGER: Duration = Duration::from_secs(60);

/// Serves a client until the connection ends.
pub(crate) fn serve(shared: &Arc<Shared>, socket: &TcpStream, waker: Arc<Waker>, login: Login, connected: &Connected) {
    let context = Context {
        shared: Arc::clone(shared),
        waker,
        client: Arc::from(""),
        addresses: addresses(socket),
        is_library: false,
    };
    let mut session = Session {
        socket,
        connected,
        connection: Connection::new(Arc::clone(&shared.ssh)),
        context,
        channels: HashMap::new(),
        lingering: Vec::new(),
        forwards: Forwards::default(),
        digests: Vec::new(),
        login: Some(login),
        user: User::new(&shared.idle),
    };
    match session.run() {
        Ok(()) => {}
        Err(End::Lost) => {}
        Err(End::Protocol(text)) => {
            log!("connection of {}: {text}", session.context.addresses);
        }
    }
    let was_logged_in = session.connection.is_authenticated();
    session.say_farewell();
    if was_logged_in {
        log!("{} has left", session.context.client);
    }
}

fn addresses(socket: &TcpStream) -> String {
    match (socket.peer_addr(), socket.local_addr()) {
        (Ok(peer), Ok(local)) => {
            let (from, to) = (peer.ip().to_canonical(), local.ip().to_canonical());
            format!("{from} {} {to} {}", peer.port(), local.port())
        }
        _ => "UNKNOWN 65535 UNKNOWN 65535".to_owned(),
    }
}

/// Why a connection has ended.
enum End {
    /// The client is gone.
    Lost,
    /// The client did not keep to the protocol or to a limit.
    Protocol(String),
}

impl Session<'_> {
    fn run(&mut self) -> Result<(), End> {
        let mut happened_at = Instant::now();
        loop {
            while self.handle_event()? {}
            self.progress();
            self.user.set_using(self.has_something_open());
            let was_full = !self.connection.wants_input();
            self.write()?;
            if self.connection.is_ended() {
                return Ok(());
            }
            if was_full && self.connection.wants_input() {
                // What was read before may have requests that had to wait for room.
                continue;
            }
            let quiet = happened_at.elapsed();
            let holds_memory = self.connection.holds_memory();
            if holds_memory && quiet >= QUIET {
                self.release_memory();
                continue;
            }
            let mut polls = self.polls();
            if let Some(login) = &self.login {
                polls.until(login.deadline());
            }
            if holds_memory {
                polls.until(happened_at + QUIET);
            }
            let happened = polls.wait().map_err(|_| End::Lost)?;
            if self.login.as_ref().is_some_and(|login| login.deadline() <= Instant::now()) {
                self.connection.disconnect(disconnect_reason::BY_APPLICATION, "no login in time");
                return Err(End::Protocol("no login in time".to_owned()));
            }
            if self.connected.is_closing() {
                // A client may lose what it has not read yet if it reads a goodbye behind it.
                if happened_at.elapsed() >= READ_BY_THEN {
                    self.connection.disconnect(disconnect_reason::BY_APPLICATION, "closed by the operator");
                }
                return Ok(());
            }
            if !happened.is_empty() {
                happened_at = Instant::now();
            }
            for ((id, slot), events) in happened {
                match id {
                    SOCKET if events.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) => self.read()?,
                    SOCKET => {}
                    WAKER => self.context.waker.clear(),
                    FORWARDS => self.accept(slot),
                    id if id >= LINGERING => {
                        if let Some((channel, _)) = self.lingering.get_mut((id - LINGERING) as usize) {
                            channel.ready(slot, events);
                        }
                    }
                    _ => {
                        if let Some(Slot::Used(channel)) = self.channels.get_mut(&id) {
                            channel.ready(slot, events);
                        }
                    }
                }
            }
        }
    }

    fn polls(&self) -> Polls<'_, (ChannelId, u8)> {
        let mut polls = Polls::new();
        let mut events = PollFlags::empty();
        events.set(PollFlags::IN, self.connection.wants_input());
        events.set(PollFlags::OUT, !self.connection.output().is_empty());
        polls.add((SOCKET, 0), self.socket.as_fd(), events);
        polls.add((WAKER, 0), self.context.waker.as_fd(), PollFlags::IN);
        for (slot, listener) in self.forwards.listeners() {
            polls.add((FORWARDS, slot), listener, PollFlags::IN);
        }
        for (id, (channel, until)) in (LINGERING..).zip(&self.lingering) {
            channel.register(0, &mut Slots { polls: &mut polls, id });
            polls.until(*until);
        }
        for (id, slot) in &self.channels {
            if let Slot::Used(channel) = slot {
                channel.register(self.connection.room(*id), &mut Slots { polls: &mut polls, id: *id });
            }
        }
        polls
    }

    fn read(&mut self) -> Result<(), End> {
        if !self.connection.wants_input() {
            // A hang-up while the client is not listened to: what it has not read is lost.
            return Err(End::Lost);
        }
        match recv(self.socket, self.connection.read_buffer(), RecvFlags::empty()) {
            Ok((0, _)) => Err(End::Lost),
            Ok((length, _)) => {
                self.connection.received(length);
                Ok(())
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            Err(_) => Err(End::Lost),
        }
    }

    fn write(&mut self) -> Result<(), End> {
        while !self.connection.output().is_empty() {
            match send(self.socket, self.connection.output(), SendFlags::NOSIGNAL) {
                Ok(length) => self.connection.written(length),
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(_) => return Err(End::Lost),
            }
        }
        Ok(())
    }

    fn say_farewell(&mut self) {
        // Commands first: what must end with the connection does not wait for a client that does not listen.
        self.channels.clear();
        let until = Instant::now() + FAREWELL;
        while self.write().is_ok() && !self.connection.output().is_empty() && Instant::now() < until {
            let mut polls = Polls::new();
            polls.add((), self.socket.as_fd(), PollFlags::OUT);
            polls.until(until);
            if polls.wait().is_err() {
                return;
            }
        }
    }

    fn progress(&mut self) {
        self.lingering.retain_mut(|(channel, until)| channel.linger() && *until > Instant::now());
        let (connection, context) = (&mut self.connection, &self.context);
        self.channels.retain(|id, slot| {
            let Slot::Used(channel) = slot else { return true };
            let mut link = Link { connection, id: *id, context, is_refused: false };
            channel.progress(&mut link);
            !link.is_refused
        });
        let asking = self.channels.iter().find_map(|(id, slot)| match slot {
            Slot::Used(channel) if channel.wants_digests() => Some(*id),
            _ => None,
        });
        let Some(asking) = asking else { return };
        for slot in self.channels.values_mut() {
            if let Slot::Used(channel) = slot {
                keep_digests(&mut self.digests, channel.take_digests());
            }
        }
        if let Some(Slot::Used(channel)) = self.channels.get_mut(&asking) {
            channel.digests(std::mem::take(&mut self.digests));
            let (connection, context) = (&mut self.connection, &self.context);
            let mut link = Link { connection, id: asking, context, is_refused: false };
            channel.progress(&mut link);
        }
    }

    fn has_something_open(&self) -> bool {
        let mut channels = self.channels.values();
        channels.any(|slot| matches!(slot, Slot::Used(channel) if channel.has_something_open()))
    }

    fn release_memory(&mut self) {
        self.connection.release_memory();
        for slot in self.channels.values_mut() {
            if let Slot::Used(channel) = slot {
                channel.release_memory();
            }
        }
    }

    /// Handles one event, if there is one.
    fn handle_event(&mut self) -> Result<bool, End> {
        let event = self.connection.next_event().map_err(|e| End::Protocol(e.to_string()))?;
        let Some(event) = event else { return Ok(false) };
        // Clients ask by a global request whether the connection is alive.
        if self.login.is_none() && !matches!(event, Event::Global { .. }) {
            self.context.shared.idle.note_use();
        }
        match event {
            Event::Auth { user, key, proved } => {
                let fingerprint: Arc<str> = Arc::from(key.fingerprint());
                if proved {
                    self.connected.set_client(&fingerprint);
                }
                let accepted = self.context.shared.accepts(user, key);
                if accepted && proved {
                    self.context.client = fingerprint;
                    let key = describe(key);
                    self.connection.accept_auth();
                    self.login = None;
                    self.context.is_library =
                        self.connection.client_version().starts_with(sandbox_protocol::CLIENT_VERSION.as_bytes());
                    let version = String::from_utf8_lossy(self.connection.client_version()).into_owned();
                    log!("{} has logged in from {}, {key}, {version}", self.context.client, self.context.addresses);
                } else if accepted {
                    self.connection.accept_auth();
                } else {
                    self.connection.reject_auth();
                }
            }
            Event::Open { id, kind } => {
                let slot = match kind {
                    OpenKind::Session => Some(Slot::New(Box::default())),
                    OpenKind::DirectTcpip { host, port, .. } => {
                        SocketChannel::to_host(&self.context, host, port).map(|channel| Slot::Used(Box::new(channel)))
                    }
                    OpenKind::DirectStreamlocal { path } => {
                        SocketChannel::to_path(path).map(|channel| Slot::Used(Box::new(channel)))
                    }
                    OpenKind::Connect { target } => {
                        SocketChannel::to_target(target).map(|channel| Slot::Used(Box::new(channel)))
                    }
                };
                // The other ones are accepted once they are connected.
                let is_accepted = matches!(kind, OpenKind::Session | OpenKind::Connect { .. });
                match slot {
                    Some(slot) => {
                        if is_accepted {
                            self.connection.accept_open(id);
                        }
                        self.channels.insert(id, slot);
                    }
                    None => self.connection.refuse_open(id, OpenFailure::ConnectFailed, "it can't be connected to"),
                }
            }
            Event::OpenConfirmed { id } => {
                if let Some(Slot::Used(channel)) = self.channels.get_mut(&id) {
                    channel.confirmed();
                }
            }
            Event::Closed { id } | Event::OpenFailed { id, .. } => {
                if let Some(Slot::Used(mut channel)) = self.channels.remove(&id) {
                    keep_digests(&mut self.digests, channel.take_digests());
                    if self.lingering.len() < MOST_LINGERING && channel.linger() {
                        self.lingering.push((channel, Instant::now() + LINGER));
                    }
                }
            }
            Event::Request { id, request, .. } => {
                let granted = match self.channels.get_mut(&id) {
                    Some(slot) => slot.request(&self.context, &request),
                    None => false,
                };
                self.connection.reply(id, granted);
            }
            Event::Global { request, .. } => {
                let answer = match request {
                    GlobalRequest::TcpipForward { host, port } => self.forwards.listen_tcp(host, port),
                    GlobalRequest::StreamlocalForward { path } => self.forwards.listen_path(path),
                    GlobalRequest::CancelTcpipForward { host, port } => self.forwards.cancel_tcp(host, port),
                    GlobalRequest::CancelStreamlocalForward { path } => self.forwards.cancel_path(path),
                    _ => None,
                };
                self.connection.reply_global(answer.is_some(), answer.as_deref().unwrap_or_default());
            }
            Event::Data { id, bytes } => {
                let done = match self.channels.get_mut(&id) {
                    Some(Slot::Used(channel)) => channel.data(&self.context, bytes),
                    _ => bytes.len(),
                };
                self.connection.consumed(id, done);
            }
            Event::ExtendedData { id, bytes, .. } => {
                let length = bytes.len();
                self.connection.consumed(id, length);
            }
            Event::Eof { id } => {
                if let Some(Slot::Used(channel)) = self.channels.get_mut(&id) {
                    channel.eof();
                }
            }
            Event::Disconnected { .. } => return Ok(false),
        }
        Ok(true)
    }

    /// Accepts a connection to one of the ports that are forwarded to the client.
    fn accept(&mut self, slot: u8) {
        let Some(accepted) = self.forwards.accept(slot) else { return };
        if let Some(id) = self.connection.open_forwarded(accepted.kind()) {
            self.channels.insert(id, Slot::Used(Box::new(SocketChannel::accepted(accepted.into_socket()))));
        }
    }
}

fn describe(key: PublicKeyRef<'_>) -> &'static str {
    key.algorithm().name()
}

fn keep_digests(kept: &mut Vec<Digest>, more: Vec<Digest>) {
    kept.extend(more);
    let excess = kept.len().saturating_sub(MOST_DIGESTS);
    kept.drain(..excess);
}

impl Slot {
    fn request(&mut self, context: &Context, request: &Request<'_>) -> bool {
        match self {
            Self::New(preparation) => match preparation.take(request) {
                Step::Refused => false,
                Step::Noted => true,
                Step::Start => {
                    let start = std::mem::take(&mut preparation.start);
                    *self = Self::Used(Box::new(Process::start(context, start)));
                    true
                }
                Step::Subsystem(name) => {
                    let channel: Box<dyn Channel> = match name {
                        b"sftp" => Box::new(SftpChannel::new(context)),
                        name if name == sandbox_protocol::COMMAND_SUBSYSTEM.as_bytes() => {
                            Box::new(CommandChannel::default())
                        }
                        _ => return false,
                    };
                    *self = Self::Used(channel);
                    true
                }
            },
            Self::Used(channel) => channel.request(request),
        }
    }
}

/// What a request before the start leads to.
enum Step<'a> {
    Refused,
    Noted,
    Start,
    Subsystem(&'a [u8]),
}

impl Preparation {
    fn take<'a>(&mut self, request: &Request<'a>) -> Step<'a> {
        match *request {
            Request::Env { name, value } => {
                self.bytes += name.len() + value.len();
                let is_valid = is_variable(name, value);
                let fits = self.start.env.len() < MOST_VARIABLES && self.bytes <= MOST_VARIABLE_BYTES;
                if !is_valid || !fits {
                    return Step::Refused;
                }
                self.start.env.push((name.to_vec(), value.to_vec()));
                Step::Noted
            }
            Request::Pty { .. } if self.start.terminal.is_some() => Step::Refused,
            Request::Pty { term, columns, rows, width, height, modes } => {
                self.start.terminal = Some(crate::process::Terminal {
                    term: term.to_vec(),
                    columns: clamp(columns),
                    rows: clamp(rows),
                    width: clamp(width),
                    height: clamp(height),
                    modes: modes.to_vec(),
                });
                Step::Noted
            }
            Request::WindowChange { columns, rows, width, height } => {
                if let Some(terminal) = &mut self.start.terminal {
                    (terminal.columns, terminal.rows) = (clamp(columns), clamp(rows));
                    (terminal.width, terminal.height) = (clamp(width), clamp(height));
                }
                Step::Noted
            }
            Request::Exec { line } => {
                self.start.line = Some(line.to_vec());
                Step::Start
            }
            Request::Shell => Step::Start,
            Request::Subsystem { name } => Step::Subsystem(name),
            _ => Step::Refused,
        }
    }
}

/// A size of a terminal, which has 16 bits there.
pub(crate) fn clamp(size: u32) -> u16 {
    u16::try_from(size).unwrap_or(u16::MAX)
}
