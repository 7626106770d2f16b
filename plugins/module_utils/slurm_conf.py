"""Read Slurm's configuration files as Slurm does, and tell what a change of them needs.

Slurm takes most changes with C(scontrol reconfigure), and a few only when its controller is started anew.
Which ones is written parameter by parameter in slurm.conf(5); the tables below are that page as data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

NONE = "none"
RECONFIGURE = "reconfigure"
RESTART = "restart"

# Lines that describe one thing each, and that the node tables of every daemon are made of.
NODE_RECORDS = frozenset({"nodename", "nodeset", "frontendname", "downnodes"})
RECORDS = NODE_RECORDS | {"partitionname"}
# Parameters that may be given more than once, each time adding to the list.
REPEATED = frozenset({"slurmctldhost"})

# slurm.conf(5) up to 23.02: "A restart of slurmctld is required for changes to this parameter".
RESTART_BEFORE_23_11 = frozenset(
    {
        "accountingstorageenforce",
        "authtype",
        "clustername",
        "controlmachine",
        "backupcontroller",
        "corespecplugin",
        "credtype",
        "grestypes",
        "jobcontainertype",
        "maxjobcount",
        "maxnodecount",
        "plugindir",
        "powerplugin",
        "proctracktype",
        "schedulertype",
        "selecttype",
        "selecttypeparameters",
        "slurmctldhost",
        "slurmctldparameters",
        "slurmctldport",
        "slurmdport",
        "slurmuser",
        "srunportrange",
        "statesavelocation",
        "switchtype",
    }
)
# Not in so many words in that page, but these name plugins, which a daemon loads once, when it starts.
PLUGINS_BEFORE_23_11 = frozenset(
    {
        "accountingstoragetype",
        "accountingstoragehost",
        "accountingstoragebackuphost",
        "accountingstorageport",
        "accountingstoragetres",
        "burstbuffertype",
        "clifilterplugins",
        "jobacctgathertype",
        "jobcomptype",
        "jobsubmitplugins",
        "mcsplugin",
        "preemptmode",
        "preempttype",
        "prepplugins",
        "prioritytype",
        "prologflags",
        "sitefactorplugin",
        "taskplugin",
        "topologyplugin",
    }
)
# Since 23.11 the controller executes itself anew when it is told to reconfigure. What it listens on is left,
# and what all daemons and commands must agree on.
RESTART_SINCE_23_11 = frozenset(
    {"authtype", "clustername", "slurmctldport", "slurmdport", "slurmuser", "statesavelocation", "switchtype"}
)
REEXECUTES = (23, 11)

Version = tuple[int, ...]


@dataclass(frozen=True)
class Conf:
    """What one configuration file says, with comments, spacing and order taken out."""

    parameters: Mapping[str, str] = field(default_factory=dict)
    records: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True)
class Decision:
    """What has to be done (none, reconfigure or restart) and why, as short phrases."""

    action: str
    reasons: tuple[str, ...]


def version_of(text: str) -> Version:
    """Return (22, 5, 8) for what a daemon's -V prints, C(slurm-wlm 22.05.8); () when there is none."""
    for word in text.split():
        parts = word.split("-")[0].split(".")
        if len(parts) > 1 and parts[0].isdigit() and parts[1].isdigit():
            return tuple(int(part) for part in parts if part.isdigit())
    return ()


def logical_lines(text: str) -> Iterator[str]:
    """Yield the lines that say something: comments cut, continued lines joined, spaces folded."""
    pending = ""
    for raw in text.splitlines():
        line = raw.rstrip()
        continued = line.endswith("\\")
        pending += line[:-1] if continued else line
        if continued:
            continue
        clean = " ".join(_uncommented(pending).split())
        pending = ""
        if clean:
            yield clean
    if pending.strip():
        yield " ".join(_uncommented(pending).split())


def _uncommented(line: str) -> str:
    start = 0
    while (found := line.find("#", start)) >= 0:
        if found == 0 or line[found - 1] != "\\":
            return line[:found]
        start = found + 1
    return line


def parse(text: str) -> Conf:
    """Return what a slurm.conf says. It never fails: to judge is left to Slurm itself."""
    parameters: dict[str, str] = {}
    records: set[tuple[str, str]] = set()
    for line in logical_lines(text):
        key, _, value = line.partition("=")
        name = key.strip().lower()
        if name in RECORDS:
            first, *rest = line.split(" ")
            records.add((name, " ".join([first, *sorted(rest)])))
        elif name in REPEATED and name in parameters:
            parameters[name] += "," + value.strip()
        else:
            parameters[name] = value.strip()
    return Conf(parameters, frozenset(records))


def _names(records: frozenset[tuple[str, str]]) -> str:
    """Return the first few names that records are about, for a reason that a person reads."""
    names = sorted({record.split(" ")[0].partition("=")[2] for _, record in records})
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _slurm_conf_change(old: Conf, new: Conf, version: Version) -> tuple[list[str], list[str]]:
    """Return the reasons to restart and the reasons to reconfigure."""
    modern = version >= REEXECUTES
    must = RESTART_SINCE_23_11 if modern else RESTART_BEFORE_23_11 | PLUGINS_BEFORE_23_11
    changed = sorted(
        name
        for name in {*old.parameters, *new.parameters}
        if old.parameters.get(name) != new.parameters.get(name)
    )
    restart = [f"slurm.conf: {name}" for name in changed if name in must]
    reconfigure = [f"slurm.conf: {name}" for name in changed if name not in must]
    differing = old.records ^ new.records
    nodes = frozenset(record for record in differing if record[0] in NODE_RECORDS)
    if nodes:
        (reconfigure if modern else restart).append(f"slurm.conf: nodes {_names(nodes)}")
    if differing - nodes:
        reconfigure.append(f"slurm.conf: partitions {_names(differing - nodes)}")
    return restart, reconfigure


def decide(old: Mapping[str, str], new: Mapping[str, str], version: Version) -> Decision:
    """Return what the way from the old files to the new ones needs; both map file names to contents."""
    restart: list[str] = []
    reconfigure: list[str] = []
    for name in sorted({*old, *new}):
        before, after = old.get(name, ""), new.get(name, "")
        if name == "slurm.conf":
            more = _slurm_conf_change(parse(before), parse(after), version)
            restart += more[0]
            reconfigure += more[1]
        elif sorted(logical_lines(before)) != sorted(logical_lines(after)):
            # gres.conf(5): cores and types of devices are read by the controller only when it starts
            (restart if name == "gres.conf" and version < REEXECUTES else reconfigure).append(name)
    if restart:
        return Decision(RESTART, (*restart, *reconfigure))
    if reconfigure:
        return Decision(RECONFIGURE, tuple(reconfigure))
    return Decision(NONE, ())
