"""Log lines for a program's own logger."""

import atexit
from typing import Callable, Optional

from . import _abi as abi
from ._abi import LogLevel
from ._boundary import call

#: Takes a line: its level, the part of the library that it is from, such as "sandbox::client", and what it says.
LogHandler = Callable[[LogLevel, str, str], object]


def set_log_handler(level: LogLevel, handler: Optional[LogHandler]) -> None:
    """Passes the library's log lines, up to this level, to `handler`, for all clients of the process; None stops it. An
    earlier handler is replaced: once this returns, it is not called any more. Without this and
    Config.init_logging() the library writes nothing. With the levels and loggers of the module logging:

        levels = {LogLevel.ERROR: 40, LogLevel.WARN: 30, LogLevel.INFO: 20, LogLevel.DEBUG: 10, LogLevel.TRACE: 5}
        set_log_handler(LogLevel.INFO, lambda level, target, message:
            logging.getLogger(target.replace("::", ".")).log(levels[level], "%s", message))

    It is called on the thread that logs, which may be one of the library's own, and by several threads at once. It must
    not wait for calls of this library. Lines that its own calls of this library would log are dropped. What it raises
    goes to sys.unraisablehook, and so does the KeyboardInterrupt of a Ctrl-C that comes while it runs in the main
    thread. InvalidArgumentError if a handler calls it; TimedOutError if the handler to be replaced does not
    return.
    """

    def received(_: object, number: int, target: bytes, message: bytes) -> None:
        if handler is not None:
            handler(LogLevel(number), target.decode(), message.decode())

    function = abi.sbx_log_fn() if handler is None else abi.sbx_log_fn(received)
    call(abi.sbx_log_set_handler, level, function, None)
    # The library has its address, and that of the one before not any more.
    _current[:] = [function]


_current: "list[object]" = []


def _end() -> None:
    # The library's threads go on, while the interpreter that they would call ends.
    if _current:
        set_log_handler(LogLevel.OFF, None)


atexit.register(_end)
