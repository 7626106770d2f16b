#!/usr/bin/python
"""Files from outside, taken from the site's mirror where it has one."""

from __future__ import annotations

DOCUMENTATION = r"""
module: artifact
short_description: Fetch files and charts that inventory/versions.yml names
description:
  - The one way in for what is no package and no image. Looks at the site's mirror first, and outside only where the
    site allows it. Where it does not, a file that the mirror lacks is an error at once, which names role and task.
  - Version, place and digest come from C(inventory/versions.yml). What arrives is checked against the digest before
    it gets its name, and is not fetched again as long as it lies there unchanged.
  - Roles call it through the role C(artifact), which knows the mirror.
options:
  files:
    description: What is wanted.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Its name in the versions file.
        type: str
        required: true
      kind:
        description: The section of the versions file.
        type: str
        choices: [file, chart]
        default: file
      version:
        description: The release that is wanted, where several are held; that of the plain record when not given.
        type: str
      dest:
        description: Path of the file on the node; with O(files[].unpack), of the folder it is unpacked into.
        type: str
        required: true
      mode:
        description: Quoted octal mode; 0755 for a file and 0644 for a chart when not given. Unpacked files keep theirs.
        type: str
      owner:
        description: Owner.
        type: str
        default: root
      group:
        description: Group.
        type: str
        default: root
      member:
        description: The one file of an archive that is wanted; C({arch}) and C({version}) are filled in.
        type: str
      unpack:
        description: Whether all of an archive is wanted.
        type: bool
        default: false
      strip:
        description: Leading folders that unpacking leaves out.
        type: int
        default: 0
  mirror:
    description: URL of the mirror's folder of files.
    type: str
    default: ""
  charts:
    description: URL of the mirror's folder of charts.
    type: str
    default: ""
  outside:
    description: Whether what the mirror lacks may be fetched from where it is made.
    type: bool
    default: true
  ca_file:
    description: File on the node with the authorities that the mirror's certificate is checked against.
    type: str
    default: ""
  versions:
    description: Versions files on the controlling machine, laid over the toolkit's own; later ones win.
    type: list
    elements: path
author: The Rackloom authors
"""

EXAMPLES = r"""
- name: install | Fetch helm
  rackloom.cluster.artifact:
    mirror: https://192.0.2.1:8443/files
    outside: false
    ca_file: /etc/rackloom/ca.crt
    files:
      - {name: helm, dest: /usr/local/bin/helm, member: "linux-{arch}/helm"}
"""

RETURN = r"""
fetched:
  description: What was fetched, or would be in check mode, with its version.
  returned: always
  type: list
  elements: str
  sample: [tool 1.0]
"""

import contextlib
import grp
import hashlib
import json
import os
import platform
import pwd
import re
import shutil
import socket
import ssl
import tarfile
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from typing import Any, NoReturn

from ansible.module_utils.basic import AnsibleModule

STAMPS = "/var/lib/rackloom/artifacts"
TIMEOUT = 20.0
CHUNK = 1 << 20
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


class Wanted:
    """One thing that is wanted."""

    def __init__(self, module: AnsibleModule, wanted: dict[str, Any]) -> None:
        self.module = module
        self.wanted = wanted
        self.dest: str = wanted["dest"]
        arch = MACHINES.get(platform.machine(), platform.machine())
        self.label = f"{wanted['name']} {wanted['version']}"
        found = wanted["sources"].get(arch) or wanted["sources"].get("all")
        if found is None:
            known = ", ".join(sorted(wanted["sources"]))
            self.fail(
                f"{self.label} has a digest for {known} in inventory/versions.yml, and this node is {arch}"
            )
        self.source: dict[str, str] = found
        self.member = wanted["member"].replace("{arch}", arch).replace("{version}", wanted["version"])
        name = hashlib.sha256(self.dest.encode()).hexdigest()[:16]
        self.stamp = os.path.join(STAMPS, f"{wanted['name']}-{name}.json")

    def fail(self, message: str) -> NoReturn:
        """End with a message that begins with who asked."""
        self.module.fail_json(msg=f"{self.module.params['who']}: {message}")
        raise AssertionError  # not reached

    def key(self) -> dict[str, Any]:
        """All that what lies on the node depends on."""
        keys = ("dest", "mode", "owner", "group", "unpack", "strip")
        return {
            "sha256": self.source["sha256"],
            "member": self.member,
            **{key: self.wanted[key] for key in keys},
        }

    def here(self) -> bool:
        """Whether it lies on the node as it was put there."""
        try:
            with open(self.stamp, encoding="utf-8") as handle:
                stamp = json.load(handle)
            return stamp["key"] == self.key() and all(marks(path) == told for path, told in stamp["files"])
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def bring(self) -> None:
        """Fetch it, check it, and lay it down."""
        folder = self.dest if self.wanted["unpack"] else os.path.dirname(self.dest)
        os.makedirs(folder, mode=0o755, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".rackloom-", dir=folder)
        os.close(handle)
        try:
            self.fetch(temporary)
            if self.wanted["unpack"]:
                files = self.unpack(temporary)
            else:
                if self.member:
                    self.extract(temporary)
                self.own(temporary)
                os.chmod(temporary, int(self.wanted["mode"], 8))
                os.replace(temporary, self.dest)
                files = [self.dest]
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
        os.makedirs(STAMPS, mode=0o755, exist_ok=True)
        with open(self.stamp + ".new", "w", encoding="utf-8") as out:
            json.dump({"key": self.key(), "files": [[path, marks(path)] for path in files]}, out)
        os.replace(self.stamp + ".new", self.stamp)

    def fetch(self, path: str) -> None:
        """Try the mirror, then, where that is allowed, outside."""
        outside = self.module.params["outside"]
        places = [self.source["mirror"]] if self.source["mirror"] else []
        if outside:
            places.append(self.source["outside"])
        said = []
        for place in places:
            try:
                self.download(place, path)
            except (OSError, ValueError) as error:
                said.append(f"{place}: {reason(error)}")
            else:
                return
        tried = "; ".join(said)
        if outside:
            self.fail(f"{self.label} could not be fetched. Tried {tried}")
        why = f"the mirror does not give it ({tried})" if places else "no mirror has files"
        self.fail(
            f"{self.label} is not fetched from outside, for this site is closed (mirror.outside), and {why}. "
            "Bring a bundle that has it: rackloom bundle create, then rackloom bundle install."
        )

    def download(self, url: str, path: str) -> None:
        """Fetch a URL into a file. Raises OSError, and ValueError where the content is another than declared."""
        context = ssl.create_default_context()
        ca_file = self.module.params["ca_file"]
        if ca_file and os.path.exists(ca_file):
            context.load_verify_locations(cafile=ca_file)
        total = hashlib.sha256()
        answer = opened(url, context)
        with answer, open(path, "wb") as out:
            while data := answer.read(CHUNK):
                total.update(data)
                out.write(data)
        if total.hexdigest() != self.source["sha256"]:
            raise ValueError(
                f"its sha256 is {total.hexdigest()}, inventory/versions.yml says {self.source['sha256']}"
            )

    def extract(self, path: str) -> None:
        """Replace an archive by the one file of it that is wanted."""
        try:
            with tarfile.open(path) as archive:
                names = {os.path.normpath(item.name): item for item in archive.getmembers()}
                item = names.get(os.path.normpath(self.member))
                stream = archive.extractfile(item) if item else None
                if stream is None:
                    self.fail(f"{self.label} has no file {self.member}")
                with open(path + ".member", "wb") as out:
                    shutil.copyfileobj(stream, out, CHUNK)
            os.replace(path + ".member", path)
        except tarfile.TarError as error:
            self.fail(f"{self.label} cannot be unpacked: {error}")

    def unpack(self, path: str) -> list[str]:
        """Unpack an archive into the folder; returns the files."""
        files = []
        try:
            with tarfile.open(path) as archive:
                for item in archive:
                    parts = [part for part in item.name.split("/") if part not in ("", ".")]
                    parts = parts[self.wanted["strip"] :]
                    if not parts or ".." in parts:
                        continue
                    target = os.path.join(self.dest, *parts)
                    if item.isdir():
                        os.makedirs(target, mode=0o755, exist_ok=True)
                        continue
                    os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
                    if item.issym():
                        fresh = target + ".rackloom"
                        os.symlink(item.linkname, fresh)
                        os.replace(fresh, target)
                        continue
                    stream = archive.extractfile(item)
                    if stream is None:
                        continue
                    with open(target + ".rackloom", "wb") as out:
                        shutil.copyfileobj(stream, out, CHUNK)
                    self.own(target + ".rackloom")
                    os.chmod(target + ".rackloom", item.mode & 0o777)
                    os.replace(target + ".rackloom", target)
                    files.append(target)
        except tarfile.TarError as error:
            self.fail(f"{self.label} cannot be unpacked: {error}")
        return files

    def own(self, path: str) -> None:
        """Give a file its owner."""
        try:
            os.chown(
                path, pwd.getpwnam(self.wanted["owner"]).pw_uid, grp.getgrnam(self.wanted["group"]).gr_gid
            )
        except KeyError as error:
            self.fail(f"{self.label} cannot be given to {error}: there is no such account")


def opened(url: str, context: ssl.SSLContext) -> Any:
    """A place's answer; a registry that wants a token before it gives what is public gets one."""
    request = urllib.request.Request(url, headers={"User-Agent": "rackloom"})  # noqa: S310 - a declared place
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT, context=context)  # noqa: S310
    except urllib.error.HTTPError as error:
        place = token_place(url, error.headers.get("WWW-Authenticate", "")) if error.code == 401 else ""
        if not place:
            raise
    asking = urllib.request.Request(place, headers={"User-Agent": "rackloom"})  # noqa: S310
    with urllib.request.urlopen(asking, timeout=TIMEOUT, context=context) as answer:  # noqa: S310
        told = json.load(answer)
    token = told.get("token") or told.get("access_token") or ""
    # Not for where the registry sends on to: that place knows the address alone.
    request.add_unredirected_header("Authorization", f"Bearer {token}")
    return urllib.request.urlopen(request, timeout=TIMEOUT, context=context)  # noqa: S310


def token_place(url: str, challenge: str) -> str:
    """Where a registry gives its tokens; '' where it does not say, or says it of a less safe place."""
    kind, _, rest = challenge.partition(" ")
    words = dict(re.findall(r'(\w+)="([^"]*)"', rest))
    realm = words.get("realm", "")
    if kind.lower() != "bearer" or not realm.startswith(f"{url.partition(':')[0]}://"):
        return ""
    asked = {key: words[key] for key in ("service", "scope") if key in words}
    return f"{realm}?{urllib.parse.urlencode(asked)}"


def marks(path: str) -> list[int]:
    """By what a file is known to be unchanged. Raises OSError where it is not there."""
    info = os.stat(path)
    return [info.st_size, info.st_mtime_ns, info.st_mode, info.st_uid, info.st_gid]


def reason(error: Exception) -> str:
    """Why a download failed, in few words."""
    if isinstance(error, urllib.error.HTTPError):
        return f"{error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        error = error.reason if isinstance(error.reason, Exception) else error
    if isinstance(error, socket.timeout):
        return f"no answer within {TIMEOUT:.0f} s"
    return str(error) or type(error).__name__


def main() -> None:
    """Bring what is not here yet."""
    module = AnsibleModule(
        argument_spec={
            "wanted": {"type": "list", "elements": "dict", "required": True},
            "outside": {"type": "bool", "required": True},
            "ca_file": {"type": "str", "default": ""},
            "who": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    missing = [
        item for item in (Wanted(module, wanted) for wanted in module.params["wanted"]) if not item.here()
    ]
    if not module.check_mode:
        for item in missing:
            try:
                item.bring()
            except OSError as error:
                item.fail(f"{item.label}: {error.filename or item.dest}: {error.strerror}")
    module.exit_json(changed=bool(missing), fetched=[item.label for item in missing])


if __name__ == "__main__":
    main()
