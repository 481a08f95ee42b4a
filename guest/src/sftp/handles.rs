//! Open files and directories of a client.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ring::digest::{Context, SHA256};
use rustix::fs::{Dir, FileType};
use rustix::io::Errno;

use super::Digest;
use super::errors::Failure;
use super::replace::Replacement;

/// Each open directory has a buffer of its own.
const MOST_DIRECTORIES: usize = 256;

/// An open file or directory.
#[derive(Debug)]
pub(super) enum Open {
    File(File),
    Directory(Directory),
}

#[derive(Debug)]
pub(super) struct File {
    pub(super) descriptor: OwnedFd,
    pub(super) kind: FileType,
    /// Bytes have no offsets: a named pipe, a terminal.
    pub(super) is_stream: bool,
    pub(super) appends: bool,
    pub(super) hash: Option<Box<Hash>>,
    /// It has no name of its own yet.
    pub(super) replacement: Option<Box<Replacement>>,
}

#[derive(Debug)]
pub(super) struct Directory {
    pub(super) entries: Dir,
    /// An entry that had no room in the last answer.
    pub(super) next: Option<Vec<u8>>,
}

/// What passes through a handle, as long as that is in sequence.
pub(super) struct Hash {
    path: Vec<u8>,
    start: Option<u64>,
    length: u64,
    /// `None` once something was not in sequence.
    context: Option<Context>,
}

/// All that a client has open. Handles on the wire are a number of a place and one that tells apart whatever is there
/// in time.
#[derive(Debug)]
pub(super) struct Handles {
    places: Vec<Place>,
    free: Vec<u32>,
    directories: usize,
    most: usize,
}

#[derive(Debug, Default)]
struct Place {
    generation: u32,
    open: Option<Open>,
}

impl Handles {
    pub(super) fn new(most: usize) -> Self {
        Self { places: Vec::new(), free: Vec::new(), directories: 0, most }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.len() == self.free.len()
    }

    /// Whether one more may be opened.
    pub(super) fn check_room(&self, is_directory: bool) -> Result<(), Failure> {
        let is_full = self.places.len() - self.free.len() >= self.most;
        if is_full || (is_directory && self.directories >= MOST_DIRECTORIES) { Err(Failure::TOO_MANY) } else { Ok(()) }
    }

    pub(super) fn insert(&mut self, open: Open) -> Result<[u8; 8], Failure> {
        let is_directory = matches!(open, Open::Directory(_));
        self.check_room(is_directory)?;
        let at = match self.free.pop() {
            Some(at) => at,
            None => {
                let at = u32::try_from(self.places.len()).map_err(|_| Failure::TOO_MANY)?;
                self.places.push(Place::default());
                at
            }
        };
        let place = &mut self.places[at as usize];
        place.open = Some(open);
        self.directories += usize::from(is_directory);
        let mut handle = [0; 8];
        handle[..4].copy_from_slice(&at.to_be_bytes());
        handle[4..].copy_from_slice(&place.generation.to_be_bytes());
        Ok(handle)
    }

    fn place(&self, handle: &[u8]) -> Result<usize, Failure> {
        let handle: &[u8; 8] = handle.try_into().map_err(|_| Failure::NO_HANDLE)?;
        let (at, generation) = (handle.first_chunk().copied(), handle.last_chunk().copied());
        let at = at.map_or(usize::MAX, |at| u32::from_be_bytes(at) as usize);
        match self.places.get(at) {
            Some(place) if place.open.is_some() && generation.map(u32::from_be_bytes) == Some(place.generation) => {
                Ok(at)
            }
            _ => Err(Failure::NO_HANDLE),
        }
    }

    pub(super) fn get(&mut self, handle: &[u8]) -> Result<&mut Open, Failure> {
        let at = self.place(handle)?;
        self.places[at].open.as_mut().ok_or(Failure::NO_HANDLE)
    }

    /// An open file, to look at.
    pub(super) fn peek(&self, handle: &[u8]) -> Option<&File> {
        match self.places[self.place(handle).ok()?].open.as_ref()? {
            Open::File(file) => Some(file),
            Open::Directory(_) => None,
        }
    }

    pub(super) fn file(&mut self, handle: &[u8]) -> Result<&mut File, Failure> {
        match self.get(handle)? {
            Open::File(file) => Ok(file),
            Open::Directory(_) => Err(Failure::NO_HANDLE),
        }
    }

    /// All files that are open.
    pub(super) fn files(&self) -> impl Iterator<Item = &File> {
        self.places.iter().filter_map(|place| match &place.open {
            Some(Open::File(file)) => Some(file),
            _ => None,
        })
    }

    pub(super) fn directory(&mut self, handle: &[u8]) -> Result<&mut Directory, Failure> {
        match self.get(handle)? {
            Open::Directory(directory) => Ok(directory),
            Open::File(_) => Err(Failure::NO_HANDLE),
        }
    }

    pub(super) fn remove(&mut self, handle: &[u8]) -> Result<Open, Failure> {
        let at = self.place(handle)?;
        let place = &mut self.places[at];
        let open = place.open.take().ok_or(Failure::NO_HANDLE)?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(u32::try_from(at).map_err(|_| Failure::NO_HANDLE)?);
        self.directories -= usize::from(matches!(open, Open::Directory(_)));
        Ok(open)
    }
}

impl Open {
    pub(super) fn descriptor(&self) -> Result<BorrowedFd<'_>, Errno> {
        match self {
            Self::File(file) => Ok(file.descriptor.as_fd()),
            Self::Directory(directory) => directory.entries.fd(),
        }
    }
}

impl File {
    /// Something that is not a file's contents at an offset: waiting may be needed.
    pub(super) fn may_wait(&self) -> bool {
        !matches!(self.kind, FileType::RegularFile | FileType::Directory | FileType::BlockDevice)
    }

    pub(super) fn hash(&mut self, offset: u64, bytes: &[u8]) {
        if let Some(hash) = &mut self.hash {
            let offset = if self.appends || self.is_stream { None } else { Some(offset) };
            hash.take(offset, bytes);
        }
    }

    /// Something was lost; the rest makes no sum and no file.
    pub(super) fn mark_incomplete(&mut self) {
        self.drop_hash();
        if let Some(replacement) = &mut self.replacement {
            replacement.mark_incomplete();
        }
    }

    /// What comes does not pass through here as a whole.
    pub(super) fn drop_hash(&mut self) {
        if let Some(hash) = &mut self.hash {
            hash.context = None;
        }
    }
}

impl Hash {
    pub(super) fn new(path: &[u8]) -> Self {
        Self { path: path.to_vec(), start: None, length: 0, context: Some(Context::new(&SHA256)) }
    }

    /// Takes what was read or written at an offset; `None` stands for the place behind the last bytes.
    fn take(&mut self, offset: Option<u64>, bytes: &[u8]) {
        let start = *self.start.get_or_insert(offset.unwrap_or(0));
        if offset.is_some_and(|offset| start.checked_add(self.length) != Some(offset)) {
            self.context = None;
        }
        if let Some(context) = &mut self.context {
            context.update(bytes);
            self.length += bytes.len() as u64;
        }
    }

    pub(super) fn finish(self) -> Digest {
        let sha256 = self.context.and_then(|context| context.finish().as_ref().try_into().ok());
        Digest { path: self.path, offset: self.start.unwrap_or(0), length: self.length, sha256 }
    }

    pub(super) fn so_far(&self) -> Digest {
        Self { path: self.path.clone(), context: self.context.clone(), ..*self }.finish()
    }
}

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hash").field("path", &self.path.escape_ascii().to_string()).finish_non_exhaustive()
    }
}
