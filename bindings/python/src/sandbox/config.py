"""How a client reaches Kubernetes and its sandboxes, and how long it waits."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Optional, Union

from . import _abi as abi
from ._abi import LogLevel, Transport
from ._boundary import Handle, call, encoded, make, ranged, seconds


@dataclass(frozen=True)
class Config:
    """Settings of a Client. What is None is taken from the environment's SANDBOX_ variables, then from a .env file in
    the working directory or above it, then it has its default; with from_env=False it has its default.

    A .env file may be part of untrusted code. So SANDBOX_KUBECONFIG, SANDBOX_CONTEXT and SANDBOX_SSH_KEY are refused in
    it, and a file that another user can write to is ignored.

    Durations are seconds; math.inf is without a limit. What can't be is ConfigError or InvalidArgumentError as soon as
    the settings are used.

    namespace: Kubernetes namespace of the sandboxes. Default: the context's or the service account's, else "default".
    kubeconfig: path of a kubeconfig file. Default: KUBECONFIG, else ~/.kube/config, else the service account of the Pod
        that this runs in.
    context: context in the kubeconfig. Default: its current context.
    image: image of new sandboxes whose spec names none.
    ssh_user: user name for SSH. Default: "sandbox".
    ssh_port: port of the SSH server in new sandboxes. Default: 2222.
    ssh_key: path of an unencrypted ed25519 private key in OpenSSH's format or PEM (PKCS#8), for processes that share
        sandboxes; only the owner may have access to it (mode 0600). Default: a new key in memory for each client.
    transport: the way to the sandboxes. Default: Transport.AUTO.
    owner: label value that names the owner of the sandboxes. Default: "default".
    lifetime: seconds until a new sandbox expires. Default: 3600.
    create_timeout: seconds for creating a sandbox, up to its first login. Default: 300.
    connect_timeout: seconds for one SSH connection with login. Default: 30.
    command_timeout: seconds for a command that sets none itself. Default: 600.
    transfer_timeout: seconds for a file transfer. Default: 3600.
    idle_timeout: seconds after which an unused SSH session is closed. Default: 300.
    max_sessions: SSH sessions to one sandbox at the same time, 1 to 1000; further callers wait. Default: 16.
    log: level for init_logging(). Default: LogLevel.WARN.
    settings: settings by name, from text in the form used in the environment, such as {"ssh_port": "2222"}; those above
        win.
    from_env: whether the environment and .env are read.
    """

    namespace: Optional[str] = None
    kubeconfig: Union[str, os.PathLike[str], None] = None
    context: Optional[str] = None
    image: Optional[str] = None
    ssh_user: Optional[str] = None
    ssh_port: Optional[int] = None
    ssh_key: Union[str, os.PathLike[str], None] = None
    transport: Optional[Transport] = None
    owner: Optional[str] = None
    lifetime: Optional[float] = None
    create_timeout: Optional[float] = None
    connect_timeout: Optional[float] = None
    command_timeout: Optional[float] = None
    transfer_timeout: Optional[float] = None
    idle_timeout: Optional[float] = None
    max_sessions: Optional[int] = None
    log: Optional[LogLevel] = None
    settings: Mapping[str, str] = field(default_factory=dict)
    from_env: bool = True

    def init_logging(self) -> None:
        """Sends the library's log lines to standard error at the configured level, for the rest of the process's life.
        Without this it writes nothing. ConfigError if this was done before.
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
