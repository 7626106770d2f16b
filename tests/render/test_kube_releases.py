"""What the roles kube_network and kube_addons hand to helm is whole, for each choice that a site has."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from tests.daemons import UPSTREAM, program

ROOT = Path(__file__).parents[2]
POOL = ["192.0.2.200-192.0.2.220", "192.0.2.240/29", "192.0.2.250", "2001:db8::7"]
QUEUES: dict[str, Any] = {
    "kinds": {"a100": {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB"}, "l40s": {}, "any": {}},
    "uncounted": ["ephemeral-storage"],
    "queues": [
        {
            "name": "research",
            "cohort": "site",
            "namespaces": ["research", "thesis"],
            "groups": [
                {
                    "resources": ["nvidia.com/gpu"],
                    "kinds": {"a100": {"nvidia.com/gpu": "8"}, "l40s": {"nvidia.com/gpu": "4"}},
                },
                {"resources": ["cpu", "memory"], "kinds": {"any": {"cpu": "64", "memory": "1Ti"}}},
            ],
        },
        {
            "name": "teaching",
            "cohort": "",
            "namespaces": ["thesis"],
            "groups": [{"resources": ["nvidia.com/gpu"], "kinds": {"l40s": {"nvidia.com/gpu": "2"}}}],
        },
    ],
}
EVERYTHING: dict[str, Any] = {
    "kube_addons_enabled": {
        **{
            name: {}
            for name in ("metrics_server", "local_path", "metallb", "gateway", "cert_manager", "headlamp")
        },
        "nfs": {"server": "nfs.example.com", "path": "/export", "mount_options": ["nfsvers=4.2"]},
        "node_problem_detector": None,
        "kube_state_metrics": {},
        **{name: {} for name in ("kueue", "volcano", "mpi_operator", "trainer", "kuberay", "jupyterhub")},
    },
    "kube_addons_queues": QUEUES,
    "kube_addons_load_balancer_pool": POOL,
    "kube_addons_nodes": 5,
}
RECORDS = yaml.safe_load((ROOT / "inventory" / "versions.yml").read_text())["images"]
CHOICES: dict[str, dict[str, Any]] = {
    "the defaults": {},
    "everything": EVERYTHING,
    "nothing": {"kube_addons_enabled": {}},
    "other options": {
        "kube_addons_enabled": {
            "local_path": {"default": False, "path": "/data/volumes", "reclaim": "Retain"},
            "gateway": {"replicas": 3, "class": "site", "address": "192.0.2.200"},
            "headlamp": {"base_url": "/clusters", "service": "LoadBalancer"},
            "nfs": {"server": "192.0.2.3", "path": "/v", "default": True},
        },
        "kube_addons_domain": "cluster.example.com",
        "kube_addons_dns": {"replicas": 3, "cache": 300, "forward": ["192.0.2.53", "tls://192.0.2.54"]},
    },
}


def told(role: str, expression: str, given: dict[str, Any]) -> Any:
    """What a role's variables come to."""
    loader = DataLoader()
    variables: dict[str, Any] = {"ansible_search_path": [str(ROOT / "roles" / role)]}
    for part in ("defaults", "vars"):
        path = str(ROOT / "roles" / role / part / "main.yml")
        variables |= loader.load_from_file(path, trusted_as_template=True)
    return plain(
        Templar(loader, {**variables, **given}).template(trust_as_template(f"{{{{ {expression} }}}}"))
    )


def plain(value: Any) -> Any:
    """The same without what Ansible notes about it."""
    if isinstance(value, dict):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [plain(part) for part in value]
    if value is None or isinstance(value, bool) or not isinstance(value, (str, int)):
        return value
    return str(value) if isinstance(value, str) else int(value)


def objects(release: dict[str, Any]) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(release["manifests"]))


def within(part: Any, key: str) -> Iterator[Any]:
    """Every value of a key, at any depth."""
    if isinstance(part, dict):
        for name, value in part.items():
            if name == key:
                yield value
            yield from within(value, key)
    elif isinstance(part, list):
        for each in part:
            yield from within(each, key)


def all_releases() -> Iterator[Any]:
    for label, given in CHOICES.items():
        for release in told("kube_addons", "__kube_addons_releases", given):
            yield pytest.param(release, id=f"{label}: {release['name']}")
    for release in told("kube_network", "__kube_network_releases", {}):
        yield pytest.param(release, id=f"network: {release['name']}")


WITH_OBJECTS = [each for each in all_releases() if "manifests" in each.values[0]]


def test_what_is_off_is_not_installed() -> None:
    assert [each["title"] for each in told("kube_addons", "__kube_addons_releases", CHOICES["nothing"])] == [
        "dns"
    ]
    names = {each["title"] for each in told("kube_addons", "__kube_addons_releases", EVERYTHING)}
    assert names == {"dns", *EVERYTHING["kube_addons_enabled"]}


def test_a_pool_is_installed_after_what_defines_it_and_only_where_there_is_one() -> None:
    releases = told("kube_addons", "__kube_addons_releases", EVERYTHING)
    [pool] = [each for each in releases if each["name"] == "metallb-pool"]
    names = [each["name"] for each in releases]
    assert all(names.index(other) < names.index("metallb-pool") for other in pool["after"])
    addresses = objects(pool)[0]["spec"]["addresses"]
    assert addresses == [*POOL[:2], f"{POOL[2]}/32", f"{POOL[3]}/128"]
    without = {**EVERYTHING, "kube_addons_load_balancer_pool": []}
    assert "metallb-pool" not in [
        each["name"] for each in told("kube_addons", "__kube_addons_releases", without)
    ]


@pytest.mark.parametrize("release", WITH_OBJECTS)
def test_objects_are_whole_and_in_the_namespace_of_their_release(release: dict[str, Any]) -> None:
    everywhere = {"ClusterRole", "ClusterRoleBinding", "StorageClass", "GatewayClass"}
    everywhere |= {"ClusterQueue", "ResourceFlavor"}
    seen = set()
    for each in objects(release):
        assert each["apiVersion"]
        name = (each["kind"], each["metadata"]["name"])
        assert name not in seen
        seen.add(name)
        if each["kind"] in everywhere:
            assert "namespace" not in each["metadata"]
        else:
            assert each["metadata"]["namespace"] == release["namespace"]


@pytest.mark.parametrize("release", WITH_OBJECTS)
def test_objects_fit_together(release: dict[str, Any]) -> None:
    there = {(each["kind"], each["metadata"]["name"]) for each in objects(release)}
    for each in objects(release):
        if each["kind"] in ("Deployment", "DaemonSet"):
            template = each["spec"]["template"]
            wanted = each["spec"]["selector"]["matchLabels"]
            assert wanted.items() <= template["metadata"]["labels"].items()
            assert ("ServiceAccount", template["spec"]["serviceAccountName"]) in there
            volumes = {volume["name"] for volume in template["spec"].get("volumes", [])}
            for container in template["spec"]["containers"]:
                assert {mount["name"] for mount in container.get("volumeMounts", [])} <= volumes
                ports = {port["name"] for port in container.get("ports", [])}
                for probe in within({k: v for k, v in container.items() if k.endswith("Probe")}, "port"):
                    assert isinstance(probe, int) or probe in ports
        if each["kind"].endswith("RoleBinding"):
            role = (each["roleRef"]["kind"], each["roleRef"]["name"])
            assert role in there or role[1].startswith("system:")
            # Users are of no namespace: they are who a certificate says that they are.
            accounts = [one for one in each["subjects"] if one["kind"] != "User"]
            assert all(("ServiceAccount", subject["name"]) in there for subject in accounts)
        if each["kind"] == "Service":
            pods = [other["spec"]["template"] for other in objects(release) if other["kind"] == "Deployment"]
            ports = {port["name"] for port in within(pods, "ports") for port in port}
            assert {port["targetPort"] for port in each["spec"]["ports"]} <= ports


@pytest.mark.parametrize("release", list(all_releases()))
def test_every_image_is_one_of_the_versions_file(release: dict[str, Any]) -> None:
    named = (
        [each for one in objects(release) for each in within(one, "image")] if "manifests" in release else []
    )
    named += release.get("images", [])
    if "values" in release:
        named += [
            f"{each['registry'] + '/' if 'registry' in each else ''}{each['repository']}:{each['tag']}"
            for each in within(release["values"], "image")
            if isinstance(each, dict) and "repository" in each
        ]
    for image in named:
        repository, _, tag = image.rpartition(":")
        assert RECORDS[repository]["tag"] == tag


def test_helper_pods_of_volumes_have_an_image_of_the_versions_file() -> None:
    [release] = [
        each for each in told("kube_addons", "__kube_addons_releases", {}) if each["name"] == "local-path"
    ]
    [config] = [each for each in objects(release) if each["kind"] == "ConfigMap"]
    pod = yaml.safe_load(config["data"]["helperPod.yaml"])
    repository, _, tag = pod["spec"]["containers"][0]["image"].rpartition(":")
    assert RECORDS[repository]["tag"] == tag


@pytest.mark.parametrize("plugin", ["flannel", "calico", "cilium"])
@pytest.mark.parametrize("backend", ["vxlan", "host-gw"])
def test_every_plugin_is_told_the_networks(plugin: str, backend: str) -> None:
    given = {
        "kube_network_plugin": plugin,
        "kube_network_backend": backend,
        "kube_network_pod_network": "198.51.100.0/24",
        "kube_network_service_network": "203.0.113.0/24",
        "kube_network_mtu": 1400,
        "kube_network_values": {"of_the_site": {"too": True}},
    }
    first, *others = told("kube_network", "__kube_network_releases", given)
    text = yaml.safe_dump(first["values"])
    assert "198.51.100.0/24" in text
    assert "1400" in text
    assert first["values"]["of_the_site"] == {"too": True}
    assert [each["name"] for each in others] == (["kube-router"] if plugin == "flannel" else [])
    assert all("203.0.113.0/24" in each["manifests"] for each in others)


def test_policies_can_be_left_to_somebody_else() -> None:
    releases = told("kube_network", "__kube_network_releases", {"kube_network_policy": False})
    assert [each["name"] for each in releases] == ["flannel"]


def test_queues_stand_where_their_jobs_are() -> None:
    releases = {
        (each["namespace"], each["name"]): each
        for each in told("kube_addons", "__kube_addons_releases", EVERYTHING)
        if each["title"] == "kueue" and "manifests" in each
    }
    assert {namespace for namespace, _ in releases} == {"kueue-system", "research", "thesis"}
    assert all(each["after"] == ["kueue"] for each in releases.values())
    ways = {
        namespace: {each["metadata"]["name"]: each["spec"]["clusterQueue"] for each in objects(release)}
        for (namespace, _), release in releases.items()
        if namespace != "kueue-system"
    }
    assert ways == {
        "research": {"default": "research", "research": "research"},
        "thesis": {"default": "research", "research": "research", "teaching": "teaching"},
    }
    found = {
        (each["kind"], each["metadata"]["name"]): each["spec"]
        for each in objects(releases["kueue-system", "kueue-queues"])
    }
    assert {name for kind, name in found if kind == "ResourceFlavor"} == set(QUEUES["kinds"])
    research, teaching = (found["ClusterQueue", name] for name in ("research", "teaching"))
    assert research["cohortName"] == "site" and "cohortName" not in teaching
    [allowed] = research["namespaceSelector"]["matchExpressions"]
    assert allowed["values"] == ["research", "thesis"]
    quotas = {
        (flavor["name"], each["name"]): each["nominalQuota"]
        for group in research["resourceGroups"]
        for flavor in group["flavors"]
        for each in flavor["resources"]
    }
    assert quotas == {
        ("a100", "nvidia.com/gpu"): "8",
        ("l40s", "nvidia.com/gpu"): "4",
        ("any", "cpu"): "64",
        ("any", "memory"): "1Ti",
    }


def test_pods_outside_the_queues_namespaces_never_wait_for_kueue() -> None:
    def config(given: dict[str, Any]) -> dict[str, Any]:
        releases = told("kube_addons", "__kube_addons_releases", given)
        [release] = [each for each in releases if each["name"] == "kueue"]
        read: dict[str, Any] = yaml.safe_load(
            release["values"]["managerConfig"]["controllerManagerConfigYaml"]
        )
        return read

    with_queues = config(EVERYTHING)
    [chosen] = with_queues["managedJobsNamespaceSelector"]["matchExpressions"]
    assert (chosen["operator"], chosen["values"]) == ("In", ["research", "thesis"])
    assert with_queues["resources"]["excludeResourcePrefixes"] == ["ephemeral-storage"]
    [nobody] = config({"kube_addons_enabled": {"kueue": None}})["managedJobsNamespaceSelector"][
        "matchExpressions"
    ]
    assert nobody["operator"] == "In" and len(nobody["values"]) == 1


HELM = program("helm", "helm")
COREDNS = program("coredns", "coredns")


def chart(name: str) -> str:
    """A chart that the upstream tests have taken out of its module; "" where they have not."""
    return next((str(path) for path in sorted(UPSTREAM.glob(f"*/*/*/charts/{name}-*.tgz"))), "")


@pytest.mark.skipif(not HELM, reason="helm was not built on this machine")
@pytest.mark.parametrize("name", ["flannel", "kueue", "metallb", "metrics-server", "volcano"])
def test_charts_take_the_values(name: str) -> None:
    if not chart(name):
        pytest.skip(f"the chart of {name} was not taken out of its module on this machine")
    releases = [
        *told("kube_addons", "__kube_addons_releases", EVERYTHING),
        *told("kube_network", "__kube_network_releases", {"kube_network_mtu": 1400}),
    ]
    [release] = [each for each in releases if each["name"] == name]
    done = subprocess.run(
        [HELM, "template", name, chart(name), "--namespace", release["namespace"], "--values=-", "--debug"],
        input=yaml.safe_dump(release["values"]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    images = {
        image
        for each in yaml.safe_load_all(done.stdout)
        for image in within(each, "image")
        if isinstance(image, str)  # schemas have fields of that name too
    }
    if name == "volcano":  # names its images itself, and is told the tags alone
        assert images == {
            f"{image}:{record['tag']}" for image, record in RECORDS.items() if "/volcanosh/" in image
        }
        return
    assert images == {
        f"{each['repository']}:{each['tag']}"
        for each in within(release["values"], "image")
        if isinstance(each, dict) and "repository" in each
    }


@pytest.mark.skipif(not COREDNS, reason="coredns was not built on this machine")
@pytest.mark.parametrize("label", CHOICES)
def test_the_name_server_reads_its_configuration(label: str, tmp_path: Path) -> None:
    """All of it but the cluster, which is not there: that block becomes an answer of its own."""
    patches = told("kube_addons", "__kube_addons_patches", CHOICES[label])
    text = patches[0]["patch"]["data"]["Corefile"]
    domain = CHOICES[label].get("kube_addons_domain", "cluster.local")
    assert text.count(domain) == 3
    begin, end = text.index(f"    kubernetes {domain}"), text.index("    prometheus")
    text = text[:begin] + "    whoami\n" + text[end:].replace("/etc/resolv.conf", "192.0.2.53")
    text = text.replace(".:53", ".:0").replace("prometheus :9153", "prometheus 127.0.0.1:0")
    text = text.replace("    health {", "    health 127.0.0.1:0 {").replace(
        "    ready\n", "    ready 127.0.0.1:0\n"
    )
    (tmp_path / "Corefile").write_text(text)
    with (tmp_path / "log").open("w+") as log:
        server = subprocess.Popen([COREDNS, "-conf", str(tmp_path / "Corefile")], stdout=log, stderr=log)
        try:
            server.wait(timeout=2)
        except subprocess.TimeoutExpired:
            server.terminate()
            server.wait(timeout=60)  # it is told to linger for some seconds
        else:
            pytest.fail((tmp_path / "log").read_text())


@pytest.mark.parametrize(
    ("enabled", "unknown"),
    [
        ({"metric_server": {}}, ["metric_server"]),
        ({"gateway": {"replica": 2}}, ["gateway.replica"]),
        ({"metallb": {"speaker": {}}, "headlamp": None}, []),
        ({"nfs": {"server": "x", "pth": "/"}, "istio": {}}, ["istio", "nfs.pth"]),
    ],
)
def test_what_nobody_knows_is_named(enabled: dict[str, Any], unknown: list[str]) -> None:
    assert told("kube_addons", "__kube_addons_unknown", {"kube_addons_enabled": enabled}) == unknown


def test_only_what_is_enabled_is_fetched() -> None:
    def names(enabled: dict[str, Any]) -> set[str]:
        files = told("kube_addons", "__kube_addons_files", {"kube_addons_enabled": enabled})
        return {each["name"] for each in files}

    assert names({}) == {"helm"}
    assert names({"local_path": {}, "gateway": {}}) == {"helm", "gateway-api"}
    assert names(EVERYTHING["kube_addons_enabled"]) == {
        *("helm", "gateway-api", "metallb", "metrics-server", "cert-manager"),
        *("kueue", "volcano", "mpi-operator", "kubeflow-trainer", "kuberay-operator", "jupyterhub"),
    }
