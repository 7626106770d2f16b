from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from waits import until

if TYPE_CHECKING:
    from scenario import Apply, Node
    from testinfra.host import Host

ADMIN = "kubectl --kubeconfig=/etc/kubernetes/admin.conf"
PATIENCE = 180


@pytest.fixture
def one(node: Node) -> Host:
    return node("one")


@pytest.fixture
def cp(node: Node) -> Host:
    return node("cp")


def told_of(cp: Host) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(cp.check_output(f"{ADMIN} get node one -o json"))
    return told


def ready(cp: Host) -> bool:
    conditions = {each["type"]: each["status"] for each in told_of(cp)["status"]["conditions"]}
    return conditions.get("Ready") == "True"


def test_the_worker_is_what_the_inventory_says(cp: Host) -> None:
    until(lambda: ready(cp), PATIENCE, "the worker is not ready")
    told = told_of(cp)
    assert told["metadata"]["labels"]["demo.example/rack"] == "r1"
    taints = [(each["key"], each.get("value"), each["effect"]) for each in told["spec"]["taints"]]
    assert ("demo.example/gpu", "yes", "NoSchedule") in taints


def test_nothing_that_it_joined_with_is_left(one: Host, cp: Host) -> None:
    for path in ("/etc/kubernetes/bootstrap-kubelet.conf", "/var/lib/rackloom/kubernetes/join.conf"):
        assert not one.file(path).exists
    assert one.run("ls /etc/kubernetes/pki/ca.key").rc != 0
    until(
        lambda: not cp.check_output("kubeadm token list --kubeconfig /etc/kubernetes/admin.conf").strip(),
        PATIENCE,
        "kubeadm's own token does not expire",
    )


def test_the_api_server_believes_what_its_kubelet_shows(cp: Host) -> None:
    until(
        lambda: cp.run(f"{ADMIN} get --raw /api/v1/nodes/one/proxy/healthz").stdout == "ok",
        PATIENCE,
        "no answer",
    )


def test_labels_and_taints_come_back_and_others_stay(cp: Host, apply: Apply) -> None:
    cp.check_output(f"{ADMIN} label node one demo.example/rack=r9 demo.example/theirs=x --overwrite")
    cp.check_output(f"{ADMIN} taint node one demo.example/gpu=yes:NoSchedule-")
    done = apply()
    assert done.returncode == 0, done.stdout
    labels = told_of(cp)["metadata"]["labels"]
    assert labels["demo.example/rack"] == "r1" and labels["demo.example/theirs"] == "x"
    assert "demo.example/gpu" in {each["key"] for each in told_of(cp)["spec"]["taints"]}


def test_a_join_that_was_cut_off_is_made_good(one: Host, cp: Host, apply: Apply) -> None:
    # as a power cut leaves it, before the kubelet had its certificate
    one.check_output(
        "systemctl stop kubelet && rm /var/lib/kubelet/rackloom.json /etc/kubernetes/kubelet.conf"
    )
    one.check_output("""echo '{"action": "join"}' > /var/lib/rackloom/kubernetes/intent.json""")
    done = apply()
    assert done.returncode == 0, done.stdout
    until(lambda: ready(cp), PATIENCE, "the worker is not ready")
    assert one.service("kubelet").is_running
    assert not one.file("/var/lib/rackloom/kubernetes/intent.json").exists


def test_a_member_is_never_reset(one: Host, apply: Apply) -> None:
    before = one.check_output("systemctl show -p InvocationID kubelet")
    assert apply().returncode == 0
    assert one.check_output("systemctl show -p InvocationID kubelet") == before


def ended() -> str:
    """A certificate that has ended, and its key, as a kubelet keeps them."""
    key, name, now = ec.generate_private_key(ec.SECP256R1()), x509.Name([]), dt.datetime.now(dt.UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now - dt.timedelta(days=9)).not_valid_after(now - dt.timedelta(days=8))
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return (made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM) + secret).decode()


def test_a_kubelet_that_was_off_for_too_long_comes_back(one: Host, cp: Host, apply: Apply) -> None:
    client = "/var/lib/kubelet/pki/kubelet-client-current.pem"
    one.check_output(
        f"systemctl stop kubelet; echo '{ended()}' > $(readlink -f {client}); systemctl start --no-block kubelet"
    )
    until(lambda: not ready(cp), PATIENCE, "its absence is not seen")
    done = apply()
    assert done.returncode == 0, done.stdout
    until(lambda: ready(cp), PATIENCE, "the worker is not ready")
    assert not one.file("/etc/kubernetes/bootstrap-kubelet.conf").exists
