"""Commands that their caller waits for."""

import asyncio
from functools import partial
from typing import Any, Optional

from . import _abi as abi
from ._border import PATIENCE, Conversation, Handle, interruptible, make
from ._types import Unpack
from .command import (
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


def collected(command: Handle, args: Arguments) -> "CompletedCommand[bytes]":
    """Runs the command to its end, and has its output."""
    return completed(make(abi.sbx_command_output, abi.sbx_output_free, command, subject=CommandExecutionError), args)


def discarded(command: Handle, args: Arguments) -> "CompletedCommand[bytes]":
    """Runs the command to its end. Its output goes nowhere."""
    ending = make(abi.sbx_command_status, abi.sbx_ending_free, command, subject=CommandExecutionError)
    return without_output(ending, args)


def streamed(
    command: Handle, args: Arguments, on_output: OnOutput, conversation: Conversation
) -> "CompletedCommand[bytes]":
    """Runs the command to its end, and hands its output over as it comes."""
    stream = (abi.sbx_command_stream, abi.sbx_ending_free, command, receiver(conversation, on_output), None)
    return without_output(make(*stream, subject=CommandExecutionError), args)


def run(
    command: Handle, args: Arguments, on_output: Optional[OnOutput], is_discarded: bool
) -> "CompletedCommand[bytes]":
    """Runs the command to its end. Where Ctrl-C can come, it kills the command."""
    if on_output is None:
        return interruptible(discarded if is_discarded else collected, command, args)
    conversation = Conversation()
    return conversation.hold(partial(streamed, command, args, on_output, conversation))


async def run_async(
    command: Handle, args: Arguments, on_output: Optional[OnOutput], is_discarded: bool
) -> "CompletedCommand[bytes]":
    """Runs the command to its end in a thread of its own. When the task is cancelled, it kills the command."""
    loop = asyncio.get_running_loop()
    conversation = Conversation(lambda *request: loop.call_soon_threadsafe(conversation.serve, *request))
    if on_output is None:
        todo = partial(discarded if is_discarded else collected, command, args)
    else:
        todo = partial(streamed, command, args, on_output, conversation)
    work = asyncio.wrap_future(conversation.begin(todo))
    try:
        await asyncio.wait([work])
    except asyncio.CancelledError:
        conversation.halt()
        await asyncio.wait([work], timeout=PATIENCE)
        if not work.cancel() and not work.cancelled():
            # Nobody asks for it any more.
            work.exception()
        raise
    return conversation.settled(work.result)
