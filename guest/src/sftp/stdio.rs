//! The SFTP server on its standard streams, for one client: `sftp -D 'sandbox-guest sftp'` works on this machine's own
//! files.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::SendFlags;

use super::{Options, Sftp, Wait};

/// Bytes that are read at once.
const INPUT: usize = 256 << 10;
/// Bytes of requests that wait. A client may write that much before it reads an answer, as through a window of SSH.
const WAITING: usize = 2 << 20;

/// Serves until the input ends. Arguments: `--detailed` for our own statuses.
pub fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let directory = std::env::current_dir().unwrap_or_else(|_| "/".into());
    let home = std::env::var_os("HOME").map_or_else(|| directory.clone(), PathBuf::from);
    let mut options = Options { directory, home, ..Options::default() };
    for arg in args {
        match arg.to_str() {
            Some("--detailed") => options.detailed_status = true,
            _ => {
                let _ = writeln!(io::stderr(), "sandbox-guest sftp: '{}' is no option", arg.display());
                return ExitCode::from(2);
            }
        }
    }
    match serve(Sftp::new(options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            let _ = writeln!(io::stderr(), "sandbox-guest sftp: {e}");
            ExitCode::FAILURE
        }
    }
}

fn serve(mut server: Sftp) -> io::Result<()> {
    let (input, output) = (io::stdin(), io::stdout());
    let (mut buffer, mut answers) = (Vec::with_capacity(INPUT), Vec::new());
    let (mut start, mut sent) = (0, 0);
    loop {
        if start < buffer.len() || !matches!(server.wait(), Wait::Input) {
            start += server.handle(&buffer[start..], &mut answers).map_err(io::Error::other)?;
        }
        if start == buffer.len() || buffer.len() > WAITING {
            buffer.drain(..start);
            start = 0;
        }
        if sent < answers.len() {
            sent += send(output.as_fd(), &answers[sent..])?;
        }
        if sent == answers.len() {
            answers.clear();
            sent = 0;
        }
        // A client may write all its requests before it reads an answer: neither direction waits for the other.
        let wants_input = buffer.len() < WAITING;
        let (mut descriptor, mut left) = (None, None);
        match server.wait() {
            Wait::Now => continue,
            Wait::Input if start < buffer.len() && answers.is_empty() => continue,
            Wait::Input => {}
            Wait::Descriptor { descriptor: waited, events, until } => {
                descriptor = Some(PollFd::from_borrowed_fd(waited, events));
                left = until.map(|until| until.saturating_duration_since(Instant::now()));
            }
        }
        let events = |wanted: bool, events| if wanted { events } else { PollFlags::empty() };
        let mut polled = vec![
            PollFd::new(&input, events(wants_input, PollFlags::IN)),
            PollFd::new(&output, events(!answers.is_empty(), PollFlags::OUT)),
        ];
        polled.extend(descriptor);
        match poll(&mut polled, left.and_then(|left| Timespec::try_from(left).ok()).as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        }
        let is_there = wants_input && polled[0].revents().intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR);
        if !is_there {
            continue;
        }
        buffer.reserve(INPUT);
        match rustix::io::read(&input, spare_capacity(&mut buffer)) {
            Ok(0) => return finish(output.as_fd(), &answers[sent..]),
            Ok(_) => {}
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Writes what can be written without waiting.
fn send(output: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    let sent = match rustix::net::send(output, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
        Err(Errno::NOTSOCK) => {
            // Other streams may wait in spite of being ready, but not for so few bytes.
            let mut ready = [PollFd::from_borrowed_fd(output, PollFlags::OUT)];
            match poll(&mut ready, Some(&Timespec::default())) {
                Ok(1..) => rustix::io::write(output, &bytes[..bytes.len().min(libc::PIPE_BUF)]),
                Ok(0) => Err(Errno::AGAIN),
                Err(errno) => Err(errno),
            }
        }
        sent => sent,
    };
    match sent {
        Ok(length) => Ok(length),
        Err(Errno::AGAIN | Errno::INTR) => Ok(0),
        Err(errno) => Err(errno.into()),
    }
}

/// The client will ask for nothing more, but may read its answers.
fn finish(output: BorrowedFd<'_>, mut answers: &[u8]) -> io::Result<()> {
    while !answers.is_empty() {
        answers = &answers[rustix::io::write(output, answers)?..];
    }
    Ok(())
}
