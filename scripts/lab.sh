#!/usr/bin/env bash
# A cluster in containers on this machine; sets the machine up first.
#   scripts/lab.sh up [--compute N] [--gpus G] [--os debian-12|debian-13] [--name NAME]
#   scripts/lab.sh status | ssh NODE | power NODE on|off | down      (--help tells the rest)
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
"$root/scripts/setup.sh" --lab </dev/null >&2
exec "$root/.venv/bin/rackloom" lab "$@"
