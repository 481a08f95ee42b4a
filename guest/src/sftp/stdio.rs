//! The SFTP server on its standard streams, for one client: `sftp -D 'sandbox-guest sftp'` works on this machine's own files.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::{Options, Sftp, Wait};

/// Bytes that are read at once.
const INPUT: usize = 256 << 10;

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
    let (mut buffer, mut answers) = (vec![0; INPUT], Vec::new());
    let (mut start, mut end) = (0, 0);
    loop {
        start += server.handle(&buffer[start..end], &mut answers).map_err(io::Error::other)?;
        let mut rest = &answers[..];
        while !rest.is_empty() {
            match rustix::io::write(&output, rest) {
                Ok(length) => rest = &rest[length..],
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        answers.clear();
        match server.wait() {
            Wait::Now => continue,
            Wait::Input if start < end => continue,
            Wait::Input => {}
            Wait::Descriptor { descriptor, events, until } => {
                let left = until.map(|until| until.saturating_duration_since(Instant::now()));
                let left = left.and_then(|left| Timespec::try_from(left).ok());
                match poll(&mut [PollFd::from_borrowed_fd(descriptor, events)], left.as_ref()) {
                    Ok(_) | Err(Errno::INTR) => continue,
                    Err(errno) => return Err(errno.into()),
                }
            }
        }
        match rustix::io::read(&input, &mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => (start, end) = (0, length),
            Err(Errno::INTR) => {}
            // A client may give us streams that do not wait.
            Err(Errno::AGAIN) => {
                poll(&mut [PollFd::from_borrowed_fd(input.as_fd(), PollFlags::IN)], None)?;
            }
            Err(errno) => return Err(errno.into()),
        }
    }
}
