#!/usr/bin/env bash
# Train as a Slurm job.
#   GPUS=16 bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [ARGUMENTS OF train.py ...]
# GPUS, GPUS_PER_NODE, CPUS_PER_TASK and SRUN_ARGS say what srun asks for.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/_launch.sh"
usage 4 "$@"

submit "$1" "$2" train.py "$3" --work-dir "$4" "${@:5}"
