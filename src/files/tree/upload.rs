//! Uploads of trees: packing a local one, and putting it in place.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::tool::{Streamed, stream};
use super::{BUFFER, TreeProgress, TreeReport};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::files::confined::Root;
use crate::files::local::{PERMISSIONS, at_local, cut_short};
use crate::files::path::{bytes_of, temp_path_beside};
use crate::files::request::{CLEANUP_TIMEOUT, cleanup_deadline};
use crate::files::tar::{Entry, Kind, Writer};
use crate::files::{Files, Transfer};
use crate::ssh::sftp::{DIRECTORY, Quoted};

/// Removes the tree `$1`: tar may be at work on its last bytes, and directories may forbid it.
const REMOVE: &str = "for round in 1 2 3; do rm -rf -- \"$1\" 2> /dev/null && break; \
    find \"$1\" -type d -exec chmod u+rwx {} \\; 2> /dev/null; done; rm -rf -- \"$1\"";

impl Transfer<'_> {
    pub(super) fn send_tree(&mut self, local: &Path, remote: &Path) -> Result<TreeReport> {
        self.check_options()?;
        let (files, deadline, target) = (self.files, self.files.deadline(), bytes_of(remote)?);
        let root = fs::metadata(local).map_err(|e| at_local(local, "read", e))?;
        if !root.is_dir() {
            return Err(at_local(local, "uploaded as a directory", io::Error::from_raw_os_error(libc::ENOTDIR)));
        }
        let found = files.ask(target, deadline, |client| match client.stat(target) {
            Err(e) if e.kind() == ErrorKind::FileNotFound => Ok(None),
            found => found.map(Some),
        })?;
        let to = not_an_option(target);
        let part = match found {
            // On the same file system as what it will be merged with.
            Some(found) if found.is(DIRECTORY) => temp_path_beside(&to.join("x")),
            Some(_) => {
                let message = format!("{} is there, and not a directory", Quoted(target));
                return Err(Error::new(ErrorKind::NotADirectory, message));
            }
            None => temp_path_beside(&to),
        };
        let (part, to) = (part.as_os_str().as_bytes(), to.as_os_str().as_bytes());
        let total = self.progress.as_ref().map(|_| measure(local)).transpose()?;
        let mut progress = TreeProgress::new(self.progress.as_deref_mut(), total);
        // Should the sandbox not be reached any more, it removes by itself what has not come whole.
        let line = format!(
            "export LC_ALL=C; mkdir -- \"$1\" && {{ tar -xpof - -C \"$1\" || {{ code=$?; {REMOVE}; exit $code; }}; }}"
        );
        let command = files.shell(&line).arg(OsStr::from_bytes(part)).timeout(deadline.remaining());
        let ended = stream(command.spawn().map_err(Error::within_operation)?, |child| match child.stdin.take() {
            Some(stdin) => progress.pack(BufWriter::with_capacity(BUFFER, stdin), local, &root),
            None => Ok(()),
        });
        let sent = ended.into_result(&progress, target, "written").and_then(|()| {
            if self.checksum {
                let local = fs::canonicalize(local).map_err(|e| at_local(local, "read", e))?;
                let root = Root::open(&local).map_err(|e| at_local(&local, "opened", e))?;
                files.compare_trees(part, target, &root, &mut progress, deadline)?;
            }
            let merge = "cp -alf -- \"$1/.\" \"$2/\"";
            let line = if found.is_some() { merge } else { "mv -T -- \"$1\" \"$2\"" };
            files.run(line, &[part, to], target, "put in place", deadline)
        });
        match &sent {
            Err(e) => files.remove_tree_part(part, cleanup_deadline(e)),
            Ok(_) if found.is_some() => files.remove_tree_part(part, Deadline::after(Some(CLEANUP_TIMEOUT))),
            Ok(_) => {}
        }
        sent?;
        if self.sync {
            files.run("sync -f -- \"$1\" || sync", &[to], target, "put on the disk", deadline)?;
        }
        Ok(progress.report)
    }
}

impl Files<'_> {
    /// Removes what is left of a tree, as far as the sandbox can be reached.
    fn remove_tree_part(&self, part: &[u8], deadline: Deadline) {
        // The rename to its name may still be in progress, so move the part away first.
        let line = format!("mv -T -- \"$1\" \"$1.gone\" 2> /dev/null && set -- \"$1.gone\"; {REMOVE}");
        if let Err(e) = self.run(&line, &[part], part, "removed", deadline) {
            log::warn!("a partial directory is left in sandbox {}: {e}", self.link.name());
        }
    }
}

/// A path that no tool takes for an option.
fn not_an_option(path: &[u8]) -> PathBuf {
    let path = Path::new(OsStr::from_bytes(path));
    if path.as_os_str().as_bytes().starts_with(b"-") { Path::new(".").join(path) } else { path.to_owned() }
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
    fn pack(&mut self, output: impl Write, local: &Path, root: &fs::Metadata) -> Streamed<()> {
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
                self.pack_file(&mut writer, &path, &name, &mut buffer)?;
            } else {
                let what = match () {
                    () if kind.is_socket() => "a socket",
                    () if kind.is_fifo() => "a named pipe",
                    () => "a device",
                };
                self.report.skip(&name, what);
            }
        }
        writer.finish()?;
        Ok(self.report_progress(true)?)
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
    ) -> Streamed<()> {
        // Something else may have its name by now, which is neither followed nor waited for.
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let unreadable = |e| at_local(path, "read", e);
        let opened = fs::OpenOptions::new().read(true).custom_flags(flags).open(path);
        let Some(mut file) = self.unless_removed(name, opened, path, "read")? else { return Ok(()) };
        let found = file.metadata().map_err(unreadable)?;
        if !found.is_file() {
            self.report.skip(name, "changed meanwhile to something else than a file");
            return Ok(());
        }
        let entry = described(name, Kind::File, &found);
        writer.begin(&entry)?;
        let mut left = entry.size;
        while left > 0 {
            let room = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let length = match file.read(&mut buffer[..room]) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                length => length.map_err(unreadable)?,
            };
            if length == 0 {
                return Err(cut_short(path, entry.size - left, entry.size).into());
            }
            writer.write(&buffer[..length])?;
            left -= length as u64;
            self.report.bytes += length as u64;
            self.report_progress(false)?;
        }
        writer.pad(entry.size)?;
        self.report.files += 1;
        Ok(())
    }
}

fn described(name: &[u8], kind: Kind, found: &fs::Metadata) -> Entry {
    let size = if kind == Kind::File { found.len() } else { 0 };
    let path = if kind == Kind::Directory { [name, b"/"].concat() } else { name.to_vec() };
    Entry { path, kind, mode: found.mode() & PERMISSIONS, size, modified: found.mtime(), link: Vec::new() }
}
