from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from rackloom.site.gpus import Gpus, gpus
from rackloom.site.paths import home

PCI_IDS = Path("/usr/share/misc/pci.ids")


def test_a_device_is_one_product() -> None:
    assert gpus().by_pci("0x20B2") == "a100-sxm4-80gb"
    assert gpus().by_pci("20b0") == "a100-sxm4-40gb"
    assert gpus().by_pci("ffff") == ""


def test_a_type_has_all_its_products() -> None:
    assert set(gpus().of_type("H100")) == {"h100-sxm5-80gb", "h100-pcie-80gb", "h100-sxm5-94gb"}


@pytest.mark.parametrize(
    ("branch", "product", "kinds"),
    [
        ("580", "v100-sxm2-32gb", ["proprietary"]),
        ("590", "v100-sxm2-32gb", []),
        ("580", "a100-sxm4-80gb", ["open", "proprietary"]),
        ("535", "a100-sxm4-80gb", ["proprietary", "open"]),
        ("570", "b200", ["open"]),
        ("550", "b200", []),
        ("570", "b300", []),
        ("580", "gh200-96gb", ["open"]),
    ],
)
def test_a_branch_serves_a_product_with_some_modules(branch: str, product: str, kinds: list[str]) -> None:
    assert gpus().kinds(branch, product) == kinds


@pytest.mark.parametrize(
    ("product", "layout", "says"),
    [
        ("a100-sxm4-40gb", {"1g.5gb": 7}, ""),
        ("a100-sxm4-40gb", {"1g.5gb": 2, "2g.10gb": 1, "3g.20gb": 1}, ""),
        ("a100-sxm4-40gb", {"3g.20gb": 2}, ""),
        ("a100-sxm4-40gb", {"4g.20gb": 1, "3g.20gb": 1}, ""),
        ("a100-sxm4-40gb", {"3g.20gb": 2, "1g.5gb": 1}, "no room"),
        ("a100-sxm4-40gb", {"4g.20gb": 2}, "no room"),
        ("a100-sxm4-40gb", {"2g.10gb": 3, "1g.5gb": 1}, ""),
        ("a100-sxm4-40gb", {"2g.10gb": 3, "1g.5gb": 2}, "no room"),
        ("a100-sxm4-40gb", {"1g.5gb": 8}, "at most 7"),
        ("a100-sxm4-40gb", {"1g.5gb+me": 2}, "room for 1"),
        ("a100-sxm4-40gb", {"3g.40gb": 1}, "no slice 3g.40gb"),
        ("a30", {"1g.6gb": 2, "2g.12gb": 1}, ""),
        ("a30", {"1g.6gb": 5}, "no room"),
        ("b200", {"1g.23gb": 2, "2g.45gb": 1, "3g.90gb": 1}, ""),
        ("t4", {"1g.5gb": 1}, "it has: none"),
    ],
)
def test_a_layout_fits_or_not(product: str, layout: dict[str, int], says: str) -> None:
    found = gpus().misfit(product, layout)
    assert (not found) if not says else says in found


@pytest.mark.parametrize(
    ("products", "switches", "name", "services"),
    [
        (["h100-sxm5-80gb"], ["22a3"], "hgx-h100", ["fabric_manager"]),
        (["a100-sxm4-40gb"], [], "sxm-pairs", []),
        (["b200"], [], "hgx-b200", ["fabric_manager", "nvlsm"]),
        (["gb200"], [], "nvl72", ["imex"]),
        (["t4"], [], "pcie", []),
        ([], [], "pcie", []),
    ],
)
def test_a_machine_is_a_platform(
    products: list[str], switches: list[str], name: str, services: list[str]
) -> None:
    found = gpus().platform(products, switches)
    assert (found.name, list(found.services)) == (name, services)


@pytest.mark.parametrize(
    ("operator", "kubernetes", "says"),
    [
        ("26.7.0", "1.36.4", ""),
        ("v26.3.2", "1.35.6", ""),
        ("26.7.0", "1.32.1", "1.33 to 1.36"),
        ("26.7.0", "1.37.0", "1.33 to 1.36"),
        ("25.10.1", "1.35.0", "No release 25.10"),
    ],
)
def test_an_operator_is_for_some_releases(operator: str, kubernetes: str, says: str) -> None:
    found = gpus().operator_misfit(operator, kubernetes)
    assert (not found) if not says else says in found


def _data() -> Any:
    return yaml.safe_load((home() / "inventory" / "gpus.yml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"since": "999"}, "no branch 999"),
        ({"pci": ["20b2"]}, "20b2 is"),
        ({"mig": {"1g.5gb": "one"}}, "do not go together"),
        ({"cut": "seven", "mig": {"1g.5gb": "none"}}, "no slot is called none"),
        ({"colour": "green"}, "colour"),
    ],
)
def test_data_that_contradicts_itself_is_refused(change: dict[str, Any], says: str) -> None:
    data = _data()
    data["products"]["t4"] |= change
    with pytest.raises(ValidationError, match=re.escape(says)):
        Gpus.model_validate(data)


def test_slices_are_no_larger_than_the_gpu() -> None:
    for name, one in gpus().products.items():
        for slice_name, slot in one.mig.items():
            size = int(re.search(r"\.(\d+)gb", slice_name)[1])  # type: ignore[index]
            assert size <= one.memory_gb, name
            if slot == "whole":
                assert size == one.memory_gb, name


@pytest.mark.skipif(not PCI_IDS.is_file(), reason="the package pci.ids is not installed")
def test_devices_are_what_the_public_list_calls_them() -> None:
    """By the number of the model; what the list lacks is newer than it."""
    vendor = PCI_IDS.read_text(encoding="utf-8", errors="replace").partition("\n10de  ")[2]
    listed = dict(
        re.findall(r"^\t([0-9a-f]{4})  (.*)$", re.split(r"\n[0-9a-f]{4}  ", vendor)[0], re.MULTILINE)
    )
    compared = 0
    for one in gpus().products.values():
        for device in one.pci:
            title = re.search(r"\[(.*)\]", listed.get(device, ""))
            if title is None:
                continue
            assert re.search(r"\d+", one.type)[0] in title[1], (device, title[1])  # type: ignore[index]
            compared += 1
    assert compared > 25
