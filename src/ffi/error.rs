//! Statuses and the error handle. The only place where an [`ErrorKind`] becomes a number.

use std::ffi::{CStr, CString, c_char};
use std::mem::MaybeUninit;
use std::sync::OnceLock;

use super::boundary::{self, NulTerminated};
use crate::{Cause, Error, ErrorKind, Verdict};

/// The result of a call: SBX_OK, or why it failed.
///
/// A number never changes and is never reused. A later version may have more of them.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum sbx_status {
    /// Success.
    SBX_OK = 0,

    /// An argument is invalid: a required one is NULL, a text is not UTF-8, a number is out of range. Nothing was done.
    SBX_ERR_INVALID_ARGUMENT = 1,
    /// A setting, the kubeconfig or the service account can't be used; the message names it and what is allowed.
    SBX_ERR_CONFIG = 2,
    /// A blocking call was made from asynchronous Rust code of the host program.
    SBX_ERR_ASYNC_CONTEXT = 3,
    /// The client was made before fork(); its threads don't exist in the child. Make a new client there.
    SBX_ERR_FORKED = 4,
    /// The handle was closed, or its sandbox deleted through it.
    SBX_ERR_CLOSED = 5,

    /// No such sandbox: it was never there, or is gone.
    SBX_ERR_NOT_FOUND = 20,
    /// A sandbox of that name exists already, or the key of a detached command is in use, or somebody else changed the
    /// same object at the same time.
    SBX_ERR_CONFLICT = 21,
    /// Kubernetes, or a file system, does not allow it.
    SBX_ERR_PERMISSION_DENIED = 22,
    /// A quota of the namespace, or the API server's limit of requests, is used up.
    SBX_ERR_QUOTA = 23,
    /// The disk is full, a disk quota is exceeded, or the file has reached the largest size allowed.
    SBX_ERR_STORAGE_FULL = 24,
    /// No detached command has this key. The sandbox is there.
    SBX_ERR_DETACHED_NOT_FOUND = 25,
    /// The pool has no sandbox ready, and the claim was made with SBX_ON_MISS_FAIL.
    SBX_ERR_POOL_EMPTY = 26,

    /// No such file or directory. For this and the following file errors, the message says whether the file is in the
    /// sandbox or on this machine.
    SBX_ERR_FILE_NOT_FOUND = 30,
    /// A file or directory of that name exists already.
    SBX_ERR_FILE_EXISTS = 31,
    /// The path is a directory, and the operation needs a file.
    SBX_ERR_IS_A_DIRECTORY = 32,
    /// The path, or one of its parents, is not a directory.
    SBX_ERR_NOT_A_DIRECTORY = 33,
    /// The directory is not empty.
    SBX_ERR_DIRECTORY_NOT_EMPTY = 34,
    /// The file system is read-only.
    SBX_ERR_READ_ONLY = 35,
    /// The file is in use: it is being executed, is a mount point, or another download writes to it. Also: a local port
    /// is in use.
    SBX_ERR_BUSY = 36,
    /// A file name is longer than the file system allows, or a path is longer than 4095 bytes.
    SBX_ERR_NAME_TOO_LONG = 37,

    /// The API server can't be reached or can't answer now. Trying later may help.
    SBX_ERR_UNAVAILABLE = 40,
    /// No connection to the sandbox's SSH server could be made.
    SBX_ERR_CONNECT = 41,
    /// The sandbox's SSH server refused this client's key or user name.
    SBX_ERR_AUTHENTICATION = 42,
    /// The SSH server showed another host key than the one pinned for this sandbox. Nothing was sent to it.
    SBX_ERR_HOST_KEY_MISMATCH = 43,
    /// The connection was lost, either before a request was sent or during a request that can safely be repeated.
    SBX_ERR_DISCONNECTED = 44,
    /// The operation timed out. A command's processes were killed, and the error has the output up to then.
    SBX_ERR_TIMED_OUT = 45,
    /// Nothing in the sandbox listens on the port or the socket.
    SBX_ERR_REFUSED = 46,

    /// The sandbox could not be created; the error's verdict has the reason that Kubernetes gives. The Pod was deleted
    /// again.
    SBX_ERR_CREATE = 60,
    /// The sandbox could not be deleted, or its end could not be confirmed.
    SBX_ERR_DELETE = 61,
    /// The command could not be started: it did not run.
    SBX_ERR_COMMAND = 62,
    /// The command ran and did not succeed. Only sbx_output_check() fails with this: elsewhere a non-zero exit code is
    /// not an error.
    SBX_ERR_COMMAND_FAILED = 63,
    /// The connection was lost after the request to run a command or to change a file was sent. The sandbox may have
    /// carried it out, completely or in part. The library does not repeat such a request.
    SBX_ERR_OUTCOME_UNKNOWN = 64,
    /// A transfer or another file operation failed for a reason that has no status of its own. The target of a transfer
    /// is unchanged.
    SBX_ERR_TRANSFER = 65,
    /// A callback of the caller, or the function registered with sbx_thread_on_wait(), cancelled the call.
    SBX_ERR_CANCELLED = 66,

    /// A bug in this library: a panic was caught at the C boundary. The handles stay usable.
    SBX_ERR_PANIC = 90,
}

use sbx_status::{
    SBX_ERR_ASYNC_CONTEXT, SBX_ERR_AUTHENTICATION, SBX_ERR_BUSY, SBX_ERR_CANCELLED, SBX_ERR_CLOSED, SBX_ERR_COMMAND,
    SBX_ERR_COMMAND_FAILED, SBX_ERR_CONFIG, SBX_ERR_CONFLICT, SBX_ERR_CONNECT, SBX_ERR_CREATE, SBX_ERR_DELETE,
    SBX_ERR_DETACHED_NOT_FOUND, SBX_ERR_DIRECTORY_NOT_EMPTY, SBX_ERR_DISCONNECTED, SBX_ERR_FILE_EXISTS,
    SBX_ERR_FILE_NOT_FOUND, SBX_ERR_FORKED, SBX_ERR_HOST_KEY_MISMATCH, SBX_ERR_INVALID_ARGUMENT,
    SBX_ERR_IS_A_DIRECTORY, SBX_ERR_NAME_TOO_LONG, SBX_ERR_NOT_A_DIRECTORY, SBX_ERR_NOT_FOUND, SBX_ERR_OUTCOME_UNKNOWN,
    SBX_ERR_PANIC, SBX_ERR_PERMISSION_DENIED, SBX_ERR_POOL_EMPTY, SBX_ERR_QUOTA, SBX_ERR_READ_ONLY, SBX_ERR_REFUSED,
    SBX_ERR_STORAGE_FULL, SBX_ERR_TIMED_OUT, SBX_ERR_TRANSFER, SBX_ERR_UNAVAILABLE, SBX_OK,
};

impl From<ErrorKind> for sbx_status {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::InvalidArgument => SBX_ERR_INVALID_ARGUMENT,
            ErrorKind::Config => SBX_ERR_CONFIG,
            ErrorKind::AsyncContext => SBX_ERR_ASYNC_CONTEXT,
            ErrorKind::Forked => SBX_ERR_FORKED,
            ErrorKind::Closed => SBX_ERR_CLOSED,
            ErrorKind::NotFound => SBX_ERR_NOT_FOUND,
            ErrorKind::Conflict => SBX_ERR_CONFLICT,
            ErrorKind::PermissionDenied => SBX_ERR_PERMISSION_DENIED,
            ErrorKind::Quota => SBX_ERR_QUOTA,
            ErrorKind::StorageFull => SBX_ERR_STORAGE_FULL,
            ErrorKind::DetachedNotFound => SBX_ERR_DETACHED_NOT_FOUND,
            ErrorKind::PoolEmpty => SBX_ERR_POOL_EMPTY,
            ErrorKind::FileNotFound => SBX_ERR_FILE_NOT_FOUND,
            ErrorKind::FileExists => SBX_ERR_FILE_EXISTS,
            ErrorKind::IsADirectory => SBX_ERR_IS_A_DIRECTORY,
            ErrorKind::NotADirectory => SBX_ERR_NOT_A_DIRECTORY,
            ErrorKind::DirectoryNotEmpty => SBX_ERR_DIRECTORY_NOT_EMPTY,
            ErrorKind::ReadOnly => SBX_ERR_READ_ONLY,
            ErrorKind::Busy => SBX_ERR_BUSY,
            ErrorKind::NameTooLong => SBX_ERR_NAME_TOO_LONG,
            ErrorKind::Unavailable => SBX_ERR_UNAVAILABLE,
            ErrorKind::Connect => SBX_ERR_CONNECT,
            ErrorKind::Authentication => SBX_ERR_AUTHENTICATION,
            ErrorKind::HostKeyMismatch => SBX_ERR_HOST_KEY_MISMATCH,
            ErrorKind::Disconnected => SBX_ERR_DISCONNECTED,
            ErrorKind::TimedOut => SBX_ERR_TIMED_OUT,
            ErrorKind::Refused => SBX_ERR_REFUSED,
            ErrorKind::Create => SBX_ERR_CREATE,
            ErrorKind::Delete => SBX_ERR_DELETE,
            ErrorKind::Command => SBX_ERR_COMMAND,
            ErrorKind::CommandFailed => SBX_ERR_COMMAND_FAILED,
            ErrorKind::OutcomeUnknown => SBX_ERR_OUTCOME_UNKNOWN,
            ErrorKind::Transfer => SBX_ERR_TRANSFER,
            ErrorKind::Cancelled => SBX_ERR_CANCELLED,
            ErrorKind::Panic => SBX_ERR_PANIC,
        }
    }
}

/// Every status with its name. The tests compare it with the enum.
const STATUSES: &[(sbx_status, &CStr)] = &[
    (SBX_OK, c"SBX_OK"),
    (SBX_ERR_INVALID_ARGUMENT, c"SBX_ERR_INVALID_ARGUMENT"),
    (SBX_ERR_CONFIG, c"SBX_ERR_CONFIG"),
    (SBX_ERR_ASYNC_CONTEXT, c"SBX_ERR_ASYNC_CONTEXT"),
    (SBX_ERR_FORKED, c"SBX_ERR_FORKED"),
    (SBX_ERR_CLOSED, c"SBX_ERR_CLOSED"),
    (SBX_ERR_NOT_FOUND, c"SBX_ERR_NOT_FOUND"),
    (SBX_ERR_CONFLICT, c"SBX_ERR_CONFLICT"),
    (SBX_ERR_PERMISSION_DENIED, c"SBX_ERR_PERMISSION_DENIED"),
    (SBX_ERR_QUOTA, c"SBX_ERR_QUOTA"),
    (SBX_ERR_STORAGE_FULL, c"SBX_ERR_STORAGE_FULL"),
    (SBX_ERR_DETACHED_NOT_FOUND, c"SBX_ERR_DETACHED_NOT_FOUND"),
    (SBX_ERR_POOL_EMPTY, c"SBX_ERR_POOL_EMPTY"),
    (SBX_ERR_FILE_NOT_FOUND, c"SBX_ERR_FILE_NOT_FOUND"),
    (SBX_ERR_FILE_EXISTS, c"SBX_ERR_FILE_EXISTS"),
    (SBX_ERR_IS_A_DIRECTORY, c"SBX_ERR_IS_A_DIRECTORY"),
    (SBX_ERR_NOT_A_DIRECTORY, c"SBX_ERR_NOT_A_DIRECTORY"),
    (SBX_ERR_DIRECTORY_NOT_EMPTY, c"SBX_ERR_DIRECTORY_NOT_EMPTY"),
    (SBX_ERR_READ_ONLY, c"SBX_ERR_READ_ONLY"),
    (SBX_ERR_BUSY, c"SBX_ERR_BUSY"),
    (SBX_ERR_NAME_TOO_LONG, c"SBX_ERR_NAME_TOO_LONG"),
    (SBX_ERR_UNAVAILABLE, c"SBX_ERR_UNAVAILABLE"),
    (SBX_ERR_CONNECT, c"SBX_ERR_CONNECT"),
    (SBX_ERR_AUTHENTICATION, c"SBX_ERR_AUTHENTICATION"),
    (SBX_ERR_HOST_KEY_MISMATCH, c"SBX_ERR_HOST_KEY_MISMATCH"),
    (SBX_ERR_DISCONNECTED, c"SBX_ERR_DISCONNECTED"),
    (SBX_ERR_TIMED_OUT, c"SBX_ERR_TIMED_OUT"),
    (SBX_ERR_REFUSED, c"SBX_ERR_REFUSED"),
    (SBX_ERR_CREATE, c"SBX_ERR_CREATE"),
    (SBX_ERR_DELETE, c"SBX_ERR_DELETE"),
    (SBX_ERR_COMMAND, c"SBX_ERR_COMMAND"),
    (SBX_ERR_COMMAND_FAILED, c"SBX_ERR_COMMAND_FAILED"),
    (SBX_ERR_OUTCOME_UNKNOWN, c"SBX_ERR_OUTCOME_UNKNOWN"),
    (SBX_ERR_TRANSFER, c"SBX_ERR_TRANSFER"),
    (SBX_ERR_CANCELLED, c"SBX_ERR_CANCELLED"),
    (SBX_ERR_PANIC, c"SBX_ERR_PANIC"),
];

/// The name of a status, such as "SBX_ERR_NOT_FOUND"; NULL for a number that is none. The text is static.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_status_name(status: i32) -> *const c_char {
    boundary::get_text(Some(&()), |()| {
        STATUSES.iter().find(|(known, _)| *known as i32 == status).map(|(_, name)| *name)
    })
}

/// How many statuses there are, SBX_OK included; see sbx_status_at().
#[unsafe(no_mangle)]
pub extern "C" fn sbx_status_count() -> usize {
    boundary::get(Some(&()), 0, |()| STATUSES.len())
}

/// The statuses one by one, for bindings that check that they know all: `index` counts from 0. SBX_OK beyond the last.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_status_at(index: usize) -> sbx_status {
    boundary::get(Some(&()), SBX_OK, |()| STATUSES.get(index).map_or(SBX_OK, |(status, _)| *status))
}

/// Why a Pod can't start or has stopped, according to Kubernetes. A later version may have more of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum sbx_cause {
    /// There is no verdict.
    SBX_CAUSE_NONE = 0,
    /// The image does not exist, can't be reached, or needs credentials.
    SBX_CAUSE_IMAGE_PULL = 1,
    /// No node can take the Pod.
    SBX_CAUSE_UNSCHEDULABLE = 2,
    /// A quota of the namespace forbids it.
    SBX_CAUSE_QUOTA = 3,
    /// Admission (Pod security, a policy, a webhook) or validation rejected the Pod.
    SBX_CAUSE_REJECTED = 4,
    /// The container can't be set up: a missing Secret or ConfigMap, a bad command, a failed volume.
    SBX_CAUSE_CONFIGURATION = 5,
    /// The container's main process ended by itself.
    SBX_CAUSE_EXITED = 6,
    /// The container used more memory than its limit and was killed.
    SBX_CAUSE_OUT_OF_MEMORY = 7,
    /// The node evicted the Pod.
    SBX_CAUSE_EVICTED = 8,
    /// The Pod reached its hard time limit.
    SBX_CAUSE_DEADLINE_EXCEEDED = 9,
    /// The sandbox reached its own expiry.
    SBX_CAUSE_EXPIRED = 10,
    /// The Pod was deleted, or is being deleted.
    SBX_CAUSE_DELETED = 11,
    /// The node is gone or does not answer.
    SBX_CAUSE_NODE_LOST = 12,
    /// Kubernetes reports no problem; the verdict is the last state seen.
    SBX_CAUSE_PENDING = 13,
}

impl From<Cause> for sbx_cause {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::ImagePull => Self::SBX_CAUSE_IMAGE_PULL,
            Cause::Unschedulable => Self::SBX_CAUSE_UNSCHEDULABLE,
            Cause::Quota => Self::SBX_CAUSE_QUOTA,
            Cause::Rejected => Self::SBX_CAUSE_REJECTED,
            Cause::Configuration => Self::SBX_CAUSE_CONFIGURATION,
            Cause::Exited => Self::SBX_CAUSE_EXITED,
            Cause::OutOfMemory => Self::SBX_CAUSE_OUT_OF_MEMORY,
            Cause::Evicted => Self::SBX_CAUSE_EVICTED,
            Cause::DeadlineExceeded => Self::SBX_CAUSE_DEADLINE_EXCEEDED,
            Cause::Expired => Self::SBX_CAUSE_EXPIRED,
            Cause::Deleted => Self::SBX_CAUSE_DELETED,
            Cause::NodeLost => Self::SBX_CAUSE_NODE_LOST,
            Cause::Pending => Self::SBX_CAUSE_PENDING,
        }
    }
}

/// A verdict as C gets it.
#[derive(Debug)]
pub(super) struct KeptVerdict {
    pub(super) cause: sbx_cause,
    pub(super) reason: CString,
    pub(super) message: CString,
}

impl From<&Verdict> for KeptVerdict {
    fn from(verdict: &Verdict) -> Self {
        Self {
            cause: verdict.cause.into(),
            reason: boundary::c_text(&verdict.reason),
            message: boundary::c_text(&verdict.message),
        }
    }
}

/// Why a call failed. Belongs to the caller, who frees it with sbx_error_free(). May be read from several threads.
#[derive(Debug)]
pub struct sbx_error {
    error: Error,
    message: CString,
    operation: CString,
    sandbox: Option<CString>,
    verdict: Option<KeptVerdict>,
    /// Copied when somebody asks: it may be large.
    output: OnceLock<Option<(NulTerminated, NulTerminated)>>,
}

impl sbx_error {
    pub(super) fn new(error: Error) -> Self {
        Self {
            message: boundary::c_text(&error.to_string()),
            operation: boundary::c_text(error.operation()),
            sandbox: error.sandbox().map(boundary::c_text),
            verdict: error.verdict().map(KeptVerdict::from),
            output: OnceLock::new(),
            error,
        }
    }

    fn output(&self) -> Option<&(NulTerminated, NulTerminated)> {
        let copy = || {
            let output = self.error.partial_output()?;
            Some((NulTerminated::new(output.stdout.clone()), NulTerminated::new(output.stderr.clone())))
        };
        self.output.get_or_init(copy).as_ref()
    }
}

/// The status that came with this error; SBX_OK for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_error_status(error: Option<&sbx_error>) -> sbx_status {
    boundary::get(error, SBX_OK, |error| error.error.kind().into())
}

/// The complete message on one line, without secrets: the operation, the sandbox, what happened, and what Kubernetes
/// reports. NULL only if `error` is NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_error_message(error: Option<&sbx_error>) -> *const c_char {
    boundary::get_text(error, |error| Some(&error.message))
}

/// The operation that failed, such as "create sandbox"; "" if there is none.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_error_operation(error: Option<&sbx_error>) -> *const c_char {
    boundary::get_text(error, |error| Some(&error.operation))
}

/// The name of the sandbox that it was tried on, or NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_error_sandbox(error: Option<&sbx_error>) -> *const c_char {
    boundary::get_text(error, |error| error.sandbox.as_deref())
}

/// True if the same call may succeed later and is safe to repeat, because no request had been sent to the sandbox.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_error_is_retryable(error: Option<&sbx_error>) -> bool {
    boundary::get(error, false, |error| error.error.is_retryable())
}

/// The HTTP status of the API server's answer, if that was a failure; else 0.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_error_http_status(error: Option<&sbx_error>) -> i32 {
    boundary::get(error, 0, |error| error.error.http_status().map_or(0, i32::from))
}

/// libssh2's error number (negative), or the SFTP status code (positive) of a server that reports no errno; else 0.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_error_ssh_code(error: Option<&sbx_error>) -> i32 {
    boundary::get(error, 0, |error| error.error.ssh_code().unwrap_or(0))
}

/// The error number of Linux, such as ENOENT, if a system call on a file failed in the sandbox or on this machine, or
/// if one is why a command did not run; else 0.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_error_errno(error: Option<&sbx_error>) -> i32 {
    boundary::get(error, 0, |error| error.error.raw_os_error().unwrap_or(0))
}

/// Why the Pod can't start or has stopped, according to Kubernetes; SBX_CAUSE_NONE if that is not the cause of the
/// error.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_error_verdict_cause(error: Option<&sbx_error>) -> sbx_cause {
    boundary::get(error, sbx_cause::SBX_CAUSE_NONE, |error| {
        error.verdict.as_ref().map_or(sbx_cause::SBX_CAUSE_NONE, |verdict| verdict.cause)
    })
}

/// Kubernetes' own reason, such as "ErrImagePull"; may be empty. NULL without a verdict.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_error_verdict_reason(error: Option<&sbx_error>) -> *const c_char {
    boundary::get_text(error, |error| error.verdict.as_ref().map(|verdict| verdict.reason.as_c_str()))
}

/// Kubernetes' explanation on one line; may be empty. NULL without a verdict.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_error_verdict_message(error: Option<&sbx_error>) -> *const c_char {
    boundary::get_text(error, |error| error.verdict.as_ref().map(|verdict| verdict.message.as_c_str()))
}

/// What a command had written to its standard output when it was stopped, failed or was lost: bytes borrowed from the
/// error, their number in `*len`. NULL and 0 if the error has no output. `len` may be NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_error_stdout(error: Option<&sbx_error>, len: Option<&mut MaybeUninit<usize>>) -> *const u8 {
    boundary::get_bytes(error, len, |error| error.output().map(|(stdout, _)| stdout))
}

/// As sbx_error_stdout(), for the standard error.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_error_stderr(error: Option<&sbx_error>, len: Option<&mut MaybeUninit<usize>>) -> *const u8 {
    boundary::get_bytes(error, len, |error| error.output().map(|(_, stderr)| stderr))
}

/// Frees an error and all that was borrowed from it.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_error_free(error: Option<Box<sbx_error>>) {
    boundary::free(error);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_is_listed_once_under_its_own_name_and_number() {
        let source = include_str!("error.rs");
        let declared = source.lines().filter(|line| {
            let line = line.trim();
            line.starts_with("SBX_") && line.contains(" = ") && !line.starts_with("SBX_CAUSE_")
        });
        let declared: Vec<_> = declared
            .map(|line| line.trim().trim_end_matches(',').split_once(" = ").unwrap())
            .map(|(name, number)| (number.parse::<i32>().unwrap(), name.to_owned()))
            .collect();
        let listed = STATUSES.iter().map(|(status, name)| (*status as i32, name.to_str().unwrap().to_owned()));
        assert_eq!(listed.collect::<Vec<_>>(), declared);
    }
}
