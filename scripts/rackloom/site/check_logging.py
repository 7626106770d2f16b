"""Checks of the section `logging:` of cluster.yml, and where logs are kept."""

from __future__ import annotations

from .context import Context
from .fields_monitoring import disk_mb, span_seconds
from .logging_vars import BEATS, DAY, ELASTICSEARCH, KIBANA, MOST_HEAP_MB, SENDERS, STORE
from .mistakes import suggest
from .models import ALL_NODES
from .models_logging import Logging

TOP = "logging"
MOST_TIME = 10 * 365 * DAY
LEAST_SIZE_MB = 1024
"""Less than a day of a small cluster; whole days are removed, so nothing would be left to search."""
LEAST_HEAP_MB = 1024
LEAST_JOURNAL_MB = 256
"""Less would not last for the minutes that a restart of the store's host takes."""


def place_logging(ctx: Context, lists: dict[str, list[str]]) -> None:
    """The section alone puts the store on the first management node; all nodes send their logs then."""
    named = ctx.cluster_file.services
    elastic = ctx.cluster_file.logging.store == ELASTICSEARCH
    if STORE not in named and _written(ctx) and not elastic:
        ctx.groups[STORE] = lists["management"][:1]
    if KIBANA not in named and elastic and ctx.groups[ELASTICSEARCH]:
        ctx.groups[KIBANA] = lists["management"][:1]
    if SENDERS not in named and (ctx.groups[STORE] or ctx.groups[ELASTICSEARCH]):
        ctx.groups[SENDERS] = [name for names in lists.values() for name in names]
    ctx.groups[BEATS] = list(ctx.groups[SENDERS]) if elastic else []


def _written(ctx: Context) -> bool:
    data = ctx.cluster.source.data
    return isinstance(data, dict) and TOP in data


def check_logging(ctx: Context) -> None:
    """Look at all of the section."""
    wanted = ctx.cluster_file.logging
    _hosts(ctx, wanted)
    if wanted.store == ELASTICSEARCH:
        _elastic(ctx, wanted)
    elif _written(ctx) and not ctx.groups[STORE] and STORE in ctx.cluster_file.services:
        message = f"There is a section {TOP}, and {STORE} is switched off."
        cure = f"Remove the section, or `{STORE}: []`."
        ctx.cluster(("services", STORE), "[]", message, cure, "missing-service")
    _retention(ctx, wanted)
    _files(ctx, wanted)


def _hosts(ctx: Context, wanted: Logging) -> None:
    """One of the two stores has hosts, and nobody sends to nowhere."""
    elastic = wanted.store == ELASTICSEARCH
    other = STORE if elastic else ELASTICSEARCH
    if ctx.groups[other]:
        message = f"{other} has hosts, and {TOP}.store is {wanted.store}."
        cure = f"Remove them, or write `store: {'victorialogs' if elastic else ELASTICSEARCH}`."
        ctx.cluster(("services", other), other, message, cure, "other-store", key=True)
    elif not elastic and ctx.groups[SENDERS] and not ctx.groups[STORE]:
        message = f"{SENDERS} has hosts, but {STORE}, which it needs, has none."
        cure = f"Name a host for {STORE}, or switch {SENDERS} off with `{SENDERS}: []`."
        at = ("services", STORE) if STORE in ctx.cluster_file.services else ("services", SENDERS)
        ctx.cluster(at, "[]", message, cure, "missing-service")
    if BEATS in ctx.cluster_file.services:
        message = f"The hosts of {BEATS} are those of {SENDERS} where {TOP}.store is {ELASTICSEARCH}."
        ctx.cluster(("services", BEATS), BEATS, message, f"Name {SENDERS}.", "reserved-name", key=True)


def _elastic(ctx: Context, wanted: Logging) -> None:
    if not ctx.groups[ELASTICSEARCH] and not ctx.broken_names - set(ctx.hosts):
        message = f"{TOP}.store is {ELASTICSEARCH}, and no host keeps the logs."
        cure = f"Name one or three: `services: {{{ELASTICSEARCH}: [mgmt01, mgmt02, mgmt03]}}`."
        ctx.cluster((TOP, "store"), wanted.store, message, cure, "missing-service")
    if (heap := wanted.elasticsearch.heap) and not LEAST_HEAP_MB <= disk_mb(heap) <= MOST_HEAP_MB:
        message = f"Elasticsearch is slow with a heap of {heap}."
        cure = f"Write from {LEAST_HEAP_MB // 1024}G to {MOST_HEAP_MB // 1024}G, half of the host's memory at most."
        ctx.cluster((TOP, ELASTICSEARCH, "heap"), heap, message, cure, "bad-heap")


def _retention(ctx: Context, wanted: Logging) -> None:
    where = (TOP, "retention")
    time, size = wanted.retention.time, wanted.retention.size
    if span_seconds(time) < DAY:
        message = f"{time} is less than a day, and logs are removed by whole days."
        ctx.cluster((*where, "time"), time, message, "Write 1d or more.", "retention-too-small")
    if span_seconds(time) > MOST_TIME:
        message = f"{time} is more than ten years."
        ctx.cluster((*where, "time"), time, message, "Write up to 10y.", "retention-too-large")
    if size and disk_mb(size) < LEAST_SIZE_MB:
        message = f"{size} holds less than a day of a small cluster, and logs are removed by whole days."
        ctx.cluster((*where, "size"), size, message, "Write 1G or more.", "retention-too-small")
    if disk_mb(wanted.journal) < LEAST_JOURNAL_MB:
        message = f"{wanted.journal} of journal are full before the store is back from a restart."
        cure = f"Write {LEAST_JOURNAL_MB}M or more."
        ctx.cluster((TOP, "journal"), wanted.journal, message, cure, "retention-too-small")


def _files(ctx: Context, wanted: Logging) -> None:
    seen: dict[str, int] = {}
    for file in wanted.files:
        where = (*file.where, "path")
        if file.path in seen:
            message = f"{file.path} is already in line {seen[file.path]}; its lines would arrive twice."
            ctx.cluster(where, file.path, message, "Name each file once.", "duplicate-name")
        seen.setdefault(file.path, ctx.cluster.line(where))
        if file.path.startswith("/var/log/journal"):
            message = "The journal is sent in any case."
            ctx.cluster(where, file.path, message, "Remove the entry.", "reserved-name")
        for number, name in enumerate(file.nodes):
            if name != ALL_NODES and name not in ctx.groups:
                message = f"There is no group {name}."
                cure = suggest(name, ctx.groups) or "Write all, or one of the service groups."
                ctx.cluster((*file.where, "nodes", number), name, message, cure, "unknown-group")
