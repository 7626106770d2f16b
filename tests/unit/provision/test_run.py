"""A run against stand-ins: controllers, a boot server and nodes that do as they are told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from rackloom.hardware import BmcError
from rackloom.lab.nodes import make_key
from rackloom.provision import run as module
from rackloom.provision.model import Progress, State
from rackloom.provision.reach import Reach
from rackloom.provision.run import Outcome, ProvisionError, Run, Wish, choose, images_of
from rackloom.provision.watch import Watch
from rackloom.result import ExitCode
from rackloom.site.check import check_site
from rackloom.site.resolved import Site

CLUSTER = """---
name: demo
domain: demo.test
networks:
  cluster: {cidr: 10.0.0.0/24, gateway: 10.0.0.1}
services: {provisioner: [mgmt01]}
provision:
  images: {compute: {os: debian-12, mode: disk}, ram: {os: debian-12, mode: memory}}
  assign: {compute: compute}
  wave: {power: 2, boot: WAVE}
"""
NODES = """---
profiles: {server: {sockets: 1, cores: 2, threads: 1, memory: 2G}}
management: [{name: mgmt01, address: 10.0.0.11, profile: server, mac: "02:00:00:00:00:11"}]
login: [{name: login01, address: 10.0.0.21, profile: server, mac: "02:00:00:00:00:21"}]
compute:
  - name: gpu[01-04]
    address: 10.0.0.51
    profile: server
    mac: ["02:00:00:00:00:51", "02:00:00:00:00:52", "02:00:00:00:00:53", "02:00:00:00:00:54"]
"""
NAMES = ("gpu01", "gpu02", "gpu03", "gpu04")
STORY = ("started", "writing", "installed")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path)


def make_site(folder: Path, boot_wave: int = 32) -> Site:
    (folder / "cluster.yml").write_text(CLUSTER.replace("WAVE", str(boot_wave)))
    (folder / "nodes.yml").write_text(NODES)
    make_key(folder / "ssh/id_ed25519", "test")
    checked = check_site(folder)
    assert checked.site is not None, checked.mistakes
    return checked.site


class World:
    """Machines, their controllers and the boot server's events, in one process."""

    def __init__(self, site: Site, broken: Mapping[str, Exception] | None = None) -> None:
        self.site, self.broken = site, dict(broken or {})
        self.booted: list[tuple[str, bool]] = []
        self.running: set[str] = set()
        self.deaf: set[str] = set()
        self.stories: dict[str, tuple[str, ...]] = {}
        self.afterwards: dict[str, tuple[str, ...]] = {}
        """What nodes report that are at work already."""
        self.most_loading = 0
        self.watch = Watch(["false"], 0)
        self.watch.start = lambda: None  # type: ignore[method-assign]
        self.watch.stop = lambda: None  # type: ignore[method-assign]
        self.watch.caught_up = True
        self.clock = 1000.0
        self.board: Any = None
        self.lock = threading.Lock()

    def has(self, name: str) -> bool:
        return name in self.site.nodes

    def boot(self, name: str, firmware: str, *, leave_running: bool) -> bool:
        assert firmware == "uefi"
        with self.lock:
            if error := self.broken.get(name):
                raise error
            self.booted.append((name, leave_running))
            if leave_running:
                self.tell(name, *self.afterwards.get(name, ()))
                return False
            self.tell(name, *self.stories.get(name, STORY))
            return True

    def tell(self, name: str, *stages: str) -> None:
        """Let a node put reports."""
        for stage in stages:
            mac = self.site.nodes[name].mac
            self.watch.events.put(
                {"kind": "report", "mac": mac, "token": f"token-{name}", "stage": stage, "at": self.now() + 0.1,
                 "data": {"host_keys": [f"ssh-ed25519 {name}"], "message": "disk too small", "cure": "larger"}}
            )  # fmt: skip

    def now(self) -> float:
        if self.board is not None:
            loading = sum(node.loads for node in self.board.nodes.values())
            self.most_loading = max(self.most_loading, loading)
        return self.clock


class Quiet:
    """A display that keeps what it is told."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.said: list[str] = []
        self.on_tick: Callable[[], None] = lambda: None

    def start(self, title: str, board: object) -> None: ...

    def step(self, node: Progress) -> None:
        self.said.append(f"{node.name} {node.state} {node.stage.word}")

    def notice(self, text: str) -> None:
        self.said.append(text)

    def tick(self) -> None:
        self.world.clock += 0.3
        self.on_tick()

    def stop(self) -> None: ...


class NoNetwork(Reach):
    """Everybody who is not deaf lets us in."""

    def lets_in(self, address: str) -> bool:
        return address not in DEAF


DEAF: set[str] = set()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    DEAF.clear()
    monkeypatch.setattr(module, "_STEP", 0.005)
    monkeypatch.setattr(module, "_SSH_EVERY", 0.0)


def start(world: World, armed: Mapping[str, Mapping[str, Any]], patience: float = 60, **wish: Any) -> Run:
    site = world.site
    run = Run(
        site=site,
        wish=Wish(tuple(armed), patience=patience, **wish),
        nodes=[site.nodes[name] for name in armed],
        display=Quiet(world),
        powers=world,
        watch=world.watch,
        reach=NoNetwork("root", 22, None, site.config_dir / "known_hosts"),
        now=world.now,
    )
    rows = [
        {"name": name, "state": "armed", "token": f"token-{name}", "mode": "disk", "image": "compute", **row}
        for name, row in armed.items()
    ]
    run.prepare(rows)
    world.board = run.board
    return run


def finish(run: Run) -> Outcome:
    run.follow()
    return run.outcome(1.0, "again")


def test_all_nodes_come_up_and_their_keys_are_known(site: Site) -> None:
    world = World(site)
    outcome = finish(start(world, {name: {} for name in NAMES}))
    assert outcome.exit_code is ExitCode.OK and outcome.resume == ""
    assert {row["state"] for row in outcome.nodes} == {"up"}
    known = (site.config_dir / "known_hosts").read_text()
    assert all(f"{site.nodes[name].address},{name} ssh-ed25519 {name}\n" in known for name in NAMES)


def test_bad_nodes_do_not_hold_up_the_others(site: Site) -> None:
    world = World(site, {"gpu01": BmcError("gpu01", "its BMC does not answer", "see its cable")})
    world.stories = {"gpu02": ("started", "failed"), "gpu03": ()}
    outcome = finish(start(world, {name: {} for name in NAMES}))
    states = {row["name"]: row["state"] for row in outcome.nodes}
    assert states == {"gpu01": "failed", "gpu02": "failed", "gpu03": "lost", "gpu04": "up"}
    told = {problem.details["host"]: problem for problem in outcome.problems}
    assert (told["gpu01"].message, told["gpu01"].cure) == ("its BMC does not answer", "see its cable")
    assert told["gpu02"].message == "disk too small"
    assert site.nodes["gpu03"].mac in told["gpu03"].message and told["gpu03"].cure
    assert outcome.exit_code is ExitCode.FAILED and outcome.resume == "again"


def test_a_node_that_stopped_is_named_before_it_is_given_up(site: Site) -> None:
    world = World(site)
    world.stories = {"gpu01": ("started", "writing")}
    run = start(world, {"gpu01": {}})
    outcome = finish(run)
    assert outcome.exit_code is ExitCode.UNREACHABLE
    said = run.display.said  # type: ignore[attr-defined]
    named = next(number for number, line in enumerate(said) if "has not moved" in line and "writing" in line)
    assert named < said.index("gpu01 lost writing")
    assert sum("has not moved" in line for line in said) == 1


def test_no_more_load_at_once_than_the_wave_allows(tmp_path: Path) -> None:
    world = World(make_site(tmp_path, boot_wave=1))
    outcome = finish(start(world, {name: {} for name in NAMES}))
    assert outcome.exit_code is ExitCode.OK
    assert world.most_loading == 1


def test_a_node_that_is_at_work_is_followed_and_not_restarted(site: Site) -> None:
    world = World(site)
    world.tell("gpu01", "started", "writing")
    run = start(world, {"gpu01": {"state": "waiting", "age": 100.0}, "gpu02": {"state": "waiting"}})
    world.afterwards = {"gpu01": ("installed",)}
    outcome = finish(run)
    assert outcome.exit_code is ExitCode.OK
    assert dict(world.booted) == {"gpu01": True, "gpu02": False}


def test_stopping_leaves_the_nodes_to_themselves(site: Site) -> None:
    world = World(site)
    world.stories = {"gpu01": ("started",)}
    run = start(world, {"gpu01": {}})
    run.display.on_tick = run.stop.ask  # type: ignore[attr-defined]
    outcome = finish(run)
    assert outcome.exit_code is ExitCode.INTERRUPTED and outcome.resume == "again"
    assert "gpu01" in outcome.problems[-1].message


def test_a_node_that_runs_already_is_kept_or_refused(site: Site) -> None:
    DEAF.add(site.nodes["gpu02"].address)
    rows = {
        "gpu01": {"state": "running", "message": "it runs; set reinstall_and_erase_disks"},
        "gpu02": {"state": "running", "message": "it runs; set reinstall_and_erase_disks"},
        "gpu03": {"state": "installed", "message": "it was installed; set reinstall_and_erase_disks"},
    }
    world = World(site)
    outcome = finish(start(world, rows))
    states = {row["name"]: row["state"] for row in outcome.nodes}
    assert states == {"gpu01": str(State.KEPT), "gpu02": str(State.REFUSED), "gpu03": str(State.REFUSED)}
    assert all(module.ERASE_FLAG in problem.cure for problem in outcome.problems)
    assert not world.booted, "a node that runs was restarted"


def test_without_power_nothing_is_switched(site: Site) -> None:
    world = World(site)
    run = start(world, {"gpu01": {}}, power=False)
    by_hand = iter([STORY])
    run.display.on_tick = lambda: world.tell("gpu01", *next(by_hand, ()))  # type: ignore[attr-defined]
    assert finish(run).exit_code is ExitCode.OK
    assert not world.booted


@pytest.mark.parametrize(
    ("names", "words"),
    [(["mgmt01"], "boot server itself"), (["login01"], "no image"), (["gpu09"], "gpu09")],
)
def test_what_cannot_be_begun_is_told_at_once(site: Site, names: list[str], words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        choose(site, names)
    assert getattr(caught.value, "cure", "")


def test_names_ranges_groups_and_all(site: Site) -> None:
    for asked in (["gpu[01-04]"], ["compute"], ["all"], list(NAMES)):
        assert tuple(node.name for node in choose(site, asked)) == NAMES


def test_an_image_that_is_not_built_is_named_with_the_command(site: Site) -> None:
    nodes = choose(site, ["gpu01"])
    with pytest.raises(ProvisionError, match="compute") as caught:
        images_of(site, nodes)
    assert "rackloom image build compute" in caught.value.cure
    (site.config_dir / "images/compute/current").mkdir(parents=True)
    assert images_of(site, nodes) == ["compute"]
