"""Disposable Linux machines on your own Kubernetes.

    import sandbox

    with sandbox.Client() as client, client.create() as machine:
        print(machine.run(["uname", "-a"], text=True, check=True).stdout)

Client is the entrance, Machine is one sandbox, SandboxPath a file in it. Calls block and let go of the interpreter's
lock; all classes may be used from several threads. In a child of os.fork() the parent's objects raise ForkedError. The
class of the original SDK is there as Sandbox, with its methods and exceptions.

Durations are seconds; math.inf is without a limit, and None is what the configuration says.
"""

from . import _abi
from ._abi import (
    Cause,
    ChangeKind,
    CheckState,
    ErrorKind,
    FileKind,
    LogLevel,
    OnMiss,
    Origin,
    Phase,
    Stream,
    Transport,
)
from .changes import Change, Changes
from .child import Child
from .client import Client, Sandbox
from .command import DEVNULL, PIPE, STDOUT, CommandOptions, CompletedCommand, OnOutput, RunOptions, Terminal
from .config import Config
from .detached import Detached, Position
from .doctor import Check, Report, diagnose
from .errors import (
    AsyncContextError,
    AuthenticationError,
    BusyError,
    ClosedError,
    CommandExecutionError,
    CommandFailedError,
    ConfigError,
    ConflictError,
    ConnectError,
    DetachedNotFoundError,
    DirectoryNotEmptyError,
    DisconnectedError,
    FileAlreadyExistsError,
    FileTransferError,
    ForkedError,
    HostKeyMismatchError,
    InvalidArgumentError,
    IsDirectoryError,
    NameTooLongError,
    NoSuchFileError,
    NotDirectoryError,
    NotFoundError,
    OperationCancelledError,
    OutcomeUnknownError,
    PanicError,
    PermissionDeniedError,
    PoolEmptyError,
    QuotaError,
    ReadOnlyError,
    RefusedError,
    SandboxCreationError,
    SandboxDeletionError,
    SandboxError,
    SandboxNotFoundError,
    SSHConnectionError,
    StorageFullError,
    TimedOutError,
    UnavailableError,
    Verdict,
)
from .files import DirEntry, FileStat, SandboxFile, SandboxPath
from .forward import Forward
from .info import SandboxInfo
from .keys import AuthorizedKey
from .log import LogHandler, set_log_handler
from .machine import Machine, SessionCounts, Timings
from .pool import Filled, Pool, PoolCounters, PoolStatus
from .spec import SandboxSpec
from .transfer import Note, OnProgress, Reader, Transferred, TreeReport, Writer
from .usage import Usage

#: The version of the library in this package.
__version__ = (_abi.sbx_version() or b"").decode()

__all__ = [
    "DEVNULL",
    "PIPE",
    "STDOUT",
    "AsyncContextError",
    "AuthenticationError",
    "AuthorizedKey",
    "BusyError",
    "Cause",
    "Change",
    "ChangeKind",
    "Changes",
    "Check",
    "CheckState",
    "Child",
    "Client",
    "ClosedError",
    "CommandExecutionError",
    "CommandFailedError",
    "CommandOptions",
    "CompletedCommand",
    "Config",
    "ConfigError",
    "ConflictError",
    "ConnectError",
    "Detached",
    "DetachedNotFoundError",
    "DirEntry",
    "DirectoryNotEmptyError",
    "DisconnectedError",
    "ErrorKind",
    "FileAlreadyExistsError",
    "FileKind",
    "FileStat",
    "FileTransferError",
    "Filled",
    "ForkedError",
    "Forward",
    "HostKeyMismatchError",
    "InvalidArgumentError",
    "IsDirectoryError",
    "LogHandler",
    "LogLevel",
    "Machine",
    "NameTooLongError",
    "NoSuchFileError",
    "NotDirectoryError",
    "NotFoundError",
    "Note",
    "OnMiss",
    "OnOutput",
    "OnProgress",
    "OperationCancelledError",
    "Origin",
    "OutcomeUnknownError",
    "PanicError",
    "PermissionDeniedError",
    "Phase",
    "Pool",
    "PoolCounters",
    "PoolEmptyError",
    "PoolStatus",
    "Position",
    "QuotaError",
    "ReadOnlyError",
    "Reader",
    "RefusedError",
    "Report",
    "RunOptions",
    "SSHConnectionError",
    "Sandbox",
    "SandboxCreationError",
    "SandboxDeletionError",
    "SandboxError",
    "SandboxFile",
    "SandboxInfo",
    "SandboxNotFoundError",
    "SandboxPath",
    "SandboxSpec",
    "SessionCounts",
    "StorageFullError",
    "Stream",
    "Terminal",
    "TimedOutError",
    "Timings",
    "Transferred",
    "Transport",
    "TreeReport",
    "UnavailableError",
    "Usage",
    "Verdict",
    "Writer",
    "__version__",
    "diagnose",
    "set_log_handler",
]
