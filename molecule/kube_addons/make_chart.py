"""Make a chart that stands in for the GPU operator's: its resource, its settings, a pod, and the real discovery.

Arguments: the folder that build.py has laid out, whose records get one more, and the folder that the chart goes into.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tarfile
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
NAME = "gpu-operator"
KIND = "node-feature-discovery"
DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "clusterpolicies.nvidia.com"},
    "spec": {
        "group": "nvidia.com",
        "scope": "Cluster",
        "names": {
            "kind": "ClusterPolicy",
            "listKind": "ClusterPolicyList",
            "plural": "clusterpolicies",
            "singular": "clusterpolicy",
        },
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                },
            }
        ],
    },
}
TEMPLATE = """\
apiVersion: nvidia.com/v1
kind: ClusterPolicy
metadata:
  name: cluster-policy
spec: {{ omit .Values "node-feature-discovery" "nfd" "image" "global" | toYaml | nindent 2 }}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .Values.devicePlugin.config.name }}
  namespace: {{ .Release.Namespace }}
data: {{ .Values.devicePlugin.config.data | toYaml | nindent 2 }}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: gpu-operator
  namespace: {{ .Release.Namespace }}
spec:
  selector: {matchLabels: {app: gpu-operator}}
  template:
    metadata: {labels: {app: gpu-operator}}
    spec:
      terminationGracePeriodSeconds: 0
      tolerations: {{ .Values.daemonsets.tolerations | toYaml | nindent 8 }}
      containers:
        - {name: main, image: {{ .Values.image }}, command: [sleep, infinity]}
"""
DISCOVERY = {
    "master": {"config": {"extraLabelNs": ["nvidia.com"]}},
    "worker": {"config": {"sources": {"pci": {"deviceLabelFields": ["vendor"]}}}},
}


def main(built: Path, output: Path) -> None:
    """Write the chart and its record."""
    versions = yaml.safe_load((built / "versions.yml").read_text())
    plain = yaml.safe_load((ROOT / "inventory" / "versions.yml").read_text())
    version = plain["charts"][NAME]["version"]
    shell = "docker.io/library/busybox"
    discovery = versions["charts"][KIND]
    chart = {
        "apiVersion": "v2",
        "name": NAME,
        "version": version,
        "dependencies": [{"name": KIND, "version": discovery["version"], "condition": "nfd.enabled"}],
    }
    values = {"image": f"{shell}:{versions['images'][shell]['tag']}", KIND: DISCOVERY}
    inside = (built / discovery["url"].removeprefix("file:")).read_bytes()
    members = {
        "Chart.yaml": json.dumps(chart).encode(),
        "values.yaml": json.dumps(values).encode(),
        "crds/clusterpolicies.yaml": json.dumps(DEFINITION).encode(),
        "templates/all.yaml": TEMPLATE.encode(),
        f"charts/{KIND}-{discovery['version']}.tgz": inside,
    }
    output.mkdir(parents=True, exist_ok=True)
    path = output / f"{NAME}-{version}.tgz"
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(f"{NAME}/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    versions["charts"][NAME] = {**plain["charts"][NAME], "sha256": digest}
    (built / "versions.yml").write_text(yaml.safe_dump(versions))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
