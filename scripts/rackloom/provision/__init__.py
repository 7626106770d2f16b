"""From power-on to SSH: arm nodes, switch them on in waves, and follow each until it lets us in.

`run` is the door for the CLI. `model` knows what a node's reports mean and touches nothing; `watch` brings the
reports over one SSH connection; `reach` asks for SSH and keeps host keys; `show` draws.
"""

from __future__ import annotations
