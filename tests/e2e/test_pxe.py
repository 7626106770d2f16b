"""Bare machines, switched on through their management controllers, become nodes of the lab's cluster.

The machines are virtual, but all that talks to them is real: Redfish over TLS, DHCP, TFTP, HTTP, the firmware's own
network boot, the installer. The tests run in this order on one lab. Those marked `long` are for `scripts/test.sh pxe`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import ROOT, Lab

DISK, MEMORY = "disk01", "mem01"
BOTH = (DISK, MEMORY)
PATIENCE = "1200"
"""Seconds that an emulated machine may stand still on a busy machine; nothing waits so long when all is well."""
BOOT = "/srv/rackloom/boot/http"


class PxeLab(Lab):
    """A lab with a machine room."""

    name = "pxe"
    config = ROOT / ".lab" / "pxe" / "config"

    def machines(self, *words: str) -> Any:
        """Run `rackloom lab vm WORDS` and return its data."""
        return self.call("lab", "vm", *words, "--name", self.name).must().data

    def console(self, machine: str) -> str:
        """Return what a machine wrote to its serial line, without the screen control."""
        said = self.machines("log", machine)["log"]
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said)

    def on(self, machine: str, command: str, *, check: bool = True) -> str:
        """Run a command on a machine by SSH, with its host key checked."""
        return self.ssh(machine, command, check=check)

    def answers(self, machine: str) -> bool:
        """Tell whether a machine lets us in."""
        return self.on(machine, "echo welcome", check=False).endswith("welcome")

    def installs_at_next_boot(self, machine: str) -> bool:
        """Ask the boot server, as the machine's firmware would."""
        mac = self.mac(machine).replace(":", "-")
        ask = f"urllib.request.urlopen('http://{self.server}:8080/nodes/{mac}/boot.ipxe').read().decode()"
        return "set mode install" in self.ssh("mgmt01", f'python3 -c "import urllib.request; print({ask})"')

    @property
    def server(self) -> str:
        """The boot server's address."""
        nodes = yaml.safe_load((self.config / "nodes.yml").read_text())
        return str(nodes["management"][0]["address"])

    def mac(self, machine: str) -> str:
        """Return a machine's hardware address."""
        rows = self.machines("list")["machines"]
        return next(str(row["mac"]) for row in rows if row["name"] == machine)

    def change(
        self, file: str, change: Callable[[dict[str, Any]], None]
    ) -> contextlib.AbstractContextManager[None]:
        """Change a file of the site for the length of a block."""
        path = self.config / file

        @contextlib.contextmanager
        def changed() -> Iterator[None]:
            before = path.read_text()
            data = yaml.safe_load(before)
            change(data)
            path.write_text(yaml.safe_dump(data))
            try:
                yield
            finally:
                path.write_text(before)

        return changed()


class Provisioning:
    """`rackloom provision` in a process of its own, followed line by line."""

    def __init__(self, lab: PxeLab, *words: str) -> None:
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [str(ROOT / ".venv/bin/rackloom"), "provision", *words, "--timeout", PATIENCE],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env={**os.environ, "RACKLOOM_CONFIG": str(lab.config)},
        )
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self.lines.append(line)

    @property
    def text(self) -> str:
        """All that it said."""
        return "".join(self.lines)

    def said(self, pattern: str) -> bool:
        """Tell whether a line matches; fails the test where the command has ended without."""
        found = any(re.search(pattern, line) for line in list(self.lines))
        assert found or self.process.poll() is None, self.text
        return found

    def interrupt(self) -> int:
        """Press Ctrl-C and return the exit code."""
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(timeout=60)
        self._thread.join(timeout=10)
        return code

    def kill(self) -> None:
        """End it, should a test have left it."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def build_images(lab: PxeLab) -> None:
    """Build the image once; the one for memory has the same content."""
    lab.call("image", "build", "compute").must()
    shutil.rmtree(lab.config / "images/stateless", ignore_errors=True)
    shutil.copytree(
        lab.config / "images/compute", lab.config / "images/stateless", symlinks=True, copy_function=os.link
    )


@pytest.fixture(scope="module")
def lab() -> Iterator[PxeLab]:
    """A deployed cluster of containers beside two machines that are off and empty; removed at the end."""
    it = PxeLab()
    try:
        it.fresh("--compute", "1", "--no-deploy")
        it.machines("add", DISK, "--cpus", "1")
        it.machines("add", MEMORY, "--cpus", "1", "--image", "stateless")
        with ThreadPoolExecutor() as pool:
            # The first waits for packages, the second packs: side by side they take little more than one.
            built = pool.submit(build_images, it)
            deployed = pool.submit(it.call, "deploy", "--limit", "mgmt01,login01,gpu01")
            deployed.result().must()
            built.result()
        yield it
    finally:
        if not os.environ.get("RACKLOOM_E2E_KEEP"):
            it.call("lab", "down", "--name", it.name)


@pytest.fixture(scope="module")
def up(lab: PxeLab) -> Any:
    """Both machines, provisioned; the disk machine lost its power half way through."""
    provisioning = Provisioning(lab, DISK)
    try:
        lab.await_that("it writes to the disk", lambda: provisioning.said(rf"{DISK}: writing"), 900)
        assert provisioning.interrupt() == 130, provisioning.text
    finally:
        provisioning.kill()
    assert "rackloom provision" in provisioning.text, "no word of how to go on"
    lab.call("node", "power", "off", DISK).must()
    # Half an install: no system that starts, and still armed.
    assert lab.installs_at_next_boot(DISK)
    lab.call("node", "boot", "disk", DISK, "--once").must()
    before = len(lab.console(DISK))
    lab.call("node", "power", "on", DISK).must()
    lab.await_that(
        "the firmware finds nothing to start",
        lambda: re.search(r"No bootable option|BdsDxe: failed to|Shell>", lab.console(DISK)[before:]),
        900,
    )
    lab.call("node", "power", "off", DISK).must()
    return lab.call("provision", *BOTH, "--timeout", PATIENCE).must()


def test_a_disk_and_a_memory_machine_come_up_after_a_power_cut(lab: PxeLab, up: Any) -> None:
    nodes = up.data["nodes"]
    assert {name: row["state"] for name, row in nodes.items()} == dict.fromkeys(BOTH, "up"), up.said
    assert list(nodes[DISK]["stages"]) == ["powered", "DHCP", "kernel", "writing", "rebooting", "SSH"]
    assert "writing" not in nodes[MEMORY]["stages"]
    known = (lab.config / "known_hosts").read_text()
    assert all(f",{name} ssh-" in known for name in BOTH)
    assert lab.on(DISK, "findmnt -no SOURCE /").startswith("/dev/")
    assert lab.on(MEMORY, "findmnt -no FSTYPE /") == "overlay"
    for name in BOTH:
        assert lab.on(name, "hostname") == name


def test_they_join_the_cluster_and_run_a_job(lab: PxeLab, up: Any) -> None:
    lab.call("deploy", "--limit", f"{DISK},{MEMORY},slurm_controller,name_server").must()
    lab.await_that(
        "both are idle",
        lambda: lab.ssh("login01", f"sinfo -h -n {DISK},{MEMORY} -o %T").split() == ["idle"],
        600,
    )
    out = lab.as_user(f"cd /tmp && srun -w {DISK},{MEMORY} -N2 hostname")
    assert sorted(line.split(".")[0] for line in out.splitlines()) == sorted(BOTH)


def test_nothing_arms_a_node_that_runs(lab: PxeLab, up: Any) -> None:
    lab.on(DISK, "touch /var/tmp/mine")
    boot_id = lab.on(DISK, "cat /proc/sys/kernel/random/boot_id")
    lab.call("deploy", "--limit", "mgmt01").must()
    again = lab.call("provision", *BOTH).must()
    assert {row["state"] for row in again.data["nodes"].values()} == {"kept"}, again.said
    lab.ssh("mgmt01", "systemctl restart rackloom-dhcp.service rackloom-boot-http.service")
    assert not lab.installs_at_next_boot(DISK)

    # Its firmware asks the network first, and is sent to the disk.
    lab.call("node", "boot", "pxe", DISK, "--once").must()
    lab.call("node", "power", "cycle", DISK).must()
    lab.await_that(
        "it is back from its disk",
        lambda: (
            (now := lab.on(DISK, "cat /proc/sys/kernel/random/boot_id", check=False)) != boot_id
            and re.fullmatch(r"[0-9a-f-]{36}", now)
        ),
        900,
    )
    assert lab.on(DISK, "ls /var/tmp/mine") == "/var/tmp/mine"
    asked = lab.ssh("mgmt01", "tail -n 50 /var/log/rackloom/boot-http.log")
    assert "/local.ipxe" in asked


@pytest.mark.long
def test_a_node_without_a_disk_is_known_again_after_it_restarted(lab: PxeLab, up: Any) -> None:
    """Its host keys are new each time; the next run learns them from the boot server."""
    before = (lab.config / "known_hosts").read_text()
    lab.call("node", "boot", "pxe", MEMORY, "--once").must()
    lab.call("node", "power", "cycle", MEMORY).must()
    told = f"cat {BOOT}/nodes/{lab.mac(MEMORY).replace(':', '-')}/armed/booted.json"
    old = lab.ssh("mgmt01", told)
    lab.await_that("it has told its new keys", lambda: lab.ssh("mgmt01", told) != old, 900)
    lab.call("deploy", "base", "--limit", f"{MEMORY},name_server").must()
    assert (lab.config / "known_hosts").read_text() != before
    assert lab.on(MEMORY, "hostname") == MEMORY


def test_one_bad_node_has_its_message_and_the_others_go_on(lab: PxeLab, up: Any) -> None:
    """An unreachable controller and a wrong hardware address, beside a node that is well."""
    stranger = "02:00:00:de:ad:01"

    def spoil(nodes: dict[str, Any]) -> None:
        own = next(node for node in nodes["compute"] if node["name"] == DISK)
        common = {"profile": own["profile"], "image": "compute"}
        room = re.sub(r"/Systems/.*", "", own["bmc"])
        nodes["compute"] += [
            {**common, "name": "nobmc", "address": spare(own["address"], 48), "mac": "02:00:00:de:ad:02",
             "bmc": room.replace(":8000", ":8001") + "/Systems/none"},
            {**common, "name": "wrongmac", "address": spare(own["address"], 49), "mac": stranger,
             "bmc": f"{room}/Systems/{extra['uuid']}"},
        ]  # fmt: skip

    extra = next(
        row for row in lab.machines("add", "extra", "--memory", "1024")["machines"] if row["name"] == "extra"
    )
    (lab.config / "nodes.yml").write_text(without(lab.config / "nodes.yml", "extra"))
    try:
        with lab.change("nodes.yml", spoil):
            answer = lab.call("provision", "nobmc", "wrongmac", DISK, "--timeout", "100").must(1)
    finally:
        lab.machines("remove", "extra")
    nodes, errors = answer.data["nodes"], {error["host"]: error for error in answer.envelope["errors"]}
    assert nodes[DISK]["state"] == "kept"
    assert set(errors) == {"nobmc", "wrongmac"}
    assert ":8001" in errors["nobmc"]["message"] and errors["nobmc"]["cure"]
    assert stranger in errors["wrongmac"]["message"] and extra["mac"] in errors["wrongmac"]["message"]
    assert "nodes.yml" in errors["wrongmac"]["cure"]


def spare(address: str, host: int) -> str:
    """Return another address of the same network."""
    return f"{address.rpartition('.')[0]}.{host}"


def without(path: Path, name: str) -> str:
    """Return nodes.yml without one compute node: the machine is there, and the site does not know it."""
    nodes = yaml.safe_load(path.read_text())
    nodes["compute"] = [node for node in nodes["compute"] if node["name"] != name]
    return yaml.safe_dump(nodes)


# --- scripts/test.sh pxe -------------------------------------------------------------------


@pytest.mark.long
def test_a_machine_whose_address_nobody_knows_reports_itself(lab: PxeLab) -> None:
    """It boots into memory, tells what it is made of, and is written into nodes.yml."""
    row = next(
        row
        for row in lab.machines("add", "found01", "--memory", "1024")["machines"]
        if row["name"] == "found01"
    )

    def forget(nodes: dict[str, Any]) -> None:
        next(node for node in nodes["compute"] if node["name"] == "found01").pop("mac")

    def strangers(cluster: dict[str, Any]) -> None:
        base = lab.server.rpartition(".")[0]
        cluster["provision"]["unknown"] = "discover"
        cluster["provision"].setdefault("dhcp", {})["pool"] = [f"{base}.200", f"{base}.210"]

    def reported() -> dict[str, Any] | None:
        found: dict[str, Any] = lab.call("node", "discover").must().data
        return next((one for one in found["machines"] if one["mac"] == row["mac"]), None)

    try:
        with lab.change("nodes.yml", forget), lab.change("cluster.yml", strangers):
            lab.call("provision", DISK).must()  # which brings the boot server up to date
            lab.call("node", "boot", "pxe", "found01", "--once").must()
            lab.call("node", "power", "on", "found01").must()
            lab.await_that("it has reported itself", lambda: reported() is not None, 900)
            told = reported()
            assert told is not None and told["cores"] >= 1 and told["memory_mb"] > 700, told
            lab.call("node", "discover", row["mac"], "--write", "--name", "found01").must()
            nodes = yaml.safe_load((lab.config / "nodes.yml").read_text())
            assert next(node for node in nodes["compute"] if node["name"] == "found01")["mac"] == row["mac"]
    finally:
        lab.machines("remove", "found01")


@pytest.mark.long
def test_a_bios_machine_installs_too(lab: PxeLab) -> None:
    lab.machines("add", "bios01", "--cpus", "1", "--firmware", "bios")
    try:
        answer = lab.call("provision", "bios01", "--timeout", PATIENCE).must()
        assert answer.data["nodes"]["bios01"]["state"] == "up", answer.said
        assert lab.on("bios01", "test -d /sys/firmware/efi || echo bios") == "bios"
        lab.call("deploy", "--limit", "bios01,slurm_controller,name_server").must()
        out = lab.as_user("cd /tmp && srun -w bios01 hostname")
        assert out.split(".")[0] == "bios01"
    finally:
        lab.machines("remove", "bios01")


@pytest.mark.long
def test_a_disk_that_is_too_small_is_told(lab: PxeLab) -> None:
    lab.machines("add", "small01", "--cpus", "1", "--disk", "0.3")
    try:
        answer = lab.call("provision", "small01", "--timeout", PATIENCE).must(1)
    finally:
        lab.machines("remove", "small01")
    (error,) = answer.envelope["errors"]
    assert error["host"] == "small01" and "disk" in error["message"] and error["cure"]


@pytest.mark.long
def test_an_image_that_is_not_what_it_should_be_is_not_written(lab: PxeLab) -> None:
    lab.machines("add", "digest01", "--cpus", "1")
    squashed = ""
    provisioning = Provisioning(lab, "digest01")
    try:
        lab.await_that("it is on", lambda: provisioning.said("digest01: powered"), 300)
        squashed = lab.ssh("mgmt01", f"readlink -f {BOOT}/images/compute/current/root.squashfs")
        # The last byte is padding: the file system works, its digest does not.
        lab.ssh("mgmt01", f"cp -p {squashed} {squashed}.good && printf x | dd of={squashed} bs=1 conv=notrunc "
                f"seek=$(($(stat -c %s {squashed}) - 1)) status=none")  # fmt: skip
        assert provisioning.process.wait(timeout=1200) == 1, provisioning.text
    finally:
        provisioning.kill()
        lab.ssh("mgmt01", f"mv {squashed}.good {squashed}", check=False)
        lab.machines("remove", "digest01")
    assert re.search(r"digest01.*root\.squashfs", provisioning.text), provisioning.text


@pytest.mark.long
@pytest.mark.parametrize("fault", ["password", "certificate"])
def test_a_controller_that_is_not_to_be_trusted_is_named(lab: PxeLab, fault: str) -> None:
    def other_authority(cluster: dict[str, Any]) -> None:
        cluster["provision"]["bmc"].pop("ca_file")

    lab.machines("add", "spare01", "--cpus", "1")
    before = lab.config / "group_vars/all/secrets.yml"
    kept = before.read_bytes()
    try:
        if fault == "password":
            set_secret(lab, "bmc_password", "not-this-one")
            answer = lab.call("provision", "spare01").must(1)
        else:
            with lab.change("cluster.yml", other_authority):
                answer = lab.call("provision", "spare01").must(1)
    finally:
        before.write_bytes(kept)
        lab.machines("remove", "spare01")
    (error,) = answer.envelope["errors"]
    assert error["host"] == "spare01" and fault in error["message"].lower() and error["cure"]
    assert "not-this-one" not in json.dumps(answer.envelope) + answer.said


def set_secret(lab: PxeLab, name: str, value: str) -> None:
    """Type a secret."""
    subprocess.run(
        [str(ROOT / ".venv/bin/rackloom"), "secrets", "set", name],
        input=value,
        text=True,
        check=True,
        capture_output=True,
        env={**os.environ, "RACKLOOM_CONFIG": str(lab.config)},
    )
