#!/usr/bin/env bash
# Collects what tools/benchmarks/gpu.sh installs on a machine without a network: mmcv's source package, and wheels
# for Python 3.12 of the packages that such a machine usually lacks. PyTorch, SciPy, scikit-learn, matplotlib,
# numba, OpenCV and pytest must be there.
#   bash tools/benchmarks/gpu_wheels.sh FOLDER
#   PYTHON=...   has pip, torch and setuptools (default: that of .venv)
set -euo pipefail
[ $# = 1 ] || { echo "usage: $0 FOLDER" >&2; exit 2; }
mkdir -p "$1"
folder=$(cd "$1" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

CONSTRAINTS=requirements/constraints.txt
MOST=60 # MiB
OPENMMLAB="mmengine mmdet addict yapf platformdirs termcolor terminaltables shapely pycocotools numpy"
EXTRAS="deformops>=3.0 faster-coco-eval transformers tokenizers huggingface_hub httpx2 httpcore2 truststore
    pydantic pydantic_core annotated-types typing-inspection"
BUILD="setuptools wheel ninja"

download() {
    "${PYTHON:-.venv/bin/python}" -m pip download --quiet --disable-pip-version-check --no-deps -c "$CONSTRAINTS" -d "$folder" "$@"
}

platforms=(--python-version 3.12 --implementation cp --only-binary :all:)
for tag in manylinux_2_28 manylinux_2_27 manylinux_2_24 manylinux_2_17 manylinux2014 manylinux2010 manylinux_2_12 manylinux_2_5 manylinux1; do
    platforms+=(--platform "${tag}_x86_64")
done
# shellcheck disable=SC2086 # the lists are words
download "${platforms[@]}" $OPENMMLAB $EXTRAS $BUILD
download --no-build-isolation --no-binary mmcv "$(grep '^mmcv==' "$CONSTRAINTS")"

size=$(du -sm "$folder" | cut -f1)
echo "$folder: $(find "$folder" -type f | wc -l) files, $size MiB"
[ "$size" -le $MOST ] || { echo "error: must be at most $MOST MiB, got $size; remove what the machine has" >&2; exit 1; }
