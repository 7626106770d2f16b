"""packages asks the database, installs what is missing, and repairs what a killed run left behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from plugins.module_utils import node_packages as packages

from .conftest import RunModule

# dpkg-query and apt-get played by files: `installed` is the database, `available` what the lists know.
DPKG_QUERY = """#!/bin/sh
while read name; do printf '%s\\tinstalled\\t1.0-1\\tvirtual-%s (= 1)\\n' $name $name; done < $PLAY/installed
printf 'half\\tunpacked\\t1\\t\\n'
"""
APT_GET = """#!/bin/sh
echo "apt-get $1 keep=$RACKLOOM_KEEP_STOPPED" >> $PLAY/calls
if [ "$1" = update ]; then
  [ ! -e $PLAY/offline ] || { echo "no answer" >&2; exit 100; }
  cp $PLAY/upstream $PLAY/available; exit 0
fi
[ ! -e $PLAY/interrupted ] || { echo "E: dpkg was interrupted" >&2; exit 100; }
for last; do :; done
grep -qx $last $PLAY/available || { echo "E: Unable to locate package $last" >&2; exit 100; }
echo $last >> $PLAY/installed
"""
DPKG = """#!/bin/sh
echo "dpkg $*" >> $PLAY/calls
rm -f $PLAY/interrupted
"""


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A node with bash on it, whose lists are empty while its sources offer chrony."""
    for name, text in {"dpkg-query": DPKG_QUERY, "apt-get": APT_GET, "dpkg": DPKG}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    for name, text in {"installed": "bash\n", "available": "", "upstream": "chrony\n", "calls": ""}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "sources").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("PLAY", str(tmp_path))
    monkeypatch.setattr(packages, "STAMP", str(tmp_path / "state" / "lists"))
    monkeypatch.setattr(packages, "POLICY", str(tmp_path / "policy-rc.d"))
    monkeypatch.setattr(packages, "APT_SOURCES", (str(tmp_path / "sources"),))
    return tmp_path


def calls(node: Path) -> list[str]:
    done = (node / "calls").read_text().splitlines()
    (node / "calls").write_text("")
    return done


def test_installs_once_and_then_asks_nobody(run_module: RunModule, node: Path) -> None:
    first = run_module("component", packages=["bash", "chrony"])
    assert first["changed"]
    assert first["missing"] == ["chrony"]
    assert calls(node) == ["apt-get update keep=", "apt-get install keep=1"]
    assert not run_module("component", packages=["bash", "chrony"])["changed"]
    assert calls(node) == []


def test_check_mode_needs_no_lists(run_module: RunModule, node: Path) -> None:
    assert run_module("component", packages=["chrony"], check=True)["missing"] == ["chrony"]
    assert calls(node) == []


def test_virtual_package_counts_as_installed(run_module: RunModule, node: Path) -> None:
    assert not run_module("component", packages=["virtual-bash"])["changed"]


def test_half_installed_package_is_missing(run_module: RunModule, node: Path) -> None:
    assert run_module("component", packages=["half"], check=True)["missing"] == ["half"]


@pytest.mark.parametrize(
    ("wanted", "missing"), [("bash=1.0-1", False), ("bash=1.*", False), ("bash=2.0", True)]
)
def test_version(run_module: RunModule, node: Path, wanted: str, missing: bool) -> None:
    assert run_module("component", packages=[wanted], check=True)["changed"] == missing


def test_lists_are_refreshed_when_a_source_is_newer(run_module: RunModule, node: Path) -> None:
    """So a run that was killed between writing a source and refreshing is made good."""
    run_module("component", packages=["chrony"])
    (node / "installed").write_text("bash\n")
    calls(node)
    run_module("component", packages=["chrony"])
    assert calls(node) == ["apt-get install keep=1"]
    (node / "installed").write_text("bash\n")
    os.utime(node / "state" / "lists", (1, 1))
    (node / "sources" / "site.sources").write_text("Types: deb\n")
    calls(node)
    run_module("component", packages=["chrony"], lists_max_age=10**12)
    assert calls(node)[0] == "apt-get update keep="


def test_interrupted_dpkg_is_finished_first(run_module: RunModule, node: Path) -> None:
    (node / "interrupted").touch()
    assert "failed" not in run_module("component", packages=["chrony"])
    assert [call.split()[0] for call in calls(node)] == ["apt-get", "apt-get", "dpkg", "apt-get"]


def test_source_that_is_silent_does_not_stop_what_others_have(run_module: RunModule, node: Path) -> None:
    (node / "offline").touch()
    (node / "available").write_text("chrony\n")
    assert run_module("component", packages=["chrony"])["changed"]
    # Not refreshed is not remembered as refreshed.
    assert not (node / "state" / "lists").exists()


def test_unknown_package_fails_with_its_name(run_module: RunModule, node: Path) -> None:
    assert "no-such-package" in run_module("component", packages=["no-such-package"])["msg"]


def test_services_are_kept_stopped_only_while_installing(run_module: RunModule, node: Path) -> None:
    run_module("component", packages=["chrony"], start_services=False)
    assert "apt-get install keep=1" in calls(node)
    assert not (node / "policy-rc.d").exists()


def test_policy_of_the_node_is_left_alone(run_module: RunModule, node: Path) -> None:
    (node / "policy-rc.d").write_text("#!/bin/sh\nexit 101\n")
    run_module("component", packages=["chrony"], start_services=False)
    assert (node / "policy-rc.d").read_text() == "#!/bin/sh\nexit 101\n"
