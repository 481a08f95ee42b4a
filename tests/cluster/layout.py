"""Where everything is, and what it is called.

All names come from the checkout's path, so two checkouts on one machine do not meet.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
IMAGE_SOURCES = REPOSITORY / "image"
COMPONENTS = HERE / "components"

# Built once and kept by `down`.
CACHE = REPOSITORY / "target" / "cluster"
BINARIES = CACHE / "programs"
BINARY = BINARIES / "kubernetes"
SANDBOX_ARCHIVE = CACHE / "sandbox.tar"
PLAIN_ARCHIVE = CACHE / "plain.tar"
GUEST_ARCHIVE = CACHE / "guest.tar"
# The root file system of the first two.
DEBIAN_LAYER = CACHE / "debian.layer.tar"
# Where cargo builds the guest: with other flags than the rest.
GUEST_BUILD = REPOSITORY / "target" / "guest"
PAUSE_ARCHIVE = CACHE / "pause.tar"
# Only tests need them.
BUSYBOX_ARCHIVE = CACHE / "busybox.tar"
SINGLE_ARCHIVE = CACHE / "single.tar"
FISH_ARCHIVE = CACHE / "fish.tar"
# Only the benchmark needs it.
SSHD_SOURCES = REPOSITORY / "benches" / "sshd"
SSHD_ARCHIVE = CACHE / "bench-sshd.tar"
LOCK = CACHE / "lock"

# Thrown away by `down`.
KUBECONFIG = CACHE / "kubeconfig"
KUBECONFIG_INSIDE = CACHE / "kubeconfig.inside"
STATE = CACHE / "state"
LOGS = STATE / "logs"
PKI = STATE / "pki"
CONFIG = STATE / "config"
AUDIT_LOG = LOGS / "audit.log"
IMAGE_STAMP = STATE / "image.stamp"
OTHER_IMAGES_STAMP = STATE / "other-images.stamp"
SSHD_STAMP = STATE / "sshd.stamp"
PROGRAMS_STAMP = STATE / "programs.stamp"

HASH = hashlib.sha256(str(REPOSITORY).encode()).hexdigest()[:8]
NAME = f"sandbox-{HASH}"

# Short, because a unix socket's path has at most 107 bytes; and outside of target/,
# so that the processes are still known after a `cargo clean`.
RUN = Path("/run") / NAME
API_SOCKET = RUN / "api.sock"
PROCESSES = RUN / "processes.json"

# In the cluster's private mount namespace only.
CONTAINERD_SOCKET = Path("/run/containerd/containerd.sock")

NAMESPACE = "sandbox-tests"
SANDBOX_IMAGE = "localhost/sandbox:dev"
# The same without the guest, and the guest alone.
PLAIN_IMAGE = "localhost/plain:dev"
GUEST_IMAGE = "localhost/sandbox-guest:dev"
PAUSE_IMAGE = "localhost/pause:dev"
BUSYBOX_IMAGE = "localhost/busybox:dev"
SINGLE_IMAGE = "localhost/single:dev"
FISH_IMAGE = "localhost/fish:dev"
SSHD_IMAGE = "localhost/bench-sshd:dev"
# The RuntimeClass, and the runtime of containerd that it stands for.
GVISOR = "gvisor"

# Addresses inside the cluster's own network namespace.
NODE = "node"
NODE_BRIDGE = "node0"
NODE_ADDRESS = "10.200.0.1"
POD_NETWORK = "10.201.0.0/16"
SERVICE_NETWORK = "10.96.0.0/16"
API_SERVICE_ADDRESS = "10.96.0.1"
API_PORT = 6443
