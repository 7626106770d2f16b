"""Checks of cluster.yml's `slurm`: every name it mentions exists, and Slurm would take the values."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from pydantic import TypeAdapter, ValidationError

from .context import Context
from .fields import Tres, seconds
from .mistakes import Path as Where
from .mistakes import suggest
from .models import ALL_NODES, PROFILE_PREFIX, Partition, Switch
from .ranges import RangeError, expand

OWNED_SETTINGS = {
    "clustername": "name",
    "slurmctldhost": "services.slurm_controller",
    "controlmachine": "services.slurm_controller",
    "backupcontroller": "services.slurm_controller",
    "nodename": "nodes.yml",
    "partitionname": "slurm.partitions",
    "statesavelocation": "slurm.state_dir",
    "include": "slurm.settings",
    "nodeset": "slurm.partitions",
    "grestypes": "the profiles in nodes.yml",
    "accountingstoragehost": "services.slurm_accounting",
}
OWNED_PARTITION_OPTIONS = {
    "partitionname": "name",
    "nodes": "nodes",
    "default": "default",
    "maxtime": "max_time",
    "defaulttime": "default_time",
    "prioritytier": "priority",
    "state": "state",
    "qos": "qos",
    "allowaccounts": "allow_accounts",
    "allowgroups": "allow_groups",
    "allowqos": "allow_qos",
    "preemptmode": "preempt_mode",
    "oversubscribe": "oversubscribe",
    "gres": "the profiles in nodes.yml",
}
_TRES: TypeAdapter[str] = TypeAdapter(Tres)
_OPTION = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_GPU = re.compile(r"gres/gpu(?::([^=,\s]+))?\s*=")


class SlurmCheck:
    """One pass over the section."""

    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx
        self.say = ctx.cluster
        self.slurm = ctx.cluster_file.slurm
        self.qos = ctx.declared(ctx.cluster, "slurm", "qos") | {"normal"}
        check_account = ctx.cluster_file.check_user.name
        self.accounts = ctx.declared(ctx.cluster, "slurm", "accounts") | {"root", check_account}
        self.gpu_types = _gpu_types(ctx.raw(ctx.nodes, "profiles"))

    def run(self) -> None:
        """The whole section."""
        self._services()
        self._partitions()
        self._qos()
        self._accounts()
        self._users()
        self._topology()
        self._owned(("slurm", "settings"), self.slurm.settings, OWNED_SETTINGS)
        self._gpus_of(("slurm", "priority", "tres"), self.slurm.priority.tres)

    def _services(self) -> None:
        groups = self.ctx.groups
        if len(groups["slurm_controller"]) > 1 and not self.slurm.state_dir:
            where = ("services", "slurm_controller")
            message = (
                "A backup controller takes over from a state directory that both share, and none is named."
            )
            cure = "Set slurm.state_dir to a directory on shared storage, or name one controller."
            self.say(where, groups["slurm_controller"], message, cure, "state-not-shared")
        for host in groups["slurm_node"]:
            node = self.ctx.hosts[host]
            if not node.profile and node.role != "compute":
                message = f"{host} is to run slurmd but has no profile in nodes.yml."
                self.say(("services", "slurm_node"), host, message, f"Give {host} a profile.", "no-profile")

    def _unique(self, items: Iterable[tuple[str, Where]], what: str) -> None:
        seen: dict[str, int] = {}
        for name, where in items:
            if name in seen:
                message = f"{what} {name} is already in line {seen[name]}."
                self.say(where, name, message, "Name each once.", "duplicate-name")
            seen.setdefault(name, self.say.line(where))

    def _known(self, names: Iterable[str], known: set[str], where: Where, what: str, code: str) -> None:
        written = self.ctx.raw_at(where)
        for index, name in enumerate(names):
            if name and name not in known:
                here = (*where, index) if isinstance(written, list) else where
                cure = suggest(name, known) or f"Add it to slurm.{what.lower()}s."
                self.say(here, name, f"There is no {what} {name}.", cure, code)

    def _owned(self, where: Where, options: dict[str, str], owned: dict[str, str]) -> None:
        for key, value in options.items():
            here = (*where, key)
            owner = owned.get(key.lower())
            if owner:
                message = f"{key} is made from {owner} and cannot be set here."
                code = "gpu-count" if key.lower() == "gres" else "owned-setting"
                self.say(here, value, message, f"Remove it and edit {owner}.", code)
            elif _OPTION.fullmatch(key) is None:
                self.say(
                    here, key, f"{key} is no key that Slurm knows.", "Write one word.", "bad-value", key=True
                )
            elif "tres" in key.lower() and key.lower() != "tresbillingweights":
                self._tres(here, key, value)
            self._gpus_of(here, value)

    def _tres(self, where: Where, key: str, value: str) -> None:
        try:
            _TRES.validate_python(value)
        except ValidationError as error:
            context = error.errors()[0].get("ctx", {})
            message = f"{key}: {context.get('message', '')}"
            self.say(where, value, message, context.get("cure", ""), "bad-tres")

    def _gpus_of(self, where: Where, text: str) -> None:
        """GPU types in a TRES text are types that some profile has."""
        for match in _GPU.finditer(text):
            kind = match.group(1)
            if not self.gpu_types:
                self.say(
                    where,
                    text,
                    "This limits GPUs, but no profile has any.",
                    "Add `gpus:` to a profile.",
                    "unknown-gpu",
                )
            elif kind and kind not in self.gpu_types:
                cure = suggest(kind, self.gpu_types)
                self.say(where, text, f"No profile has GPUs of type {kind}.", cure, "unknown-gpu")

    # ------------------------------------------------------------ partitions

    def _partitions(self) -> None:
        partitions = self.slurm.partitions
        self._unique(((p.name, (*p.where, "name")) for p in partitions), "Partition")
        defaults = [p for p in partitions if p.default]
        for partition in defaults[1:]:
            first = defaults[0]
            line = self.say.line((*first.where, "default"))
            message = f"Partition {partition.name} is a second default; {first.name} in line {line} is one."
            self.say((*partition.where, "default"), partition.default, message, "Keep one.", "two-defaults")
        for partition in partitions:
            self._partition(partition)

    def _partition(self, partition: Partition) -> None:
        where = partition.where
        if partition.name.lower() == "default":
            cure = "Choose another name."
            self.say(
                (*where, "name"),
                partition.name,
                "DEFAULT has a meaning of its own in slurm.conf.",
                cure,
                "reserved-name",
            )
        self._partition_nodes(partition)
        self._known([partition.qos], self.qos, (*where, "qos"), "QOS", "unknown-qos")
        self._known(partition.allow_qos, self.qos, (*where, "allow_qos"), "QOS", "unknown-qos")
        self._known(
            partition.allow_accounts, self.accounts, (*where, "allow_accounts"), "account", "unknown-account"
        )
        most = seconds(partition.max_time)
        if partition.default_time and most is not None:
            usual = seconds(partition.default_time)
            if usual is None or usual > most:
                message = (
                    f"default_time {partition.default_time} is longer than max_time {partition.max_time}."
                )
                self.say(
                    (*where, "default_time"), partition.default_time, message, "Make it shorter.", "bad-time"
                )
        self._owned((*where, "options"), partition.options, OWNED_PARTITION_OPTIONS)

    def _partition_nodes(self, partition: Partition) -> None:
        where = (*partition.where, "nodes")
        written = self.ctx.raw_at(where)
        what = f"Partition {partition.name}"
        members = self._members()
        profiles = self.ctx.declared(self.ctx.nodes, "profiles")
        for index, text in enumerate(partition.nodes):
            here = (*where, index) if isinstance(written, list) else where
            if text == ALL_NODES:
                continue
            if text.startswith(PROFILE_PREFIX):
                name = text.removeprefix(PROFILE_PREFIX)
                if name not in profiles:
                    self.say(
                        here, text, f"There is no profile {name}.", suggest(name, profiles), "unknown-profile"
                    )
                elif not self.ctx.broken_names - set(self.ctx.hosts) and not any(
                    self.ctx.hosts[host].profile == name for host in members
                ):
                    message = f"{what} would be empty: no Slurm node has profile {name}."
                    self.say(here, text, message, "Name another, or remove the partition.", "empty-partition")
                continue
            named = self.ctx.read_hosts([text], here, what)
            others = [host for host in named if host not in members]
            if others:
                message = f"{what} names {others[0]}, which does not run slurmd (group slurm_node)."
                self.say(
                    here, text, message, "Remove it, or add it to services.slurm_node.", "not-a-slurm-node"
                )
        if not partition.nodes:
            self.say(
                where,
                "",
                f"{what} has no nodes.",
                "Write all, names or profile:<name>.",
                "empty-partition",
                key=True,
            )

    def _members(self) -> set[str]:
        """Slurm's nodes, and those that serve Kubernetes now: these may come back, and keep their places."""
        return {*self.ctx.groups["slurm_node"], *self.ctx.groups["kube_node"]}

    # ------------------------------------------------------------ accounting

    def _qos(self) -> None:
        self._unique(((qos.name, (*qos.where, "name")) for qos in self.slurm.qos), "QOS")
        for qos in self.slurm.qos:
            self._known(qos.preempt, self.qos, (*qos.where, "preempt"), "QOS", "unknown-qos")
            if qos.name in qos.preempt:
                message = f"QOS {qos.name} would preempt itself."
                self.say(
                    (*qos.where, "preempt"), qos.name, message, "Remove it from the list.", "preempt-self"
                )
            self._gpus_of((*qos.where, "max_tres_per_user"), qos.max_tres_per_user)
            self._owned((*qos.where, "limits"), qos.limits, {})

    def _accounts(self) -> None:
        accounts = self.slurm.accounts
        self._unique(((account.name, (*account.where, "name")) for account in accounts), "Account")
        parents = {account.name: account.parent for account in accounts}
        check = self.ctx.cluster_file.check_user.name
        for account in accounts:
            where = account.where
            if account.name in ("root", check):
                message = f"Account {account.name} is there already."
                self.say((*where, "name"), account.name, message, "Choose another name.", "reserved-name")
                continue
            self._known([account.parent], self.accounts, (*where, "parent"), "account", "unknown-account")
            self._known([account.default_qos], self.qos, (*where, "default_qos"), "QOS", "unknown-qos")
            self._known(account.qos, self.qos, (*where, "qos"), "QOS", "unknown-qos")
            self._owned((*where, "limits"), account.limits, {})
            chain = [account.name]
            step = account.parent
            while step in parents and step not in chain:
                chain.append(step)
                step = parents[step]
            if step == account.name:
                circle = " → ".join([*chain, step])
                message = f"Account {account.name} is above itself: {circle}."
                self.say((*where, "parent"), account.parent, message, "Break the circle.", "account-cycle")

    def _users(self) -> None:
        users = self.slurm.users
        self._unique(((user.name, (*user.where, "name")) for user in users), "Slurm user")
        people = self.ctx.declared(self.ctx.cluster, "users") | {"root"}
        gone = {user.name for user in self.ctx.cluster_file.users if user.state == "absent"}
        for user in users:
            where = user.where
            if user.name in gone:
                message = f"Slurm user {user.name} is absent by `users`."
                self.say((*where, "name"), user.name, message, "Remove it here.", "unknown-user")
            elif user.name not in people and not self.ctx.cluster_file.external_users:
                cure = suggest(user.name, people - {"root"}) or "Add it to `users`."
                if "Did" not in cure:
                    cure = "Add it to `users`, or set external_users: true if people come from a directory."
                self.say((*where, "name"), user.name, f"There is no user {user.name}.", cure, "unknown-user")
            self._known([user.account], self.accounts, (*where, "account"), "account", "unknown-account")
            self._known(user.accounts, self.accounts, (*where, "accounts"), "account", "unknown-account")
            self._known(user.qos, self.qos, (*where, "qos"), "QOS", "unknown-qos")
            self._known([user.default_qos], self.qos, (*where, "default_qos"), "QOS", "unknown-qos")
            if user.default_qos in self.qos and user.qos and user.default_qos not in user.qos:
                message = f"default_qos {user.default_qos} is not one of the QOS that {user.name} may take."
                self.say(
                    (*where, "default_qos"), user.default_qos, message, "Add it to `qos`.", "unknown-qos"
                )
            self._owned((*where, "limits"), user.limits, {})

    # ------------------------------------------------------------ topology

    def _topology(self) -> None:
        switches = self.slurm.topology
        self._unique(((switch.switch, (*switch.where, "switch")) for switch in switches), "Switch")
        names = self.ctx.declared(self.ctx.cluster, "slurm", "topology", key="switch")
        above: dict[str, str] = {}
        places: dict[str, str] = {}
        members = self._members()
        for switch in switches:
            if bool(switch.nodes) == bool(switch.switches):
                both = "both nodes and switches" if switch.nodes else "neither nodes nor switches"
                message = f"Switch {switch.switch} has {both}."
                self.say(
                    (*switch.where, "switch"),
                    switch.switch,
                    message,
                    "Give it one of the two.",
                    "bad-topology",
                )
            what = f"Switch {switch.switch}"
            named = self.ctx.read_hosts(switch.nodes, (*switch.where, "nodes"), what)
            others = [host for host in named if host not in members]
            if others:
                message = f"{what} names {others[0]}, which does not run slurmd (group slurm_node)."
                self.say((*switch.where, "nodes"), others[0], message, "Remove it here.", "not-a-slurm-node")
            for host in named:
                if places.setdefault(host, switch.switch) != switch.switch:
                    message = f"{host} hangs on switch {places[host]} already."
                    self.say(
                        (*switch.where, "nodes"), host, message, "Name it under one switch.", "bad-topology"
                    )
                    break
            self._switches_under(switch, names, above)
        for switch in switches:
            chain = [switch.switch]
            step = above.get(switch.switch)
            while step is not None and step not in chain:
                chain.append(step)
                step = above.get(step)
            if step == switch.switch:
                message = f"Switch {switch.switch} is above itself: {' → '.join([*chain, switch.switch])}."
                self.say(
                    (*switch.where, "switches"), switch.switch, message, "Break the circle.", "bad-topology"
                )

    def _switches_under(self, switch: Switch, names: set[str], above: dict[str, str]) -> None:
        where = (*switch.where, "switches")
        try:
            lower = expand(switch.switches) if switch.switches else []
        except RangeError as error:
            self.say(where, switch.switches, f"{error}.", "Write names or ranges like s[1-4].", "bad-range")
            return
        for name in lower:
            if name not in names:
                self.say(where, name, f"There is no switch {name}.", suggest(name, names), "unknown-switch")
            elif above.setdefault(name, switch.switch) != switch.switch:
                message = f"Switch {name} is under {above[name]} already."
                self.say(where, name, message, "Put it under one switch.", "bad-topology")


def _gpu_types(profiles: Any) -> set[str]:
    """GPU types and slices as written, also where something else about them is wrong."""
    found: set[str] = set()
    for profile in profiles.values() if isinstance(profiles, dict) else ():
        gpus = profile.get("gpus") if isinstance(profile, dict) else None
        for gpu in gpus if isinstance(gpus, list) else ():
            if isinstance(gpu, dict):
                mig = gpu.get("mig")
                found.update(map(str, mig) if isinstance(mig, dict) and mig else [str(gpu.get("type"))])
    return found


def check_slurm(ctx: Context) -> None:
    """Everything about slurm; needs ctx.hosts and ctx.groups."""
    SlurmCheck(ctx).run()
