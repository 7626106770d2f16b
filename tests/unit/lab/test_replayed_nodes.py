"""Exporters that are played: what they said goes on, and a page is well formed."""

from __future__ import annotations

import asyncio
import gzip
import json
import ssl
import time
from pathlib import Path

import pytest
from tests.daemons import free_port

from rackloom.lab.bench_monitoring import gpu_page, slurm_page
from rackloom.lab.replayed_nodes import Moving, Teller, moving, serve
from rackloom.site.authority import issue, make_authority, make_key

FIRST = """\
# TYPE cpu_seconds_total counter
cpu_seconds_total{cpu="0",mode="idle"} 10.25
cpu_seconds_total{cpu="0",mode="nice"} 0
cpu_seconds_total{cpu="1",mode="idle"} 20.25
cpu_seconds_total{cpu="1",mode="nice"} 0
# TYPE temperature gauge
temperature 50
# TYPE memory gauge
memory 64
"""
LATER = FIRST.replace("10.25", "12.25").replace("20.25", "22.75").replace("memory 64", "memory 63")


def samples(text: str) -> dict[str, float]:
    rows = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in rows}


def test_a_machine_gets_as_many_cores_as_wanted() -> None:
    page = moving(FIRST, LATER, 2, 5)
    names = set(samples(Teller(page, 1).say()))
    assert {
        f'cpu_seconds_total{{cpu="{core}",mode="{mode}"}}' for core in range(5) for mode in ("idle", "nice")
    } < names
    assert len(names) == page.series == 12


def test_counters_go_on_gauges_swing_and_the_rest_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    teller = Teller(moving(FIRST, LATER, 2, 2), speed=10)
    before = samples(teller.say())
    now += 4
    after = samples(teller.say())
    grown = after['cpu_seconds_total{cpu="0",mode="idle"}'] - before['cpu_seconds_total{cpu="0",mode="idle"}']
    # One a second, ten times as fast, give or take a half.
    assert 20 <= grown <= 60
    assert before["temperature"] == after["temperature"] == 50
    assert after['cpu_seconds_total{cpu="1",mode="nice"}'] == 0
    assert 0.4 * 64 < after["memory"] < 1.7 * 64


def test_a_page_comes_through_json_as_it_was() -> None:
    page = moving(FIRST, LATER, 2, 3)
    assert Moving.load(json.loads(json.dumps(page.dump()))) == page


def test_every_gpu_has_each_of_its_metrics() -> None:
    names = samples(Teller(gpu_page(3), 1).say())
    assert sum(name.startswith("DCGM_FI_DEV_GPU_UTIL{") for name in names) == 3
    assert len(names) % 3 == 0


def test_slurm_tells_of_every_node_and_its_gpus() -> None:
    names = samples(Teller(slurm_page(["a", "b", "c"], 8, 2), 1).say())
    assert sum(name.startswith("slurm_job_gpu{") for name in names) == 6
    assert sum(name.startswith("slurm_node_state{") for name in names) == 3


def test_nodes_answer_at_their_own_addresses_over_tls(tmp_path: Path) -> None:
    key = make_key()
    (tmp_path / "ca.crt").write_text(make_authority(key))
    made = issue(key, (tmp_path / "ca.crt").read_text(), "nodes", ["127.20.9.1", "127.20.9.2"])
    (tmp_path / "key").write_text(made.key)
    (tmp_path / "crt").write_text(made.certificate)
    port, prober = free_port(), free_port()
    group = {"certificate": str(tmp_path / "crt"), "key": str(tmp_path / "key"), "ports": {str(port): "node"}}
    page = moving(FIRST, LATER, 2, 2).dump()
    plan = {
        "speed": 1,
        "probe_port": prober,
        "pages": {"node": page, "probe": page},
        "groups": [{**group, "addresses": ["127.20.9.1", "127.20.9.2"]}],
    }

    async def ask(address: str) -> bytes:
        context = ssl.create_default_context(cafile=str(tmp_path / "ca.crt"))
        reader, writer = await asyncio.open_connection(address, port, ssl=context)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        [size] = [line for line in head.split(b"\r\n") if line.startswith(b"Content-Length: ")]
        body = await reader.readexactly(int(size.partition(b" ")[2]))
        writer.close()
        return gzip.decompress(body)

    async def run() -> list[bytes]:
        ready = tmp_path / "ready"
        server = asyncio.create_task(serve(plan, ready))
        while not ready.exists():
            assert not server.done(), server.exception()
            await asyncio.sleep(0.01)
        answers = [await ask(address) for address in ("127.20.9.1", "127.20.9.2")]
        server.cancel()
        return answers

    first, second = (samples(answer.decode()) for answer in asyncio.run(run()))
    assert set(first) == set(second)
    assert first != second
