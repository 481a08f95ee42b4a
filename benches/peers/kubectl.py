"""What one does without this library."""

import json
import secrets
import subprocess

from .base import STEP_SECONDS, Peer, Target, timed


def kubectl(namespace: str, *arguments: str, manifest: object = None) -> str:
    """Its output. A manifest goes to its input."""
    done = subprocess.run(
        ["kubectl", f"--namespace={namespace}", *arguments],
        input=json.dumps(manifest) if manifest else "",
        capture_output=True,
        text=True,
        timeout=STEP_SECONDS,
    )
    if done.returncode != 0:
        raise RuntimeError(f"kubectl {arguments[0]}: {done.stderr.strip()}")
    return done.stdout


class Kubectl(Peer):
    """A whole process for each step."""

    name = "kubectl"
    by_address = False

    def open(self, target: Target) -> None:
        self.target = target

    def warm(self, count: int) -> list[float]:
        # Slow enough that a few show it.
        few = max(1, count // 20)
        namespace, name = self.target.namespace, self.target.name
        return timed(few, lambda: kubectl(namespace, "exec", name, "--", "true"))

    def upload(self, local: str, remote: str) -> list[float]:
        return self._copied(local, f"{self.target.name}:{remote}")

    def download(self, remote: str, local: str) -> list[float]:
        return self._copied(f"{self.target.name}:{remote}", local)

    upload_tree = upload
    download_tree = download

    def _copied(self, source: str, target: str) -> list[float]:
        return timed(1, lambda: kubectl(self.target.namespace, "cp", source, target))

    def create(self) -> list[float]:
        name, namespace = f"bench-{secrets.token_hex(4)}", self.target.namespace

        def run() -> None:
            kubectl(namespace, "create", "--filename=-", manifest=self._pod(name))
            kubectl(namespace, "wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")
            kubectl(namespace, "exec", name, "--", "true")

        try:
            return timed(1, run)
        finally:
            kubectl(namespace, "delete", "pod", name, "--grace-period=1", "--ignore-not-found")

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
