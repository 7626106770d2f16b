from __future__ import annotations

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
