"""Nodes leave nodes.yml as a person would take them out."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from rackloom.hardware.nodes_file import NodesText
from rackloom.site.ranges import expand
from rackloom.site.yaml_text import EditError

TEXT = """\
# the racks
profiles:
  dgx: {cores: 8, memory: 64G}

management:
  - {name: mgmt01, address: 10.0.0.1}   # stays
  - name: mgmt02
    address: 10.0.0.2   # the second
    mac: 02:00:00:00:00:02

  # the third
  - name: mgmt03
    address: 10.0.0.3
login:
  - {name: login01, address: 10.0.0.9}
compute:
  - name: gpu[001-004]   # one rack
    address: 10.0.1.1
    profile: dgx
    mac: [02:00:00:00:01:01, 02:00:00:00:01:02, 02:00:00:00:01:03, 02:00:00:00:01:04]
    serial: {gpu002: S2, gpu003: S3}
    bmc:
      gpu002: 10.9.0.2
      gpu004: 10.9.0.4
  - {name: cn01, address: 10.0.2.1, profile: dgx}
"""
VALUES = {
    f"gpu00{number}": {"address": f"10.0.1.{number}", "mac": f"02:00:00:00:01:0{number}"}
    for number in range(1, 5)
}


def without(name: str, text: str = TEXT, values: Any = None) -> tuple[str, Any]:
    edited = NodesText(text)
    edited.remove_node(name, VALUES if values is None else values)
    return edited.text, yaml.safe_load(edited.text)


@pytest.mark.parametrize("name", ["mgmt01", "mgmt02", "mgmt03", "cn01"])
def test_an_entry_of_its_own_goes_and_all_others_stay(name: str) -> None:
    text, data = without(name)
    before = yaml.safe_load(TEXT)
    for part in ("management", "login", "compute"):
        assert data[part] == [entry for entry in before[part] if entry["name"] != name]
    assert set(text.splitlines()) <= set(TEXT.splitlines())
    assert "# one rack" in text and "# the racks" in text


def test_the_only_entry_leaves_an_empty_list() -> None:
    text, data = without("login01")
    assert data["login"] == []
    assert data["compute"] == yaml.safe_load(TEXT)["compute"]
    assert "# the third" in text


@pytest.mark.parametrize("name", ["gpu001", "gpu002", "gpu003", "gpu004"])
def test_a_node_leaves_its_range_and_the_others_keep_what_they_had(name: str) -> None:
    text, data = without(name)
    entry = data["compute"][0]
    rest = [each for each in VALUES if each != name]
    assert expand(entry["name"]) == rest
    for key in ("address", "mac"):
        written = entry[key]
        got = expand(written) if isinstance(written, str) and "[" in written else written
        assert got == [VALUES[each][key] for each in rest]
    before = yaml.safe_load(TEXT)["compute"][0]
    for key in ("serial", "bmc"):
        assert entry[key] == {each: value for each, value in before[key].items() if each != name}
    assert "# one rack" in text


def test_all_of_a_range_may_leave_one_after_the_other() -> None:
    text, data = TEXT, yaml.safe_load(TEXT)
    for number in range(1, 5):
        rest = {name: value for name, value in VALUES.items() if name in text or number < 4}
        text, data = without(f"gpu00{number}", text, rest)
    assert [entry["name"] for entry in data["compute"]] == ["cn01"]


def test_a_list_in_brackets_loses_its_item_and_a_comma() -> None:
    text = "compute: [{name: a1, address: 10.0.0.1}, {name: a2, address: 10.0.0.2}, {name: a3, address: 10.0.0.3}]\n"
    for name in ("a1", "a2", "a3"):
        _, data = without(name, text)
        assert [entry["name"] for entry in data["compute"]] == [
            each for each in ("a1", "a2", "a3") if each != name
        ]


def test_a_value_for_one_node_alone_goes_with_it() -> None:
    text = "compute:\n  - {name: 'a[1-2]', address: 10.0.0.1, serial: {a1: S1}}\n"
    _, data = without("a1", text, {"a2": {"address": "10.0.0.2"}})
    assert data["compute"] == [{"name": "a2", "address": "10.0.0.2", "serial": ""}]


def test_what_cannot_be_edited_is_said() -> None:
    text = "compute:\n  - name: a[1-2]\n    mac:\n      - 02:00:00:00:00:01\n      - 02:00:00:00:00:02\n"
    with pytest.raises(EditError, match="line 4"):
        without("a1", text, {"a2": {"mac": "02:00:00:00:00:02"}})
    with pytest.raises(EditError, match=r"not in nodes\.yml"):
        without("a9", text)
