#!/bin/bash
# Records what Slurm says, for tests/data/slurm: record.sh NODE FOLDER, while the scenario's nodes are up.
set -euo pipefail
node=$1
folder=$2
mkdir -p "$folder"
as() { podman exec --workdir /tmp "$node" runuser -u alice -- "$@"; }
as srun -n1 -J quick true
as srun -n1 -J bad false || true
as srun -n1 --mem=200 -J busy timeout 5 sh -c 'while :; do :; done' || true
as sbatch -o /dev/null -J 'train|one "x"' -n1 --gres=gpu:a100:1 --mem=100 -t 60 --wrap 'sleep 900'
as sbatch -o /dev/null -J two -N2 -n2 --mem=100 -t 60 --wrap 'sleep 900'
as sbatch -o /dev/null -J big -n1 --gres=gpu:2 --mem=100 -t 60 --wrap 'sleep 900'
as sbatch -o /dev/null -J held --array=1-3 -n2 --mem=100 -t 60 --hold --wrap 'sleep 900'
until [ "$(podman exec "$node" squeue -h -t R -o %i | wc -l)" = 2 ]; do sleep 1; done
podman exec "$node" scontrol update NodeName=cpu01 State=DRAIN 'Reason=new fan | ordered by "bob" = soon'
podman exec --interactive "$node" python3 - <<'PYTHON'
import importlib.util, os, subprocess
from importlib.machinery import SourceFileLoader
path = "/usr/local/lib/rackloom/slurm-metrics"
spec = importlib.util.spec_from_loader("metrics", SourceFileLoader("metrics", path))
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
os.makedirs("/root/said", exist_ok=True)
env = {**os.environ, "SLURM_TIME_FORMAT": "%s", "LC_ALL": "C"}
for name, argv in module.COMMANDS.items():
    with open(f"/root/said/{name}.txt", "w") as out:
        subprocess.run(argv, check=True, env=env, stdout=out)
PYTHON
podman cp "$node:/root/said/." "$folder"
as scancel -u alice
podman exec "$node" scontrol update NodeName=cpu01 State=RESUME
