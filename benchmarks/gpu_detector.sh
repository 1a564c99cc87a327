#!/bin/sh
# Training and detection on a GPU, in float32 and mixed precision, and against the plain recipe. In
# the root of a checkout, after `sh benchmarks/gpu_check.sh RESULTS build`:
#
#   sh benchmarks/gpu_detector.sh RESULTS WHEELS [python]
#
# RESULTS: a folder, see gpu_check.sh. WHEELS: a folder with the wheels of OpenMMLab's packages,
# needed where these are not installed; nothing is fetched. No step takes more than 8 minutes.
set -eu

[ $# -ge 2 ] && [ $# -le 3 ] || {
  printf 'error: usage: sh benchmarks/gpu_detector.sh RESULTS WHEELS [python]\n' >&2
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
install_wheels "$2"
prepare_shapes

device=cuda
quick=
if [ -n "$rehearse" ]; then
  device=cpu
  quick=--quick
fi
encoder=fgclip_det/assets/shapes/encoder
for precision in float32 float16 bfloat16; do
  amp=
  [ $precision = float32 ] || amp="--amp --amp-dtype $precision"
  step "train-$precision" "$python" tools/train.py configs/shapes/ovdet_tiny.py $amp \
    --work-dir "$results/train-$precision" --cfg-options "model.backbone.encoder=$encoder" \
    train_cfg.max_epochs=1 train_cfg.val_interval=1
done
for name in train_step inference; do
  step "$name" "$python" "benchmarks/$name.py" --device $device $quick \
    --out "$results/${name}_$device.json"
done
exit $status
