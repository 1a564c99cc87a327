#!/bin/sh
# All that a CUDA GPU is needed for, in one call: builds the CUDA operators, compares them with the
# CPU's, looks for wrong memory accesses and races, times them. Run it in the root of a checkout:
#
#   sh benchmarks/gpu_check.sh [python]
#
# python: an interpreter with the packages of constraints.txt; .venv/bin/python where none is given.
# Writes benchmarks/results/roi_align_cuda.{json,md} and roi_align_cuda_checks.txt beside them.
set -eu

python=${1:-.venv/bin/python}
results=benchmarks/results
log=$results/roi_align_cuda_checks.txt
# What runs a small part of every kernel; compute-sanitizer makes it some hundred times slower.
checked='test_cuda_equals_cpu or test_cuda_without_boxes'

fail() {
  printf 'error: %s\n' "$*" >&2
  exit 2
}

[ -f setup.py ] && [ -d "$results" ] || fail "run this in the root of a checkout of fgclip_det"
command -v "$python" >/dev/null 2>&1 ||
  fail "$python is not a command: run 'make setup' or name a Python with the packages installed"
"$python" -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' ||
  fail "PyTorch of $python sees no CUDA GPU: nothing here can be run"
TORCH_CUDA_ARCH_LIST=${TORCH_CUDA_ARCH_LIST:-$("$python" -c \
  'import torch; print("%d.%d" % torch.cuda.get_device_capability())')}
export TORCH_CUDA_ARCH_LIST
PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
export PYTHONPATH

printf '%s\n' "[1/4] building for compute capability $TORCH_CUDA_ARCH_LIST, about two minutes"
FORCE_CUDA=1 "$python" setup.py build_ext --inplace >"$results/build.log" 2>&1 || {
  tail -n 30 "$results/build.log" >&2
  fail "the build failed; all of its output is in $results/build.log"
}
rm "$results/build.log"

status=0
{
  date -u '+%Y-%m-%d %H:%M UTC'
  "$python" -c 'import torch; print(torch.cuda.get_device_name(), "torch", torch.__version__)'
  nvcc --version | tail -n 2
} | tee "$log"

# A pipe would hide pytest's exit code.
step() {
  printf '%s\n' "$1" | tee -a "$log"
  shift
  if ! "$@" >"$log.part" 2>&1; then
    status=1
    printf '%s\n' "FAILED: $*" >>"$log.part"
  fi
  tail -n 40 "$log.part" | tee -a "$log"
  rm "$log.part"
}

step '[2/4] values on the GPU' "$python" -m pytest -q -p no:cacheprovider -m gpu tests
if command -v compute-sanitizer >/dev/null 2>&1; then
  for tool in memcheck racecheck initcheck; do
    step "[3/4] compute-sanitizer $tool" compute-sanitizer --tool "$tool" --error-exitcode 1 \
      "$python" -m pytest -q -p no:cacheprovider tests/ops/test_roi_align.py -k "$checked"
  done
else
  printf '%s\n' '[3/4] compute-sanitizer: not installed, skipped' | tee -a "$log"
fi
step '[4/4] speed' "$python" benchmarks/roi_align.py --device cuda --rows a,b,c --memory
exit $status
