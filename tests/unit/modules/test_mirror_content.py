"""Files are cut into sendings and put together again, whatever their sizes."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleActionFail
from plugins.action import mirror_content as mirror_action
from plugins.action.mirror_content import Part, packed


def whole(sendings: list[list[Part]]) -> dict[str, list[tuple[int, int]]]:
    found: dict[str, list[tuple[int, int]]] = {}
    for parts in sendings:
        for name, _, _, offset, length in parts:
            found.setdefault(name, []).append((offset, length))
    return found


def test_parts_are_in_order_and_nothing_is_lost() -> None:
    sizes = {"empty": 0, "small": 3, "exact": 7, "large": 25, "last": 1}
    sendings = list(packed([(name, "", size) for name, size in sizes.items()], limit=10))
    assert all(sum(part[4] for part in parts) <= 10 for parts in sendings)
    found = whole(sendings)
    for name, size in sizes.items():
        at = 0
        for offset, length in found[name]:
            assert offset == at
            at += length
        assert at == size


def test_a_file_ends_at_a_sendings_end() -> None:
    sendings = list(packed([("one", "", 10), ("two", "", 10)], limit=10))
    assert [len(parts) for parts in sendings] == [1, 1]


@pytest.mark.parametrize(("machine", "taken"), [("x86_64", True), ("aarch64", False), ("riscv64", False)])
def test_a_bundle_for_other_machines_is_refused(machine: str, taken: bool) -> None:
    rows = [{"path": "apt/a.deb", "arch": "amd64"}, {"path": "apt/b.deb", "arch": "all"}]
    if taken:
        mirror_action._refuse_other_machines(rows, machine)
        return
    with pytest.raises(
        AnsibleActionFail, match=r"is for amd64, and this host is .*nothing was copied.*--arch"
    ):
        mirror_action._refuse_other_machines(rows, machine)


def test_room_is_asked_for_before_anything_is_copied() -> None:
    mirror_action._refuse_without_room("/srv", 10 << 20, 12 << 20)
    with pytest.raises(AnsibleActionFail, match=r"needs 10 MiB more in /srv, where 9 MiB are free"):
        mirror_action._refuse_without_room("/srv", 10 << 20, 9 << 20)
