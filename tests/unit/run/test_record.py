"""The record, fed by hand."""

from __future__ import annotations

import pytest

from rackloom.run import cures
from rackloom.run.record import HIDDEN, Record, failure_text

CREATED = "2026-01-01T00:00:{:02d}+00:00"


class Feed:
    """Makes events as ansible-runner does."""

    def __init__(self, *stages: str) -> None:
        self.record = Record(stages)
        self.second = 0
        self.task_uuid = ""

    def _see(self, event: str, **data: object) -> None:
        self.second += 1
        self.record.see({"event": event, "created": CREATED.format(self.second), "event_data": data})

    def play(self, *hosts: str, tags: tuple[str, ...] = (), path: str = "/x/a.yml:3") -> None:
        self._see("playbook_on_play_start", name="P", hosts=list(hosts), tags=list(tags), path=path)

    def task(self, name: str, action: str = "ansible.builtin.debug") -> None:
        self.task_uuid = name
        self._see("playbook_on_task_start", task_uuid=name, task=name, resolved_action=action)

    def result(self, host: str, kind: str = "ok", **res: object) -> None:
        extra = {"ignore_errors": res.pop("ignore", None)}
        self._see(f"runner_on_{kind}", host=host, task_uuid=self.task_uuid, res=res, **extra)


def test_stages_come_from_tags_or_files_and_begin_with_a_task() -> None:
    feed = Feed("base", "slurm")
    for tags, path in ((("slurm", "x"), "/x/a.yml:3"), ((), "/x/mirror.yml:3")):
        feed.play("a", tags=tags, path=path)
        feed.task(f"T{path}")
        feed.result("a")
    feed.play("a", tags=("base",))
    assert list(feed.record.stages) == ["slurm", "mirror"]


def test_who_is_awaited() -> None:
    feed = Feed()
    feed.play("a", "b", "c")
    feed.task("T")
    feed.result("b")
    assert list(feed.record.pending) == ["a", "c"]
    feed.result("c", "unreachable", msg="no route to host")
    feed.task("U")
    assert list(feed.record.pending) == ["a", "b"]


def test_shares() -> None:
    feed = Feed()
    feed.play("a", "b")
    feed.task("T", "ansible.builtin.command")
    feed.result("a", changed=True)
    feed.result("b", "skipped")
    feed.task("U")
    feed.result("a")
    feed.result("b")
    counts = feed.record.counts()
    assert (counts["tasks"], counts["evaluations"], counts["changed"]) == (2, 4, 1)
    assert (counts["skipped_share"], counts["shell_share"], counts["shell_evaluations"]) == (0.25, 0.5, 2)


def test_an_interrupted_task_is_in_the_timeline() -> None:
    feed = Feed()
    feed.play("a", "b")
    feed.task("T")
    feed.result("a")
    feed.record.finish(interrupted=True)
    assert [row[1:2] + row[4:] for row in feed.record.timeline()["rows"]] == [
        ["a", "ok"],
        ["b", "interrupted"],
    ]


def test_without_a_final_count_every_failure_counts() -> None:
    feed = Feed()
    feed.play("a")
    feed.task("T")
    feed.result("a", "failed", msg="no")
    feed.record.finish(interrupted=True)
    assert [failure.message for failure in feed.record.failures] == ["no"]


@pytest.mark.parametrize(
    ("res", "text"),
    [
        ({"msg": "no"}, "no"),
        ({"censored": "hidden", "msg": "secret"}, HIDDEN),
        (
            {"msg": "MODULE FAILURE", "module_stderr": "a\nImportError: b"},
            "MODULE FAILURE: a | ImportError: b",
        ),
        ({"msg": "non-zero return code", "stderr": "boom"}, "non-zero return code: boom"),
        ({"msg": ["a", "b"]}, "a; b"),
        ({"msg": "All items", "results": [{"failed": True, "msg": "x"}, {"msg": "y"}]}, "x"),
        ({"msg": "All", "results": [{"failed": True, "censored": "z", "msg": "s"}]}, HIDDEN),
        ({}, "failed without a message"),
    ],
)
def test_what_a_failure_says(res: dict[str, object], text: str) -> None:
    assert failure_text(res) == text


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("root@10.0.0.1: Permission denied (publickey).", "ssh_refused_key"),
        ("Host key verification failed.", "ssh_host_key"),
        ("ssh: connect to host 10.0.0.1 port 22: Connection timed out", "unreachable"),
        ("ssh: connect to host 10.0.0.1 port 22: Connection refused", "connection_refused"),
        ("E: Could not get lock /var/lib/dpkg/lock-frontend", "package_lock"),
        ("E: dpkg was interrupted, you must manually run 'dpkg --configure -a'", "package_interrupted"),
        ("No package matching 'slurmd' is available", "package_missing"),
        ("Temporary failure resolving 'deb.example.org'", "dns"),
        ("[Errno 28] No space left on device", "disk_full"),
        ("munge: Munge decode failed: Invalid credential", "munge"),
        ("slurm_load_partitions: Unable to contact slurm controller (connect failure)", "slurm_controller"),
        ("Decryption failed (no vault secrets were found that could decrypt)", "vault_key"),
        ("bind: Address already in use", "port_taken"),
        ("something new", "task_failed"),
    ],
)
def test_cures(text: str, code: str) -> None:
    found, cure = cures.find(text, "gpu01")
    assert found == code
    assert bool(cure) == (code != "task_failed")
    assert "{" not in cure


def test_cures_have_unique_codes() -> None:
    codes = [cure.code for cure in cures.CURES]
    assert len(codes) == len(set(codes))
