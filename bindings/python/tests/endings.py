"""Objects that end in any order, in this process, in forked children and at the interpreter's end. It is run where the
cluster is reached.

Each case is a program of its own, since what it looks for ends a process.
"""

import subprocess
import sys
import time

import sandbox
from sandbox import _abi as abi
from sandbox._boundary import Handle

machine: sandbox.Machine

OPENING = """
import gc, io, os, signal, sys, threading, time
import sandbox
client = sandbox.Client()
machine = client.attach(sys.argv[1])
def exit_code(work):
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""


def ends(program: str, code: int = 0, said: str = "", warned: str = "") -> None:
    """The program ends with this exit code, within a minute; it says this, and what it is warned of has only this in
    it, if anything.
    """
    arguments = [sys.executable, "-X", "dev", "-W", "error", "-c", OPENING + program, machine.name]
    done = subprocess.run(arguments, timeout=60, capture_output=True, text=True)
    told = f"{program}\nexit code {done.returncode}\n{done.stdout}{done.stderr}"
    assert (done.returncode, done.stdout) == (code, said), told
    assert (done.stderr.count("Traceback"), warned in done.stderr) == (bool(warned), True), told
    assert warned or not done.stderr, told


# What the collector finds.

# What opens something, and what is written to it.
OPENED = {
    "a file": 'machine.path("/etc/passwd").open("rb")',
    "a file for text": 'machine.path("/etc/passwd").open()',
    "a file without a buffer": 'machine.path("/etc/passwd").open("rb", buffering=0)',
    "a file for both": 'machine.path("/tmp/both").open("w+b")',
    "a child": 'machine.popen(["cat"])',
    "a child for text": 'machine.popen(["cat"], text=True)',
    "a child's input": 'machine.popen(["cat"]).stdin',
    "a child's output": 'machine.popen(["cat"]).stdout',
    "a machine": "client.attach(machine.name)",
    "a detached command": 'machine.detached("nothing")',
    "a client": "sandbox.Client()",
}


def what_is_in_a_cycle_is_freed_once() -> None:
    for how in (
        # In the middle of a program.
        "gc.collect()",
        # At the interpreter's end.
        "",
    ):
        for what, opened in OPENED.items():
            print(f"  {what}, {how or 'at the end'}", flush=True)
            ends(
                f"""
gc.disable()
for _ in range(5):
    ring = [{opened}]
    ring.append(ring)
    del ring
    {how}
assert machine.run(["true"]).returncode == 0
"""
            )


def an_exception_that_is_kept_closes_what_it_has_seen() -> None:
    # The most usual cycle: the exception has the frame, which has the exception.
    ends(
        """
def failing():
    file, child = machine.path("/etc/passwd").open("rb"), machine.popen(["cat"])
    try:
        raise ValueError
    except ValueError as error:
        keep = error
for _ in range(3):
    failing()
    gc.collect()
assert machine.run(["true"]).returncode == 0
deadline = time.monotonic() + 30
while machine.session_counts.busy:
    assert time.monotonic() < deadline, machine.session_counts
    time.sleep(0.01)
"""
    )


def what_was_written_arrives_from_a_cycle() -> None:
    for mode, data in (("w", '"text"'), ("wb", 'b"text"'), ("w+b", 'b"text"'), ("a", '"text"')):
        for how in ("gc.collect()", ""):
            ends(
                f"""
gc.disable()
machine.path("/tmp/ring").unlink(missing_ok=True)
ring = [machine.path("/tmp/ring").open({mode!r})]
ring[0].write({data})
ring.append(ring)
del ring
{how}
"""
            )
            assert machine.path("/tmp/ring").read_bytes() == b"text", (mode, how)
    ends(
        """
ring = [machine.popen("cat > /tmp/ring.part; mv /tmp/ring.part /tmp/ring", shell=True, text=True)]
machine.path("/tmp/ring").unlink()
ring[0].stdin.write("through a pipe")
ring.append(ring)
del ring
gc.collect()
deadline = time.monotonic() + 30
while not machine.path("/tmp/ring").exists():
    assert time.monotonic() < deadline
    time.sleep(0.01)
assert machine.path("/tmp/ring").read_text() == "through a pipe"
"""
    )


def what_was_detached_closes_itself() -> None:
    ends(
        """
text = machine.path("/tmp/detached").open("w")
text.write("text")
buffer = text.detach()
del text
buffer.write(b" and bytes")
del buffer
assert machine.path("/tmp/detached").read_text() == "text and bytes"
buffer = machine.path("/tmp/detached").open("rb")
raw = buffer.detach()
del buffer
assert raw.read(4) == b"text"
del raw
deadline = time.monotonic() + 30
while machine.session_counts.busy:
    assert time.monotonic() < deadline, machine.session_counts
    time.sleep(0.01)
"""
    )


def a_finalizer_of_the_callers_uses_what_ends_with_it() -> None:
    ends(
        """
class User:
    def __init__(self):
        self.file = machine.path("/etc/passwd").open("rb")
        self.child = machine.popen(["cat"])
        self.own = self
    def __del__(self):
        kept.append(self)
        told.append((self.child.poll(), self.file.closed))
        self.child.kill()
kept, told = [], []
User()
gc.collect()
# The file may have had its turn before. What is kept can be used.
assert told in ([(None, False)], [(None, True)]), told
assert kept[0].child.wait() == -9
# For the second time there are no finalizers, and nothing is freed too early either.
del kept[0]
gc.collect()
assert machine.run(["true"]).returncode == 0
"""
    )


def what_was_freed_says_so() -> None:
    handle = Handle(abi.sbx_config_free)
    assert abi.sbx_config_new(handle.place, None) == sandbox.ErrorKind.OK
    handle.check()
    handle._as_parameter_.value = None
    try:
        handle.check()
    except sandbox.ClosedError:
        pass
    else:
        raise AssertionError("it was used")


def closing_twice_is_harmless() -> None:
    ends(
        """
child, file = machine.popen(["cat"]), machine.path("/etc/passwd").open("rb")
detached, other = machine.detached("nothing"), sandbox.Client()
text, raw = machine.path("/tmp/twice").open("w"), machine.path("/tmp/twice").open("rb", buffering=0)
things = [child, file, detached, other, text, raw, child.stdin, child.stdout, child.stderr, client, machine]
for _ in range(2):
    threads = [threading.Thread(target=thing.close) for thing in things for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for thing in reversed(things):
        thing.close()
"""
    )


# Forked children.


def a_forked_child_leaves_its_blocks() -> None:
    for leave, code, warned in (
        ("sys.exit(0)", 0, ""),
        ("sys.exit(3)", 3, ""),
        ('raise ValueError("its own")', 1, "ValueError: its own"),
        ("pass", 0, ""),
    ):
        ends(
            f"""
other = client.create(sandbox.SandboxSpec(lifetime=120))
with sandbox.Client() as new, other as own:
    with own.popen(["cat"]) as child, own.path("/tmp/file").open("w") as file, own.popen(["cat"], text=True) as text:
        file.write("once")
        child.stdin.write(b"once")
        text.stdin.write("once")
        detached = own.detach(["true"], key="key")
        with detached, own.path("/tmp/raw").open("wb", buffering=0) as raw:
            pid = os.fork()
            if pid == 0:
                with sandbox.Client() as of_child, of_child.attach(own.name) as there:
                    assert there.run(["true"]).returncode == 0
                {leave}
            else:
                assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == {code}
        if pid:
            raw = file.buffer.raw
            assert child.communicate()[0] == b"once"
            assert text.communicate()[0] == "once"
            assert not file.closed
    if pid:
        assert own.path("/tmp/file").read_text() == "once"
        assert own.run(["true"]).returncode == 0
if pid:
    try:
        client.get_sandbox_info(other.name)
    except sandbox.SandboxNotFoundError:
        pass
    else:
        raise AssertionError("the block's end did not delete it")
""",
            warned=warned,
        )


def a_forked_child_writes_nothing_of_its_parents() -> None:
    ends(
        """
file = machine.path("/tmp/fork").open("w")
file.write("in the buffer")
def use(call):
    try:
        call()
    except sandbox.ForkedError:
        return
    os._exit(1)
def child():
    use(file.flush)
    use(machine.path("/tmp/fork").exists)
    use(lambda: machine.path("/tmp/fork").read_text())
    # Neither what closes it, nor what finds it forgotten, writes.
    other = machine.path
    file.close()
assert exit_code(child) == 0
assert machine.path("/tmp/fork").read_text() == ""
file.close()
assert machine.path("/tmp/fork").read_text() == "in the buffer"
"""
    )


def a_child_that_a_callback_forks_comes_to_its_end() -> None:
    for end, code in (("os._exit(7)", 7), ("sys.exit(5)", 5), ("return", 9)):
        ends(
            f"""
def receive(stream, data):
    global pid
    pid = os.fork()
    if pid == 0:
        {end}
parent = os.getpid()
began = time.monotonic()
try:
    assert machine.run(["echo", "a"], on_output=receive).returncode == 0
except sandbox.ForkedError:
    assert os.getpid() != parent and time.monotonic() - began < 9, "it waited for what can't come"
    os._exit(9)
assert os.getpid() == parent
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == {code}
assert machine.run(["true"]).returncode == 0
"""
        )


def a_child_that_a_signal_handler_forks_comes_to_its_end() -> None:
    for work in ("child.wait()", "child.communicate()", 'machine.run(["sleep", "3"], on_output=print)'):
        ends(
            f"""
def fork(*_):
    global pid
    pid = os.fork()
parent, pid = os.getpid(), 0
signal.signal(signal.SIGALRM, fork)
child = machine.popen(["sleep", "3"])
signal.setitimer(signal.ITIMER_REAL, 1)
try:
    {work}
except sandbox.ForkedError:
    assert os.getpid() != parent
    os._exit(9)
assert os.getpid() == parent
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
"""
        )


# What ends a block.


def what_the_caller_raises_comes_out_of_its_block() -> None:
    other = sandbox.Client(sandbox.Config(connect_timeout=5)).create(sandbox.SandboxSpec(lifetime=120))
    try:
        # A deletion that fails.
        with other:
            other.delete = failing_delete  # type: ignore[method-assign]
            raise ZeroDivisionError
    except ZeroDivisionError as error:
        told = getattr(error, "__notes__", None) or [str(error.__context__)]
        assert told[0].endswith("can't be deleted now"), told
    del other.delete
    own = sandbox.Client().attach(other.name)
    try:
        with own.popen(["sleep", "4567"]) as child:
            assert child.stdin
            child.stdin.write(b"in the buffer")
            own.run("kill -9 $(pgrep -x sleep)", shell=True)
            assert child.wait() == -9
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    with own:
        own.delete()
    # Without an exception of the caller's, that of the deletion is the one.
    try:
        with sandbox.Client().create(sandbox.SandboxSpec(lifetime=120)) as last:
            last.delete = failing_delete  # type: ignore[method-assign]
    except sandbox.SandboxDeletionError:
        sandbox.Client().delete_sandbox(last.name)
    else:
        raise AssertionError("a failure was lost")


def failing_delete() -> None:
    raise sandbox.SandboxDeletionError("it can't be deleted now")


# The interpreter's end.


def the_interpreter_ends_with_everything_open() -> None:
    for order in ("things", "reversed(things)", "things + [things]"):
        ends(
            f"""
things = [client, machine, machine.popen(["cat"]), machine.path("/tmp/end").open("w"), machine.detached("nothing")]
things.append(machine.popen(["cat"], text=True))
things[3].write("at the end")
things[2].stdin.write(b"x" * 100)
things[-1].stdin.write("x" * 100)
things[-1].own = things[-1]
builtins = __import__("builtins")
builtins.keep = list({order})
del things, client, machine
"""
        )
        # What is kept alive by a module of the interpreter itself has no finalizers called.
        machine.path("/tmp/end").unlink()


def daemon_threads_do_not_matter_at_the_end() -> None:
    for line in ("echo a", "exec yes", "echo a; exec sleep 5432"):
        ends(
            f"""
told = threading.Event()
def receive(stream, data):
    # Also in the middle of a call.
    machine.run(["true"], on_output=receive) if not told.is_set() else None
    told.set()
def work():
    while True:
        machine.run({line!r}, shell=True, on_output=receive)
threads = [threading.Thread(target=work, daemon=True) for _ in range(4)]
for thread in threads:
    thread.start()
told.wait()
machine.run(["true"])
"""
        )
    # What they wait for in other calls goes on without them.
    ends(
        """
child = machine.popen(["sleep", "3"])
work = [lambda: machine.run(["sleep", "3"]), child.wait, lambda: child.stdout.read(1)]
for each in work:
    threading.Thread(target=each, daemon=True).start()
machine.run(["true"])
"""
    )
    assert machine.run(["pgrep", "-xf", "sleep 5432"]).returncode == 1


def main() -> None:
    global machine
    only = sys.argv[1:]
    with sandbox.Client() as client, client.create() as machine:
        for test in (
            what_is_in_a_cycle_is_freed_once,
            an_exception_that_is_kept_closes_what_it_has_seen,
            what_was_written_arrives_from_a_cycle,
            what_was_detached_closes_itself,
            a_finalizer_of_the_callers_uses_what_ends_with_it,
            what_was_freed_says_so,
            closing_twice_is_harmless,
            a_forked_child_leaves_its_blocks,
            a_forked_child_writes_nothing_of_its_parents,
            a_child_that_a_callback_forks_comes_to_its_end,
            a_child_that_a_signal_handler_forks_comes_to_its_end,
            what_the_caller_raises_comes_out_of_its_block,
            the_interpreter_ends_with_everything_open,
            daemon_threads_do_not_matter_at_the_end,
        ):
            if only and test.__name__ not in only:
                continue
            began = time.monotonic()
            test()
            print(f"{test.__name__}: {time.monotonic() - began:.1f} s", flush=True)
    print("done")


if __name__ == "__main__":
    main()
