"""A cluster of systemd containers on this machine: the demo, the bench and the end-to-end test.

`manage` is the door for the CLI, `instances` the one for the role scenarios. Everything
below them is small: `machine` looks at the host, `image` builds the node image, `network`
finds a free subnet, `podman` speaks to the engine, `nodes` boots, `config` writes the site.
"""

from __future__ import annotations
