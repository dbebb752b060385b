#!/usr/bin/env bash
# Evaluate a checkpoint on several GPUs, one process each.
#   bash tools/dist_test.sh CONFIG CHECKPOINT GPUS [ARGUMENTS OF test.py ...]
# On several machines, start it on each with NNODES, NODE_RANK, MASTER_ADDR and PORT set.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/_launch.sh"
usage 3 "$@"

launch test.py "$3" "$1" "$2" "${@:4}"
