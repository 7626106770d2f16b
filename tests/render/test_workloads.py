"""The chart in workloads/inference: helm renders it for each set of values, and a real API server takes what comes."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.render.conftest import definitions
from tests.tools import tool

if TYPE_CHECKING:
    from tests.render.conftest import Api

    Objects = list[dict[str, Any]]

ROOT = Path(__file__).parents[2]
CHART = ROOT / "workloads" / "inference"
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
VERSIONS: dict[str, Any] = yaml.safe_load((ROOT / "inventory" / "versions.yml").read_text())
RELEASE = f"v{VERSIONS['files']['kubectl']['version']}"
NAMESPACE = "models"
MONITORED = ["monitoring.coreos.com/v1/PodMonitor", "monitoring.coreos.com/v1/PrometheusRule"]
ROUTED = ["gateway.networking.k8s.io/v1/HTTPRoute", "gateway.networking.k8s.io/v1/GRPCRoute"]
PROJECTS = ("gateway-api", "prometheus-operator", "keda")
OFF = {"enabled": False}

GOOD: dict[str, dict[str, Any]] = {
    "the defaults": {},
    "nobody's image but the site's, by digest": {
        "imagePullSecrets": [{"name": "ngc"}],
        "server": {
            "image": {"repository": "registry.example:5000/tritonserver", "digest": f"sha256:{'a' * 64}"}
        },
    },
    "models of a bucket": {
        "models": {
            "type": "s3",
            "s3": {
                "url": "s3://https://store.example:9000/models/a",
                "existingSecret": "keys",
                "region": "site",
            },
        }
    },
    "models of a folder": {"models": {"type": "hostPath", "hostPath": {"path": "/export/models"}}},
    "a claim that is there": {"models": {"pvc": {"existingClaim": "shared"}}},
    "on the CPU": {"server": {"gpu": {"count": 0}}, "notebook": {"gpu": {"count": 0}}},
    "a slice of a GPU": {
        "server": {
            "gpu": {"count": 2, "resource": "nvidia.com/mig-1g.10gb"},
            "nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"},
        }
    },
    "a shared GPU": {"server": {"gpu": {"resource": "nvidia.com/gpu.shared"}, "runtimeClass": "nvidia"}},
    "a GPU by claim": {"server": {"gpu": {"claimTemplate": "one-gpu"}}, "notebook": OFF},
    "node ports": {
        "server": {"service": {"type": "NodePort", "nodePorts": {"http": 30343, "grpc": 30344}}},
        "client": {"service": {"type": "NodePort"}},
    },
    "load balancers": {
        "server": {"service": {"type": "LoadBalancer", "loadBalancerSourceRanges": ["192.0.2.0/24"]}},
        "client": {"service": {"type": "LoadBalancer", "loadBalancerIP": "192.0.2.9"}},
        "notebook": {"service": {"type": "LoadBalancer"}},
    },
    "routes": {
        "route": {"parents": [{"name": "site", "namespace": "gateway"}]},
        "client": {"host": "client.example"},
        "server": {"host": "models.example", "grpcHost": "grpc.example"},
        "notebook": {"host": "notebook.example", "baseUrl": "/jupyter"},
    },
    "an ingress": {
        "ingress": {
            "enabled": True,
            "className": "site",
            "tlsSecret": "tls",
            "annotations": {"a.example/b": "c"},
        },
        "client": {"host": "client.example"},
        "notebook": {"host": "notebook.example"},
    },
    "grows by its queue": {"autoscaling": {"type": "hpa", "min": 2, "max": 8}},
    "grows by keda": {
        "autoscaling": {
            "type": "keda",
            "min": 0,
            "max": 3,
            "prometheus": "https://prometheus.example:9090/prometheus",
        }
    },
    "replaced one by one": {
        "server": {"replicas": 3, "rollout": "replace", "spread": ["rack", "kubernetes.io/hostname"]}
    },
    "all at once": {"server": {"rollout": "recreate", "drainSeconds": 0}},
    "models by name": {
        "server": {
            "modelControl": "explicit",
            "loadModels": ["line", "words"],
            "extraArgs": ["--log-verbose=1"],
        }
    },
    "models as they change": {"server": {"modelControl": "poll", "pollSeconds": 5}},
    "the server alone": {"notebook": OFF, "client": OFF, "networkPolicy": OFF},
    "the client alone": {
        "notebook": OFF,
        "server": OFF,
        "client": {"server": "http://models.elsewhere:8000"},
    },
    "the notebook alone": {"server": OFF, "client": OFF, "notebook": {"home": {"size": ""}}},
    "watched by annotations": {"monitoring": {"annotations": True, "podMonitor": "never", "rules": "never"}},
    "peers": {
        "networkPolicy": {
            "serverFrom": [{"namespaceSelector": {"matchLabels": {"team": "a"}}}],
            "clientFrom": [{"ipBlock": {"cidr": "192.0.2.0/24"}}],
            "metricsFrom": [
                {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
            ],
        }
    },
    "a test with a request": {
        "test": {
            "model": "line",
            "request": {"inputs": [{"name": "INPUT__0", "shape": [1, 1], "datatype": "FP32", "data": [3]}]},
        }
    },
}
# What Pod Security's strictest level has against them, which they say they do.
LOOSE = {"models of a folder"}
NEEDS = {"grows by keda": "keda.sh/v1alpha1"}

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown key": ({"serve": {}}, "serve"),
    "an unknown key inside": ({"server": {"replica": 2}}, "replica"),
    "a secret written down": ({"models": {"s3": {"secretKey": "x"}}}, "secretKey"),
    "a kind of service": (
        {"server": {"service": {"type": "ExternalName"}}},
        "server.service.type|/server/service/type",
    ),
    "a bucket without a place": ({"models": {"type": "s3"}}, "models.s3.url|/models/s3/url"),
    "a folder without a path": (
        {"models": {"type": "hostPath"}},
        "models.hostPath.path|/models/hostPath/path",
    ),
    "a place that is no bucket": ({"models": {"type": "s3", "s3": {"url": "https://x"}}}, "s3"),
    "half a GPU": ({"server": {"gpu": {"count": 0.5}}}, "integer"),
    "no resource of a GPU": ({"server": {"gpu": {"resource": "cpu"}}}, "nvidia"),
    "models by name where all are loaded": ({"server": {"loadModels": ["a"]}}, "modelControl"),
    "a way to roll out": ({"server": {"rollout": "blue"}}, "rollout"),
    "keda without Prometheus": ({"autoscaling": {"type": "keda"}}, "prometheus"),
    "fewest above most": ({"autoscaling": {"type": "hpa", "min": 5, "max": 2}}, "min is more than"),
    "nothing by hpa": ({"autoscaling": {"type": "hpa", "min": 0}}, "only keda can"),
    "a client of nobody": ({"server": OFF}, "client.server is needed"),
    "a claim nobody writes to": ({"models": {"pvc": {"accessModes": ["ReadOnlyMany"]}}}, "read only"),
    "a size": ({"models": {"pvc": {"size": "much"}}}, "size"),
    "a digest": ({"client": {"image": {"digest": "sha256:1"}}}, "digest"),
    "root": ({"server": {"user": 0}}, "user"),
    "a share of more than all": ({"monitoring": {"alerts": {"failedShare": 2}}}, "failedShare"),
}


def rendered(
    helm: str, values: dict[str, Any], *more: str, kinds: tuple[str, ...] | list[str] = ()
) -> subprocess.CompletedProcess[str]:
    argv = [helm, "template", "try", str(CHART), f"--namespace={NAMESPACE}", "--values=-", *more]
    argv += [f"--api-versions={kind}" for kind in kinds]
    return subprocess.run(argv, input=yaml.safe_dump(values), capture_output=True, text=True, check=False)


@cache
def text_of(helm: str, values: str, kinds: tuple[str, ...]) -> str:
    done = rendered(helm, json.loads(values), f"--kube-version={RELEASE}", kinds=kinds)
    assert done.returncode == 0, done.stderr
    return done.stdout


def objects(
    helm: str, values: dict[str, Any], *more: str, kinds: tuple[str, ...] | list[str] = ()
) -> Objects:
    text = text_of(helm, json.dumps(values), tuple(kinds))
    return [each for each in yaml.load_all(text, yaml.CSafeLoader) if each]


def only(found: Objects, kind: str, part: str = "") -> dict[str, Any]:
    [one] = [each for each in found if each["kind"] == kind and each["metadata"]["name"].endswith(part)]
    return one


def pods(found: Objects) -> Iterator[tuple[str, dict[str, Any]]]:
    """Specifications of pods, with the part that they are of."""
    for each in found:
        spec = each if each["kind"] == "Pod" else each.get("spec", {}).get("template", {})
        if "containers" in spec.get("spec", {}):
            yield spec["metadata"]["labels"]["app.kubernetes.io/component"], spec["spec"]


@cache
def custom() -> tuple[dict[str, Any], ...]:
    """Definitions of all kinds that the chart knows beside Kubernetes' own."""
    found = [each for name in PROJECTS for each in definitions(name)]
    return tuple(each for each in found if each["kind"] == "CustomResourceDefinition")


@pytest.fixture(scope="module", params=["with all definitions", "with none"])
def cluster(request: pytest.FixtureRequest, api: Api) -> Iterator[Api]:
    """The API, with the kinds of Gateway API, of Prometheus' operator and of KEDA, and without."""
    labels = {f"pod-security.kubernetes.io/{what}": "restricted" for what in ("warn", "audit")}
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}
    status, told, _ = api.ask("POST", "/api/v1/namespaces", space)
    assert status in (201, 409), told
    with_all = request.param == "with all definitions"
    if with_all and {each["spec"]["group"] for each in custom()} != {
        *("gateway.networking.k8s.io", "monitoring.coreos.com", "keda.sh"),
    }:
        pytest.skip("the definitions were not taken out of their modules on this machine")
    if with_all:
        api.define(custom())
    yield api
    if with_all:
        api.forget(custom())


def test_lint_has_nothing_to_say(helm: str) -> None:
    done = subprocess.run(
        [helm, "lint", "--strict", "--quiet", str(CHART)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert "WARNING" not in done.stdout


@pytest.mark.parametrize("label", GOOD)
def test_the_api_takes_what_is_rendered(label: str, cluster: Api, helm: str) -> None:
    """With what the cluster has, as an installation would see it, and no warning from Pod Security either."""
    values = GOOD[label]
    needs = NEEDS.get(label)
    served = bool(custom()) and cluster.ask("GET", "/apis/gateway.networking.k8s.io/v1")[0] == 200
    # never the text that was kept: what the cluster has is another thing each time
    done = rendered(helm, values, "--validate", f"--kubeconfig={cluster.kubeconfig}")
    if needs and not served:
        assert done.returncode != 0
        assert needs in done.stderr
        return
    assert done.returncode == 0, done.stderr
    found = [each for each in yaml.load_all(done.stdout, yaml.CSafeLoader) if each]
    trouble = [said for each in found if (said := cluster.trouble(each))]
    loose = [said for said in trouble if "would violate PodSecurity" in said and "hostPath" in said]
    assert bool(loose) == (label in LOOSE)
    assert set(trouble) == set(loose)
    kinds = {each["kind"] for each in found}
    watched = values.get("monitoring", {}).get("podMonitor") != "never" and values.get("server") != OFF
    assert ("PodMonitor" in kinds) == (served and watched)
    assert ("HTTPRoute" in kinds) == (served and "route" in values)
    assert ("GRPCRoute" in kinds) == (served and "route" in values)


@pytest.mark.parametrize("label", BAD)
def test_what_is_wrong_is_refused_by_name(label: str, helm: str) -> None:
    values, said = BAD[label]
    done = rendered(helm, values, f"--kube-version={RELEASE}")
    assert done.returncode != 0
    assert any(word in done.stderr for word in said.split("|")), done.stderr


def test_every_value_is_known_to_the_schema_and_every_part_of_the_schema_has_a_value() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())

    def compare(wanted: dict[str, Any], values: Any, where: str) -> Iterator[str]:
        wanted = schema["$defs"][wanted["$ref"].rpartition("/")[2]] if "$ref" in wanted else wanted
        if "properties" in wanted:
            names = set(wanted["properties"]) - {"global"}
            yield from (f"{where}.{name}" for name in names ^ set(values))
            for name in names & set(values):
                yield from compare(wanted["properties"][name], values[name], f"{where}.{name}")

    optional = {".server.resources", ".notebook.resources", ".client.resources"}
    assert not [each for each in compare(schema, VALUES, "") if each.rpartition(".")[0] not in optional]


def test_images_are_those_of_the_versions_file() -> None:
    for part in ("server", "notebook", "client"):
        image = VALUES[part]["image"]
        assert VERSIONS["images"][image["repository"]]["tag"] == image["tag"]


@pytest.mark.parametrize("label", GOOD)
def test_no_pod_has_more_rights_than_it_needs(label: str, helm: str) -> None:
    for part, spec in pods(objects(helm, GOOD[label])):
        assert spec["automountServiceAccountToken"] is False, part
        assert spec["securityContext"]["runAsNonRoot"] is True
        for container in spec["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]
            mounts = [mount["name"] for mount in container["volumeMounts"]]
            claimed = [each["name"] for each in spec["volumes"]]
            assert set(mounts) - {"home"} <= set(claimed)


@pytest.mark.parametrize("label", GOOD)
def test_secrets_are_named_and_never_written(label: str, helm: str) -> None:
    found = objects(helm, GOOD[label])
    for _, spec in pods(found):
        for container in spec["containers"]:
            for variable in container.get("env", []):
                secret = any(word in variable["name"] for word in ("TOKEN", "KEY", "SECRET", "PASSWORD"))
                assert not secret or "secretKeyRef" in variable["valueFrom"], variable["name"]
            assert not [word for word in container.get("args", []) if "token" in word.lower()]
    assert {each["metadata"]["name"] for each in found if each["kind"] == "Secret"} <= {
        "try-inference-notebook"
    }


def test_a_pod_that_goes_has_time_to_tell_and_to_finish(helm: str) -> None:
    values = {"server": {"drainSeconds": 20, "finishSeconds": 40}}
    spec = only(objects(helm, values), "Deployment", "-server")["spec"]
    pod = spec["template"]["spec"]
    [server] = pod["containers"]
    told = server["lifecycle"]["preStop"]["sleep"]["seconds"]
    [finish] = [int(word.partition("=")[2]) for word in server["args"] if "exit-timeout" in word]
    assert pod["terminationGracePeriodSeconds"] > told + finish
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


@pytest.mark.parametrize(
    ("values", "surge", "unavailable"),
    [({"rollout": "surge"}, 1, 0), ({"rollout": "replace", "replicas": 2}, 0, 1)],
)
def test_an_upgrade_keeps_enough_that_serve(
    helm: str, values: dict[str, Any], surge: int, unavailable: int
) -> None:
    strategy = only(objects(helm, {"server": values}), "Deployment", "-server")["spec"]["strategy"]
    assert strategy["rollingUpdate"] == {"maxSurge": surge, "maxUnavailable": unavailable}


@pytest.mark.parametrize(
    ("values", "budget"),
    [
        ({}, False),
        ({"server": {"replicas": 2}}, True),
        ({"autoscaling": {"type": "hpa", "max": 1}, "server": {"replicas": 5}}, False),
        ({"autoscaling": {"type": "hpa"}}, True),
    ],
)
def test_a_budget_never_keeps_a_node_from_being_drained(
    helm: str, values: dict[str, Any], budget: bool
) -> None:
    """With one replica there is none: nothing could ever be evicted."""
    found = [each for each in objects(helm, values) if each["kind"] == "PodDisruptionBudget"]
    servers = [each for each in found if each["metadata"]["name"].endswith("-server")]
    assert bool(servers) == budget
    assert all(each["spec"]["maxUnavailable"] == 1 for each in servers)


def test_what_scales_by_itself_has_no_number_that_an_upgrade_would_set_back(helm: str) -> None:
    scaled = only(objects(helm, {"autoscaling": {"type": "hpa"}}), "Deployment", "-server")
    assert "replicas" not in scaled["spec"]
    plain = only(objects(helm, {"server": {"replicas": 3}}), "Deployment", "-server")
    assert plain["spec"]["replicas"] == 3


@pytest.mark.parametrize(
    ("gpu", "limits", "claims"),
    [
        ({"count": 2}, {"nvidia.com/gpu": "2"}, []),
        ({"count": 1, "resource": "nvidia.com/mig-3g.40gb"}, {"nvidia.com/mig-3g.40gb": "1"}, []),
        ({"count": 0}, {}, []),
        ({"count": 4, "claimTemplate": "two"}, {}, [{"name": "gpu"}]),
    ],
)
def test_gpus_are_asked_for(
    helm: str, gpu: dict[str, Any], limits: dict[str, str], claims: list[Any]
) -> None:
    pod = only(objects(helm, {"server": {"gpu": gpu}}), "Deployment", "-server")["spec"]["template"]["spec"]
    asked = pod["containers"][0]["resources"]
    assert {
        name: count for name, count in asked["limits"].items() if name.startswith("nvidia.com/")
    } == limits
    assert asked.get("claims", []) == claims
    assert bool(pod.get("resourceClaims")) == bool(claims)


def test_notebook_and_server_share_the_models_and_only_the_notebook_writes(helm: str) -> None:
    mounts, claims = {}, {}
    for part, spec in pods(objects(helm, {})):
        for mount in spec["containers"][0]["volumeMounts"]:
            if mount["name"] == "models":
                mounts[part] = mount
        [claims[part]] = [
            each["persistentVolumeClaim"] for each in spec["volumes"] if each["name"] == "models"
        ] or [None]
    assert claims["server"] == claims["notebook"]
    assert {part: mount.get("readOnly", False) for part, mount in mounts.items()} == {
        "server": True,
        "notebook": False,
    }


def test_a_new_page_rolls_the_client_out_and_nothing_else(helm: str, tmp_path: Path) -> None:
    shutil.copytree(CHART, tmp_path / "inference")
    before = dict(pods(objects(helm, {})))
    (tmp_path / "inference/files/page.html").write_text("other")
    argv = [helm, "template", "try", str(tmp_path / "inference"), f"--kube-version={RELEASE}"]
    text = subprocess.run(
        [*argv, f"--namespace={NAMESPACE}"], capture_output=True, text=True, check=True
    ).stdout
    found = [each for each in yaml.safe_load_all(text) if each]
    assert dict(pods(found)) == before
    sums = [
        only(each, "Deployment", "-client")["spec"]["template"]["metadata"]["annotations"]
        for each in (found, objects(helm, {}))
    ]
    assert sums[0] != sums[1]


def test_services_find_the_pods_and_policies_the_parts(helm: str) -> None:
    found = objects(helm, {})
    labels = dict(pods_with_labels(found))
    assert set(labels) == {"server", "notebook", "client", "test"}
    for each in found:
        if each["kind"] == "Service":
            wanted = each["spec"]["selector"]
        elif each["kind"] in ("NetworkPolicy", "PodDisruptionBudget"):
            wanted = each["spec"].get("podSelector", each["spec"].get("selector"))["matchLabels"]
        else:
            continue
        part = each["metadata"]["labels"]["app.kubernetes.io/component"]
        assert [name for name, has in labels.items() if wanted.items() <= has.items()] == [part]


def pods_with_labels(found: Objects) -> Iterator[tuple[str, dict[str, str]]]:
    for each in found:
        template = each if each["kind"] == "Pod" else each.get("spec", {}).get("template")
        if template and "containers" in template.get("spec", {}):
            labels = template["metadata"]["labels"]
            yield labels["app.kubernetes.io/component"], labels


def test_prometheus_takes_the_rules_and_alerts_by_them(helm: str, tmp_path: Path) -> None:
    promtool = tool("prometheus", "promtool")
    rules = only(objects(helm, {}, kinds=MONITORED), "PrometheusRule")["spec"]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(rules))
    label = 'namespace="models",pod="try-inference-server-1",model="line",version="1"'

    def series(name: str, values: str, more: str = "") -> dict[str, str]:
        return {"series": f"{name}{{{label}{more}}}", "values": values}

    cases = {
        "well": (
            [
                series("nv_inference_request_success", "0+60x30"),
                series("nv_inference_request_failure", "0x30", ',reason="OTHER"'),
                series("nv_inference_queue_duration_us", "0+600x30"),
                series("nv_inference_compute_infer_duration_us", "0+6000x30"),
                series("nv_inference_pending_request_count", "1x30"),
            ],
            set(),
        ),
        "idle": (
            [
                series("nv_inference_request_success", "7x30"),
                series("nv_inference_queue_duration_us", "9x30"),
            ],
            set(),
        ),
        "unwell": (
            [
                series("nv_inference_request_success", "0+60x30"),
                series("nv_inference_request_failure", "0+6x30", ',reason="OTHER"'),
                series("nv_inference_queue_duration_us", "0+180000000x30"),
                series("nv_inference_compute_infer_duration_us", "0+6000x30"),
                series("nv_inference_pending_request_count", "500x30"),
                series("nv_gpu_memory_used_bytes", "99x30", ',gpu_uuid="GPU-1"'),
                series("nv_gpu_memory_total_bytes", "100x30", ',gpu_uuid="GPU-1"'),
            ],
            {"TritonRequestsFail", "TritonQueueIsLong", "TritonRequestsPile", "TritonGpuMemoryIsFull"},
        ),
    }
    names = {rule["alert"] for group in rules["groups"] for rule in group["rules"] if "alert" in rule}
    assert names == cases["unwell"][1]
    for given, expected in cases.values():
        # an alert that fires has labels and words of its own, so only their number is compared: none, or one
        expressions = [
            {
                "expr": f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) or vector(0)',
                "eval_time": "25m",
                "exp_samples": [{"labels": "{}", "value": int(name in expected)}],
            }
            for name in names
        ]
        trial = {
            "rule_files": ["rules.yml"],
            "evaluation_interval": "1m",
            "tests": [{"interval": "1m", "input_series": given, "promql_expr_test": expressions}],
        }
        (tmp_path / "trial.yml").write_text(yaml.safe_dump(trial))
        done = subprocess.run(
            [promtool, "test", "rules", str(tmp_path / "trial.yml")],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_scaling_asks_for_what_the_rules_record(helm: str) -> None:
    rules = only(objects(helm, {}, kinds=MONITORED), "PrometheusRule")["spec"]
    recorded = {rule["record"] for group in rules["groups"] for rule in group["rules"] if "record" in rule}
    hpa = only(objects(helm, GOOD["grows by its queue"]), "HorizontalPodAutoscaler")
    assert hpa["spec"]["metrics"][0]["pods"]["metric"]["name"] in recorded
    keda = only(objects(helm, GOOD["grows by keda"]), "ScaledObject")
    assert any(name in keda["spec"]["triggers"][0]["metadata"]["query"] for name in recorded)
