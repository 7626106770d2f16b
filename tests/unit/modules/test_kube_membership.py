"""A node's membership, with stand-ins for kubeadm, the API and etcd: what is done, and above all what is not."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

MEMBERS = [{"name": "one", "address": "192.0.2.11"}, {"name": "two", "address": "192.0.2.12"}]
PARTS = {"names": "n", "etcd": "e", "apiserver": "a", "cluster": "c", "proxy": "p", "dns": "d"}
Join = Callable[..., dict[str, Any]]


class Machine:
    """A node. `said` is what was asked of kubeadm, kubectl and etcdctl."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.said: list[str] = []
        self.answers: set[str] = set()  # addresses whose API is ready
        self.etcd: list[dict[str, Any]] = []
        self.kept = ""  # keys in an etcd on hosts of its own
        self.broken = ""  # a command that fails
        self.breaks = ""  # a part that does not come up with its new settings
        self.pods = {"etcd": "1", "kube-apiserver": "1"}
        self.rendered = 0
        self.images: set[str] = set()
        self.skipped: list[str] = []
        self.nowhere: set[str] = set()  # images that no registry has
        self.proxy = ""
        self.late = 0  # so often the cluster does not know the node yet
        self.asked: list[str] = []

    def path(self, name: str) -> Path:
        return self.root / name.lstrip("/")

    def put(self, name: str, text: str = "{}") -> None:
        self.path(name).parent.mkdir(parents=True, exist_ok=True)
        self.path(name).write_text(text)

    def mark(self, **parts: str) -> None:
        told = {"role": "control_plane", "endpoint": "192.0.2.10:7443", "parts": {**PARTS, **parts}}
        self.put("mark.json", json.dumps(told))
        self.put("kubernetes/kubelet.conf")
        for name in ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"):
            self.put(f"kubernetes/manifests/{name}.yaml", "old")

    def run(self, argv: Sequence[str], _data: str = "") -> tuple[int, str, str]:
        words = [word for word in argv if not word.startswith("-")]
        if argv[0] == "crictl" and "inspecti" in argv:
            return int(argv[-1] not in self.images), "", ""
        if argv[0] == "timeout":
            assert list(argv[2:4]) == ["crictl", "pull"]
            if argv[4] in self.nowhere:
                return 1, "", "not found"
            self.images.add(argv[4])
            return 0, "", ""
        if list(argv[1:4]) == ["config", "images", "list"]:
            return 0, "registry.example.com/etcd:3\nregistry.example.com/pause:1\n", ""
        if argv[0] == "crictl":
            items = [
                {"metadata": {"name": f"{name}-one"}, "annotations": {"kubernetes.io/config.hash": mark}}
                for name, mark in self.pods.items()
            ]
            return 0, json.dumps({"items": items}), ""
        if argv[0] == "etcdctl":
            return self.ask_etcd(list(argv), words)
        if argv[0] == "kubectl" and "node" in argv:
            self.asked.append(argv[4])
            return int(len(self.asked) <= self.late), "", ""
        if argv[0] == "kubectl" and "get" in argv:
            return (
                0,
                json.dumps({"metadata": {"annotations": {"rackloom.cluster/configuration": self.proxy}}}),
                "",
            )
        self.skipped += [word.partition("=")[2] for word in argv if word.startswith("--skip-phases=addon")]
        self.said.append(" ".join(words[:5]))
        if self.broken and self.broken in self.said[-1]:
            return 1, "", f"error: {self.broken} does not go"
        self.act(words)
        return 0, "done", ""

    def ask_etcd(self, argv: list[str], words: list[str]) -> tuple[int, str, str]:
        if "remove" in words:
            self.said.append(" ".join(words))
            return 0, "", ""
        if "health" in words:
            urls = [url for row in self.etcd for url in row["clientURLs"]]
            return 0, json.dumps([{"endpoint": url, "health": True} for url in urls]), ""
        if "get" in words:
            return 0, self.kept, ""
        assert "member" in argv
        return 0, json.dumps({"members": self.etcd}), ""

    def act(self, words: list[str]) -> None:
        if words[:2] == ["kubeadm", "reset"]:
            for path in self.path("kubernetes").rglob("*"):
                if path.is_file() and "pki" not in path.parts:
                    path.unlink()
        elif words[:2] in (["kubeadm", "init"], ["kubeadm", "join"]) and words[2:3] != ["phase"]:
            self.put("kubernetes/kubelet.conf")
            self.put("kubernetes/super-admin.conf")
            for name in ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"):
                self.put(f"kubernetes/manifests/{name}.yaml", "new")
            self.answers.add("192.0.2.11")
        elif words[2:4] == ["phase", "etcd"] or words[2:4] == ["phase", "control-plane"]:
            name = "etcd" if words[3] == "etcd" else f"kube-{words[4]}"
            self.rendered += 1
            self.put(f"kubernetes/manifests/{name}.yaml", "new")
            if name != self.breaks:
                self.pods[name] = f"new{self.rendered}"
        elif words[2:5] == ["phase", "kubeconfig", "kubelet"]:
            self.put("kubernetes/kubelet.conf", "client-certificate-data: new")
        elif words[2:4] == ["phase", "kubelet-finalize"]:
            self.put("kubernetes/kubelet.conf", "client-certificate: a file")
        elif words[:2] == ["systemctl", "restart"]:
            self.put("kubelet/kubelet-client-current.pem", "asked for")
        elif words[2:5] == ["phase", "certs", "apiserver"]:
            assert not self.path("kubernetes/pki/apiserver.crt").exists(), "kubeadm keeps one that is there"
            self.put("kubernetes/pki/apiserver.crt", "new")
            self.put("kubernetes/pki/apiserver.key", "new")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    module = importlib.import_module("plugins.modules.kube_membership")
    machine = Machine(tmp_path)
    for name, place in (
        ("MARK", "mark.json"),
        ("STATE", "state"),
        ("INTENT", "state/intent.json"),
        ("RESTORED", "restored"),
        ("KUBERNETES", "kubernetes"),
        ("ETCD", "etcd"),
        ("KUBELET_PKI", "kubelet"),
    ):
        monkeypatch.setattr(module, name, tmp_path / place)
    monkeypatch.setattr(module.kube_documents, "JOIN_FILE", str(tmp_path / "state/join.conf"))
    monkeypatch.setattr(module, "runner", lambda _module: machine.run)

    def ask(host: str, _port: int, _path: str, _ca: str, _timeout: float = 3.0) -> tuple[int, str]:
        if host not in machine.answers:
            raise ConnectionRefusedError(host)
        return 200, "ok"

    monkeypatch.setattr(module, "ask", ask)
    monkeypatch.setattr(module.time, "sleep", lambda _seconds: None)
    machine.put("kubernetes/pki/etcd/healthcheck-client.crt")
    return machine


@pytest.fixture
def join(run_module: Callable[..., dict[str, Any]], machine: Machine) -> Join:
    del machine

    def run(**more: Any) -> dict[str, Any]:
        given = {
            "role": "control_plane",
            "endpoint": "192.0.2.10:7443",
            "address": "192.0.2.11",
            "members": MEMBERS,
            "ca_certificate": "ca",
            "credential": {"key": "key-pem", "certificate": "certificate-pem"},
            "join": json.dumps({"nodeRegistration": {"name": "one"}}),
            "parts": PARTS,
            "timeout": 0,
        }
        return run_module("kube_membership", **{**given, **more})

    return run


def did(machine: Machine, words: str) -> bool:
    return any(words in said for said in machine.said)


def test_the_first_node_makes_the_cluster(machine: Machine, join: Join) -> None:
    result = join(may_init=True)
    assert result["changed"] and result["found"] == "none" and "made the cluster" in result["actions"]
    assert json.loads((machine.root / "mark.json").read_text())["parts"] == PARTS
    assert not (machine.root / "state/intent.json").exists()
    assert not (machine.root / "kubernetes/super-admin.conf").exists()


def test_who_makes_the_cluster_has_its_address_until_somebody_keeps_it_up(
    machine: Machine, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[tuple[str, list[str]]] = []
    module = importlib.import_module("plugins.modules.kube_membership")
    monkeypatch.setattr(
        module.kube_vip, "hold", lambda _run, address: held.append((address, list(machine.said)))
    )
    join(may_init=True)
    assert held == []
    machine.path("mark.json").unlink()
    machine.path("kubernetes/kubelet.conf").unlink()
    machine.said.clear()
    machine.answers.clear()
    join(may_init=True, hold="192.0.2.10")
    [(address, before)] = held
    # kubeadm goes through it
    assert address == "192.0.2.10" and not any(said.startswith("kubeadm init") for said in before)
    join(may_init=True, hold="192.0.2.10")
    assert len(held) == 1


def test_kubeadm_asks_when_the_endpoint_answers(machine: Machine, join: Join) -> None:
    machine.mark(cluster="old")
    machine.answers = {"192.0.2.11"}
    result = join(hold="192.0.2.10")
    assert result["failed"] and "at its endpoint" in result["msg"] and not did(machine, "upload-config")
    machine.answers.add("192.0.2.10")
    assert join(hold="192.0.2.10")["changed"] and did(machine, "upload-config")


def test_images_come_first_but_not_the_one_that_kubeadm_only_names(machine: Machine, join: Join) -> None:
    machine.nowhere = {"registry.example.com/etcd:3"}
    result = join(may_init=True)
    assert result["failed"] and "registry.example.com/etcd:3 cannot be had: not found" in result["msg"]
    assert machine.said == [] and not (machine.root / "state/intent.json").exists()
    machine.nowhere = set()
    assert join(may_init=True)["changed"]
    assert machine.images == {"registry.example.com/etcd:3"}


def test_nobody_makes_a_second_cluster(machine: Machine, join: Join) -> None:
    machine.answers = {"192.0.2.10", "192.0.2.12"}
    result = join(may_init=True)
    assert "joined the cluster" in result["actions"]
    assert did(machine, "kubeadm join") and not any(said == "kubeadm init" for said in machine.said)


def test_no_cluster_is_made_while_a_node_cannot_be_asked(machine: Machine, join: Join) -> None:
    result = join(refusal="two cannot be asked")
    assert result["failed"] and result["msg"] == "two cannot be asked"
    assert machine.said == []


def test_nothing_joins_past_the_endpoint(machine: Machine, join: Join) -> None:
    machine.answers = {"192.0.2.12"}
    result = join(may_init=True)
    assert result["failed"] and "not at the cluster's endpoint" in result["msg"]
    assert machine.said == []


def test_a_member_is_left_alone(machine: Machine, join: Join) -> None:
    machine.mark()
    machine.answers = {"192.0.2.11"}
    result = join()
    assert not result["changed"] and machine.said == []


def test_a_member_whose_api_is_down_is_never_cleaned(machine: Machine, join: Join) -> None:
    machine.mark()
    machine.answers = {"192.0.2.10", "192.0.2.12"}
    result = join(may_init=True)
    assert result["failed"] and machine.said == []


LOST = [
    ["kubernetes/manifests/kube-apiserver.yaml"],
    [f"kubernetes/manifests/{name}.yaml" for name in ("etcd", "kube-apiserver", "kube-scheduler")],
    ["kubernetes/kubelet.conf"],
]


@pytest.mark.parametrize("lost", LOST)
@pytest.mark.parametrize("state", ["looked", "joined"])
def test_a_member_that_lost_something_gets_it_back_and_keeps_its_data(
    machine: Machine, join: Join, lost: list[str], state: str
) -> None:
    machine.mark()
    machine.put("etcd/member/snap/db", "all there is")
    for name in lost:
        machine.path(name).unlink()
    machine.answers = {"192.0.2.11"}
    result = join(state=state, may_init=True)
    assert result["found"] == "member" and result["changed"] and not result.get("failed")
    assert all(machine.path(name).exists() for name in lost)
    assert machine.path("etcd/member/snap/db").read_text() == "all there is"
    assert not did(machine, "reset") and not did(machine, "kubeadm join")
    assert not [said for said in machine.said if said.startswith("kubeadm init") and "phase" not in said]
    assert not join(state=state)["changed"]


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch, machine: Machine) -> set[str]:
    """Names of files whose certificate has ended; one that is written anew has not."""
    module = importlib.import_module("plugins.modules.kube_membership")
    names = {"old"}
    monkeypatch.setattr(
        module.node_members,
        "ended",
        lambda path: Path(path).exists() and Path(path).read_text() in names,
    )
    del machine
    return names


@pytest.mark.parametrize("files", [["kubelet-client-current.pem", "kubelet-client-2020.pem"], []])
@pytest.mark.usefixtures("ended")
def test_a_kubelet_that_was_off_for_too_long_is_one_of_the_cluster_again(
    machine: Machine, join: Join, files: list[str]
) -> None:
    machine.mark()
    machine.put("mark.json", json.dumps({"role": "worker", "endpoint": "192.0.2.10:7443", "parts": {}}))
    for name in files:
        machine.put(f"kubelet/{name}", "old")
    machine.answers = {"192.0.2.10"}
    assert join(role="worker", parts={})["changed"]
    # what is old goes first: the kubelet does not write over what is no link of its own
    assert [path.name for path in machine.path("kubelet").iterdir()] == ["kubelet-client-current.pem"]
    assert machine.said == ["systemctl restart kubelet.service"]
    assert not machine.path("kubernetes/bootstrap-kubelet.conf").exists()
    assert not join(role="worker", parts={})["changed"]


@pytest.mark.usefixtures("ended")
def test_a_control_plane_that_was_off_for_too_long_needs_nobody_else(machine: Machine, join: Join) -> None:
    machine.mark()
    machine.path("etcd/member").mkdir(parents=True)
    machine.put("kubelet/kubelet-client-current.pem", "old")
    machine.put("kubernetes/pki/apiserver.crt", "old")
    machine.answers = {"192.0.2.11"}
    result = join()
    assert not result.get("failed")
    assert machine.said == [
        "kubeadm init phase kubeconfig kubelet",
        "systemctl restart kubelet.service",
        "systemctl start rackloom-kube-certificates.service",
        "kubeadm init phase kubelet-finalize all",
    ]


def test_no_cluster_is_made_where_a_member_s_data_is_gone(machine: Machine, join: Join) -> None:
    """As where the volume of etcd is not mounted."""
    machine.mark()
    machine.path("kubernetes/manifests/kube-scheduler.yaml").unlink()
    result = join(may_init=True)
    assert result["failed"] and "restore a snapshot" in result["msg"] and machine.said == []


MEMBER = {"ID": 3, "name": "one", "peerURLs": ["https://192.0.2.11:2380"], "clientURLs": []}


def others(*names: str) -> list[dict[str, Any]]:
    """Voting members of etcd that are well."""
    return [
        {
            "ID": number,
            "name": name,
            "peerURLs": [f"https://192.0.2.{number}:2380"],
            "clientURLs": [f"https://192.0.2.{number}:2379"],
        }
        for number, name in enumerate(names, start=12)
    ]


def test_a_vote_that_the_others_need_is_not_cleaned_away(machine: Machine, join: Join) -> None:
    machine.answers = {"192.0.2.10", "192.0.2.12"}
    machine.put("state/intent.json", '{"action": "join"}')
    machine.put("etcd/member/snap/db", "kept")
    machine.etcd = [*others("two"), MEMBER]
    result = join()
    assert result["failed"] and "no quorum" in result["msg"]
    assert machine.path("etcd/member/snap/db").exists() and not did(machine, "reset")
    machine.etcd = [*others("two", "three"), MEMBER]
    assert not join().get("failed") and did(machine, "kubeadm reset") and did(machine, "remove 3")


def test_etcd_does_not_start_anew_while_the_others_could_not_go_on(machine: Machine, join: Join) -> None:
    machine.mark(etcd="old")
    machine.answers = {"192.0.2.11"}
    mine = {**MEMBER, "clientURLs": ["https://192.0.2.11:2379"]}
    machine.etcd = [*others("two"), {**MEMBER, "ID": 9, "peerURLs": ["https://192.0.2.13:2380"]}, mine]
    result = join()
    assert result["failed"] and "only 1 of the other 2" in result["msg"] and machine.said == []
    machine.etcd = [*others("two", "three"), mine]
    assert not join().get("failed") and did(machine, "phase etcd local")


def test_new_names_survive_a_kill(machine: Machine, join: Join) -> None:
    machine.mark(names="old")
    machine.answers = {"192.0.2.11"}
    machine.put("state/serving-before.json", json.dumps({".crt": "former", ".key": "former"}))
    machine.broken = "certs apiserver"
    assert join()["failed"]
    assert machine.path("kubernetes/pki/apiserver.key").read_text() == "former"
    machine.broken = ""
    assert not join().get("failed")
    assert machine.path("kubernetes/pki/apiserver.key").read_text() == "new"
    assert not list((machine.root / "state").glob("serving*"))


def test_data_of_somebody_else_is_never_touched(machine: Machine, join: Join) -> None:
    machine.path("etcd/member").mkdir(parents=True)
    result = join(may_init=True)
    assert result["failed"] and result["actions"] == []
    assert not did(machine, "reset") and machine.path("etcd/member").exists()


def test_an_init_that_was_cut_off_is_gone_on_with(machine: Machine, join: Join) -> None:
    machine.path("etcd/member").mkdir(parents=True)
    machine.put("state/intent.json", '{"action": "init"}')
    result = join(may_init=True)
    assert result["found"] == "init" and not result.get("failed")
    assert not did(machine, "reset") and machine.path("etcd/member").exists()


def test_a_join_that_was_cut_off_is_cleaned_and_made_again(machine: Machine, join: Join) -> None:
    machine.answers = {"192.0.2.10", "192.0.2.12"}
    machine.put("state/intent.json", '{"action": "join"}')
    machine.put("kubernetes/manifests/etcd.yaml")
    machine.put("kubernetes/pki/ca.key", "authority")
    machine.put("kubernetes/pki/apiserver.crt", "leaf")
    machine.path("etcd/member").mkdir(parents=True)
    machine.etcd = [
        {
            "ID": 1,
            "name": "two",
            "peerURLs": ["https://192.0.2.12:2380"],
            "clientURLs": ["https://192.0.2.12:2379"],
        },
        {"ID": 2, "name": "", "peerURLs": ["https://192.0.2.11:2380"], "clientURLs": [], "isLearner": True},
    ]
    result = join()
    assert not result.get("failed") and result["found"] == "unfinished"
    assert did(machine, "kubeadm reset") and did(machine, "member remove 2") and not did(machine, "remove 1")
    assert machine.path("kubernetes/pki/ca.key").read_text() == "authority"


def test_what_a_node_joins_with_does_not_stay_on_it(machine: Machine, join: Join) -> None:
    machine.answers = {"192.0.2.10", "192.0.2.12"}
    machine.broken = "kubeadm join"
    assert join()["failed"]
    assert list((machine.root / "state").glob("join*")) == []


def test_only_the_part_whose_settings_changed_starts_anew(machine: Machine, join: Join) -> None:
    machine.mark(apiserver="former")
    machine.answers = {"192.0.2.11"}
    result = join(timeout=5)
    assert result["actions"] == ["apiserver: new settings"]
    assert machine.said == ["kubeadm init phase control-plane apiserver"]
    assert machine.path("kubernetes/manifests/etcd.yaml").read_text() == "old"
    assert join()["changed"] is False


def test_a_part_that_does_not_come_up_gets_its_old_settings_back(machine: Machine, join: Join) -> None:
    machine.mark(apiserver="former")
    machine.answers = {"192.0.2.11"}
    machine.breaks = "kube-apiserver"
    result = join()
    assert result["failed"] and "old settings again" in result["msg"]
    assert machine.path("kubernetes/manifests/kube-apiserver.yaml").read_text() == "old"
    assert json.loads((machine.root / "mark.json").read_text())["parts"]["apiserver"] == "former"


def test_kube_proxy_is_changed_by_one_node_for_all(machine: Machine, join: Join) -> None:
    machine.mark(proxy="former")
    machine.answers = {"192.0.2.11"}
    machine.proxy = PARTS["proxy"]
    assert join()["actions"] == ["proxy: new settings, nothing had to start anew"]
    assert machine.said == []


def test_a_worker_waits_for_a_control_plane(join: Join) -> None:
    result = join(role="worker", parts={}, members=[])
    assert result["failed"] and "the control plane comes first" in result["msg"]


def test_the_address_of_a_living_cluster_stays(machine: Machine, join: Join) -> None:
    machine.mark()
    machine.answers = {"192.0.2.11"}
    result = join(endpoint="192.0.2.99:7443")
    assert result["failed"] and "192.0.2.10:7443" in result["msg"] and machine.said == []


def test_a_snapshot_that_was_laid_out_makes_the_cluster(machine: Machine, join: Join) -> None:
    machine.path("etcd/member").mkdir(parents=True)
    machine.put("restored")
    result = join(may_init=True)
    assert result["found"] == "restored" and "made the cluster" in result["actions"]
    assert not machine.path("restored").exists() and not did(machine, "reset")
    assert machine.skipped == ["addon"]  # those of the snapshot stay, until its settings differ
    noted = json.loads((machine.root / "mark.json").read_text())["parts"]
    assert {name for name, mark in noted.items() if not mark} <= {"proxy"}


@pytest.mark.parametrize(
    "left", ["kubernetes/pki/ca.crt", "kubernetes/bootstrap-kubelet.conf", "state/intent.json"]
)
def test_a_worker_s_join_that_was_cut_off_is_cleaned_wherever_it_was(
    machine: Machine, join: Join, left: str
) -> None:
    machine.answers = {"192.0.2.10"}
    machine.put(left, '{"action": "join"}')
    result = join(role="worker", parts={}, members=[])
    assert "joined the cluster" in result["actions"] and did(machine, "kubeadm reset")
    assert not machine.path("kubernetes/pki").exists()


def test_a_join_ends_once_the_cluster_knows_the_node(machine: Machine, join: Join) -> None:
    machine.answers, machine.late = {"192.0.2.10"}, 2
    assert "joined the cluster" in join(role="worker", parts={}, members=[], timeout=240)["actions"]
    assert machine.asked == ["one"] * 3


def test_a_node_that_never_comes_into_the_cluster_has_not_joined(machine: Machine, join: Join) -> None:
    machine.answers, machine.late = {"192.0.2.10"}, 10**6
    result = join(role="worker", parts={}, members=[])
    assert result["failed"] and "the cluster knows this node" in result["msg"]
    assert not (machine.root / "mark.json").exists()


def test_check_mode_does_nothing(machine: Machine, join: Join) -> None:
    result = join(may_init=True, check=True)
    assert result["changed"] and machine.said == [] and not (machine.root / "mark.json").exists()


def test_kubeadm_s_words_are_passed_on(machine: Machine, join: Join) -> None:
    machine.broken = "kubeadm init"
    result = join(may_init=True)
    assert result["failed"] and "does not go" in result["msg"]
    assert (machine.root / "state/intent.json").exists()


# --- etcd on hosts of its own ------------------------------------------------------------------

APART = {
    "store": ["https://192.0.2.21:2379"],
    "parts": {name: PARTS[name] for name in PARTS if name != "etcd"},
}


def test_a_cluster_is_made_with_its_store_elsewhere(machine: Machine, join: Join) -> None:
    result = join(may_init=True, **APART)
    assert "made the cluster" in result["actions"] and machine.skipped == []
    assert json.loads((machine.root / "mark.json").read_text())["store"] == "apart"
    machine.path("kubernetes/manifests/etcd.yaml").unlink()
    again = join(may_init=True, **APART)
    assert again["found"] == "member" and not again["changed"]


def test_what_the_store_holds_already_is_gone_on_with(machine: Machine, join: Join) -> None:
    """All control-plane nodes were lost, and etcd was not."""
    machine.kept = "/registry/configmaps/kube-system/kubeadm-config\n"
    assert "made the cluster" in join(may_init=True, **APART)["actions"]
    assert machine.skipped == ["addon"]


def test_an_init_that_was_cut_off_is_gone_on_with_and_nothing_is_cleaned(
    machine: Machine, join: Join
) -> None:
    machine.put("state/intent.json", json.dumps({"action": "init"}))
    machine.kept = "/registry/namespaces/default\n"
    result = join(may_init=True, **APART)
    assert result["found"] == "init" and not did(machine, "kubeadm reset")


def test_who_joins_leaves_members_and_certificates_alone(machine: Machine, join: Join) -> None:
    machine.answers = {"192.0.2.10", "192.0.2.12"}
    machine.put("state/intent.json", json.dumps({"action": "join"}))
    machine.put("kubernetes/pki/apiserver-etcd-client.crt")
    result = join(**APART)
    assert "joined the cluster" in result["actions"] and did(machine, "kubeadm reset")
    assert machine.path("kubernetes/pki/apiserver-etcd-client.crt").exists()
    assert machine.path("kubernetes/pki/etcd/healthcheck-client.crt").exists()
    assert not did(machine, "member")


def test_nothing_is_begun_where_the_store_does_not_answer(
    machine: Machine, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        machine, "ask_etcd", lambda _argv, _words: (1, "", "Error: context deadline exceeded")
    )
    result = join(may_init=True, **APART)
    assert result["failed"] and "deadline" in result["msg"]
    assert machine.said == [] and not (machine.root / "state/intent.json").exists()
