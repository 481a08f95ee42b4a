//! Directory trees, each as one stream of tar through one command.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use super::confined::{self, Attributes, Root};
use super::digest::{digest_of, mismatch};
use super::tar::{Entry, Kind, Reader, Writer};
use super::transfer::{PERMISSIONS, PROGRESS_INTERVAL, Transfer, at_local, cut_short, too_much};
use super::{Files, Progress, TIDY, beside, bytes_of, invalid, tidying_time};
use crate::command::{Child, ExitStatus};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::ssh::sftp::{DIRECTORY, LONGEST_PATH, Quoted};

/// How many notes a report keeps.
const NOTES: usize = 1000;
/// How much of what tar says is kept.
const SAID: u64 = 256 << 10;
/// Bytes between this thread and the command's.
const BUFFER: usize = 256 << 10;
/// Removes the tree `$1`: tar may be at work on its last bytes, and directories may forbid it.
const REMOVE: &str = "for round in 1 2 3; do rm -rf -- \"$1\" 2> /dev/null && break; \
    find \"$1\" -type d -exec chmod u+rwx {} \\; 2> /dev/null; done; rm -rf -- \"$1\"";

/// What the transfer of a directory did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TreeReport {
    /// Regular files, those with several names counted once for each.
    pub files: u64,
    /// Directories, with the root.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// How many entries were left out.
    pub skipped: u64,
    /// What was left out and why, and which files were changed while they were read; the first 1000.
    pub notes: Vec<Note>,
}

/// Something about an entry of a tree; see [`TreeReport::notes`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Note {
    /// The entry, below the root of the tree.
    pub path: PathBuf,
    /// What there is to say, such as `a socket`.
    pub text: String,
}

impl TreeReport {
    fn note(&mut self, path: &[u8], text: impl Into<String>) {
        if self.notes.len() < NOTES {
            self.notes.push(Note { path: PathBuf::from(OsStr::from_bytes(path)), text: text.into() });
        }
    }

    fn skip(&mut self, path: &[u8], text: impl Into<String>) {
        self.skipped += 1;
        self.note(path, text);
    }
}

impl Files<'_> {
    /// Copies the local directory `local` with all that is in it to `remote`; see [`Transfer::upload_dir`].
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// let report = sandbox.files().upload_dir("project", "/src/project")?;
    /// println!("{} files, {} bytes", report.files, report.bytes);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Transfer::upload_dir`].
    pub fn upload_dir(&self, local: impl AsRef<Path>, remote: impl AsRef<Path>) -> Result<TreeReport> {
        self.transfer().upload_dir(local, remote)
    }

    /// Copies the directory `remote` with all that is in it to the local directory `local`; see [`Transfer::download_dir`].
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// let report = sandbox.files().download_dir("/src/project/out", "out")?;
    /// for note in &report.notes {
    ///     println!("{}: {}", note.path.display(), note.text);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Transfer::download_dir`].
    pub fn download_dir(&self, remote: impl AsRef<Path>, local: impl AsRef<Path>) -> Result<TreeReport> {
        self.transfer().download_dir(remote, local)
    }

    /// Compares the SHA-256 of all files of a tree in the sandbox, which errors call `name`, with those of a tree here: the sandbox
    /// lists its own, so that no list has to be kept.
    fn compare_trees(
        &self,
        tree: &[u8],
        name: &[u8],
        root: &Root,
        moving: &mut Moving<'_, '_>,
        deadline: Deadline,
    ) -> Result<()> {
        let line = "export LC_ALL=C; cd -- \"$1\" && exec find . -type f -exec sha256sum {} +";
        let command = self.shell(line).arg(OsStr::from_bytes(tree)).timeout(deadline.remaining());
        let (mut buffer, mut files) = (vec![0; BUFFER], 0);
        let ended = stream(command.spawn().map_err(Error::within_operation)?, |child| {
            child.stdin = None;
            let Some(stdout) = child.stdout.take() else { return Ok(()) };
            let mut lines = BufReader::with_capacity(BUFFER, stdout);
            while let Some((digest, path)) = read_sum(&mut lines)? {
                moving.path = PathBuf::from(OsStr::from_bytes(&path));
                match root.digest(&path, &mut buffer) {
                    Ok(ours) if ours == digest => {}
                    Err(e) if e.kind() != io::ErrorKind::NotFound => {
                        return Err(at_local(&moving.path, "checked", e).into());
                    }
                    _ => return Err(mismatch(format_args!("'{}' in {}", shortened(&path), Quoted(name))).into()),
                }
                files += 1;
            }
            Ok(())
        });
        ended.judge(moving, name, "checked")?;
        if files == moving.report.files {
            return Ok(());
        }
        let message = format!("{} has {files} files, moved were {}", Quoted(name), moving.report.files);
        Err(Error::new(ErrorKind::Transfer, message))
    }

    /// Removes what is left of a tree, as far as the sandbox can be reached.
    fn tidy_tree(&self, part: &[u8], deadline: Deadline) {
        // It may be about to get its name: whole, or not any more.
        let line = format!("mv -T -- \"$1\" \"$1.gone\" 2> /dev/null && set -- \"$1.gone\"; {REMOVE}");
        if let Err(e) = self.run(&line, &[part], part, "removed", deadline) {
            log::warn!("a partial directory is left in sandbox {}: {e}", self.link.name());
        }
    }
}

impl Transfer<'_> {
    /// Copies the local directory `local` with all that is in it to `remote`, with modes, times of modification in whole seconds,
    /// symbolic links as they are and empty directories. Sockets, pipes and devices are left out and told. One stream, whatever
    /// the number of files; the sandbox needs `tar`.
    ///
    /// Nothing has its name before all has arrived. If `remote` is not there, it appears whole. If it is a directory, it is merged
    /// as `cp -a` does: files replace files, each in one step, and what only the target has stays.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// let mut transfer = sandbox.files().transfer().progress(|progress| {
    ///     println!("{} of {:?}: {}", progress.done, progress.total, progress.path.display());
    ///     Ok(())
    /// });
    /// transfer.upload_dir("project", "/src/project")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`Files`]; [`ErrorKind::Conflict`] if something else than a directory is in the way, [`ErrorKind::Transfer`] if a local
    /// file shrinks while it is read, [`ErrorKind::InvalidArgument`] if it is to be resumed, which directories can't be. If the
    /// merge itself fails, a part of it may be done.
    pub fn upload_dir(&mut self, local: impl AsRef<Path>, remote: impl AsRef<Path>) -> Result<TreeReport> {
        let (files, local, remote) = (self.files, local.as_ref(), remote.as_ref());
        files.link.call("upload directory", || self.send_tree(local, remote))
    }

    /// Copies the directory `remote` with all that is in it to the local directory `local`, as [`Transfer::upload_dir`] does in
    /// the other direction; directories that are there already keep their modes.
    ///
    /// **Whatever the sandbox sends, nothing is written outside of `local`**, and what is kept in memory does not grow with the
    /// tree. Symbolic links that lead out of the tree are left out and told, as sockets, pipes and devices are. Names that begin
    /// with `/` or have a `..`, files below a link, and links to files outside are errors: an honest sandbox has none. Bits for
    /// set-user-id and its like are not set. See [`max_bytes`](Transfer::max_bytes) for trees that are too large.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// let report = sandbox.files().transfer().max_bytes(1 << 30).download_dir("results", "results")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`Files`]; as [`Transfer::upload_dir`]. A file that grows while it is read gives its first bytes and a note.
    pub fn download_dir(&mut self, remote: impl AsRef<Path>, local: impl AsRef<Path>) -> Result<TreeReport> {
        let (files, remote, local) = (self.files, remote.as_ref(), local.as_ref());
        files.link.call("download directory", || self.fetch_tree(remote, local))
    }

    fn check_options(&self) -> Result<()> {
        match self.resume {
            true => Err(invalid("the transfer of a directory can't be resumed")),
            false => Ok(()),
        }
    }

    fn send_tree(&mut self, local: &Path, remote: &Path) -> Result<TreeReport> {
        self.check_options()?;
        let (files, deadline, target) = (self.files, self.files.deadline(), bytes_of(remote)?);
        let root = fs::metadata(local).map_err(|e| at_local(local, "read", e))?;
        if !root.is_dir() {
            return Err(invalid(format!("'{}' on this machine is not a directory", local.display())));
        }
        let found = files.ask(target, deadline, |client| match client.stat(target) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            found => found.map(Some),
        })?;
        let to = not_an_option(target);
        let part = match found {
            // On the same file system as what it will be merged with.
            Some(found) if found.is(DIRECTORY) => beside(&to.join("x")),
            Some(_) => {
                let message = format!("{} is there, and not a directory", Quoted(target));
                return Err(Error::new(ErrorKind::Conflict, message));
            }
            None => beside(&to),
        };
        let (part, to) = (part.as_os_str().as_bytes(), to.as_os_str().as_bytes());
        let total = self.progress.as_ref().map(|_| measure(local)).transpose()?;
        let mut moving = Moving::new(self.progress.as_deref_mut(), total);
        // Should the sandbox not be reached any more, it removes by itself what has not come whole.
        let line = format!(
            "export LC_ALL=C; mkdir -- \"$1\" && {{ tar -xpof - -C \"$1\" || {{ code=$?; {REMOVE}; exit $code; }}; }}"
        );
        let command = files.shell(&line).arg(OsStr::from_bytes(part)).timeout(deadline.remaining());
        let ended = stream(command.spawn().map_err(Error::within_operation)?, |child| match child.stdin.take() {
            Some(stdin) => moving.pack(BufWriter::with_capacity(BUFFER, stdin), local, &root),
            None => Ok(()),
        });
        let sent = ended.judge(&moving, target, "written").and_then(|()| {
            if self.checksum {
                let local = fs::canonicalize(local).map_err(|e| at_local(local, "read", e))?;
                let root = Root::open(&local).map_err(|e| at_local(&local, "opened", e))?;
                files.compare_trees(part, target, &root, &mut moving, deadline)?;
            }
            let merge = "cp -alf -- \"$1/.\" \"$2/\"";
            let line = if found.is_some() { merge } else { "mv -T -- \"$1\" \"$2\"" };
            files.run(line, &[part, to], target, "put in place", deadline)
        });
        match &sent {
            Err(e) => files.tidy_tree(part, tidying_time(e)),
            Ok(_) if found.is_some() => files.tidy_tree(part, Deadline::after(Some(TIDY))),
            Ok(_) => {}
        }
        sent?;
        if self.sync {
            files.run("sync -f -- \"$1\" || sync", &[to], target, "put on the disk", deadline)?;
        }
        Ok(moving.report)
    }

    fn fetch_tree(&mut self, remote: &Path, local: &Path) -> Result<TreeReport> {
        self.check_options()?;
        let (files, deadline, source) = (self.files, self.files.deadline(), bytes_of(remote)?);
        if !files.ask(source, deadline, |client| client.stat(source))?.is(DIRECTORY) {
            return Err(Error::new(ErrorKind::Transfer, format!("{} is not a directory", Quoted(source))));
        }
        let is_merged = match fs::metadata(local) {
            Ok(found) if found.is_dir() => true,
            Ok(_) => return Err(at_local(local, "written", io::ErrorKind::AlreadyExists.into())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => false,
            Err(e) => return Err(at_local(local, "read", e)),
        };
        let part = LocalTree::create(local, is_merged)?;
        let mut root = Root::open(&part.0).map_err(|e| at_local(&part.0, "opened", e))?;
        let limits = (self.max_bytes.unwrap_or(u64::MAX), self.max_entries.unwrap_or(u64::MAX));
        let (sync, mut attributes) = (self.sync, None);
        let mut moving = Moving::new(self.progress.as_deref_mut(), None);
        let line = "export LC_ALL=C; exec tar -cf - -C \"$1\" .";
        let command = files.shell(line).arg(OsStr::from_bytes(source)).timeout(deadline.remaining());
        let ended = stream(command.spawn().map_err(Error::within_operation)?, |child| {
            child.stdin = None;
            let Some(stdout) = child.stdout.take() else { return Ok(()) };
            let mut reader = Reader::new(BufReader::with_capacity(BUFFER, stdout));
            attributes = moving.unpack(&mut reader, &mut root, local, limits, sync)?;
            Ok(())
        });
        moving.take_notes(&ended);
        ended.judge(&moving, source, "read")?;
        if self.checksum {
            files.compare_trees(source, source, &root, &mut moving, deadline)?;
        }
        let mut finish = || {
            root.finish()?;
            match is_merged {
                true => root.merge_into(local),
                false => {
                    fs::rename(&part.0, local)?;
                    attributes.map_or(Ok(()), |attributes| root.finish_root(attributes))
                }
            }
        };
        finish().map_err(|e| at_local(local, "put in place", e))?;
        if sync {
            // Names and directories; the files' contents are there since each was written.
            let synced = fs::File::open(local).and_then(|directory| Ok(rustix::fs::syncfs(directory)?));
            synced.map_err(|e| at_local(local, "put on the disk", e))?;
        }
        Ok(moving.report)
    }
}

/// A path that no tool takes for an option.
fn not_an_option(path: &[u8]) -> PathBuf {
    let path = Path::new(OsStr::from_bytes(path));
    if path.as_os_str().as_bytes().starts_with(b"-") { Path::new(".").join(path) } else { path.to_owned() }
}

/// A local directory for what arrives; removed with what is in it, unless it gets its name.
struct LocalTree(PathBuf);

impl LocalTree {
    fn create(target: &Path, is_merged: bool) -> Result<Self> {
        // A path's slashes and dots at its end are not part of its name.
        let part =
            if is_merged { beside(&target.join("x")) } else { beside(&target.components().collect::<PathBuf>()) };
        fs::DirBuilder::new().mode(0o700).create(&part).map_err(|e| at_local(target, "created", e))?;
        Ok(Self(part))
    }
}

impl Drop for LocalTree {
    fn drop(&mut self) {
        match confined::remove_all(&self.0) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                log::warn!("the partial directory '{}' is left: {e}", self.0.display());
            }
            _ => {}
        }
    }
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

/// A line of `sha256sum`: the sum, and the name below the root. `None` at the end.
fn read_sum(lines: &mut impl BufRead) -> io::Result<Option<([u8; 32], Vec<u8>)>> {
    // A backslash, the sum, two signs, and a name each of whose bytes may be escaped.
    const LONGEST: u64 = 1 + 64 + 2 + 2 * (LONGEST_PATH as u64 + 2) + 1;
    let mut line = Vec::new();
    lines.take(LONGEST).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, "what sha256sum says can't be understood");
    let line = line.strip_suffix(b"\n").ok_or_else(wrong)?;
    let (line, is_escaped) = line.strip_prefix(b"\\").map_or((line, false), |line| (line, true));
    let (sum, name) = line.split_at_checked(66).ok_or_else(wrong)?;
    let sum = digest_of(sum).ok_or_else(wrong)?;
    let mut path = Vec::with_capacity(name.len());
    let mut bytes = name.iter().copied();
    while let Some(byte) = bytes.next() {
        path.push(match byte {
            b'\\' if is_escaped => match bytes.next() {
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b'\\') => b'\\',
                _ => return Err(wrong()),
            },
            byte => byte,
        });
    }
    Ok(Some((sum, confined::name_below(&path).map_err(|_| wrong())?)))
}

/// What ends a stream early.
enum Trouble {
    /// The cause is on this side.
    Here(Error),
    /// The stream is at fault; whoever is at its other end knows why.
    There(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(e: io::Error) -> Self {
        // This library's own is not from the stream.
        e.downcast().map_or_else(Self::There, Self::Here)
    }
}

impl From<Error> for Trouble {
    fn from(e: Error) -> Self {
        Self::Here(e)
    }
}

impl Trouble {
    fn into_error(self, so_far: String) -> Error {
        match self {
            Self::Here(e) => e,
            Self::There(e) => Error::new(ErrorKind::Transfer, format!("{so_far}: {e}")).with_source(e),
        }
    }

    /// Whatever the tool has to say makes no difference: it may have no end.
    fn is_final(&self) -> bool {
        match self {
            Self::Here(_) => true,
            Self::There(e) => e.kind() == io::ErrorKind::InvalidData,
        }
    }
}

type Streamed<T> = std::result::Result<T, Trouble>;

/// How both sides of a stream ended, and what the tool said.
struct Ended {
    here: Streamed<()>,
    there: Result<ExitStatus>,
    said: String,
}

/// Works on a tool's streams and waits for its end.
fn stream(child: Child, work: impl FnOnce(&mut Child) -> Streamed<()>) -> Ended {
    thread::scope(|scope| {
        // Gone when `work` panics, so that the listener's stream ends.
        let mut child = child;
        let stderr = child.stderr.take();
        let listener = scope.spawn(move || {
            let mut said = Vec::new();
            if let Some(mut stderr) = stderr {
                // A lost connection ends the stream; the reason comes from `wait`.
                let _ = (&mut stderr).take(SAID).read_to_end(&mut said);
                let _ = io::copy(&mut stderr, &mut io::sink());
            }
            String::from_utf8_lossy(&said).into_owned()
        });
        let here = work(&mut child);
        if here.as_ref().is_err_and(Trouble::is_final) {
            let _ = child.kill();
        }
        let there = child.wait().map_err(Error::within_operation);
        if there.as_ref().is_err_and(|e| e.kind() == ErrorKind::Cancelled) {
            let _ = child.kill().and_then(|()| child.wait());
        }
        Ended { here, there, said: listener.join().unwrap_or_default() }
    })
}

/// What GNU tar says of files that others are at work on; its exit code is 1 then.
const TOLERATED: [&str; 3] = ["file changed as we read it", "File removed before we read it", "socket ignored"];

impl Ended {
    fn judge(self, moving: &Moving<'_, '_>, name: &[u8], done: &str) -> Result<()> {
        let so_far = || {
            let (path, bytes) = (moving.path.display(), moving.report.bytes);
            format!("{} can't be {done} beyond '{path}' and {bytes} bytes", Quoted(name))
        };
        let is_tolerable = |line: &str| {
            TOLERATED.iter().any(|words| line.ends_with(words)) || line.contains("Exiting with failure status")
        };
        let is_content =
            |status: &ExitStatus| status.success() || (status.code() == Some(1) && self.said.lines().all(is_tolerable));
        match (self.here, self.there) {
            (Err(Trouble::Here(e)), _) if e.kind() == ErrorKind::Cancelled => Err(e.context(so_far())),
            (Err(Trouble::Here(e)), _) => Err(e),
            (Err(trouble @ Trouble::There(_)), _) if trouble.is_final() => Err(trouble.into_error(so_far())),
            // Nothing has its name yet, so doing it again is harmless.
            (_, Err(e)) if e.kind() == ErrorKind::OutcomeUnknown => {
                Err(e.with_kind(ErrorKind::Disconnected).context(so_far()))
            }
            (_, Err(e)) => Err(e.context(so_far())),
            (_, Ok(status)) if !is_content(&status) => Err(super::tool_failure(&self.said, &status, name, done)),
            (Err(trouble), Ok(_)) => Err(trouble.into_error(so_far())),
            (Ok(()), Ok(_)) => Ok(()),
        }
    }
}

/// A tree on its way.
struct Moving<'m, 'a> {
    callback: Option<&'m mut super::transfer::Callback<'a>>,
    total: Option<u64>,
    last: Option<Instant>,
    /// The current entry.
    path: PathBuf,
    report: TreeReport,
}

impl<'m, 'a> Moving<'m, 'a> {
    fn new(callback: Option<&'m mut super::transfer::Callback<'a>>, total: Option<u64>) -> Self {
        Self { callback, total, last: None, path: PathBuf::new(), report: TreeReport::default() }
    }

    /// Tells how far it has come, if the last time is long enough ago.
    fn tell(&mut self, is_end: bool) -> Result<()> {
        let Some(callback) = &mut self.callback else { return Ok(()) };
        if !is_end && self.last.is_some_and(|last| last.elapsed() < PROGRESS_INTERVAL) {
            return Ok(());
        }
        self.last = Some(Instant::now());
        callback(&Progress { path: &self.path, done: self.report.bytes, total: self.total })
    }

    fn take_notes(&mut self, ended: &Ended) {
        for line in ended.said.lines() {
            let Some((path, words)) = line.strip_prefix("tar: ").and_then(|line| line.rsplit_once(": ")) else {
                continue;
            };
            let path = path.strip_prefix("./").unwrap_or(path).as_bytes();
            match words {
                "socket ignored" => self.report.skip(path, "a socket"),
                "File removed before we read it" => self.report.skip(path, "removed meanwhile"),
                "file changed as we read it" => self.report.note(path, "changed while it was read"),
                _ => {}
            }
        }
    }

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
            self.tell(false)?;
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
        Ok(self.tell(true)?)
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
            self.tell(false)?;
        }
        writer.pad(entry.size)?;
        self.report.files += 1;
        Ok(())
    }

    /// Writes an archive as a local tree; returns what the root itself is to have.
    fn unpack(
        &mut self,
        reader: &mut Reader<impl Read>,
        root: &mut Root,
        local: &Path,
        (max_bytes, max_entries): (u64, u64),
        sync: bool,
    ) -> Streamed<Option<Attributes>> {
        let (mut own, mut entries, mut buffer) = (None, 0, vec![0; BUFFER]);
        while let Some(entry) = reader.next()? {
            let refused = |why: &str| {
                let message = format!("the sandbox sends '{}', which is refused: {why}", shortened(&entry.path));
                Error::new(ErrorKind::Transfer, message)
            };
            entries += 1;
            if entries > max_entries {
                return Err(refused(&format!("more than the {max_entries} entries that are allowed")).into());
            }
            let name = confined::name_below(&entry.path).map_err(refused)?;
            self.path = PathBuf::from(OsStr::from_bytes(&name));
            self.tell(false)?;
            let attributes = Attributes { mode: entry.mode, modified: entry.modified };
            let path = local.join(&self.path);
            let unwritable = |e: io::Error| at_local(&path, "written", e);
            match entry.kind {
                Kind::Directory => {
                    self.report.directories += 1;
                    match name.is_empty() {
                        true => own = Some(attributes),
                        false => root.directory(&name, attributes).map_err(unwritable)?,
                    }
                }
                _ if name.is_empty() => return Err(refused("the root of a tree is a directory").into()),
                Kind::File => {
                    if entry.size > max_bytes.saturating_sub(self.report.bytes) {
                        return Err(too_much(&entry.path, max_bytes).into());
                    }
                    let mut file = root.file(&name).map_err(unwritable)?;
                    loop {
                        let length = reader.read(&mut buffer)?;
                        if length == 0 {
                            break;
                        }
                        file.write_all(&buffer[..length]).map_err(unwritable)?;
                        self.report.bytes += length as u64;
                        self.tell(false)?;
                    }
                    let finished = if sync { file.sync_all() } else { Ok(()) };
                    finished.and_then(|()| Root::finish_file(&file, attributes)).map_err(unwritable)?;
                    self.report.files += 1;
                }
                Kind::HardLink => {
                    let original = confined::name_below(&entry.link)
                        .map_err(|why| refused(&format!("a link to '{}', {why}", shortened(&entry.link))))?;
                    match root.hard_link(&name, &original) {
                        Ok(None) => self.report.files += 1,
                        Ok(Some(target)) => self.unpack_link(root, &name, &target, attributes).map_err(unwritable)?,
                        Err(e) if e.kind() == io::ErrorKind::NotFound => {
                            self.report.skip(&name, "another name of what is left out");
                        }
                        Err(e) => return Err(unwritable(e).into()),
                    }
                }
                Kind::SymbolicLink if entry.link.is_empty() || entry.link.contains(&0) => {
                    return Err(refused("a link to nothing").into());
                }
                Kind::SymbolicLink => {
                    self.unpack_link(root, &name, &entry.link, attributes).map_err(unwritable)?;
                }
                Kind::Device => self.report.skip(&name, "a device"),
                Kind::Pipe => self.report.skip(&name, "a named pipe"),
                Kind::Unknown(kind) => self.report.skip(&name, format!("of the unknown type {kind}")),
            }
        }
        self.tell(true)?;
        Ok(own)
    }

    fn unpack_link(&mut self, root: &mut Root, name: &[u8], target: &[u8], attributes: Attributes) -> io::Result<()> {
        if confined::leads_inside(name, target) {
            root.symbolic_link(name, target, attributes)?;
            self.report.symlinks += 1;
        } else {
            self.report.skip(name, format!("a link that leads out of the tree, to '{}'", shortened(target)));
        }
        Ok(())
    }
}

/// A name in a message, which a hostile sandbox may have made long.
fn shortened(name: &[u8]) -> String {
    let text = name[..name.len().min(200)].escape_ascii().to_string();
    if name.len() > 200 { format!("{text}…") } else { text }
}

fn described(name: &[u8], kind: Kind, found: &fs::Metadata) -> Entry {
    let size = if kind == Kind::File { found.len() } else { 0 };
    let path = if kind == Kind::Directory { [name, b"/"].concat() } else { name.to_vec() };
    Entry { path, kind, mode: found.mode() & PERMISSIONS, size, modified: found.mtime(), link: Vec::new() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    struct Place(PathBuf);

    impl Place {
        fn new(test: &str) -> Self {
            let place = std::env::temp_dir().join(format!("sandbox-tree-{test}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&place);
            fs::create_dir_all(place.join("root")).unwrap();
            Self(place)
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = confined::remove_all(&self.0);
        }
    }

    fn entry(path: &str, kind: Kind, link: &str) -> Entry {
        let (path, link) = (path.as_bytes().to_vec(), link.as_bytes().to_vec());
        Entry { path, kind, mode: 0o4755, size: 0, modified: 1_000_000_000, link }
    }

    /// Unpacks these entries, of which the files have their own names as contents.
    fn unpacked(place: &Place, entries: &[Entry]) -> (Result<()>, TreeReport) {
        unpacked_with(place, entries, (u64::MAX, u64::MAX))
    }

    fn unpacked_with(place: &Place, entries: &[Entry], limits: (u64, u64)) -> (Result<()>, TreeReport) {
        let mut writer = Writer::new(Vec::new());
        for entry in entries {
            let size = if entry.kind == Kind::File { entry.path.len() as u64 } else { 0 };
            writer.begin(&Entry { size, ..entry.clone() }).unwrap();
            if entry.kind == Kind::File {
                writer.write(&entry.path).unwrap();
                writer.pad(size).unwrap();
            }
        }
        let archive = writer.finish().unwrap();
        let mut root = Root::open(&place.0.join("root")).unwrap();
        let mut moving = Moving::new(None, None);
        let local = Path::new("local");
        let result = moving.unpack(&mut Reader::new(&archive[..]), &mut root, local, limits, false);
        let result = result.map_err(|trouble| match trouble {
            Trouble::Here(e) => e,
            Trouble::There(e) => panic!("{e}"),
        });
        (result.and_then(|_| root.finish().map_err(|e| at_local(local, "finished", e))), moving.report)
    }

    #[test]
    fn an_honest_archive_is_written_with_modes_times_and_links() {
        let place = Place::new("honest");
        let entries = [
            entry("./", Kind::Directory, ""),
            Entry { mode: 0o500, ..entry("./d/", Kind::Directory, "") },
            entry("./d/file", Kind::File, ""),
            entry("./d/link", Kind::SymbolicLink, "../top"),
            entry("./d/hard", Kind::HardLink, "./d/file"),
            entry("./d/same", Kind::HardLink, "d/link"),
            Entry { mode: 0o640, ..entry("./top", Kind::File, "") },
            Entry { mode: 0o600, ..entry("./top", Kind::File, "") },
            entry("./device", Kind::Device, ""),
            entry("./pipe", Kind::Pipe, ""),
            entry("./sparse", Kind::Unknown(b'S'), ""),
            entry("./out", Kind::SymbolicLink, "/etc/passwd"),
            entry("./up", Kind::SymbolicLink, "d/../../x"),
            entry("./again", Kind::HardLink, "out"),
            // Another name of a link leads to something else.
            entry("./up-and-away", Kind::HardLink, "d/link"),
        ];
        let (result, report) = unpacked(&place, &entries);
        result.unwrap();
        assert_eq!((report.files, report.directories, report.symlinks, report.skipped), (4, 2, 2, 7));
        let texts: Vec<_> = report.notes.iter().map(|note| (note.path.to_str().unwrap(), &note.text[..])).collect();
        assert_eq!(texts[0], ("device", "a device"));
        assert_eq!(texts[3], ("out", "a link that leads out of the tree, to '/etc/passwd'"));
        let found = |name: &str| fs::symlink_metadata(place.0.join("root").join(name)).unwrap();
        assert_eq!(found("d").mode() & 0o7777, 0o500);
        assert_eq!((found("d/file").mode() & 0o7777, found("d/file").mtime()), (0o755, 1_000_000_000));
        assert_eq!((found("d").mtime(), found("d/link").mtime()), (1_000_000_000, 1_000_000_000));
        assert_eq!((found("d/file").ino(), found("top").mode() & 0o7777), (found("d/hard").ino(), 0o600));
        assert_eq!(fs::read_link(place.0.join("root/d/link")).unwrap(), Path::new("../top"));
        assert_eq!(fs::read_link(place.0.join("root/d/same")).unwrap(), Path::new("../top"));
        for name in ["out", "up-and-away"] {
            assert!(fs::symlink_metadata(place.0.join("root").join(name)).is_err(), "{name}");
        }
    }

    #[test]
    fn a_hostile_archive_is_refused_and_writes_nothing_outside() {
        let link = |name: &str, target: &str| entry(name, Kind::SymbolicLink, target);
        let file = |name: &str| entry(name, Kind::File, "");
        for (test, entries, said) in [
            ("above", vec![file("../x")], "'..'"),
            ("above2", vec![file("a/../../x")], "'..'"),
            ("absolute", vec![file("/tmp/sandbox-hostile")], "absolute"),
            ("through", vec![link("l", "d"), entry("d/", Kind::Directory, ""), file("l/x")], "in the way"),
            ("through-dir", vec![link("l", "."), entry("l/", Kind::Directory, "")], "in the way"),
            ("through-hard", vec![link("l", "."), file("f"), entry("x", Kind::HardLink, "l/f")], "in the way"),
            ("hard-above", vec![entry("x", Kind::HardLink, "../outside")], "'..'"),
            ("hard-absolute", vec![entry("x", Kind::HardLink, "/etc/passwd")], "absolute"),
            ("hard-dir", vec![entry("d/", Kind::Directory, ""), entry("x", Kind::HardLink, "d")], "no file"),
            ("below-file", vec![file("f"), file("f/x")], "in the way"),
            ("over-dir", vec![entry("d/", Kind::Directory, ""), file("d")], "local/d"),
            ("root", vec![link(".", "/etc")], "the root"),
            ("empty-link", vec![link("l", "")], "a link to nothing"),
            ("long", vec![file(&"x".repeat(300))], "too long"),
        ] {
            let place = Place::new(test);
            fs::write(place.0.join("outside"), "old").unwrap();
            let (result, _) = unpacked(&place, &entries);
            let error = result.unwrap_err();
            assert!(error.to_string().contains(said), "{test}: {error}");
            assert_eq!(fs::read(place.0.join("outside")).unwrap(), b"old", "{test}");
            assert_eq!(fs::read_dir(&place.0).unwrap().count(), 2, "{test}");
        }
        assert!(!Path::new("/tmp/sandbox-hostile").exists());
    }

    #[test]
    fn links_that_are_in_the_way_are_replaced_and_not_followed() {
        let place = Place::new("replaced");
        fs::write(place.0.join("outside"), "old").unwrap();
        std::os::unix::fs::symlink("../outside", place.0.join("root/f")).unwrap();
        unpacked(&place, &[entry("f", Kind::File, "")]).0.unwrap();
        assert_eq!(fs::read(place.0.join("outside")).unwrap(), b"old");
        assert_eq!(fs::read(place.0.join("root/f")).unwrap(), b"f");
    }

    #[test]
    fn the_lines_of_sha256sum_are_understood() {
        let sum = "0f".repeat(32);
        let lines = format!("{sum}  ./a b\n\\{sum}  ./x\\n\\\\y\n{sum} *./c\n");
        let (mut lines, mut names) = (lines.as_bytes(), Vec::new());
        while let Some((digest, name)) = read_sum(&mut lines).unwrap() {
            assert_eq!(digest, [15; 32]);
            names.push(name);
        }
        assert_eq!(names, [&b"a b"[..], b"x\n\\y", b"c"]);
        for line in [format!("{sum}  ../x\n"), format!("{sum}  x"), "no sum\n".to_owned(), "x".repeat(100_000)] {
            assert!(read_sum(&mut line.as_bytes()).is_err(), "{line}");
        }
    }

    #[test]
    fn there_are_limits_and_notes_are_counted() {
        let place = Place::new("limits");
        let entries: Vec<_> = (0..5000).map(|number| entry(&format!("pipe{number}"), Kind::Pipe, "")).collect();
        let (result, report) = unpacked(&place, &entries);
        result.unwrap();
        assert_eq!((report.skipped, report.notes.len()), (5000, NOTES));
        let error = unpacked_with(&place, &entries, (u64::MAX, 100)).0.unwrap_err();
        assert!(error.to_string().contains("more than the 100 entries"), "{error}");
        let files = [entry("abc", Kind::File, ""), entry("def", Kind::File, "")];
        let error = unpacked_with(&place, &files, (5, 10)).0.unwrap_err();
        assert!(error.to_string().contains("more than the 5 bytes"), "{error}");
    }

    #[test]
    fn a_merge_replaces_files_and_follows_no_links() {
        let place = Place::new("merge");
        let (target, outside) = (place.0.join("target"), place.0.join("outside"));
        fs::create_dir_all(target.join("d/kept")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(target.join("d/f"), "old").unwrap();
        let entries = [
            Entry { mode: 0o500, ..entry("d/", Kind::Directory, "") },
            entry("d/f", Kind::File, ""),
            Entry { mode: 0o500, ..entry("d/new/", Kind::Directory, "") },
            entry("d/new/x", Kind::File, ""),
            entry("g", Kind::File, ""),
        ];
        unpacked(&place, &entries).0.unwrap();
        let root = Root::open(&place.0.join("root")).unwrap();
        root.merge_into(&target).unwrap();
        assert_eq!(fs::read(target.join("d/f")).unwrap(), b"d/f");
        assert!(target.join("d/kept").is_dir() && target.join("d/new/x").is_file() && target.join("g").is_file());
        assert_eq!(fs::metadata(target.join("d/new")).unwrap().mode() & 0o777, 0o500);
        confined::remove_all(&place.0.join("root")).unwrap();

        // More names than are in memory at once.
        fs::create_dir(place.0.join("root")).unwrap();
        for number in 0..3000 {
            fs::write(place.0.join(format!("root/{number}")), "").unwrap();
        }
        fs::set_permissions(target.join("d"), fs::Permissions::from_mode(0o710)).unwrap();
        unpacked(&place, &[Entry { mode: 0o777, ..entry("d/", Kind::Directory, "") }]).0.unwrap();
        Root::open(&place.0.join("root")).unwrap().merge_into(&target).unwrap();
        assert_eq!(fs::read_dir(&target).unwrap().count(), 3002);
        assert_eq!(fs::read_dir(place.0.join("root")).unwrap().count(), 0);
        assert_eq!(fs::metadata(target.join("d")).unwrap().mode() & 0o777, 0o710, "what was there keeps its mode");
        confined::remove_all(&place.0.join("root")).unwrap();

        // What an earlier download may have left.
        fs::create_dir(place.0.join("root")).unwrap();
        std::os::unix::fs::symlink(&outside, target.join("link")).unwrap();
        unpacked(&place, &[entry("link/x", Kind::File, "")]).0.unwrap();
        let error = Root::open(&place.0.join("root")).unwrap().merge_into(&target).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "{error}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    }
}
