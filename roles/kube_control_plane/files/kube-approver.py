#!/usr/bin/python3
# Managed by Rackloom.
"""
Approves the certificates that kubelets show to the API server: those of nodes of the inventory, for their own names.

A kubelet may ask for any name. What it is given is decided here, by the list of nodes that the deploy has written, and
by nothing that the kubelet says of itself. A request that does not fit is left as it is, and the reason is in the
journal. A new list of nodes starts this program anew, which looks at all that is still open.
"""

from __future__ import annotations

import base64
import http.client
import ipaddress
import json
import os
import re
import ssl
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

CONFIG = Path("/etc/kubernetes/admin.conf")
NODES = Path("/etc/rackloom/kubernetes/nodes.json")
RUN = Path(os.environ.get("RUNTIME_DIRECTORY", "/run/rackloom-kube-approver"))
SIGNER = "kubernetes.io/kubelet-serving"
REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
USAGES = {"digital signature", "key encipherment", "server auth"}
COMMON_NAME, ORGANIZATION = "2.5.4.3", "2.5.4.10"
EXTENSIONS, ALTERNATIVES = "1.2.840.113549.1.9.14", "2.5.29.17"
DNS, ADDRESS = 0x82, 0x87
WATCH_SECONDS = 290


class BadRequest(ValueError):
    """A request that is not what a kubelet writes."""


# reading a request


def items(data: bytes) -> list[tuple[int, bytes]]:
    """The elements of a DER value: tag and content of each."""
    found, place = [], 0
    while place < len(data):
        if place + 2 > len(data):
            raise BadRequest("it ends early")
        tag, length = data[place], data[place + 1]
        place += 2
        if length & 0x80:
            count = length & 0x7F
            if not 1 <= count <= 4 or place + count > len(data):
                raise BadRequest("it has a length that cannot be")
            length = int.from_bytes(data[place : place + count], "big")
            place += count
        if place + length > len(data):
            raise BadRequest("it ends early")
        found.append((tag, data[place : place + length]))
        place += length
    return found


def identifier(data: bytes) -> str:
    """An object identifier in its dotted form."""
    if not data:
        raise BadRequest("it has an empty identifier")
    numbers, number = [], 0
    for byte in data:
        number = (number << 7) | (byte & 0x7F)
        if not byte & 0x80:
            numbers.append(number)
            number = 0
    first = min(numbers[0] // 40, 2)
    return ".".join(str(each) for each in (first, numbers[0] - 40 * first, *numbers[1:]))


def one(data: bytes, tag: int) -> bytes:
    """The content of the single element of this kind."""
    found = items(data)
    if len(found) != 1 or found[0][0] != tag:
        raise BadRequest("its form is not that of a request")
    return found[0][1]


def read_subject(data: bytes) -> list[tuple[str, str]]:
    """Identifiers and values of a subject."""
    subject = []
    for tag, group in items(data):
        if tag != 0x31:
            raise BadRequest("its subject cannot be read")
        for _, pair in items(group):
            (_, kind), (_, value) = items(pair)
            subject.append((identifier(kind), value.decode("utf-8")))
    return subject


def extensions(data: bytes) -> list[bytes]:
    """The extensions that a request's attributes ask for."""
    found = []
    for _, attribute in items(data):
        kind, values = items(attribute)
        if identifier(kind[1]) == EXTENSIONS:
            found += [extension for _, extension in items(one(values[1], 0x30))]
    return found


def read_request(pem: str) -> tuple[list[tuple[str, str]], list[str], list[str]]:
    """Subject, DNS names and addresses that a certificate is asked for."""
    body = re.fullmatch(
        r"\s*-----BEGIN CERTIFICATE REQUEST-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE REQUEST-----\s*", pem
    )
    if not body:
        raise BadRequest("it is not one request in PEM")
    parts = items(one(base64.b64decode("".join(body[1].split()), validate=True), 0x30))
    if len(parts) != 3:
        raise BadRequest("its form is not that of a request")
    told = items(parts[0][1])
    if len(told) != 4 or [tag for tag, _ in told] != [0x02, 0x30, 0x30, 0xA0]:
        raise BadRequest("its form is not that of a request")
    subject = read_subject(told[1][1])
    names: list[str] = []
    addresses: list[str] = []
    for extension in extensions(told[3][1]):
        fields = items(extension)
        if identifier(fields[0][1]) != ALTERNATIVES:
            continue
        for tag, value in items(one(fields[-1][1], 0x30)):
            if tag == DNS:
                names.append(value.decode("ascii"))
            elif tag == ADDRESS:
                addresses.append(str(ipaddress.ip_address(value)))
            else:
                raise BadRequest("it asks for something that is neither a name nor an address")
    return subject, names, addresses


# judging it


def refusal(request: dict[str, Any], nodes: dict[str, Any]) -> str:
    """Why a request is not approved, as the end of a sentence; "" where it is."""
    spec = request["spec"]
    user = str(spec.get("username", ""))
    node = user.removeprefix("system:node:")
    if node == user or "system:nodes" not in spec.get("groups", []):
        return f"{user} is no kubelet"
    if node not in nodes:
        return f"{node} is not in the inventory"
    asked = set(spec.get("usages", []))
    if "server auth" not in asked or not asked <= USAGES:
        return f"it asks for the uses {', '.join(sorted(asked))}"
    try:
        subject, names, addresses = read_request(base64.b64decode(spec["request"]).decode("ascii"))
    except (ValueError, KeyError, IndexError) as error:
        return f"the request cannot be read: {error}"
    if sorted(subject) != sorted([(ORGANIZATION, "system:nodes"), (COMMON_NAME, user)]):
        return "its subject is not that of the kubelet which asks"
    if not names and not addresses:
        return "it names neither a name nor an address"
    known = nodes[node]
    strange = sorted(set(names) - set(known["names"]))
    strange += sorted(set(addresses) - {str(ipaddress.ip_address(each)) for each in known["addresses"]})
    if strange:
        return f"{', '.join(strange)} is not a name or address of {node} in the inventory"
    return ""


def approved(request: dict[str, Any]) -> bool:
    """Whether somebody has decided on it."""
    return bool(request.get("status", {}).get("conditions"))


def approval(request: dict[str, Any]) -> dict[str, Any]:
    """The request with our word on it."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    word = {
        "type": "Approved",
        "status": "True",
        "reason": "InInventory",
        "message": "The node and all the names it asks for are in Rackloom's inventory.",
        "lastUpdateTime": now,
        "lastTransitionTime": now,
    }
    return {**request, "status": {**request.get("status", {}), "conditions": [word]}}


# asking the API


class Api:
    """The API server that the administrator's kubeconfig names."""

    def __init__(self, text: str) -> None:
        def field(name: str) -> str:
            found = re.search(rf"^\s*{name}:\s*(\S+)\s*$", text, re.MULTILINE)
            if not found:
                raise ValueError(f"{CONFIG} has no {name}")
            return found[1]

        self.host, _, port = urlsplit(field("server")).netloc.rpartition(":")
        self.host = self.host.strip("[]")
        self.port = int(port)
        self.context = ssl.create_default_context(
            cadata=base64.b64decode(field("certificate-authority-data")).decode()
        )
        pair = RUN / "client.pem"
        descriptor = os.open(pair, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(base64.b64decode(field("client-certificate-data")))
            stream.write(base64.b64decode(field("client-key-data")))
        self.context.load_cert_chain(pair)
        pair.unlink()

    def connect(self, timeout: float) -> http.client.HTTPSConnection:
        """A connection of its own."""
        return http.client.HTTPSConnection(self.host, self.port, timeout=timeout, context=self.context)

    def approve(self, request: dict[str, Any]) -> None:
        """Say yes. Somebody who was faster is no trouble."""
        connection = self.connect(10)
        try:
            name = request["metadata"]["name"]
            body = json.dumps(approval(request))
            connection.request(
                "PUT", f"{REQUESTS}/{name}/approval", body, {"Content-Type": "application/json"}
            )
            answer = connection.getresponse()
            text = answer.read(2000).decode("utf-8", "replace")
            if answer.status not in (200, 201, 404, 409):
                raise OSError(f"{name} could not be approved: {answer.status} {text}")
        finally:
            connection.close()


def read_nodes() -> dict[str, Any]:
    """The inventory's nodes; none where they have not been written yet."""
    try:
        loaded = json.loads(NODES.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return dict(loaded)


def decide(api: Api, request: dict[str, Any], nodes: dict[str, Any], told: set[str]) -> None:
    """Approve one request, or say once why not."""
    if approved(request):
        return
    name = request["metadata"]["name"]
    why = refusal(request, nodes)
    if not why:
        api.approve(request)
        print(f"{name}: approved for {request['spec']['username']}", flush=True)
    elif name not in told:
        told.add(name)
        print(f"{name}: not approved, {why}", flush=True)


def watch(told: set[str]) -> None:
    """Decide on what is there and what comes, until the API has had enough of us."""
    api = Api(CONFIG.read_text(encoding="utf-8"))
    nodes = read_nodes()
    connection = api.connect(WATCH_SECONDS + 30)
    try:
        selector = f"fieldSelector=spec.signerName%3D{SIGNER}"
        connection.request("GET", f"{REQUESTS}?{selector}&watch=1&timeoutSeconds={WATCH_SECONDS}")
        answer = connection.getresponse()
        if answer.status != 200:
            raise OSError(f"the API says {answer.status} {answer.read(500).decode('utf-8', 'replace')}")
        while line := answer.readline():
            event = json.loads(line)
            if event.get("type") in ("ADDED", "MODIFIED"):
                decide(api, event["object"], nodes, told)
    finally:
        connection.close()


def main() -> None:
    """Watch for ever."""
    trouble = ""
    told: set[str] = set()
    while True:
        try:
            if CONFIG.exists():
                watch(told)
                trouble = ""
            else:
                time.sleep(2)
        except (OSError, ValueError, http.client.HTTPException) as error:
            if str(error) != trouble:
                trouble = str(error)
                print(trouble, file=sys.stderr, flush=True)
            time.sleep(2)


if __name__ == "__main__":
    main()
