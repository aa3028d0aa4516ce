#!/usr/bin/env bash
# Made by jaxformer for --executor=xpk; docs/first_tpu_run.md says more.
# Run by every host of v5e:4x4, 16 chips.
set -euo pipefail
CDPATH= cd -- "$(dirname -- "$0")"/../../..
python3 -m pip install --quiet uv
python3 -m uv venv --quiet --allow-existing --python 3.12 "$HOME/.jaxformer"
python3 -m uv pip install --quiet --python "$HOME/.jaxformer" \
    --constraints constraints/py312.txt --editable '.[gcs,moses,quickstart,tpu]'
export PATH="$HOME/.jaxformer/bin:$PATH"
run() {
    local code=0 pid= stopped=
    trap 'stopped=yes; [ -z "$pid" ] || kill -TERM "$pid" 2> /dev/null || true' TERM
    "$@" &
    pid=$!
    if [ "$stopped" ]; then kill -TERM "$pid" 2> /dev/null || true; fi
    wait "$pid" || code=$?
    while kill -0 "$pid" 2> /dev/null; do
        code=0
        wait "$pid" || code=$?
    done
    trap - TERM
    if [ "$stopped" ]; then exit "$((code ? code : 143))"; fi
    return "$code"
}
run jaxformer train \
    --config=configs/wmt14_en_de.py:base \
    --workdir=gs://my-bucket/base \
    --config.data.data_dir=text
