"""Starting the cluster: namespaces, components in their order, a first Pod."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import cgroups
import pki
import processes
import services
from api import Api, ApiError
from commands import environment, output
from console import Failure, say
from layout import (
    API_PORT,
    BINARIES,
    CONTAINERD_SOCKET,
    GVISOR,
    HASH,
    IMAGE_STAMP,
    KUBECONFIG,
    KUBECONFIG_INSIDE,
    LOGS,
    NAMESPACE,
    NODE,
    NODE_ADDRESS,
    NODE_BRIDGE,
    PAUSE_ARCHIVE,
    PROGRAMS_STAMP,
    RUN,
    SANDBOX_ARCHIVE,
    SANDBOX_IMAGE,
    STATE,
)
from processes import HOLDER, OUTSIDE_HOLDER, inside, outside, start, wait_until

COMPONENTS = [
    HOLDER,
    OUTSIDE_HOLDER,
    "etcd",
    "containerd",
    "relay-server",
    "relay-machine",
    "relay-outside",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
]
PORT_FILE = RUN / "port"


def hold(name: str, options: list[str], *kinds: str) -> None:
    """Starts the holder of new namespaces."""
    pid = start(name, ["unshare", *options, "sleep", "infinity"])
    wait_until(
        "joining new namespaces",
        lambda: processes.left(pid, *kinds),
        component=name,
        limit=10,
    )


def make_outside() -> None:
    """Makes the network of a machine outside: without a route, a Pod's address fails at once."""
    hold(OUTSIDE_HOLDER, ["--net"], "net")
    output("furnishing the outside network", outside(["ip", "link", "set", "lo", "up"]))


def make_namespaces() -> None:
    """Starts the holder of a network and a mount namespace, and furnishes both.

    All mounts and interfaces of the cluster live in there. They end with its last process,
    so a crash leaves none behind, and other directories of the machine stay untouched.
    """
    hold(HOLDER, ["--net", "--mount", "--propagation", "private"], "net", "mnt")

    def do(*command: str) -> None:
        output("furnishing the cluster's namespaces", inside(command))

    # Kubelet and runc hand mounts on to containers, which takes shared ones.
    do("mount", "--make-rshared", "/")
    kept = {
        "/var/lib/kubelet": "kubelet",
        "/var/lib/containerd": "containerd",
        "/var/log/pods": "pod-logs",
    }
    for target, name in kept.items():
        (STATE / name).mkdir()
        Path(target).mkdir(parents=True, exist_ok=True)
        do("mount", "--bind", str(STATE / name), target)
    # The database is in memory: it waits for no disk, and need not survive.
    for target in ("/run/containerd", "/var/lib/cni", "/var/log/containers", "/var/lib/etcd"):
        Path(target).mkdir(parents=True, exist_ok=True)
        do("mount", "-t", "tmpfs", "-o", "mode=755,size=1g", NODE, target)

    do("ip", "link", "set", "lo", "up")
    # A bridge without ports stands for the node's network card: every kernel has bridges.
    do("ip", "link", "add", NODE_BRIDGE, "type", "bridge")
    do("ip", "address", "add", f"{NODE_ADDRESS}/32", "dev", NODE_BRIDGE)
    do("ip", "link", "set", NODE_BRIDGE, "up")
    # The components look for a default route. This one leads nowhere.
    do("ip", "route", "add", "default", "dev", NODE_BRIDGE)
    do("sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")
    # Where this file exists, traffic between Pods passes kube-proxy's rules only with it.
    bridged = "/proc/sys/net/bridge/bridge-nf-call-iptables"
    do("sh", "-c", f"if [ -e {bridged} ]; then echo 1 >{bridged}; fi")


def free_port() -> int:
    """A port on loopback: the same one every time, if it is free."""
    for wanted in (20000 + int(HASH, 16) % 10000, 0):
        with contextlib.closing(socket.socket()) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("127.0.0.1", wanted))
            except OSError:
                continue
            return int(listener.getsockname()[1])
    raise Failure("no port is free on 127.0.0.1")


def ctr(*arguments: str) -> list[str]:
    """A command to our containerd, about the images and containers that Kubernetes sees."""
    return inside([str(BINARIES / "ctr"), "--address", str(CONTAINERD_SOCKET), "--namespace", "k8s.io", *arguments])


def containerd_answers() -> bool:
    done = subprocess.run(ctr("version"), env=environment(), capture_output=True, timeout=30)
    return done.returncode == 0


def load_images(*archives: Path) -> None:
    for archive in archives:
        output(f"importing {archive.name}", ctr("images", "import", str(archive)))


def await_api(api: Api) -> None:
    wait_until("being ready", api.ready, component="kube-apiserver", limit=120)


def await_node(api: Api) -> None:
    advice = "Kubelet says in its log what it misses (control groups, containerd, the network)."
    wait_until(
        "a ready node",
        lambda: node_ready(api),
        component="kubelet",
        limit=90,
        advice=lambda: advice,
    )


def is_true(condition: str, thing: dict[str, Any]) -> bool:
    """Whether a Node or a Pod has a condition."""
    conditions = thing["status"].get("conditions", [])
    return any(c["type"] == condition and c["status"] == "True" for c in conditions)


def node_ready(api: Api) -> bool:
    try:
        node = api.get(f"/api/v1/nodes/{NODE}")
    except ApiError:
        return False
    return is_true("Ready", node)


def make_test_namespace(api: Api) -> None:
    labels = {
        "pod-security.kubernetes.io/enforce": "restricted",
        "pod-security.kubernetes.io/enforce-version": "latest",
    }
    body = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": labels},
    }
    wait_until(
        "making the tests' namespace",
        lambda: api.create("/api/v1/namespaces", body),
        component="kube-apiserver",
        limit=30,
    )
    account = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/default"
    wait_until(
        "the default service account",
        lambda: api.exists(account),
        component="kube-controller-manager",
        limit=60,
    )


def make_gvisor_class(api: Api) -> None:
    """Lets Pods run under gVisor: containerd has been configured for it, and its programs are built."""
    body = {
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": GVISOR},
        "handler": GVISOR,
    }
    api.create("/apis/node.k8s.io/v1/runtimeclasses", body)


def smoke_pod() -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "cluster-smoke"},
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "dnsPolicy": "Default",
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 1000,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "sandbox",
                    "image": SANDBOX_IMAGE,
                    "imagePullPolicy": "Never",
                    "command": ["sleep", "600"],
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        },
    }


def run_smoke_pod(api: Api) -> None:
    """Proves that a Pod of the sandbox image starts under the restricted standard."""
    pods = f"/api/v1/namespaces/{NAMESPACE}/pods"
    pod = f"{pods}/cluster-smoke"
    # The API server may learn of the service account a moment after us.
    wait_until(
        "taking a first Pod",
        lambda: api.create(pods, smoke_pod()),
        component="kube-apiserver",
        limit=30,
    )

    def why() -> str:
        status = api.get(pod)["status"]
        states = [c.get("state") for c in status.get("containerStatuses", [])]
        events = api.get(f"/api/v1/namespaces/{NAMESPACE}/events?limit=50")["items"]
        told = [f"  {e['reason']}: {e['message']}" for e in events]
        return "\n".join([f"Its phase is {status.get('phase')}, {states}; events:", *told])

    wait_until(
        "a first Pod that runs",
        lambda: is_true("Ready", api.get(pod)),
        component="kubelet",
        limit=60,
        advice=why,
    )
    api.request("DELETE", pod)
    wait_until("the first Pod's end", lambda: not api.exists(pod), component="kubelet", limit=60)


def start_everything(programs: str, image: str) -> Api:
    began = time.monotonic()

    def step(text: str) -> None:
        say(f"{time.monotonic() - began:5.1f} s  {text}")

    try:
        cgroups.create()
    except OSError as error:
        raise Failure(
            f"no control group can be made ({error}): inside a container this takes a privileged "
            "one; or set SANDBOX_CLUSTER=current to use the cluster of your own kubeconfig"
        ) from error
    RUN.mkdir(mode=0o700, exist_ok=True)
    LOGS.mkdir(parents=True)
    pki.create()
    services.write_configuration()
    make_namespaces()
    make_outside()
    step("starting etcd, containerd and the API server")
    port = free_port()
    PORT_FILE.write_text(str(port))
    start("etcd", inside(services.etcd()))
    start("containerd", inside(services.containerd()))
    start("relay-server", inside(services.relay_server(), mounts=False))
    start("relay-machine", services.relay_client(port))
    # With the same port, one kubeconfig serves both.
    start("relay-outside", outside(services.relay_client(port)))
    start("kube-apiserver", inside(services.apiserver()))

    api = Api(port)
    wait_until("its socket", containerd_answers, component="containerd", limit=60)
    step("importing the images")
    load_images(PAUSE_ARCHIVE, SANDBOX_ARCHIVE)
    await_api(api)
    step("starting the controllers and the node")
    start("kube-controller-manager", inside(services.controller_manager()))
    start("kube-scheduler", inside(services.scheduler()))
    start("kubelet", inside(services.kubelet()))
    await_node(api)
    start("kube-proxy", inside(services.kube_proxy()))
    make_test_namespace(api)
    step("starting a first Pod")
    run_smoke_pod(api)
    pki.write_kubeconfig(KUBECONFIG_INSIDE, "admin", API_PORT)
    pki.write_kubeconfig(KUBECONFIG, "admin", port)
    PROGRAMS_STAMP.write_text(programs)
    # Last: without it, the cluster does not count as up.
    IMAGE_STAMP.write_text(image)
    return api
