"""What roles are given: exact values, folded, the same length for a thousand nodes as for ten."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from rackloom.site import Site, load_site
from rackloom.site.fields import Memory
from rackloom.site.hardware import gres, real_memory_mb
from rackloom.site.inventory import build
from rackloom.site.models import Gpu, Profile
from rackloom.site.paths import example_dir, home
from rackloom.site.role_vars import name_server_vars, role_vars

GOOD = Path(__file__).parent / "good"


@pytest.fixture(scope="module")
def good() -> Site:
    return load_site(GOOD)


def profile(**changes: Any) -> Profile:
    return Profile.model_validate({"cores": 4, "memory": 4000, **changes})


@pytest.mark.parametrize(
    ("memory", "reserved", "expected"),
    [
        (257000, None, 251860),
        ("257000M", None, 251860),
        ("1000G", None, 985088),
        ("1000G", "16G", 976896),
        (4000, 0, 4000),
        ("4G", 0, 3973),
    ],
)
def test_memory(memory: Any, reserved: Any, expected: int) -> None:
    extra = {} if reserved is None else {"reserved_memory": reserved}
    assert real_memory_mb(profile(memory=memory, **extra)) == expected


def test_memory_notations() -> None:
    sizes = {text: profile(memory=text).memory for text in ("4000M", "4000 MB", "1.5T", "2GiB", 7)}
    assert sizes == {
        "4000M": Memory(4000, False),
        "4000 MB": Memory(4000, False),
        "1.5T": Memory(1536 * 1024, True),
        "2GiB": Memory(2048, True),
        7: Memory(7, False),
    }


def lines(*gpus: dict[str, Any]) -> list[tuple[str, int, str, str]]:
    entries = gres(profile(gpus=[Gpu.model_validate(gpu) for gpu in gpus]))
    return [(entry.type, entry.count, entry.files, entry.autodetect) for entry in entries]


def test_one_type() -> None:
    assert lines({"type": "a100", "count": 8}) == [("a100", 8, "/dev/nvidia[0-7]", "")]


def test_one_gpu_has_no_bracket() -> None:
    assert lines({"type": "t4", "count": 1}) == [("t4", 1, "/dev/nvidia0", "")]


def test_mixed_types_take_files_in_turn() -> None:
    assert lines({"type": "a100", "count": 2}, {"type": "v100", "count": 2}) == [
        ("a100", 2, "/dev/nvidia[0-1]", ""),
        ("v100", 2, "/dev/nvidia[2-3]", ""),
    ]


def test_named_files() -> None:
    assert lines({"type": "a100", "count": 2, "files": "/dev/nvidia[0,2]"}) == [
        ("a100", 2, "/dev/nvidia[0,2]", "")
    ]


def test_slices_are_types_found_by_nvml() -> None:
    found = lines(
        {"type": "a100", "count": 4}, {"type": "a100", "count": 4, "mig": {"3g.20gb": 1, "2g.10gb": 2}}
    )
    assert found == [("a100", 4, "", "nvml"), ("3g.20gb", 4, "", "nvml"), ("2g.10gb", 8, "", "nvml")]


def test_slices_with_files_need_no_nvml() -> None:
    found = lines({"type": "a100", "count": 1, "mig": {"3g.20gb": 2}, "files": "/dev/slice[0-1]"})
    assert found == [("3g.20gb", 2, "/dev/slice[0-1]", "")]


def test_same_type_twice_is_one_line() -> None:
    found = lines({"type": "a100", "count": 1}, {"type": "a100", "count": 2})
    assert found == [("a100", 3, "/dev/nvidia[0-2]", "")]


def test_slurm_nodes(good: Site) -> None:
    nodes = {entry["profile"]: entry for entry in role_vars(good)["slurmctld_nodes"]}
    assert nodes["a100"]["names"] == "gpu[001-002]"
    assert nodes["a100"]["addresses"] == "10.10.2.[1,7]"
    assert nodes["sliced"]["gres"] == "gpu:a100:2,gpu:3g.20gb:4"
    assert nodes["cpu"]["gres"] == ""


def test_partitions(good: Site) -> None:
    batch, gpu = role_vars(good)["slurmctld_partitions"]
    assert (batch["nodes"], batch["default"]) == ("ALL", True)
    assert (gpu["nodes"], gpu["default"]) == ("gpu[001-002],mig[01-02]", False)
    assert gpu["allow_accounts"] == ["research", "physics", "rackloom-check"]


def test_accounting(good: Site) -> None:
    values = role_vars(good)
    assert [account["name"] for account in values["slurm_accounts_accounts"]] == [
        "research",
        "physics",
        "rackloom-check",
    ]
    assert values["slurm_accounts_users"][-1]["name"] == "rackloom-check"
    assert values["slurm_accounts_qos"][0]["limits"] == {"MaxTRESPerUser": "gres/gpu=8"}


def site_with(tmp_path: Path, slurm: str = "", services: str = "{}") -> Site:
    (tmp_path / "cluster.yml").write_text(
        "name: t\ndomain: t.example\nnetworks: {cluster: {cidr: 10.0.0.0/8}}\n"
        f"services: {services}\nslurm: {{{slurm}}}\n",
        "utf-8",
    )
    (tmp_path / "nodes.yml").write_text(
        "profiles: {cpu: {cores: 2, memory: 4000}}\n"
        'management: [{name: "m[1-2]", address: 10.0.0.1}]\nlogin: [{name: l1, address: 10.0.0.9}]\n'
        'compute: [{name: "c[1-2]", address: 10.0.1.1, profile: cpu}]\n',
        "utf-8",
    )
    return load_site(tmp_path)


def test_a_partition_without_being_asked(tmp_path: Path) -> None:
    (partition,) = role_vars(site_with(tmp_path))["slurmctld_partitions"]
    assert (partition["name"], partition["nodes"], partition["default"]) == ("batch", "ALL", True)


def test_the_first_partition_is_the_default(tmp_path: Path) -> None:
    site = site_with(tmp_path, "partitions: [{name: a, default: false}, {name: b}, {name: c}]")
    assert [p["name"] for p in role_vars(site)["slurmctld_partitions"] if p["default"]] == ["b"]


def test_no_default_where_the_site_says_so(tmp_path: Path) -> None:
    site = site_with(tmp_path, "partitions: [{name: a, default: false}]")
    assert role_vars(site)["slurm_check_partition"] == ""


def test_controllers_keep_their_order(tmp_path: Path) -> None:
    site = site_with(tmp_path, "state_dir: /shared", "{slurm_controller: [m2, m1], slurm_database: m2}")
    values = role_vars(site)
    assert [host["name"] for host in values["slurmctld_controllers"]] == ["m2", "m1"]
    assert [(srv["host"], srv["priority"]) for srv in name_server_vars(site)["name_server_srv"]] == [
        ("m2", 0),
        ("m1", 1),
    ]
    assert values["slurmdbd_storage_host"] == "m2"
    assert values["mariadb_client_addresses"] == ["10.0.0.1"]
    assert values["slurmctld_state_dir"] == "/shared"


def test_the_check_user_may_preempt_where_anyone_may(tmp_path: Path) -> None:
    site = site_with(tmp_path, "preempt: {mode: requeue}, qos: [{name: high, preempt: [normal]}]")
    values = role_vars(site)
    assert (values["slurm_check_low_qos"], values["slurm_check_high_qos"]) == ("normal", "high")
    assert values["slurm_accounts_users"][-1]["qos"] == ["normal", "high"]


def test_no_accounting(tmp_path: Path) -> None:
    values = role_vars(site_with(tmp_path, services="{slurm_accounting: [], slurm_database: []}"))
    assert values["slurmctld_dbd_host"] == {} and values["slurmdbd_storage_host"] == ""


def test_length_does_not_follow_the_nodes(tmp_path: Path) -> None:
    sizes = []
    for count in (10, 1000):
        site_with(tmp_path)
        nodes = tmp_path / "nodes.yml"
        nodes.write_text(nodes.read_text("utf-8").replace("c[1-2]", f"c[0001-{count:04d}]"), "utf-8")
        sizes.append(len(json.dumps(role_vars(load_site(tmp_path)))))
    assert sizes[1] - sizes[0] < 300


def test_no_templates_and_only_plain_data(good: Site) -> None:
    text = json.dumps(build(good).as_dict())
    assert "{{" not in text and "{%" not in text


def test_roles_know_what_they_are_given(good: Site) -> None:
    """Each variable with a role's prefix is an input of that role, and each required input but secrets is there."""
    emitted = {name for variables in build(good).vars.values() for name in variables}
    specs = {
        path.parent.parent.name: yaml.safe_load(path.read_text("utf-8"))["argument_specs"]["main"].get(
            "options", {}
        )
        for path in sorted((home() / "roles").glob("*/meta/argument_specs.yml"))
    }
    unknown = []
    for name in emitted:
        role = max((role for role in specs if name.startswith(f"{role}_")), key=len, default=None)
        if role is not None and name not in specs[role]:
            unknown.append(name)
    assert unknown == []


@pytest.mark.parametrize("folder", [GOOD, example_dir()], ids=["good", "example"])
def test_roles_take_the_values(folder: Path) -> None:
    """Ansible's own validator, with each role's spec, on what the site gives; secrets come from elsewhere."""
    inventory = build(load_site(folder))
    values: dict[str, Any] = {}
    for variables in inventory.vars.values():
        values |= variables
    for path in sorted((home() / "roles").glob("*/meta/argument_specs.yml")):
        options = yaml.safe_load(path.read_text("utf-8"))["argument_specs"]["main"].get("options", {})
        given = {name: values[name] for name in options if name in values}
        spec = {name: options[name] for name in given}
        found = ArgumentSpecValidator(spec).validate(given)
        assert found.error_messages == [], path.parent.parent.name


def test_inventory_vars(good: Site) -> None:
    inventory = build(good)
    assert inventory.hostvars["mig01"]["rack"] == 7
    assert inventory.hostvars["gpu002"]["ansible_host"] == "10.10.2.7"
    assert inventory.hostvars["mgmt02"]["rackloom_roles"][:2] == ["management", "name_server"]
    assert "ansible_ssh_private_key_file" not in inventory.vars["all"]
    assert inventory.vars["all"]["rackloom_networks"]["bmc"] == {"cidr": "10.11.0.0/16", "gateway": ""}
    assert inventory.vars["management"]["rackloom_nodes"]["gpu001"]["mac"] == "52:54:00:00:02:01"
    assert inventory.vars["prometheus"]["rackloom_nodes"] is inventory.vars["management"]["rackloom_nodes"]
    assert inventory.children == {
        "slurm": ["slurm_database", "slurm_accounting", "slurm_controller", "slurm_login", "slurm_node"],
        "kubernetes": ["kube_control_plane", "kube_node", "kube_api_balancer", "etcd"],
    }
