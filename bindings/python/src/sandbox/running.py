"""Commands that their caller waits for."""

import asyncio
import contextlib
from functools import partial
from typing import Any, Callable, Optional

from . import _abi as abi
from ._boundary import INTERRUPT_TIMEOUT, Conversation, Handle, interruptible, make
from ._threads import start
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
    """A command whose caller waits for its end, and what is to be done about that, as Machine.run() is told."""

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
        self._args = args
        self._check = check
        self._on_output = on_output
        self._is_discarded = stdout == DEVNULL and stderr in (DEVNULL, STDOUT)
        self._command = prepared(sandbox, args, input=input, **options)

    def run(self) -> "CompletedCommand[Any]":
        """Runs it to its end. Where Ctrl-C can come, it kills the command."""
        if self._on_output is None:
            return self._told(interruptible(self._ended))
        conversation = Conversation()
        return self._told(conversation.hold(partial(self._streamed, self._on_output, conversation)))

    async def run_async(self) -> "CompletedCommand[Any]":
        """Runs it to its end in a thread of its own. When the task is cancelled, it kills the command."""
        loop = asyncio.get_running_loop()
        conversation = Conversation(lambda *request: loop.call_soon_threadsafe(conversation.serve, *request))
        on_output = self._on_output
        todo = self._ended if on_output is None else partial(self._streamed, on_output, conversation)
        end: asyncio.Future[None] = loop.create_future()

        def has_ended() -> None:
            # In a loop that is closed nobody waits for it any more.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(end.set_result, None)

        work = start(conversation.task(todo, has_ended))
        try:
            await asyncio.wait([end])
        except asyncio.CancelledError:
            conversation.halt()
            await asyncio.wait([end], timeout=INTERRUPT_TIMEOUT)
            work.cancel()
            raise
        return self._told(conversation.settled(work.result))

    def _ended(self) -> "CompletedCommand[bytes]":
        if self._is_discarded:
            return without_output(self._make(abi.sbx_command_run, abi.sbx_exit_status_free), self._args)
        return completed(self._make(abi.sbx_command_output, abi.sbx_output_free), self._args)

    def _streamed(self, on_output: OnOutput, conversation: Conversation) -> "CompletedCommand[bytes]":
        callback = receiver(conversation, on_output)
        return without_output(self._make(abi.sbx_command_stream, abi.sbx_exit_status_free, callback, None), self._args)

    def _make(self, function: "Callable[..., int]", free: "Callable[..., None]", *arguments: object) -> Handle:
        return make(function, free, self._command, *arguments, subject=CommandExecutionError)

    def _told(self, end: "CompletedCommand[bytes]") -> "CompletedCommand[Any]":
        if self._check:
            end.check_returncode()
        return end if self._codec is None else as_text(end, *self._codec)
