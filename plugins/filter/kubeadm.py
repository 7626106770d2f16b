"""Filters of the control plane: inputs of the role in, contents of files out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..module_utils import kube_documents  # noqa: TID252 - how a collection's plugins find each other


def apiserver_files(level: str, exempt: Sequence[str]) -> dict[str, str]:
    """Files that the API server reads when it starts, by name. No secret is among them."""
    return {
        "admission.json": _text(kube_documents.admission(level, list(exempt))),
        "audit-policy.json": _text(kube_documents.audit_policy()),
    }


def encryption_file(key: str) -> str:
    """How secrets are encrypted at rest."""
    return _text(kube_documents.encryption(key))


def apiserver_patch(files: Mapping[str, str]) -> str:
    """Kubeadm's patch that ties the API server to the contents of its files."""
    return _text(kube_documents.server_patch(kube_documents.digest(dict(files))))


def kubeadm_file(inputs: Mapping[str, Any]) -> str:
    """Configuration of kubeadm for a control-plane node."""
    return kube_documents.kubeadm_file(inputs)


def kubeadm_serving_file(inputs: Mapping[str, Any]) -> str:
    """Configuration that the API server's certificate of a control-plane node is made by."""
    return kube_documents.serving_file(inputs)


def kubeadm_join(inputs: Mapping[str, Any]) -> str:
    """Configuration of kubeadm for a node that joins."""
    return kube_documents.stream([kube_documents.join(inputs)])


def kubeadm_socket(inputs: Mapping[str, Any]) -> str:
    """Where kubeadm finds the container runtime."""
    return kube_documents.SOCKETS[inputs["runtime"]]


def kubeadm_parts(inputs: Mapping[str, Any], files: Mapping[str, str]) -> dict[str, str]:
    """A digest of each part of a control plane that is put into force by itself."""
    return kube_documents.parts(inputs, kube_documents.digest(dict(files)))


def etcd_arguments(inputs: Mapping[str, Any]) -> list[str]:
    """The command line of an etcd on a host of its own, as a unit's file wants it quoted."""
    marks = str.maketrans({"\\": "\\\\", '"': '\\"', "%": "%%", "$": "$$"})
    return [f'"{each.translate(marks)}"' for each in kube_documents.member_arguments(inputs)]


def kube_known_nodes(nodes: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[str]]]:
    """What a kubelet's certificate may say, by node."""
    return {
        str(node["name"]): {
            "names": sorted({str(node["name"]), *map(str, node.get("names") or [])}),
            "addresses": [str(node["address"])],
        }
        for node in nodes
    }


def public_key(private: str) -> str:
    """The public half of a private key, PEM."""
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415 - loads slowly
        Encoding,
        PublicFormat,
        load_pem_private_key,
    )

    key = load_pem_private_key(str(private).encode(), password=None)
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode("ascii")


def _text(document: Any) -> str:
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


class FilterModule:
    """What Ansible asks for."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {
            "apiserver_files": apiserver_files,
            "apiserver_patch": apiserver_patch,
            "encryption_file": encryption_file,
            "kube_known_nodes": kube_known_nodes,
            "kubeadm_file": kubeadm_file,
            "kubeadm_join": kubeadm_join,
            "etcd_arguments": etcd_arguments,
            "kubeadm_parts": kubeadm_parts,
            "kubeadm_serving_file": kubeadm_serving_file,
            "kubeadm_socket": kubeadm_socket,
            "public_key": public_key,
        }
