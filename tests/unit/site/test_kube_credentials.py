"""What a node joins with: for an hour, for its purpose, and for the one cluster."""

from __future__ import annotations

import datetime as dt

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from rackloom.site.authority import make_authority, make_key
from rackloom.site.kube_credentials import JOINING, issue_client


def test_a_node_that_joins_may_ask_for_a_kubelet_s_certificate_and_no_more() -> None:
    key = make_key()
    made = x509.load_pem_x509_certificate(
        issue_client(key, make_authority(key), "system:bootstrap:gpu1", [JOINING]).certificate.encode()
    )
    groups = made.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    assert [each.value for each in groups] == ["system:bootstrappers:kubeadm:default-node-token"]
    usage = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_it_holds_for_an_hour_and_lets_clocks_differ_a_little() -> None:
    key = make_key()
    made = x509.load_pem_x509_certificate(
        issue_client(key, make_authority(key), "a", ["b"]).certificate.encode()
    )
    now = dt.datetime.now(dt.UTC)
    assert made.not_valid_before_utc < now - dt.timedelta(minutes=4)
    assert dt.timedelta(minutes=58) < made.not_valid_after_utc - now <= dt.timedelta(hours=1)


def test_two_nodes_have_two_keys() -> None:
    key = make_key()
    authority = make_authority(key)
    assert issue_client(key, authority, "a", []).key != issue_client(key, authority, "a", []).key


def test_an_authority_with_another_key_is_refused() -> None:
    with pytest.raises(ValueError, match="another key"):
        issue_client(make_key(), make_authority(make_key()), "a", [])
