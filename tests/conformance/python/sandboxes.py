"""The scenarios of sandboxes, settings and errors."""

import concurrent.futures
import dataclasses
import errno
import io
import json
import math
import os
import pickle
from datetime import datetime, timedelta, timezone

import sandbox
from conformance import CONFIG, DIRECTORY, OWNER, RUN, UNPULLABLE, client, fails, until, world
from sandbox import ErrorKind


def life() -> None:
    name = f"py-{RUN}"
    world.machine = client.create(sandbox.SandboxSpec(name=name, labels={"color": "blue"}, env={"STAGE": "test"}))
    # It takes commands before Kubernetes says so.
    until(lambda: world.machine.info().phase is sandbox.Phase.RUNNING, "Kubernetes does not say that it runs")
    info = world.machine.info()
    assert (info.name, info.owner) == (name, OWNER), info
    assert info.labels["color"] == "blue" and info.image and info.uid == world.machine.uid and info.verdict is None
    now = datetime.now(timezone.utc)
    assert info.created_at is not None and abs(now - info.created_at) < timedelta(minutes=2), info
    assert info.expires_at is not None and timedelta(minutes=10) < info.expires_at - now < timedelta(minutes=16), info
    assert name in [found.name for found in client.list()]
    assert world.machine.run(["uname", "-n"], text=True).stdout == f"{name}\n"
    assert world.machine.execute("echo $STAGE").stdout == b"test\n"
    by_exec = dataclasses.replace(CONFIG, transport=sandbox.Transport.EXEC)
    with sandbox.Client(by_exec) as second, second.attach(name) as attached:
        assert attached.run(["echo", "a"]).stdout == b"a\n" and attached.timings is None
        assert attached.host_key == world.machine.host_key and world.machine.host_key
    assert world.machine.info().phase is sandbox.Phase.RUNNING, "the end of a block must not delete what it attached to"
    assert world.machine.renew(1800) > info.expires_at + timedelta(minutes=10)
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVV a person"
    world.machine.authorize_key(key, 100)
    keys = world.machine.authorized_keys()
    assert [found.key for found in keys] == [key] and keys[0].remaining and 0 < keys[0].remaining <= 100, keys
    assert world.machine.revoke_key(key) and not world.machine.revoke_key(key)
    with fails(ErrorKind.INVALID_ARGUMENT):
        world.machine.authorize_key("no key")
    usage = world.machine.usage()
    assert usage.cpu and usage.memory and usage.processes and usage.disk and usage.sent and usage.guest_memory, usage
    assert usage.commands == 0 and usage.connections > 0, usage
    timings = world.machine.timings
    assert timings is not None and 0 < timings.accepted <= timings.started <= timings.logged_in < 300, timings
    assert (client.namespace, world.machine.ssh_port) == (info.namespace, info.ssh_port) and info.pod_ip and info.node


def by_name() -> None:
    original = sandbox.Sandbox(CONFIG)
    assert repr(original) == f"<sandbox.Sandbox of namespace {client.namespace!r}>"
    name = f"py-{RUN}-own"
    original.create_sandbox(name)
    completed = original.execute_command(name, "echo out; echo err >&2; exit 3")
    assert (completed.stdout, completed.stderr, completed.returncode) == (b"out\n", b"err\n", 3)
    local, back = DIRECTORY / "by-name", DIRECTORY / "by-name.back"
    local.write_bytes(b"contents")
    assert original.upload_file(name, local, "there") == 8
    assert original.download_file(name, "there", back) == 8 and back.read_bytes() == b"contents"
    assert original.get_sandbox_info(name).name == name
    assert original.ssh_port(name) == original.get_sandbox_info(name).ssh_port
    before = original.api_requests
    original.execute_command(name, "true")
    assert original.api_requests == before > 0
    original.shutdown_sandbox(name)
    with fails(ErrorKind.NOT_FOUND, sandbox.SandboxNotFoundError):
        original.delete_sandbox(f"{name}-missing")
    with fails(ErrorKind.NOT_FOUND, sandbox.SandboxNotFoundError):
        original.get_sandbox_info(name)


def errors() -> None:
    with fails(ErrorKind.INVALID_ARGUMENT, ValueError, sandbox.InvalidArgumentError):
        world.machine.run(["sleep"], timeout=-1)
    with fails(ErrorKind.CONFIG, ValueError, sandbox.ConfigError):
        sandbox.Client(sandbox.Config(kubeconfig="/no/such/kubeconfig"))
    with fails(ErrorKind.NOT_FOUND, sandbox.SandboxNotFoundError) as seen:
        client.attach("no-such-sandbox")
    assert seen[0].sandbox == "no-such-sandbox" and seen[0].operation and seen[0].http_status == 404
    assert not isinstance(seen[0], OSError) and seen[0].errno is None
    with fails(ErrorKind.FILE_NOT_FOUND, FileNotFoundError, sandbox.FileTransferError) as seen:
        world.machine.path("/no/such/file").read_bytes()
    assert seen[0].sandbox == world.machine.name and seen[0].operation and "/no/such/file" in str(seen[0])
    assert seen[0].errno == errno.ENOENT and not isinstance(seen[0], LookupError) and not seen[0].retryable
    copy = pickle.loads(pickle.dumps(seen[0]))
    assert type(copy) is type(seen[0]) and vars(copy) == vars(seen[0]) and str(copy) == str(seen[0])
    with fails(ErrorKind.CONFLICT, sandbox.ConflictError, sandbox.SandboxCreationError):
        client.create(sandbox.SandboxSpec(name=world.machine.name))
    with fails(ErrorKind.PERMISSION_DENIED, PermissionError, sandbox.FileTransferError) as seen:
        world.machine.path("/etc/shadow").read_bytes()
    assert seen[0].errno == errno.EACCES
    with fails(ErrorKind.CREATE, sandbox.SandboxCreationError) as seen:
        client.create(sandbox.SandboxSpec(name=f"py-{RUN}-image", image=UNPULLABLE))
    verdict = seen[0].verdict
    assert verdict is not None and verdict.cause is sandbox.Cause.IMAGE_PULL and verdict.reason, verdict
    kubeconfig = DIRECTORY / "kubeconfig"
    kubeconfig.write_text(
        json.dumps(
            {
                "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}],
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "users": [{"name": "u", "user": {}}],
                "current-context": "c",
            }
        )
    )
    with fails(ErrorKind.UNAVAILABLE, sandbox.UnavailableError, ConnectionError) as seen:
        sandbox.Client(sandbox.Config(kubeconfig=kubeconfig)).list()
    assert seen[0].retryable
    with fails(ErrorKind.TIMED_OUT, TimeoutError, sandbox.CommandExecutionError):
        world.machine.run(["sleep", "60"], timeout=0.1)


def use_after_close() -> None:
    other = sandbox.Client(CONFIG)
    attached = other.attach(world.machine.name)
    child = attached.popen(["cat"])
    job = attached.detached("never")
    path = attached.path("/tmp/closed")
    raw = path.open("wb", buffering=0)
    for closable in (raw, job, child, attached, other):
        closable.close()
        closable.close()
        assert closable.closed
    for use in (
        other.list,
        lambda: other.attach(world.machine.name),
        lambda: attached.run(["true"]),
        attached.info,
        lambda: attached.ssh_port,
        path.read_bytes,
        child.wait,
        child.kill,
        job.poll,
        attached.__enter__,
    ):
        with fails(ErrorKind.CLOSED, ValueError, sandbox.ClosedError):
            use()
    for stream in (child.stdin, child.stdout):
        try:
            assert stream is not None and stream.read()
        except (ValueError, io.UnsupportedOperation):
            pass
        else:
            raise AssertionError("a closed stream was used")
    try:
        raw.write(b"x")
    except ValueError:
        pass
    else:
        raise AssertionError("a closed file was written")
    path = world.machine.path("/tmp/closed")
    path.unlink()
    # Closed while another thread is in a call.
    attached = client.attach(world.machine.name)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        running = pool.submit(attached.run, "echo up; sleep 1; echo end", shell=True)
        until(lambda: world.machine.session_counts.busy > 0, "the command does not run")
        attached.close()
        assert running.result().stdout == b"up\nend\n"


def fleet() -> None:
    owner = f"{OWNER}-fleet"
    node = world.machine.info().node
    assert node is not None

    def shown(name: str, kind: str, **source: str) -> dict[str, object]:
        """A variable of the environment that Kubernetes takes from the Pod."""
        return {"name": name, "valueFrom": {kind: source}}

    told = {
        "CPU": {"kind": "resourceFieldRef", "resource": "limits.cpu", "divisor": "1m"},
        "CPU_REQUEST": {"kind": "resourceFieldRef", "resource": "requests.cpu", "divisor": "1m"},
        "MEMORY": {"kind": "resourceFieldRef", "resource": "limits.memory"},
        "MEMORY_REQUEST": {"kind": "resourceFieldRef", "resource": "requests.memory"},
        "DISK": {"kind": "resourceFieldRef", "resource": "limits.ephemeral-storage"},
        "NOTE": {"kind": "fieldRef", "fieldPath": "metadata.annotations['note']"},
        "NODE": {"kind": "fieldRef", "fieldPath": "spec.nodeName"},
    }
    spec = sandbox.SandboxSpec(
        cpu="300m",
        cpu_request="5m",
        memory="200Mi",
        memory_request="20Mi",
        disk="100Mi",
        node_selector={"kubernetes.io/hostname": node},
        annotations={"note": "of conformance"},
        pod_template={
            "metadata": {"labels": {"from": "template"}},
            "spec": {
                "containers": [{"name": "sandbox", "env": [shown(name, **where) for name, where in told.items()]}]
            },
        },
        labels={"fleet": "py"},
    )
    with sandbox.Client(dataclasses.replace(CONFIG, owner=owner)) as own:
        short = own.create(dataclasses.replace(spec, lifetime=300))
        others = [own.create(spec) for _ in range(2)]
        try:
            assert others[0].info().labels["from"] == "template" and others[0].info().labels["fleet"] == "py"
            mine = {info.name for info in own.list() if info.owner == owner}
            assert {other.name for other in others} <= mine, mine
            found = own.list(owner=owner)
            ages = [info.created_at for info in found if info.created_at]
            assert len(ages) == 3 and ages == sorted(ages), found
            assert len(own.list(owner=owner, labels={"from": "template", "fleet": "py"})) == 3
            assert not own.list(owner=owner, labels={"from": "elsewhere"})
            phases = (sandbox.Phase.PENDING, sandbox.Phase.RUNNING)
            assert len(own.list(owner=owner, phases=phases, younger_than=3600)) == 3
            assert not own.list(owner=owner, phases=[sandbox.Phase.FAILED])
            assert not own.list(owner=owner, older_than=3600)
            with fails(ErrorKind.INVALID_ARGUMENT, sandbox.InvalidArgumentError) as refused:
                own.list(labels={"from": "a,b"})
            assert "a,b" in str(refused[0])
            seen = others[0].run(["printenv", *told], text=True).stdout.splitlines()
            assert seen == ["300", "5", str(200 << 20), str(20 << 20), str(100 << 20), "of conformance", node], seen
            info = short.info()
            assert info.created_at is not None and info.expires_at is not None, info
            assert timedelta(seconds=290) < info.expires_at - info.created_at < timedelta(seconds=310), info
            changes = own.watch(owner=owner)
            added = [next(changes) for _ in range(3)]
            assert all(change.kind is sandbox.ChangeKind.ADDED for change in added), added
            short.renew(1)
            reaped: set[str] = set()

            def is_reaped() -> bool:
                # Somebody else may reap it too.
                reaped.update(own.reap())
                return short.name not in [info.name for info in own.list()]

            until(is_reaped, "the expired sandbox is not reaped")
            assert not reaped & {other.name for other in others}, reaped
            assert all(other.info().phase is sandbox.Phase.RUNNING for other in others)
        finally:
            for other in others:
                other.delete()
        assert owner not in [info.owner for info in own.list()]
        removed = 0
        while removed < 3:
            removed += next(changes).kind is sandbox.ChangeKind.REMOVED
        assert changes.next(0.01) is None
        changes.close()
        with fails(ErrorKind.CLOSED, sandbox.ClosedError):
            next(changes)


def doctor() -> None:
    report = sandbox.diagnose(CONFIG)
    assert report.state != sandbox.CheckState.FAILURE and len(report.checks) == 14, report
    assert all(check.name and check.found for check in report.checks) and str(report).endswith(report.summary)
    report = sandbox.diagnose(dataclasses.replace(CONFIG, namespace="no-such-namespace"), "namespace")
    (check,) = report.checks
    assert check.name == "namespace" and check.state == report.state == sandbox.CheckState.FAILURE, report
    assert "create namespace" in check.fix
    assert sandbox.diagnose(None, "config").state == sandbox.CheckState.OK
    with fails(ErrorKind.INVALID_ARGUMENT):
        sandbox.diagnose(None, "no-such-check")


def settings() -> None:
    whole = sandbox.Config(
        namespace=client.namespace,
        kubeconfig=os.environ["KUBECONFIG"],
        context=None,
        image="localhost/other:1",
        ssh_user="sandbox",
        ssh_port=2222,
        ssh_key=None,
        transport=sandbox.Transport.TUNNEL,
        owner=OWNER,
        lifetime=math.inf,
        create_timeout=60,
        connect_timeout=10.5,
        command_timeout=20,
        transfer_timeout=30,
        idle_timeout=40,
        max_sessions=3,
        log=sandbox.LogLevel.ERROR,
        settings={"image": "localhost/never:1"},
        from_env=False,
    )
    with sandbox.Client(whole) as configured:
        assert configured.namespace == client.namespace and configured.ssh_port("unknown") == 2222
        assert configured.max_sessions == 3
    for name, value in (
        ("context", "no-such-context"),
        ("ssh_key", "/no/such/key"),
        ("owner", "not a label"),
        ("max_sessions", 0),
        ("max_sessions", -1),
        ("ssh_port", 70_000),
    ):
        try:
            sandbox.Client(dataclasses.replace(whole, **{name: value}))  # type: ignore[arg-type]
        except (sandbox.ConfigError, sandbox.InvalidArgumentError) as error:
            assert str(value) in str(error) or name in str(error), error
        else:
            raise AssertionError(f"{name}={value} was taken")
    with fails(ErrorKind.CONFIG) as seen:
        sandbox.Client(sandbox.Config(settings={"ssh_port": "many"}))
    assert "ssh_port" in str(seen[0]) or "SSH_PORT" in str(seen[0])
    with fails(ErrorKind.CONFIG) as seen:
        sandbox.Client(sandbox.Config(settings={"colour": "blue"}))
    assert "colour" in str(seen[0])
    for spec in (
        sandbox.SandboxSpec(name="Not A Name"),
        sandbox.SandboxSpec(lifetime=-1),
        sandbox.SandboxSpec(memory="much"),
    ):
        try:
            client.create(spec).delete()
        except (sandbox.InvalidArgumentError, sandbox.SandboxCreationError):
            pass
        else:
            raise AssertionError(f"{spec} was taken")
    with client.create(
        sandbox.SandboxSpec(
            name=f"py-{RUN}-settings",
            image=world.machine.info().image,
            lifetime=math.inf,
            hard_limit=600,
            idle_timeout=600,
            user_from_cluster=True,
            runtime_class=None,
            unschedulable_grace=0,
        )
    ) as made:
        assert made.info().expires_at is None
    with fails(ErrorKind.CREATE, sandbox.SandboxCreationError):
        client.create(sandbox.SandboxSpec(runtime_class="no-such-class"))
    with fails(ErrorKind.INVALID_ARGUMENT, sandbox.InvalidArgumentError):
        client.create(sandbox.SandboxSpec(idle_timeout=0))
    with fails(ErrorKind.CREATE, sandbox.SandboxCreationError) as seen:
        client.create(sandbox.SandboxSpec(commands_as="sandbox"))
    assert "runAsNonRoot" in str(seen[0])
    lines: list[tuple[sandbox.LogLevel, str, str]] = []
    sandbox.set_log_handler(sandbox.LogLevel.DEBUG, lambda *line: lines.append(line))
    client.list()
    assert any(level == sandbox.LogLevel.DEBUG and target.startswith("sandbox::") for level, target, _ in lines), lines
    with fails(ErrorKind.CONFIG, sandbox.ConfigError):
        whole.init_logging()
    sandbox.set_log_handler(sandbox.LogLevel.OFF, None)
    lines.clear()
    client.list()
    assert not lines, lines
    whole.init_logging()
    with fails(ErrorKind.CONFIG, sandbox.ConfigError):
        whole.init_logging()


def end() -> None:
    world.machine.delete()
    with fails(ErrorKind.NOT_FOUND, sandbox.SandboxNotFoundError):
        world.machine.info()
    with fails(ErrorKind.CLOSED, sandbox.ClosedError):
        world.machine.run(["true"])
    listed = [info.name for info in client.list() if info.owner.startswith(OWNER)]
    assert not listed, listed
