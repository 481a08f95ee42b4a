"""Commands, after the module subprocess."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from ctypes import byref, c_bool, c_int32, string_at
from typing import (
    Any,
    AnyStr,
    Callable,
    Generic,
    NamedTuple,
    Optional,
    TypedDict,
    Union,
)

from . import _abi as abi
from . import errors
from ._abi import ErrorKind, Stream
from ._boundary import Conversation, Handle, Text, call, decoded, encoded, make, ranged, seconds
from ._types import FileDescriptorLike, ReadableBuffer
from .errors import CommandExecutionError, CommandFailedError

#: One read of a stream.
BUFFER = 64 << 10
#: Keeps an output stream, or lets popen() write the input; the default.
PIPE = subprocess.PIPE
#: For stdout and stderr: /dev/null in the sandbox, so that none of it is transferred. For stdin: no input.
DEVNULL = subprocess.DEVNULL
#: For stderr: to where the standard output goes, in the order in which the command writes both.
STDOUT = subprocess.STDOUT

#: A program and its arguments, or a line for the shell.
Arguments = Union[Text, Sequence[Text]]
#: Gets output of a command as it comes, in pieces of any size; False ends the call with OperationCancelledError.
OnOutput = Callable[[Stream, bytes], object]


class Terminal(NamedTuple):
    """A terminal for a command. Both output streams come as standard output then, and line ends are "\\r\\n"."""

    columns: int = 80
    rows: int = 24
    kind: str = "xterm-256color"


class CommandOptions(TypedDict, total=False):
    """What every way to run a command takes.

    shell: the arguments are a line for /bin/sh; in a sequence the first is the line, and the others are $1, $2, …
    stdin: an open file, pipe or socket, or its descriptor, which is read while the command runs; else PIPE or DEVNULL.
    stdout: PIPE or DEVNULL.
    stderr: PIPE, DEVNULL or STDOUT.
    timeout: seconds until the command and all its processes are killed; None for the configured command_timeout,
        math.inf for no limit.
    env: environment variables on top of the sandbox's.
    cwd: the directory to run in; a relative one begins at the image's working directory.
    user: the user to run as, which only a sandbox that runs as root allows.
    terminal: runs the command on a terminal.
    output_limit: how many bytes of each stream are kept in memory; the rest is counted. Default: 256 MiB.
    """

    shell: bool
    stdin: "Optional[FileDescriptorLike]"
    stdout: Optional[int]
    stderr: Optional[int]
    timeout: Optional[float]
    env: Optional[Mapping[str, str]]
    cwd: Optional[Text]
    user: Optional[str]
    terminal: Optional[Terminal]
    output_limit: Optional[int]


class RunOptions(CommandOptions, total=False):
    """What every way to run a command to its end takes beside CommandOptions.

    check: raise CommandFailedError unless the exit code is 0. By itself an exit code is data.
    on_output: gets the output as it comes, always as bytes; then the result has none. False ends the call with
        OperationCancelledError, and what it raises comes out of the call unchanged; both times the command's process
        group is killed.
    errors: what to do with bytes that are no text, as in str.encode().
    capture_output: as subprocess.run() takes it; without it, output is collected too.
    """

    check: bool
    on_output: Optional[OnOutput]
    errors: Optional[str]
    capture_output: bool


class CompletedCommand(Generic[AnyStr]):
    """What a command wrote and how it ended, as subprocess.CompletedProcess.

    A command that the server says nothing about is an exception, so the returncode is always true.

    args: what was asked for.
    returncode: the exit code, or the negative number of the signal that ended the command.
    stdout: the standard output.
    stderr: the standard error.
    truncated: how many bytes of both streams were beyond the limit and are lost.
    """

    def __init__(
        self,
        args: Arguments,
        returncode: int,
        stdout: AnyStr,
        stderr: AnyStr,
        truncated: int = 0,
        failure: Optional[CommandFailedError] = None,
    ) -> None:
        self.args = args
        self.returncode = returncode
        self.stdout: AnyStr = stdout
        self.stderr: AnyStr = stderr
        self.truncated = truncated
        self._failure = failure

    def check_returncode(self) -> None:
        """Raises CommandFailedError unless the command ended with exit code 0: it has the code and the last line of the
        standard error in its text, and both streams as bytes.
        """
        if self._failure is not None:
            raise self._failure

    def __repr__(self) -> str:
        return f"CompletedCommand(args={self.args!r}, returncode={self.returncode!r})"


def returncode(code: "Callable[..., bool]", signal_name: "Callable[..., Optional[bytes]]", handle: Handle) -> int:
    """How a command ended, as subprocess says it."""
    place = c_int32()
    if code(handle, byref(place)):
        return place.value
    name = decoded(signal_name(handle))
    try:
        return -signal.Signals[f"SIG{name}"]
    except KeyError:
        message = f"the command was ended by the signal {name}, which this system does not have"
        raise errors.made(ErrorKind.COMMAND, message) from None


def ended(exit_status: Handle) -> int:
    """How a command ended whose output is elsewhere."""
    return (
        0
        if abi.sbx_exit_status_success(exit_status)
        else returncode(abi.sbx_exit_status_code, abi.sbx_exit_status_signal, exit_status)
    )


def completed(output: Handle, args: Arguments) -> "CompletedCommand[bytes]":
    """A copy of what the library collected."""
    code, failure = 0, None
    if not abi.sbx_output_success(output):
        code = returncode(abi.sbx_output_exit_code, abi.sbx_output_signal, output)
        try:
            call(abi.sbx_output_check, output, subject=CommandExecutionError)
        except CommandFailedError as failed:
            failure = failed.with_traceback(None)
            failure.returncode = code
    stdout, stderr = (errors.lent(lend, output) or b"" for lend in (abi.sbx_output_stdout, abi.sbx_output_stderr))
    return CompletedCommand(args, code, stdout, stderr, abi.sbx_output_truncated(output), failure)


def as_text(of: "CompletedCommand[bytes]", encoding: str, errors: str) -> "CompletedCommand[str]":
    """The same with text; line ends become "\\n", as in subprocess."""

    def text(data: bytes) -> str:
        return data.decode(encoding, errors).replace("\r\n", "\n").replace("\r", "\n")

    return CompletedCommand(of.args, of.returncode, text(of.stdout), text(of.stderr), of.truncated, of._failure)


def words(args: Arguments) -> "list[bytes]":
    """The words of a command as bytes; a NUL in one is found by the library."""
    if isinstance(args, (str, bytes, os.PathLike)):
        args = [args]
    found = [os.fspath(word) for word in args]
    return [word.encode("utf-8", "surrogateescape") if isinstance(word, str) else word for word in found]


def prepared(
    sandbox: Handle,
    args: Arguments,
    *,
    input: "Optional[ReadableBuffer]" = None,
    shell: bool = False,
    stdin: "Optional[FileDescriptorLike]" = None,
    stdout: Optional[int] = None,
    stderr: Optional[int] = None,
    timeout: Optional[float] = None,
    env: Optional[Mapping[str, str]] = None,
    cwd: Optional[Text] = None,
    user: Optional[str] = None,
    terminal: Optional[Terminal] = None,
    output_limit: Optional[int] = None,
) -> Handle:
    """The command that CommandOptions describe; nothing runs yet."""

    def refuse(text: str) -> errors.SandboxError:
        return errors.made(ErrorKind.INVALID_ARGUMENT, text)

    line = words(args)
    if not line:
        raise refuse("a command has at least a program")
    begin = abi.sbx_sandbox_shell if shell else abi.sbx_sandbox_command
    command = make(begin, abi.sbx_command_free, sandbox, encoded(line[0]), subject=CommandExecutionError)
    for word in line[1:]:
        call(abi.sbx_command_add_arg_bytes, command, word, len(word))
    if input is not None:
        if stdin is not None:
            raise refuse("stdin and input can't both be given")
        data = bytes(input)
        call(abi.sbx_command_set_stdin, command, data, len(data))
    elif stdin not in (None, PIPE, DEVNULL):
        call(abi.sbx_command_set_stdin_fd, command, stdin if isinstance(stdin, int) else stdin.fileno())
    if stdout == DEVNULL:
        call(abi.sbx_command_discard_stdout, command)
    elif stdout not in (None, PIPE):
        raise refuse(f"stdout is PIPE or DEVNULL, not {stdout!r}")
    if stderr == DEVNULL:
        call(abi.sbx_command_discard_stderr, command)
    elif stderr == STDOUT:
        call(abi.sbx_command_merge_stderr, command)
    elif stderr not in (None, PIPE):
        raise refuse(f"stderr is PIPE, DEVNULL or STDOUT, not {stderr!r}")
    if timeout is not None:
        call(abi.sbx_command_set_timeout, command, seconds(timeout))
    for name, value in (env or {}).items():
        call(abi.sbx_command_set_env, command, encoded(name), encoded(value))
    if cwd is not None:
        call(abi.sbx_command_set_current_dir, command, encoded(cwd))
    if user is not None:
        call(abi.sbx_command_set_user, command, encoded(user))
    if terminal is not None:
        size = (ranged(terminal.columns, 1 << 16), ranged(terminal.rows, 1 << 16))
        call(abi.sbx_command_set_terminal, command, encoded(terminal.kind), *size)
    if output_limit is not None:
        call(abi.sbx_command_set_output_limit, command, ranged(output_limit, 1 << 64))
    return command


def receiver(conversation: Conversation, on_output: Callable[[Stream, bytes], object]) -> Any:
    """What the library calls with a piece of output."""

    def receive(_userdata: Optional[int], stream: int, data: Optional[int], length: int) -> int:
        return on_output(Stream(stream), string_at(data or 0, length) if length else b"") is False

    return conversation.callback(abi.sbx_output_fn, receive)


def without_output(exit_status: Handle, args: Arguments) -> "CompletedCommand[bytes]":
    """What is known about a command whose output is elsewhere."""
    code, failure = ended(exit_status), None
    if code:
        failure = CommandFailedError(f"{args!r} ended with returncode {code}")
        failure.kind, failure.returncode = ErrorKind.COMMAND_FAILED, code
    return CompletedCommand(args, code, b"", b"", failure=failure)


def poll(function: "Callable[..., int]", handle: Handle) -> Optional[int]:
    """How a command ended, if it has."""
    has_ended, exit_status = c_bool(), Handle(abi.sbx_exit_status_free)
    call(function, handle, byref(has_ended), exit_status.place, subject=CommandExecutionError)
    return ended(exit_status) if has_ended.value else None


def signal_name(number: int) -> bytes:
    """The library's name of a signal."""
    return signal.Signals(number).name[len("SIG") :].encode()
