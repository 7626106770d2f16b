"""From stages and operating systems to the list of everything that a site with them takes from outside."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from rackloom.bundle import apt, declared, images, records, wheels
from rackloom.bundle.declared import Declared
from rackloom.bundle.errors import RequestError
from rackloom.bundle.fetch import Fetch, Pull
from rackloom.bundle.items import Item
from rackloom.bundle.progress import Progress
from rackloom.bundle.seen import Seen
from rackloom.bundle.web import Web, apt_logins
from rackloom.lab.sources import RELEASES
from rackloom.run.stages import UnknownStageError
from rackloom.site.gpu_vars import driver_inputs
from rackloom.site.paths import home
from rackloom.site.versions import Record, effective

ARCHES = ("amd64", "arm64")
# What the controller of a closed site needs to build node images, and to carry bundles on.
_TOOLS = ("apt-utils", "gpg", "mmdebstrap", "nginx-light", "skopeo", "squashfs-tools")
# Signed boot loaders, for nodes that let nothing else start. iPXE comes with the role that serves it.
_LOADERS = {
    "amd64": ("grub-efi-amd64-signed", "grub-pc-bin", "shim-signed"),
    "arm64": ("grub-efi-arm64-signed", "shim-signed"),
}


@dataclass(frozen=True)
class Request:
    """What a bundle shall be for."""

    stages: tuple[str, ...] = ()
    """Nothing = all of them."""
    os: tuple[str, ...] = ("debian-12",)
    arch: tuple[str, ...] = ("amd64",)
    config: Path | None = None
    """A site: its package sources, its images' packages and its nodes' extra packages count."""
    versions: tuple[Path, ...] = ()
    """Versions files that add to, or replace, records of the toolkit's own."""
    jobs: int = 8
    choices: tuple[str, ...] = ()
    """What comes along beside the choices that the site has made; `all` = everything."""


@dataclass
class Plan:
    """Everything to have in a bundle, and how to get it."""

    request: Request
    fetches: list[Fetch] = field(default_factory=list)
    pulls: list[Pull] = field(default_factory=list)
    images: images.ImagePlan = field(default_factory=images.ImagePlan)
    versions: str = ""
    """The versions file of what it holds."""

    @property
    def items(self) -> list[Item]:
        """What comes from outside, sorted; sizes that nobody told are -1."""
        every = [fetch.item for fetch in self.fetches] + [blob for pull in self.pulls for blob in pull.blobs]
        return sorted({item.path: item for item in sorted(every, reverse=True)}.values())


@dataclass(frozen=True)
class _Site:
    """What a site config adds."""

    sources: Sequence[Mapping[str, Any]] = ()
    packages: tuple[str, ...] = ()
    choices: frozenset[str] = frozenset()
    inputs: Mapping[str, Any] = field(default_factory=dict)


def resolve(request: Request, progress: Progress) -> Plan:
    """Find out what a bundle for the request holds. Raises RequestError, FetchError or BundleError."""
    request = checked(request)
    site = _read_site(request.config)
    roles = sorted({role for stage in request.stages for role in declared.roles_of_stage(stage)})
    artifacts = wanted(roles, {*request.choices, *site.choices})
    versions = records.read_versions(request.versions, config=request.config)
    taken = versions.records(artifacts.files, artifacts.images, artifacts.charts)
    plan = Plan(request, versions=records.text(taken))
    # Wrong records are told before anything is asked of the network.
    if unpinned := versions.unpinned(artifacts.images, artifacts.charts):
        raise RequestError(
            [f"the record of the {record.kind} {record.key} has no digest" for record in unpinned],
            records.PIN,
        )
    plan.fetches += versions.fetches(artifacts.files, artifacts.charts, request.arch)
    plan.pulls += versions.pulls(artifacts.charts)
    groups = {os_id: _groups(os_id, roles, site, request) for os_id in request.os}
    roots = [
        (os_id, apt.AptRoot(os_id, arch, apt.sources_for(os_id, site.sources)))
        for os_id in request.os
        for arch in request.arch
    ]
    progress.step(f"resolving the packages of {', '.join(request.os)} for {', '.join(request.arch)}")
    with ThreadPoolExecutor(8) as pool:
        packages = [pool.submit(_packages, root, groups[os_id]) for os_id, root in roots]
        pip = pool.submit(wheels.plan, home() / "requirements.lock", request.os, request.arch)
        pictures = pool.submit(images.plan, artifacts.images, versions, request.arch)
        debs: dict[str, Fetch] = {}
        for (os_id, _), future in zip(roots, packages, strict=True):
            debs.update({fetch.item.path: fetch for fetch in apt.fetches(os_id, future.result())})
        plan.fetches += debs.values()
        plan.fetches += pip.result()
        plan.images = pictures.result()
    plan.fetches += plan.images.fetches
    plan.pulls += plan.images.pulls
    return plan


def wanted(roles: Sequence[str], chosen: Collection[str]) -> Declared:
    """Files, images and charts of all these roles."""
    found = Declared()
    for role in roles:
        found |= declared.artifacts(role, chosen)
    return found


def without_digest(config: Path, groups: Collection[str]) -> list[Record]:
    """Files that a deploy of a site with these groups takes, and whose digest nobody has looked up."""
    files = wanted(declared.roles_for(groups), chosen_by(config)).files
    return records.Versions(effective(config)).unpinned((), (), files)


def chosen_by(config: Path | None) -> frozenset[str]:
    """The choices that a site has made. Raises RequestError for a site with mistakes in them."""
    return _read_site(config).choices


def checked(request: Request) -> Request:
    """The request with its stages filled in. Raises RequestError or UnknownStageError."""
    known = declared.stages()
    if unknown := [stage for stage in request.stages if stage not in known]:
        raise UnknownStageError(unknown, known)
    mistakes = []
    cures = []
    if unknown := [os_id for os_id in request.os if os_id not in RELEASES]:
        rpm = [os_id for os_id in unknown if os_id in declared.SYSTEMS]
        other = [os_id for os_id in unknown if os_id not in declared.SYSTEMS]
        mistakes += [f"unknown operating system: {os_id}" for os_id in other]
        mistakes += [
            f"packages of {os_id} cannot be bundled; its nodes need a mirror of the site's own"
            for os_id in rpm
        ]
        cures.append(f"the operating systems are: {', '.join(RELEASES)}")
    if unknown := [arch for arch in request.arch if arch not in ARCHES]:
        mistakes += [f"unknown architecture: {arch}" for arch in unknown]
        cures.append(f"the architectures are: {', '.join(ARCHES)}")
    options = declared.choices()
    if unknown := [name for name in request.choices if name not in options and name != declared.EVERY]:
        mistakes += [f"unknown choice: {name}" for name in unknown]
        cures.append(f"the choices are: {', '.join(options) or 'none'}; or {declared.EVERY}")
    if not request.os or not request.arch:
        mistakes.append("a bundle needs an operating system and an architecture")
    if mistakes:
        raise RequestError(mistakes, "; ".join(cures))
    # Whatever a bundle is for, it is served by the mirror.
    always = ("mirror",)
    stages = tuple(
        stage for stage in known if not request.stages or stage in request.stages or stage in always
    )
    return replace(
        request,
        stages=stages,
        os=tuple(os_id for os_id in RELEASES if os_id in request.os),
        arch=tuple(arch for arch in ARCHES if arch in request.arch),
    )


def _groups(os_id: str, roles: Sequence[str], site: _Site, request: Request) -> dict[str, list[str]]:
    """Who wants which packages on one operating system. Roles that do not know the system want none."""
    groups: dict[str, list[str]] = {
        "every node": declared.node_packages(os_id),
        "the controller": [*declared.controller_packages(os_id), *_TOOLS],
    }
    for role in roles:
        if names := declared.packages(role, os_id, site.inputs):
            groups[f"role {role}"] = names
    if site.packages:
        groups["the site"] = list(site.packages)
    if declared.PROVISION in request.stages:
        for arch in request.arch:
            groups[f"images ({arch})"] = _image_packages(os_id, arch)
    return groups


def web_for(request: Request) -> Web:
    """Connections through the proxies, and with the logins, that this machine's apt uses too."""
    options = [line for line in apt.machine_options() if "::Proxy " in line]
    proxies = {line.split("::")[1]: line.split('"')[1] for line in options}
    proxies = {scheme: proxy for scheme, proxy in proxies.items() if proxy.upper() != "DIRECT"}
    return Web(max(request.jobs, 16), proxies, apt_logins())


def _image_packages(os_id: str, arch: str) -> list[str]:
    from rackloom.image.packages import of_image  # noqa: PLC0415 - imports from here
    from rackloom.image.spec import KERNELS, ImageSpec  # noqa: PLC0415

    kernels = KERNELS[RELEASES[os_id][0]]
    specs = [ImageSpec("bundle", os_id, arch, kernel=kernel) for kernel in kernels]
    return sorted({*_LOADERS[arch], *(name for spec in specs for name in of_image(spec))})


def _packages(root: apt.AptRoot, groups: Mapping[str, Sequence[str]]) -> list[apt.Deb]:
    root.update()
    # Images and boot loaders are of one architecture.
    mine = {
        who: names for who, names in groups.items() if not who.startswith("images") or f"({root.arch})" in who
    }
    return root.system_and(mine)


def _read_site(config: Path | None) -> _Site:
    """The few keys of cluster.yml that matter here; nodes and secrets play no part."""
    path = (config / "cluster.yml") if config else None
    if path is None or not path.is_file():
        return _Site()
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise RequestError([f"{path} cannot be read: {error}"], "run `rackloom check`") from None
    packages = data.get("packages") or {}
    provision = data.get("provision") or {}
    extra = list(packages.get("extra") or [])
    for image in (provision.get("images") or {}).values():
        extra += (image or {}).get("packages") or []
    return _Site(
        tuple(packages.get("sources") or []),
        tuple(sorted({str(name) for name in extra})),
        _choices(path) | _stores(data),
        driver_inputs(data.get("gpu")),
    )


def _choices(path: Path) -> frozenset[str]:
    """What a site has chosen for Kubernetes: its runtime, its network, its add-ons, and what GPUs need there."""
    from rackloom.site.mistakes import Mistakes  # noqa: PLC0415 - slow to load
    from rackloom.site.models_gpu import GpuStack  # noqa: PLC0415
    from rackloom.site.models_kubernetes import KUBE_VIP, Kubernetes  # noqa: PLC0415
    from rackloom.site.source import read  # noqa: PLC0415
    from rackloom.site.tolerant import Tolerant  # noqa: PLC0415

    mistakes = Mistakes()
    source = read(path, path.name, mistakes)
    data = source.data or {}
    if data.get("kubernetes") is None and data.get("gpu") is None:
        return frozenset()
    tolerant = Tolerant(source, mistakes)
    kubernetes = tolerant.read(Kubernetes, data.get("kubernetes") or {}, ("kubernetes",))
    gpu = tolerant.read(GpuStack, data.get("gpu") or {}, ("gpu",))
    if mistakes.found or kubernetes is None or gpu is None:
        raise RequestError([f"{path}: {mistake}" for mistake in mistakes.sorted()], "run `rackloom check`")
    chosen = set(gpu.kubernetes.choices)
    if data.get("kubernetes") is not None or chosen:
        addons = kubernetes.enabled_addons(measured=_measured(data))
        chosen |= {kubernetes.runtime, kubernetes.network.plugin, *addons}
        chosen |= {KUBE_VIP} & {kubernetes.endpoint.kind}
    return frozenset(chosen)


def _stores(data: Mapping[str, Any]) -> frozenset[str]:
    """Where a site keeps its logs, as far as that is a choice."""
    logging = data.get("logging")
    elastic = isinstance(logging, dict) and logging.get("store") == "elasticsearch"
    return frozenset({"elasticsearch"} if elastic else ())


def _measured(data: Mapping[str, Any]) -> bool:
    """Whether the site has a Prometheus: by its section, or where `services` says so."""
    services = data.get("services")
    named = services.get("prometheus") if isinstance(services, dict) else None
    return bool(named) if named is not None else "monitoring" in data


def measure(plan: Plan, seen: Seen, web: Web, jobs: int = 16) -> None:
    """Ask for the sizes that nobody told yet, of what is not in the bundle already."""

    def one(fetch: Fetch) -> Fetch:
        if fetch.item.size >= 0:
            return fetch
        here = seen.root / fetch.item.path
        if seen.digest(fetch.item.path) == fetch.item.sha256:
            return replace(fetch, item=fetch.item.sized(here.stat().st_size))
        url = fetch.urls[0]
        if url.startswith("file://"):
            source = Path(url.removeprefix("file://"))
            return replace(fetch, item=fetch.item.sized(source.stat().st_size)) if source.is_file() else fetch
        return replace(fetch, item=fetch.item.sized(web.size(url)))

    with ThreadPoolExecutor(jobs) as pool:
        plan.fetches = list(pool.map(one, plan.fetches))
