//! Waiting until something in the sandbox listens.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use sandbox_protocol::{Failure, FailureKind, Response, Target, WaitForPort};

/// The pauses between two looks.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// Bytes of the kernel's table that are looked at. Code in the sandbox can make it long.
const LONGEST_TABLE: u64 = 16 << 20;
/// The state of a TCP socket that listens, and the flag of a Unix socket that does.
const LISTEN: u8 = 10;
const ACCEPTS: u32 = 1 << 16;

/// A wait under way.
#[derive(Debug)]
pub(super) struct PortWait {
    target: Target,
    until: Option<Instant>,
    next: Instant,
    pause: Duration,
}

impl PortWait {
    pub(super) fn new(wait: WaitForPort) -> Self {
        let now = Instant::now();
        let until = wait.timeout_ms.and_then(|timeout| now.checked_add(Duration::from_millis(timeout)));
        Self { target: wait.target, until, next: now, pause: FIRST_PAUSE }
    }

    /// When to look next.
    pub(super) fn next(&self) -> Instant {
        self.until.map_or(self.next, |until| until.min(self.next))
    }

    /// Looks if it is time to.
    pub(super) fn progress(&mut self) -> Option<Response> {
        if Instant::now() < self.next() {
            return None;
        }
        let listens = match &self.target {
            Target::Port(port) => listens_on_port(*port),
            Target::Path(path) => listens_on_path(path.as_ref()),
        };
        let failed = |kind, message: String, errno| Some(Response::Failed(Failure { kind, message, errno }));
        match listens {
            Ok(true) => return Some(Response::Done),
            Ok(false) => {}
            Err(e) => {
                let message = format!("the kernel's table of sockets: {e}");
                return failed(FailureKind::Other, message, e.raw_os_error());
            }
        }
        let now = Instant::now();
        if self.until.is_some_and(|until| until <= now) {
            return failed(FailureKind::TimedOut, "nothing listens".to_owned(), None);
        }
        self.next = now + self.pause;
        self.pause = (self.pause * 3 / 2).min(LONGEST_PAUSE);
        None
    }
}

/// Whether a line of the table says so.
fn any_line(table: &str, says_so: impl Fn(&[u8]) -> bool) -> io::Result<bool> {
    let mut reader = BufReader::new(io::Read::take(File::open(table)?, LONGEST_TABLE));
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            return Ok(false);
        }
        if says_so(line.trim_ascii_end()) {
            return Ok(true);
        }
    }
}

fn listens_on_port(port: u16) -> io::Result<bool> {
    let is_it = |line: &[u8]| str::from_utf8(line).ok().and_then(listener).is_some_and(|of| of == port);
    if any_line("/proc/self/net/tcp", is_it)? {
        return Ok(true);
    }
    match any_line("/proc/self/net/tcp6", is_it) {
        // A kernel without IPv6.
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        result => result,
    }
}

/// The port of a line of `/proc/net/tcp` or `tcp6`, if somebody listens there for connections to a loopback address.
fn listener(line: &str) -> Option<u16> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let (address, port) = words.next()?.split_once(':')?;
    let state = u8::from_str_radix(words.nth(1)?, 16).ok()?;
    let is_reached = match address_of(address)?.to_canonical() {
        IpAddr::V4(address) => address == Ipv4Addr::LOCALHOST || address.is_unspecified(),
        IpAddr::V6(address) => address == Ipv6Addr::LOCALHOST || address.is_unspecified(),
    };
    if state == LISTEN && is_reached { u16::from_str_radix(port, 16).ok() } else { None }
}

/// An address as the kernel writes it: words of 32 bits, each in the byte order of the machine.
fn address_of(text: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(text.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    match text.len() {
        8 => word(0).map(IpAddr::from),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            Some(IpAddr::from(<[u8; 16]>::try_from(words.as_flattened()).ok()?))
        }
        _ => None,
    }
}

fn listens_on_path(path: &[u8]) -> io::Result<bool> {
    if any_line("/proc/self/net/unix", |line| accepting_path(line) == Some(path))? {
        return Ok(true);
    }
    let file = Path::new(std::ffi::OsStr::from_bytes(path));
    if !fs::metadata(file).is_ok_and(|metadata| metadata.file_type().is_socket()) {
        return Ok(false);
    }
    // Its server may have another name for it, such as a relative path; only a connection tells.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let address = SocketAddrUnix::new(file)?;
    // A full queue is one of somebody who listens.
    Ok(matches!(connect(&socket, &address), Ok(()) | Err(Errno::AGAIN)))
}

/// The path of a line of `/proc/net/unix`, if somebody listens there.
fn accepting_path(line: &[u8]) -> Option<&[u8]> {
    let mut fields = line.splitn(4, |byte| *byte == b' ');
    let flags = u32::from_str_radix(str::from_utf8(fields.nth(3)?.get(..8)?).ok()?, 16).ok()?;
    // What comes before the path are numbers. One without a slash is no path from the root.
    let at = line.iter().position(|byte| *byte == b'/')?;
    (flags & ACCEPTS != 0).then(|| &line[at..])
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn wait(target: Target, timeout_ms: u64) -> PortWait {
        PortWait::new(WaitForPort { target, timeout_ms: Some(timeout_ms) })
    }

    fn is_timeout(response: &Response) -> bool {
        matches!(response, Response::Failed(failure) if failure.kind == FailureKind::TimedOut)
    }

    #[test]
    fn lines_of_the_tables() {
        let end =
            "00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 1 1 0000000000000000 100 0 0 10 0";
        for (address, port) in [
            ("0100007F", Some(8080)),
            ("00000000", Some(8080)),
            ("0100000A", None),
            ("00000000000000000000000000000000", Some(8080)),
            ("00000000000000000000000001000000", Some(8080)),
            ("0000000000000000FFFF00000100007F", Some(8080)),
            ("000080FE000000000000000001000000", None),
            ("0100", None),
        ] {
            let line = format!("   0: {address}:1F90 {end}");
            assert_eq!(listener(&line), port.filter(|_| cfg!(target_endian = "little")), "{address}");
            assert_eq!(listener(&line.replace(" 0A ", " 01 ")), None);
        }
        for wrong in ["", "  sl  local_address rem_address   st", "0: x:y 0 0A"] {
            assert_eq!(listener(wrong), None);
        }
        let line = b"0000000000000000: 00000002 00000000 00010000 0001 01 20477 /run/a b.sock";
        assert_eq!(accepting_path(line), Some(&b"/run/a b.sock"[..]));
        assert_eq!(accepting_path(b"0000000000000000: 00000003 00000000 00000000 0001 03 20478 /run/a"), None);
        assert_eq!(accepting_path(b"0000000000000000: 00000002 00000000 00010000 0001 01 20477"), None);
        assert_eq!(accepting_path(b"Num       RefCount Protocol Flags    Type St Inode Path"), None);
    }

    #[test]
    fn a_port_is_waited_for_without_a_connection() {
        for address in ["127.0.0.1:0", "0.0.0.0:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let port = listener.local_addr().unwrap().port();
            assert_eq!(wait(Target::Port(port), 0).progress(), Some(Response::Done));
            listener.set_nonblocking(true).unwrap();
            assert!(listener.accept().is_err(), "nobody has connected");
            drop(listener);
            assert!(is_timeout(&wait(Target::Port(port), 0).progress().unwrap()));
            let mut waiting = wait(Target::Port(port), 60_000);
            assert_eq!(waiting.progress(), None);
            let next = waiting.next();
            assert!(next > Instant::now() - FIRST_PAUSE && next < Instant::now() + LONGEST_PAUSE);
        }
    }

    #[test]
    fn a_path_is_waited_for() {
        let directory = std::env::temp_dir().join(format!("sandbox-guest-port-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("a socket");
        let target = || Target::Path(path.as_os_str().as_bytes().into());
        assert!(is_timeout(&wait(target(), 0).progress().unwrap()));
        let listener = UnixListener::bind(&path).unwrap();
        assert_eq!(wait(target(), 0).progress(), Some(Response::Done));
        // By another name than the server's.
        let other = directory.join("../").join(directory.file_name().unwrap()).join("a socket");
        let target = || Target::Path(other.as_os_str().as_bytes().into());
        assert_eq!(wait(target(), 0).progress(), Some(Response::Done));
        drop(listener);
        assert!(is_timeout(&wait(target(), 0).progress().unwrap()));
        fs::remove_dir_all(&directory).unwrap();
    }
}
