#!/usr/bin/python
"""Real jobs, run as an ordinary user from a login node, that show what a Slurm cluster does and does not do."""

from __future__ import annotations

DOCUMENTATION = r"""
module: slurm_validate
short_description: Show with real jobs that a Slurm cluster works
description:
  - Runs on a login node as root and submits every job as an ordinary user.
  - Root is needed to make and delete one reservation, and to become that user. Both are undone at the end,
    also when a check fails or the run is interrupted.
  - A check that cannot be made on this cluster is reported as skipped, with the reason.
options:
  user:
    description: The ordinary user; it needs an account in Slurm and a home on every node.
    type: str
    required: true
  checks:
    description: Names of the checks to make; all when empty.
    type: list
    elements: str
    default: []
  partition:
    description: Partition for the jobs; the cluster's default when empty.
    type: str
    default: ""
  low_qos:
    description: QOS that C(high_qos) may preempt; without it the preemption check is skipped.
    type: str
    default: ""
  high_qos:
    description: QOS that preempts C(low_qos).
    type: str
    default: ""
  ssh_key:
    description: Private key of the user, for the check of who may log in to a compute node.
    type: str
  strict:
    description: Whether a bad verdict fails the task; else it is only returned.
    type: bool
    default: false
  timeout:
    description: Seconds that any one wait may take.
    type: int
    default: 90
author: The Rackloom authors
"""

EXAMPLES = r"""
- name: Check | Run real jobs
  rackloom.cluster.slurm_validate:
    user: rackloom-check
    checks: [two_nodes, gpu_isolation]
"""

RETURN = r"""
rackloom_checks:
  description: One entry a check.
  returned: always
  type: list
  elements: dict
  sample: [{service: slurm, name: two_nodes, ok: true, skipped: "", detail: "ran on gpu01 and gpu02", seconds: 0.8}]
"""

import contextlib
import os
import pwd
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible.module_utils.basic import AnsibleModule

PASSING = ("comp", "plnd", "unk", "unk*")
"""States that end by themselves: a job is being cleared away or about to begin, or a node has only just started."""
CLEARED_SECONDS = 60

# Runs inside a GPU job. EPERM is what the devices cgroup answers; any other error comes from a driver that was
# reached, and a device that can be opened was reached as well.
PROBE = """
import errno, glob, os, re
reached, refused = [], []
for path in sorted(glob.glob('/dev/nvidia[0-9]*')):
    if not re.fullmatch('/dev/nvidia[0-9]+', path):
        continue
    try:
        os.close(os.open(path, os.O_RDWR))
        reached.append(path)
    except OSError as error:
        (refused if error.errno == errno.EPERM else reached).append(path)
print('visible=%s reached=%s refused=%s' % (
    os.environ.get('CUDA_VISIBLE_DEVICES', ''), ','.join(reached), ','.join(refused)))
"""


class Failed(Exception):
    """The cluster did not do what it should; the text says what was seen."""


class Skipped(Exception):
    """The check cannot be made on this cluster; the text says why."""


class Slurm:
    """Slurm's own commands, as the ordinary user or as root."""

    def __init__(self, user: str, partition: str, timeout: int) -> None:
        self.user = user
        self.partition = partition
        self.timeout = timeout
        self.jobs: list[str] = []
        self.ids: dict[str, str] = {}
        self._lock = threading.Lock()

    def run(
        self, command: list[str], as_user: bool = True, timeout: float | None = None
    ) -> tuple[int, str, str]:
        """Run a command; returns its exit status, output and errors. Failed when it takes too long."""
        account = pwd.getpwnam(self.user)
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LANG": "C.UTF-8"}
        extra: dict[str, Any] = {"cwd": "/"}
        if as_user:
            environment.update(HOME=account.pw_dir, USER=self.user, LOGNAME=self.user, SHELL="/bin/sh")
            groups = os.getgrouplist(self.user, account.pw_gid)
            extra.update(user=account.pw_uid, group=account.pw_gid, extra_groups=groups)
        try:
            done = subprocess.run(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout or self.timeout,
                check=False,
                **extra,
            )
        except subprocess.TimeoutExpired:
            raise Failed(f"no answer within {timeout or self.timeout} s from: {' '.join(command)}") from None
        return done.returncode, done.stdout.strip(), done.stderr.strip()

    def must(self, command: list[str], as_user: bool = True) -> str:
        """Run a command that has to succeed; returns its output."""
        rc, out, err = self.run(command, as_user)
        if rc != 0:
            raise Failed(f"{' '.join(command)}: {err or out or f'exit status {rc}'}")
        return out

    def _where(self) -> list[str]:
        return ["--partition", self.partition] if self.partition else []

    def srun(self, *arguments: str) -> str:
        """Run a job in the foreground and return what it printed."""
        minutes = f"--immediate={self.timeout}"
        return self.must(
            ["srun", "--chdir=/tmp", "--job-name=rackloom-check", minutes, *self._where(), *arguments]
        )

    def sbatch(self, script: str, *arguments: str, name: str = "") -> str:
        """Submit a batch job and return its id."""
        out = self.must(
            [
                *("sbatch", "--parsable", "--chdir=/tmp", "--output=/dev/null", "--job-name=rackloom-check"),
                *self._where(),
                *arguments,
                f"--wrap={script}",
            ]
        )
        job = out.splitlines()[-1].split(";")[0]
        with self._lock:
            self.jobs.append(job)
            if name:
                self.ids[name] = job
        return job

    def cancel(self, *jobs: str) -> None:
        """Cancel jobs; one that has ended is no error."""
        if jobs:
            self.run(["scancel", *jobs])

    def queue(self, job: str) -> tuple[str, str, str]:
        """Return a job's state, reason and nodes as the controller has them; empty texts when it is gone."""
        rc, out, _ = self.run(["squeue", "-h", "-o", "%T|%r|%N", "-j", job])
        if rc != 0 or not out:
            return "", "", ""
        state, reason, nodes = out.splitlines()[0].split("|", 2)
        return state, reason, nodes

    def accounted(self, job: str, duplicates: bool = False) -> list[str]:
        """Return the states that the accounting database holds for a job (and for its earlier runs)."""
        extra = ["--duplicates"] if duplicates else []
        out = self.must(["sacct", "-n", "-P", "-X", "-j", job, "-o", "State", *extra])
        return [line.split()[0] for line in out.splitlines() if line.strip()]

    def await_that(self, what: str, done: Callable[[], Any]) -> Any:
        """Poll until a condition gives something true and return that; Failed names what was awaited."""
        deadline = time.monotonic() + self.timeout
        pause = 0.1
        while True:
            value = done()
            if value:
                return value
            if time.monotonic() > deadline:
                raise Failed(f"not within {self.timeout} s: {what}")
            time.sleep(pause)
            pause = min(pause * 1.3, 1.0)

    def await_end(self, job: str) -> list[str]:
        """Await that all parts of a job have ended in the accounting database; returns their states."""
        open_states = {"PENDING", "RUNNING", "COMPLETING", "REQUEUED", "RESIZING", "SUSPENDED"}

        def ended() -> list[str]:
            states = self.accounted(job)
            return states if states and not open_states & set(states) and not self.queue(job)[0] else []

        states: list[str] = self.await_that(f"the end of job {job}", ended)
        return states

    def nodes(self) -> list[tuple[str, str]]:
        """Return the nodes that can take a job now: name and GRES. One that is about to be free is waited for."""
        deadline = time.monotonic() + CLEARED_SECONDS
        while True:
            out = self.must(["sinfo", "-h", "-N", "-o", "%N|%t|%G", *self._where()])
            rows = {tuple(line.split("|")) for line in out.splitlines()}
            if not any(state in PASSING for _, state, _ in rows) or time.monotonic() > deadline:
                break
            time.sleep(0.5)
        return sorted((name, gres) for name, state, gres in rows if state in ("idle", "mix"))

    def setting(self, name: str) -> str:
        """Return a value of the running controller's configuration."""
        out = self.must(["scontrol", "show", "config"])
        found = re.search(rf"^{name}\s*=\s*(.*)$", out, re.MULTILINE)
        return found.group(1).strip() if found else ""


class Checks:
    """Every method named check_* shows one thing and returns a sentence on what it saw."""

    def __init__(self, slurm: Slurm, params: dict[str, Any]) -> None:
        self.slurm = slurm
        self.params = params
        self.free = slurm.nodes()
        if not self.free:
            raise Failed("no node is idle: " + slurm.must(["sinfo", "-h", "-o", "%N %T %E"]))

    def check_two_nodes(self) -> str:
        """One job runs on two nodes at once."""
        if len(self.free) < 2:
            raise Skipped("fewer than two nodes are free")
        out = sorted(set(self.slurm.srun("-N2", "-n2", "--ntasks-per-node=1", "hostname").splitlines()))
        if len(out) != 2:
            raise Failed(f"a two-node job ran on {', '.join(out)}")
        return f"ran on {' and '.join(out)}"

    def check_gpu_isolation(self) -> str:
        """A job with one GPU reaches exactly that one."""
        typed = [(node, gres) for node, gres in self.free if "gpu:" in gres]
        if not typed:
            raise Skipped("no free node has a GPU")
        node, gres = typed[0]
        kind = gres.split("(")[0].split(",")[0].split(":")
        want = ":".join(kind[:-1]) + ":1"
        out = self.slurm.srun("-N1", "-n1", "-w", node, f"--gres={want}", "python3", "-c", PROBE)
        found = re.search(r"visible=(\S*) reached=(\S*) refused=(\S*)", out)
        if not found:
            raise Failed(f"the job printed {out!r}")
        visible, reached, refused = (part.split(",") if part else [] for part in found.groups())
        if len(visible) != 1 or len(reached) != 1:
            raise Failed(f"a job with --gres={want} on {node} sees {visible} and reaches {reached}")
        if not refused and int(kind[-1]) > 1:
            raise Failed(f"{node} has {kind[-1]} GPUs, but none was refused to the job")
        return f"--gres={want} on {node}: reached {reached[0]}, refused {', '.join(refused) or 'no other'}"

    def check_memory_limit(self) -> str:
        """A job over its memory limit is killed, and accounted so."""
        script = "exec python3 -c 'b = bytearray(400 << 20); import time; time.sleep(5)'"
        job = self.slurm.sbatch(script, "--mem=64M", "-n1", name="memory_limit")
        states = self.slurm.await_end(job)
        if states != ["OUT_OF_MEMORY"]:
            raise Failed(f"a job of 400 MiB under --mem=64M ended as {states}")
        return f"job {job} of 400 MiB under --mem=64M: OUT_OF_MEMORY"

    def check_dependency(self) -> str:
        """A job waits for another; one that waits for a failed job never runs."""
        first = self.slurm.sbatch("sleep 1", "-n1", "--mem=32M")
        after = self.slurm.sbatch(
            "true", "-n1", "--mem=32M", f"--dependency=afterok:{first}", name="dependency"
        )
        bad = self.slurm.sbatch("exit 3", "-n1", "--mem=32M")
        never = self.slurm.sbatch(
            "true", "-n1", "--mem=32M", f"--dependency=afterok:{bad}", "--kill-on-invalid-dep=yes"
        )
        states = [self.slurm.await_end(job)[0] for job in (first, after, bad, never)]
        if states != ["COMPLETED", "COMPLETED", "FAILED", "CANCELLED"]:
            raise Failed(f"jobs {first}, {after} (after it), {bad}, {never} (after it) ended as {states}")
        times = self.slurm.must(
            ["sacct", "-n", "-P", "-X", "-j", f"{first},{after}", "-o", "JobID,Start,End"]
        )
        rows = {line.split("|")[0]: line.split("|")[1:] for line in times.splitlines()}
        if rows[after][0] < rows[first][1]:
            raise Failed(
                f"job {after} began at {rows[after][0]}, before job {first} ended at {rows[first][1]}"
            )
        return f"job {after} began after {first} ended; {never} never ran, as {bad} had failed"

    def check_array(self) -> str:
        """All tasks of an array run and are accounted one by one."""
        job = self.slurm.sbatch("true", "-n1", "--mem=32M", "--array=1-4%2", name="array")
        self.slurm.await_that(f"four accounted tasks of {job}", lambda: len(self.slurm.accounted(job)) == 4)
        states = self.slurm.await_end(job)
        if states != ["COMPLETED"] * 4:
            raise Failed(f"the tasks of array {job} ended as {states}")
        return f"array {job}: 4 tasks COMPLETED"

    def check_reservation(self) -> str:
        """A reserved node takes the reservation's jobs and no others."""
        node = self.free[-1][0]
        name = f"rackloom-check-{os.getpid()}"
        self._await_idle(node)
        self.slurm.must(
            [
                *(
                    "scontrol",
                    "create",
                    "reservation",
                    f"ReservationName={name}",
                    "StartTime=now",
                    "Duration=5",
                ),
                *(f"Users={self.slurm.user}", f"Nodes={node}"),
            ],
            as_user=False,
        )
        try:
            outside = self.slurm.sbatch("true", "-n1", "--mem=32M", "-w", node)
            inside = self.slurm.sbatch(
                "true", "-n1", "--mem=32M", f"--reservation={name}", name="reservation"
            )
            states = self.slurm.await_end(inside)
            reason = self.slurm.await_that(
                f"a reason why job {outside} waits", lambda: self._waiting(outside)
            )
        finally:
            self.slurm.run(["scontrol", "delete", f"ReservationName={name}"], as_user=False)
        self.slurm.cancel(outside)
        if states != ["COMPLETED"]:
            raise Failed(f"job {inside} in the reservation ended as {states}")
        return f"{node}: job {inside} in the reservation ran, job {outside} outside it waited ({reason})"

    def _waiting(self, job: str) -> str:
        state, reason, _ = self.slurm.queue(job)
        if state != "PENDING":
            raise Failed(f"job {job} outside the reservation is {state or 'gone'} on the reserved node")
        return "" if reason in ("None", "") else reason

    def _await_idle(self, node: str) -> None:
        self.slurm.await_that(
            f"{node} idle",
            lambda: self.slurm.must(["sinfo", "-h", "-n", node, "-o", "%t"]).split()[0] == "idle",
        )

    def check_preemption(self) -> str:
        """A job of a higher QOS takes the node from one of a lower QOS."""
        low, high = self.params["low_qos"], self.params["high_qos"]
        mode = self.slurm.setting("PreemptMode")
        if not low or not high or mode == "OFF":
            raise Skipped(f"preemption is off at this site (PreemptMode={mode})")
        node = self.free[0][0]
        self._await_idle(node)
        whole = ("-w", node, "--exclusive", "--mem=0")
        victim = self.slurm.sbatch("exec sleep 600", *whole, f"--qos={low}", "--requeue", name="preemption")
        self.slurm.await_that(f"job {victim} running", lambda: self.slurm.queue(victim)[0] == "RUNNING")
        winner = self.slurm.sbatch("exec sleep 1", *whole, f"--qos={high}")
        suspended = "SUSPEND" in mode
        state = self.slurm.await_that(
            f"job {victim} preempted by {winner}",
            lambda: (
                self.slurm.queue(victim)[0] == "SUSPENDED"
                if suspended
                else "PREEMPTED" in self.slurm.accounted(victim, duplicates=True)
            ),
        )
        ended = self.slurm.await_end(winner)
        self.slurm.cancel(victim)
        if not state or ended != ["COMPLETED"]:
            raise Failed(f"job {winner} ended as {ended}")
        return f"{node}: job {winner} ({high}) preempted job {victim} ({low}), mode {mode}"

    def check_accounting(self) -> str:
        """The accounting database holds the jobs of the other checks, with user and account."""
        wanted = dict(self.slurm.ids)
        if not wanted:
            raise Skipped("no other check submitted a job")
        rows: list[list[str]] = []
        lost: list[str] = []

        def all_there() -> bool:
            nonlocal rows, lost
            out = self.slurm.must(
                ["sacct", "-n", "-P", "-X", "-j", ",".join(wanted.values()), "-o", "JobID,User,Account"]
            )
            rows = [line.split("|") for line in out.splitlines()]
            found = {row[0].split("_")[0] for row in rows}
            lost = sorted(name for name, job in wanted.items() if job not in found)
            return not lost

        try:
            # The controller has a job before the database hears of it.
            self.slurm.await_that("all jobs in the database", all_there)
        except Failed:
            if not lost:
                raise
            raise Failed(f"sacct does not show the jobs of: {', '.join(lost)}") from None
        strangers = [row for row in rows if row[1] != self.slurm.user or not row[2]]
        if strangers:
            raise Failed(f"sacct has the wrong user or account: {strangers[0]}")
        return f"sacct shows {len(wanted)} jobs: {', '.join(sorted(wanted))}"

    def check_ssh_access(self) -> str:
        """Only a user with a job on a compute node may log in to it."""
        if not self.params["ssh_key"]:
            raise Skipped("no key of the user was given")
        node = self.free[-1][0]
        self._await_idle(node)
        with self._key() as key:
            rc, _, said = self._ssh(node, key)
            if rc == 0:
                raise Failed(f"{self.slurm.user} has no job on {node}, yet ssh let it in")
            if "Permission denied" not in said and "slurm" not in said.lower() and "closed" not in said:
                raise Failed(f"ssh to {node} without a job failed for another reason: {said[-300:]}")
            job = self.slurm.sbatch("exec sleep 600", "-n1", "--mem=64M", "-w", node, name="ssh_access")
            self.slurm.await_that(f"job {job} running", lambda: self.slurm.queue(job)[0] == "RUNNING")
            group = self._let_in(node, key, job)
            self.slurm.cancel(job)
            if f"job_{job}" not in group:
                raise Failed(f"ssh to {node} is not inside job {job}: {group}")
        return f"{node}: refused without a job, let in and adopted by job {job}"

    @contextlib.contextmanager
    def _key(self) -> Iterator[str]:
        folder = tempfile.mkdtemp(prefix="rackloom-check-", dir="/run")
        try:
            account = pwd.getpwnam(self.slurm.user)
            path = os.path.join(folder, "key")
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as handle:
                handle.write(self.params["ssh_key"].rstrip("\n") + "\n")
            for item in (folder, path):
                os.chown(item, account.pw_uid, account.pw_gid)
            yield path
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _let_in(self, node: str, key: str, job: str) -> str:
        """Return the control group of a login. The controller has a job running a moment before its node has it."""
        said = ""

        def once() -> str:
            nonlocal said
            rc, group, said = self._ssh(node, key)
            return group if rc == 0 else ""

        try:
            return str(self.slurm.await_that(f"a login to {node}", once))
        except Failed as reason:
            raise Failed(f"ssh to {node} with job {job} running failed: {said[-300:] or reason}") from None

    def _ssh(self, node: str, key: str) -> tuple[int, str, str]:
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": "10",
            "StrictHostKeyChecking": "accept-new",
            "UserKnownHostsFile": os.path.join(os.path.dirname(key), "known_hosts"),
            "IdentitiesOnly": "yes",
        }
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        return self.slurm.run(["ssh", "-i", key, *words, node, "cat /proc/self/cgroup"], timeout=40)


# The first group needs no node for itself and runs side by side; the second takes a node each and runs in turn.
TOGETHER = ("two_nodes", "gpu_isolation", "memory_limit", "dependency", "array")
IN_TURN = ("reservation", "preemption", "ssh_access", "accounting")


def judge(name: str, call: Callable[[], str]) -> dict[str, Any]:
    """Make one check and return its verdict."""
    began = time.monotonic()
    verdict: dict[str, Any] = {"service": "slurm", "name": name, "ok": True, "skipped": "", "detail": ""}
    try:
        verdict["detail"] = call()
    except Skipped as reason:
        verdict["skipped"] = verdict["detail"] = str(reason)
    except Failed as reason:
        verdict.update(ok=False, detail=str(reason))
    except (OSError, KeyError, ValueError, IndexError) as error:
        verdict.update(ok=False, detail=f"{type(error).__name__}: {error}")
    verdict["seconds"] = round(time.monotonic() - began, 2)
    return verdict


def main() -> None:
    """Make the checks that were asked for and return their verdicts; the module itself does not fail on a bad one."""
    module = AnsibleModule(
        argument_spec={
            "user": {"type": "str", "required": True},
            "checks": {"type": "list", "elements": "str", "default": []},
            "partition": {"type": "str", "default": ""},
            "low_qos": {"type": "str", "default": ""},
            "high_qos": {"type": "str", "default": ""},
            "ssh_key": {"type": "str", "no_log": True},
            "strict": {"type": "bool", "default": False},
            "timeout": {"type": "int", "default": 90},
        },
        supports_check_mode=True,
    )
    wanted = module.params["checks"] or [*TOGETHER, *IN_TURN]
    unknown = sorted(set(wanted) - {*TOGETHER, *IN_TURN})
    if unknown:
        module.fail_json(
            msg=f"no such check: {', '.join(unknown)}; there are {', '.join([*TOGETHER, *IN_TURN])}"
        )
    if module.check_mode:
        module.exit_json(changed=False, rackloom_checks=[])
    try:
        pwd.getpwnam(module.params["user"])
    except KeyError:
        module.fail_json(
            msg=f"there is no user {module.params['user']} on this node; deploy stage base first"
        )
    slurm = Slurm(module.params["user"], module.params["partition"], module.params["timeout"])
    verdicts: list[dict[str, Any]] = []
    try:
        checks = Checks(slurm, module.params)
        with ThreadPoolExecutor(len(TOGETHER)) as pool:
            calls = [(name, getattr(checks, f"check_{name}")) for name in TOGETHER if name in wanted]
            verdicts += pool.map(lambda pair: judge(*pair), calls)
        verdicts += [judge(name, getattr(checks, f"check_{name}")) for name in IN_TURN if name in wanted]
    except Failed as reason:
        verdicts.append(
            {
                "service": "slurm",
                "name": "answers",
                "ok": False,
                "skipped": "",
                "detail": str(reason),
                "seconds": 0.0,
            }
        )
    finally:
        slurm.cancel(*slurm.jobs)
    bad = [f"{verdict['name']}: {verdict['detail']}" for verdict in verdicts if not verdict["ok"]]
    if bad and module.params["strict"]:
        module.fail_json(msg="; ".join(bad), rackloom_checks=verdicts)
    module.exit_json(changed=False, rackloom_checks=verdicts)


if __name__ == "__main__":
    main()
