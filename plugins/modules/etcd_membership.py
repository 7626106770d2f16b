#!/usr/bin/python
"""A host's membership in an etcd of its own: begun once, joined one by one, never begun anew over what there is."""

from __future__ import annotations

DOCUMENTATION = r"""
module: etcd_membership
short_description: Make a host a member of etcd, and run it
description:
  - A host with data is a member and is started. One without joins the members that answer, first as one that only
    learns, and votes once it has everything. Where nobody answers and this host may, it begins the cluster.
  - Data is never removed. A host whose data is gone leaves its former place before it takes a new one, and only where
    etcd keeps its quorum meanwhile.
  - The unit starts with no data only here, by a file that says as what. An empty folder is no new cluster.
  - What the unit reads is compared with what it read when it last started, as M(rackloom.cluster.component) does it.
    Call it with C(throttle=1), so one member at a time starts anew, and the next when it is well.
options:
  state:
    description:
      - C(looked) tells what the host is, and starts a member that is stopped, all of them at once; alone none answers.
    type: str
    choices: [joined, looked]
    default: joined
  name:
    description: The member's name.
    type: str
    required: true
  members:
    description: Name and address of all members.
    type: list
    elements: dict
    required: true
  restart_on:
    description: Files and folders that the unit reads.
    type: list
    elements: str
    default: []
  pki:
    description: Folder with ca.crt, healthcheck-client.crt and healthcheck-client.key.
    type: path
    default: /etc/rackloom/etcd
  may_begin:
    description: Whether this host begins the cluster, where nobody answers.
    type: bool
    default: false
  refusal:
    description: Why no host begins it; empty where one does.
    type: str
    default: ""
  timeout:
    description: Seconds in which a member must serve.
    type: int
    default: 120
author: The Rackloom authors
"""

EXAMPLES = r"""
- name: join | Make the host a member
  rackloom.cluster.etcd_membership:
    name: store01
    members: [{name: store01, address: 192.0.2.21}]
    may_begin: true
  throttle: 1
"""

RETURN = r"""
found:
  description: C(member) where the host has data, C(none) otherwise.
  returned: always
  type: str
actions:
  description: What was done, or would be in check mode.
  returned: always
  type: list
  elements: str
  sample: [joined the members]
"""

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import kube_documents, node_units  # noqa: TID252 - how a collection's plugins find each other
from ..module_utils.kube_client import KubeError, bracketed, runner  # noqa: TID252
from ..module_utils.kube_etcd import Etcd, refusal  # noqa: TID252

UNIT = "rackloom-etcd.service"
DATA = Path(kube_documents.ETCD_DATA) / "member"
START = Path("/run/rackloom-etcd.env")
"""As what a host without data starts; gone once it has some."""
CONNECT = 2.0


def listens(address: str, port: int = 2379) -> bool:
    """Whether somebody takes connections there."""
    try:
        socket.create_connection((address, port), timeout=CONNECT).close()
    except OSError:
        return False
    return True


class Member:
    """This host, and what it is to etcd."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params = module.params
        self.actions: list[str] = []
        self.run = runner(module)
        self.name: str = module.params["name"]
        told = {str(each["name"]): str(each["address"]) for each in module.params["members"]}
        self.address = told[self.name]
        self.others = {name: address for name, address in told.items() if name != self.name}
        self.peer = f"https://{bracketed(self.address)}:2380"
        self.client = f"https://{bracketed(self.address)}:2379"

    # looking

    def state(self) -> str:
        """What this host is."""
        return "member" if DATA.is_dir() else "none"

    def etcd(self) -> Etcd | None:
        """The members that take connections, this one aside; None where there are none."""
        living = [f"https://{bracketed(each)}:2379" for each in self.others.values() if listens(each)]
        return Etcd(self.run, living, self.params["pki"]) if living else None

    def own(self, rows: list[dict[str, Any]]) -> dict[str, Any] | None:
        """This host's row among the members."""
        return next((row for row in rows if self.peer in row["peers"]), None)

    def await_that(self, what: str, done: Callable[[], bool]) -> None:
        """Ask until it is so; etcd refuses changes as long as its last one has not settled."""
        end = time.monotonic() + self.params["timeout"]
        last = ""
        while True:
            try:
                if done():
                    return
            except KubeError as error:
                last = f": {error}"
            if time.monotonic() > end:
                raise KubeError(f"not within {self.params['timeout']} s: {what}{last}")
            time.sleep(0.5)

    # doing

    def unit(self) -> node_units.Unit:
        """The unit, as the site wants it."""
        wanted = {
            "name": UNIT,
            "state": "started",
            "enabled": True,
            "masked": None,
            "restart_on": self.params["restart_on"],
            "reload_on": [],
            "wait_for": {},
        }
        return node_units.Unit(self.module, wanted)

    def apply(self) -> None:
        """Start the unit, or start it anew where it has not read what lies on disk."""
        unit = self.unit()
        unit.apply()
        self.actions += unit.actions

    def wake(self) -> None:
        """Start a member that is stopped, and await nothing."""
        if self.state() == "member" and not self.module.check_mode:
            rc, _, _ = self.run(["systemctl", "is-active", "--quiet", UNIT], "")
            if rc != 0 and self.run(["systemctl", "start", "--no-block", UNIT], "")[0] == 0:
                self.actions.append(f"{UNIT} started")

    def begin(self) -> None:
        """Begin the cluster, with this host alone."""
        self.start_as("new", f"{self.name}={self.peer}")
        self.actions.append("began the cluster")

    def join(self, etcd: Etcd, rows: list[dict[str, Any]]) -> None:
        """Take a place among the members."""
        former = self.own(rows)
        if former is not None:
            named = [{**row, "name": row["id"]} for row in etcd.members()]
            if said := refusal(named, [former["id"]]):
                raise KubeError(
                    f"this host is a member without its data, and may not leave its place now: {said}"
                )
            self.await_that("it left its former place", lambda: self.left(etcd, former["id"]))
            self.actions.append("left its former place")
        self.await_that("the members let it in", lambda: self.entered(etcd))
        known = {f"https://{bracketed(address)}:2380": name for name, address in self.others.items()}
        known[self.peer] = self.name
        cluster = ",".join(
            f"{row['name'] or known.get(peer, row['id'])}={peer}"
            for row in etcd.listed()
            for peer in row["peers"]
        )
        self.start_as("existing", cluster)
        self.actions.append("joined the members")

    def left(self, etcd: Etcd, member: str) -> bool:
        """Leave a place."""
        if any(row["id"] == member for row in etcd.listed()):
            etcd.remove(member)
        return True

    def entered(self, etcd: Etcd) -> bool:
        """Take a place."""
        if self.own(etcd.listed()) is None:
            etcd.add(self.name, self.peer)
        return True

    def start_as(self, state: str, cluster: str) -> None:
        """Say as what the unit starts without data."""
        text = f'ETCD_INITIAL_CLUSTER_STATE={state}\nETCD_INITIAL_CLUSTER="{cluster}"\n'
        descriptor = os.open(START, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)

    def votes(self) -> bool:
        """Whether it serves; one that has learnt everything is let vote."""
        etcd = self.etcd()
        row = self.own(etcd.listed()) if etcd else None
        if etcd and row and row["learner"]:
            etcd.promote(row["id"])
        return Etcd(self.run, (self.client,), self.params["pki"]).well(self.client)

    # all of it

    def joined(self) -> None:
        """Make the host a member."""
        found, etcd = self.state(), self.etcd()
        if self.module.check_mode:
            if found == "none":
                self.actions.append("would join the members" if etcd else "would begin the cluster")
            else:
                self.apply()
            self.end(found)
        rows = self.rows(etcd, found)
        if found == "member":
            if rows and self.own(rows) is None:
                raise KubeError(
                    f"this host has data of etcd in {DATA}, and the members do not know it; it was taken out, or the "
                    "data is of another cluster. If nothing of it is wanted, stop rackloom-etcd and move it away"
                )
        elif etcd and rows:
            self.join(etcd, rows)
        elif self.params["may_begin"]:
            self.begin()
        else:
            raise KubeError(
                self.params["refusal"] or "no member of etcd answers; the first of them comes first"
            )
        self.apply()
        try:
            self.await_that("this member serves", self.votes)
        except KubeError as error:
            self.unit().fail(str(error))
        START.unlink(missing_ok=True)
        self.end(found)

    def rows(self, etcd: Etcd | None, found: str) -> list[dict[str, Any]]:
        """The members, as those say that answer. Raises KubeError where a new one cannot be told of them."""
        if etcd is None:
            return []
        try:
            return etcd.listed()
        except KubeError as error:
            if found == "member":
                return []  # it may be the very one that they wait for
            raise KubeError(f"{', '.join(etcd.endpoints)} cannot let anybody in: {error}") from None

    def end(self, found: str) -> None:
        """End the module."""
        self.module.exit_json(changed=bool(self.actions), found=found, actions=self.actions)


def main() -> None:
    """Look, act, tell."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["joined", "looked"], "default": "joined"},
            "name": {"type": "str", "required": True},
            "members": {"type": "list", "elements": "dict", "required": True},
            "restart_on": {"type": "list", "elements": "str", "default": []},
            "pki": {"type": "path", "default": "/etc/rackloom/etcd"},
            "may_begin": {"type": "bool", "default": False},
            "refusal": {"type": "str", "default": ""},
            "timeout": {"type": "int", "default": 120},
        },
        supports_check_mode=True,
    )
    member = Member(module)
    try:
        if module.params["state"] == "looked":
            member.wake()
            member.end(member.state())
        member.joined()
    except (KubeError, OSError) as error:
        module.fail_json(msg=str(error), actions=member.actions)


if __name__ == "__main__":
    main()
