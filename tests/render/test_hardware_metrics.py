"""Alerts look at what Debian's collectors make of disks and of a BMC: the real ones, and a BMC that speaks IPMI."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.daemons import free_port
from tests.tools import tool, unpacked

from .test_alerts import ALERTS, RULES, case, judged

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data" / "hardware"
PASSWORD = "made-up"
SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)({.*})? (\S+)$")
SYSTEM = ("prometheus-node-exporter", "moreutils", "python3-apt", "systemd-sysv", "daemon")
Metrics = dict[str, float]


@pytest.fixture(scope="module")
def collectors() -> Path:
    folder = unpacked("prometheus-node-exporter-collectors", without=SYSTEM)
    return folder / "usr" / "share" / "prometheus-node-exporter-collectors"


def libraries(folder: Path) -> str:
    return ":".join(str(path) for path in folder.glob("usr/lib/*-linux-gnu*"))


def player(folder: Path, name: str) -> Path:
    """A program that answers as the data say, by its arguments."""
    path = folder / name
    path.write_text(
        f"#!{sys.executable}\n"
        "import json, sys\n"
        f"told = json.load(open({str(DATA / f'{name}.json')!r}))[' '.join(sys.argv[1:])]\n"
        "print(told if isinstance(told, str) else json.dumps(told), end='')\n"
    )
    path.chmod(0o755)
    return path


def metrics(text: str) -> Metrics:
    """Series -> value; all that is no comment has to be one."""
    found = [SAMPLE.match(line) for line in text.splitlines() if line and not line.startswith("#")]
    assert found
    assert all(found), text
    return {f"{one[1]}{one[2] or ''}": float(one[3]) for one in found if one}


def run(*argv: object, stdin: str = "", **env: str) -> str:
    done = subprocess.run(
        [str(word) for word in argv],
        input=stdin,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return done.stdout


def well_formed(text: str) -> None:
    done = subprocess.run(
        [str(tool("prometheus", "promtool")), "check", "metrics"],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    # Names are the collectors' own: only what does not parse is an error.
    assert "error while linting" not in done.stderr, done.stderr


@pytest.fixture(scope="module")
def smart(collectors: Path, tmp_path_factory: pytest.TempPathFactory) -> Metrics:
    tmp_path = tmp_path_factory.mktemp("smart")
    script = (collectors / "smartmon.sh").read_text()
    assert "/usr/sbin/smartctl" in script
    own = tmp_path / "smartmon.sh"
    own.write_text(script.replace("/usr/sbin/smartctl", str(player(tmp_path, "smartctl"))))
    text = run("bash", own)
    well_formed(text)
    return metrics(text)


@pytest.fixture(scope="module")
def nvme(collectors: Path, tmp_path_factory: pytest.TempPathFactory) -> Metrics:
    if os.geteuid() != 0:
        pytest.skip("the collector of NVMe runs as root alone")
    tmp_path = tmp_path_factory.mktemp("nvme")
    player(tmp_path, "nvme")
    more = {}
    if not shutil.which("jq"):
        folder = unpacked("jq")
        (tmp_path / "jq").symlink_to(folder / "usr" / "bin" / "jq")
        more = {"LD_LIBRARY_PATH": libraries(folder)}
    text = run("bash", collectors / "nvme_metrics.sh", PATH=f"{tmp_path}:{os.environ['PATH']}", **more)
    well_formed(text)
    return metrics(text)


# ------------------------------------------------------------ a BMC


def record(number: int, sensor: dict[str, Any]) -> str:
    """A full sensor record, as IPMI 2.0 has it in its table 43-1, in the emulator's notation."""
    body = bytearray(47)
    body[0:4] = bytes([number, 0, 0x51, 1])
    body[5], body[7], body[8], body[9] = 0x20, number, 7, number
    body[10], body[11] = 0x7F, 0x40
    body[12], body[13], body[21], body[24] = sensor["type"], 1, sensor["unit"], sensor["times"]
    name = str(sensor["name"]).encode()
    whole = bytes(body) + bytes([0xC0 | len(name)]) + name
    return " ".join(f"0x{byte:02x}" for byte in whole[:4] + bytes([len(whole) - 5]) + whole[5:])


def commands(when: str) -> str:
    """What makes the emulator this machine."""
    lines = ["mc_setbmc 0x20", "mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr"]
    none = " ".join(["0" * 15] * 4)
    for number, sensor in enumerate(json.loads((DATA / "sensors.json").read_text()), 1):
        lines += [
            f"sensor_add 0x20 0 {number} {sensor['type']} 1",
            f"sensor_set_event_support 0x20 0 {number} enable scanning none {none}",
            f"sensor_set_value 0x20 0 {number} {sensor[when]} 0",
            f"main_sdr_add 0x20 {record(number, sensor)}",
        ]
    return "\n".join([*lines, "mc_enable 0x20"]) + "\n"


@contextmanager
def bmc(folder: Path, when: str) -> Iterator[Callable[..., str]]:
    """A BMC that listens for IPMI over the network; yields ipmitool towards it."""
    root = unpacked("openipmi")
    place = folder / when
    (place / "state").mkdir(parents=True)
    port = free_port(socket.SOCK_DGRAM)
    (place / "lan.conf").write_text(
        'name "machine"\nset_working_mc 0x20\nstartlan 1\n'
        f"addr 127.0.0.1 {port}\npriv_limit admin\nallowed_auths_admin md5\nguid {'a1' * 16}\nendlan\n"
        f'user 2 true "monitor" "{PASSWORD}" admin 10 md5\n'
    )
    (place / "commands").write_text(commands(when))
    argv = [root / "usr/bin/ipmi_sim", "-c", place / "lan.conf", "-f", place / "commands"]
    argv += ["-s", place / "state", "-n"]
    ipmitool = tool("ipmitool", "ipmitool")

    def ask(*words: str) -> str:
        # The suite is named: the emulator does not tell which it has, and knows no newer one.
        given = ["-I", "lanplus", "-C", "3", "-H", "127.0.0.1", "-p", port, "-U", "monitor", "-E", *words]
        done = subprocess.run(
            [str(word) for word in (ipmitool, *given)],
            env={**os.environ, "IPMI_PASSWORD": PASSWORD},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return done.stdout if done.returncode == 0 else ""

    with (place / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(word) for word in argv],
            env={**os.environ, "LD_LIBRARY_PATH": libraries(root)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            end = time.monotonic() + 120
            bound = f":{port:04X} "
            # Who asks before it listens waits long for nothing.
            while bound not in Path("/proc/net/udp").read_text() or not ask("-N", "1", "-R", "1", "sensor"):
                assert process.poll() is None, (place / "log").read_text()
                assert time.monotonic() < end, (place / "log").read_text()
                time.sleep(0.1)
            yield ask
        finally:
            process.kill()
            process.wait()


def sensors(collectors: Path, folder: Path, when: str) -> Metrics:
    with bmc(folder, when) as ask:
        text = run("awk", "-f", collectors / "ipmitool", stdin=ask("sensor"))
    well_formed(text)
    return metrics(text)


@pytest.fixture(scope="module")
def machine(collectors: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Metrics]:
    """What the collector says of it before and after."""
    folder = tmp_path_factory.mktemp("bmc")
    return {when: sensors(collectors, folder, when) for when in ("before", "after")}


# ------------------------------------------------------------ what is made of it


def fires(folder: Path, name: str, series: dict[str, str], labels: list[dict[str, str]]) -> str:
    """What promtool has against it that this alert fires for these labels alone."""
    told = {"at": "40m", "series": series}
    return judged(tool("prometheus", "promtool"), folder, RULES / "node.yml", [case(name, told, labels)])


def steady(found: Metrics) -> dict[str, str]:
    return {series: f"{value:f}+0x60" for series, value in found.items()}


def test_a_disk_that_fails_is_told(smart: Metrics, tmp_path: Path) -> None:
    assert smart['smartmon_device_smart_healthy{disk="/dev/sdc",type="scsi"}'] == 1
    assert smart['smartmon_temperature_celsius_raw_value{disk="/dev/sda",type="sat",smart_id="194"}'] == 33
    bad = {"disk": "/dev/sdb", "type": "sat"}
    assert fires(tmp_path, "DiskFailing", steady(smart), [bad]) == ""
    assert fires(tmp_path, "DiskFailing", steady(smart), []) != ""
    # Both that wait to be read and those that cannot be have a row.
    rows = [{**bad, "smart_id": number} for number in ("197", "198")]
    assert fires(tmp_path, "DiskSectorsBad", steady(smart), rows) == ""


def test_an_nvme_that_is_worn_out_is_told(nvme: Metrics, tmp_path: Path) -> None:
    assert nvme['nvme_temperature_celsius{device="nvme0n1"}'] == 38
    for name in ("NvmeWornOut", "NvmeCritical"):
        assert fires(tmp_path, name, steady(nvme), [{"device": "nvme1n1"}]) == "", name
    # Three errors, all of them old.
    assert fires(tmp_path, "NvmeMediaErrors", steady(nvme), []) == ""


def test_a_bmc_is_asked_for_fans_and_power(machine: dict[str, Metrics], tmp_path: Path) -> None:
    before, after = machine["before"], machine["after"]
    assert before.keys() == after.keys()
    assert before['node_ipmi_temperature_celsius{sensor="CPU1 Temp"}'] == 55
    assert before['node_ipmi_speed_rpm{sensor="FAN1"}'] == 8000
    assert before['node_ipmi_power_watts{sensor="PS1 Input"}'] == 420
    assert before['node_ipmi_volts{sensor="P12V"}'] == 12
    series = {name: f"{before[name]:f}+0x9 {after[name]:f}+0x60" for name in before}
    assert fires(tmp_path, "FanStopped", series, [{"sensor": "FAN1"}]) == ""
    assert fires(tmp_path, "PowerSupplyLost", series, [{"sensor": "PS1 Input"}]) == ""
    for name in ("FanStopped", "PowerSupplyLost"):
        assert fires(tmp_path, name, steady(before), []) == ""


def test_a_wrong_password_opens_no_bmc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with bmc(tmp_path, "before") as ask:
        assert "FAN1" in ask("sensor")
        monkeypatch.setattr(sys.modules[__name__], "PASSWORD", "guessed")
        assert ask("-R", "1", "sensor") == ""


def test_all_that_alerts_ask_of_hardware_is_told_by_a_collector(
    smart: Metrics, nvme: Metrics, machine: dict[str, Metrics]
) -> None:
    told = {series.partition("{")[0] for found in (smart, nvme, machine["before"]) for series in found}
    words = {
        word
        for rule in ALERTS.values()
        for word in re.findall(r"\b(?:smartmon|nvme|node_ipmi)_\w+", str(rule["expr"]))
    }
    assert words
    assert words <= told


def test_the_collectors_find_their_programs() -> None:
    """A collector's packages are what it calls, though Debian only recommends them."""
    known = yaml.safe_load((ROOT / "roles/node_exporter/vars/main.yml").read_text())
    packages = known["__node_exporter_systems"]["Debian"]["hardware_packages"]
    scripts = unpacked("prometheus-node-exporter-collectors", without=SYSTEM)
    units = " ".join(path.read_text() for path in scripts.glob("lib/systemd/system/*.service"))
    text = units + "".join(path.read_text() for path in scripts.glob("usr/share/*/nvme_metrics.sh"))
    for program, package in {"jq": "jq", "sponge": "moreutils", "ipmitool": "ipmitool"}.items():
        assert re.search(rf"\b{program}\b", text), program
        assert package in packages
