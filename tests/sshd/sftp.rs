//! SFTP, version 3 (draft-ietf-secsh-filexfer-02, with OpenSSH's order of a link's two names and the guest's flags),
//! and what the guest's tool tells of files: a server of the files in a directory of this machine. It is honest; what
//! it says goes through the hands of the test.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use openssl::sha::{Sha256, sha256};
use sandbox_protocol::{Digest, Failure, FailureKind, Response, SFTP_OPEN_DIGEST, SFTP_OPEN_REPLACE, tree};

use super::commands::Frame;
use super::connection::{Connection, Event};
use super::wire::*;
use crate::common::unique;

pub const INIT: u8 = 1;
pub const VERSION: u8 = 2;
pub const OPEN: u8 = 3;
pub const CLOSE: u8 = 4;
pub const READ: u8 = 5;
pub const WRITE: u8 = 6;
pub const LSTAT: u8 = 7;
pub const FSTAT: u8 = 8;
pub const SETSTAT: u8 = 9;
pub const FSETSTAT: u8 = 10;
pub const OPENDIR: u8 = 11;
pub const READDIR: u8 = 12;
pub const REMOVE: u8 = 13;
pub const MKDIR: u8 = 14;
pub const RMDIR: u8 = 15;
pub const REALPATH: u8 = 16;
pub const STAT: u8 = 17;
pub const RENAME: u8 = 18;
pub const READLINK: u8 = 19;
pub const SYMLINK: u8 = 20;
pub const STATUS: u8 = 101;
pub const HANDLE: u8 = 102;
pub const DATA: u8 = 103;
pub const NAME: u8 = 104;
pub const ATTRS: u8 = 105;
pub const EXTENDED: u8 = 200;
pub const EXTENDED_REPLY: u8 = 201;

/// Status codes.
pub const OK: u32 = 0;
pub const EOF: u32 = 1;
pub const NO_SUCH_FILE: u32 = 2;
pub const PERMISSION_DENIED: u32 = 3;
pub const FAILURE: u32 = 4;
pub const OP_UNSUPPORTED: u32 = 8;

/// What attributes there are.
pub const ATTR_SIZE: u32 = 1;
pub const ATTR_OWNER: u32 = 2;
pub const ATTR_MODE: u32 = 4;
pub const ATTR_TIMES: u32 = 8;
pub const ATTR_EXTENDED: u32 = 1 << 31;

/// Of a message to the client, which takes 32 768 bytes.
const PIECE: usize = 30_000;
const LISTED_AT_ONCE: usize = 100;

/// A request of the client.
#[derive(Clone, Debug)]
pub struct Request {
    pub kind: u8,
    /// Of `INIT`, the version.
    pub id: u32,
    pub body: Vec<u8>,
}

impl Request {
    /// The beginning of an answer to it.
    pub fn reply(&self, kind: u8) -> Message {
        Message::new(kind).u32(self.id)
    }

    pub fn status(&self, code: u32) -> Message {
        self.reply(STATUS).u32(code).string("said the server").string("")
    }

    /// The first field: a path, or a handle.
    pub fn name(&self) -> io::Result<&[u8]> {
        Fields(&self.body).string()
    }

    /// Whether the client gets data for this if it goes well, and a status only if it does not.
    pub fn asks_for_data(&self) -> bool {
        matches!(self.kind, INIT | OPEN | READ | LSTAT | FSTAT | OPENDIR | READDIR | REALPATH | STAT | READLINK)
    }
}

/// The bytes of a packet on the channel.
pub fn framed(message: &Message) -> Vec<u8> {
    Message(Vec::new()).string(&message.0).0
}

/// What a server is asked, and what the test makes of it.
pub trait Answers {
    /// Called for each request. The honest answer is `files.answer(request)`.
    fn answer(&mut self, client: &mut Connection, files: &mut Files, request: &Request) -> io::Result<()>;
}

impl<F: FnMut(&mut Connection, &mut Files, &Request) -> io::Result<()>> Answers for F {
    fn answer(&mut self, client: &mut Connection, files: &mut Files, request: &Request) -> io::Result<()> {
        self(client, files, request)
    }
}

impl Connection {
    /// Serves the files in `root` until the client goes.
    pub fn serve_files(&mut self, root: &Path, mut answers: impl Answers) -> io::Result<()> {
        let mut files = Files::new(root);
        loop {
            let event = self.next()?;
            self.transport.renew();
            match event {
                Event::Open => self.confirm_channel(u32::MAX)?,
                Event::Request { kind, .. } if kind == "subsystem" => self.succeed()?,
                Event::Request { wants_reply: true, .. } => self.refuse()?,
                Event::Data(bytes) => self.keep(&bytes),
                _ => {}
            }
            while let Some(frame) = self.take_frame()? {
                if let Frame::Request(request) = frame {
                    self.perform(&mut files, &request)?;
                }
            }
            while let Some(request) = self.take_request()? {
                answers.answer(self, &mut files, &request)?;
            }
        }
    }

    /// The next request, if all of it has come.
    fn take_request(&mut self) -> io::Result<Option<Request>> {
        let mut fields = Fields(&self.received);
        let Ok(packet) = fields.string() else { return Ok(None) };
        let (left, mut fields) = (fields.0.len(), Fields(packet));
        let request = Request { kind: fields.byte()?, id: fields.u32()?, body: fields.0.to_vec() };
        self.received.drain(..self.received.len() - left);
        Ok(Some(request))
    }

    /// Sends a packet of SFTP, as fast as the client takes it.
    pub fn answer(&mut self, message: &Message) -> io::Result<()> {
        framed(message).chunks(PIECE).try_for_each(|piece| self.say(piece))
    }

    /// Sends some bytes of SFTP, as fast as the client takes them.
    pub fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.await_room(bytes.len())?;
        self.data(bytes)
    }

    fn await_room(&mut self, length: usize) -> io::Result<()> {
        let length = length as u64;
        loop {
            match self.room() {
                Some(room) if *room >= length => {
                    *room -= length;
                    return Ok(());
                }
                Some(_) => {
                    if let Event::Data(bytes) = self.next()? {
                        self.keep(&bytes);
                    }
                }
                None => return Err(io::ErrorKind::NotConnected.into()),
            }
        }
    }

    /// Answers a request that is about files.
    fn perform(&mut self, files: &mut Files, request: &sandbox_protocol::Request) -> io::Result<()> {
        match request {
            sandbox_protocol::Request::Digests => self.result(&Response::Digests { digests: files.take_digests() }),
            sandbox_protocol::Request::Run(run) if run.guest_tool => {
                let words = run.argv[1..].iter().map(|word| OsStr::from_bytes(word.as_ref()).to_owned());
                let request = tree::Request::from_args(words).map_err(io::Error::other)?;
                let (said, outcome) = match files.use_tool(&request) {
                    Ok(said) => (said, tree::Outcome::Done(tree::Report::default())),
                    Err(e) => (Vec::new(), failed(&e)),
                };
                let is_done = matches!(outcome, tree::Outcome::Done(_));
                self.started()?;
                self.stdout(said)?;
                self.stderr(serde_json::to_vec(&outcome)?)?;
                self.ended(i32::from(!is_done))
            }
            _ => self.result(&Response::Failed(Failure { kind: FailureKind::Unsupported, ..Failure::default() })),
        }
    }
}

fn failed(e: &io::Error) -> tree::Outcome {
    tree::Outcome::Failed(tree::Failure {
        kind: tree::FailureKind::System,
        errno: e.raw_os_error(),
        path: tree::Bytes::default(),
        message: e.to_string(),
        report: tree::Report::default(),
    })
}

/// Attributes as SFTP writes them.
pub fn attributes(size: u64, mode: u32) -> Message {
    let attributes = Message(Vec::new()).u32(ATTR_SIZE | ATTR_OWNER | ATTR_MODE | ATTR_TIMES);
    attributes.raw(&size.to_be_bytes()).u32(0).u32(0).u32(mode).u32(1).u32(2)
}

/// An entry of a listing, or a path.
pub fn entry(name: impl AsRef<[u8]>, attributes: &Message) -> Message {
    let name = name.as_ref();
    Message(Vec::new()).string(name).string([b"-rw-r--r-- 1 ", name].concat()).raw(&attributes.0)
}

/// The files of a directory, as one connection has opened them.
#[derive(Debug)]
pub struct Files {
    root: PathBuf,
    opened: HashMap<Vec<u8>, Opened>,
    next_handle: u32,
    /// Of files that are closed.
    digests: Vec<Digest>,
}

#[derive(Debug)]
enum Opened {
    File(OpenFile),
    /// Entries that have not been told.
    Directory(Vec<Message>),
}

#[derive(Debug)]
struct OpenFile {
    file: File,
    passed: Option<Passed>,
    replacement: Option<Replacement>,
}

/// What has passed through a handle in sequence.
struct Passed {
    path: Vec<u8>,
    length: u64,
    /// `None` once something was not in sequence.
    hash: Option<Sha256>,
}

impl Passed {
    fn add(&mut self, offset: u64, bytes: &[u8]) {
        match &mut self.hash {
            Some(hash) if offset == self.length => hash.update(bytes),
            // What is read again, and what is beyond the end.
            _ if bytes.is_empty() => {}
            _ => self.hash = None,
        }
        self.length += bytes.len() as u64;
    }

    fn digest(&self) -> Digest {
        let sum = self.hash.clone().map(|hash| tree::Digest::new(&self.path, &hash.finish(), self.length));
        Digest { path: self.path[..].into(), offset: 0, length: self.length, sha256: sum.map(|sum| sum.sha256) }
    }
}

impl std::fmt::Debug for Passed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Passed").finish_non_exhaustive()
    }
}

/// A new file that takes the place of another one when it is closed, and goes away without that.
#[derive(Debug)]
struct Replacement {
    part: PathBuf,
    target: PathBuf,
}

impl Replacement {
    fn put_in_place(&self) -> io::Result<()> {
        if let Ok(found) = fs::metadata(&self.target) {
            fs::set_permissions(&self.part, found.permissions())?;
        }
        fs::rename(&self.part, &self.target)
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.part);
    }
}

impl Files {
    fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), opened: HashMap::new(), next_handle: 0, digests: Vec::new() }
    }

    /// What has passed through files that were closed since the last time, and through those that are open.
    fn take_digests(&mut self) -> Vec<Digest> {
        let open = self.opened.values().filter_map(|opened| match opened {
            Opened::File(OpenFile { passed, .. }) => passed.as_ref().map(Passed::digest),
            Opened::Directory(_) => None,
        });
        self.digests.drain(..).chain(open).collect()
    }

    /// Does what the guest's tool is asked for, and gives what it says.
    fn use_tool(&self, request: &tree::Request) -> io::Result<Vec<u8>> {
        match request {
            tree::Request::Digest { path, length } => {
                let mut contents = fs::read(self.root.join(path))?;
                contents.truncate(length.map_or(usize::MAX, |length| length.try_into().unwrap()));
                let name = path.as_os_str().as_bytes();
                let digest = tree::Digest::new(name, &sha256(&contents), contents.len() as u64);
                let mut line = serde_json::to_vec(&digest)?;
                line.push(b'\n');
                Ok(line)
            }
            tree::Request::Sync { path, .. } => File::open(self.root.join(path))?.sync_all().map(|()| Vec::new()),
            tree::Request::Remove { path, aside: false } => {
                fs::remove_dir_all(self.root.join(path)).map(|()| Vec::new())
            }
            other => Err(io::Error::other(format!("{other:?}"))),
        }
    }

    /// Does what is asked, and says how it went.
    pub fn answer(&mut self, request: &Request) -> Message {
        self.perform(request).unwrap_or_else(|e| {
            request.status(match e.kind() {
                io::ErrorKind::UnexpectedEof => EOF,
                io::ErrorKind::NotFound => NO_SUCH_FILE,
                io::ErrorKind::PermissionDenied => PERMISSION_DENIED,
                io::ErrorKind::Unsupported => OP_UNSUPPORTED,
                _ => FAILURE,
            })
        })
    }

    fn perform(&mut self, request: &Request) -> io::Result<Message> {
        let mut fields = Fields(&request.body);
        if request.kind == INIT {
            let version = Message::new(VERSION).u32(3).string("posix-rename@openssh.com").string("1");
            return Ok(version.string("fsync@openssh.com").string("1"));
        }
        let name = fields.string()?;
        let path = self.path(name);
        match request.kind {
            OPEN => {
                let (flags, changes) = (fields.u32()?, Changes::read(&mut fields)?);
                let has = |flag| flags & flag != 0;
                let mut options = OpenOptions::new();
                options.read(has(1)).write(has(2)).append(has(4)).create(has(8)).truncate(has(16)).create_new(has(32));
                options.mode(changes.mode.unwrap_or(0o666) & 0o7777);
                let replacement = has(SFTP_OPEN_REPLACE).then(|| {
                    let target = fs::canonicalize(&path).unwrap_or(path.clone());
                    let part = target.with_file_name(format!(".sandbox-{}.new", unique()));
                    Replacement { part, target }
                });
                let file = options.open(replacement.as_ref().map_or(&path, |replacement| &replacement.part))?;
                let passed =
                    has(SFTP_OPEN_DIGEST).then(|| Passed { path: name.to_vec(), length: 0, hash: Some(Sha256::new()) });
                let opened = Opened::File(OpenFile { file, passed, replacement });
                return Ok(request.reply(HANDLE).string(self.keep(opened)));
            }
            OPENDIR => {
                let mut entries = Vec::new();
                for name in [".", ".."] {
                    entries.push(entry(name, &attributes_of(&fs::metadata(path.join(name))?)));
                }
                for found in fs::read_dir(&path)? {
                    let found = found?;
                    entries.push(entry(found.file_name().as_bytes(), &attributes_of(&found.metadata()?)));
                }
                return Ok(request.reply(HANDLE).string(self.keep(Opened::Directory(entries))));
            }
            READDIR => {
                let Some(Opened::Directory(entries)) = self.opened.get_mut(name) else { return Err(wrong()) };
                if entries.is_empty() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                let told: Vec<_> = entries.drain(..entries.len().min(LISTED_AT_ONCE)).collect();
                let names = request.reply(NAME).u32(u32::try_from(told.len()).unwrap());
                return Ok(told.iter().fold(names, |names, entry| names.raw(&entry.0)));
            }
            READ => {
                let (offset, length) = (fields.u64()?, fields.u32()? as usize);
                let mut bytes = vec![0; length];
                let OpenFile { file, passed, .. } = self.file(name)?;
                let length = file.read_at(&mut bytes, offset)?;
                if let Some(passed) = passed {
                    passed.add(offset, &bytes[..length]);
                }
                return match length {
                    0 => Err(io::ErrorKind::UnexpectedEof.into()),
                    _ => Ok(request.reply(DATA).string(&bytes[..length])),
                };
            }
            STAT => return Ok(request.reply(ATTRS).raw(&attributes_of(&fs::metadata(path)?).0)),
            LSTAT => return Ok(request.reply(ATTRS).raw(&attributes_of(&fs::symlink_metadata(path)?).0)),
            FSTAT => return Ok(request.reply(ATTRS).raw(&attributes_of(&self.file(name)?.file.metadata()?).0)),
            REALPATH => return named(request, &fs::canonicalize(path)?),
            READLINK => return named(request, &fs::read_link(path)?),
            CLOSE => {
                if let Opened::File(OpenFile { passed, replacement, .. }) =
                    self.opened.remove(name).ok_or_else(wrong)?
                {
                    self.digests.extend(passed.map(|passed| passed.digest()));
                    replacement.map_or(Ok(()), |replacement| replacement.put_in_place())?;
                }
            }
            WRITE => {
                let (offset, bytes) = (fields.u64()?, fields.string()?);
                let OpenFile { file, passed, .. } = self.file(name)?;
                file.write_all_at(bytes, offset)?;
                if let Some(passed) = passed {
                    passed.add(offset, bytes);
                }
            }
            SETSTAT => Changes::read(&mut fields)?.make(&OpenOptions::new().read(true).open(path)?)?,
            FSETSTAT => Changes::read(&mut fields)?.make(&self.file(name)?.file)?,
            REMOVE => fs::remove_file(path)?,
            MKDIR => fs::create_dir(path)?,
            RMDIR => fs::remove_dir(path)?,
            RENAME => fs::rename(path, self.path(fields.string()?))?,
            SYMLINK => symlink(OsStr::from_bytes(name), self.path(fields.string()?))?,
            EXTENDED => match name {
                b"posix-rename@openssh.com" => {
                    let from = self.path(fields.string()?);
                    fs::rename(from, self.path(fields.string()?))?;
                }
                b"fsync@openssh.com" => self.file(fields.string()?)?.file.sync_all()?,
                _ => return Err(io::ErrorKind::Unsupported.into()),
            },
            _ => return Err(io::ErrorKind::Unsupported.into()),
        }
        Ok(request.status(OK))
    }

    fn path(&self, name: &[u8]) -> PathBuf {
        self.root.join(OsStr::from_bytes(name))
    }

    fn keep(&mut self, opened: Opened) -> Vec<u8> {
        let handle = self.next_handle.to_be_bytes().to_vec();
        self.next_handle += 1;
        self.opened.insert(handle.clone(), opened);
        handle
    }

    fn file(&mut self, handle: &[u8]) -> io::Result<&mut OpenFile> {
        match self.opened.get_mut(handle) {
            Some(Opened::File(file)) => Ok(file),
            _ => Err(wrong()),
        }
    }
}

fn wrong() -> io::Error {
    io::Error::other("no such handle")
}

fn named(request: &Request, path: &Path) -> io::Result<Message> {
    let none = Message(Vec::new()).u32(0);
    Ok(request.reply(NAME).u32(1).raw(&entry(path.as_os_str().as_bytes(), &none).0))
}

fn attributes_of(found: &Metadata) -> Message {
    attributes(found.size(), found.mode())
}

/// Attributes that are to be set.
struct Changes {
    size: Option<u64>,
    mode: Option<u32>,
}

impl Changes {
    fn read(fields: &mut Fields<'_>) -> io::Result<Self> {
        let flags = fields.u32()?;
        let size = (flags & ATTR_SIZE != 0).then(|| fields.u64()).transpose()?;
        if flags & ATTR_OWNER != 0 {
            fields.u64()?;
        }
        let mode = (flags & ATTR_MODE != 0).then(|| fields.u32()).transpose()?;
        Ok(Self { size, mode })
    }

    fn make(&self, file: &File) -> io::Result<()> {
        if let Some(size) = self.size {
            file.set_len(size)?;
        }
        match self.mode {
            Some(mode) => file.set_permissions(Permissions::from_mode(mode & 0o7777)),
            None => Ok(()),
        }
    }
}
