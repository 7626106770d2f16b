#!/usr/bin/python3
# Managed by Rackloom.
"""
Renews the control plane's certificates of this node before they end: kube-certificates.py DAYS.

One part after the other is started anew and must answer before the next one's turn comes. As long as another
control-plane node is away, it waits for the next day, unless the end is near.
"""

from __future__ import annotations

import http.client
import json
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

CONFIG = "/etc/rackloom/kubernetes/kubeadm.json"
PARTS = {"etcd": 0, "kube-apiserver": 6443, "kube-controller-manager": 10257, "kube-scheduler": 10259}
NEAR, PATIENCE = 3, 240
DAY = 86400


def run(*argv: str) -> str:
    """Run a program that has to succeed."""
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return subprocess.run(
        argv, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, "PATH": path}
    ).stdout


def ending(told: dict[str, list[dict[str, object]]], days: float) -> list[str]:
    """Names of what ends within so many days. What is not there, or belongs to somebody else, is left out."""
    return [
        str(each["name"])
        for each in told.get("certificates", [])
        if not each.get("missing")
        and not each.get("externallyManaged")
        and int(str(each["residualTime"])) < days * DAY
    ]


def answers(host: str, port: int, path: str) -> bool:
    """Whether a part of the control plane says that it is well."""
    context = ssl._create_unverified_context()  # noqa: S323, SLF001 - only asked how it is
    connection = http.client.HTTPSConnection(host, port, timeout=3, context=context)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def wait(what: str, done: Callable[[], bool]) -> None:
    """Await a condition."""
    end = time.monotonic() + PATIENCE
    while not done():
        if time.monotonic() > end:
            sys.exit(f"not within {PATIENCE} s: {what}")
        time.sleep(1)


def restart(name: str, address: str) -> None:
    """Have the kubelet start a part anew, and await it."""
    before = run("crictl", "ps", "--quiet", "--name", f"^{name}$").split()
    for container in before:
        run("crictl", "stop", container)

    def there() -> bool:
        now = run("crictl", "ps", "--quiet", "--name", f"^{name}$").split()
        return bool(now) and not set(now) & set(before)

    wait(f"{name} starts anew", there)
    if name in ("etcd", "kube-apiserver"):
        wait(f"{name} answers", lambda: answers(address, 6443, "/readyz"))
    else:
        wait(f"{name} answers", lambda: answers("127.0.0.1", PARTS[name], "/healthz"))


def main() -> None:
    """Look, renew, start anew."""
    days = float(sys.argv[1])
    address, *others = sys.argv[2:]
    look = json.loads(run("kubeadm", "certs", "check-expiration", "--output=json", f"--config={CONFIG}"))
    found = ending(look, days)
    if not found:
        print(f"No certificate ends within {days:.0f} days.")
        return
    away = [other for other in others if not answers(other, 6443, "/readyz")]
    if away and not ending(look, NEAR):
        sys.exit(f"{', '.join(found)} end soon; they are not renewed while {', '.join(away)} is away.")
    run("kubeadm", "certs", "renew", "all", f"--config={CONFIG}")
    for name in PARTS:
        # etcd may have hosts of its own
        if Path(f"/etc/kubernetes/manifests/{name}.yaml").exists():
            restart(name, address)
    print(f"Renewed all certificates; these were about to end: {', '.join(found)}.")


if __name__ == "__main__":
    main()
