"""Records of three files over each other, and what `check` says where they do not fit."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleError
from ansible.plugins.loader import lookup_loader

from rackloom.site import check_site, versions
from rackloom.site.support import minor, support, too_old
from rackloom.site.versions import VersionsError, numbers

GOOD = Path(__file__).parent / "good"
ABC = "abc" * 21 + "d"
CORE = ("kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler")


def toolkit() -> dict[str, Any]:
    """The toolkit's own file as data."""
    data = yaml.safe_load(versions.layers()[0].read_text())
    assert isinstance(data, dict)
    return data


def lay(folder: Path, **sections: Any) -> Path:
    """A site's own versions file; what the good site has in its own stays."""
    data = yaml.safe_load((GOOD / "versions.yml").read_text())
    for section, records in sections.items():
        data.setdefault(section, {}).update(records)
    (folder / "versions.yml").write_text(yaml.safe_dump(data))
    return folder


def install(folder: Path, **sections: Any) -> Path:
    """What `bundle install` leaves in a config."""
    record = folder / "bundles" / ("0" * 16)
    record.mkdir(parents=True)
    (record / "bundle.lock").write_text("[]\n")
    if sections:
        (record / "versions.yml").write_text(yaml.safe_dump(sections))
    (folder / "bundles" / "current").symlink_to("0" * 16)
    return record


def release(version: str, **more: str) -> dict[str, Any]:
    """Records of a further release of Kubernetes."""
    record = {"version": version, "url": "https://tool.example/{version}", "sha256": {"amd64": ABC}}
    images = {f"registry.k8s.io/{name}@{version}": {"tag": f"v{version}", "digest": ""} for name in CORE}
    images |= {f"registry.k8s.io/{name}@{version}": {"tag": tag, "digest": ""} for name, tag in more.items()}
    return {
        "files": {f"{name}@{version}": record for name in ("kubeadm", "kubectl", "kubelet")},
        "images": images,
    }


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOOD, tmp_path / "config"))


def choose(site: Path, version: str) -> Path:
    path = site / "cluster.yml"
    path.write_text(path.read_text().replace("kubernetes:\n", f"kubernetes:\n  version: {version}\n"))
    return site


def codes(folder: Path) -> list[str]:
    return [mistake.code for mistake in check_site(folder).mistakes]


def test_later_files_win(tmp_path: Path) -> None:
    (tmp_path / "versions.yml").write_text("files: {helm: {version: '1'}, own: {version: '2'}}\n")
    record = install(tmp_path, files={"helm": {"version": "3"}})
    held = versions.effective(tmp_path)
    assert held.get("file", "helm").version == "3"
    assert held.get("file", "helm").source == record / "versions.yml"
    assert held.get("file", "own").version == "2"
    assert held.get("file", "kubeadm").version == toolkit()["files"]["kubeadm"]["version"]
    assert versions.overlays(tmp_path) == [tmp_path / "versions.yml", record / "versions.yml"]


def test_releases_of_a_name(tmp_path: Path) -> None:
    plain = toolkit()["files"]["kubeadm"]["version"]
    made = release("1.30.10")
    made["files"].update(release("1.30.9")["files"])
    (tmp_path / "versions.yml").write_text(yaml.safe_dump(made))
    held = versions.effective(tmp_path)
    assert held.releases() == sorted([*versions.effective().releases(), "1.30.9", "1.30.10"], key=numbers)
    assert held.get("file", "kubeadm", "1.30.9").key == "kubeadm@1.30.9"
    assert held.get("file", "kubeadm", plain).key == "kubeadm"
    assert held.get("image", "registry.k8s.io/kube-proxy", plain).key == "registry.k8s.io/kube-proxy"
    assert held.get("image", "registry.k8s.io/kube-proxy", "1.30.10").version == "v1.30.10"
    assert held.find("file", "kubeadm", "1.30.1") is None
    with pytest.raises(VersionsError, match=r"holds no file kubeadm 1\.30\.1") as raised:
        held.get("file", "kubeadm", "1.30.1")
    assert "1.30.9, 1.30.10" in raised.value.cure
    etcd = held.beside("image", "registry.k8s.io/etcd", "1.30.9")
    assert etcd.key == "registry.k8s.io/etcd"
    assert etcd.reference == f"registry.k8s.io/etcd:{etcd.version}"
    with pytest.raises(VersionsError, match="no record of the file kubeadn") as raised:
        held.get("file", "kubeadn")
    assert "kubeadm" in raised.value.cure


def test_numbers_of_versions() -> None:
    assert numbers("v1.30.10") > numbers("1.30.9")
    assert numbers("3.5.24-0") == (3, 5, 24)
    assert numbers("latest") == ()
    assert minor("v1.30.10") == "1.30"


def test_what_the_toolkit_holds_goes_together() -> None:
    held = versions.effective()
    for each in held.releases():
        assert minor(each) in support().kubernetes
        assert not too_old(each, "containerd", held.get("file", "containerd").version)
        assert not too_old(each, "etcd", held.beside("image", "registry.k8s.io/etcd", each).version)
    newest = held.releases()[-1]
    assert too_old(newest, "containerd", "1.2.3") == support().kubernetes[minor(newest)]["containerd"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1]", "nothing else"),
        ("fils: {}", "nothing else"),
        ("files: [a]", "no mapping"),
        ("files: {a: b}", "no mapping"),
        ("files: {", "cannot be read"),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "versions.yml").write_text(text)
    with pytest.raises(VersionsError, match=said):
        versions.effective(tmp_path)


@pytest.mark.parametrize(
    ("text", "line", "code"),
    [
        ("fils: {}\n", 1, "unknown-key"),
        ("files:\n  tool: [1]\n", 2, "wrong-type"),
        ("files: x\n", 1, "wrong-type"),
        ("files:\n  tool:\n    version: '1'\n    url: https://a.example/\n", 2, "missing-key"),
        (f"charts:\n  c: {{version: '1', url: x, sha256: {ABC}, tag: y}}\n", 2, "unknown-key"),
        ("images:\n  r.example/i:\n    tag: a\n    digest: sha256:abc\n", 4, "bad-value"),
        ("charts:\n  c:\n    version: '1'\n    url: x\n    sha256: abc\n", 5, "bad-value"),
        (
            "files:\n  tool:\n    version: '1'\n    url: x\n    sha256: {sparc: " + ABC + "}\n",
            5,
            "bad-value",
        ),
        ("files:\n  tool: {version: '1', url: [], sha256: {amd64: " + ABC + "}}\n", 2, "bad-value"),
        ("files: {\n", 1, "yaml-syntax"),
    ],
)
def test_check_reads_the_sites_own(site: Path, text: str, line: int, code: str) -> None:
    chart = (GOOD / "versions.yml").read_text().removeprefix("---\n")
    if not text.startswith("charts"):
        text += chart
    (site / "versions.yml").write_text(text)
    found = {(each.file, each.line, each.code) for each in check_site(site).mistakes}
    assert ("versions.yml", line, code) in found
    for each in check_site(site).mistakes:
        assert each.message.endswith(".") and each.cure


def test_a_release_that_the_site_holds(site: Path) -> None:
    known = next(iter(support().kubernetes)) + ".99"
    choose(lay(site, **release(known)), known)
    assert codes(site) == []


def test_a_release_without_all_of_its_records(site: Path) -> None:
    known = next(iter(support().kubernetes)) + ".99"
    made = release(known)
    del made["files"][f"kubelet@{known}"], made["images"][f"registry.k8s.io/kube-proxy@{known}"]
    mistakes = check_site(choose(lay(site, **made), known)).mistakes
    assert [mistake.code for mistake in mistakes] == ["missing-record"]
    assert "file kubelet, image registry.k8s.io/kube-proxy" in mistakes[0].message


def test_a_release_that_nobody_supports(site: Path) -> None:
    choose(lay(site, **release("1.20.1")), "1.20.1")
    assert codes(site) == ["unsupported-version"]


def test_components_that_are_too_old(site: Path) -> None:
    known = next(iter(support().kubernetes)) + ".99"
    old = {"version": "1.5.0", "url": "https://tool.example/", "sha256": {"amd64": ABC}}
    lay(site, files={"containerd": old})
    assert codes(site) == ["unsupported-version"]
    made = release(known, etcd="3.4.0-0")
    choose(lay(site, **made), known)
    mistakes = check_site(site).mistakes
    assert [mistake.code for mistake in mistakes] == ["unsupported-version"]
    assert "etcd 3.4.0-0" in mistakes[0].message


def closed(site: Path, leave_out: str = "", **records: Any) -> Path:
    """A site with a bundle that holds Kubernetes, but for one name."""
    data = toolkit()
    data["charts"].update(yaml.safe_load((GOOD / "versions.yml").read_text())["charts"])
    for record in data["images"].values():
        record["digest"] = f"sha256:{ABC}"
    for section in data.values():
        section.pop(leave_out, None)
    install(site, **(records or data))
    path = site / "cluster.yml"
    path.write_text(path.read_text().replace("ntp1.example, ntp2.example", "192.0.2.1"))
    return site


def test_a_closed_site_takes_all_from_its_bundle(site: Path) -> None:
    assert codes(closed(site)) == []


@pytest.mark.parametrize("name", ["kubelet", "registry.k8s.io/etcd", "containerd"])
def test_a_closed_site_whose_bundle_lacks_something(site: Path, name: str) -> None:
    mistakes = check_site(closed(site, leave_out=name)).mistakes
    assert [mistake.code for mistake in mistakes] == ["not-in-bundle"]
    assert name in mistakes[0].message


def test_a_closed_site_whose_bundle_has_no_kubernetes(site: Path) -> None:
    mistakes = check_site(closed(site, files={}, images={}, charts={})).mistakes
    assert [mistake.code for mistake in mistakes] == ["not-in-bundle"]
    assert "stage kubernetes" in mistakes[0].cure


def test_a_closed_site_whose_bundle_does_not_say(site: Path) -> None:
    install(site)
    path = site / "cluster.yml"
    path.write_text(path.read_text().replace("ntp1.example, ntp2.example", "192.0.2.1"))
    assert codes(site) == ["no-digest"]


def test_a_damaged_file_of_the_bundle(site: Path) -> None:
    record = install(site, files={})
    (record / "versions.yml").write_text("files: {")
    found = [each for each in check_site(site).mistakes if each.code == "bad-versions"]
    assert [each.file for each in found] == [str(record / "versions.yml")]


def ask(*terms: str, **options: Any) -> Any:
    lookup = lookup_loader.get("rackloom.cluster.version")
    return lookup.run(list(terms), variables={}, **options)


def test_the_lookup(tmp_path: Path) -> None:
    [etcd] = ask("image", "registry.k8s.io/etcd", release="1.2.3")
    tag = toolkit()["images"]["registry.k8s.io/etcd"]["tag"]
    assert etcd == {
        "name": "registry.k8s.io/etcd", "version": tag, "tag": tag, "digest": "",
        "reference": f"registry.k8s.io/etcd:{tag}",
    }  # fmt: skip
    extra = tmp_path / "extra.yml"
    extra.write_text(yaml.safe_dump(release("1.30.9")))
    for files in (str(extra), [str(extra)]):
        found = ask("file", "kubeadm", "kubelet", release="1.30.9", versions=files)
        assert [(each["name"], each["version"]) for each in found] == [
            ("kubeadm", "1.30.9"),
            ("kubelet", "1.30.9"),
        ]
    with pytest.raises(AnsibleError, match=r"holds no file kubeadm 1\.30\.9"):
        ask("file", "kubeadm", release="1.30.9", versions="")
    with pytest.raises(AnsibleError, match="name a kind"):
        ask("files", "kubeadm")


def test_roles_are_told_of_the_sites_files(site: Path) -> None:
    from rackloom.site import load_site  # noqa: PLC0415
    from rackloom.site.inventory import build  # noqa: PLC0415

    assert build(load_site(site)).vars["all"]["artifact_versions"] == [str(site / "versions.yml")]
    closed(site)
    assert build(load_site(site)).vars["all"]["artifact_versions"] == [
        str(site / "versions.yml"),
        str((site / "bundles" / "current").resolve() / "versions.yml"),
    ]


def test_the_role_artifact_takes_a_release(site: Path, tmp_path: Path) -> None:
    """In a playbook, with a file of a further release."""
    source = tmp_path / "tool"
    source.write_bytes(b"older")
    extra = tmp_path / "extra.yml"
    sha256 = hashlib.sha256(b"older").hexdigest()
    arches = dict.fromkeys(("amd64", "arm64"), sha256)
    record = {"version": "0.1", "url": source.as_uri(), "sha256": arches}
    extra.write_text(yaml.safe_dump({"files": {"tool": {**record, "version": "9"}, "tool@0.1": record}}))
    wanted = {"name": "tool", "version": "0.1", "dest": str(tmp_path / "out" / "tool")}
    (tmp_path / "out").mkdir()
    play = [
        {
            "hosts": "localhost",
            "gather_facts": False,
            "tasks": [
                {"rackloom.cluster.artifact": {"files": [wanted], "versions": [str(extra)]}, "name": "Fetch"},
                {
                    "rackloom.cluster.artifact": {
                        "files": [{**wanted, "version": "0.2"}],
                        "versions": str(extra),
                    },
                    "name": "Fail",
                },
            ],
        }
    ]
    (tmp_path / "play.yml").write_text(yaml.safe_dump(play))
    home = Path(versions.layers()[0]).parents[1]
    done = subprocess.run(
        ["ansible-playbook", "-i", "localhost,", "-c", "local", str(tmp_path / "play.yml")],
        env={**os.environ, "ANSIBLE_CONFIG": str(home / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
    if os.geteuid() == 0:
        assert (tmp_path / "out" / "tool").read_bytes() == b"older", done.stdout
    assert done.returncode != 0
    assert "holds no file tool 0.2; it holds 0.1, 9" in done.stdout
