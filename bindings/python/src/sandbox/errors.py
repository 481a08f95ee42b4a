"""What can go wrong.

An exception is of the class of its kind, such as TimedOutError, and where that is known also of the class of what was
tried: SandboxCreationError, SandboxDeletionError, CommandExecutionError or FileTransferError. So both `except
TimedOutError` and `except SandboxCreationError` catch the creation of a sandbox that took too long. Python's own
exceptions match where people expect them: FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError,
PermissionError, any other OSError by its errno, TimeoutError, ConnectionError, ValueError.
"""

import errno
import os
from ctypes import byref, c_size_t, string_at
from dataclasses import dataclass
from typing import Any, Callable, Optional

from . import _abi as abi
from ._abi import Cause, ErrorKind


@dataclass(frozen=True)
class Verdict:
    """What Kubernetes knows about why a Pod can't start or why it stopped.

    cause: what to branch on.
    reason: Kubernetes' own reason, such as "ErrImagePull"; may be empty.
    message: Kubernetes' explanation on one line; may be empty.
    """

    cause: Cause
    reason: str
    message: str


class SandboxError(Exception):
    """Any failure of this package; its text is the complete message on one line, without secrets.

    It can be pickled.

    kind: the kind to branch on; the same in every language.
    operation: what was tried, such as "create sandbox"; may be empty.
    sandbox: the name of the sandbox that it was tried on.
    verdict: what Kubernetes says about the Pod, where the failure has its cause there.
    stdout: what a command had written when it was stopped, failed or was lost.
    stderr: as stdout, for the standard error.
    retryable: true if the same call may succeed later and is safe to repeat.
    http_status: the HTTP status of the API server's answer, if that was a failure.
    ssh_code: libssh2's error number (negative), or the SFTP status code (positive) of a server that reports no errno.
    errno: the number of errno's, such as errno.ENOENT, if a system call on a file failed in the sandbox or on this
        machine, or if one is why a command did not run. Each OSError has one.
    """

    kind: ErrorKind = ErrorKind.OK
    operation: str = ""
    sandbox: Optional[str] = None
    verdict: Optional[Verdict] = None
    stdout: Optional[bytes] = None
    stderr: Optional[bytes] = None
    retryable: bool = False
    http_status: Optional[int] = None
    ssh_code: Optional[int] = None
    errno: Optional[int] = None
    strerror: Optional[str] = None

    def __str__(self) -> str:
        # OSError would put its number in front.
        return str(self.args[0]) if self.args else ""

    def __reduce__(self) -> "tuple[Any, ...]":
        facts = {name: value for name, value in vars(self).items() if name != "_subject"}
        if self.errno == _NUMBERS.get(self.kind):
            # The kind's, which says nothing about the class.
            facts.pop("errno", None)
        return _made, (self.kind, vars(self).get("_subject", SandboxError), str(self), facts)


class InvalidArgumentError(SandboxError, ValueError):
    """An argument is invalid. Nothing was done."""


class ConfigError(SandboxError, ValueError):
    """A setting, the kubeconfig or the service account can't be used; the text names it and what is allowed."""


class AsyncContextError(SandboxError, RuntimeError):
    """A call was made from asynchronous Rust code of the host program. Python's asyncio does not cause it."""


class ForkedError(SandboxError, RuntimeError):
    """The handle was made before os.fork(). Make a new Client in the child."""


class ClosedError(SandboxError, ValueError):
    """The object was closed, or its sandbox deleted through it; as a closed file of Python's, a ValueError."""


class NotFoundError(SandboxError, LookupError):
    """There is no such sandbox, or no such detached command in it."""


class SandboxNotFoundError(NotFoundError):
    """There is no sandbox of this name, or it is gone."""


class DetachedNotFoundError(NotFoundError):
    """No detached command has this key. The sandbox is there."""


class PoolEmptyError(SandboxError, LookupError):
    """The pool has no sandbox ready, and the claim was made to fail in that case."""


class ConflictError(SandboxError):
    """A sandbox of that name exists, or the key of a detached command is in use, or somebody else changed the same
    object.
    """


class PermissionDeniedError(SandboxError, PermissionError):
    """Kubernetes, or a file system, does not allow it."""


class QuotaError(SandboxError):
    """A quota of the namespace, or the API server's limit of requests, is used up."""


class StorageFullError(SandboxError, OSError):
    """The disk is full, a disk quota is exceeded, or the file has reached the largest size allowed."""


class UnavailableError(SandboxError, ConnectionError):
    """The API server can't be reached or can't answer now. Trying later may help."""


class SSHConnectionError(SandboxError, ConnectionError):
    """There is no SSH connection to the sandbox, or it was lost. No request had been sent, or it is safe to repeat."""


class ConnectError(SSHConnectionError):
    """No connection to the sandbox's SSH server could be made."""


class AuthenticationError(SSHConnectionError):
    """The sandbox's SSH server refused this client's key or user name."""


class HostKeyMismatchError(SSHConnectionError):
    """The SSH server showed another host key than the one pinned for this sandbox. Nothing was sent to it."""


class DisconnectedError(SSHConnectionError):
    """The connection was lost, either before a request was sent or during a request that can safely be repeated."""


class RefusedError(SandboxError, ConnectionRefusedError):
    """Nothing in the sandbox listens on the port or the socket."""


class TimedOutError(SandboxError, TimeoutError):
    """The operation timed out. A command was killed, and the exception has the output up to then."""


class SandboxCreationError(SandboxError):
    """The sandbox could not be created; the verdict has the cluster's reason. Its Pod is deleted again."""


class SandboxDeletionError(SandboxError):
    """The sandbox could not be deleted, or its end could not be confirmed."""


class CommandExecutionError(SandboxError):
    """The command did not run, or did not run to a known end. Plain: it could not be started."""


class CommandFailedError(CommandExecutionError):
    """The command ran and did not succeed. Only asking for it (check=True, check_returncode()) raises this.

    returncode: the exit code, or the negative number of the signal that ended the command.
    """

    returncode: int = 0


class OutcomeUnknownError(SandboxError):
    """The connection was lost after a request was sent. The sandbox may have carried it out; the library does not
    repeat it."""


class FileTransferError(SandboxError):
    """Something could not be done with a file. The target of a transfer is as it was before."""


class NoSuchFileError(FileTransferError, FileNotFoundError):
    """No such file or directory. For this and the following file errors, the text says whether the file is in the
    sandbox or on this machine."""


class FileAlreadyExistsError(FileTransferError, FileExistsError):
    """A file or directory of that name exists already."""


class IsDirectoryError(FileTransferError, IsADirectoryError):
    """The path is a directory, and the operation needs a file."""


class NotDirectoryError(FileTransferError, NotADirectoryError):
    """The path, or one of its parents, is not a directory."""


class DirectoryNotEmptyError(FileTransferError, OSError):
    """The directory is not empty."""


class ReadOnlyError(FileTransferError, OSError):
    """The file system is read-only."""


class BusyError(FileTransferError, OSError):
    """The file is in use: it is being executed, is a mount point, or another download writes to it. Also: a local port
    is in use."""


class NameTooLongError(FileTransferError, OSError):
    """A file name is longer than the file system allows, or a path is longer than 4095 bytes."""


class OperationCancelledError(SandboxError):
    """The caller's own callback asked to stop by returning False."""


class PanicError(SandboxError):
    """A bug in the library. The objects stay usable."""


_CLASSES: "dict[ErrorKind, type[SandboxError]]" = {
    ErrorKind.INVALID_ARGUMENT: InvalidArgumentError,
    ErrorKind.CONFIG: ConfigError,
    ErrorKind.ASYNC_CONTEXT: AsyncContextError,
    ErrorKind.FORKED: ForkedError,
    ErrorKind.CLOSED: ClosedError,
    ErrorKind.NOT_FOUND: SandboxNotFoundError,
    ErrorKind.DETACHED_NOT_FOUND: DetachedNotFoundError,
    ErrorKind.POOL_EMPTY: PoolEmptyError,
    ErrorKind.CONFLICT: ConflictError,
    ErrorKind.PERMISSION_DENIED: PermissionDeniedError,
    ErrorKind.QUOTA: QuotaError,
    ErrorKind.STORAGE_FULL: StorageFullError,
    ErrorKind.FILE_NOT_FOUND: NoSuchFileError,
    ErrorKind.FILE_EXISTS: FileAlreadyExistsError,
    ErrorKind.IS_A_DIRECTORY: IsDirectoryError,
    ErrorKind.NOT_A_DIRECTORY: NotDirectoryError,
    ErrorKind.DIRECTORY_NOT_EMPTY: DirectoryNotEmptyError,
    ErrorKind.READ_ONLY: ReadOnlyError,
    ErrorKind.BUSY: BusyError,
    ErrorKind.NAME_TOO_LONG: NameTooLongError,
    ErrorKind.UNAVAILABLE: UnavailableError,
    ErrorKind.CONNECT: ConnectError,
    ErrorKind.AUTHENTICATION: AuthenticationError,
    ErrorKind.HOST_KEY_MISMATCH: HostKeyMismatchError,
    ErrorKind.DISCONNECTED: DisconnectedError,
    ErrorKind.TIMED_OUT: TimedOutError,
    ErrorKind.REFUSED: RefusedError,
    ErrorKind.CREATE: SandboxCreationError,
    ErrorKind.DELETE: SandboxDeletionError,
    ErrorKind.COMMAND: CommandExecutionError,
    ErrorKind.COMMAND_FAILED: CommandFailedError,
    ErrorKind.OUTCOME_UNKNOWN: OutcomeUnknownError,
    ErrorKind.TRANSFER: FileTransferError,
    ErrorKind.CANCELLED: OperationCancelledError,
    ErrorKind.PANIC: PanicError,
}
# Not about what was tried: the caller is at fault, or it never came to that.
_ALONE = {
    ErrorKind.INVALID_ARGUMENT,
    ErrorKind.CONFIG,
    ErrorKind.ASYNC_CONTEXT,
    ErrorKind.FORKED,
    ErrorKind.CLOSED,
    ErrorKind.NOT_FOUND,
    ErrorKind.POOL_EMPTY,
    ErrorKind.CONNECT,
    ErrorKind.AUTHENTICATION,
    ErrorKind.HOST_KEY_MISMATCH,
    ErrorKind.DISCONNECTED,
    ErrorKind.CANCELLED,
    ErrorKind.PANIC,
}
# Those of kinds that no system call stands behind, for what else is an OSError.
_NUMBERS = {
    ErrorKind.PERMISSION_DENIED: errno.EACCES,
    ErrorKind.TIMED_OUT: errno.ETIMEDOUT,
    ErrorKind.UNAVAILABLE: errno.EHOSTUNREACH,
    ErrorKind.CONNECT: errno.ECONNREFUSED,
    ErrorKind.DISCONNECTED: errno.ECONNRESET,
}


def _class(kind: ErrorKind, subject: "type[SandboxError]", number: Optional[int]) -> "type[SandboxError]":
    """The class of this kind of error in what `subject` stands for, and of Python's own class for an error number."""
    of_kind = _CLASSES[kind]
    others: list[type[BaseException]] = []
    if kind not in _ALONE and not issubclass(of_kind, subject):
        others.append(subject)
    if number is not None:
        # OSError makes itself one of its subclasses where there is one for the number.
        own = type(OSError(number, ""))
        if not issubclass(of_kind, own):
            others.append(own)
    return _combined(of_kind, tuple(others))


# Classes of several, made once each, so that an exception that was pickled is of its class again.
_COMBINED: "dict[tuple[type[BaseException], ...], type[SandboxError]]" = {}


def _combined(first: "type[SandboxError]", others: "tuple[type[BaseException], ...]") -> "type[SandboxError]":
    if not others:
        return first
    made = type(first.__name__, (first, *others), {"__doc__": first.__doc__, "__module__": __name__})
    return _COMBINED.setdefault((first, *others), made)


def _made(kind: ErrorKind, subject: "type[SandboxError]", message: str, facts: "dict[str, Any]") -> SandboxError:
    """An exception of the right class with these attributes."""
    error = _class(kind, subject, facts.get("errno"))(message)
    error.kind = kind
    vars(error).update(facts, _subject=subject)
    if error.errno is None and isinstance(error, OSError):
        error.errno = _NUMBERS.get(kind)
    if error.errno is not None:
        error.strerror = os.strerror(error.errno)
    return error


def made(kind: ErrorKind, message: str, subject: "type[SandboxError]" = SandboxError) -> SandboxError:
    """An exception that this package itself has found a reason for."""
    return _made(kind, subject, message, {"kind": kind})


def beside(raised: BaseException, failure: SandboxError) -> None:
    """Tells of a failure that came while another exception was on its way: as a note of that, or as its context in a
    Python that has no notes.
    """
    if hasattr(raised, "add_note"):
        raised.add_note(f"Then this failed too: {failure}")
    elif raised.__context__ is None:
        failure.__context__ = None
        raised.__context__ = failure


def taken(error: Any, subject: "type[SandboxError]") -> SandboxError:
    """The exception for an error of the library."""
    kind = ErrorKind(abi.sbx_error_status(error))
    cause = Cause(abi.sbx_error_verdict_cause(error))
    verdict = None
    if cause is not Cause.NONE:
        reason, message = abi.sbx_error_verdict_reason(error), abi.sbx_error_verdict_message(error)
        verdict = Verdict(cause, _text(reason), _text(message))
    facts = {
        "kind": kind,
        "operation": _text(abi.sbx_error_operation(error)),
        "sandbox": _text(abi.sbx_error_sandbox(error)) or None,
        "verdict": verdict,
        "stdout": lent(abi.sbx_error_stdout, error),
        "stderr": lent(abi.sbx_error_stderr, error),
        "retryable": abi.sbx_error_is_retryable(error),
        "http_status": abi.sbx_error_http_status(error) or None,
        "ssh_code": abi.sbx_error_ssh_code(error) or None,
        "errno": abi.sbx_error_errno(error) or None,
    }
    return _made(kind, subject, _text(abi.sbx_error_message(error)), facts)


def lent(function: Callable[..., Optional[int]], handle: Any) -> Optional[bytes]:
    """A copy of the bytes that a handle lends."""
    length = c_size_t()
    data = function(handle, byref(length))
    return None if data is None else string_at(data, length.value)


def _text(text: Optional[bytes]) -> str:
    return (text or b"").decode("utf-8", "replace")
