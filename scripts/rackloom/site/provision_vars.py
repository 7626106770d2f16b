"""Inputs of the role boot_server, made from the site: one entry a provisioned node, and what they boot."""

from __future__ import annotations

import ipaddress
from typing import Any

from .keys import controller_key
from .models_provision import Image, Layout
from .resolved import Node, Site

Vars = dict[str, Any]
ARCHITECTURE = "amd64"
DEFAULT_FIRMWARE = "uefi"


def boot_address(site: Site) -> str:
    """Where booting nodes reach the boot server."""
    return site.cluster.provision.address or site.group("provisioner")[0].address


def ssh_keys(site: Site) -> list[str]:
    """Public keys that open every installed node: the administrators', and this site's own."""
    people = [
        key for user in site.cluster.users if user.admin and user.state == "present" for key in user.keys
    ]
    own = controller_key(site.config_dir, site.cluster.ssh.private_key)
    return list(dict.fromkeys([*people, *([own] if own else [])]))


def discovery_image(site: Site) -> str:
    """The image that unknown machines report themselves from; "" if there is none."""
    provision = site.cluster.provision
    first = next((name for name, image in provision.images.items() if image.kind == "image"), "")
    return provision.discovery_image or first


def resolved_layout(layout: Layout) -> Vars:
    """A layout as plain data; sizes are `rest` or like 20G."""
    return {
        "disks": list(layout.disks),
        "raid": layout.raid,
        "partitions": [
            {"mount": one.mount, "size": one.size, "filesystem": one.filesystem} for one in layout.partitions
        ],
    }


def node_mode(image: Image) -> str:
    """disk, memory, or installer."""
    return "installer" if image.kind == "installer" else image.mode


def _image(site: Site, image: Image) -> Vars:
    return {
        "os": image.os,
        "arch": ARCHITECTURE,
        "kind": image.kind,
        "mode": image.mode,
        "kernel_options": image.kernel_options,
        "layout": resolved_layout(site.cluster.provision.layout(image.layout)),
    }


def _prefix(site: Site, address: str) -> int:
    one = ipaddress.ip_address(address)
    found = [network.cidr.prefixlen for network in site.cluster.networks.values() if one in network.cidr]
    return max(found, default=one.max_prefixlen)


def _node(site: Site, node: Node, keys: list[str]) -> Vars:
    provision = site.cluster.provision
    image = provision.images[node.image]
    profile = site.profiles.get(node.profile)
    return {
        "name": node.name,
        "address": node.address,
        "prefix": _prefix(site, node.address),
        "mac": node.mac,
        "serial": node.serial,
        "image": node.image,
        "mode": node_mode(image),
        "firmware": profile.firmware if profile else DEFAULT_FIRMWARE,
        "console": profile.console if profile else "",
        "layout": resolved_layout(provision.layout((profile.layout if profile else "") or image.layout)),
        "ssh_keys": keys,
        "ssh_user": site.cluster.ssh.user,
    }


def provision_vars(site: Site) -> Vars:
    """Inputs for the group provisioner. The site has images and a provisioner."""
    cluster, provision = site.cluster, site.cluster.provision
    address = boot_address(site)
    network = next(one for one in cluster.networks.values() if ipaddress.ip_address(address) in one.cidr)
    keys = ssh_keys(site)
    name_servers = [node.address for node in site.group("name_server")] or list(cluster.dns.upstream)
    time_servers = [node.address for node in site.group("time_server")] or list(cluster.time.upstream)
    return {
        "boot_server_address": address,
        "boot_server_interface": provision.interface,
        "boot_server_http_port": provision.http_port,
        "boot_server_dhcp_mode": provision.dhcp.mode,
        "boot_server_dhcp_network": str(network.cidr),
        "boot_server_dhcp_pool": list(provision.dhcp.pool),
        "boot_server_dhcp_lease": provision.dhcp.lease,
        "boot_server_router": provision.dhcp.router or network.gateway,
        "boot_server_name_servers": name_servers,
        "boot_server_domain": cluster.domain,
        "boot_server_time_servers": time_servers,
        "boot_server_timezone": cluster.time.timezone,
        "boot_server_unknown": provision.unknown,
        "boot_server_discovery_image": discovery_image(site),
        "boot_server_images": {name: _image(site, image) for name, image in provision.images.items()},
        # A node without a MAC cannot be known at the wire; `rackloom node discover` finds it.
        "boot_server_package_sources": {
            image.os: image.source for image in provision.images.values() if image.source
        },
        "boot_server_nodes": [
            _node(site, node, keys) for node in site.nodes.values() if node.image and node.mac
        ],
    }
