# Sourced by the scripts in this folder: finds Python and starts one process per GPU.

TOOLS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)

# Python of an activated environment, else of the checkout's .venv, else of the system.
if [ -z "${PYTHON:-}" ]; then
    if [ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] && [ -x "$TOOLS/../.venv/bin/python" ]; then
        PYTHON=$TOOLS/../.venv/bin/python
    else
        PYTHON=$(command -v python || command -v python3)
    fi
fi

# usage MIN "$@" : prints the head of the calling script and exits if fewer than MIN arguments are given.
usage() {
    [ $(($# - 1)) -ge "$1" ] && return
    sed -n '2,/^set /s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

# launch SCRIPT GPUS ARGS... : on each of NNODES machines, with its own NODE_RANK.
launch() {
    local script=$1 gpus=$2
    shift 2
    case $gpus in
        '' | *[!0-9]*)
            echo "$(basename "$0"): GPUS must be a number, got '$gpus'" >&2
            exit 2
            ;;
    esac
    exec "$PYTHON" -m torch.distributed.run \
        --nnodes "${NNODES:-1}" --node_rank "${NODE_RANK:-0}" \
        --master_addr "${MASTER_ADDR:-127.0.0.1}" --master_port "${PORT:-29500}" \
        --nproc_per_node "$gpus" \
        "$TOOLS/$script" "$@" --launcher pytorch
}

# submit PARTITION JOB-NAME SCRIPT ARGS... : GPUS tasks, GPUS_PER_NODE of them on a machine.
submit() {
    local partition=$1 job=$2 script=$3 gpus=${GPUS:-8}
    shift 3
    local per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
    # SRUN_ARGS holds several words.
    # shellcheck disable=SC2086
    exec srun --partition "$partition" --job-name "$job" --gres "gpu:$per_node" \
        --ntasks "$gpus" --ntasks-per-node "$per_node" \
        --cpus-per-task "${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
        "$PYTHON" -u "$TOOLS/$script" "$@" --launcher slurm
}
