"""Beside gevent or eventlet, whose name is the argument. It is run where the cluster is reached.

Each case is a program of its own: what is patched stays so.
"""

import subprocess
import sys
import time

import sandbox

machine: sandbox.Machine

PATCHES = {
    "gevent": [
        "from gevent import monkey; monkey.patch_all()",
        "from gevent import monkey; monkey.patch_all(thread=False)",
        "import sandbox; from gevent import monkey; monkey.patch_all()",
    ],
    "eventlet": [
        "import eventlet; eventlet.monkey_patch()",
        "import eventlet; eventlet.monkey_patch(thread=False)",
    ],
}
OPENING = """
import io, os, signal, sys, time
import sandbox
client = sandbox.Client()
machine = client.attach(sys.argv[1])
is_gevent = "gevent" in sys.modules
def spawn(work, *arguments):
    if is_gevent:
        import gevent
        return gevent.spawn(work, *arguments)
    import eventlet
    return eventlet.spawn(work, *arguments)
def wait(green):
    return green.get() if is_gevent else green.wait()
def interrupted(work):
    # By a process, since no thread and no greenlet may come to it.
    if os.fork() == 0:
        while machine_is_silent():
            time.sleep(0.05)
        os.kill(os.getppid(), signal.SIGINT)
        os._exit(0)
    try:
        work()
    except KeyboardInterrupt:
        os.unlink("up")
        return
    raise SystemExit("there was no KeyboardInterrupt")
def machine_is_silent():
    return not os.path.exists("up")
def up(*_):
    open("up", "w").close()
"""


def ends(patch: str, program: str, is_silent: bool = True) -> None:
    arguments = [sys.executable, "-W", "ignore", "-c", patch + OPENING + program, machine.name]
    done = subprocess.run(arguments, timeout=60, capture_output=True, text=True)
    told = f"{patch}\n{program}\nexit code {done.returncode}\n{done.stdout}{done.stderr}"
    assert done.returncode == 0 and not (is_silent and done.stderr) and "ignored" not in done.stderr, told


def every_call_comes_back(patch: str) -> None:
    ends(
        patch,
        """
told = []
def on_output(stream, data):
    told.append(data)
assert machine.run(["echo", "a"], on_output=on_output).returncode == 0
assert b"".join(told) == b"a\\n"
machine.upload(io.BytesIO(bytes(1 << 20)), "/tmp/up", progress=lambda *_: None)
target = io.BytesIO()
machine.download("/tmp/up", target)
assert len(target.getvalue()) == 1 << 20
with machine.popen(["cat"]) as child:
    assert child.communicate(b"through a pipe")[0] == b"through a pipe"
with machine.popen(["sleep", "60"]) as child:
    began = time.monotonic()
    try:
        child.wait(timeout=0.5)
    except sandbox.TimedOutError:
        assert time.monotonic() - began < 10
    child.kill()
position = sandbox.Position()
detached = machine.detach(["echo", "b"], key="greenlets")
assert detached.stream(on_output, position) == 0 and position.stdout == 2
detached.remove()
with machine.path("/tmp/up").open("w") as file:
    file.write("text")
assert machine.path("/tmp/up").read_text() == "text"
""",
    )


def greenlets_take_turns(patch: str) -> None:
    ends(
        patch,
        """
def work(number):
    told = []
    child = machine.popen(["cat"])
    assert child.communicate(b"%d" % number)[0] == b"%d" % number
    assert machine.run(["echo", str(number)], on_output=lambda _, data: told.append(data)).returncode == 0
    return b"".join(told)
greens = [spawn(work, number) for number in range(8)]
assert [wait(green) for green in greens] == [b"%d\\n" % number for number in range(8)]
""",
    )


def an_interrupt_comes_out_as_it_is(patch: str) -> None:
    for work in (
        # In a callback, and while a silent command is waited for.
        'machine.run("while :; do echo a; done", shell=True, on_output=up)',
        'machine.run("echo a; exec sleep 60", shell=True, on_output=up)',
        'up() or machine.run(["sleep", "60"])',
        'up() or machine.popen(["sleep", "60"]).wait()',
        'up() or machine.popen(["sleep", "60"]).communicate()',
        "machine.upload(type('Endless', (), {'read': lambda self, length: up() or bytes(length)})(), '/tmp/endless')",
    ):
        ends(patch, f"interrupted(lambda: {work})\n")
        assert machine.run(["pgrep", "-f", "while :"]).returncode == 1
    # gevent's hub tells of what ends a greenlet, and hands this on to the main one.
    if "gevent" in patch:
        work = 'wait(spawn(lambda: up() or machine.run(["sleep", "60"])))'
        ends(patch, f"interrupted(lambda: {work})\n", is_silent=False)


def others_go_on_beside_a_pool(patch: str) -> None:
    ends(
        patch,
        """
if is_gevent:
    import gevent
    sleep = gevent.sleep
    def aside(work, *arguments):
        return gevent.get_hub().threadpool.apply(work, arguments)
else:
    import eventlet
    from eventlet import tpool
    sleep = eventlet.sleep
    aside = tpool.execute
def tick():
    while True:
        ticks.append(time.monotonic())
        sleep(0.01)
def work():
    told = []
    machine.run(["sh", "-c", "sleep 2; echo a"], on_output=lambda _, data: told.append(data))
    return told
ticks = []
spawn(tick)
assert aside(work) == [b"a\\n"]
assert max(after - before for before, after in zip(ticks, ticks[1:])) < 1.5
""",
    )


def main() -> None:
    global machine
    (library,) = sys.argv[1:]
    with sandbox.Client() as client, client.create() as machine:
        for patch in PATCHES[library]:
            for test in (
                every_call_comes_back,
                greenlets_take_turns,
                others_go_on_beside_a_pool,
                an_interrupt_comes_out_as_it_is,
            ):
                began = time.monotonic()
                test(patch)
                machine.run(["pkill", "sleep"])
                print(f"{test.__name__}, {patch}: {time.monotonic() - began:.1f} s", flush=True)
    print("done")


if __name__ == "__main__":
    main()
