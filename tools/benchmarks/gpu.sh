#!/usr/bin/env bash
# Tests, benchmarks and trainings on a GPU, also on a machine without a network, in stages of less than 9 minutes.
#
#   bash tools/benchmarks/gpu_wheels.sh WHEELS                # beforehand, where there is a network
#   bash tools/benchmarks/gpu.sh OUT --wheels WHEELS          # all stages
#   bash tools/benchmarks/gpu.sh OUT --wheels WHEELS build tests attention
#   bash tools/benchmarks/gpu.sh OUT --device cpu --small     # a trial without a GPU
#   bash tools/benchmarks/gpu.sh OUT --list                   # print the commands of each stage
#   python tools/benchmarks/tables.py OUT                     # the tables, also while it runs
#
# Without --wheels the Python in use must have everything. Figures and logs are written to OUT as they come.
# What OUT has is not done again: after an interruption give the same command. A failing step does not stop
# the others; a stage that does not end in time is left and continued by the next call.
# Exit code: 0 = everything is done, 1 = a step failed, 2 = wrong use or no GPU, 3 = time was up, call again.
#   PYTHON=...    the interpreter (default: that of .venv, then python3)
#   MINUTES=N     for each stage (default 8)
set -uo pipefail

STAGES="build tests attention training inference compiled amp demo latency convergence"
B=tools/benchmarks
MMDET="deformable_detr_r50 detr_r50 conditional_detr_r50 dino_r50_mmdet"
TRAINED="deformable_detr_r50 detr_r50 detr_dc5_r50 dino_r50_mmdet"
REAL_TIME="rt_detr_r18 rt_detr_r50 d_fine_s"

# --- stages: each is a list of steps ----------------------------------------------------------------

build() {
    if [ -n "$wheels" ]; then
        local packages=("$wheels"/*.whl)
        # OUT may have come from another machine, without the packages.
        [ -d "$out/site/mmengine" ] || rm -f "$out"/done/{packages,mmcv_installed}
        step packages -m pip "${INSTALL[@]}" "${packages[@]}"
        if [[ "${packages[*]}" != */mmcv-* ]]; then
            [ -n "$list" ] || for_this_gpu
            XDG_CACHE_HOME=$out/cache step mmcv scripts/build_mmcv.py "$(sed -n 's/^mmcv==//p' requirements/constraints.txt)" \
                --source "$wheels" --work "$out/build"
            step mmcv_installed -m pip "${INSTALL[@]}" "$out"/cache/mmdetr_plugin/wheels/*/*.whl
        fi
    fi
    step doctor tools/doctor.py
}

tests() {
    # shellcheck disable=SC2046 # the names are words
    step tests -m pytest -q -m gpu --junitxml "$out/tests.xml" $(grep -l 'mark\.gpu' tests/test_*.py)
}

attention() {
    measure deform_attn $B/deform_attn.py "${tiny_map[@]}"
    measure attention $B/attention.py "${tiny_tokens[@]}"
}

training() {
    local name
    for name in $TRAINED; do
        measure "train_$name" $B/train_step.py "$name" "${tiny_model[@]}" --precision "${precisions[@]}"
    done
    for name in $REAL_TIME; do
        measure "train_$name" $B/train_step.py "$name" "${square[@]}" --batch 2 --peers transformers --precision "${precisions[@]}"
    done
    measure matching $B/matching.py "${tiny_matching[@]}"
}

inference() {
    local name
    for name in $MMDET; do measure_inference "$name" mmdet "${tiny_model[@]}"; done
    for name in $REAL_TIME; do measure_inference "$name" transformers "${square[@]}"; done
}

# measure_inference NAME PEER WORDS...: graphs apart, as a failing capture can spoil the process.
measure_inference() {
    local words=("$1" --peers "$2" "${@:3}" --batch "${batches[@]}" --precision "${precisions[@]}")
    measure "inference_$1" $B/inference.py "${words[@]}" --modes eager folded
    [ "$device" = cpu ] || measure "graph_$1" $B/inference.py "${words[@]}" --modes graph
}

compiled() {
    local name
    for name in $MMDET; do
        measure "compiled_$name" $B/inference.py "$name" "${tiny_model[@]}" --precision "${precisions[@]}" --modes compiled
    done
}

amp() {
    step amp $B/amp.py "${tiny_amp[@]}" --json "$out/amp.json" --work-dir "$out/amp" "${digits[@]}"
}

demo() {
    step demo tools/demo.py "${tiny_demo[@]}" --resume --json "$out/demo.json" --work-dir "$out/demo" "${digits[@]}"
}

latency() {
    measure latency $B/latency.py "${tiny_latency[@]}" --plot "$out/latency.png"
}

convergence() {
    step convergence $B/convergence.py "${training_length[@]}"  --minutes "$(((deadline - SECONDS - 30) / 60))" \
        --work-dir "$out/convergence" "${digits[@]}"
}

# --- how they run -----------------------------------------------------------------------------------

# step NAME WORDS...: python WORDS, unless it was done by an earlier call; output goes to OUT/NAME.log.
step() {
    local name=$1 code=0 begun=$SECONDS left=$((deadline - SECONDS))
    shift
    if [ -n "$list" ]; then
        printf '%s\t%s\t%s\n' "$stage" "$name" "$(printf '%q ' "$@")"
        return
    fi
    [ ! -e "$out/done/$name" ] || return
    if [ "$left" -lt 10 ]; then
        late="$late $name"
        return
    fi
    say "$stage: $name"
    timeout --kill-after=20 "$left" "$PY" -W ignore "$@" >>"$out/$name.log" 2>&1 || code=$?
    printf '{"stage": "%s", "step": "%s", "seconds": %d, "code": %d}\n' "$stage" "$name" $((SECONDS - begun)) $code >>"$out/steps.jsonl"
    case $code in
        0) touch "$out/done/$name" ;;
        3 | 124 | 137) late="$late $name" ;;
        *)
            failed="$failed $name"
            tail -n 5 "$out/$name.log" | sed 's/^/    | /' >&2
            ;;
    esac
}

# measure NAME SCRIPT WORDS...: a benchmark, whose figures go to OUT/NAME.json.
measure() { step "$1" "$2" "${@:3}" "${common[@]}" --json "$out/$1.json"; }

# What compiling mmcv must know.
for_this_gpu() {
    export MAX_JOBS=${MAX_JOBS:-$(getconf _NPROCESSORS_ONLN)}
    [ "$device" = cuda ] || return 0
    export FORCE_CUDA=1
    TORCH_CUDA_ARCH_LIST=$("$PY" -c 'import torch; print("{}.{}".format(*torch.cuda.get_device_capability()))')
    # nvcc may be a script in another folder: it says itself where its toolkit is.
    CUDA_HOME=${CUDA_HOME:-$(realpath "$(nvcc --dryrun -x cu /dev/null 2>&1 | sed -n 's/^#\$ TOP=//p')")}
    # PyTorch's headers include those of cuSPARSE and others, which the toolkit may lack; its wheels have them.
    CPATH=${CPATH:+$CPATH:}$("$PY" -c 'import glob, os, torch
print(":".join(glob.glob(os.path.dirname(torch.__path__[0]) + "/nvidia/*/include")))')
    export TORCH_CUDA_ARCH_LIST CUDA_HOME CPATH
}

say() { echo "gpu: $*" >&2; }

stop() {
    say "error: $*"
    exit 2
}

out='' device=cuda small='' wheels='' list='' chosen=''
while [ $# -gt 0 ]; do
    case $1 in
        --device) device=${2-} && shift ;;
        --wheels) wheels=${2-} && shift ;;
        --small) small=1 ;;
        --list) list=1 ;;
        -*) stop "options are --device, --wheels, --small and --list, got $1" ;;
        *) if [ -z "$out" ]; then out=$1; else chosen="$chosen $1"; fi ;;
    esac
    shift
done
[ -n "$out" ] || stop "usage: $0 OUT [--wheels FOLDER] [--device cpu] [--small] [--list] [STAGE...]"
for stage in $chosen; do
    [[ " $STAGES " == *" $stage "* ]] || stop "STAGE must be one of $STAGES, got $stage"
done
[[ $device == cuda || $device == cpu ]] || stop "--device must be cuda or cpu, got '$device'"
if [ -n "$wheels" ]; then
    compgen -G "$wheels/*.whl" >/dev/null || stop "--wheels must be a folder made by $B/gpu_wheels.sh, got $wheels"
    wheels=$(cd "$wheels" && pwd)
fi

out=$(realpath -m "$out")
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit
PY=${PYTHON:-$([ -x .venv/bin/python ] && echo "$PWD/.venv/bin/python" || command -v python3)}
export PYTHONPATH=$PWD:$out/site${PYTHONPATH:+:$PYTHONPATH} PIP_DISABLE_PIP_VERSION_CHECK=1
INSTALL=(install --quiet --no-index --no-deps --no-compile --upgrade --target "$out/site")

common=(--device "$device" --keep --threads 8 --repeats 20)
precisions=(fp32 bf16 fp16) batches=(1 8) square=(--size 640 640) digits=(--data "$out/digits")
tiny_map=() tiny_tokens=() tiny_model=() tiny_matching=() tiny_amp=() tiny_demo=() tiny_latency=()
training_length=(--epochs 12 --interval 3 --size 96)
if [ -n "$small" ]; then
    common=(--device "$device" --keep --threads 1 --repeats 1)
    MMDET=detr_r50 TRAINED=detr_r50 REAL_TIME=rt_detr_r18
    precisions=(fp32 bf16) batches=(2) square=(--small --size 64 96) tiny_model=(--small --size 64 96)
    tiny_map=(--size 64 96 --no-inductor) tiny_tokens=(--tokens 40)
    tiny_matching=(--batch 2 --layers 2 --queries 12 --objects 3)
    tiny_amp=(detr_r50 --steps 12 --workers 0) tiny_demo=(--epochs 1) tiny_latency=(rt_detr_r18)
    digits+=(--num-train 96 --num-val 4)
    training_length=(detr_r50 --epochs 1 --images 8 --size 96 --workers 0)
fi

if [ "$device" = cuda ] && [ -z "$list" ]; then
    "$PY" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' ||
        stop "a GPU that torch can use is needed, $PY found none; for a trial without one add --device cpu --small"
fi
[ -n "$list" ] || mkdir -p "$out/done"
failed='' late=''
for stage in ${chosen:-$STAGES}; do
    deadline=$((SECONDS + 60 * ${MINUTES:-8}))
    "$stage"
done
[ -z "$late" ] || say "not complete, call again:$late"
[ -z "$failed" ] || say "failed, see OUT/NAME.log:$failed"
[ -z "$failed" ] || exit 1
[ -z "$late" ] || exit 3
