#!/usr/bin/python3
# Managed by Rackloom.
"""
Whether the GPUs of this machine are well; one answer for every scheduler.

    gpu-health check      look, and print the verdict as JSON
    gpu-health watch      look, keep the verdict, write metrics, tell the schedulers; what the timer runs
    gpu-health verdict    the last verdict in one line, for /etc/slurm/health.d
    gpu-health clear      forget errors of the kernel log up to now, after a GPU was reset

Exit code 0 = well. Looks at the PCI bus, the driver, nvidia-smi, the kernel log and DCGM, as far as they are
there. What should be there stands in /etc/rackloom/gpu-health.json. Needs nothing but Python's library, 3.9 or newer.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import re
import shutil
import ssl
import stat
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import xml.etree.ElementTree as ET
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

CONFIG = Path("/etc/rackloom/gpu-health.json")
PATHS = {
    "pci": "/sys/bus/pci/devices",
    "driver": "/proc/driver/nvidia",
    "kernel_log": "/dev/kmsg",
    "uptime": "/proc/uptime",
    "boot": "/proc/sys/kernel/random/boot_id",
    "nvidia_smi": "nvidia-smi",
    "dcgmi": "dcgmi",
    "verdict": "/run/rackloom/gpu-health.json",
    "state": "/var/lib/rackloom/gpu-health/state.json",
    "slurm_health": "/usr/libexec/rackloom/slurm-health",
    "played": "/var/lib/rackloom/gpu-health/played",
}
"""`played`: where GPUs are device files and no more, a folder of this name plays bus, driver, log and programs too."""
PLAYED_PATHS = {
    "pci": "pci",
    "driver": "driver",
    "kernel_log": "kmsg",
    "nvidia_smi": "nvidia-smi",
    "dcgmi": "dcgmi",
}
FRESH_SECONDS = 150
"""A verdict older than this is no answer; the timer makes one every half minute."""
RECENT_SECONDS = 600
"""How long an error counts from which a GPU recovers by itself."""
REPEAT_SECONDS = 300
"""After this long a scheduler is told again what it was told."""
LONGEST_LOG = 8 << 20
SLOWEST_SCHEDULER = 60
SHORT = 140
NO_ANSWER = ("", "n/a", "[n/a]", "none", "requested functionality has been deprecated", "not supported")
LOST = ("gpu is lost", "unknown error", "requires reset", "err!")

ANNOTATION = "rackloom.io/gpu-health"
CONDITION = "GpuProblem"

GONE, RECENT, HINT, IGNORED = "reset", "recent", "hint", "ignored"
XIDS: dict[int, tuple[str, str]] = {
    8: ("a job did not answer", IGNORED),
    13: ("a job's own error", IGNORED),
    31: ("a job read memory that it did not have", IGNORED),
    38: ("the driver's firmware", RECENT),
    43: ("a job was stopped", IGNORED),
    45: ("a job was ended", IGNORED),
    48: ("memory error that could not be corrected", GONE),
    61: ("internal micro-controller stopped", GONE),
    62: ("internal micro-controller halted", GONE),
    63: ("memory row to be replaced at the next reset", GONE),
    64: ("memory row could not be replaced", GONE),
    68: ("a job's video decoder", IGNORED),
    69: ("a job's graphics engine", IGNORED),
    74: ("NVLink error", GONE),
    79: ("the GPU has fallen off the bus", GONE),
    92: ("many corrected memory errors", HINT),
    94: ("memory error that cost a job its life", GONE),
    95: ("memory error that reached beyond a job", GONE),
    109: ("the driver waited in vain for a change of context", RECENT),
    110: ("security fault", GONE),
    119: ("the GPU's own processor does not answer", GONE),
    120: ("the GPU's own processor failed", GONE),
    121: ("corrected error on the link to the processor", HINT),
    136: ("a link could not be trained", GONE),
    137: ("a job's access over NVLink", IGNORED),
    140: ("memory error that could not be corrected", GONE),
    143: ("the GPU could not be started", GONE),
    144: ("NVLink error", GONE),
    145: ("NVLink error", GONE),
    146: ("NVLink error", GONE),
    147: ("NVLink error", GONE),
    148: ("NVLink error", GONE),
    149: ("NVLink error", GONE),
    150: ("NVLink error", GONE),
    154: ("the driver asks for a reset or a restart", GONE),
}
"""Errors that the driver writes to the kernel log, and how long each counts; of others there is only a hint."""

_XID = re.compile(r"NVRM: Xid \((?:PCI:)?([0-9A-Fa-f:.]+)\): (\d+)")
_SXID = re.compile(r"nvidia-nvswitch\d+: SXid \((?:PCI:)?([0-9A-Fa-f:.]+)\): (\d+), Fatal")
_LOADED = re.compile(r"NVRM: loading NVIDIA")
_RECORD = re.compile(r"^\d+,\d+,(\d+),[^;]*;(.*)$")
_TIMED = re.compile(r"^(?:<\d+>)?\[\s*(\d+\.\d+)\] (.*)$")


class Answer(NamedTuple):
    """What a program said. trouble: why it said nothing of use."""

    text: str
    trouble: str = ""
    code: int = 0


@dataclass
class Gpu:
    """One GPU, by its address on the PCI bus."""

    address: str
    device: str = ""
    index: int = -1
    name: str = ""
    uuid: str = ""
    temperature: float | None = None
    reasons: list[str] = field(default_factory=list)
    codes: list[str] = field(default_factory=list)

    @property
    def called(self) -> str:
        """As people find it again."""
        return f"GPU {self.index}" if self.index >= 0 else f"GPU {self.address}"


@dataclass
class Verdict:
    """skipped: why nothing was looked at; degraded: what could not be asked; codes: reasons in one word each."""

    healthy: bool = True
    skipped: str = ""
    reasons: list[str] = field(default_factory=list)
    codes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    degraded: list[str] = field(default_factory=list)
    driver: str = ""
    count: int = 0
    expected: int = 0
    gpus: list[Gpu] = field(default_factory=list)
    checked: float = 0.0

    @property
    def line(self) -> str:
        """The reasons as one short line."""
        if not self.reasons:
            return ""
        more = f" (and {len(self.reasons) - 1} more)" if len(self.reasons) > 1 else ""
        return self.reasons[0][: SHORT - len(more)] + more


class Settings:
    """The configuration file; what it does not say has a default."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.paths = {**PATHS, **data.get("paths", {})}
        self.expected: Sequence[Mapping[str, Any]] = data.get("expected", ())
        self.enabled = bool(data.get("enabled", True))
        self.simulated = bool(data.get("simulated", False))
        played = Path(self.paths["played"])
        if self.simulated and played.is_dir():
            self.simulated = False
            self.paths.update({name: str(played / file) for name, file in PLAYED_PATHS.items()})
        self.files: Sequence[str] = data.get("files", ())
        self.fabric = bool(data.get("fabric", False))
        self.dcgm = bool(data.get("dcgm", True))
        self.timeout = float(data.get("timeout", 15))
        self.max_temperature = float(data.get("max_temperature", 0))
        self.ignore = set(data.get("ignore", ()))
        self.ignore_xids = {int(number) for number in data.get("ignore_xids", ())}
        self.kubernetes: Mapping[str, str] = data.get("kubernetes") or {}
        self.evict = bool(data.get("evict", True))
        self.metrics = str(data.get("metrics", ""))

    @classmethod
    def read(cls, path: Path) -> Settings:
        """The file's content; without a file there is nothing to expect."""
        return cls(json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {})


def run(argv: Sequence[str], timeout: float) -> Answer:
    """Run a program and never wait for it longer than that, not even when it is stuck in the kernel."""
    program = shutil.which(argv[0])
    name = Path(argv[0]).name
    if program is None:
        return Answer("", f"{name} is not there", 127)
    with tempfile.TemporaryFile() as out:
        try:
            process = subprocess.Popen(
                [program, *argv[1:]], stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
            )
        except OSError as error:
            return Answer("", f"{name} does not start: {error.strerror}", 126)
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            return Answer("", f"{name} does not answer in {timeout:.0f} s", 124)
        out.seek(0)
        return Answer(out.read(LONGEST_LOG).decode("utf-8", "replace"), "", code)


def address(text: str) -> str:
    """00000000:3B:00.0 and 0000:3b:00 are the same place."""
    parts = text.lower().split(":")
    if len(parts) == 2:
        parts = ["0", *parts]
    domain, bus, device = parts[-3:] if len(parts) >= 3 else ("0", "0", text)
    return f"{int(domain, 16) & 0xFFFF:04x}:{bus}:{device if '.' in device else device + '.0'}"


def value(node: ET.Element | None, path: str) -> str:
    """A field's text; '' where the GPU has no answer to it."""
    found = node.find(path) if node is not None else None
    text = (found.text or "").strip() if found is not None else ""
    return "" if text.lower() in NO_ANSWER else text


def number(text: str) -> float | None:
    """The number at the start of a text like `41 C` or `16x`."""
    match = re.match(r"-?\d+(?:\.\d+)?", text)
    return float(match[0]) if match else None


def line_of(text: str) -> str:
    """The first line with words in it, short enough for a reason."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return re.sub(r"[\"|]", "", lines[0])[:SHORT] if lines else "nothing"


class Look:
    """One look at the machine."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.verdict = Verdict(
            checked=time.time(), expected=sum(int(entry["count"]) for entry in settings.expected)
        )
        self.gpus: dict[str, Gpu] = {}
        self.bus: dict[str, Path] = {}

    def bad(self, code: str, text: str, gpu: Gpu | None = None) -> None:
        """Note a reason; with a GPU, it is that one's."""
        if code in self.settings.ignore:
            self.verdict.warnings.append(text)
            return
        self.verdict.healthy = False
        self.verdict.reasons.append(f"{gpu.called}: {text}" if gpu else text)
        if code not in self.verdict.codes:
            self.verdict.codes.append(code)
        if gpu is not None:
            gpu.reasons.append(text)
            gpu.codes.append(code)

    def whole(self, state: dict[str, Any]) -> Verdict:
        """Everything. `state` is what is remembered between looks; it is brought up to date."""
        if self.settings.simulated:
            self._files()
            self.verdict.skipped = "" if self.settings.files else "no GPU"
            self.verdict.count = self.verdict.expected = len(self.settings.files)
            return self.verdict
        self._pci()
        if not self.bus and not self.settings.expected:
            self.verdict.skipped = "no GPU"
            return self.verdict
        answered = self._driver() and self._smi()
        if not self.verdict.codes:
            self._files()
        self._counts(answered=answered)
        self._links()
        self._kernel(state)
        if self.settings.dcgm:
            self._dcgm()
        self.verdict.gpus = sorted(
            self.gpus.values(), key=lambda gpu: (gpu.index < 0, gpu.index, gpu.address)
        )
        self.verdict.count = len(self.bus)
        return self.verdict

    def _files(self) -> None:
        """The device files that jobs are given."""
        for name in self.settings.files:
            try:
                there = stat.S_ISCHR(Path(name).stat().st_mode)
            except OSError:
                there = False
            if not there:
                self.bad("device", f"{name} is missing")

    # ------------------------------------------------------------ PCI bus

    def _pci(self) -> None:
        for path in sorted(Path(self.settings.paths["pci"]).glob("*")):
            if _file(path / "vendor") != "0x10de" or not _file(path / "class").startswith(
                ("0x0300", "0x0302")
            ):
                continue
            place = address(path.name)
            self.bus[place] = path
            self.gpus[place] = Gpu(place, _file(path / "device").removeprefix("0x"))
            try:
                with (path / "config").open("rb") as stream:
                    silent = stream.read(4) == b"\xff\xff\xff\xff"
            except OSError:
                silent = False
            if silent:
                self.bad("lost", "it does not answer on the PCI bus", self.gpus[place])

    def _counts(self, *, answered: bool) -> None:
        expected = self.settings.expected
        if expected and len(self.bus) != self.verdict.expected:
            self.bad("count", f"{len(self.bus)} of {self.verdict.expected} GPUs are on the PCI bus")
        known = {device for entry in expected for device in entry.get("devices", ())}
        if known and all(entry.get("devices") for entry in expected):
            wanted = ", ".join(str(entry["name"]) for entry in expected)
            for gpu in self.gpus.values():
                if gpu.address in self.bus and gpu.device not in known:
                    called = gpu.name or f"a device {gpu.device}"
                    self.bad("model", f"it is {called}, and the inventory says {wanted}", gpu)
        if answered:
            for place in self.bus:
                if self.gpus[place].index < 0 and not self.gpus[place].codes:
                    self.bad("count", "the driver does not see it", self.gpus[place])

    # ------------------------------------------------------------ driver

    def _driver(self) -> bool:
        version = _file(Path(self.settings.paths["driver"]) / "version")
        match = re.search(r"(\d+\.\d+(?:\.\d+)?)", version)
        if match is None:
            self.bad("driver", "the driver is not loaded")
            return False
        self.verdict.driver = match[1]
        return True

    def _smi(self) -> bool:
        """Whether nvidia-smi told of the GPUs."""
        smi = self.settings.paths["nvidia_smi"]
        answer = run([smi, "-q", "-x"], self.settings.timeout)
        if answer.code == 127:
            self.verdict.degraded.append("nvidia-smi is not there")
            return False
        if answer.trouble:
            self.bad("nvidia-smi", answer.trouble)
            return False
        if "version mismatch" in answer.text.lower():
            self.bad("driver", "driver and libraries are of different versions; restart the node")
            return False
        try:
            root = ET.fromstring(answer.text.strip())  # noqa: S314 - a local program of root's
        except ET.ParseError:
            if answer.code:
                self.bad("nvidia-smi", f"nvidia-smi fails: {line_of(answer.text)}")
            else:
                self.bad("nvidia-smi", "nvidia-smi says something that cannot be read")
            return False
        if root.tag != "nvidia_smi_log":
            self.bad("nvidia-smi", "nvidia-smi says something that cannot be read")
            return False
        self.verdict.driver = value(root, "driver_version") or self.verdict.driver
        nodes = root.findall("gpu")
        for place, node in enumerate(nodes):
            self._gpu(place, node)
        self._mig(nodes)
        return True

    def _gpu(self, index: int, node: ET.Element) -> None:
        try:
            place = address(node.get("id", "") or value(node, "pci/pci_bus_id"))
        except ValueError:
            self.bad("nvidia-smi", f"nvidia-smi gives GPU {index} no address")
            return
        gpu = self.gpus.setdefault(place, Gpu(place))
        gpu.index, gpu.name, gpu.uuid = index, value(node, "product_name"), value(node, "uuid")
        gpu.device = gpu.device or value(node, "pci/pci_device_id")[:4].lower()
        gpu.temperature = number(value(node, "temperature/gpu_temp"))
        for text in (element.text or "" for element in node.iter()):
            if any(word in text.lower() for word in LOST):
                self.bad("lost", f"nvidia-smi says: {text.strip()}", gpu)
                return
        self._memory(gpu, node)
        self._pcie(gpu, node)
        self._heat(gpu, node)
        self._fabric(gpu, node)
        if action := value(node, "gpu_recovery_action"):
            self.bad("recovery", f"the driver asks for: {action}", gpu)

    def _memory(self, gpu: Gpu, node: ET.Element) -> None:
        errors = node.find("ecc_errors/volatile")
        for child in errors if errors is not None else ():
            count = number((child.text or "").strip())
            if "uncorrectable" in child.tag and count:
                kind = child.tag.partition("_")[0].upper()
                self.bad("ecc", f"{count:.0f} errors of its {kind} could not be corrected", gpu)
        if value(node, "ecc_errors/aggregate/sram_threshold_exceeded") == "Yes":
            self.bad("ecc", "too many errors of its SRAM; it is to be replaced", gpu)
        for path, code, text in (
            ("remapped_rows/remapped_row_failure", "remap", "a memory row could not be replaced"),
            ("remapped_rows/remapped_row_pending", "remap", "a memory row waits for a reset to be replaced"),
            ("retired_pages/pending_retirement", "remap", "memory pages wait for a restart to be retired"),
            (
                "ecc_errors/channel_repair_pending",
                "remap",
                "a memory channel waits for a reset to be repaired",
            ),
            ("ecc_errors/tpc_repair_pending", "remap", "a processor waits for a reset to be repaired"),
        ):
            if value(node, path) == "Yes":
                self.bad(code, text, gpu)

    def _pcie(self, gpu: Gpu, node: ET.Element) -> None:
        info = node.find("pci/pci_gpu_link_info")
        most, now = (number(value(info, f"link_widths/{which}_link_width")) for which in ("max", "current"))
        if most and now and now < most:
            self.bad("pcie", f"its PCIe link has {now:.0f} of {most:.0f} lanes", gpu)
        # Idle GPUs lower the speed of their link on purpose.
        busy = value(node, "performance_state") in ("P0", "P1", "P2")
        most, now = (number(value(info, f"pcie_gen/{which}_link_gen")) for which in ("max", "current"))
        if busy and most and now and now < most:
            self.bad("pcie", f"its PCIe link is of generation {now:.0f}, not {most:.0f}", gpu)

    def _heat(self, gpu: Gpu, node: ET.Element) -> None:
        heat = node.find("temperature")
        now = gpu.temperature
        limit = self.settings.max_temperature or number(value(heat, "gpu_temp_slow_threshold"))
        left = number(value(heat, "gpu_temp_tlimit"))
        floor = number(value(heat, "gpu_temp_slow_tlimit_threshold"))
        if now is not None and limit and now >= limit:
            self.bad("temperature", f"it has {now:.0f} °C, and {limit:.0f} is the limit", gpu)
        elif left is not None and floor is not None and left <= floor:
            self.bad("temperature", f"it is {-left:.0f} °C above what it may be", gpu)
        for name, where in (("clocks_event_reason", "clocks_event_reasons"),
                            ("clocks_throttle_reason", "clocks_throttle_reasons")):  # fmt: skip
            reasons = node.find(where)
            if value(reasons, f"{name}_hw_thermal_slowdown") == "Active":
                self.bad("throttle", "it slows itself down because it is too hot", gpu)
            if value(reasons, f"{name}_hw_power_brake_slowdown") == "Active":
                self.verdict.warnings.append(f"{gpu.called}: the power supply slows it down")
            if value(reasons, f"{name}_sw_thermal_slowdown") == "Active":
                self.verdict.warnings.append(f"{gpu.called}: the driver slows it down because it is hot")

    def _fabric(self, gpu: Gpu, node: ET.Element) -> None:
        state, status = value(node, "fabric/state"), value(node, "fabric/status")
        if state != "Completed" and (state or self.settings.fabric):
            self.bad("fabric", f"it is not part of the NVLink fabric: {state or 'no state'}", gpu)
        elif state == "Completed" and status not in ("", "Success"):
            self.bad("fabric", f"it could not join the NVLink fabric: {status}", gpu)
        health = node.find("fabric/health")
        if value(health, "bandwidth").lower() in ("degraded", "true"):
            self.bad("fabric", "its NVLink fabric has lost bandwidth", gpu)
        if value(health, "route_unhealthy").lower() in ("yes", "true"):
            self.bad("fabric", "a route of its NVLink fabric is broken", gpu)

    # ------------------------------------------------------------ slices, links

    def _mig(self, nodes: Sequence[ET.Element]) -> None:
        layouts = [dict(entry["mig"]) for entry in self.settings.expected if entry.get("mig")]
        if not layouts or len(self.settings.expected) != 1:
            return
        answer = run([self.settings.paths["nvidia_smi"], "-L"], self.settings.timeout)
        there: dict[int, dict[str, int]] = {}
        current = -1
        for line in answer.text.splitlines():
            if match := re.match(r"GPU (\d+):", line):
                current = int(match[1])
            elif match := re.match(r"\s+MIG (\S+)\s+Device", line):
                slices = there.setdefault(current, {})
                slices[match[1]] = slices.get(match[1], 0) + 1
        wanted = ", ".join(f"{count} of {name}" for name, count in layouts[0].items())
        for gpu in self.gpus.values():
            if gpu.index < 0 or gpu.codes:
                continue
            if value(nodes[gpu.index], "mig_mode/current_mig") != "Enabled":
                self.bad("mig", f"MIG is off, and the inventory says {wanted}", gpu)
            elif there.get(gpu.index, {}) != layouts[0]:
                has = ", ".join(f"{count} of {name}" for name, count in there.get(gpu.index, {}).items())
                self.bad("mig", f"it has the slices {has or 'none'}, and the inventory says {wanted}", gpu)

    def _links(self) -> None:
        want = max((int(entry.get("nvlinks", 0)) for entry in self.settings.expected), default=0)
        if not want or not any(gpu.index >= 0 for gpu in self.gpus.values()):
            return
        answer = run([self.settings.paths["nvidia_smi"], "nvlink", "-s"], self.settings.timeout)
        if answer.trouble:
            self.bad("nvlink", answer.trouble)
            return
        found: dict[int, list[bool]] = {}
        current = -1
        for line in answer.text.splitlines():
            if match := re.match(r"GPU (\d+):", line):
                current = int(match[1])
                found[current] = []
            elif match := re.match(r"\s+Link \d+: (\S+)", line):
                found.setdefault(current, []).append("inactive" not in match[1].lower())
        for gpu in self.gpus.values():
            up = sum(found.get(gpu.index, ()))
            if gpu.index >= 0 and up < want and "lost" not in gpu.codes:
                self.bad("nvlink", f"{up} of {want} NVLinks are up", gpu)

    # ------------------------------------------------------------ kernel log

    def _kernel(self, state: dict[str, Any]) -> None:
        now = number(_file(Path(self.settings.paths["uptime"]))) or 0.0
        boot = _file(Path(self.settings.paths["boot"]))
        if state.get("boot") != boot:
            state.pop("errors", None)
            state.update(boot=boot, cleared=-1.0)
        text = kernel_log(self.settings.paths["kernel_log"])
        if text is None:
            self.verdict.degraded.append("the kernel log cannot be read")
            return
        errors: dict[str, dict[str, Any]] = state.setdefault("errors", {})
        for when, message in timed_lines(text, now):
            if _LOADED.search(message):
                state["cleared"] = max(float(state["cleared"]), when)
            for kind, pattern in (("XID", _XID), ("SXID", _SXID)):
                if match := pattern.search(message):
                    key = f"{kind} {match[2]} {address(match[1])}"
                    errors[key] = {"at": max(when, errors.get(key, {}).get("at", -1.0))}
        for key in [key for key, error in errors.items() if error["at"] <= float(state["cleared"])]:
            del errors[key]
        for key, error in sorted(errors.items()):
            kind, text_number, place = key.split(" ")
            self._error(kind, int(text_number), place, now - float(error["at"]))

    def _error(self, kind: str, xid: int, place: str, age: float) -> None:
        if kind == "SXID":
            self.bad("fabric", f"SXID {xid}: fatal error of the NVLink switch at {place}")
            return
        meaning, lasts = XIDS.get(xid, ("an error that this check does not know", HINT))
        if xid in self.settings.ignore_xids or lasts == IGNORED or (lasts == RECENT and age > RECENT_SECONDS):
            return
        gpu = self.gpus.get(place)
        if lasts == HINT:
            self.verdict.warnings.append(f"{gpu.called if gpu else place}: XID {xid}: {meaning}")
            return
        # A GPU that has left the bus is there no more.
        self.bad(f"xid{xid}", f"XID {xid}: {meaning}", gpu or self.gpus.setdefault(place, Gpu(place)))

    # ------------------------------------------------------------ DCGM

    def _dcgm(self) -> None:
        answer = run([self.settings.paths["dcgmi"], "health", "-c", "-j"], self.settings.timeout)
        if answer.trouble or "unable to establish a connection" in answer.text.lower():
            self.verdict.degraded.append(answer.trouble or "DCGM does not run")
            return
        try:
            body = json.loads(answer.text[answer.text.index("{") :])["body"]
            overall = str(body["Overall Health"]["value"])
        except (ValueError, KeyError, TypeError):
            self.verdict.degraded.append("dcgmi says something that cannot be read")
            return
        if overall == "Healthy":
            return
        details = "; ".join(dcgm_errors(body)) or "it gives no reason"
        if overall == "Failure":
            self.bad("dcgm", f"DCGM: {details}"[:SHORT])
        else:
            self.verdict.warnings.append(f"DCGM: {details}"[:SHORT])


def dcgm_errors(body: Any) -> list[str]:
    """What DCGM writes beside its verdicts, wherever in its answer."""
    found: list[str] = []
    if isinstance(body, dict):
        for key, item in body.items():
            if key in ("Error", "Errors", "Message") and isinstance(item, dict) and item.get("value"):
                found.append(" ".join(str(item["value"]).split()))
            else:
                found += dcgm_errors(item)
    elif isinstance(body, list):
        for item in body:
            found += dcgm_errors(item)
    return found


def kernel_log(path: str) -> str | None:
    """All that the kernel's ring holds; None where it may not be read. The device gives one record a read."""
    try:
        stream = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    parts: list[bytes] = []
    size = 0
    try:
        while size < LONGEST_LOG:
            try:
                part = os.read(stream, 16384)
            except BlockingIOError:
                break
            except BrokenPipeError:
                continue  # overwritten while it was read; the next one is there
            except OSError:
                return None
            if not part:
                break
            parts.append(part)
            size += len(part)
    finally:
        os.close(stream)
    return b"".join(parts).decode("utf-8", "replace")


def timed_lines(text: str, now: float) -> list[tuple[float, str]]:
    """(seconds since boot, message) of the driver's lines, in any form that the kernel log has."""
    found: list[tuple[float, str]] = []
    for line in text.splitlines():
        if "NVRM" not in line and "SXid" not in line:
            continue
        if match := _RECORD.match(line):
            found.append((int(match[1]) / 1e6, match[2]))
        elif match := _TIMED.match(line):
            found.append((float(match[1]), match[2]))
        else:
            found.append((now, line))
    return found


def _file(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, encoding="utf-8")
    new.chmod(0o644)
    new.replace(path)


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


# ---------------------------------------------------------------- what is told to whom


def metrics(verdict: Verdict) -> str:
    """For node exporter's textfile collector. Reasons are words out of a short list, never free text."""

    def healthy(name: str, codes: Sequence[str]) -> str:
        return f'rackloom_gpu_healthy{{gpu="{name}",reason="{",".join(codes)}"}} {int(not codes)}'

    lines = [
        "# HELP rackloom_gpu_healthy Whether a GPU, and all of them, are well; reason: why not.",
        "# TYPE rackloom_gpu_healthy gauge",
        healthy("all", verdict.codes),
        *(healthy(str(gpu.index) if gpu.index >= 0 else gpu.address, gpu.codes) for gpu in verdict.gpus),
    ]
    for name, text, amount in (
        ("count", "GPUs on the PCI bus.", verdict.count),
        ("expected", "GPUs that the inventory has.", verdict.expected),
        ("warnings", "What is odd, and no reason to leave.", len(verdict.warnings)),
        ("degraded", "Sources that could not be asked.", len(verdict.degraded)),
        ("skipped", "1 = there is no GPU to look at.", int(bool(verdict.skipped))),
        ("health_checked_seconds", "When this was looked at, in Unix time.", round(verdict.checked)),
    ):
        lines += [f"# HELP rackloom_gpu_{name} {text}", f"# TYPE rackloom_gpu_{name} gauge"]
        lines.append(f"rackloom_gpu_{name} {amount}")
    return "\n".join(lines) + "\n"


class Kubernetes:
    """This node's own object in the API, with the kubelet's identity: that may change no other node, and no taint."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self.name = settings["node"]
        self.api = f"{settings['server'].rstrip('/')}/api/v1"
        self.context = ssl.create_default_context(cafile=settings["ca"])
        self.context.load_cert_chain(settings["certificate"], settings.get("key") or None)

    def ask(self, method: str, path: str = "", body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """One request about the node; raises OSError."""
        return self._request(
            method, f"/nodes/{self.name}{path}", body, "application/strategic-merge-patch+json"
        )

    def _request(self, method: str, path: str, body: Mapping[str, Any] | None, kind: str) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310 - the site's own API
            self.api + path,
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={"Content-Type": kind, "Accept": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10, context=self.context) as answer:  # noqa: S310
            data = json.load(answer)
        return data if isinstance(data, dict) else {}

    def tell(self, verdict: Verdict) -> None:
        """Cordon the node with the reason written on it, or take that back; a cordon of somebody else stays."""
        node = self.ask("GET")
        held = bool(node.get("spec", {}).get("unschedulable"))
        ours = (node.get("metadata", {}).get("annotations") or {}).get(ANNOTATION)
        if verdict.healthy and ours is not None:
            self.ask(
                "PATCH",
                "",
                {"metadata": {"annotations": {ANNOTATION: None}}, "spec": {"unschedulable": None}},
            )
        elif not verdict.healthy and (not held or ours is not None) and (ours != verdict.line or not held):
            change = {
                "metadata": {"annotations": {ANNOTATION: verdict.line}},
                "spec": {"unschedulable": True},
            }
            self.ask("PATCH", "", change)
        self._condition(node, verdict)

    def _condition(self, node: Mapping[str, Any], verdict: Verdict) -> None:
        wanted = {
            "type": CONDITION,
            "status": "False" if verdict.healthy else "True",
            "reason": "GpusAreHealthy" if verdict.healthy else "GpuUnhealthy",
            "message": verdict.line or "all GPUs are well",
        }
        known: dict[str, Any] = next(
            (one for one in node.get("status", {}).get("conditions", ()) if one.get("type") == CONDITION), {}
        )
        if all(known.get(key) == text for key, text in wanted.items()):
            return
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        changed = now if known.get("status") != wanted["status"] else known.get("lastTransitionTime", now)
        condition = {**wanted, "lastHeartbeatTime": now, "lastTransitionTime": changed}
        self.ask("PATCH", "/status", {"status": {"conditions": [condition]}})
        if known or not verdict.healthy:
            self._event(condition, now)

    def _event(self, condition: Mapping[str, str], now: str) -> None:
        """What changed, and when, for `kubectl describe node` and `kubectl get events`."""
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{self.name}-gpu-health-", "namespace": "default"},
            # A kubelet's events know their node by its name.
            "involvedObject": {"apiVersion": "v1", "kind": "Node", "name": self.name, "uid": self.name},
            "type": "Warning" if condition["status"] == "True" else "Normal",
            "reason": condition["reason"],
            "message": condition["message"],
            "source": {"component": "rackloom-gpu-health", "host": self.name},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        self._request("POST", "/namespaces/default/events", event, "application/json")

    def move(self) -> list[str]:
        """Send away pods of this node that hold a device which is not well; returns their names.

        Others keep what they have. Whoever has a budget of disruption may be asked to wait until the next look.
        """
        here = self._request(
            "GET", f"/pods?fieldSelector=spec.nodeName%3D{self.name}", None, "application/json"
        )
        gone = []
        for pod in here.get("items") or ():
            about = pod["metadata"]
            if about.get("deletionTimestamp") or not made_anew_elsewhere(pod) or not holds_a_bad_device(pod):
                continue
            names = {"name": about["name"], "namespace": about["namespace"]}
            eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": names}
            place = f"/namespaces/{about['namespace']}/pods/{about['name']}/eviction"
            try:
                self._request("POST", place, eviction, "application/json")
            except urllib.error.HTTPError as error:
                if error.code not in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.NOT_FOUND):
                    raise
            else:
                gone.append(f"{about['namespace']}/{about['name']}")
        return gone


def made_anew_elsewhere(pod: Mapping[str, Any]) -> bool:
    """Whether somebody makes the pod anew, and on another node."""
    owners = [
        one.get("kind") for one in pod["metadata"].get("ownerReferences") or () if one.get("controller")
    ]
    return bool(owners) and owners[0] not in ("DaemonSet", "Node")


def holds_a_bad_device(pod: Mapping[str, Any]) -> bool:
    """Whether the kubelet says so of a device that it has given to the pod."""
    status = pod.get("status", {})
    containers = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    return any(
        device.get("health") == "Unhealthy"
        for container in containers
        for resource in container.get("allocatedResourcesStatus") or ()
        for device in resource.get("resources") or ()
    )


def tell(settings: Settings, verdict: Verdict, state: dict[str, Any]) -> None:
    """Each scheduler that is here, where it has to know something new; what fails is tried again at the next look."""
    told: dict[str, Any] = state.setdefault("told", {})
    word = verdict.line if not verdict.healthy else "well"

    def due(whom: str) -> bool:
        last = told.get(whom, {})
        return bool(last.get("word") != word or verdict.checked - last.get("at", 0) > REPEAT_SECONDS)

    slurm = settings.paths["slurm_health"]
    if os.access(slurm, os.X_OK) and due("slurm"):
        answer = run([slurm], SLOWEST_SCHEDULER)
        if answer.trouble or answer.code:
            print(f"Slurm could not be told: {answer.trouble or line_of(answer.text)}", file=sys.stderr)
        else:
            told["slurm"] = {"word": word, "at": verdict.checked}
    if settings.kubernetes and due("kubernetes") and Path(settings.kubernetes["certificate"]).exists():
        try:
            Kubernetes(settings.kubernetes).tell(verdict)
            told["kubernetes"] = {"word": word, "at": verdict.checked}
        except (OSError, ValueError) as error:  # HTTP and TLS errors are of these
            print(f"Kubernetes could not be told: {error}", file=sys.stderr)
    if settings.kubernetes and settings.evict and not verdict.healthy and "kubernetes" in told:
        try:
            for name in Kubernetes(settings.kubernetes).move():
                print(f"pod {name} was sent away: its GPU is not well")
        except (OSError, ValueError) as error:
            print(f"pods could not be sent away: {error}", file=sys.stderr)


def look(settings: Settings, state: dict[str, Any]) -> Verdict:
    """A verdict, whatever happens: a check that breaks is a reason too."""
    one = Look(settings)
    try:
        return one.whole(state)
    except Exception as error:  # noqa: BLE001 - a machine may answer anything
        one.bad("check", f"the health check broke: {type(error).__name__}: {error}"[:SHORT])
        return one.verdict


@contextlib.contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Nobody else reads what is remembered and writes it back meanwhile."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_name(f".{place.name}.lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def watch(settings: Settings) -> Verdict:
    """What the timer does."""
    with _alone(Path(settings.paths["state"])):
        return _watch(settings)


def _watch(settings: Settings) -> Verdict:
    place = Path(settings.paths["state"])
    state = _json(place)
    verdict = look(settings, state)
    _write(Path(settings.paths["verdict"]), json.dumps(asdict(verdict)) + "\n")
    if settings.metrics and Path(settings.metrics).parent.is_dir():
        _write(Path(settings.metrics), metrics(verdict))
    tell(settings, verdict, state)
    _write(place, json.dumps(state) + "\n")
    return verdict


def last(settings: Settings) -> Verdict:
    """The verdict that the timer left; a new one where there is none that is fresh."""
    if not settings.enabled:
        return Verdict(skipped="switched off")
    kept = _json(Path(settings.paths["verdict"]))
    if abs(time.time() - float(kept.get("checked", 0))) <= FRESH_SECONDS:
        known = {name: kept[name] for name in ("healthy", "skipped", "reasons", "codes") if name in kept}
        return Verdict(**known)
    return look(settings, _json(Path(settings.paths["state"])))


def clear(settings: Settings) -> None:
    """Errors of the kernel log up to now count no more."""
    place = Path(settings.paths["state"])
    with _alone(place):
        _clear(settings, place)


def _clear(settings: Settings, place: Path) -> None:
    state = _json(place)
    state["boot"] = _file(Path(settings.paths["boot"]))
    state["cleared"] = number(_file(Path(settings.paths["uptime"]))) or 0.0
    state.pop("errors", None)
    _write(place, json.dumps(state) + "\n")


def main(words: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="gpu-health", description="Whether the GPUs of this machine are well."
    )
    parser.add_argument("what", choices=("check", "watch", "verdict", "clear"))
    parser.add_argument("--config", type=Path, default=CONFIG)
    options = parser.parse_args(words)
    settings = Settings.read(options.config)
    if options.what == "clear":
        clear(settings)
        return 0
    if options.what == "watch":
        verdict = watch(settings)
        if not verdict.healthy:
            print("\n".join(verdict.reasons))
        return 0
    if options.what == "verdict":
        verdict = last(settings)
        print(verdict.line or verdict.skipped or "well")
    else:
        verdict = look(settings, _json(Path(settings.paths["state"])))
        print(json.dumps(asdict(verdict), indent=2))
    return 0 if verdict.healthy else 1


if __name__ == "__main__":
    sys.exit(main())
