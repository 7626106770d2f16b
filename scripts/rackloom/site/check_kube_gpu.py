"""Checks of the section `gpu.kubernetes:` of cluster.yml."""

from __future__ import annotations

from . import versions
from .context import Context
from .gpus import gpus
from .kube_gpu_vars import CHART, WORKER, sliced
from .mistakes import suggest
from .models import Profile
from .models_kube_gpu import KubeGpu
from .support import network_operator_misfit
from .versions import FILE, KUBERNETES, Versions, VersionsError, numbers

CONTROL_PLANE = "kube_control_plane"
NETWORK_CHART = "network-operator"
TOP = ("gpu", "kubernetes")
FIRST_WITH_CLAIMS = "26.7"
OLDEST_FOR_CLAIMS = "1.34.2"


class KubeGpuCheck:
    """Everything about GPUs in Kubernetes."""

    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx
        self.say = ctx.cluster
        self.stack = ctx.cluster_file.gpu
        self.kube: KubeGpu = self.stack.kubernetes
        taking = ctx.groups[WORKER] or ctx.groups[CONTROL_PLANE]
        found = {ctx.hosts[name].profile for name in taking if name in ctx.hosts}
        self.profiles: dict[str, Profile] = {
            name: profile
            for name, profile in ctx.nodes_file.profiles.items()
            if name in found and profile.gpus
        }

    def run(self) -> None:
        """All of it; only what is written wrong counts where the operator is off."""
        self._sharing()
        if not self.kube.enabled:
            return
        if not self.ctx.groups[CONTROL_PLANE]:
            message = "The GPU operator is on, and no node is of Kubernetes."
            cure = "Name `services: {kube_control_plane: […]}`, or remove it."
            self.say((*TOP, "enabled"), True, message, cure, "no-kubernetes")
            return
        if not self.profiles:
            message = "The GPU operator is on, and no node that takes pods has GPUs."
            cure = "Give a profile of kube_node `gpus`, or remove it."
            self.say((*TOP, "enabled"), True, message, cure, "no-gpus")
        self._driver()
        self._claims()
        self._versions()

    def _sharing(self) -> None:
        known = self.ctx.nodes_file.profiles
        for name, shared in self.kube.sharing.items():
            where = (*TOP, "sharing", name)
            if name not in known:
                cure = suggest(name, known) or f"Profiles are: {', '.join(known)}."
                self.say(where, name, f"There is no profile {name}.", cure, "unknown-profile", key=True)
                continue
            if not known[name].gpus:
                message = f"Profile {name} has no GPUs to be shared."
                self.say(where, name, message, "Remove it.", "no-gpus", key=True)
            if shared.time_slicing and shared.mps:
                message = f"The GPUs of {name} are shared by turns and by MPS; a GPU does one of the two."
                self.say((*where, "mps"), shared.mps, message, "Remove one of them.", "gpu-sharing")
            if shared.mps and sliced(known[name]):
                message = f"The GPUs of {name} are cut into slices, and MPS shares whole GPUs alone."
                cure = "Write `time_slicing`, or remove `mig` from the profile."
                self.say((*where, "mps"), shared.mps, message, cure, "mps-with-mig")

    def _driver(self) -> None:
        inside = self.kube.driver.place == "container"
        if inside and self.stack.driver.source != "none":
            message = "The driver comes in a container, and `gpu.driver` puts it on the hosts too."
            cure = "Write `place: host` here, or `source: none` there."
            self.say((*TOP, "driver", "place"), "container", message, cure, "driver-twice")
        wanted = {"rdma": self.kube.rdma != "off", "gds": self.kube.gds, "gdrcopy": self.kube.gdrcopy}
        for name, on in wanted.items():
            if on and not inside:
                message = f"{name} is of a driver in a container; one on the host brings its modules itself."
                cure = "Write `driver: {place: container}`, or remove it."
                self.say((*TOP, name), getattr(self.kube, name), message, cure, "needs-driver-container")
        if self.kube.rdma == "container" and not self.kube.network_operator:
            message = "The network cards' driver is to come in a container, and nobody brings it."
            cure = "Write `network_operator: true`, or `rdma: host`."
            self.say((*TOP, "rdma"), self.kube.rdma, message, cure, "no-network-operator")

    def _claims(self) -> None:
        if self.kube.resources != "dra":
            if self.kube.compute_domains:
                message = "NVLink between nodes is for pods that make claims."
                cure = "Write `resources: dra`, or remove it."
                self.say((*TOP, "compute_domains"), True, message, cure, "needs-dra")
            return
        if self.kube.sharing:
            message = "GPUs are shared by the device plugin, and `resources` is dra."
            cure = "Remove `sharing`; a claim says itself how its GPU is shared."
            self.say((*TOP, "sharing"), list(self.kube.sharing), message, cure, "needs-device-plugin")
        cut = [name for name, profile in self.profiles.items() if sliced(profile)]
        if self.kube.cut and cut:
            message = f"The operator cuts no GPUs where pods make claims, and profile {cut[0]} has slices."
            cure = "Write `cut: false` and cut them on the hosts, or `resources: device_plugin`."
            self.say((*TOP, "resources"), "dra", message, cure, "needs-device-plugin")

    # ------------------------------------------------------------ versions

    def _versions(self) -> None:
        try:
            held = versions.effective(self.ctx.config_dir)
        except VersionsError:
            return  # check_versions has told it
        where = (*TOP, "operator")
        chart = held.find("chart", CHART, self.kube.operator)
        if chart is None:
            known = ", ".join(held.held("chart", CHART)) or "none"
            message = f"The versions file holds no GPU operator {self.kube.operator}".rstrip() + "."
            cure = f"It has: {known}. Another's records go into {FILE} beside this file."
            self.say(where, self.kube.operator, message, cure, "unknown-version")
            return
        release = chart.version.removeprefix("v")
        kubernetes = self._kubernetes(held)
        misfit = gpus().operator_misfit(release, kubernetes) if kubernetes else ""
        if misfit:
            cure = "Choose another release of one of the two."
            self.say(
                where if self.kube.operator else (*TOP, "enabled"),
                release,
                misfit,
                cure,
                "unsupported-version",
            )
        if self.kube.resources == "dra":
            old = numbers(release) < numbers(FIRST_WITH_CLAIMS)
            if old or (kubernetes and numbers(kubernetes) < numbers(OLDEST_FOR_CLAIMS)):
                message = (
                    f"Claims need GPU operator {FIRST_WITH_CLAIMS} and Kubernetes {OLDEST_FOR_CLAIMS} or newer, "
                    f"and there are {release} and {kubernetes}."
                )
                cure = "Write `resources: device_plugin`, or newer releases."
                self.say((*TOP, "resources"), "dra", message, cure, "unsupported-version")
        self._digest(held, CHART, self.kube.operator, (*TOP, "enabled"))
        if self.kube.network_operator:
            self._network(held, kubernetes)

    def _kubernetes(self, held: Versions) -> str:
        plain = held.find("file", KUBERNETES)
        return self.ctx.cluster_file.kubernetes.version or (plain.version if plain else "")

    def _network(self, held: Versions, kubernetes: str) -> None:
        where = (*TOP, "network_operator")
        chart = held.find("chart", NETWORK_CHART)
        if chart is None:
            message = f"The versions file has no record of the chart {NETWORK_CHART}."
            self.say(where, True, message, f"Add one to {FILE} beside this file.", "missing-record")
            return
        misfit = network_operator_misfit(chart.version, kubernetes) if kubernetes else ""
        if misfit:
            cure = "Choose an older release of Kubernetes, or go without it."
            self.say(where, True, misfit, cure, "unsupported-version")
        self._digest(held, NETWORK_CHART, "", where)

    def _digest(self, held: Versions, name: str, release: str, where: tuple[str, ...]) -> None:
        chart = held.find("chart", name, release)
        if chart is not None and not chart.digest:
            message = (
                f"The record of the chart {name} {chart.version} has no sha256, so it cannot be fetched."
            )
            cure = f"Run `rackloom bundle pin`, which looks it up and writes it into {FILE} beside this file."
            self.say(where, name, message, cure, "no-digest")


def check_kube_gpu(ctx: Context) -> None:
    """All mistakes about GPUs in Kubernetes."""
    KubeGpuCheck(ctx).run()
