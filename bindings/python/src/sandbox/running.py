"""Commands that their caller waits for, and that can be killed meanwhile."""

import asyncio
import threading
from ctypes import byref, c_char, c_size_t, string_at
from typing import Any, Callable, Optional

from . import _abi as abi
from . import errors
from ._abi import ErrorKind, Stream
from ._border import PATIENCE, Conversation, Handle, background, call, can_be_interrupted, interruptible, make
from ._types import Unpack
from .command import (
    BUFFER,
    DEVNULL,
    STDOUT,
    Arguments,
    CommandOptions,
    CompletedCommand,
    OnOutput,
    as_text,
    completed,
    prepared,
    receiver,
    without_output,
)
from .errors import CommandExecutionError


class Plan:
    """A command with what is to be done about its end, as Machine.run() is told."""

    def __init__(
        self,
        sandbox: Handle,
        args: Arguments,
        input: Any,
        text: bool,
        encoding: Optional[str],
        *,
        errors: Optional[str] = None,
        check: bool = False,
        on_output: Optional[OnOutput] = None,
        capture_output: bool = False,
        **options: "Unpack[CommandOptions]",
    ) -> None:
        stdout, stderr = options.get("stdout"), options.get("stderr")
        if capture_output and not (stdout is stderr is None):
            raise ValueError("stdout and stderr arguments may not be used with capture_output")
        self._codec = (encoding or "utf-8", errors or "strict") if text or encoding or errors else None
        if self._codec is not None and input is not None:
            input = input.encode(*self._codec)
        self._check = check
        self.on_output = on_output
        self.is_discarded = stdout == DEVNULL and stderr in (DEVNULL, STDOUT)
        self.command = prepared(sandbox, args, input=input, **options)

    def result(self, of: "CompletedCommand[bytes]") -> "CompletedCommand[Any]":
        """What is told about it."""
        if self._check:
            of.check_returncode()
        return of if self._codec is None else as_text(of, *self._codec)


class Running:
    """A command that runs to its end, and can be killed meanwhile, at any time and from any thread."""

    def __init__(
        self, command: Handle, args: Arguments, on_output: Optional[OnOutput], conversation: Conversation
    ) -> None:
        self._command = command
        self._args = args
        self._on_output = on_output
        self._conversation = conversation
        self._lock = threading.Lock()
        self._child: Optional[Handle] = None
        self._is_killed = False

    def result(self) -> "CompletedCommand[bytes]":
        """Runs it."""
        subject = CommandExecutionError
        with self._lock:
            if self._is_killed:
                raise errors.made(ErrorKind.CANCELLED, f"{self._args!r} was cancelled before it began")
        child = make(abi.sbx_command_spawn, abi.sbx_child_free, self._command, subject=subject)
        with self._lock:
            self._child = child
            if self._is_killed:
                kill(child)
        if self._on_output is None:
            output = make(abi.sbx_child_wait_with_output, abi.sbx_output_free, child, subject=subject)
            return completed(output, self._args)
        work = (Stream.STDERR, child, abi.sbx_child_read_stderr, abi.sbx_child_close_stderr)
        other = background(lambda: self._hand_over(*work))
        self._hand_over(Stream.STDOUT, child, abi.sbx_child_read_stdout, abi.sbx_child_close_stdout)
        other.result()
        return without_output(make(abi.sbx_child_wait, abi.sbx_ending_free, child, subject=subject), self._args)

    def kill(self) -> None:
        """Kills it, or lets it not begin."""
        with self._lock:
            self._is_killed = True
            if self._child is not None:
                kill(self._child)

    def _hand_over(
        self, stream: Stream, child: Handle, read: "Callable[..., int]", let_go: "Callable[..., None]"
    ) -> None:
        place, length = (c_char * BUFFER)(), c_size_t()
        while True:
            call(read, child, place, BUFFER, byref(length), subject=CommandExecutionError)
            if not length.value:
                return
            if self._conversation.ask(self._receive, stream, string_at(place, length.value)) is None:
                self.kill()
                # What nobody reads would hold up its end.
                let_go(child)
                return

    def _receive(self, stream: Stream, data: bytes) -> int:
        if self._on_output is not None and self._on_output(stream, data) is False:
            raise errors.made(ErrorKind.CANCELLED, "on_output asked to stop; the command was killed")
        return 0


def kill(child: Handle) -> None:
    """Sends the child's process group the signal KILL."""
    call(abi.sbx_child_kill, child, subject=CommandExecutionError)


def run(
    command: Handle, args: Arguments, on_output: Optional[OnOutput], is_discarded: bool
) -> "CompletedCommand[bytes]":
    """Runs the command to its end. Where Ctrl-C can come, it kills the command."""
    subject = CommandExecutionError
    if on_output is None and is_discarded:
        status = (abi.sbx_command_status, abi.sbx_ending_free, command)
        return without_output(interruptible(make, *status, subject=subject), args)
    if on_output is None:
        output = (abi.sbx_command_output, abi.sbx_output_free, command)
        return completed(interruptible(make, *output, subject=subject), args)
    conversation = Conversation()
    if can_be_interrupted():
        running = Running(command, args, on_output, conversation)
        return conversation.hold(running.result, stop=running.kill)
    function, free = receiver(conversation, on_output), abi.sbx_ending_free
    stream = (abi.sbx_command_stream, free, command, function, None)
    return without_output(conversation.hold(lambda: make(*stream, subject=subject)), args)


async def run_async(command: Handle, args: Arguments, on_output: Optional[OnOutput]) -> "CompletedCommand[bytes]":
    """Runs the command to its end in a thread of its own. When the task is cancelled, it kills the command."""
    loop = asyncio.get_running_loop()
    conversation = Conversation(lambda *request: loop.call_soon_threadsafe(conversation.serve, *request))
    running = Running(command, args, on_output, conversation)
    work = asyncio.wrap_future(background(running.result))
    try:
        result = await asyncio.shield(work)
    except asyncio.CancelledError:
        conversation.halt()
        running.kill()
        await asyncio.wait([work], timeout=PATIENCE)
        if not work.cancel() and not work.cancelled():
            # Nobody asks for it any more.
            work.exception()
        raise
    finally:
        raised, conversation.raised = conversation.raised, None
        if raised is not None:
            raise raised
    return result
