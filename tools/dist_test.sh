#!/usr/bin/env bash
# Evaluate in several processes, one for each GPU of this machine, or on the CPU where there is none:
#   tools/dist_test.sh CONFIG CHECKPOINT PROCESSES [flags of tools/test.py]
# Several machines: as tools/dist_train.sh says.
set -euo pipefail
if [ $# -lt 3 ]; then
  echo "usage: $0 CONFIG CHECKPOINT PROCESSES [flags of tools/test.py]" >&2
  exit 2
fi
config=$1 checkpoint=$2 processes=$3
shift 3
# Its warnings of a broken connection are pages of addresses; the tools say who ended.
export TORCH_CPP_LOG_LEVEL="${TORCH_CPP_LOG_LEVEL:-ERROR}"
exec python "$(dirname "$0")/launch.py" test.py "$processes" --nnodes="${NNODES:-1}" \
  --node-rank="${NODE_RANK:-0}" --master-addr="${MASTER_ADDR:-127.0.0.1}" --port="${PORT:-0}" \
  -- "$config" "$checkpoint" --launcher pytorch "$@"
