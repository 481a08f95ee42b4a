"""What one does without this library."""

import json
import secrets
import subprocess

from .base import STEP_SECONDS, Peer, Target, timed


class Kubectl(Peer):
    """A whole process for each step."""

    name = "kubectl"

    def open(self, target: Target) -> None:
        self.target = target

    def warm(self, count: int) -> list[float]:
        # Slow enough that a few show it.
        few = max(1, count // 20)
        return timed(few, lambda: self._kubectl("exec", self.target.name, "--", "true"))

    def create(self) -> list[float]:
        name = f"bench-{secrets.token_hex(4)}"

        def run() -> None:
            self._kubectl("create", "--filename=-", manifest=self._pod(name))
            self._kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")
            self._kubectl("exec", name, "--", "true")

        try:
            return timed(1, run)
        finally:
            self._kubectl("delete", "pod", name, "--grace-period=1", "--ignore-not-found")

    def _pod(self, name: str) -> dict[str, object]:
        """One that waits, as safe as the policy of a careful cluster demands."""
        container = {
            "name": "main",
            "image": self.target.image,
            "command": ["sleep", "300"],
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "runAsNonRoot": True,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
        }
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {"restartPolicy": "Never", "containers": [container]},
        }

    def _kubectl(self, *arguments: str, manifest: dict[str, object] | None = None) -> None:
        command = ["kubectl", f"--namespace={self.target.namespace}", *arguments]
        done = subprocess.run(
            command,
            input=json.dumps(manifest) if manifest else "",
            capture_output=True,
            text=True,
            timeout=STEP_SECONDS,
        )
        if done.returncode != 0:
            raise RuntimeError(f"kubectl {arguments[0]}: {done.stderr.strip()}")
