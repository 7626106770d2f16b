"""Certificates of a site's services, issued by its own authority."""

from __future__ import annotations

DOCUMENTATION = r"""
name: site_certificate
short_description: The private key and the certificate of a service
author: The Rackloom authors
description:
  - Issues a certificate on the controlling machine with the site's authority. The same inputs always give the same
    key and certificate, so a second run changes nothing and nothing has to be kept.
options:
  _terms:
    description: Name of the service; two services of one name have one key.
    required: true
  ca_key:
    description: The authority's private key, PEM.
    required: true
  ca_certificate:
    description: The authority's certificate, PEM.
    required: true
  alternatives:
    description: Host names and addresses that the service answers to.
    type: list
    elements: str
    default: []
  purpose:
    description: Whether the certificate is shown by a server, by a client, or by what is both.
    choices: [server, client, both]
    default: server
"""

EXAMPLES = r"""
- name: Show the certificate of the mirror
  ansible.builtin.debug:
    msg: "{{ lookup('rackloom.cluster.site_certificate', 'mirror', alternatives=['192.0.2.1'],
             ca_key=rackloom_secrets.ca_key, ca_certificate=rackloom_secrets.ca_certificate).certificate }}"
"""

RETURN = r"""
_raw:
  description: One mapping with C(key) and C(certificate), both PEM.
  type: list
  elements: dict
"""

import sys
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase

try:
    from rackloom.site.authority import issue
except ImportError:
    # Plain ansible-playbook out of a checkout, where the package is not installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
    from rackloom.site.authority import issue


class LookupModule(LookupBase):  # type: ignore[misc]
    """Ansible's name for the plugin's class."""

    def run(
        self, terms: list[str], variables: dict[str, Any] | None = None, **options: Any
    ) -> list[dict[str, str]]:
        """Return one identity a term."""
        self.set_options(var_options=variables, direct=options)
        found = []
        for term in terms:
            try:
                made = issue(
                    str(self.get_option("ca_key")),
                    str(self.get_option("ca_certificate")),
                    str(term),
                    [str(name) for name in self.get_option("alternatives") if name],
                    self.get_option("purpose"),
                )
            except ValueError as error:
                raise AnsibleError(f"site_certificate {term}: {error}") from None
            found.append({"key": made.key, "certificate": made.certificate})
        return found
