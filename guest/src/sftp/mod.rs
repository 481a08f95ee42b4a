//! The SFTP server: version 3 of the protocol (draft-ietf-secsh-filexfer-02) with OpenSSH's extensions and a few of our
//! own.
//!
//! Bytes in, bytes out: the engine knows nothing of SSH. Requests are answered in the order in which they came, on the
//! caller's thread, and none of them keeps the caller for long: what could take long is done in steps or elsewhere, see
//! [`Sftp::wait`].

mod attributes;
mod errors;
mod extensions;
mod handles;
mod paths;
mod replace;
mod stdio;
#[cfg(test)]
mod tests;
mod waiting;
mod wire;

use std::collections::VecDeque;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, Stat};
use rustix::io::{self, Errno};
use rustix::process::{Resource, getrlimit};
use sandbox_protocol::{SFTP_OPEN_DIGEST, SFTP_OPEN_REPLACE};

use self::attributes::{Attributes, Subject};
use self::errors::{Failure, status};
use self::handles::{Directory, File, Handles, Hash, Open};
use self::paths::Base;
use self::replace::Target;
pub use self::stdio::run;
use self::waiting::{Pending, write_all};
use self::wire::{Reader, kind, packet, patch, put_string, put_u32};
use crate::sys;

const VERSION: u32 = 3;
/// Bytes of one READ or WRITE. OpenSSH's client takes packets of up to 256 KiB, and the system works in pages.
pub const LONGEST_DATA: usize = 252 << 10;
/// The longest request, without the four bytes of its length: 256 KiB of data and what goes before them.
pub const LONGEST_REQUEST: usize = (256 << 10) + 1024;
/// Bytes of one answer to READDIR, if one entry is not longer by itself.
const LISTING: usize = 30 << 10;
/// How many digests wait for being taken.
const MOST_DIGESTS: usize = 1024;

/// Flags of OPEN.
mod flag {
    pub(super) const READ: u32 = 0x01;
    pub(super) const WRITE: u32 = 0x02;
    pub(super) const APPEND: u32 = 0x04;
    pub(super) const CREATE: u32 = 0x08;
    pub(super) const TRUNCATE: u32 = 0x10;
    pub(super) const EXCLUSIVE: u32 = 0x20;
}

/// How a server for one channel is to behave.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where relative paths begin.
    pub directory: PathBuf,
    /// What `~` means.
    pub home: PathBuf,
    /// Whose home that is: the user's name.
    pub user: Vec<u8>,
    /// Failures have the status `SFTP_ERRNO_BASE + errno` instead of the one of version 3 that fits best.
    pub detailed_status: bool,
    /// How many files and directories may be open at once.
    pub max_handles: usize,
    /// Requests are answered as long as there are fewer bytes of answers than this. One answer is at most 257 KiB long.
    pub output_limit: usize,
    /// How long a request waits for a named pipe or a terminal that has no data or no room, before it fails with
    /// `EAGAIN`.
    pub wait_timeout: Duration,
}

/// The SHA-256 of what passed through a handle that was opened with `SFTP_OPEN_DIGEST`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// The path that was opened, as the client gave it.
    pub path: Vec<u8>,
    /// The offset of the first byte.
    pub offset: u64,
    /// How many bytes there were.
    pub length: u64,
    /// `None` if they were not read or written in sequence, or if that failed.
    pub sha256: Option<[u8; 32]>,
}

/// The stream of requests makes no sense any more; the channel is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken(&'static str);

/// What the engine waits for.
#[derive(Clone, Copy, Debug)]
pub enum Wait<'a> {
    /// More input. With input there already: room in the output.
    Input,
    /// Nothing; a long request is being answered in steps. [`Sftp::handle`] is to be called again once others had their
    /// turn.
    Now,
    /// One of these events, or the time: then [`Sftp::handle`] is to be called again.
    Descriptor {
        /// What is to be polled.
        descriptor: BorrowedFd<'a>,
        /// For which events.
        events: PollFlags,
        /// When to call at the latest, if there is a limit.
        until: Option<Instant>,
    },
}

impl Default for Options {
    /// The root as directory and home of nobody, up to 4096 handles, 128 KiB of answers, and waits of ten seconds.
    fn default() -> Self {
        // Other connections need descriptors too.
        let allowed =
            getrlimit(Resource::Nofile).current.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
        Self {
            directory: "/".into(),
            home: "/".into(),
            user: Vec::new(),
            detailed_status: false,
            max_handles: (allowed / 4).clamp(16, 4096),
            output_limit: 128 << 10,
            wait_timeout: Duration::from_secs(10),
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Broken {}

/// The server's side of one SFTP session.
#[derive(Debug)]
pub struct Sftp {
    options: Options,
    base: Base,
    handles: Handles,
    is_begun: bool,
    /// A request that has not arrived whole.
    partial: Vec<u8>,
    /// A request that is not answered yet.
    pending: Option<Pending>,
    digests: VecDeque<Digest>,
}

/// What a request is answered with.
#[derive(Debug)]
enum Answer {
    Done,
    Handle([u8; 8]),
    Attributes(Stat),
    Name(Vec<u8>),
    Extended(Vec<u8>),
    /// It is in the output already.
    Sent,
    Later(Pending),
}

/// What became of bytes of a stream.
enum Streamed {
    Length(usize),
    Wait,
}

impl Sftp {
    /// A server that has seen no request yet.
    pub fn new(options: Options) -> Self {
        let (base, handles) = (Base::open(&options.directory), Handles::new(options.max_handles));
        let (partial, pending, digests) = Default::default();
        Self { options, base, handles, is_begun: false, partial, pending, digests }
    }

    /// Whether a file or a directory is open.
    pub fn has_something_open(&self) -> bool {
        !self.handles.is_empty()
    }

    /// Takes requests from `input` and appends answers to `output` while that is shorter than its limit; returns how
    /// many bytes of `input` were taken. The others are to be given again: once `output` has been drained, or as
    /// [`wait`](Self::wait) says. A part of a request at the end of `input` is taken and kept. `input` may be empty.
    ///
    /// A client may send many requests before it reads an answer: while `output` can't be drained, the caller goes on
    /// accepting input, up to the channel's window, and keeps it. Otherwise both sides could wait for each other.
    ///
    /// # Errors
    /// If the stream of requests is no SFTP.
    pub fn handle(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<usize, Broken> {
        let mut taken = 0;
        while output.len() < self.options.output_limit {
            if self.pending.is_some() {
                if !self.resume(output) {
                    break;
                }
                continue;
            }
            let rest = &input[taken..];
            let Some(length) = self.length_of_request(rest)? else {
                self.partial.extend_from_slice(rest);
                taken += rest.len();
                break;
            };
            if self.partial.is_empty() && rest.len() >= 4 + length {
                // Nothing is copied but what a WRITE hands to the system.
                self.process(&rest[4..4 + length], output)?;
                taken += 4 + length;
                continue;
            }
            let missing = 4 + length - self.partial.len();
            let arrived = missing.min(rest.len());
            self.partial.reserve_exact(missing);
            self.partial.extend_from_slice(&rest[..arrived]);
            taken += arrived;
            if arrived < missing {
                break;
            }
            let request = std::mem::take(&mut self.partial);
            self.process(&request[4..], output)?;
            self.partial = request;
            self.partial.clear();
        }
        Ok(taken)
    }

    /// How long the current request is, if that has arrived.
    fn length_of_request(&self, input: &[u8]) -> Result<Option<usize>, Broken> {
        let mut start = self.partial.iter().chain(input).take(4);
        let mut length = 0;
        for _ in 0..4 {
            let Some(byte) = start.next() else { return Ok(None) };
            length = length << 8 | usize::from(*byte);
        }
        match length {
            // A type and an id, or a version.
            0..5 => Err(Broken("a request is too short")),
            5..=LONGEST_REQUEST => Ok(Some(length)),
            _ => Err(Broken("a request is too long")),
        }
    }

    /// What is to happen before [`handle`](Self::handle) is called again.
    pub fn wait(&self) -> Wait<'_> {
        let (handle, until, events) = match &self.pending {
            None => return Wait::Input,
            Some(Pending::Copy { .. }) => return Wait::Now,
            Some(Pending::Sync { job, .. }) => {
                return Wait::Descriptor { descriptor: job.descriptor(), events: PollFlags::IN, until: None };
            }
            Some(Pending::Read { handle, until, .. }) => (handle, until, PollFlags::IN),
            Some(Pending::Write { handle, until, .. }) => (handle, until, PollFlags::OUT),
        };
        match self.handles.peek(handle) {
            Some(file) => Wait::Descriptor { descriptor: file.descriptor.as_fd(), events, until: Some(*until) },
            None => Wait::Now,
        }
    }

    /// The digests of files that were closed since the last call, in the order of closing, the last 1024 of them; then
    /// of those that are open, of what has passed so far.
    pub fn take_digests(&mut self) -> Vec<Digest> {
        let open = self.handles.files().filter_map(|file| file.hash.as_ref()).map(|hash| hash.so_far());
        self.digests.drain(..).chain(open).collect()
    }

    /// Gives memory back that is only needed while requests come in; for a channel that is idle.
    pub fn release_memory(&mut self) {
        self.partial.shrink_to_fit();
        self.digests.shrink_to_fit();
    }

    fn base(&self) -> BorrowedFd<'_> {
        self.base.directory()
    }

    fn process(&mut self, request: &[u8], output: &mut Vec<u8>) -> Result<(), Broken> {
        let Some((kind, rest)) = request.split_first() else { return Err(Broken("a request is too short")) };
        let mut request = Reader(rest);
        let number = request.u32().map_err(|_| Broken("a request is too short"))?;
        if *kind == kind::INIT {
            self.is_begun = true;
            greet(output);
            return Ok(());
        }
        if !self.is_begun {
            return Err(Broken("a request came before the beginning of the session"));
        }
        let answer = self.answer(*kind, number, &mut request, output);
        self.tell(number, answer, output);
        Ok(())
    }

    fn answer(&mut self, kind: u8, id: u32, request: &mut Reader<'_>, output: &mut Vec<u8>) -> Result<Answer, Failure> {
        match kind {
            kind::READ => {
                let (handle, offset, length) = (request.string()?, request.u64()?, request.u32()?);
                self.read(id, handle, offset, length as usize, output)
            }
            kind::WRITE => {
                let (handle, offset, data) = (request.string()?, request.u64()?, request.string()?);
                self.write(id, handle, offset, data)
            }
            kind::OPEN => {
                let (path, flags, attributes) = (request.string()?, request.u32()?, Attributes::read(request)?);
                self.open(path, flags, attributes)
            }
            kind::CLOSE => self.close(request.string()?),
            kind::STAT => Ok(Answer::Attributes(fs::statat(self.base(), request.string()?, AtFlags::empty())?)),
            kind::LSTAT => {
                Ok(Answer::Attributes(fs::statat(self.base(), request.string()?, AtFlags::SYMLINK_NOFOLLOW)?))
            }
            kind::FSTAT => Ok(Answer::Attributes(fs::fstat(self.handles.get(request.string()?)?.descriptor()?)?)),
            kind::SETSTAT => {
                let (path, attributes) = (request.string()?, Attributes::read(request)?);
                attributes.set(Subject::Path { base: self.base(), path, follow: true })?;
                Ok(Answer::Done)
            }
            kind::FSETSTAT => {
                let (handle, attributes) = (request.string()?, Attributes::read(request)?);
                attributes.set(Subject::Open(self.handles.get(handle)?.descriptor()?))?;
                Ok(Answer::Done)
            }
            kind::OPENDIR => self.open_directory(request.string()?),
            kind::READDIR => self.read_directory(id, request.string()?, output),
            kind::REMOVE => {
                fs::unlinkat(self.base(), request.string()?, AtFlags::empty())?;
                Ok(Answer::Done)
            }
            kind::MKDIR => {
                let (path, attributes) = (request.string()?, Attributes::read(request)?);
                let mode = Mode::from_raw_mode(attributes.mode.unwrap_or(0o777) & 0o7777);
                fs::mkdirat(self.base(), path, mode)?;
                Ok(Answer::Done)
            }
            kind::RMDIR => {
                fs::unlinkat(self.base(), request.string()?, AtFlags::REMOVEDIR)?;
                Ok(Answer::Done)
            }
            kind::REALPATH => Ok(Answer::Name(self.base.resolve(request.string()?)?)),
            kind::RENAME => {
                let (from, to) = (request.string()?, request.string()?);
                self.rename(from, to)?;
                Ok(Answer::Done)
            }
            kind::READLINK => {
                Ok(Answer::Name(fs::readlinkat(self.base(), request.string()?, Vec::new())?.into_bytes()))
            }
            kind::SYMLINK => {
                // OpenSSH's order, which is not the draft's: what the link leads to comes first.
                let (target, link) = (request.string()?, request.string()?);
                fs::symlinkat(target, self.base(), link)?;
                Ok(Answer::Done)
            }
            kind::EXTENDED => self.extended(id, request),
            _ => Err(Failure::UNSUPPORTED),
        }
    }

    /// Appends an answer, unless it has to wait.
    fn tell(&mut self, id: u32, answer: Result<Answer, Failure>, output: &mut Vec<u8>) {
        let answer = match answer {
            Ok(answer) => answer,
            Err(failure) => {
                let (code, text) = failure.to_status(self.options.detailed_status);
                return put_status(output, id, code, &text);
            }
        };
        let sent: Result<(), Failure> = match answer {
            Answer::Done => {
                put_status(output, id, status::OK, "Success");
                Ok(())
            }
            Answer::Handle(handle) => packet(output, kind::HANDLE, id, |to| {
                put_string(to, &handle);
                Ok(())
            }),
            Answer::Attributes(stat) => packet(output, kind::ATTRS, id, |to| {
                attributes::put(to, &stat);
                Ok(())
            }),
            Answer::Name(name) => packet(output, kind::NAME, id, |to| {
                put_u32(to, 1);
                put_string(to, &name);
                put_string(to, &name);
                attributes::put_none(to);
                Ok(())
            }),
            Answer::Extended(contents) => packet(output, kind::EXTENDED_REPLY, id, |to| {
                to.extend_from_slice(&contents);
                Ok(())
            }),
            Answer::Sent => Ok(()),
            Answer::Later(pending) => {
                self.pending = Some(pending);
                Ok(())
            }
        };
        debug_assert!(sent.is_ok(), "nothing that is told here can fail");
    }

    /// Goes on with the request that is pending; `true` if it has come further.
    fn resume(&mut self, output: &mut Vec<u8>) -> bool {
        match self.pending.take() {
            None => true,
            Some(Pending::Copy { id, mut copy }) => {
                let answer = match copy.step() {
                    Ok(false) => {
                        self.pending = Some(Pending::Copy { id, copy });
                        // Others come first.
                        return false;
                    }
                    Ok(true) => Ok(Answer::Done),
                    Err(failure) => Err(failure),
                };
                self.tell(id, answer, output);
                true
            }
            Some(Pending::Sync { id, job }) => match job.result() {
                None => {
                    self.pending = Some(Pending::Sync { id, job });
                    false
                }
                Some(result) => {
                    self.tell(id, result.map(|()| Answer::Done).map_err(Failure::from), output);
                    true
                }
            },
            Some(Pending::Read { id, handle, length, until }) => {
                let answer = self.read_stream(id, &handle, length, until, output);
                self.tell(id, answer, output);
                self.pending.is_none()
            }
            Some(Pending::Write { id, handle, offset, rest, until }) => {
                let answer = self.write_stream(id, &handle, offset, &rest, until);
                self.tell(id, answer, output);
                self.pending.is_none()
            }
        }
    }

    fn open(&mut self, path: &[u8], flags: u32, attributes: Attributes) -> Result<Answer, Failure> {
        self.handles.check_room(false)?;
        // A named pipe or a line is not waited for, and no terminal becomes the server's own.
        let mut how = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        how |= match (flags & flag::READ != 0, flags & flag::WRITE != 0) {
            (true, true) => OFlags::RDWR,
            (false, true) => OFlags::WRONLY,
            (_, false) => OFlags::RDONLY,
        };
        for (asked, flag) in [
            (flag::APPEND, OFlags::APPEND),
            (flag::CREATE, OFlags::CREATE),
            (flag::TRUNCATE, OFlags::TRUNC),
            (flag::EXCLUSIVE, OFlags::EXCL),
        ] {
            how.set(flag, flags & asked != 0);
        }
        let mode = Mode::from_raw_mode(attributes.mode.unwrap_or(0o666) & 0o7777);
        let mut replacement = None;
        let descriptor = if flags & SFTP_OPEN_REPLACE == 0 {
            self.open_at(path, how, mode)?
        } else {
            match Target::find(self.base(), path)? {
                Target::File(place) => {
                    let (descriptor, begun) = place.begin(how, mode)?;
                    replacement = Some(Box::new(begun));
                    descriptor
                }
                // There is nothing to make or to cut off.
                Target::Stream => self.open_at(path, how - (OFlags::CREATE | OFlags::TRUNC | OFlags::EXCL), mode)?,
            }
        };
        let kind = FileType::from_raw_mode(fs::fstat(&descriptor)?.st_mode);
        let hash = (flags & SFTP_OPEN_DIGEST != 0).then(|| Box::new(Hash::new(path)));
        let (appends, is_stream) = (flags & flag::APPEND != 0, matches!(kind, FileType::Fifo | FileType::Socket));
        let file = File { descriptor, kind, is_stream, appends, hash, replacement };
        Ok(Answer::Handle(self.handles.insert(Open::File(file))?))
    }

    fn open_at(&self, path: &[u8], how: OFlags, mode: Mode) -> Result<OwnedFd, Failure> {
        fs::openat(self.base(), path, how, mode).map_err(|errno| match errno {
            Errno::NXIO if paths::is_socket(self.base(), path) => {
                Failure::Explained(Errno::OPNOTSUPP, "A socket can't be opened as a file")
            }
            Errno::NXIO => Failure::Explained(errno, "Nobody reads from the named pipe, or there is no such device"),
            errno => errno.into(),
        })
    }

    fn close(&mut self, handle: &[u8]) -> Result<Answer, Failure> {
        match self.handles.remove(handle).map_err(Failure::or_bad)? {
            Open::Directory(_) => {}
            Open::File(file) => {
                if let Some(replacement) = &file.replacement {
                    replacement.finish(file.descriptor.as_fd())?;
                }
                let closed = sys::close(file.descriptor);
                if let Some(hash) = file.hash {
                    if self.digests.len() >= MOST_DIGESTS {
                        self.digests.pop_front();
                    }
                    let mut digest = hash.finish();
                    digest.sha256 = digest.sha256.filter(|_| closed.is_ok());
                    self.digests.push_back(digest);
                }
                closed?;
                if let Some(replacement) = file.replacement {
                    replacement.put_in_place()?;
                }
            }
        }
        Ok(Answer::Done)
    }

    fn read(
        &mut self,
        id: u32,
        handle: &[u8],
        offset: u64,
        length: usize,
        output: &mut Vec<u8>,
    ) -> Result<Answer, Failure> {
        let length = length.min(LONGEST_DATA);
        let file = self.handles.file(handle)?;
        if !file.is_stream {
            let offset = checked_offset(offset)?;
            let read = data(output, id, length, |buffer| {
                loop {
                    match sys::append_at(file.descriptor.as_fd(), buffer, length, offset) {
                        Err(Errno::INTR) => {}
                        read => break read,
                    }
                }
            });
            match read {
                Err(Failure::Errno(Errno::SPIPE)) if file.may_wait() => file.is_stream = true,
                // A terminal or the like.
                Err(Failure::Errno(Errno::AGAIN)) if file.may_wait() => file.is_stream = true,
                Err(failure) => {
                    if failure != Failure::END_OF_FILE {
                        file.mark_incomplete();
                    }
                    return Err(failure);
                }
                Ok(bytes) => {
                    file.hash(offset, bytes);
                    return Ok(Answer::Sent);
                }
            }
        }
        let until = Instant::now() + self.options.wait_timeout;
        self.read_stream(id, handle, length, until, output)
    }

    fn read_stream(
        &mut self,
        id: u32,
        handle: &[u8],
        length: usize,
        until: Instant,
        output: &mut Vec<u8>,
    ) -> Result<Answer, Failure> {
        let file = self.handles.file(handle)?;
        let read =
            data(output, id, length, |buffer| match stream(|| sys::append(file.descriptor.as_fd(), buffer, length))? {
                Streamed::Length(length) => Ok(length),
                Streamed::Wait => Err(Errno::AGAIN),
            });
        match read {
            Ok(bytes) => {
                file.hash(0, bytes);
                Ok(Answer::Sent)
            }
            Err(Failure::Errno(Errno::AGAIN)) if Instant::now() < until => {
                Ok(Answer::Later(Pending::Read { id, handle: handle.to_vec(), length, until }))
            }
            Err(failure) => Err(failure),
        }
    }

    fn write(&mut self, id: u32, handle: &[u8], offset: u64, bytes: &[u8]) -> Result<Answer, Failure> {
        let file = self.handles.file(handle)?;
        let mut written = 0;
        if !file.is_stream {
            // What is appended has no offset.
            let offset = checked_offset(if file.appends { 0 } else { offset })?;
            match write_all(file.descriptor.as_fd(), bytes, offset) {
                Ok(()) => {
                    file.hash(offset, bytes);
                    return Ok(Answer::Done);
                }
                Err((length, Errno::SPIPE | Errno::AGAIN)) if file.may_wait() => {
                    (file.is_stream, written) = (true, length);
                    file.hash(offset, &bytes[..length]);
                }
                Err((_, errno)) => {
                    file.mark_incomplete();
                    return Err(errno.into());
                }
            }
        }
        let until = Instant::now() + self.options.wait_timeout;
        self.write_stream(id, handle, offset, &bytes[written..], until)
    }

    /// Whoever reads from a named pipe may take time, and may never come: what has no room is tried again when there is
    /// some, as long as any progress is made within the time that is allowed. An error at once would end each transfer
    /// that is longer than a pipe.
    fn write_stream(
        &mut self,
        id: u32,
        handle: &[u8],
        offset: u64,
        bytes: &[u8],
        until: Instant,
    ) -> Result<Answer, Failure> {
        let wait_timeout = self.options.wait_timeout;
        let file = self.handles.file(handle)?;
        let (mut written, mut until) = (0, until);
        while written < bytes.len() {
            match stream(|| io::write(&file.descriptor, &bytes[written..])) {
                Ok(Streamed::Length(length)) => {
                    file.hash(0, &bytes[written..written + length]);
                    (written, until) = (written + length, Instant::now() + wait_timeout);
                }
                Ok(Streamed::Wait) if Instant::now() < until => {
                    let (handle, rest) = (handle.to_vec(), bytes[written..].to_vec());
                    return Ok(Answer::Later(Pending::Write { id, handle, offset, rest, until }));
                }
                Ok(Streamed::Wait) => {
                    file.mark_incomplete();
                    return Err(Errno::AGAIN.into());
                }
                Err(errno) => {
                    file.mark_incomplete();
                    return Err(errno.into());
                }
            }
        }
        Ok(Answer::Done)
    }

    fn open_directory(&mut self, path: &[u8]) -> Result<Answer, Failure> {
        self.handles.check_room(true)?;
        let how = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let entries = Dir::new(fs::openat(self.base(), path, how, Mode::empty())?)?;
        Ok(Answer::Handle(self.handles.insert(Open::Directory(Directory { entries, next: None }))?))
    }

    fn read_directory(&mut self, id: u32, handle: &[u8], output: &mut Vec<u8>) -> Result<Answer, Failure> {
        let Directory { entries, next } = self.handles.directory(handle)?;
        let now = attributes::now();
        packet(output, kind::NAME, id, |to| {
            let start = to.len();
            put_u32(to, 0);
            let (mut count, mut line) = (0u32, String::new());
            while let Some(name) = match next.take() {
                Some(name) => Some(name),
                None => entries.read().transpose()?.map(|entry| entry.file_name().to_bytes().to_vec()),
            } {
                // Twice the name, what `ls` would say, the attributes.
                if count > 0 && to.len() - start + 2 * name.len() + 140 > LISTING {
                    *next = Some(name);
                    break;
                }
                // It may be gone already.
                let Ok(stat) = fs::statat(entries.fd()?, &name[..], AtFlags::SYMLINK_NOFOLLOW) else { continue };
                line.clear();
                attributes::line(&mut line, &stat, now);
                put_string(to, &name);
                put_string(to, &[line.as_bytes(), &name].concat());
                attributes::put(to, &stat);
                count += 1;
            }
            if count == 0 {
                return Err(Failure::END_OF_FILE);
            }
            to[start..start + 4].copy_from_slice(&count.to_be_bytes());
            Ok(())
        })?;
        Ok(Answer::Sent)
    }

    /// Version 3 replaces nothing.
    fn rename(&self, from: &[u8], to: &[u8]) -> Result<(), Failure> {
        let base = self.base();
        match fs::renameat_with(base, from, base, to, RenameFlags::NOREPLACE) {
            // The file system, or the kernel, can't do that in one step.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
            result => return Ok(result?),
        }
        let found = fs::statat(base, from, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(found.st_mode) == FileType::RegularFile {
            match fs::linkat(base, from, base, to, AtFlags::empty()) {
                Ok(()) => return Ok(fs::unlinkat(base, from, AtFlags::empty())?),
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM | Errno::MLINK) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        match fs::statat(base, to, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Err(Errno::EXIST.into()),
            Err(_) => Ok(fs::renameat(base, from, base, to)?),
        }
    }
}

/// Offsets of files end there.
fn checked_offset(offset: u64) -> Result<u64, Failure> {
    if i64::try_from(offset).is_ok() { Ok(offset) } else { Err(Errno::INVAL.into()) }
}

/// Moves bytes of something that may not be ready.
fn stream(mut attempt: impl FnMut() -> Result<usize, Errno>) -> Result<Streamed, Errno> {
    loop {
        match attempt() {
            Ok(length) => return Ok(Streamed::Length(length)),
            Err(Errno::AGAIN) => return Ok(Streamed::Wait),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Appends a packet of data, at most `length` bytes, which `fill` appends; returns them. Without any, nothing is
/// appended.
fn data(
    output: &mut Vec<u8>,
    id: u32,
    length: usize,
    fill: impl FnOnce(&mut Vec<u8>) -> Result<usize, Errno>,
) -> Result<&[u8], Failure> {
    let start = output.len();
    output.extend_from_slice(&[0, 0, 0, 0, kind::DATA]);
    put_u32(output, id);
    put_u32(output, 0);
    let at = output.len();
    // To ask for nothing is odd, but allowed.
    let read = if length == 0 { Ok(0) } else { fill(output) };
    match read {
        Ok(read) if read > 0 || length == 0 => {
            let told = u32::try_from(read).unwrap_or(u32::MAX).to_be_bytes();
            output[at - 4..at].copy_from_slice(&told);
            patch(output, start);
            Ok(&output[at..])
        }
        read => {
            output.truncate(start);
            Err(read.err().map_or(Failure::END_OF_FILE, Failure::from))
        }
    }
}

fn put_status(output: &mut Vec<u8>, id: u32, code: u32, text: &str) {
    let start = output.len();
    output.extend_from_slice(&[0, 0, 0, 0, kind::STATUS]);
    put_u32(output, id);
    put_u32(output, code);
    put_string(output, text.as_bytes());
    // The language.
    put_string(output, b"en");
    patch(output, start);
}

fn greet(output: &mut Vec<u8>) {
    let start = output.len();
    output.extend_from_slice(&[0, 0, 0, 0, kind::VERSION]);
    put_u32(output, VERSION);
    extensions::put_names(output);
    patch(output, start);
}
