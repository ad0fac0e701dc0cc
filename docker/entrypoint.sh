#!/bin/sh
# Start of the container: `serve [FLAG...]` is the server, anything else is run as it is.
#
# An engine that is damaged, or was built for another GPU, driver branch or version, is refused here with both sides of each difference; what
# TensorRT would say about it names neither. Then build.serve_container takes this process over: it passes signals and the server's exit
# status on, and ends a server that gives no tags any more, which docker would leave alone. Flags are those of build/triton.py, but for
# addresses: a container has its own, and compose.yaml says who may reach them.
#
# What robots never need is closed by a key. Without PIKA_ADMIN_KEY it is a random one that nobody knows.
set -eu

if [ "${1-}" != serve ]; then
    exec "$@"
fi
shift

cd "$(dirname "$0")/.."
python3 -m build.engine_record "$PIKA_MODEL_REPOSITORY/tensorrt_llm/1/engine"

key=${PIKA_ADMIN_KEY:-$(cat /proc/sys/kernel/random/uuid)}
export TOKENIZERS_PARALLELISM=false
exec venv/bin/python -m build.serve_container tritonserver \
    --model-repository="$PIKA_MODEL_REPOSITORY" \
    --grpc-address=0.0.0.0 --grpc-port=8001 \
    --metrics-address=0.0.0.0 --metrics-port=8002 \
    --allow-http=false \
    --model-control-mode=none \
    --grpc-restricted-protocol="model-repository,shared-memory,trace,logging,statistics:admin-key=$key" \
    --disable-auto-complete-config \
    --strict-readiness=true \
    --exit-on-error=true \
    --exit-timeout-secs=10 \
    "$@"
