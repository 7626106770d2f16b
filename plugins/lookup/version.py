"""Records of the versions file, as a site has them."""

from __future__ import annotations

DOCUMENTATION = r"""
name: version
short_description: The record of a file, an image or a chart
author: The Rackloom authors
description:
  - Reads C(inventory/versions.yml) with the files of C(artifact_versions) laid over it, on the controlling machine.
options:
  _terms:
    description: First the kind (C(file), C(image) or C(chart)), then one name or several.
    required: true
  release:
    description:
      - The release that is wanted, where several are held. An image that has none of its own for this release, like
        that of the store for a release of Kubernetes, is that of the plain record.
    type: str
    default: ''
  versions:
    description: Files that are laid over the toolkit's own, later ones over earlier ones.
    type: raw
    default: []
    vars:
      - name: artifact_versions
"""

EXAMPLES = r"""
- name: Show the image of the store
  ansible.builtin.debug:
    msg: "{{ lookup('rackloom.cluster.version', 'image', 'registry.k8s.io/etcd').reference }}"
"""

RETURN = r"""
_raw:
  description:
    - For each name one mapping, with all of the record's own keys and C(name), C(version) (an image's tag), C(digest)
      and, for an image, C(reference), which is C(name:tag).
  type: list
  elements: dict
"""

import sys
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase

try:
    from rackloom.site import versions
except ImportError:
    # Plain ansible-playbook out of a checkout, where the package is not installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
    from rackloom.site import versions


class LookupModule(LookupBase):  # type: ignore[misc]
    """Ansible's name for the plugin's class."""

    def run(
        self, terms: list[str], variables: dict[str, Any] | None = None, **options: Any
    ) -> list[dict[str, Any]]:
        """Return one record a name."""
        self.set_options(var_options=variables, direct=options)
        if len(terms) < 2 or terms[0] not in versions.KINDS:
            raise AnsibleError(f"version: name a kind ({', '.join(versions.KINDS)}) and what it is")
        kind: versions.Kind = terms[0]  # type: ignore[assignment]
        release = str(self.get_option("release") or "")
        try:
            # a variable's own templates, which nobody has filled in before
            given = self.get_option("versions")
            held = versions.laid_over(self._templar.template(given) if self._templar else given)
            records = [
                held.beside(kind, str(name), release)
                if kind == "image"
                else held.get(kind, str(name), release)
                for name in terms[1:]
            ]
        except versions.VersionsError as error:
            raise AnsibleError(f"version: {error}{'; ' if error.cure else ''}{error.cure}") from None
        return [
            {
                **record.data,
                "name": record.name,
                "version": record.version,
                "digest": record.digest,
                **({"reference": record.reference} if kind == "image" else {}),
            }
            for record in records
        ]
