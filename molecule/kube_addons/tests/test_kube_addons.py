from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from testinfra.host import Host

ADMIN = "kubectl --kubeconfig=/etc/kubernetes/admin.conf"
PATIENCE = 180
CONVERGE = Path(__file__).parents[1] / "converge.yml"
Apply = Callable[..., "subprocess.CompletedProcess[str]"]

POD = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{role: {name}}}}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - name: main
      image: {image}
      command: [sh, -c, "mkdir -p /data; echo {name} > /data/index.html; exec httpd -f -p 8080 -h /data"]
"""
CLAIM = """
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: kept}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
"""
VOLUME = """      volumeMounts: [{name: kept, mountPath: /data}]
  volumes: [{name: kept, persistentVolumeClaim: {claimName: kept}}]
"""
POLICY = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: guard}
spec:
  podSelector: {matchLabels: {role: server}}
  policyTypes: [Ingress]
"""
FRIENDS = "  ingress: [{from: [{podSelector: {matchLabels: {role: friend}}}]}]\n"


def await_that(what: str, done: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < end, f"not within {PATIENCE} s: {what}"
        time.sleep(0.5)


@pytest.fixture
def apply(request: pytest.FixtureRequest) -> Apply:
    """The roles once more, with other inputs."""

    def run(**inputs: object) -> subprocess.CompletedProcess[str]:
        argv = ["ansible-playbook", "--inventory", request.config.option.ansible_inventory, str(CONVERGE)]
        given = json.dumps({"kube_check_names": ["api"], **inputs})
        return subprocess.run([*argv, "--extra-vars", given], capture_output=True, text=True, check=False)

    return run


@pytest.fixture
def room(host: Host) -> Iterator[Callable[[str], str]]:
    """A namespace; returns a function that applies objects in it."""
    host.check_output(f"{ADMIN} create namespace try")
    # it is made a moment after its namespace
    look = f"{ADMIN} --namespace=try get serviceaccount default"
    await_that("the default account", lambda: host.run(look).rc == 0)
    yield lambda text: host.check_output(f"cat <<'END' | {ADMIN} --namespace=try apply -f -\n{text}\nEND")
    host.check_output(f"{ADMIN} delete namespace try")


@pytest.fixture(scope="module")
def image(host: Host) -> str:
    """An image with a shell that the node has."""
    names = host.check_output("crictl images -o json")
    return next(
        tag for each in json.loads(names)["images"] for tag in each["repoTags"] if "/library/busybox" in tag
    )


def test_policies_deny_and_allow(host: Host, room: Callable[[str], str], image: str) -> None:
    for name in ("server", "friend", "stranger"):
        room(POD.format(name=name, image=image))
    host.check_output(f"{ADMIN} --namespace=try wait --for=condition=Ready pod --all --timeout={PATIENCE}s")
    address = host.check_output(f"{ADMIN} --namespace=try get pod server -o jsonpath='{{.status.podIP}}'")

    def reached(who: str) -> bool:
        ask = f"timeout 2 wget -q -O - http://{address}:8080/"
        return "server" in host.run(f"{ADMIN} --namespace=try exec {who} -- {ask}").stdout

    await_that("all reach the server", lambda: reached("friend") and reached("stranger"))
    room(POLICY)
    await_that("nobody does", lambda: not reached("friend") and not reached("stranger"))
    room(POLICY + FRIENDS)
    await_that("its friend does", lambda: reached("friend") and not reached("stranger"))


def test_a_claim_gets_a_volume_that_outlives_its_pod(
    host: Host, room: Callable[[str], str], image: str
) -> None:
    room(CLAIM)
    room(POD.format(name="keeper", image=image) + VOLUME)
    wait = f"{ADMIN} --namespace=try wait --for=condition=Ready pod/keeper --timeout={PATIENCE}s"
    host.check_output(wait)
    host.check_output(f"{ADMIN} --namespace=try exec keeper -- sh -c 'echo still here > /data/note'")
    host.check_output(f"{ADMIN} --namespace=try delete pod keeper")
    room(POD.format(name="keeper", image=image) + VOLUME)
    host.check_output(wait)
    assert host.check_output(f"{ADMIN} --namespace=try exec keeper -- cat /data/note") == "still here"


def test_a_service_is_reached_from_outside_the_cluster(
    host: Host, room: Callable[[str], str], image: str
) -> None:
    room(POD.format(name="web", image=image))
    host.check_output(
        f"{ADMIN} --namespace=try expose pod web --type=LoadBalancer --port=80 --target-port=8080"
    )
    look = f"{ADMIN} --namespace=try get service web -o jsonpath='{{.status.loadBalancer.ingress[0].ip}}'"
    await_that("an address", lambda: host.check_output(look))
    address = host.check_output(look)

    def answer() -> str:
        try:
            with urllib.request.urlopen(f"http://{address}/", timeout=2) as told:
                return str(told.read().decode().strip())
        except OSError:
            return ""

    await_that("an answer on the machine that the node runs on", lambda: answer() == "web")


def test_what_nodes_use_is_measured(host: Host) -> None:
    """The kubelet's certificate is one that metrics-server believes."""
    await_that("a measurement", lambda: host.run(f"{ADMIN} top nodes --no-headers").stdout.startswith("one "))


def test_name_servers_have_a_budget_and_the_site_s_settings(host: Host, apply: Apply) -> None:
    done = apply(kube_addons_dns={"replicas": 2, "cache": 77, "forward": ["192.0.2.1"]})
    assert done.returncode == 0, done.stdout
    ready = "{.status.readyReplicas}"
    count = f"{ADMIN} -n kube-system get deployment coredns -o jsonpath='{ready}'"
    await_that("both serve", lambda: host.check_output(count) == "2")
    allowed = "{.status.disruptionsAllowed}"
    look = f"{ADMIN} -n kube-system get poddisruptionbudget coredns -o jsonpath='{allowed}'"
    await_that("one may go", lambda: host.check_output(look) == "1")
    assert apply().returncode == 0


def test_what_is_switched_off_goes(host: Host, apply: Apply) -> None:
    done = apply(kube_addons_enabled={"local_path": {}, "metallb": {}}, kube_addons_load_balancer_pool=[])
    assert done.returncode == 0, done.stdout
    left = {
        each["name"]
        for each in json.loads(
            host.check_output("helm list -A -o json --kubeconfig=/etc/kubernetes/admin.conf")
        )
    }
    assert "metrics-server" not in left
    assert "metallb-pool" not in left
    assert {"metallb", "local-path", "flannel", "kube-router"} <= left


def test_what_does_not_come_up_is_named_and_mended_by_the_next_run(apply: Apply) -> None:
    wrong = {"metrics_server": {"args": ["--no-such-option"]}, "local_path": {}, "metallb": {}}
    done = apply(kube_addons_enabled=wrong)
    assert done.returncode != 0
    said = " ".join(done.stdout.split())
    assert "metrics_server: pod kube-system/metrics-server-" in said
    assert "unknown flag: --no-such-option" in said
    mended = apply()
    assert mended.returncode == 0, mended.stdout


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"kube_addons_enabled": {"metric_server": {}}}, "there is no metric_server"),
        ({"kube_addons_enabled": {"nfs": {"server": "192.0.2.1"}}}, "name the server and the exported path"),
        ({"kube_network_mtu": 500}, "kube_network_mtu is 500"),
    ],
)
def test_wrong_inputs_are_named(apply: Apply, inputs: dict[str, object], said: str) -> None:
    done = apply(**inputs)
    assert done.returncode != 0
    assert said in " ".join(done.stdout.split())
