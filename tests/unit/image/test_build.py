"""A build that is killed: what it leaves, and what the next one does with it."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rackloom.image.build import clear
from rackloom.image.errors import ImageError
from rackloom.lab.shell import confined

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts are root's")


@as_root
def test_a_killed_build_takes_its_mounts_and_its_programs_with_it(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    told = tmp_path / "told"
    os.mkfifo(told)
    child = f"mount -t tmpfs none {inside} && touch {inside}/file && echo $$ >{told} && exec sleep 600"
    program = "import subprocess, sys; from rackloom.lab.shell import confined; subprocess.run(confined(sys.argv[1:]))"
    with subprocess.Popen([sys.executable, "-c", program, "sh", "-c", child]) as parent:
        pid = int(told.read_text())
        watched = os.pidfd_open(pid)
        assert not list(inside.iterdir())  # seen by nobody else
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    with os.fdopen(watched):
        assert select.select([watched], [], [], 120)[0], "it lives on"


def test_leftovers_go_with_the_next_build(tmp_path: Path) -> None:
    (tmp_path / ".build-old/tmp").mkdir(parents=True)
    (tmp_path / "build.log").write_text("said")
    clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["build.log"]


@as_root
def test_a_leftover_with_something_mounted_is_left_alone(tmp_path: Path) -> None:
    place = tmp_path / ".build-old/proc"
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", place], check=True)
    try:
        (place / "precious").touch()
        with pytest.raises(ImageError, match=str(place)) as caught:
            clear(tmp_path)
        assert "umount" in caught.value.cure
        assert (place / "precious").exists()
    finally:
        subprocess.run(["umount", place], check=True)


def test_the_program_itself_is_the_last_words(tmp_path: Path) -> None:
    assert confined(["true", str(tmp_path)])[-2:] == ["true", str(tmp_path)]
