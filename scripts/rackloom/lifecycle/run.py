"""Lifecycle commands, from the look to the last check. Each may be stopped anywhere and run again."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from errno import EISDIR
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

from rackloom.lifecycle import files, plan_nodes, plan_reboot, plan_upgrade
from rackloom.lifecycle.look import Sink, look
from rackloom.lifecycle.plan import Plan, release
from rackloom.lifecycle.plan_nodes import Move, Removal
from rackloom.lifecycle.plan_upgrade import Records, Wish
from rackloom.lifecycle.seen import Seen
from rackloom.result import ExitCode, Problem
from rackloom.run.deploy import Job, RunOutcome, deploy, run
from rackloom.site.groups import groups as known_groups

if TYPE_CHECKING:
    from rackloom.site import Site

UNITS = (
    "kubelet.service",
    "slurmd.service",
    "keepalived.service",
    "haproxy.service",
    "rackloom-etcd-snapshot.timer",
    "rackloom-etcd.service",
    "rackloom-kube-approver.service",
    "rackloom-kube-certificates.timer",
    "containerd.service",
    "crio.service",
)
"""What is stopped on a node that leaves for good."""
PROGRAMS = ("kubeadm", "kubelet", "kubectl")
PARTS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy")
"""Files and images that have the version of the release."""
DRAIN_SECONDS = 600
KUBE_GROUPS = ("kube_control_plane", "kube_node", "kube_api_balancer", "etcd")
P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Limits:
    """How long drains wait, and what they may cost."""

    timeout: int = DRAIN_SECONDS
    cancel_jobs: bool = False
    delete_unmanaged: bool = False

    def words(self) -> list[str]:
        """The options that say so."""
        return [
            *(["--timeout", str(self.timeout)] if self.timeout != DRAIN_SECONDS else []),
            *(["--cancel-running-jobs"] if self.cancel_jobs else []),
            *([plan_nodes.UNMANAGED_FLAG] if self.delete_unmanaged else []),
        ]


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended. `runs` are its playbooks, in order."""

    exit_code: ExitCode = ExitCode.OK
    problems: tuple[Problem, ...] = ()
    plan: Plan = field(default_factory=Plan)
    runs: tuple[RunOutcome, ...] = ()
    told: tuple[str, ...] = ()
    """Sentences for people, the last ones of all."""
    resume: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def begun(self) -> bool:
        """Whether anything may have been touched."""
        return any(one.run_dir for one in self.runs)


class _Stopped(Exception):
    """A part did not end well; `done` says how."""

    def __init__(self, done: Done) -> None:
        super().__init__()
        self.done = done


def _ends_early(command: Callable[P, Done]) -> Callable[P, Done]:
    """Have a command give what the first part that did not end well has to say."""

    @wraps(command)
    def ended(*args: P.args, **kwargs: P.kwargs) -> Done:
        try:
            return command(*args, **kwargs)
        except _Stopped as stopped:
            return stopped.done

    return ended


class _Command:
    """What the commands have in common: parts that follow one another until one does not end well."""

    def __init__(self, config_dir: Path, argv: Sequence[str], sink: Sink) -> None:
        self.config_dir = config_dir
        self.argv = tuple(argv)
        self.sink = sink
        self.plan = Plan()
        self.runs: list[RunOutcome] = []
        self.told: list[str] = []
        self.data: dict[str, Any] = {}

    def look(
        self, names: Sequence[str] = (), reboots: Callable[[Site], Sequence[str]] | None = None
    ) -> tuple[Site, Seen]:
        """What there is; ends the command where that cannot be seen."""
        looked = look(self.config_dir, names, self.sink, reboots)
        if looked.site is None:
            raise _Stopped(self.refuse(looked.problems))
        return looked.site, looked.seen

    def means(self, plan: Plan, change: files.Change | None = None) -> None:
        """Note what is to be done, and what becomes of the site's files; ends the command where it may not be."""
        self.plan = plan
        if plan.refusals:
            raise _Stopped(self.refuse(plan.refusals))
        if change is not None and (problems := files.rehearse(self.config_dir, change)):
            raise _Stopped(self.refuse(problems))

    def play(
        self, kind: str, playbook: str, variables: Mapping[str, Any], stages: Sequence[str] = ()
    ) -> RunOutcome:
        """Run a playbook of this folder."""
        job = Job(kind, f"playbooks/lifecycle/{playbook}", tuple(stages), extra_vars=dict(variables))
        return self.took(run(self.config_dir, job, self.sink(False)))

    def deploy(self, hosts: Sequence[str], stages: Sequence[str] = ()) -> RunOutcome:
        """Deploy to some hosts and groups; to none, nothing is done."""
        if not hosts:
            return RunOutcome(ExitCode.OK)
        limit = ",".join(dict.fromkeys(hosts))
        return self.took(deploy(self.config_dir, stages=stages, limit=limit, progress=self.sink(False)))

    def took(self, outcome: RunOutcome) -> RunOutcome:
        """Note a part; ends the command where it failed."""
        self.runs.append(outcome)
        if outcome.exit_code is not ExitCode.OK:
            raise _Stopped(self.done(outcome.exit_code, outcome.problems))
        return outcome

    def write(self, change: files.Change) -> None:
        """Change the site's files; ends the command where they cannot be."""
        if problems := files.apply(self.config_dir, change):
            raise _Stopped(self.done(ExitCode.FAILED, problems))

    def refuse(self, problems: Sequence[Problem]) -> Done:
        """Nothing was touched."""
        return Done(ExitCode.MISTAKES, tuple(problems), replace(self.plan, steps=()))

    def done(self, code: ExitCode = ExitCode.OK, problems: Sequence[Problem] = ()) -> Done:
        """How it stands."""
        resume = shlex.join(["rackloom", *self.argv]) if code is not ExitCode.OK else ""
        return Done(code, tuple(problems), self.plan, tuple(self.runs), tuple(self.told), resume, self.data)

    def left(self, outcome: RunOutcome) -> None:
        """Tell of the copies of etcd that nodes keep, though Kubernetes was taken off them."""
        for name, facts in sorted(outcome.facts.items()):
            if copies := [str(path) for path in facts.get("copies") or ()]:
                self.data.setdefault("copies", {})[name] = copies
                folders = sorted({str(Path(path).parent) for path in copies})
                self.told.append(
                    f"{name} still has copies of what Kubernetes kept ({len(copies)}), in {' and '.join(folders)}: "
                    "remove them by hand once others are kept elsewhere."
                )


def _watchers(site: Site, names: Sequence[str], before: Mapping[str, Sequence[str]]) -> list[str]:
    """Groups whose files list nodes, and those that take part when one of these joins or leaves."""
    known = known_groups()
    taking_part = {
        other
        for name, group in known.items()
        if set(names) & set(before.get(name, ()))
        for other in group.joins_with
    }
    return [
        name
        for name, group in known.items()
        if group.service and (group.sees_nodes or name in taking_part) and site.groups.get(name)
    ]


# --- Nodes that leave ----------------------------------------------------------------------


@_ends_early
def remove(config_dir: Path, wish: Removal, limits: Limits, sink: Sink, *, check: bool = False) -> Done:
    """Take nodes out; with `by`, put another one in the place of the first."""
    flag = [plan_nodes.DEAD_FLAG] if wish.dead else []
    words = ["nodes", "replace", wish.names[0], wish.by] if wish.by else ["nodes", "remove", *wish.names]
    command = _Command(config_dir, [*words, *flag, *limits.words()], sink)
    site, seen = command.look([*wish.names, *([wish.by] if wish.by else [])])
    leaving = plan_nodes.remove(wish, seen, site.groups, list(site.nodes))
    command.means(leaving.plan)
    change = files.removal(site, wish.names, leaving.stay, wish.by) if leaving.edit else files.nothing
    command.means(leaving.plan, change)
    if check:
        return command.done()
    _leave(command, seen, wish.names, leaving, limits, site.groups)
    command.write(change)
    after = _site(config_dir) or site
    hosts = _watchers(after, wish.names, site.groups)
    limit = [*([wish.by] if wish.by else []), *hosts]
    if leaving.edit and not wish.by:
        # the site does not know the node any more; what is left is an ordinary deploy
        command.argv = ("deploy", "--limit", ",".join(limit))
    command.deploy(limit)
    command.told += leaving.plan.notes
    return command.done()


def _site(config_dir: Path) -> Site | None:
    from rackloom.site import check_site  # noqa: PLC0415 - slow to load

    return check_site(config_dir).site


def _leave(
    command: _Command,
    seen: Seen,
    names: Sequence[str],
    leaving: plan_nodes.Leaving,
    limits: Limits,
    groups: Mapping[str, Sequence[str]],
    *,
    reason: str = "remove",
    units: Sequence[str] = UNITS,
) -> None:
    """Out of Slurm, out of Kubernetes, out of etcd, off the node."""
    stays = [name for name in seen.apis if name not in names]
    controllers = [name for name in groups.get("slurm_controller", ()) if name not in names]
    variables = {
        "leave_reason": reason,
        "leave_controller": controllers[0] if leaving.drain_slurm and controllers else "",
        "leave_slurm": list(leaving.drain_slurm),
        "leave_cancel_jobs": limits.cancel_jobs,
        "leave_api": stays[0] if stays and (leaving.drain or leaving.forget or leaving.members) else "",
        "leave_drain": list(leaving.drain),
        "leave_members": list(leaving.members),
        "leave_forget": list(leaving.forget),
        "leave_reset": list(leaving.reset),
        "leave_units": list(units),
        "leave_timeout": limits.timeout,
        "leave_delete_unmanaged": limits.delete_unmanaged,
    }
    if any(variables[key] for key in ("leave_controller", "leave_api", "leave_reset")):
        command.left(command.play("leave", "leave.yml", variables))


# --- Between Slurm and Kubernetes ----------------------------------------------------------


@_ends_early
def move(config_dir: Path, wish: Move, limits: Limits, sink: Sink, *, check: bool = False) -> Done:
    """Let a node serve the other scheduler."""
    command = _Command(config_dir, ["nodes", "move", wish.name, "--to", wish.to, *limits.words()], sink)
    site, seen = command.look([wish.name])
    moving = plan_nodes.move(wish, seen, site.groups, list(site.nodes))
    change = files.moved(wish.name, wish.to)
    command.means(moving.plan, change if moving.edit else None)
    if check or not moving.plan.steps:
        return command.done()
    own = (wish.name,)
    leaving = plan_nodes.Leaving(
        moving.plan,
        drain_slurm=own * moving.drain_slurm,
        drain=own * moving.drain,
        forget=own * moving.forget,
    )
    drained = replace(leaving, forget=())
    _leave(command, seen, (), drained, limits, site.groups, reason="move")
    if moving.edit:
        command.write(change)
    off = replace(leaving, drain_slurm=(), drain=(), reset=own * (moving.reset or moving.stop_slurm))
    units = UNITS if wish.to == "slurm" else ("slurmd.service",)
    _leave(command, seen, (), off, limits, site.groups, reason="move", units=units)
    after = _site(config_dir) or site
    command.deploy([wish.name, *_watchers(after, own, {**site.groups, **after.groups})])
    controllers = list(after.groups.get("slurm_controller", ()))
    command.play(
        "serve", "serve.yml",
        {
            "serve_slurm": [wish.name] * (wish.to == "slurm"), "serve_controller": controllers[0],
            "serve_kubernetes": [wish.name] * (wish.to == "kubernetes"), "serve_api": (*seen.apis, "")[0],
        },
    )  # fmt: skip
    _both_say(command, wish)
    command.told.append(f"{wish.name} serves {wish.to}; both schedulers say so.")
    return command.done()


def _both_say(command: _Command, wish: Move) -> None:
    """Ask both schedulers: one has it, the other does not."""
    looked = look(command.config_dir, [wish.name], command.sink)
    nodes = looked.seen.cluster.nodes if looked.seen.cluster else {}
    wrong = []
    if (wish.name in nodes) != (wish.to == "kubernetes"):
        wrong.append("Kubernetes still has it" if wish.to == "slurm" else "Kubernetes does not have it")
    if (wish.name in (looked.seen.slurm or {})) != (wish.to == "slurm"):
        wrong.append("Slurm still has it" if wish.to == "kubernetes" else "Slurm does not have it")
    if wrong:
        problem = Problem(
            "not_moved", f"{wish.name}: {' and '.join(wrong)}", "run it again", {"host": wish.name}
        )
        raise _Stopped(command.done(ExitCode.VERDICT, [*looked.problems, problem]))


# --- Reboots -------------------------------------------------------------------------------


@_ends_early
def reboot(
    config_dir: Path, wish: plan_reboot.Wish, limits: Limits, sink: Sink, *, check: bool = False
) -> Done:
    """Start nodes anew, wave by wave, or go on with that."""
    wave = ["--wave", wish.wave] if wish.wave != "1" else []
    words = ["nodes", "reboot", *wish.names, *wave, *limits.words()]
    command = _Command(config_dir, [*words, *(["--needed"] if wish.needed else [])], sink)
    site, seen = command.look((), lambda site: plan_reboot.asked(wish, list(site.nodes)))
    found = plan_reboot.plan(wish, seen, site.groups, list(site.nodes))
    command.means(found.plan)
    command.told += found.plan.notes
    if check:
        return command.done()
    controllers = list(site.groups.get("slurm_controller", ()))
    controller, api = (*controllers, "")[0], (*seen.apis, "")[0]
    variables = {
        "reboot_nodes": list(found.nodes), "reboot_wave": found.wave, "reboot_controller": controller,
        "reboot_slurm": list(found.slurm), "reboot_resume": list(found.resume), "reboot_api": api,
        "reboot_kubernetes": list(found.kubernetes), "reboot_timeout": limits.timeout,
        "reboot_cancel_jobs": limits.cancel_jobs, "reboot_delete_unmanaged": limits.delete_unmanaged,
    }  # fmt: skip
    if found.serve_slurm or found.serve_kubernetes:
        command.play(
            "serve", "serve.yml",
            {
                "serve_slurm": list(found.serve_slurm), "serve_controller": controller,
                "serve_kubernetes": list(found.serve_kubernetes), "serve_api": api,
            },
        )  # fmt: skip
    if found.nodes and not wish.needed:
        command.play("reboot", "reboot.yml", variables, ["note"])
        # from here on the nodes themselves know which are left
        command.argv = (*words, "--needed")
    if found.nodes:
        outcome = command.play("reboot", "reboot.yml", variables, ["waves"])
        command.told += [
            f"{name} was rebooted and asks for it still: {'; '.join(why)}"
            for name in found.nodes
            if (why := (outcome.facts.get(name, {}).get("reboot") or {}).get("why"))
        ]
        command.told.append(f"{len(found.nodes)} nodes were rebooted and serve again.")
    return command.done()


# --- Upgrades ------------------------------------------------------------------------------


@_ends_early
def upgrade(config_dir: Path, wish: Wish, limits: Limits, sink: Sink, *, check: bool = False) -> Done:
    """Bring Kubernetes to another release, or go on with that."""
    argv = ["upgrade", "kubernetes", "--to", wish.release]
    argv += ["--wave", wish.wave] if wish.wave != "1" else []
    command = _Command(config_dir, [*argv, *limits.words()], sink)
    site, seen = command.look()
    found = plan_upgrade.plan(wish, seen, site.groups, records(config_dir, wish.release))
    change = files.release(wish.release)
    command.means(found.plan, change)
    if check:
        return command.done()
    if not found.plan.steps:
        command.write(change)
        what = "Every node that is not paused before" if found.paused else "Every node"
        command.told.append(f"{what} runs {wish.release} already.")
        return command.done()
    stopped_at = [
        name for name, node in (seen.cluster.nodes if seen.cluster else {}).items()
        if node.cordoned_for == plan_upgrade.REASON
    ]  # fmt: skip
    variables = {
        "upgrade_release": wish.release, "upgrade_api": list(seen.apis), "upgrade_first": found.first,
        "upgrade_control_plane": list(found.control_plane), "upgrade_workers": list(found.workers),
        "upgrade_wave": found.wave, "upgrade_timeout": limits.timeout,
        "upgrade_delete_unmanaged": limits.delete_unmanaged, "upgrade_stopped_at": stopped_at,
        "upgrade_begun": _begun(seen, wish.release),
    }  # fmt: skip
    command.play("upgrade", "upgrade_kubernetes.yml", variables, ["prepare"])
    command.write(change)
    if found.control_plane:
        command.play("upgrade", "upgrade_kubernetes.yml", variables, ["control_plane"])
    if found.workers:
        command.play("upgrade", "upgrade_kubernetes.yml", variables, ["workers"])
    _all_run(command, wish, found.paused)
    if not found.paused:
        # kubeadm lays its own CoreDNS and settings out with each release
        command.deploy(["kube_control_plane"], ["kubernetes"])
    return command.done()


def _begun(seen: Seen, wanted: str) -> bool:
    """Whether anything of the control plane has been upgraded: a snapshot of now is none of before then."""
    runs = {host.manifests.get("kube-apiserver", "").removeprefix("v") for host in seen.hosts.values()}
    return wanted in runs or (seen.cluster is not None and seen.cluster.release == wanted)


def _all_run(command: _Command, wish: Wish, paused: bool) -> None:
    """Look again for what is left."""
    looked = look(command.config_dir, (), command.sink)
    if looked.site is None:
        raise _Stopped(command.done(ExitCode.FAILED, looked.problems))
    again = plan_upgrade.plan(
        replace(wish, pause_after=""),
        looked.seen,
        looked.site.groups,
        records(command.config_dir, wish.release),
    )
    left = [*again.control_plane, *again.workers]
    if again.plan.refusals:
        raise _Stopped(command.done(ExitCode.VERDICT, again.plan.refusals))
    if left and not paused:
        said = f"not at {wish.release} yet: {', '.join(left)}"
        raise _Stopped(command.done(ExitCode.VERDICT, [Problem("not_upgraded", said, "run it again")]))
    if left:
        command.told.append(
            f"Paused. Left: {', '.join(left)}. To go on: {shlex.join(['rackloom', *command.argv])}"
        )
    else:
        command.told.append(f"Every node runs Kubernetes {wish.release}.")


def records(config_dir: Path, wanted: str) -> Records:
    """What the versions files hold for a release."""
    from rackloom.site import support, versions  # noqa: PLC0415 - slow to load

    held = versions.effective(config_dir)
    images = {
        f"registry.k8s.io/{part}": held.find("image", f"registry.k8s.io/{part}", wanted) for part in PARTS
    }
    missing = [name for name in PROGRAMS if held.find("file", name, wanted) is None]
    missing += [name for name, record in images.items() if record is None]
    undigested = [record.reference for record in images.values() if record is not None and not record.digest]
    if release(wanted) is None or wanted not in held.releases():
        missing = []
    return Records(
        tuple(held.releases()), tuple(missing), tuple(undigested),
        lambda component, version: support.too_old(wanted, component, version),
    )  # fmt: skip


# --- Snapshots and the end -----------------------------------------------------------------


@_ends_early
def snapshot(config_dir: Path, path: Path, sink: Sink) -> Done:
    """Save everything that Kubernetes keeps into a file here."""
    command = _Command(config_dir, ["kubernetes", "snapshot", str(path)], sink)
    _, seen = command.look()
    if not seen.apis:
        said = f"no control-plane node answers: {seen.trouble or 'there is none'}"
        return command.refuse(
            [Problem("no_api", said, "scheduled ones lie in /var/lib/rackloom/etcd of each of them")]
        )
    outcome = _fetch(command, path, seen.apis[0])
    about = dict(outcome.facts.get(seen.apis[0], {}).get("snapshot") or {})
    about["path"] = str(path)
    command.told.append(
        f"{path}: {about.get('keys', 0)} keys at revision {about.get('revision', 0)}, {about.get('size', 0)} bytes. "
        "It holds the workloads' secrets, encrypted with the key in the site's vault: keep both, apart."
    )
    command.data["snapshot"] = about
    return command.done()


def _fetch(command: _Command, path: Path, api: str) -> RunOutcome:
    """
    Bring a snapshot here. It has its name once it is whole, so an older one of that name is not lost to half a file.

    The file is there before Ansible writes into it: its mode is none that others could read, from the first byte on.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        if path.is_dir():
            raise IsADirectoryError(EISDIR, "it is a folder", str(path))
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part.unlink(missing_ok=True)
        part.touch(mode=0o600, exist_ok=False)
    except OSError as error:
        said = f"cannot write {error.filename}: {error.strerror}"
        raise _Stopped(
            command.refuse([Problem("no_file", said, "name a file that can be written")])
        ) from None
    try:
        variables = {"snapshot_file": str(part.absolute()), "snapshot_from": api}
        outcome = command.play("snapshot", "snapshot.yml", variables)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return outcome


REPLACE_FLAG = "--replace-the-running-cluster"
ERASE_FLAG = "--erase-the-whole-cluster"


@_ends_early
def restore(
    config_dir: Path, path: Path, sink: Sink, *, replace_running: bool = False, check: bool = False
) -> Done:
    """Begin the control plane anew with a snapshot."""
    command = _Command(
        config_dir, ["kubernetes", "restore", str(path)] + [REPLACE_FLAG] * replace_running, sink
    )
    if not path.is_file():
        return command.refuse([Problem("no_file", f"there is no {path}", "name the file of a snapshot")])
    site, seen = command.look()
    masters, stores = list(site.groups["kube_control_plane"]), list(site.groups.get("etcd", ()))
    if problems := _may_not_restore(site, seen, [*masters, *stores], replace_running=replace_running):
        return command.refuse(problems)
    command.plan = plan_restore(masters, seen, stores)
    if check:
        return command.done()
    variables = {
        "restore_file": str(path.absolute()), "restore_first": (stores or masters)[0],
        "restore_nodes": [*masters, *stores], "restore_begins": [masters[0]] if stores else [],
    }  # fmt: skip
    command.play("restore", "restore.yml", variables)
    # the first alone: the others join it once the API is there with everything in it
    command.deploy([masters[0], *(["etcd"] if stores else [])], ["kubernetes"])
    forgotten = {"leave_reason": "restore", "leave_api": masters[0], "leave_forget": masters[1:]}
    command.play("restore", "leave.yml", forgotten)
    command.deploy(
        [name for name in ("kube_control_plane", "kube_api_balancer") if site.groups.get(name)],
        ["kubernetes"],
    )
    command.told.append(
        "The control plane has what the snapshot had. Next: rackloom deploy, rackloom validate kubernetes"
    )
    return command.done()


def plan_restore(masters: Sequence[str], seen: Seen, stores: Sequence[str] = ()) -> Plan:
    """The steps of a restore. `stores`: the hosts of etcd, where it is not on the control-plane nodes."""
    from rackloom.lifecycle.plan import Step  # noqa: PLC0415

    first, *others = [*stores, *masters]
    steps = [Step("look at the snapshot", first)]
    steps += [
        Step(
            "stop etcd" if name in stores else "take the control plane off the node",
            name,
            "its etcd's data is kept aside" if seen.host(name).store else "",
        )
        for name in (*masters, *stores)
    ]
    steps.append(Step("lay the snapshot out, begin with it", first, "the API is never seen without it"))
    steps += [
        Step("begin with what etcd holds" if stores and name == masters[0] else "join", name)
        for name in others
    ]
    return Plan(tuple(steps))


def _may_not_restore(
    site: Site, seen: Seen, needed: Sequence[str], *, replace_running: bool
) -> list[Problem]:
    if not site.groups["kube_control_plane"]:
        return [
            Problem("no_service", "this site has no Kubernetes", "name kube_control_plane under services")
        ]
    found = [
        Problem(
            "unreachable", f"{name} does not answer on SSH", "see that it is on, or replace it in cluster.yml"
        )
        for name in needed
        if not seen.host(name).reachable
    ]
    if seen.cluster is not None and not replace_running:
        said = f"the API answers ({seen.cluster.at}): what was written since the snapshot would be lost"
        found.append(Problem("cluster_alive", said, f"if that is meant: {REPLACE_FLAG}"))
    return found


@_ends_early
def reset(config_dir: Path, sink: Sink, *, erase: bool, check: bool = False) -> Done:
    """Take Kubernetes off all nodes of the site."""
    command = _Command(config_dir, ["kubernetes", "reset", *([ERASE_FLAG] if erase else [])], sink)
    site, seen = command.look()
    hosts = [name for group in KUBE_GROUPS for name in site.groups.get(group, ())]
    hosts = list(dict.fromkeys(hosts))
    if not hosts:
        return command.refuse(
            [Problem("no_service", "this site has no Kubernetes", "there is nothing to reset")]
        )
    if not erase:
        said = f"this erases Kubernetes and all that it keeps on {len(hosts)} nodes: {', '.join(hosts[:8])}"
        return command.refuse(
            [Problem("flag", said, f"if that is meant: rackloom kubernetes reset {ERASE_FLAG}")]
        )
    from rackloom.lifecycle.plan import Step  # noqa: PLC0415

    command.plan = Plan(tuple(Step("take Kubernetes off the node", name) for name in hosts))
    if check:
        return command.done()
    if seen.apis:
        file = config_dir / "snapshots" / "before-reset.db"
        _fetch(command, file, seen.apis[0])
        command.told.append(f"What it kept is in {file}.")
    units = [unit for unit in UNITS if unit != "slurmd.service"]
    variables = {"erase_the_whole_cluster": True, "reset_units": units}
    command.left(command.play("reset", "reset.yml", variables))
    command.told.append(
        "Kubernetes is gone. `rackloom deploy` makes a new, empty one as long as cluster.yml names its nodes."
    )
    return command.done()
