from __future__ import annotations

import yaml
from testinfra.host import Host


def test_the_driver_is_there_for_real(host: Host) -> None:
    """The real program finds its library, and says itself that there is no GPU behind it."""
    done = host.run("nvidia-smi || exit 1")
    assert done.rc == 1
    assert "couldn't communicate with the NVIDIA driver" in done.stdout
    assert host.run("nvidia-persistenced --version").rc == 0


def test_dkms_without_a_kernel_to_build_for_is_reported(host: Host) -> None:
    assert "nvidia" in host.check_output("dkms status")
    found = host.ansible("rackloom.cluster.gpu_host", "root=/srv/machine branch=535")
    assert found["gpus"] == [{"address": "0000:3b:00.0", "device": "20b2"}]
    (trouble,) = found["troubles"]
    assert "DKMS could not build the driver 535." in trouble
    assert f"the headers of the kernel {host.check_output('uname -r')} are not there" in trouble


def test_unattended_upgrades_leave_it_alone(host: Host) -> None:
    """As apt itself reads it."""
    held = host.check_output("apt-config dump Unattended-Upgrade::Package-Blacklist")
    assert "^nvidia-" in held and "^linux-(image|headers|modules)-" in held


def test_nouveau_stays_off(host: Host) -> None:
    assert "blacklist nouveau" in host.check_output("modprobe --showconfig").splitlines()


def test_a_node_without_a_gpu_has_none_of_it(host: Host) -> None:
    other = host.get_host("ansible://cpu01", ansible_inventory=host.backend.ansible_inventory)
    assert not other.exists("nvidia-smi") and not other.exists("dcgmi")
    assert not other.file("/etc/modprobe.d/rackloom-nouveau.conf").exists


def test_the_next_start_cuts_the_gpus_and_a_deploy_does_not(host: Host) -> None:
    """What mig-parted's unit is told: ours, though its package says that nothing is cut."""
    assert not host.file("/run/cut").exists
    assert host.check_output("systemctl is-enabled nvidia-mig-manager.service") == "enabled"
    host.check_output("systemctl start nvidia-mig-manager.service")
    chosen, _, text = host.check_output("cat /run/cut; rm /run/cut").partition("\n")
    told = yaml.safe_load(text)
    assert told["version"] == "v1" and list(told["mig-configs"]) == [chosen]
    first, second = told["mig-configs"][chosen]
    assert first == {"devices": [0], "mig-enabled": True, "mig-devices": {"3g.20gb": 2}}
    assert second == {"devices": [1], "mig-enabled": False}
    before = host.check_output("systemctl show --property=Before --value nvidia-mig-manager.service").split()
    assert {"slurmd.service", "kubelet.service"} <= set(before)


def test_network_cards_have_their_software(host: Host) -> None:
    """The real program finds its library, and no card: it says so in one way or the other, as the kernel has it."""
    done = host.run("ibv_devices")
    assert "node GUID" in done.stdout or "IB devices" in done.stderr, done
    loaded = host.check_output("systemd-analyze cat-config modules-load.d")
    assert "nvidia-peermem" in loaded.splitlines()
