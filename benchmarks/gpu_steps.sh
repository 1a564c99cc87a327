# What the scripts that need a GPU share; they source it after setting `results` and `python`.
# REHEARSE=1: the CPU stands in for CUDA, which shows that a script runs and nothing else.

rehearse=${REHEARSE:-}
limit=480
status=0

fail() {
  printf 'error: %s\n' "$*" >&2
  exit 2
}

default_python() { [ -x .venv/bin/python ] && echo .venv/bin/python || echo python3; }

# begin MODULES: looks for all that is needed before anything is written.
begin() {
  command -v "$python" >/dev/null 2>&1 || fail "$python is not a command: name a Python with torch"
  "$python" -c "import $1" || fail "$python lacks one of $1"
  [ -n "$rehearse" ] || "$python" -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' ||
    fail "PyTorch of $python sees no CUDA GPU: nothing here can be run (REHEARSE=1 rehearses it)"
  mkdir -p "$results" || fail "cannot make the folder $results"
  results=$(cd "$results" && pwd)
  PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
  export PYTHONPATH
  {
    date -u '+%Y-%m-%d %H:%M UTC'
    "$python" -c 'import torch
name = torch.cuda.get_device_name() if torch.cuda.is_available() else "REHEARSAL on the CPU, no GPU"
print("torch", torch.__version__, "on", name)'
  } | tee -a "$results/summary.txt"
}

# step NAME COMMAND...: its output goes to NAME.log as it comes, its result to summary.txt.
step() {
  name=$1
  shift
  started=$(date +%s)
  code=0
  timeout "$limit" "$@" >"$results/$name.log" 2>&1 || code=$?
  [ $code = 0 ] || status=1
  [ $code = 124 ] && what="stopped after $limit s" || what="exit $code"
  printf '%s\n' "$name: $what, $(($(date +%s) - started)) s" | tee -a "$results/summary.txt"
  tail -n 12 "$results/$name.log"
}

# install_wheels FOLDER: OpenMMLab's packages beside those of the interpreter, without a network.
install_wheels() {
  if "$python" -c 'import mmengine, mmdet, pycocotools' 2>/dev/null; then
    return
  fi
  ls "${1:-}"/*.whl >/dev/null 2>&1 || fail "mmengine, mmdet or pycocotools is missing, and there" \
    "are no wheels in '${1:-}'. Where there is a network: pip download --no-deps -d wheels" \
    "--only-binary :all: --python-version 3.12 mmengine==0.10.7 mmdet==3.3.0 mmcv-lite==2.1.0" \
    "pycocotools shapely six terminaltables addict termcolor yapf platformdirs 'setuptools<81'"
  "$python" -m pip install -q --no-index --no-deps --upgrade --target "$results/packages" \
    "$1"/*.whl || fail "the wheels of $1 do not fit $python"
  PYTHONPATH=$PYTHONPATH:$results/packages
  "$python" -c 'import mmengine, mmdet, pycocotools' ||
    fail "the wheels of $1 are not enough: see above what is missing"
}

# prepare_shapes: the pictures that the two scripts train on.
prepare_shapes() {
  [ -d data/shapes/train ] ||
    step shapes "$python" tools/prepare_shapes.py --num-train 320 --num-val 40 --num-pretrain 8
}
