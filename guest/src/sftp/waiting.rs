//! Requests that can't be answered at once.
//!
//! Until such a request is answered, no other of its client is begun, but the caller's thread is free for other work.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{self, FileType, SeekFrom};
use rustix::io::{self, Errno};

use super::errors::{Failure, status};

/// A request that is begun.
#[derive(Debug)]
pub(super) enum Pending {
    /// A stream had no data.
    Read {
        id: u32,
        handle: Vec<u8>,
        length: usize,
        until: Instant,
    },
    /// A stream had no room for the rest.
    Write {
        id: u32,
        handle: Vec<u8>,
        offset: u64,
        rest: Vec<u8>,
        until: Instant,
    },
    Copy {
        id: u32,
        copy: Copy,
    },
    Sync {
        id: u32,
        job: Job,
    },
}

/// Bytes that are copied between two files in one step.
const STEP: u64 = 4 << 20;
const BUFFER: usize = 128 << 10;

/// A copy from one open file to another.
#[derive(Debug)]
pub(super) struct Copy {
    source: OwnedFd,
    target: OwnedFd,
    from: u64,
    to: u64,
    /// Where `to` was at the beginning.
    start: u64,
    /// `None`: up to the end.
    left: Option<u64>,
    /// The system can do it by itself.
    is_native: bool,
    /// Nothing is at the target's place, so holes need not be written.
    is_sparse: bool,
}

impl Copy {
    pub(super) fn new(
        source: BorrowedFd<'_>,
        from: u64,
        left: Option<u64>,
        target: BorrowedFd<'_>,
        to: u64,
        appends: bool,
    ) -> Result<Self, Failure> {
        let (found, there) = (fs::fstat(source)?, fs::fstat(target)?);
        if (found.st_dev, found.st_ino) == (there.st_dev, there.st_ino) {
            return Err(Failure::Status(status::FAILURE, "A file can't be copied to itself"));
        }
        let is_regular = |stat: &fs::Stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        let are_files = is_regular(&found) && is_regular(&there);
        let clone = |file: BorrowedFd<'_>| io::fcntl_dupfd_cloexec(file, 0);
        Ok(Self {
            source: clone(source)?,
            target: clone(target)?,
            from,
            to,
            start: to,
            left,
            is_native: are_files && !appends,
            is_sparse: are_files && !appends && there.st_size.unsigned_abs() <= to,
        })
    }

    /// Copies some more; `true` at the end.
    pub(super) fn step(&mut self) -> Result<bool, Failure> {
        let mut room = STEP.min(self.left.unwrap_or(u64::MAX));
        if room == 0 {
            return self.finish();
        }
        if self.is_sparse {
            match self.skip_hole()? {
                Some(data) => room = room.min(data),
                None => return self.finish(),
            }
            room = room.min(self.left.unwrap_or(u64::MAX));
            if room == 0 {
                return self.finish();
            }
        }
        let copied = if self.is_native { self.copy_natively(room)? } else { self.copy_by_hand(room)? };
        if copied > 0 {
            self.advance(copied);
            return Ok(false);
        }
        match self.left {
            // The file was shorter than what was asked for.
            Some(_) => self.finish().and(Err(Failure::END_OF_FILE)),
            None => self.finish(),
        }
    }

    fn advance(&mut self, length: u64) {
        self.from += length;
        self.to += length;
        self.left = self.left.map(|left| left - length.min(left));
    }

    /// Moves to the next data; returns how much there is at least, or `None` if there is no more.
    fn skip_hole(&mut self) -> Result<Option<u64>, Failure> {
        let data = match fs::seek(&self.source, SeekFrom::Data(self.from)) {
            Ok(data) => data,
            Err(Errno::NXIO) => {
                // Only a hole is left, or nothing.
                let size = fs::fstat(&self.source)?.st_size.unsigned_abs();
                let hole = size.saturating_sub(self.from);
                let is_short = self.left.is_some_and(|left| left > hole);
                self.advance(hole.min(self.left.unwrap_or(u64::MAX)));
                return if is_short { self.finish().and(Err(Failure::END_OF_FILE)) } else { Ok(None) };
            }
            Err(_) => {
                self.is_sparse = false;
                return Ok(Some(STEP));
            }
        };
        let hole = data.saturating_sub(self.from);
        self.advance(hole.min(self.left.unwrap_or(u64::MAX)));
        let end = fs::seek(&self.source, SeekFrom::Hole(self.from)).unwrap_or(u64::MAX);
        Ok(Some(end.saturating_sub(self.from).max(1)))
    }

    fn copy_natively(&mut self, room: u64) -> Result<u64, Failure> {
        let (mut from, mut to) = (self.from, self.to);
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        loop {
            return match fs::copy_file_range(&self.source, Some(&mut from), &self.target, Some(&mut to), room) {
                Ok(0)
                | Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM | Errno::BADF) => {
                    // Nothing at all is also what files that the system makes up give.
                    self.is_native = false;
                    self.copy_by_hand(room as u64)
                }
                Err(Errno::INTR) => continue,
                copied => Ok(copied? as u64),
            };
        }
    }

    fn copy_by_hand(&mut self, room: u64) -> Result<u64, Failure> {
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        let mut buffer = vec![0; room.min(BUFFER)];
        let mut copied = 0;
        while copied < room {
            let piece = buffer.len().min(room - copied);
            let length = match io::pread(&self.source, &mut buffer[..piece], self.from + copied as u64) {
                Err(Errno::INTR) => continue,
                length => length?,
            };
            if length == 0 {
                break;
            }
            write_all(self.target.as_fd(), &buffer[..length], self.to + copied as u64).map_err(|(_, errno)| errno)?;
            copied += length;
        }
        Ok(copied as u64)
    }

    /// Gives the target its size, if a hole is at its end.
    fn finish(&mut self) -> Result<bool, Failure> {
        if self.is_sparse && self.to > self.start && fs::fstat(&self.target)?.st_size.unsigned_abs() < self.to {
            fs::ftruncate(&self.target, self.to)?;
        }
        Ok(true)
    }
}

/// Writes all of it at an offset, or says how much was written.
pub(super) fn write_all(file: BorrowedFd<'_>, bytes: &[u8], offset: u64) -> Result<(), (usize, Errno)> {
    let mut written = 0;
    while written < bytes.len() {
        match io::pwrite(file, &bytes[written..], offset + written as u64) {
            Ok(0) => return Err((written, Errno::IO)),
            Ok(length) => written += length,
            Err(Errno::INTR) => {}
            Err(errno) => return Err((written, errno)),
        }
    }
    Ok(())
}

/// A system call that may take long, on a thread of its own.
#[derive(Debug)]
pub(super) struct Job {
    /// Readable once there is a result.
    done: OwnedFd,
    result: Arc<Mutex<Option<Result<(), Errno>>>>,
}

impl Job {
    /// Puts a file on its disk. Where there can be no thread, on this one.
    pub(super) fn sync(file: BorrowedFd<'_>) -> Result<Self, Failure> {
        let job = Self { done: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?, result: Arc::default() };
        let (shared, done) = (Arc::clone(&job.result), io::fcntl_dupfd_cloexec(&job.done, 0)?);
        let own = io::fcntl_dupfd_cloexec(file, 0)?;
        let work = move || {
            let result = fs::fsync(&own);
            if let Ok(mut place) = shared.lock() {
                *place = Some(result);
            }
            // A count of one never blocks.
            let _ = io::write(&done, &1u64.to_ne_bytes());
        };
        if thread::Builder::new().name("sftp-sync".into()).stack_size(64 << 10).spawn(work).is_err() {
            *job.place() = Some(fs::fsync(file));
            io::write(&job.done, &1u64.to_ne_bytes())?;
        }
        Ok(job)
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.done.as_fd()
    }

    pub(super) fn result(&self) -> Option<Result<(), Errno>> {
        *self.place()
    }

    fn place(&self) -> std::sync::MutexGuard<'_, Option<Result<(), Errno>>> {
        self.result.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
