#!/usr/bin/env bash
# Run the tests; sets the machine up first.
#   scripts/test.sh [all]              everything, as CI does
#   scripts/test.sh lint               lint gates only
#   scripts/test.sh unit [-- ARGS]     lint gates and tests/unit, tests/render (ARGS: pytest only, with these)
#   scripts/test.sh roles [NAME…]      molecule scenarios; --changed [BASE] picks those that changed
#   scripts/test.sh e2e [-- ARGS]      the lab, deployed and used
#   scripts/test.sh pxe [-- ARGS]      network boot, with what is too slow for every commit
#   scripts/test.sh kubernetes [-- ARGS]  a cluster, with upgrades and disasters, which are too slow for every commit
#   scripts/test.sh upstream [-- ARGS] programs of other projects, built from their sources: all of them
# Logs are kept under .cache/test/. The last line reads: N passed, N failed, N skipped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Lint and unit tests start no containers.
setup=(--dev --lab)
case "${1:-all}" in
  lint | unit) setup=(--dev) ;;
esac
./scripts/setup.sh "${setup[@]}" </dev/null

exec .venv/bin/python tests/runner.py "$@"
