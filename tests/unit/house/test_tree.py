"""Laws for every file: no machine is written down, no secret, no stray version."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from rackloom.docs_gen.tree import ROOT

URL = re.compile(r"[a-z+]+://[^\s,|\"'<>]+")
STANDARD = {
    *("bin", "boot", "dev", "etc", "home", "lib", "lib64", "media", "mnt", "opt"),
    *("proc", "root", "run", "sbin", "srv", "sys", "tmp", "usr", "var"),
}


def configured_hosts() -> set[str]:
    """Host names that this machine's package managers are told to use."""
    home = Path.home()
    places = [
        *Path("/etc/apt").glob("sources.list*"),
        *Path("/etc/apt/sources.list.d").glob("*"),
        *Path("/etc/apt/apt.conf.d").glob("*proxy*"),
        *(Path(name) for name in ("/etc/pip.conf", "/etc/npmrc")),
        *(home / name for name in (".config/pip/pip.conf", ".pip/pip.conf", ".config/uv/uv.toml", ".npmrc")),
    ]
    texts = [path.read_text(errors="replace") for path in places if path.is_file()]
    names = re.compile(r"^(PIP|UV)_.*(INDEX|LINKS)|^(GOPROXY|NPM_CONFIG_REGISTRY)$|_proxy$", re.IGNORECASE)
    texts += [value for name, value in os.environ.items() if names.search(name)]
    if shutil.which("go"):
        argv = ["go", "env", "GOPROXY"]
        texts.append(subprocess.run(argv, capture_output=True, text=True, check=False).stdout)
    urls = [url for text in texts for url in URL.findall(text)]
    hosts = {urlsplit(url).hostname or "" for url in urls}
    return {host for host in hosts if "." in host and not host.startswith(("127.", "0."))}


def test_no_package_registry_is_named(texts: dict[Path, str]) -> None:
    """Where packages come from is the machine's configuration, not ours."""
    hosts = [re.compile(rf"(?<![\w.-]){re.escape(host)}(?![\w-])") for host in configured_hosts()]
    found = [path for path, text in texts.items() if any(host.search(text) for host in hosts)]
    named = [str(path.relative_to(ROOT)) for path in found]
    assert not named, "these files name a package registry that this machine is configured to use"


def test_no_path_of_this_machine(texts: dict[Path, str]) -> None:
    top = ROOT.parts[1]
    words = [re.escape(str(ROOT))]
    if top not in STANDARD:
        words.append(rf"(?<![\w.)-])/{re.escape(top)}/")
    pattern = re.compile("|".join(words))
    named = [str(path.relative_to(ROOT)) for path, text in texts.items() if pattern.search(text)]
    assert not named


def test_digests_stand_in_the_versions_file_only(texts: dict[Path, str]) -> None:
    digest = re.compile(r"\b[0-9a-f]{64}\b")
    allowed = {ROOT / "inventory" / "versions.yml"}
    rooms = ("roles", "playbooks", "inventory", "plugins", "scripts", "config.example", "molecule")
    named = [
        str(path.relative_to(ROOT))
        for path, text in texts.items()
        if path not in allowed and path.relative_to(ROOT).parts[0] in rooms and digest.search(text)
    ]
    assert not named


@pytest.mark.parametrize(
    "pattern",
    [
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{40}",
        r"(?i)\b(change-?me|replace-?me(?!nt)|replace-?with)[a-z-]*\b",
        r"(?im)^\s*[a-z_]*(password|secret|token):\s*[\"']?[A-Za-z0-9][^\s{}\"'#|>]*[\"']?\s*$",
    ],
)
def test_no_secret_is_written_down(texts: dict[Path, str], pattern: str) -> None:
    rooms = ("roles", "playbooks", "inventory", "config.example", "plugins", "scripts")
    harmless = re.compile(r"(?i):\s*[\"']?(true|false|null|yes|no|str|string|dict)[\"']?\s*$")
    found = [
        f"{path.relative_to(ROOT)}: {match.group(0).strip()[:60]}"
        for path, text in texts.items()
        if path.relative_to(ROOT).parts[0] in rooms and path.suffix in {".yml", ".j2", ".sh", ".cfg"}
        for match in re.finditer(pattern, text)
        if not harmless.search(match.group(0))
    ]
    assert not found


def test_scripts_can_be_run(tracked: list[Path]) -> None:
    """A file that starts with #! and stands right in scripts/ or .ci/ has its x bit."""
    wrong = []
    for path in tracked:
        if path.parent in {ROOT / "scripts", ROOT / ".ci"}:
            with path.open("rb") as stream:
                if stream.read(2) == b"#!" and not os.access(path, os.X_OK):
                    wrong.append(str(path.relative_to(ROOT)))
    assert not wrong


def test_python_is_typed_from_the_first_line(texts: dict[Path, str]) -> None:
    """Annotations are read late in every module, so old and new Python behave alike."""
    wrong = [
        str(path.relative_to(ROOT))
        for path, text in texts.items()
        if path.suffix == ".py"
        and text.strip()
        and "from __future__ import annotations" not in text
        and not re.fullmatch(r'"""(?s:.*?)"""\s*', text)
    ]
    assert not wrong
