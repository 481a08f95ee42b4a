//! Transfers with options: files, directories, and whatever the caller reads from or writes to.

use std::ffi::{CString, c_char, c_void};
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::ptr;

use super::boundary::{self, Text, invalid, require};
use super::error::{sbx_error, sbx_status};
use super::sandbox::sbx_sandbox;
use crate::{Error, Progress, Result, Sandbox, Transfer, Transferred, TreeReport};

/// Options for uploads and downloads, made by sbx_sandbox_transfer() and freed with sbx_transfer_free(). It may be used
/// again and again, from several threads too. It keeps what it needs of its sandbox alive.
///
/// By default nothing is resumed, nothing is synced to disk, and no checksum is compared: SSH protects every packet
/// with a MAC, and the server acknowledges every write.
#[derive(Debug)]
pub struct sbx_transfer {
    sandbox: Sandbox,
    checksum: bool,
    sync: bool,
    resume: bool,
    mode: Option<u32>,
    max_bytes: Option<u64>,
    max_entries: Option<u64>,
}

impl sbx_transfer {
    fn begin(&self, progress: sbx_progress_fn, userdata: *mut c_void) -> Transfer<'_> {
        let transfer = self.sandbox.files().transfer();
        let mut transfer = transfer.checksum(self.checksum).sync(self.sync).resume(self.resume);
        if let Some(mode) = self.mode {
            transfer = transfer.mode(mode);
        }
        if let Some(bytes) = self.max_bytes {
            transfer = transfer.max_bytes(bytes);
        }
        if let Some(entries) = self.max_entries {
            transfer = transfer.max_entries(entries);
        }
        let Some(progress) = progress else { return transfer };
        transfer.progress(move |at: &Progress<'_>| {
            let path = CString::new(at.path.as_os_str().as_bytes()).unwrap_or_default();
            let total = at.total.map_or(-1, |total| i64::try_from(total).unwrap_or(i64::MAX));
            // SAFETY: the C caller gave a function of this type, which gets a valid text.
            go_on(unsafe { progress(userdata, path.as_ptr(), at.done, total) })
        })
    }
}

fn go_on(answer: i32) -> Result<()> {
    match answer {
        0 => Ok(()),
        answer => Err(Error::cancelled(format!("the callback returned {answer}"))),
    }
}

/// Reports the progress of a transfer: at the beginning, at the end, and up to 20 times a second in between. `path` is
/// the file being read: as the caller named it, or relative to the root of the directory that is copied. `done` of
/// `total` bytes have arrived, counting all files of a directory; `total` is -1 if it is not known. Returns 0 to
/// continue; anything else ends the transfer with SBX_ERR_CANCELLED.
///
/// It is called on the thread that called the function it was given to, and only during that call. It may call this
/// library, also for the same sandbox, but must not change or free the object whose call it is in. It must not throw,
/// longjmp or end its thread.
pub type sbx_progress_fn =
    Option<unsafe extern "C" fn(userdata: *mut c_void, path: *const c_char, done: u64, total: i64) -> i32>;

/// Writes up to `capacity` bytes of the data to upload into `buffer` and returns their number. Returns 0 at the end of
/// the data, and a negative number to end the transfer with SBX_ERR_CANCELLED; more than `capacity` ends it with
/// SBX_ERR_INVALID_ARGUMENT. The rules for threads and for calls of this library are those of sbx_progress_fn.
pub type sbx_read_fn = Option<unsafe extern "C" fn(userdata: *mut c_void, buffer: *mut u8, capacity: usize) -> i64>;

/// Receives `len` bytes at `data` of a download. Returns 0 to continue; anything else ends the transfer with
/// SBX_ERR_CANCELLED. The rules for threads and for calls of this library are those of sbx_progress_fn.
pub type sbx_write_fn = Option<unsafe extern "C" fn(userdata: *mut c_void, data: *const u8, len: usize) -> i32>;

struct Source(unsafe extern "C" fn(*mut c_void, *mut u8, usize) -> i64, *mut c_void);

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // SAFETY: the C caller gave a function of this type, which gets room for as many bytes as it is told.
        let length = unsafe { self.0(self.1, buffer.as_mut_ptr(), buffer.len()) };
        match usize::try_from(length) {
            Ok(length) if length <= buffer.len() => Ok(length),
            Ok(_) => {
                Err(invalid(format!("the callback returned {length}, but the buffer has room for {}", buffer.len()))
                    .into())
            }
            Err(_) => Err(Error::cancelled(format!("the callback returned {length}")).into()),
        }
    }
}

struct Target(unsafe extern "C" fn(*mut c_void, *const u8, usize) -> i32, *mut c_void);

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // SAFETY: the C caller gave a function of this type, which gets valid bytes.
        go_on(unsafe { self.0(self.1, bytes.as_ptr(), bytes.len()) })?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes options for transfers to and from this sandbox. The caller frees them with sbx_transfer_free().
#[unsafe(no_mangle)]
pub extern "C" fn sbx_sandbox_transfer(
    sandbox: Option<&sbx_sandbox>,
    transfer: Option<&mut MaybeUninit<*mut sbx_transfer>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (sandbox, place) = (require(sandbox, "sandbox")?.sandbox.clone(), require(transfer, "transfer")?);
        let (checksum, sync, resume, mode, max_bytes, max_entries) = (false, false, false, None, None, None);
        boundary::write_handle(place, sbx_transfer { sandbox, checksum, sync, resume, mode, max_bytes, max_entries });
        Ok(())
    })
}

/// Whether the SHA-256 of the source and of the copy are compared before the copy gets its name; in a directory, for
/// each file. Default: false.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_transfer_set_checksum(
    transfer: Option<&mut sbx_transfer>,
    checksum: bool,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        require(transfer, "transfer")?.checksum = checksum;
        Ok(())
    })
}

/// Whether contents and names are synced to the receiving disk (fsync) before a transfer returns. Default: false.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_transfer_set_sync(
    transfer: Option<&mut sbx_transfer>,
    sync: bool,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        require(transfer, "transfer")?.sync = sync;
        Ok(())
    })
}

/// Whether a failed transfer of a file keeps the partial file, and a later transfer to the same name continues from it,
/// if its SHA-256 matches the beginning of the source. Implies the checksum. A download to a device or a pipe can't be
/// resumed: SBX_ERR_INVALID_ARGUMENT. Default: false; the partial file is removed.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_transfer_set_resume(
    transfer: Option<&mut sbx_transfer>,
    resume: bool,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        require(transfer, "transfer")?.resume = resume;
        Ok(())
    })
}

/// Permission bits of a new file that an upload creates, such as 0600, minus the sandbox's umask. An existing file
/// keeps its own, and the files of a directory keep those they have locally. Default: those of the local file, or 0666.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_transfer_set_mode(
    transfer: Option<&mut sbx_transfer>,
    mode: u32,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        require(transfer, "transfer")?.mode = Some(mode);
        Ok(())
    })
}

/// The most bytes of contents that a download may have; beyond that it fails with SBX_ERR_TRANSFER. Default: no limit.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_transfer_set_max_bytes(
    transfer: Option<&mut sbx_transfer>,
    max_bytes: u64,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        require(transfer, "transfer")?.max_bytes = Some(max_bytes);
        Ok(())
    })
}

/// The most entries that the download of a directory may have; beyond that it fails with SBX_ERR_TRANSFER. Default: no
/// limit.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_transfer_set_max_entries(
    transfer: Option<&mut sbx_transfer>,
    max_entries: u64,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        require(transfer, "transfer")?.max_entries = Some(max_entries);
        Ok(())
    })
}

/// Copies the local file `local` to `remote`, as sbx_sandbox_upload_file(). `progress` may be NULL. The caller frees
/// `*transferred` with sbx_transferred_free(); `transferred` may be NULL.
///
/// Fails as sbx_sandbox_upload_file(); SBX_ERR_TRANSFER also if the checksums differ, SBX_ERR_CANCELLED if the callback
/// cancels.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_transfer_upload(
    transfer: Option<&sbx_transfer>,
    local: Text,
    remote: Text,
    progress: sbx_progress_fn,
    userdata: *mut c_void,
    transferred: Option<&mut MaybeUninit<*mut sbx_transferred>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (transfer, local, remote) =
            (require(transfer, "transfer")?, local.bytes("local")?, remote.bytes("remote")?);
        sbx_transferred::write_handle(transferred, transfer.begin(progress, userdata).upload(local, remote)?);
        Ok(())
    })
}

/// Copies `remote` to the local file `local`; otherwise as sbx_transfer_upload().
#[unsafe(no_mangle)]
pub extern "C" fn sbx_transfer_download(
    transfer: Option<&sbx_transfer>,
    remote: Text,
    local: Text,
    progress: sbx_progress_fn,
    userdata: *mut c_void,
    transferred: Option<&mut MaybeUninit<*mut sbx_transferred>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (transfer, remote, local) =
            (require(transfer, "transfer")?, remote.bytes("remote")?, local.bytes("local")?);
        sbx_transferred::write_handle(transferred, transfer.begin(progress, userdata).download(remote, local)?);
        Ok(())
    })
}

/// Copies all that `read` gives to the file `remote`, with permissions as from sbx_sandbox_write_file(). `read` and
/// `progress` get the same `userdata`. With sbx_transfer_set_resume() it fails with SBX_ERR_INVALID_ARGUMENT. Otherwise
/// as sbx_transfer_upload().
#[unsafe(no_mangle)]
pub extern "C" fn sbx_transfer_upload_from(
    transfer: Option<&sbx_transfer>,
    read: sbx_read_fn,
    remote: Text,
    progress: sbx_progress_fn,
    userdata: *mut c_void,
    transferred: Option<&mut MaybeUninit<*mut sbx_transferred>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (transfer, read) = (require(transfer, "transfer")?, require(read, "read")?);
        let source = Source(read, userdata);
        let moved = transfer.begin(progress, userdata).upload_from(source, remote.bytes("remote")?)?;
        sbx_transferred::write_handle(transferred, moved);
        Ok(())
    })
}

/// Hands the contents of the file `remote` to `write`. `write` and `progress` get the same `userdata`. With
/// sbx_transfer_set_resume() it fails with SBX_ERR_INVALID_ARGUMENT. Otherwise as sbx_transfer_upload().
#[unsafe(no_mangle)]
pub extern "C" fn sbx_transfer_download_to(
    transfer: Option<&sbx_transfer>,
    remote: Text,
    write: sbx_write_fn,
    progress: sbx_progress_fn,
    userdata: *mut c_void,
    transferred: Option<&mut MaybeUninit<*mut sbx_transferred>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (transfer, write) = (require(transfer, "transfer")?, require(write, "write")?);
        let target = Target(write, userdata);
        let moved = transfer.begin(progress, userdata).download_to(remote.bytes("remote")?, target)?;
        sbx_transferred::write_handle(transferred, moved);
        Ok(())
    })
}

/// Copies the local directory `local` with all that is in it to `remote`, as one stream: with modes, times of
/// modification in nanoseconds, symbolic links as they are, empty directories and the holes of sparse files. Sockets,
/// pipes and devices are left out, and the report lists them. `progress` may be NULL. The caller frees `*report` with
/// sbx_tree_report_free(); `report` may be NULL.
///
/// No file gets its name before everything has arrived. If `remote` does not exist, it appears complete. If it is a
/// directory, the two are merged: files and links replace files and links, each atomically and with the modes of the
/// tree, read-only ones too; what a link led to and what exists only in the target stay. Obstacles, such as a device in
/// the place of a file, are found before the merge begins.
///
/// Fails as sbx_sandbox_upload_file(); SBX_ERR_NOT_A_DIRECTORY if a path exists that should be a directory and is not,
/// SBX_ERR_CANCELLED if the callback cancels, SBX_ERR_INVALID_ARGUMENT with sbx_transfer_set_resume(). If the merge
/// itself fails, it may be partly done.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_transfer_upload_dir(
    transfer: Option<&sbx_transfer>,
    local: Text,
    remote: Text,
    progress: sbx_progress_fn,
    userdata: *mut c_void,
    report: Option<&mut MaybeUninit<*mut sbx_tree_report>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (transfer, local, remote) =
            (require(transfer, "transfer")?, local.bytes("local")?, remote.bytes("remote")?);
        sbx_tree_report::write_handle(report, transfer.begin(progress, userdata).upload_dir(local, remote)?);
        Ok(())
    })
}

/// Copies the directory `remote` with all that is in it to the local directory `local`; otherwise as
/// sbx_transfer_upload_dir().
///
/// Whatever the sandbox sends, nothing is written outside of `local`, and what is kept in memory does not grow with the
/// tree. Symbolic links that lead out of the directory are left out, and the report lists them. Absolute names, names
/// with "..", files below a link, and hard links to files outside fail with SBX_ERR_TRANSFER. Set-user-id, set-group-id
/// and sticky bits are not set.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_transfer_download_dir(
    transfer: Option<&sbx_transfer>,
    remote: Text,
    local: Text,
    progress: sbx_progress_fn,
    userdata: *mut c_void,
    report: Option<&mut MaybeUninit<*mut sbx_tree_report>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (transfer, remote, local) =
            (require(transfer, "transfer")?, remote.bytes("remote")?, local.bytes("local")?);
        sbx_tree_report::write_handle(report, transfer.begin(progress, userdata).download_dir(remote, local)?);
        Ok(())
    })
}

/// Frees options.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_transfer_free(transfer: Option<Box<sbx_transfer>>) {
    boundary::free(transfer);
}

/// What the transfer of a file did. Freed with sbx_transferred_free(). May be read from several threads.
#[derive(Debug)]
pub struct sbx_transferred(Transferred);

impl sbx_transferred {
    fn write_handle(place: boundary::Out<'_, *mut Self>, transferred: Transferred) {
        if let Some(place) = place {
            boundary::write_handle(place, Self(transferred));
        }
    }
}

/// Bytes of the file; 0 for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_transferred_bytes(transferred: Option<&sbx_transferred>) -> u64 {
    boundary::get(transferred, 0, |transferred| transferred.0.bytes)
}

/// How many of the bytes had been there already, from an earlier transfer; 0 for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_transferred_resumed(transferred: Option<&sbx_transferred>) -> u64 {
    boundary::get(transferred, 0, |transferred| transferred.0.resumed)
}

/// The 32 bytes of the file's SHA-256; NULL if it was not compared.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_transferred_sha256(transferred: Option<&sbx_transferred>) -> *const u8 {
    boundary::get(transferred, ptr::null(), |transferred| {
        transferred.0.sha256.as_ref().map_or(ptr::null(), |digest| digest.as_ptr())
    })
}

/// Frees the result of a transfer.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_transferred_free(transferred: Option<Box<sbx_transferred>>) {
    boundary::free(transferred);
}

/// What the transfer of a directory did. Freed with sbx_tree_report_free(). May be read from several threads.
#[derive(Debug)]
pub struct sbx_tree_report {
    report: TreeReport,
    notes: Vec<(CString, CString)>,
}

impl sbx_tree_report {
    fn write_handle(place: boundary::Out<'_, *mut Self>, report: TreeReport) {
        let path = |path: &std::path::Path| CString::new(path.as_os_str().as_bytes()).unwrap_or_default();
        let notes = report.notes.iter().map(|note| (path(&note.path), boundary::c_text(&note.text))).collect();
        if let Some(place) = place {
            boundary::write_handle(place, Self { report, notes });
        }
    }
}

/// Regular files; a file with several hard links counts once for each. 0 for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_tree_report_files(report: Option<&sbx_tree_report>) -> u64 {
    boundary::get(report, 0, |report| report.report.files)
}

/// Directories, with the root; 0 for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_tree_report_directories(report: Option<&sbx_tree_report>) -> u64 {
    boundary::get(report, 0, |report| report.report.directories)
}

/// Symbolic links; 0 for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_tree_report_symlinks(report: Option<&sbx_tree_report>) -> u64 {
    boundary::get(report, 0, |report| report.report.symlinks)
}

/// Bytes of all files; 0 for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_tree_report_bytes(report: Option<&sbx_tree_report>) -> u64 {
    boundary::get(report, 0, |report| report.report.bytes)
}

/// How many entries were left out; 0 for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_tree_report_skipped(report: Option<&sbx_tree_report>) -> u64 {
    boundary::get(report, 0, |report| report.report.skipped)
}

/// How many notes there are: what was left out and why, and which files were changed while they were read; at most
/// 1000.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_tree_report_note_count(report: Option<&sbx_tree_report>) -> usize {
    boundary::get(report, 0, |report| report.notes.len())
}

/// The entry that a note is about, below the root of the tree: bytes; `index` counts from 0. NULL beyond the last.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_tree_report_note_path_at(report: Option<&sbx_tree_report>, index: usize) -> *const c_char {
    boundary::get_text(report, |report| report.notes.get(index).map(|(path, _)| path.as_c_str()))
}

/// The text of a note, such as "a socket"; `index` counts from 0. NULL beyond the last.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_tree_report_note_text_at(report: Option<&sbx_tree_report>, index: usize) -> *const c_char {
    boundary::get_text(report, |report| report.notes.get(index).map(|(_, text)| text.as_c_str()))
}

/// Frees a report and what was borrowed from it.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_tree_report_free(report: Option<Box<sbx_tree_report>>) {
    boundary::free(report);
}
