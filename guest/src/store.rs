//! Bytes that are kept in files without a name, so that no command can open, change or remove them.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::fs::{MemfdFlags, Mode, OFlags, memfd_create, open};
use rustix::io::Errno;
use sandbox_protocol::StreamInfo;

/// So much is kept in memory before there is a file.
const IN_MEMORY: usize = 16 << 10;
/// What a file in memory may hold, where no directory can have one: it counts as the container's memory.
const MEMFD_LIMIT: u64 = 64 << 20;

/// An anonymous file: in one of the directories, else in memory.
#[derive(Debug)]
struct Anonymous {
    file: File,
    is_in_memory: bool,
}

fn anonymous(directories: &[PathBuf]) -> Result<Anonymous, Errno> {
    // O_EXCL: it can't be given a name later.
    let flags = OFlags::TMPFILE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
    for directory in directories {
        if let Ok(file) = open(directory, flags, Mode::RUSR | Mode::WUSR) {
            return Ok(Anonymous { file: file.into(), is_in_memory: false });
        }
    }
    let file = memfd_create("sandbox-guest", MemfdFlags::CLOEXEC | MemfdFlags::NOEXEC_SEAL)
        .or_else(|_| memfd_create("sandbox-guest", MemfdFlags::CLOEXEC))?;
    Ok(Anonymous { file: file.into(), is_in_memory: true })
}

/// The directories in which anonymous files are tried.
pub(crate) fn directories(temporary: Option<&Path>) -> Vec<PathBuf> {
    let mut directories: Vec<PathBuf> = temporary.map(Path::to_path_buf).into_iter().collect();
    directories.extend(["/tmp", "/var/tmp", "/dev/shm"].map(PathBuf::from));
    directories
}

/// A stream of bytes that one thread appends to and others read, up to a limit.
#[derive(Debug)]
pub(crate) struct Store {
    directories: Vec<PathBuf>,
    limit: AtomicU64,
    /// The beginning, until there is a file.
    memory: Mutex<Vec<u8>>,
    file: OnceLock<File>,
    kept: AtomicU64,
    dropped: AtomicU64,
    errno: AtomicI32,
}

impl Store {
    pub(crate) fn new(directories: &[PathBuf], limit: u64) -> Self {
        Self {
            directories: directories.to_vec(),
            limit: AtomicU64::new(limit),
            memory: Mutex::new(Vec::new()),
            file: OnceLock::new(),
            kept: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            errno: AtomicI32::new(0),
        }
    }

    /// Keeps the bytes, or as many of them as the limit and the space allow. Once some were dropped, all later ones
    /// are: what is kept is the beginning of the stream.
    pub(crate) fn append(&self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() && self.dropped.load(Ordering::Relaxed) == 0 {
            match self.append_some(rest) {
                Ok(0) => break,
                Ok(count) => rest = &rest[count..],
                Err(error) => {
                    self.errno.store(error.raw_os_error(), Ordering::Relaxed);
                    break;
                }
            }
        }
        self.dropped.fetch_add(rest.len() as u64, Ordering::Relaxed);
    }

    fn append_some(&self, bytes: &[u8]) -> Result<usize, Errno> {
        let kept = self.kept.load(Ordering::Relaxed);
        if self.file.get().is_none() {
            let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
            let allowed = cut(bytes, self.limit.load(Ordering::Relaxed).saturating_sub(kept));
            if memory.len() + allowed.len() <= IN_MEMORY {
                memory.extend_from_slice(allowed);
                self.kept.fetch_add(allowed.len() as u64, Ordering::Release);
                return Ok(allowed.len());
            }
            let Anonymous { file, is_in_memory } = anonymous(&self.directories)?;
            if is_in_memory {
                self.limit.fetch_min(MEMFD_LIMIT, Ordering::Relaxed);
            }
            file.write_all_at(&memory, 0).map_err(|e| errno(&e))?;
            *memory = Vec::new();
            let _ = self.file.set(file);
        }
        let allowed = cut(bytes, self.limit.load(Ordering::Relaxed).saturating_sub(kept));
        let Some(file) = self.file.get() else { return Err(Errno::BADF) };
        let count = loop {
            match file.write_at(allowed, kept) {
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                result => break result.map_err(|e| errno(&e))?,
            }
        };
        self.kept.fetch_add(count as u64, Ordering::Release);
        Ok(count)
    }

    /// Bytes that can be read.
    pub(crate) fn length(&self) -> u64 {
        self.kept.load(Ordering::Acquire)
    }

    /// Reads from a place; 0 bytes beyond the end of what is kept.
    pub(crate) fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        let there = self.length().saturating_sub(offset);
        let most = usize::try_from(there).unwrap_or(usize::MAX).min(buffer.len());
        let buffer = &mut buffer[..most];
        if buffer.is_empty() {
            return Ok(0);
        }
        if self.file.get().is_none() {
            let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
            // It may have become a file just now.
            if self.file.get().is_none() {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(memory.len());
                let count = buffer.len().min(memory.len() - start);
                buffer[..count].copy_from_slice(&memory[start..start + count]);
                return Ok(count);
            }
        }
        let Some(file) = self.file.get() else { return Err(Errno::BADF) };
        loop {
            match file.read_at(buffer, offset) {
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                result => return result.map_err(|e| errno(&e)),
            }
        }
    }

    /// What is kept and what was dropped.
    pub(crate) fn info(&self) -> StreamInfo {
        let errno = self.errno.load(Ordering::Relaxed);
        StreamInfo {
            kept: self.length(),
            dropped: self.dropped.load(Ordering::Relaxed),
            errno: (errno != 0).then_some(errno),
        }
    }

    /// A file with what was kept, at its beginning.
    pub(crate) fn into_file(self) -> Result<File, Errno> {
        let memory = self.memory.into_inner().unwrap_or_else(PoisonError::into_inner);
        match self.file.into_inner() {
            // It was only written by place, so it stands at its beginning.
            Some(file) => Ok(file),
            None => {
                let Anonymous { file, .. } = anonymous(&self.directories)?;
                file.write_all_at(&memory, 0).map_err(|e| errno(&e))?;
                Ok(file)
            }
        }
    }
}

fn cut(bytes: &[u8], limit: u64) -> &[u8] {
    &bytes[..usize::try_from(limit).unwrap_or(usize::MAX).min(bytes.len())]
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn store(limit: u64) -> Store {
        Store::new(&directories(None), limit)
    }

    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|number| number as u8).collect()
    }

    fn read(store: &Store, mut offset: u64) -> Vec<u8> {
        let (mut all, mut buffer) = (Vec::new(), [0; 1000]);
        loop {
            match store.read(offset, &mut buffer).unwrap() {
                0 => return all,
                count => {
                    all.extend_from_slice(&buffer[..count]);
                    offset += count as u64;
                }
            }
        }
    }

    #[test]
    fn memory_becomes_a_file() {
        let (store, all) = (store(u64::MAX), bytes(IN_MEMORY * 3));
        for (number, part) in all.chunks(1000).enumerate() {
            store.append(part);
            assert_eq!(store.length() as usize, all.len().min((number + 1) * 1000));
            assert_eq!(read(&store, 500), all[500..store.length() as usize]);
        }
        assert_eq!(store.info(), StreamInfo { kept: all.len() as u64, dropped: 0, errno: None });
        assert_eq!(store.read(u64::MAX, &mut [0; 10]), Ok(0));
    }

    #[test]
    fn the_beginning_is_kept() {
        for limit in [0, 10, 999, IN_MEMORY as u64 + 5] {
            let (store, all) = (store(limit), bytes(IN_MEMORY * 2));
            for part in all.chunks(1000) {
                store.append(part);
            }
            assert_eq!(store.info(), StreamInfo { kept: limit, dropped: all.len() as u64 - limit, errno: None });
            assert_eq!(read(&store, 0), all[..limit as usize]);
        }
    }

    #[test]
    fn without_a_directory_it_is_memory() {
        let (store, all) = (Store::new(&["/no/such/directory".into()], u64::MAX), bytes(1 << 20));
        for _ in 0..80 {
            store.append(&all);
        }
        let info = store.info();
        assert_eq!((info.kept, info.dropped), (MEMFD_LIMIT, (80 << 20) - MEMFD_LIMIT));
    }

    #[test]
    fn input_becomes_a_file() {
        for length in [0, 100, IN_MEMORY * 2] {
            let (store, all, mut found) = (store(u64::MAX), bytes(length), Vec::new());
            store.append(&all);
            store.into_file().unwrap().read_to_end(&mut found).unwrap();
            assert_eq!(found, all);
        }
    }
}
