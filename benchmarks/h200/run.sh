#!/usr/bin/env bash
# Everything that is measured on a GPU with target vllm, in one run of some four minutes. Each part writes its result as soon as it has it and
# none depends on the one before having succeeded.
#
#     OUT=FOLDER benchmarks/h200/run.sh                   with a python3 on PATH that has requirements/vllm.txt
#     OUT=FOLDER benchmarks/h200/run.sh FOLDER_OF_PARTS   with packages carried as site.tar.gz.00, .01 and so on, for a machine without a
#                                                         network whose own python3 has torch; docs/vllm_target.md says how they are made
#
# Wanted: checkpoints/pika-tiny/awq, as `doit quantize` makes it. Left: environment.txt, labels.json, latency.json, run.log and
# the servers' logs in $OUT.
set -u
cd "$(dirname "$0")/../.." || exit
: "${OUT:?a folder for the results}"
PARTS=${1:-}
SCRATCH=$(mktemp -d)
# What tempfile makes, the servers' logs among it, is found again here.
export TMPDIR=$SCRATCH PYTHONPATH=$PWD:$PWD/client PYTHONUNBUFFERED=1
exec > >(tee "$OUT/run.log") 2>&1

say() { printf '\n=== %s s: %s\n' "$SECONDS" "$*"; }

say environment
if [ -n "$PARTS" ]; then
    python3 -m venv --without-pip "$SCRATCH/venv"
    site=$("$SCRATCH/venv/bin/python3" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    python3 -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > "$site/machine.pth"
    cat "$PARTS"/site.tar.gz.* | tar -xz -C "$site"
    export PATH=$SCRATCH/venv/bin:$PATH
fi
{
    nvidia-smi --query-gpu=name,driver_version,memory.total,memory.used --format=csv
    uname -r; nproc; command -v gcc python3
    python3 -c 'import sys; from importlib.metadata import version as v; print(sys.version)
for name in ("torch", "vllm", "transformers", "numpy", "scipy", "tokenizers", "protobuf", "grpcio"): print(name, v(name))'
} > "$OUT/environment.txt" 2>&1 || true
cat "$OUT/environment.txt"

assemble() {
    timeout 60 python3 -c "import sys; from build import repository, settings
repository.assemble(settings.model(sys.argv[1]), settings.target(sys.argv[2]), 'codes')" "$@"
}

say "Phi-3-mini's shape: a checkpoint of random weights"
timeout 90 python3 -m benchmarks.h200.random_awq || true

say "Phi-3-mini's shape: tags, and the length of a JSON answer from vllm serve"
{
    assemble phi-3-mini vllm-h200 &&
        timeout -k 40 270 python3 -m benchmarks.h200.latency checkpoints/phi-3-mini/triton-vllm-h200 \
            checkpoints/phi-3-mini/awq "$OUT/latency.json" --duration-s 2.5
} || true

say "the embedded model's labels"
{
    assemble pika-tiny vllm &&
        timeout -k 40 170 python3 -m benchmarks.h200.labels checkpoints/pika-tiny/triton-vllm \
            --compare benchmarks/h200/cpu_answers.jsonl "$OUT/labels.json"
} || true
head -c 600 "$OUT/labels.json" || true

say "what the servers said: serve.log for the labels, triton.log and vllm-serve.log for the latencies"
find "$SCRATCH" -maxdepth 2 -name '*.log' -exec cp {} "$OUT" \;
grep -n -iE 'error|exception' "$OUT"/serve.log "$OUT"/triton.log "$OUT"/vllm-serve.log | cut -c1-400 | head -n 40
say end
