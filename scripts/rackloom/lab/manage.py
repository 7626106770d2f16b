"""Bring a lab up, look at it, take it down.

A lab lives in three places: containers and one network of the engine, labelled with its name,
and the folder .lab/<name>/ with its site, its keys and lab.json. `down` removes just these.
"""

from __future__ import annotations

import ipaddress
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rackloom.lab import config, edge, image, kubernetes, network, vms
from rackloom.lab.errors import LabError
from rackloom.lab.machine import detect
from rackloom.lab.nodes import Fleet, NodeSpec, close_connections, known_hosts
from rackloom.lab.options import LabOptions
from rackloom.lab.podman import LABEL_LAB, LABEL_ROOT, Container, Podman, owner_conflict
from rackloom.lab.shell import locked
from rackloom.site.paths import home

if TYPE_CHECKING:
    from rackloom.run.deploy import RunOutcome
    from rackloom.run.progress import ProgressSink

__all__ = [
    "LabError",
    "LabOptions",
    "LabState",
    "LabStatus",
    "down",
    "labs",
    "power",
    "recorded",
    "ssh_command",
    "status",
    "up",
    "vm_add",
    "vm_remove",
    "vm_room",
]

Progress = Callable[[str], None]


@dataclass(frozen=True)
class LabState:
    """A lab as recorded in lab.json, and what the last deployment said."""

    options: LabOptions
    folder: Path
    subnet: str
    image: str
    nodes: tuple[NodeSpec, ...]
    deployed: tuple[str, ...] = ()
    """Nodes a deployment has finished on."""
    off: tuple[str, ...] = ()
    """Nodes switched off on purpose; `up` leaves them alone."""
    machines: tuple[vms.VmSpec, ...] = ()
    """Virtual machines on the lab's network; they get their system by `rackloom provision`."""
    room: str = ""
    """The image of the machine room, where there are machines."""
    deploy: RunOutcome | None = None
    validation: RunOutcome | None = None

    @property
    def config_dir(self) -> Path:
        """The lab's site."""
        return self.folder / "config"

    def node(self, name: str) -> NodeSpec:
        """Return a node by name. Raises LabError."""
        for node in self.nodes:
            if node.name == name:
                return node
        known = ", ".join([*(node.name for node in self.nodes), *(vm.name for vm in self.machines)])
        raise LabError(f"the lab '{self.options.name}' has no node '{name}'", f"its nodes: {known}")


@dataclass(frozen=True)
class NodeStatus:
    """A node and whether it runs: `state` is running, exited, …, or missing."""

    name: str
    role: str
    address: str
    state: str


@dataclass(frozen=True)
class LabStatus:
    """What there is of a lab; `exists` False means nothing at all."""

    name: str
    exists: bool
    subnet: str = ""
    os: str = ""
    config_dir: Path | None = None
    nodes: tuple[NodeStatus, ...] = field(default_factory=tuple)
    deployed: bool = False
    """Whether a deployment has finished on every node."""
    escapes: edge.Escapes | None = None
    """What tried to leave a closed lab."""


def up(
    options: LabOptions, progress: Progress, *, display: ProgressSink | None = None, deploy: bool = True
) -> LabState:
    """Make the lab what `options` say and deploy the site to it; go on where an earlier run stopped.

    More compute nodes than before are added and deployed alone, with the controllers; fewer
    are not taken away. `deploy` False stops after the nodes have booted. How deployment and
    validation ended is in the result; only the lab itself raises LabError.
    """
    options = options.check()
    root = home()
    with locked(root / f".cache/lab-{options.name}.lock"):
        machine = detect()
        if options.closed:
            machine = replace(machine, resolvers=(edge.DEAD_RESOLVER,))
        podman = Podman(machine)
        state = _boot(options, podman, root, progress)
        if deploy:
            state = _deploy(state, progress, display)
            _save(state)
    return state


def down(name: str, *, images: bool = False, progress: Progress = lambda _: None) -> bool:
    """Remove the lab's nodes, network and folder; with `images` also node images nobody uses.

    Returns whether there was anything to remove.
    """
    LabOptions(name=name).check()
    root = home()
    folder = _folder(root, name)
    with locked(root / f".cache/lab-{name}.lock"):
        podman = Podman(detect())
        found = _own(podman, name, root)
        close_connections((folder / "cp").glob("*"))
        if found:
            progress(f"removing {len(found)} nodes")
        podman.remove([container.name for container in found])
        networks = [row for row in podman.networks() if row.get("name") == _network(name)]
        edge.open_(name, podman.machine)
        if networks and network.labels_of(networks[0]).get(LABEL_ROOT) == str(root):
            podman.call("network", "rm", "--force", _network(name))
        existed = folder.exists()
        shutil.rmtree(folder, ignore_errors=True)
        if folder.parent.is_dir() and not any(folder.parent.iterdir()):
            folder.parent.rmdir()
        if images:
            for removed in image.remove_all(podman):
                progress(f"removed image {removed}")
    return bool(found) or bool(networks) or existed


def status(name: str) -> LabStatus:
    """Return what there is of the lab. Raises LabError where it belongs to another checkout."""
    root = home()
    state = _load(_folder(root, name))
    states = {container.node: container.state for container in _own(Podman(detect()), name, root)}
    if state is None:
        return LabStatus(name, exists=bool(states))
    return LabStatus(
        name,
        exists=True,
        subnet=state.subnet,
        os=state.options.os,
        config_dir=state.config_dir,
        nodes=tuple(
            NodeStatus(node.name, node.role, node.address, states.get(node.name, "missing"))
            for node in state.nodes
        ),
        deployed={node.name for node in state.nodes} <= set(state.deployed),
        escapes=edge.escapes(name, detect()) if state.options.closed else None,
    )


def ssh_command(name: str, node: str, user: str = "root") -> list[str]:
    """Return the ssh command line to a node as root, or as a person whose key the lab made (alice, bob).

    Raises LabError where lab or node do not exist.
    """
    state = _must_load(name)
    site = state.config_dir
    key = site / "ssh" / ("id_ed25519" if user == "root" else user)
    if not key.exists():
        raise LabError(f"the lab has no key for {user}", "it has keys for root, alice and bob")
    return [
        "ssh",
        "-i",
        str(key),
        "-o",
        f"UserKnownHostsFile={site / 'known_hosts'}",
        "-o",
        "IdentitiesOnly=yes",
        f"{user}@{_address(state, node)}",
    ]


def _address(state: LabState, name: str) -> str:
    """Return the address of a node or a virtual machine. Raises LabError."""
    machines = {vm.name: vm.address for vm in state.machines}
    return machines.get(name) or state.node(name).address


def power(name: str, node: str, *, on: bool, hard: bool = False) -> None:
    """Switch a node on (and wait until it has booted) or off. A node switched off stays so over `up`.

    `hard` cuts the power: nothing on the node, nor in its containers, does anything more.
    """
    root = home()
    with locked(root / f".cache/lab-{name}.lock"):
        state = _must_load(name)
        spec = state.node(node)
        fleet = _fleet(state, Podman(detect()), root)
        if on:
            fleet.podman.call("start", fleet.container(node))
            fleet.wait([spec])
        else:
            words = ("kill", "--signal", "KILL") if hard else ("stop",)
            fleet.podman.call(*words, fleet.container(node))
            fleet.podman.call("wait", fleet.container(node))
        off = [other for other in state.off if other != node]
        _save(replace(state, off=tuple(off if on else [*off, node])))


def vm_add(name: str, wanted: Sequence[vms.VmSpec], progress: Progress) -> LabState:
    """Add virtual machines to a lab that is up, and to its site; they are off and their disks are empty.

    The addresses in `wanted` are not looked at: each gets fresh ones. A machine that is there stays as it is.
    """
    root = home()
    with locked(root / f".cache/lab-{name}.lock"):
        state = _must_load(name)
        podman = Podman(detect())
        _own(podman, name, root)
        subnet = ipaddress.IPv4Network(state.subnet)
        machines = list(state.machines)
        for vm in wanted:
            if vm.name in (node.name for node in state.nodes) or vm.name == vms.ROOM:
                raise LabError(f"the lab '{name}' has a node '{vm.name}' already", "choose another name")
            if vm.name not in (other.name for other in machines):
                address = vms.free_address(subnet, [other.address for other in machines])
                machines.append(replace(vm, address=address, mac=vms.fresh_mac()).check())
        state = replace(state, machines=tuple(machines))
        if not podman.image_exists(state.room):
            state = replace(state, room=vms.ensure_image(podman, podman.machine, root / ".cache", progress))
        config.write(state.config_dir, state.options, subnet, state.nodes, podman.machine, state.machines)
        _save(state)
        return _furnish(state, _fleet(state, podman, root), progress)


def vm_remove(name: str, machine: str) -> LabState:
    """Take a virtual machine with its disk away, from the lab and its site."""
    root = home()
    with locked(root / f".cache/lab-{name}.lock"):
        state = _must_load(name)
        if machine not in (vm.name for vm in state.machines):
            known = ", ".join(vm.name for vm in state.machines) or "none"
            raise LabError(f"the lab '{name}' has no machine '{machine}'", f"its machines: {known}")
        podman = Podman(detect())
        _room(state, _fleet(state, podman, root)).remove(machine)
        state = replace(state, machines=tuple(vm for vm in state.machines if vm.name != machine))
        subnet = ipaddress.IPv4Network(state.subnet)
        config.write(state.config_dir, state.options, subnet, state.nodes, podman.machine, state.machines)
        _save(state)
        return state


def vm_room(name: str) -> tuple[LabState, vms.Room]:
    """Return a lab with its machine room. Raises LabError."""
    state = _must_load(name)
    return state, _room(state, _fleet(state, Podman(detect()), home()))


def _room(state: LabState, fleet: Fleet) -> vms.Room:
    return vms.Room(
        replace(fleet, image=state.room, os=vms.ROOM_OS),
        vms.room_address(state.subnet),
    )


def _furnish(state: LabState, fleet: Fleet, progress: Progress) -> LabState:
    """Have the machine room open, the machines in it, and the site able to switch them."""
    from rackloom.site import secrets  # noqa: PLC0415 - slow to load

    room = _room(state, fleet)
    folder = state.config_dir
    key = (folder / "ssh/id_ed25519.pub").read_text().strip()
    room.open(key)
    secrets.init(folder)
    known = secrets.load(folder)
    if not known.get("bmc_password"):
        secrets.store(folder, {"bmc_user": vms.BMC_USER, "bmc_password": vms.make_password()})
        known = secrets.load(folder)
    certificate, accelerator = room.define(state.machines, str(known["bmc_password"]))
    config.replace(folder / vms.CERTIFICATE, certificate)
    config.add_provisioning(folder, state.nodes)
    how = "with KVM" if accelerator == "kvm" else "emulated, so slow"
    progress(f"machines {', '.join(vm.name for vm in state.machines)} are there ({how})")
    return state


# --- Steps of `up` ------------------------------------------------------------------------


def _boot(options: LabOptions, podman: Podman, root: Path, progress: Progress) -> LabState:
    """Have every node of the lab there and running, and its site written."""
    machine = podman.machine
    folder = _folder(root, options.name)
    _own(podman, options.name, root)
    before = _load(folder)
    options = _merge(options, before, progress)
    state = _record(options, before, podman, root, progress)
    fleet = _fleet(state, podman, root)
    subnet = ipaddress.IPv4Network(state.subnet)
    if options.closed:
        edge.close(options.name, network.bridge(podman, fleet.network), subnet, machine)
    if not machine.resolvers:
        progress("this machine's name servers are not reachable from nodes: package downloads may fail")
    admin_key = config.write(state.config_dir, options, subnet, state.nodes, machine, state.machines)
    _save(state)

    wanted = [node for node in state.nodes if node.name not in state.off]
    running = fleet.present()
    missing = [node.name for node in wanted if not running.get(node.name)]
    if missing:
        progress(f"starting {len(missing)} nodes on {state.subnet}: {', '.join(missing)}")
    created = fleet.start(wanted, admin_key)
    # A container made anew (its old one was removed by hand) has nothing on it.
    state = replace(state, deployed=tuple(name for name in state.deployed if name not in created))
    _save(state)
    booted = fleet.wait(wanted)
    for name, said in booted.items():
        if said.failed:
            progress(f"{name} is up, but these units failed: {', '.join(said.failed)}")
    _learn_host_keys(state, known_hosts(wanted, booted))

    from rackloom.site import secrets  # noqa: PLC0415 - slow to load

    secrets.init(state.config_dir)
    return _furnish(state, fleet, progress) if state.machines else state


def _merge(options: LabOptions, before: LabState | None, progress: Progress) -> LabOptions:
    """Fit what is asked to the lab that is there: it may grow, not change its kind."""
    if before is None:
        return options
    old = before.options
    usual = LabOptions()
    for what in ("os", "gpus", "management", "closed", "kubernetes"):
        # The usual value may just not have been asked for: `up` alone goes on with any lab.
        if getattr(options, what) not in (getattr(old, what), getattr(usual, what)):
            raise LabError(
                f"the lab '{old.name}' was made with {_flag(what, getattr(old, what))}",
                f"take it down first, or choose another --name for {_flag(what, getattr(options, what))}",
            )
    if usual.compute != options.compute < old.compute:
        progress(f"the lab keeps its {old.compute} compute nodes")
    return replace(old, compute=max(options.compute, old.compute))


def _flag(what: str, value: object) -> str:
    """Return an option as one writes it."""
    opposite = {"closed": "open", "kubernetes": "no-kubernetes"}
    if isinstance(value, bool):
        return f"--{what if value else opposite[what]}"
    return f"--{what} {value}"


def _record(
    options: LabOptions, before: LabState | None, podman: Podman, root: Path, progress: Progress
) -> LabState:
    """Return the lab as it is to be, with its image built and its network made."""
    folder = _folder(root, options.name)
    if before is not None and podman.image_exists(before.image):
        name = before.image  # nodes that join are built like those that are there
    else:
        name = image.ensure(image.recipe(options.os), podman, podman.machine, root / ".cache", progress)
    labels = {LABEL_LAB: options.name, LABEL_ROOT: str(root)}
    subnet = network.create(podman, _network(options.name), labels)
    if before is not None and str(subnet) != before.subnet:
        raise LabError(
            f"the network of the lab '{options.name}' is gone ({before.subnet})",
            f"rackloom lab down --name {options.name}, then up again",
        )
    return LabState(
        options=options,
        folder=folder,
        subnet=str(subnet),
        image=name,
        nodes=config.plan(options, subnet),
        deployed=before.deployed if before else (),
        off=before.off if before else (),
        machines=before.machines if before else (),
        room=before.room if before else "",
    )


def _deploy(state: LabState, progress: Progress, display: ProgressSink | None) -> LabState:
    """Deploy to all nodes, or to those that are new; validate after a full deployment."""
    from rackloom.result import ExitCode  # noqa: PLC0415
    from rackloom.run.ask import validate  # noqa: PLC0415 - slow to load
    from rackloom.run.deploy import deploy  # noqa: PLC0415

    if state.options.kubernetes:
        kubernetes.must_have_programs(state.config_dir, state.options.name)
    limit = _limit(state)
    progress("deploying" if limit is None else f"deploying to {limit}")
    outcome = deploy(state.config_dir, limit=limit, progress=display)
    state = replace(state, deploy=outcome)
    if outcome.exit_code is not ExitCode.OK:
        return state
    reached = [node.name for node in state.nodes if node.name not in state.off]
    state = replace(state, deployed=tuple(dict.fromkeys([*state.deployed, *reached])))
    if limit is None:
        progress("asking the services")
        state = replace(state, validation=validate(state.config_dir, (), display))
    return state


def _limit(state: LabState) -> str | None:
    """Return who is to be deployed to: None for all; new nodes and their controllers when the lab grew."""
    running = [node.name for node in state.nodes if node.name not in state.off]
    new = [name for name in running if name not in state.deployed]
    compute = {node.name for node in state.nodes if node.role == "compute"}
    if state.deployed and new and set(new) <= compute:
        return ",".join([*new, "slurm_controller", "name_server"])
    # A machine is the business of who provisions it.
    whole = len(running) == len(state.nodes) and not state.machines
    return None if whole else ",".join(running)


def _learn_host_keys(state: LabState, lines: str) -> None:
    """Keep the keys of nodes that are off, take the others' as they are now."""
    path = state.config_dir / "known_hosts"
    names = {line.split()[0] for line in lines.splitlines()}
    ours = {f"{node.address},{node.name}" for node in state.nodes}
    ours |= {f"{vm.address},{vm.name}" for vm in state.machines}
    old = path.read_text().splitlines() if path.exists() else []
    kept = [line for line in old if line.split()[0] in ours - names]
    config.replace(path, "".join(f"{line}\n" for line in kept) + lines)


# --- What is written down -----------------------------------------------------------------


def _folder(root: Path, name: str) -> Path:
    return root / ".lab" / name


def _network(name: str) -> str:
    return f"rackloom-{name}"


def _fleet(state: LabState, podman: Podman, root: Path) -> Fleet:
    return Fleet(
        podman=podman,
        lab=state.options.name,
        root=root,
        network=_network(state.options.name),
        image=state.image,
        os=state.options.os,
        prefix=f"rackloom-{state.options.name}-",
    )


def _own(podman: Podman, name: str, root: Path) -> list[Container]:
    """Return the lab's containers. Raises LabError where another checkout made them."""
    found = podman.containers(lab=name)
    if conflict := owner_conflict(found, root):
        raise conflict
    return found


def _save(state: LabState) -> None:
    data = {
        "version": 1,
        "options": asdict(state.options),
        "subnet": state.subnet,
        "image": state.image,
        "nodes": [asdict(node) for node in state.nodes],
        "deployed": list(state.deployed),
        "off": list(state.off),
        "machines": [asdict(vm) for vm in state.machines],
        "room": state.room,
    }
    state.folder.mkdir(parents=True, exist_ok=True)
    state.folder.chmod(0o700)
    config.replace(state.folder / "lab.json", json.dumps(data, indent=2) + "\n")


def _load(folder: Path) -> LabState | None:
    path = folder / "lab.json"
    if not path.exists():
        return None
    try:
        data: dict[str, Any] = json.loads(path.read_text())
        return LabState(
            options=LabOptions(**data["options"]),
            folder=folder,
            subnet=data["subnet"],
            image=data["image"],
            nodes=tuple(NodeSpec(**node) for node in data["nodes"]),
            deployed=tuple(data["deployed"]),
            off=tuple(data["off"]),
            machines=tuple(vms.VmSpec(**vm) for vm in data.get("machines", ())),
            room=data.get("room", ""),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise LabError(
            f"{path} cannot be read: {error}", f"rackloom lab down --name {folder.name}, then up again"
        ) from error


def recorded(name: str) -> LabOptions | None:
    """Return what a lab was last asked to be, None for a new one. Raises LabError when its record is unreadable."""
    state = _load(_folder(home(), name))
    return state.options if state else None


def _must_load(name: str) -> LabState:
    state = _load(_folder(home(), name))
    if state is None:
        raise LabError(f"there is no lab named '{name}'", f"rackloom lab up --name {name}")
    return state


def labs() -> Sequence[str]:
    """Return the names of the labs of this checkout."""
    return sorted(path.parent.name for path in (home() / ".lab").glob("*/lab.json"))
