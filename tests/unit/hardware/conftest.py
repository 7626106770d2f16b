"""BMCs to talk to: sushy-tools' Redfish emulator over TLS with passwords, and pyghmi's BMC for IPMI."""

from __future__ import annotations

import datetime as dt
import ipaddress
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bcrypt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from sushy_tools.emulator import main as redfish_main
from sushy_tools.emulator.resources.systems import fakedriver
from tests.daemons import free_port
from werkzeug.serving import make_server

from rackloom.hardware import BmcTarget

USER, PASSWORD = "operator", "correct horse"
SYSTEMS = [f"27946b59-9e44-4fa7-8e91-f3527a1ef09{number}" for number in range(4)]
HERE = Path(__file__).parent
Key = ec.EllipticCurvePrivateKey


def certificate(
    name: str,
    key: Key,
    issuer: tuple[x509.Certificate, Key] | None = None,
    hosts: tuple[str, ...] = (),
    days: tuple[int, int] = (-1, 30),
) -> x509.Certificate:
    """A certificate; without an issuer that of an authority, signed by itself."""
    now = dt.datetime.now(dt.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    authority = issuer is None
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + dt.timedelta(days=days[0]))
        .not_valid_after(now + dt.timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if hosts:
        names = [x509.IPAddress(ipaddress.ip_address(host)) for host in hosts]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(issuer[1] if issuer else key, hashes.SHA256())


@dataclass(frozen=True)
class Certificates:
    """PEM files: the authority, and by name pairs of certificate and key for servers."""

    folder: Path

    @property
    def authority(self) -> Path:
        return self.folder / "ca.pem"

    def pair(self, name: str) -> tuple[Path, Path]:
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    made = Certificates(tmp_path_factory.mktemp("tls"))
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca = certificate("Racks", ca_key)
    made.authority.write_bytes(ca.public_bytes(Encoding.PEM))
    for name, hosts, days in (
        ("good", ("127.0.0.1",), (-1, 30)),
        ("other-name", ("192.0.2.1",), (-1, 30)),
        ("expired", ("127.0.0.1",), (-30, -1)),
    ):
        key = ec.generate_private_key(ec.SECP256R1())
        chain = certificate(name, key, (ca, ca_key), hosts, days)
        cert_file, key_file = made.pair(name)
        cert_file.write_bytes(chain.public_bytes(Encoding.PEM))
        key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return made


@dataclass
class Emulator:
    """A running Redfish service. `busy` counts requests that are being answered; `most` is the highest count."""

    app: Any
    url: str
    authority: Path
    requests: list[str]
    most: int = 0
    busy: int = 0

    def target(self, number: int = 0, **changes: Any) -> BmcTarget:
        values = {
            "node": f"cn{number + 1:03d}",
            "url": f"{self.url}/redfish/v1/Systems/{SYSTEMS[number]}",
            "user": USER,
            "password": PASSWORD,
            "ca_file": str(self.authority),
        }
        return BmcTarget(**{**values, **changes})

    def system(self, number: int = 0) -> dict[str, Any]:
        """What the machine itself knows."""
        found: dict[str, Any] = self.app.systems._get(SYSTEMS[number])
        return found


class Serving:
    """Emulators on free ports, with different certificates, in threads of this process."""

    def __init__(self, app: Any, certificates: Certificates) -> None:
        self.app, self.certificates = app, certificates
        self.running: list[tuple[Any, threading.Thread]] = []

    def start(self, pair: str | None = "good") -> Emulator:
        context = None
        if pair:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self.certificates.pair(pair))
        emulator = Emulator(self.app, "", self.certificates.authority, [])
        lock = threading.Lock()

        def counted(environ: dict[str, Any], respond: Any) -> Any:
            with lock:
                emulator.requests.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}")
                emulator.busy += 1
                emulator.most = max(emulator.most, emulator.busy)
            try:
                return self.app(environ, respond)
            finally:
                with lock:
                    emulator.busy -= 1

        server = make_server("127.0.0.1", 0, counted, threaded=True, ssl_context=context)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        self.running.append((server, thread))
        emulator.url = f"{'https' if pair else 'http'}://127.0.0.1:{server.server_port}"
        return emulator

    def stop(self) -> None:
        for server, thread in self.running:
            server.shutdown()
            server.server_close()
            thread.join()
        self.running.clear()


@pytest.fixture(scope="session")
def redfish_app(tmp_path_factory: pytest.TempPathFactory) -> Any:
    app = redfish_main.app
    folder = tmp_path_factory.mktemp("redfish")
    passwords = folder / "passwords"
    digest = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    passwords.write_text(f"{USER}:{digest}\n", "utf-8")
    machines = [
        {"uuid": uuid, "name": f"fake{number}", "power_state": "Off", "nics": [{"mac": "52:54:00:00:00:01"}]}
        for number, uuid in enumerate(SYSTEMS)
    ]
    app.configure(
        extra_config={
            "SUSHY_EMULATOR_FAKE_DRIVER": True,
            "SUSHY_EMULATOR_FAKE_SYSTEMS": machines,
            "SUSHY_EMULATOR_AUTH_FILE": str(passwords),
            "SUSHY_EMULATOR_STATE_DIR": str(folder),
        }
    )
    # Machines obey at once; how long real ones take is what `switch` waits for, and has its own test.
    fakedriver.random = type("Chance", (), {"randint": staticmethod(lambda _low, _high: 0)})
    return app


@pytest.fixture
def serving(redfish_app: Any, certificates: Certificates) -> Iterator[Serving]:
    for uuid in SYSTEMS:
        redfish_app.systems._update(
            uuid, power_state="Off", boot_device="Hdd", boot_mode="UEFI", pending_power=None
        )
    servers = Serving(redfish_app, certificates)
    yield servers
    servers.stop()


@pytest.fixture
def emulator(serving: Serving) -> Emulator:
    return serving.start()


@dataclass
class Machine:
    """A BMC that speaks IPMI, and the journal of what it was told."""

    port: int
    journal: Path

    def target(self, **changes: Any) -> BmcTarget:
        values = {"node": "cn001", "address": "127.0.0.1", "port": self.port, "protocol": "ipmi"}
        return BmcTarget(**{**values, "user": USER, "password": "horse", **changes})

    def told(self) -> list[str]:
        return self.journal.read_text("utf-8").split("\n")[:-1]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    if shutil.which("ipmitool") is None:
        pytest.skip("the program ipmitool is not installed on this machine")
    found = Machine(free_port(socket.SOCK_DGRAM), tmp_path / "journal")
    found.journal.write_text("", "utf-8")
    argv = [sys.executable, str(HERE / "ipmi_machine.py"), str(found.port), USER, "horse", str(found.journal)]
    with subprocess.Popen(argv) as process:
        try:
            end = time.monotonic() + 120
            while found.told()[:1] != ["ready"]:
                assert process.poll() is None and time.monotonic() < end, "the BMC did not start"
                time.sleep(0.05)
            yield found
        finally:
            process.terminate()
