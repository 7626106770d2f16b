"""A bill of materials of a bundle in SPDX 2.3's JSON form."""

from __future__ import annotations

import hashlib
import json
import os
import re
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from rackloom import __version__
from rackloom.bundle.items import Item

_KINDS = {"package", "file", "image", "chart", "wheel", "rackloom"}


def text(items: Sequence[Item]) -> str:
    """The document: one package for every thing from outside and for Rackloom itself; equal items, equal text."""
    listed = [item for item in sorted(items) if item.kind in _KINDS]
    content = json.dumps([[item.path, item.sha256] for item in listed])
    moment = datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", "0")), UTC)
    packages = [_package(item) for item in listed]
    root = {
        "SPDXID": "SPDXRef-Bundle",
        "name": "rackloom-bundle",
        "versionInfo": hashlib.sha256(content.encode()).hexdigest()[:16],
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
    }
    document = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": "rackloom-bundle",
        "documentNamespace": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, content)}",
        "creationInfo": {
            # No real date: equal bundles have equal bills.
            "created": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "creators": [f"Tool: rackloom-{__version__}"],
        },
        "packages": [root, *packages],
        "relationships": [
            {
                "spdxElementId": "SPDXRef-DOCUMENT",
                "relationshipType": "DESCRIBES",
                "relatedSpdxElement": "SPDXRef-Bundle",
            },
            *(
                {
                    "spdxElementId": "SPDXRef-Bundle",
                    "relationshipType": "CONTAINS",
                    "relatedSpdxElement": package["SPDXID"],
                }
                for package in packages
            ),
        ],
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _package(item: Item) -> dict[str, Any]:
    identity = hashlib.sha256(item.path.encode()).hexdigest()[:12]
    readable = re.sub(r"[^A-Za-z0-9.-]", "-", item.name)
    made: dict[str, Any] = {
        "SPDXID": f"SPDXRef-{item.kind}-{readable}-{identity}",
        "name": item.name,
        "packageFileName": item.path,
        "downloadLocation": item.origin if re.match(r"https?://\S+$", item.origin) else "NOASSERTION",
        "filesAnalyzed": False,
        "checksums": [{"algorithm": "SHA256", "checksumValue": item.sha256}],
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "Apache-2.0" if item.kind == "rackloom" else "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "externalRefs": [
            {
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": purl(item),
            }
        ],
    }
    if item.version:
        made["versionInfo"] = item.version
    return made


def purl(item: Item) -> str:
    """The package URL of an item."""
    name, version = quote(item.name, safe=""), quote(item.version, safe="")
    at = f"@{version}" if version else ""
    arch = f"?arch={item.arch}" if item.arch else ""
    if item.kind == "package":
        vendor = item.os.partition("-")[0]
        return f"pkg:deb/{vendor}/{name}{at}?arch={item.arch}&distro={item.os}"
    if item.kind == "wheel":
        plain = re.sub(r"[-_.]+", "-", item.name).lower()
        return f"pkg:pypi/{quote(plain, safe='')}{at}"
    if item.kind == "image":
        last = quote(item.name.rpartition("/")[2].lower(), safe="")
        return (
            f"pkg:oci/{last}@sha256%3A{item.sha256}?repository_url={quote(item.name, safe='')}&tag={version}"
        )
    if item.kind == "chart":
        return f"pkg:helm/{name}{at}"
    return f"pkg:generic/{name}{at}{arch}"
