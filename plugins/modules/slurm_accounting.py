#!/usr/bin/python
"""Slurm's accounting data: the cluster, QOS, accounts, users and their limits, from lists."""

from __future__ import annotations

DOCUMENTATION = r"""
module: slurm_accounting
short_description: Bring Slurm's QOS, accounts and users to what lists say
description:
  - Reads what the database holds once, and sends only the differences to it with C(sacctmgr).
  - Reads again after a change, and fails when the database does not hold what it was told.
  - Deletes nothing but entries with C(state=absent). What people made by hand beside the lists stays.
  - Needs the Slurm commands, munge and the right of root or of SlurmUser, but neither slurm.conf nor a
    running slurmctld.
options:
  host:
    description: Where slurmdbd runs, as an address or a name.
    type: str
    required: true
  port:
    description: Port of slurmdbd.
    type: int
    default: 6819
  cluster:
    description: The cluster that accounts and users belong to; it is added when it is missing.
    type: str
    default: ""
  qos:
    description:
      - QOS, as dictionaries with C(name), C(priority), C(preempt) (names), C(preempt_mode), C(flags),
        C(description), C(limits) (as sacctmgr spells them) and C(state). What is not named is left alone.
    type: list
    elements: dict
    default: []
  accounts:
    description:
      - Accounts, parents before their children, as dictionaries with C(name), C(parent), C(description),
        C(organization), C(fairshare), C(qos), C(default_qos), C(limits) and C(state).
    type: list
    elements: dict
    default: []
  users:
    description:
      - Users, as dictionaries with C(name), C(account) (the default), C(accounts), C(qos), C(default_qos),
        C(admin) (none, operator or administrator), C(fairshare), C(limits) and C(state).
    type: list
    elements: dict
    default: []
  timeout:
    description: Seconds in which slurmdbd must answer.
    type: int
    default: 60
author: The Rackloom authors
"""

EXAMPLES = r"""
- name: Configure | Keep the accounts
  rackloom.cluster.slurm_accounting:
    host: 192.0.2.11
    cluster: demo
    qos: [{name: high, priority: 10, preempt: [normal]}]
    accounts: [{name: research, fairshare: 10, limits: {GrpTRES: gres/gpu=64}}]
    users: [{name: alice, account: research}]
"""

RETURN = r"""
changes:
  description: What was changed, or would be in check mode, one phrase each.
  returned: always
  type: list
  elements: str
  sample: ["account research: GrpTRES - -> gres/gpu=64"]
"""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.slurm_accounts import (  # noqa: TID252 - how a collection's plugins find each other
    ACCOUNT_FIELDS,
    ASSOCIATION_FIELDS,
    QOS_FIELDS,
    USER_FIELDS,
    Command,
    Row,
    State,
    WrongValueError,
    limit_fields,
    plan_absent,
    plan_accounts,
    plan_qos,
    plan_users,
    rows,
)

CLIENT = """ClusterName={cluster}
SlurmctldHost=localhost
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost={host}
AccountingStoragePort={port}
"""
_NO_ANSWER = (
    "Connection refused",
    "Problem talking to the database",
    "Unable to contact slurmdbd",
    "timed out",
)


class NoAnswerError(Exception):
    """slurmdbd is not there, or not yet."""


class RefusedError(Exception):
    """sacctmgr did not take a command; the text says which and why."""


class Accounting:
    """The database behind one slurmdbd."""

    def __init__(self, module: AnsibleModule, folder: str) -> None:
        self.module = module
        self.cluster: str = module.params["cluster"].lower()
        self.qos: list[dict[str, Any]] = module.params["qos"]
        self.accounts: list[dict[str, Any]] = module.params["accounts"]
        self.users: list[dict[str, Any]] = module.params["users"]
        conf = Path(folder) / "slurm.conf"
        conf.write_text(
            CLIENT.format(
                cluster=self.cluster or "none",
                host=module.params["host"],
                port=module.params["port"],
            ),
            encoding="utf-8",
        )
        self.environment = {**os.environ, "SLURM_CONF": str(conf), "LC_ALL": "C.UTF-8"}
        self.end = time.monotonic() + module.params["timeout"]

    def call(self, arguments: Iterable[str]) -> str:
        """Run sacctmgr and return what it printed; waits for a slurmdbd that is still starting."""
        command = ["sacctmgr", *arguments]
        while True:
            done = subprocess.run(
                ["timeout", "120", *command],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode == 0:
                return done.stdout
            said = " ".join((done.stderr + "\n" + done.stdout).split()) or f"exit status {done.returncode}"
            if not any(word in said for word in _NO_ANSWER):
                raise RefusedError(f"{' '.join(command)} failed: {said}")
            if self.module.check_mode or time.monotonic() > self.end:
                raise NoAnswerError(f"slurmdbd at {self.module.params['host']} does not answer: {said}")
            time.sleep(0.5)

    def show(self, what: str, fields: Iterable[str], *where: str) -> list[Row]:
        """Return rows of what sacctmgr shows."""
        names = list(fields)
        return rows(self.call(["-nP", "show", what, *where, f"format={','.join(names)}"]), names)

    def read(self) -> State:
        """Return what the database holds, as far as the lists ask for it."""
        asks: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {}
        if self.qos:
            asks["qos"] = ("qos", (*QOS_FIELDS, *limit_fields(self.qos)), ())
        if self.cluster:
            asks["clusters"] = ("cluster", ("Cluster",), ())
        if self.cluster and (self.accounts or self.users):
            limits = limit_fields([*self.accounts, *self.users])
            asks["accounts"] = ("account", ACCOUNT_FIELDS, ())
            asks["users"] = ("user", USER_FIELDS, ())
            asks["associations"] = ("assoc", (*ASSOCIATION_FIELDS, *limits), (f"cluster={self.cluster}",))
        # slurmdbd takes a third of a second to greet each client, so all are sent at once.
        with ThreadPoolExecutor(max(1, len(asks))) as pool:
            told = dict(
                zip(
                    asks, pool.map(lambda ask: self.show(ask[0], ask[1], *ask[2]), asks.values()), strict=True
                )
            )
        state = State(
            clusters={row["Cluster"].lower() for row in told.get("clusters", ())},
            qos={row["Name"].lower(): row for row in told.get("qos", ())},
        )
        if self.cluster not in state.clusters:
            return state
        state.accounts = {row["Account"].lower(): row for row in told.get("accounts", ())}
        state.users = {row["User"].lower(): row for row in told.get("users", ())}
        state.associations = {
            (row["Account"].lower(), row["User"].lower()): row
            for row in told.get("associations", ())
            if not row["Partition"]
        }
        return state

    def plan(self, state: State) -> list[Command]:
        """Return the changes that lead from the state to the lists."""
        commands: list[Command] = []
        if self.cluster and self.cluster not in state.clusters:
            commands.append(Command(("add", "cluster", self.cluster), f"cluster {self.cluster}: added"))
        return [
            *commands,
            *plan_qos(state, self.qos),
            *plan_accounts(state, self.cluster, self.accounts),
            *plan_users(state, self.cluster, self.users),
            *plan_absent(state, self.cluster, self.qos, self.accounts, self.users),
        ]

    def apply(self) -> list[Command]:
        """Send the differences and return them; ends the module when they did not arrive."""
        commands = self.plan(self.read())
        if self.module.check_mode or not commands:
            return commands
        for command in commands:
            self.call(["-i", *command.arguments])
        left = self.plan(self.read())
        if left:
            phrases = "; ".join(command.what for command in left)
            self.module.fail_json(msg=f"sacctmgr took all changes, but the database still differs: {phrases}")
        return commands


def foreseen(params: dict[str, Any]) -> list[str]:
    """Return what a dry run tells when there is no database to compare with yet."""
    items = [*params["qos"], *params["accounts"], *params["users"]]
    return [f"{item.get('name')}: not in the database yet" for item in items] or [
        f"cluster {params['cluster']}: not in the database yet"
    ]


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "host": {"type": "str", "required": True},
            "port": {"type": "int", "default": 6819},
            "cluster": {"type": "str", "default": ""},
            "qos": {"type": "list", "elements": "dict", "default": []},
            "accounts": {"type": "list", "elements": "dict", "default": []},
            "users": {"type": "list", "elements": "dict", "default": []},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    params = module.params
    if (params["accounts"] or params["users"]) and not params["cluster"]:
        module.fail_json(msg="accounts and users belong to a cluster, so cluster is needed")
    if not (params["cluster"] or params["qos"]):
        module.exit_json(changed=False, changes=[])
    if shutil.which("sacctmgr") is None:
        if not module.check_mode:
            module.fail_json(msg="sacctmgr is not installed")
        module.exit_json(changed=True, changes=foreseen(params))
    with tempfile.TemporaryDirectory(prefix="rackloom-slurm-") as folder:
        changes: list[str] = []
        try:
            changes = [command.what for command in Accounting(module, folder).apply()]
        except (WrongValueError, RefusedError) as error:
            module.fail_json(msg=str(error))
        except NoAnswerError as error:
            if not module.check_mode:
                module.fail_json(msg=str(error))
            changes = foreseen(params)
    module.exit_json(changed=bool(changes), changes=changes)


if __name__ == "__main__":
    main()
