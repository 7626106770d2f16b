"""How fast a bundle is made, made again and checked, each beside the plain tool that does as little as can be done.

Making is compared with curl fetching the same list in parallel, checking with sha256sum on the same files with all
cores, and the size with what its parts would take if each were stored for itself. Not a test: it judges nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rackloom.lab.slow_line import SlowLine

_JOBS = 8


class BenchError(Exception):
    """Something that was to be measured did not work."""


@dataclass(frozen=True)
class Figures:
    """What was measured; times in seconds, medians of the rounds."""

    files: int
    size: int
    plain: float
    """curl, the same list, as many at once."""
    create: float
    """The whole command into a new folder, resolving and signing included."""
    fetching: float
    """Its part that curl does too."""
    again: float
    """The command once more, with nothing new."""
    verify: float
    sha256sum: float
    parts: int
    """Bytes if every image and every file were stored for itself."""

    @property
    def create_to_plain(self) -> float:
        """How much longer `create` takes than curl."""
        return self.create / self.plain

    @property
    def fetching_to_plain(self) -> float:
        """The same for the fetching alone."""
        return self.fetching / self.plain

    @property
    def verify_speed(self) -> float:
        """Bytes a second, as a share of what sha256sum does."""
        return self.sha256sum / self.verify

    @property
    def size_to_parts(self) -> float:
        """What sharing saves."""
        return self.size / self.parts


def rackloom(*words: str) -> dict[str, Any]:
    """Run a command of ours as people do. Returns its data. Raises BenchError."""
    argv = [sys.executable, "-m", "rackloom.cli.main", "bundle", *words, "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    try:
        said = json.loads(done.stdout)
    except ValueError:
        raise BenchError(f"{' '.join(argv)}: {done.stderr[-1000:]}") from None
    if done.returncode:
        raise BenchError("; ".join(error["message"] for error in said["errors"]))
    return {**said["data"], "log": done.stderr}


def seconds(argv: Sequence[str], **more: Any) -> float:
    """How long a program takes. Raises BenchError when it fails."""
    began = time.monotonic()
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, **more)
    except FileNotFoundError:
        raise BenchError(f"{argv[0]} is not installed") from None
    took = time.monotonic() - began
    if done.returncode:
        raise BenchError(f"{argv[0]} ended with status {done.returncode}: {done.stderr[-500:]}")
    return took


def plain_download(items: Sequence[Mapping[str, Any]], folder: Path) -> float:
    """Let curl fetch the list, and copy what lies on this machine."""
    folder.mkdir()
    lines = []
    local = []
    for number, item in enumerate(items):
        if str(item["origin"]).startswith(("http://", "https://")):
            lines += [f'url = "{item["origin"]}"', f'output = "{folder / str(number)}"']
        elif str(item["origin"]).startswith("file://"):
            local.append((str(item["origin"]).removeprefix("file://"), folder / str(number)))
    (folder / "list").write_text("\n".join(lines) + "\n")
    argv = [
        "curl",
        "--parallel",
        "--parallel-max",
        str(_JOBS),
        "--fail",
        "--silent",
        "--show-error",
        "--location",
    ]
    took = seconds([*argv, "--config", str(folder / "list")]) if lines else 0.0
    began = time.monotonic()
    for source, target in local:
        shutil.copyfile(source, target)
    return took + time.monotonic() - began


def sum_of_parts(folder: Path) -> int:
    """Bytes of all files, every image with all its parts for itself."""
    items = json.loads((folder / "bundle.lock").read_text())
    total = sum(int(item["size"]) for item in items if not item["path"].startswith("images/"))
    index = folder / "images" / "index.json"
    todo = list(json.loads(index.read_text())["manifests"]) if index.is_file() else []
    while todo:
        entry = todo.pop()
        data = json.loads((folder / "images/blobs/sha256" / entry["digest"][7:]).read_bytes())
        todo += data.get("manifests", [])
        total += entry["size"] + sum(
            part["size"] for part in [data.get("config", {"size": 0}), *data.get("layers", [])]
        )
    return total


def measure(scratch: Path, words: Sequence[str], rounds: int) -> Figures:
    """Take turns, so that what the network does hits both alike; the first turn of each is thrown away."""
    listed = rackloom("list", *words)
    items = listed["items"]
    key = scratch / "key"
    plain, create, fetching, again, verify, sums = [], [], [], [], [], []
    made: dict[str, Any] = {}
    folder = scratch / "bundle"
    for number in range(rounds + 1):
        for path in (folder, scratch / "plain"):
            shutil.rmtree(path, ignore_errors=True)
        plain.append(plain_download(items, scratch / "plain"))
        shutil.rmtree(scratch / "plain")
        began = time.monotonic()
        made = rackloom("create", "-o", str(folder), "--key", str(key), "--jobs", str(_JOBS), *words)
        create.append(time.monotonic() - began)
        fetching.append(_fetching(made["log"]))
        began = time.monotonic()
        rackloom("create", "-o", str(folder), "--key", str(key), *words)
        again.append(time.monotonic() - began)
        verify.append(float(rackloom("verify", str(folder))["seconds"]))
        names = [item["path"] for item in json.loads((folder / "bundle.lock").read_text())]
        cores = str(os.cpu_count() or 1)
        sums.append(
            seconds(["xargs", "-0", "-P", cores, "-n", "16", "sha256sum"], cwd=folder, input="\0".join(names))
        )
        sys.stderr.write(
            f"bench: round {number} of {rounds}: curl {plain[-1]:.1f} s, create {create[-1]:.1f} s\n"
        )

    def middle(values: Sequence[float]) -> float:
        return statistics.median(values[1:])

    return Figures(
        files=int(made["files"]),
        size=int(made["size"]),
        plain=middle(plain),
        create=middle(create),
        fetching=middle(fetching),
        again=middle(again),
        verify=middle(verify),
        sha256sum=middle(sums),
        parts=sum_of_parts(folder),
    )


def _fetching(log: str) -> float:
    """`bundle: fetching: 329 files, 296.4 MiB in 2.4 s` → 2.4."""
    lines = [
        line for line in log.splitlines() if line.startswith("bundle: fetching:") and line.endswith(" s")
    ]
    return float(lines[-1].split()[-2]) if lines else 0.0


def table(found: Figures) -> str:
    """Return the figures as lines."""
    rows = [
        (
            "create",
            f"{found.create:.1f} s",
            "curl, the same list",
            f"{found.plain:.1f} s",
            found.create_to_plain,
        ),
        (
            "of it fetching",
            f"{found.fetching:.1f} s",
            "curl",
            f"{found.plain:.1f} s",
            found.fetching_to_plain,
        ),
        ("create, no news", f"{found.again:.1f} s", "", "", None),
        (
            "verify",
            f"{found.verify:.2f} s",
            "sha256sum, all cores",
            f"{found.sha256sum:.2f} s",
            found.verify / found.sha256sum,
        ),
        (
            "size",
            f"{found.size / 2**20:.0f} MiB",
            "parts one by one",
            f"{found.parts / 2**20:.0f} MiB",
            found.size_to_parts,
        ),
    ]
    lines = [f"{found.files} files"]
    for what, ours, other, theirs, ratio in rows:
        share = "" if ratio is None else f"{ratio:.2f}"
        lines.append(f"{what:16} {ours:>10}   {other:20} {theirs:>10}   {share}".rstrip())
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Measure and print. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="bench.sh bundle", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--stages", default="", help="stages (all)")
    parser.add_argument("--os", default="debian-12", help="systems (debian-12)")
    parser.add_argument("--arch", default="amd64", help="machines (amd64)")
    parser.add_argument("--versions", action="append", default=[], help="further versions files")
    parser.add_argument(
        "--line", type=float, default=0, help="let both through a line of so many MiB a second"
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often to measure (3)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    wanted = parser.parse_args(argv)
    if wanted.line:
        line = SlowLine(wanted.line * 2**20)
        os.environ.update(http_proxy=line.url, https_proxy=line.url)
    with tempfile.TemporaryDirectory(prefix="rackloom-bench-") as scratch:
        words = [
            "--stages",
            wanted.stages,
            "--os",
            wanted.os,
            "--arch",
            wanted.arch,
            "--config",
            str(Path(scratch) / "none"),
        ]
        words += [word for path in wanted.versions for word in ("--versions", path)]
        try:
            found = measure(Path(scratch), words, max(1, wanted.rounds))
        except BenchError as error:
            sys.stderr.write(f"bench: {error}\n")
            return 1
    if wanted.json:
        ratios = {
            name: getattr(found, name)
            for name in ("create_to_plain", "fetching_to_plain", "verify_speed", "size_to_parts")
        }
        sys.stdout.write(json.dumps(asdict(found) | ratios, indent=2) + "\n")
    else:
        sys.stdout.write(table(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
