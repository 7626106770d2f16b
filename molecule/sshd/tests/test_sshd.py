"""Who gets in, and how."""

from __future__ import annotations

import pytest
from testinfra.host import Host
from waits import until

OPTIONS = "-o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"


def refusal(host: Host, arguments: str) -> str:
    """Return why a login is refused; the shell's last word keeps ssh's own exit code from testinfra's transport."""
    said = host.check_output(f"ssh {OPTIONS} {arguments} true 2>&1 && echo logged in || true")
    return str(said).strip().split(": ")[-1]


@pytest.mark.parametrize("name", ["alice", "bob"])
def test_a_key_opens_the_door(host: Host, name: str) -> None:
    login = f"ssh {OPTIONS} -i /home/{name}/.ssh/id_ed25519 {name}@localhost id -un"
    assert host.check_output(login) == name


def test_a_key_of_somebody_not_allowed_does_not(host: Host) -> None:
    assert refusal(host, "-i /home/eve/.ssh/id_ed25519 eve@localhost") == "Permission denied (publickey)."


def test_no_password_is_asked_for(host: Host) -> None:
    # In brackets are the methods that the server would go on with.
    assert refusal(host, "-o PubkeyAuthentication=no alice@localhost") == "Permission denied (publickey)."


def test_what_the_server_runs_with(host: Host) -> None:
    settings = dict(line.split(" ", 1) for line in host.check_output("sshd -T").splitlines() if " " in line)
    assert settings["passwordauthentication"] == "no"
    assert settings["kbdinteractiveauthentication"] == "no"
    assert settings["permitrootlogin"] in ("without-password", "prohibit-password")
    assert settings["maxstartups"] == "100:30:400"


def test_old_sessions_stay_open_through_a_reload(host: Host) -> None:
    login = f"ssh {OPTIONS} -i /home/alice/.ssh/id_ed25519 alice@localhost"
    session = "pgrep -u alice -x sleep"
    host.run(f"nohup {login} sleep 301 >/dev/null 2>&1 </dev/null &")
    until(lambda: host.run(session).rc == 0)
    before = host.check_output(session)
    host.check_output("systemctl reload ssh")
    until(lambda: host.run(f"{login} true || exit 1").rc == 0)
    assert host.check_output(session) == before
    host.check_output(f"kill {before}")
