"""Makes a machine with two GPUs out of files: machine.py FOLDER. The health check is shown it instead of a real one."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

DATA = Path(__file__).resolve().parent
ADDRESSES = ("0000:1a:00.0", "0000:3b:00.0")
BASES: dict[str, dict[str, Any]] = {
    "h100": {"file": "gpu-580.xml", "device": "2330", "driver": "580.95.05", "nvlinks": 18, "fabric": True},
    "a100": {"file": "gpu-535.xml", "device": "20b0", "driver": "535.309.01", "nvlinks": 0, "fabric": False},
    "none": {"file": "gpu-580.xml", "device": "2330", "driver": "580.95.05", "nvlinks": 0, "fabric": False},
}


class Machine:
    """A machine with two GPUs, played by files in a folder."""

    def __init__(self, root: Path, state: dict[str, Any]) -> None:
        self.root, self.state = root, state
        self.base = BASES[state.get("base", "h100")]
        (root / "run").mkdir(parents=True)
        self._bus()
        self._programs()
        (root / "uptime").write_text("1000.00 900.00\n")
        (root / "boot").write_text("11111111-2222\n")
        if not state.get("no_log"):
            self.log(state.get("log", []))
        if state.get("driver", True):
            (root / "driver").mkdir()
            (root / "driver" / "version").write_text(
                f"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {self.base['driver']}  Release Build\n"
            )

    def log(self, lines: list[str]) -> None:
        (self.root / "kmsg").write_text("".join(f"{line}\n" for line in ["6,1,5,-;Linux version 6", *lines]))

    def _there(self, where: str) -> list[int]:
        gone = self.state.get("drop", {}).get(where, [])
        return [] if self.state.get("base") == "none" else [index for index in (0, 1) if index not in gone]

    def _bus(self) -> None:
        for index in self._there("pci"):
            folder = self.root / "pci" / ADDRESSES[index]
            folder.mkdir(parents=True)
            odd = index == 1 and self.state.get("pci_id")
            silent = index == 1 and self.state.get("silent")
            (folder / "vendor").write_text("0x10de\n")
            (folder / "class").write_text("0x030200\n")
            (folder / "device").write_text(f"0x{odd or self.base['device']}\n")
            (folder / "config").write_bytes(b"\xff" * 64 if silent else b"\xde\x10\x30\x23")
        other = self.root / "pci" / "0000:00:02.0"
        other.mkdir(parents=True)
        (other / "vendor").write_text("0x1a03\n")
        (other / "class").write_text("0x030000\n")

    def query(self) -> str:
        parts = []
        for place, index in enumerate(self._there("smi")):
            text = (DATA / self.base["file"]).read_text(encoding="utf-8")
            for old, new in self.state.get("change", {}).items():
                if index == 1 or self.state.get("change_all"):
                    assert old in text
                    text = text.replace(old, new, 1)
            parts.append(
                text.replace("{ADDRESS_UP}", ADDRESSES[index].upper()).replace("{INDEX}", str(place))
            )
        return (
            '<?xml version="1.0" ?>\n<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v12.dtd">\n<nvidia_smi_log>\n'
            f"\t<driver_version>{self.base['driver']}</driver_version>\n"
            + "".join(parts)
            + "</nvidia_smi_log>\n"
        )

    def nvlink(self, down: int = 0) -> str:
        lines = []
        for place in range(len(self._there("smi"))):
            lines.append(f"GPU {place}: NVIDIA H100 80GB HBM3 (UUID: GPU-0)")
            lines += [
                f"\t Link {link}: " + ("<inactive>" if place == 1 and link < down else "26.562 GB/s")
                for link in range(18)
            ]
        return "\n".join(lines) + "\n"

    def _programs(self) -> None:
        well = '{"body": {"Overall Health": {"value": "Healthy"}}, "header": ["Health Monitor Report"]}'
        for name in ("nvidia-smi", "dcgmi"):
            said = self.state.get("smi" if name == "nvidia-smi" else "dcgm", {})
            if not (isinstance(said, dict) and said.get("missing")):
                shutil.copy(DATA / "play.sh", self.root / name)
        nvlink = dict(self.state.get("nvlink", {}))
        self._answer("query.xml", self.query(), self.state.get("smi", {}))
        self._answer("nvlink.txt", self.nvlink(nvlink.pop("down", 0)), nvlink)
        self._answer("list.txt", self.state.get("list", ""), {})
        self._answer("dcgm.json", well, self.state.get("dcgm", {}))

    def _answer(self, file: str, text: str, said: dict[str, Any]) -> None:
        if "file" in said:
            text = (DATA / said["file"]).read_text(encoding="utf-8")
        text = said.get("text", text)
        (self.root / file).write_text(text[: said["cut"]] if "cut" in said else text)
        if "code" in said:
            (self.root / f"{file}.code").write_text(str(said["code"]))
        if said.get("hang"):
            (self.root / f"{file}.hang").touch()

    def config(self) -> dict[str, Any]:
        own = dict(self.state.get("config", {}))
        expected = {
            "name": self.state.get("base", "h100"),
            "count": 2,
            "devices": [self.base["device"]],
            "nvlinks": self.base["nvlinks"],
            "mig": own.pop("mig", {}),
        }
        return {
            "expected": [expected],
            "fabric": self.base["fabric"],
            "timeout": 0.4 if "hang" in str(self.state) else 15,
            "metrics": str(self.root / "run" / "rackloom_gpu.prom"),
            "paths": {
                "pci": str(self.root / "pci"),
                "driver": str(self.root / "driver"),
                "kernel_log": str(self.root / "kmsg"),
                "uptime": str(self.root / "uptime"),
                "boot": str(self.root / "boot"),
                "nvidia_smi": str(self.root / "nvidia-smi"),
                "dcgmi": str(self.root / "dcgmi"),
                "verdict": str(self.root / "run" / "verdict.json"),
                "state": str(self.root / "run" / "state.json"),
                "slurm_health": str(self.root / "slurm-health"),
            },
            **own,
        }


if __name__ == "__main__":
    Machine(Path(sys.argv[1]), {})
