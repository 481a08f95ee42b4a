//! Files of a sandbox, after `std::fs`.

mod confined;
mod download;
mod entry;
mod file;
mod local;
mod options;
mod path;
mod request;
#[cfg(test)]
mod special_files;
mod target;
mod tool;
mod tree;
mod upload;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

pub use entry::{DirEntry, Metadata};
pub use file::{File, OpenOptions};
pub use options::{Progress, Transfer, Transferred};
pub use tree::{Note, TreeReport};

use sandbox_protocol::tree::Request;

use path::{bytes_of, checked, directory_of, permission_bits};
use tool::Work;

use crate::error::{Error, ErrorKind, Result};
use crate::link::Link;
use crate::ssh::sftp::{self, Attributes, Client, Quoted};

/// Permission bits of what is created without others being asked for, before the sandbox's umask.
const FILE_MODE: u32 = 0o666;
const DIRECTORY_MODE: u32 = 0o777;

/// The files of a sandbox; made by [`Sandbox::files`](crate::Sandbox::files).
///
/// Paths in the sandbox are bytes without NUL, at most 4095 of them; relative ones begin at the image's working
/// directory. `~` is a name like others: only shells take it for a home directory.
///
/// [`write`](Files::write), [`upload`](Files::upload) and [`download`](Files::download) let a file arrive whole or not
/// at all: it is written under another name beside its target and takes its place once all has arrived, so that the
/// target is the old file or the new one. [`transfer`](Files::transfer) does the same with options: progress, checksum,
/// resumption, and more. Existing files are treated as scp and pathlib treat them, in both directions:
///
/// - Links are followed, also to a file that is not there yet.
/// - A file keeps its permission bits, and its owner as far as the system allows. Other hard links keep the old
///   contents. A file without write permission is refused.
/// - Devices, named pipes and terminals are written into. A named pipe on this machine waits for a reader, one in the
///   sandbox must have one. Sockets are refused.
/// - A mount point, such as a single file of a volume, can't be replaced: [`ErrorKind::Busy`].
///   [`append`](Files::append) and [`open_with`](Files::open_with) write it in place, as they do with every file.
/// - A new file gets its permission bits less the umask: that of the sandbox, or of this process.
///
/// Directories are merged by rules of their own, see [`Files::upload_dir`]. Holes of a single file are filled with
/// zeros; those of files in a directory are kept.
///
/// The configured `transfer_timeout` applies to each call. All methods may be called from many threads at once. They
/// fail with:
///
/// - errors of the system, for the file in the sandbox or the local file (the message says which):
///   [`ErrorKind::FileNotFound`], [`ErrorKind::FileExists`], [`ErrorKind::IsADirectory`], [`ErrorKind::NotADirectory`],
///   [`ErrorKind::DirectoryNotEmpty`], [`ErrorKind::PermissionDenied`], [`ErrorKind::ReadOnly`], [`ErrorKind::Busy`],
///   [`ErrorKind::NameTooLong`], [`ErrorKind::StorageFull`] for a full disk or quota,
/// - [`ErrorKind::Transfer`] for everything else that the system refuses; [`Error::raw_os_error`] has its number,
/// - [`ErrorKind::InvalidArgument`] for an invalid path,
/// - [`ErrorKind::NotFound`] if the sandbox itself is gone,
/// - after a lost connection [`ErrorKind::Disconnected`] if the call is safe to repeat (if only an idle connection was
///   lost, the library repeats it), [`ErrorKind::OutcomeUnknown`] if the change may have been made,
/// - [`ErrorKind::TimedOut`]; the message says so if the change may have been made.
///
/// Each message names the file, and how many bytes had arrived if contents were being transferred. The guest removes
/// the partial file of a failed upload, unless the transfer has `resume`; a partial directory, `.sandbox-….part`, may
/// stay if the sandbox can't be reached.
#[derive(Clone, Copy, Debug)]
pub struct Files<'a> {
    link: &'a Link,
}

impl<'a> Files<'a> {
    pub(crate) fn new(link: &'a Link) -> Self {
        Self { link }
    }

    /// Copies the local file `local` to `remote`, with its permission bits if it is new there, and returns the number
    /// of bytes.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// let bytes = sandbox.files().upload("data.tar", "/tmp/data.tar")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`Files`]; [`ErrorKind::FileNotFound`] also if the local file or the remote directory is not there.
    pub fn upload(&self, local: impl AsRef<Path>, remote: impl AsRef<Path>) -> Result<u64> {
        self.transfer().upload(local, remote).map(|transferred| transferred.bytes)
    }

    /// Copies `remote` to the local file `local`, with its permission bits if it is new here, and returns the number of
    /// bytes.
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

    /// Writes `contents` to `remote`. A new file gets permissions `rw-rw-rw-` minus the sandbox's umask, as from
    /// `std::fs::write`; [`Transfer::mode`] gives others.
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

    /// Writes `contents` at the end of `remote`, which is created as by [`write`](Files::write) if it is not there.
    /// Unlike [`write`](Files::write) this changes the file in place: after a failure a part of the contents may be
    /// there.
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
            file.write_whole(contents, deadline).and_then(|()| file.close_now(deadline))
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
    /// See [`Files`]; [`ErrorKind::FileExists`] if a file is there that [`OpenOptions::create_new`] was to create.
    pub fn open_with(&self, path: impl AsRef<Path>, options: &OpenOptions) -> Result<File> {
        let path = path.as_ref();
        self.link.call("open file", || File::open(self, path, options, self.deadline()))
    }

    /// The entries of a directory but `.` and `..`, in no order: all of them, or an error. One round trip for each 100
    /// entries.
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

    /// The metadata of a file; links are followed.
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
        self.stat_with(path.as_ref(), |client, path| client.stat(path))
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
        self.stat_with(path.as_ref(), |client, path| client.lstat(path))
    }

    fn stat_with(&self, path: &Path, ask: impl Fn(&Client<'_>, &[u8]) -> Result<Attributes>) -> Result<Metadata> {
        self.link.call("get metadata", || {
            let path = bytes_of(path)?;
            self.ask(path, self.deadline(), |client| ask(client, path)).map(Metadata::new)
        })
    }

    /// Whether the file exists; links are followed, so a broken link does not exist.
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
    /// See [`Files`]; not for a file that is not there, nor for a link that leads to itself.
    pub fn exists(&self, path: impl AsRef<Path>) -> Result<bool> {
        match self.metadata(path) {
            Ok(_) => Ok(true),
            Err(e) if matches!(e.kind(), ErrorKind::FileNotFound | ErrorKind::NotADirectory) => Ok(false),
            // A link that leads to itself leads to no file.
            Err(e) if e.raw_os_error() == Some(libc::ELOOP) => Ok(false),
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
    /// See [`Files`]; [`ErrorKind::FileExists`] if something of that name is there.
    pub fn create_dir(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        self.change("create directory", path, |client, path| client.create_dir(path, DIRECTORY_MODE))
    }

    /// Creates a directory and its missing parents.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// sandbox.files().create_dir_all("results/2026/november")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`Files`]; [`ErrorKind::FileExists`] if something else than a directory has that name,
    /// [`ErrorKind::NotADirectory`] if something else is on the way to it.
    pub fn create_dir_all(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        self.link.call("create directory", || {
            let bytes = bytes_of(path)?;
            self.ask(bytes, self.deadline(), |client| create_dir_all(client, bytes))
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
    /// See [`Files`]; [`ErrorKind::IsADirectory`] for a directory.
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
    /// See [`Files`]; [`ErrorKind::DirectoryNotEmpty`], [`ErrorKind::NotADirectory`].
    pub fn remove_dir(&self, path: impl AsRef<Path>) -> Result<()> {
        self.change("remove directory", path.as_ref(), |client, path| client.remove_dir(path))
    }

    /// Removes a directory and all that is in it, by one command of the guest. Links are removed, not followed, and so
    /// is a link that has the name itself.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// sandbox.files().remove_dir_all("build")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`Files`]; [`ErrorKind::NotADirectory`] for something else than a directory. What could be removed is gone
    /// after a failure.
    pub fn remove_dir_all(&self, path: impl AsRef<Path>) -> Result<()> {
        self.link.call("remove directory", || {
            let deadline = self.deadline();
            let path = bytes_of(path.as_ref())?;
            let found = self.ask(path, deadline, |client| client.lstat(path))?;
            if !found.is(sftp::DIRECTORY) && !found.is(sftp::LINK) {
                return Err(Error::new(ErrorKind::NotADirectory, format!("{} is not a directory", Quoted(path))));
            }
            let request = Request::Remove { path: Path::new(OsStr::from_bytes(path)).to_owned(), aside: false };
            self.run_tool(&request, Work { name: path, path, done: "removed" }, deadline).map(drop)
        })
    }

    /// Renames a file or directory, atomically. An existing file of the new name is replaced; a directory replaces an
    /// empty directory.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// sandbox.files().rename("report.draft", "report")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`Files`]; [`ErrorKind::IsADirectory`], [`ErrorKind::NotADirectory`] or [`ErrorKind::DirectoryNotEmpty`] if
    /// the target can't be replaced, [`ErrorKind::Transfer`] with `EXDEV` if the names are on different file systems.
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
            self.ask(bytes, self.deadline(), |client| client.set_stat(bytes, mode))
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
    /// See [`Files`]; [`ErrorKind::FileExists`] if something of that name is there.
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
    /// See [`Files`]; [`ErrorKind::Transfer`] with `EINVAL` if the path is not a link.
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
}

fn create_dir_all(client: &Client<'_>, path: &[u8]) -> Result<()> {
    let create = |path: &[u8]| match client.create_dir(path, DIRECTORY_MODE) {
        Err(e) if sftp::is_refusal(&e) && e.kind() != ErrorKind::FileNotFound => match client.stat(path) {
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
            Some(directory) if e.kind() == ErrorKind::FileNotFound => {
                missing.push(std::mem::replace(&mut next, directory))
            }
            _ => return Err(e),
        }
    }
    missing.into_iter().rev().try_for_each(create)
}
