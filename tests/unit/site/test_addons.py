"""Add-ons as a site may have them: what `check` knows of them is what the role knows, and good ones pass."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from rackloom.docs_gen.tree import ROOT
from rackloom.site import check_site
from rackloom.site.models_kubernetes import ADDONS

HERE = Path(__file__).parent
ROLE = yaml.safe_load((ROOT / "roles/kube_addons/vars/main.yml").read_text())


def test_check_and_role_know_the_same_options() -> None:
    assert {name: set(own) for name, own in ROLE["__kube_addons_own"].items()} == {
        name: set(info.options) for name, info in ADDONS.items() if info.options is not None
    }
    assert set(ROLE["__kube_addons_with_chart"]) == {name for name, info in ADDONS.items() if info.chart}
    assert all((info.options is None) == bool(info.chart) for info in ADDONS.values())


@pytest.mark.parametrize(
    "addons",
    [
        "mpi_operator: {}",
        "mpi_operator: {values: {replicas: 2}}",
        "trainer: {}",
        "trainer: {values: {manager: {replicas: 2}}}",
        "kuberay: {}",
        "{kuberay: {}, volcano: {}}",
        "{kuberay: {values: {batchScheduler: {name: volcano}}}, volcano: {}}",
        "kuberay: {values: {batchScheduler: {name: yunikorn}}}",
        "jupyterhub: {enabled: false}",
        "jupyterhub: {values: {hub: {config: {JupyterHub: {authenticator_class: ldap}}}}}",
        "jupyterhub: {values: {hub: {extraConfig: {login: c.Authenticator.x = 1}}}}",
        "jupyterhub: {values: {hub: {existingSecret: hub-login}}}",
    ],
)
def test_good_ones_pass(addons: str, tmp_path: Path) -> None:
    for name in ("cluster.yml", "nodes.yml", "versions.yml"):
        shutil.copy(HERE / "good" / name, tmp_path)
    path = tmp_path / "cluster.yml"
    text = path.read_text()
    assert text.count("    headlamp: {}\n") == 1
    more = "".join(
        f"    {name}: {yaml.safe_dump(part, default_flow_style=True, width=999)}"
        for name, part in yaml.safe_load(addons).items()
    )
    path.write_text(text.replace("    headlamp: {}\n", more))
    assert [str(mistake) for mistake in check_site(tmp_path).mistakes] == []
