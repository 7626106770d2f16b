"""`check_site`: all mistakes of a site's configuration at once, offline."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from .check_addons import check_addons
from .check_cluster import check_cluster, resolve_services
from .check_gpu import check_gpu
from .check_kube_gpu import check_kube_gpu
from .check_kubernetes import check_kubernetes
from .check_logging import check_logging
from .check_mirror import check_mirror
from .check_monitoring import check_monitoring
from .check_nodes import check_nodes
from .check_provision import check_provision
from .check_queueing import check_queueing
from .check_slurm import check_slurm
from .check_versions import check_versions
from .check_web import check_web
from .context import Context, Reporter
from .groups import groups
from .mistakes import Mistake, Mistakes
from .models import ClusterFile, NodesFile
from .resolved import Site
from .source import read
from .tolerant import Tolerant

SECRETS_FILE = Path("group_vars/all/secrets.yml")


@dataclass(frozen=True, slots=True)
class CheckResult:
    """mistakes by file and line; site is None where there are any."""

    mistakes: list[Mistake] = field(default_factory=list)
    site: Site | None = None

    @property
    def ok(self) -> bool:
        """Whether there is nothing to mend."""
        return not self.mistakes


class SiteError(ValueError):
    """A site with mistakes; the text lists them."""

    def __init__(self, config_dir: Path, mistakes: list[Mistake]) -> None:
        self.config_dir = config_dir
        self.mistakes = mistakes
        count = f"{len(mistakes)} mistakes" if len(mistakes) != 1 else "1 mistake"
        super().__init__(f"{config_dir} has {count}:\n" + "\n".join(f"  {mistake}" for mistake in mistakes))


def check_site(config_dir: Path | str) -> CheckResult:
    """Read and check cluster.yml and nodes.yml of a folder. Never raises for what is in the folder."""
    folder = Path(config_dir)
    mistakes = Mistakes()
    if not folder.is_dir():
        there = "is not a folder" if folder.exists() else "does not exist"
        cure = "Run `rackloom init`, or name the folder that holds cluster.yml and nodes.yml."
        mistakes.add(str(folder), 0, str(folder), f"{folder} {there}.", cure, "not-a-directory")
        return CheckResult(mistakes.sorted())
    cluster_source = read(folder / "cluster.yml", "cluster.yml", mistakes)
    nodes_source = read(folder / "nodes.yml", "nodes.yml", mistakes)
    cluster_file = nodes_file = None
    if cluster_source.data is not None:
        cluster_file = Tolerant(cluster_source, mistakes).read(ClusterFile, cluster_source.data)
    if nodes_source.data is not None:
        nodes_file = Tolerant(nodes_source, mistakes).read(NodesFile, nodes_source.data)
    _secrets(folder, mistakes)
    blank = ClusterFile.model_construct(name="", domain="", networks={})
    ctx = Context(
        config_dir=folder,
        mistakes=mistakes,
        cluster=Reporter(cluster_source, mistakes),
        nodes=Reporter(nodes_source, mistakes),
        cluster_file=cluster_file or blank,
        nodes_file=nodes_file or NodesFile(),
        definitions=groups(),
    )
    check_versions(ctx)
    if cluster_file is not None:
        check_cluster(ctx)
    if nodes_file is not None:
        check_nodes(ctx)
    if cluster_file is not None and nodes_file is not None:
        resolve_services(ctx)
        check_slurm(ctx)
        check_provision(ctx)
        check_mirror(ctx)
        check_kubernetes(ctx)
        check_gpu(ctx)
        check_kube_gpu(ctx)
        check_addons(ctx)
        check_queueing(ctx)
        check_monitoring(ctx)
        check_logging(ctx)
        check_web(ctx)
    if mistakes.found or cluster_file is None or nodes_file is None:
        return CheckResult(mistakes.sorted())
    site_groups = dict(ctx.groups)
    for name in nodes_file.profiles:
        site_groups[f"profile_{name}"] = []
    for node in ctx.hosts.values():
        if node.profile:
            site_groups[f"profile_{node.profile}"].append(node.name)
    return CheckResult([], Site(folder, cluster_file, nodes_file, ctx.hosts, site_groups))


def _secrets(folder: Path, mistakes: Mistakes) -> None:
    """Secrets in plain text are a mistake, whatever they are."""
    file = folder / SECRETS_FILE
    try:
        with file.open("rb") as stream:
            head = stream.read(14)
    except OSError:
        return
    if head != b"$ANSIBLE_VAULT":
        cure = f"Encrypt it: ansible-vault encrypt --encrypt-vault-id rackloom {file}"
        mistakes.add(str(SECRETS_FILE), 1, "", "The secrets are not encrypted.", cure, "plain-secrets")


def load_site(config_dir: Path | str) -> Site:
    """The checked site. Raises SiteError with all mistakes."""
    result = check_site(config_dir)
    if result.site is None:
        raise SiteError(Path(config_dir), result.mistakes)
    return result.site
