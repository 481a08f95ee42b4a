//! One libssh2 session: connect, check the host key, log in, and wait for the socket within a deadline.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Weak};
use std::time::Duration;

use socket2::SockRef;

use super::frames::CommandChannel;
use super::identity::{Identity, PublicKey};
use super::raw::{self, Answer, Connection, Failure, Sftp};
use super::stream::Stream;
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::fd::{self, Awaited, Readiness};
use crate::openssl_end::InUse;

/// The longest single wait for the socket; the loops around it look at the deadline again.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// How long libssh2 may go on reading for somebody who has more to do: it does so as long as anything comes.
pub(super) const TURN: Duration = Duration::from_millis(100);

/// What an answer of the SFTP server takes beside names and contents, with its packets.
const ANSWER: u64 = 512;

/// Offered when the linked libssh2 does not use the table of `sandbox-ciphers`: its other ciphers abort the process on
/// a packet of an odd length.
const SAFE_CIPHER: &str = "chacha20-poly1305@openssh.com";
#[cfg(feature = "fast-ciphers")]
const NO_CIPHER: &str = "the policy of this system's OpenSSL allows neither AES-GCM nor ChaCha20-Poly1305";

/// What the session calls itself.
const VERSION: &str = concat!("SSH-2.0-sandbox_", env!("CARGO_PKG_VERSION"));

/// Who logs in, and to whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Login<'a> {
    pub(crate) user: &'a str,
    pub(crate) identity: &'a Identity,
    /// `None` only over a channel that is authenticated itself: the tunnel of the Pod's creator.
    pub(crate) host_key: Option<&'a PublicKey>,
}

/// A logged-in session, used by one operation at a time.
pub(crate) struct Session {
    ssh: ssh2::Session,
    connection: Arc<Connection>,
    host_key: PublicKey,
    sftp: Option<Sftp>,
    /// `None` before its first use and during a request.
    commands: Option<CommandChannel>,
    /// Must not go back to the pool.
    is_unusable: Cell<bool>,
    /// The shortest that was seen.
    round_trip: Cell<Option<Duration>>,
    pid: u32,
    /// Freeing a session uses OpenSSL; the last field, since that is freed last.
    freeing: Option<InUse>,
}

/// Ends a session from another thread than the one that uses it.
#[derive(Debug)]
pub(crate) struct Cutter(Weak<Connection>);

impl Cutter {
    /// Nothing more arrives but what has arrived.
    pub(crate) fn cut(&self) {
        if let Some(connection) = self.0.upgrade() {
            let _ = SockRef::from(connection.stream()).shutdown(std::net::Shutdown::Both);
        }
    }

    /// Whether there is still something to cut.
    pub(crate) fn is_of_use(&self) -> bool {
        self.0.strong_count() > 0
    }
}

impl Session {
    /// The SSH handshake, the check of the host key, and the login: 5 round trips.
    pub(crate) fn log_in(stream: Stream, login: &Login<'_>, deadline: Deadline) -> Result<Self> {
        let unusable = |e: io::Error| Error::new(ErrorKind::Connect, format!("the socket can't be used: {e}"));
        stream.prepare().map_err(unusable)?;
        let mut ssh = ssh2::Session::new().map_err(|e| connect_error("begin", e.into()))?;
        let connection = Connection::attach(&mut ssh, stream);
        ssh.set_blocking(false);
        // By this name the guest knows that SFTP may answer with error numbers.
        ssh.set_banner(VERSION).map_err(|e| connect_error("begin", e.into()))?;
        // The guest makes an ed25519 key; anything else is not our server.
        let prefer = |method, names| ssh.method_pref(method, names).map_err(|e| connect_error("begin", e.into()));
        prefer(ssh2::MethodType::HostKey, "ssh-ed25519")?;
        for direction in [ssh2::MethodType::CryptCs, ssh2::MethodType::CryptSc] {
            prefer(direction, SAFE_CIPHER)?;
            #[cfg(feature = "fast-ciphers")]
            match sandbox_ciphers::names() {
                "" => return Err(Error::new(ErrorKind::Connect, NO_CIPHER)),
                names if sandbox_ciphers::is_used() => prefer(direction, names)?,
                _ => {}
            }
        }
        let waiter = ssh.clone();
        until_done(&waiter, &connection, deadline, "the SSH handshake", || ssh.handshake().map_err(Failure::from))
            .map_err(|stop| stop.into_error(|failure| connect_error("the SSH handshake", failure)))?;
        let host_key = match ssh.host_key() {
            Some((blob, ssh2::HostKeyType::Ed25519)) => PublicKey::from_blob(blob),
            _ => return Err(Error::new(ErrorKind::Connect, "the SSH server showed no ed25519 host key")),
        };
        if let Some(pinned) = login.host_key.filter(|pinned| **pinned != host_key) {
            return Err(Error::new(
                ErrorKind::HostKeyMismatch,
                format!(
                    "the SSH server showed the host key '{host_key}', pinned is '{pinned}': \
                     this is another machine, or somebody in between"
                ),
            ));
        }
        let (is_unusable, round_trip, pid) = (Cell::new(false), Cell::new(None), std::process::id());
        let (sftp, commands) = (None, None);
        let mut session =
            Self { ssh, connection, host_key, sftp, commands, is_unusable, round_trip, pid, freeing: None };
        session.authenticate(login, deadline)?;
        Ok(session)
    }

    fn authenticate(&mut self, login: &Login<'_>, deadline: Deadline) -> Result<()> {
        let attempt = || {
            let pem = login.identity.private_pem();
            self.ssh.userauth_pubkey_memory(login.user, None, pem, None).map_err(Failure::from)
        };
        until_done(&self.ssh, &self.connection, deadline, "the login", attempt).map_err(|stop| {
            stop.into_error(|failure| {
                if is_refusal(&failure) {
                    let message = format!("the SSH server refused this client's key for user '{}'", login.user);
                    return Error::new(ErrorKind::Authentication, message).with_ssh_code(failure.code);
                }
                connect_error("the login", failure)
            })
        })
    }

    pub(crate) fn host_key(&self) -> &PublicKey {
        &self.host_key
    }

    pub(crate) fn cutter(&self) -> Cutter {
        Cutter(Arc::downgrade(&self.connection))
    }

    /// What the server takes to answer, once that is known.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.round_trip.get()
    }

    pub(super) fn took_round_trip(&self, time: Duration) {
        self.round_trip.set(Some(self.round_trip.get().map_or(time, |shortest| shortest.min(time))));
    }

    pub(crate) fn is_tunnel(&self) -> bool {
        matches!(self.connection.stream(), Stream::Tunnel(_))
    }

    /// The command channel, for one request; `None` before it was opened.
    pub(super) fn take_commands(&mut self) -> Option<CommandChannel> {
        self.commands.take()
    }

    pub(super) fn keep_commands(&mut self, commands: CommandChannel) {
        self.commands = Some(commands);
    }

    /// Sees to it that the session is not used again.
    pub(super) fn mark_unusable(&self) {
        self.is_unusable.set(true);
    }

    /// False once the peer has closed the connection. One system call, no traffic.
    pub(crate) fn is_alive(&self) -> bool {
        if self.is_unusable.get() {
            return false;
        }
        match fd::peek(self.connection.stream().as_fd(), &mut [0]) {
            Ok(length) => length > 0,
            Err(e) => e.kind() == io::ErrorKind::WouldBlock,
        }
    }

    /// The SFTP subsystem, started at its first use: 3 round trips then, none later.
    pub(super) fn sftp(&mut self, deadline: Deadline) -> Result<Sftp> {
        if let Some(sftp) = &self.sftp {
            return Ok(sftp.clone());
        }
        let started = self.await_answer(deadline, || self.drive(deadline, "the start of SFTP", Sftp::start));
        let sftp = started.map_err(|stop| {
            stop.into_error(|failure| {
                // libssh2 has one number for whatever fails here.
                let code = if self.is_alive() { failure.code } else { libssh2_sys::LIBSSH2_ERROR_SOCKET_DISCONNECT };
                lost_or("SFTP can't be started", Failure { code, ..failure })
            })
        })?;
        Ok(self.sftp.insert(sftp).clone())
    }

    /// Has `wait` wait for an answer of the SFTP server, which may send that and not much more; see
    /// [`Session::credit`].
    pub(super) fn await_answer<T>(&self, deadline: Deadline, wait: impl FnOnce() -> T) -> T {
        self.connection.set_sftp_wait(Some(deadline));
        let answer = wait();
        self.connection.set_sftp_wait(None);
        self.connection.credit(ANSWER);
        answer
    }

    /// Whether what arrives is counted while a request is under way; see [`Session::credit`].
    pub(super) fn count_arrivals(&self, is_counting: bool) {
        self.connection.count_arrivals(is_counting);
    }

    /// So many bytes that the server has sent, or will, were asked for: names, contents, output.
    pub(super) fn credit(&self, bytes: u64) {
        self.connection.credit(bytes);
    }

    /// Repeats `step` until it is done, waiting for the socket in between.
    pub(super) fn drive<T>(
        &self,
        deadline: Deadline,
        waiting_for: &str,
        mut step: impl FnMut(&ssh2::Session) -> Answer<T>,
    ) -> std::result::Result<T, DriveError> {
        until_done(&self.ssh, &self.connection, deadline, waiting_for, || step(&self.ssh))
    }

    /// Tries `step` once: `None` if nothing has arrived for it yet. A packet that is half sent is finished first,
    /// because libssh2 allows no other call in between.
    pub(super) fn attempt<T>(
        &self,
        deadline: Deadline,
        waiting_for: &str,
        mut step: impl FnMut() -> Answer<T>,
    ) -> std::result::Result<Option<T>, DriveError> {
        loop {
            self.connection.read_until(deadline.within(TURN));
            match call(&mut step) {
                Ok(value) => return Ok(Some(value)),
                Err(failure) if !failure.would_block() => {
                    return Err(stopped(&self.connection, failure, waiting_for));
                }
                Err(_) if !raw::waits_for(&self.ssh).1 => return Ok(None),
                Err(_) => {
                    if let Err(stop) = wait(&self.connection, (false, true), deadline, waiting_for) {
                        forget_half_sent(&self.connection, step);
                        return Err(stop);
                    }
                }
            }
        }
    }

    /// What `step` reads from libssh2's buffer once the connection has ended; by itself libssh2 reports only the end.
    pub(super) fn read_buffered<T>(&self, mut step: impl FnMut() -> Answer<T>) -> Option<T> {
        self.mark_unusable();
        self.connection.set_buffered_only(true);
        let found = call(&mut step).ok();
        self.connection.set_buffered_only(false);
        found
    }

    /// As [`Session::attempt`], for what needs the session itself.
    pub(super) fn attempt_on<T>(
        &self,
        deadline: Deadline,
        waiting_for: &str,
        mut step: impl FnMut(&ssh2::Session) -> Answer<T>,
    ) -> std::result::Result<Option<T>, DriveError> {
        self.attempt(deadline, waiting_for, || step(&self.ssh))
    }

    /// A channel was opened with this window; see [`Session::credit`].
    pub(super) fn add_window(&self, bytes: u32) {
        self.connection.add_window(bytes);
    }

    /// Such a channel was freed.
    pub(super) fn remove_window(&self, bytes: u32) {
        self.connection.remove_window(bytes);
    }

    /// What ends the connection from another thread, by `shutdown`.
    pub(super) fn socket(&self) -> io::Result<OwnedFd> {
        self.connection.stream().as_fd().try_clone_to_owned()
    }

    /// Grows with everything that libssh2 takes off the socket. Whichever call it made for that keeps what is meant for
    /// another one, and nobody must wait for the socket then.
    pub(super) fn arrivals(&self) -> u64 {
        self.connection.arrivals()
    }

    /// Whether more can be sent: false as long as there is no room for what libssh2 takes for sent. The next wait is
    /// for room then.
    pub(super) fn has_room(&self) -> bool {
        self.connection.has_room()
    }

    /// Waits until something arrives, there is room again for what is to be sent, one of `others` is ready, or the
    /// deadline comes.
    pub(super) fn wait_for_traffic(&self, others: &[Awaited<'_>], deadline: Deadline) {
        let to_write = self.connection.awaits_room();
        let server = Awaited { descriptor: self.connection.stream().as_fd(), to_read: true, to_write };
        fd::poll(&[&[server], others].concat(), deadline.next_check().remaining_ms(LONGEST_WAIT));
    }

    /// As [`Session::wait_for_traffic`], if `to_read` for something that arrives too, and says whether something did
    /// and how each of the others is.
    pub(super) fn wait_for_each(
        &self,
        others: &[Awaited<'_>],
        to_read: bool,
        deadline: Deadline,
    ) -> (bool, Vec<Readiness>) {
        let to_write = self.connection.awaits_room();
        let server = Awaited { descriptor: self.connection.stream().as_fd(), to_read, to_write };
        // One that is hung up would end each wait at once.
        let server = if to_read || to_write { &[server][..] } else { &[] };
        let mut ready = fd::poll_each(&[others, server].concat(), deadline.remaining_ms(LONGEST_WAIT));
        let has_come =
            ready.drain(others.len()..).any(|server| server.to_read || server.is_hung_up || server.has_failed);
        (has_come, ready)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.freeing = Some(InUse::begin());
        if self.pid == std::process::id() {
            // libssh2 would wait for the server while it frees open channels, and read what else has come.
            self.connection.end();
            let _ = SockRef::from(self.connection.stream()).shutdown(std::net::Shutdown::Both);
        } else {
            // In a forked child the connection is still the parent's: neither shut it down nor let libssh2 say goodbye
            // on it.
            std::mem::forget((self.ssh.clone(), self.sftp.take(), self.commands.take()));
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("stream", self.connection.stream()).finish_non_exhaustive()
    }
}

/// Why a step did not finish.
#[derive(Debug)]
pub(super) enum DriveError {
    Failed(Failure),
    /// The time is over, or the caller wants no more.
    Ended(Error),
}

impl DriveError {
    pub(super) fn into_error(self, convert: impl FnOnce(Failure) -> Error) -> Error {
        match self {
            Self::Failed(failure) => convert(failure),
            Self::Ended(error) => error,
        }
    }
}

/// One call of libssh2, which may use OpenSSL.
fn call<T>(step: &mut impl FnMut() -> Answer<T>) -> Answer<T> {
    let _in_use = InUse::begin();
    step()
}

fn until_done<T>(
    ssh: &ssh2::Session,
    connection: &Connection,
    deadline: Deadline,
    waiting_for: &str,
    mut step: impl FnMut() -> Answer<T>,
) -> std::result::Result<T, DriveError> {
    loop {
        connection.read_until(deadline.next_check());
        match call(&mut step) {
            Ok(value) => return Ok(value),
            Err(failure) if failure.would_block() => {
                let directions = raw::waits_for(ssh);
                if let Err(stop) = wait(connection, directions, deadline, waiting_for) {
                    if directions.1 {
                        forget_half_sent(connection, step);
                    }
                    return Err(stop);
                }
            }
            Err(failure) => return Err(stopped(connection, failure, waiting_for)),
        }
    }
}

/// Why a step failed. Where an SFTP server took too long or sent too much, the connection was ended under libssh2,
/// which has many numbers for that.
fn stopped(connection: &Connection, failure: Failure, waiting_for: &str) -> DriveError {
    if failure.sftp_status.is_some() {
        return DriveError::Failed(failure);
    }
    if connection.is_flooded() {
        let (code, message) =
            (libssh2_sys::LIBSSH2_ERROR_SOCKET_DISCONNECT, "the server sends data that was not requested");
        return DriveError::Failed(Failure { code, message: message.to_owned(), ..failure });
    }
    if connection.is_late() { DriveError::Ended(Deadline::error(waiting_for)) } else { DriveError::Failed(failure) }
}

/// Ends the connection on which `step` could not send all of its packet in time: only the same call gets libssh2 over
/// it.
fn forget_half_sent<T>(connection: &Connection, mut step: impl FnMut() -> Answer<T>) {
    connection.end();
    let _ = call(&mut step);
}

fn wait(
    connection: &Connection,
    (mut to_read, mut to_write): (bool, bool),
    deadline: Deadline,
    waiting_for: &str,
) -> std::result::Result<(), DriveError> {
    // libssh2 sometimes says "again" without saying what for; something has to arrive then.
    to_read |= !to_write;
    to_write |= !connection.flush();
    let server = Awaited { descriptor: connection.stream().as_fd(), to_read, to_write };
    Awaited::wait(&[server], deadline, waiting_for).map_err(DriveError::Ended)
}

/// Whether a login was answered, and with no. libssh2 has the same number for a connection that was lost before the
/// answer.
fn is_refusal(failure: &Failure) -> bool {
    match failure.code {
        libssh2_sys::LIBSSH2_ERROR_AUTHENTICATION_FAILED => true,
        libssh2_sys::LIBSSH2_ERROR_PUBLICKEY_UNVERIFIED => !failure.message.starts_with("Waiting"),
        _ => false,
    }
}

fn connect_error(step: &str, failure: Failure) -> Error {
    Error::new(ErrorKind::Connect, format!("{step} failed: {}", failure.message)).with_ssh_code(failure.code)
}

/// A failure of an established session: `Disconnected` if the connection is gone, else `Connect` with what was refused.
pub(super) fn lost_or(refused: &str, failure: Failure) -> Error {
    let kind = if is_lost(&failure) { ErrorKind::Disconnected } else { ErrorKind::Connect };
    let what = if is_lost(&failure) { "the connection was lost" } else { refused };
    Error::new(kind, format!("{what}: {}", failure.message)).with_ssh_code(failure.code)
}

/// True where the connection has come to its end. What had come before is good then; behind a packet that is broken,
/// libssh2 must not be called again: it would lose that packet's memory.
pub(super) fn is_end(failure: &Failure) -> bool {
    matches!(
        failure.code,
        libssh2_sys::LIBSSH2_ERROR_SOCKET_SEND
            | libssh2_sys::LIBSSH2_ERROR_SOCKET_RECV
            | libssh2_sys::LIBSSH2_ERROR_SOCKET_DISCONNECT
    )
}

/// True for the failures after which the connection can't be used for anything.
pub(super) fn is_lost(failure: &Failure) -> bool {
    is_end(failure)
        || matches!(
            failure.code,
            libssh2_sys::LIBSSH2_ERROR_SOCKET_TIMEOUT
                | libssh2_sys::LIBSSH2_ERROR_BAD_SOCKET
                | libssh2_sys::LIBSSH2_ERROR_PROTO
                | libssh2_sys::LIBSSH2_ERROR_DECRYPT
                | libssh2_sys::LIBSSH2_ERROR_INVALID_MAC
                | libssh2_sys::LIBSSH2_ERROR_OUT_OF_BOUNDARY
                | libssh2_sys::LIBSSH2_ERROR_CHANNEL_CLOSED
        )
}
