"""What Kubernetes says about a sandbox."""

from collections.abc import Mapping
from ctypes import byref, c_int64
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Callable, Optional, Union

from . import _abi as abi
from ._abi import Cause, Phase
from ._boundary import Handle, decoded
from .errors import Verdict


@dataclass(frozen=True)
class SandboxInfo:
    """What Kubernetes says about a sandbox at one moment. Points in time are in UTC.

    name: name of the sandbox and of its Pod.
    namespace: namespace of the Pod.
    uid: Kubernetes' unique id of the Pod; another Pod of the same name has another one.
    phase: where the Pod is in its life.
    owner: the owner that its creator was configured with.
    image: the image it runs.
    node: the node it runs on; None until one is chosen.
    pod_ip: the Pod's address; None until it has one.
    ssh_port: port of the SSH server.
    ssh_user: user name for SSH.
    host_key: the SSH server's host key, as OpenSSH writes it; None until it is pinned.
    created_at: when it was created, if that is known.
    expires_at: when it expires; None if it never does.
    labels: the Pod's labels.
    verdict: why it stopped or can't start; None if neither is so.
    """

    name: str
    namespace: str
    uid: str
    phase: Phase
    owner: str
    image: str
    node: Optional[str]
    pod_ip: Optional[str]
    ssh_port: int
    ssh_user: str
    host_key: Optional[str]
    created_at: Optional[datetime]
    expires_at: Optional[datetime]
    labels: Mapping[str, str]
    verdict: Optional[Verdict]


def point(seconds: int) -> datetime:
    """The point in time that the library means."""
    return datetime.fromtimestamp(seconds, timezone.utc)


def info_of(info: Union[Handle, int]) -> SandboxInfo:
    """A copy of what the library's info says."""

    def text(function: Callable[..., Optional[bytes]]) -> Optional[str]:
        found = function(info)
        return None if found is None else decoded(found)

    def moment(function: Callable[..., bool]) -> Optional[datetime]:
        place = c_int64()
        return point(place.value) if function(info, byref(place)) else None

    labels = {
        decoded(abi.sbx_info_label_name_at(info, index)): decoded(abi.sbx_info_label_value_at(info, index))
        for index in range(abi.sbx_info_label_count(info))
    }
    cause = Cause(abi.sbx_info_verdict_cause(info))
    reason, message = text(abi.sbx_info_verdict_reason), text(abi.sbx_info_verdict_message)
    return SandboxInfo(
        name=text(abi.sbx_info_name) or "",
        namespace=text(abi.sbx_info_namespace) or "",
        uid=text(abi.sbx_info_uid) or "",
        phase=Phase(abi.sbx_info_phase(info)),
        owner=text(abi.sbx_info_owner) or "",
        image=text(abi.sbx_info_image) or "",
        node=text(abi.sbx_info_node),
        pod_ip=text(abi.sbx_info_pod_ip),
        ssh_port=abi.sbx_info_ssh_port(info),
        ssh_user=text(abi.sbx_info_ssh_user) or "",
        host_key=text(abi.sbx_info_host_key),
        created_at=moment(abi.sbx_info_created_at),
        expires_at=moment(abi.sbx_info_expires_at),
        labels=labels,
        verdict=None if cause is Cause.NONE else Verdict(cause, reason or "", message or ""),
    )
