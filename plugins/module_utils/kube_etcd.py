"""The members of a control plane's etcd, asked and changed through etcdctl."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from .kube_client import KubeError, Run

PKI = "/etc/kubernetes/pki/etcd"
HERE = "https://127.0.0.1:2379"
SERVER = "/etc/kubernetes/manifests/kube-apiserver.yaml"
_LOCAL = re.compile(r"https?://(127\.\d+\.\d+\.\d+|\[::1\]|localhost):")


def asked(manifest: str = SERVER) -> tuple[str, ...]:
    """The endpoints of etcd that this node's API server is told to ask; none where there is no API server."""
    try:
        with open(manifest, encoding="utf-8") as stream:
            found = re.search(r"--etcd-servers=([^\s\"']+)", stream.read())
    except OSError:
        return ()
    return tuple(found[1].split(",")) if found else ()


def apart(endpoints: Iterable[str]) -> tuple[str, ...]:
    """Those of the endpoints that are on hosts of etcd's own."""
    return tuple(each for each in endpoints if not _LOCAL.match(each))


def quorum(members: int) -> int:
    """How many of so many have to be well."""
    return members // 2 + 1


class Etcd:
    """etcd, as the node that this runs on reaches it; without endpoints, where its API server asks it."""

    def __init__(self, run: Run, endpoints: Sequence[str] = (), pki: str = PKI) -> None:
        self.run = run
        self.endpoints = tuple(endpoints) or apart(asked()) or (HERE,)
        self.pki = pki

    def argv(self, *words: str, endpoints: Sequence[str] = ()) -> list[str]:
        """The command line of etcdctl."""
        return [
            "etcdctl",
            f"--endpoints={','.join(endpoints or self.endpoints)}",
            f"--cacert={os.path.join(self.pki, 'ca.crt')}",
            f"--cert={os.path.join(self.pki, 'healthcheck-client.crt')}",
            f"--key={os.path.join(self.pki, 'healthcheck-client.key')}",
            "--dial-timeout=3s",
            "--command-timeout=10s",
            *words,
        ]

    def call(self, *words: str, endpoints: Sequence[str] = ()) -> str:
        """What etcdctl printed. Raises KubeError."""
        rc, out, err = self.run(self.argv(*words, endpoints=endpoints), "")
        if rc != 0:
            raise KubeError(f"etcdctl {' '.join(words[:2])}: {reason(err or out)}")
        return out

    def listed(self) -> list[dict[str, Any]]:
        """All members, without asking them how they are."""
        return parse_members(self.call("member", "list", "--write-out=json"))

    def members(self) -> list[dict[str, Any]]:
        """All members, with `healthy` for each."""
        found = self.listed()
        urls = [url for member in found for url in member["clients"]]
        if urls:
            # the exit status tells that one is not well; which one is in what it prints
            _, out, _ = self.run(self.argv("endpoint", "health", "--write-out=json", endpoints=urls), "")
            well = parse_health(out)
            for member in found:
                member["healthy"] = any(url in well for url in member["clients"])
        return found

    def remove(self, member: str) -> None:
        """Take a member out, by its ID."""
        self.call("member", "remove", member)

    def add(self, name: str, peer: str) -> None:
        """Let a new member in. It only learns at first: as long as it does not vote, it can hold up nobody."""
        self.call("member", "add", name, f"--peer-urls={peer}", "--learner")

    def promote(self, member: str) -> None:
        """Let a member that has learnt everything vote."""
        self.call("member", "promote", member)

    def well(self, endpoint: str) -> bool:
        """Whether the member behind this endpoint serves."""
        return self.run(self.argv("endpoint", "health", endpoints=[endpoint]), "")[0] == 0

    def holds(self, prefix: str) -> bool:
        """Whether there are keys that begin so."""
        return bool(self.call("get", prefix, "--prefix", "--keys-only", "--limit=1").strip())

    def save(self, path: str) -> None:
        """Write a snapshot of everything; any member that is well gives it, and it takes one endpoint alone."""
        for number, endpoint in enumerate(self.endpoints, start=1):
            try:
                self.call("--command-timeout=300s", "snapshot", "save", path, endpoints=[endpoint])
            except KubeError:
                if number == len(self.endpoints):
                    raise
            else:
                return


def reason(text: str) -> str:
    """The sentence in etcdctl's log line."""
    last = [line.strip() for line in text.splitlines() if line.strip()][-1:]
    for line in last:
        try:
            told = json.loads(line)
        except ValueError:
            return line.removeprefix("Error: ")
        return str(told.get("error") or told.get("msg") or line)
    return "no message"


def parse_members(text: str) -> list[dict[str, Any]]:
    """Etcdctl's members as plain rows. An ID is printed as a number and taken as hexadecimal."""
    try:
        told = json.loads(text)
    except ValueError:
        raise KubeError("etcdctl member list gave no JSON") from None
    return [
        {
            "id": f"{int(each['ID']):x}",
            "name": str(each.get("name", "")),
            "peers": list(each.get("peerURLs") or []),
            "clients": list(each.get("clientURLs") or []),
            "learner": bool(each.get("isLearner")),
            "healthy": False,
        }
        for each in told.get("members", [])
    ]


def parse_health(text: str) -> set[str]:
    """Endpoints that are well."""
    for line in text.splitlines():
        try:
            told = json.loads(line)
        except ValueError:
            continue
        if isinstance(told, list):
            return {str(each.get("endpoint")) for each in told if each.get("health")}
    return set()


def called(member: Mapping[str, Any]) -> str:
    """A member's name. One that was let in and never started has none, and is called by its address."""
    if member["name"]:
        return str(member["name"])
    hosts = [urlsplit(url).hostname for url in member.get("peers") or ()]
    return next((host for host in hosts if host), "")


def leftovers(members: Iterable[Mapping[str, Any]], names: Iterable[str]) -> list[Mapping[str, Any]]:
    """The members that are called so; among the names there may be addresses, for those that never started."""
    wanted = {name for name in names if name}
    return [member for member in members if called(member) in wanted]


def refusal(members: Sequence[Mapping[str, Any]], leaving: Iterable[str]) -> str:
    """Why these members may not leave, as a sentence; '' where they may."""
    gone = {str(name) for name in leaving}
    voting = [member for member in members if not member["learner"]]
    staying = [member for member in voting if called(member) not in gone]
    if len(staying) == len(voting):
        return ""
    well = [member for member in voting if member["healthy"]]
    if len(well) < quorum(len(voting)):
        return f"etcd has no quorum: {len(well)} of {len(voting)} members are well and {quorum(len(voting))} have to be"
    if not staying:
        return "no member of etcd would be left"
    left = [member for member in staying if member["healthy"]]
    if len(left) < quorum(len(staying)):
        return (
            f"etcd would lose its quorum: {len(left)} of the {len(staying)} members that stay are well and "
            f"{quorum(len(staying))} have to be"
        )
    return ""
