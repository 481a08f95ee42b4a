"""The C ABI as include/sandbox.h declares it. Made by make_abi.py: changes go there."""

import enum
import pathlib
from ctypes import (
    CDLL,
    CFUNCTYPE,
    c_bool,
    c_char_p,
    c_double,
    c_int32,
    c_int64,
    c_size_t,
    c_uint16,
    c_uint32,
    c_uint64,
    c_void_p,
)
from typing import Any, Callable, Optional

try:
    # CDLL lets go of the interpreter's lock during each call.
    _library = CDLL(str(pathlib.Path(__file__).with_name("libsandbox.so")))
except OSError as error:
    raise ImportError(f"the library in this package can't be loaded: {error}") from error


def _declared(name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    function = getattr(_library, name)
    function.restype = result
    function.argtypes = arguments
    return function  # type: ignore[no-any-return]


class ErrorKind(enum.IntEnum):
    """The result of a call: OK, or why it failed. A number never changes and is never reused. A later version may have more of them.

    OK: Success.
    INVALID_ARGUMENT: An argument is invalid: a required one is None, a text is not UTF-8, a number is out of range. Nothing was done.
    CONFIG: A setting, the kubeconfig or the service account can't be used; the message names it and what is allowed.
    ASYNC_CONTEXT: A blocking call was made from asynchronous Rust code of the host program.
    FORKED: The client was made before fork(); its threads don't exist in the child. Make a new client there.
    CLOSED: The handle was closed, or its sandbox deleted through it.
    NOT_FOUND: No such sandbox: it was never there, or is gone.
    CONFLICT: A sandbox of that name exists already, or the key of a detached command is in use, or somebody else changed the same object at the same time.
    PERMISSION_DENIED: Kubernetes, or a file system, does not allow it.
    QUOTA: A quota of the namespace, or the API server's limit of requests, is used up.
    STORAGE_FULL: The disk is full, a disk quota is exceeded, or the file has reached the largest size allowed.
    DETACHED_NOT_FOUND: No detached command has this key. The sandbox is there.
    POOL_EMPTY: The pool has no sandbox ready, and the claim was made with ON_MISS_FAIL.
    FILE_NOT_FOUND: No such file or directory. For this and the following file errors, the message says whether the file is in the sandbox or on this machine.
    FILE_EXISTS: A file or directory of that name exists already.
    IS_A_DIRECTORY: The path is a directory, and the operation needs a file.
    NOT_A_DIRECTORY: The path, or one of its parents, is not a directory.
    DIRECTORY_NOT_EMPTY: The directory is not empty.
    READ_ONLY: The file system is read-only.
    BUSY: The file is in use: it is being executed, is a mount point, or another download writes to it. Also: a local port is in use.
    NAME_TOO_LONG: A file name is longer than the file system allows, or a path is longer than 4095 bytes.
    UNAVAILABLE: The API server can't be reached or can't answer now. Trying later may help.
    CONNECT: No connection to the sandbox's SSH server could be made.
    AUTHENTICATION: The sandbox's SSH server refused this client's key or user name.
    HOST_KEY_MISMATCH: The SSH server showed another host key than the one pinned for this sandbox. Nothing was sent to it.
    DISCONNECTED: The connection was lost, either before a request was sent or during a request that can safely be repeated.
    TIMED_OUT: The operation timed out. A command's processes were killed, and the error has the output up to then.
    REFUSED: Nothing in the sandbox listens on the port or the socket.
    CREATE: The sandbox could not be created; the error's verdict has the reason that Kubernetes gives. The Pod was deleted again.
    DELETE: The sandbox could not be deleted, or its end could not be confirmed.
    COMMAND: The command could not be started: it did not run.
    COMMAND_FAILED: The command ran and did not succeed. Only check=True or check_returncode() fails with this: elsewhere a non-zero exit code is not an error.
    OUTCOME_UNKNOWN: The connection was lost after the request to run a command or to change a file was sent. The sandbox may have carried it out, completely or in part. The library does not repeat such a request.
    TRANSFER: A transfer or another file operation failed for a reason that has no status of its own. The target of a transfer is unchanged.
    CANCELLED: A callback of the caller, or a signal handler, cancelled the call.
    PANIC: A bug in this library: a panic was caught at the C boundary. The handles stay usable.
    """

    OK = 0
    INVALID_ARGUMENT = 1
    CONFIG = 2
    ASYNC_CONTEXT = 3
    FORKED = 4
    CLOSED = 5
    NOT_FOUND = 20
    CONFLICT = 21
    PERMISSION_DENIED = 22
    QUOTA = 23
    STORAGE_FULL = 24
    DETACHED_NOT_FOUND = 25
    POOL_EMPTY = 26
    FILE_NOT_FOUND = 30
    FILE_EXISTS = 31
    IS_A_DIRECTORY = 32
    NOT_A_DIRECTORY = 33
    DIRECTORY_NOT_EMPTY = 34
    READ_ONLY = 35
    BUSY = 36
    NAME_TOO_LONG = 37
    UNAVAILABLE = 40
    CONNECT = 41
    AUTHENTICATION = 42
    HOST_KEY_MISMATCH = 43
    DISCONNECTED = 44
    TIMED_OUT = 45
    REFUSED = 46
    CREATE = 60
    DELETE = 61
    COMMAND = 62
    COMMAND_FAILED = 63
    OUTCOME_UNKNOWN = 64
    TRANSFER = 65
    CANCELLED = 66
    PANIC = 90


class ChangeKind(enum.IntEnum):
    """What has become of a sandbox. A later version may have more of them.

    ADDED: It is there, which was not known before.
    CHANGED: Something about it is not as it was.
    REMOVED: It is gone, or does not fit any more.
    """

    ADDED = 0
    CHANGED = 1
    REMOVED = 2


class Stream(enum.IntEnum):
    """The two output streams of a command.

    STDOUT: Standard output.
    STDERR: Standard error.
    """

    STDOUT = 1
    STDERR = 2


class CheckState(enum.IntEnum):
    """What a check found, the better before the worse.

    OK: All is well.
    SKIPPED: It could not be checked, because of the failure of another check or because this client may not look.
    WARNING: Sandboxes work, but something is missing or unusual.
    FAILURE: Sandboxes can't be made or used.
    """

    OK = 0
    SKIPPED = 1
    WARNING = 2
    FAILURE = 3


class Cause(enum.IntEnum):
    """Why a Pod can't start or has stopped, according to Kubernetes. A later version may have more of them.

    NONE: There is no verdict.
    IMAGE_PULL: The image does not exist, can't be reached, or needs credentials.
    UNSCHEDULABLE: No node can take the Pod.
    QUOTA: A quota of the namespace forbids it.
    REJECTED: Admission (Pod security, a policy, a webhook) or validation rejected the Pod.
    CONFIGURATION: The container can't be set up: a missing Secret or ConfigMap, a bad command, a failed volume.
    EXITED: The container's main process ended by itself.
    OUT_OF_MEMORY: The container used more memory than its limit and was killed.
    EVICTED: The node evicted the Pod.
    DEADLINE_EXCEEDED: The Pod reached its hard time limit.
    EXPIRED: The sandbox reached its own expiry.
    DELETED: The Pod was deleted, or is being deleted.
    NODE_LOST: The node is gone or does not answer.
    PENDING: Kubernetes reports no problem; the verdict is the last state seen.
    """

    NONE = 0
    IMAGE_PULL = 1
    UNSCHEDULABLE = 2
    QUOTA = 3
    REJECTED = 4
    CONFIGURATION = 5
    EXITED = 6
    OUT_OF_MEMORY = 7
    EVICTED = 8
    DEADLINE_EXCEEDED = 9
    EXPIRED = 10
    DELETED = 11
    NODE_LOST = 12
    PENDING = 13


class FileKind(enum.IntEnum):
    """What a file is.

    UNKNOWN: Nothing is known.
    FILE: A regular file.
    DIRECTORY: A directory.
    SYMLINK: A symbolic link.
    OTHER: A named pipe, a socket, a device.
    """

    UNKNOWN = 0
    FILE = 1
    DIRECTORY = 2
    SYMLINK = 3
    OTHER = 4


class Phase(enum.IntEnum):
    """The phase of a Pod. A later version may have more of them.

    UNKNOWN: Kubernetes does not know the phase, or reports one that this library does not know.
    PENDING: Accepted by Kubernetes; its container does not run yet.
    RUNNING: Its container runs.
    SUCCEEDED: It stopped with exit code 0.
    FAILED: It stopped in another way.
    TERMINATING: It is being deleted.
    """

    UNKNOWN = 0
    PENDING = 1
    RUNNING = 2
    SUCCEEDED = 3
    FAILED = 4
    TERMINATING = 5


class LogLevel(enum.IntEnum):
    """The levels of log lines, for Config.log and set_log_handler().

    OFF: None at all.
    ERROR: Failures that no call can report.
    WARN: Conditions that may need attention.
    INFO: What the library does: sandboxes created and deleted, connections made.
    DEBUG: Details for debugging: each request and connection.
    TRACE: Everything.
    """

    OFF = 0
    ERROR = 1
    WARN = 2
    INFO = 3
    DEBUG = 4
    TRACE = 5


class Origin(enum.IntEnum):
    """Where a sandbox comes from. A later version may have more of them.

    ATTACHED: It was there before: Client.attach().
    CREATED: It was created by Client.create().
    POOL: A pool had it ready.
    POOL_WAIT: The pool was empty, and its next sandbox was waited for.
    POOL_MISS: The pool was empty, and it was created instead.
    """

    ATTACHED = 0
    CREATED = 1
    POOL = 2
    POOL_WAIT = 3
    POOL_MISS = 4


class Transport(enum.IntEnum):
    """The way to a sandbox's SSH server, for Config.transport.

    AUTO: Begins on the tunnel and moves to the Pod's address if that can be reached. Where port-forward is refused or does not reach into the sandbox, it takes exec instead.
    DIRECT: Straight to the Pod's address. Works inside the cluster's network.
    TUNNEL: Through the API server's port-forward. Works wherever kubectl works.
    EXEC: Through the API server's exec. Works wherever "kubectl exec" works, also under gVisor and Kata. Code in the sandbox that has the guest's user can end these connections, but not the others.
    """

    AUTO = 0
    DIRECT = 1
    TUNNEL = 2
    EXEC = 3


class Open(enum.IntEnum):
    """How SandboxPath.open() opens a file; combine them with |.

    READ: For reading.
    WRITE: For writing, without truncating.
    APPEND: For writing at the end of the file, even if it has grown meanwhile.
    TRUNCATE: Truncates an existing file. Needs OPEN_WRITE.
    CREATE: Creates the file if it does not exist. Needs OPEN_WRITE or OPEN_APPEND.
    CREATE_NEW: Creates the file, and fails if the name exists, even as a broken link. Needs OPEN_WRITE or OPEN_APPEND.
    """

    READ = 1
    WRITE = 2
    APPEND = 4
    TRUNCATE = 8
    CREATE = 16
    CREATE_NEW = 32


class Seek(enum.IntEnum):
    """What SandboxFile.seek() counts from.

    START: The beginning of the file.
    CURRENT: The position.
    END: The end of the file.
    """

    START = 0
    CURRENT = 1
    END = 2


class OnMiss(enum.IntEnum):
    """What a claim does if the pool has nothing ready, for Pool.claim().

    CREATE: Creates a sandbox, as Client.create() does.
    WAIT: Waits until the pool has one, up to the setting "create_timeout".
    FAIL: Fails at once with POOL_EMPTY.
    """

    CREATE = 0
    WAIT = 1
    FAIL = 2


class PoolCounter(enum.IntEnum):
    """What Pool.counters counts.

    HITS: Claims that were served by a ready sandbox at once.
    MISSES: Claims that found nothing ready.
    CONFLICTS: Attempts to take a sandbox that another claim took first, or that had ended.
    WAITING: Claims that wait for a sandbox now.
    BAD: Sandboxes that were taken, could not be reached, and were deleted.
    CREATED: Sandboxes that this handle has made for the pool.
    RETIRED: Sandboxes whose deletion it has requested.
    """

    HITS = 0
    MISSES = 1
    CONFLICTS = 2
    WAITING = 3
    BAD = 4
    CREATED = 5
    RETIRED = 6


class UsageKind(enum.IntEnum):
    """What Usage tells. Memory, processor time and processes are those of the sandbox's container, with its guest.

    CPU: Microseconds of processor time since the container started.
    THROTTLED: Microseconds for which it had to wait because it had used up its share of the processors.
    MEMORY: Bytes of memory, with the files that the kernel keeps in memory for it.
    MEMORY_PEAK: The most that it has been.
    MEMORY_LIMIT: What it may be at most.
    OOM_KILLS: Processes that were killed because there was no more memory.
    PROCESSES: Processes and threads.
    PROCESSES_LIMIT: What they may be at most.
    DISK: Bytes in use on the file system of the home directory. Where the sandbox has no volume there, that is the node's disk, with all that others keep on it.
    DISK_LIMIT: Bytes of that file system.
    RECEIVED: Bytes received through the Pod's network interfaces but loopback.
    SENT: Bytes sent through them.
    GUEST_MEMORY: Bytes of memory of the guest itself, which is the sandbox's main process.
    COMMANDS: Commands that run, of all clients.
    CONNECTIONS: SSH connections of all clients.
    """

    CPU = 0
    THROTTLED = 1
    MEMORY = 2
    MEMORY_PEAK = 3
    MEMORY_LIMIT = 4
    OOM_KILLS = 5
    PROCESSES = 6
    PROCESSES_LIMIT = 7
    DISK = 8
    DISK_LIMIT = 9
    RECEIVED = 10
    SENT = 11
    GUEST_MEMORY = 12
    COMMANDS = 13
    CONNECTIONS = 14


sbx_output_fn = CFUNCTYPE(c_int32, c_void_p, c_int32, c_void_p, c_size_t)
sbx_log_fn = CFUNCTYPE(None, c_void_p, c_int32, c_char_p, c_char_p)
sbx_interrupted_fn = CFUNCTYPE(c_int32, c_void_p)
sbx_progress_fn = CFUNCTYPE(c_int32, c_void_p, c_char_p, c_uint64, c_int64)
sbx_read_fn = CFUNCTYPE(c_int64, c_void_p, c_void_p, c_size_t)
sbx_write_fn = CFUNCTYPE(c_int32, c_void_p, c_void_p, c_size_t)

sbx_version: Callable[..., Optional[bytes]] = _declared("sbx_version", c_char_p)
sbx_version_number: Callable[..., int] = _declared("sbx_version_number", c_uint32)
sbx_client_watch: Callable[..., int] = _declared("sbx_client_watch", c_int32, c_void_p, c_void_p, c_void_p, c_void_p)
sbx_changes_next: Callable[..., int] = _declared("sbx_changes_next", c_int32, c_void_p, c_double, c_void_p, c_void_p, c_void_p)
sbx_changes_close: Callable[..., None] = _declared("sbx_changes_close", None, c_void_p)
sbx_changes_free: Callable[..., None] = _declared("sbx_changes_free", None, c_void_p)
sbx_child_id: Callable[..., Optional[bytes]] = _declared("sbx_child_id", c_char_p, c_void_p)
sbx_child_write_stdin: Callable[..., int] = _declared("sbx_child_write_stdin", c_int32, c_void_p, c_char_p, c_size_t, c_void_p)
sbx_child_close_stdin: Callable[..., None] = _declared("sbx_child_close_stdin", None, c_void_p)
sbx_child_read_stdout: Callable[..., int] = _declared("sbx_child_read_stdout", c_int32, c_void_p, c_void_p, c_size_t, c_void_p, c_void_p)
sbx_child_read_stderr: Callable[..., int] = _declared("sbx_child_read_stderr", c_int32, c_void_p, c_void_p, c_size_t, c_void_p, c_void_p)
sbx_child_close_stdout: Callable[..., None] = _declared("sbx_child_close_stdout", None, c_void_p)
sbx_child_close_stderr: Callable[..., None] = _declared("sbx_child_close_stderr", None, c_void_p)
sbx_child_wait: Callable[..., int] = _declared("sbx_child_wait", c_int32, c_void_p, c_void_p, c_void_p)
sbx_child_wait_with_output: Callable[..., int] = _declared("sbx_child_wait_with_output", c_int32, c_void_p, c_void_p, c_void_p)
sbx_child_try_wait: Callable[..., int] = _declared("sbx_child_try_wait", c_int32, c_void_p, c_void_p, c_void_p, c_void_p)
sbx_child_kill: Callable[..., int] = _declared("sbx_child_kill", c_int32, c_void_p, c_void_p)
sbx_child_signal: Callable[..., int] = _declared("sbx_child_signal", c_int32, c_void_p, c_char_p, c_void_p)
sbx_child_resize: Callable[..., None] = _declared("sbx_child_resize", None, c_void_p, c_uint16, c_uint16)
sbx_child_free: Callable[..., None] = _declared("sbx_child_free", None, c_void_p)
sbx_client_new: Callable[..., int] = _declared("sbx_client_new", c_int32, c_void_p, c_void_p, c_void_p)
sbx_client_namespace: Callable[..., Optional[bytes]] = _declared("sbx_client_namespace", c_char_p, c_void_p)
sbx_client_max_sessions: Callable[..., int] = _declared("sbx_client_max_sessions", c_size_t, c_void_p)
sbx_client_api_requests: Callable[..., int] = _declared("sbx_client_api_requests", c_uint64, c_void_p)
sbx_client_create: Callable[..., int] = _declared("sbx_client_create", c_int32, c_void_p, c_void_p, c_void_p, c_void_p)
sbx_client_attach: Callable[..., int] = _declared("sbx_client_attach", c_int32, c_void_p, c_char_p, c_void_p, c_void_p)
sbx_client_list: Callable[..., int] = _declared("sbx_client_list", c_int32, c_void_p, c_void_p, c_void_p, c_void_p)
sbx_client_reap: Callable[..., int] = _declared("sbx_client_reap", c_int32, c_void_p, c_void_p, c_void_p)
sbx_client_delete_sandbox: Callable[..., int] = _declared("sbx_client_delete_sandbox", c_int32, c_void_p, c_char_p, c_void_p)
sbx_client_shutdown_sandbox: Callable[..., int] = _declared("sbx_client_shutdown_sandbox", c_int32, c_void_p, c_char_p, c_void_p)
sbx_client_execute_command: Callable[..., int] = _declared("sbx_client_execute_command", c_int32, c_void_p, c_char_p, c_char_p, c_void_p, c_void_p)
sbx_client_upload_file: Callable[..., int] = _declared("sbx_client_upload_file", c_int32, c_void_p, c_char_p, c_char_p, c_char_p, c_void_p, c_void_p)
sbx_client_download_file: Callable[..., int] = _declared("sbx_client_download_file", c_int32, c_void_p, c_char_p, c_char_p, c_char_p, c_void_p, c_void_p)
sbx_client_get_sandbox_info: Callable[..., int] = _declared("sbx_client_get_sandbox_info", c_int32, c_void_p, c_char_p, c_void_p, c_void_p)
sbx_client_ssh_port: Callable[..., int] = _declared("sbx_client_ssh_port", c_uint16, c_void_p, c_char_p)
sbx_client_free: Callable[..., None] = _declared("sbx_client_free", None, c_void_p)
sbx_command_add_arg: Callable[..., int] = _declared("sbx_command_add_arg", c_int32, c_void_p, c_char_p, c_void_p)
sbx_command_add_arg_bytes: Callable[..., int] = _declared("sbx_command_add_arg_bytes", c_int32, c_void_p, c_char_p, c_size_t, c_void_p)
sbx_command_set_env: Callable[..., int] = _declared("sbx_command_set_env", c_int32, c_void_p, c_char_p, c_char_p, c_void_p)
sbx_command_set_current_dir: Callable[..., int] = _declared("sbx_command_set_current_dir", c_int32, c_void_p, c_char_p, c_void_p)
sbx_command_set_user: Callable[..., int] = _declared("sbx_command_set_user", c_int32, c_void_p, c_char_p, c_void_p)
sbx_command_set_stdin: Callable[..., int] = _declared("sbx_command_set_stdin", c_int32, c_void_p, c_char_p, c_size_t, c_void_p)
sbx_command_set_stdin_fd: Callable[..., int] = _declared("sbx_command_set_stdin_fd", c_int32, c_void_p, c_int32, c_void_p)
sbx_command_discard_stdout: Callable[..., int] = _declared("sbx_command_discard_stdout", c_int32, c_void_p, c_void_p)
sbx_command_discard_stderr: Callable[..., int] = _declared("sbx_command_discard_stderr", c_int32, c_void_p, c_void_p)
sbx_command_merge_stderr: Callable[..., int] = _declared("sbx_command_merge_stderr", c_int32, c_void_p, c_void_p)
sbx_command_set_timeout: Callable[..., int] = _declared("sbx_command_set_timeout", c_int32, c_void_p, c_double, c_void_p)
sbx_command_set_terminal: Callable[..., int] = _declared("sbx_command_set_terminal", c_int32, c_void_p, c_char_p, c_uint16, c_uint16, c_void_p)
sbx_command_set_output_limit: Callable[..., int] = _declared("sbx_command_set_output_limit", c_int32, c_void_p, c_size_t, c_void_p)
sbx_command_output: Callable[..., int] = _declared("sbx_command_output", c_int32, c_void_p, c_void_p, c_void_p)
sbx_command_run: Callable[..., int] = _declared("sbx_command_run", c_int32, c_void_p, c_void_p, c_void_p)
sbx_command_stream: Callable[..., int] = _declared("sbx_command_stream", c_int32, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p)
sbx_command_spawn: Callable[..., int] = _declared("sbx_command_spawn", c_int32, c_void_p, c_void_p, c_void_p)
sbx_command_detach: Callable[..., int] = _declared("sbx_command_detach", c_int32, c_void_p, c_char_p, c_void_p, c_void_p)
sbx_command_free: Callable[..., None] = _declared("sbx_command_free", None, c_void_p)
sbx_exit_status_success: Callable[..., bool] = _declared("sbx_exit_status_success", c_bool, c_void_p)
sbx_exit_status_code: Callable[..., bool] = _declared("sbx_exit_status_code", c_bool, c_void_p, c_void_p)
sbx_exit_status_signal: Callable[..., Optional[bytes]] = _declared("sbx_exit_status_signal", c_char_p, c_void_p)
sbx_exit_status_free: Callable[..., None] = _declared("sbx_exit_status_free", None, c_void_p)
sbx_output_success: Callable[..., bool] = _declared("sbx_output_success", c_bool, c_void_p)
sbx_output_exit_code: Callable[..., bool] = _declared("sbx_output_exit_code", c_bool, c_void_p, c_void_p)
sbx_output_signal: Callable[..., Optional[bytes]] = _declared("sbx_output_signal", c_char_p, c_void_p)
sbx_output_stdout: Callable[..., Optional[int]] = _declared("sbx_output_stdout", c_void_p, c_void_p, c_void_p)
sbx_output_stderr: Callable[..., Optional[int]] = _declared("sbx_output_stderr", c_void_p, c_void_p, c_void_p)
sbx_output_truncated: Callable[..., int] = _declared("sbx_output_truncated", c_uint64, c_void_p)
sbx_output_check: Callable[..., int] = _declared("sbx_output_check", c_int32, c_void_p, c_void_p)
sbx_output_free: Callable[..., None] = _declared("sbx_output_free", None, c_void_p)
sbx_config_new: Callable[..., int] = _declared("sbx_config_new", c_int32, c_void_p, c_void_p)
sbx_config_from_env: Callable[..., int] = _declared("sbx_config_from_env", c_int32, c_void_p, c_void_p)
sbx_config_set: Callable[..., int] = _declared("sbx_config_set", c_int32, c_void_p, c_char_p, c_char_p, c_void_p)
sbx_config_set_namespace: Callable[..., int] = _declared("sbx_config_set_namespace", c_int32, c_void_p, c_char_p, c_void_p)
sbx_config_set_kubeconfig: Callable[..., int] = _declared("sbx_config_set_kubeconfig", c_int32, c_void_p, c_char_p, c_void_p)
sbx_config_set_context: Callable[..., int] = _declared("sbx_config_set_context", c_int32, c_void_p, c_char_p, c_void_p)
sbx_config_set_image: Callable[..., int] = _declared("sbx_config_set_image", c_int32, c_void_p, c_char_p, c_void_p)
sbx_config_set_ssh_user: Callable[..., int] = _declared("sbx_config_set_ssh_user", c_int32, c_void_p, c_char_p, c_void_p)
sbx_config_set_ssh_port: Callable[..., int] = _declared("sbx_config_set_ssh_port", c_int32, c_void_p, c_uint16, c_void_p)
sbx_config_set_ssh_key: Callable[..., int] = _declared("sbx_config_set_ssh_key", c_int32, c_void_p, c_char_p, c_void_p)
sbx_config_set_transport: Callable[..., int] = _declared("sbx_config_set_transport", c_int32, c_void_p, c_int32, c_void_p)
sbx_config_set_owner: Callable[..., int] = _declared("sbx_config_set_owner", c_int32, c_void_p, c_char_p, c_void_p)
sbx_config_set_lifetime: Callable[..., int] = _declared("sbx_config_set_lifetime", c_int32, c_void_p, c_double, c_void_p)
sbx_config_set_create_timeout: Callable[..., int] = _declared("sbx_config_set_create_timeout", c_int32, c_void_p, c_double, c_void_p)
sbx_config_set_connect_timeout: Callable[..., int] = _declared("sbx_config_set_connect_timeout", c_int32, c_void_p, c_double, c_void_p)
sbx_config_set_command_timeout: Callable[..., int] = _declared("sbx_config_set_command_timeout", c_int32, c_void_p, c_double, c_void_p)
sbx_config_set_transfer_timeout: Callable[..., int] = _declared("sbx_config_set_transfer_timeout", c_int32, c_void_p, c_double, c_void_p)
sbx_config_set_idle_timeout: Callable[..., int] = _declared("sbx_config_set_idle_timeout", c_int32, c_void_p, c_double, c_void_p)
sbx_config_set_max_sessions: Callable[..., int] = _declared("sbx_config_set_max_sessions", c_int32, c_void_p, c_size_t, c_void_p)
sbx_config_set_log: Callable[..., int] = _declared("sbx_config_set_log", c_int32, c_void_p, c_int32, c_void_p)
sbx_config_init_logging: Callable[..., int] = _declared("sbx_config_init_logging", c_int32, c_void_p, c_void_p)
sbx_config_free: Callable[..., None] = _declared("sbx_config_free", None, c_void_p)
sbx_detached_key: Callable[..., Optional[bytes]] = _declared("sbx_detached_key", c_char_p, c_void_p)
sbx_detached_try_wait: Callable[..., int] = _declared("sbx_detached_try_wait", c_int32, c_void_p, c_void_p, c_void_p, c_void_p)
sbx_detached_wait: Callable[..., int] = _declared("sbx_detached_wait", c_int32, c_void_p, c_double, c_void_p, c_void_p)
sbx_detached_read: Callable[..., int] = _declared("sbx_detached_read", c_int32, c_void_p, c_int32, c_uint64, c_size_t, c_void_p, c_void_p)
sbx_detached_stream: Callable[..., int] = _declared("sbx_detached_stream", c_int32, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p)
sbx_detached_kill: Callable[..., int] = _declared("sbx_detached_kill", c_int32, c_void_p, c_void_p)
sbx_detached_signal: Callable[..., int] = _declared("sbx_detached_signal", c_int32, c_void_p, c_char_p, c_void_p)
sbx_detached_remove: Callable[..., int] = _declared("sbx_detached_remove", c_int32, c_void_p, c_void_p)
sbx_detached_free: Callable[..., None] = _declared("sbx_detached_free", None, c_void_p)
sbx_diagnose: Callable[..., int] = _declared("sbx_diagnose", c_int32, c_void_p, c_char_p, c_void_p, c_void_p)
sbx_report_state: Callable[..., int] = _declared("sbx_report_state", c_int32, c_void_p)
sbx_report_summary: Callable[..., Optional[bytes]] = _declared("sbx_report_summary", c_char_p, c_void_p)
sbx_report_count: Callable[..., int] = _declared("sbx_report_count", c_size_t, c_void_p)
sbx_report_name_at: Callable[..., Optional[bytes]] = _declared("sbx_report_name_at", c_char_p, c_void_p, c_size_t)
sbx_report_state_at: Callable[..., int] = _declared("sbx_report_state_at", c_int32, c_void_p, c_size_t)
sbx_report_found_at: Callable[..., Optional[bytes]] = _declared("sbx_report_found_at", c_char_p, c_void_p, c_size_t)
sbx_report_fix_at: Callable[..., Optional[bytes]] = _declared("sbx_report_fix_at", c_char_p, c_void_p, c_size_t)
sbx_report_free: Callable[..., None] = _declared("sbx_report_free", None, c_void_p)
sbx_status_name: Callable[..., Optional[bytes]] = _declared("sbx_status_name", c_char_p, c_int32)
sbx_status_count: Callable[..., int] = _declared("sbx_status_count", c_size_t)
sbx_status_at: Callable[..., int] = _declared("sbx_status_at", c_int32, c_size_t)
sbx_error_status: Callable[..., int] = _declared("sbx_error_status", c_int32, c_void_p)
sbx_error_message: Callable[..., Optional[bytes]] = _declared("sbx_error_message", c_char_p, c_void_p)
sbx_error_operation: Callable[..., Optional[bytes]] = _declared("sbx_error_operation", c_char_p, c_void_p)
sbx_error_sandbox: Callable[..., Optional[bytes]] = _declared("sbx_error_sandbox", c_char_p, c_void_p)
sbx_error_is_retryable: Callable[..., bool] = _declared("sbx_error_is_retryable", c_bool, c_void_p)
sbx_error_http_status: Callable[..., int] = _declared("sbx_error_http_status", c_int32, c_void_p)
sbx_error_ssh_code: Callable[..., int] = _declared("sbx_error_ssh_code", c_int32, c_void_p)
sbx_error_errno: Callable[..., int] = _declared("sbx_error_errno", c_int32, c_void_p)
sbx_error_verdict_cause: Callable[..., int] = _declared("sbx_error_verdict_cause", c_int32, c_void_p)
sbx_error_verdict_reason: Callable[..., Optional[bytes]] = _declared("sbx_error_verdict_reason", c_char_p, c_void_p)
sbx_error_verdict_message: Callable[..., Optional[bytes]] = _declared("sbx_error_verdict_message", c_char_p, c_void_p)
sbx_error_stdout: Callable[..., Optional[int]] = _declared("sbx_error_stdout", c_void_p, c_void_p, c_void_p)
sbx_error_stderr: Callable[..., Optional[int]] = _declared("sbx_error_stderr", c_void_p, c_void_p, c_void_p)
sbx_error_free: Callable[..., None] = _declared("sbx_error_free", None, c_void_p)
sbx_forward_local: Callable[..., Optional[bytes]] = _declared("sbx_forward_local", c_char_p, c_void_p)
sbx_forward_port: Callable[..., int] = _declared("sbx_forward_port", c_uint16, c_void_p)
sbx_forward_connections: Callable[..., int] = _declared("sbx_forward_connections", c_size_t, c_void_p)
sbx_forward_is_open: Callable[..., bool] = _declared("sbx_forward_is_open", c_bool, c_void_p)
sbx_forward_last_failure: Callable[..., bool] = _declared("sbx_forward_last_failure", c_bool, c_void_p, c_void_p)
sbx_forward_wait: Callable[..., int] = _declared("sbx_forward_wait", c_int32, c_void_p, c_void_p)
sbx_forward_close: Callable[..., None] = _declared("sbx_forward_close", None, c_void_p)
sbx_forward_free: Callable[..., None] = _declared("sbx_forward_free", None, c_void_p)
sbx_sandbox_open_file: Callable[..., int] = _declared("sbx_sandbox_open_file", c_int32, c_void_p, c_char_p, c_int32, c_uint32, c_void_p, c_void_p)
sbx_file_read: Callable[..., int] = _declared("sbx_file_read", c_int32, c_void_p, c_void_p, c_size_t, c_void_p, c_void_p)
sbx_file_write: Callable[..., int] = _declared("sbx_file_write", c_int32, c_void_p, c_char_p, c_size_t, c_void_p)
sbx_file_seek: Callable[..., int] = _declared("sbx_file_seek", c_int32, c_void_p, c_int64, c_int32, c_void_p, c_void_p)
sbx_file_metadata: Callable[..., int] = _declared("sbx_file_metadata", c_int32, c_void_p, c_void_p, c_void_p)
sbx_file_set_size: Callable[..., int] = _declared("sbx_file_set_size", c_int32, c_void_p, c_uint64, c_void_p)
sbx_file_set_permissions: Callable[..., int] = _declared("sbx_file_set_permissions", c_int32, c_void_p, c_uint32, c_void_p)
sbx_file_sync: Callable[..., int] = _declared("sbx_file_sync", c_int32, c_void_p, c_void_p)
sbx_file_close: Callable[..., int] = _declared("sbx_file_close", c_int32, c_void_p, c_void_p)
sbx_file_free: Callable[..., None] = _declared("sbx_file_free", None, c_void_p)
sbx_sandbox_upload_file: Callable[..., int] = _declared("sbx_sandbox_upload_file", c_int32, c_void_p, c_char_p, c_char_p, c_void_p, c_void_p)
sbx_sandbox_download_file: Callable[..., int] = _declared("sbx_sandbox_download_file", c_int32, c_void_p, c_char_p, c_char_p, c_void_p, c_void_p)
sbx_sandbox_write_file: Callable[..., int] = _declared("sbx_sandbox_write_file", c_int32, c_void_p, c_char_p, c_char_p, c_size_t, c_void_p)
sbx_sandbox_read_file: Callable[..., int] = _declared("sbx_sandbox_read_file", c_int32, c_void_p, c_char_p, c_void_p, c_void_p)
sbx_bytes_data: Callable[..., Optional[int]] = _declared("sbx_bytes_data", c_void_p, c_void_p, c_void_p)
sbx_bytes_free: Callable[..., None] = _declared("sbx_bytes_free", None, c_void_p)
sbx_sandbox_append_file: Callable[..., int] = _declared("sbx_sandbox_append_file", c_int32, c_void_p, c_char_p, c_char_p, c_size_t, c_void_p)
sbx_sandbox_file_metadata: Callable[..., int] = _declared("sbx_sandbox_file_metadata", c_int32, c_void_p, c_char_p, c_void_p, c_void_p)
sbx_sandbox_symlink_metadata: Callable[..., int] = _declared("sbx_sandbox_symlink_metadata", c_int32, c_void_p, c_char_p, c_void_p, c_void_p)
sbx_sandbox_file_exists: Callable[..., int] = _declared("sbx_sandbox_file_exists", c_int32, c_void_p, c_char_p, c_void_p, c_void_p)
sbx_sandbox_read_dir: Callable[..., int] = _declared("sbx_sandbox_read_dir", c_int32, c_void_p, c_char_p, c_void_p, c_void_p)
sbx_sandbox_create_dir: Callable[..., int] = _declared("sbx_sandbox_create_dir", c_int32, c_void_p, c_char_p, c_void_p)
sbx_sandbox_create_dir_all: Callable[..., int] = _declared("sbx_sandbox_create_dir_all", c_int32, c_void_p, c_char_p, c_void_p)
sbx_sandbox_remove_file: Callable[..., int] = _declared("sbx_sandbox_remove_file", c_int32, c_void_p, c_char_p, c_void_p)
sbx_sandbox_remove_dir: Callable[..., int] = _declared("sbx_sandbox_remove_dir", c_int32, c_void_p, c_char_p, c_void_p)
sbx_sandbox_remove_dir_all: Callable[..., int] = _declared("sbx_sandbox_remove_dir_all", c_int32, c_void_p, c_char_p, c_void_p)
sbx_sandbox_rename_file: Callable[..., int] = _declared("sbx_sandbox_rename_file", c_int32, c_void_p, c_char_p, c_char_p, c_void_p)
sbx_sandbox_set_file_permissions: Callable[..., int] = _declared("sbx_sandbox_set_file_permissions", c_int32, c_void_p, c_char_p, c_uint32, c_void_p)
sbx_sandbox_create_symlink: Callable[..., int] = _declared("sbx_sandbox_create_symlink", c_int32, c_void_p, c_char_p, c_char_p, c_void_p)
sbx_sandbox_read_link: Callable[..., int] = _declared("sbx_sandbox_read_link", c_int32, c_void_p, c_char_p, c_void_p, c_void_p)
sbx_sandbox_resolve_path: Callable[..., int] = _declared("sbx_sandbox_resolve_path", c_int32, c_void_p, c_char_p, c_void_p, c_void_p)
sbx_metadata_kind: Callable[..., int] = _declared("sbx_metadata_kind", c_int32, c_void_p)
sbx_metadata_size: Callable[..., int] = _declared("sbx_metadata_size", c_uint64, c_void_p)
sbx_metadata_mode: Callable[..., int] = _declared("sbx_metadata_mode", c_uint32, c_void_p)
sbx_metadata_modified: Callable[..., bool] = _declared("sbx_metadata_modified", c_bool, c_void_p, c_void_p)
sbx_metadata_accessed: Callable[..., bool] = _declared("sbx_metadata_accessed", c_bool, c_void_p, c_void_p)
sbx_metadata_free: Callable[..., None] = _declared("sbx_metadata_free", None, c_void_p)
sbx_dir_entries_count: Callable[..., int] = _declared("sbx_dir_entries_count", c_size_t, c_void_p)
sbx_dir_entries_name_at: Callable[..., Optional[bytes]] = _declared("sbx_dir_entries_name_at", c_char_p, c_void_p, c_size_t)
sbx_dir_entries_metadata_at: Callable[..., Optional[int]] = _declared("sbx_dir_entries_metadata_at", c_void_p, c_void_p, c_size_t)
sbx_dir_entries_free: Callable[..., None] = _declared("sbx_dir_entries_free", None, c_void_p)
sbx_filter_new: Callable[..., int] = _declared("sbx_filter_new", c_int32, c_void_p, c_void_p)
sbx_filter_set_owner: Callable[..., int] = _declared("sbx_filter_set_owner", c_int32, c_void_p, c_char_p, c_void_p)
sbx_filter_set_label: Callable[..., int] = _declared("sbx_filter_set_label", c_int32, c_void_p, c_char_p, c_char_p, c_void_p)
sbx_filter_add_phase: Callable[..., int] = _declared("sbx_filter_add_phase", c_int32, c_void_p, c_int32, c_void_p)
sbx_filter_set_older_than: Callable[..., int] = _declared("sbx_filter_set_older_than", c_int32, c_void_p, c_double, c_void_p)
sbx_filter_set_younger_than: Callable[..., int] = _declared("sbx_filter_set_younger_than", c_int32, c_void_p, c_double, c_void_p)
sbx_filter_free: Callable[..., None] = _declared("sbx_filter_free", None, c_void_p)
sbx_info_name: Callable[..., Optional[bytes]] = _declared("sbx_info_name", c_char_p, c_void_p)
sbx_info_namespace: Callable[..., Optional[bytes]] = _declared("sbx_info_namespace", c_char_p, c_void_p)
sbx_info_uid: Callable[..., Optional[bytes]] = _declared("sbx_info_uid", c_char_p, c_void_p)
sbx_info_phase: Callable[..., int] = _declared("sbx_info_phase", c_int32, c_void_p)
sbx_info_owner: Callable[..., Optional[bytes]] = _declared("sbx_info_owner", c_char_p, c_void_p)
sbx_info_image: Callable[..., Optional[bytes]] = _declared("sbx_info_image", c_char_p, c_void_p)
sbx_info_node: Callable[..., Optional[bytes]] = _declared("sbx_info_node", c_char_p, c_void_p)
sbx_info_pod_ip: Callable[..., Optional[bytes]] = _declared("sbx_info_pod_ip", c_char_p, c_void_p)
sbx_info_ssh_port: Callable[..., int] = _declared("sbx_info_ssh_port", c_uint16, c_void_p)
sbx_info_ssh_user: Callable[..., Optional[bytes]] = _declared("sbx_info_ssh_user", c_char_p, c_void_p)
sbx_info_host_key: Callable[..., Optional[bytes]] = _declared("sbx_info_host_key", c_char_p, c_void_p)
sbx_info_created_at: Callable[..., bool] = _declared("sbx_info_created_at", c_bool, c_void_p, c_void_p)
sbx_info_expires_at: Callable[..., bool] = _declared("sbx_info_expires_at", c_bool, c_void_p, c_void_p)
sbx_info_label: Callable[..., Optional[bytes]] = _declared("sbx_info_label", c_char_p, c_void_p, c_char_p)
sbx_info_label_count: Callable[..., int] = _declared("sbx_info_label_count", c_size_t, c_void_p)
sbx_info_label_name_at: Callable[..., Optional[bytes]] = _declared("sbx_info_label_name_at", c_char_p, c_void_p, c_size_t)
sbx_info_label_value_at: Callable[..., Optional[bytes]] = _declared("sbx_info_label_value_at", c_char_p, c_void_p, c_size_t)
sbx_info_verdict_cause: Callable[..., int] = _declared("sbx_info_verdict_cause", c_int32, c_void_p)
sbx_info_verdict_reason: Callable[..., Optional[bytes]] = _declared("sbx_info_verdict_reason", c_char_p, c_void_p)
sbx_info_verdict_message: Callable[..., Optional[bytes]] = _declared("sbx_info_verdict_message", c_char_p, c_void_p)
sbx_info_free: Callable[..., None] = _declared("sbx_info_free", None, c_void_p)
sbx_info_list_count: Callable[..., int] = _declared("sbx_info_list_count", c_size_t, c_void_p)
sbx_info_list_at: Callable[..., Optional[int]] = _declared("sbx_info_list_at", c_void_p, c_void_p, c_size_t)
sbx_info_list_free: Callable[..., None] = _declared("sbx_info_list_free", None, c_void_p)
sbx_name_list_count: Callable[..., int] = _declared("sbx_name_list_count", c_size_t, c_void_p)
sbx_name_list_at: Callable[..., Optional[bytes]] = _declared("sbx_name_list_at", c_char_p, c_void_p, c_size_t)
sbx_name_list_free: Callable[..., None] = _declared("sbx_name_list_free", None, c_void_p)
sbx_sandbox_authorize_key: Callable[..., int] = _declared("sbx_sandbox_authorize_key", c_int32, c_void_p, c_char_p, c_double, c_void_p)
sbx_sandbox_authorized_keys: Callable[..., int] = _declared("sbx_sandbox_authorized_keys", c_int32, c_void_p, c_void_p, c_void_p)
sbx_sandbox_revoke_key: Callable[..., int] = _declared("sbx_sandbox_revoke_key", c_int32, c_void_p, c_char_p, c_void_p, c_void_p)
sbx_key_list_count: Callable[..., int] = _declared("sbx_key_list_count", c_size_t, c_void_p)
sbx_key_list_key_at: Callable[..., Optional[bytes]] = _declared("sbx_key_list_key_at", c_char_p, c_void_p, c_size_t)
sbx_key_list_remaining_at: Callable[..., bool] = _declared("sbx_key_list_remaining_at", c_bool, c_void_p, c_size_t, c_void_p)
sbx_key_list_free: Callable[..., None] = _declared("sbx_key_list_free", None, c_void_p)
sbx_log_set_handler: Callable[..., int] = _declared("sbx_log_set_handler", c_int32, c_int32, c_void_p, c_void_p, c_void_p)
sbx_pool_options_new: Callable[..., int] = _declared("sbx_pool_options_new", c_int32, c_void_p, c_void_p)
sbx_pool_options_set_size: Callable[..., int] = _declared("sbx_pool_options_set_size", c_int32, c_void_p, c_size_t, c_void_p)
sbx_pool_options_set_idle_lifetime: Callable[..., int] = _declared("sbx_pool_options_set_idle_lifetime", c_int32, c_void_p, c_double, c_void_p)
sbx_pool_options_set_creates_at_once: Callable[..., int] = _declared("sbx_pool_options_set_creates_at_once", c_int32, c_void_p, c_size_t, c_void_p)
sbx_pool_options_set_creates_per_second: Callable[..., int] = _declared("sbx_pool_options_set_creates_per_second", c_int32, c_void_p, c_double, c_void_p)
sbx_pool_options_set_keep_filled: Callable[..., int] = _declared("sbx_pool_options_set_keep_filled", c_int32, c_void_p, c_bool, c_void_p)
sbx_pool_options_free: Callable[..., None] = _declared("sbx_pool_options_free", None, c_void_p)
sbx_claim_new: Callable[..., int] = _declared("sbx_claim_new", c_int32, c_void_p, c_void_p)
sbx_claim_set_env: Callable[..., int] = _declared("sbx_claim_set_env", c_int32, c_void_p, c_char_p, c_char_p, c_void_p)
sbx_claim_set_label: Callable[..., int] = _declared("sbx_claim_set_label", c_int32, c_void_p, c_char_p, c_char_p, c_void_p)
sbx_claim_set_annotation: Callable[..., int] = _declared("sbx_claim_set_annotation", c_int32, c_void_p, c_char_p, c_char_p, c_void_p)
sbx_claim_set_lifetime: Callable[..., int] = _declared("sbx_claim_set_lifetime", c_int32, c_void_p, c_double, c_void_p)
sbx_claim_set_owner: Callable[..., int] = _declared("sbx_claim_set_owner", c_int32, c_void_p, c_char_p, c_void_p)
sbx_claim_add_file: Callable[..., int] = _declared("sbx_claim_add_file", c_int32, c_void_p, c_char_p, c_char_p, c_size_t, c_void_p)
sbx_claim_set_on_miss: Callable[..., int] = _declared("sbx_claim_set_on_miss", c_int32, c_void_p, c_int32, c_void_p)
sbx_claim_free: Callable[..., None] = _declared("sbx_claim_free", None, c_void_p)
sbx_client_pool: Callable[..., int] = _declared("sbx_client_pool", c_int32, c_void_p, c_char_p, c_void_p, c_void_p, c_void_p, c_void_p)
sbx_pool_name: Callable[..., Optional[bytes]] = _declared("sbx_pool_name", c_char_p, c_void_p)
sbx_pool_fill: Callable[..., int] = _declared("sbx_pool_fill", c_int32, c_void_p, c_void_p, c_void_p, c_void_p)
sbx_pool_claim: Callable[..., int] = _declared("sbx_pool_claim", c_int32, c_void_p, c_void_p, c_void_p, c_void_p)
sbx_pool_status: Callable[..., int] = _declared("sbx_pool_status", c_int32, c_void_p, c_void_p, c_void_p)
sbx_pool_counter: Callable[..., int] = _declared("sbx_pool_counter", c_uint64, c_void_p, c_int32)
sbx_pool_drain: Callable[..., int] = _declared("sbx_pool_drain", c_int32, c_void_p, c_void_p, c_void_p)
sbx_pool_remove: Callable[..., int] = _declared("sbx_pool_remove", c_int32, c_void_p, c_void_p, c_void_p)
sbx_pool_free: Callable[..., None] = _declared("sbx_pool_free", None, c_void_p)
sbx_pool_state_ready: Callable[..., int] = _declared("sbx_pool_state_ready", c_size_t, c_void_p)
sbx_pool_state_filling: Callable[..., int] = _declared("sbx_pool_state_filling", c_size_t, c_void_p)
sbx_pool_state_claimed: Callable[..., int] = _declared("sbx_pool_state_claimed", c_size_t, c_void_p)
sbx_pool_state_ending: Callable[..., int] = _declared("sbx_pool_state_ending", c_size_t, c_void_p)
sbx_pool_state_foreign: Callable[..., int] = _declared("sbx_pool_state_foreign", c_size_t, c_void_p)
sbx_pool_state_oldest: Callable[..., bool] = _declared("sbx_pool_state_oldest", c_bool, c_void_p, c_void_p)
sbx_pool_state_held: Callable[..., Optional[bytes]] = _declared("sbx_pool_state_held", c_char_p, c_void_p)
sbx_pool_state_free: Callable[..., None] = _declared("sbx_pool_state_free", None, c_void_p)
sbx_sandbox_name: Callable[..., Optional[bytes]] = _declared("sbx_sandbox_name", c_char_p, c_void_p)
sbx_sandbox_uid: Callable[..., Optional[bytes]] = _declared("sbx_sandbox_uid", c_char_p, c_void_p)
sbx_sandbox_ssh_port: Callable[..., int] = _declared("sbx_sandbox_ssh_port", c_uint16, c_void_p)
sbx_sandbox_host_key: Callable[..., Optional[bytes]] = _declared("sbx_sandbox_host_key", c_char_p, c_void_p)
sbx_sandbox_timings: Callable[..., bool] = _declared("sbx_sandbox_timings", c_bool, c_void_p, c_void_p, c_void_p, c_void_p)
sbx_sandbox_origin: Callable[..., int] = _declared("sbx_sandbox_origin", c_int32, c_void_p)
sbx_sandbox_session_counts: Callable[..., None] = _declared("sbx_sandbox_session_counts", None, c_void_p, c_void_p, c_void_p)
sbx_sandbox_info: Callable[..., int] = _declared("sbx_sandbox_info", c_int32, c_void_p, c_void_p, c_void_p)
sbx_sandbox_execute: Callable[..., int] = _declared("sbx_sandbox_execute", c_int32, c_void_p, c_char_p, c_void_p, c_void_p)
sbx_sandbox_command: Callable[..., int] = _declared("sbx_sandbox_command", c_int32, c_void_p, c_char_p, c_void_p, c_void_p)
sbx_sandbox_shell: Callable[..., int] = _declared("sbx_sandbox_shell", c_int32, c_void_p, c_char_p, c_void_p, c_void_p)
sbx_sandbox_detached: Callable[..., int] = _declared("sbx_sandbox_detached", c_int32, c_void_p, c_char_p, c_void_p, c_void_p)
sbx_sandbox_connect: Callable[..., int] = _declared("sbx_sandbox_connect", c_int32, c_void_p, c_char_p, c_void_p, c_void_p)
sbx_sandbox_forward: Callable[..., int] = _declared("sbx_sandbox_forward", c_int32, c_void_p, c_char_p, c_char_p, c_void_p, c_void_p)
sbx_sandbox_wait_for_port: Callable[..., int] = _declared("sbx_sandbox_wait_for_port", c_int32, c_void_p, c_char_p, c_double, c_void_p)
sbx_sandbox_renew: Callable[..., int] = _declared("sbx_sandbox_renew", c_int32, c_void_p, c_double, c_void_p, c_void_p)
sbx_sandbox_delete: Callable[..., int] = _declared("sbx_sandbox_delete", c_int32, c_void_p, c_void_p)
sbx_sandbox_shutdown: Callable[..., int] = _declared("sbx_sandbox_shutdown", c_int32, c_void_p, c_void_p)
sbx_sandbox_free: Callable[..., None] = _declared("sbx_sandbox_free", None, c_void_p)
sbx_spec_new: Callable[..., int] = _declared("sbx_spec_new", c_int32, c_void_p, c_void_p)
sbx_spec_set_name: Callable[..., int] = _declared("sbx_spec_set_name", c_int32, c_void_p, c_char_p, c_void_p)
sbx_spec_set_image: Callable[..., int] = _declared("sbx_spec_set_image", c_int32, c_void_p, c_char_p, c_void_p)
sbx_spec_set_env: Callable[..., int] = _declared("sbx_spec_set_env", c_int32, c_void_p, c_char_p, c_char_p, c_void_p)
sbx_spec_set_label: Callable[..., int] = _declared("sbx_spec_set_label", c_int32, c_void_p, c_char_p, c_char_p, c_void_p)
sbx_spec_set_annotation: Callable[..., int] = _declared("sbx_spec_set_annotation", c_int32, c_void_p, c_char_p, c_char_p, c_void_p)
sbx_spec_set_cpu: Callable[..., int] = _declared("sbx_spec_set_cpu", c_int32, c_void_p, c_char_p, c_void_p)
sbx_spec_set_cpu_request: Callable[..., int] = _declared("sbx_spec_set_cpu_request", c_int32, c_void_p, c_char_p, c_void_p)
sbx_spec_set_memory: Callable[..., int] = _declared("sbx_spec_set_memory", c_int32, c_void_p, c_char_p, c_void_p)
sbx_spec_set_memory_request: Callable[..., int] = _declared("sbx_spec_set_memory_request", c_int32, c_void_p, c_char_p, c_void_p)
sbx_spec_set_disk: Callable[..., int] = _declared("sbx_spec_set_disk", c_int32, c_void_p, c_char_p, c_void_p)
sbx_spec_set_lifetime: Callable[..., int] = _declared("sbx_spec_set_lifetime", c_int32, c_void_p, c_double, c_void_p)
sbx_spec_set_hard_limit: Callable[..., int] = _declared("sbx_spec_set_hard_limit", c_int32, c_void_p, c_double, c_void_p)
sbx_spec_set_idle_timeout: Callable[..., int] = _declared("sbx_spec_set_idle_timeout", c_int32, c_void_p, c_double, c_void_p)
sbx_spec_set_user_from_cluster: Callable[..., int] = _declared("sbx_spec_set_user_from_cluster", c_int32, c_void_p, c_void_p)
sbx_spec_set_commands_as: Callable[..., int] = _declared("sbx_spec_set_commands_as", c_int32, c_void_p, c_char_p, c_void_p)
sbx_spec_set_runtime_class: Callable[..., int] = _declared("sbx_spec_set_runtime_class", c_int32, c_void_p, c_char_p, c_void_p)
sbx_spec_set_node_selector: Callable[..., int] = _declared("sbx_spec_set_node_selector", c_int32, c_void_p, c_char_p, c_char_p, c_void_p)
sbx_spec_set_unschedulable_grace: Callable[..., int] = _declared("sbx_spec_set_unschedulable_grace", c_int32, c_void_p, c_double, c_void_p)
sbx_spec_set_pod_template: Callable[..., int] = _declared("sbx_spec_set_pod_template", c_int32, c_void_p, c_char_p, c_void_p)
sbx_spec_free: Callable[..., None] = _declared("sbx_spec_free", None, c_void_p)
sbx_thread_on_wait: Callable[..., None] = _declared("sbx_thread_on_wait", None, c_void_p, c_void_p)
sbx_sandbox_transfer: Callable[..., int] = _declared("sbx_sandbox_transfer", c_int32, c_void_p, c_void_p, c_void_p)
sbx_transfer_set_checksum: Callable[..., int] = _declared("sbx_transfer_set_checksum", c_int32, c_void_p, c_bool, c_void_p)
sbx_transfer_set_sync: Callable[..., int] = _declared("sbx_transfer_set_sync", c_int32, c_void_p, c_bool, c_void_p)
sbx_transfer_set_resume: Callable[..., int] = _declared("sbx_transfer_set_resume", c_int32, c_void_p, c_bool, c_void_p)
sbx_transfer_set_mode: Callable[..., int] = _declared("sbx_transfer_set_mode", c_int32, c_void_p, c_uint32, c_void_p)
sbx_transfer_set_max_bytes: Callable[..., int] = _declared("sbx_transfer_set_max_bytes", c_int32, c_void_p, c_uint64, c_void_p)
sbx_transfer_set_max_entries: Callable[..., int] = _declared("sbx_transfer_set_max_entries", c_int32, c_void_p, c_uint64, c_void_p)
sbx_transfer_upload: Callable[..., int] = _declared("sbx_transfer_upload", c_int32, c_void_p, c_char_p, c_char_p, c_void_p, c_void_p, c_void_p, c_void_p)
sbx_transfer_download: Callable[..., int] = _declared("sbx_transfer_download", c_int32, c_void_p, c_char_p, c_char_p, c_void_p, c_void_p, c_void_p, c_void_p)
sbx_transfer_upload_from: Callable[..., int] = _declared("sbx_transfer_upload_from", c_int32, c_void_p, c_void_p, c_char_p, c_void_p, c_void_p, c_void_p, c_void_p)
sbx_transfer_download_to: Callable[..., int] = _declared("sbx_transfer_download_to", c_int32, c_void_p, c_char_p, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p)
sbx_transfer_upload_dir: Callable[..., int] = _declared("sbx_transfer_upload_dir", c_int32, c_void_p, c_char_p, c_char_p, c_void_p, c_void_p, c_void_p, c_void_p)
sbx_transfer_download_dir: Callable[..., int] = _declared("sbx_transfer_download_dir", c_int32, c_void_p, c_char_p, c_char_p, c_void_p, c_void_p, c_void_p, c_void_p)
sbx_transfer_free: Callable[..., None] = _declared("sbx_transfer_free", None, c_void_p)
sbx_transferred_bytes: Callable[..., int] = _declared("sbx_transferred_bytes", c_uint64, c_void_p)
sbx_transferred_resumed: Callable[..., int] = _declared("sbx_transferred_resumed", c_uint64, c_void_p)
sbx_transferred_sha256: Callable[..., Optional[int]] = _declared("sbx_transferred_sha256", c_void_p, c_void_p)
sbx_transferred_free: Callable[..., None] = _declared("sbx_transferred_free", None, c_void_p)
sbx_tree_report_files: Callable[..., int] = _declared("sbx_tree_report_files", c_uint64, c_void_p)
sbx_tree_report_directories: Callable[..., int] = _declared("sbx_tree_report_directories", c_uint64, c_void_p)
sbx_tree_report_symlinks: Callable[..., int] = _declared("sbx_tree_report_symlinks", c_uint64, c_void_p)
sbx_tree_report_bytes: Callable[..., int] = _declared("sbx_tree_report_bytes", c_uint64, c_void_p)
sbx_tree_report_skipped: Callable[..., int] = _declared("sbx_tree_report_skipped", c_uint64, c_void_p)
sbx_tree_report_note_count: Callable[..., int] = _declared("sbx_tree_report_note_count", c_size_t, c_void_p)
sbx_tree_report_note_path_at: Callable[..., Optional[bytes]] = _declared("sbx_tree_report_note_path_at", c_char_p, c_void_p, c_size_t)
sbx_tree_report_note_text_at: Callable[..., Optional[bytes]] = _declared("sbx_tree_report_note_text_at", c_char_p, c_void_p, c_size_t)
sbx_tree_report_free: Callable[..., None] = _declared("sbx_tree_report_free", None, c_void_p)
sbx_sandbox_usage: Callable[..., int] = _declared("sbx_sandbox_usage", c_int32, c_void_p, c_void_p, c_void_p)
sbx_usage_value: Callable[..., bool] = _declared("sbx_usage_value", c_bool, c_void_p, c_int32, c_void_p)
sbx_usage_free: Callable[..., None] = _declared("sbx_usage_free", None, c_void_p)
