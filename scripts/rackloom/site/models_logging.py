"""The section `logging:` of cluster.yml: which logs are kept, for how long, and where."""

from __future__ import annotations

from pydantic import Field

from . import fields as f
from . import fields_logging as fl
from .fields_monitoring import DiskSize, Duration
from .part import Part


class LogFile(Part):
    """A text file, or files by a pattern, that are no part of the journal."""

    path: f.AbsolutePath = Field(description="Path on the nodes, or a pattern: /srv/app/*.log")
    unit: f.Word = Field(description="Name under which its lines are found")
    format: fl.LineFormat = Field(
        "text",
        description="container: as container runtimes write, with the pod in the path; audit: of the API server",
    )
    nodes: f.Words = Field(["all"], description="all, or a service group: where the file is looked for")


class LogRetention(Part):
    """How much of the past is kept; what is reached first counts."""

    time: Duration = Field("30d", description="How long, in days, weeks or years, like 30d or 1y")
    size: DiskSize = Field(
        "",
        description="How much disk at most, like 200G; left out: as much as the time takes. "
        "Elasticsearch goes by the time alone and is refused where the disks cannot hold the size",
    )


class Elasticsearch(Part):
    """How Elasticsearch runs, where that is the store; `services:` names its hosts and those of Kibana."""

    heap: DiskSize = Field(
        "", description="Memory of its Java machine; left out: half of the profile's memory, up to 31G"
    )
    path: f.AbsolutePath = Field("/var/lib/elasticsearch", description="Folder of the logs on its hosts")
    snapshots: f.AbsolutePath = Field(
        "",
        description="Folder that all its hosts share, for a snapshot of the logs every night; left out: none",
    )


class Logging(Part):
    """Logs of all nodes. Being there at all keeps them on the first management node, unless `services:` says where."""

    store: fl.LogStore = Field(
        "victorialogs", description="Program that keeps them: one on one host, or Elasticsearch with Kibana"
    )
    retention: LogRetention = Field(default_factory=LogRetention)
    path: f.AbsolutePath = Field(
        "/var/lib/rackloom-log-store", description="Folder of the logs on the node of group log_server"
    )
    journal: DiskSize = Field(
        "4G", description="Disk that a node's journal takes at most; lines wait there while the store is away"
    )
    files: list[LogFile] = Field([], description="Text files that are sent too")
    elasticsearch: Elasticsearch = Field(default_factory=Elasticsearch)
