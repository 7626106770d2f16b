from __future__ import annotations

import http.client
import json
import ssl
from typing import TYPE_CHECKING

import pytest
from waits import until

if TYPE_CHECKING:
    from scenario import Apply
    from testinfra.host import Host

ADMIN = "kubectl --kubeconfig=/etc/kubernetes/admin.conf"
ETCD = (
    "etcdctl --endpoints=https://127.0.0.1:2379 --cacert=/etc/kubernetes/pki/etcd/ca.crt"
    " --cert=/etc/kubernetes/pki/etcd/healthcheck-client.crt --key=/etc/kubernetes/pki/etcd/healthcheck-client.key"
)
PATIENCE = 240


def hashes(host: Host) -> dict[str, str]:
    """The running static pods, by name: another hash is another start."""
    pods = json.loads(host.check_output("crictl pods --namespace=kube-system --state=ready -o json"))["items"]
    return {
        pod["metadata"]["name"]: pod["annotations"]["kubernetes.io/config.hash"]
        for pod in pods
        if "kubernetes.io/config.hash" in pod["annotations"]
    }


def test_the_node_is_ready_and_has_its_label(host: Host) -> None:
    until(
        lambda: (
            host.check_output(
                f"{ADMIN} get node one -o jsonpath='{{.status.conditions[?(@.type==\"Ready\")].status}}'"
            )
            == "True"
        ),
        PATIENCE,
        "the node is not ready",
    )
    assert host.check_output(f"{ADMIN} get nodes -l demo.example/rack=r1 -o name") == "node/one"


def test_the_store_is_of_the_release_that_the_versions_file_says(host: Host) -> None:
    image = host.check_output(
        f"{ADMIN} -n kube-system get pod etcd-one -o jsonpath='{{.spec.containers[0].image}}'"
    )
    written = host.file("/etc/rackloom/kubernetes/kubeadm.json").content_string.split("---\n")[0]
    assert image.endswith(f":{json.loads(written)['etcd']['local']['imageTag']}")


def test_secrets_are_encrypted_at_rest(host: Host) -> None:
    host.check_output(f"{ADMIN} create secret generic hidden --from-literal=word=opensesame")
    try:
        stored = host.check_output(
            f"{ETCD} get /registry/secrets/default/hidden --print-value-only | head -c 200 | tr -cd ' -~'"
        )
        assert stored.startswith("k8s:enc:secretbox:") and "opensesame" not in stored
        told = host.check_output(f"{ADMIN} get secret hidden -o jsonpath='{{.data.word}}' | base64 -d")
        assert told == "opensesame"
    finally:
        host.check_output(f"{ADMIN} delete secret hidden")


def test_the_audit_log_says_who_did_what_and_not_what_was_in_it(host: Host) -> None:
    host.check_output(f"{ADMIN} create configmap audited --from-literal=word=loudly")
    host.check_output(f"{ADMIN} delete configmap audited")

    def log() -> str:
        return str(host.run('grep \'"name":"audited"\' /var/log/kubernetes/audit/audit.log').stdout)

    # the last is written once it is answered
    until(
        lambda: {"create", "delete"} <= {json.loads(row)["verb"] for row in log().splitlines()},
        PATIENCE,
        "not both are in the log",
    )
    assert "loudly" not in log()


@pytest.mark.parametrize(("option", "allowed"), [("", True), ("hostNetwork", False)])
def test_pods_may_what_the_site_allows(host: Host, option: str, allowed: bool) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "try"},
        "spec": {"containers": [{"name": "a", "image": "a"}], **({option: True} if option else {})},
    }
    # the default account is made a moment after the cluster
    until(
        lambda: host.run(f"{ADMIN} get serviceaccount default").rc == 0,
        PATIENCE,
        "no default account",
    )
    done = host.run(f"echo '{json.dumps(pod)}' | {ADMIN} create --dry-run=server -f -")
    assert (done.rc == 0) is allowed, done.stderr
    assert allowed or "violates PodSecurity" in done.stderr


def test_a_kubelet_shows_a_certificate_that_the_api_server_believes(host: Host) -> None:
    until(
        lambda: host.run(f"{ADMIN} -n kube-system logs etcd-one --tail=1").rc == 0,
        PATIENCE,
        "no logs through the kubelet",
    )


def test_nobody_gets_a_certificate_for_another_s_name(host: Host) -> None:
    subject = "-subj /O=system:nodes/CN=system:node:one -addext subjectAltName=DNS:two"
    script = f"openssl req -new -newkey rsa:2048 -nodes -keyout /dev/null {subject} 2>/dev/null"
    request = host.check_output(f"{script} | base64 -w0")
    wanted = {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": "bad"},
        "spec": {
            "request": request,
            "signerName": "kubernetes.io/kubelet-serving",
            "usages": ["digital signature", "server auth"],
        },
    }
    as_node = "--as=system:node:one --as-group=system:nodes --as-group=system:authenticated"
    host.check_output(f"echo '{json.dumps(wanted)}' | {ADMIN} {as_node} create -f -")
    try:
        until(
            lambda: (
                "bad: not approved, two is not a name"
                in host.check_output("journalctl -u rackloom-kube-approver -o cat")
            ),
            PATIENCE,
            "the approver does not look at it",
        )
        assert host.check_output(f"{ADMIN} get csr bad -o jsonpath='{{.status}}'") in ("", "{}")
    finally:
        host.check_output(f"{ADMIN} delete csr bad")


@pytest.mark.parametrize(("user", "may"), [("alice", "yes"), ("bob", "no")])
def test_users_have_a_kubeconfig_and_their_own_rights(host: Host, user: str, may: str) -> None:
    path = f"/etc/kubernetes/users/{user}.conf"
    assert host.file(path).mode == 0o600 and host.file(path).user == "root"
    told = json.loads(host.check_output(f"kubectl --kubeconfig={path} auth whoami -o json"))["status"][
        "userInfo"
    ]
    assert told["username"] == user and ("readers" in told["groups"]) is (user == "bob")
    assert host.run(f"kubectl --kubeconfig={path} auth can-i delete nodes").stdout.split()[-1] == may


def test_credentials_are_for_root_alone(host: Host) -> None:
    keys = host.check_output(
        "find /etc/kubernetes /etc/rackloom/kubernetes/apiserver -type f"
        " \\( -name '*.key' -o -name '*.conf' \\) -perm /077"
    )
    assert keys == ""
    assert host.run("ls /etc/kubernetes/super-admin.conf").rc != 0


def test_kube_vip_has_the_address_for_good_and_may_do_nothing_else(host: Host) -> None:
    """kubeadm went through it before there was a kube-vip; what held it then is gone."""
    address = host.ansible.get_variables()["rackloom_address"].rpartition(".")[0] + ".200"
    shown = json.loads(host.check_output(f"ip -json address show to {address}/32"))
    entries = [entry for each in shown for entry in each.get("addr_info", [])]
    [entry] = [each for each in entries if each.get("local") == address]
    assert entry["valid_life_time"] == 2**32 - 1
    lease = f"{ADMIN} -n kube-system get lease rackloom-kube-vip -o jsonpath='{{.spec.holderIdentity}}'"
    assert host.check_output(lease) == "one"
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    asked = http.client.HTTPSConnection(address, 6443, timeout=10, context=context)
    asked.request("GET", "/readyz")
    assert asked.getresponse().status == 200
    own = "kubectl --kubeconfig=/etc/rackloom/kubernetes/kube-vip.conf -n kube-system auth can-i"
    for may, what in (("yes", "update leases/rackloom-kube-vip"), ("no", "list pods"), ("no", "get secrets")):
        assert host.run(f"{own} {what}").stdout.split()[-1] == may, what


def test_the_store_is_copied_and_only_so_many_copies_stay(host: Host) -> None:
    host.check_output("systemctl start rackloom-etcd-snapshot.service")
    copies = host.check_output("ls /var/lib/rackloom/etcd").split()
    assert copies and host.file(f"/var/lib/rackloom/etcd/{copies[-1]}").mode == 0o600
    told = json.loads(
        host.check_output(f"etcdutl snapshot status -w json /var/lib/rackloom/etcd/{copies[-1]}")
    )
    assert told["totalKey"] > 0
    host.check_output("for n in $(seq -w 40); do touch /var/lib/rackloom/etcd/20200101T0000${n}Z.db; done")
    host.check_output("rackloom-etcd-snapshot")
    left = host.check_output("ls /var/lib/rackloom/etcd").split()
    assert len(left) == 28 and copies[-1] in left


def test_settings_start_anew_only_what_they_touch(host: Host, apply: Apply) -> None:
    before = hashes(host)
    done = apply(kube_control_plane_settings={"scheduler": {"v": 1}})
    assert done.returncode == 0, done.stdout
    after = hashes(host)
    assert {name for name in after if after[name] != before.get(name)} == {"kube-scheduler-one"}
    until(lambda: "--v=1" in host.run("pgrep -af kube-scheduler").stdout, PATIENCE, "it does not run so")


def test_a_setting_that_does_not_work_is_taken_back(host: Host, apply: Apply) -> None:
    before = hashes(host)
    done = apply(
        kube_control_plane_settings={"apiserver": {"no-such-flag": 1}}, kube_control_plane_timeout=30
    )
    assert done.returncode != 0 and "runs with its old settings again" in done.stdout
    until(lambda: host.run(f"{ADMIN} get --raw /readyz").rc == 0, PATIENCE, "the API does not answer")
    assert apply().returncode == 0
    assert hashes(host)["kube-apiserver-one"] == before["kube-apiserver-one"]


def test_a_member_gets_back_what_it_lost_and_keeps_what_it_knows(host: Host, apply: Apply) -> None:
    """As after someone followed half of a guide: no manifests, no identity of the kubelet, no reason to begin anew."""
    host.check_output(f"{ADMIN} create configmap kept --from-literal=word=kept")
    host.check_output(
        "systemctl stop kubelet; mkdir /root/away; mv /etc/kubernetes/manifests/*.yaml /root/away/;"
        " rm /etc/kubernetes/kubelet.conf /var/lib/kubelet/pki/kubelet-client-*"
    )
    host.check_output("crictl stop $(crictl ps -q --label io.kubernetes.pod.namespace=kube-system)")
    done = apply()
    assert done.returncode == 0, done.stdout
    assert host.check_output(f"{ADMIN} get configmap kept -o jsonpath='{{.data.word}}'") == "kept"
    ready = f"{ADMIN} get node one -o jsonpath='{{.status.conditions[?(@.type==\"Ready\")].status}}'"
    until(lambda: host.run(ready).stdout == "True", PATIENCE, "the node is not ready")
    # an identity that renews itself
    assert "kubelet-client-current.pem" in host.file("/etc/kubernetes/kubelet.conf").content_string
    host.check_output(f"{ADMIN} delete configmap kept && rm -r /root/away")


def test_certificates_are_renewed_before_they_end(host: Host) -> None:
    look = "kubeadm certs check-expiration -o json --config=/etc/rackloom/kubernetes/kubeadm.json"

    def ends() -> dict[str, str]:
        rows = json.loads(host.check_output(look))["certificates"]
        return {row["name"]: row["expirationDate"] for row in rows if not row.get("missing")}

    before = ends()
    host.check_output("systemctl start rackloom-kube-certificates.service")
    assert ends() == before
    address = host.ansible.get_variables()["rackloom_address"]
    # as if they ended soon
    host.check_output(f"python3 /usr/local/lib/rackloom/kube-certificates.py 400 {address}")
    assert all(after > before[name] for name, after in ends().items())
    until(
        lambda: host.run(f"{ADMIN} get --raw /readyz").stdout.strip() == "ok",
        PATIENCE,
        "the API does not answer",
    )
