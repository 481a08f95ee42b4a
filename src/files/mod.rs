//! Files of a sandbox, after `std::fs`.

mod confined;
mod digest;
mod entry;
mod file;
mod tar;
mod transfer;
mod tree;

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use entry::{DirEntry, Metadata};
pub use file::{File, OpenOptions};
pub use transfer::{Progress, Transfer, Transferred};
pub use tree::{Note, TreeReport};

use crate::command::{Command, ExitStatus, Output};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::link::Link;
use crate::nonce;
use crate::ssh::pool::Lease;
use crate::ssh::sftp::{self, Attributes, Client, Quoted};

/// Permission bits of what is created without others being asked for, before the sandbox's umask.
const FILE_MODE: u32 = 0o644;
const DIRECTORY_MODE: u32 = 0o777;
/// How long the removal of what is left of a failed upload may take: many may have lost their connections at once. A server that
/// kept silent until the time was over is not given as much again.
const TIDY: Duration = Duration::from_secs(10);
const TIDY_AFTER_SILENCE: Duration = Duration::from_secs(5);

/// The files of a sandbox; made by [`Sandbox::files`](crate::Sandbox::files).
///
/// Paths in the sandbox are bytes without NUL, at most 4095 of them; relative ones begin at the image's working directory.
///
/// [`write`](Files::write), [`upload`](Files::upload) and [`download`](Files::download) let a file arrive whole or not at all: it
/// is written under another name beside its target and renamed over it once its size is right, so that the target is the old file
/// or the new one. [`transfer`](Files::transfer) does the same with options: progress, checksum, resumption, and more.
///
/// The configured `transfer_timeout` applies to each call. All methods may be called from many threads at once. What they have in
/// common when they fail:
///
/// - [`ErrorKind::NotFound`] and [`ErrorKind::PermissionDenied`] as the system says them, [`ErrorKind::Conflict`] for what exists
///   already, [`ErrorKind::StorageFull`] for a full disk or quota, [`ErrorKind::InvalidArgument`] for what is no path,
/// - [`ErrorKind::Transfer`] for everything else that the sandbox's system refuses,
/// - those of a lost connection: [`ErrorKind::Disconnected`] where asking again is harmless, which is done by itself as long as
///   nothing but an idle connection is lost, [`ErrorKind::OutcomeUnknown`] where it may have been done,
/// - [`ErrorKind::TimedOut`]; it says so if the change may have been done.
///
/// Each names the file, and says how far it came where bytes were on their way. What a failed upload leaves beside its target is
/// removed, unless it is to be resumed. Where the sandbox can't be reached for that, a `.sandbox-….part` stays there.
#[derive(Clone, Copy, Debug)]
pub struct Files<'a> {
    link: &'a Link,
}

/// Whether a request may be made again when the connection is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repeat {
    Harmless,
    /// A session that may have died unnoticed is first asked something harmless.
    Never,
}

impl<'a> Files<'a> {
    pub(crate) fn new(link: &'a Link) -> Self {
        Self { link }
    }

    /// Copies the local file `local` to `remote`, with its permission bits, and returns the number of bytes. Symbolic links are
    /// followed here and replaced there.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// let bytes = sandbox.files().upload("data.tar", "/tmp/data.tar")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`Files`]; [`ErrorKind::NotFound`] also if the local file or the remote directory is not there.
    pub fn upload(&self, local: impl AsRef<Path>, remote: impl AsRef<Path>) -> Result<u64> {
        self.transfer().upload(local, remote).map(|transferred| transferred.bytes)
    }

    /// Copies `remote` to the local file `local`, with its permission bits, and returns the number of bytes.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// let bytes = sandbox.files().download("/tmp/result.json", "result.json")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`Files`].
    pub fn download(&self, remote: impl AsRef<Path>, local: impl AsRef<Path>) -> Result<u64> {
        self.transfer().download(remote, local).map(|transferred| transferred.bytes)
    }

    /// Uploads and downloads with options.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// sandbox.files().transfer().checksum(true).resume(true).upload("model.bin", "/tmp/model.bin")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn transfer(&self) -> Transfer<'a> {
        Transfer::new(*self)
    }

    /// Writes `contents` to `remote` as a file with permissions `rw-r--r--`. A file that was there is replaced whole.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// sandbox.files().write("main.py", "print('hello')\n")?;
    /// sandbox.command("python3").arg("main.py").output()?.check()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`Files`].
    pub fn write(&self, remote: impl AsRef<Path>, contents: impl AsRef<[u8]>) -> Result<()> {
        let (remote, contents) = (remote.as_ref(), contents.as_ref());
        self.link.call("write file", || self.transfer().put_bytes(contents, remote, FILE_MODE))
    }

    /// The contents of `remote`.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// let report = sandbox.files().read("report.txt")?;
    /// println!("{}", String::from_utf8_lossy(&report));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`Files`]; [`ErrorKind::Transfer`] if it has more than 1 GiB, which is for [`Files::download`].
    pub fn read(&self, remote: impl AsRef<Path>) -> Result<Vec<u8>> {
        self.link.call("read file", || self.transfer().get_bytes(remote.as_ref()))
    }

    /// Writes `contents` at the end of `remote`, which is created with permissions `rw-r--r--` if it is not there. Unlike
    /// [`write`](Files::write) this changes the file in place: after a failure a part of the contents may be there.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// sandbox.files().append("log.txt", "one line more\n")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`Files`].
    pub fn append(&self, remote: impl AsRef<Path>, contents: impl AsRef<[u8]>) -> Result<()> {
        let (remote, contents) = (remote.as_ref(), contents.as_ref());
        self.link.call("append to file", || {
            let deadline = self.deadline();
            let mut file = File::open(self, remote, OpenOptions::new().append(true).create(true), deadline)?;
            let written = file.write_whole(contents, deadline).and_then(|()| file.close_now(deadline));
            written.map_err(|e| self.with_reason(e, remote))
        })
    }

    /// Opens a file for reading.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> Result<(), Box<dyn std::error::Error>> {
    /// use std::io::{Read, Seek, SeekFrom};
    ///
    /// let mut file = sandbox.files().open("core.dump")?;
    /// file.seek(SeekFrom::Start(4096))?;
    /// let mut page = [0; 4096];
    /// file.read_exact(&mut page)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`Files`].
    pub fn open(&self, path: impl AsRef<Path>) -> Result<File> {
        self.open_with(path, OpenOptions::new().read(true))
    }

    /// Opens a file as the options say.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> Result<(), Box<dyn std::error::Error>> {
    /// use sandbox::OpenOptions;
    /// use std::io::Write;
    ///
    /// let mut file = sandbox.files().open_with("notes", OpenOptions::new().write(true).create(true))?;
    /// file.write_all(b"first line\n")?;
    /// file.close()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`Files`]; [`ErrorKind::Conflict`] if a file is there that [`OpenOptions::create_new`] was to create.
    pub fn open_with(&self, path: impl AsRef<Path>, options: &OpenOptions) -> Result<File> {
        let path = path.as_ref();
        let open = || File::open(self, path, options, self.deadline()).map_err(|e| self.with_reason(e, path));
        self.link.call("open file", open)
    }

    /// The entries of a directory but `.` and `..`, in no order: all of them, or an error. One round trip for each 100 entries.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// for entry in sandbox.files().read_dir("/etc")? {
    ///     println!("{:10} {}", entry.metadata.len(), entry.name.display());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`Files`]; [`ErrorKind::Transfer`] for more than 1 048 576 entries or 64 MiB of names.
    pub fn read_dir(&self, path: impl AsRef<Path>) -> Result<Vec<DirEntry>> {
        self.link.call("list directory", || {
            let path = bytes_of(path.as_ref())?;
            let entries = self.ask(path, self.deadline(), |client| client.list(path))?;
            Ok(entries.into_iter().map(|(name, found)| DirEntry::new(name, found)).collect())
        })
    }

    /// What is known about a file; links are followed.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// let found = sandbox.files().metadata("/etc/passwd")?;
    /// println!("{} bytes, {:o}", found.len(), found.mode());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`Files`].
    pub fn metadata(&self, path: impl AsRef<Path>) -> Result<Metadata> {
        self.look(path.as_ref(), |client, path| client.stat(path))
    }

    /// What is known about a file or a link itself.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// assert!(sandbox.files().symlink_metadata("/etc/mtab")?.is_symlink());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`Files`].
    pub fn symlink_metadata(&self, path: impl AsRef<Path>) -> Result<Metadata> {
        self.look(path.as_ref(), |client, path| client.lstat(path))
    }

    fn look(&self, path: &Path, ask: impl Fn(&Client<'_>, &[u8]) -> Result<Attributes>) -> Result<Metadata> {
        self.link.call("get metadata", || {
            let path = bytes_of(path)?;
            self.ask(path, self.deadline(), |client| ask(client, path)).map(Metadata::new)
        })
    }

    /// Whether there is such a file; links are followed, so a broken one is none.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// if !sandbox.files().exists("/tmp/done")? {
    ///     println!("still at work");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`Files`]; not for a file that is not there.
    pub fn exists(&self, path: impl AsRef<Path>) -> Result<bool> {
        match self.metadata(path) {
            Ok(_) => Ok(true),
            // Without a sandbox there is an answer neither way.
            Err(e) if e.kind() == ErrorKind::NotFound && sftp::is_refusal(&e) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Creates a directory.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// sandbox.files().create_dir("results")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`Files`]; [`ErrorKind::Conflict`] if something of that name is there.
    pub fn create_dir(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        self.change("create directory", path, |client, path| client.create_dir(path, DIRECTORY_MODE))
    }

    /// Creates a directory and those above it, as far as they are not there.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// sandbox.files().create_dir_all("results/2026/november")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`Files`]; [`ErrorKind::Conflict`] if something else than a directory is in the way.
    pub fn create_dir_all(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        self.link.call("create directory", || {
            let bytes = bytes_of(path)?;
            let created = self.ask(bytes, self.deadline(), |client| create_dir_all(client, bytes));
            created.map_err(|e| self.with_reason(e, path))
        })
    }

    /// Removes a file, or a link itself.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// sandbox.files().remove_file("core.dump")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`Files`]; [`ErrorKind::Transfer`] for a directory.
    pub fn remove_file(&self, path: impl AsRef<Path>) -> Result<()> {
        self.change("remove file", path.as_ref(), |client, path| client.remove_file(path))
    }

    /// Removes an empty directory.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// sandbox.files().remove_dir("results")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`Files`]; [`ErrorKind::Transfer`] if it is not empty, or no directory.
    pub fn remove_dir(&self, path: impl AsRef<Path>) -> Result<()> {
        self.change("remove directory", path.as_ref(), |client, path| client.remove_dir(path))
    }

    /// Removes a directory and all that is in it, by one `rm -rf` in the sandbox. Links are removed, not followed, and so is a link
    /// that has the name itself.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// sandbox.files().remove_dir_all("build")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`Files`]; [`ErrorKind::Transfer`] for something else than a directory. What could be removed is gone then.
    pub fn remove_dir_all(&self, path: impl AsRef<Path>) -> Result<()> {
        self.link.call("remove directory", || {
            let deadline = self.deadline();
            let path = bytes_of(path.as_ref())?;
            let found = self.ask(path, deadline, |client| client.lstat(path))?;
            if !found.is(sftp::DIRECTORY) && !found.is(sftp::LINK) {
                return Err(Error::new(ErrorKind::Transfer, format!("{} is not a directory", Quoted(path))));
            }
            self.run("rm -rf -- \"$1\"", &[path], path, "removed", deadline).map(drop)
        })
    }

    /// Gives a file or directory another name, in one step. A file that has that name is replaced, and so is an empty directory
    /// by a directory.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// sandbox.files().rename("report.draft", "report")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`Files`]; [`ErrorKind::Transfer`] if the two are not on the same file system, or a directory is in the way.
    pub fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<()> {
        let (from, to) = (from.as_ref(), to.as_ref());
        let to = bytes_of(to).map_err(|e| self.link.report(e, "rename file"))?;
        self.change("rename file", from, |client, from| client.rename(from, to))
    }

    /// Sets the permission bits, such as `0o755`; links are followed.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// sandbox.files().set_permissions("run.sh", 0o755)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`Files`].
    pub fn set_permissions(&self, path: impl AsRef<Path>, mode: u32) -> Result<()> {
        self.link.call("set permissions", || {
            let (path, mode) = (path.as_ref(), permission_bits(mode)?);
            let (bytes, mode) = (bytes_of(path)?, Attributes { mode: Some(mode), ..Attributes::default() });
            let set = self.ask(bytes, self.deadline(), |client| client.set_stat(bytes, mode));
            set.map_err(|e| self.with_reason(e, path))
        })
    }

    /// Makes the symbolic link `link` that points to `original`, which is text and need not exist.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// sandbox.files().symlink("release-7", "current")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`Files`]; [`ErrorKind::Conflict`] if something of that name is there.
    pub fn symlink(&self, original: impl AsRef<Path>, link: impl AsRef<Path>) -> Result<()> {
        let (original, link) = (original.as_ref(), link.as_ref());
        let original = checked(original).map_err(|e| self.link.report(e, "create link"))?;
        self.change("create link", link, |client, link| client.symlink(original, link))
    }

    /// What a symbolic link points to.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// println!("{}", sandbox.files().read_link("current")?.display());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`Files`]; [`ErrorKind::Transfer`] for what is no link.
    pub fn read_link(&self, path: impl AsRef<Path>) -> Result<PathBuf> {
        self.name_of("read link", path.as_ref(), |client, path| client.read_link(path))
    }

    /// The absolute path of a file, without links, `.` and `..`.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// println!("commands begin in {}", sandbox.files().canonicalize(".")?.display());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`Files`].
    pub fn canonicalize(&self, path: impl AsRef<Path>) -> Result<PathBuf> {
        self.name_of("resolve path", path.as_ref(), |client, path| {
            // The server resolves names that are not there too.
            client.stat(path)?;
            client.resolve(path)
        })
    }

    fn name_of(
        &self,
        operation: &'static str,
        path: &Path,
        ask: impl Fn(&Client<'_>, &[u8]) -> Result<Vec<u8>>,
    ) -> Result<PathBuf> {
        self.link.call(operation, || {
            let path = bytes_of(path)?;
            let name = self.ask(path, self.deadline(), |client| ask(client, path))?;
            Ok(PathBuf::from(OsString::from_vec(name)))
        })
    }

    fn deadline(&self) -> Deadline {
        Deadline::after(self.link.transfer_timeout())
    }

    fn lease(&self, deadline: Deadline) -> Result<Lease> {
        self.link.lease(deadline)
    }

    /// Asks about the file `name` what may be asked twice.
    fn ask<T>(&self, name: &[u8], deadline: Deadline, ask: impl Fn(&Client<'_>) -> Result<T>) -> Result<T> {
        let (lease, answer) = self.begin(deadline, name, Repeat::Harmless, |client| ask(client))?;
        lease.finish();
        Ok(answer)
    }

    /// Changes something at `path`, once.
    fn change(
        &self,
        operation: &'static str,
        path: &Path,
        change: impl Fn(&Client<'_>, &[u8]) -> Result<()>,
    ) -> Result<()> {
        self.link.call(operation, || {
            let bytes = bytes_of(path)?;
            let (lease, ()) = self
                .begin(self.deadline(), bytes, Repeat::Never, |client| change(client, bytes))
                .map_err(|e| if e.kind() == ErrorKind::Transfer { self.with_reason(e, path) } else { e })?;
            lease.finish();
            Ok(())
        })
    }

    /// Makes requests about the file `name` on a session that stays with the caller; on another one if the first was idle and its
    /// peer had gone away.
    fn begin<T>(
        &self,
        deadline: Deadline,
        name: &[u8],
        repeat: Repeat,
        ask: impl Fn(&mut Client<'_>) -> Result<T>,
    ) -> Result<(Lease, T)> {
        let unreached = |e: Error| e.context(Quoted(name));
        loop {
            let mut lease = self.lease(deadline).map_err(unreached)?;
            let (is_reused, mut is_asked) = (lease.is_reused(), false);
            let result = Client::new(&mut lease, deadline).map_err(unreached).and_then(|mut client| {
                if repeat == Repeat::Never {
                    if is_reused
                        && let Err(e) = client.lstat(name)
                        && !sftp::is_refusal(&e)
                    {
                        return Err(e);
                    }
                    is_asked = true;
                }
                ask(&mut client)
            });
            match result {
                Ok(value) => return Ok((lease, value)),
                Err(e) if is_asked && !sftp::is_refusal(&e) => return Err(may_be_done(e)),
                Err(e) if e.kind() == ErrorKind::Disconnected && is_reused => {}
                Err(e) => {
                    if sftp::is_refusal(&e) {
                        lease.finish();
                    }
                    return Err(e);
                }
            }
        }
    }

    fn shell(&self, line: &str) -> Command {
        Command::shell(self.link.clone(), line.as_ref())
    }

    /// A line of the sandbox's shell.
    fn tool(&self, line: &str, args: &[&[u8]], deadline: Deadline) -> Command {
        let args = args.iter().map(|arg| std::ffi::OsStr::from_bytes(arg));
        // Messages that can be understood here.
        let command = self.shell(&format!("export LC_ALL=C; {line}")).args(args);
        command.timeout(deadline.remaining()).output_limit(1 << 20)
    }

    /// Runs a line of the sandbox's shell that works on the file `name`; `done` is what should be done to it. Tools must succeed.
    fn run(&self, line: &str, args: &[&[u8]], name: &[u8], done: &str, deadline: Deadline) -> Result<Output> {
        let what = || format!("{} can't be {done}", Quoted(name));
        let output = self.tool(line, args, deadline).output().map_err(|e| e.within_operation().context(what()))?;
        match output.status.success() {
            true => Ok(output),
            false => Err(tool_failure(&output.stderr_text(), &output.status, name, done)),
        }
    }

    /// SFTP has no word for a full disk: when it says just "failure", a few bytes written beside the file tell more.
    fn with_reason(&self, e: Error, path: &Path) -> Error {
        const LINE: &str = "(head -c 65536 /dev/zero > \"$1\"); code=$?; rm -f -- \"$1\"; exit $code";
        if !sftp::is_unexplained(&e) {
            return e;
        }
        let (probe, deadline) = (beside(path), Deadline::after(Some(Duration::from_secs(5))));
        let probe = probe.as_os_str().as_bytes();
        match self.run(LINE, &[probe], path.as_os_str().as_bytes(), "written", deadline) {
            Err(reason) if reason.kind() == ErrorKind::StorageFull || reason.kind() == ErrorKind::PermissionDenied => {
                let why = reason.message().rsplit(": ").next().unwrap_or_default().to_owned();
                Error::new(reason.kind(), format!("{}: {why}", e.message()))
            }
            _ => e,
        }
    }

    /// Removes what is left of a transfer that failed with `e`, as far as the sandbox can be reached.
    fn tidy(&self, part: &[u8], e: &Error) {
        match self.begin(tidying_time(e), part, Repeat::Harmless, |client| client.remove_file(part)) {
            Ok((lease, ())) => lease.finish(),
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => log::warn!("a partial file is left in sandbox {}: {e}", self.link.name()),
        }
    }
}

fn tidying_time(e: &Error) -> Deadline {
    let was_silent = matches!(e.kind(), ErrorKind::TimedOut | ErrorKind::Cancelled);
    Deadline::after(Some(if was_silent { TIDY_AFTER_SILENCE } else { TIDY }))
}

/// A lost connection, a timeout or an interruption after a change was asked for.
fn may_be_done(e: Error) -> Error {
    let kind = match e.kind() {
        ErrorKind::Connect | ErrorKind::Disconnected => ErrorKind::OutcomeUnknown,
        kind @ (ErrorKind::TimedOut | ErrorKind::Cancelled) => kind,
        _ => return e,
    };
    e.with_kind(kind).context("it may have been done")
}

fn create_dir_all(client: &Client<'_>, path: &[u8]) -> Result<()> {
    let create = |path: &[u8]| match client.create_dir(path, DIRECTORY_MODE) {
        Err(e) if sftp::is_refusal(&e) && e.kind() != ErrorKind::NotFound => match client.stat(path) {
            Ok(found) if found.is(sftp::DIRECTORY) => Ok(()),
            _ => Err(e),
        },
        created => created,
    };
    // Up to the first that can be made or is there, then down again.
    let mut missing = vec![];
    let mut next = path;
    while let Err(e) = create(next) {
        match directory_of(next) {
            Some(directory) if e.kind() == ErrorKind::NotFound => missing.push(std::mem::replace(&mut next, directory)),
            _ => return Err(e),
        }
    }
    missing.into_iter().rev().try_for_each(create)
}

/// What stands before the last name of a path. `Path::parent` leaves out a `.` at the end, too.
fn directory_of(path: &[u8]) -> Option<&[u8]> {
    let slash = path.iter().rposition(|byte| *byte == b'/')?;
    let end = path[..slash].iter().rposition(|byte| *byte != b'/')?;
    Some(&path[..=end])
}

/// What a tool's last words say of a file.
fn tool_failure(said: &str, status: &ExitStatus, name: &[u8], done: &str) -> Error {
    let lines = || said.lines().map(str::trim).filter(|line| !line.is_empty());
    // tar's last line says only that there were others.
    let why = lines().find(|line| reason(line).is_some()).or_else(|| lines().next());
    let kind = why.and_then(reason).unwrap_or(ErrorKind::Transfer);
    let shown = |line: &str| line.chars().take(500).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    let why = why.map_or_else(|| status.to_string(), shown);
    Error::new(kind, format!("{} can't be {done}: {why}", Quoted(name)))
}

/// The kind of what a tool says, in the words of the C library.
fn reason(line: &str) -> Option<ErrorKind> {
    const WORDS: [(&str, ErrorKind); 8] = [
        ("No space left on device", ErrorKind::StorageFull),
        ("Disk quota exceeded", ErrorKind::StorageFull),
        ("File too large", ErrorKind::StorageFull),
        // tar, for the last bytes that a disk had room for.
        ("Wrote only", ErrorKind::StorageFull),
        ("Permission denied", ErrorKind::PermissionDenied),
        ("Operation not permitted", ErrorKind::PermissionDenied),
        ("Read-only file system", ErrorKind::PermissionDenied),
        ("No such file or directory", ErrorKind::NotFound),
    ];
    WORDS.iter().find(|(words, _)| line.contains(words)).map(|(_, kind)| *kind)
}

fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}

/// The bytes of a path, or of what a link points to.
fn checked(path: &Path) -> Result<&[u8]> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.is_empty() || bytes.contains(&0) {
        return Err(invalid(format!("'{}' is no path: empty, or with a NUL byte", path.display())));
    }
    if bytes.len() > sftp::LONGEST_PATH {
        let start = bytes[..64].escape_ascii();
        return Err(invalid(format!(
            "'{start}…' is no path: {} bytes, at most {} can be",
            bytes.len(),
            sftp::LONGEST_PATH
        )));
    }
    Ok(bytes)
}

/// The bytes of a path of anything; slashes at its end mean nothing.
fn bytes_of(path: &Path) -> Result<&[u8]> {
    let bytes = checked(path)?;
    let end = bytes.iter().rposition(|byte| *byte != b'/').map_or(1, |last| last + 1);
    Ok(&bytes[..end])
}

/// The bytes of a path of a file.
fn file_bytes_of(path: &Path) -> Result<&[u8]> {
    let bytes = checked(path)?;
    if bytes.ends_with(b"/") {
        return Err(invalid(format!("'{}' does not name a file: it has a '/' at its end", path.display())));
    }
    Ok(bytes)
}

fn permission_bits(mode: u32) -> Result<u32> {
    if mode & !0o7777 == 0 { Ok(mode) } else { Err(invalid(format!("{mode:o} are no permission bits"))) }
}

/// A name that nobody else uses, in the same directory.
fn beside(path: &Path) -> PathBuf {
    path.with_file_name(format!(".sandbox-{}.part", nonce::hex()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ssh::exec::Ending;

    #[test]
    fn a_path_has_a_directory_before_its_last_name() {
        for (path, directory) in
            [("a/b", Some("a")), ("/a//b/.", Some("/a//b")), ("/a//b", Some("/a")), ("a", None), ("/a", None)]
        {
            assert_eq!(directory_of(path.as_bytes()), directory.map(str::as_bytes), "{path}");
        }
    }

    #[test]
    fn what_tools_say_has_a_kind() {
        for (said, kind) in [
            // dash, where there is no inode left; GNU tools.
            ("sh: 1: cannot create a/b: No space left on device", ErrorKind::StorageFull),
            ("head: error writing 'standard output': Disk quota exceeded", ErrorKind::StorageFull),
            ("tar: ./f: Cannot open: Read-only file system\ntar: Exiting with failure", ErrorKind::PermissionDenied),
            ("rm: cannot remove 'a': Operation not permitted", ErrorKind::PermissionDenied),
            ("tar: ./f: Cannot close: Input/output error", ErrorKind::Transfer),
        ] {
            let error = tool_failure(said, &ExitStatus(Ending::Code(2)), b"a", "written");
            assert_eq!(error.kind(), kind, "{error}");
            let why = said.lines().next().unwrap();
            assert_eq!(error.message(), format!("'a' in the sandbox can't be written: {why}"));
        }
    }
}
