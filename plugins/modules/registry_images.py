#!/usr/bin/python
"""Images of an OCI layout, brought into a registry on the same host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: registry_images
short_description: Load the images of an OCI layout into the registry of this host
description:
  - Asks the registry that nodes read from for the digest of each image of the layout. What is missing or differs is
    copied by skopeo through a second registry over the same store, which runs only meanwhile.
  - An image keeps its whole name, the host part included, and its digest.
options:
  layout:
    description: Folder with the OCI layout; one that is not there holds no images.
    type: path
    required: true
  registry:
    description: Host and port that nodes read from.
    type: str
    required: true
  loader:
    description: Host and port that images are loaded through.
    type: str
    required: true
  loader_unit:
    description: The systemd unit that serves O(loader).
    type: str
    required: true
  certificates:
    description: Folder with C(ca.crt), C(client.cert) and C(client.key).
    type: path
    required: true
  configuration:
    description: The loader's configuration file.
    type: path
    required: true
  prune:
    description: Whether images are removed that are in neither O(layout) nor O(keep).
    type: bool
    default: false
  keep:
    description: Pattern of the paths of further layouts whose images stay.
    type: str
    default: ""
author: The Rackloom authors
"""

EXAMPLES = r"""
- name: load | Bring the images into the registry
  rackloom.cluster.registry_images:
    layout: /srv/rackloom/mirror/current/images
    registry: 192.0.2.1:5000
    loader: 127.0.0.1:5001
    loader_unit: rackloom-registry-load.service
    certificates: /etc/rackloom/registry/client
    configuration: /etc/rackloom/registry/load.yml
"""

RETURN = r"""
loaded:
  description: Images that were loaded, or would be in check mode.
  returned: always
  type: list
  elements: str
removed:
  description: Images that were removed, or would be in check mode.
  returned: always
  type: list
  elements: str
"""

import glob
import http.client
import json
import os
import shutil
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible.module_utils.basic import AnsibleModule

REF = "org.opencontainers.image.ref.name"
_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
LOADS = 4
ASKS = 8
START = 60.0
PAGE = 100


def split_name(name: str) -> tuple[str, str]:
    """(repository, tag) of an image's name; tag '' where it has none."""
    repository, _, tag = name.rpartition(":")
    if not repository or "/" in tag:
        return name, ""
    return repository, tag


def images_of(layout: str) -> dict[str, str]:
    """Name -> digest of the images in an OCI layout. Raises ValueError for one that cannot be read."""
    path = os.path.join(layout, "index.json")
    try:
        with open(path, encoding="utf-8") as handle:
            manifests = json.load(handle)["manifests"]
        return {
            entry["annotations"][REF]: entry["digest"]
            for entry in manifests
            if REF in entry.get("annotations", {})
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None


class Client:
    """Asks a registry, with our certificates."""

    def __init__(self, address: str, certificates: str) -> None:
        self.host, _, port = address.rpartition(":")
        self.port = int(port)
        self.context = ssl.create_default_context(cafile=os.path.join(certificates, "ca.crt"))
        self.context.load_cert_chain(
            os.path.join(certificates, "client.cert"), os.path.join(certificates, "client.key")
        )

    def ask(self, method: str, path: str) -> tuple[int, dict[str, str], bytes]:
        """(status, headers in small letters, body). Raises OSError."""
        line = http.client.HTTPSConnection(self.host.strip("[]"), self.port, timeout=60, context=self.context)
        try:
            line.request(method, path, headers={"Accept": ", ".join(_TYPES)})
            answer = line.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        except http.client.HTTPException as error:
            raise OSError(f"no registry answers there: {error!r}") from None
        finally:
            line.close()

    def digest(self, name: str, digest: str) -> str:
        """The digest that an image has; '' where it has none."""
        repository, tag = split_name(name)
        status, headers, _ = self.ask("HEAD", f"/v2/{repository}/manifests/{tag or digest}")
        if status not in (200, 404):
            raise OSError(f"the registry answers {status} for {name}")
        return headers.get("docker-content-digest", "") if status == 200 else ""

    def told(self, path: str) -> dict[str, Any]:
        """What the registry answers, as data. Raises OSError where it answers with an error."""
        status, _, body = self.ask("GET", path)
        if status != 200:
            raise OSError(
                f"the registry answers {status} to {path}: {body.decode(errors='replace').strip()[:300]}"
            )
        data: dict[str, Any] = json.loads(body)
        return data

    def repositories(self) -> list[str]:
        """Every repository; the registry names so many at a time."""
        found: list[str] = []
        while True:
            last = f"&last={found[-1]}" if found else ""
            more = self.told(f"/v2/_catalog?n={PAGE}{last}").get("repositories") or []
            found += more
            if len(more) < PAGE:
                return found

    def listed(self) -> dict[str, str]:
        """Name -> digest of everything that has a tag."""
        found = {}
        for repository in self.repositories():
            status, _, body = self.ask("GET", f"/v2/{repository}/tags/list")
            # A repository whose images are gone has a name still, and no tags.
            for tag in (json.loads(body).get("tags") if status == 200 else None) or []:
                name = f"{repository}:{tag}"
                if digest := self.digest(name, ""):
                    found[name] = digest
        return found

    def remove(self, name: str, digest: str) -> None:
        """Remove an image with all its tags. Raises OSError."""
        status, _, _ = self.ask("DELETE", f"/v2/{split_name(name)[0]}/manifests/{digest}")
        if status not in (202, 404):
            raise OSError(f"the registry answers {status} to the removal of {name}")


class Loading:
    """The registry that images are loaded through, as long as it runs."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.unit: str = module.params["loader_unit"]
        self.client = Client(module.params["loader"], module.params["certificates"])

    def __enter__(self) -> Client:
        rc, out, err = self.module.run_command(["systemctl", "restart", self.unit])
        if rc != 0:
            self.module.fail_json(msg=f"{self.unit} does not start: {(err or out).strip()}")
        deadline = time.monotonic() + START
        while True:
            try:
                socket.create_connection((self.client.host, self.client.port), timeout=2).close()
            except OSError as error:
                if time.monotonic() > deadline:
                    self.__exit__()
                    self.module.fail_json(msg=f"{self.unit} does not answer: {error}")
                time.sleep(0.1)
            else:
                return self.client

    def __exit__(self, *_: object) -> None:
        self.module.run_command(["systemctl", "stop", self.unit])


def load(module: AnsibleModule, layout: str, name: str, digest: str) -> str:
    """Copy one image; returns what went wrong, or nothing."""
    repository, tag = split_name(name)
    target = f"{module.params['loader']}/{repository}" + (f":{tag}" if tag else f"@{digest}")
    argv = ["skopeo", "copy", "--quiet", "--all", "--preserve-digests"]
    argv += ["--dest-cert-dir", module.params["certificates"]]
    rc, out, err = module.run_command([*argv, f"oci:{layout}:{name}", f"docker://{target}"])
    return "" if rc == 0 else f"{name}: {(err or out).strip()[-600:]}"


def collect(module: AnsibleModule) -> None:
    """Remove from the store what no image needs any more."""
    program = shutil.which("docker-registry") or shutil.which("registry")
    user = (
        ["runuser", "-u", "docker-registry", "--"] if program and program.endswith("docker-registry") else []
    )
    argv = [*user, str(program), "garbage-collect", "--delete-untagged", module.params["configuration"]]
    rc, out, err = module.run_command(argv)
    if rc != 0:
        module.fail_json(msg=f"{' '.join(argv)}: {(err or out).strip()[-1000:]}")


def main() -> None:
    """Compare, load, remove."""
    module = AnsibleModule(
        argument_spec={
            "layout": {"type": "path", "required": True},
            "registry": {"type": "str", "required": True},
            "loader": {"type": "str", "required": True},
            "loader_unit": {"type": "str", "required": True},
            "certificates": {"type": "path", "required": True},
            "configuration": {"type": "path", "required": True},
            "prune": {"type": "bool", "default": False},
            "keep": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    layout = module.params["layout"]
    wanted: dict[str, str] = {}
    try:
        wanted = images_of(layout)
        if not os.path.isfile(os.path.join(module.params["certificates"], "ca.crt")):
            # Only in check mode: nothing is installed yet.
            module.exit_json(changed=bool(wanted), loaded=sorted(wanted), removed=[])
        registry = Client(module.params["registry"], module.params["certificates"])
        with ThreadPoolExecutor(ASKS) as pool:
            digests = list(pool.map(lambda name: registry.digest(name, wanted[name]), wanted))
        # Python 3.9 knows no zip(strict=True).
        there = dict(zip(wanted, digests))  # noqa: B905
        missing = sorted(name for name, digest in wanted.items() if there[name] != digest)
        removed = remove_unwanted(module, registry, wanted) if module.params["prune"] else {}
        if module.check_mode or not (missing or removed):
            module.exit_json(changed=bool(missing or removed), loaded=missing, removed=sorted(removed))
        with Loading(module) as loader:
            with ThreadPoolExecutor(LOADS) as pool:
                bad = [
                    said for said in pool.map(lambda n: load(module, layout, n, wanted[n]), missing) if said
                ]
            if bad:
                module.fail_json(msg="; ".join(bad))
            for name, digest in removed.items():
                loader.remove(name, digest)
        if removed:
            collect(module)
        for name in missing:
            if registry.digest(name, wanted[name]) != wanted[name]:
                module.fail_json(msg=f"{name} was loaded, but the registry has another digest for it")
        module.exit_json(changed=True, loaded=missing, removed=sorted(removed))
    except OSError as error:
        if module.check_mode:  # it would have been started by now
            module.exit_json(changed=bool(wanted), loaded=sorted(wanted), removed=[])
        module.fail_json(msg=f"the registry {module.params['registry']}: {error}")
    except ValueError as error:
        module.fail_json(msg=str(error))


def remove_unwanted(module: AnsibleModule, registry: Client, wanted: dict[str, str]) -> dict[str, str]:
    """Name -> digest of what is to go."""
    kept: dict[str, Any] = dict.fromkeys(wanted)
    digests = {(split_name(name)[0], digest) for name, digest in wanted.items()}
    for layout in glob.glob(module.params["keep"]) if module.params["keep"] else []:
        for name, digest in images_of(layout).items():
            kept[name] = None
            digests.add((split_name(name)[0], digest))
    return {
        name: digest
        for name, digest in registry.listed().items()
        # Deleting a digest takes all its tags: what another tag still needs stays.
        if name not in kept and (split_name(name)[0], digest) not in digests
    }


if __name__ == "__main__":
    main()
