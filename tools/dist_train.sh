#!/usr/bin/env bash
# Train on several GPUs of this machine: tools/dist_train.sh CONFIG GPUS [flags of tools/train.py]
# Several machines: NNODES, NODE_RANK, MASTER_ADDR and PORT are handed to torchrun.
set -euo pipefail
if [ $# -lt 2 ]; then
  echo "usage: $0 CONFIG GPUS [flags of tools/train.py]" >&2
  exit 2
fi
config=$1 gpus=$2
shift 2
exec python -m torch.distributed.run --nproc_per_node="$gpus" --nnodes="${NNODES:-1}" \
  --node_rank="${NODE_RANK:-0}" --master_addr="${MASTER_ADDR:-127.0.0.1}" \
  --master_port="${PORT:-29500}" "$(dirname "$0")/train.py" "$config" --launcher pytorch "$@"
