"""Which certificates kubelets get: requests of a real library, judged by the program that runs on nodes."""

from __future__ import annotations

import base64
import ipaddress
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from tests.loading import loaded

FILES = Path(__file__).parents[3] / "roles/kube_control_plane/files"
NODES = {"gpu1": {"names": ["gpu1", "gpu1.demo.example"], "addresses": ["192.0.2.21", "2001:db8::21"]}}


approver = loaded(FILES / "kube-approver.py")
certificates = loaded(FILES / "kube-certificates.py")


def request(
    name: str = "system:node:gpu1",
    organizations: tuple[str, ...] = ("system:nodes",),
    dns: tuple[str, ...] = ("gpu1",),
    addresses: tuple[str, ...] = ("192.0.2.21",),
    **spec: Any,
) -> dict[str, Any]:
    key = spec.pop("key", None) or ec.generate_private_key(ec.SECP256R1())
    subject = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, each) for each in organizations]
    subject.append(x509.NameAttribute(NameOID.COMMON_NAME, name))
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
    alternatives: list[x509.GeneralName] = [x509.DNSName(each) for each in dns]
    alternatives += [x509.IPAddress(ipaddress.ip_address(each)) for each in addresses]
    alternatives += spec.pop("more", [])
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    pem = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    return {
        "metadata": {"name": "csr-1"},
        "spec": {
            "username": "system:node:gpu1",
            "groups": ["system:nodes", "system:authenticated"],
            "usages": ["digital signature", "server auth"],
            "request": base64.b64encode(pem).decode(),
            **spec,
        },
    }


@pytest.mark.parametrize(
    "good",
    [
        request(),
        request(dns=("gpu1", "gpu1.demo.example"), addresses=("192.0.2.21", "2001:db8:0::21")),
        request(dns=()),
        request(usages=["key encipherment", "digital signature", "server auth"]),
        request(key=rsa.generate_private_key(65537, 2048)),
    ],
)
def test_a_kubelet_gets_its_own_names(good: dict[str, Any]) -> None:
    assert approver.refusal(good, NODES) == ""


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (request(dns=("gpu1", "mgmt1")), "mgmt1 is not a name"),
        (request(addresses=("192.0.2.21", "192.0.2.10")), "192.0.2.10 is not a name or address"),
        (request(name="system:node:gpu2"), "subject"),
        (request(organizations=("system:masters",)), "subject"),
        (request(organizations=("system:nodes", "system:masters")), "subject"),
        (request(username="system:node:gpu9"), "gpu9 is not in the inventory"),
        (request(username="alice"), "no kubelet"),
        (request(groups=["system:authenticated"]), "no kubelet"),
        (request(usages=["digital signature", "client auth"]), "uses"),
        (request(usages=["server auth", "client auth"]), "uses"),
        (request(dns=(), addresses=()), "neither a name nor an address"),
        (request(more=[x509.RFC822Name("a@b.example")]), "cannot be read"),
        (request(more=[x509.UniformResourceIdentifier("https://b.example")]), "cannot be read"),
        (request(request=base64.b64encode(b"nonsense").decode()), "cannot be read"),
        (request(request="!"), "cannot be read"),
    ],
)
def test_and_nothing_else(bad: dict[str, Any], reason: str) -> None:
    assert reason in approver.refusal(bad, NODES)


def test_a_request_cut_off_anywhere_is_refused_and_breaks_nothing() -> None:
    whole = base64.b64decode(request()["spec"]["request"]).decode()
    body = base64.b64decode("".join(whole.splitlines()[1:-1]))
    for length in range(len(body)):
        cut = base64.b64encode(body[:length]).decode()
        pem = f"-----BEGIN CERTIFICATE REQUEST-----\n{cut}\n-----END CERTIFICATE REQUEST-----\n"
        bad = request(request=base64.b64encode(pem.encode()).decode())
        assert approver.refusal(bad, NODES)


def test_our_word_leaves_the_rest_of_the_request_as_it_is() -> None:
    given = request()
    told = approver.approval(given)
    assert told["spec"] == given["spec"] and told["status"]["conditions"][0]["type"] == "Approved"
    assert approver.approved(told) and not approver.approved(given)


def test_a_kubeconfig_of_kubeadm_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approver, "RUN", tmp_path)
    with pytest.raises(ValueError, match="has no c"):
        approver.Api("clusters:\n- cluster:\n    server: https://192.0.2.11:6443\n")


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({"residualTime": 29 * 86400}, ["a"]),
        ({"residualTime": 31 * 86400}, []),
        ({"residualTime": -5}, ["a"]),
        ({"residualTime": 0, "missing": True}, []),
        ({"residualTime": 0, "externallyManaged": True}, []),
    ],
)
def test_certificates_are_renewed_a_month_before_they_end(row: dict[str, Any], found: list[str]) -> None:
    assert certificates.ending({"certificates": [{"name": "a", **row}]}, 30) == found
