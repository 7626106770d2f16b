"""One run of `rackloom provision`, from the checks before it to the nodes that let us in."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rackloom.provision.model import Board, Progress, Stage, State, where
from rackloom.provision.reach import Reach
from rackloom.provision.watch import Watch
from rackloom.result import ExitCode, Problem
from rackloom.run.runner import PlayRequest, RawEvent, Stop, play

if TYPE_CHECKING:
    from rackloom.provision.show import Display
    from rackloom.run.progress import ProgressSink
    from rackloom.site.resolved import Node, Site

EVERY_NODE = "all"
IMAGES = "images"
"""The folder of a site with the images that were built for it."""
ERASE_FLAG = "--reinstall-and-erase-disks"
PATIENCE = 900.0
"""Seconds that a node may stand still before it is given up."""
_STALL_SHARE = 3
"""It is named after one part in so many of that."""
_STEP = 0.3
_SSH_EVERY = 3.0
_STATES = {"waiting": State.QUEUED, "armed": State.QUEUED}


class ProvisionError(ValueError):
    """What is asked cannot be begun; nothing was touched. `cure` says what to do."""

    def __init__(self, message: str, cure: str = "") -> None:
        super().__init__(message)
        self.cure = cure


@dataclass(frozen=True)
class Wish:
    """What is asked for."""

    names: tuple[str, ...]
    erase: bool = False
    power: bool = True
    patience: float = PATIENCE


@dataclass(frozen=True)
class Outcome:
    """How it ended. `nodes` is one row a node."""

    exit_code: ExitCode
    problems: tuple[Problem, ...] = ()
    nodes: tuple[Mapping[str, Any], ...] = ()
    seconds: float = 0.0
    resume: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The `data` of the JSON answer."""
        return {
            "seconds": round(self.seconds, 1),
            "nodes": {str(node["name"]): dict(node) for node in self.nodes},
            "resume": self.resume,
        }


@dataclass(frozen=True)
class Armed:
    """What the boot server said to being asked to arm: one row a node, and words where it did not do it."""

    rows: tuple[Mapping[str, Any], ...]
    trouble: str = ""


def choose(site: Site, names: Sequence[str]) -> list[Node]:
    """Return the nodes that are asked for, in the site's order. Raises ProvisionError or UnknownNodeError."""
    from rackloom.hardware import select  # noqa: PLC0415 - slow to load

    provision = site.cluster.provision
    if not provision.on:
        raise ProvisionError("cluster.yml names no image to install", "declare one under provision.images")
    if not site.groups["provisioner"]:
        raise ProvisionError(
            "no node is the boot server", "name one in cluster.yml: services: {provisioner: [NODE]}"
        )
    servers = set(site.groups["provisioner"])
    able = {name: node for name, node in site.nodes.items() if node.image and name not in servers}
    if tuple(names) == (EVERY_NODE,):
        found = list(able.values())
        if not found:
            raise ProvisionError(
                "no node has an image", "say in provision.assign which list gets which image"
            )
    else:
        wanted = select(site, names)
        if own := [name for name in wanted if name in servers]:
            raise ProvisionError(f"{', '.join(own)} is the boot server itself", "it is installed by hand")
        if bare := [name for name in wanted if name not in able]:
            raise ProvisionError(
                f"no image for {', '.join(bare)}", "give it one: `image:` in nodes.yml, or provision.assign"
            )
        found = [node for name, node in able.items() if name in wanted]
    if blind := [node.name for node in found if not node.mac]:
        raise ProvisionError(
            f"no hardware address for {', '.join(blind)}",
            "give its mac in nodes.yml, or: rackloom node discover",
        )
    return found


def images_of(site: Site, nodes: Sequence[Node]) -> list[str]:
    """Return the names of the images these nodes get. Raises ProvisionError where one has not been built."""
    names = sorted({node.image for node in nodes})
    for name in names:
        built = (site.config_dir / IMAGES / name / "current").exists()
        if site.cluster.provision.images[name].kind == "image" and not built:
            raise ProvisionError(f"the image {name} has not been built", f"rackloom image build {name}")
    return names


class Powers:
    """The management controllers of some nodes; `None` where there is none."""

    def __init__(self, site: Site, secrets: Mapping[str, str], names: Sequence[str]) -> None:
        from rackloom.hardware import targets  # noqa: PLC0415 - slow to load

        spoken = site.cluster.provision.bmc.protocol != "none"
        wanted = [name for name in names if spoken and site.nodes[name].bmc]
        found = targets(site, secrets, wanted) if wanted else []
        self.targets = {target.node: target for target in found}

    def has(self, name: str) -> bool:
        """Whether a node can be switched from here."""
        return name in self.targets

    def boot(self, name: str, firmware: str, *, leave_running: bool) -> bool:
        """Have a node boot from the network now. Raises BmcError.

        `leave_running` spares one that is on: it is at work already. Returns whether it was (re)started.
        """
        from rackloom.hardware import connect  # noqa: PLC0415

        bmc = connect(self.targets[name])
        try:
            on = bmc.power() == "on"
            if on and leave_running:
                return False
            bmc.boot_once("pxe", firmware)
            bmc.set_power("cycle" if on else "on")
            return True
        finally:
            with suppress(Exception):
                bmc.close()


@dataclass
class Run:
    """One run on a site that was found good."""

    site: Site
    wish: Wish
    nodes: Sequence[Node]
    display: Display
    powers: Any
    """Powers, or what tests put in its place."""
    watch: Watch
    reach: Reach
    board: Board = field(default_factory=Board)
    stop: Stop = field(default_factory=Stop)
    now: Callable[[], float] = time.monotonic
    _switching: dict[str, Future[bool]] = field(default_factory=dict)
    _knocking: dict[str, Future[bool]] = field(default_factory=dict)
    _knocked: dict[str, float] = field(default_factory=dict)
    _recorded: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _resumed: set[str] = field(default_factory=set)
    _before: set[str] = field(default_factory=set)
    """Nodes that did something in an earlier run."""
    _told_trouble: str = ""
    _told_past: bool = False

    def prepare(self, armed: Sequence[Mapping[str, Any]]) -> None:
        """Put the nodes on the board, as the boot server answered for each."""
        rows = {str(row["name"]): row for row in armed}
        self.board.site_macs = frozenset(node.mac for node in self.site.nodes.values() if node.mac)
        for node in self.nodes:
            row = rows.get(node.name, {})
            progress = Progress(
                name=node.name,
                mac=node.mac.lower(),
                address=node.address,
                mode=str(row.get("mode", "")),
                image=str(row.get("image", node.image)),
                token=str(row.get("token", "")),
            )
            self.board.add(progress)
            state = str(row.get("state", ""))
            if state == "waiting":
                self._resumed.add(node.name)
                progress.began = progress.moved = self.now() - float(row.get("age") or 0.0)
            if state not in _STATES:
                self._set_aside(progress, state, str(row.get("message", "")))

    def _set_aside(self, node: Progress, state: str, message: str) -> None:
        """A node that was not armed: it runs and lets us in, or somebody has to decide."""
        now = self.now()
        if state == "running" and self.reach.lets_in(node.address):
            how = (
                "rackloom node power cycle brings the newest image" if node.mode == "memory"
                else f"to install it anew: {ERASE_FLAG}"
            )  # fmt: skip
            node.end(State.KEPT, now, "", f"it runs already; {how}")
            return
        problem, _, cure = message.partition("; ")
        if state == "running" and node.mode == "memory":
            problem = "it runs an operating system that does not let us in"
            cure = f"rackloom node power off {node.name}, then run this again"
        cure = cure.replace("set reinstall_and_erase_disks", f"use {ERASE_FLAG}")
        node.end(
            State.REFUSED, now, state or "not_armed", problem or "the boot server does not know it", cure
        )

    def follow(self) -> None:
        """Switch on what waits and follow everything until all have ended, or somebody stops us."""
        for node in self.board.nodes.values():
            if node.over:
                self.display.step(node)
        if self.board.finished():
            return
        wave = self.site.cluster.provision.wave
        self.watch.start()
        with (
            ThreadPoolExecutor(max_workers=wave.power) as power_pool,
            ThreadPoolExecutor(max_workers=32) as ssh_pool,
        ):
            try:
                while not self.board.finished() and not self.stop.asked:
                    self.watch.drain(self._event, _STEP)
                    self._catch_up()
                    if self._told_past:
                        self._switch_on(power_pool, wave.boot)
                    self._switched()
                    self._knock(ssh_pool)
                    self._stand_still()
                    self._tell_trouble()
                    self.display.tick()
            finally:
                self.watch.stop()
                power_pool.shutdown(wait=True, cancel_futures=True)
                ssh_pool.shutdown(wait=True, cancel_futures=True)

    # --- One round of the loop ---

    def _event(self, event: Mapping[str, Any], at: float) -> None:
        node = self.board.feed(event, at)
        mac = str(event.get("mac") or "")
        told = self.board.of_mac(mac) if event.get("kind") == "report" else None
        if told is not None:
            self._record(told)
        if node is not None and self._told_past:
            self.display.step(node)

    def _catch_up(self) -> None:
        """What nodes did before we came is told as one step each."""
        if self.watch.caught_up and not self._told_past:
            self._told_past = True
            for node in self.board.nodes.values():
                if node.state is State.MOVING:
                    self.display.step(node)

    def _record(self, node: Progress) -> None:
        """Host keys go into known_hosts as soon as the node has told them."""
        if node.host_keys and self._recorded.get(node.name) != node.host_keys:
            self._recorded[node.name] = node.host_keys
            self.reach.record({(node.name, node.address): node.host_keys})

    def _switch_on(self, pool: ThreadPoolExecutor, most: int) -> None:
        """Start as many of those that wait as may load at once."""
        loading = sum(node.loads for node in self.board.nodes.values()) + len(self._switching)
        for node in self.board.nodes.values():
            if node.name in self._switching or node.over:
                continue
            resumed = node.name in self._resumed
            if node.state is not State.QUEUED and not resumed:
                continue
            if loading >= most:
                return
            self._resumed.discard(node.name)
            loading += 1
            if not self.wish.power or not self.powers.has(node.name):
                if node.state is State.QUEUED:
                    node.reach(Stage.ARMED, self.now())
                    self.display.notice(
                        f"{node.name}: switch it on and let it boot from the network; it is armed"
                    )
                continue
            firmware = self._firmware(node.name)
            seen = node.stage > Stage.ARMED
            if seen:
                self._before.add(node.name)
            else:
                node.began = self.now()
            self._switching[node.name] = pool.submit(
                self.powers.boot, node.name, firmware, leave_running=resumed and seen
            )

    def _firmware(self, name: str) -> str:
        profile = self.site.profiles.get(self.site.nodes[name].profile)
        return str(getattr(profile, "firmware", "") or "uefi")

    def _switched(self) -> None:
        for name, future in list(self._switching.items()):
            if not future.done():
                continue
            del self._switching[name]
            node, now = self.board.nodes[name], self.now()
            error = future.exception()
            if error is not None:
                message = str(getattr(error, "message", "") or error)
                cure = str(getattr(error, "cure", "")) or f"rackloom node power status {name}"
                node.end(State.FAILED, now, "bmc", message, cure)
            elif future.result():
                if name in self._before:
                    # What it did before it was restarted does not count any more.
                    node.stage, node.detail, node.began, node.times = Stage.ARMED, "", now, {}
                node.reach(Stage.POWERED, now)
            node.moved = max(node.moved, now)
            self.display.step(node)

    def _knock(self, pool: ThreadPoolExecutor) -> None:
        """Ask those for SSH that may answer."""
        now = self.now()
        for name, future in list(self._knocking.items()):
            if not future.done():
                continue
            del self._knocking[name]
            node = self.board.nodes[name]
            if not node.over and not future.exception() and future.result():
                node.reach(Stage.SSH, now)
                node.end(State.UP, now)
                self.display.step(node)
        for node in self.board.nodes.values():
            due = now - self._knocked.get(node.name, 0.0) >= _SSH_EVERY
            if node.knocks and due and node.name not in self._knocking:
                self._knocked[node.name] = now
                self._knocking[node.name] = pool.submit(self.reach.lets_in, node.address)

    def _stand_still(self) -> None:
        """Name the nodes that stopped moving, and give up those that did so for too long."""
        now, patience = self.now(), self.wish.patience
        for node in self.board.standing(now, patience / _STALL_SHARE):
            if node.name in self._switching or node.name in self._resumed:
                continue
            code, message, cure = where(node, self.board)
            if now - node.moved > patience:
                node.end(State.LOST, now, code, message, cure)
                self.display.step(node)
            elif not node.told_stall:
                node.told_stall = True
                stood = f"{node.name} has not moved for {now - node.moved:.0f} s, at {node.stage.word}"
                self.display.notice(f"{stood}: {message}; {cure}")

    def _tell_trouble(self) -> None:
        if (trouble := self.watch.trouble) != self._told_trouble:
            self._told_trouble = trouble
            if trouble:
                self.display.notice(f"the boot server is not to be reached for now: {trouble}")

    # --- The end ---

    def outcome(self, seconds: float, resume: str) -> Outcome:
        """Say how it ended."""
        nodes, now = list(self.board.nodes.values()), self.now()
        problems = [
            Problem(node.code, node.message, node.cure, {"host": node.name, "stage": node.stage.word})
            for node in nodes
            if node.state in (State.FAILED, State.LOST, State.REFUSED)
        ]
        code = ExitCode.OK
        if self.stop.asked and not self.board.finished():
            left = [node.name for node in nodes if not node.over]
            message = f"stopped; {', '.join(left)} go on by themselves"
            problems.append(Problem("interrupted", message, "run the same command again to follow them"))
            code = ExitCode.INTERRUPTED
        elif any(node.state in (State.FAILED, State.REFUSED) for node in nodes):
            code = ExitCode.FAILED
        elif problems:
            code = ExitCode.UNREACHABLE
        rows = tuple(row(node, now) for node in nodes)
        return Outcome(code, tuple(problems), rows, seconds, "" if code is ExitCode.OK else resume)


def row(node: Progress, now: float) -> dict[str, Any]:
    """One node as plain data."""
    return {
        "name": node.name,
        "state": str(node.state),
        "stage": node.stage.word,
        "detail": node.detail,
        "seconds": round(node.seconds(now), 1),
        "stages": dict(node.times),
        "image": node.image,
        "mode": node.mode,
        "address": node.address,
        "code": node.code,
        "message": node.message,
        "cure": node.cure,
    }


def provision(config_dir: Path, wish: Wish, display: Display, progress: ProgressSink) -> Outcome:
    """Take nodes from bare machines to SSH. Refuses (exit code 2, nothing touched) what cannot be begun."""
    from rackloom.hardware import BmcError  # noqa: PLC0415 - slow to load
    from rackloom.hardware.targets import UnknownNodeError  # noqa: PLC0415
    from rackloom.run import preflight  # noqa: PLC0415
    from rackloom.run.deploy import Job  # noqa: PLC0415
    from rackloom.run.deploy import run as run_job  # noqa: PLC0415
    from rackloom.site import secrets  # noqa: PLC0415

    began = time.monotonic()
    config_dir = config_dir.absolute()
    looked = preflight.look(config_dir)
    if looked.problems:
        return Outcome(ExitCode.MISTAKES, looked.problems)
    try:
        nodes = choose(looked.site, wish.names)
        powers = Powers(
            looked.site, secrets.load(config_dir), [node.name for node in nodes] if wish.power else []
        )
        images = images_of(looked.site, nodes)
    except (ProvisionError, UnknownNodeError, BmcError) as error:
        return Outcome(ExitCode.MISTAKES, (Problem("provision", str(error), error.cure),))
    # An image that none of these nodes gets need not be there yet.
    job = Job("provision", "playbooks/provision.yml", extra_vars={"boot_server_publish": images})
    readied = run_job(config_dir, job, progress)
    if readied.exit_code is not ExitCode.OK:
        return Outcome(
            readied.exit_code, readied.problems, (), time.monotonic() - began, _resume(wish, config_dir)
        )
    armed = arm(config_dir, [node.name for node in nodes], erase=wish.erase)
    if armed.trouble:
        cure = "rackloom provision needs the boot server: see that its node answers"
        return Outcome(ExitCode.FAILED, (Problem("arm", armed.trouble, cure),), (), time.monotonic() - began)
    reach = Reach.of(looked.site)
    server = looked.site.group("provisioner")[0]
    ago = max((float(row.get("age") or 0.0) for row in armed.rows), default=0.0)
    run = Run(
        site=looked.site,
        wish=wish,
        nodes=nodes,
        display=display,
        powers=powers,
        watch=Watch(reach.command_on(server), ago),
        reach=reach,
    )
    with run.stop.on_signals():
        run.prepare(armed.rows)
        display.start(f"provision {looked.site.cluster.name}", run.board)
        try:
            run.follow()
        finally:
            display.stop()
    return run.outcome(time.monotonic() - began, _resume(wish, config_dir))


def arm(config_dir: Path, names: Sequence[str], *, erase: bool = False, state: str = "armed") -> Armed:
    """Run the arming playbook for these nodes."""
    from rackloom.site import secrets  # noqa: PLC0415
    from rackloom.site.paths import home  # noqa: PLC0415

    rows: list[Mapping[str, Any]] = []
    words: list[str] = []

    def take(raw: RawEvent) -> None:
        data = raw.get("event_data") or {}
        result = data.get("res") or {}
        if isinstance(result, dict) and "rackloom_armed" in result:
            rows.extend(result["rackloom_armed"])
        elif str(raw.get("event", "")) in ("runner_on_failed", "runner_on_unreachable"):
            words.append(str(result.get("msg") or result))
        elif raw.get("event") in ("error", "verbose") and raw.get("stdout"):
            words.append(str(raw["stdout"]))

    request = PlayRequest(
        project=home().absolute(),
        playbook="playbooks/lifecycle/arm.yml",
        inventory=(config_dir,),
        extra_vars={
            "provision_nodes": list(names),
            "reinstall_and_erase_disks": erase,
            "provision_state": state,
        },
        env={
            secrets.KEY_VARIABLE: str(secrets.key_file(config_dir).absolute()),
            "RACKLOOM_CONFIG": str(config_dir),
        },
    )
    end = play(request, take)
    if rows:
        return Armed(tuple(rows))
    said = re.sub(r"\s+", " ", " ".join(words[-3:])).strip()
    return Armed((), said or end.fault or f"ansible-playbook ended with status {end.rc}")


def _resume(wish: Wish, config_dir: Path) -> str:
    words = ["rackloom", "provision", *wish.names]
    words += [ERASE_FLAG] if wish.erase else []
    if config_dir != Path("config").absolute():
        words += ["--config", str(config_dir)]
    return shlex.join(words)
