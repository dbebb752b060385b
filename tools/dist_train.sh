#!/usr/bin/env bash
# Train on several GPUs, one process each.
#   bash tools/dist_train.sh CONFIG GPUS [ARGUMENTS OF train.py ...]
# On several machines, start it on each with NNODES, NODE_RANK, MASTER_ADDR and PORT set:
#   NNODES=2 NODE_RANK=0 MASTER_ADDR=node0 bash tools/dist_train.sh CONFIG 8
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/_launch.sh"
usage 2 "$@"

launch train.py "$2" "$1" "${@:3}"
