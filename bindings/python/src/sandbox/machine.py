"""A sandbox that runs."""

import math
import os
import socket
from ctypes import byref, c_bool, c_double, c_int, c_int64, c_size_t
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import PurePosixPath
from typing import Any, Literal, Optional, Union, overload

from . import _abi as abi
from ._abi import Origin
from ._boundary import Closable, Handle, Text, begun, call, decoded, encoded, interruptible, make, seconds
from ._types import ReadableBuffer, Unpack
from .child import Child
from .command import DEVNULL, PIPE, STDOUT, Arguments, CommandOptions, CompletedCommand, RunOptions, prepared
from .detached import Detached
from .errors import ClosedError, CommandExecutionError, NotFoundError, SandboxDeletionError, SandboxError, beside
from .files import SandboxPath
from .forward import Forward
from .info import SandboxInfo, info_of, point
from .keys import AuthorizedKey
from .running import Plan
from .transfer import OnProgress, Reader, Transfer, Transferred, TreeReport, Writer
from .usage import Usage, usage_of


@dataclass(frozen=True)
class Timings:
    """How long each phase of a creation, or of a claim, took, in seconds from the call.

    accepted: until the API server had stored the Pod, or given the sandbox of a pool to this client.
    started: until the container had started.
    logged_in: until the SSH login had succeeded.
    origin: where the sandbox comes from.
    """

    accepted: float
    started: float
    logged_in: float
    origin: Origin


@dataclass(frozen=True)
class SessionCounts:
    """How many SSH sessions the client has to a sandbox at a moment.

    idle: those that wait for use.
    busy: those in use.
    """

    idle: int
    busy: int


def named(place: "Union[int, Text]") -> Text:
    """A port or a path as text."""
    return str(place) if isinstance(place, int) else place


class Machine(Closable):
    """A running sandbox: a Pod with an SSH server, made by Client.create() or Client.attach().

    It may be used from many threads at once. `with client.create() as machine:` deletes the sandbox at the block's end,
    and `with client.attach(name) as machine:` does not. close() lets go of the handle and does nothing to the sandbox,
    which stays until delete(), or until it expires.

    Ctrl-C (KeyboardInterrupt, in the main thread) ends every call that waits, and so does whatever a signal handler
    raises. run() and execute() kill the command and all its processes, as at its timeout, before the exception comes.
    A command whose popen() is interrupted is killed too. Transfers leave the target as it was, and a deletion goes on.
    Whether anything else was done is open. Handlers that raise nothing run while a call waits, and it goes on.

    name: name of the sandbox and of its Pod.
    uid: Kubernetes' unique id of the Pod.
    """

    def __init__(self, handle: Handle, is_own: bool) -> None:
        self._handle: Optional[Handle] = handle
        self._is_own = is_own
        self.name = decoded(abi.sbx_sandbox_name(handle))
        self.uid = decoded(abi.sbx_sandbox_uid(handle))

    def __repr__(self) -> str:
        return f"<sandbox.Machine {self.name!r}{', closed' if self.closed else ''}>"

    def __exit__(self, *reason: object) -> None:
        handle, raised = self._handle, reason[1] if len(reason) > 1 else None
        try:
            # What a forked child has inherited is the parent's.
            if self._is_own and handle is not None and not handle.is_of_parent:
                self.delete()
        except (NotFoundError, ClosedError):
            # The block has deleted it, or somebody else.
            pass
        except SandboxError as failure:
            if not isinstance(raised, BaseException):
                raise
            # What ended the block is what the caller has to see.
            beside(raised, failure)
        finally:
            self.close()

    # The sandbox itself.

    @property
    def ssh_port(self) -> int:
        """Port of the SSH server, from the cache."""
        return abi.sbx_sandbox_ssh_port(self._open())

    @property
    def host_key(self) -> Optional[str]:
        """The SSH server's host key as it is pinned, as OpenSSH writes it; None before the first connection."""
        key = abi.sbx_sandbox_host_key(self._open())
        return None if key is None else decoded(key)

    @property
    def timings(self) -> Optional[Timings]:
        """How long each phase of the creation or the claim took; None unless this came from Client.create() or
        Pool.claim().
        """
        places = c_double(), c_double(), c_double()
        handle = self._open()
        is_known = abi.sbx_sandbox_timings(handle, *(byref(place) for place in places))
        accepted, started, logged_in = (place.value for place in places)
        origin = Origin(abi.sbx_sandbox_origin(handle))
        return Timings(accepted, started, logged_in, origin) if is_known else None

    @property
    def session_counts(self) -> SessionCounts:
        """How many idle and busy SSH sessions the client has to this sandbox at this moment."""
        idle, busy = c_size_t(), c_size_t()
        abi.sbx_sandbox_session_counts(self._open(), byref(idle), byref(busy))
        return SessionCounts(idle.value, busy.value)

    def info(self) -> SandboxInfo:
        """Asks Kubernetes about the sandbox: one API call. SandboxNotFoundError if its Pod is gone."""
        return info_of(interruptible(make, abi.sbx_sandbox_info, abi.sbx_info_free, self._open()))

    def usage(self) -> Usage:
        """Asks the sandbox what it uses now: one round trip and no API call."""
        return usage_of(interruptible(make, abi.sbx_sandbox_usage, abi.sbx_usage_free, self._open()))

    def authorize_key(self, key: str, lifetime: float = math.inf) -> None:
        """Lets somebody else log in with OpenSSH's programs, who has the private key of `key`: a line as in
        authorized_keys, without options. It is good for `lifetime` seconds from now, or as long as the sandbox lives.
        Whoever logs in with it can do there what this client can, but let nobody else in.

        InvalidArgumentError if this is no public key, ConflictError if it is the key of a client of this library,
        PermissionDeniedError if this client itself was let in so.
        """
        interruptible(call, abi.sbx_sandbox_authorize_key, self._open(), encoded(key), seconds(lifetime))

    def authorized_keys(self) -> list[AuthorizedKey]:
        """The keys that authorize_key() let in, by whichever client, and that may log in now."""
        keys = interruptible(make, abi.sbx_sandbox_authorized_keys, abi.sbx_key_list_free, self._open())
        left = c_double()
        return [
            AuthorizedKey(
                decoded(abi.sbx_key_list_key_at(keys, index)),
                left.value if abi.sbx_key_list_remaining_at(keys, index, byref(left)) else None,
            )
            for index in range(abi.sbx_key_list_count(keys))
        ]

    def revoke_key(self, key: str) -> bool:
        """Lets such a key log in no longer, and closes the connections that were made with it. False if there was no
        such key.
        """
        was_there = c_bool()
        interruptible(call, abi.sbx_sandbox_revoke_key, self._open(), encoded(key), byref(was_there))
        return was_there.value

    def renew(self, lifetime: float) -> datetime:
        """Sets the sandbox's expiry to `lifetime` seconds from now, at least 1, and returns it. It may be earlier than
        the current one, and never exceeds the hard limit of the spec.
        """
        place = c_int64()
        interruptible(call, abi.sbx_sandbox_renew, self._open(), seconds(lifetime), byref(place))
        return point(place.value)

    def delete(self) -> None:
        """Deletes the sandbox and waits until its Pod is gone. Later calls with its handles raise ClosedError.

        SandboxNotFoundError if it was gone already, SandboxDeletionError if its end could not be confirmed in time.
        """
        interruptible(call, abi.sbx_sandbox_delete, self._open(), subject=SandboxDeletionError)

    def shutdown(self) -> None:
        """An alias of delete()."""
        interruptible(call, abi.sbx_sandbox_shutdown, self._open(), subject=SandboxDeletionError)

    # Commands.

    @overload
    def run(
        self,
        args: Arguments,
        *,
        text: Literal[True],
        input: Optional[str] = None,
        encoding: Optional[str] = None,
        **options: "Unpack[RunOptions]",
    ) -> "CompletedCommand[str]": ...
    @overload
    def run(
        self,
        args: Arguments,
        *,
        encoding: str,
        text: bool = False,
        input: Optional[str] = None,
        **options: "Unpack[RunOptions]",
    ) -> "CompletedCommand[str]": ...
    @overload
    def run(
        self,
        args: Arguments,
        *,
        text: Literal[False] = False,
        input: "Optional[ReadableBuffer]" = None,
        **options: "Unpack[RunOptions]",
    ) -> "CompletedCommand[bytes]": ...
    @overload
    def run(
        self,
        args: Arguments,
        *,
        text: bool,
        input: Any = None,
        encoding: Optional[str] = None,
        **options: "Unpack[RunOptions]",
    ) -> "CompletedCommand[Any]": ...

    def run(
        self,
        args: Arguments,
        *,
        input: Any = None,
        text: bool = False,
        encoding: Optional[str] = None,
        **options: "Unpack[RunOptions]",
    ) -> Any:
        """Runs a command to its end and collects its output, as subprocess.run(); RunOptions and CommandOptions are its
        further arguments.

        input: what the command reads; it ends after it. Without it, and without stdin, it ends at once.
        text, encoding: input and output are text, of UTF-8 unless the encoding is another.

        A command runs at most once. CommandExecutionError if it did not run; TimedOutError with the output so far if it
        was killed at its timeout; OutcomeUnknownError if the connection was lost while it may have run;
        SSHConnectionError if the sandbox can't be reached.
        """
        return Plan(self._open(), args, input, text, encoding, **options).run()

    @overload
    async def run_async(
        self,
        args: Arguments,
        *,
        text: Literal[True],
        input: Optional[str] = None,
        encoding: Optional[str] = None,
        **options: "Unpack[RunOptions]",
    ) -> "CompletedCommand[str]": ...
    @overload
    async def run_async(
        self,
        args: Arguments,
        *,
        encoding: str,
        text: bool = False,
        input: Optional[str] = None,
        **options: "Unpack[RunOptions]",
    ) -> "CompletedCommand[str]": ...
    @overload
    async def run_async(
        self,
        args: Arguments,
        *,
        text: Literal[False] = False,
        input: "Optional[ReadableBuffer]" = None,
        **options: "Unpack[RunOptions]",
    ) -> "CompletedCommand[bytes]": ...
    @overload
    async def run_async(
        self,
        args: Arguments,
        *,
        text: bool,
        input: Any = None,
        encoding: Optional[str] = None,
        **options: "Unpack[RunOptions]",
    ) -> "CompletedCommand[Any]": ...

    async def run_async(
        self,
        args: Arguments,
        *,
        input: Any = None,
        text: bool = False,
        encoding: Optional[str] = None,
        **options: "Unpack[RunOptions]",
    ) -> Any:
        """run() for asyncio, with a thread of its own; on_output is called in the loop's thread. Cancelling the task
        kills the command and all its processes, and CancelledError comes when they have ended, or after 10 seconds.
        """
        return await Plan(self._open(), args, input, text, encoding, **options).run_async()

    def execute(self, line: str) -> "CompletedCommand[bytes]":
        """Runs a line in the sandbox's shell: short for run(line, shell=True)."""
        return self.run(line, shell=True)

    @overload
    def popen(
        self,
        args: Arguments,
        *,
        text: Literal[True],
        encoding: Optional[str] = None,
        errors: Optional[str] = None,
        **options: "Unpack[CommandOptions]",
    ) -> "Child[str]": ...
    @overload
    def popen(
        self,
        args: Arguments,
        *,
        encoding: str,
        text: bool = False,
        errors: Optional[str] = None,
        **options: "Unpack[CommandOptions]",
    ) -> "Child[str]": ...
    @overload
    def popen(
        self, args: Arguments, *, text: Literal[False] = False, **options: "Unpack[CommandOptions]"
    ) -> "Child[bytes]": ...

    @overload
    def popen(
        self,
        args: Arguments,
        *,
        text: bool,
        encoding: Optional[str] = None,
        errors: Optional[str] = None,
        **options: "Unpack[CommandOptions]",
    ) -> "Child[Any]": ...

    def popen(
        self,
        args: Arguments,
        *,
        text: bool = False,
        encoding: Optional[str] = None,
        errors: Optional[str] = None,
        **options: "Unpack[CommandOptions]",
    ) -> Any:
        """Starts a command and returns while it runs, as subprocess.Popen(); CommandOptions are its further arguments.
        Without stdin its input is written to Child.stdin. It uses an SSH session of its own until it ends. Errors of
        the start are those of run(); later ones are reported by Child.wait().
        """
        command = prepared(self._open(), args, **options)
        work = (abi.sbx_command_spawn, abi.sbx_child_free, command)
        child = begun(*work, subject=CommandExecutionError, discard=partial(call, abi.sbx_child_kill))
        has = (
            options.get("stdin") in (None, PIPE),
            options.get("stdout") != DEVNULL,
            options.get("stderr") not in (DEVNULL, STDOUT),
        )
        is_text = text or encoding is not None or errors is not None
        return Child(child, args, has, (encoding, errors) if is_text else None)

    def detach(
        self,
        args: Arguments,
        *,
        key: str,
        input: "Optional[ReadableBuffer]" = None,
        **options: "Unpack[CommandOptions]",
    ) -> Detached:
        """Starts a command so that it depends on neither this process nor a connection. Any process finds it again by
        its key. It starts at most once per key: if the sandbox knows the key already, this returns a handle of the
        command that has it, running or ended.

        A key has 1 to 64 ASCII letters, digits, '.', '_' or '-', and begins with a letter or digit. The sandbox keeps
        the output, up to output_limit bytes of each stream; later output is dropped and counted. The input must be
        bytes, and there is no terminal. Only the command's own timeout applies, not the configured one. ConflictError
        if the key belongs to another command.
        """
        command = prepared(self._open(), args, input=input, **options)
        work = (abi.sbx_command_detach, abi.sbx_detached_free, command, encoded(key))
        return Detached(interruptible(make, *work, subject=CommandExecutionError))

    def detached(self, key: str) -> Detached:
        """A handle for the command that detach() started under this key, in this process or another. No request is
        sent: only the first use of the handle tells whether the command exists.
        """
        free = abi.sbx_detached_free
        return Detached(make(abi.sbx_sandbox_detached, free, self._open(), encoded(key), subject=CommandExecutionError))

    # Ports.

    def connect(self, target: "Union[int, Text]") -> socket.socket:
        """Connects to a TCP port of the sandbox's own loopback addresses, or to a Unix socket in it, by a path with a
        slash. The server there may listen on a loopback address only.

        This gives an ordinary TCP socket of this machine, whose bytes go through an SSH session that all connections
        into the sandbox share. Each side can close its half with shutdown(). If the connection breaks, on the way or in
        the sandbox, the socket raises ConnectionResetError. The socket stays usable after this object is closed.

        RefusedError, a ConnectionRefusedError, if nothing listens there; FileNotFoundError and PermissionError of a
        Unix socket; TimedOutError after the client's time to connect; SSHConnectionError if the sandbox can't be
        reached.
        """
        place = c_int(-1)
        try:
            interruptible(call, abi.sbx_sandbox_connect, self._open(), encoded(named(target)), byref(place))
            connected, place.value = socket.socket(fileno=place.value), -1
            return connected
        finally:
            # An exception of a signal handler came between the call and its result.
            if place.value >= 0:
                os.close(place.value)

    def forward(self, target: "Union[int, Text]", local: "Union[int, Text]" = 0) -> Forward:
        """Listens on this machine, and connects each connection to a port of the sandbox or a Unix socket in it, as
        connect() does.

        local: a port of 127.0.0.1, "ADDRESS:PORT", or a path with a slash, of which the file must not exist; port 0 is
        one that the system chooses.

        It does not check whether anything listens in the sandbox; wait_for_port() waits for that.
        BusyError if the local port or file is in use, PermissionError if it may not be used.
        """
        names = (encoded(named(local)), encoded(named(target)))
        return Forward(interruptible(make, abi.sbx_sandbox_forward, abi.sbx_forward_free, self._open(), *names))

    def wait_for_port(self, target: "Union[int, Text]", timeout: Optional[float] = None) -> None:
        """Waits in the sandbox until something listens on a port or a Unix socket. The check makes no connection to the
        server. TimedOutError if nothing does within `timeout` seconds; None is for ever.
        """
        limit = seconds(math.inf if timeout is None else timeout)
        interruptible(call, abi.sbx_sandbox_wait_for_port, self._open(), encoded(named(target)), limit)

    # Files.

    def path(self, *parts: Union[str, PurePosixPath, SandboxPath]) -> SandboxPath:
        """A path in the sandbox, to be used like a pathlib.Path. A relative one begins at the image's working
        directory.
        """
        return SandboxPath(self, *parts)

    def upload(
        self,
        source: Union[Text, Reader],
        remote: Union[Text, SandboxPath],
        *,
        checksum: bool = False,
        sync: bool = False,
        resume: bool = False,
        mode: Optional[int] = None,
        progress: Optional[OnProgress] = None,
    ) -> Transferred:
        """Copies a local file, or all that a reader's read() gives, to a file in the sandbox, as
        SandboxPath.write_bytes() treats what is there. The file arrives whole or not at all.

        mode: permission bits of a new file, minus the sandbox's umask; by default those of the local file, or 0o666.
        checksum: the SHA-256 of what was sent and of what has arrived are compared.
        sync: return only when contents and name are on the sandbox's disk.
        resume: keep what has arrived when it fails, and begin with what an earlier transfer has kept; not for readers.
        """
        options = Transfer(self._open(), progress, checksum=checksum, sync=sync, resume=resume, mode=mode)
        return options.upload(source, _remote(remote))

    def download(
        self,
        remote: Union[Text, SandboxPath],
        target: Union[Text, Writer],
        *,
        checksum: bool = False,
        sync: bool = False,
        resume: bool = False,
        max_bytes: Optional[int] = None,
        progress: Optional[OnProgress] = None,
    ) -> Transferred:
        """Copies a file of the sandbox to a local file, or to a writer's write(). More than `max_bytes` are
        FileTransferError; otherwise as upload().
        """
        options = Transfer(self._open(), progress, checksum=checksum, sync=sync, resume=resume, max_bytes=max_bytes)
        return options.download(_remote(remote), target)

    def upload_tree(
        self,
        local: Text,
        remote: Union[Text, SandboxPath],
        *,
        checksum: bool = False,
        sync: bool = False,
        progress: Optional[OnProgress] = None,
    ) -> TreeReport:
        """Copies a local directory with all that is in it, as one stream: with modes, times of modification in
        nanoseconds, symbolic links as they are, empty directories and the holes of sparse files. Sockets, pipes and
        devices are left out, and the report lists them.

        No file gets its name before everything has arrived. If `remote` does not exist, it appears complete. If it is a
        directory, the two are merged: files and links replace files and links, each atomically and with the modes of
        the tree, read-only ones too; what a link led to and what exists only in the target stay. Obstacles, such as a
        device in the place of a file, are found before the merge begins.
        """
        options = Transfer(self._open(), progress, checksum=checksum, sync=sync)
        return options.upload_tree(local, _remote(remote))

    def download_tree(
        self,
        remote: Union[Text, SandboxPath],
        local: Text,
        *,
        checksum: bool = False,
        sync: bool = False,
        max_bytes: Optional[int] = None,
        max_entries: Optional[int] = None,
        progress: Optional[OnProgress] = None,
    ) -> TreeReport:
        """Copies a directory of the sandbox with all that is in it to a local one; otherwise as upload_tree().

        Whatever the sandbox sends, nothing is written outside of `local`, and what is kept in memory does not grow with
        the tree. More than `max_bytes` of contents or `max_entries` are FileTransferError. Symbolic links that lead out
        of the directory are left out, and the report lists them.
        """
        options = Transfer(
            self._open(), progress, checksum=checksum, sync=sync, max_bytes=max_bytes, max_entries=max_entries
        )
        return options.download_tree(_remote(remote), local)


def _remote(path: Union[Text, SandboxPath]) -> Text:
    return str(path) if isinstance(path, SandboxPath) else path
