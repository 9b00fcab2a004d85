#!/bin/sh
# The systems that the benchmarks compare with, pinned, in .venv-peers at the root.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
test -x .venv-peers/bin/python || "$python" -m venv .venv-peers
# torch with what it needs: which build that is, CPU or CUDA, is for pip's own settings to say.
.venv-peers/bin/python -m pip install --quiet --constraint benchmarks/peers/requirements.txt torch==2.13.0
.venv-peers/bin/python -m pip install --quiet --no-deps --requirement benchmarks/peers/requirements.txt
.venv-peers/bin/python - <<'CHECK'
import datasets, datatrove, megatron.core.datasets.gpt_dataset  # noqa: F401
CHECK
echo "peers are ready in .venv-peers"
