"""Machines that reported themselves: who is who, and what is written of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from rackloom.cli import node as node_cli
from rackloom.cli.main import run
from rackloom.hardware import discovery, nodes_file
from rackloom.hardware.adopt import AdoptError, Wanted, adopt, suggestion
from rackloom.hardware.discovery import Machine, machine, machines, match
from rackloom.hardware.nodes_file import NodesText
from rackloom.site import load_site, scaffold, secrets
from rackloom.site.models import Profile
from rackloom.site.paths import home
from rackloom.site.yaml_text import EditError

GOOD = Path(__file__).parents[1] / "site" / "good"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOOD, tmp_path / "config"))


def report(mac: str = "52:54:00:00:09:01", seen: float = 1.0, **changes: Any) -> dict[str, Any]:
    """One as the discovery boot writes it."""
    content = {
        "serial": "NEW1",
        "vendor": "Racks",
        "product": "R1",
        "mac": mac,
        "cards": [{"name": "eno1", "mac": mac, "link": True, "speed": 25000, "driver": "x"}],
        "disks": [{"path": "/dev/sda", "size": 960 * 10**9, "removable": False}],
        "cpus": {"model": "Fast", "sockets": 2, "cores": 32, "threads": 2, "total": 128},
        "memory_mib": 257600,
        "gpus": [],
        "bmc": {"address": "10.11.9.1", "mac": "52:54:00:00:aa:01"},
        "firmware": "uefi",
    }
    return {"mac": mac, "seen": seen, "report": {**content, **changes}}


def one(**changes: Any) -> Machine:
    return machines([report(**changes)])[0]


def test_a_report() -> None:
    found = one(
        gpus=[{"pci": "0", "vendor": "nvidia", "device": "20b2"}, {"vendor": "amd", "device": "740f"}]
    )
    assert (found.sockets, found.cores, found.threads, found.memory_mb) == (2, 32, 2, 257600)
    assert (found.serial, found.model, found.bmc) == ("NEW1", "Racks R1", "10.11.9.1")
    assert (found.gpus, found.other_gpus) == ((("a100", 1),), 1)
    assert found.whole


NASTY: list[Any] = [
    None, [], {}, 1, -1, 10**40, True, "x" * 100_000, "\x1b[2J", "{{ lookup('pipe', 'id') }}", 'a", b: "c',
    "a\nb: c", [[[]]], [{"mac": 3}], {"address": []}, "../../etc",
]  # fmt: skip


@pytest.mark.parametrize("odd", NASTY, ids=range(len(NASTY)))
@pytest.mark.parametrize("key", sorted({*report()["report"]} - {"mac"}))
def test_nothing_odd_is_believed(key: str, odd: Any, config: Path) -> None:
    """Whoever is on the wire can write a report; what is written of it into nodes.yml is sound all the same."""
    found = match(load_site(config), machines([report(**{key: odd})]))
    shown = json.dumps([list(node_cli._row(1, entry)) for entry in found])
    assert "\\u001b" not in shown
    text = nodes_file.read(config)
    if not found[0].machine.whole:
        with pytest.raises(AdoptError, match="did not tell its processors and memory"):
            adopt(load_site(config), found, Wanted("cn005", "10.10.1.5"), text)
        return
    adopt(load_site(config), found, Wanted("cn005", "10.10.1.5"), text)
    assert nodes_file.write(config, text.text) == []
    assert list(load_site(config).nodes)[:-1] and load_site(config).nodes["cn005"].address == "10.10.1.5"


def test_machines_come_in_the_order_of_their_reports() -> None:
    found = machines([report("52:54:00:00:09:02", 5), report("52:54:00:00:09:01", 9), {"mac": "x"}])
    assert [entry.mac[-2:] for entry in found] == ["02", "01"]


def states(config: Path, *reports: dict[str, Any]) -> list[tuple[str, str, str]]:
    found = match(load_site(config), machines(reports))
    return [(entry.state, entry.node, entry.by) for entry in found]


def test_who_is_who(config: Path) -> None:
    lldp = {"lldp": {"switch": "leaf1", "port": "Ethernet2"}}
    port_card = {"name": "eno1", "mac": "52:54:00:00:09:03", **lldp}
    known = report("52:54:00:00:01:01", serial="S1", bmc={})
    assert states(config, known) == [("known", "cn001", "mac")]
    assert states(config, report("52:54:00:00:00:21", serial="L1")) == [("incomplete", "login01", "mac")]
    assert states(config, report(serial="S2", bmc={})) == [("moved", "cn002", "serial")]
    by_port = report("52:54:00:00:09:03", cards=[port_card], bmc={})
    assert states(config, by_port) == [("moved", "mig02", "switch port")]
    assert states(config, report()) == [("new", "", "")]


def test_a_second_card_is_the_same_machine(config: Path) -> None:
    cards = [{"mac": "52:54:00:00:09:01"}, {"mac": "52:54:00:00:01:03"}]
    assert states(config, report(cards=cards, serial="S3", bmc={})) == [("known", "cn003", "mac")]


def changed_lines(before: str, after: str) -> list[str]:
    old = before.split("\n")
    return [line for line in after.split("\n") if line not in old]


def write(config: Path, wanted: Wanted, *reports: dict[str, Any]) -> list[str]:
    """Adopt and write; the lines that differ."""
    site = load_site(config)
    text = nodes_file.read(config)
    before = text.text
    adopt(site, match(site, machines(reports)), wanted, text)
    assert nodes_file.write(config, text.text) == []
    return changed_lines(before, text.text)


def test_a_replaced_machine_gets_the_node_s_name(config: Path) -> None:
    lines = write(config, Wanted(), report("52:54:00:00:09:09", serial="S2", bmc={}))
    assert len(lines) == 1
    site = load_site(config)
    assert site.nodes["cn002"].mac == "52:54:00:00:09:09"
    assert [site.nodes[f"cn00{n}"].mac[-5:] for n in (1, 3, 4)] == ["01:01", "01:03", "01:04"]


def test_a_machine_at_the_old_switch_port(config: Path) -> None:
    card = {"mac": "52:54:00:00:09:03", "lldp": {"switch": "leaf1", "port": "Ethernet2"}}
    write(config, Wanted(), report("52:54:00:00:09:03", cards=[card], serial="NEW9"))
    node = load_site(config).nodes["mig02"]
    assert (node.mac, node.serial, node.bmc) == ("52:54:00:00:09:03", "NEW9", "10.11.9.1")


def test_new_machines(config: Path) -> None:
    comment = "# The racks by the window.\n"
    path = config / "nodes.yml"
    path.write_text(path.read_text("utf-8").replace("compute:\n", f"{comment}compute:\n"), "utf-8")
    big = {"memory_mib": 515000, "gpus": [{"vendor": "nvidia", "device": "2330"}] * 8}
    lines = write(
        config,
        Wanted("cn[005-007]", "10.10.1.5"),
        report("52:54:00:00:09:01", 1),
        report("52:54:00:00:09:02", 2, serial="NEW2", bmc={"address": "10.11.9.2"}, **big),
        report("52:54:00:00:09:03", 3, serial="NEW3", bmc={"address": "192.0.2.3"}, **big),
    )
    assert comment in path.read_text("utf-8")
    assert len(lines) == 4, lines  # three nodes and one profile
    site = load_site(config)
    assert site.nodes["cn005"].profile == "cpu"
    new = site.profiles[site.nodes["cn006"].profile]
    assert (new.gpus[0].type, new.gpus[0].count, new.memory.mb) == ("h100", 8, 514816)
    assert site.nodes["cn007"].profile == site.nodes["cn006"].profile
    assert (site.nodes["cn006"].bmc, site.nodes["cn007"].bmc) == ("10.11.9.2", "")
    assert site.nodes["cn007"].address == "10.10.1.7"


def test_a_planned_node_gets_its_machine(config: Path) -> None:
    path = config / "nodes.yml"
    path.write_text(
        path.read_text("utf-8") + "  - {name: cn005, address: 10.10.1.5, profile: cpu}\n", "utf-8"
    )
    write(config, Wanted("cn005"), report())
    node = load_site(config).nodes["cn005"]
    assert (node.mac, node.serial, node.bmc) == ("52:54:00:00:09:01", "NEW1", "10.11.9.1")


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (Wanted("cn[005-006]", "10.10.1.5"), "2 names, but 1 machines"),
        (Wanted("cn005"), "has no address"),
        (Wanted("cn005", "10.10.1.300"), "is no address"),
    ],
)
def test_what_cannot_be_written(config: Path, wanted: Wanted, says: str) -> None:
    site = load_site(config)
    with pytest.raises(AdoptError, match=says):
        adopt(site, match(site, machines([report()])), wanted, nodes_file.read(config))


def test_two_machines_of_one_serial_number(config: Path) -> None:
    site = load_site(config)
    twins = machines([report("52:54:00:00:09:01", serial="S2"), report("52:54:00:00:09:02", serial="S2")])
    with pytest.raises(AdoptError, match="Two machines say that they are cn002"):
        adopt(site, match(site, twins), Wanted(), nodes_file.read(config))


def test_a_file_with_mistakes_is_taken_back(config: Path) -> None:
    before = (config / "nodes.yml").read_bytes()
    mistakes = nodes_file.write(config, before.decode().replace("10.10.0.21", "10.10.0.11"))
    assert [mistake.code for mistake in mistakes] == ["duplicate-address"]
    assert (config / "nodes.yml").read_bytes() == before


def test_a_suggestion(config: Path) -> None:
    site = load_site(config)
    found = match(site, machines([report("52:54:00:00:09:01"), report("52:54:00:00:09:02")]))
    assert suggestion(site, found) == "rackloom node discover --write --name 'pod[02-03]' --address 10.10.4.2"
    assert suggestion(site, []) == ""


def test_a_profile_fits_what_it_was_made_of() -> None:
    for changes in (
        {},
        {"firmware": "bios"},
        {"gpus": [{"vendor": "nvidia", "device": "ffff"}]},
        {"memory_mib": 900},
    ):
        found = one(**changes)
        profile = Profile.model_validate(yaml.safe_load(discovery.profile_text(found)))
        assert discovery.fits(profile, found)
        other = {"sockets": 1, "cores": 32, "threads": 2}
        assert not discovery.fits(profile, one(**{**changes, "cpus": other}))


# ---------------------------------------------------------------- the text of nodes.yml

PIECES = {
    "flow": "compute: [{name: a, address: 10.0.0.1}]\n",
    "block": "compute:\n  - name: a # first\n    address: 10.0.0.1 # here\n# end\n",
    "indented": "compute:\n    -   name: a\n        address: 10.0.0.1\n\n\n# more\n",
    "no-newline": "compute:\n- {name: a, address: 10.0.0.1}",
    "quoted": "compute:\n- {name: 'a', \"address\": '10.0.0.1', }\n",
    "empty-key": "compute:\n  - name: a\n    mac:\n    address: 10.0.0.1\n",
    "old-value": 'compute:\n  - name: a\n    mac: "52:54:00:00:00:99"  # the old one\n    address: 10.0.0.1\n',
    "umlauts": "# Rücken\ncompute:\n  - {name: a, address: 10.0.0.1} # Höhe\n",
}


@pytest.mark.parametrize("name", PIECES)
def test_put_into_one(name: str) -> None:
    text = NodesText(PIECES[name])
    text.put("a", "mac", "52:54:00:00:00:01")
    text.put("a", "serial", "S 1")
    text.add_node("compute", {"name": "b", "address": "10.0.0.2"})
    text.add_profile("cpu", "{cores: 1}")
    data = yaml.safe_load(text.text)
    first, second = data["compute"]
    assert first == {"name": "a", "address": "10.0.0.1", "mac": "52:54:00:00:00:01", "serial": "S 1"}
    assert second == {"name": "b", "address": "10.0.0.2"}
    assert data["profiles"] == {"cpu": {"cores": 1}}
    for line in PIECES[name].split("\n"):
        if "#" in line:
            assert line[line.index("#") :] in text.text


@pytest.mark.parametrize(
    ("mac", "expected"),
    [
        ("", {"b": "x:y"}),
        (", mac: ''", {"b": "x:y"}),
        (", mac: [p, q, r]", ["p", "x:y", "r"]),
        (", mac: {a: p}", {"a": "p", "b": "x:y"}),
        (", mac: {b: p}", {"b": "x:y"}),
        (", mac: {}", {"b": "x:y"}),
        (', mac: "p[1-3]"', ["p1", "x:y", "p3"]),
        (', mac: ["p[1-2]", q]', ["p1", "x:y", "q"]),
        (', mac: "p[1-2]"', None),
        (", mac: p", None),
    ],
)
def test_put_into_many(mac: str, expected: Any) -> None:
    text = NodesText(f'compute:\n  - {{name: "[a-c]", address: 10.0.0.1{mac}}}\n'.replace("[a-c]", "a,b,c"))
    if expected is None:
        with pytest.raises(EditError, match="line 2"):
            text.put("b", "mac", "x:y")
        return
    text.put("b", "mac", "x:y")
    assert yaml.safe_load(text.text)["compute"][0]["mac"] == expected


def test_put_into_blocks() -> None:
    text = NodesText(
        "compute:\n  - name: a,b,c\n    mac:\n      a: p # the first\n    # about the list\n    serial:\n"
        "      - s1 # one\n      - s2 # two\n      - s3\n  - name: d\n"
    )
    text.put("b", "mac", "x:y")
    text.put("b", "serial", "S2")
    text.add_node("compute", {"name": "e"})
    data = yaml.safe_load(text.text)["compute"]
    assert data[0] == {"name": "a,b,c", "mac": {"a": "p", "b": "x:y"}, "serial": ["s1", "S2", "s3"]}
    assert [entry["name"] for entry in data] == ["a,b,c", "d", "e"]
    assert all(comment in text.text for comment in ("# the first", "# about the list", "# one", "# two"))


@pytest.mark.parametrize(
    "start", ["compute: []\n", "compute:\n", "compute: # none yet\n", "{}\n", "other: 1\n"]
)
def test_the_first_node_and_profile(start: str) -> None:
    if start == "{}\n":
        with pytest.raises((EditError, IndexError)):
            NodesText(start).add_profile("cpu", "{cores: 1}")
        return
    text = NodesText(start)
    text.add_node("compute", {"name": "a"})
    text.add_profile("cpu", "{cores: 1}")
    data = yaml.safe_load(text.text)
    assert data["compute"] == [{"name": "a"}] and data["profiles"] == {"cpu": {"cores": 1}}


# ---------------------------------------------------------------- the module and the command


def module(folder: Path) -> dict[str, Any]:
    """Run as Ansible runs it."""
    file = home() / "plugins/modules/discovered_machines.py"
    arguments = json.dumps({"ANSIBLE_MODULE_ARGS": {"path": str(folder), "_ansible_remote_tmp": str(folder)}})
    done = subprocess.run(
        [sys.executable, str(file)], input=arguments, capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )  # fmt: skip
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_the_module(tmp_path: Path) -> None:
    folder = tmp_path / "discovered"
    assert module(folder)["rackloom_facts"] == {"machines": [], "unreadable": 0}
    folder.mkdir()
    (folder / "52-54-00-00-09-01.json").write_text(json.dumps(report()["report"]), "utf-8")
    (folder / "52-54-00-00-09-02.json").write_text("{", "utf-8")
    (folder / "52-54-00-00-09-03.json").write_text("[" * 50_000, "utf-8")
    (folder / "52-54-00-00-09-04.json").write_text(json.dumps({"x": "y" * 70_000}), "utf-8")
    (folder / "other.json").write_text("{}", "utf-8")
    answer = module(folder)
    (found,) = answer["rackloom_facts"]["machines"]
    assert answer["changed"] is False
    assert found["mac"] == "52:54:00:00:09:01" and found["report"]["serial"] == "NEW1"
    assert answer["rackloom_facts"]["unreadable"] == 4
    assert machine(found["mac"], found["report"]).whole


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the boot server holds; Ansible is left out."""
    held = [report("52:54:00:00:09:01", 1), report("52:54:00:00:09:09", 2, serial="S2", bmc={})]
    monkeypatch.setattr(node_cli, "_reports", lambda *_, **__: held)
    return held


def answer_of(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, dict[str, Any]]:
    code = run(["node", "discover", "--json", *argv])
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return int(code), answer  # type: ignore[arg-type]


def test_the_command(config: Path, reported: Any, capsys: pytest.CaptureFixture[str]) -> None:
    before = (config / "nodes.yml").read_bytes()
    code, answer = answer_of(capsys, "--config", str(config))
    assert code == 0 and [one["state"] for one in answer["data"]["machines"]] == ["new", "moved"]
    assert answer["data"]["suggestion"].endswith("--name 'pod02' --address 10.10.4.2")
    assert (config / "nodes.yml").read_bytes() == before
    code, answer = answer_of(
        capsys, "--config", str(config), "--write", "--name", "cn005", "--address", "10.10.1.5"
    )
    assert code == 0 and {one["name"] for one in answer["data"]["changes"]} == {"cn005", "cn002"}
    site = load_site(config)
    assert site.nodes["cn002"].mac == "52:54:00:00:09:09" and site.nodes["cn005"].serial == "NEW1"
    code, answer = answer_of(capsys, "--config", str(config), "--write")
    assert code == 0 and answer["data"]["changes"] == []
    assert run(["node", "discover", "--config", str(config)]) == 0
    assert "52:54:00:00:09:01" in capsys.readouterr().out


def test_the_command_takes_single_machines(
    config: Path, reported: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    _, answer = answer_of(capsys, "52-54-00-00-09-09", "--config", str(config))
    assert [one["node"] for one in answer["data"]["machines"]] == ["cn002"]


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["--name", "cn005"], "usage"),
        (["--write", "--list", "gpu"], "usage"),
        (["nonsense"], "usage"),
        (["--write", "--name", "cn005"], "not_written"),
        (["--write", "--name", "cn[5", "--address", "10.10.1.5"], "not_written"),
        (["--write", "--name", "cn005", "--address", "10.10.0.11"], "duplicate-address"),
    ],
)
def test_the_command_refuses(
    config: Path, reported: Any, capsys: pytest.CaptureFixture[str], argv: list[str], code: str
) -> None:
    before = (config / "nodes.yml").read_bytes()
    status, answer = answer_of(capsys, *argv, "--config", str(config))
    assert status == 2 and answer["errors"][0]["code"] == code
    assert (config / "nodes.yml").read_bytes() == before


def test_a_site_without_a_boot_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(secrets.KEY_VARIABLE, raising=False)
    scaffold.init(tmp_path / "site")
    secrets.init(tmp_path / "site")
    code, answer = answer_of(capsys, "--config", str(tmp_path / "site"))
    assert code == 2 and answer["errors"][0]["code"] == "no_provisioner"


def test_the_reports_come_through_ansible(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real playbook, module and inventory; the boot server is this machine."""
    monkeypatch.delenv(secrets.KEY_VARIABLE, raising=False)
    monkeypatch.delenv("RACKLOOM_CONFIG", raising=False)
    secrets.init(config)
    (config / "host_vars").mkdir()
    values = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "boot_server_path": str(tmp_path / "boot"),
    }
    (config / "host_vars/mgmt03.yml").write_text(json.dumps(values), "utf-8")
    folder = tmp_path / "boot/http/discovered"
    folder.mkdir(parents=True)
    told = report(product="{{ lookup('pipe', 'touch /nowhere') }}")["report"]
    (folder / "52-54-00-00-09-01.json").write_text(json.dumps(told), "utf-8")
    code, answer = answer_of(capsys, "--config", str(config))
    assert code == 0, answer
    (found,) = answer["data"]["machines"]
    assert (found["mac"], found["serial"], found["state"]) == ("52:54:00:00:09:01", "NEW1", "new")
    assert found["model"].startswith("Racks {{ lookup(")
