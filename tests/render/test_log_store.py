"""nginx reads what stands before the log store, and a limit that the disk cannot hold is refused."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from tests.tools import tool

from rackloom.site.authority import issue, make_authority, make_key

ROLE = Path(__file__).parents[2] / "roles" / "log_store"
DEFAULTS = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
VARS = yaml.safe_load((ROLE / "vars" / "main.yml").read_text())


def rendered(template: str, **inputs: Any) -> str:
    variables = {
        **DEFAULTS,
        "log_store_address": "127.0.0.1",
        "log_store_password": 'a "quoted" $password; with \\E signs',
        "log_store_scrape_password": "other\\E",
        "__log_store_os": {"http_user": "root"},
        "__log_store_account": VARS["__log_store_account"],
        "__log_store_upstream": VARS["__log_store_upstream"],
        **inputs,
    }
    source = trust_as_template((ROLE / "templates" / template).read_text())
    text = Templar(loader=DataLoader(), variables=variables).template(
        source, overrides={"trim_blocks": True, "lstrip_blocks": True}
    )
    return str(text)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_nginx_reads_it(tmp_path: Path, address: str) -> None:
    key = make_key()
    (tmp_path / "ca.crt").write_text(make_authority(key))
    made = issue(key, (tmp_path / "ca.crt").read_text(), "log store", [address])
    (tmp_path / "server.key").write_text(made.key)
    (tmp_path / "server.crt").write_text(made.certificate)
    text = rendered("nginx.conf.j2", log_store_address=address)
    assert "$password" not in text, "a password is no variable of nginx"
    config = tmp_path / "nginx.conf"
    text = text.replace("/etc/rackloom/log_store", str(tmp_path)).replace("/run/", f"{tmp_path}/")
    for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"):
        text = text.replace("http {\n", f"http {{\n    {name}_temp_path {tmp_path}/{name};\n", 1)
    config.write_text(text)
    argv = [str(tool("nginx", "nginx")), "-t", "-q", "-e", "stderr", "-c", str(config)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_password_is_on_the_stores_command_line() -> None:
    unit = rendered("log-store.service.j2", log_store_max_mb=10)
    assert "quoted" not in unit
    assert "-retention.maxDiskSpaceUsageBytes=10MiB" in unit
    assert "maxDiskSpaceUsageBytes" not in rendered("log-store.service.j2")


def test_a_store_has_another_life_after_it_was_killed_only(tmp_path: Path) -> None:
    script, now = ROLE / "files" / "log-store-life", tmp_path / "now"
    data = tmp_path / "data"
    data.mkdir()

    def tell(word: str, result: str = "success") -> str:
        env = {"PATH": "/usr/bin:/bin", "SERVICE_RESULT": result}
        subprocess.run(["sh", str(script), str(data), str(now), word], env=env, check=True)
        return now.read_text()

    first = tell("begin")
    assert first.startswith("LIFE=")
    tell("end")
    assert tell("begin") == first, "it was stopped"
    for result in ("signal", "core-dump", "timeout", "watchdog", "exit-code"):
        before = now.read_text()
        tell("end", result)
        assert tell("begin") != before, result
    before = now.read_text()
    assert tell("begin") != before, "a power cut tells nobody"


@pytest.mark.parametrize(("most", "fits"), [(0, True), (1, True), (10**12, False)])
def test_a_limit_that_the_disk_cannot_hold_is_refused(tmp_path: Path, most: int, fits: bool) -> None:
    asked = tmp_path / "disk.json"
    asked.write_text(json.dumps({"path": f"{tmp_path}/not/there/yet", "max_mb": most}))
    command = shlex.split(VARS["__log_store_disk_check"].strip().replace("%d", "%%d"))
    argv = [word.replace("%%d", "%d") for word in command[:-1]]
    done = subprocess.run([*argv, str(asked)], capture_output=True, text=True, check=False)
    assert (done.returncode == 0) is fits, done.stderr
    assert fits or f"log_store_max_mb is {most}" in done.stderr
