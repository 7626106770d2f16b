"""The kinds of value of the section `monitoring:`, each read as `rackloom.site.fields` reads others."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import PlainValidator, WithJsonSchema

from .fields import Text, choice, listed, pattern, wrong
from .mistakes import show

SECRET_PREFIX = "alert_"  # noqa: S105 - the beginning of a name
"""Names of secrets that a site types in for its receivers begin with this."""
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 31536000}
_SIZES = {"M": 1, "G": 1024, "T": 1024 * 1024}


def _duration(value: Any) -> str:
    text = value.strip() if isinstance(value, str) else ""
    match = re.fullmatch(r"([1-9][0-9]{0,5})([smhdwy])", text)
    if match is None:
        raise wrong(
            "bad-duration", f"{show(value)!r} is no span of time.", "Write one like 30s, 5m, 4h, 15d or 1y."
        )
    return text


def span_seconds(text: str) -> int:
    """Seconds of a span that has passed `Duration`."""
    return int(text[:-1]) * _UNITS[text[-1]]


def _disk_size(value: Any) -> str:
    text = value.strip().upper() if isinstance(value, str) else ""
    match = re.fullmatch(r"([1-9][0-9]{0,6})\s*([MGT])(?:I?B)?", text)
    if match is None:
        raise wrong("bad-size", f"{show(value)!r} is no size.", "Write one like 50G or 2T.")
    return match.group(1) + match.group(2)


def disk_mb(text: str) -> int:
    """MiB of a size that has passed `DiskSize`."""
    return int(text[:-1]) * _SIZES[text[-1]]


Duration = Annotated[
    str,
    PlainValidator(_duration),
    WithJsonSchema({"type": "string", "pattern": "^[1-9][0-9]{0,5}[smhdwy]$"}),
]
DiskSize = Annotated[
    str,
    PlainValidator(_disk_size),
    WithJsonSchema({"type": "string", "pattern": "^[1-9][0-9]{0,6} *[MGTmgt](i?B)?$"}),
]
SecretName = pattern(
    "bad-name",
    "Name of a secret",
    rf"{SECRET_PREFIX}[a-z0-9_]{{1,40}}",
    f"begins with {SECRET_PREFIX} and holds lower-case letters, digits and _; its value is typed in with "
    "`rackloom secrets set NAME`",
)
WebAddress = pattern(
    "bad-value",
    "Web address",
    r"https?://[A-Za-z0-9\[][^\s@]*",
    "looks like https://host.example/path, without a password in it",
    longest=2000,
)
MailAddress = pattern(
    "bad-value", "Mail address", r"[^\s@,<>]+@[A-Za-z0-9][A-Za-z0-9.-]*", "looks like oncall@site.example"
)
MailAddresses = listed(MailAddress)
Endpoint = pattern(
    "bad-value",
    "Target",
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\]):[0-9]{1,5}",
    "is a host and a port, like ups.example:9199",
)
Endpoints = listed(Endpoint)
JobName = pattern(
    "bad-name", "Name", r"[a-z][a-z0-9_]*", "holds lower-case letters, digits and _", longest=64
)
LabelName = pattern(
    "bad-label", "Label name", r"[a-zA-Z_][a-zA-Z0-9_]*", "holds letters, digits and _", longest=64
)
Severity = choice("critical", "warning", "info")
Scheme = choice("http", "https")
Severities = listed(Severity)
RuleFiles = listed(Text)
