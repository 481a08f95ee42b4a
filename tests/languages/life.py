"""The life of a sandbox in Python, through ctypes. The arguments are the library and an empty directory to work in."""

import ctypes
import pathlib
import sys
import threading
from ctypes import POINTER, byref, c_bool, c_char_p, c_double, c_int32, c_int64, c_size_t, c_uint64, c_void_p

sbx = ctypes.CDLL(sys.argv[1])
directory = pathlib.Path(sys.argv[2])

OK, INVALID_ARGUMENT, NOT_FOUND, TIMED_OUT, CANCELLED = 0, 1, 20, 45, 66
Receive = ctypes.CFUNCTYPE(c_int32, c_void_p, c_int32, POINTER(ctypes.c_ubyte), c_size_t)

# What does not return a status and is not void.
RESULTS = {
    "sbx_status_name": c_char_p,
    "sbx_error_message": c_char_p,
    "sbx_error_stdout": c_void_p,
    "sbx_sandbox_name": c_char_p,
    "sbx_info_owner": c_char_p,
    "sbx_list_count": c_size_t,
    "sbx_output_stdout": c_void_p,
    "sbx_output_exit_code": c_bool,
    "sbx_bytes_data": c_void_p,
}
for function, result in RESULTS.items():
    getattr(sbx, function).restype = result


class Failure(Exception):
    def __init__(self, status, error):
        super().__init__(sbx.sbx_error_message(error).decode())
        self.status = status
        self.stdout = lent("sbx_error_stdout", error)
        sbx.sbx_error_free(error)


def call(name, *arguments):
    """Calls a function that can fail."""
    error = c_void_p()
    status = getattr(sbx, name)(*arguments, byref(error))
    if status != OK:
        raise Failure(status, error)
    assert not error


def make(name, *arguments):
    """Calls a function that can fail and gives a handle out."""
    handle = c_void_p()
    call(name, *arguments, byref(handle))
    assert handle
    return handle


def fails(expected, name, *arguments):
    try:
        call(name, *arguments)
    except Failure as failure:
        assert failure.status == expected, failure
        return failure
    raise AssertionError(f"{name} did not fail")


def lent(name, handle):
    """The bytes that a handle lends."""
    length = c_size_t()
    data = getattr(sbx, name)(handle, byref(length))
    return ctypes.string_at(data, length.value) if data else None


def finished(output):
    code = c_int32()
    assert sbx.sbx_output_exit_code(output, byref(code))
    result = lent("sbx_output_stdout", output), code.value
    sbx.sbx_output_free(output)
    return result


def commands(sandbox):
    output = make("sbx_sandbox_execute", sandbox, b"printf 'a\\0b'; exit 6")
    assert finished(output) == (b"a\0b", 6)

    command = make("sbx_sandbox_command", sandbox, b"sh")
    for argument in (b"-c", b'cat; printf \'|%s\' "$A" "$PWD" "$1"', b"sh", b"a 'b' \xff"):
        call("sbx_command_add_arg", command, argument)
    call("sbx_command_set_stdin", command, b"\1\0\2", c_size_t(3))
    call("sbx_command_set_env", command, b"A", b"x")
    call("sbx_command_set_current_dir", command, b"/tmp")
    call("sbx_command_set_timeout", command, c_double(20))
    assert finished(make("sbx_command_output", command)) == (b"\1\0\2|x|/tmp|a 'b' \xff", 0)

    # ctypes lets go of the interpreter's lock during a call.
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(finished(make("sbx_command_output", command)))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4 and len(set(results)) == 1, results
    sbx.sbx_command_free(command)

    received = bytearray()

    @Receive
    def receive(_userdata, stream, data, length):
        assert stream == 1
        received.extend(data[:length])
        return len(received) > 1000

    command = make("sbx_sandbox_shell", sandbox, b"echo some; exec yes")
    fails(CANCELLED, "sbx_command_stream", command, receive, None, None)
    assert received.startswith(b"some\ny\n"), received[:10]
    call("sbx_command_set_timeout", command, c_double(0.3))
    call("sbx_command_set_output_limit", command, c_size_t(5))
    place = c_void_p()
    assert fails(TIMED_OUT, "sbx_command_output", command, byref(place)).stdout == b"some\n"
    assert not place
    sbx.sbx_command_free(command)
    fails(INVALID_ARGUMENT, "sbx_sandbox_execute", sandbox, None, byref(place))
    fails(INVALID_ARGUMENT, "sbx_sandbox_execute", sandbox, b"true", None)


def files(sandbox):
    contents = b"f\0\xff"
    local, back = directory / "local", directory / "back"
    local.write_bytes(contents)
    size = c_uint64()
    call("sbx_sandbox_upload_file", sandbox, bytes(local), b"file", byref(size))
    call("sbx_sandbox_download_file", sandbox, b"file", bytes(back), None)
    assert back.read_bytes() == contents and size.value == len(contents)
    call("sbx_sandbox_write_file", sandbox, b"written", contents, c_size_t(2))
    handle = make("sbx_sandbox_read_file", sandbox, b"written")
    assert lent("sbx_bytes_data", handle) == contents[:2]
    sbx.sbx_bytes_free(handle)
    assert "no-such-file" in str(fails(NOT_FOUND, "sbx_sandbox_read_file", sandbox, b"no-such-file", byref(handle)))


def live():
    config = make("sbx_config_from_env")
    call("sbx_config_set_owner", config, b"life-py")
    call("sbx_config_set_lifetime", config, c_double(300))
    fails(INVALID_ARGUMENT, "sbx_config_set_image", config, b"\xff")
    client = make("sbx_client_new", config)
    sbx.sbx_config_free(config)
    sandbox = make("sbx_client_create", client, None)
    name = sbx.sbx_sandbox_name(sandbox)
    try:
        info = make("sbx_client_get_sandbox_info", client, name)
        assert sbx.sbx_info_owner(info) == b"life-py"
        sbx.sbx_info_free(info)
        commands(sandbox)
        files(sandbox)
        second = make("sbx_client_attach", client, name)
        expiry = c_int64()
        call("sbx_sandbox_renew", second, c_double(600), byref(expiry))
        assert expiry.value > 0
        sbx.sbx_sandbox_free(second)
        list_ = make("sbx_client_list", client)
        assert sbx.sbx_list_count(list_) > 0
        sbx.sbx_list_free(list_)
    finally:
        call("sbx_sandbox_delete", sandbox)
    place = c_void_p()
    fails(NOT_FOUND, "sbx_client_attach", client, name, byref(place))
    sbx.sbx_sandbox_free(sandbox)
    sbx.sbx_client_free(client)


# The numbers above are the header's.
for number, status in {1: b"INVALID_ARGUMENT", 20: b"NOT_FOUND", 45: b"TIMED_OUT", 66: b"CANCELLED"}.items():
    assert sbx.sbx_status_name(number) == b"SBX_ERR_" + status
live()
print("done")
