//! The SFTP subsystem, and files and directories that are open over it.

use std::ffi::{c_char, c_int, c_long, c_ulong};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use libssh2_sys as sys;
use parking_lot::Mutex;

use super::{Answer, Failure, check, check_length, last_failure, locked, short, unexpected_reply};

#[expect(unsafe_code, reason = "declarations of C functions")]
unsafe extern "C" {
    fn libssh2_sftp_posix_rename_ex(
        sftp: *mut sys::LIBSSH2_SFTP,
        source: *const c_char,
        source_len: usize,
        target: *const c_char,
        target_len: usize,
    ) -> c_int;
}

/// `LIBSSH2_SFTP_SYMLINK`
const SYMLINK: c_int = 0;

/// The SFTP subsystem of a session. Its last clone frees it: that of the session itself, which has shut the connection
/// down by then, or that of a file that is dropped even later.
#[derive(Clone)]
pub(in crate::ssh) struct Sftp(Arc<Subsystem>);

struct Subsystem {
    session: ssh2::Session,
    sftp: NonNull<sys::LIBSSH2_SFTP>,
    /// Files that were dropped while they were open. To free their memory takes the server's answer, or the
    /// connection's end.
    dropped: Mutex<Vec<NonNull<sys::LIBSSH2_SFTP_HANDLE>>>,
}

// SAFETY: as for `Channel`; the list has its own lock.
#[expect(unsafe_code, reason = "the pointers may move between threads")]
unsafe impl Send for Subsystem {}
// SAFETY: as for `Send`.
#[expect(unsafe_code, reason = "the pointers may be used by one thread after another")]
unsafe impl Sync for Subsystem {}

#[expect(unsafe_code, reason = "calls into libssh2")]
impl Drop for Subsystem {
    fn drop(&mut self) {
        // What the session's end leaves: files, and the answers that nobody waited for. Nothing is waited for here;
        // each of these has a few steps, and none of them blocks for long on a connection that is shut down.
        let again = |step: &dyn Fn() -> c_int| (0..4).any(|_| step() != sys::LIBSSH2_ERROR_EAGAIN);
        let mut is_freed = true;
        for handle in std::mem::take(&mut *self.dropped.lock()) {
            // SAFETY: the session is locked and alive, and the handle was left to us by the `SftpFile` that owned it.
            // libssh2 frees it unless the call would block.
            is_freed &=
                again(&|| locked(&self.session, |_| unsafe { sys::libssh2_sftp_close_handle(handle.as_ptr()) }));
        }
        // SAFETY: the session is locked and alive, no handle of the subsystem is left, and nobody else knows it any
        // more. libssh2 frees it unless the call would block.
        is_freed =
            is_freed && again(&|| locked(&self.session, |_| unsafe { sys::libssh2_sftp_shutdown(self.sftp.as_ptr()) }));
        if !is_freed {
            log::debug!("libssh2 keeps the memory of an SFTP session");
        }
    }
}

/// What SFTP tells of a file; what the server left out is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) size: Option<u64>,
    /// File type and permission bits as in `st_mode`.
    pub(crate) mode: Option<u32>,
    /// Access and modification time in Unix seconds.
    pub(crate) times: Option<(u32, u32)>,
    /// User and group.
    pub(crate) owner: Option<(u32, u32)>,
}

impl Attributes {
    fn to_raw(self) -> sys::LIBSSH2_SFTP_ATTRIBUTES {
        let mut flags = 0;
        if self.size.is_some() {
            flags |= sys::LIBSSH2_SFTP_ATTR_SIZE;
        }
        if self.mode.is_some() {
            flags |= sys::LIBSSH2_SFTP_ATTR_PERMISSIONS;
        }
        if self.times.is_some() {
            flags |= sys::LIBSSH2_SFTP_ATTR_ACMODTIME;
        }
        if self.owner.is_some() {
            flags |= sys::LIBSSH2_SFTP_ATTR_UIDGID;
        }
        let (atime, mtime) = self.times.unwrap_or_default();
        let (uid, gid) = self.owner.unwrap_or_default();
        sys::LIBSSH2_SFTP_ATTRIBUTES {
            flags,
            filesize: self.size.unwrap_or_default(),
            uid: c_ulong::from(uid),
            gid: c_ulong::from(gid),
            permissions: c_ulong::from(self.mode.unwrap_or_default()),
            atime: c_ulong::from(atime),
            mtime: c_ulong::from(mtime),
        }
    }

    fn from_raw(raw: &sys::LIBSSH2_SFTP_ATTRIBUTES) -> Self {
        let has = |flag| raw.flags & flag != 0;
        // On the wire these are 32 bits wide.
        let narrow = |value: c_ulong| u32::try_from(value).unwrap_or(u32::MAX);
        Self {
            size: has(sys::LIBSSH2_SFTP_ATTR_SIZE).then_some(raw.filesize),
            mode: has(sys::LIBSSH2_SFTP_ATTR_PERMISSIONS).then(|| narrow(raw.permissions)),
            times: has(sys::LIBSSH2_SFTP_ATTR_ACMODTIME).then(|| (narrow(raw.atime), narrow(raw.mtime))),
            owner: has(sys::LIBSSH2_SFTP_ATTR_UIDGID).then(|| (narrow(raw.uid), narrow(raw.gid))),
        }
    }

    /// False for a size that no file has: Linux counts positions with 63 bits, and so do callers in Go.
    fn is_possible(&self) -> bool {
        self.size.is_none_or(|size| i64::try_from(size).is_ok())
    }
}

/// An entry of a directory that is none.
fn malformed() -> Failure {
    Failure { code: sys::LIBSSH2_ERROR_PROTO, ..unexpected_reply() }
}

/// What the server has told of a file. libssh2 takes a status without an error for an answer too, and whose a file is
/// says nothing alone.
fn require_attrs(found: Attributes) -> Answer<Attributes> {
    let is_empty = Attributes { owner: None, ..found } == Attributes::default();
    if is_empty || !found.is_possible() { Err(unexpected_reply()) } else { Ok(found) }
}

#[expect(unsafe_code, reason = "calls into libssh2")]
impl Sftp {
    pub(in crate::ssh) fn start(session: &ssh2::Session) -> Answer<Self> {
        locked(session, |raw| {
            // SAFETY: the session is locked and alive.
            match NonNull::new(unsafe { sys::libssh2_sftp_init(raw) }) {
                Some(sftp) => {
                    Ok(Self(Arc::new(Subsystem { session: session.clone(), sftp, dropped: Mutex::default() })))
                }
                None => Err(last_failure(raw)),
            }
        })
    }

    /// Calls `f` with the session locked and the subsystem's pointer, which lives as long as the session.
    fn with<T>(&self, f: impl FnOnce(*mut sys::LIBSSH2_SESSION, *mut sys::LIBSSH2_SFTP) -> T) -> T {
        locked(&self.0.session, |raw| f(raw, self.0.sftp.as_ptr()))
    }

    /// Adds the SFTP status to a failure that says there is one.
    fn with_sftp_status(&self, failure: Failure) -> Failure {
        if failure.code != sys::LIBSSH2_ERROR_SFTP_PROTOCOL {
            return failure;
        }
        // SAFETY: see `with`.
        let status = self.with(|_, sftp| unsafe { sys::libssh2_sftp_last_error(sftp) });
        // 0 where the server's answer itself was no SFTP.
        Failure { sftp_status: u32::try_from(status).ok().filter(|status| *status != 0), ..failure }
    }

    /// Opens a file with `LIBSSH2_FXF_…` flags and, for a new one, permission bits.
    pub(in crate::ssh) fn open(&self, path: &[u8], flags: c_ulong, mode: u32) -> Answer<SftpFile> {
        self.open_handle(path, flags, mode, sys::LIBSSH2_SFTP_OPENFILE)
    }

    fn open_handle(&self, path: &[u8], flags: c_ulong, mode: u32, kind: c_int) -> Answer<SftpFile> {
        let length = short(path.len())?;
        let opened = self.with(|session, sftp| {
            let path = path.as_ptr().cast();
            // SAFETY: see `with`; libssh2 copies the path.
            let handle = unsafe { sys::libssh2_sftp_open_ex(sftp, path, length, flags, c_long::from(mode), kind) };
            NonNull::new(handle).ok_or_else(|| last_failure(session))
        });
        match opened {
            Ok(handle) => Ok(SftpFile { sftp: self.clone(), handle, is_freed: false }),
            Err(failure) => Err(self.with_sftp_status(failure)),
        }
    }

    /// Opens a directory to list it.
    pub(in crate::ssh) fn open_dir(&self, path: &[u8]) -> Answer<SftpFile> {
        self.open_handle(path, 0, 0, sys::LIBSSH2_SFTP_OPENDIR)
    }

    /// Follows links.
    pub(in crate::ssh) fn stat(&self, path: &[u8]) -> Answer<Attributes> {
        require_attrs(self.stat_ex(path, sys::LIBSSH2_SFTP_STAT, Attributes::default())?)
    }

    /// Of a link itself.
    pub(in crate::ssh) fn lstat(&self, path: &[u8]) -> Answer<Attributes> {
        require_attrs(self.stat_ex(path, sys::LIBSSH2_SFTP_LSTAT, Attributes::default())?)
    }

    /// Sets what is not `None`, following links.
    pub(in crate::ssh) fn set_stat(&self, path: &[u8], attributes: Attributes) -> Answer<()> {
        // libssh2 takes attributes for an answer too, and forgets those that it was given.
        match self.stat_ex(path, sys::LIBSSH2_SFTP_SETSTAT, attributes)? {
            found if found == Attributes::default() => Ok(()),
            _ => Err(unexpected_reply()),
        }
    }

    fn stat_ex(&self, path: &[u8], kind: c_int, attributes: Attributes) -> Answer<Attributes> {
        let length = short(path.len())?;
        let mut attributes = attributes.to_raw();
        // SAFETY: see `with`; libssh2 reads or fills the attributes, which are ours.
        self.with(|session, sftp| unsafe {
            let (path, attributes) = (path.as_ptr().cast(), &raw mut attributes);
            check(session, sys::libssh2_sftp_stat_ex(sftp, path, length, kind, attributes))
        })
        .map_err(|failure| self.with_sftp_status(failure))?;
        Ok(Attributes::from_raw(&attributes))
    }

    pub(in crate::ssh) fn unlink(&self, path: &[u8]) -> Answer<()> {
        let length = short(path.len())?;
        // SAFETY: see `with`.
        self.with(|session, sftp| unsafe {
            check(session, sys::libssh2_sftp_unlink_ex(sftp, path.as_ptr().cast(), length))
        })
        .map_err(|failure| self.with_sftp_status(failure))
    }

    pub(in crate::ssh) fn mkdir(&self, path: &[u8], mode: u32) -> Answer<()> {
        let length = short(path.len())?;
        // SAFETY: see `with`; libssh2 copies the path.
        self.with(|session, sftp| unsafe {
            check(session, sys::libssh2_sftp_mkdir_ex(sftp, path.as_ptr().cast(), length, c_long::from(mode)))
        })
        .map_err(|failure| self.with_sftp_status(failure))
    }

    pub(in crate::ssh) fn rmdir(&self, path: &[u8]) -> Answer<()> {
        let length = short(path.len())?;
        // SAFETY: see `with`; libssh2 copies the path.
        self.with(|session, sftp| unsafe {
            check(session, sys::libssh2_sftp_rmdir_ex(sftp, path.as_ptr().cast(), length))
        })
        .map_err(|failure| self.with_sftp_status(failure))
    }

    /// Makes `link` point to `original`.
    pub(in crate::ssh) fn symlink(&self, original: &[u8], link: &[u8]) -> Answer<()> {
        // OpenSSH takes the two in the other order than the protocol says, and libssh2 sends them as given.
        let (first, second) = (short(original.len())?, short(link.len())?);
        // A server can answer with a name instead of a status, and libssh2 writes it over the link's.
        let mut written = link.to_vec();
        // SAFETY: see `with`; libssh2 copies both paths, and writes no more than `second` bytes to the second one,
        // which is ours.
        self.with(|session, sftp| unsafe {
            let (original, link) = (original.as_ptr().cast(), written.as_mut_ptr().cast());
            check(session, sys::libssh2_sftp_symlink_ex(sftp, original, first, link, second, SYMLINK))
        })
        .map_err(|failure| self.with_sftp_status(failure))?;
        if written == link { Ok(()) } else { Err(unexpected_reply()) }
    }

    /// What a link points to, or the path without links that `resolve` asks for; up to the length of `buffer`, less
    /// one.
    pub(in crate::ssh) fn read_link(&self, path: &[u8], resolve: bool, buffer: &mut [u8]) -> Answer<usize> {
        let (length, room) = (short(path.len())?, short(buffer.len())?);
        let kind = if resolve { sys::LIBSSH2_SFTP_REALPATH } else { sys::LIBSSH2_SFTP_READLINK };
        // SAFETY: see `with`; libssh2 copies the path; the buffer is ours and as long as said.
        self.with(|session, sftp| unsafe {
            let (path, target) = (path.as_ptr().cast(), buffer.as_mut_ptr().cast());
            let length = sys::libssh2_sftp_symlink_ex(sftp, path, length, target, room, kind);
            check_length(session, length as isize)
        })
        .map_err(|failure| self.with_sftp_status(failure))
    }

    /// Renames over an existing target, in one step.
    pub(in crate::ssh) fn rename_over(&self, source: &[u8], target: &[u8]) -> Answer<()> {
        // SAFETY: see `with`; libssh2 copies both paths.
        self.with(|session, sftp| unsafe {
            let (from, to) = (source.as_ptr().cast(), target.as_ptr().cast());
            check(session, libssh2_sftp_posix_rename_ex(sftp, from, source.len(), to, target.len()))
        })
        .map_err(|failure| self.with_sftp_status(failure))
    }
}

impl std::fmt::Debug for Sftp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sftp").finish_non_exhaustive()
    }
}

/// An open file or directory over SFTP. Dropping it without [`SftpFile::close`] leaves it to its session.
#[derive(Debug)]
pub(in crate::ssh) struct SftpFile {
    sftp: Sftp,
    handle: NonNull<sys::LIBSSH2_SFTP_HANDLE>,
    is_freed: bool,
}

impl Drop for SftpFile {
    fn drop(&mut self) {
        if !self.is_freed {
            self.sftp.0.dropped.lock().push(self.handle);
        }
    }
}

// SAFETY: as for `Channel`.
#[expect(unsafe_code, reason = "the pointer may move between threads")]
unsafe impl Send for SftpFile {}

#[expect(unsafe_code, reason = "calls into libssh2")]
impl SftpFile {
    /// Calls `f` with the session locked and the handle, which is valid as long as `self`: only `close` frees it.
    fn with<T>(
        &self,
        f: impl FnOnce(*mut sys::LIBSSH2_SESSION, *mut sys::LIBSSH2_SFTP_HANDLE) -> Answer<T>,
    ) -> Answer<T> {
        self.sftp
            .with(|session, _| f(session, self.handle.as_ptr()))
            .map_err(|failure| self.sftp.with_sftp_status(failure))
    }

    /// Bytes read into `buffer`, 0 at the end. libssh2 asks ahead for four times the buffer's length.
    pub(in crate::ssh) fn read(&self, buffer: &mut [u8]) -> Answer<usize> {
        // SAFETY: see `with`; the buffer is ours and as long as said.
        self.with(|session, handle| unsafe {
            check_length(session, sys::libssh2_sftp_read(handle, buffer.as_mut_ptr().cast(), buffer.len()))
        })
    }

    /// How many bytes from the front of `window` the server has acknowledged. All of it is on its way after the first
    /// call: the next call must begin with the first byte not acknowledged and may have more bytes behind it.
    pub(in crate::ssh) fn write(&self, window: &[u8]) -> Answer<usize> {
        // SAFETY: see `with`; the bytes are ours and as many as said.
        self.with(|session, handle| unsafe {
            check_length(session, sys::libssh2_sftp_write(handle, window.as_ptr().cast(), window.len()))
        })
    }

    pub(in crate::ssh) fn attributes(&self) -> Answer<Attributes> {
        require_attrs(self.attributes_ex(Attributes::default(), 0)?)
    }

    pub(in crate::ssh) fn set_attributes(&self, attributes: Attributes) -> Answer<()> {
        // libssh2 takes attributes for an answer too, and keeps those that it was given if there are none.
        if self.attributes_ex(attributes, 1)? == attributes { Ok(()) } else { Err(unexpected_reply()) }
    }

    fn attributes_ex(&self, attributes: Attributes, set: c_int) -> Answer<Attributes> {
        let mut attributes = attributes.to_raw();
        // SAFETY: see `with`; libssh2 reads or fills the attributes, which are ours.
        self.with(|session, handle| unsafe {
            check(session, sys::libssh2_sftp_fstat_ex(handle, &raw mut attributes, set))
        })?;
        Ok(Attributes::from_raw(&attributes))
    }

    /// Where the next read or write begins. Throws away what was read ahead.
    pub(in crate::ssh) fn seek(&self, offset: u64) {
        let _ = self.with(|_, handle| {
            // libssh2 forgets that it saw the file's end only if the offset changes.
            for offset in [offset ^ 1, offset] {
                // SAFETY: see `with`.
                unsafe { sys::libssh2_sftp_seek64(handle, offset) };
            }
            Ok(())
        });
    }

    /// Has the server put the file's contents on its disk. An extension that only OpenSSH has.
    pub(in crate::ssh) fn sync(&self) -> Answer<()> {
        // SAFETY: see `with`.
        self.with(|session, handle| unsafe { check(session, sys::libssh2_sftp_fsync(handle)) })
    }

    /// The next entry of a directory: the length of its name in `name`, 0 after the last, and its attributes.
    pub(in crate::ssh) fn read_dir(&self, name: &mut [u8]) -> Answer<(usize, Attributes)> {
        let mut attributes = Attributes::default().to_raw();
        // An empty name, which is none, would look like the end.
        name[0] = b'/';
        // SAFETY: see `with`; the buffer is ours and as long as said, and so are the attributes; no long form is asked
        // for.
        let length = self.with(|session, handle| unsafe {
            let (buffer, out) = (name.as_mut_ptr().cast(), &raw mut attributes);
            let length = sys::libssh2_sftp_readdir_ex(handle, buffer, name.len(), ptr::null_mut(), 0, out);
            check_length(session, length as isize)
        })?;
        let attributes = Attributes::from_raw(&attributes);
        match name[0] {
            // After the last one there are no attributes.
            _ if length > 0 && !attributes.is_possible() => Err(malformed()),
            0 => Err(malformed()),
            _ => Ok((length, attributes)),
        }
    }

    /// Closes the file; the server may report here what it could not write. Done once this returns anything but
    /// `would_block`; the file must not be used after.
    pub(in crate::ssh) fn close(&mut self) -> Answer<()> {
        // SAFETY: see `with`. libssh2 frees the handle unless the call would block; the one caller forgets it then.
        let closed = self.with(|session, handle| unsafe { check(session, sys::libssh2_sftp_close_handle(handle)) });
        self.is_freed = !closed.as_ref().is_err_and(Failure::would_block);
        closed
    }
}
