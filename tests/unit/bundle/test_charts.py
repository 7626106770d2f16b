"""A chart that a registry has and nobody else: its archive is looked up there, and taken by its digest."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from rackloom.bundle import pin, records
from rackloom.bundle.create import create
from rackloom.bundle.errors import FetchError
from rackloom.bundle.items import read_lock
from rackloom.bundle.progress import Progress
from rackloom.bundle.records import in_registry
from rackloom.bundle.resolve import web_for
from rackloom.bundle.verify import verify
from rackloom.site.versions import Record

if TYPE_CHECKING:
    from tests.unit.bundle.conftest import World

HELM = "application/vnd.cncf.helm"
ARCHIVE = gzip.compress(b"a chart of a registry", mtime=0)
LAYER = f"{HELM}.chart.content.v1.tar+gzip"


def registry(folder: Path, tag: str, *layers: str) -> str:
    """A layout with a chart in it, laid out as helm pushes one. Returns its address."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def blob(content: bytes) -> dict[str, Any]:
        sha256 = hashlib.sha256(content).hexdigest()
        (blobs / sha256).write_bytes(content)
        return {"digest": f"sha256:{sha256}", "size": len(content)}

    made = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": f"{HELM}.config.v1+json", **blob(b'{"name": "web", "version": "4.0+1"}')},
        "layers": [{"mediaType": kind, **blob(ARCHIVE)} for kind in layers],
    }
    found = {"mediaType": made["mediaType"], **blob(json.dumps(made).encode())}
    found["annotations"] = {"org.opencontainers.image.ref.name": tag}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [found]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return f"oci:{folder}"


def over(tmp_path: Path, url: str, sha256: str) -> Path:
    """A versions file whose chart is in that registry."""
    path = tmp_path / "versions.yml"
    path.write_text(yaml.safe_dump({"charts": {"web": {"version": "4.0+1", "url": url, "sha256": sha256}}}))
    return path


def test_a_chart_of_a_registry_lies_in_the_bundle_as_any_other(
    world: World, tmp_path: Path, quiet: Progress
) -> None:
    url = registry(tmp_path / "layout", "4.0_1", LAYER)
    extra = over(tmp_path, url, hashlib.sha256(ARCHIVE).hexdigest())
    made = create(world.request(versions=(extra,)), tmp_path / "b", quiet, key=world.key)
    assert (made.folder / "charts/web-4.0+1.tgz").read_bytes() == ARCHIVE
    [chart] = [item for item in read_lock(made.folder) if item.kind == "chart"]
    assert chart.size == len(ARCHIVE)
    assert chart.origin == f"{url}:4.0_1"
    assert verify(made.folder).good()
    again = create(world.request(versions=(extra,)), tmp_path / "b", quiet, key=world.key)
    assert again.fetched == 0 and not again.changed


def test_another_chart_under_the_same_name_is_refused(world: World, tmp_path: Path, quiet: Progress) -> None:
    extra = over(tmp_path, registry(tmp_path / "layout", "4.0_1", LAYER), "0" * 64)
    with pytest.raises(FetchError, match="chart web"):
        create(world.request(versions=(extra,)), tmp_path / "b", quiet, key=world.key)
    assert not (tmp_path / "b/charts/web-4.0+1.tgz").exists()


def test_its_digest_is_looked_up(world: World, tmp_path: Path) -> None:
    site = tmp_path / "config"
    site.mkdir()
    (site / "cluster.yml").write_text("name: demo\n")
    url = registry(tmp_path / "layout", "4.0_1", LAYER)
    over(site, url, "")
    [found] = pin.pin(site)
    assert found.digest == hashlib.sha256(ARCHIVE).hexdigest()
    assert records.read_versions(config=site).charts["web"] == {
        "version": "4.0+1",
        "url": url,
        "sha256": found.digest,
        "__folder__": site.resolve(),
    }


@pytest.mark.parametrize("layers", [(), (f"{HELM}.chart.provenance.v1.prov",), (LAYER, LAYER)])
def test_what_is_no_chart_is_not_taken_for_one(world: World, tmp_path: Path, layers: tuple[str, ...]) -> None:
    url = registry(tmp_path / "layout", "4.0", *layers)
    record = Record("chart", "web", {"version": "4.0", "url": url, "sha256": ""}, tmp_path)
    with pytest.raises(FetchError, match="this is no chart"):
        pin.chart_digest(record, web_for(world.request()))


@pytest.mark.parametrize(
    ("url", "reference"),
    [
        ("oci://registry.example:5000/charts/web:1", "docker://registry.example:5000/charts/web:1"),
        ("oci:/srv/layout:1", "oci:/srv/layout:1"),
        ("https://charts.example/web-1.tgz", ""),
        ("file:///srv/oci:/web.tgz", ""),
    ],
)
def test_addresses_of_registries_are_told_from_others(url: str, reference: str) -> None:
    assert in_registry(url) == reference
