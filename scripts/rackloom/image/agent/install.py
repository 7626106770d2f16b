"""Put the image onto the node's disk: check everything, write, and make it bootable with the very last step."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from . import digests, disks, identity, loader, memory, programs
from .trouble import TroubleError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from .disks import Disk, Plan
    from .order import Order
    from .server import Server

SCRATCH = Path("/run/rackloom")
MARKER = "etc/rackloom/installed.json"
_KERNEL, _INITRD = "vmlinuz", "initrd"
_DEVICE_WAIT = 30.0
_FULL = "No space left on device"


class Source(NamedTuple):
    """What is written: files whose digests have been checked."""

    root: Path
    kernel: Path
    initrd: Path
    record: Mapping[str, Any]


def install(server: Server, order: Order, say: Callable[[str], None]) -> None:
    """Install this node. Raises TroubleError where it cannot be; its disk does not boot then."""
    node = server.node()
    server.report("started", image=order.image, image_id=order.image_id)
    memory.set_clock(server.time)
    identity.check(node)
    _check_arming(server.armed(), order)
    say(f"this is {node['name']}; checking the image")
    source = fetch(server, order)
    plan = disks.plan(node.get("layout") or {}, disks.found(), int(source.record.get("installed_size") or 0))
    names = [disk.path for disk in plan.disks]
    say(f"partitioning {' and '.join(names)}")
    server.report("partitioning", disks=names)
    uuids = partition(plan)
    say("writing")
    server.report("writing", size=source.record.get("installed_size", 0))
    with mounted(plan, SCRATCH / "root") as root:
        write(root, source)
        say("identity")
        server.report("identity")
        keys = personalize(root, node, plan, uuids)
        say("boot loader")
        server.report("bootloader")
        make_bootable(root, node, plan, uuids, (source.record["kernel"], order))
    loader.enter(plan.disks[0].path, 2)
    with contextlib.suppress(TroubleError):
        programs.run("hwclock", "--systohc", "--utc")
    server.report("installed", host_keys=keys, disk=names[0], disks=names, image_id=order.image_id)
    say("installed")


def fetch(server: Server, order: Order, scratch: Path = SCRATCH) -> Source:
    """Everything that is going to be written, in memory and checked. Raises TroubleError on a digest that differs."""
    record = server.image()
    digests.check_record(record, order.image_id)
    root = digests.root_file()
    digests.check_file(root, record, digests.ROOT)
    scratch.mkdir(parents=True, exist_ok=True)
    for name in (_KERNEL, _INITRD):
        digests.check_digest(server.download(name, scratch / name), record, name)
    return Source(root, scratch / _KERNEL, scratch / _INITRD, record)


def partition(plan: Plan) -> dict[str, str]:
    """Wipe the plan's disks, cut them up and make the file systems; returns device -> UUID.

    The old partition table goes first: from here on the disk does not boot until everything is done.
    """
    _let_go(plan)
    for disk in plan.disks:
        _wipe(disk)
        programs.run("sgdisk", *disks.table(plan), disk.path)
    _settle(plan)
    for disk in plan.disks:
        for number in range(1, 3 + len(plan.parts)):
            programs.run("wipefs", "--all", "--quiet", disk.partition(number))
    if plan.raid:
        for part in plan.parts:
            members = [disk.partition(plan.number(part)) for disk in plan.disks]
            name = part.mount.strip("/").replace("/", "-") or part.filesystem
            programs.run(
                *(
                    "mdadm",
                    "--create",
                    plan.device(part),
                    "--run",
                    "--level=1",
                    f"--raid-devices={len(members)}",
                ),
                *("--metadata=1.2", "--bitmap=internal", "--homehost=any", f"--name={name}", *members),
            )
    uuids = {}
    for disk in plan.disks:
        serial = uuid.uuid4().hex[:8].upper()
        programs.run("mkfs.vfat", "-F", "32", "-n", "EFI", "-i", serial, disk.partition(2))
        uuids[disk.partition(2)] = f"{serial[:4]}-{serial[4:]}"
    for part in plan.parts:
        uuids[plan.device(part)] = _make_filesystem(plan.device(part), part.filesystem)
    return uuids


@contextlib.contextmanager
def mounted(plan: Plan, root: Path) -> Iterator[Path]:
    """The plan's file systems under `root`, until the block ends; everything is on the disk after it."""
    points: list[Path] = []
    try:
        for part in sorted(plan.parts, key=lambda one: one.mount):
            if part.mount:
                _mount(plan.device(part), root / part.mount.strip("/"), points)
        for disk in plan.disks:
            _mount(disk.partition(2), esp(root, plan, disk), points)
        yield root
    finally:
        os.sync()
        for point in reversed(points):
            programs.run("umount", str(point))


def esp(root: Path, plan: Plan, disk: Disk) -> Path:
    """Where a disk's EFI system partition is mounted: the first one where the system expects it."""
    return root / "boot/efi" if disk is plan.disks[0] else root / "boot/efi2"


def write(root: Path, source: Source) -> None:
    """Unpack the image and lay its kernel beside. Raises TroubleError where the disk is too full or fails."""
    try:
        programs.run("unsquashfs", "-quiet", "-no-progress", "-force", "-dest", str(root), str(source.root))
        root.chmod(0o755)
        kernel = source.record["kernel"]
        shutil.copyfile(source.kernel, root / "boot" / f"vmlinuz-{kernel}")
        shutil.copyfile(source.initrd, root / "boot" / f"initrd.img-{kernel}")
        os.sync()
    except (programs.ProgramError, OSError) as error:
        if _FULL in (getattr(error, "said", "") or str(error)):
            raise TroubleError(
                f"disk full: the image does not fit into what the layout gives ({_room(root)})",
                "make the partitions larger in the layout, or build a smaller image",
            ) from error
        if isinstance(error, OSError):
            raise TroubleError(f"writing failed: {error}", "check the node's disk") from error
        raise


def personalize(root: Path, node: Mapping[str, Any], plan: Plan, uuids: Mapping[str, str]) -> list[str]:
    """Make the written system this node; returns its public host keys."""
    identity.write(root, node, stable_id=True)
    (root / "etc/fstab").write_text(fstab(plan, uuids), encoding="ascii")
    return identity.host_keys(root)


def fstab(plan: Plan, uuids: Mapping[str, str]) -> str:
    """What is mounted where."""
    lines = []
    for part in sorted(plan.parts, key=lambda one: one.mount):
        name = f"UUID={uuids[plan.device(part)]}"
        if part.filesystem == disks.SWAP:
            lines.append(f"{name} none swap sw 0 0")
        else:
            check = 0 if part.filesystem == "xfs" else 1 if part.mount == "/" else 2
            options = "errors=remount-ro" if part.filesystem == "ext4" else "defaults"
            lines.append(f"{name} {part.mount} {part.filesystem} {options} 0 {check}")
    # A node whose first disk died still boots from the second: this one may be missing.
    first = uuids[plan.disks[0].partition(2)]
    lines.append(f"UUID={first} /boot/efi vfat umask=0077,nofail 0 0")
    return "\n".join(lines) + "\n"


def make_bootable(
    root: Path, node: Mapping[str, Any], plan: Plan, uuids: Mapping[str, str], system: tuple[str, Order]
) -> None:
    """The last step. GRUB without its menu boots nothing, so the menu comes at the end, whole or not at all."""
    kernel, order = system
    console = str(node.get("console") or "")
    own = next(part for part in plan.parts if part.mount == "/")
    boot = next((part for part in plan.parts if part.mount == "/boot"), None)
    places = loader.Places(
        uuids[plan.device(own)], uuids[plan.device(boot or own)], "" if boot is not None else "/boot"
    )
    (root / "etc/default").mkdir(exist_ok=True)
    (root / "etc/default/grub").write_text(loader.settings(console, order.options), encoding="ascii")
    loader.install(root, [disk.path for disk in plan.disks], [esp(root, plan, disk) for disk in plan.disks])
    marker = root / MARKER
    marker.parent.mkdir(parents=True, exist_ok=True)
    facts = {
        "name": node["name"],
        "image": order.image,
        "image_id": order.image_id,
        "installed": int(time.time()),
    }
    marker.write_text(json.dumps(facts, sort_keys=True) + "\n", encoding="ascii")
    os.sync()
    unfinished = root / "boot/grub/grub.cfg.new"
    unfinished.write_text(loader.menu(places, kernel, console, order.options), encoding="ascii")
    os.sync()
    unfinished.replace(root / "boot/grub/grub.cfg")


def _check_arming(armed: Mapping[str, Any], order: Order) -> None:
    if not armed:
        raise TroubleError(
            "this node is not armed, so nothing is written",
            "arm it: rackloom provision NODE; then start it again",
        )
    if armed.get("image_id") and str(armed["image_id"]) != order.image_id:
        raise TroubleError(
            f"armed for image {armed['image_id']}, but {order.image_id} was booted", "start the node again"
        )


def _let_go(plan: Plan) -> None:
    """Stop whatever the kernel found on old disks and uses: arrays and swap."""
    with contextlib.suppress(programs.ProgramError):
        programs.run("swapoff", "--all")
    wanted = {Path(disk.path).name for disk in plan.disks}
    for array in sorted(Path("/sys/block").glob("md*")):
        members = {path.name for path in (array / "slaves").glob("*")}
        if any(member.startswith(disk) for member in members for disk in wanted):
            programs.run("mdadm", "--stop", f"/dev/{array.name}")


def _wipe(disk: Disk) -> None:
    """Take every trace of an older system: signatures in its partitions, its table, its boot code."""
    for path in sorted(Path("/dev").glob(f"{Path(disk.path).name}*")):
        if str(path) != disk.path and path.is_block_device():
            with contextlib.suppress(programs.ProgramError):
                programs.run("mdadm", "--zero-superblock", "--force", str(path))
            with contextlib.suppress(programs.ProgramError):
                programs.run("wipefs", "--all", "--force", "--quiet", str(path))
    programs.run("wipefs", "--all", "--force", "--quiet", disk.path)
    with contextlib.suppress(programs.ProgramError):  # it complains about a table that was damaged already
        programs.run("sgdisk", "--zap-all", disk.path)


def _settle(plan: Plan) -> None:
    """Wait until the kernel shows the new partitions."""
    wanted = [disk.partition(number) for disk in plan.disks for number in range(1, 3 + len(plan.parts))]
    with contextlib.suppress(programs.ProgramError):
        programs.run("udevadm", "settle", "--timeout=20")
    until = time.monotonic() + _DEVICE_WAIT
    while missing := [path for path in wanted if not Path(path).exists()]:
        if time.monotonic() > until:
            raise TroubleError(
                f"{missing[0]} does not appear after partitioning", "check the disk; start the node again"
            )
        for disk in plan.disks:
            with contextlib.suppress(programs.ProgramError):
                programs.run("partx", "--update", disk.path)
        time.sleep(0.2)


def _make_filesystem(device: str, kind: str) -> str:
    name = str(uuid.uuid4())
    if kind == "ext4":
        programs.run("mkfs.ext4", "-q", "-F", "-U", name, "-E", "lazy_itable_init=1,nodiscard", device)
    elif kind == "xfs":
        programs.run("mkfs.xfs", "-q", "-f", "-K", "-m", f"uuid={name}", device)
    elif kind == disks.SWAP:
        programs.run("mkswap", "-U", name, device)
    else:
        raise TroubleError(
            f"the disk layout has a file system '{kind}'", "choose ext4, xfs or swap in cluster.yml"
        )
    return name


def _mount(device: str, point: Path, points: list[Path]) -> None:
    point.mkdir(parents=True, exist_ok=True)
    programs.run("mount", device, str(point))
    points.append(point)


def _room(root: Path) -> str:
    usage = shutil.disk_usage(root)
    return f"{usage.total / (1 << 30):.1f} GiB, {usage.free >> 20} MiB of it free"
