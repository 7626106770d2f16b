"""The two files of a site as typed models: cluster.yml (what) and nodes.yml (where).

These models say what one value may look like; `rackloom.site.check` compares values with each other.
Unknown keys are refused. Docstrings and descriptions end up in the JSON Schemas that editors use.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from . import fields as f
from .models_gpu import GpuStack
from .models_kubernetes import Kubernetes
from .models_logging import Logging
from .models_mirror import Mirror
from .models_monitoring import Monitoring
from .models_provision import Provision
from .models_web import Web
from .part import Count, Part, Whole

# ---------------------------------------------------------------- nodes.yml


class Gpu(Part):
    """GPUs of one type in a node."""

    type: f.GpuType = Field(description="Slurm's name of the type, as in --gres=gpu:a100:1")
    product: f.Text = Field(
        "",
        description="Which GPU it is exactly, like a100-sxm4-80gb; left out: any that goes by the type's name",
    )
    count: Annotated[int, f.NoBool, Field(ge=1, le=64)] = Field(description="How many of them a node has")
    files: f.Text = Field("", description="Device files; left out: /dev/nvidia0 and on")
    mig: dict[str, Annotated[int, f.NoBool, Field(ge=1, le=7)]] = Field(
        {}, description="MIG slices each GPU is cut into: {3g.20gb: 2}; the slice names become the types"
    )


class Profile(Part):
    """One kind of hardware, named by the nodes that are built of it."""

    sockets: Count = Field(1, description="CPU sockets")
    cores: Count = Field(description="Cores per socket")
    threads: Count = Field(1, description="Threads per core")
    memory: f.MemorySize = Field(
        description="MiB as `free -m` shows (a number, or 4000M), or the size on the parts list (256G), "
        "of which 97 % are counted on because Linux never sees all of it"
    )
    reserved_memory: f.MemorySize = Field(
        f.Memory(-1, False), description="Kept from jobs for the system; left out: 2 %, at most 8G"
    )
    gpus: list[Gpu] = Field([], description="GPUs by type")
    features: f.Names = Field([], description="Slurm features (constraints)")
    tmp_disk: f.MemorySize = Field(f.Memory(0, False), description="Size of the local scratch disk")
    weight: Whole = Field(1, description="Slurm takes nodes of low weight first")
    options: f.Settings = Field({}, description="Further Key: Value of the slurm.conf node line")
    firmware: f.Firmware = Field("uefi", description="How these nodes boot: uefi or bios")
    layout: f.Text = Field("", description="One of provision.layouts; left out: the image's")
    console: f.Console = Field("", description="Serial console, like ttyS0,115200n8; left out: the screen")
    labels: f.Labels = Field({}, description="Labels that these nodes have in Kubernetes")
    taints: f.Taints = Field([], description="Taints that they have there, like gpu=yes:NoSchedule")


class NodeEntry(Part):
    """One node, or a range of like nodes."""

    name: f.Text = Field(description="Host name, or a range like gpu[001-128]")
    address: Annotated[f.PerNode, f.Blank("")] = Field(
        description="First address (counts up along the range), a range, a list, or a map name: address"
    )
    profile: f.Text = Field("", description="Which of the profiles above")
    mac: f.PerNode = Field("", description="MAC of the boot interface: one, a list, or a map name: mac")
    bmc: f.PerNode = Field(
        "",
        description="Address of the BMC, in the same notations as address, or the URL of its Redfish system "
        "(https://host/redfish/v1/Systems/1); none = somebody presses the button",
    )
    serial: f.PerNode = Field("", description="Serial number: one, a list, or a map")
    image: f.Text = Field("", description="One of provision.images; left out: what provision.assign says")
    switch_port: f.PerNode = Field(
        "", description="Switch and port that the node hangs on, as LLDP tells them: leaf1/Ethernet7"
    )
    gpus: Annotated[int, f.NoBool, Field(ge=0)] | None = Field(
        None, description="GPUs you counted in each node; refused if the profile says otherwise"
    )
    labels: f.Labels = Field({}, description="Kubernetes labels beside, or instead of, the profile's")
    taints: f.Taints = Field([], description="Kubernetes taints beside the profile's")
    vars: dict[str, Any] = Field({}, description="Ansible host variables")


class NodesFile(Part):
    """nodes.yml: where things are. Hardware profiles and three lists of nodes."""

    profiles: dict[f.ProfileName, Profile] = Field({}, description="Kinds of hardware, by name")
    management: list[NodeEntry] = Field([], description="Nodes that run the services")
    login: list[NodeEntry] = Field([], description="Nodes people log in to")
    compute: list[NodeEntry] = Field([], description="Nodes that run jobs")


# ---------------------------------------------------------------- cluster.yml


class Network(Part):
    """One subnet."""

    cidr: f.Cidr = Field(description="Like 10.10.0.0/16")
    gateway: f.Address = Field("", description="Address of its router")


class Ssh(Part):
    """How the controlling machine reaches the nodes."""

    user: f.UserName = Field("root", description="User to log in as")
    port: Annotated[int, f.NoBool, Field(ge=1, le=65535)] = Field(
        22, description="TCP port of sshd on the nodes"
    )
    private_key: f.Text = Field(
        "",
        description="Key file, relative to this folder; left out: ssh/id_ed25519 if it is there, else ssh's own",
    )
    known_hosts: f.Text = Field("known_hosts", description="File of host keys, relative to this folder")


class Time(Part):
    """Clocks."""

    timezone: f.Text = Field("Etc/UTC", description="Like Europe/Berlin")
    upstream: f.HostsOrAddresses = Field(
        ["pool.ntp.org"],
        description="Time servers outside; [] = none, the management nodes keep time themselves",
    )


class Dns(Part):
    """Name resolution."""

    upstream: f.Addresses = Field([], description="Resolvers outside, by address")
    search: f.Domains = Field([], description="Search domains after our own")


class PackageSource(Part):
    """One package source in deb822 terms; other systems' fields go into options."""

    name: f.Word = Field(description="Name of the file on the nodes")
    types: f.Names = Field(["deb"], description="deb, deb-src")
    uris: f.Uris = Field([], description="Where the packages are")
    suites: f.SourceWords = Field([], description="Like bookworm")
    components: f.SourceWords = Field([], description="Like main")
    architectures: f.SourceWords = Field([], description="Like amd64")
    signed_by: f.Text = Field("", description="Key file on the node")
    trusted: bool = Field(False, description="Accept it unsigned")
    options: f.Settings = Field({}, description="Further fields; for a .repo file all of them, like baseurl")


class Packages(Part):
    """Where the nodes take packages from."""

    sources: list[PackageSource] = Field([], description="[] = leave the node's own")
    proxy: f.Proxy = Field("", description="HTTP proxy for package downloads")
    extra: f.Packages = Field([], description="Packages every node gets")


class User(Part):
    """A person on the cluster."""

    name: f.UserName = Field(description="Login name")
    uid: Annotated[int, f.NoBool, Field(ge=1000, le=4294967293)] = Field(
        description="User number, the same on all nodes"
    )
    gid: Annotated[int, f.NoBool, Field(ge=100, le=4294967293)] | None = Field(
        None, description="Group number; left out: the uid"
    )
    keys: f.SshKeys = Field([], description="Public SSH keys")
    admin: bool = Field(False, description="May become root, and logs in everywhere")
    groups: f.UserNames = Field([], description="Further groups")
    shell: f.AbsolutePath = Field("/bin/bash", description="Login shell")
    home: f.AbsolutePath = Field("", description="Home; left out: /home/<name>")
    comment: f.Comment = Field("", description="Full name")
    state: f.Presence = Field("present", description="absent removes the account")


class CheckUser(Part):
    """The ordinary user `rackloom validate` runs its jobs as."""

    name: f.UserName = Field("rackloom-check", description="Login name")
    uid: Annotated[int, f.NoBool, Field(ge=1000, le=4294967293)] = Field(59990, description="User number")


class Limit(Part):
    """One line of limits.conf."""

    domain: f.LimitDomain = Field("*", description="User, @group or *")
    type: f.LimitType = Field("-", description="soft, hard or - for both")
    item: f.LimitItem = Field(description="What is limited")
    value: f.Text = Field(description="A number or unlimited")


ALL_NODES = "all"
PROFILE_PREFIX = "profile:"


class Partition(Part):
    """A Slurm partition."""

    name: f.PartitionName
    nodes: f.Words = Field(["all"], description="all, profile:<name>, names or ranges")
    default: bool | None = Field(None, description="Jobs that name no partition come here")
    max_time: f.SlurmTime = Field("UNLIMITED", description="Longest job, like 1-00:00:00")
    default_time: f.SlurmTime = Field("", description="Time of a job that asks for none")
    priority: Annotated[int, f.NoBool, Field(ge=0, le=65533)] = Field(
        1, description="Jobs of higher tiers go first and may preempt"
    )
    state: f.PartitionState = Field("UP", description="State")
    qos: f.Word = Field("", description="QOS whose limits hold in this partition")
    allow_accounts: f.Names = Field([], description="Only these accounts; [] = all")
    allow_groups: f.UnixGroups = Field([], description="Only these Unix groups; [] = all")
    allow_qos: f.Names = Field([], description="Only these QOS; [] = all")
    preempt_mode: f.PreemptMode = Field("", description="Preempt mode of its jobs, where it differs")
    oversubscribe: f.OverSubscribe = Field("", description="Slurm's OverSubscribe")
    options: f.Settings = Field({}, description="Further Key: Value of the slurm.conf partition line")


class Qos(Part):
    """A quality of service."""

    name: f.Word = Field(description="Name")
    priority: Whole = Field(0, description="Jobs of higher QOS go first")
    preempt: f.Names = Field([], description="QOS whose jobs this one may preempt")
    preempt_mode: f.QosPreemptMode = Field("", description="What happens to a preempted job of this QOS")
    flags: f.Words = Field([], description="sacctmgr flags, like DenyOnLimit")
    description: f.Text = Field("", description="Free text")
    max_jobs_per_user: Whole | None = Field(None, description="Running jobs a user may have")
    max_submit_per_user: Whole | None = Field(None, description="Jobs a user may have in all")
    max_wall: f.SlurmTime = Field("", description="Longest job")
    max_tres_per_user: f.Tres = Field("", description="Like cpu=64,gres/gpu=8")
    limits: f.Settings = Field({}, description="Further sacctmgr Key: Value, like GrpTRES: gres/gpu=16")


class Account(Part):
    """A Slurm account: a group of users that shares an allotment."""

    name: f.Word = Field(description="Name, lower case")
    parent: f.Word = Field("root", description="Account above it")
    description: f.Text = Field("", description="Free text")
    organization: f.Text = Field("", description="Free text")
    fairshare: Whole = Field(1, description="Shares")
    qos: f.Names = Field([], description="QOS its users may take; [] = as above it")
    default_qos: f.Word = Field("", description="QOS of a job that names none")
    limits: f.Settings = Field({}, description="Further sacctmgr Key: Value")


class SlurmUser(Part):
    """Which accounts a user may charge."""

    name: f.UserName = Field(description="One of `users`")
    account: f.Word = Field(description="Default account")
    accounts: f.Names = Field([], description="Further accounts")
    qos: f.Names = Field([], description="QOS the user may take; [] = as the account")
    default_qos: f.Word = Field("", description="QOS of a job that names none")
    admin: f.SlurmAdmin = Field("none", description="Rights in Slurm")
    fairshare: Whole = Field(1, description="Shares")
    limits: f.Settings = Field({}, description="Further sacctmgr Key: Value")


class Priority(Part):
    """Multifactor priority: how much each factor weighs."""

    decay_half_life: f.SlurmTime = Field("7-0", description="Past use counts half after this long")
    max_age: f.SlurmTime = Field("7-0", description="Waiting longer than this adds nothing more")
    age: Whole = Field(1000, description="Weight of waiting time")
    fairshare: Whole = Field(100000, description="Weight of fair share")
    job_size: Whole = Field(1000, description="Weight of size")
    partition: Whole = Field(10000, description="Weight of the partition")
    qos: Whole = Field(100000, description="Weight of the QOS")
    tres: f.Tres = Field("", description="PriorityWeightTRES, like cpu=1000,gres/gpu=5000")


class Preempt(Part):
    """Whether jobs may push others aside."""

    mode: f.PreemptMode = Field("off", description="What happens to the pushed")
    type: f.PreemptType = Field("qos", description="Who may push whom is said by")
    exempt_time: f.SlurmTime = Field("", description="A job is safe for this long")


class Switch(Part):
    """One switch of the topology tree: over nodes or over switches."""

    switch: f.SwitchName
    nodes: f.Words = Field([], description="Names or ranges")
    switches: f.Words = Field([], description="Switches under this one, names or ranges")


class HealthCheck(Part):
    """A node that fails one of these drains itself with the reason, and comes back when it is well."""

    interval: Whole = Field(60, description="Seconds between checks; 0 = off")
    gpus: bool = Field(True, description="All GPUs of the profile are there")
    mounts: f.Paths = Field([], description="File systems that must be mounted")
    services: f.UnitNames = Field([], description="systemd units that must run")
    min_free_mb: dict[f.AbsolutePath, Whole] = Field(
        {"/": 1024}, description="MiB that must be free, by path"
    )


class Slurm(Part):
    """The workload manager."""

    partitions: list[Partition] = Field([], description="[] = one partition, batch, of all nodes")
    qos: list[Qos] = Field([], description="Besides normal, which is always there")
    accounts: list[Account] = Field([], description="Accounts")
    users: list[SlurmUser] = Field([], description="Who may charge which account")
    priority: Priority = Field(default_factory=Priority)
    preempt: Preempt = Field(default_factory=Preempt)
    topology: list[Switch] = Field([], description="[] = flat")
    health_check: HealthCheck = Field(default_factory=HealthCheck)
    state_dir: f.AbsolutePath = Field(
        "", description="Where the controller keeps its state; must be shared when there is more than one"
    )
    settings: f.Settings = Field({}, description="Any further slurm.conf Key: Value; wins over ours")


class ClusterFile(Part):
    """cluster.yml: what the cluster is."""

    name: Annotated[f.ClusterName, f.Blank("")] = Field(description="Name of the cluster")
    domain: Annotated[f.Domain, f.Blank("")] = Field(description="DNS domain of the nodes")
    networks: Annotated[dict[f.Word, Network], f.Blank({})] = Field(
        description="Subnets by name: `cluster` (all nodes), `bmc`, and others"
    )
    ssh: Ssh = Field(default_factory=Ssh)
    time: Time = Field(default_factory=Time)
    dns: Dns = Field(default_factory=Dns)
    packages: Packages = Field(default_factory=Packages)
    users: list[User] = Field([], description="People")
    external_users: bool = Field(
        False, description="People also come from a directory: slurm.users may name others"
    )
    check_user: CheckUser = Field(default_factory=CheckUser)
    services: dict[str, f.Words] = Field(
        {}, description="Service group: nodes; where the derived ones do not fit; [] = off"
    )
    sysctl: f.Sysctl = Field({}, description="Kernel settings for all nodes")
    limits: list[Limit] = Field([], description="limits.conf lines for all nodes")
    slurm: Slurm = Field(default_factory=Slurm)
    kubernetes: Kubernetes = Field(default_factory=Kubernetes)
    gpu: GpuStack = Field(default_factory=GpuStack)
    provision: Provision = Field(default_factory=Provision)
    mirror: Mirror = Field(default_factory=Mirror)
    monitoring: Monitoring = Field(default_factory=Monitoring)
    logging: Logging = Field(default_factory=Logging)
    web: Web = Field(default_factory=Web)


FILES: dict[str, type[Part]] = {"cluster.yml": ClusterFile, "nodes.yml": NodesFile}


def schema(model: type[Part]) -> dict[str, Any]:
    """JSON Schema of one file; an empty section (`users:` with nothing below) is accepted, as `check` does."""
    result = model.model_json_schema()
    for part in [result, *result.get("$defs", {}).values()]:
        required = set(part.get("required", []))
        for name, content in part.get("properties", {}).items():
            if name not in required:
                part["properties"][name] = {
                    "anyOf": [
                        {k: v for k, v in content.items() if k not in ("description", "default")},
                        {"type": "null"},
                    ],
                    **{k: content[k] for k in ("description", "default") if k in content},
                }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **result}


def export_schemas(folder: Path) -> list[Path]:
    """Write cluster.schema.json and nodes.schema.json for editors; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for file, model in FILES.items():
        path = folder / file.replace(".yml", ".schema.json")
        path.write_text(json.dumps(schema(model), indent=2, default=str) + "\n", encoding="utf-8")
        written.append(path)
    return written
