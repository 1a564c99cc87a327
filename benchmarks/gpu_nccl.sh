#!/bin/sh
# One process on a GPU that trains through NCCL, as `--launcher pytorch` starts it, and goes on from
# its checkpoint. In the root of a checkout:
#
#   sh benchmarks/gpu_nccl.sh RESULTS WHEELS [python]
#
# RESULTS and WHEELS: see gpu_detector.sh. REHEARSE=1 trains through gloo on the CPU.
set -eu

[ $# -ge 2 ] && [ $# -le 3 ] || {
  printf 'error: usage: sh benchmarks/gpu_nccl.sh RESULTS WHEELS [python]\n' >&2
  exit 2
}
[ -f benchmarks/gpu_steps.sh ] || {
  printf 'error: run this in the root of a checkout of fgclip_det\n' >&2
  exit 2
}
results=$1
. benchmarks/gpu_steps.sh
python=${3:-$(default_python)}
begin "torch, torchvision, transformers, tqdm"
[ -n "$rehearse" ] || "$python" -c 'import torch.distributed as d, sys
sys.exit(not d.is_nccl_available())' || fail "PyTorch of $python was built without NCCL"
install_wheels "$2"
prepare_shapes

for epochs in 1 2; do
  step "nccl-$epochs" "$python" tools/launch.py train.py 1 -- configs/shapes/ovdet_tiny.py \
    --launcher pytorch --resume --work-dir "$results/nccl" --cfg-options \
    model.backbone.encoder=fgclip_det/assets/shapes/encoder train_cfg.max_epochs=$epochs
done
exit $status
