"""The section `monitoring:` of cluster.yml: what is measured, how long it is kept, and who is told."""

from __future__ import annotations

from pydantic import Field

from . import fields as f
from . import fields_monitoring as m
from .part import Part

KINDS = ("email", "slack", "webhook", "pagerduty")
"""The ways in which a receiver is told; each is a field of `Receiver`."""


class Retention(Part):
    """How much of the past is kept; what is reached first counts."""

    time: m.Duration = Field("15d", description="How long, like 15d or 1y")
    size: m.DiskSize = Field(
        "", description="How much disk at most, like 50G; left out: as much as the time takes"
    )


class RemoteWrite(Part):
    """A store elsewhere that gets all that is measured here."""

    url: m.WebAddress = Field(description="Where it takes remote write")
    user: f.Text = Field("", description="User there; its password is `secret`")
    secret: m.SecretName = Field(
        "", description="Name of the secret with the password, or with a bearer token"
    )
    ca: f.AbsolutePath = Field("", description="File on the node with the authority to trust, PEM")


class Smtp(Part):
    """The mail server that alerts are handed to."""

    host: m.Endpoint = Field("", description="Host and port, like mail.site.example:587")
    sender: m.MailAddress = Field("", description="From whom alerts come")
    user: f.Text = Field("", description="User there, if it wants one; its password is `secret`")
    secret: m.SecretName = Field("", description="Name of the secret with the password")
    tls: bool = Field(True, description="Whether it must speak TLS")


class EmailReceiver(Part):
    """By e-mail."""

    to: m.MailAddresses = Field([], description="To whom")


class SlackReceiver(Part):
    """In a channel of Slack, or of what speaks like it."""

    channel: f.Text = Field("", description="Like '#cluster'")
    secret: m.SecretName = Field("", description="Name of the secret with the URL of the incoming webhook")


class WebhookReceiver(Part):
    """To a program of the site, as Alertmanager's JSON."""

    url: m.WebAddress = Field("", description="Where it listens; or leave it out and give `secret`")
    secret: m.SecretName = Field(
        "", description="Name of the secret with the URL, where that has a token in it"
    )
    ca: f.AbsolutePath = Field("", description="File on the node with the authority to trust, PEM")


class PagerdutyReceiver(Part):
    """A call by PagerDuty."""

    secret: m.SecretName = Field(
        "", description="Name of the secret with the integration key (Events API v2)"
    )


class Receiver(Part):
    """Somebody who is told; by all of the ways that are named here."""

    name: f.Word = Field(description="Name that routes use")
    email: EmailReceiver = Field(default_factory=EmailReceiver)
    slack: SlackReceiver = Field(default_factory=SlackReceiver)
    webhook: WebhookReceiver = Field(default_factory=WebhookReceiver)
    pagerduty: PagerdutyReceiver = Field(default_factory=PagerdutyReceiver)
    resolved: bool = Field(True, description="Whether it is also told when things are well again")

    @property
    def ways(self) -> list[str]:
        """By which of KINDS it is told."""
        return [kind for kind in KINDS if kind in self.model_fields_set]


class AlertRoute(Part):
    """Which alerts go to whom; the first route that fits wins."""

    receiver: f.Word = Field(description="One of `receivers`")
    severity: m.Severities = Field([], description="Alerts of these; [] = of all")
    match: dict[m.LabelName, f.Text] = Field(
        {}, description="Only alerts with these labels: {service: slurmctld}"
    )
    wait: m.Duration = Field("", description="How long alerts are gathered before the first is sent")
    interval: m.Duration = Field("", description="How long before more of the same group are sent")
    repeat: m.Duration = Field("", description="How long before it is said again")
    go_on: bool = Field(False, description="Whether later routes get these alerts too")


class SiteJob(Part):
    """Something of the site that is asked too."""

    name: m.JobName = Field(description="Name, which becomes the label job")
    targets: m.Endpoints = Field(description="Hosts with ports")
    scheme: m.Scheme = Field("http", description="http or https")
    path: f.Text = Field("/metrics", description="Path there")
    labels: dict[m.LabelName, f.Text] = Field({}, description="Labels that its metrics get")
    interval: m.Duration = Field("", description="How often; left out: like all others")
    user: f.Text = Field("", description="User, if it wants one; its password is `secret`")
    secret: m.SecretName = Field(
        "", description="Name of the secret with the password, or with a bearer token"
    )
    ca: f.AbsolutePath = Field(
        "", description="File on the node with the authority to trust; left out: the site's own"
    )


class Monitoring(Part):
    """Metrics and alerts. Being there at all puts them on the first management node, unless `services:` says where."""

    retention: Retention = Field(default_factory=Retention)
    path: f.AbsolutePath = Field(
        "/var/lib/prometheus/metrics2", description="Folder of the metrics on the nodes of group prometheus"
    )
    scrape_interval: m.Duration = Field("30s", description="How often everything is asked")
    address: m.WebAddress = Field(
        "", description="Where people reach the cluster's pages; left out: the node of group web_proxy"
    )
    runbooks: m.WebAddress = Field(
        "", description="Where the pages of docs/runbooks are; left out: runbooks/ under the address"
    )
    remote_write: list[RemoteWrite] = Field([], description="Stores elsewhere that get it all")
    smtp: Smtp = Field(default_factory=Smtp)
    receivers: list[Receiver] = Field(
        [], description="Who can be told; [] = alerts are seen on the page only"
    )
    receiver: f.Word = Field("", description="Who is told where no route fits; left out: the first receiver")
    routes: list[AlertRoute] = Field([], description="Which alerts go to whom")
    dead_man: f.Word = Field(
        "",
        description="The receiver that is told every few minutes that alerts work; its silence is the alarm",
    )
    rules: m.RuleFiles = Field([], description="Files with rules of your own, in this folder")
    jobs: list[SiteJob] = Field([], description="What else is asked for metrics")
    backups: dict[m.JobName, f.AbsolutePath] = Field(
        {},
        description="Folders in which a file must appear every day, by name; looked at on nodes that have them",
    )

    @property
    def used_secrets(self) -> list[str]:
        """Names of all secrets that it takes from the vault."""
        found = [write.secret for write in self.remote_write] + [job.secret for job in self.jobs]
        for receiver in self.receivers:
            found += [receiver.slack.secret, receiver.webhook.secret, receiver.pagerduty.secret]
        return list(dict.fromkeys(name for name in [*found, self.smtp.secret] if name))
