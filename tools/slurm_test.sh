#!/usr/bin/env bash
# Evaluate a checkpoint as a Slurm job.
#   GPUS=8 bash tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [ARGUMENTS OF test.py ...]
# GPUS, GPUS_PER_NODE, CPUS_PER_TASK and SRUN_ARGS say what srun asks for.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/_launch.sh"
usage 4 "$@"

submit "$1" "$2" test.py "$3" "$4" "${@:5}"
