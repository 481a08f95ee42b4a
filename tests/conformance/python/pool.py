"""The scenario of sandboxes that are kept ready."""

import dataclasses
import pathlib
import threading
from datetime import datetime, timezone

import sandbox
from conformance import CONFIG, OWNER, RUN, client, fails, until
from sandbox import ErrorKind


def pool() -> None:
    name = f"pool-{RUN}"
    filler = client.pool(name, size=2, idle_lifetime=600, creates_at_once=2, creates_per_second=20)
    assert filler.name == name and filler.status().ready == 0
    with fails(ErrorKind.POOL_EMPTY, sandbox.PoolEmptyError, LookupError):
        filler.claim(on_miss=sandbox.OnMiss.FAIL)
    with filler.claim() as instead:
        assert instead.timings and instead.timings.origin is sandbox.Origin.POOL_MISS
    assert filler.fill() == sandbox.Filled(created=2, retired=0)
    assert filler.fill() == sandbox.Filled(created=0, retired=0)

    other = sandbox.Client(dataclasses.replace(CONFIG, owner=f"{OWNER}-other"))
    claiming = other.pool(name)
    claimed = claiming.claim(
        env={"TASK": "17"},
        labels={"of": "a-pool"},
        annotations={"note": "a note"},
        lifetime=300,
        owner=f"{OWNER}-claimed",
        files={"/tmp/task": "a task", pathlib.PurePosixPath("/tmp/bytes"): b"\0\1"},
        on_miss=sandbox.OnMiss.FAIL,
    )
    assert claimed.timings and claimed.timings.origin is sandbox.Origin.POOL
    assert claimed.execute("echo $TASK; cat /tmp/task").stdout == b"17\na task"
    assert claimed.path("/tmp/bytes").read_bytes() == b"\0\1"
    info = claimed.info()
    assert info.labels["of"] == "a-pool" and info.owner == f"{OWNER}-claimed" and info.expires_at
    assert 240 < (info.expires_at - datetime.now(timezone.utc)).total_seconds() < 360
    status = filler.status()
    assert (status.ready, status.claimed, status.filling, status.foreign, status.ending) == (1, 1, 0, 0, 0)
    assert status.oldest and status.held is None

    with fails(ErrorKind.INVALID_ARGUMENT, ValueError):
        client.pool(name, sandbox.SandboxSpec(name="a"))
    with fails(ErrorKind.INVALID_ARGUMENT, ValueError):
        client.pool(name, size=1_000_000)

    assert filler.drain() == 1
    waited: list[sandbox.Machine] = []
    waiter = threading.Thread(target=lambda: waited.append(claiming.claim(on_miss=sandbox.OnMiss.WAIT)))
    waiter.start()
    until(lambda: claiming.counters.waiting == 1, "the claim does not wait")
    keeper = client.pool(name, size=1, keep_filled=True)
    waiter.join()
    assert waited[0].timings and waited[0].timings.origin is sandbox.Origin.POOL_WAIT
    waited[0].delete()
    counters = claiming.counters
    assert (counters.hits, counters.misses, counters.waiting, counters.bad) == (1, 1, 0, 0)
    assert (filler.counters.created, filler.counters.retired) == (2, 1)
    keeper.remove()
    assert claimed.run(["true"]).returncode == 0
    claimed.delete()
    with keeper:
        pass
    with fails(ErrorKind.CLOSED, sandbox.ClosedError):
        keeper.fill()
