//! Open files of a sandbox.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::mem::MaybeUninit;

use parking_lot::{Mutex, MutexGuard};

use super::boundary::{self, Text, invalid, require};
use super::error::{sbx_error, sbx_status};
use super::files::sbx_metadata;
use super::sandbox::sbx_sandbox;
use crate::{Error, ErrorKind, File, OpenOptions, Result, Sandbox};

/// An open file of a sandbox, made by sbx_sandbox_open_file(). It keeps an SSH session for itself until it is closed.
/// May be used from several threads; their calls take turns. After a lost connection or a timeout it can only be freed.
/// Freed with sbx_file_free(), which also closes it but reports no error; call sbx_file_close() first to see errors.
#[derive(Debug)]
pub struct sbx_file {
    sandbox: Sandbox,
    file: Mutex<Option<File>>,
}

impl sbx_file {
    fn lock(&self) -> Result<MutexGuard<'_, Option<File>>> {
        self.sandbox.lock(&self.file)
    }

    fn with<T>(&self, run: impl FnOnce(&mut File) -> Result<T>) -> Result<T> {
        run(self.lock()?.as_mut().ok_or_else(closed)?)
    }
}

/// Bytes that a file is read by: as many as one round trip is enough for.
const AT_ONCE: usize = 4 << 20;

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the file was closed")
}

/// The library's own error in one of the standard library.
fn ours(e: io::Error) -> Error {
    e.downcast().unwrap_or_else(|e| Error::new(ErrorKind::Transfer, e.to_string()))
}

/// How sbx_sandbox_open_file() opens a file; combine them with |.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum sbx_open {
    /// For reading.
    SBX_OPEN_READ = 1,
    /// For writing, without truncating.
    SBX_OPEN_WRITE = 2,
    /// For writing at the end of the file, even if it has grown meanwhile.
    SBX_OPEN_APPEND = 4,
    /// Truncates an existing file. Needs SBX_OPEN_WRITE.
    SBX_OPEN_TRUNCATE = 8,
    /// Creates the file if it does not exist. Needs SBX_OPEN_WRITE or SBX_OPEN_APPEND.
    SBX_OPEN_CREATE = 16,
    /// Creates the file, and fails if the name exists, even as a broken link. Needs SBX_OPEN_WRITE or SBX_OPEN_APPEND.
    SBX_OPEN_CREATE_NEW = 32,
}

/// What sbx_file_seek() counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum sbx_seek {
    /// The beginning of the file.
    SBX_SEEK_START = 0,
    /// The position.
    SBX_SEEK_CURRENT = 1,
    /// The end of the file.
    SBX_SEEK_END = 2,
}

/// Opens a file with the sbx_open `flags`. A new file gets the permission bits `mode`, such as 0644, minus the
/// sandbox's umask. The caller closes it with sbx_file_close() and frees it with sbx_file_free(). Fails as
/// sbx_sandbox_upload_file(); SBX_ERR_FILE_EXISTS if SBX_OPEN_CREATE_NEW is set and the file exists.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_sandbox_open_file(
    sandbox: Option<&sbx_sandbox>,
    path: Text,
    flags: i32,
    mode: u32,
    file: Option<&mut MaybeUninit<*mut sbx_file>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (sandbox, path, place) = (require(sandbox, "sandbox")?, path.bytes("path")?, require(file, "file")?);
        let has = |flag: sbx_open| flags & flag as i32 != 0;
        let options = OpenOptions::new()
            .read(has(sbx_open::SBX_OPEN_READ))
            .write(has(sbx_open::SBX_OPEN_WRITE))
            .append(has(sbx_open::SBX_OPEN_APPEND))
            .truncate(has(sbx_open::SBX_OPEN_TRUNCATE))
            .create(has(sbx_open::SBX_OPEN_CREATE))
            .create_new(has(sbx_open::SBX_OPEN_CREATE_NEW))
            .mode(mode)
            .clone();
        if !(0..64).contains(&flags) {
            return Err(invalid(format!("{flags} is not a valid combination of sbx_open flags")));
        }
        let sandbox = sandbox.sandbox.clone();
        let file = Mutex::new(Some(sandbox.files().open_with(path, &options)?));
        boundary::write_handle(place, sbx_file { sandbox, file });
        Ok(())
    })
}

/// Reads from the current position into the `capacity` bytes at `buffer`, and sets `*len` to their number: 0 at the end
/// of the file, else 1 or more, possibly fewer than the file has. Fails as sbx_sandbox_upload_file();
/// SBX_ERR_INVALID_ARGUMENT if `capacity` is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_file_read(
    file: Option<&sbx_file>,
    buffer: *mut u8,
    capacity: usize,
    len: Option<&mut MaybeUninit<usize>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (file, len) = (require(file, "file")?, require(len, "len")?);
        let read = |buffer: &mut [u8]| file.with(|file| file.read(buffer).map_err(ours));
        // SAFETY: the C caller promises room for `capacity` bytes at `buffer` during the call.
        let length = unsafe { boundary::fill(buffer, capacity, AT_ONCE, read) }?;
        boundary::write_out(Some(len), length);
        Ok(())
    })
}

/// Writes all `len` bytes at `data` at the current position, or at the end of a file opened with SBX_OPEN_APPEND.
/// `data` may be NULL if `len` is 0. Fails as sbx_sandbox_upload_file(); some of the bytes may be written then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_file_write(
    file: Option<&sbx_file>,
    data: *const u8,
    len: usize,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        // SAFETY: the C caller promises `len` bytes at `data` during the call.
        let data = unsafe { boundary::bytes(data, len, "data") }?;
        require(file, "file")?.with(|file| file.write_all(data).map_err(ours))
    })
}

/// Sets the position to `offset` bytes from where the sbx_seek `whence` says, and puts the new one into `*position`,
/// which may be NULL. Fails as sbx_sandbox_upload_file().
#[unsafe(no_mangle)]
pub extern "C" fn sbx_file_seek(
    file: Option<&sbx_file>,
    offset: i64,
    whence: i32,
    position: Option<&mut MaybeUninit<u64>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let target = match whence {
            whence if whence == sbx_seek::SBX_SEEK_START as i32 => {
                SeekFrom::Start(u64::try_from(offset).map_err(|_| invalid("a seek to before the file's start"))?)
            }
            whence if whence == sbx_seek::SBX_SEEK_CURRENT as i32 => SeekFrom::Current(offset),
            whence if whence == sbx_seek::SBX_SEEK_END as i32 => SeekFrom::End(offset),
            whence => return Err(invalid(format!("{whence} is not a valid sbx_seek"))),
        };
        let reached = require(file, "file")?.with(|file| file.seek(target).map_err(ours))?;
        boundary::write_out(position, reached);
        Ok(())
    })
}

/// Gets the file's metadata. The caller frees it with sbx_metadata_free(). Fails as sbx_sandbox_upload_file().
#[unsafe(no_mangle)]
pub extern "C" fn sbx_file_metadata(
    file: Option<&sbx_file>,
    metadata: Option<&mut MaybeUninit<*mut sbx_metadata>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (file, place) = (require(file, "file")?, require(metadata, "metadata")?);
        file.with(File::metadata).map(|found| boundary::write_handle(place, sbx_metadata(found)))
    })
}

/// Truncates the file to `size` bytes, or extends it with zeros. Fails as sbx_sandbox_upload_file().
#[unsafe(no_mangle)]
pub extern "C" fn sbx_file_set_size(
    file: Option<&sbx_file>,
    size: u64,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || require(file, "file")?.with(|file| file.set_len(size)))
}

/// Sets its permission bits, such as 0755. Fails as sbx_sandbox_upload_file().
#[unsafe(no_mangle)]
pub extern "C" fn sbx_file_set_permissions(
    file: Option<&sbx_file>,
    mode: u32,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || require(file, "file")?.with(|file| file.set_permissions(mode)))
}

/// Syncs the file's contents to the sandbox's disk (fsync). Fails as sbx_sandbox_upload_file(); SBX_ERR_TRANSFER if the
/// file system does not support it.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_file_sync(file: Option<&sbx_file>, err: Option<&mut MaybeUninit<*mut sbx_error>>) -> sbx_status {
    boundary::call(err, || require(file, "file")?.with(File::sync_all))
}

/// Closes the file and reports write errors; some file systems report them only on close. The handle must still be
/// freed. Fails as sbx_sandbox_upload_file(); SBX_ERR_CLOSED if it was closed before.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_file_close(file: Option<&sbx_file>, err: Option<&mut MaybeUninit<*mut sbx_error>>) -> sbx_status {
    boundary::call(err, || {
        let file = require(file, "file")?.lock()?.take();
        file.ok_or_else(closed)?.close()
    })
}

/// Frees a file, and closes it if it is open, which takes up to 2 seconds.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_file_free(file: Option<Box<sbx_file>>) {
    boundary::free(file);
}
