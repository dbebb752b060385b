#!/usr/bin/env bash
# Makes .venv with the versions of requirements/constraints.txt and this package, editable.
# Says nothing and takes no time when that is already done. Called by `make setup`.
#   PYTHON=/path/to/python3.12   the interpreter to build .venv from: 3.11 or 3.12, with the onedl forks 3.13 too
#   CONSTRAINTS=FILE             other versions: FILE has only what differs from requirements/constraints.txt
#                                (default: the FILE that .venv was made with, at first none)
#   MAX_JOBS=N                   compilers to run side by side (default: all cores)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

BASE=requirements/constraints.txt
CHOICE=.venv/.constraints  # has the name of the CONSTRAINTS that .venv was made with
PINS=.venv/constraints.txt # the versions that result
EXTRAS=demo,cpu,hf,eval,export,docs,dev
STAMP=.venv/.setup-done
LOG=.venv/setup.log
PY=.venv/bin/python
ORIGINALS="mmengine mmcv mmdet"
FORKS="onedl-mmengine onedl-mmcv onedl-mmdetection" # their modules have the names of the originals

# What .venv was made from. Scripts in a .venv name its path, so a moved checkout needs a new one.
fingerprint() { { pwd -P; pins; cat setup.py scripts/setup.sh scripts/build_mmcv.py; } | cksum; }

# The pins of BASE and CONSTRAINTS; of two for one package, that of CONSTRAINTS.
pins() {
    awk -F== '/^[^#]/ { name = tolower($1); gsub(/[-_.]+/, "-", name); pin[name] = $0 }
        END { for (name in pin) print pin[name] }' "$BASE" "$CONSTRAINTS" | LC_ALL=C sort
}

choose_versions() {
    CONSTRAINTS=${CONSTRAINTS:-$(cat "$CHOICE" 2>/dev/null || echo "$BASE")}
    [ -f "$CONSTRAINTS" ] || fail "CONSTRAINTS must name a file, got: $CONSTRAINTS" \
        "name one such as requirements/onedl.txt, or $BASE for the usual versions"
    local other
    other=$(grep -vEm 1 '^(#.*|[A-Za-z0-9._-]+==[A-Za-z0-9._+-]+)?$' "$CONSTRAINTS") &&
        fail "every line of $CONSTRAINTS must be NAME==VERSION, got: $other" "correct or remove that line"
    if grep -q '^onedl-' "$CONSTRAINTS"; then
        read -r MMENGINE MMCV MMDET <<<"$FORKS"
        NEWEST=13
    else
        read -r MMENGINE MMCV MMDET <<<"$ORIGINALS"
        NEWEST=12 # the setup script of mmcv 2.1 fails on 3.13
    fi
}

done_already() {
    [ -f "$STAMP" ] && [ "$(cat "$STAMP")" = "$(fingerprint)" ] && [ -x "$PY" ]
}

say() { echo "setup: $*" >&2; }

# fail WHAT-WENT-WRONG WHAT-TO-DO
fail() {
    say "error: $1"
    say "       $2"
    exit 1
}

# step TITLE HINT COMMAND... : runs quietly, shows the end of the log if it fails.
step() {
    local title=$1 hint=$2 start=$SECONDS
    shift 2
    say "$title"
    echo "=== $title: $*" >>"$LOG"
    if ! "$@" >>"$LOG" 2>&1; then
        grep -v '^WARNING: Location' "$LOG" | tail -n 25 | sed 's/^/    | /' >&2
        fail "failed after $((SECONDS - start)) s: $title" "$hint (whole log: $LOG)"
    fi
}

find_python() {
    local candidate pythons
    pythons=${PYTHON:-$(seq -s ' ' -f 'python3.%g' 11 "$NEWEST") python3 python}
    for candidate in $pythons; do
        # Running it is the test: a version manager's shim may exist for a Python that does not.
        if "$candidate" -c "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, $NEWEST))" 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    fail "Python 3.11 to 3.$NEWEST is needed, looked for: $pythons" \
        "install one of them or name it: make setup PYTHON=/path/to/python3.12"
}

# The Debian package of a Python: debian_package PYTHON dev|venv.
debian_package() { "$1" -c "import sys; print(f'python3.{sys.version_info[1]}-$2')"; }

make_venv() {
    local python
    python=$(find_python)
    if [ -e .venv/pyvenv.cfg ] && ! grep -q " $(pwd -P)/.venv\$" .venv/pyvenv.cfg; then
        [ -e "$LOG" ] || fail ".venv was not made by 'make setup'" "move it away: mv .venv .venv.old"
        say "removing .venv: the checkout was moved"
        rm -rf .venv
    fi
    "$PY" -m pip --version >/dev/null 2>&1 && return
    mkdir -p .venv
    step "making .venv with $("$python" -V)" \
        "Python's venv module must work (Debian: apt-get install $(debian_package "$python" venv))" \
        "$python" -m venv --clear .venv
}

pip_install() { "$PY" -m pip install -c "$PINS" --no-build-isolation "$@"; }

# With other versions than the last time, mmcv may be compiled for another torch, and an original may have
# to make room for its fork.
remove_other_versions() {
    pins | cmp -s - "$PINS" && return
    # shellcheck disable=SC2086 # the names are words
    "$PY" -m pip uninstall -y $ORIGINALS $FORKS >>"$LOG" 2>&1
    pins >"$PINS"
    echo "$CONSTRAINTS" >"$CHOICE"
}

# What a failed download or compile most often means.
NETWORK="the package index must be reachable: check the network and pip's configuration"
COMPILE="mmcv is compiled from source: it needs g++, Python's headers and about 4 GB of memory"

can_compile() {
    command -v "${CXX:-g++}" >/dev/null || fail "a C++ compiler is needed to build mmcv, '${CXX:-g++}' was not found" \
        "install g++ (Debian: apt-get install g++) or name one: CXX=... make setup"
    "$PY" -c 'import os, sysconfig; open(os.path.join(sysconfig.get_path("include"), "Python.h"))' 2>/dev/null ||
        fail "Python.h is needed to build mmcv and was not found" \
            "install the headers of this Python (Debian: apt-get install $(debian_package "$PY" dev))"
}

wants_cuda() {
    "$PY" - <<'EOF'
import sys, torch
if not torch.cuda.is_available():
    sys.exit(1)
from torch.utils.cpp_extension import CUDA_HOME  # warns where there is no GPU
if CUDA_HOME is None:
    print('setup: a GPU is there but no nvcc: mmcv gets CPU operators only', file=sys.stderr)
    sys.exit(1)
EOF
}

# mmcv's compiled operators fit this torch (and have CUDA kernels if wanted).
mmcv_works() {
    "$PY" - <<'EOF'
import os
from mmcv.ops import MultiScaleDeformableAttention, get_compiling_cuda_version
if os.environ.get('FORCE_CUDA') == '1' and get_compiling_cuda_version() == 'not available':
    raise SystemExit('mmcv was compiled without CUDA')
EOF
}

install_mmcv() {
    export MMCV_WITH_OPS=1 MAX_JOBS="${MAX_JOBS:-$(getconf _NPROCESSORS_ONLN)}"
    if wants_cuda; then export FORCE_CUDA=1; fi
    mmcv_works >>"$LOG" 2>&1 && return
    build_mmcv --find >/dev/null 2>&1 || can_compile
    step "installing mmcv (compiled the first time: about 2 minutes on 2 cores; then kept in the cache)" \
        "$COMPILE" install_built
    mmcv_works >>"$LOG" 2>&1 && return
    can_compile
    step "compiling mmcv again: the build in the cache does not work" "$COMPILE" install_built --again
    step "checking mmcv's operators" "$COMPILE" mmcv_works
}

build_mmcv() { "$PY" scripts/build_mmcv.py --package "$MMCV" "$(sed -n "s/^$MMCV==//p" "$PINS")" "$@"; }

install_built() {
    local wheel
    wheel=$(build_mmcv "$@") && pip_install --force-reinstall --no-deps "$wheel"
}

# opencv-python needs the system's graphics libraries, which servers often lack.
install_opencv() {
    "$PY" -c 'import cv2' >>"$LOG" 2>&1 && return
    step "replacing opencv-python by its headless build (system graphics libraries are missing)" \
        "$NETWORK" swap_opencv
    step "checking OpenCV" "import cv2 must work; see the message above" "$PY" -c 'import cv2'
}

swap_opencv() {
    "$PY" -m pip uninstall -y opencv-python opencv-python-headless
    pip_install --no-deps opencv-python-headless
}

# This package requires the originals by name, so pip would put them in the place of their forks.
install_package() {
    if [ "$MMDET" = mmdet ]; then
        pip_install -e ".[$EXTRAS]"
        return
    fi
    local required
    # shellcheck disable=SC2086 # the names are words
    pip_install --no-deps -e . && required=$(requirements $ORIGINALS) && pip_install "$MMDET" $required &&
        swap_opencv # onedl-mmdetection brings both builds, which share their files
}

# What this package and the extras require besides the distributions NAME...
requirements() {
    "$PY" - "$EXTRAS" "$@" <<'EOF'
import sys
from importlib.metadata import requires
from packaging.requirements import Requirement

extras, others = sys.argv[1].split(','), sys.argv[2:]
for requirement in map(Requirement, requires('mmdetr_plugin')):
    marker = requirement.marker
    if requirement.name not in others and (not marker or any(marker.evaluate({'extra': e}) for e in extras)):
        print(requirement.name, requirement.specifier, sep='')
EOF
}

main() {
    choose_versions
    done_already && return
    mkdir -p .venv
    # Two `make`s at once: the second waits, then finds everything done.
    if command -v flock >/dev/null; then
        exec 9>.setup-lock
        flock 9
        done_already && return
    fi
    make_venv
    : >"$LOG"
    export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
    remove_other_versions
    # Order matters: mmcv's setup script imports torch and pkg_resources, and what comes without
    # its dependencies (--no-deps) must not bring back the OpenCV build that was just replaced.
    step "installing build tools" "$NETWORK" pip_install setuptools wheel ninja psutil
    step "installing PyTorch (the largest download)" "$NETWORK" pip_install torch
    step "installing MMEngine" "$NETWORK" pip_install "$MMENGINE" packaging pillow
    install_opencv
    install_mmcv
    step "installing mmdetr_plugin, MMDetection and the extras $EXTRAS" "$NETWORK" install_package
    install_opencv
    step "checking that everything imports" "see the message above" \
        "$PY" -c 'import cv2, mmcv.ops, mmdet, pycocotools.mask, scipy'
    fingerprint >"$STAMP"
    say "done in $SECONDS s"
}

main
