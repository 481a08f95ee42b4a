"""As much of a Kubernetes client as starting a cluster needs; it takes the way from outside."""

from __future__ import annotations

import http.client
import json
import ssl
from typing import Any

from console import Failure
from pki import crt, key


class ApiError(Failure):
    """The API server answered with an error; or not at all, which is status 0."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"the API server: {status or 'no answer'}: {text}")
        self.status = status


class Api:
    def __init__(self, port: int) -> None:
        self.port = port
        self.tls = ssl.create_default_context(cafile=str(crt("ca")))
        self.tls.load_cert_chain(crt("admin"), key("admin"))

    def request(self, method: str, path: str, body: dict[str, Any] | None = None) -> bytes:
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=10, context=self.tls)
        try:
            headers = {"Content-Type": "application/json", "User-Agent": "sandbox-cluster"}
            connection.request(method, path, json.dumps(body) if body else None, headers)
            answer = connection.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise ApiError(0, f"{method} {path}: {error!r}") from error
        finally:
            connection.close()
        if answer.status >= 400:
            raise ApiError(answer.status, f"{method} {path}: {data.decode(errors='replace')}")
        return data

    def get(self, path: str) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.request("GET", path))
        return value

    def exists(self, path: str) -> bool:
        try:
            self.request("GET", path)
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        return True

    def create(self, path: str, body: dict[str, Any]) -> bool:
        """Creates an object, or finds it there."""
        try:
            self.request("POST", path, body)
        except ApiError as error:
            if error.status != 409:
                raise
        return True

    def ready(self) -> bool:
        try:
            return self.request("GET", "/readyz") == b"ok"
        except ApiError:
            return False
