//! The door for what the kubelet starts: `sandbox-guest control`, run by `pods/exec`. Only it may bring in a key. Code
//! in the sandbox can reach the socket, but it is not let in:
//!
//! - A process that was started from outside of the PID namespace has no parent inside; any other has one.
//! - The guest's program is execute-only, so a process of it is not dumpable from its first instruction on: nothing of
//!   the same user can have taken it over. A shell that somebody started from outside is dumpable, and refused.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::thread::{CapabilitySet, capabilities};
use sandbox_protocol::{ControlAnswer, ControlRequest, control_socket};

use crate::log::log;
use crate::server::Shared;
use crate::ssh::PublicKey;
use crate::sys;

const STACK: usize = 128 << 10;
/// How long a request or an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest request: a key of 16,384 bits has 3 kB.
const LONGEST: u64 = 64 << 10;

fn address(port: u16) -> io::Result<SocketAddr> {
    let namespace = fs::metadata("/proc/self/ns/pid").map_or(0, |metadata| metadata.ino());
    SocketAddr::from_abstract_name(control_socket(namespace, port))
}

/// Begins to answer control requests.
///
/// # Errors
/// What is in the way, as text.
pub(crate) fn start(shared: &Arc<Shared>, port: u16) -> Result<(), String> {
    let listener = address(port).and_then(|address| UnixListener::bind_addr(&address));
    let listener = listener.map_err(|e| format!("the control socket: {e}"))?;
    let shared = Arc::clone(shared);
    let thread = std::thread::Builder::new().name("control".to_owned()).stack_size(STACK);
    let serve = move || {
        loop {
            match listener.accept() {
                Ok((stream, _)) => answer(&shared, &stream),
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    };
    thread.spawn(serve).map(drop).map_err(|e| format!("the control thread: {e}"))
}

fn answer(shared: &Shared, stream: &UnixStream) {
    let answer = match check_peer(stream.as_fd()) {
        // Before anything is read: who is not let in can't keep others waiting.
        Err(reason) => {
            log!("a control request was refused: {reason}");
            ControlAnswer::Error(reason)
        }
        Ok(()) => match read_line(stream) {
            Ok(line) => handle(shared, &line),
            Err(e) => ControlAnswer::Error(format!("the request did not come: {e}")),
        },
    };
    if let Ok(mut text) = serde_json::to_vec(&answer) {
        text.push(b'\n');
        let mut stream = stream;
        let _ = stream.set_write_timeout(Some(ANSWER_TIMEOUT)).and_then(|()| stream.write_all(&text));
    }
}

fn read_line(stream: &UnixStream) -> io::Result<String> {
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    let mut line = String::new();
    BufReader::new(stream.take(LONGEST)).read_line(&mut line)?;
    Ok(line)
}

fn handle(shared: &Shared, line: &str) -> ControlAnswer {
    let key = |line: &str| PublicKey::from_line(line).map_err(|e| format!("the public key: {e}"));
    let result = match serde_json::from_str(line) {
        Ok(ControlRequest::Identify) => Ok(()),
        Ok(ControlRequest::Authorize { key: line }) => key(&line).and_then(|key| {
            log!("{} may log in", key.as_ref().fingerprint());
            shared.keys.authorize(key).map_err(str::to_owned)
        }),
        Ok(ControlRequest::Revoke { key: line }) => key(&line).map(|key| {
            log!("{} may log in no longer", key.as_ref().fingerprint());
            shared.keys.revoke(key.as_ref());
        }),
        Ok(ControlRequest::Disconnect { key: None }) => {
            log!("all connections are closed");
            shared.connected.disconnect(None);
            Ok(())
        }
        Ok(ControlRequest::Disconnect { key: Some(line) }) => key(&line).map(|key| {
            log!("the connections of {} are closed", key.as_ref().fingerprint());
            shared.connected.disconnect(Some(&key.as_ref().fingerprint()));
        }),
        Ok(ControlRequest::Unknown) => Err("this guest does not know the request".to_owned()),
        Err(e) => Err(format!("no request: {e}")),
    };
    match result {
        Ok(()) => ControlAnswer::Ok(shared.identity()),
        Err(reason) => ControlAnswer::Error(reason),
    }
}

/// Whether a process came from outside of the sandbox and is under nobody's control inside.
fn check_peer(stream: BorrowedFd<'_>) -> Result<(), String> {
    let pid = sys::peer_process(stream).map_err(|e| format!("who asks is not known: {e}"))?;
    if pid <= 0 {
        return Err("the process is in another PID namespace".to_owned());
    }
    // Holds the process's number: it is nobody else's while this is open.
    let process = sys::peer_pidfd(stream);
    let status = fs::read_to_string(format!("/proc/{pid}/status")).map_err(|e| format!("process {pid}: {e}"))?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).map(str::trim);
    if parent != Some("0") {
        return Err(format!("process {pid} was started in the sandbox, by process {}", parent.unwrap_or("?")));
    }
    if !may_trace_all() && fs::read_link(format!("/proc/{pid}/exe")).is_ok() {
        return Err(format!("process {pid} is dumpable; only this program itself, execute-only, is let in"));
    }
    if process.is_ok_and(|process| has_exited(process.as_fd())) {
        return Err(format!("process {pid} is gone"));
    }
    Ok(())
}

/// Whether this process may look at those that are not dumpable, too, and so can't tell them apart.
fn may_trace_all() -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_PTRACE))
}

fn has_exited(process: BorrowedFd<'_>) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut descriptors = [PollFd::from_borrowed_fd(process, PollFlags::IN)];
    poll(&mut descriptors, Some(&now)).is_ok_and(|count| count > 0)
}

/// Sends a request to the guest that is process 1 here, and returns its answer.
///
/// # Errors
/// If there is no such guest.
pub fn request(port: u16, request: &ControlRequest) -> io::Result<ControlAnswer> {
    let mut stream = UnixStream::connect_addr(&address(port)?)?;
    // Somebody else may have taken the name if the guest is gone.
    if sys::peer_process(stream.as_fd())? != 1 {
        return Err(io::Error::other("the control socket is not the guest's, which is process 1"));
    }
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    let mut text = serde_json::to_vec(request)?;
    text.push(b'\n');
    // A refusal comes without the request having been read, and has the reason.
    let sent = stream.write_all(&text);
    let mut line = String::new();
    let received = BufReader::new(stream.take(LONGEST)).read_line(&mut line);
    if line.is_empty() {
        sent.and(received)?;
    }
    Ok(serde_json::from_str(&line)?)
}
