"""Every component: its configuration and its command line."""

from __future__ import annotations

import json
from typing import Any

import pki
from layout import (
    API_PORT,
    API_SOCKET,
    AUDIT_LOG,
    BINARIES,
    BINARY,
    CONFIG,
    CONTAINERD_SOCKET,
    GVISOR,
    NAME,
    NODE,
    NODE_ADDRESS,
    PAUSE_IMAGE,
    PKI,
    POD_NETWORK,
    SERVICE_NETWORK,
)

ETCD = "http://127.0.0.1:2379"
# Hundreds of Pods at once must not wait for a client's own rate limit.
QPS, BURST = 500, 1000

# The default is a directory of the machine, which the components would create.
VOLUME_PLUGINS = "/var/lib/kubelet/volume-plugins"

# The tests count the API calls of the library; the cluster's own chatter is left out.
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "None", "userGroups": ["system:nodes", "system:serviceaccounts:kube-system"]},
        {
            "level": "None",
            "users": [
                "system:apiserver",
                "system:kube-controller-manager",
                "system:kube-scheduler",
                "system:kube-proxy",
            ],
        },
        {"level": "None", "nonResourceURLs": ["/readyz*", "/livez*", "/healthz*"]},
        {"level": "Metadata"},
    ],
}

CNI = {
    "cniVersion": "0.4.0",
    "name": NAME,
    "plugins": [
        {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            # A Pod that reaches itself by a service address comes back on its own port.
            "hairpinMode": True,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": POD_NETWORK}]],
                "routes": [{"dst": "0.0.0.0/0"}],
                "dataDir": "/var/lib/cni/networks",
            },
        }
    ],
}

# restrict_oom_score_adj: in a container or a small VM, root may not lower the score.
# enable_unprivileged_*: older versions of containerd don't, so what needs it is to ask Kubernetes for it.
# opt, nri: their files are the machine's, which another cluster there would share.
# runtime_path: Debian's runc can bring an older shim, which is found first. Those of gVisor need not be there.
CONTAINERD = f"""\
version = 4
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri"]
[plugins."io.containerd.server.v1.grpc"]
address = "{CONTAINERD_SOCKET}"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{PAUSE_IMAGE}"
[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
enable_unprivileged_ports = false
enable_unprivileged_icmp = false
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
runtime_path = "{BINARIES}/containerd-shim-runc-v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
SystemdCgroup = false
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.{GVISOR}]
runtime_type = "io.containerd.runsc.v1"
runtime_path = "{BINARIES}/containerd-shim-runsc-v1"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.{GVISOR}.options]
TypeUrl = "io.containerd.runsc.v1.options"
ConfigPath = "{CONFIG}/runsc.toml"
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["/usr/lib/cni"]
conf_dir = "{CONFIG}/cni"
"""

RUNSC = f"""\
binary_name = "{BINARIES}/runsc"
[runsc_config]
platform = "systrap"
"""

KUBELET = {
    "apiVersion": "kubelet.config.k8s.io/v1beta1",
    "kind": "KubeletConfiguration",
    "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
    "cgroupDriver": "cgroupfs",
    "cgroupRoot": f"/{NAME}",
    "failCgroupV1": False,
    "failSwapOn": False,
    "authentication": {
        "anonymous": {"enabled": False},
        "webhook": {"enabled": True},
        "x509": {"clientCAFile": str(pki.crt("ca"))},
    },
    "authorization": {"mode": "Webhook"},
    "tlsCertFile": str(pki.crt("kubelet-server")),
    "tlsPrivateKeyFile": str(pki.key("kubelet-server")),
    "volumePluginDir": VOLUME_PLUGINS,
    "resolvConf": "",
    "maxPods": 500,
    "podsPerCore": 0,
    "kubeAPIQPS": QPS,
    "kubeAPIBurst": BURST,
    "registryPullQPS": 0,
    "eventRecordQPS": 0,
    "serializeImagePulls": False,
    # The machine's disk is not ours to judge: a full one must not evict, nor delete our images.
    "evictionHard": {"memory.available": "100Mi"},
    "imageGCHighThresholdPercent": 100,
}

# The conntrack limits belong to the whole machine; a network namespace may not write them.
KUBE_PROXY = {
    "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
    "kind": "KubeProxyConfiguration",
    "mode": "iptables",
    "clusterCIDR": POD_NETWORK,
    "hostnameOverride": NODE,
    "clientConnection": {"kubeconfig": str(CONFIG / "kube-proxy.kubeconfig")},
    "conntrack": {
        "maxPerCore": 0,
        "min": 0,
        "tcpEstablishedTimeout": "0s",
        "tcpCloseWaitTimeout": "0s",
    },
    "iptables": {"minSyncPeriod": "100ms"},
}


def write_configuration() -> None:
    def write(name: str, value: dict[str, Any]) -> None:
        (CONFIG / name).write_text(json.dumps(value, indent=2))

    (CONFIG / "cni").mkdir(parents=True)
    write("audit-policy.json", AUDIT_POLICY)
    write("cni/10-bridge.conflist", CNI)
    write("kubelet.json", KUBELET)
    write("kube-proxy.json", KUBE_PROXY)
    (CONFIG / "containerd.toml").write_text(CONTAINERD)
    (CONFIG / "runsc.toml").write_text(RUNSC)
    for user in ("kubelet", "kube-controller-manager", "kube-scheduler", "kube-proxy"):
        pki.write_kubeconfig(CONFIG / f"{user}.kubeconfig", user, API_PORT)


def etcd() -> list[str]:
    peer = "http://127.0.0.1:2380"
    return [
        str(BINARIES / "etcd"),
        "--data-dir=/var/lib/etcd",
        "--max-wals=1",
        f"--listen-client-urls={ETCD}",
        f"--advertise-client-urls={ETCD}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--logger=zap",
    ]


def containerd() -> list[str]:
    return [str(BINARIES / "containerd"), f"--config={CONFIG}/containerd.toml"]


def apiserver() -> list[str]:
    return [
        str(BINARY),
        "kube-apiserver",
        f"--etcd-servers={ETCD}",
        "--bind-address=0.0.0.0",
        f"--advertise-address={NODE_ADDRESS}",
        f"--secure-port={API_PORT}",
        f"--service-cluster-ip-range={SERVICE_NETWORK}",
        f"--client-ca-file={pki.crt('ca')}",
        f"--tls-cert-file={pki.crt('apiserver')}",
        f"--tls-private-key-file={pki.key('apiserver')}",
        f"--kubelet-client-certificate={pki.crt('apiserver-kubelet-client')}",
        f"--kubelet-client-key={pki.key('apiserver-kubelet-client')}",
        f"--kubelet-certificate-authority={pki.crt('ca')}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--service-account-key-file={PKI}/service-accounts.pub",
        f"--service-account-signing-key-file={pki.key('service-accounts')}",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--audit-policy-file={CONFIG}/audit-policy.json",
        f"--audit-log-path={AUDIT_LOG}",
        "--audit-log-maxsize=64",
        "--audit-log-maxbackup=1",
    ]


def controller_manager() -> list[str]:
    return [
        str(BINARY),
        "kube-controller-manager",
        f"--kubeconfig={CONFIG}/kube-controller-manager.kubeconfig",
        f"--service-account-private-key-file={pki.key('service-accounts')}",
        f"--root-ca-file={pki.crt('ca')}",
        "--use-service-account-credentials=true",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        f"--flex-volume-plugin-dir={VOLUME_PLUGINS}",
        f"--kube-api-qps={QPS}",
        f"--kube-api-burst={BURST}",
    ]


def scheduler() -> list[str]:
    return [
        str(BINARY),
        "kube-scheduler",
        f"--kubeconfig={CONFIG}/kube-scheduler.kubeconfig",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        f"--kube-api-qps={QPS}",
        f"--kube-api-burst={BURST}",
    ]


def kubelet() -> list[str]:
    return [
        str(BINARY),
        "kubelet",
        f"--config={CONFIG}/kubelet.json",
        f"--kubeconfig={CONFIG}/kubelet.kubeconfig",
        f"--hostname-override={NODE}",
        f"--node-ip={NODE_ADDRESS}",
    ]


def kube_proxy() -> list[str]:
    return [str(BINARY), "kube-proxy", f"--config={CONFIG}/kube-proxy.json"]


def relay_server() -> list[str]:
    """From the socket file, which all network namespaces share, to the API server."""
    return [str(BINARY), "relay", f"unix:{API_SOCKET}", f"tcp:127.0.0.1:{API_PORT}"]


def relay_client(port: int) -> list[str]:
    """From the loopback of a network namespace to the socket file."""
    return [str(BINARY), "relay", f"tcp:127.0.0.1:{port}", f"unix:{API_SOCKET}"]
