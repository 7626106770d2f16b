"""What the stage `kubernetes` makes of what nodes say, before it touches any: its own plays, with played nodes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from plugins.module_utils import kube_documents
from plugins.modules import kube_release_guard as guard

from rackloom.site.secrets import SECRETS

ROOT = Path(__file__).parents[2]
STAGE = yaml.safe_load((ROOT / "playbooks/stages/kubernetes.yml").read_text())
KEYS = yaml.safe_load((ROOT / "playbooks/vars/kubernetes_keys.yml").read_text())
NAMES = [play["name"] for play in STAGE]
LOOK, *JUDGE = STAGE[: NAMES.index("Kubernetes | Store")]
NONE: dict[str, Any] = {"store": [], "joined": False, "holds": False, "other": []}
MEMBER = {**NONE, "joined": True, "holds": True}
WORKER = {**NONE, "joined": True}
CFG = "[defaults]\ngathering = explicit\ninject_facts_as_vars = False\nretry_files_enabled = False\n"
OFF = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
SAY = [
    {
        "name": "Ask",
        "ansible.builtin.ping": {},
        "register": "kubernetes_guard",
        "when": "told is not defined",
    },
    {"name": "Say", "ansible.builtin.set_fact": {"kubernetes_guard": "{{ told }}"}},
    {"name": "Refuse", "ansible.builtin.fail": {"msg": "x"}, "when": "told.failed | default(false)"},
]
GO_ON = {"name": "Begun", "ansible.builtin.debug": {"msg": "begun on {{ inventory_hostname }}"}}


def deployed(
    folder: Path, told: dict[str, dict[str, Any]], limit: str = "", workers: str = "gpu", **more: Any
) -> tuple[set[str], set[str], str]:
    """Hosts that the rest of the stage reaches, those on which a guard's task failed, and what was said."""
    groups: dict[str, dict[str, Any]] = {"kube_control_plane": {}, "kube_node": {}, "etcd": {}}
    for name, look in told.items():
        group = {"m": "kube_control_plane", "s": "etcd"}.get(name[0], "kube_node")
        groups[group][name] = {"told": look} if look else dict(OFF)
        if name.startswith("m") and workers == "all":
            groups["kube_node"] = {name: {}, **groups["kube_node"]}
    children = {name: {"hosts": hosts} for name, hosts in groups.items()}
    inventory = {"all": {"vars": {"ansible_connection": "local"}, "children": children}}
    (folder / "hosts.yml").write_text(yaml.safe_dump(inventory))
    every = {"hosts": "all", "gather_facts": False}
    looked = {**every, "name": "Look", "hosts": LOOK["hosts"], "tasks": SAY}
    plays = [looked, *JUDGE, {**every, "name": "Go on", "tasks": [GO_ON]}]
    (folder / "play.yml").write_text(yaml.safe_dump(plays, sort_keys=False))
    (folder / "ansible.cfg").write_text(CFG)
    argv = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "hosts.yml", "play.yml"]
    argv += ["--limit", limit] if limit else []
    argv += ["-e", json.dumps(more)] if more else []
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(folder),
        "ANSIBLE_STDOUT_CALLBACK": "json",
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
        "LC_ALL": "C.UTF-8",
    }
    done = subprocess.run(
        argv, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    begun, failed, said = set(), set(), set()
    for play in json.loads(done.stdout[done.stdout.index("{") :])["plays"]:
        for task in play["tasks"]:
            for host, result in task["hosts"].items():
                if task["task"]["name"] == "Begun":
                    begun.add(host)
                elif result.get("failed") and task["task"]["name"] != "Refuse":
                    failed.add(host)
                    said.add(result["msg"])
    return begun, failed, "\n".join(sorted(said))


def test_a_first_deploy_and_a_second_are_let_through(tmp_path: Path) -> None:
    for told in (NONE, MEMBER):
        nodes = {"m1": told, "m2": told, "m3": told, "g1": {**told, "holds": False}, "g2": NONE}
        assert deployed(tmp_path, nodes) == (set(nodes), set(), "")


def test_other_keys_end_it_for_everybody(tmp_path: Path) -> None:
    other = {**MEMBER, "other": ["the cluster's authority", "the key that secrets are encrypted with"]}
    begun, failed, said = deployed(tmp_path, {"m1": MEMBER, "m2": other, "m3": other, "g1": WORKER})
    assert begun == set() and failed == {"m2", "m3"}
    # one and the same sentence, so the report has it once
    assert "What differs: the cluster's authority, the key that secrets are encrypted with." in said
    assert "\n" not in said and "vault.key" in said
    assert deployed(tmp_path, {"m1": NONE, "s1": {**MEMBER, "other": ["etcd's authority"]}})[:2] == (
        set(),
        {"s1"},
    )


def test_no_cluster_is_made_under_living_workers(tmp_path: Path) -> None:
    nodes = {"m1": NONE, "m2": NONE, "m3": NONE, "g1": NONE, "g2": WORKER, "g3": WORKER}
    begun, failed, said = deployed(tmp_path, nodes)
    assert begun == set()
    # `--limit` to those that failed is what is told to go on with
    assert failed == {"g1"}
    assert (
        "g2, g3 joined one" in said
        and "kubernetes restore FILE" in said
        and "erase-the-whole-cluster" in said
    )
    # a control-plane node that runs pods too is no worker that could lose them
    assert deployed(tmp_path, {"m1": NONE, "g1": WORKER}, workers="all")[:2] == (set(), {"g1"})


def test_workers_that_refuse_for_another_reason_count(tmp_path: Path) -> None:
    nodes = {"m1": NONE, "g1": {**WORKER, "failed": True}, "g2": {**WORKER, "failed": True}}
    begun, failed, said = deployed(tmp_path, nodes)
    assert begun == set() and failed == {"m1"} and "g1, g2 joined one" in said


@pytest.mark.parametrize(
    "nodes",
    [
        # replaced, restored, or asked of the API: somebody has it
        {"m1": NONE, "m2": MEMBER, "m3": MEMBER, "g1": WORKER},
        {"m1": {**NONE, "holds": True}, "m2": NONE, "m3": NONE, "g1": WORKER},
        # all control-plane nodes are new, and hosts of etcd have everything
        {"m1": NONE, "s1": {**NONE, "holds": True}, "s2": NONE, "s3": NONE, "g1": WORKER},
        # nobody knows what the one holds that does not answer; who makes clusters waits for it
        {"m1": NONE, "m2": {}, "m3": NONE, "g1": WORKER},
        # workers that are off
        {"m1": NONE, "g1": {}},
        # the release differs on all: what they hold is there
        {"m1": {**MEMBER, "failed": True}, "g1": WORKER},
    ],
)
def test_a_deploy_goes_on_where_the_cluster_is_held_or_may_be(tmp_path: Path, nodes: dict[str, Any]) -> None:
    begun, failed, said = deployed(tmp_path, nodes)
    assert begun == {name for name, told in nodes.items() if told and not told.get("failed")}
    assert (failed, said) == (set(), "")


def test_a_limit_asks_those_that_it_names(tmp_path: Path) -> None:
    nodes = {"m1": NONE, "m2": NONE, "m3": NONE, "g1": WORKER}
    assert deployed(tmp_path, nodes, "kube_control_plane") == ({"m1", "m2", "m3"}, set(), "")
    assert deployed(tmp_path, nodes, "m1,g1") == ({"m1", "g1"}, set(), "")
    assert deployed(tmp_path, nodes, "g1") == ({"g1"}, set(), "")


def test_no_word_of_somebody_outweighs_a_worker(tmp_path: Path) -> None:
    nodes = {"m1": NONE, "m2": {}, "m3": NONE, "g1": WORKER}
    begun, failed, _ = deployed(tmp_path, nodes, kube_control_plane_new_cluster="true")
    assert begun == set() and failed == {"g1"}


def test_vault_and_nodes_are_compared_in_the_same_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, str] = {}
    for secret in SECRETS:
        if secret.name.startswith("kube_"):
            made[secret.name] = secret.make(made)
    variables = {"rackloom_secrets": made, "group_names": ["kube_control_plane"], **_trusted(KEYS)}
    [task] = LOOK["tasks"]
    asked = _trusted(task["rackloom.cluster.kube_release_guard"])["fingerprints"]
    wanted = Templar(loader=DataLoader(), variables=variables).template(asked)
    assert set(wanted) == set(guard.KEPT)
    workers = {**variables, "group_names": ["kube_node"]}
    assert Templar(loader=DataLoader(), variables=workers).template(asked) == {}

    # as the role lays them out
    role = yaml.safe_load((ROOT / "roles/kube_control_plane/vars/main.yml").read_text())
    inputs = {f"kube_control_plane_{name.removeprefix('kube_')}": value for name, value in made.items()}
    lines = {
        each["path"]: each["content"] for each in role["__kube_control_plane_files"] if "content" in each
    }
    monkeypatch.setattr(guard, "ENCRYPTION", str(tmp_path / "encryption.json"))
    for name, (_, (path, *_)) in guard.KEPT.items():
        file = tmp_path / Path(path).name
        text = Templar(loader=DataLoader(), variables=inputs).template(trust_as_template(lines[path]))
        file.write_text(text if isinstance(text, str) else json.dumps(text))
        assert guard.kept(str(file)) == [wanted[name]], path
        assert not any(secret in json.dumps(wanted) for secret in made.values())
    assert guard.kept(str(tmp_path / "encryption.json")) == [guard.fingerprint(made["kube_encryption_key"])]
    assert kube_documents.SERVER_FOLDER in guard.KEPT["encryption"][1][0]


def _trusted(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _trusted(value)
        if isinstance(value, dict)
        else trust_as_template(value)
        if isinstance(value, str)
        else value
        for name, value in values.items()
    }
