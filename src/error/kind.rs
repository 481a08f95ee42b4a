//! The kinds of errors, and what the system's error numbers are among them.

use std::io;

use super::names::stable_names;

/// The kinds of [`Error`](crate::Error), the same in every language.
///
/// File errors are about a file in the sandbox or on this machine; the message says which.
/// [`Error::raw_os_error`](crate::Error::raw_os_error) has Linux's error number, also if there is no kind for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An argument is invalid. Nothing was done.
    InvalidArgument,
    /// A setting, the kubeconfig or the service account can't be used; the message names it and what is allowed.
    Config,
    /// A blocking call was made from async code, where it would stall the executor. Use the executor's way to run
    /// blocking code, such as `tokio::task::spawn_blocking`.
    AsyncContext,
    /// The client was made before `fork`; its threads don't exist in the child. Make a new client there.
    Forked,
    /// The handle was closed, or its sandbox deleted through it.
    Closed,
    /// No such sandbox: it was never there, or is gone. A file that is not there is [`ErrorKind::FileNotFound`].
    NotFound,
    /// The pool has no sandbox ready, and the claim was made to fail in that case.
    PoolEmpty,
    /// No detached command has this key. The sandbox is there.
    DetachedNotFound,
    /// A sandbox of that name exists already, or the key of a detached command is in use, or somebody else changed the
    /// same object at the same time. A file that exists already is [`ErrorKind::FileExists`].
    Conflict,
    /// Kubernetes, or a file system, does not allow it.
    PermissionDenied,
    /// A quota of the namespace, or the API server's limit of requests, is used up.
    Quota,
    /// The disk is full, a disk quota is exceeded, or the file has reached the largest size allowed.
    StorageFull,
    /// No such file or directory.
    FileNotFound,
    /// A file or directory of that name exists already.
    FileExists,
    /// The path is a directory, and the operation needs a file.
    IsADirectory,
    /// The path, or one of its parents, is not a directory.
    NotADirectory,
    /// The directory is not empty.
    DirectoryNotEmpty,
    /// The file system is read-only.
    ReadOnly,
    /// The file is in use: it is being executed, is a mount point, or another download writes to it. Also: a local port
    /// is in use.
    Busy,
    /// A file name is longer than the file system allows, or a path is longer than 4095 bytes.
    NameTooLong,
    /// Nothing in the sandbox listens on the port or the socket.
    Refused,
    /// The API server can't be reached or can't answer now. Trying later may help.
    Unavailable,
    /// No connection to the sandbox's SSH server could be made.
    Connect,
    /// The sandbox's SSH server refused this client's key or user name.
    Authentication,
    /// The SSH server showed another host key than the one pinned for this sandbox. Nothing was sent to it.
    HostKeyMismatch,
    /// An established connection was lost, either before a request was sent or during a request that can safely be
    /// repeated.
    Disconnected,
    /// The sandbox could not be created; [`Error::verdict`](crate::Error::verdict) has the cluster's reason. Its Pod is
    /// deleted again.
    Create,
    /// The sandbox could not be deleted, or its end could not be confirmed.
    Delete,
    /// The command could not be started: it did not run.
    Command,
    /// The command ran and did not succeed. Only `Output::check` makes this error; by itself an exit code is data.
    CommandFailed,
    /// The connection was lost after the request to run a command or to change a file was sent. The sandbox may have
    /// carried it out, completely or in part. The library does not repeat such a request.
    OutcomeUnknown,
    /// The operation timed out. A command's processes were killed; see
    /// [`Error::partial_output`](crate::Error::partial_output).
    TimedOut,
    /// A transfer or another file operation failed for a reason that has no kind of its own. The target of a transfer
    /// is unchanged.
    Transfer,
    /// A callback of the caller, or that of [`interruptible`](crate::interruptible), cancelled the call.
    Cancelled,
    /// A bug in this library: a panic was caught at the C boundary. The handle stays usable.
    Panic,
}

stable_names!(ErrorKind, "kind of error", {
    InvalidArgument => "invalid_argument",
    Config => "config",
    AsyncContext => "async_context",
    Forked => "forked",
    Closed => "closed",
    NotFound => "not_found",
    PoolEmpty => "pool_empty",
    DetachedNotFound => "detached_not_found",
    Conflict => "conflict",
    PermissionDenied => "permission_denied",
    Quota => "quota",
    StorageFull => "storage_full",
    FileNotFound => "file_not_found",
    FileExists => "file_exists",
    IsADirectory => "is_a_directory",
    NotADirectory => "not_a_directory",
    DirectoryNotEmpty => "directory_not_empty",
    ReadOnly => "read_only",
    Busy => "busy",
    NameTooLong => "name_too_long",
    Refused => "refused",
    Unavailable => "unavailable",
    Connect => "connect",
    Authentication => "authentication",
    HostKeyMismatch => "host_key_mismatch",
    Disconnected => "disconnected",
    Create => "create",
    Delete => "delete",
    Command => "command",
    CommandFailed => "command_failed",
    OutcomeUnknown => "outcome_unknown",
    TimedOut => "timed_out",
    Transfer => "transfer",
    Cancelled => "cancelled",
    Panic => "panic",
});

/// The first number of a kind is the one that stands for it.
const NUMBERS: [(i32, ErrorKind); 16] = [
    (libc::ENOSPC, ErrorKind::StorageFull),
    (libc::EDQUOT, ErrorKind::StorageFull),
    (libc::EFBIG, ErrorKind::StorageFull),
    (libc::ENOENT, ErrorKind::FileNotFound),
    (libc::EEXIST, ErrorKind::FileExists),
    (libc::EISDIR, ErrorKind::IsADirectory),
    (libc::ENOTDIR, ErrorKind::NotADirectory),
    (libc::ENOTEMPTY, ErrorKind::DirectoryNotEmpty),
    (libc::EROFS, ErrorKind::ReadOnly),
    (libc::EBUSY, ErrorKind::Busy),
    (libc::ETXTBSY, ErrorKind::Busy),
    (libc::EADDRINUSE, ErrorKind::Busy),
    (libc::ENAMETOOLONG, ErrorKind::NameTooLong),
    (libc::ECONNREFUSED, ErrorKind::Refused),
    (libc::EACCES, ErrorKind::PermissionDenied),
    (libc::EPERM, ErrorKind::PermissionDenied),
];

impl ErrorKind {
    /// The kind of a failed system call on a file or a socket.
    pub(crate) fn of_file(errno: i32) -> Self {
        NUMBERS.iter().find(|(number, _)| *number == errno).map_or(Self::Transfer, |(_, kind)| *kind)
    }

    /// The error number of a kind that is about files only: Kubernetes denies permissions too.
    pub(super) fn number(self) -> Option<i32> {
        NUMBERS.iter().find(|(_, kind)| *kind == self && self != Self::PermissionDenied).map(|(number, _)| *number)
    }

    pub(super) fn as_io(self) -> io::ErrorKind {
        match self {
            Self::InvalidArgument => io::ErrorKind::InvalidInput,
            Self::PermissionDenied => io::ErrorKind::PermissionDenied,
            Self::TimedOut => io::ErrorKind::TimedOut,
            Self::Disconnected | Self::OutcomeUnknown => io::ErrorKind::ConnectionAborted,
            Self::Closed | Self::NotFound => io::ErrorKind::NotConnected,
            _ => match self.number() {
                Some(number) => io::Error::from_raw_os_error(number).kind(),
                None => io::ErrorKind::Other,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_numbers_have_kinds_of_this_library_and_of_std() {
        for (number, kind, io_kind) in [
            (libc::ENOENT, ErrorKind::FileNotFound, io::ErrorKind::NotFound),
            (libc::EEXIST, ErrorKind::FileExists, io::ErrorKind::AlreadyExists),
            (libc::EISDIR, ErrorKind::IsADirectory, io::ErrorKind::IsADirectory),
            (libc::ENOTDIR, ErrorKind::NotADirectory, io::ErrorKind::NotADirectory),
            (libc::ENOTEMPTY, ErrorKind::DirectoryNotEmpty, io::ErrorKind::DirectoryNotEmpty),
            (libc::EROFS, ErrorKind::ReadOnly, io::ErrorKind::ReadOnlyFilesystem),
            (libc::EBUSY, ErrorKind::Busy, io::ErrorKind::ResourceBusy),
            (libc::ENAMETOOLONG, ErrorKind::NameTooLong, io::ErrorKind::InvalidFilename),
            (libc::ENOSPC, ErrorKind::StorageFull, io::ErrorKind::StorageFull),
            (libc::ECONNREFUSED, ErrorKind::Refused, io::ErrorKind::ConnectionRefused),
        ] {
            assert_eq!((ErrorKind::of_file(number), kind.number(), kind.as_io()), (kind, Some(number), io_kind));
        }
        for (number, kind) in [
            (libc::EDQUOT, ErrorKind::StorageFull),
            (libc::ETXTBSY, ErrorKind::Busy),
            (libc::EADDRINUSE, ErrorKind::Busy),
            (libc::EACCES, ErrorKind::PermissionDenied),
            (libc::EPERM, ErrorKind::PermissionDenied),
            (libc::EXDEV, ErrorKind::Transfer),
        ] {
            assert_eq!(ErrorKind::of_file(number), kind);
        }
        assert_eq!((ErrorKind::PermissionDenied.number(), ErrorKind::Transfer.number()), (None, None));
    }
}
