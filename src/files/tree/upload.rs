//! Uploads of trees: packing a local one, which the guest unpacks and puts in place.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufReader, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;

use openssl::sha::Sha256;
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use sandbox_protocol::tar::{Entry, Kind, MOST_SEGMENTS, Segment, Time, Writer};
use sandbox_protocol::tree::Request;

use super::sums::Sums;
use super::{BUFFER, TreeProgress, TreeReport};
use crate::command::Child;
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::files::local::{PERMISSIONS, at_local, cut_short};
use crate::files::path::{bytes_of, temp_path_beside};
use crate::files::request::cleanup_deadline;
use crate::files::tool::{Streamed, Work, stream};
use crate::files::{Files, Transfer};
use crate::ssh::sftp::{DIRECTORY, Quoted};

impl Transfer<'_> {
    pub(super) fn send_tree(&mut self, local: &Path, remote: &Path) -> Result<TreeReport> {
        self.check_options()?;
        let (files, deadline, target) = (self.files, self.files.deadline(), bytes_of(remote)?);
        let root = fs::metadata(local).map_err(|e| at_local(local, "read", e))?;
        if !root.is_dir() {
            return Err(at_local(local, "uploaded as a directory", io::Error::from_raw_os_error(libc::ENOTDIR)));
        }
        let found = files.ask(target, deadline, |client| match client.stat(target) {
            Err(e) if e.kind() == ErrorKind::FileNotFound => match client.lstat(target) {
                Err(e) if e.kind() == ErrorKind::FileNotFound => Ok(None),
                // A link that leads nowhere is in the way.
                found => found.map(Some),
            },
            found => found.map(Some),
        })?;
        let to = Path::new(OsStr::from_bytes(target));
        let (part, merge) = match found {
            // On the same file system as what it will be merged with.
            Some(found) if found.is(DIRECTORY) => (temp_path_beside(&to.join("x")), true),
            Some(_) => {
                let message = format!("{} exists and is not a directory", Quoted(target));
                return Err(Error::new(ErrorKind::NotADirectory, message));
            }
            None => (temp_path_beside(to), false),
        };
        let total = self.progress.as_ref().map(|_| measure(local)).transpose()?;
        let (sums, sync) = (self.checksum.then(Sums::default), self.sync);
        let mut progress = TreeProgress::new(self.progress.as_deref_mut(), total);
        let sent =
            files.send(&mut progress, local, &root, Destination { part: &part, to, merge, sync }, &sums, deadline);
        if let Err(e) = &sent {
            files.remove_tree_part(&part, cleanup_deadline(e));
        }
        sent.map(|()| progress.report)
    }
}

/// Where a tree goes in the sandbox.
#[derive(Clone, Copy)]
struct Destination<'a> {
    part: &'a Path,
    to: &'a Path,
    merge: bool,
    sync: bool,
}

impl Files<'_> {
    /// Sends a tree and has it moved into place: by the same request, unless its sums are compared first.
    fn send(
        &self,
        progress: &mut TreeProgress<'_, '_>,
        local: &Path,
        root: &fs::Metadata,
        Destination { part, to, merge, sync }: Destination<'_>,
        sums: &Option<Sums>,
        deadline: Deadline,
    ) -> Result<()> {
        let (name, part_name) = (to.as_os_str().as_bytes(), part.as_os_str().as_bytes());
        let request = Request::Unpack {
            part: part.to_owned(),
            target: sums.is_none().then(|| to.to_owned()),
            merge,
            sync: sync && sums.is_none(),
            digests: sums.is_some(),
            max_bytes: None,
            max_entries: None,
        };
        let child = self.tool(&request, deadline).spawn().map_err(Error::within_operation)?;
        let ended = stream(child, |child| send_to(child, progress, local, root, sums.as_ref(), name));
        let is_sent = ended.is_complete_here();
        let work = Work { name, path: part_name, done: "written" };
        let report = ended.into_report(work, || progress.so_far()).map_err(|e| match e.kind() {
            // Nothing has its name before the end is there, so doing it again is harmless.
            ErrorKind::OutcomeUnknown if !is_sent || sums.is_some() => e.with_kind(ErrorKind::Disconnected),
            _ => e,
        })?;
        progress.report.take_notes(&report);
        // How many links the file system there can hold, only the guest knows.
        progress.report.symlinks = progress.report.symlinks.min(report.symlinks);
        if let Some(sums) = sums {
            sums.finish(name, progress.report.files)?;
            let request = Request::Place { part: part.to_owned(), target: to.to_owned(), merge, sync };
            self.run_tool(&request, Work { done: "moved into place", ..work }, deadline)?;
        }
        Ok(())
    }

    /// Removes what is left of a tree, as far as the sandbox can be reached.
    fn remove_tree_part(&self, part: &Path, deadline: Deadline) {
        let name = part.as_os_str().as_bytes();
        // Whoever is at work on it may be so still.
        let request = Request::Remove { path: part.to_owned(), aside: true };
        if let Err(e) = self.run_tool(&request, Work { name, path: name, done: "removed" }, deadline) {
            log::warn!("a partial directory is left in sandbox {}: {e}", self.link.name());
        }
    }
}

/// Writes a tree to the tool's input, and compares the sums of files that it tells meanwhile.
fn send_to(
    child: &mut Child,
    progress: &mut TreeProgress<'_, '_>,
    local: &Path,
    root: &fs::Metadata,
    sums: Option<&Sums>,
    name: &[u8],
) -> Streamed<()> {
    let (Some(stdin), stdout) = (child.stdin.take(), child.stdout.take()) else { return Ok(()) };
    let output = BufWriter::with_capacity(BUFFER, stdin);
    let (Some(sums), Some(stdout)) = (sums, stdout) else { return progress.pack(output, local, root, None) };
    thread::scope(|scope| {
        let compared = scope.spawn(|| sums.compare(BufReader::with_capacity(BUFFER, stdout), name));
        let packed = progress.pack(output, local, root, Some(sums));
        if packed.is_err() {
            // It may be waiting for more.
            let _ = child.kill();
        }
        let compared = compared.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        packed.and(compared)
    })
}

/// Bytes of all files of a local tree.
fn measure(directory: &Path) -> Result<u64> {
    let (mut total, mut open) = (0, vec![directory.to_owned()]);
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).map_err(|e| at_local(&directory, "listed", e))? {
            let entry = entry.map_err(|e| at_local(&directory, "listed", e))?;
            match entry.metadata() {
                Ok(found) if found.is_dir() => open.push(entry.path()),
                Ok(found) if found.is_file() => total += found.len(),
                _ => {}
            }
        }
    }
    Ok(total)
}

impl TreeProgress<'_, '_> {
    /// Writes a local tree as an archive.
    fn pack(&mut self, output: impl Write, local: &Path, root: &fs::Metadata, sums: Option<&Sums>) -> Streamed<()> {
        let mut writer = Writer::new(output);
        writer.begin(&described(b".", Kind::Directory, root))?;
        self.report.directories += 1;
        let entries = fs::read_dir(local).map_err(|e| at_local(local, "listed", e))?;
        let mut open = vec![(PathBuf::new(), entries)];
        let mut buffer = vec![0; BUFFER];
        while let Some((directory, entries)) = open.last_mut() {
            let Some(entry) = entries.next() else {
                open.pop();
                continue;
            };
            let entry = entry.map_err(|e| at_local(&local.join(&*directory), "listed", e))?;
            self.path = directory.join(entry.file_name());
            self.report_progress(false)?;
            let (path, name) = (entry.path(), self.path.as_os_str().as_bytes().to_vec());
            let Some(found) = self.unless_removed(&name, entry.metadata(), &path, "read")? else { continue };
            let kind = found.file_type();
            if kind.is_dir() {
                let Some(entries) = self.unless_removed(&name, fs::read_dir(&path), &path, "listed")? else { continue };
                writer.begin(&described(&name, Kind::Directory, &found))?;
                self.report.directories += 1;
                open.push((self.path.clone(), entries));
            } else if kind.is_symlink() {
                let Some(target) = self.unless_removed(&name, fs::read_link(&path), &path, "read")? else { continue };
                let link = target.into_os_string().into_encoded_bytes();
                writer.begin(&Entry { link, ..described(&name, Kind::SymbolicLink, &found) })?;
                self.report.symlinks += 1;
            } else if kind.is_file() {
                self.pack_file(&mut writer, &path, &name, &mut buffer, sums)?;
            } else {
                let what = match () {
                    () if kind.is_socket() => "a socket",
                    () if kind.is_fifo() => "a named pipe",
                    () => "a device",
                };
                self.report.skip(&name, what);
            }
        }
        // Whoever cancels it now finds nothing in place.
        self.report_progress(true)?;
        writer.finish()?;
        Ok(())
    }

    /// What was found under a name here; `None` if it is gone again, which is told.
    fn unless_removed<T>(&mut self, name: &[u8], found: io::Result<T>, path: &Path, done: &str) -> Result<Option<T>> {
        match found {
            Ok(found) => Ok(Some(found)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.report.skip(name, "removed meanwhile");
                Ok(None)
            }
            Err(e) => Err(at_local(path, done, e)),
        }
    }

    fn pack_file(
        &mut self,
        writer: &mut Writer<impl Write>,
        path: &Path,
        name: &[u8],
        buffer: &mut [u8],
        sums: Option<&Sums>,
    ) -> Streamed<()> {
        // Something else may have its name by now, which is neither followed nor waited for.
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
        let unreadable = |e| at_local(path, "read", e);
        let opened = fs::OpenOptions::new().read(true).custom_flags(flags).open(path);
        let Some(file) = self.unless_removed(name, opened, path, "read")? else { return Ok(()) };
        let found = file.metadata().map_err(unreadable)?;
        if !found.is_file() {
            self.report.skip(name, "changed meanwhile to something else than a file");
            return Ok(());
        }
        let mut entry = described(name, Kind::File, &found);
        entry.segments = segments(&file, &found).map_err(unreadable)?;
        let whole = [Segment { offset: 0, length: entry.size }];
        let parts: Vec<_> = entry.segments.as_deref().unwrap_or(&whole).iter().filter(|part| part.length > 0).collect();
        let mut sum = sums.map(|sums| FileSum { hash: Sha256::new(), end: 0, size: entry.size, sums, name });
        if let Some(sum) = sum.take_if(|_| parts.is_empty()) {
            sum.finish();
        }
        writer.begin(&entry)?;
        for (at, Segment { offset, length }) in parts.iter().enumerate() {
            let (mut next, end) = (*offset, offset + length);
            while next < end {
                let room = buffer.len().min(usize::try_from(end - next).unwrap_or(usize::MAX));
                let length = match file.read_at(&mut buffer[..room], next) {
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                    length => length.map_err(unreadable)?,
                };
                if length == 0 {
                    return Err(cut_short(path, next, entry.size).into());
                }
                if let Some(sum) = &mut sum {
                    sum.update(next, &buffer[..length]);
                }
                next += length as u64;
                // Before the sandbox has all of it, and tells its sum.
                if let Some(sum) = sum.take_if(|_| next == end && at + 1 == parts.len()) {
                    sum.finish();
                }
                writer.write(&buffer[..length])?;
                self.report.bytes += length as u64;
                self.report_progress(false)?;
            }
        }
        self.report.bytes += entry.size - parts.iter().map(|part| part.length).sum::<u64>();
        self.report.files += 1;
        Ok(())
    }
}

/// The sum of a file that is sent.
struct FileSum<'a> {
    hash: Sha256,
    /// Where the next byte belongs.
    end: u64,
    size: u64,
    sums: &'a Sums,
    name: &'a [u8],
}

impl FileSum<'_> {
    fn update(&mut self, offset: u64, bytes: &[u8]) {
        self.skip_to(offset);
        self.hash.update(bytes);
        self.end += bytes.len() as u64;
    }

    /// A hole counts as what it reads as.
    fn skip_to(&mut self, offset: u64) {
        const ZEROS: [u8; 4096] = [0; 4096];
        while self.end < offset {
            let length = (offset - self.end).min(ZEROS.len() as u64);
            self.hash.update(&ZEROS[..usize::try_from(length).unwrap_or(0)]);
            self.end += length;
        }
    }

    fn finish(mut self) {
        self.skip_to(self.size);
        self.sums.sent(self.name, self.hash.finish());
    }
}

/// The parts of a file between its holes, if it has any that are worth it.
fn segments(file: &fs::File, found: &fs::Metadata) -> io::Result<Option<Vec<Segment>>> {
    let size = found.len();
    if found.blocks().saturating_mul(512) >= size {
        return Ok(None);
    }
    let (mut segments, mut end, mut stored) = (Vec::new(), 0, 0);
    while end < size {
        let offset = match seek(file, SeekFrom::Data(end)) {
            Ok(offset) => offset,
            Err(Errno::NXIO) => break,
            // The file system does not tell.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        end = match segments.len() + 1 {
            MOST_SEGMENTS.. => size,
            _ => seek(file, SeekFrom::Hole(offset))?.min(size),
        };
        if offset < end {
            segments.push(Segment { offset, length: end - offset });
            stored += end - offset;
        }
    }
    // Some claim fewer blocks than they have contents: compressed ones, or those in memory.
    Ok((stored < size).then_some(segments))
}

fn described(name: &[u8], kind: Kind, found: &fs::Metadata) -> Entry {
    let size = if kind == Kind::File { found.len() } else { 0 };
    let path = if kind == Kind::Directory { [name, b"/"].concat() } else { name.to_vec() };
    let modified = Time { seconds: found.mtime(), nanoseconds: u32::try_from(found.mtime_nsec()).unwrap_or(0) };
    Entry { path, kind, mode: found.mode() & PERMISSIONS, size, modified, link: Vec::new(), segments: None }
}
