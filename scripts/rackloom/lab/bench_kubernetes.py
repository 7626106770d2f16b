"""How long a control-plane node and a worker take, beside bare `kubeadm init` and `kubeadm join`.

Four equal nodes with the same programs and the same images at hand: the roles make a cluster of two of them, kubeadm
alone one of the other two. What comes before, the runtime, the kubelet and the images, is the same and not counted.
The roles' time is that of a whole run of ansible-playbook over SSH. Told are the seconds until the command ends, and
those until the cluster calls the node ready, which is what somebody waits for. Not a test: it judges nothing.
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
    """What was measured; times in seconds, medians of the rounds. `…_ready` is until the node is ready."""

    control_plane: float
    """The role kube_control_plane, on a node that is ready for kubeadm."""
    control_plane_ready: float
    init: float
    """kubeadm init alone."""
    init_ready: float
    worker: float
    """The role kube_worker."""
    worker_ready: float
    join: float
    """kubeadm join alone, with a token that is made before."""
    join_ready: float
    again: float
    """Both roles once more, with nothing to do."""

    @property
    def ratios(self) -> dict[str, float]:
        """How much longer the roles take than kubeadm."""
        pairs = {
            "control_plane_to_init": (self.control_plane, self.init),
            "control_plane_to_init_ready": (self.control_plane_ready, self.init_ready),
            "worker_to_join": (self.worker, self.join),
            "worker_to_join_ready": (self.worker_ready, self.join_ready),
        }
        return {name: round(ours / bare, 2) for name, (ours, bare) in pairs.items()}


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

    def until_ready(self, control_plane: str, node: str) -> float:
        """Seconds from now until the cluster calls a node ready."""
        return self.wait(control_plane, f"node/{node}", "create", "condition=Ready")

    def wait(self, control_plane: str, what: str, *conditions: str) -> float:
        """Seconds that a cluster takes until all conditions hold."""
        wait = f"kubectl --kubeconfig=/etc/kubernetes/admin.conf wait --timeout=240s {what} --for="
        return self.ssh(control_plane, " && ".join(f"{wait}{each}" for each in conditions))[0]

    def settled(self, control_plane: str) -> None:
        """Await the controllers: they sign the certificates of those who join, and start a while after the API."""
        self.wait(control_plane, "serviceaccount/default", "create")
        self.wait(control_plane, "deployment/coredns --namespace=kube-system", "condition=Available")

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
            init_ready = init + self.until_ready("barecp", "barecp")
            control_plane = self.play(converge, "--limit=cp")
            control_plane_ready = control_plane + self.until_ready("cp", "cp")
            self.settled("barecp")
            self.settled("cp")
            join = self.bare_join()
            join_ready = join + self.until_ready("barecp", "bareone")
            worker = self.play(converge, "--limit=one")
            worker_ready = worker + self.until_ready("cp", "one")
            again = self.play(converge, "--limit=cp,one")
            return Figures(
                control_plane=control_plane,
                control_plane_ready=control_plane_ready,
                init=init,
                init_ready=init_ready,
                worker=worker,
                worker_ready=worker_ready,
                join=join,
                join_ready=join_ready,
                again=again,
            )
        finally:
            instances.destroy(self.scenario, self.machine)


def median(rounds: Sequence[Figures]) -> Figures:
    """The middle of each figure."""
    rows = [asdict(each) for each in rounds]
    return Figures(**{name: statistics.median(row[name] for row in rows) for name in rows[0]})


def table(figures: Figures) -> str:
    """The figures for people."""
    ratios = figures.ratios
    rows = [("", "ours", "kubeadm", "ratio")]
    for title, ours, bare, name in (
        ("control plane", figures.control_plane, figures.init, "control_plane_to_init"),
        (
            "  until ready",
            figures.control_plane_ready,
            figures.init_ready,
            "control_plane_to_init_ready",
        ),
        ("worker", figures.worker, figures.join, "worker_to_join"),
        ("  until ready", figures.worker_ready, figures.join_ready, "worker_to_join_ready"),
    ):
        rows.append((title, f"{ours:.1f} s", f"{bare:.1f} s", f"{ratios[name]:.2f}"))
    rows.append(("both once more", f"{figures.again:.1f} s", "", ""))
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
    sys.stdout.write(
        (json.dumps({**asdict(figures), **figures.ratios}) if options.json else table(figures)) + "\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
