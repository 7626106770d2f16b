"""The section `kubernetes.queueing:` of cluster.yml: who may have how much at a time, and who waits."""

from __future__ import annotations

from pydantic import Field

from . import fields as f
from .part import Part

ANYWHERE = "any"
"""The kind of node that every node is of."""
UNDECLARED = ("cpu", "memory", "ephemeral-storage")
"""What every pod asks for; counted where a queue has a quota of it."""


class KubeQueue(Part):
    """A queue, and what its jobs may have at a time."""

    name: f.QueueName = Field(description="Its name, which jobs say")
    namespaces: f.QueueNames = Field(
        description="Namespaces whose jobs may use it; they are made where needed"
    )
    quotas: dict[f.Text, f.Quotas] = Field(
        description=f"By kind of node, as named under `kinds`, or `{ANYWHERE}`: resource → how much"
    )
    cohort: f.Text = Field("", description="Queues of one cohort lend each other what they do not use")


class Queueing(Part):
    """Queues with quotas for jobs, by Kueue."""

    kinds: dict[f.QueueName, f.Labels] = Field({}, description="Kinds of nodes, by the labels that they have")
    queues: list[KubeQueue] = Field([], description="The queues; with one and more, Kueue runs")
