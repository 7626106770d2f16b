#!/usr/bin/python
"""Whether a node's GPUs are those of the inventory, are well, and are as fast as they should be."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_validate
short_description: Ask a node to prove that its GPUs are of use
description:
  - Count, model and health are asked of the node's own health check, which looks anew.
  - A check that cannot be made here is reported as skipped, with the reason. Changes nothing; a bad verdict does
    not fail the task.
options:
  host:
    description: The name under which this node is reported.
    type: str
    required: true
  program:
    description: The health check.
    type: path
    default: /usr/libexec/rackloom/gpu-health
  sample:
    description: The program that has each GPU compute something.
    type: path
    default: /usr/libexec/rackloom/gpu-sample
  sliced:
    description: Whether any of the node's GPUs is cut; CUDA gives a program one slice then.
    type: bool
    default: false
  branch:
    description: Branch that the driver must be of; any when empty.
    type: str
    default: ""
  metrics:
    description: File that the health check writes for Prometheus; not looked for when empty, or without its folder.
    type: str
    default: ""
  dcgm_level:
    description: Level of DCGM's diagnosis; 0 means none.
    type: int
    default: 0
  allreduce_gbs:
    description: Bus bandwidth in GB/s that an all-reduce over all GPUs must reach; 0 means that nobody measures it.
    type: float
    default: 0
  allreduce_program:
    description: The measuring program, of NCCL's tests.
    type: str
    default: all_reduce_perf
  timeout:
    description: Seconds that a measurement or a diagnosis may take.
    type: int
    default: 1800
author: The Rackloom authors
"""

EXAMPLES = r"""
- name: Ask the node
  rackloom.cluster.gpu_validate:
    host: "{{ inventory_hostname }}"
    allreduce_gbs: 350
"""

RETURN = r"""
rackloom_checks:
  description: One entry a check.
  returned: always
  type: list
  elements: dict
  sample: [{service: gpu, name: health of gpu01, ok: true, skipped: "", detail: "8 of 8 well", seconds: 2.1}]
"""

import json
import os
import re
import time
from collections.abc import Callable
from typing import Any

from ansible.module_utils.basic import AnsibleModule

FRESH_SECONDS = 300
PLAYED = "the GPUs are played by device files"


class SkippedError(Exception):
    """A check that cannot be made here; the text says why."""


class FailedError(Exception):
    """A check that found something wrong; the text says what."""


def healthy(verdict: dict[str, Any]) -> str:
    """Count, model and state, as the health check found them."""
    if verdict.get("skipped"):
        raise SkippedError(str(verdict["skipped"]))
    if not verdict["healthy"]:
        raise FailedError("; ".join(verdict["reasons"]))
    more = [*verdict.get("warnings", []), *verdict.get("degraded", [])]
    return f"{verdict['count']} of {verdict['expected'] or verdict['count']} well" + (
        f"; {'; '.join(more)}" if more else ""
    )


def driver(verdict: dict[str, Any], branch: str) -> str:
    """The driver in the kernel is of the branch that is wanted."""
    if verdict.get("skipped"):
        raise SkippedError(str(verdict["skipped"]))
    if not verdict["gpus"]:
        raise SkippedError(PLAYED)
    version = str(verdict.get("driver", ""))
    if not version:
        raise FailedError("no driver is loaded")
    if branch and version.partition(".")[0] != branch:
        raise FailedError(f"the driver is {version}, and branch {branch} is wanted")
    return f"driver {version}"


def metrics(path: str, now: float) -> str:
    """The health check's metrics are there and new."""
    if not path or not os.path.isdir(os.path.dirname(path)):
        raise SkippedError("nothing collects metrics here")
    try:
        with open(path, encoding="utf-8") as stream:
            match = re.search(r"^rackloom_gpu_health_checked_seconds (\d+)", stream.read(), re.MULTILINE)
    except OSError as error:
        raise FailedError(f"{path}: {error.strerror}") from None
    if match is None:
        raise FailedError(f"{path} does not say when it was written")
    age = now - float(match[1])
    if age > FRESH_SECONDS:
        raise FailedError(f"the metrics are {age:.0f} s old")
    return f"{age:.0f} s old"


def computed(output: str, expected: int) -> str:
    """What the sample told of the GPUs that computed."""
    try:
        told = json.loads(output)
        count, bad, trouble = int(told["count"]), list(told["bad"]), str(told["trouble"])
    except (ValueError, KeyError, TypeError):
        raise FailedError("the sample says nothing of use") from None
    if trouble or bad:
        raise FailedError(trouble or "; ".join(bad))
    if count != expected if expected else not count:
        raise FailedError(f"CUDA sees {count} of {expected or 'the'} GPUs")
    return f"{count} of {expected or count} GPUs compute"


def allreduce(output: str, floor: float) -> str:
    """What NCCL's test measured, against the floor."""
    match = re.search(r"Avg bus bandwidth\s*:\s*([0-9.]+)", output)
    if match is None:
        raise FailedError("all_reduce_perf names no bandwidth")
    measured = float(match[1])
    if measured < floor:
        raise FailedError(f"{measured:.1f} GB/s, and {floor:.0f} is the least")
    return f"{measured:.1f} GB/s, and {floor:.0f} is the least"


def diagnosis(output: str) -> str:
    """What `dcgmi diag -j` found, in the forms of DCGM 3 and 4. A test that DCGM skipped showed nothing."""
    try:
        data = json.loads(output[output.index("{") :])
    except ValueError:
        raise FailedError(f"dcgmi says something that cannot be read: {line(output)}") from None
    if trouble := re.search(r'"runtime_error"\s*:\s*"([^"]+)"', output):
        raise FailedError(f"DCGM's diagnosis did not run: {trouble[1]}")
    found: dict[str, set[str]] = {}
    for name, state in _tests(data):
        found.setdefault(name, set()).add(state.lower())
    bad = sorted(name for name, states in found.items() if "fail" in states)
    warned = sorted(name for name, states in found.items() if "warn" in states)
    passed = [name for name, states in found.items() if "pass" in states and name not in (*bad, *warned)]
    skipped = sorted(name for name in found if name not in (*bad, *warned, *passed))
    if bad:
        raise FailedError(f"DCGM's diagnosis failed: {', '.join(bad)}")
    if not found:
        raise FailedError("DCGM's diagnosis has no result")
    if not passed and not warned:
        raise SkippedError("DCGM skipped all of its tests")
    more = [
        f"{what}: {', '.join(names)}" for what, names in (("warned", warned), ("skipped", skipped)) if names
    ]
    return "; ".join([f"{len(passed)} tests passed", *more])


def _tests(data: Any, name: str = "") -> list[tuple[str, str]]:
    """(test, status) wherever in DCGM's answer."""
    if isinstance(data, list):
        return [found for item in data for found in _tests(item, name)]
    if not isinstance(data, dict):
        return []
    name = str(data.get("name", name))
    own = [(name, str(data["status"]))] if isinstance(data.get("status"), str) else []
    return own + [found for item in data.values() for found in _tests(item, name)]


def line(text: str) -> str:
    """The last line with words in it."""
    lines = [one.strip() for one in text.splitlines() if one.strip()]
    return lines[-1][:200] if lines else "it was not done in time"


class Node:
    """The node that is asked."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params = module.params
        self.verdict: dict[str, Any] = {}
        self.checks: list[dict[str, Any]] = []

    def check(self, what: str, ask: Callable[[], str]) -> None:
        """Make one check."""
        began = time.monotonic()
        row: dict[str, Any] = {
            "service": "gpu",
            "name": f"{what} of {self.params['host']}",
            "ok": True,
            "skipped": "",
        }
        try:
            row["detail"] = ask()
        except SkippedError as reason:
            row["skipped"] = row["detail"] = f"skipped: {reason}"
        except FailedError as reason:
            row["ok"], row["detail"] = False, str(reason)
        row["seconds"] = round(time.monotonic() - began, 2)
        self.checks.append(row)

    def look(self) -> None:
        """Ask the health check for a new verdict."""
        program = self.params["program"]
        if not os.access(program, os.X_OK):
            raise FailedError(f"{program} is not there; deploy the stage gpu")
        _, out, err = self.module.run_command([program, "check"])
        try:
            self.verdict = json.loads(out)
        except ValueError:
            raise FailedError(f"the health check says nothing of use: {err.strip() or out.strip()}") from None

    def health(self) -> str:
        """Count, model and state."""
        self.look()
        return healthy(self.verdict)

    def real(self) -> int:
        """How many GPUs there are behind a driver; SkippedError where none are."""
        if not self.verdict.get("gpus"):
            raise SkippedError(self.verdict.get("skipped") or PLAYED)
        return len(self.verdict["gpus"])

    def compute(self) -> str:
        """Each GPU adds two vectors. Of slices, CUDA gives a program one, and says nothing of the others."""
        count = 0 if self.real() and self.params["sliced"] else self.real()
        program = self.params["sample"]
        if not os.access(program, os.X_OK):
            raise FailedError(f"{program} is not there; deploy the stage gpu")
        _, out, err = self.module.run_command(["timeout", "120", program])
        return computed(out or json.dumps({"count": 0, "bad": [], "trouble": line(err)}), count)

    def bandwidth(self) -> str:
        """An all-reduce over all GPUs."""
        count, floor = self.real(), self.params["allreduce_gbs"]
        if not floor or count < 2:
            raise SkippedError("there is nothing to compare with" if not floor else "there is one GPU only")
        if self.params["sliced"]:
            raise SkippedError("GPUs are cut into slices")
        program = self.module.get_bin_path(self.params["allreduce_program"])
        if program is None:
            raise SkippedError(f"{self.params['allreduce_program']} of NCCL's tests is not there")
        argv = ["timeout", str(self.params["timeout"]), program, "-b", "1G", "-e", "1G", "-g", str(count)]
        code, out, err = self.module.run_command(argv)
        if code:
            raise FailedError(f"all_reduce_perf fails: {(err or out).strip()[-200:]}")
        return allreduce(out, floor)

    def diagnose(self) -> str:
        """DCGM's own diagnosis."""
        self.real()
        if not self.params["dcgm_level"]:
            raise SkippedError("gpu.dcgm.level is 0")
        program = self.module.get_bin_path("dcgmi")
        if program is None:
            raise FailedError("dcgmi is not there")
        argv = [
            "timeout",
            str(self.params["timeout"]),
            program,
            "diag",
            "-r",
            str(self.params["dcgm_level"]),
            "-j",
        ]
        return diagnosis(self.module.run_command(argv)[1])


def main() -> None:
    """Ask, and return the verdicts."""
    module = AnsibleModule(
        argument_spec={
            "host": {"type": "str", "required": True},
            "program": {"type": "path", "default": "/usr/libexec/rackloom/gpu-health"},
            "sample": {"type": "path", "default": "/usr/libexec/rackloom/gpu-sample"},
            "sliced": {"type": "bool", "default": False},
            "branch": {"type": "str", "default": ""},
            "metrics": {"type": "str", "default": ""},
            "dcgm_level": {"type": "int", "default": 0},
            "allreduce_gbs": {"type": "float", "default": 0.0},
            "allreduce_program": {"type": "str", "default": "all_reduce_perf"},
            "timeout": {"type": "int", "default": 1800},
        },
        supports_check_mode=True,
    )
    node = Node(module)
    node.check("health", node.health)
    if node.verdict:
        node.check("driver", lambda: driver(node.verdict, module.params["branch"]))
        node.check("metrics", lambda: metrics(module.params["metrics"], time.time()))
        node.check("compute", node.compute)
        node.check("all-reduce", node.bandwidth)
        node.check("diagnosis", node.diagnose)
    module.exit_json(changed=False, rackloom_checks=node.checks)


if __name__ == "__main__":
    main()
