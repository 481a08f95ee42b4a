"""Makes src/sandbox/_abi.py from include/sandbox.h, so that no prototype and no number is typed twice.

Without arguments it writes the file; with --check it says by its exit code whether the file is current.
"""

import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
HEADER = HERE.parent.parent / "include" / "sandbox.h"
MADE = HERE / "src" / "sandbox" / "_abi.py"

# The enums under the names that they have in Python, and what their members' names begin with in C.
ENUMS = {
    "sbx_status": ("ErrorKind", "SBX_(?:ERR_)?"),
    "sbx_stream": ("Stream", "SBX_STREAM_"),
    "sbx_cause": ("Cause", "SBX_CAUSE_"),
    "sbx_file_kind": ("FileKind", "SBX_FILE_KIND_"),
    "sbx_phase": ("Phase", "SBX_PHASE_"),
    "sbx_transport": ("Transport", "SBX_TRANSPORT_"),
    "sbx_log_level": ("LogLevel", "SBX_LOG_"),
    "sbx_open": ("Open", "SBX_OPEN_"),
    "sbx_seek": ("Seek", "SBX_SEEK_"),
    "sbx_origin": ("Origin", "SBX_ORIGIN_"),
    "sbx_on_miss": ("OnMiss", "SBX_ON_MISS_"),
    "sbx_pool_counter_kind": ("PoolCounter", "SBX_POOL_"),
    "sbx_usage_kind": ("UsageKind", "SBX_USAGE_"),
    "sbx_check_state": ("CheckState", "SBX_CHECK_"),
    "sbx_change_kind": ("ChangeKind", "SBX_CHANGE_"),
}
# What Python calls what comments speak of.
WORDS = {
    "a function": "a call",
    r"sbx_output_check\(\)": "check=True or check_returncode()",
    r"sbx_config_set_(\w+)\(\)": r"Config.\1",
    r"sbx_sandbox_open_file\(\)": "SandboxPath.open()",
    r"sbx_log_set_handler\(\)": "set_log_handler()",
    r"sbx_file_seek\(\)": "SandboxFile.seek()",
    r"sbx_client_(\w+)\(\)": r"Client.\1()",
    r"sbx_claim_set_on_miss\(\)": "Pool.claim()",
    r"sbx_pool_counter\(\)": "Pool.counters",
    r"sbx_usage_value\(\)": "Usage",
    r"the function registered with sbx_thread_on_wait\(\)": "a signal handler",
    "NULL": "None",
}
VALUES = {
    "void": "None",
    "bool": "c_bool",
    "double": "c_double",
    "size_t": "c_size_t",
    **{f"{sign}int{bits}_t": f"c_{sign}int{bits}" for sign in ("", "u") for bits in (16, 32, 64)},
    **dict.fromkeys(ENUMS, "c_int32"),
}
# What a call gives back, for type checkers.
RESULTS = {
    "None": "None",
    "c_bool": "bool",
    "c_double": "float",
    "c_char_p": "Optional[bytes]",
    "c_void_p": "Optional[int]",
}

OPENING = '''"""The C ABI as include/sandbox.h declares it. Made by make_abi.py: changes go there."""

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
'''


def ctype(text: str, place: str) -> str:
    """The ctypes type of a C type that stands in this place: "result", "argument" or "callback"."""
    text = " ".join(text.replace("*", " * ").split())
    if not text.endswith("*"):
        return VALUES.get(text, "c_void_p")
    # Bytes of a known length: c_char_p would end them at the first NUL on their way to Python.
    if text == "const char *" or (text == "const uint8_t *" and place == "argument"):
        return "c_char_p"
    return "c_void_p"


def parameters(text: str, place: str) -> list[str]:
    """The ctypes types of a C list of parameters."""
    texts = [" ".join(parameter.split()) for parameter in text.split(",")]
    return [ctype(re.sub(r"\w+$", "", text), place) for text in texts if text != "void"]


def doc_of(comment: str) -> str:
    """The text of a C comment on one line, with Python's words for other names."""
    text = " ".join(" ".join(line.strip().lstrip("*") for line in comment.splitlines()).split())
    for theirs, ours in WORDS.items():
        text = re.sub(theirs, ours, text)
    for _, prefix in ENUMS.values():
        text = re.sub(rf"\b{prefix}([A-Z])", r"\1", text)
    assert not re.search("sbx", text, re.I), f"Python has another word here: {text}"
    return text


def enums(header: str) -> str:
    """The enums of the header as classes."""
    made = []
    for comment, name, body in re.findall(r"/\*\*((?:(?!\*/).)*?)\*/\nenum (\w+)\n[^{]*\{\n(.*?)\n\};", header, re.S):
        python, prefix = ENUMS[name]
        found = re.findall(r"/\*\*(.*?)\*/\s*(\w+) = (\d+)", body, re.S)
        members = [(re.sub(f"^{prefix}", "", member), number, doc_of(text)) for text, member, number in found]
        # In the docstring, since help() shows no comments.
        made.append(
            "\n".join(
                [
                    f"class {python}(enum.IntEnum):",
                    f'    """{doc_of(comment)}',
                    "",
                    *(f"    {member}: {text}" for member, _, text in members),
                    '    """',
                    "",
                    *(f"    {member} = {number}" for member, number, _ in members),
                ]
            )
        )
    assert len(made) == len(ENUMS), "the header has other enums than are known here"
    return "\n\n\n".join(made)


def functions(header: str) -> str:
    """The prototypes of the header."""
    bare = re.sub(r"/\*.*?\*/|^#.*?$", "", header, flags=re.S | re.M)
    made = []
    for result, name, arguments in re.findall(r"typedef (\w+) \(\*(\w+)\)\((.*?)\);", bare, re.S):
        types = ", ".join([ctype(result, "callback"), *parameters(arguments, "callback")])
        made.append(f"{name} = CFUNCTYPE({types})")
    made.append("")
    for result, name, arguments in re.findall(r"^((?:const )?\w+ \*?)(sbx_\w+)\(([^()]*)\);", bare, re.S | re.M):
        back = ctype(result, "result")
        types = ", ".join([f'"{name}"', back, *parameters(arguments, "argument")])
        made.append(f"{name}: Callable[..., {RESULTS.get(back, 'int')}] = _declared({types})")
    return "\n".join(made)


def made() -> str:
    """The whole file."""
    header = HEADER.read_text(encoding="utf-8")
    return f"{OPENING}\n\n{enums(header)}\n\n\n{functions(header)}\n"


def main() -> None:
    """Writes or checks the file."""
    if sys.argv[1:] == ["--check"]:
        if not MADE.exists() or MADE.read_text(encoding="utf-8") != made():
            sys.exit(f"{MADE} is not what the header makes it: python3 {pathlib.Path(__file__).name}")
    else:
        MADE.write_text(made(), encoding="utf-8")


main()
