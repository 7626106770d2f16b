#!/usr/bin/python
"""A node's membership in a Kubernetes cluster: made, completed, kept up to date, never made twice."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kube_membership
short_description: Make a node a member of a Kubernetes cluster with kubeadm
description:
  - Looks what the node is, and does the least that makes it a member. C(kubeadm init) where there is no cluster yet
    and this node may make it, C(kubeadm join) through the cluster's endpoint otherwise, and nothing on a node that is
    a member already.
  - A node whose join was cut off is cleaned, it alone, and joins again. An init that was cut off is gone on with,
    never begun anew, once etcd holds data. A member is never reset; manifests that it lacks are put back, and a kubelet
    whose certificate has ended gets another one. An etcd with data that is not known to be ours is never touched.
  - Settings of a member's control plane are compared part by part with those that were last put into force. What
    differs is rendered by kubeadm's own phases; a part starts anew only where its manifest then differs, and must
    answer before the next one's turn comes. A part that does not answer gets its old manifest back.
  - A node joins with a client certificate of one hour, which the action side issues on the controlling machine with
    the cluster's own authority. So there are no tokens that could leak or expire, and no other node is asked.
options:
  state:
    description:
      - C(looked) tells what the node is, and puts back what a member has lost; C(joined) makes it a member.
    type: str
    choices: [joined, looked]
    default: joined
  role:
    description: What the node is to the cluster.
    type: str
    choices: [control_plane, worker]
    required: true
  endpoint:
    description: The API's address and port.
    type: str
    required: true
  address:
    description: The node's own address; a control plane's is reached at it.
    type: str
    default: ""
  members:
    description: Name and address of all control-plane nodes.
    type: list
    elements: dict
    default: []
  store:
    description: Endpoints of etcd where it has hosts of its own; empty where it runs on the control-plane nodes.
    type: list
    elements: str
    default: []
  socket:
    description: Socket of the container runtime.
    type: str
    default: unix:///run/containerd/containerd.sock
  ca_certificate:
    description: The cluster's authority, PEM.
    type: str
    required: true
  ca_key:
    description: Its private key, PEM. The action side issues the node's credential with it; no node gets it from here.
    type: str
  join:
    description: kubeadm's configuration for joining.
    type: str
    default: ""
  parts:
    description: A digest for each part of the control plane's settings.
    type: dict
    default: {}
  may_init:
    description: Whether this node makes the cluster, where there is none.
    type: bool
    default: false
  refusal:
    description: Why no node makes the cluster; empty where one does.
    type: str
    default: ""
  timeout:
    description: Seconds in which a started part must answer.
    type: int
    default: 240
  hold:
    description:
      - The endpoint's address, where it is kept up by something that the cluster itself carries. Whoever makes the
        cluster has it for an hour, or until that comes; kubeadm speaks to the new API server through it.
    type: str
    default: ""
  credential:
    description: Set by the action side; the client certificate that the node joins with.
    type: dict
    suboptions:
      key:
        description: Private key, PEM.
        type: str
      certificate:
        description: Certificate, PEM.
        type: str
  record:
    description: Set by the action side; names the record that the node keeps of what was asked of it.
    type: dict
    suboptions:
      key:
        description: Name of the record.
        type: str
      digest:
        description: Digest of what is asked.
        type: str
author: The Rackloom authors
"""

EXAMPLES = r"""
- name: join | Make the node a worker
  rackloom.cluster.kube_membership:
    role: worker
    endpoint: 192.0.2.10:7443
    ca_certificate: "{{ rackloom_secrets.kube_ca_certificate }}"
    ca_key: "{{ rackloom_secrets.kube_ca_key }}"
    join: "{{ {'node': inventory_hostname} | rackloom.cluster.kubeadm_join }}"
"""

RETURN = r"""
found:
  description:
    - What the node was. C(member), C(none), C(unfinished) where a join was cut off, C(init) where an init was,
      C(restored) where a snapshot was laid out, C(foreign) for anything else.
  returned: always
  type: str
api:
  description: Names of the control-plane nodes whose API answers, and C(endpoint).
  returned: always
  type: list
  elements: str
actions:
  description: What was done, or would be in check mode.
  returned: always
  type: list
  elements: str
  sample: [joined the cluster]
"""

import base64
import http.client
import json
import os
import re
import shutil
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import kube_documents, kube_etcd, kube_vip, node_members, node_records  # noqa: TID252 - how a collection's plugins find each other
from ..module_utils.kube_client import KubeError, bracketed, pull, runner  # noqa: TID252

MARK = Path(node_members.MARK)
STATE = Path("/var/lib/rackloom/kubernetes")
INTENT = STATE / "intent.json"
RESTORED = Path("/var/lib/rackloom/etcd/restored")
KUBERNETES = Path("/etc/kubernetes")
CONFIG = Path(kube_documents.FOLDER) / "kubeadm.json"
SERVING = Path(kube_documents.FOLDER) / "serving.json"
KUBELET_PKI = Path(node_members.CLIENT).parent
ETCD = Path(kube_documents.ETCD_DATA)
MANIFESTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
PORTS = {"kube-controller-manager": 10257, "kube-scheduler": 10259}
LEAVES = ("apiserver", "apiserver-kubelet-client", "front-proxy-client")
STORE_LEAVES = ("apiserver-etcd-client", "etcd/server", "etcd/peer", "etcd/healthcheck-client")
"""Certificates that kubeadm makes; those of etcd only where etcd runs beside the API server."""
GOING_ON = (
    "DirAvailable--var-lib-etcd",
    "DirAvailable--etc-kubernetes-manifests",
    *(f"FileAvailable--etc-kubernetes-manifests-{name}.yaml" for name in MANIFESTS),
    *(f"Port-{port}" for port in (6443, 10250, 10257, 10259, 2379, 2380)),
)
"""Checks that tell what a first attempt has left behind."""
ANNOTATION = "rackloom.cluster/configuration"


class NotJoinedError(Exception):
    """The node did not become what it should; the text is for people."""


def read_json(path: Path) -> dict[str, Any]:
    """A file's content, empty where it is not there or broken."""
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return loaded if isinstance(loaded, dict) else {}


def write_private(path: Path, text: str) -> None:
    """Write a file that only root reads, all of it or nothing."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def kubeconfig(endpoint: str, ca: str, key: str, certificate: str) -> str:
    """A kubeconfig with everything in it."""

    def packed(text: str) -> str:
        return base64.b64encode(text.encode()).decode()

    whole = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "joining",
        "contexts": [{"name": "joining", "context": {"cluster": "kubernetes", "user": "joining"}}],
        "clusters": [
            {
                "name": "kubernetes",
                "cluster": {"server": f"https://{endpoint}", "certificate-authority-data": packed(ca)},
            }
        ],
        "users": [
            {
                "name": "joining",
                "user": {"client-certificate-data": packed(certificate), "client-key-data": packed(key)},
            }
        ],
    }
    return json.dumps(whole)


def ask(host: str, port: int, path: str, ca: str, timeout: float = 3.0) -> tuple[int, str]:
    """Status and text of an HTTPS answer; `ca` "" believes anybody. Raises OSError."""
    context = ssl.create_default_context(cadata=ca) if ca else ssl._create_unverified_context()  # noqa: S323, SLF001 - asked of this very host
    connection = http.client.HTTPSConnection(host, port, timeout=timeout, context=context)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read(4096).decode("utf-8", "replace")
    except http.client.HTTPException as error:
        raise OSError(str(error)) from None
    finally:
        connection.close()


def split(endpoint: str) -> tuple[str, int]:
    """Host and port."""
    host, _, port = endpoint.rpartition(":")
    return host.strip("[]"), int(port)


def what_failed(text: str) -> str:
    """The lines of kubeadm's output that say what went wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "[ERROR" in line]
    if errors:
        return "; ".join(errors)
    told = [line for line in lines if line.lower().startswith(("error", "fatal"))]
    return "; ".join((told or lines)[-3:])


class Member:
    """This node, and what it is to the cluster."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params = module.params
        self.control_plane = module.params["role"] == "control_plane"
        self.actions: list[str] = []
        self.run = runner(module)
        self.ca: str = module.params["ca_certificate"]
        self.store: list[str] = module.params["store"]
        self.manifests = MANIFESTS[1:] if self.store else MANIFESTS

    # looking

    def state(self) -> str:
        """What this node is."""
        mark, intent = read_json(MARK), read_json(INTENT)
        kubelet = (KUBERNETES / "kubelet.conf").exists()
        manifests = [name for name in self.manifests if self.manifest(name).exists()]
        data = (ETCD / "member").is_dir()
        # elsewhere it may hold anything; whoever has begun to make the cluster there goes on with it
        stored = data or bool(self.store)
        if mark and kubelet and (not self.control_plane or len(manifests) == len(self.manifests)):
            return "member"
        if stored and RESTORED.exists() and not (KUBERNETES / "admin.conf").exists():
            return "restored"
        if stored and intent.get("action") == "init":
            return "init"
        if mark and self.control_plane and data:
            # something was taken from it; what its store holds may be all that is left of the cluster
            return "member"
        begun = kubelet or manifests or data or intent or (KUBERNETES / "bootstrap-kubelet.conf").exists()
        # A worker has the authority from kubeadm alone; a control-plane node has it before.
        begun = begun or (not self.control_plane and (KUBERNETES / "pki/ca.crt").exists())
        if not begun:
            return "none"
        if intent or mark:
            return "unfinished"
        return "foreign" if kubelet or data else "unfinished"

    def answering(self) -> list[str]:
        """Whose API answers with a certificate of this cluster."""
        places = [("endpoint", *split(self.params["endpoint"]))]
        places += [(each["name"], each["address"], 6443) for each in self.params["members"]]
        found = []
        for name, host, port in places:
            try:
                status, _ = ask(host, port, "/readyz", self.ca)
            except ssl.SSLCertVerificationError as error:
                if error.verify_code in (18, 19, 20, 21):
                    raise NotJoinedError(
                        f"{host}:{port} answers with a certificate of another authority than this cluster's; "
                        "that address belongs to something else"
                    ) from None
                continue
            except OSError:
                continue
            if status == 200:
                found.append(name)
        return found

    def manifest(self, name: str) -> Path:
        """Where a part's static pod is described."""
        return KUBERNETES / "manifests" / f"{name}.yaml"

    # doing

    def must(self, *argv: str) -> str:
        """Run a program that has to succeed; returns all it said."""
        rc, out, err = self.run(argv, "")
        if rc != 0:
            raise NotJoinedError(f"{' '.join(argv[:4])}: {what_failed(out + chr(10) + err)}")
        return out

    def wait(self, what: str, done: Callable[[], bool], seconds: float) -> None:
        """Await a condition."""
        end = time.monotonic() + seconds
        while not done():
            if time.monotonic() > end:
                raise NotJoinedError(f"not within {seconds:.0f} s: {what}")
            time.sleep(0.5)

    def own_api(self) -> bool:
        """Whether this node's own API server is ready."""
        try:
            return ask(self.params["address"], 6443, "/readyz", self.ca)[0] == 200
        except OSError:
            return False

    def at_endpoint(self) -> bool:
        """Whether an API server is ready at the cluster's endpoint."""
        try:
            return ask(*split(self.params["endpoint"]), "/readyz", self.ca)[0] == 200
        except OSError:
            return False

    def kubelet_well(self) -> bool:
        """Whether the kubelet runs and says that it is well."""
        try:
            connection = http.client.HTTPConnection("127.0.0.1", 10248, timeout=3)
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False

    def needed(self) -> str:
        """Why a node whose join was cut off may not be cleaned, its etcd may vote by now; "" where it may be."""
        if self.store or not (ETCD / "member").is_dir():
            return ""
        try:
            rows = self.etcd(self.others()).members()
        except KubeError as error:
            return f"no member of etcd can be asked whether it votes there: {error}"
        named = [{**row, "name": row["id"]} for row in rows]
        return kube_etcd.refusal(named, [row["id"] for row in rows if self.peer() in row["peers"]])

    def clean(self) -> None:
        """Undo what a join that was cut off has left on this node; the cluster's authorities stay."""
        self.must(
            "kubeadm",
            "reset",
            "--force",
            f"--cri-socket={self.params['socket']}",
            f"--cert-dir={STATE}/none",
            "--skip-phases=remove-etcd-member",
        )
        for leaf in (*LEAVES, *(() if self.store else STORE_LEAVES)):
            for ending in (".crt", ".key"):
                (KUBERNETES / "pki" / f"{leaf}{ending}").unlink(missing_ok=True)
        if not self.control_plane:
            shutil.rmtree(KUBERNETES / "pki", ignore_errors=True)
        for name in ("wal", "snap"):
            shutil.rmtree(ETCD / "member" / name, ignore_errors=True)
        shutil.rmtree(ETCD / "member", ignore_errors=True)
        MARK.unlink(missing_ok=True)
        self.actions.append("cleaned what an earlier attempt had left")

    def finish(self, parts: dict[str, str]) -> None:
        """Note that the node is a member."""
        self.note(parts)
        INTENT.unlink(missing_ok=True)

    def note(self, parts: dict[str, str]) -> None:
        """Note what is in force."""
        write_private(MARK, json.dumps(self.mark(parts), sort_keys=True))

    def mark(self, parts: dict[str, str]) -> dict[str, Any]:
        """What is noted of a member."""
        noted = {"role": self.params["role"], "endpoint": self.params["endpoint"], "parts": parts}
        return {**noted, "store": "apart"} if self.store else noted

    def begin(self, action: str) -> None:
        """Note what is begun, for a run that comes after one that was killed."""
        write_private(INTENT, json.dumps({"action": action}))

    def images(self) -> None:
        """Bring what the control plane is made of onto the node, before anything is begun."""
        listed = self.must("kubeadm", "config", "images", "list", f"--config={CONFIG}")
        try:
            pull(self.run, listed.split(), self.params["timeout"])
        except KubeError as error:
            raise NotJoinedError(str(error)) from None

    def init(self, found: str) -> None:
        """Make the cluster, or go on with making it."""
        if found == "unfinished":
            if read_json(MARK) and not self.store:
                raise NotJoinedError(
                    "this node was a member of the cluster, its etcd has no data any more, and no API server answers. "
                    f"See whether the volume of {ETCD} is mounted; if the data is lost, restore a snapshot: "
                    "rackloom kubernetes restore"
                )
            self.clean()
        if self.store and found != "init" and kube_etcd.Etcd(self.run, self.store).holds("/registry/"):
            # its control plane is gone, and what it kept is there: as after a restore
            found = "restored"
        self.images()
        self.begin("init")
        if self.params["hold"]:
            kube_vip.hold(self.run, self.params["hold"])
        self.serving()
        ignore = [f"--ignore-preflight-errors={','.join(GOING_ON)}"] if found in ("init", "restored") else []
        # A snapshot has its own name servers and proxy; an older kubeadm would not know a newer CoreDNS.
        kept = ["--skip-phases=addon"] if found == "restored" else []
        self.must("kubeadm", "init", f"--config={CONFIG}", *ignore, *kept)
        RESTORED.unlink(missing_ok=True)
        # Whoever holds it is above all permissions; with the authority's key at hand it can be made again.
        (KUBERNETES / "super-admin.conf").unlink(missing_ok=True)
        if found != "restored":
            self.annotate()
        # so the proxy's settings of today are not in force yet: the next run puts them there
        late = {"proxy": ""} if found == "restored" and "proxy" in self.params["parts"] else {}
        self.finish({**self.params["parts"], **late})
        self.actions.append("made the cluster" if found != "init" else "completed the cluster")

    def join(self, found: str) -> None:
        """Join the cluster through its endpoint."""
        if found == "unfinished":
            if self.complete():
                return
            if self.control_plane and (needed := self.needed()):
                said = f"this node's join was cut off, and it is not cleaned: {needed}"
                self.wait(said, self.complete, self.params["timeout"])
                return
            self.clean()
        if self.control_plane:
            self.images()
        self.begin("join")
        if self.control_plane:
            self.forget_member()
            self.serving()
        credential = self.params["credential"] or {}
        text = kubeconfig(self.params["endpoint"], self.ca, credential["key"], credential["certificate"])
        paper = STATE / "join.json"
        try:
            write_private(Path(kube_documents.JOIN_FILE), text)
            write_private(paper, self.params["join"])
            self.try_join(paper)
        finally:
            Path(kube_documents.JOIN_FILE).unlink(missing_ok=True)
            paper.unlink(missing_ok=True)
        self.wait("the cluster knows this node", self.registered, self.params["timeout"])
        # The settings that it was given are the cluster's; its own may be newer.
        parts = dict(self.params["parts"])
        self.finish(
            {**parts, **dict.fromkeys(("apiserver", "controller-manager", "scheduler"), "")} if parts else {}
        )
        self.actions.append("joined the cluster")
        if parts:
            self.apply(quiet=True)

    def try_join(self, paper: Path) -> None:
        """Run kubeadm join; a node that was a member a moment ago counts as ready for a while longer."""
        end = time.monotonic() + 120
        while True:
            rc, out, err = self.run(["kubeadm", "join", f"--config={paper}"], "")
            if rc == 0:
                return
            if "already exists in the cluster" not in out + err or time.monotonic() > end:
                raise NotJoinedError(f"kubeadm join: {what_failed(out + chr(10) + err)}")
            self.clean()
            if self.control_plane:
                self.forget_member()
                self.serving()
            time.sleep(5)

    def registered(self) -> bool:
        """Whether the cluster knows this node. kubeadm may end before, and labels would find nothing to be put on."""
        name = json.loads(self.params["join"])["nodeRegistration"]["name"]
        argv = ["kubectl", f"--kubeconfig={KUBERNETES}/kubelet.conf", "get", "node", name, "--output=name"]
        return self.run(argv, "")[0] == 0

    def complete(self) -> bool:
        """Whether a join that was cut off had done its work; then it is noted."""
        if not (KUBERNETES / "kubelet.conf").exists() or not self.kubelet_well() or not self.registered():
            return False
        if self.control_plane:
            if not self.own_api() or not (self.store or self.votes()):
                return False
            self.must("kubeadm", "init", "phase", "mark-control-plane", f"--config={CONFIG}")
        (KUBERNETES / "bootstrap-kubelet.conf").unlink(missing_ok=True)
        self.finish(dict(self.params["parts"]))
        self.actions.append("found the node joined")
        return True

    # etcd

    def etcd(self, addresses: list[str]) -> kube_etcd.Etcd:
        """Etcd at these addresses, with a certificate that is made where it is missing."""
        if not (KUBERNETES / "pki/etcd/healthcheck-client.crt").exists():
            self.must("kubeadm", "init", "phase", "certs", "etcd-healthcheck-client", f"--config={CONFIG}")
        return kube_etcd.Etcd(self.run, [f"https://{bracketed(address)}:2379" for address in addresses])

    def peer(self) -> str:
        """Where other members of etcd reach this node's."""
        return f"https://{bracketed(self.params['address'])}:2380"

    def others(self) -> list[str]:
        """Addresses of the other control-plane nodes."""
        told = [str(each["address"]) for each in self.params["members"]]
        return [address for address in told if address != self.params["address"]]

    def votes(self) -> bool:
        """Whether this node's etcd is a full and healthy member."""
        try:
            rows = self.etcd([self.params["address"]]).members()
        except KubeError:
            return False
        return any(self.peer() in row["peers"] and row["healthy"] and not row["learner"] for row in rows)

    def forget_member(self) -> None:
        """Take out what an earlier attempt of this node left in etcd: its data is gone, so it can never come back."""
        if self.store:
            return
        last: Exception | None = None
        for address in self.others():
            etcd = self.etcd([address])
            try:
                for row in etcd.members():
                    if self.peer() in row["peers"]:
                        etcd.remove(row["id"])
                        self.actions.append("removed its former member from etcd")
            except KubeError as error:
                last = error
                continue
            return
        if last:
            raise NotJoinedError(f"no member of etcd can be asked whether this node is known there: {last}")

    # a member's settings

    def differing(self) -> list[str]:
        """Parts whose settings are not those in force."""
        applied = read_json(MARK).get("parts", {})
        return [name for name, wanted in self.params["parts"].items() if applied.get(name) != wanted]

    def apply(self, *, quiet: bool = False) -> None:
        """Put what differs into force, one part after the other."""
        for name in (
            "names",
            "etcd",
            "apiserver",
            "controller-manager",
            "scheduler",
            "cluster",
            "proxy",
            "dns",
        ):
            if name not in self.differing():
                continue
            if self.params["hold"] and name in ("cluster", "proxy", "dns"):
                # kubeadm asks through it, and kube-vip may be a moment behind an API server that started anew
                self.wait("the API answers at its endpoint", self.at_endpoint, self.params["timeout"])
            if name == "names":
                changed = self.renew_serving()
            elif name == "cluster":
                changed = bool(
                    self.must("kubeadm", "init", "phase", "upload-config", "kubeadm", f"--config={CONFIG}")
                )
            elif name == "proxy":
                changed = self.apply_proxy()
            elif name == "dns":
                changed = bool(
                    self.must("kubeadm", "init", "phase", "addon", "coredns", f"--config={CONFIG}")
                )
            else:
                changed = self.apply_part(name)
            self.note({**read_json(MARK).get("parts", {}), name: self.params["parts"][name]})
            if changed or not quiet:
                self.actions.append(f"{name}: new settings{'' if changed else ', nothing had to start anew'}")

    def apply_part(self, name: str) -> bool:
        """Render a part's manifest; where it differs, await the part."""
        pod = name if name == "etcd" else f"kube-{name}"
        path = self.manifest(pod)
        before, running = path.read_text(encoding="utf-8"), self.pod(pod)
        self.have_image(before)
        if name == "etcd":
            self.others_well()
        phase = ["etcd", "local"] if name == "etcd" else ["control-plane", name]
        self.must("kubeadm", "init", "phase", *phase, f"--config={CONFIG}")
        if path.read_text(encoding="utf-8") == before:
            return False
        try:
            self.wait(
                f"{pod} with its new settings",
                lambda: self.pod(pod) not in ("", running),
                self.params["timeout"],
            )
            self.wait(f"an answer from {pod}", lambda: self.part_well(pod), self.params["timeout"])
        except NotJoinedError as error:
            write_private(path, before)
            self.wait(
                f"an answer from {pod} with its old settings",
                lambda: self.part_well(pod),
                self.params["timeout"],
            )
            raise NotJoinedError(
                f"{error}. It runs with its old settings again; see: crictl logs of {pod}, and correct the settings"
            ) from None
        return True

    def others_well(self) -> None:
        """Refuse to start this node's etcd anew where the others could not go on without it."""
        rows = [row for row in self.etcd([self.params["address"]]).members() if not row["learner"]]
        well = [row for row in rows if row["healthy"] and self.peer() not in row["peers"]]
        if len(rows) > 1 and len(well) < kube_etcd.quorum(len(rows)):
            raise NotJoinedError(
                f"etcd has new settings, and it is not started anew: only {len(well)} of the other {len(rows) - 1} "
                "members are well, and the API would go away. Bring them up, or take them out: rackloom nodes replace"
            )

    def have_image(self, manifest: str) -> None:
        """Have a part's image at hand before the part is stopped: a kubelet short of disk may have dropped it."""
        found = re.search(r"^\s*image: (\S+)$", manifest, re.MULTILINE)
        if found and self.run(["crictl", "inspecti", "--quiet", found[1]], "")[0] != 0:
            self.must("crictl", "pull", found[1])

    def pod(self, name: str) -> str:
        """The mark of the running static pod of this name, "" where none runs."""
        rc, out, _ = self.run(
            ["crictl", "pods", "--namespace=kube-system", "--state=ready", "--output=json"], ""
        )
        if rc != 0:
            return ""
        found = [
            each["annotations"].get("kubernetes.io/config.hash", "")
            for each in json.loads(out or "{}").get("items", [])
            if each["metadata"]["name"].startswith(f"{name}-")
            and "kubernetes.io/config.hash" in each["annotations"]
        ]
        return found[0] if len(found) == 1 else ""

    def part_well(self, pod: str) -> bool:
        """Whether a part of the control plane answers."""
        if pod in ("etcd", "kube-apiserver"):
            return self.own_api() and (pod != "etcd" or self.votes())
        try:
            return ask("127.0.0.1", PORTS[pod], "/healthz", "")[0] == 200
        except OSError:
            return False

    def serving(self) -> None:
        """Make the API server's certificate, with this node's own names; one that is there stays."""
        self.must("kubeadm", "init", "phase", "certs", "apiserver", f"--config={SERVING}")

    def renew_serving(self) -> bool:
        """Give the API server a certificate with the names it now has. It takes it without a restart."""
        files = {ending: KUBERNETES / "pki" / f"apiserver{ending}" for ending in (".crt", ".key")}
        # kubeadm makes it only where none is; who is killed meanwhile finds the former one here
        kept = STATE / "serving-before.json"
        former = read_json(kept) or {
            ending: path.read_text(encoding="ascii") for ending, path in files.items()
        }
        write_private(kept, json.dumps(former))
        for path in files.values():
            path.unlink(missing_ok=True)
        try:
            self.serving()
        except NotJoinedError:
            for ending, path in files.items():
                write_private(path, former[ending])
            raise
        finally:
            kept.unlink()
        return True

    def kubectl(self, *words: str) -> str:
        """Ask the cluster as its administrator."""
        return self.must("kubectl", f"--kubeconfig={KUBERNETES}/admin.conf", *words)

    def apply_proxy(self) -> bool:
        """New settings of kube-proxy, which runs on all nodes: once for all control-plane nodes."""
        told = json.loads(self.kubectl("-n", "kube-system", "get", "daemonset", "kube-proxy", "-o", "json"))
        if told["metadata"].get("annotations", {}).get(ANNOTATION) == self.params["parts"]["proxy"]:
            return False
        self.must("kubeadm", "init", "phase", "addon", "kube-proxy", f"--config={CONFIG}")
        self.kubectl("-n", "kube-system", "rollout", "restart", "daemonset/kube-proxy")
        self.annotate()
        return True

    def annotate(self) -> None:
        """Note on kube-proxy which settings it has."""
        told = f"{ANNOTATION}={self.params['parts'].get('proxy', '')}"
        self.kubectl("-n", "kube-system", "annotate", "--overwrite", "daemonset/kube-proxy", told)

    # all of it

    def joined(self) -> None:
        """Make the node a member."""
        found, api = self.state(), self.answering()
        refusal = self.refusal(found, api)
        if refusal:
            raise NotJoinedError(refusal)
        if self.module.check_mode:
            if found != "member":
                self.actions.append("would join" if api else "would make the cluster")
            else:
                self.actions += [f"{name}: new settings" for name in self.differing()]
        elif found == "member":
            self.keep()
        elif found == "foreign":
            if not self.complete():
                raise NotJoinedError(
                    "this node holds parts of a Kubernetes that was not made here, and it is not well; "
                    "if nothing of it is wanted, run `kubeadm reset` on it"
                )
        elif found in ("init", "restored") or (not api and self.params["may_init"]):
            self.init(found)
        else:
            self.join(found)
        node_records.write(self.module, "kube_membership", {"mark": self.mark(dict(self.params["parts"]))})
        self.end(found, api)

    def keep(self) -> None:
        """A member stays what it is, with the settings of today."""
        if not self.control_plane:
            client = KUBELET_PKI / "kubelet-client-current.pem"
            if not client.exists() or node_members.ended(str(client)):
                self.ask_for_certificate(client)
            return
        self.put_back()
        self.wait("this node's API server is ready", self.own_api, self.params["timeout"])
        self.settle_identity()
        self.apply()

    # what a member has lost

    def ask_for_certificate(self, client: Path) -> None:
        """Let a worker's kubelet ask for a certificate as one that joins does: its own is too old to ask with."""
        credential = self.params["credential"] or {}
        text = kubeconfig(self.params["endpoint"], self.ca, credential["key"], credential["certificate"])
        paper = KUBERNETES / "bootstrap-kubelet.conf"
        try:
            write_private(paper, text)
            for path in KUBELET_PKI.glob("kubelet-client-*"):
                path.unlink()
            self.must("systemctl", "restart", "kubelet.service")
            self.wait("the kubelet gets a certificate", client.exists, self.params["timeout"])
        finally:
            paper.unlink(missing_ok=True)
        self.actions.append("the kubelet's certificate had ended, and it has another one")

    def put_back(self) -> None:
        """Give a control-plane node back what it needs to come up: its kubelet's identity, manifests, certificates."""
        config, client = KUBERNETES / "kubelet.conf", KUBELET_PKI / "kubelet-client-current.pem"
        if not config.exists() or node_members.ended(str(client)):
            # from the authority, which is here: it may be its own API server that the kubelet has to bring up
            for path in [*KUBELET_PKI.glob("kubelet-client-*"), config]:
                path.unlink(missing_ok=True)
            self.must("kubeadm", "init", "phase", "kubeconfig", "kubelet", f"--config={CONFIG}")
            self.must("systemctl", "restart", "kubelet.service")
            self.actions.append("the kubelet has an identity again")
        missing = [name for name in self.manifests if not self.manifest(name).exists()]
        for name in missing:
            phase = ["etcd", "local"] if name == "etcd" else ["control-plane", name.removeprefix("kube-")]
            self.must("kubeadm", "init", "phase", *phase, f"--config={CONFIG}")
            self.actions.append(f"{name} was missing, and is put back")
        leaves = [*LEAVES, *(() if self.store else STORE_LEAVES)]
        if any(node_members.ended(str(KUBERNETES / "pki" / f"{leaf}.crt")) for leaf in leaves):
            self.must("systemctl", "start", "rackloom-kube-certificates.service")
            self.actions.append("certificates had ended, and are renewed")

    def settle_identity(self) -> None:
        """Have the kubelet's identity renew itself: one that kubeadm wrote into its kubeconfig never would."""
        config, client = KUBERNETES / "kubelet.conf", KUBELET_PKI / "kubelet-client-current.pem"
        if "client-certificate-data" in config.read_text(encoding="utf-8"):
            self.wait("the kubelet gets a certificate", client.exists, self.params["timeout"])
            self.must("kubeadm", "init", "phase", "kubelet-finalize", "all", f"--config={CONFIG}")

    def refusal(self, found: str, api: list[str]) -> str:
        """Why nothing may be done; "" where something may."""
        former = read_json(MARK).get("endpoint", self.params["endpoint"])
        if found == "member" and former != self.params["endpoint"]:
            return (
                f"this node is a member of a cluster at {former}, and the config says {self.params['endpoint']}; the "
                "address of a living cluster stays, because certificates and kubeconfigs have it. Put it back"
            )
        if found in ("member", "foreign", "init", "restored") or self.module.check_mode:
            return ""
        if api:
            if "endpoint" not in api:
                return (
                    f"the API answers on {', '.join(api)}, and not at the cluster's endpoint "
                    f"{self.params['endpoint']}; nodes join through it, so bring it up first"
                )
            return ""
        if self.params["may_init"]:
            return ""
        if self.params["refusal"]:
            return str(self.params["refusal"])
        return f"no API server answers at {self.params['endpoint']}; the control plane comes first"

    def looked(self) -> None:
        """Tell. A member gets back what it has lost here already: all do this at once, and join one by one."""
        if self.control_plane and not self.module.check_mode and self.state() == "member":
            self.put_back()
        self.end(self.state(), self.answering())

    def end(self, found: str, api: list[str]) -> None:
        """End the module."""
        self.module.exit_json(changed=bool(self.actions), found=found, api=api, actions=self.actions)


def main() -> None:
    """Look, act, tell."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["joined", "looked"], "default": "joined"},
            "role": {"type": "str", "choices": ["control_plane", "worker"], "required": True},
            "endpoint": {"type": "str", "required": True},
            "address": {"type": "str", "default": ""},
            "members": {"type": "list", "elements": "dict", "default": []},
            "store": {"type": "list", "elements": "str", "default": []},
            "socket": {"type": "str", "default": kube_documents.SOCKETS["containerd"]},
            "ca_certificate": {"type": "str", "required": True},
            "join": {"type": "str", "default": ""},
            "parts": {"type": "dict", "default": {}},
            "may_init": {"type": "bool", "default": False},
            "refusal": {"type": "str", "default": ""},
            "timeout": {"type": "int", "default": 240},
            "hold": {"type": "str", "default": ""},
            "credential": {
                "type": "dict",
                "no_log": True,
                "options": {"key": {"type": "str", "no_log": True}, "certificate": {"type": "str"}},
            },
            "record": node_records.OPTION,
        },
        supports_check_mode=True,
    )
    member = Member(module)
    try:
        if module.params["state"] == "looked":
            member.looked()
        member.joined()
    except (NotJoinedError, KubeError) as error:
        module.fail_json(msg=str(error), actions=member.actions)
    except OSError as error:
        module.fail_json(msg=f"{error}", actions=member.actions)


if __name__ == "__main__":
    main()
