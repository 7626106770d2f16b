"""The kinds of value a site writes: each reads one notation and says in one sentence what is wrong with another.

A reader raises `wrong(code, message, cure)`; `rackloom.site.tolerant` adds the file and line.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from typing import Annotated, Any, NamedTuple
from urllib.parse import urlsplit

from pydantic import BeforeValidator, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from .mistakes import show


def wrong(code: str, message: str, cure: str) -> PydanticCustomError:
    """The error that carries our sentence through pydantic. Braces would be read as placeholders: passed as context."""
    return PydanticCustomError(code, "{message}", {"message": message, "cure": cure, "ours": True})


class Blank(NamedTuple):
    """Stands in for a required value that was missing or wrong, so that the other checks can go on."""

    value: Any


def _word(value: Any, what: str) -> str:
    """Numbers are welcome where text is wanted (a serial number of digits); lists and mappings are not."""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise wrong(
            "wrong-type", f"{what} must be text, not {kind(value)}.", "Write one word, quoted if need be."
        )
    if "\n" in str(value):
        raise wrong("bad-value", f"{what} has a line break.", "Write it in one line.")
    return str(value)


def _number(value: Any) -> Any:
    """Keeps true and false from passing as 1 and 0, which pydantic would allow."""
    if isinstance(value, bool):
        raise wrong("wrong-type", f"Here a number is wanted, not {kind(value)}.", "Write digits only.")
    return value


NoBool = BeforeValidator(_number)


def kind(value: Any) -> str:
    """What a person would call the type of a value."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return f'"{show(value)}"'
    names = {int: "a number", str: "text", list: "a list", dict: "a mapping"}
    return names.get(type(value), type(value).__name__)


def _inside(what: str) -> str:
    """A name of a thing as it is written inside a sentence: GPU type, but user name."""
    return what if what[1:2].isupper() else what[:1].lower() + what[1:]


def pattern(code: str, what: str, regex: str, rule: str, *, longest: int = 253) -> Any:
    """Annotated str that must match `regex` wholly; `rule` says in words what it may hold."""
    compiled = re.compile(regex)

    def read(value: Any) -> str:
        text = _word(value, what)
        if len(text) > longest:
            raise wrong(
                code,
                f"{what} {show(text)!r} has {len(text)} characters; {longest} is the limit.",
                "Shorten it.",
            )
        if compiled.fullmatch(text) is None:
            raise wrong(code, f"{text!r} is no {_inside(what)}.", f"It {rule}.")
        return text

    schema = {"type": "string", "pattern": f"^(?:{regex})$", "maxLength": longest}
    return Annotated[str, PlainValidator(read), WithJsonSchema(schema)]


Text = Annotated[str, PlainValidator(lambda v: _word(v, "This")), WithJsonSchema({"type": "string"})]

ClusterName = pattern(
    "bad-name",
    "Cluster name",
    r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?",
    "holds lower-case letters, digits and inner hyphens, like demo-1",
    longest=40,
)
Domain = pattern(
    "bad-name",
    "Domain",
    r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*",
    "holds lower-case labels with dots between, like cluster.example",
    longest=189,
)
Word = pattern(
    "bad-name", "Name", r"[a-z0-9][a-z0-9_.-]*", "holds lower-case letters, digits, _ . and -", longest=64
)
ProfileName = pattern(
    "bad-name",
    "Profile name",
    r"[a-z0-9][a-z0-9_]*",
    "holds lower-case letters, digits and _ (it becomes the Ansible group profile_<name>)",
    longest=64,
)
GpuType = pattern(
    "bad-name",
    "GPU type",
    r"[0-9]*[a-z][a-z0-9_.-]*",
    "is lower case with a letter in it, like a100 or h100-sxm",
    longest=64,
)
Package = pattern(
    "bad-name", "Package name", r"[A-Za-z0-9][A-Za-z0-9+._:=~@/*-]*", "is one package, like vim or vim=2:9.0*"
)
Uri = pattern(
    "bad-value", "Package source", r"[a-z][a-z0-9+-]*:/\S+", "looks like https://mirror.example/debian"
)
MirrorFolder = pattern(
    "bad-value",
    "Mirror",
    r"(?:https?|file):/\S+",
    "is the URL of a folder, like https://mirror.example/files",
)
RegistryPlace = pattern(
    "bad-value",
    "Registry",
    r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?(?:/[a-z0-9._/-]+)?",
    "is a host, with a port where needed, like registry.example:5000",
)
SourceWord = pattern(
    "bad-value", "Suite or component", r"[A-Za-z0-9./][A-Za-z0-9./_-]*", "is one word, like bookworm"
)
Comment = pattern("bad-value", "Comment", r"[^:\n]*", "holds no colon: it stands in /etc/passwd")
UnitName = pattern("bad-name", "systemd unit", r"[A-Za-z0-9@:._\\-]+", "is one name, like sssd.service")
UnixGroup = pattern("bad-name", "Group", r"[A-Za-z_][A-Za-z0-9_.-]*", "is one Unix group")
LimitDomain = pattern("bad-value", "Limit domain", r"[A-Za-z0-9@%*:_.-]+", "is a user, @group or *")
_ONE_TRES = r"[A-Za-z]+(?:/[A-Za-z0-9_]+)?(?::[A-Za-z0-9_.+-]+)?=-?[0-9]+(?:\.[0-9]+)?[KMGTPkmgtp]?"
Tres = pattern(
    "bad-tres",
    "TRES list",
    f"{_ONE_TRES}(?:,{_ONE_TRES})*",
    "looks like cpu=64,mem=100G,gres/gpu:a100=8",
    longest=2000,
)
PartitionName = pattern(
    "bad-name",
    "Partition name",
    r"[A-Za-z0-9][A-Za-z0-9_.-]*",
    "holds letters, digits, _ . and -",
    longest=64,
)
SwitchName = pattern(
    "bad-name", "Switch name", r"[A-Za-z0-9][A-Za-z0-9_.-]*", "holds letters, digits, _ . and -", longest=64
)
OverSubscribe = pattern(
    "bad-value",
    "OverSubscribe value",
    r"([Nn][Oo]|(EXCLUSIVE|exclusive|YES|yes|FORCE|force)(:[0-9]+)?)",
    "is NO, EXCLUSIVE, YES or FORCE, with :count if wanted",
)
UserName = pattern(
    "bad-name",
    "User name",
    r"[a-z_][a-z0-9_-]{0,31}",
    "holds at most 32 lower-case letters, digits, _ and -, and starts with a letter",
    longest=32,
)
AbsolutePath = pattern(
    "bad-path", "Absolute path", r"/[^\s:,=\[\]{}]*", "starts with / and holds no blanks", longest=4096
)
Proxy = pattern("bad-value", "Proxy address", r"https?://[^\s/]+/?", "looks like http://proxy.example:3128")
HostOrAddress = pattern(
    "bad-name",
    "Host name or address",
    r"[A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?|[0-9A-Fa-f:]+",
    "is one name or one address",
)


class Memory(NamedTuple):
    """mb: MiB as written; nominal: a size as on the parts list (G, T), of which Linux sees a little less."""

    mb: int
    nominal: bool


_MEMORY = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([MGT])(?:i?B)?", re.IGNORECASE)
_MOST_MEMORY = 1024**3  # MiB: a pebibyte
_UNITS = {"M": 1, "G": 1024, "T": 1024 * 1024}


def _memory(value: Any) -> Memory:
    if isinstance(value, Memory):
        return value
    cure = "Write MiB as a number, or a size like 4000M, 256G or 2T."
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value <= _MOST_MEMORY:
            raise wrong("bad-memory", f"{value} MiB is no memory that a node can have.", cure)
        return Memory(value, nominal=False)
    match = _MEMORY.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise wrong("bad-memory", f"{show(value)!r} is no memory size.", cure)
    unit = match.group(2).upper()
    size = int(float(match.group(1)) * _UNITS[unit])
    if size > _MOST_MEMORY:
        raise wrong("bad-memory", f"{value} is no memory that a node can have.", cure)
    return Memory(size, unit != "M")


MemorySize = Annotated[
    Memory,
    PlainValidator(_memory),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0},
                {"type": "string", "pattern": "^[0-9.]+ *[MGTmgt](i?B)?$"},
            ]
        }
    ),
]

_TIME = re.compile(
    r"(?P<min>[0-9]+)|(?P<ms>[0-9]+:[0-9]{1,2})|(?P<hms>[0-9]+:[0-9]{1,2}:[0-9]{1,2})"
    r"|[0-9]+-[0-9]{1,2}(?::[0-9]{1,2}(?::[0-9]{1,2})?)?"
)


def seconds(text: str) -> int | None:
    """Slurm's notation of a time span in seconds; None = unlimited. The text must have passed SlurmTime."""
    if text.upper() in ("UNLIMITED", "INFINITE", "-1"):
        return None
    days, _, rest = text.rpartition("-")
    numbers = [int(part) for part in rest.split(":")]
    if days:
        hours, minutes, secs = [*numbers, 0, 0][:3]
    elif len(numbers) == 3:
        hours, minutes, secs = numbers
    else:
        hours, minutes, secs = 0, numbers[0], [*numbers, 0][1]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + secs


def _time(value: Any) -> str:
    text = str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
    parts = text.replace("-", ":").split(":")
    fine = text.upper() in ("UNLIMITED", "INFINITE") or _TIME.fullmatch(text) is not None
    # Minutes and seconds beside a larger unit stay below 60, hours beside days below 24.
    if fine and len(parts) > 1 and ":" in text:
        fine = all(int(part) < 60 for part in text.split("-")[-1].split(":")[1:])
    if fine and "-" in text:
        fine = int(parts[1]) < 24
    if not fine:
        cure = "Write minutes, hh:mm:ss, days-hh or days-hh:mm:ss, like 30, 12:00:00 or 7-0; or UNLIMITED."
        raise wrong("bad-time", f"{show(value)!r} is no time span that Slurm reads.", cure)
    return text.upper() if text.isalpha() else text


SlurmTime = Annotated[str, PlainValidator(_time), WithJsonSchema({"type": ["string", "integer"]})]

IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def _cidr(value: Any) -> IpNetwork:
    if isinstance(value, (ipaddress.IPv4Network, ipaddress.IPv6Network)):
        return value
    text = value.strip() if isinstance(value, str) else ""
    if "/" not in text:
        raise wrong("bad-cidr", f"{show(value)!r} is no network.", "Write address/length, like 10.10.0.0/16.")
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        pass
    try:
        meant = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise wrong(
            "bad-cidr", f"{text!r} is no network.", "Write address/length, like 10.10.0.0/16."
        ) from None
    raise wrong("bad-cidr", f"{text} is an address inside a network, not the network.", f"Write {meant}.")


Cidr = Annotated[
    IpNetwork,
    PlainValidator(_cidr),
    WithJsonSchema({"type": "string", "pattern": "^[0-9a-fA-F.:]+/[0-9]{1,3}$"}),
]


def read_address(text: str) -> IpAddress:
    """One address; the error has our sentence."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        cure = "Write one like 10.10.0.11 (without /length)."
        raise wrong("bad-address", f"{show(text)!r} is no IP address.", cure) from None


def _address(value: Any) -> str:
    return str(read_address(_word(value, "An address").strip()))


Address = Annotated[
    str, PlainValidator(_address), WithJsonSchema({"type": "string", "pattern": "^[0-9a-fA-F.:]+$"})
]

_HOST = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")


def host_name_trouble(name: str) -> tuple[str, str] | None:
    """(message, cure) if this is no RFC 1123 host name that Linux, DNS, Slurm and Ansible all take."""
    if len(name) > 63:
        return f"Host name {show(name)!r} has {len(name)} characters; 63 is the limit.", "Shorten it."
    if _HOST.fullmatch(name) is None:
        if "." in name:
            return (
                f"Host name {name!r} has a dot in it.",
                "Write the short name; `domain` in cluster.yml is added.",
            )
        if name != name.lower() and _HOST.fullmatch(name.lower()):
            return f"Host name {name!r} has upper-case letters.", f"Write {name.lower()}."
        return f"{show(name)!r} is no host name.", "Use lower-case letters, digits and inner hyphens only."
    if name.isdigit():
        return f"Host name {name!r} is only digits.", "Start it with a letter, like n001."
    if name in ("localhost", "all", "ungrouped", "none"):
        return f"{name!r} cannot be a host name here; it has a meaning of its own.", "Choose another."
    return None


def _per_node(value: Any) -> str | list[str] | dict[str, str]:
    """One value, a list, or name → value; what they are is checked with the names at hand."""
    if isinstance(value, list):
        return [_word(item, "Each item") for item in value]
    if isinstance(value, dict):
        return {str(key): _word(item, "Each value") for key, item in value.items()}
    return _word(value, "This")


PerNode = Annotated[
    str | list[str] | dict[str, str],
    PlainValidator(_per_node),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": ["string", "integer"]},
                {"type": "array", "items": {"type": ["string", "integer"]}},
                {"type": "object", "additionalProperties": {"type": ["string", "integer"]}},
            ]
        }
    ),
]


def _words(value: Any) -> Any:
    """A single word where a list is wanted is a list of one."""
    return [value] if isinstance(value, (str, int)) and not isinstance(value, bool) else value


def listed(item: Any, item_schema: dict[str, Any] | None = None) -> Any:
    """Annotated list that also takes one bare value."""
    inner = item_schema or {"type": "string"}
    schema = {"anyOf": [inner, {"type": "array", "items": inner}]}
    return Annotated[list[item], BeforeValidator(_words), WithJsonSchema(schema)]


Words = listed(Text)
Names = listed(Word)
HostsOrAddresses = listed(HostOrAddress)
Addresses = listed(Address)
Domains = listed(Domain)
UserNames = listed(UserName)
Paths = listed(AbsolutePath)
Packages = listed(Package)
Uris = listed(Uri)
SourceWords = listed(SourceWord)
UnitNames = listed(UnitName)
UnixGroups = listed(UnixGroup)


def _settings(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise wrong(
            "wrong-type", f"Here `Key: Value` lines are wanted, not {kind(value)}.", "Write a mapping."
        )
    result: dict[str, str] = {}
    for key, item in value.items():
        if isinstance(item, (list, dict)) or item is None:
            message = f"{key} has {kind(item)} where one value is wanted."
            raise wrong("wrong-type", message, "Write one value; quote it if it holds commas or colons.")
        text = {True: "yes", False: "no"}[item] if isinstance(item, bool) else str(item)
        if "\n" in text or "\n" in str(key):
            raise wrong("bad-value", f"The value of {key} has a line break.", "Write it in one line.")
        result[str(key)] = text
    return result


Settings = Annotated[
    dict[str, str],
    PlainValidator(_settings),
    WithJsonSchema(
        {"type": "object", "additionalProperties": {"type": ["string", "integer", "number", "boolean"]}}
    ),
]
"""Key: Value lines handed on to a program; true and false become yes and no."""


def _sysctl(value: Any) -> dict[str, str]:
    texts = _settings(value)
    return {
        key: ("1" if item is True else "0") if isinstance(item, bool) else texts[key]
        for key, item in value.items()
    }


Sysctl = Annotated[
    dict[str, str],
    PlainValidator(_sysctl),
    WithJsonSchema({"type": "object", "additionalProperties": {"type": ["string", "integer", "boolean"]}}),
]

_KEY_KINDS = (
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)


def _ssh_key(value: Any) -> str:
    text = _word(value, "A key").strip()
    if "PRIVATE KEY" in text:
        raise wrong(
            "bad-key",
            "This is a private key.",
            "Put the public half (the .pub file) here, and replace the key: it is exposed.",
        )
    parts = text.split()
    index = next((number for number, part in enumerate(parts) if part in _KEY_KINDS), None)
    cure = "Paste the one line of the .pub file, like `ssh-ed25519 AAAA… alice@laptop`."
    if "\n" in text or index is None:
        raise wrong("bad-key", f"{show(text)!r} is no public SSH key.", cure)
    try:
        blob = base64.b64decode(parts[index + 1], validate=True)
    except (IndexError, binascii.Error):
        raise wrong("bad-key", f"The {parts[index]} key is cut off or damaged.", cure) from None
    size = int.from_bytes(blob[:4], "big")
    if blob[4 : 4 + size].decode("ascii", "replace") != parts[index] or len(blob) < size + 30:
        raise wrong("bad-key", f"The {parts[index]} key is cut off or damaged.", cure)
    return text


SshKey = Annotated[str, PlainValidator(_ssh_key), WithJsonSchema({"type": "string"})]

SshKeys = listed(SshKey)

_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}(?:(?::[0-9a-f]{2}){2})?")


def read_mac(text: str) -> str | None:
    """A MAC (6 or, for InfiniBand, 8 bytes) as lower case with colons, or None if it is none."""
    plain = text.strip().lower().replace("-", ":")
    if re.fullmatch(r"[0-9a-f]{12}", plain):
        plain = ":".join(plain[i : i + 2] for i in range(0, 12, 2))
    return plain if _MAC.fullmatch(plain) else None


_BMC_PATH = re.compile(r"/redfish/v1/Systems/[A-Za-z0-9._~:-]+/?")


def bmc_url_trouble(text: str) -> tuple[str, str] | None:
    """(message, cure) if this is not the URL of one Redfish system. A password in it is not repeated."""
    cure = "Write https://<host>/redfish/v1/Systems/<id>."
    try:
        url = urlsplit(text)
        host, port = url.hostname, url.port
    except ValueError:
        return f"{show(text)!r} is no URL of a Redfish system.", cure
    if url.username is not None or url.password is not None:
        return (
            "A BMC's URL holds no user and password.",
            "Remove them: rackloom secrets set bmc_user, and bmc_password.",
        )
    fine = url.scheme in ("http", "https") and host and port != 0 and _BMC_PATH.fullmatch(url.path)
    if not fine or url.query or url.fragment:
        return f"{show(text)!r} is no URL of a Redfish system.", cure
    return None


def choice(*values: str) -> Any:
    """Annotated str out of a few, case ignored; true and false are read as on and off where those are choices."""

    def read(value: Any) -> str:
        text = {True: "on", False: "off"}.get(value, str(value)) if isinstance(value, bool) else str(value)
        for known in values:
            if text.lower() == known.lower():
                return known
        raise wrong(
            "bad-value", f"{show(value)!r} is not possible here.", f"Choose one of: {', '.join(values)}."
        )

    return Annotated[str, PlainValidator(read), WithJsonSchema({"type": "string", "enum": list(values)})]


Presence = choice("present", "absent")
PartitionState = choice("UP", "DOWN", "DRAIN", "INACTIVE")
PreemptMode = choice("off", "requeue", "cancel", "suspend")
PreemptType = choice("qos", "partition")
QosPreemptMode = choice("cluster", "cancel", "requeue", "suspend", "gang")
SlurmAdmin = choice("none", "operator", "administrator")
LimitType = choice("soft", "hard", "-")
LimitItem = choice(
    *("core", "data", "fsize", "memlock", "nofile", "rss", "stack", "cpu", "nproc", "as", "maxlogins"),
    *("maxsyslogins", "priority", "locks", "sigpending", "msgqueue", "nice", "rtprio"),
)

Firmware = choice("uefi", "bios")
BootMode = choice("disk", "memory")
ImageKind = choice("image", "installer")
ImageKernel = choice("generic", "cloud")
ImageInitrd = choice("general", "small")
ImageSystem = choice("debian-12", "debian-13", "ubuntu-22.04", "ubuntu-24.04", "rocky-9", "rhel-9")
DhcpMode = choice("authoritative", "proxy", "off")
UnknownNodes = choice("ignore", "discover")
DiskRaid = choice("none", "1")
FileSystem = choice("ext4", "xfs", "swap")
BmcProtocol = choice("redfish", "ipmi", "none")
Console = pattern(
    "bad-value", "Console", r"tty[A-Za-z]*[0-9]+(,[0-9]+[noe]?[5-8]?r?)?", "looks like ttyS0,115200n8"
)
Interface = pattern(
    "bad-name", "Network interface", r"[A-Za-z0-9][A-Za-z0-9._@-]*", "is one name, like eno1", longest=15
)
Disk = pattern(
    "bad-value",
    "Disk",
    r"auto|/dev/[A-Za-z0-9][A-Za-z0-9/_.:+-]*",
    "is auto, or a device like /dev/disk/by-path/pci-0000:00:1f.2-ata-1",
)
MountPoint = pattern(
    "bad-path",
    "Mount point",
    r"/(?:[A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+)*)?",
    "starts with / and holds no blanks",
)
Lease = pattern("bad-value", "Lease time", r"infinite|[0-9]{1,8}[smhdw]?", "looks like 30m or 12h")
Disks = listed(Disk)

REST = "rest"
_SIZE = re.compile(r"([1-9][0-9]{0,7})\s*([MGT])(?:i?B)?", re.IGNORECASE)


def size_mb(text: str) -> int | None:
    """MiB of a partition size; None = all that is left. The text must have passed PartSize."""
    match = _SIZE.fullmatch(text)
    return int(match.group(1)) * _UNITS[match.group(2).upper()] if match else None


def _part_size(value: Any) -> str:
    text = value.strip() if isinstance(value, str) else ""
    match = _SIZE.fullmatch(text)
    if match:
        return match.group(1) + match.group(2).upper()
    if text == REST:
        return text
    raise wrong("bad-size", f"{show(value)!r} is no size of a partition.", "Write one like 20G, or rest.")


PartSize = Annotated[
    str,
    PlainValidator(_part_size),
    WithJsonSchema({"type": "string", "pattern": "^(rest|[1-9][0-9]* *[MGTmgt](i?B)?)$"}),
]


# ---------------------------------------------------------------- Kubernetes

EndpointBy = choice("keepalived", "kube-vip", "external")
PodPlugin = choice("flannel", "calico", "cilium")
FlannelBackend = choice("vxlan", "host-gw", "wireguard")
Runtime = choice("containerd", "crio")
ServiceProxy = choice("nftables", "iptables")
PodSecurity = choice("privileged", "baseline", "restricted")
TopologyManager = choice("none", "best-effort", "restricted", "single-numa-node")
CpuManager = choice("none", "static")
MemoryManager = choice("None", "Static")
Tolerated = listed(
    choice("cgroup_v1", "swap", "kernel"), {"type": "string", "enum": ["cgroup_v1", "swap", "kernel"]}
)
Release = pattern(
    "bad-value", "Kubernetes release", r"[0-9]+\.[0-9]+\.[0-9]+", "has three numbers, like 1.35.0 (without v)"
)
KubeName = pattern(
    "bad-name",
    "Kubernetes user",
    r"[A-Za-z0-9](?:[A-Za-z0-9._@-]*[A-Za-z0-9])?",
    "holds letters, digits, . _ @ and -",
    longest=63,
)
KubeGroup = pattern(
    "bad-name",
    "Kubernetes group",
    r"(?!system:)[A-Za-z0-9](?:[A-Za-z0-9:._@/-]*[A-Za-z0-9])?",
    "holds letters, digits, : . _ @ / and -, and does not begin with system: (who may do everything is `admin: true`)",
    longest=63,
)
KubeGroups = listed(KubeGroup)
Interval = pattern("bad-value", "Interval", r"[1-9][0-9]{0,5}[mhd]", "looks like 30m, 6h or 1d")
CpuQuantity = pattern(
    "bad-value", "Number of CPUs", r"[0-9]{1,6}m|[0-9]{1,4}(?:\.[0-9]{1,3})?", "looks like 2, 0.5 or 500m"
)
Quantity = pattern(
    "bad-value", "Quantity", r"[0-9]{1,18}(?:Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?", "looks like 1Gi or 500Mi"
)

_LABEL_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
_LABEL_KEY = rf"(?:[a-z0-9](?:[a-z0-9.-]{{0,251}}[a-z0-9])?/)?{_LABEL_NAME}"
_LABEL_VALUE = rf"(?:{_LABEL_NAME})?"
TAINT_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def label_key_trouble(key: str) -> tuple[str, str] | None:
    """(message, cure) if this is no key of a Kubernetes label or taint."""
    if re.fullmatch(_LABEL_KEY, key):
        return None
    cure = (
        "Write a name of letters, digits, - _ and ., 63 at most, with a DNS domain and / before it if wanted."
    )
    return f"{show(key)!r} is no key of a Kubernetes label.", cure


def _labels(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise wrong(
            "wrong-type", f"Labels are a mapping, not {kind(value)}.", "Write `labels: {key: value}`."
        )
    found: dict[str, str] = {}
    for key, item in value.items():
        if trouble := label_key_trouble(str(key)):
            raise wrong("bad-label", *trouble)
        text = ("true" if item else "false") if isinstance(item, bool) else "" if item is None else item
        text = str(text) if isinstance(text, (str, int)) else None
        if text is None or re.fullmatch(_LABEL_VALUE, text) is None:
            cure = "Write at most 63 letters, digits, - _ and ., with a letter or digit at both ends; or nothing."
            raise wrong("bad-label", f"{show(item)!r} is no value of label {key}.", cure)
        found[str(key)] = text
    return found


Labels = Annotated[
    dict[str, str],
    PlainValidator(_labels),
    WithJsonSchema(
        {"type": "object", "additionalProperties": {"type": ["string", "integer", "boolean", "null"]}}
    ),
]


def _taint(value: Any) -> str:
    text = _word(value, "A taint")
    body, colon, effect = text.rpartition(":")
    key, equals, inner = body.partition("=")
    fine = colon and effect in TAINT_EFFECTS and label_key_trouble(key) is None
    if not fine or (equals and re.fullmatch(_LABEL_VALUE, inner) is None):
        cure = f"Write key=value:Effect or key:Effect, where Effect is one of {', '.join(TAINT_EFFECTS)}."
        raise wrong("bad-taint", f"{show(text)!r} is no taint.", cure)
    return text


Taint = Annotated[str, PlainValidator(_taint), WithJsonSchema({"type": "string"})]
Taints = listed(Taint)


QueueName = pattern(
    "bad-name",
    "Name",
    r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?",
    "holds small letters, digits and -, with a letter or digit at both ends",
    longest=63,
)
QueueNames = listed(QueueName)


def _quotas(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not value:
        what = "nothing" if isinstance(value, dict) else kind(value)
        raise wrong("wrong-type", f"Quotas are a mapping, not {what}.", "Write `nvidia.com/gpu: 8`.")
    found: dict[str, str] = {}
    for key, item in value.items():
        if trouble := label_key_trouble(str(key)):
            raise wrong("bad-value", trouble[0].replace("key of a Kubernetes label", "resource"), trouble[1])
        text = "" if isinstance(item, bool) else str(item)
        if re.fullmatch(r"[0-9]{1,18}(?:m|Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?", text) is None:
            raise wrong(
                "bad-value", f"{show(item)!r} is no amount of {key}.", "It looks like 8, 500m or 64Gi."
            )
        found[str(key)] = text
    return found


Quotas = Annotated[
    dict[str, str],
    PlainValidator(_quotas),
    WithJsonSchema({"type": "object", "additionalProperties": {"type": ["string", "integer"]}}),
]
"""Resource of Kubernetes → how much of it."""


def _values(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise wrong("wrong-type", f"Here a mapping is wanted, not {kind(value)}.", "Write key: value lines.")
    return {str(key): item for key, item in value.items()}


Values = Annotated[dict[str, Any], PlainValidator(_values), WithJsonSchema({"type": "object"})]
"""Handed on to a program as it is, of any depth."""


# ---------------------------------------------------------------- GPUs

DriverSource = choice("none", "distribution", "vendor")
DriverKind = choice("auto", "open", "proprietary")
DriverBranch = pattern(
    "bad-value", "Driver branch", r"[0-9]{3}", 'is three digits in quotes, like "580"', longest=3
)
_GPU_CHECKS = (
    *("count", "model", "recovery", "ecc", "remap", "pcie", "temperature", "throttle", "fabric", "nvlink"),
    *("mig", "dcgm", "device"),
)
GpuChecks = listed(choice(*_GPU_CHECKS), {"type": "string", "enum": list(_GPU_CHECKS)})
GpuDriverPlace = choice("host", "container")
GpuToolkitPlace = choice("auto", "host", "operator")
GpuResources = choice("device_plugin", "dra")
GpuRdma = choice("off", "container", "host")
MigStrategy = choice("auto", "none", "single", "mixed")
