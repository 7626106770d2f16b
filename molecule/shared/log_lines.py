"""Asking the log store what it holds; the scenarios of those who send to it import this."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from testinfra.host import Host

Rows = list[dict[str, Any]]
Ask = Callable[[str], Rows]


def asking(host: Host) -> Ask:
    """A function from a query to what the store on this host answers; nothing while it is away."""
    secret = host.file("/etc/rackloom/log_store/password").content_string.strip()
    address = host.ansible.get_variables()["rackloom_address"]

    def ask(query: str) -> Rows:
        done = host.run(
            "curl -sS -m 20 --cacert /etc/rackloom/ca.crt -u %s --data-urlencode %s %s",
            f"rackloom:{secret}",
            f"query={query}",
            f"https://{address}:9428/logs/select/logsql/query",
        )
        return [json.loads(row) for row in done.stdout.splitlines() if row.startswith("{")]

    return ask
