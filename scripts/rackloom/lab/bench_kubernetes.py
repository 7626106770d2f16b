"""How long a control-plane node and a worker take, beside bare `kubeadm init` and `kubeadm join`.

Four equal nodes with the same programs and the same images at hand: the roles make a cluster of two of them, kubeadm
alone one of the other two. What comes before, the runtime, the kubelet and the images, is the same and not counted.
The roles' time is that of a whole run of ansible-playbook over SSH. Not a test: it judges nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from rackloom.lab import instances
from rackloom.lab.errors import LabError
from rackloom.lab.machine import Machine, detect
from rackloom.lab.shell import run

ROOT = Path(__file__).resolve().parents[3]
SCENARIO = ROOT / "molecule/kube_worker"
BARE = {"barecp": "control plane", "bareone": "worker"}
_PATCHES = "/etc/rackloom/kubernetes/patches"
_LONG = 1200.0


@dataclass(frozen=True)
class Figures:
    """What was measured; times in seconds, medians of the rounds."""

    control_plane: float
    """The role kube_control_plane, on a node that is ready for kubeadm."""
    init: float
    """kubeadm init alone."""
    worker: float
    """The role kube_worker."""
    join: float
    """kubeadm join alone, with a token that is made before."""
    again: float
    """Both roles once more, with nothing to do."""

    @property
    def control_plane_to_init(self) -> float:
        """How much longer the role takes than kubeadm."""
        return self.control_plane / self.init

    @property
    def worker_to_join(self) -> float:
        """The same for a worker."""
        return self.worker / self.join


@dataclass(frozen=True)
class Bench:
    """Nodes of one round, in a folder of their own."""

    folder: Path
    machine: Machine

    @property
    def scenario(self) -> instances.Scenario:
        """The nodes as a role scenario."""
        return instances.Scenario(
            "bench-kubernetes", self.folder / "scenario", self.folder / "work", ROOT, instances.DEFAULT_OS
        )

    def lay_out(self) -> None:
        """Write the inventory of the worker's scenario with two bare nodes beside it."""
        inventory = yaml.safe_load((SCENARIO / "inventory.yml").read_text(encoding="utf-8"))
        inventory["all"]["children"]["bare"] = {"hosts": {name: {} for name in BARE}}
        self.scenario.folder.mkdir(parents=True)
        self.scenario.ephemeral.mkdir(parents=True)
        text = yaml.safe_dump(inventory, sort_keys=False)
        (self.scenario.folder / "inventory.yml").write_text(text, encoding="utf-8")

    @property
    def environment(self) -> dict[str, str]:
        """What Molecule would give to playbooks."""
        return {
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "molecule/shared/ansible.cfg"),
            "MOLECULE_EPHEMERAL_DIRECTORY": str(self.scenario.ephemeral),
            "MOLECULE_PROJECT_DIRECTORY": str(ROOT),
        }

    def play(self, playbook: Path, *words: str) -> float:
        """Run a playbook; returns its seconds."""
        program = Path(sys.executable).with_name("ansible-playbook")
        argv = [str(program), "--inventory", str(self.scenario.inventory), str(playbook), *words]
        start = time.monotonic()
        run(argv, env=self.environment, timeout=_LONG)
        return time.monotonic() - start

    def ssh(self, node: str, *words: str) -> tuple[float, str]:
        """Run a command on a node as people do; returns its seconds and what it printed."""
        connection = json.loads((self.scenario.inventory / "20-connection.yml").read_text(encoding="utf-8"))
        options = connection["all"]["vars"]
        address = connection["all"]["hosts"][node]["ansible_host"]
        argv = ["ssh", "-i", options["ansible_ssh_private_key_file"]]
        argv += options["ansible_ssh_common_args"].split()
        start = time.monotonic()
        done = run([*argv, f"root@{address}", *words], timeout=_LONG)
        return time.monotonic() - start, done.stdout

    def bare_init(self, release: str, images: Mapping[str, str]) -> float:
        """Seconds of kubeadm init with a configuration that says no more than the images."""
        _, out = self.ssh("barecp", "hostname", "--all-ip-addresses")
        name, tag = images["registry.k8s.io/etcd"].rsplit(":", 1)
        documents = [
            {
                "apiVersion": "kubeadm.k8s.io/v1beta4",
                "kind": "ClusterConfiguration",
                "kubernetesVersion": f"v{release}",
                "networking": {"podSubnet": "10.244.0.0/16"},
                "etcd": {"local": {"imageRepository": name.rpartition("/")[0], "imageTag": tag}},
                "dns": {"imageTag": images["registry.k8s.io/coredns/coredns"].rsplit(":", 1)[1]},
            },
            {
                "apiVersion": "kubeadm.k8s.io/v1beta4",
                "kind": "InitConfiguration",
                "localAPIEndpoint": {"advertiseAddress": out.split()[0]},
                "nodeRegistration": {"ignorePreflightErrors": ["SystemVerification", "Swap"]},
                "patches": {"directory": _PATCHES},
            },
            {
                "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
                "kind": "KubeProxyConfiguration",
                "mode": "nftables",
                "conntrack": {"maxPerCore": 0, "min": 0},
            },
        ]
        text = "---\n".join(json.dumps(each) + "\n" for each in documents)
        self.ssh("barecp", f"cat > /root/bare.json <<'END'\n{text}END")
        return self.ssh("barecp", "kubeadm", "init", "--config=/root/bare.json")[0]

    def bare_join(self) -> float:
        """Seconds of kubeadm join with a token."""
        _, command = self.ssh("barecp", "kubeadm", "token", "create", "--print-join-command")
        words = [
            *command.split(),
            "--ignore-preflight-errors=SystemVerification,Swap",
            f"--patches={_PATCHES}",
        ]
        return self.ssh("bareone", *words)[0]

    def round(self) -> Figures:
        """Boot four nodes, measure, remove them."""
        self.lay_out()
        try:
            instances.create(self.scenario, self.machine)
            _say("preparing four nodes, not counted")
            self.play(SCENARIO / "prepare.yml")
            versions = yaml.safe_load(
                (self.scenario.ephemeral / "upstream/versions.yml").read_text(encoding="utf-8")
            )
            images = {name: f"{name}:{record['tag']}" for name, record in versions["images"].items()}
            converge = SCENARIO / "converge.yml"
            init = self.bare_init(versions["files"]["kubeadm"]["version"], images)
            control_plane = self.play(converge, "--limit=cp")
            join = self.bare_join()
            worker = self.play(converge, "--limit=one")
            again = self.play(converge, "--limit=cp,one")
            return Figures(control_plane, init, worker, join, again)
        finally:
            instances.destroy(self.scenario, self.machine)


def median(rounds: Sequence[Figures]) -> Figures:
    """The middle of each figure."""
    rows = [asdict(each) for each in rounds]
    return Figures(**{name: statistics.median(row[name] for row in rows) for name in rows[0]})


def table(figures: Figures) -> str:
    """The figures for people."""
    rows = [
        ("", "ours", "kubeadm", "ratio"),
        (
            "control plane",
            f"{figures.control_plane:.1f} s",
            f"{figures.init:.1f} s",
            f"{figures.control_plane_to_init:.2f}",
        ),
        ("worker", f"{figures.worker:.1f} s", f"{figures.join:.1f} s", f"{figures.worker_to_join:.2f}"),
        ("both once more", f"{figures.again:.1f} s", "", ""),
    ]
    return "\n".join(f"{a:<16}{b:>9}{c:>9}{d:>8}" for a, b, c, d in rows)


def _say(line: str) -> None:
    sys.stderr.write(f"bench: {line}\n")
    sys.stderr.flush()


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; exit status 1 with the reason where something did not work."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench.sh kubernetes", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--rounds", type=int, default=1, metavar="N", help="how often; medians are told")
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    options = parser.parse_args(argv)
    rounds: list[Figures] = []
    try:
        for number in range(options.rounds):
            with tempfile.TemporaryDirectory(prefix="rackloom-bench-") as folder:
                rounds.append(Bench(Path(folder), detect()).round())
            _say(f"round {number + 1} of {options.rounds}:\n{table(rounds[-1])}")
    except (LabError, subprocess.SubprocessError) as error:
        _say(str(error))
        return 1
    figures = median(rounds)
    ratios = {
        "control_plane_to_init": round(figures.control_plane_to_init, 2),
        "worker_to_join": round(figures.worker_to_join, 2),
    }
    sys.stdout.write((json.dumps({**asdict(figures), **ratios}) if options.json else table(figures)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
