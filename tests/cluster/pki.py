"""Certificates, and the kubeconfigs made of them. Made anew for every `up`."""

from __future__ import annotations

import base64
import os
from pathlib import Path

from commands import output
from layout import API_SERVICE_ADDRESS, NAME, NAMESPACE, NODE, NODE_ADDRESS, PKI

CURVE = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
AUTHORITY = ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign"]
LEAF = ["basicConstraints=critical,CA:FALSE", "authorityKeyIdentifier=keyid"]
CLIENT, SERVER = "extendedKeyUsage=clientAuth", "extendedKeyUsage=serverAuth"
API_NAMES = (
    "DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,"
    f"IP:127.0.0.1,IP:{NODE_ADDRESS},IP:{API_SERVICE_ADDRESS}"
)
# name: (subject, extensions)
CERTIFICATES = {
    "apiserver": ("/CN=kube-apiserver", [SERVER, f"subjectAltName={API_NAMES}"]),
    "kubelet-server": (f"/CN={NODE}", [SERVER, f"subjectAltName=DNS:{NODE},IP:{NODE_ADDRESS}"]),
    "apiserver-kubelet-client": ("/O=system:masters/CN=kube-apiserver-kubelet-client", [CLIENT]),
    "admin": ("/O=system:masters/CN=admin", [CLIENT]),
    "kubelet": (f"/O=system:nodes/CN=system:node:{NODE}", [CLIENT]),
    "kube-controller-manager": ("/CN=system:kube-controller-manager", [CLIENT]),
    "kube-scheduler": ("/CN=system:kube-scheduler", [CLIENT]),
    "kube-proxy": ("/CN=system:kube-proxy", [CLIENT]),
}


def crt(name: str) -> Path:
    return PKI / f"{name}.crt"


def key(name: str) -> Path:
    return PKI / f"{name}.key"


def certificate(name: str, subject: str, extensions: list[str], signer: str | None) -> None:
    command = ["openssl", "req", "-x509", *CURVE, "-days", "3650", "-subj", subject]
    command += [
        "-config",
        str(PKI / "openssl.cnf"),
        "-keyout",
        str(key(name)),
        "-out",
        str(crt(name)),
    ]
    if signer:
        command += ["-CA", str(crt(signer)), "-CAkey", str(key(signer))]
    for extension in ["subjectKeyIdentifier=hash", *(LEAF if signer else []), *extensions]:
        command += ["-addext", extension]
    output(f"making the certificate of {name}", command)


def create() -> None:
    PKI.mkdir(mode=0o700, parents=True)
    # The machine's own configuration would add extensions to ours.
    (PKI / "openssl.cnf").write_text("[req]\ndistinguished_name = name\n[name]\n")
    certificate("ca", f"/CN={NAME}", AUTHORITY, None)
    for name, (subject, extensions) in CERTIFICATES.items():
        certificate(name, subject, extensions, "ca")
    private, public = str(key("service-accounts")), str(PKI / "service-accounts.pub")
    curve = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    output("making the service accounts' key", ["openssl", "genpkey", *curve, "-out", private])
    output(
        "making the service accounts' public key",
        ["openssl", "pkey", "-in", private, "-pubout", "-out", public],
    )


def write_kubeconfig(file: Path, user: str, port: int) -> None:
    """Writes a kubeconfig whole, so that nobody reads half of one."""

    def data(path: Path) -> str:
        return base64.b64encode(path.read_bytes()).decode()

    text = f"""\
apiVersion: v1
kind: Config
current-context: {NAME}
contexts:
- name: {NAME}
  context: {{cluster: {NAME}, user: {user}, namespace: {NAMESPACE}}}
clusters:
- name: {NAME}
  cluster:
    server: https://127.0.0.1:{port}
    certificate-authority-data: {data(crt("ca"))}
users:
- name: {user}
  user:
    client-certificate-data: {data(crt(user))}
    client-key-data: {data(key(user))}
"""
    new = file.with_suffix(".new")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as target:
        target.write(text)
    new.rename(file)
