"""The real programs are what they say, and work."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import struct
import subprocess
import tarfile
import time
import tomllib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.daemons import free_port, running

if TYPE_CHECKING:
    from tests.upstream.conftest import Built

    Build = Callable[[str], Built]

READ: dict[str, dict[str, Any]] = tomllib.loads((Path(__file__).parent / "programs.toml").read_text())
PROJECTS = {
    name: {**READ.get(table.get("like", ""), {}), **table}
    for name, table in READ.items()
    if table["suite"] != "named"  # tests that use these say so
}


def by_suite(names: list[str]) -> list[Any]:
    """Projects as test parameters; what only the suite `upstream` builds is marked so."""
    return [
        pytest.param(name, marks=[] if PROJECTS[name]["suite"] == "quick" else [pytest.mark.long])
        for name in names
    ]


def run(*argv: str, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        argv,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def version(name: str, built: Built) -> str:
    """What the record says that was built."""
    if "version" in PROJECTS[name] and "modules" in PROJECTS[name]:
        return str(next(iter(built.versions["files"].values()))["version"])
    text = (Path(__file__).parent / name / "go.mod").read_text() if "modules" in PROJECTS[name] else ""
    for line in text.splitlines():
        words = (
            line.rpartition("=> ")[2].removeprefix("require ").split()
        )  # a fork replaces what it was made from
        if words and words[0] == PROJECTS[name]["modules"][0] and len(words) > 1:
            return words[1].removeprefix("v")
    [record] = built.versions["images"].values()
    return str(record["tag"])


@pytest.mark.parametrize("name", by_suite([name for name, each in PROJECTS.items() if "check" in each]))
def test_every_program_tells_its_version(name: str, built: Build) -> None:
    made = built(name)
    wanted = version(name, made)
    for program, (arguments, said) in PROJECTS[name]["check"].items():
        done = subprocess.run(
            [made.program(program), *arguments], capture_output=True, text=True, timeout=60, check=False
        )
        assert said.replace("{version}", wanted) in done.stdout + done.stderr, program


@pytest.mark.parametrize(
    "name", by_suite([name for name, each in PROJECTS.items() if "version" in each and "modules" in each])
)
def test_what_has_a_number_of_its_own_is_the_release_that_sites_get(name: str, built: Build) -> None:
    held = yaml.safe_load((Path(__file__).parents[2] / "inventory/versions.yml").read_text())["files"]
    for record, made in built(name).versions["files"].items():
        assert made["version"] == held[record]["version"]


@pytest.mark.parametrize("name", by_suite([name for name, each in PROJECTS.items() if "modules" in each]))
def test_programs_run_on_any_system(name: str, built: Build) -> None:
    """They need no library of the machine that built them."""
    made = built(name)
    for path in (made.output / "bin").rglob("*"):
        if path.is_file():
            assert b"ld-linux" not in path.read_bytes()[:4096], path.name


@pytest.mark.parametrize("name", by_suite([name for name in PROJECTS if name != "net-tools"]))
def test_the_record_is_true(name: str, built: Build) -> None:
    made = built(name)
    for kind in ("files", "charts"):
        for wanted in PROJECTS[name].get(kind, {}):
            record = made.versions[kind][wanted]
            path = made.output / record["url"].removeprefix("file:")
            digests = record["sha256"].values() if kind == "files" else [record["sha256"]]
            assert hashlib.sha256(path.read_bytes()).hexdigest() in digests
    index = made.output / "images" / "index.json"
    entries = json.loads(index.read_text())["manifests"] if index.exists() else []
    have = {entry["annotations"]["org.opencontainers.image.ref.name"]: entry["digest"] for entry in entries}
    for repository in PROJECTS[name].get("images", {}):
        record = made.versions["images"][repository]
        assert have[f"{repository}:{record['tag']}"] == record["digest"]
    for blob in (made.output / "images" / "blobs" / "sha256").glob("*"):
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name


@pytest.mark.parametrize("name", by_suite([name for name, each in PROJECTS.items() if "files" in each]))
def test_archives_are_laid_out_as_upstream_does_it(name: str, built: Build) -> None:
    made = built(name)
    for wanted, about in PROJECTS[name]["files"].items():
        record = made.versions["files"][wanted]
        [arch] = record["sha256"]
        path = made.output / record["url"].removeprefix("file:")
        members = about.get("members") or {program: program for program in PROJECTS[name]["programs"]}
        if "" in members:
            assert os.access(path, os.X_OK)
            continue
        names = [each.replace("{version}", record["version"]).replace("{arch}", arch) for each in members]
        with tarfile.open(path) as archive:
            assert {entry.name for entry in archive if entry.isfile()} == set(names)
            assert all(entry.mode & 0o111 for entry in archive if entry.isfile())


def test_a_second_build_builds_nothing(built: Build, tmp_path: Path) -> None:
    built("crictl")
    build = Path(__file__).parent / "build.py"

    def seconds(output: Path) -> float:
        began = time.monotonic()
        done = subprocess.run(
            [str(build), "build", "crictl", "--output", str(output)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert not done.stderr
        assert (output / "bin" / "crictl" / "crictl").is_file()
        return time.monotonic() - began

    # A busy machine is slow for reasons of its own, and not each time.
    assert any(seconds(tmp_path / str(number)) < 10 for number in range(10))


def test_etcd_keeps_what_it_is_told(built: Build, tmp_path: Path) -> None:
    made = built("etcd")
    client, peer = free_port(), free_port()
    url = f"http://127.0.0.1:{client}"
    argv = [made.program("etcd"), "--data-dir", str(tmp_path / "data")]
    argv += ["--listen-client-urls", url, "--advertise-client-urls", url]
    argv += ["--listen-peer-urls", f"http://127.0.0.1:{peer}"]
    argv += ["--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}"]
    argv += ["--initial-cluster", f"default=http://127.0.0.1:{peer}"]
    etcdctl = (made.program("etcdctl"), "--endpoints", url)
    with running(argv, tmp_path / "log", lambda: answers(client)):
        run(*etcdctl, "put", "rack", "loom")
        assert run(*etcdctl, "get", "rack", "--print-value-only").strip() == "loom"
        run(*etcdctl, "snapshot", "save", str(tmp_path / "snapshot"))
    told = run(
        made.program("etcdutl"), "snapshot", "status", str(tmp_path / "snapshot"), "--write-out", "json"
    )
    assert json.loads(told)["totalKey"] > 0


@pytest.mark.long
def test_coredns_answers(built: Build, tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "Corefile").write_text(f".:{port} {{\n hosts {{\n 192.0.2.7 node.example\n }}\n}}\n")
    argv = [built("coredns").program("coredns"), "-conf", str(tmp_path / "Corefile")]
    question = struct.pack(">6H", 7, 0x0100, 1, 0, 0, 0) + b"\4node\7example\0" + struct.pack(">2H", 1, 1)
    with (
        running(argv, tmp_path / "log", lambda: answers(port)),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking,
    ):
        asking.settimeout(10)
        asking.sendto(question, ("127.0.0.1", port))
        answer = asking.recv(512)
    assert answer.endswith(socket.inet_aton("192.0.2.7"))


@pytest.mark.long
def test_the_api_server_answers_kubectl(built: Build, tmp_path: Path) -> None:
    made, etcd = built("kubernetes"), built("etcd")
    client, peer, secure = free_port(), free_port(), free_port()
    url = f"http://127.0.0.1:{client}"
    store = [etcd.program("etcd"), "--data-dir", str(tmp_path / "data"), "--listen-client-urls", url]
    store += ["--advertise-client-urls", url, "--listen-peer-urls", f"http://127.0.0.1:{peer}"]
    run("openssl", "genrsa", "-out", str(tmp_path / "sa.key"), "2048")
    (tmp_path / "tokens").write_text('made-up,admin,1,"system:masters"\n')
    api = [made.program("kube-apiserver"), f"--etcd-servers={url}", f"--secure-port={secure}"]
    api += [f"--cert-dir={tmp_path / 'certs'}", f"--token-auth-file={tmp_path / 'tokens'}"]
    api += ["--bind-address=127.0.0.1", "--service-account-issuer=https://kubernetes.example"]
    api += [f"--service-account-key-file={tmp_path / 'sa.key'}", "--authorization-mode=RBAC"]
    api += [
        f"--service-account-signing-key-file={tmp_path / 'sa.key'}",
        "--service-cluster-ip-range=192.0.2.0/24",
    ]
    kubectl = [made.program("kubectl"), f"--server=https://127.0.0.1:{secure}", "--insecure-skip-tls-verify"]
    kubectl += ["--token=made-up", "--kubeconfig=/dev/null"]

    def ready() -> bool:
        done = subprocess.run(
            [*kubectl, "get", "--raw", "/readyz"], capture_output=True, text=True, check=False
        )
        return done.stdout.strip() == "ok"

    with (
        running(store, tmp_path / "etcd.log", lambda: answers(client)),
        running(api, tmp_path / "api.log", ready, seconds=120),
    ):
        told = json.loads(run(*kubectl, "get", "--raw", "/version"))
        assert told["gitVersion"] == f"v{version('kubernetes', made)}"
        run(*kubectl, "create", "namespace", "loom")
        assert "loom" in run(*kubectl, "get", "namespaces", "--output=name")


@pytest.mark.long
def test_kubeadm_asks_for_images_that_are_built(built: Build) -> None:
    made = built("kubernetes")
    told = run(
        made.program("kubeadm"),
        "config",
        "images",
        "list",
        f"--kubernetes-version=v{version('kubernetes', made)}",
    )
    wanted = {line.rpartition(":")[0]: line.rpartition(":")[2] for line in told.splitlines() if "/" in line}
    images = dict(made.versions["images"])
    for name in ("coredns", "pause", "etcd"):
        images |= built(name).versions["images"]
    assert set(wanted) <= set(images)
    # etcd's release is the site's choice; kubeadm is told which
    assert not {
        name: tag for name, tag in wanted.items() if images[name]["tag"] != tag and "etcd" not in name
    }


@pytest.mark.long
def test_containerd_serves_crictl_and_runs_pause(built: Build, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("containerd runs as root")
    made, crictl, pause, runc = (built(name) for name in ("containerd", "crictl", "pause", "runc"))
    socket_path = tmp_path / "c.sock"
    (tmp_path / "config.toml").write_text(
        f"version = 3\nroot = '{tmp_path / 'root'}'\nstate = '{tmp_path / 'state'}'\n"
        f"[grpc]\naddress = '{socket_path}'\n[ttrpc]\naddress = '{tmp_path / 't.sock'}'\n"
    )
    # the shim is looked up beside containerd, runc on PATH
    folder = tmp_path / "bin"
    folder.mkdir()
    for each, program in (
        (made, "containerd"),
        (made, "ctr"),
        (made, "containerd-shim-runc-v2"),
        (runc, "runc"),
    ):
        (folder / program).symlink_to(each.program(program))
    env = {"PATH": f"{folder}:{os.environ['PATH']}"}
    ctr = (str(folder / "ctr"), "--address", str(socket_path))
    argv = [
        "env",
        f"PATH={env['PATH']}",
        str(folder / "containerd"),
        "--config",
        str(tmp_path / "config.toml"),
    ]

    def ready() -> bool:
        return subprocess.run([*ctr, "version"], capture_output=True, check=False).returncode == 0

    with running(argv, tmp_path / "log", ready):
        told = run(crictl.program("crictl"), "--runtime-endpoint", f"unix://{socket_path}", "version")
        assert f"v{version('containerd', made)}" in told
        with tarfile.open(tmp_path / "pause.tar", "w") as archive:
            archive.add(pause.output / "images", arcname=".")
        run(*ctr, "images", "import", "--local", "--snapshotter", "native", str(tmp_path / "pause.tar"))
        [(repository, record)] = pause.versions["images"].items()
        name = f"{repository}:{record['tag']}"
        assert record["digest"] in run(*ctr, "images", "list", f"name=={name}")
        apart = ["--fifo-dir", str(tmp_path / "fifo"), "--runc-root", str(tmp_path / "runc")]
        apart += ["--cgroup", f"/{tmp_path.name}", "--snapshotter", "native"]
        said = run(*ctr, "run", "--rm", *apart, name, "trial", "/pause", "-v", env=env)
        assert record["tag"] in said
    for place in ("/run/containerd/s", "/run/containerd"):  # where shims always listen
        with suppress(OSError):
            Path(place).rmdir()


@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    # Trainer's chart wants others in it: tests/render/test_job_operators.py puts them there.
    [name for name, each in PROJECTS.items() if "charts" in each and name != "kubeflow-trainer"],
)
def test_helm_renders_the_charts(name: str, built: Build) -> None:
    made, helm = built(name), built("helm")
    for record in made.versions["charts"].values():
        path = made.output / record["url"].removeprefix("file:")
        assert "kind: " in run(helm.program("helm"), "template", "trial", str(path))


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name, each in PROJECTS.items() if "images" in each])
def test_images_can_be_read_by_others(name: str, built: Build, tmp_path: Path) -> None:
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed")
    made = built(name)
    for repository in PROJECTS[name]["images"]:
        record = made.versions["images"][repository]
        place = f"oci:{made.output / 'images'}:{repository}:{record['tag']}"
        target = tmp_path / repository.replace("/", "-")
        run("skopeo", "--insecure-policy", "copy", "--quiet", "--preserve-digests", place, f"dir:{target}")
        told = hashlib.sha256((target / "manifest.json").read_bytes()).hexdigest()
        assert f"sha256:{told}" == record["digest"]
