"""The agent's pure parts: orders, identity, boot loader's files, discovery."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rackloom.image.agent import digests, discover, identity, install, loader, order
from rackloom.image.agent.disks import Disk, Part, Plan
from rackloom.image.agent.trouble import TroubleError

LINE = (
    "BOOT_IMAGE=vmlinuz boot=live fetch=http://10.0.0.1:8080/images/c/01/root.squashfs initrd=initrd ip=dhcp ro "
    "rackloom.url=http://10.0.0.1:8080/ rackloom.mode=install rackloom.mac=52-54-00-AA-BB-01 rackloom.image=c "
    "rackloom.id=0123456789abcdef console=ttyS0,115200n8 iommu=pt hugepages=4"
)
NODE: dict[str, Any] = {
    "name": "n1", "domain": "c.example", "address": "10.0.0.7", "prefix": 24, "mac": "52:54:00:aa:bb:01",
    "router": "10.0.0.254", "name_servers": ["10.0.0.1", "10.0.0.2"], "search": ["c.example", "example"],
    "time_servers": ["10.0.0.1"], "timezone": "Europe/Berlin", "ssh_keys": ["ssh-ed25519 AAAA me"],
}  # fmt: skip


def test_an_order_is_read_from_the_command_line() -> None:
    found = order.parse(LINE)
    assert (found.mode, found.url, found.image, found.image_id) == (
        "install", "http://10.0.0.1:8080", "c", "0123456789abcdef",
    )  # fmt: skip
    assert (found.mac, found.mac_path) == ("52:54:00:aa:bb:01", "52-54-00-aa-bb-01")
    assert found.options == "iommu=pt hugepages=4"
    assert found.interface == found.mac
    assert order.parse(f"{LINE} BOOTIF=01-52-54-00-AA-BB-99").interface == "52:54:00:aa:bb:99"


@pytest.mark.parametrize(
    "word", ["rackloom.mode", "rackloom.url", "rackloom.mac", "rackloom.image", "rackloom.id"]
)
def test_a_missing_word_is_named(word: str) -> None:
    line = " ".join(part for part in LINE.split() if not part.startswith(f"{word}="))
    with pytest.raises(TroubleError, match=word):
        order.parse(line)


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(TroubleError, match="'erase'"):
        order.parse(LINE.replace("install", "erase"))


def test_identity_is_written(tmp_path: Path) -> None:
    (tmp_path / "usr/share/zoneinfo/Europe").mkdir(parents=True)
    (tmp_path / "usr/share/zoneinfo/Europe/Berlin").write_text("")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    identity.check(NODE)
    identity.write(tmp_path, NODE, stable_id=True)
    assert (tmp_path / "etc/hostname").read_text() == "n1\n"
    assert "10.0.0.7 n1.c.example n1" in (tmp_path / "etc/hosts").read_text()
    assert (
        tmp_path / "etc/resolv.conf"
    ).read_text() == "nameserver 10.0.0.1\nnameserver 10.0.0.2\nsearch c.example example\n"
    assert not (tmp_path / "etc/resolv.conf").is_symlink()
    assert (tmp_path / "etc/localtime").readlink() == Path("/usr/share/zoneinfo/Europe/Berlin")
    assert (tmp_path / "root/.ssh/authorized_keys").read_text() == "ssh-ed25519 AAAA me\n"
    first = (tmp_path / "etc/machine-id").read_text()
    identity.write(tmp_path, NODE, stable_id=True)
    assert len(first.strip()) == 32 and first != (tmp_path / "etc/machine-id").read_text()


def test_the_network_follows_the_site() -> None:
    text = identity.network(NODE)
    for line in ("MACAddress=52:54:00:aa:bb:01", "Address=10.0.0.7/24", "Gateway=10.0.0.254", "NTP=10.0.0.1"):
        assert line in text.splitlines()
    assert "Gateway" not in identity.network({**NODE, "router": ""})


@pytest.mark.parametrize(("key", "word"), [("name", "name"), ("address", "address"), ("ssh_keys", "SSH key")])
def test_a_node_nobody_could_reach_is_refused(key: str, word: str) -> None:
    with pytest.raises(TroubleError, match=word):
        identity.check({**NODE, key: None})


def test_the_mirrors_second_disk_may_die() -> None:
    plan = Plan((Disk("/dev/sda", 1), Disk("/dev/sdb", 1)), True, (Part("/", "xfs", 0),))
    text = install.fstab(plan, {"/dev/md0": "R", "/dev/sda2": "E1", "/dev/sdb2": "E2"})
    assert text.splitlines()[0] == "UUID=R / xfs defaults 0 0"
    assert "E1" in text and "E2" not in text and "nofail" in text


def test_grub_speaks_on_the_nodes_console() -> None:
    places = loader.Places("R", "R", "/boot")
    menu = loader.menu(places, "6.1", "ttyS1,57600n8", "quiet")
    assert "serial --unit=1 --speed=57600" in menu
    assert "linux /boot/vmlinuz-6.1 root=UUID=R ro console=tty0 console=ttyS1,57600n8 quiet" in menu
    assert "serial" not in loader.menu(places, "6.1", "", "")
    assert 'GRUB_CMDLINE_LINUX="console=tty0 console=ttyS1,57600n8 quiet"' in loader.settings(
        "ttyS1,57600n8", "quiet"
    )
    assert "linux /vmlinuz-6.1" in loader.menu(loader.Places("R", "B", ""), "6.1", "", "")


def test_our_boot_entry_stands_behind_the_network_one() -> None:
    listing = (
        "BootCurrent: 0003\nTimeout: 0 seconds\nBootOrder: 0000,0003,0001,0007\n"
        "Boot0000* UiApp\nBoot0001* EFI Shell\nBoot0003* UEFI PXEv4\nBoot0007* Rackloom\n"
    )
    assert loader.boot_order(listing) == ["0000", "0003", "0007", "0001"]
    assert loader.boot_order("BootOrder: 0001\nBoot0001* Disk\nBoot0002* Rackloom\n") == ["0002", "0001"]


def test_a_record_must_make_the_id() -> None:
    from rackloom.image.store import identify  # noqa: PLC0415

    files = {
        name: {"sha256": str(n) * 64, "size": n}
        for n, name in enumerate(("initrd", "root.squashfs", "vmlinuz"))
    }
    digests.check_record({"files": files}, identify(files))
    with pytest.raises(TroubleError, match="does not belong"):
        digests.check_record({"files": {**files, "vmlinuz": {"sha256": "f" * 64}}}, identify(files))
    with pytest.raises(TroubleError, match="does not belong"):
        digests.check_record({"files": None}, identify(files))


def test_a_wrong_digest_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "root.squashfs"
    path.write_bytes(b"broken on the way")
    with pytest.raises(TroubleError, match=r"digest mismatch: root\.squashfs") as caught:
        digests.check_file(path, {"files": {"root.squashfs": {"sha256": "0" * 64}}}, "root.squashfs")
    assert "publish" in caught.value.cure


def test_a_machine_is_looked_at(tmp_path: Path) -> None:
    def write(path: str, text: str) -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    write(
        "proc/cpuinfo", "processor\t: 0\nmodel name\t: Fast CPU\n\nprocessor\t: 1\nmodel name\t: Fast CPU\n"
    )
    write("proc/meminfo", "MemTotal:       16384000 kB\n")
    for number, core in enumerate((0, 0, 1, 1)):
        write(f"sys/devices/system/cpu/cpu{number}/topology/physical_package_id", "0\n")
        write(f"sys/devices/system/cpu/cpu{number}/topology/core_id", f"{core}\n")
    write("sys/class/net/lo/address", "00:00:00:00:00:00\n")
    write("sys/class/net/ens1/address", "52:54:00:AA:BB:01\n")
    write("sys/class/net/ens1/carrier", "1\n")
    (tmp_path / "sys/class/net/ens1/device").mkdir()
    for slot, kind, vendor, device in (
        ("0000:01:00.0", "0x030200", "0x10de", "0x20b5"),  # an accelerator
        ("0000:02:00.0", "0x030000", "0x1a03", "0x2000"),  # the BMC's graphics
        ("0000:03:00.0", "0x020000", "0x15b3", "0x1017"),  # a network card
    ):
        for name, text in (("class", kind), ("vendor", vendor), ("device", device)):
            write(f"sys/bus/pci/devices/{slot}/{name}", text + "\n")
    write("sys/class/dmi/id/product_serial", "ABC123\n")
    write("sys/class/dmi/id/board_serial", "To Be Filled By O.E.M.\n")
    found = discover.look("52:54:00:aa:bb:01", tmp_path)
    assert found["macs"] == ["52:54:00:aa:bb:01"] and found["cards"][0]["link"]
    assert (found["cpus"]["sockets"], found["cpus"]["cores"], found["cpus"]["threads"]) == (1, 2, 2)
    assert found["memory_mib"] == 16000
    assert found["gpus"] == [{"pci": "0000:01:00.0", "vendor": "nvidia", "device": "20b5"}]
    assert (found["serial"], found["board_serial"], found["firmware"]) == ("ABC123", "", "bios")
    json.dumps(found)


def test_the_bmc_tells_its_address() -> None:
    text = "IP Address Source  : Static\nIP Address         : 10.20.0.7\nMAC Address        : AA:00:00:00:00:01\n"
    assert discover.bmc(text) == {"address": "10.20.0.7", "mac": "aa:00:00:00:00:01"}
    assert discover.bmc("IP Address : 0.0.0.0\n") == {}
