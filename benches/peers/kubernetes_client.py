"""The official Python client of Kubernetes: an exec stream for each command."""

import kubernetes.client
import kubernetes.config
import kubernetes.stream

from .base import STEP_SECONDS, Peer, Target, timed


class KubernetesClient(Peer):
    """As its examples show it, with the exit code looked at."""

    name = "kubernetes client"
    by_address = False

    def open(self, target: Target) -> None:
        self.target = target
        kubernetes.config.load_kube_config()
        self.api = kubernetes.client.CoreV1Api()
        self._true()

    def warm(self, count: int) -> list[float]:
        return timed(max(1, count // 5), self._true)

    def _true(self) -> None:
        stream = kubernetes.stream.stream(
            self.api.connect_get_namespaced_pod_exec,
            self.target.name,
            self.target.namespace,
            command=["true"],
            stdin=False,
            stdout=True,
            stderr=True,
            tty=False,
            _preload_content=False,
        )
        stream.run_forever(timeout=STEP_SECONDS)
        if stream.returncode != 0:
            raise RuntimeError(f"exit code {stream.returncode}")
