"""How a client reaches Kubernetes and its sandboxes, and how long it waits."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Optional, Union

from . import _abi as abi
from ._abi import LogLevel, Transport
from ._border import Handle, call, encoded, make, ranged, seconds


@dataclass(frozen=True)
class Config:
    """Settings of a Client. What is None is taken from the environment's SANDBOX_ variables, then from a .env file in
    the working directory or above it, then it has its default; with from_env=False it has its default.

    Durations are seconds; math.inf is without a limit. What can't be is ConfigError or InvalidArgumentError as soon as
    the settings are used.
    """

    #: Kubernetes namespace of the sandboxes. Default: the context's or the service account's, else "default".
    namespace: Optional[str] = None
    #: Path of a kubeconfig file. Default: the service account of the Pod that this runs in, else KUBECONFIG, else
    #: ~/.kube/config.
    kubeconfig: Union[str, "os.PathLike[str]", None] = None
    #: Context in the kubeconfig. Default: its current context.
    context: Optional[str] = None
    #: Image of new sandboxes whose spec names none.
    image: Optional[str] = None
    #: User name for SSH. Default: "sandbox".
    ssh_user: Optional[str] = None
    #: Port of the SSH server in new sandboxes. Default: 22.
    ssh_port: Optional[int] = None
    #: Path of an unencrypted ed25519 private key in PEM (PKCS#8) form, for processes that share sandboxes. Default: a
    #: new key in memory for each client.
    ssh_key: Union[str, "os.PathLike[str]", None] = None
    #: The way to the sandboxes. Default: Transport.AUTO.
    transport: Optional[Transport] = None
    #: Label value that tells whose sandboxes these are. Default: "default".
    owner: Optional[str] = None
    #: Seconds until a new sandbox expires. Default: 3600.
    lifetime: Optional[float] = None
    #: Seconds for creating a sandbox, up to its first login. Default: 300.
    create_timeout: Optional[float] = None
    #: Seconds for one SSH connection with login. Default: 30.
    connect_timeout: Optional[float] = None
    #: Seconds for a command that sets none itself. Default: 600.
    command_timeout: Optional[float] = None
    #: Seconds for a file transfer. Default: 3600.
    transfer_timeout: Optional[float] = None
    #: Seconds after which an unused SSH session is closed. Default: 300.
    idle_timeout: Optional[float] = None
    #: SSH sessions to one sandbox at the same time, 1 to 1000; further callers wait. Default: 16.
    max_sessions: Optional[int] = None
    #: Level for init_logging(). Default: LogLevel.WARN.
    log: Optional[LogLevel] = None
    #: Settings by name, from text as it would stand in the environment, such as {"ssh_port": "22"}; those above win.
    settings: Mapping[str, str] = field(default_factory=dict)
    #: Whether the environment and .env are read.
    from_env: bool = True

    def init_logging(self) -> None:
        """Sends the library's log lines to standard error at the configured level, for the rest of the process's life.
        Without this it writes nothing. ConflictError if this was done before.
        """
        call(abi.sbx_config_init_logging, self._handle())

    def _handle(self) -> Handle:
        handle = make(abi.sbx_config_from_env if self.from_env else abi.sbx_config_new, abi.sbx_config_free)
        for name, text in self.settings.items():
            call(abi.sbx_config_set, handle, encoded(name), encoded(text))
        for setting in fields(self):
            value = getattr(self, setting.name)
            if value is None or setting.name not in _SETTERS:
                continue
            if isinstance(value, float) or setting.name in _DURATIONS:
                value = seconds(value)
            elif setting.name in _RANGES:
                value = ranged(value, _RANGES[setting.name])
            elif not isinstance(value, int):
                value = encoded(value)
            call(_SETTERS[setting.name], handle, value)
        return handle


_RANGES = {"ssh_port": 1 << 16, "max_sessions": 1 << 64}
_DURATIONS = {
    "lifetime": abi.sbx_config_set_lifetime,
    "create_timeout": abi.sbx_config_set_create_timeout,
    "connect_timeout": abi.sbx_config_set_connect_timeout,
    "command_timeout": abi.sbx_config_set_command_timeout,
    "transfer_timeout": abi.sbx_config_set_transfer_timeout,
    "idle_timeout": abi.sbx_config_set_idle_timeout,
}
_SETTERS = {
    "namespace": abi.sbx_config_set_namespace,
    "kubeconfig": abi.sbx_config_set_kubeconfig,
    "context": abi.sbx_config_set_context,
    "image": abi.sbx_config_set_image,
    "ssh_user": abi.sbx_config_set_ssh_user,
    "ssh_port": abi.sbx_config_set_ssh_port,
    "ssh_key": abi.sbx_config_set_ssh_key,
    "transport": abi.sbx_config_set_transport,
    "owner": abi.sbx_config_set_owner,
    "max_sessions": abi.sbx_config_set_max_sessions,
    "log": abi.sbx_config_set_log,
    **_DURATIONS,
}
