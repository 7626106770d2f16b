"""Sound configurations pass, and unusable folders are said to be so in a sentence."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import jsonschema
import pytest
import yaml

from rackloom.site import SiteError, check_site, load_site
from rackloom.site.models import FILES, export_schemas
from rackloom.site.paths import example_dir

GOOD = Path(__file__).parent / "good"


@pytest.fixture
def site_dir(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOOD, tmp_path / "config"))


@pytest.mark.parametrize("folder", [GOOD, example_dir()], ids=["good", "example"])
def test_no_mistakes(folder: Path) -> None:
    result = check_site(folder)
    assert result.mistakes == []
    assert result.ok and result.site is not None


@pytest.mark.parametrize("folder", [GOOD, example_dir()], ids=["good", "example"])
def test_schema_accepts_what_check_accepts(folder: Path, tmp_path: Path) -> None:
    schemas = {path.name: json.loads(path.read_text("utf-8")) for path in export_schemas(tmp_path)}
    for file in FILES:
        # Editors read YAML 1.2, in which off and 12:00:00 are text.
        data = yaml.load((folder / file).read_text("utf-8"), Loader=yaml.BaseLoader)  # noqa: S506
        schema = schemas[file.replace(".yml", ".schema.json")]
        jsonschema.Draft202012Validator.check_schema(schema)
        relaxed = json.loads(
            json.dumps(schema)
            .replace('"type": "integer"', '"type": ["integer", "string"]')
            .replace('"type": "boolean"', '"type": ["boolean", "string"]')
        )
        jsonschema.Draft202012Validator(relaxed).validate(data)


def test_schema_refuses_unknown_keys(tmp_path: Path) -> None:
    export_schemas(tmp_path)
    schema = json.loads((tmp_path / "cluster.schema.json").read_text("utf-8"))
    errors = [
        error.message for error in jsonschema.Draft202012Validator(schema).iter_errors({"nmae": "demo"})
    ]
    assert any("nmae" in error for error in errors)


def test_empty_sections_are_fine(site_dir: Path) -> None:
    cluster = site_dir / "cluster.yml"
    cluster.write_text(
        "name: demo\ndomain: demo.example\nusers:\nslurm:\nssh:\nservices:\n"
        "packages: {proxy: ''}\nprovision:\nnetworks:\n  cluster: {cidr: 10.10.0.0/16, gateway: ''}\n",
        "utf-8",
    )
    nodes = site_dir / "nodes.yml"
    text = nodes.read_text("utf-8")
    nodes.write_text(text.replace("image: ubuntu", "image:").replace("layout: mirror", "layout: ''"), "utf-8")
    assert check_site(site_dir).mistakes == []


def test_three_lists_and_a_name_are_enough(tmp_path: Path) -> None:
    (tmp_path / "cluster.yml").write_text(
        "name: demo\ndomain: demo.example\nnetworks: {cluster: {cidr: 10.10.0.0/16}}\n", "utf-8"
    )
    (tmp_path / "nodes.yml").write_text(
        "profiles: {cpu: {cores: 2, memory: 4000M}}\n"
        "management: [{name: mgmt01, address: 10.10.0.1}]\n"
        "login: [{name: login01, address: 10.10.0.2}]\n"
        'compute: [{name: "cn[001-002]", address: 10.10.0.3, profile: cpu}]\n',
        "utf-8",
    )
    site = load_site(tmp_path)
    assert site.groups["slurm_node"] == ["cn001", "cn002"]
    assert site.groups["slurm_controller"] == ["mgmt01"]
    assert site.groups["etcd"] == []
    assert site.nodes["cn002"].address == "10.10.0.4"


def test_slurm_off_as_a_whole(site_dir: Path) -> None:
    cluster = site_dir / "cluster.yml"
    text = cluster.read_text("utf-8").replace("services:\n", "services:\n  slurm: []\n")
    slurm, provision = text.index("slurm:\n  state_dir"), text.index("provision:\n")
    cluster.write_text(text[:slurm] + text[provision:], "utf-8")
    site = load_site(site_dir)
    assert site.groups["slurm"] == []


def test_merge_keys_and_anchors(site_dir: Path) -> None:
    nodes = site_dir / "nodes.yml"
    text = nodes.read_text("utf-8")
    text = text.replace("  cpu:\n", "  cpu: &cpu\n")
    text = text.replace(
        "  a100:\n    cores: 64\n    memory: 1000G\n", "  a100:\n    <<: *cpu\n    cores: 48\n"
    )
    nodes.write_text(text.replace("    reserved_memory: 16G\n", ""), "utf-8")
    profile = load_site(site_dir).profiles["a100"]
    assert (profile.sockets, profile.cores, profile.memory.mb) == (2, 48, 257000)


def test_all_mistakes_at_once(site_dir: Path) -> None:
    cluster, nodes = site_dir / "cluster.yml", site_dir / "nodes.yml"
    cluster.write_text(
        cluster.read_text("utf-8").replace("port: 22", "port: x").replace("parent: research", "parent: no"),
        "utf-8",
    )
    nodes.write_text(
        nodes.read_text("utf-8").replace("cores: 32", "cores: y").replace("10.10.0.21", "10.9.0.21"), "utf-8"
    )
    found = {(m.file, m.code) for m in check_site(site_dir).mistakes}
    assert found == {
        ("cluster.yml", "wrong-type"),
        ("cluster.yml", "unknown-account"),
        ("nodes.yml", "wrong-type"),
        ("nodes.yml", "outside-network"),
    }


@pytest.mark.parametrize("file", ["cluster.yml", "nodes.yml"])
def test_missing_file(site_dir: Path, file: str) -> None:
    (site_dir / file).unlink()
    mistakes = check_site(site_dir).mistakes
    assert [(m.file, m.line, m.code) for m in mistakes] == [(file, 0, "missing-file")]


def test_file_is_a_folder(site_dir: Path) -> None:
    (site_dir / "nodes.yml").unlink()
    (site_dir / "nodes.yml").mkdir()
    assert [(m.file, m.code) for m in check_site(site_dir).mistakes] == [("nodes.yml", "unreadable")]


def test_unreadable_file(site_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.name == "nodes.yml":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    mistakes = check_site(site_dir).mistakes
    assert [(m.file, m.code) for m in mistakes] == [("nodes.yml", "unreadable")]
    assert "Permission denied" in mistakes[0].message


def test_not_utf8(site_dir: Path) -> None:
    path = site_dir / "cluster.yml"
    lines = path.read_bytes().split(b"\n")
    lines[1] = "name: dé".encode("latin-1")
    path.write_bytes(b"\n".join(lines))
    assert [(m.file, m.line, m.code) for m in check_site(site_dir).mistakes] == [
        ("cluster.yml", 2, "not-utf8")
    ]


@pytest.mark.parametrize("name", ["nowhere", "file"])
def test_not_a_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    assert [m.code for m in check_site(tmp_path / name).mistakes] == ["not-a-directory"]


def test_plain_secrets_are_a_mistake(site_dir: Path) -> None:
    path = site_dir / "group_vars/all/secrets.yml"
    path.parent.mkdir(parents=True)
    path.write_text("rackloom_secrets: {munge_key: abc}\n", "utf-8")
    mistakes = check_site(site_dir).mistakes
    assert [m.code for m in mistakes] == ["plain-secrets"]
    assert "abc" not in str(mistakes[0])


def test_key_that_others_may_read(site_dir: Path) -> None:
    key = site_dir / "ssh/key"
    key.parent.mkdir()
    key.write_text("", "utf-8")
    key.chmod(0o644)
    path = site_dir / "cluster.yml"
    path.write_text(path.read_text("utf-8").replace("  port: 22", "  private_key: ssh/key"), "utf-8")
    assert [m.code for m in check_site(site_dir).mistakes] == ["key-mode"]
    key.chmod(0o600)
    assert check_site(site_dir).ok


def test_error_lists_all(site_dir: Path) -> None:
    path = site_dir / "nodes.yml"
    path.write_text(path.read_text("utf-8").replace("name: login01", "name: login_1"), "utf-8")
    with pytest.raises(SiteError, match=r"1 mistake:\n  nodes.yml:\d+: 'login_1' is no host name"):
        load_site(site_dir)


def write_many(folder: Path, count: int, *, one_by_one: bool) -> None:
    (folder / "cluster.yml").write_text(
        "name: big\ndomain: big.example\nnetworks:\n"
        "  cluster: {cidr: 10.0.0.0/9}\n  bmc: {cidr: 10.128.0.0/9}\n",
        "utf-8",
    )
    lines = [
        "profiles: {gpu: {cores: 64, memory: 1000G, gpus: [{type: a100, count: 8}]}}",
        "management: [{name: mgmt01, address: 10.127.0.1}]",
        "login: [{name: login01, address: 10.127.0.2}]",
        "compute:",
    ]
    if one_by_one:
        for number in range(1, count + 1):
            high, low = divmod(number, 256)
            lines += [
                f"  - name: n{number:05d}",
                f"    address: 10.1.{high}.{low}",
                "    profile: gpu",
                f"    mac: 52:54:00:00:{high:02x}:{low:02x}",
                f"    bmc: 10.129.{high}.{low}",
                f"    serial: SN{number:08d}",
            ]
    else:
        lines.append(
            f'  - {{name: "n[00001-{count:05d}]", address: 10.1.0.1, profile: gpu, bmc: 10.129.0.1}}'
        )
    (folder / "nodes.yml").write_text("\n".join(lines) + "\n", "utf-8")


@pytest.mark.parametrize("one_by_one", [False, True], ids=["range", "entries"])
def test_ten_thousand_nodes(tmp_path: Path, *, one_by_one: bool) -> None:
    write_many(tmp_path, 10_000, one_by_one=one_by_one)
    start = time.process_time()
    result = check_site(tmp_path)
    took = time.process_time() - start
    print(f"10,000 nodes checked in {took:.2f} s")
    assert result.mistakes == []
    assert took < 10
