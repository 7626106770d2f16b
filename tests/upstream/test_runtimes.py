"""The configuration that nodes get is read by the real containerd, beside what others put into its folder."""

from __future__ import annotations

import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar, trust_as_template

if TYPE_CHECKING:
    from tests.upstream.conftest import Built

    Build = Callable[[str], Built]

ROOT = Path(__file__).parents[2]
OTHER = """version = {version}
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.other]
  runtime_type = "io.containerd.runc.v2"
"""


@pytest.fixture(scope="module", autouse=True)
def collections() -> None:
    """Let templates find the plugins of this repository."""
    init_plugin_loader([str(ROOT / ".venv" / "collections")])


def configuration(folder: Path, **variables: Any) -> Path:
    """Write the role's configuration as a node would have it, with its folder for others in `folder`."""
    role = ROOT / "roles" / "containerd"
    known = yaml.safe_load((role / "defaults/main.yml").read_text())
    facts = {"os_family": "Debian", "rackloom_kernel": {"lowers_oom_score": False}}
    templar = Templar(loader=DataLoader(), variables={**known, "ansible_facts": facts, **variables})
    text = templar.copy_with_new_env(trim_blocks=True, lstrip_blocks=True).template(
        trust_as_template((role / "templates/config.toml.j2").read_text())
    )
    path = folder / "config.toml"
    path.write_text(str(text).replace("/etc/containerd/conf.d", str(folder / "conf.d")))
    return path


def dump(built: Build, path: Path) -> dict[str, Any]:
    """What containerd makes of a configuration; nothing in it may be strange to it."""
    done = subprocess.run(
        [built("containerd").program("containerd"), "--config", str(path), "config", "dump"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "unknown key" not in done.stderr
    return tomllib.loads(done.stdout)


@pytest.mark.long
def test_containerd_reads_what_nodes_get(built: Build, tmp_path: Path) -> None:
    path = configuration(
        tmp_path, containerd_sandbox_image="registry.example/pause:1", containerd_root="/srv/c"
    )
    read = dump(built, path)
    runtime = read["plugins"]["io.containerd.cri.v1.runtime"]
    images = read["plugins"]["io.containerd.cri.v1.images"]
    assert read["root"] == "/srv/c"
    assert runtime["restrict_oom_score_adj"] is True
    assert runtime["containerd"]["runtimes"]["runc"]["options"]["SystemdCgroup"] is True
    assert images["pinned_images"]["sandbox"] == "registry.example/pause:1"
    assert images["registry"]["config_path"] == "/etc/containerd/certs.d"


@pytest.mark.long
def test_containerd_can_do_without_overlays(built: Build, tmp_path: Path) -> None:
    read = dump(built, configuration(tmp_path, containerd_snapshotter="native"))
    assert read["plugins"]["io.containerd.cri.v1.images"]["snapshotter"] == "native"
    [unpack] = read["plugins"]["io.containerd.transfer.v1.local"]["unpack_config"]
    assert unpack["snapshotter"] == "native"


@pytest.mark.long
@pytest.mark.parametrize("version", [2, 3, 4])
def test_files_of_others_may_have_any_layout(built: Build, tmp_path: Path, version: int) -> None:
    path = configuration(tmp_path)
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d/99-other.toml").write_text(OTHER.format(version=version))
    runtimes = dump(built, path)["plugins"]["io.containerd.cri.v1.runtime"]["containerd"]["runtimes"]
    assert set(runtimes) == {"runc", "other"}
    assert runtimes["runc"]["options"]["SystemdCgroup"] is True


@pytest.mark.long
def test_the_layout_is_the_programs_own(built: Build, tmp_path: Path) -> None:
    """A file of others that was made from what containerd itself says would else keep it from starting."""
    said = subprocess.check_output(
        [built("containerd").program("containerd"), "config", "default"], text=True
    )
    assert tomllib.loads(configuration(tmp_path).read_text())["version"] == tomllib.loads(said)["version"]
