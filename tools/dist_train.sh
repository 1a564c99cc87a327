#!/usr/bin/env bash
# Train in several processes, one for each GPU of this machine, or on the CPU where there is none:
#   tools/dist_train.sh CONFIG PROCESSES [--max-restarts N] [flags of tools/train.py]
# Several machines, the same line on each: NNODES, NODE_RANK, MASTER_ADDR and PORT. On one machine
# PORT is a free one unless it is set.
set -euo pipefail
if [ $# -lt 2 ]; then
  echo "usage: $0 CONFIG PROCESSES [--max-restarts N] [flags of tools/train.py]" >&2
  exit 2
fi
config=$1 processes=$2
shift 2
# Its warnings of a broken connection are pages of addresses; the tools say who ended.
export TORCH_CPP_LOG_LEVEL="${TORCH_CPP_LOG_LEVEL:-ERROR}"
exec python "$(dirname "$0")/launch.py" train.py "$processes" --nnodes="${NNODES:-1}" \
  --node-rank="${NODE_RANK:-0}" --master-addr="${MASTER_ADDR:-127.0.0.1}" --port="${PORT:-0}" \
  -- "$config" --launcher pytorch "$@"
