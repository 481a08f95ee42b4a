"""What to create."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from . import _abi as abi
from ._boundary import Handle, call, encoded, make, seconds


@dataclass(frozen=True)
class SandboxSpec:
    """What Client.create() is to create, as often as wanted. What is None has its default; values that Kubernetes does
    not accept are reported by create(). Durations are seconds; math.inf is without a limit.

    name: name of the sandbox and of its Pod: at most 63 lower-case letters, digits and '-'. Default: "sandbox-" and 16
        random hexadecimal digits.
    image: image to run: any Linux image, without requirements, since the library brings the sandbox's main process
        (setting "guest"). Its entry point is not used. Default: the configured image.
    env: environment variables for everything that runs in the sandbox, on top of the image's own.
    labels: Kubernetes labels of the Pod.
    annotations: Kubernetes annotations of the Pod.
    node_selector: labels that the node must have.
    cpu: the most CPU it may use, as a Kubernetes quantity such as "500m" or "2". Default: "1".
    cpu_request: the CPU that the scheduler sets aside for it. Default: "10m".
    memory: the most memory it may use, as a Kubernetes quantity such as "512Mi"; if it uses more, the kernel kills
        processes. Default: "1Gi".
    memory_request: the memory that the scheduler sets aside for it. Default: "32Mi".
    disk: the most disk space that it may write; beyond it the node evicts the Pod. Default: no limit.
    lifetime: seconds until it expires: it stops by itself, and Client.reap() deletes what is left. Machine.renew()
        moves it. Default: the configured lifetime.
    hard_limit: seconds after which Kubernetes itself stops the Pod; no renewal moves it. Default: 24 hours, or twice
        the lifetime if that is more; none for a sandbox that never expires.
    idle_timeout: seconds without use after which it stops by itself, as when it expires; whole ones, rounded up. In use
        is a sandbox in which a command runs, detached ones too, or of which a file or a connection to a port is open;
        and whatever a client asks for, a renewal too, is a use at that moment. An idle SSH connection is none. The
        sandbox itself keeps this time, whether its clients are there or not. Of a pool's members it begins with the
        claim. Default: never.
    user_from_cluster: let the cluster or the image choose the user and group that the sandbox runs as: the Pod sets
        none. Needed on clusters that assign them per namespace, such as OpenShift. Root stays forbidden. Default: user
        and group 1000, whatever the image says.
    commands_as: the user of commands below a guest that runs as root: a name or number that the image's /etc/passwd
        knows, or numbers of a user and a group such as "1000:1000". Files and sockets are reached as that user too. The
        Pod then runs as root, with the capabilities KILL, SETGID and SETUID and no others, which the restricted and
        baseline Pod Security Standards refuse. gVisor can't do it. Default: commands and guest have the sandbox's user.
    runtime_class: runtime class, such as "gvisor" or "kata". Default: the cluster's. The tunnel transport does not
        work under these two, the others do. The library logs a warning for each guarantee that does not hold there.
    unschedulable_grace: how many seconds to wait for a Pod that can't be scheduled, so that an autoscaler can add a
        node. Default: 10.
    pod_template: a Pod that is merged over the one that the library makes (RFC 7386; in "containers" an entry named
        "sandbox" is merged, all else is replaced). This reaches every field that Kubernetes has.
    """

    name: Optional[str] = None
    image: Optional[str] = None
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    node_selector: Mapping[str, str] = field(default_factory=dict)
    cpu: Optional[str] = None
    cpu_request: Optional[str] = None
    memory: Optional[str] = None
    memory_request: Optional[str] = None
    disk: Optional[str] = None
    lifetime: Optional[float] = None
    hard_limit: Optional[float] = None
    idle_timeout: Optional[float] = None
    user_from_cluster: bool = False
    commands_as: Optional[str] = None
    runtime_class: Optional[str] = None
    unschedulable_grace: Optional[float] = None
    pod_template: Optional[Mapping[str, Any]] = None

    def _handle(self) -> Handle:
        handle = make(abi.sbx_spec_new, abi.sbx_spec_free)
        for function, text in (
            (abi.sbx_spec_set_name, self.name),
            (abi.sbx_spec_set_image, self.image),
            (abi.sbx_spec_set_cpu, self.cpu),
            (abi.sbx_spec_set_cpu_request, self.cpu_request),
            (abi.sbx_spec_set_memory, self.memory),
            (abi.sbx_spec_set_memory_request, self.memory_request),
            (abi.sbx_spec_set_disk, self.disk),
            (abi.sbx_spec_set_commands_as, self.commands_as),
            (abi.sbx_spec_set_runtime_class, self.runtime_class),
            (abi.sbx_spec_set_pod_template, None if self.pod_template is None else json.dumps(self.pod_template)),
        ):
            if text is not None:
                call(function, handle, encoded(text))
        for function, texts in (
            (abi.sbx_spec_set_env, self.env),
            (abi.sbx_spec_set_label, self.labels),
            (abi.sbx_spec_set_annotation, self.annotations),
            (abi.sbx_spec_set_node_selector, self.node_selector),
        ):
            for name, text in texts.items():
                call(function, handle, encoded(name), encoded(text))
        for function, duration in (
            (abi.sbx_spec_set_lifetime, self.lifetime),
            (abi.sbx_spec_set_hard_limit, self.hard_limit),
            (abi.sbx_spec_set_idle_timeout, self.idle_timeout),
            (abi.sbx_spec_set_unschedulable_grace, self.unschedulable_grace),
        ):
            if duration is not None:
                call(function, handle, seconds(duration))
        if self.user_from_cluster:
            call(abi.sbx_spec_set_user_from_cluster, handle)
        return handle
