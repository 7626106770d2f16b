#!/usr/bin/env bash
# How long a first and a second deploy take, each as a ratio to a bare package-manager install of the same
# packages on the same kind of nodes, in the same run. Not a test: it judges nothing.
#   scripts/bench.sh [--compute N]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
./scripts/setup.sh --lab </dev/null >&2
exec .venv/bin/python -m rackloom.lab.bench "$@"
