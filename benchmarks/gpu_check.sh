#!/bin/sh
# All that the CUDA operators need a GPU for: builds them, compares them with the oracle, looks for
# wrong memory accesses and races, times them. Needs torch, torchvision, pytest, ninja, tqdm and an
# nvcc, no package of OpenMMLab. In the root of a checkout:
#
#   sh benchmarks/gpu_check.sh RESULTS [PART] [python]
#
# RESULTS: a folder; what each step prints is there while it runs (*.log), and summary.txt.
# PART: build, values, memory, races, init, speed-a, speed-b or speed-c; all of them one after the
# other if left out. None takes more than 8 minutes: what runs longer is stopped and counts as
# failed. python: .venv/bin/python if there is one, otherwise python3.
#
# REHEARSE=1 runs the same on a machine without a GPU: the CPU stands in for CUDA, nothing is built,
# and what only CUDA has is left out. It shows that the script runs, nothing about the kernels.
set -eu

[ $# -ge 1 ] && [ $# -le 3 ] || {
  printf 'error: usage: sh benchmarks/gpu_check.sh RESULTS [PART] [python]\n' >&2
  exit 2
}
[ -f benchmarks/gpu_steps.sh ] || {
  printf 'error: run this in the root of a checkout of fgclip_det\n' >&2
  exit 2
}
results=$1
part=${2:-all}
. benchmarks/gpu_steps.sh
python=${3:-$(default_python)}
case $part in
  all | build | values | memory | races | init | speed-a | speed-b | speed-c) ;;
  *) fail "there is no part '$part': see the head of this script" ;;
esac
begin "torch, torchvision, pytest, tqdm"

wanted() { [ "$part" = all ] || [ "$part" = "$1" ]; }

if wanted build && [ -z "$rehearse" ]; then
  TORCH_CUDA_ARCH_LIST=${TORCH_CUDA_ARCH_LIST:-$("$python" -c \
    'import torch; print("%d.%d" % torch.cuda.get_device_capability())')}
  export TORCH_CUDA_ARCH_LIST
  step build env FORCE_CUDA=1 "$python" setup.py build_ext --inplace
  [ $status = 0 ] || exit 1
fi

device=cuda
flag=
if [ -n "$rehearse" ]; then
  device=cpu
  flag=--cpu-for-cuda
fi
# The tests of ONNX have nothing for a GPU, and need onnx to be read.
tests="$python -m pytest -q -p no:cacheprovider $flag -m gpu --ignore tests/ops/test_onnx.py tests/ops"
# A small part of every kernel: a sanitizer makes it some hundred times slower.
checked="test_settings or test_without_boxes or test_pyramid or test_tokens_behind"
checked="$checked or test_slabs_of_small or test_slabs_in_bands or test_maps_with_channels_first"

if wanted values; then
  step values $tests
fi
for pair in memory:memcheck races:racecheck init:initcheck; do
  name=${pair%%:*}
  if wanted "$name"; then
    # PyTorch keeps freed memory, in which a sanitizer sees no wrong access.
    if [ -n "$rehearse" ]; then
      step "$name" $tests -k "$checked"
    elif command -v compute-sanitizer >/dev/null 2>&1; then
      step "$name" env PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool "${pair##*:}" \
        --error-exitcode 1 $tests -k "$checked"
    else
      printf '%s\n' "$name: compute-sanitizer is not installed" | tee -a "$results/summary.txt"
      status=1
    fi
  fi
done
for row in a b c; do
  if wanted "speed-$row"; then
    quick=
    [ -z "$rehearse" ] || quick=--quick
    step "speed-$row" "$python" benchmarks/roi_align.py --device $device $quick --rows $row \
      --memory --out "$results/roi_align_${device}_$row.json"
  fi
done
exit $status
