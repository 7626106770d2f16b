"""Which disk is taken, and how it is cut up: decided before anything is written."""

from __future__ import annotations

import json

import pytest

from rackloom.image.agent import disks
from rackloom.image.agent.disks import Disk, Part, Plan
from rackloom.image.agent.trouble import TroubleError

GIB = 1 << 30
SMALL, LARGE = Disk("/dev/sda", 20 * GIB), Disk("/dev/nvme0n1", 900 * GIB)
STICK = Disk("/dev/sdz", 8 * GIB, removable=True)
NEED = 2 * GIB


def layout(*partitions: tuple[str, str, str], **more: object) -> dict[str, object]:
    keys = ("mount", "size", "filesystem")
    return {"partitions": [dict(zip(keys, part, strict=True)) for part in partitions], **more}


def test_takes_the_smallest_fixed_disk_that_is_large_enough() -> None:
    assert disks.plan({}, [LARGE, STICK, SMALL], NEED).disks == (SMALL,)
    assert disks.plan(layout(("/", "50G", "ext4")), [LARGE, STICK, SMALL], NEED).disks == (LARGE,)


def test_takes_the_disk_that_is_named() -> None:
    assert disks.plan({"disks": ["/dev/nvme0n1"]}, [SMALL, LARGE], NEED).disks == (LARGE,)
    assert disks.plan({"disks": ["sda"]}, [SMALL, LARGE], NEED).disks == (SMALL,)
    with pytest.raises(TroubleError, match=r"no disk sdq; it sees: /dev/sda, /dev/nvme0n1"):
        disks.plan({"disks": ["sdq"]}, [SMALL, LARGE], NEED)


def test_a_mirror_takes_two_disks() -> None:
    other = Disk("/dev/sdb", 30 * GIB)
    assert disks.plan({"raid": "1"}, [LARGE, other, SMALL], NEED).disks == (SMALL, other)
    with pytest.raises(TroubleError, match="only 1 fixed disk"):
        disks.plan({"raid": "1"}, [SMALL, STICK], NEED)
    with pytest.raises(TroubleError, match="takes two disks"):
        disks.plan({"raid": "1", "disks": ["sda"]}, [SMALL, LARGE], NEED)


@pytest.mark.parametrize("there", [[], [STICK], [SMALL._replace(read_only=True)]])
def test_no_disk_says_what_the_node_sees(there: list[Disk]) -> None:
    with pytest.raises(TroubleError, match="no fixed disk") as caught:
        disks.plan({}, there, NEED)
    assert all(disk.path in str(caught.value) for disk in there)
    assert caught.value.cure


def test_too_small_a_disk_is_named_with_both_sizes() -> None:
    with pytest.raises(TroubleError, match=r"disk too small: /dev/sda has 20\.0 GiB .* need 30\.3 GiB"):
        disks.plan(layout(("/", "30G", "ext4")), [SMALL], NEED)
    with pytest.raises(TroubleError, match="disk too small: /dev/sda"):
        disks.plan({"disks": ["sda"]}, [SMALL], 40 * GIB)


def test_root_must_hold_the_image() -> None:
    with pytest.raises(TroubleError, match=r"gives / 1024 MiB and the image needs 2624 MiB"):
        disks.plan(layout(("/", "1G", "ext4")), [SMALL], NEED)
    with pytest.raises(TroubleError, match="no partition for /"):
        disks.plan(layout(("/scratch", "rest", "xfs")), [SMALL], NEED)


@pytest.mark.parametrize("size", ["", "0G", "many", "1.5G", "-1G"])
def test_sizes_that_are_none(size: str) -> None:
    with pytest.raises(TroubleError):
        disks.mib(size)


def test_sizes() -> None:
    assert [disks.mib(text) for text in ("512M", "20G", "20 GiB", "2t", "rest")] == [
        512,
        20480,
        20480,
        2097152,
        0,
    ]


def test_two_rests_are_refused() -> None:
    with pytest.raises(TroubleError, match="more than one"):
        disks.plan(layout(("/", "rest", "ext4"), ("/scratch", "rest", "xfs")), [SMALL], NEED)


def test_the_rest_is_cut_last_and_keeps_its_number() -> None:
    plan = disks.plan(layout(("/", "rest", "ext4"), ("", "4G", "swap")), [SMALL], NEED)
    words = disks.table(plan)
    assert words.index("--new=4:0:+4096M") < words.index("--new=3:0:0")
    assert "--typecode=4:8200" in words and "--typecode=3:8300" in words
    assert [plan.device(part) for part in plan.parts] == ["/dev/sda3", "/dev/sda4"]


def test_both_firmwares_get_their_partition() -> None:
    words = disks.table(disks.plan({}, [SMALL], NEED))
    assert {"--typecode=1:EF02", "--typecode=2:EF00"} <= set(words)


def test_partitions_of_disks_that_end_in_a_digit() -> None:
    assert LARGE.partition(3) == "/dev/nvme0n1p3"
    assert SMALL.partition(3) == "/dev/sda3"


def test_a_mirror_formats_its_arrays() -> None:
    plan = Plan((SMALL, LARGE), True, (Part("/", "ext4", 0), Part("", "swap", 1024)))
    assert [plan.device(part) for part in plan.parts] == ["/dev/md0", "/dev/md1"]
    assert disks.table(plan).count("--typecode=3:FD00") == 1


def test_lsblk_is_understood() -> None:
    told = {
        "blockdevices": [
            {
                "path": "/dev/sda",
                "type": "disk",
                "size": 10,
                "rm": False,
                "ro": False,
                "model": "M ",
                "tran": "sata",
            },
            {"path": "/dev/sdb", "type": "disk", "size": "10", "rm": "0", "ro": "1"},
            {"path": "/dev/sdc", "type": "disk", "size": 10, "rm": False, "ro": False, "tran": "usb"},
            {"path": "/dev/sdd", "type": "disk", "size": 0, "rm": True, "ro": False},
            {"path": "/dev/loop0", "type": "loop", "size": 10, "rm": False, "ro": True},
            {"path": "/dev/zram0", "type": "disk", "size": 10, "rm": False, "ro": False},
        ]
    }
    found = {disk.path: disk for disk in disks.found(json.dumps(told))}
    assert list(found) == ["/dev/sda", "/dev/sdb", "/dev/sdc"]
    assert found["/dev/sda"].model == "M" and not found["/dev/sda"].removable
    assert found["/dev/sdb"].read_only
    assert found["/dev/sdc"].removable
