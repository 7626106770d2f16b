"""Operators for jobs on several pods, and notebooks: charts know what they are told, a real API server takes the rest.

MPI Operator is the file that its project publishes; Trainer's chart brings JobSet's. KubeRay's and JupyterHub's charts
are not to be had here, so what they know is kept as a list of keys (tests/data/charts).
"""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from plugins.modules.kube_releases import Cluster, digest_of, patch, releases_of, whose
from tests.daemons import UPSTREAM, program

from .conftest import definitions
from .test_kube_releases import POOL, RECORDS, chart, told, within

if TYPE_CHECKING:
    from .conftest import Api

ROOT = Path(__file__).parents[2]
KNOWN = yaml.safe_load((ROOT / "tests/data/charts/keys.yml").read_text())
VERSIONS = yaml.safe_load((ROOT / "inventory/versions.yml").read_text())
CHARTS = {"trainer": "kubeflow-trainer", "kuberay": "kuberay-operator", "jupyterhub": "jupyterhub"}
# Sets of options of a site, all of which change what some chart is told.
SITES: dict[str, dict[str, Any]] = {
    "one node": {"kube_addons_nodes": 1},
    "several nodes": {"kube_addons_nodes": 4},
    "addresses to give away": {"kube_addons_load_balancer_pool": POOL},
    "another scheduler": {"kube_addons_enabled": {"volcano": {}}},
    "values of a site": {
        "kube_addons_enabled": {
            "trainer": {"manager": {"replicas": 2}, "jobset": {"controller": {"replicas": 2}}},
            "kuberay": {"batchScheduler": {"name": "yunikorn"}, "resources": {"limits": {"cpu": "1"}}},
            "jupyterhub": {
                "hub": {"config": {"JupyterHub": {"authenticator_class": "ldap"}}},
                "singleuser": {"profileList": [{"display_name": "A GPU"}], "storage": {"capacity": "20Gi"}},
            },
        }
    },
    "everything": {
        "kube_addons_nodes": 9,
        "kube_addons_load_balancer_pool": POOL,
        "kube_addons_enabled": {"volcano": {}, "kueue": {}, "gateway": {}},
    },
}


def releases(site: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What the role hands to helm where a site has all of these add-ons."""
    enabled = {name: {} for name in (*CHARTS, "mpi_operator")} | site.get("kube_addons_enabled", {})
    found = told("kube_addons", "__kube_addons_releases", {**site, "kube_addons_enabled": enabled})
    return {each["name"]: each for each in found}


def leaves(values: dict[str, Any], path: str = "") -> Iterator[str]:
    """Paths of all that is set in values."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}"


def unknown(values: dict[str, Any], known: str) -> set[str]:
    """Paths that a chart does not know."""
    keys = set(known.split())
    open_ones = tuple(key.removesuffix("*") for key in keys if key.endswith(".*"))
    return {
        path
        for path in leaves(values)
        if path not in keys and not f"{path}.".startswith(open_ones or ("\0",))
    }


@pytest.mark.parametrize("name", CHARTS.values())
@pytest.mark.parametrize("site", SITES)
def test_charts_are_told_what_they_know_alone(name: str, site: str) -> None:
    assert unknown(releases(SITES[site])[name]["values"], KNOWN[name]["keys"]) == set()


def test_what_a_chart_does_not_know_is_seen() -> None:
    keys = KNOWN["jupyterhub"]["keys"]
    values = {"hub": {"image": {"repository": "x"}, "config": {"any": {"thing": 1}}}, "proxy": {"chips": {}}}
    assert unknown(values, keys) == {"hub.image.repository", "proxy.chips"}


@pytest.mark.parametrize("name", CHARTS.values())
def test_the_list_of_keys_is_of_the_chart_that_sites_get(name: str) -> None:
    of, version = KNOWN[name]["of"], VERSIONS["charts"][name]["version"]
    assert of == version or name == "jupyterhub", f"read the values of {name} {version}, and correct the list"


def test_notebooks_have_images_of_the_versions_file_and_need_no_more_rights_than_they_get() -> None:
    hub = releases({})["jupyterhub"]["values"]
    images = [each for each in within(hub, "image") if isinstance(each, dict)]
    assert len(images) == 3
    assert all(RECORDS[each["name"]]["tag"] == each["tag"] for each in images)
    # These bring images, or rights, of their own.
    assert hub["singleuser"]["cloudMetadata"]["blockWithIptables"] is False
    assert hub["prePuller"] == {"hook": {"enabled": False}, "continuous": {"enabled": False}}
    assert hub["scheduling"]["userScheduler"]["enabled"] is False


def test_notebooks_are_reached_at_an_address_where_there_are_any() -> None:
    kinds = [
        releases(site)["jupyterhub"]["values"]["proxy"]["service"]["type"]
        for site in ({}, SITES["addresses to give away"])
    ]
    assert kinds == ["ClusterIP", "LoadBalancer"]


def test_rays_pods_are_started_by_volcano_where_it_is_there() -> None:
    def scheduler(site: str) -> str:
        return str(releases(SITES[site])["kuberay-operator"]["values"]["batchScheduler"]["name"])

    assert [scheduler(site) for site in ("one node", "another scheduler", "values of a site")] == [
        *("", "volcano", "yunikorn"),
    ]


# --- MPI Operator, as its project publishes it ---


@pytest.fixture(scope="module")
def mpi_file() -> Path:
    found = sorted((UPSTREAM / "mpi-operator").glob("*/*/manifests/mpi-operator/mpi-operator.yaml"))
    if not found:
        pytest.skip("the manifest of MPI Operator was not taken out of its module on this machine")
    return found[-1]


def test_the_published_file_is_the_one_of_the_versions_file(mpi_file: Path) -> None:
    done = subprocess.run(["sha256sum", str(mpi_file)], capture_output=True, text=True, check=True)
    assert {done.stdout.split()[0]} == set(VERSIONS["files"]["mpi-operator"]["sha256"].values())


@pytest.fixture
def cluster(api: Api, helm: str) -> Cluster:
    """The module's own way to bring releases, with the real programs."""
    found = {"kubectl": program("kubectl", "kubernetes"), "helm": helm}

    def run(argv: Sequence[str], data: str = "") -> tuple[int, str, str]:
        done = subprocess.run(
            [found[argv[0]], *argv[1:]], input=data, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout, done.stderr

    return Cluster(run, {"owner": "trial", "timeout": 120, "grace": 30, "kubeconfig": str(api.kubeconfig)})


def test_mpi_operator_is_installed_from_its_file_and_its_kind_stays(mpi_file: Path, cluster: Cluster) -> None:
    wanted = releases({"kube_addons_enabled": {"mpi_operator": {"replicas": 2}}})["mpi-operator"]
    release = {**wanted, "manifest": str(mpi_file)}
    cluster.install(release, None)
    where = f"--namespace={release['namespace']}"
    found = cluster.kubectl.get("deployment", "mpi-operator", where)
    tag = VERSIONS["images"]["docker.io/mpioperator/mpi-operator"]["tag"]
    image = f"docker.io/mpioperator/mpi-operator:{tag}"
    assert [each["image"] for each in found["spec"]["template"]["spec"]["containers"]] == [image]
    assert whose(found, {(release["namespace"], release["name"]): "mine"}, {}) == "mine"
    asked = {"kube_addons_enabled": {"mpi_operator": {"replicas": 2}}}
    patches = [
        each for each in told("kube_addons", "__kube_addons_patches", asked) if each["name"] != "coredns"
    ]
    # The first time they change something, the second time they do not.
    assert patch(cluster, patches, really=True)[0] == ["Deployment mpi-operator"]
    assert patch(cluster, patches, really=True)[0] == []
    assert cluster.kubectl.get("deployment", "mpi-operator", where)["spec"]["replicas"] == 2
    [held] = releases_of(cluster.kubectl, "trial").values()
    assert (held.status, held.digest) == ("deployed", digest_of(release))
    cluster.remove(held)
    assert cluster.kubectl.find("deployment", "mpi-operator", where) is None
    assert cluster.kubectl.find("customresourcedefinition", "mpijobs.kubeflow.org") is not None


def test_without_it_nothing_of_it_is_patched() -> None:
    patches = told("kube_addons", "__kube_addons_patches", {"kube_addons_enabled": {}})
    assert {each["name"] for each in patches} == {"coredns"}


# --- Trainer, whose chart brings JobSet's ---


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trainer's chart with those that it names put into it, which is how a registry has it."""
    paths = [chart(name) for name in ("kubeflow-trainer", "jobset", "lws")]
    if not all(paths):
        pytest.skip("the charts of Trainer, JobSet and LWS were not taken out of their modules")
    folder = tmp_path_factory.mktemp("trainer")
    with tarfile.open(paths[0]) as archive:
        archive.extractall(folder)  # noqa: S202 - made by us
    (folder / "kubeflow-trainer" / "charts").mkdir()
    for path in paths[1:]:
        shutil.copy(path, folder / "kubeflow-trainer" / "charts")
    return folder / "kubeflow-trainer"


@pytest.mark.parametrize("site", ["one node", "values of a site"])  # the others change nothing for it
def test_trainer_comes_with_jobset(site: str, trainer: Path, helm: str, api: Api) -> None:
    release = releases(SITES[site])["kubeflow-trainer"]
    argv = [
        helm,
        "template",
        release["name"],
        str(trainer),
        "--namespace",
        release["namespace"],
        "--values=-",
    ]
    text = yaml.safe_dump(release["values"])
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    objects = [each for each in yaml.safe_load_all(done.stdout) if each]
    images = {
        image
        for each in objects
        if each["kind"] != "CustomResourceDefinition"
        for image in within(each, "image")
    }
    wanted = ("ghcr.io/kubeflow/trainer/trainer-controller-manager", "registry.k8s.io/jobset/jobset")
    assert images == {f"{name}:{RECORDS[name]['tag']}" for name in wanted}
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": release["namespace"]}}
    assert api.ask("POST", "/api/v1/namespaces", space)[0] in (201, 409)
    others = [each for each in objects if each["kind"] != "CustomResourceDefinition"]
    assert [said for each in others if (said := api.trouble(each))] == []


# --- What people hand in ---

EXAMPLES = sorted((ROOT / "workloads/kubernetes").glob("*.yml"))
LENT = {
    "mpi-operator": ["MPIJob"],
    "kubeflow-trainer": ["TrainJob", "TrainingRuntime"],
    "kuberay": ["RayJob"],
}


@pytest.fixture(scope="module")
def kinds(api: Api) -> Iterator[Api]:
    """An API server that knows the kinds of all these operators."""
    found = {
        each["metadata"]["name"]: each
        for project, wanted in LENT.items()
        for each in definitions(project)
        if each["kind"] == "CustomResourceDefinition" and each["spec"]["names"]["kind"] in wanted
    }
    if len(found) != sum(map(len, LENT.values())):
        pytest.skip("definitions of MPI Operator, Trainer and KubeRay were not taken out of their modules")
    api.define(list(found.values()))
    yield api
    for each in found.values():  # nobody waits for their end: no other test has these kinds
        api.ask("DELETE", f"{api.place(each)}/{each['metadata']['name']}")
    api.places.clear()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_api_takes_examples(path: Path, kinds: Api) -> None:
    assert [said for each in yaml.safe_load_all(path.read_text()) if (said := kinds.trouble(each))] == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_name_a_queue_and_ask_for_gpus(path: Path) -> None:
    objects = list(yaml.safe_load_all(path.read_text()))
    queued = [each for each in objects if "kueue.x-k8s.io/queue-name" in each["metadata"].get("labels", {})]
    assert len(queued) == 1
    assert any(int(amount) > 0 for each in objects for amount in within(each, "nvidia.com/gpu"))
    [kind] = {each["kind"] for each in queued}
    assert kind in ("MPIJob", "TrainJob", "RayJob")


def test_kueue_holds_the_kinds_of_the_examples() -> None:
    found = told("kube_addons", "__kube_addons_kueue", {"kube_addons_enabled": {"kueue": {}}})
    held = {name.rpartition("/")[2] for name in found["integrations"]["frameworks"]}
    objects = [each for path in EXAMPLES for each in yaml.safe_load_all(path.read_text())]
    queued = {
        each["kind"].lower()
        for each in objects
        if "kueue.x-k8s.io/queue-name" in each["metadata"].get("labels", {})
    }
    assert queued and queued <= held
