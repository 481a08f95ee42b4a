//! Files of a sandbox, by their paths.

use std::ffi::{CString, c_char};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::ptr;

use super::boundary::{self, NulTerminated, Text, require};
use super::error::{sbx_error, sbx_status};
use super::sandbox::sbx_sandbox;
use crate::{DirEntry, Metadata};

/// Copies the local file `local` to `remote` in the sandbox, with its permission bits, and puts the number of bytes
/// into `*size`, which may be NULL. Paths are bytes; a relative `remote` begins at the image's working directory. The
/// file arrives whole or not at all.
///
/// All functions for files fail in the same ways. Errors of the system, for the file in the sandbox or the local file
/// (the message says which): SBX_ERR_FILE_NOT_FOUND, SBX_ERR_FILE_EXISTS, SBX_ERR_IS_A_DIRECTORY,
/// SBX_ERR_NOT_A_DIRECTORY, SBX_ERR_DIRECTORY_NOT_EMPTY, SBX_ERR_PERMISSION_DENIED, SBX_ERR_READ_ONLY, SBX_ERR_BUSY,
/// SBX_ERR_NAME_TOO_LONG, SBX_ERR_STORAGE_FULL, and SBX_ERR_TRANSFER for all others; sbx_error_errno() has the number.
/// SBX_ERR_INVALID_ARGUMENT for an invalid path, SBX_ERR_NOT_FOUND if the sandbox is gone, SBX_ERR_TIMED_OUT after the
/// configured transfer_timeout, which applies to each call. After a lost connection: SBX_ERR_DISCONNECTED if the call
/// is safe to repeat, SBX_ERR_OUTCOME_UNKNOWN if the change may have been made. The message names the file.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_sandbox_upload_file(
    sandbox: Option<&sbx_sandbox>,
    local: Text,
    remote: Text,
    size: Option<&mut MaybeUninit<u64>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (local, remote) = (local.bytes("local")?, remote.bytes("remote")?);
        require(sandbox, "sandbox")?.sandbox.upload_file(local, remote).map(|bytes| boundary::write_out(size, bytes))
    })
}

/// Copies `remote` in the sandbox to the local file `local`; otherwise as sbx_sandbox_upload_file().
#[unsafe(no_mangle)]
pub extern "C" fn sbx_sandbox_download_file(
    sandbox: Option<&sbx_sandbox>,
    remote: Text,
    local: Text,
    size: Option<&mut MaybeUninit<u64>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (remote, local) = (remote.bytes("remote")?, local.bytes("local")?);
        require(sandbox, "sandbox")?.sandbox.download_file(remote, local).map(|bytes| boundary::write_out(size, bytes))
    })
}

/// Writes `len` bytes at `data` to the file `remote` in the sandbox, which gets permissions rw-rw-rw- minus the
/// sandbox's umask if it is new. `data` may be NULL if `len` is 0. Otherwise as sbx_sandbox_upload_file().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_sandbox_write_file(
    sandbox: Option<&sbx_sandbox>,
    remote: Text,
    data: *const u8,
    len: usize,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (sandbox, remote) = (require(sandbox, "sandbox")?, remote.bytes("remote")?);
        // SAFETY: the C caller promises `len` bytes at `data` during the call.
        let data = unsafe { boundary::bytes(data, len, "data") }?;
        sandbox.sandbox.files().write(remote, data)
    })
}

/// Reads the file `remote` in the sandbox, of 1 GiB at most. The caller frees the bytes with sbx_bytes_free(). Fails as
/// sbx_sandbox_upload_file().
#[unsafe(no_mangle)]
pub extern "C" fn sbx_sandbox_read_file(
    sandbox: Option<&sbx_sandbox>,
    remote: Text,
    bytes: Option<&mut MaybeUninit<*mut sbx_bytes>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (sandbox, remote) = (require(sandbox, "sandbox")?, remote.bytes("remote")?);
        let place = require(bytes, "bytes")?;
        sandbox.sandbox.files().read(remote).map(|contents| boundary::write_handle(place, sbx_bytes::new(contents)))
    })
}

/// Bytes that came from the sandbox, such as the contents of a file. Freed with sbx_bytes_free(). May be read from
/// several threads.
#[derive(Debug)]
pub struct sbx_bytes(NulTerminated);

impl sbx_bytes {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self(NulTerminated::new(bytes))
    }
}

/// The bytes, borrowed from the handle, and their number in `*len`; they are followed by a NUL. `len` may be NULL.
/// Returns NULL, with 0 in `*len`, only if the handle is NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_bytes_data(bytes: Option<&sbx_bytes>, len: Option<&mut MaybeUninit<usize>>) -> *const u8 {
    boundary::get_bytes(bytes, len, |bytes| Some(&bytes.0))
}

/// Frees bytes.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_bytes_free(bytes: Option<Box<sbx_bytes>>) {
    boundary::free(bytes);
}

/// Writes `len` bytes at `data` at the end of the file `remote`, which is created as by sbx_sandbox_write_file() if it
/// does not exist. After a failure some of the bytes may have been written. `data` may be NULL if `len` is 0. Fails as
/// sbx_sandbox_upload_file().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_sandbox_append_file(
    sandbox: Option<&sbx_sandbox>,
    remote: Text,
    data: *const u8,
    len: usize,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (sandbox, remote) = (require(sandbox, "sandbox")?, remote.bytes("remote")?);
        // SAFETY: the C caller promises `len` bytes at `data` during the call.
        let data = unsafe { boundary::bytes(data, len, "data") }?;
        sandbox.sandbox.files().append(remote, data)
    })
}

/// Gets the metadata of a file; links are followed. The caller frees it with sbx_metadata_free(). Fails as
/// sbx_sandbox_upload_file().
#[unsafe(no_mangle)]
pub extern "C" fn sbx_sandbox_file_metadata(
    sandbox: Option<&sbx_sandbox>,
    path: Text,
    metadata: Option<&mut MaybeUninit<*mut sbx_metadata>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (sandbox, path, place) =
            (require(sandbox, "sandbox")?, path.bytes("path")?, require(metadata, "metadata")?);
        sandbox.sandbox.files().metadata(path).map(|found| boundary::write_handle(place, sbx_metadata(found)))
    })
}

/// As sbx_sandbox_file_metadata(), but does not follow a link.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_sandbox_symlink_metadata(
    sandbox: Option<&sbx_sandbox>,
    path: Text,
    metadata: Option<&mut MaybeUninit<*mut sbx_metadata>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (sandbox, path, place) =
            (require(sandbox, "sandbox")?, path.bytes("path")?, require(metadata, "metadata")?);
        sandbox.sandbox.files().symlink_metadata(path).map(|found| boundary::write_handle(place, sbx_metadata(found)))
    })
}

/// Sets `*exists` to whether the file exists; links are followed, so a broken link does not exist. Fails as
/// sbx_sandbox_upload_file(), except that a missing file is no error.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_sandbox_file_exists(
    sandbox: Option<&sbx_sandbox>,
    path: Text,
    exists: Option<&mut MaybeUninit<bool>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let path = path.bytes("path")?;
        boundary::write_out(exists, require(sandbox, "sandbox")?.sandbox.files().exists(path)?);
        Ok(())
    })
}

/// Lists all entries of a directory except "." and "..", in no particular order. The caller frees the list with
/// sbx_dir_entries_free(). Fails as sbx_sandbox_upload_file(); SBX_ERR_TRANSFER for more than 1048576 entries or 64 MiB
/// of names.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_sandbox_read_dir(
    sandbox: Option<&sbx_sandbox>,
    path: Text,
    entries: Option<&mut MaybeUninit<*mut sbx_dir_entries>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (sandbox, path, place) = (require(sandbox, "sandbox")?, path.bytes("path")?, require(entries, "entries")?);
        sandbox.sandbox.files().read_dir(path).map(|found| boundary::write_handle(place, sbx_dir_entries::new(found)))
    })
}

/// Creates a directory. Fails as sbx_sandbox_upload_file(); SBX_ERR_FILE_EXISTS if the name exists.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_sandbox_create_dir(
    sandbox: Option<&sbx_sandbox>,
    path: Text,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let path = path.bytes("path")?;
        require(sandbox, "sandbox")?.sandbox.files().create_dir(path)
    })
}

/// Creates a directory and its missing parents. Fails as sbx_sandbox_upload_file(); SBX_ERR_FILE_EXISTS if the name
/// exists and is not a directory, SBX_ERR_NOT_A_DIRECTORY if a parent is not a directory.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_sandbox_create_dir_all(
    sandbox: Option<&sbx_sandbox>,
    path: Text,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let path = path.bytes("path")?;
        require(sandbox, "sandbox")?.sandbox.files().create_dir_all(path)
    })
}

/// Removes a file, or a link itself. Fails as sbx_sandbox_upload_file(); SBX_ERR_IS_A_DIRECTORY for a directory.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_sandbox_remove_file(
    sandbox: Option<&sbx_sandbox>,
    path: Text,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let path = path.bytes("path")?;
        require(sandbox, "sandbox")?.sandbox.files().remove_file(path)
    })
}

/// Removes an empty directory. Fails as sbx_sandbox_upload_file(); SBX_ERR_DIRECTORY_NOT_EMPTY if it is not empty,
/// SBX_ERR_NOT_A_DIRECTORY if it is not a directory.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_sandbox_remove_dir(
    sandbox: Option<&sbx_sandbox>,
    path: Text,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let path = path.bytes("path")?;
        require(sandbox, "sandbox")?.sandbox.files().remove_dir(path)
    })
}

/// Removes a directory and all that is in it. Links are removed, not followed. Fails as sbx_sandbox_upload_file();
/// SBX_ERR_NOT_A_DIRECTORY if it is not a directory. After a failure, part of the contents may be removed.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_sandbox_remove_dir_all(
    sandbox: Option<&sbx_sandbox>,
    path: Text,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let path = path.bytes("path")?;
        require(sandbox, "sandbox")?.sandbox.files().remove_dir_all(path)
    })
}

/// Renames a file or directory, atomically. An existing file of the new name is replaced; a directory replaces an empty
/// directory. Fails as sbx_sandbox_upload_file(); SBX_ERR_IS_A_DIRECTORY, SBX_ERR_NOT_A_DIRECTORY or
/// SBX_ERR_DIRECTORY_NOT_EMPTY if the target can't be replaced, SBX_ERR_TRANSFER with EXDEV if the names are on
/// different file systems.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_sandbox_rename_file(
    sandbox: Option<&sbx_sandbox>,
    from: Text,
    to: Text,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (from, to) = (from.bytes("from")?, to.bytes("to")?);
        require(sandbox, "sandbox")?.sandbox.files().rename(from, to)
    })
}

/// Sets the permission bits, such as 0755; links are followed. Fails as sbx_sandbox_upload_file().
#[unsafe(no_mangle)]
pub extern "C" fn sbx_sandbox_set_file_permissions(
    sandbox: Option<&sbx_sandbox>,
    path: Text,
    mode: u32,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let path = path.bytes("path")?;
        require(sandbox, "sandbox")?.sandbox.files().set_permissions(path, mode)
    })
}

/// Makes the symbolic link `link` that points to `original`, which need not exist. Fails as sbx_sandbox_upload_file();
/// SBX_ERR_FILE_EXISTS if the name exists.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_sandbox_create_symlink(
    sandbox: Option<&sbx_sandbox>,
    original: Text,
    link: Text,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (original, link) = (original.bytes("original")?, link.bytes("link")?);
        require(sandbox, "sandbox")?.sandbox.files().symlink(original, link)
    })
}

/// Reads the target of a symbolic link. The caller frees the bytes with sbx_bytes_free(). Fails as
/// sbx_sandbox_upload_file(); SBX_ERR_TRANSFER with EINVAL if the path is not a link.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_sandbox_read_link(
    sandbox: Option<&sbx_sandbox>,
    path: Text,
    bytes: Option<&mut MaybeUninit<*mut sbx_bytes>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (sandbox, path, place) = (require(sandbox, "sandbox")?, path.bytes("path")?, require(bytes, "bytes")?);
        let name = sandbox.sandbox.files().read_link(path)?;
        boundary::write_handle(place, sbx_bytes(NulTerminated::new(name.into_os_string().into_encoded_bytes())));
        Ok(())
    })
}

/// Resolves a path to an absolute one without links, "." and "..". The caller frees the bytes with sbx_bytes_free().
/// Fails as sbx_sandbox_upload_file().
#[unsafe(no_mangle)]
pub extern "C" fn sbx_sandbox_resolve_path(
    sandbox: Option<&sbx_sandbox>,
    path: Text,
    bytes: Option<&mut MaybeUninit<*mut sbx_bytes>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (sandbox, path, place) = (require(sandbox, "sandbox")?, path.bytes("path")?, require(bytes, "bytes")?);
        let name = sandbox.sandbox.files().canonicalize(path)?;
        boundary::write_handle(place, sbx_bytes(NulTerminated::new(name.into_os_string().into_encoded_bytes())));
        Ok(())
    })
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum sbx_file_kind {
    /// Nothing is known.
    SBX_FILE_KIND_UNKNOWN = 0,
    /// A regular file.
    SBX_FILE_KIND_FILE = 1,
    /// A directory.
    SBX_FILE_KIND_DIRECTORY = 2,
    /// A symbolic link.
    SBX_FILE_KIND_SYMLINK = 3,
    /// A named pipe, a socket, a device.
    SBX_FILE_KIND_OTHER = 4,
}

/// What is known about a file. Freed with sbx_metadata_free() unless it was borrowed from a list. May be read from
/// several threads.
#[derive(Debug)]
pub struct sbx_metadata(pub(super) Metadata);

/// What it is; SBX_FILE_KIND_UNKNOWN for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_metadata_kind(metadata: Option<&sbx_metadata>) -> sbx_file_kind {
    boundary::get(metadata, sbx_file_kind::SBX_FILE_KIND_UNKNOWN, |metadata| match &metadata.0 {
        found if found.is_file() => sbx_file_kind::SBX_FILE_KIND_FILE,
        found if found.is_dir() => sbx_file_kind::SBX_FILE_KIND_DIRECTORY,
        found if found.is_symlink() => sbx_file_kind::SBX_FILE_KIND_SYMLINK,
        found if found.kind() == 0 => sbx_file_kind::SBX_FILE_KIND_UNKNOWN,
        _ => sbx_file_kind::SBX_FILE_KIND_OTHER,
    })
}

/// Its size in bytes; 0 for NULL. Generated files, such as those in /proc, have size 0.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_metadata_size(metadata: Option<&sbx_metadata>) -> u64 {
    boundary::get(metadata, 0, |metadata| metadata.0.len())
}

/// Its permission bits, such as 0644, with those for set-user-id, set-group-id and sticky; 0 for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_metadata_mode(metadata: Option<&sbx_metadata>) -> u32 {
    boundary::get(metadata, 0, |metadata| metadata.0.mode())
}

/// True, and when its contents were changed last in `*unix_seconds`, if that is known. `unix_seconds` may be NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_metadata_modified(
    metadata: Option<&sbx_metadata>,
    unix_seconds: Option<&mut MaybeUninit<i64>>,
) -> bool {
    boundary::get(metadata, false, |metadata| {
        boundary::write_some(unix_seconds, metadata.0.modified().map(boundary::unix_time))
    })
}

/// True, and when it was read last in `*unix_seconds`, if that is known. `unix_seconds` may be NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_metadata_accessed(
    metadata: Option<&sbx_metadata>,
    unix_seconds: Option<&mut MaybeUninit<i64>>,
) -> bool {
    boundary::get(metadata, false, |metadata| {
        boundary::write_some(unix_seconds, metadata.0.accessed().map(boundary::unix_time))
    })
}

/// Frees metadata that was not borrowed from a list.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_metadata_free(metadata: Option<Box<sbx_metadata>>) {
    boundary::free(metadata);
}

/// The entries of a directory. Freed with sbx_dir_entries_free(). May be read from several threads.
#[derive(Debug)]
pub struct sbx_dir_entries(Vec<(CString, sbx_metadata)>);

impl sbx_dir_entries {
    fn new(entries: Vec<DirEntry>) -> Self {
        // The library lets no name with a NUL through.
        let name = |entry: &DirEntry| CString::new(entry.name.as_bytes()).unwrap_or_default();
        Self(entries.into_iter().map(|entry| (name(&entry), sbx_metadata(entry.metadata))).collect())
    }
}

/// How many entries there are; 0 for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_dir_entries_count(entries: Option<&sbx_dir_entries>) -> usize {
    boundary::get(entries, 0, |entries| entries.0.len())
}

/// The name of an entry: bytes without '/', borrowed from the list; `index` counts from 0. NULL beyond the last.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_dir_entries_name_at(entries: Option<&sbx_dir_entries>, index: usize) -> *const c_char {
    boundary::get_text(entries, |entries| entries.0.get(index).map(|(name, _)| name.as_c_str()))
}

/// The metadata of an entry, of the link itself if it is one; borrowed from the list. `index` counts from 0. NULL
/// beyond the last.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_dir_entries_metadata_at(entries: Option<&sbx_dir_entries>, index: usize) -> *const sbx_metadata {
    boundary::get(entries, ptr::null(), |entries| {
        entries.0.get(index).map_or(ptr::null(), |(_, metadata)| ptr::from_ref(metadata))
    })
}

/// Frees a list of entries and what was borrowed from it.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_dir_entries_free(entries: Option<Box<sbx_dir_entries>>) {
    boundary::free(entries);
}
