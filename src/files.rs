//! Files of a sandbox, after `std::fs`.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::nonce;
use crate::sandbox::Sandbox;
use crate::ssh::session::Session;
use crate::ssh::sftp::{self, Opened};

/// The files of a sandbox; made by [`Sandbox::files`].
///
/// Paths in the sandbox are bytes without NUL; relative ones begin at the image's working directory. A file arrives whole or not
/// at all: it is written under another name beside its target and renamed over it once its size is right, so that the target is
/// the old file or the new one. Permission bits travel with the contents. The configured `transfer_timeout` applies to each
/// call.
#[derive(Clone, Copy, Debug)]
pub struct Files<'a> {
    sandbox: &'a Sandbox,
}

impl<'a> Files<'a> {
    pub(crate) fn new(sandbox: &'a Sandbox) -> Self {
        Self { sandbox }
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
    /// [`ErrorKind::NotFound`] if the local file or the remote directory is not there, [`ErrorKind::PermissionDenied`],
    /// [`ErrorKind::Transfer`] for everything else that keeps the file from moving, [`ErrorKind::TimedOut`], and those of a lost
    /// connection.
    pub fn upload(&self, local: impl AsRef<Path>, remote: impl AsRef<Path>) -> Result<u64> {
        let local = local.as_ref();
        let upload = || {
            let mut file = File::open(local).map_err(|e| at_local(local, "opened", e))?;
            let metadata = file.metadata().map_err(|e| at_local(local, "read", e))?;
            if !metadata.is_file() {
                let message = format!("'{}' on this machine is not a regular file", local.display());
                return Err(Error::new(ErrorKind::InvalidArgument, message));
            }
            self.put(&mut file, remote.as_ref(), metadata.permissions().mode())
        };
        upload().map_err(|e| self.sandbox.explain(e, "upload file"))
    }

    /// Writes `contents` to `remote` as a file with permissions `rw-r--r--`.
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
    /// As [`Files::upload`].
    pub fn write(&self, remote: impl AsRef<Path>, contents: impl AsRef<[u8]>) -> Result<()> {
        let written = self.put(&mut contents.as_ref(), remote.as_ref(), 0o644);
        written.map(drop).map_err(|e| self.sandbox.explain(e, "write file"))
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
    /// As [`Files::upload`].
    pub fn download(&self, remote: impl AsRef<Path>, local: impl AsRef<Path>) -> Result<u64> {
        let local = local.as_ref();
        let download = || {
            let mut part = LocalPart::create(local)?;
            let (size, mode) = self.get(remote.as_ref(), &mut part.file)?;
            part.put_in_place(mode)?;
            Ok(size)
        };
        download().map_err(|e| self.sandbox.explain(e, "download file"))
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
    /// As [`Files::upload`]; [`ErrorKind::Transfer`] if it has more than 1 GiB, which is for [`Files::download`].
    pub fn read(&self, remote: impl AsRef<Path>) -> Result<Vec<u8>> {
        let mut contents = InMemory(Vec::new());
        let read = self.get(remote.as_ref(), &mut contents);
        read.map_err(|e| self.sandbox.explain(e, "read file"))?;
        Ok(contents.0)
    }

    fn put(&self, source: &mut dyn Read, remote: &Path, mode: u32) -> Result<u64> {
        let path = remote_path(remote)?;
        let part = beside(remote);
        let create = |session: &mut Session, deadline| sftp::create(session, part.as_os_str().as_bytes(), deadline);
        self.transfer(create, |session, part, deadline| sftp::upload(session, part, source, path, mode, deadline))
    }

    fn get(&self, remote: &Path, target: &mut dyn Write) -> Result<(u64, u32)> {
        let path = remote_path(remote)?;
        let open = |session: &mut Session, deadline| sftp::open(session, path, deadline);
        self.transfer(open, |session, file, deadline| sftp::download(session, file, target, deadline))
    }

    /// Opens a file, on another session if the first was an idle one whose peer had gone away, and moves its contents once.
    fn transfer<T>(
        &self,
        open: impl Fn(&mut Session, Deadline) -> Result<Opened>,
        run: impl FnOnce(&Session, Opened, Deadline) -> Result<T>,
    ) -> Result<T> {
        let Sandbox { core, endpoint, .. } = self.sandbox;
        let deadline = Deadline::after(core.config.transfer_timeout);
        loop {
            let mut lease = endpoint.lease(core, deadline)?;
            let opened = match open(&mut lease, deadline) {
                Ok(opened) => opened,
                Err(e) if e.kind() == ErrorKind::Disconnected && lease.is_reused() => continue,
                Err(e) => {
                    // The server's own "no" leaves the session as it was.
                    if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) {
                        lease.finish();
                    }
                    return Err(e);
                }
            };
            let result = run(&lease, opened, deadline);
            // After a failure something may be on its way still, so only success gives the session back.
            if result.is_ok() {
                lease.finish();
            }
            return result;
        }
    }
}

fn remote_path(path: &Path) -> Result<&[u8]> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.is_empty() || bytes.contains(&0) || bytes.ends_with(b"/") {
        let message =
            format!("'{}' does not name a file: empty, with a NUL byte, or with a '/' at its end", path.display());
        return Err(Error::new(ErrorKind::InvalidArgument, message));
    }
    Ok(bytes)
}

/// A name that nobody else uses, in the same directory.
fn beside(path: &Path) -> PathBuf {
    path.with_file_name(format!(".sandbox-{}.part", nonce::hex()))
}

fn at_local(path: &Path, done: &str, e: io::Error) -> Error {
    let kind = match e.kind() {
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
        _ => ErrorKind::Transfer,
    };
    Error::new(kind, format!("'{}' on this machine can't be {done}: {e}", path.display())).with_source(e)
}

/// A local file on its way to its name; removed again unless it gets there.
struct LocalPart<'a> {
    target: &'a Path,
    part: PathBuf,
    file: File,
    is_in_place: bool,
}

impl<'a> LocalPart<'a> {
    fn create(target: &'a Path) -> Result<Self> {
        let part = beside(target);
        // Readable for nobody else until its own mode is known.
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part);
        let file = file.map_err(|e| at_local(target, "created", e))?;
        Ok(Self { target, part, file, is_in_place: false })
    }

    fn put_in_place(mut self, mode: u32) -> Result<()> {
        self.file.set_permissions(Permissions::from_mode(mode)).map_err(|e| at_local(self.target, "finished", e))?;
        fs::rename(&self.part, self.target).map_err(|e| at_local(self.target, "put in place", e))?;
        self.is_in_place = true;
        Ok(())
    }
}

impl Drop for LocalPart<'_> {
    fn drop(&mut self) {
        if !self.is_in_place
            && let Err(e) = fs::remove_file(&self.part)
        {
            log::warn!("the partial file '{}' is left: {e}", self.part.display());
        }
    }
}

/// Collects what fits into memory.
struct InMemory(Vec<u8>);

impl Write for InMemory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        const LIMIT: usize = 1 << 30;
        if self.0.len() + bytes.len() > LIMIT {
            return Err(io::Error::other("more than 1 GiB for one read; download it to a file"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
