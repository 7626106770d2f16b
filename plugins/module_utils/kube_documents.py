"""What kubeadm and the API server read, made out of a role's inputs; data in, data out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

API = "kubeadm.k8s.io/v1beta4"
FOLDER = "/etc/rackloom/kubernetes"
SERVER_FOLDER = "/etc/rackloom/kubernetes/apiserver"
AUDIT_FOLDER = "/var/log/kubernetes/audit"
PATCHES = "/etc/rackloom/kubernetes/patches"
ETCD_DATA = "/var/lib/etcd"
JOIN_FILE = "/var/lib/rackloom/kubernetes/join.conf"
SOCKETS = {
    "containerd": "unix:///run/containerd/containerd.sock",
    "crio": "unix:///run/crio/crio.sock",
}
PROXY_METRICS = "127.0.0.1:10249"
ETCD_QUOTA = str(8 << 30)
ETCD_METRICS = "http://127.0.0.1:2381"
STORE_CLIENT = "/etc/kubernetes/pki/apiserver-etcd-client"
KUBELET_LABELS = frozenset(
    f"{space}/{name}"
    for space, names in {
        "kubernetes.io": ("hostname", "arch", "os"),
        "beta.kubernetes.io": ("arch", "os", "instance-type"),
        "topology.kubernetes.io": ("zone", "region"),
        "failure-domain.beta.kubernetes.io": ("zone", "region"),
    }.items()
    for name in names
)
"""Labels of Kubernetes' own that a kubelet may put on its node, beside all of its own two name spaces."""

Document = dict[str, Any]


def digest(value: Any) -> str:
    """A short digest of anything that JSON can write."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def arguments(ours: Mapping[str, Any], theirs: Mapping[str, Any] | None) -> list[dict[str, str]]:
    """Command-line arguments as v1beta4 lists them; a site's own win, and one that is null is left out."""
    merged = {**ours, **(theirs or {})}
    return [
        {"name": name, "value": str(value).lower() if isinstance(value, bool) else str(value)}
        for name, value in sorted(merged.items())
        if value is not None
    ]


def taints(wanted: Sequence[str]) -> list[dict[str, str]]:
    """Taints out of their short form, key=value:Effect or key:Effect."""
    found = []
    for text in wanted:
        left, _, effect = text.rpartition(":")
        key, _, value = left.partition("=")
        found.append(
            {"key": key, "value": value, "effect": effect} if value else {"key": key, "effect": effect}
        )
    return found


def ignored(tolerate: Sequence[str]) -> list[str]:
    """The checks of kubeadm that a test host fails."""
    checks = []
    if {"cgroup_v1", "kernel"} & set(tolerate):
        checks.append("SystemVerification")
    if "swap" in tolerate:
        checks.append("Swap")
    return checks


def cluster(inputs: Mapping[str, Any]) -> Document:
    """ClusterConfiguration: the same on all control-plane nodes, kept by the cluster itself too."""
    settings = inputs.get("settings") or {}
    images = inputs["images"]
    coredns = images.get("coredns") or {}
    folders = [
        {
            "name": "rackloom",
            "hostPath": SERVER_FOLDER,
            "mountPath": SERVER_FOLDER,
            "readOnly": True,
            "pathType": "Directory",
        },
        {
            "name": "audit",
            "hostPath": AUDIT_FOLDER,
            "mountPath": AUDIT_FOLDER,
            "pathType": "DirectoryOrCreate",
        },
    ]
    server = {
        "admission-control-config-file": f"{SERVER_FOLDER}/admission.json",
        "audit-log-maxage": 30,
        "audit-log-maxbackup": 10,
        "audit-log-maxsize": 100,
        "audit-log-path": f"{AUDIT_FOLDER}/audit.log",
        "audit-policy-file": f"{SERVER_FOLDER}/audit-policy.json",
        "encryption-provider-config": f"{SERVER_FOLDER}/encryption.json",
        "encryption-provider-config-automatic-reload": True,
        # What a kubelet shows is believed because the approver has looked at it.
        "kubelet-certificate-authority": "/etc/kubernetes/pki/ca.crt",
        "profiling": False,
    }
    return {
        "apiVersion": API,
        "kind": "ClusterConfiguration",
        "kubernetesVersion": f"v{inputs['release']}",
        "controlPlaneEndpoint": inputs["endpoint"],
        "imageRepository": images["repository"],
        "networking": {
            "podSubnet": inputs["pod_network"],
            "serviceSubnet": inputs["service_network"],
            "dnsDomain": inputs["domain"],
        },
        "apiServer": {
            "extraArgs": arguments(server, settings.get("apiserver")),
            "extraVolumes": folders,
        },
        "controllerManager": {
            "extraArgs": arguments({"profiling": False}, settings.get("controller_manager"))
        },
        "scheduler": {"extraArgs": arguments({"profiling": False}, settings.get("scheduler"))},
        "etcd": store(inputs),
        "dns": {
            **({"imageRepository": coredns["repository"]} if coredns.get("repository") else {}),
            **({"imageTag": coredns["tag"]} if coredns.get("tag") else {}),
        },
    }


def store(inputs: Mapping[str, Any]) -> Document:
    """Where the API servers find etcd: beside each of them, or on hosts of its own."""
    if inputs.get("store"):
        return {
            "external": {
                "endpoints": [str(each) for each in inputs["store"]],
                "caFile": "/etc/kubernetes/pki/etcd/ca.crt",
                "certFile": f"{STORE_CLIENT}.crt",
                "keyFile": f"{STORE_CLIENT}.key",
            }
        }
    etcd = inputs["images"].get("etcd") or {}
    settings = (inputs.get("settings") or {}).get("etcd")
    return {
        "local": {
            "dataDir": ETCD_DATA,
            **({"imageRepository": etcd["repository"]} if etcd.get("repository") else {}),
            **({"imageTag": etcd["tag"]} if etcd.get("tag") else {}),
            "extraArgs": arguments({"quota-backend-bytes": ETCD_QUOTA}, settings),
        }
    }


def member_arguments(inputs: Mapping[str, Any]) -> list[str]:
    """The command line of an etcd on a host of its own; beside addresses and files, what kubeadm gives its own."""
    address, pki = str(inputs["address"]), inputs["pki"]
    place = f"[{address}]" if ":" in address else address
    ours = {
        "name": inputs["name"],
        "data-dir": ETCD_DATA,
        "listen-client-urls": f"https://{place}:2379",
        "advertise-client-urls": f"https://{place}:2379",
        "listen-peer-urls": f"https://{place}:2380",
        "initial-advertise-peer-urls": f"https://{place}:2380",
        "listen-metrics-urls": ETCD_METRICS,
        "client-cert-auth": True,
        "cert-file": f"{pki}/server.crt",
        "key-file": f"{pki}/server.key",
        "trusted-ca-file": f"{pki}/ca.crt",
        "peer-client-cert-auth": True,
        "peer-cert-file": f"{pki}/peer.crt",
        "peer-key-file": f"{pki}/peer.key",
        "peer-trusted-ca-file": f"{pki}/ca.crt",
        "quota-backend-bytes": inputs["quota"],
        "snapshot-count": 10000,
        "feature-gates": "InitialCorruptCheck=true",
        "watch-progress-notify-interval": "5s",
    }
    return [f"--{each['name']}={each['value']}" for each in arguments(ours, inputs.get("settings"))]


def proxy(inputs: Mapping[str, Any]) -> Document:
    """KubeProxyConfiguration. A host that something is tolerated on may not set its connection table either."""
    table = {"maxPerCore": 0, "min": 0} if inputs.get("tolerate") else {}
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": inputs["proxy"],
        "metricsBindAddress": PROXY_METRICS,
        **({"conntrack": table} if table else {}),
        **(inputs.get("proxy_settings") or {}),
    }


def settable(label: str) -> bool:
    """Whether a kubelet may put this label on its own node. It does not start where it is told another one."""
    space, slash, _ = label.rpartition("/")
    if not slash or not _within(space, ("kubernetes.io", "k8s.io")):
        return True
    return label in KUBELET_LABELS or _within(space, ("kubelet.kubernetes.io", "node.kubernetes.io"))


def _within(space: str, spaces: Sequence[str]) -> bool:
    """Whether a label's name space is one of these, or below one."""
    return any(space == each or space.endswith(f".{each}") for each in spaces)


def registration(inputs: Mapping[str, Any]) -> Document:
    """How a node presents itself. Labels that its kubelet may not set are put on later, see kube_settings."""
    labels = {key: value for key, value in (inputs.get("labels") or {}).items() if settable(key)}
    found: Document = {
        "name": inputs["node"],
        "criSocket": SOCKETS[inputs.get("runtime") or "containerd"],
        # pulled before kubeadm is called: it would insist on its own release of the sandbox's image
        "imagePullPolicy": "Never",
        "taints": taints(inputs.get("taints") or []),
        "ignorePreflightErrors": ignored(inputs.get("tolerate") or []),
    }
    if labels:
        text = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
        found["kubeletExtraArgs"] = [{"name": "node-labels", "value": text}]
    return found


def init(inputs: Mapping[str, Any]) -> Document:
    """InitConfiguration, which kubeadm's single phases want too."""
    return {
        "apiVersion": API,
        "kind": "InitConfiguration",
        "localAPIEndpoint": {"advertiseAddress": inputs["address"], "bindPort": 6443},
        "nodeRegistration": registration(inputs),
        "patches": {"directory": PATCHES},
        # Nobody joins with a token; kubeadm makes one all the same.
        "bootstrapTokens": [
            {
                "ttl": "1m0s",
                "description": "not used",
                "groups": ["system:bootstrappers:kubeadm:default-node-token"],
            }
        ],
        "skipPhases": ["show-join-command"],
    }


def join(inputs: Mapping[str, Any]) -> Document:
    """JoinConfiguration; with an address of its own the node gets a control plane."""
    found: Document = {
        "apiVersion": API,
        "kind": "JoinConfiguration",
        "discovery": {"file": {"kubeConfigPath": JOIN_FILE}},
        "nodeRegistration": registration(inputs),
        "patches": {"directory": PATCHES},
        "timeouts": {"discovery": "1m0s"},
    }
    if inputs.get("control_plane"):
        found["controlPlane"] = {
            "localAPIEndpoint": {"advertiseAddress": inputs["address"], "bindPort": 6443}
        }
    return found


def stream(documents: Sequence[Document]) -> str:
    """Documents as one file. JSON is YAML as well."""
    return "---\n".join(json.dumps(each, indent=1, sort_keys=True) + "\n" for each in documents)


def kubeadm_file(inputs: Mapping[str, Any]) -> str:
    """All that `kubeadm init` and its phases read."""
    return stream([cluster(inputs), init(inputs), proxy(inputs)])


def serving_file(inputs: Mapping[str, Any]) -> str:
    """What the API server's certificate is made by. Its names are this node's own; the cluster keeps none."""
    whole = cluster(inputs)
    whole["apiServer"]["certSANs"] = [str(name) for name in inputs.get("names") or []]
    return stream([whole, init(inputs)])


def parts(inputs: Mapping[str, Any], files: str = "") -> dict[str, str]:
    """A digest for each part that is put into force by itself. The release counts nowhere: no upgrades here."""
    whole = cluster(inputs)
    server = whole["apiServer"]
    names = [str(name) for name in inputs.get("names") or []]
    networks = whole["networking"]
    repository = whole["imageRepository"]
    external = whole["etcd"].get("external")
    return {
        "names": digest([names, whole["controlPlaneEndpoint"]]),
        "apiserver": digest([server, networks, repository, files, *([external] if external else [])]),
        "controller-manager": digest([whole["controllerManager"], networks, repository]),
        "scheduler": digest([whole["scheduler"], repository]),
        **({} if external else {"etcd": digest([whole["etcd"], repository])}),
        "cluster": digest({key: value for key, value in whole.items() if key != "kubernetesVersion"}),
        "proxy": digest([proxy(inputs), networks["podSubnet"], repository]),
        "dns": digest([whole["dns"], networks["serviceSubnet"], networks["dnsDomain"], repository]),
    }


# what the API server reads


def audit_policy() -> Document:
    """Who changed what and who read secrets, without contents; what components ask each other all day is left out."""
    components = [
        "system:kube-scheduler",
        "system:kube-controller-manager",
        "system:apiserver",
        "system:kube-proxy",
    ]
    reading = ["get", "list", "watch"]
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {
                "level": "None",
                "nonResourceURLs": ["/healthz*", "/livez*", "/readyz*", "/version", "/openapi*", "/metrics"],
            },
            {
                "level": "None",
                "resources": [{"group": "", "resources": ["events"]}, {"group": "events.k8s.io"}],
            },
            {"level": "None", "resources": [{"group": "coordination.k8s.io", "resources": ["leases"]}]},
            # Nodes read the same few all day, and they hold nothing that is secret.
            {
                "level": "None",
                "userGroups": ["system:nodes"],
                "verbs": reading,
                "resources": [{"group": "", "resources": ["configmaps"]}],
            },
            # Before components are left out: whoever has taken one over reads these first.
            {"level": "Metadata", "resources": [{"group": "", "resources": ["secrets", "configmaps"]}]},
            {"level": "None", "users": components, "verbs": reading},
            {
                "level": "None",
                "userGroups": ["system:nodes", "system:serviceaccounts:kube-system"],
                "verbs": reading,
            },
            {
                "level": "None",
                "userGroups": ["system:nodes"],
                "resources": [{"group": "", "resources": ["nodes/status", "pods/status"]}],
            },
            {"level": "Metadata"},
        ],
    }


def admission(level: str, exempt: Sequence[str]) -> Document:
    """What pods may in namespaces that say nothing about it."""
    return {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AdmissionConfiguration",
        "plugins": [
            {
                "name": "PodSecurity",
                "configuration": {
                    "apiVersion": "pod-security.admission.config.k8s.io/v1",
                    "kind": "PodSecurityConfiguration",
                    "defaults": {
                        "enforce": level,
                        "enforce-version": "latest",
                        "audit": level,
                        "audit-version": "latest",
                        "warn": level,
                        "warn-version": "latest",
                    },
                    "exemptions": {
                        "usernames": [],
                        "runtimeClasses": [],
                        "namespaces": sorted({"kube-system", *exempt}),
                    },
                },
            }
        ],
    }


def encryption(key: str) -> Document:
    """Secrets are encrypted before etcd gets them; what was written in clear before is still read."""
    return {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "EncryptionConfiguration",
        "resources": [
            {
                "resources": ["secrets"],
                "providers": [
                    {"secretbox": {"keys": [{"name": "rackloom", "secret": key}]}},
                    {"identity": {}},
                ],
            }
        ],
    }


def server_patch(files: str) -> Document:
    """An API server whose files differ gets another manifest, and so is started anew."""
    return {"metadata": {"annotations": {"rackloom.cluster/files": files}}}
