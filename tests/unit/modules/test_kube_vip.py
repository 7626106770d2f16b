"""kube-vip on a node, with stand-ins for kubeadm, crictl, kubectl and iproute2: what is done, and in which order."""

from __future__ import annotations

import base64
import importlib
import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from plugins.module_utils import kube_vip
from plugins.module_utils.kube_client import KubeError
from plugins.modules import kube_release_guard

ADDRESS, OWN = "192.0.2.10", "192.0.2.11"
IMAGE = "registry.example/kube-vip:v1"
LEASE = {"duration": 10, "renew": 7, "retry": 2}
Vip = Callable[..., dict[str, Any]]


def certificate(tmp: Path, name: str, days: int) -> str:
    argv = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ed25519",
        "-nodes",
        "-days",
        str(days),
        "-subj",
        f"/CN={name}",
    ]
    made = subprocess.run([*argv, "-keyout", str(tmp / "key")], capture_output=True, text=True, check=True)
    return made.stdout


class Node:
    """A control-plane node. `said` is what was asked of programs that change something."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.said: list[str] = []
        self.images: set[str] = set()
        self.objects: dict[str, dict[str, Any]] = {}
        self.days = 3650
        self.api = True
        # interface, prefix, seconds
        self.holds: list[tuple[str, int, int]] = []
        self.route: list[dict[str, Any]] = [{"dst": ADDRESS, "dev": "eth0"}]
        self.serves = True

    def run(self, argv: Sequence[str], data: str = "") -> tuple[int, str, str]:
        words = list(argv)
        if words[0] == "openssl":
            done = subprocess.run(words, input=data, capture_output=True, text=True, check=False)
            return done.returncode, done.stdout, done.stderr
        if words[:2] == ["crictl", "inspecti"]:
            return int(words[-1] not in self.images), "", ""
        if words[:4] == ["ip", "-json", "address", "show"]:
            assert words[-1] in (f"{ADDRESS}/32", f"{ADDRESS}/24")
            rows = [
                {
                    "ifname": name,
                    "addr_info": [{"local": ADDRESS, "prefixlen": length, "valid_life_time": left}],
                }
                for name, length, left in self.holds
            ]
            return 0, json.dumps([{}, *rows]), ""
        if words[:4] == ["ip", "-json", "route", "get"]:
            return 0, json.dumps(self.route), ""
        # nobody may have the address when this is asked
        assert words[0] != "kubectl" or f"--server=https://{OWN}:6443" in words
        if words[0] == "kubectl" and "get" in words:
            if not self.api:
                return 1, "", "the connection was refused: no kubectl here"
            kind = words[words.index("get") + 3]
            return 0, json.dumps(self.objects[kind]) if kind in self.objects else "", ""
        self.said.append(" ".join(words))
        if words[0] == "kubeadm":
            text = base64.b64encode(certificate(self.root, kube_vip.USER, self.days).encode()).decode()
            return 0, f"    client-certificate-data: {text}\n", ""
        if words[0] == "timeout":
            self.images.add(words[-1])
        if words[0] == "kubectl":
            for each in json.loads(data)["items"]:
                self.objects[each["kind"].lower()] = each
        if words[:3] == ["ip", "address", "del"]:
            self.holds = []
        return 0, "", ""

    def manifest(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads((self.root / "manifests/kube-vip.yaml").read_text())
        return loaded


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Node:
    module = importlib.import_module("plugins.modules.kube_vip")
    made = Node(tmp_path)
    for name in ("mark", "kubelet", "admin"):
        (tmp_path / name).write_text("{}")
    monkeypatch.setattr(kube_vip, "MANIFEST", str(tmp_path / "manifests/kube-vip.yaml"))
    monkeypatch.setattr(kube_vip, "CREDENTIAL", str(tmp_path / "credential/kube-vip.conf"))
    monkeypatch.setattr(module.node_members, "MARK", str(tmp_path / "mark"))
    monkeypatch.setattr(module.node_members, "KUBELET", str(tmp_path / "kubelet"))
    monkeypatch.setattr(module, "ADMIN", str(tmp_path / "admin"))
    monkeypatch.setattr(module, "runner", lambda _module: made.run)
    monkeypatch.setattr(module, "answers", lambda _address, _port: made.serves)
    monkeypatch.setattr(module.time, "sleep", lambda _seconds: None)
    return made


@pytest.fixture
def vip(run_module: Callable[..., dict[str, Any]], node: Node) -> Vip:
    del node

    def run(state: str = "placed", **more: Any) -> dict[str, Any]:
        given = {
            "state": state,
            "address": ADDRESS,
            "interface": "eth0",
            "node": "one",
            "node_address": OWN,
            "image": IMAGE,
            "lease": LEASE,
            "timeout": 0,
        }
        return run_module("kube_vip", **{**given, **more})

    return run


def both(vip: Vip, **more: Any) -> list[dict[str, Any]]:
    """As the role does it."""
    prepared = vip("prepared")
    return [prepared, vip(**more)] if prepared["differs"] else [prepared]


def test_a_node_that_has_not_joined_is_left_alone(node: Node, vip: Vip) -> None:
    (node.root / "mark").unlink()
    for state in ("prepared", "placed"):
        told = vip(state)
        assert not told["changed"] and not told["member"] and not told["differs"]
    assert node.said == [] and not (node.root / "manifests").exists()


def test_image_credential_and_rights_are_there_before_it_runs(node: Node, vip: Vip) -> None:
    prepared = vip("prepared")
    assert prepared["differs"] and IMAGE in node.images
    assert not (node.root / "manifests").exists()
    placed = vip()
    assert placed["changed"] and set(node.objects) == {"role", "rolebinding"}
    assert (node.root / "credential/kube-vip.conf").stat().st_mode & 0o777 == 0o600
    assert node.manifest()["spec"]["containers"][0]["image"] == IMAGE


def test_a_second_time_nothing_is_done(node: Node, vip: Vip) -> None:
    both(vip)
    before = list(node.said)
    [again] = both(vip)
    assert not again["changed"] and node.said == before


def test_a_held_address_is_let_go_before_the_first_kube_vip_may_take_it(node: Node, vip: Vip) -> None:
    node.holds = [("eth0", 32, 1800)]
    assert vip("prepared")["changed"]
    assert node.said[-1] == f"ip address del {ADDRESS}/32 dev eth0"


@pytest.mark.parametrize("there", [("eth0", 32, kube_vip.FOREVER), ("eth0", 24, 1800)])
def test_an_address_that_somebody_keeps_is_not_taken_away(
    node: Node, vip: Vip, there: tuple[str, int, int]
) -> None:
    node.holds = [there]
    vip("prepared")
    assert not any("address del" in said for said in node.said)


def test_an_address_of_a_running_kube_vip_stays(node: Node, vip: Vip) -> None:
    both(vip)
    node.holds = [("eth0", 32, 1800)]
    vip("prepared")
    assert not any("address del" in said for said in node.said)


def test_another_image_is_another_pod_and_is_there_before(node: Node, vip: Vip) -> None:
    both(vip)
    told = vip("prepared", image="registry.example/kube-vip:v2")
    assert told["differs"] and "registry.example/kube-vip:v2" in node.images
    assert node.manifest()["spec"]["containers"][0]["image"] == IMAGE


def test_a_credential_that_ends_is_made_anew_and_the_pod_reads_it(node: Node, vip: Vip) -> None:
    node.days = 20
    both(vip)
    before = node.manifest()
    node.days = 3650
    first, _ = both(vip)
    assert first["actions"] == ["a credential"]
    assert node.manifest() != before
    assert len(both(vip)) == 1


def test_an_address_that_does_not_answer_is_looked_after(node: Node, vip: Vip) -> None:
    both(vip)
    node.serves, node.objects = False, {}
    told = both(vip)[-1]
    assert (
        told["failed"] and f"{ADDRESS}:6443" in told["msg"] and set(node.objects) == {"role", "rolebinding"}
    )


def test_before_nodes_join_what_can_be_done_is_done(node: Node, vip: Vip) -> None:
    """A member whose API does not answer must not keep the deploy from mending that."""
    node.serves = node.api = False
    told = both(vip, must=False)[-1]
    assert "failed" not in told and node.manifest()


def test_rights_are_kept_as_they_should_be(node: Node, vip: Vip) -> None:
    both(vip)
    node.objects["role"] = {**node.objects["role"], "rules": []}
    vip()
    assert node.objects["role"]["rules"]


def test_check_mode_changes_nothing(node: Node, vip: Vip) -> None:
    node.holds = [("eth0", 32, 1800)]
    prepared = vip("prepared", check=True)
    placed = vip(check=True)
    assert prepared["changed"] and placed["changed"]
    assert node.said == [] and not (node.root / "manifests").exists() and not node.objects


# --- What it is given ------------------------------------------------------------------------


def inputs(**more: Any) -> dict[str, Any]:
    given = {"address": ADDRESS, "port": 6443, "interface": "eth0", "node": "one", "node_address": OWN}
    return {**given, "image": IMAGE, "lease": LEASE, **more}


def test_it_moves_one_address_and_has_nothing_to_do_with_services() -> None:
    told = kube_vip.environment(inputs())
    assert (told["cp_enable"], told["svc_enable"], told["vip_arp"]) == ("true", "false", "true")
    assert told["kubernetes_addr"] == f"https://{OWN}:6443"
    assert kube_vip.environment(inputs(settings={"vip_loglevel": 4}))["vip_loglevel"] == "4"


def test_an_address_of_the_newer_kind() -> None:
    told = kube_vip.environment(inputs(address="2001:db8::10", node_address="2001:db8::11"))
    assert told["vip_subnet"] == "128" and told["kubernetes_addr"] == "https://[2001:db8::11]:6443"


def test_no_secret_is_in_the_manifest() -> None:
    text = kube_vip.manifest(inputs(), "client-key-data: verysecret")
    assert "verysecret" not in text and text != kube_vip.manifest(inputs(), "client-key-data: another")


def test_it_may_keep_its_own_lease_alone() -> None:
    [role, _] = kube_vip.rights()
    for rule in role["rules"]:
        assert rule["resources"] == ["leases"]
        assert rule["verbs"] == ["create"] or rule["resourceNames"] == [kube_vip.LEASE]


def test_the_manifest_tells_which_address_it_moves() -> None:
    assert kube_vip.moved(kube_vip.manifest(inputs(), "")) == (ADDRESS, "eth0")
    assert kube_vip.moved("kind: Pod\n") == ("", "")
    assert kube_vip.moved('{"spec": {"containers": []}}') == ("", "")


# --- Until it comes --------------------------------------------------------------------------


def test_the_address_is_held_for_a_while(node: Node) -> None:
    assert kube_vip.hold(node.run, ADDRESS)
    assert node.said == [
        f"ip address replace {ADDRESS}/32 dev eth0 valid_lft {kube_vip.HELD_SECONDS} preferred_lft 0"
    ]


def test_a_run_that_goes_on_holds_it_longer(node: Node) -> None:
    node.holds, node.route = [("eth1", 32, 30)], [{"dst": ADDRESS, "dev": "lo", "type": "local"}]
    assert kube_vip.hold(node.run, ADDRESS)
    assert "dev eth1 " in node.said[-1]


def test_who_has_it_for_good_keeps_it(node: Node) -> None:
    node.holds = [("eth0", 32, kube_vip.FOREVER)]
    assert not kube_vip.hold(node.run, ADDRESS) and node.said == []


def test_an_address_behind_a_router_is_not_held(node: Node) -> None:
    node.route = [{"dst": ADDRESS, "gateway": "192.0.2.1", "dev": "eth0"}]
    with pytest.raises(KubeError, match="of no network of this node"):
        kube_vip.hold(node.run, ADDRESS)


# --- Another one than before -----------------------------------------------------------------


def test_the_address_of_a_living_cluster_stays(node: Node) -> None:
    (node.root / "mark").write_text(json.dumps({"endpoint": "192.0.2.10:7443"}))
    assert "Put it back" in kube_release_guard.readdressed("192.0.2.10:6443", by_kube_vip=True)
    assert kube_release_guard.readdressed("192.0.2.10:7443", by_kube_vip=False) == ""
    assert kube_release_guard.readdressed("", by_kube_vip=False) == ""


def test_two_do_not_keep_up_one_address(node: Node, vip: Vip) -> None:
    (node.root / "mark").write_text(json.dumps({"endpoint": "192.0.2.10:6443"}))
    assert kube_release_guard.readdressed("192.0.2.10:6443", by_kube_vip=False) == ""
    both(vip)
    assert "kube-vip has" in kube_release_guard.readdressed("192.0.2.10:6443", by_kube_vip=False)
    assert kube_release_guard.readdressed("192.0.2.10:6443", by_kube_vip=True) == ""


def test_a_node_without_a_mark_may_have_any(node: Node) -> None:
    (node.root / "mark").unlink()
    assert kube_release_guard.readdressed("192.0.2.10:6443", by_kube_vip=False) == ""
