#!/usr/bin/env bash
# How long things take, each as a ratio to the bare minimum, in the same run. Not a test: it judges nothing.
#   scripts/bench.sh [--compute N]        a first and a second deploy, to the same packages installed with apt-get alone
#   scripts/bench.sh pxe [--clients N]    power-on to SSH over the network, to the machine's boot from its own disk
#   scripts/bench.sh bundle [--line MIB]  making and checking a bundle, to curl and sha256sum on the same files
#   scripts/bench.sh kubernetes [--rounds N]  a control-plane node and a worker, to kubeadm init and kubeadm join alone
#   scripts/bench.sh monitoring [--nodes N]   Prometheus with so many nodes: scrapes, memory, disk, rules, dashboards
#   scripts/bench.sh logs [--senders N,M]     lines a second from nodes to the log store, to one request with all of them
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ "${1:-}" = bundle ]; then
  shift
  ./scripts/setup.sh </dev/null >&2
  exec .venv/bin/python -m rackloom.lab.bench_bundle "$@"
fi
if [ "${1:-}" = monitoring ] || [ "${1:-}" = logs ]; then
  what=$1
  shift
  ./scripts/setup.sh </dev/null >&2
  exec .venv/bin/python -m "rackloom.lab.bench_$what" "$@"
fi
if [ "${1:-}" = kubernetes ]; then
  shift
  ./scripts/setup.sh --dev --lab </dev/null >&2
  exec .venv/bin/python -m rackloom.lab.bench_kubernetes "$@"
fi
if [ "${1:-}" = pxe ]; then
  shift
  ./scripts/setup.sh --dev --lab </dev/null >&2
  exec .venv/bin/python -m rackloom.lab.bench_pxe "$@"
fi
./scripts/setup.sh --lab </dev/null >&2
exec .venv/bin/python -m rackloom.lab.bench "$@"
