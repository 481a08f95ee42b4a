//! The stream of a session as libssh2 sees it: callbacks that send and receive within our limits.

use std::ffi::{c_int, c_long, c_void};
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use libssh2_sys as sys;
use parking_lot::Mutex;

use super::locked;
use crate::deadline::Deadline;
use crate::ssh::stream::Stream;

#[expect(unsafe_code, reason = "declarations of C functions")]
unsafe extern "C" {
    fn libssh2_session_callback_set2(
        session: *mut sys::LIBSSH2_SESSION,
        kind: c_int,
        callback: *mut c_void,
    ) -> *mut c_void;
    fn libssh2_session_set_read_timeout(session: *mut sys::LIBSSH2_SESSION, seconds: c_long);
}

/// A stream that belongs to a session, as libssh2 sees it. None of libssh2's own loops looks at the time, and a hostile
/// server can keep each of them busy for ever; nor does libssh2 get over a packet that it can't send to its end: it
/// can't even be freed then.
pub(in crate::ssh) struct Connection {
    stream: Stream,
    view: Mutex<View>,
}

/// What libssh2 is told.
struct View {
    /// After this time, that nothing has arrived.
    read_until: Deadline,
    /// The same, since there was nothing more: libssh2 asks several times for each packet that it sends.
    is_drained: bool,
    /// That the connection is broken.
    is_over: bool,
    /// The peer takes nothing any more. What it has sent before is still read; the end of that is reported then.
    is_cut: bool,
    /// That nothing more has arrived, even at the end: then libssh2 hands out what it has buffered.
    is_buffered_only: bool,
    /// A packet is partly written: libssh2 must be called again with the same arguments before anything else.
    is_half_sent: bool,
    /// What libssh2 takes for sent and the system had no room for yet; see [`SHORT`].
    unsent: Vec<u8>,
    /// Somebody with more to send was told that there is no room.
    is_room_wanted: bool,
    /// Data was delivered since we last returned `EAGAIN`.
    has_news: bool,
    /// How often something has arrived.
    arrivals: u64,
    /// While the answers of an SFTP server are awaited, the time until which they are.
    sftp_wait_until: Option<Deadline>,
    /// What arrives is counted, though it is no answer of an SFTP server.
    is_counting: bool,
    /// Unsolicited bytes that are still tolerated; at 0 the connection is closed.
    unsolicited_budget: u64,
    /// The most that it can be.
    largest_budget: u64,
}

/// libssh2 queues packets that nobody waits for, of SFTP and of SSH itself, and scans the queue on every packet:
/// unsolicited data costs memory and quadratic time. An honest server stays far below: at most 8 MiB of requested data
/// are in flight.
const UNSOLICITED_BUDGET: u64 = 16 << 20;

/// Packets up to this length are kept here until there is room for them. libssh2 gets over its own answer to a question
/// of the server only in the call in which it began it; caught between two calls, it sends nothing any more, and can't
/// be freed.
const SHORT: usize = 4 << 10;
/// Who asks for so many answers and reads none is no honest server.
const MOST_UNSENT: usize = 1 << 20;

impl View {
    /// Sends what is kept; true if nothing is left.
    fn flush(&mut self, socket: RawFd) -> bool {
        let mut sent = 0;
        while sent < self.unsent.len() && !self.is_over {
            match send_to(socket, &self.unsent[sent..]) {
                Ok(length) => sent += length,
                Err(libc::EINTR) => {}
                Err(libc::EAGAIN) => break,
                Err(_) => {
                    self.is_cut = true;
                    sent = self.unsent.len();
                }
            }
        }
        self.unsent.drain(..sent);
        self.unsent.is_empty()
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.unsent.extend_from_slice(bytes);
        self.is_over |= self.unsent.len() > MOST_UNSENT;
    }
}

/// Bytes that the system has taken, or its error number.
#[expect(unsafe_code, reason = "the socket is known by its number only")]
fn send_to(socket: RawFd, bytes: &[u8]) -> Result<usize, c_int> {
    // SAFETY: the bytes are ours and as many as said.
    let sent = unsafe { libc::send(socket, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}

impl Connection {
    /// Gives the session its stream, before the handshake.
    #[expect(unsafe_code, reason = "sets callbacks")]
    pub(in crate::ssh) fn attach(session: &mut ssh2::Session, stream: Stream) -> Arc<Self> {
        let view = View {
            read_until: Deadline::after(None),
            is_drained: false,
            is_over: false,
            is_cut: false,
            is_buffered_only: false,
            is_half_sent: false,
            unsent: Vec::new(),
            is_room_wanted: false,
            has_news: false,
            arrivals: 0,
            sftp_wait_until: None,
            is_counting: false,
            unsolicited_budget: UNSOLICITED_BUDGET,
            largest_budget: UNSOLICITED_BUDGET,
        };
        let connection = Arc::new(Self { stream, view: Mutex::new(view) });
        session.set_tcp_stream(Arc::clone(&connection));
        locked(session, |raw| {
            // Nothing of ssh2 that uses the abstract pointer for itself, such as keyboard-interactive logins, may be
            // called after this.
            // SAFETY: the session is locked and alive. What its abstract pointer points to is in an `Arc` that the
            // session itself holds until it has been freed. The callbacks have the types that the numbers ask for,
            // which libssh2 restores.
            unsafe {
                *sys::libssh2_session_abstract(raw) = Arc::as_ptr(&connection).cast_mut().cast();
                libssh2_session_callback_set2(raw, CALLBACK_RECV, receive as *const () as *mut c_void);
                libssh2_session_callback_set2(raw, CALLBACK_SEND, send as *const () as *mut c_void);
                // Deadlines are ours. By itself libssh2 gives an answer up after a minute.
                libssh2_session_set_read_timeout(raw, c_int::MAX.into());
            }
        });
        connection
    }

    /// Grows with everything that libssh2 takes off the socket.
    pub(in crate::ssh) fn arrivals(&self) -> u64 {
        self.view.lock().arrivals
    }

    pub(in crate::ssh) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// After this time, and once there is nothing more, libssh2 is told that nothing has arrived.
    pub(in crate::ssh) fn read_until(&self, deadline: Deadline) {
        let mut view = self.view.lock();
        (view.read_until, view.is_drained) = (deadline, false);
        view.flush(self.as_raw_fd());
    }

    /// Sends what libssh2 takes for sent; false if there is no room for all of it.
    pub(in crate::ssh) fn flush(&self) -> bool {
        self.view.lock().flush(self.as_raw_fd())
    }

    /// As [`Connection::flush`], for somebody who has more to send: false if there is no room for that either.
    pub(in crate::ssh) fn has_room(&self) -> bool {
        let mut view = self.view.lock();
        let has_room = view.flush(self.as_raw_fd());
        view.is_room_wanted |= !has_room;
        has_room
    }

    /// Whether to wait until the socket can be written. So it is, too, if there has come to be room since somebody
    /// with more to send was told that there is none: nothing else would wake him.
    pub(in crate::ssh) fn awaits_room(&self) -> bool {
        let mut view = self.view.lock();
        let is_wanted = std::mem::take(&mut view.is_room_wanted);
        !view.flush(self.as_raw_fd()) || is_wanted
    }

    /// Whether libssh2 reads from its buffer only, without being told of the connection's end.
    pub(in crate::ssh) fn set_buffered_only(&self, is_buffered_only: bool) {
        self.view.lock().is_buffered_only = is_buffered_only;
    }

    /// From now on what arrives is counted as answers of an SFTP server, and after this time the connection is at its
    /// end: what has arrived by then may be more than libssh2 can go through. `None` ends this.
    pub(in crate::ssh) fn set_sftp_wait(&self, until: Option<Deadline>) {
        self.view.lock().sftp_wait_until = until;
    }

    /// Whether what arrives from now on is counted.
    pub(in crate::ssh) fn count_arrivals(&self, is_counting: bool) {
        self.view.lock().is_counting = is_counting;
    }

    /// Whether the answer of an SFTP server is awaited that should have come.
    pub(in crate::ssh) fn is_late(&self) -> bool {
        self.view.lock().sftp_wait_until.is_some_and(Deadline::has_passed)
    }

    /// Takes so many bytes, which were asked for, off what the server has sent beyond that.
    pub(in crate::ssh) fn credit(&self, bytes: u64) {
        let mut view = self.view.lock();
        if view.unsolicited_budget > 0 {
            view.unsolicited_budget = view.unsolicited_budget.saturating_add(bytes).min(view.largest_budget);
        }
    }

    /// A channel was opened whose window may be full of what nobody reads yet.
    pub(in crate::ssh) fn add_window(&self, bytes: u32) {
        let mut view = self.view.lock();
        view.largest_budget += u64::from(bytes);
        if view.unsolicited_budget > 0 {
            view.unsolicited_budget += u64::from(bytes);
        }
    }

    /// Such a channel was freed with all that had come for it.
    pub(in crate::ssh) fn remove_window(&self, bytes: u32) {
        let mut view = self.view.lock();
        view.largest_budget -= u64::from(bytes);
        if view.unsolicited_budget > 0 {
            view.unsolicited_budget = (view.unsolicited_budget + u64::from(bytes)).min(view.largest_budget);
        }
    }

    /// Whether the connection was ended because the server sent more than it was asked for.
    pub(in crate::ssh) fn is_flooded(&self) -> bool {
        self.view.lock().unsolicited_budget == 0
    }

    /// From now on nothing is sent or read.
    pub(in crate::ssh) fn end(&self) {
        self.view.lock().is_over = true;
    }
}

// What ssh2 asks of a stream.
impl AsRawFd for Connection {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_fd().as_raw_fd()
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("stream", &self.stream).finish_non_exhaustive()
    }
}

/// `LIBSSH2_CALLBACK_SEND` and `LIBSSH2_CALLBACK_RECV`
const CALLBACK_SEND: c_int = 5;
const CALLBACK_RECV: c_int = 6;

const AGAIN: isize = -(libc::EAGAIN as isize);

/// A panic must not unwind C: for libssh2 the connection is broken then.
fn guarded(work: impl FnOnce() -> isize) -> isize {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(-(libc::EPIPE as isize))
}

/// Sends for libssh2: the number of bytes, or a negative error number.
///
/// # Safety
/// As libssh2 calls it: `buffer` has `length` bytes, and `context` points to what `Connection::attach` set.
#[expect(unsafe_code, reason = "called from C")]
unsafe extern "C" fn send(
    socket: c_int,
    buffer: *const c_void,
    length: usize,
    _flags: c_int,
    context: *mut *mut c_void,
) -> isize {
    // SAFETY: see above.
    let connection = unsafe { &*(*context).cast::<Connection>() };
    // SAFETY: see above.
    let packet = unsafe { std::slice::from_raw_parts(buffer.cast::<u8>(), length) };
    guarded(|| connection.send(socket, packet))
}

/// Reads for libssh2: bytes, 0 at the end, or a negative error number.
///
/// # Safety
/// As libssh2 calls it: `buffer` has `length` bytes, and `context` points to what `Connection::attach` set.
#[expect(unsafe_code, reason = "called from C")]
unsafe extern "C" fn receive(
    socket: c_int,
    buffer: *mut c_void,
    length: usize,
    flags: c_int,
    context: *mut *mut c_void,
) -> isize {
    // SAFETY: see above.
    let connection = unsafe { &*(*context).cast::<Connection>() };
    // SAFETY: see above; the socket is the connection's and so open.
    guarded(|| connection.receive(|| unsafe { libc::recv(socket, buffer, length, flags) }))
}

impl Connection {
    /// Sends a packet, or a part of one, for libssh2.
    fn send(&self, socket: c_int, packet: &[u8]) -> isize {
        let length = packet.len();
        let mut view = self.view.lock();
        let is_short = length <= SHORT && !view.is_half_sent;
        let sent = match view.flush(socket) {
            _ if view.is_over || view.is_cut => Err(libc::EPIPE),
            true => send_to(socket, packet),
            false => Err(libc::EAGAIN),
        };
        let number = match sent {
            Ok(sent) if is_short => {
                view.keep(&packet[sent..]);
                return length.cast_signed();
            }
            Ok(sent) => {
                view.is_half_sent = sent < length;
                return sent.cast_signed();
            }
            Err(libc::EAGAIN | libc::EINTR) if is_short => {
                view.keep(packet);
                return length.cast_signed();
            }
            Err(libc::EAGAIN | libc::EINTR) => {
                view.is_half_sent = true;
                return AGAIN;
            }
            Err(number) => number,
        };
        view.is_cut = true;
        // On a broken connection pretend that the rest was sent, so that libssh2 leaves its partial-write state, and
        // that short packets were, so that it goes on reading; the end of what can be read is reported.
        let is_taken = std::mem::take(&mut view.is_half_sent) || is_short && !view.is_over;
        if is_taken { length.cast_signed() } else { -(number as isize) }
    }

    /// Reads for libssh2 with `read`, which is `recv`.
    fn receive(&self, read: impl FnOnce() -> isize) -> isize {
        let mut view = self.view.lock();
        if view.is_buffered_only {
            return AGAIN;
        }
        if view.is_over || view.sftp_wait_until.is_some_and(Deadline::has_passed) {
            return 0;
        }
        if view.is_drained || view.read_until.has_passed() {
            return AGAIN;
        }
        let received = read();
        let error = io::Error::last_os_error().raw_os_error();
        if received > 0 {
            view.has_news = true;
            view.arrivals += 1;
            if view.is_counting || view.sftp_wait_until.is_some() {
                view.unsolicited_budget = view.unsolicited_budget.saturating_sub(received.unsigned_abs() as u64);
                view.is_over |= view.unsolicited_budget == 0;
            }
            return received;
        }
        // Return EAGAIN once before the end; otherwise libssh2 drops data that it has already buffered.
        let had_news = std::mem::take(&mut view.has_news);
        view.is_drained = received < 0;
        match error {
            _ if had_news => AGAIN,
            _ if received == 0 => 0,
            Some(libc::EAGAIN | libc::EINTR) => AGAIN,
            number => -(number.unwrap_or(libc::EIO) as isize),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_panic_breaks_the_connection_and_unwinds_no_c() {
        assert_eq!(guarded(|| panic!("in a callback of libssh2")), -(libc::EPIPE as isize));
    }

    #[test]
    fn room_that_comes_before_the_wait_is_not_missed() {
        let (near, mut far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let mut session = ssh2::Session::new().unwrap();
        let connection = Connection::attach(&mut session, Stream::Tunnel(near));
        assert!(connection.has_room() && !connection.awaits_room());
        // More than the socket takes.
        connection.view.lock().keep(&vec![0; MOST_UNSENT]);
        assert!(!connection.has_room() && connection.awaits_room(), "there is none");
        assert!(!connection.has_room());
        let mut buffer = vec![0; MOST_UNSENT];
        while !connection.flush() {
            assert!(far.read(&mut buffer).unwrap() > 0);
        }
        assert!(connection.awaits_room(), "there has come to be some");
        assert!(!connection.awaits_room(), "nobody was told so since");
    }
}
