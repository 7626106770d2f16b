"""Instances for role scenarios: `python -m rackloom.lab.instances create|destroy`.

Called by molecule/shared/create.yml and destroy.yml with Molecule's environment. A scenario
says what it needs in its own inventory.yml: each host there becomes a node. The addresses go
into an inventory of their own beside a link to the scenario's, so every scenario is
independent and several run side by side.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rackloom.lab import image, network
from rackloom.lab.errors import LabError
from rackloom.lab.machine import Machine, detect
from rackloom.lab.nodes import Fleet, NodeSpec, close_connections, known_hosts, make_key
from rackloom.lab.podman import LABEL_LAB, LABEL_ROOT, Podman

DEFAULT_OS = "debian-12"
_FIRST_ADDRESS = 11


@dataclass(frozen=True)
class Scenario:
    """A role scenario: its name, its folder and Molecule's scratch folder for it."""

    name: str
    folder: Path
    ephemeral: Path
    root: Path
    """The checkout."""
    os: str

    @property
    def lab(self) -> str:
        """The label its containers carry; another checkout's scenario of this name has another."""
        return f"molecule-{hashlib.sha256(str(self.root).encode()).hexdigest()[:6]}-{self.name}"

    @property
    def inventory(self) -> Path:
        """The folder given to Ansible and testinfra as inventory."""
        return self.ephemeral / "inventory"


def hosts_of(inventory: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every (host, its variables) of a parsed YAML inventory, groups within groups included."""
    if not isinstance(inventory, dict):
        return
    for key, value in inventory.items():
        if key == "hosts" and isinstance(value, dict):
            for host, variables in value.items():
                yield str(host), variables or {}
        elif key != "vars":
            yield from hosts_of(value)


def specs(text: str, subnet: network.Network) -> list[NodeSpec]:
    """Return the nodes a scenario's inventory.yml asks for, with addresses in `subnet`.

    Raises LabError where it names no host.
    """
    wanted: dict[str, int] = {}
    for host, variables in hosts_of(yaml.safe_load(text)):
        wanted[host] = max(int(variables.get("lab_gpus", 0)), wanted.get(host, 0))
    if not wanted:
        raise LabError("the scenario's inventory.yml names no host", "see molecule/README.md")
    return [
        NodeSpec(name, str(subnet[_FIRST_ADDRESS + number]), "scenario", gpus)
        for number, (name, gpus) in enumerate(wanted.items())
    ]


def connection(scenario: Scenario, nodes: list[NodeSpec]) -> dict[str, Any]:
    """Return the inventory that tells how to reach the nodes, as data for a YAML file."""
    ssh_options = (
        f"UserKnownHostsFile={scenario.ephemeral / 'known_hosts'}",
        # One connection a node, shared by Ansible and testinfra, which sets no path of its own.
        "ControlMaster=auto",
        "ControlPersist=60s",
        f"ControlPath={scenario.ephemeral}/ssh-%h",
    )
    return {
        "all": {
            "vars": {
                "ansible_user": "root",
                "ansible_ssh_private_key_file": str(scenario.ephemeral / "id_ed25519"),
                "ansible_ssh_common_args": " ".join(f"-o {option}" for option in ssh_options),
                "ansible_python_interpreter": "/usr/bin/python3",
            },
            "hosts": {
                node.name: {"ansible_host": node.address, "rackloom_address": node.address} for node in nodes
            },
        }
    }


def _fleet(scenario: Scenario, podman: Podman, image_name: str) -> Fleet:
    return Fleet(
        podman=podman,
        lab=scenario.lab,
        root=scenario.root,
        network=f"rackloom-{scenario.lab}",
        image=image_name,
        os=scenario.os,
        prefix=f"rackloom-{scenario.lab}-",
    )


def create(scenario: Scenario, machine: Machine) -> list[NodeSpec]:
    """Boot the scenario's nodes and write its inventory; what already runs is kept."""
    podman = Podman(machine)
    recipe = image.recipe(scenario.os)
    name = image.ensure(recipe, podman, machine, scenario.root / ".cache", _say)
    fleet = _fleet(scenario, podman, name)
    subnet = network.create(podman, fleet.network, {LABEL_LAB: fleet.lab, LABEL_ROOT: str(fleet.root)})
    nodes = specs((scenario.folder / "inventory.yml").read_text(), subnet)
    admin_key = make_key(scenario.ephemeral / "id_ed25519", f"rackloom {fleet.lab}")
    fleet.start(nodes, admin_key)
    booted = fleet.wait(nodes)
    for node, said in booted.items():
        if said.failed:
            _say(f"{node}: units failed at boot: {', '.join(said.failed)}")
    (scenario.ephemeral / "known_hosts").write_text(known_hosts(nodes, booted))
    scenario.inventory.mkdir(parents=True, exist_ok=True)
    link = scenario.inventory / "10-scenario.yml"
    link.unlink(missing_ok=True)
    link.symlink_to(scenario.folder / "inventory.yml")
    # JSON is YAML: no dumper's line folding can bend a path.
    (scenario.inventory / "20-connection.yml").write_text(json.dumps(connection(scenario, nodes), indent=2))
    return nodes


def destroy(scenario: Scenario, machine: Machine) -> None:
    """Remove the scenario's nodes and network; the image stays."""
    podman = Podman(machine)
    fleet = _fleet(scenario, podman, "")
    close_connections(scenario.ephemeral.glob("ssh-*"))
    podman.remove([found.name for found in podman.containers(lab=fleet.lab)])
    podman.call("network", "rm", "--force", fleet.network, check=False)
    shutil.rmtree(scenario.inventory, ignore_errors=True)
    for leftover in ("id_ed25519", "id_ed25519.pub", "known_hosts"):
        (scenario.ephemeral / leftover).unlink(missing_ok=True)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def main(argv: list[str] | None = None) -> int:
    """Parse the command line; exit status 0, or 1 with the reason on stderr."""
    parser = argparse.ArgumentParser(prog="rackloom.lab.instances", description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("create", "destroy"))
    parser.add_argument("--scenario", default=os.environ.get("MOLECULE_SCENARIO_NAME"), help="its name")
    parser.add_argument("--folder", default=os.environ.get("MOLECULE_SCENARIO_DIRECTORY"), type=Path)
    parser.add_argument("--ephemeral", default=os.environ.get("MOLECULE_EPHEMERAL_DIRECTORY"), type=Path)
    parser.add_argument("--root", default=os.environ.get("MOLECULE_PROJECT_DIRECTORY"), type=Path)
    parser.add_argument("--os", default=os.environ.get("RACKLOOM_MOLECULE_OS", DEFAULT_OS))
    options = parser.parse_args(argv)
    missing = [name for name in ("scenario", "folder", "ephemeral", "root") if getattr(options, name) is None]
    if missing:
        parser.error(f"outside Molecule these are needed: {', '.join('--' + name for name in missing)}")
    scenario = Scenario(
        options.scenario, options.folder, options.ephemeral, options.root.resolve(), options.os
    )
    try:
        if options.action == "create":
            create(scenario, detect())
        else:
            destroy(scenario, detect())
    except LabError as error:
        _say(f"{error}. {error.hint}".rstrip())
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
