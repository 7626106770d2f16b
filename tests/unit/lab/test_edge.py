"""What the packet filter tells of a closed lab's edge."""

from __future__ import annotations

from rackloom.lab.edge import Attempt, parse

LISTED = {
    "nftables": [
        {"metainfo": {"json_schema_version": 1}},
        {"table": {"family": "inet", "name": "rackloom-lab"}},
        {"counter": {"name": "tried", "packets": 5, "bytes": 312}},
        {
            "set": {
                "name": "conversations",
                "elem": [
                    {
                        "elem": {
                            "val": {"concat": ["10.98.29.11", "192.0.2.53", "udp", 53]},
                            "counter": {"packets": 4, "bytes": 228},
                        }
                    }
                ],
            }
        },
        {
            "set": {
                "name": "others",
                "elem": [
                    {
                        "elem": {
                            "val": {"concat": ["10.98.29.11", "192.0.2.1", "icmp"]},
                            "counter": {"packets": 1, "bytes": 84},
                        }
                    }
                ],
            }
        },
    ]
}


def test_attempts_are_named() -> None:
    found = parse(LISTED)
    assert found.packets == 5
    assert found.attempts == (
        Attempt("10.98.29.11", "192.0.2.53", "udp", 53, 4),
        Attempt("10.98.29.11", "192.0.2.1", "icmp", 0, 1),
    )
    assert str(found.attempts[0]) == "10.98.29.11 to 192.0.2.53 port 53 (udp), 4 packets"


def test_an_edge_that_nobody_tried() -> None:
    found = parse({"nftables": [{"counter": {"packets": 0}}, {"set": {"name": "conversations"}}]})
    assert (found.packets, found.attempts) == (0, ())
