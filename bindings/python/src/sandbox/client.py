"""The client: create, attach, list, delete and reap sandboxes."""

import dataclasses
from collections.abc import Iterable, Mapping
from ctypes import byref, c_uint64
from typing import Callable, Optional

from . import _abi as abi
from ._abi import Phase
from ._boundary import Closable, Handle, Text, begun, call, decoded, encoded, interruptible, make, ranged, seconds
from .changes import Changes
from .command import CompletedCommand, completed
from .config import Config
from .errors import CommandExecutionError, FileTransferError, SandboxCreationError, SandboxDeletionError
from .info import SandboxInfo, info_of
from .machine import Machine
from .pool import Pool
from .spec import SandboxSpec

# In the class, `list` is a method.
Infos = list[SandboxInfo]
Names = list[str]


class Client(Closable):
    """A connection to Kubernetes and everything that its sandboxes share: the login key, the cache of addresses, ports
    and host keys, and the SSH sessions.

    It may be used from many threads at once. close(), or the end of a `with` block, lets go of it; its sandboxes stay,
    Machines of them stay usable, and with the last of all these its SSH sessions are closed.

    With the methods that take the name of a sandbox it is also the class of the original SDK: Sandbox.
    """

    def __init__(self, config: Optional[Config] = None) -> None:
        """Reads the service account or the kubeconfig; the API server is first asked when there is something to ask.
        Without a config, the environment decides. ConfigError if a setting is not allowed, or no way to authenticate
        was found.
        """
        self._handle: Optional[Handle] = None
        work = (abi.sbx_client_new, abi.sbx_client_free, config and config._handle())
        self._handle = interruptible(make, *work)

    def __repr__(self) -> str:
        name = f"sandbox.{type(self).__name__}"
        return f"<{name}, closed>" if self.closed else f"<{name} of namespace {self.namespace!r}>"

    @property
    def namespace(self) -> str:
        """The namespace of this client's sandboxes."""
        return decoded(abi.sbx_client_namespace(self._open()))

    @property
    def max_sessions(self) -> int:
        """How many SSH sessions this client has to one sandbox at most; further calls wait for one."""
        return abi.sbx_client_max_sessions(self._open())

    @property
    def api_requests(self) -> int:
        """How many HTTP requests this client has sent to the Kubernetes API server."""
        return abi.sbx_client_api_requests(self._open())

    def create(self, spec: Optional[SandboxSpec] = None) -> Machine:
        """Creates a sandbox and waits until it is ready for commands. One that fails to start is deleted again, and so
        is one
        whose creation is interrupted (Ctrl-C).

        `with client.create() as machine:` deletes it at the block's end; without `with` it stays until Machine.delete()
        or its expiry.

        SandboxCreationError with the cluster's verdict; it is also ConflictError if the name is taken, QuotaError,
        TimedOutError, PermissionDeniedError or UnavailableError if that is the reason.
        """
        work = (abi.sbx_client_create, abi.sbx_sandbox_free, self._open(), spec and spec._handle())
        return Machine(begun(*work, subject=SandboxCreationError, discard=_delete), is_own=True)

    def attach(self, name: str) -> Machine:
        """A handle for the existing sandbox of this name. It takes one API call, or none if the client's cache has the
        sandbox. `with
        client.attach(...)` does not delete it. SandboxNotFoundError if there is none.
        """
        work = (abi.sbx_client_attach, abi.sbx_sandbox_free, self._open(), encoded(name))
        return Machine(interruptible(make, *work), is_own=False)

    def pool(
        self,
        name: str,
        spec: Optional[SandboxSpec] = None,
        *,
        size: int = 4,
        idle_lifetime: float = 3600,
        creates_at_once: int = 4,
        creates_per_second: float = 10,
        keep_filled: bool = False,
    ) -> Pool:
        """A handle for the pool of this name, for sandboxes of this spec. It makes no API call. Only filling
        needs the other arguments.

        size: how many sandboxes are kept ready, 0 to 10,000. If several processes fill the pool, the largest size
        applies. After the size was lowered, surplus sandboxes stay until they are claimed or reach their idle lifetime.
        idle_lifetime: how many seconds a sandbox waits to be claimed before it is replaced; at least 10.
        creates_at_once: how many sandboxes the pool makes at the same time, 1 to 256.
        creates_per_second: how many it begins to make in a second, more than 0.
        keep_filled: keep it filled from a thread of its own until close().

        InvalidArgumentError if the name (at most 36 lower-case letters, digits and '-'), the spec (which must not have
        a name) or another argument is invalid.
        """
        options = make(abi.sbx_pool_options_new, abi.sbx_pool_options_free)
        for function, argument in (
            (abi.sbx_pool_options_set_size, ranged(size, 1 << 32)),
            (abi.sbx_pool_options_set_idle_lifetime, seconds(idle_lifetime)),
            (abi.sbx_pool_options_set_creates_at_once, ranged(creates_at_once, 1 << 32)),
            (abi.sbx_pool_options_set_creates_per_second, creates_per_second),
            (abi.sbx_pool_options_set_keep_filled, keep_filled),
        ):
            call(function, options, argument)
        given = (self._open(), encoded(name), spec and spec._handle(), options)
        return Pool(make(abi.sbx_client_pool, abi.sbx_pool_free, *given))

    def list(
        self,
        *,
        owner: Optional[str] = None,
        labels: Optional[Mapping[str, str]] = None,
        phases: Iterable[Phase] = (),
        older_than: Optional[float] = None,
        younger_than: Optional[float] = None,
    ) -> Infos:
        """The sandboxes in the namespace, the oldest first, and those of the same second by name. Without arguments
        that is all of them, whoever owns them, else those that fit every argument. It takes one API call for every 500
        that have the owner and the labels.

        owner: only those of this owner.
        labels: only those whose Pods have all these Kubernetes labels with these values.
        phases: only those in one of these phases.
        older_than: only those that were created more than so many seconds ago. Kubernetes tells that time in whole
        seconds, and the API server's clock tells how long ago it was.
        younger_than: only those that were created at most so many seconds ago.

        InvalidArgumentError if no Pod can have the owner or a label.
        """
        which = _filter(owner, labels, phases)
        for function, age in (
            (abi.sbx_filter_set_older_than, older_than),
            (abi.sbx_filter_set_younger_than, younger_than),
        ):
            if age is not None:
                call(function, which, seconds(age))
        found = interruptible(make, abi.sbx_client_list, abi.sbx_info_list_free, self._open(), which)
        infos = (abi.sbx_info_list_at(found, index) for index in range(abi.sbx_info_list_count(found)))
        return [info_of(info) for info in infos if info is not None]

    def watch(
        self,
        *,
        owner: Optional[str] = None,
        labels: Optional[Mapping[str, str]] = None,
        phases: Iterable[Phase] = (),
    ) -> Changes:
        """The changes of the sandboxes in the namespace that fit every argument, as of list(): an iterator that waits
        for each. It is one watch of its own, and keeps what it has told last of each sandbox.

        InvalidArgumentError if no Pod can have the owner or a label.
        """
        which = _filter(owner, labels, phases)
        return Changes(make(abi.sbx_client_watch, abi.sbx_changes_free, self._open(), which))

    def reap(self) -> Names:
        """Deletes every sandbox in the namespace that has expired, whoever owns it, without waiting for the end of the
        Pods, and returns their names.
        """
        work = (abi.sbx_client_reap, abi.sbx_name_list_free, self._open())
        names = interruptible(make, *work, subject=SandboxDeletionError)
        return [decoded(abi.sbx_name_list_at(names, index)) for index in range(abi.sbx_name_list_count(names))]

    def create_sandbox(self, name: Optional[str] = None, spec: Optional[SandboxSpec] = None) -> Machine:
        """An alias of create() that takes the sandbox's name as an argument."""
        spec = spec or SandboxSpec()
        return self.create(spec if name is None else dataclasses.replace(spec, name=name))

    def delete_sandbox(self, name: str) -> None:
        """Deletes a sandbox by name: attach() and Machine.delete() in one."""
        work = (abi.sbx_client_delete_sandbox, self._open(), encoded(name))
        interruptible(call, *work, subject=SandboxDeletionError)

    def shutdown_sandbox(self, name: str) -> None:
        """An alias of delete_sandbox()."""
        work = (abi.sbx_client_shutdown_sandbox, self._open(), encoded(name))
        interruptible(call, *work, subject=SandboxDeletionError)

    def execute_command(self, name: str, command: str) -> "CompletedCommand[bytes]":
        """Runs a line in the shell of a sandbox by name: attach() and Machine.execute() in one."""
        work = (abi.sbx_client_execute_command, abi.sbx_output_free, self._open(), encoded(name), encoded(command))
        return completed(interruptible(make, *work, subject=CommandExecutionError), command)

    def upload_file(self, name: str, local: Text, remote: Text) -> int:
        """Copies a local file into a sandbox by name, and returns its size: attach() and Machine.upload() in one."""
        return self._transferred(abi.sbx_client_upload_file, name, local, remote)

    def download_file(self, name: str, remote: Text, local: Text) -> int:
        """Copies a file out of a sandbox by name, and returns its size: attach() and Machine.download() in one."""
        return self._transferred(abi.sbx_client_download_file, name, remote, local)

    def _transferred(self, function: Callable[..., int], name: str, source: Text, target: Text) -> int:
        size = c_uint64()
        work = (function, self._open(), encoded(name), encoded(source), encoded(target), byref(size))
        interruptible(call, *work, subject=FileTransferError)
        return size.value

    def get_sandbox_info(self, name: str) -> SandboxInfo:
        """Asks Kubernetes about a sandbox by name: one API call. SandboxNotFoundError if there is none of this name."""
        work = (abi.sbx_client_get_sandbox_info, abi.sbx_info_free, self._open(), encoded(name))
        return info_of(interruptible(make, *work))

    def ssh_port(self, name: str) -> int:
        """The SSH port of a sandbox by name, from the cache; the configured one if the cache does not know it."""
        return abi.sbx_client_ssh_port(self._open(), encoded(name))


class Sandbox(Client):
    """The class of the original SDK: a Client, whose methods take the names of sandboxes."""


def _filter(owner: Optional[str], labels: Optional[Mapping[str, str]], phases: Iterable[Phase]) -> Handle:
    which = make(abi.sbx_filter_new, abi.sbx_filter_free)
    if owner is not None:
        call(abi.sbx_filter_set_owner, which, encoded(owner))
    for name, value in (labels or {}).items():
        call(abi.sbx_filter_set_label, which, encoded(name), encoded(value))
    for phase in phases:
        call(abi.sbx_filter_add_phase, which, phase)
    return which


def _delete(sandbox: Handle) -> None:
    call(abi.sbx_sandbox_delete, sandbox, subject=SandboxDeletionError)
